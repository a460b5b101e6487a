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

/// The n-grams of one order in one partition.
#[derive(Clone, Copy)]
struct Place<'a> {
    partition: usize,
    /// The probabilities of the order below.
    lower: Option<&'a Spill>,
    /// Whether the next order needs theirs.
    hands_down: bool,
}

/// The lines and probabilities that a thread makes of the n-grams of a partition.
struct Output<'a, 's, Put> {
    lines: Lines<'s>,
    lower: LowerOutput<'a>,
    queue: &'a InOrder<Put>,
}

/// The probabilities that a thread hands to the partitions of the next order.
struct LowerOutput<'a> {
    layout: &'a Layout,
    partition: usize,
    /// Blocks by the partition that they go to.
    blocks: Vec<Vec<u8>>,
    /// The size of a block in bytes.
    block: usize,
    to: Option<&'a SpillWriter>,
}

impl<Put: FnMut(&[u8]) -> Result<()>> LevelOutput for Output<'_, '_, Put> {
    #[inline]
    fn gram(&mut self, gram: &Gram, probability: f64, backoff: Option<f64>) -> Result<(), ModelError> {
        self.lines.push(gram, probability, backoff);
        if self.lines.as_bytes().len() >= BLOCK_BYTES { self.put_lines() } else { Ok(()) }
    }

    #[inline]
    fn lower(&mut self, words: &[u32], probability: f64) -> Result<(), ModelError> {
        self.lower.lower(words, probability)
    }
}

impl LevelOutput for LowerOutput<'_> {
    fn gram(&mut self, _: &Gram, _: f64, _: Option<f64>) -> Result<(), ModelError> {
        Ok(())
    }

    #[inline]
    fn lower(&mut self, words: &[u32], probability: f64) -> Result<(), ModelError> {
        for &word in words {
            let partition = self.layout.partition_of(word);
            let block = &mut self.blocks[partition];
            put_lower(self.layout, partition, word, probability, block);
            if block.len() >= self.block {
                self.put(partition)?;
            }
        }
        Ok(())
    }
}

impl<Put: FnMut(&[u8]) -> Result<()>> Output<'_, '_, Put> {
    fn put_lines(&mut self) -> Result<(), ModelError> {
        let put = self.queue.put(self.lower.partition, self.lines.as_bytes());
        self.lines.clear();
        put.map_err(stream_error)
    }
}

impl LowerOutput<'_> {
    fn put(&mut self, partition: usize) -> Result<(), ModelError> {
        let block = &mut self.blocks[partition];
        if let Some(writer) = self.to.filter(|_| !block.is_empty()) {
            let stream = partition * self.layout.partitions() + self.partition;
            writer.append(stream, block).map_err(stream_error)?;
            block.clear();
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), ModelError> {
        (0..self.blocks.len()).try_for_each(|partition| self.put(partition))
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
        if smoothed.needs_lower_mass() {
            self.finish(&smoothed, ctx)?;
        }
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
        let partitions = self.layout.partitions();
        let spelling = ctx.pool.install(|| Spelling::new(tokenizer, self.memory / 4));
        let mut file = arpa::StreamWriter::create(path, smoothed, tokenizer)?;
        ctx.phase("writing the model", (self.layout.order * partitions) as u64)?;
        let spare: Mutex<Vec<(Lines<'_>, Vec<Vec<u8>>)>> = Mutex::default();
        let spare = || spare.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lower: Option<Spill> = None;
        for len in 0..self.layout.order {
            file.section(len)?;
            let queue = InOrder::new(self.memory as usize / 16, |lines: &[u8]| Ok(file.put(lines)?));
            lower = self.pass(len, smoothed.needs_lower(), lower, ctx, |place, output| {
                queue.guarded(|| {
                    let (lines, blocks) = spare()
                        .pop()
                        .unwrap_or_else(|| (Lines::new(&spelling), vec![Vec::new(); partitions]));
                    let mut output = Output { lines, lower: LowerOutput { blocks, ..output }, queue: &queue };
                    self.level(smoothed, len, place, &mut output)?;
                    output.lines.complete();
                    output.put_lines()?;
                    output.lower.end()?;
                    queue.end(place.partition)?;
                    spare().push((output.lines, output.lower.blocks));
                    Ok(())
                })
            })?;
        }
        spare().clear();
        Ok(file.finish(&spelling)?)
    }

    /// Makes the weights of all contexts; each order is one pass.
    fn finish(&mut self, smoothed: &Smoothed, ctx: &Context<'_>) -> Result<()> {
        let partitions = self.layout.partitions();
        ctx.phase("weighting contexts", (self.layout.order * partitions) as u64)?;
        let mut lower: Option<Spill> = None;
        for len in 0..self.layout.order {
            let path = self.folder.file("weights", len);
            let weights = (len > 0).then(|| SpillWriter::create(path, partitions)).transpose()?;
            lower = self.pass(len, true, lower, ctx, |place, mut output| {
                output.blocks = vec![Vec::new(); partitions];
                match &weights {
                    None => self.level(smoothed, len, place, &mut output)?,
                    Some(weights) => {
                        let put =
                            &mut |block: &[u8]| weights.append(place.partition, block).map_err(stream_error);
                        let streams = self.level_streams(len, place)?;
                        smoothed.finish_level(len, streams, put, &mut output)?;
                    }
                }
                Ok(output.end()?)
            })?;
            if let Some(weights) = weights {
                self.weights.push(weights.finish(&())?.temporary());
            }
        }
        Ok(())
    }

    /// Calls `work` for every partition of the n-grams of `len` + 1 words, with the probabilities
    /// of the order below; gives those that it hands to the next order, if they are needed.
    fn pass(
        &self,
        len: usize,
        needs_lower: bool,
        lower: Option<Spill>,
        ctx: &Context<'_>,
        work: impl Fn(Place<'_>, LowerOutput<'_>) -> Result<()> + Sync,
    ) -> Result<Option<Spill>> {
        let (layout, threads) = (&self.layout, ctx.pool.threads());
        let partitions = layout.partitions();
        let next = if needs_lower && len + 1 < layout.order {
            Some(SpillWriter::create(self.folder.file("lower", len + 1), partitions * partitions)?)
        } else {
            None
        };
        let block = (self.memory as usize / 16 / threads / partitions).clamp(1 << 10, 1 << 16);
        each(ctx.pool, partitions, |partition| {
            let (lower, to) = (lower.as_ref(), next.as_ref());
            let place = Place { partition, lower, hands_down: to.is_some() };
            work(place, LowerOutput { layout, partition, blocks: Vec::new(), block, to })?;
            ctx.emit(&Event::Advanced { steps: 1 })
        })?;
        lower.map_or(Ok(()), Spill::remove)?;
        Ok(next.map(|next| next.finish(&())).transpose()?.map(Spill::temporary))
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

    /// Passes the n-grams of `len` + 1 words of the partition of `place` to `output`.
    fn level(
        &self,
        smoothed: &Smoothed,
        len: usize,
        place: Place<'_>,
        output: &mut dyn LevelOutput,
    ) -> Result<()> {
        if len > 0 {
            return Ok(smoothed.level(len, self.level_streams(len, place)?, output)?);
        }
        let Place { partition, hands_down, .. } = place;
        let before = hands_down.then(|| self.blocks(partition, Stream::Before(0)));
        let (words, grams) = (self.layout.words(partition), self.grams(partition, 0));
        Ok(smoothed.first_level(words, grams, before, self.weights(partition, 0), output)?)
    }

    /// The streams of the n-grams of `len` + 1 words, at least 2.
    fn level_streams(&self, len: usize, place: Place<'_>) -> Result<LevelStreams> {
        let (layout, Place { partition, lower, hands_down }) = (&self.layout, place);
        let partitions = layout.partitions();
        let streams = partition * partitions..(partition + 1) * partitions;
        Ok(LevelStreams {
            grams: self.grams(partition, len),
            contexts: self.grams(partition, len - 1),
            before: hands_down.then(|| self.blocks(partition, Stream::Before(len))),
            lower: match lower {
                None => LowerReader::None,
                Some(lower) if layout.words(partition).len() == 1 => {
                    LowerReader::stream(blocks(lower, streams))
                }
                Some(lower) => sort_lower(layout, partition, || Ok(blocks(lower, streams.clone())))?,
            },
            weights: [len - 1, len].map(|len| self.weights(partition, len)),
        })
    }
}
