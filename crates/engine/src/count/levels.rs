//! Files from the streams of a text's n-grams.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use surprisal_formats::arpa::{self, Lines, Spelling};
use surprisal_formats::counts::Part;
use surprisal_formats::{counts, ngram};
use surprisal_model::Error as ModelError;
use surprisal_model::ngram::NgramConfig;
use surprisal_model::ngram::external::{
    Gram, GramStreams, Layout, LevelOutput, LevelStreams, LowerReader, Smoothed, Stream, StreamedTrie,
    put_lower, sort_lower,
};
use surprisal_store::spill::{Spill, SpillWriter};
use surprisal_text::Tokenizer;

use super::Files;
use super::external::{Streams, blocks, each, stream_error};
use super::in_order::{BLOCK_BYTES, InOrder};
use crate::error::Result;
use crate::events::{Context, Event};

/// The lines and probabilities that a thread makes of the n-grams of a partition.
struct Output<'a, 's, Put> {
    lines: Lines<'s>,
    /// Blocks of probabilities by the partition that they go to.
    lower: Vec<Vec<u8>>,
    /// The size of a block in bytes.
    block: usize,
    to: Destination<'a, Put>,
}

/// Where it goes.
struct Destination<'a, Put> {
    layout: &'a Layout,
    partition: usize,
    lines: &'a InOrder<Put>,
    lower: Option<&'a SpillWriter>,
}

impl<Put: FnMut(&[u8]) -> Result<()>> LevelOutput for Output<'_, '_, Put> {
    #[inline]
    fn gram(&mut self, gram: &Gram, probability: f64, backoff: Option<f64>) -> Result<(), ModelError> {
        self.lines.push(gram, probability, backoff);
        if self.lines.as_bytes().len() >= BLOCK_BYTES { self.put_lines() } else { Ok(()) }
    }

    #[inline]
    fn lower(&mut self, words: &[u32], probability: f64) -> Result<(), ModelError> {
        for &word in words {
            let partition = self.to.layout.partition_of(word);
            let block = &mut self.lower[partition];
            put_lower(self.to.layout, partition, word, probability, block);
            if block.len() >= self.block {
                self.put_lower(partition)?;
            }
        }
        Ok(())
    }
}

impl<Put: FnMut(&[u8]) -> Result<()>> Output<'_, '_, Put> {
    fn put_lines(&mut self) -> Result<(), ModelError> {
        let put = self.to.lines.put(self.to.partition, self.lines.as_bytes());
        self.lines.clear();
        put.map_err(stream_error)
    }

    fn put_lower(&mut self, partition: usize) -> Result<(), ModelError> {
        let block = &mut self.lower[partition];
        if let Some(writer) = self.to.lower.filter(|_| !block.is_empty()) {
            let stream = partition * self.to.layout.partitions() + self.to.partition;
            writer.append(stream, block).map_err(stream_error)?;
            block.clear();
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.lines.complete();
        self.put_lines()?;
        for partition in 0..self.lower.len() {
            self.put_lower(partition)?;
        }
        self.to.lines.end(self.to.partition)
    }
}

impl Streams {
    /// Writes a file of counts.
    pub(super) fn write_counts(
        &self,
        path: &Path,
        tokenizer: &Tokenizer,
        part: Option<&Part>,
    ) -> Result<u64> {
        Ok(counts::write_streamed(path, self, &self.merged, &self.options.text_prefix, tokenizer, part)?)
    }

    /// Writes the files of models, each of which is passed to `done` with its size in bytes.
    ///
    /// # Errors
    /// As [`Counted::write`](super::Counted::write); a damaged temporary file.
    pub(super) fn write_models(
        &mut self,
        files: &Files,
        (config, quantize): (&NgramConfig, Option<u32>),
        tokenizer: &Tokenizer,
        ctx: &Context<'_>,
        done: &mut dyn FnMut(&Path, u64) -> Result<()>,
    ) -> Result<()> {
        ctx.phase("estimating", 0)?;
        let smoothed = self.smoothed(config)?;
        ctx.notes(&smoothed.report.notices)?;
        for path in files.all("arpa") {
            let written = self.write_arpa(path, &smoothed, tokenizer, ctx)?;
            ctx.notes(&written.notices)?;
            done(path, written.bytes)?;
        }
        if files.any(&["ngram"]) {
            ctx.phase("packing the model", 0)?;
            let trie = ctx.pool.install(|| StreamedTrie::new(&smoothed, self, &self.merged, quantize))?;
            for path in files.all("ngram") {
                let write = || ngram::write_streamed(path, &smoothed, &trie, tokenizer);
                done(path, ctx.pool.install(write)?)?;
            }
        }
        Ok(())
    }

    /// Writes an ARPA file; each order is one pass.
    ///
    /// # Errors
    /// A model that is not a back-off model; a file that cannot be written.
    fn write_arpa(
        &self,
        path: &Path,
        smoothed: &Smoothed,
        tokenizer: &Tokenizer,
        ctx: &Context<'_>,
    ) -> Result<arpa::Written> {
        let (layout, pool) = (&self.layout, ctx.pool);
        let partitions = layout.partitions();
        let spelling = pool.install(|| Spelling::new(tokenizer, self.memory / 4));
        let mut file = arpa::StreamWriter::create(path, smoothed, tokenizer)?;
        ctx.phase("writing the model", (layout.order * partitions) as u64)?;
        let block = (self.memory as usize / 16 / pool.threads() / partitions).clamp(1 << 10, 1 << 16);
        let spare: Mutex<Vec<(Lines<'_>, Vec<Vec<u8>>)>> = Mutex::default();
        let spare = || spare.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lower: Option<Spill> = None;
        for len in 0..layout.order {
            file.section(len)?;
            let top = len + 1 == layout.order;
            let next = if smoothed.needs_lower() && !top {
                Some(SpillWriter::create(self.folder.file("lower", len + 1), partitions * partitions)?)
            } else {
                None
            };
            let queue = InOrder::new(self.memory as usize / 16, |lines: &[u8]| Ok(file.put(lines)?));
            each(pool, partitions, |partition| {
                queue.guarded(|| {
                    let (lines, blocks) = spare()
                        .pop()
                        .unwrap_or_else(|| (Lines::new(&spelling), vec![Vec::new(); partitions]));
                    let to = Destination { layout, partition, lines: &queue, lower: next.as_ref() };
                    let mut output = Output { lines, lower: blocks, block, to };
                    self.level(smoothed, len, partition, lower.as_ref(), &mut output)?;
                    output.end()?;
                    spare().push((output.lines, output.lower));
                    Ok(())
                })?;
                ctx.emit(&Event::Advanced { steps: 1 })
            })?;
            if let Some(lower) = lower.take() {
                lower.remove()?;
            }
            lower = next.map(|next| next.finish(&())).transpose()?;
        }
        spare().clear();
        Ok(file.finish(&spelling)?)
    }

    /// Writes a list of counts.
    pub(super) fn write_tsv(
        &self,
        path: &Path,
        tokenizer: &Tokenizer,
        part: Option<&Part>,
        ctx: &Context<'_>,
    ) -> Result<u64> {
        let spelling = ctx.pool.install(|| Spelling::new(tokenizer, self.memory / 4));
        let mut file = counts::TsvStream::create(path, part)?;
        for len in 0..self.layout.order {
            let queue = InOrder::new(self.memory as usize / 16, |lines: &[u8]| Ok(file.put(lines)?));
            each(ctx.pool, self.layout.partitions(), |partition| {
                queue.guarded(|| {
                    let mut lines = Lines::new(&spelling);
                    let mut put = |gram: &Gram| -> Result<()> {
                        lines.push_count(gram);
                        if lines.as_bytes().len() >= BLOCK_BYTES {
                            queue.put(partition, lines.as_bytes())?;
                            lines.clear();
                        }
                        Ok(())
                    };
                    let (words, mut grams) = (self.layout.words(partition), self.grams(partition, len));
                    let mut unseen = words.start;
                    while let Some(gram) = grams.read()? {
                        if len == 0 {
                            (unseen..gram.words()[0]).try_for_each(|word| put(&Gram::of_word(word)))?;
                            unseen = gram.words()[0] + 1;
                        }
                        put(gram)?;
                    }
                    let end = if len == 0 { words.end } else { unseen };
                    (unseen..end).try_for_each(|word| put(&Gram::of_word(word)))?;
                    queue.put(partition, lines.as_bytes())?;
                    queue.end(partition)
                })
            })?;
        }
        Ok(file.finish()?)
    }

    /// Passes the n-grams of `len` + 1 words of a partition to `output`.
    fn level(
        &self,
        smoothed: &Smoothed,
        len: usize,
        partition: usize,
        lower: Option<&Spill>,
        output: &mut dyn LevelOutput,
    ) -> Result<()> {
        let layout = &self.layout;
        let needed = smoothed.needs_lower() && len + 1 < layout.order;
        let before = needed.then(|| self.blocks(partition, Stream::Before(len)));
        let grams = self.grams(partition, len);
        if len == 0 {
            return Ok(smoothed.first_level(layout.words(partition), grams, before, output)?);
        }
        let partitions = layout.partitions();
        let streams = partition * partitions..(partition + 1) * partitions;
        let lower = match lower {
            None => LowerReader::None,
            Some(lower) if layout.words(partition).len() == 1 => LowerReader::stream(blocks(lower, streams)),
            Some(lower) => sort_lower(layout, partition, || Ok(blocks(lower, streams.clone())))?,
        };
        let contexts = self.grams(partition, len - 1);
        Ok(smoothed.level(len, LevelStreams { grams, contexts, before, lower }, output)?)
    }
}
