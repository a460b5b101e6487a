//! Counting in bounded memory: the runs of a text, merged into the streams of its n-grams.
//!
//! What is complete stays in the folder of temporary files when the process is killed: runs, and
//! merged partitions. The name of that folder is a hash of the text, the tokens and the settings,
//! so that the same command finds it again.

mod runs;

pub(super) use runs::RunDescription;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

use serde::{Deserialize, Serialize};
use surprisal_model::Error as ModelError;
use surprisal_model::ngram::external::{
    Blocks, GramReader, GramStreams, Layout, MergeOptions, Merged, Smoothed, Stream, TextPart, WeightReader,
    merge,
};
use surprisal_model::ngram::{BackoffScheme, NgramConfig};
use surprisal_platform::disk;
use surprisal_platform::threads::Pool;
use surprisal_store::lock::Lock;
use surprisal_store::spill::{Spill, SpillReader, SpillWriter};
use surprisal_store::{Error as StoreError, atomic};
use surprisal_text::{Corpus, DataOptions, Error as TextError, TokenText, Tokenizer};

use crate::error::{Advice, Error, Result};
use crate::events::{Context, Event, Note};
use crate::fingerprint::text_hash;
use crate::memory::Room;
use crate::wording::{bytes, many};
use runs::{Run, Runs};

/// The least number of tokens of a part.
const MIN_PART: usize = 1 << 12;
/// The memory of reading a text, in bytes: chunks that wait for an earlier one.
const READING_BYTES: u64 = 40 << 20;
/// The largest number of partitions: each hands probabilities to each.
const MAX_PARTITIONS: usize = 512;
/// The share of the memory that sorting probabilities may take.
const SORT_SHARE: f64 = 0.25;
/// The bytes of temporary files per token, at most, as measured: runs, and merged streams with the
/// probabilities of two orders.
const RUN_BYTES: f64 = 9.0;
const STREAM_BYTES: f64 = 24.0;
/// The tokens that a core handles per second, roughly, of all passes together.
const TOKENS_PER_SECOND: f64 = 8e5;

/// The bytes of a word in arrays of single words, beside the vocabulary: its number of occurrences,
/// its partition, its probability, and its part of bit sets.
pub(super) const BYTES_PER_WORD: u64 = 12;

/// The memory of a vocabulary in bytes, with the arrays of single words.
fn vocabulary_memory(tokenizer: &Tokenizer) -> u64 {
    tokenizer.memory() + BYTES_PER_WORD * tokenizer.vocab_size() as u64
}

/// The number of tokens that occur `frequencies` times.
///
/// # Errors
/// 2³² occurrences of a token or more, which counts do not hold.
pub(super) fn tokens(frequencies: &[u32]) -> Result<u64> {
    if frequencies.contains(&u32::MAX) {
        return Err(Error::usage("a token occurs 2³² times or more").hint(Advice::CountLess));
    }
    Ok(frequencies.iter().map(|&frequency| u64::from(frequency)).sum())
}

/// Adds the occurrences of tokens, at most 2³² − 1.
pub(super) fn add_frequencies(ids: &[u32], frequencies: &mut [u32]) {
    for &id in ids {
        frequencies[id as usize] = frequencies[id as usize].saturating_add(1);
    }
}

/// The error of words that do not fit into memory, in words.
pub(super) fn too_many_words(error: TextError) -> Error {
    match error {
        TextError::TooManyWords { words, needed, limit } => Error::usage(format!(
            "the words of this text do not fit into memory: {} so far need {} ({:.0} bytes each), and the limit is {}",
            many(words, "word"),
            bytes(needed),
            needed as f64 / words as f64,
            bytes(limit)
        ))
        .hint(Advice::FewerWords),
        error => error.into(),
    }
}

/// A text that is counted in bounded memory.
#[derive(Clone, Copy)]
pub(crate) enum Text<'a> {
    Corpus(&'a Corpus, &'a DataOptions),
    /// Tokens, of which many are in a file that is mapped.
    Tokens(&'a TokenText),
}

/// A text with what is to be counted of it.
pub(crate) struct Work<'a> {
    pub(crate) text: Text<'a>,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) frequencies: &'a [u32],
    pub(crate) config: &'a NgramConfig,
    /// The most memory in bytes.
    pub(crate) memory: u64,
    pub(crate) room: &'a Room,
}

/// The n-grams of a text in streams.
#[derive(Debug)]
pub struct Streams {
    /// The kind of n-grams, and how they are cut.
    pub layout: Layout,
    /// The numbers of n-grams.
    pub merged: Merged,
    pub(super) options: MergeOptions,
    /// The files of the partitions.
    partitions: Vec<Spill>,
    /// By order, the weights of contexts, if each has its own.
    pub(super) weights: Vec<Spill>,
    pub(super) folder: Folder,
    /// The memory that is left beside the vocabulary, in bytes.
    pub(super) memory: u64,
}

/// The folder of temporary files of one counting.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    lock: Lock,
}

impl Folder {
    fn open(path: PathBuf) -> Result<Self> {
        let failed = |reason| StoreError::Io { action: "create".into(), path: path.clone(), reason };
        std::fs::create_dir_all(&path).map_err(failed)?;
        let lock = Lock::acquire(&path)?;
        atomic::recover(&path)?;
        Ok(Self { path, lock })
    }

    pub(super) fn file(&self, name: &str, number: usize) -> PathBuf {
        self.path.join(format!("{name}-{number:05}"))
    }

    fn remove(self) -> Result<()> {
        let Self { path, lock } = self;
        let removed = std::fs::remove_dir_all(&path);
        drop(lock);
        removed.map_err(|reason| StoreError::Io { action: "remove".into(), path, reason }.into())
    }
}

/// The blocks of a temporary file.
struct FileBlocks(SpillReader);

impl Blocks for FileBlocks {
    fn next(&mut self, block: &mut Vec<u8>) -> Result<bool, ModelError> {
        self.0.next_block(block).map_err(stream_error)
    }
}

pub(super) fn blocks(spill: &Spill, streams: impl IntoIterator<Item = usize>) -> Box<dyn Blocks> {
    Box::new(FileBlocks(spill.reader(streams)))
}

/// The error of a file, for functions of models.
pub(super) fn stream_error(error: impl std::error::Error + Send + Sync + 'static) -> ModelError {
    ModelError::Stream(Box::new(error))
}

/// Calls `work` with every number below `count` on all threads, each of which takes them in
/// ascending order; the first error ends it.
pub(super) fn each(pool: &Pool, count: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let run = |_| -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            if let Err(error) = work(number) {
                next.store(count, Ordering::Relaxed);
                return Err(error);
            }
        }
    };
    pool.map(pool.threads(), run).into_iter().collect()
}

/// The description of a merged partition.
#[derive(Serialize, Deserialize)]
struct PartitionDescription {
    merged: Merged,
    text_prefix: Vec<u32>,
}

impl Work<'_> {
    /// The number of tokens.
    pub(crate) fn tokens(&self) -> u64 {
        self.frequencies.iter().map(|&frequency| u64::from(frequency)).sum()
    }

    /// Counts the text.
    ///
    /// # Errors
    /// Too little memory or disk; a text that cannot be read; a damaged temporary file.
    pub(crate) fn run(&self, ctx: &Context<'_>) -> Result<Streams> {
        let tokens = self.tokens();
        let vocabulary = vocabulary_memory(self.tokenizer);
        let free = self.memory.saturating_sub(vocabulary);
        // The most frequent words, one per thread.
        let mut most = vec![0; ctx.pool.threads()];
        for &frequency in self.frequencies {
            if frequency > most[0] {
                most[0] = frequency;
                most.sort_unstable();
            }
        }
        let frequent = most.into_iter().map(f64::from).sum::<f64>() / tokens.max(1) as f64;
        // The next part is read meanwhile.
        let per_token = TextPart::memory(frequent) + 4.0;
        let room = (free - READING_BYTES.min(free / 4)) as f64;
        // A part has fewer different words than if they were spread evenly.
        let portion = (room / per_token / tokens.max(1) as f64).min(1.0);
        let different = |&frequency: &u32| 1.0 - (1.0 - portion).powi(frequency.min(1 << 20) as i32);
        let words = self.frequencies.iter().map(different).sum::<f64>();
        let room = room - (TextPart::BYTES_PER_WORD * words).min(room / 2.0);
        let mut share = (room / per_token) as usize;
        if share < MIN_PART {
            return Err(self.too_little(vocabulary, vocabulary + (MIN_PART as f64 * per_token) as u64));
        }
        if self.room.memory.is_none() {
            // What is free changes from one start to the next, and the parts should not.
            share = 1 << share.ilog2();
        }
        let share = share.min(1 << 30);
        let job = Job::new(self.config, self.frequencies, free, self.room, Vec::new(), ctx.pool)?;
        let name = self.fingerprint(&job, share)?;
        let parts = parts(tokens, share, self.config.order - 1);
        let what = format!("the text in {}", many(parts as u64, "part"));
        job.run(&name, (tokens, &what, self.memory), ctx, |job, folder| {
            self.runs(folder, job, (share, parts), ctx)
        })
    }

    /// The error of a limit below what is needed.
    fn too_little(&self, vocabulary: u64, needed: u64) -> Error {
        let words = self.tokenizer.vocab_size() as u64;
        Error::usage(format!(
            "counting this text needs at least {} of memory, {} of it for {} ({:.0} bytes each), and the limit is {}",
            bytes(needed),
            bytes(vocabulary),
            many(words, "word"),
            vocabulary as f64 / words as f64,
            bytes(self.memory)
        ))
        .hint(Advice::FewerWords)
    }

    /// Hash of all that the temporary files depend on.
    fn fingerprint(&self, job: &Job<'_>, share: usize) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        match self.text {
            Text::Tokens(text) => {
                hasher.update(text_hash(text).as_bytes());
            }
            Text::Corpus(corpus, DataOptions { inputs, mode, encode_options, .. }) => {
                hasher.update(corpus.hash()?.as_bytes());
                let reading = (mode, encode_options.literal_specials, encode_options.last_line);
                let inputs =
                    (&inputs.field, inputs.invalid, inputs.normalize, inputs.any_bytes, inputs.keep_nuls);
                hasher.update(format!("{:?}", (reading, inputs)).as_bytes());
            }
        }
        hasher.update(&share.to_le_bytes());
        for id in 0..self.tokenizer.vocab_size() as u32 {
            hasher.update(&self.tokenizer.token_bytes(id));
            hasher.update(b"\n");
        }
        job.hash(&mut hasher);
        Ok(hasher.finalize().to_hex()[..16].to_owned())
    }

    /// The runs of all parts, of which those of an earlier process are not made again; and the
    /// first words of a text without `<s>`.
    fn runs(
        &self,
        folder: &Folder,
        job: &Job<'_>,
        (share, parts): (usize, usize),
        ctx: &Context<'_>,
    ) -> Result<(Vec<Spill>, Vec<u32>)> {
        let (layout, before) = (&job.layout, job.before());
        let mut runs = job.runs(folder, ctx.pool)?;
        let there = runs.len();
        if there < parts {
            ctx.phase("sorting parts of the text", parts as u64)?;
            let reader = Pool::new(ctx.pool.threads())?;
            let (send, receive) = mpsc::sync_channel::<TextPart>(0);
            let read = || reader.install(|| self.read(share, send));
            std::thread::scope(|scope| -> Result<()> {
                let reading = std::thread::Builder::new().spawn_scoped(scope, read);
                let reading = reading.map_err(|reason| Error::failed(reason.to_string()))?;
                let sorted = (|| -> Result<usize> {
                    let mut number = 0;
                    for part in receive {
                        if number == parts {
                            break;
                        }
                        if number >= there {
                            runs.add(|path| self.sort(part, number, path, layout, before, ctx.pool))?;
                        }
                        number += 1;
                        ctx.emit(&Event::Advanced { steps: 1 })?;
                    }
                    Ok(number)
                })();
                let read = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                if sorted? != parts {
                    read?;
                    return Err(Error::failed("the text has changed while it was read").hint(Advice::Again));
                }
                read
            })?;
        }
        Ok(runs.finish())
    }

    /// Reads the text and sends its parts.
    fn read(&self, share: usize, send: mpsc::SyncSender<TextPart>) -> Result<()> {
        let after = self.config.order - 1;
        let mut before = None;
        let room = share + after + (1 << 16);
        let mut tokens: Vec<u32> = Vec::with_capacity(room);
        let stopped = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let mut put = |ids: &[u32]| {
            tokens.extend_from_slice(ids);
            while tokens.len() >= share + after {
                let mut next = Vec::with_capacity(room);
                next.extend_from_slice(&tokens[share..]);
                tokens.truncate(share + after);
                let part = TextPart { own: share, before, tokens: std::mem::replace(&mut tokens, next) };
                before = Some(part.tokens[share - 1]);
                send.send(part).map_err(stopped)?;
            }
            Ok(())
        };
        match self.text {
            Text::Corpus(corpus, _) => drop(corpus.encode_train_to(self.tokenizer, put)?),
            Text::Tokens(text) => text.ids.chunks(1 << 16).try_for_each(&mut put).map_err(stream_error)?,
        }
        if !tokens.is_empty() {
            // The receiver knows that it has stopped.
            drop(send.send(TextPart { own: tokens.len(), before, tokens }));
        }
        Ok(())
    }

    fn sort(
        &self,
        part: TextPart,
        number: usize,
        path: &Path,
        layout: &Layout,
        before: bool,
        pool: &Pool,
    ) -> Result<Run> {
        let writer = SpillWriter::create(path, layout.partitions())?;
        let put = |partition, block: &[u8]| writer.append(partition, block).map_err(stream_error);
        let first = &part.tokens[..part.tokens.len().min(layout.order - 1)];
        let text_prefix = if number == 0 && layout.bos.is_none() { first.to_vec() } else { Vec::new() };
        pool.install(|| part.sort(layout, before, &put))?;
        let description = RunDescription { text_prefix };
        Ok((writer.finish(&description)?, description))
    }
}

/// A counting: its settings, without a text.
pub(super) struct Job<'a> {
    pub(super) layout: Layout,
    options: MergeOptions,
    /// The memory that is left beside the vocabulary, in bytes.
    pub(super) memory: u64,
    /// The number of runs that are merged at a time.
    group_size: usize,
    /// The bytes of the weights of contexts per token, at most, where each has its own.
    weight_bytes: f64,
    room: &'a Room,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        config: &NgramConfig,
        frequencies: &[u32],
        memory: u64,
        room: &'a Room,
        text_prefix: Vec<u32>,
        pool: &Pool,
    ) -> Result<Self> {
        let tokens = tokens(frequencies)?;
        let sorted = tokens as f64 * 8.0 * pool.threads() as f64;
        let partitions = (4.0 * sorted / (SORT_SHARE * memory as f64)).ceil() as usize;
        let partitions = partitions.clamp(8 * pool.threads(), MAX_PARTITIONS);
        let layout = Layout::new(config.order, config.bos, frequencies, partitions)?;
        let smoother = config.smoother()?;
        let continuation = room.models && smoother.uses_continuation_counts();
        let lower = smoother.needs_lower_mass() || smoother.scheme() == BackoffScheme::Interpolate;
        let before = room.models && (continuation || lower);
        let prune = if room.models { config.prune.clone() } else { Vec::new() };
        let options =
            MergeOptions::new(&NgramConfig { prune, ..config.clone() }, continuation, before, text_prefix);
        let group_size = runs::group_size(memory, pool.threads());
        let own_weights = room.models && smoother.needs_lower_mass();
        let weight_bytes = if own_weights { 16.0 * (config.order - 2) as f64 } else { 0.0 };
        Ok(Self { layout, options, memory, group_size, weight_bytes, room })
    }

    /// Adds what the temporary files depend on, beside the text.
    pub(super) fn hash(&self, hasher: &mut blake3::Hasher) {
        let layout = &self.layout;
        let starts: Vec<u32> = (0..layout.partitions()).map(|part| layout.words(part).start).collect();
        let settings = (crate::VERSION, layout.order, layout.bos, starts, &self.options, self.group_size);
        hasher.update(format!("{settings:?}").as_bytes());
    }

    /// The runs of an earlier process.
    pub(super) fn runs<'f>(&self, folder: &'f Folder, pool: &'f Pool) -> Result<Runs<'f>> {
        Runs::open(folder, self.layout.partitions(), self.group_size, pool)
    }

    /// Whether runs have the words before contexts.
    pub(super) fn before(&self) -> bool {
        self.options.before
    }

    /// Merges the runs that `sort` makes, in the folder `name`; they are of `tokens` tokens, and
    /// `what` is said about them.
    ///
    /// # Errors
    /// Too little disk; a damaged temporary file; those of `sort`.
    pub(super) fn run(
        mut self,
        name: &str,
        announced: (u64, &str, u64),
        ctx: &Context<'_>,
        sort: impl FnOnce(&Self, &Folder) -> Result<(Vec<Spill>, Vec<u32>)>,
    ) -> Result<Streams> {
        let folder = Folder::open(self.room.temp.join(format!("surprisal-{name}")))?;
        self.announce(announced, &folder, ctx)?;
        let mut done = self.merged(&folder)?;
        if done.iter().any(Option::is_none) {
            let (runs, text_prefix) = sort(&self, &folder)?;
            self.options.text_prefix = text_prefix;
            ctx.phase("merging", self.layout.partitions() as u64)?;
            let cells: Vec<_> = done.iter_mut().map(Mutex::new).collect();
            each(ctx.pool, cells.len(), |partition| {
                let mut cell = cells[partition].lock().unwrap_or_else(PoisonError::into_inner);
                if cell.is_none() {
                    **cell = Some(merge_partition(&runs, partition, &self.layout, &self.options, &folder)?);
                }
                ctx.emit(&Event::Advanced { steps: 1 })
            })?;
            drop(cells);
            for run in runs {
                run.remove()?;
            }
        }
        let (mut merged, mut partitions) = (Merged::default(), Vec::new());
        for (spill, part) in done.into_iter().flatten() {
            merged.add(&part.merged);
            self.options.text_prefix = part.text_prefix;
            partitions.push(spill);
        }
        let Self { layout, options, memory, .. } = self;
        Ok(Streams { layout, merged, options, partitions, weights: Vec::new(), folder, memory })
    }

    /// Says what is going to happen, and refuses a disk that is too small.
    fn announce(
        &self,
        (tokens, what, memory): (u64, &str, u64),
        folder: &Folder,
        ctx: &Context<'_>,
    ) -> Result<()> {
        let orders = self.layout.order as f64 / 5.0;
        let streams = if self.room.models { STREAM_BYTES * orders } else { STREAM_BYTES * orders / 3.0 };
        let per_token = RUN_BYTES + streams + self.weight_bytes;
        let needed = (tokens as f64 * per_token) as u64;
        let seconds = tokens as f64 * orders / TOKENS_PER_SECOND / ctx.pool.threads() as f64;
        let there = used_bytes(&folder.path);
        ctx.note(Note::Text(format!(
            "counting in {} of memory: {what}, sorted, merged{}; up to {} of disk in {}, about {}{}",
            bytes(memory),
            if self.room.models {
                format!(", and {} passes over the n-grams", self.layout.order)
            } else {
                String::new()
            },
            bytes(needed),
            self.room.temp.display(),
            crate::wording::duration(seconds),
            if there > 0 { "; goes on with what is there" } else { "" }
        )))?;
        match disk::available(&folder.path).map(|free| free + there) {
            Some(free) if free < needed => Err(Error::usage(format!(
                "the temporary files need up to {}, and {} are free in {}",
                bytes(needed),
                bytes(free),
                self.room.temp.display()
            ))
            .hint(Advice::OtherTemp)),
            _ => Ok(()),
        }
    }

    /// The partitions that an earlier process has merged.
    fn merged(&self, folder: &Folder) -> Result<Vec<Option<(Spill, PartitionDescription)>>> {
        let open = |partition| Ok(Spill::open(&folder.file("grams", partition), self.layout.streams())?);
        (0..self.layout.partitions()).map(open).collect()
    }
}

/// The number of parts of `tokens` tokens: each but the last has `share`, and `after` more follow.
fn parts(tokens: u64, share: usize, after: usize) -> usize {
    tokens.saturating_sub(after as u64) as usize / share + 1
}

/// The bytes of the files in a folder.
fn used_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).filter(|&len| len > 4096).sum()
}

/// Merges the runs of one partition.
fn merge_partition(
    runs: &[Spill],
    partition: usize,
    layout: &Layout,
    options: &MergeOptions,
    folder: &Folder,
) -> Result<(Spill, PartitionDescription)> {
    let writer = SpillWriter::create(folder.file("grams", partition), layout.streams())?;
    let merged = merge(runs::sorted(runs.iter(), partition), layout, options, &mut |stream, block| {
        writer.append(stream.index(layout), block).map_err(stream_error)
    })?;
    let description = PartitionDescription { merged, text_prefix: options.text_prefix.clone() };
    Ok((writer.finish(&description)?, description))
}

impl Streams {
    /// The blocks of a stream of a partition.
    pub(super) fn blocks(&self, partition: usize, stream: Stream) -> Box<dyn Blocks> {
        blocks(&self.partitions[partition], [stream.index(&self.layout)])
    }

    /// The model of `config`.
    ///
    /// # Errors
    /// A damaged file; settings that do not fit.
    pub(super) fn smoothed(&mut self, config: &NgramConfig) -> Result<Smoothed> {
        let last = std::mem::take(&mut self.merged.last);
        let (mut counts, mut used) = (vec![0; self.layout.vocab_size], vec![0; self.layout.vocab_size]);
        for partition in 0..self.layout.partitions() {
            let mut words = self.grams(partition, 0);
            while let Some(gram) = words.read()? {
                let word = gram.words()[0] as usize;
                (counts[word], used[word]) = (gram.count, gram.used);
            }
        }
        // The last in suffix order must end in the highest word that occurs.
        let highest =
            (0..counts.len()).rev().find(|&word| Some(word as u32) != config.bos && counts[word] > 0);
        let is_last = last.last().is_some_and(|&word| Some(word as usize) == highest);
        for len in 1..if is_last { self.layout.order.min(last.len() + 1) } else { 1 } {
            let gram = &last[last.len() - len..];
            if let Some((count, used)) = self.grams(self.layout.partition_of(gram[0]), len - 1).find(gram)? {
                self.merged.lmplz_quirk(len - 1, count, used);
            }
        }
        Ok(Smoothed::new(config, &self.merged.orders, counts, used)?)
    }

    /// Removes all temporary files.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub(super) fn remove(self) -> Result<()> {
        self.folder.remove()
    }
}

impl GramStreams for Streams {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn grams(&self, partition: usize, len: usize) -> GramReader {
        let blocks = self.blocks(partition, Stream::Grams(len));
        GramReader::new(blocks, &self.layout, len + 1, self.options.continuation)
    }

    fn weights(&self, partition: usize, len: usize) -> Option<WeightReader> {
        self.weights.get(len).map(|weights| WeightReader::new(blocks(weights, [partition])))
    }
}
