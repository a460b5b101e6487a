//! Merging counts in bounded memory: their n-grams are sorted in parts, as those of a text.

use std::path::PathBuf;

use surprisal_formats::counts::{self, CountsReader, Part};
use surprisal_model::ngram::NgramConfig;
use surprisal_model::ngram::external::Rows;
use surprisal_store::spill::{Spill, SpillWriter};
use surprisal_text::{Compression, Tokenizer};

use super::external::{Folder, Job, RunDescription, Streams, stream_error};
use crate::error::{Advice, Error, Result};
use crate::events::{Context, Event};
use crate::kind::Kind;
use crate::memory::{Room, limit};
use crate::wording::many;

/// The bytes of merging an n-gram in memory: as counts, as sums and while these are sorted.
const BYTES_PER_GRAM: u64 = 60;

/// The memory of the words of all files in bytes: their strings, and 100 bytes for each in tables
/// and in the arrays of single words, in one file and merged.
fn vocabulary_memory(tokenizer: &Tokenizer) -> u64 {
    let ids = 0..tokenizer.vocab_size() as u32;
    2 * ids.map(|id| tokenizer.token_bytes(id).len() as u64 + 100).sum::<u64>()
}

/// Whether the files are counts that can be read n-gram by n-gram.
pub(super) fn can_stream(paths: &[PathBuf]) -> Result<bool> {
    for path in paths {
        if Kind::detect(path)? != Kind::Counts || !path.is_file() || Compression::by_name(path).is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The files, if they do not fit into memory, and are counts that can be read n-gram by n-gram.
pub(super) fn too_large(paths: &[PathBuf], room: &Room) -> Result<Option<Vec<CountsReader>>> {
    if !can_stream(paths)? {
        return Ok(None);
    }
    let mut grams = 0;
    for path in paths {
        let (count, order) = CountsReader::size(path)?;
        if order < 2 {
            return Ok(None);
        }
        grams += count;
    }
    if grams * BYTES_PER_GRAM <= limit(room) {
        return Ok(None);
    }
    Ok(Some(paths.iter().map(|path| CountsReader::open(path)).collect::<Result<_, _>>()?))
}

/// The sum of counts, with its tokenizer.
///
/// # Errors
/// Counts that do not match; too little memory or disk; a file that cannot be read.
pub(super) fn merge(
    readers: &[CountsReader],
    config: &NgramConfig,
    room: &Room,
    ctx: &Context<'_>,
) -> Result<(Streams, Tokenizer)> {
    let wrong = |message: &str| Err(Error::usage(message));
    let tokenizers: Vec<&Tokenizer> = readers.iter().map(|reader| &reader.tokenizer).collect();
    let (tokenizer, ids) = counts::merge_tokenizers(&tokenizers)?;
    let order = readers[0].order();
    let new_bos = |at: usize| tokenizers[at].bos().map(|bos| ids[at][bos as usize]);
    if readers.iter().any(|reader| reader.order() != order) {
        return wrong("counts of different orders cannot be merged");
    }
    if (0..readers.len()).any(|at| new_bos(at) != new_bos(0)) {
        return wrong("counts of lines and of a stream, or of different tokens, cannot be merged");
    }
    let config = NgramConfig { order, bos: tokenizer.bos(), unk: tokenizer.unk(), ..config.clone() };
    let mut frequencies = vec![0; tokenizer.vocab_size()];
    for (reader, ids) in readers.iter().zip(&ids) {
        reader.each_word(|word, count| {
            let sum: &mut u32 = &mut frequencies[ids[word as usize] as usize];
            *sum = sum.saturating_add(count);
        })?;
    }
    let memory = limit(room);
    let vocabulary = vocabulary_memory(&tokenizer);
    let free = memory.saturating_sub(vocabulary);
    if free < vocabulary / 4 + (1 << 16) {
        let (needed, limit) = (crate::wording::bytes(2 * vocabulary), crate::wording::bytes(memory));
        return Err(Error::usage(format!(
            "merging these counts needs about {needed} of memory for {}, and the limit is {limit}",
            many(tokenizer.vocab_size() as u64, "word")
        ))
        .hint(Advice::FewerWords));
    }
    // The first words of the first part; parts without text have a shorter list.
    let longest = readers.iter().zip(&ids).max_by_key(|(reader, _)| reader.text_prefix().len());
    let text_prefix = longest.map_or_else(Vec::new, |(reader, ids)| {
        reader.text_prefix().iter().map(|&word| ids[word as usize]).collect()
    });
    let job = Job::new(&config, &frequencies, free, room, text_prefix.clone(), ctx.pool)?;
    let mut hasher = blake3::Hasher::new();
    for reader in readers {
        hasher.update(format!("{:?}", reader.checksums).as_bytes());
    }
    hasher.update(&free.to_le_bytes());
    job.hash(&mut hasher);
    let name = hasher.finalize().to_hex()[..16].to_owned();
    let grams = readers.iter().map(CountsReader::grams).sum::<u64>() / order as u64;
    let what = many(readers.len() as u64, "file");
    let streams = job.run(&name, (grams, &what, memory), ctx, |job, folder| {
        Ok((runs(readers, &ids, job, folder, ctx)?, text_prefix))
    })?;
    Ok((streams, tokenizer))
}

/// The runs of all n-grams.
fn runs(
    readers: &[CountsReader],
    ids: &[Vec<u32>],
    job: &Job<'_>,
    folder: &Folder,
    ctx: &Context<'_>,
) -> Result<Vec<Spill>> {
    ctx.phase("sorting counts", readers.len() as u64)?;
    let mut rows = Rows::new(&job.layout, job.memory - job.memory / 4);
    let mut runs = job.runs(folder, ctx.pool)?;
    let (there, mut number) = (runs.len(), 0);
    let mut sort = |rows: &mut Rows| -> Result<()> {
        if number >= there {
            runs.add(|path| {
                let writer = SpillWriter::create(path, job.layout.partitions())?;
                let put = |partition, block: &[u8]| writer.append(partition, block).map_err(stream_error);
                ctx.pool.install(|| rows.sort(&job.layout, job.before(), put))?;
                let description = RunDescription::default();
                Ok((writer.finish(&description)?, description))
            })?;
        }
        number += 1;
        rows.clear();
        Ok(())
    };
    let mut words = Vec::new();
    for (reader, ids) in readers.iter().zip(ids) {
        reader.each_end(|gram, count| -> Result<()> {
            words.clear();
            words.extend(gram.iter().map(|&word| ids[word as usize]));
            rows.add(&words, count);
            if rows.is_full() { sort(&mut rows) } else { Ok(()) }
        })?;
        ctx.emit(&Event::Advanced { steps: 1 })?;
    }
    if !rows.is_empty() {
        sort(&mut rows)?;
    }
    Ok(runs.finish().0)
}

/// The parts that the files have.
pub(super) fn parts(readers: &[CountsReader]) -> Vec<Option<Part>> {
    readers.iter().map(|reader| reader.part().cloned()).collect()
}
