//! Writes the ARPA file of a model whose n-grams are in streams.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use surprisal_model::ngram::MAX_ORDER;
use surprisal_model::ngram::external::{Gram, Smoothed};
use surprisal_text::Tokenizer;

use super::write::{END, Written, head, notices, push_log10, supported};
use crate::Result;
use crate::file::FileWriter;
use crate::token_strings::{StringTable, TextBuffer, spell};

/// The number of back-off weights whose text is kept, a power of two.
const KEPT: usize = 1 << 12;

/// A file that is written section by section.
pub struct StreamWriter<'a> {
    writer: FileWriter,
    smoothed: &'a Smoothed,
    tokenizer: &'a Tokenizer,
}

impl<'a> StreamWriter<'a> {
    /// Starts the file `path`, which replaces an old one when it is complete.
    ///
    /// # Errors
    /// As [`super::write()`].
    pub fn create(path: &Path, smoothed: &'a Smoothed, tokenizer: &'a Tokenizer) -> Result<Self> {
        let mut writer = FileWriter::create(path)?;
        supported(smoothed.scheme(), smoothed.unseen_context_factor(), smoothed.config.order)?;
        let orders = smoothed.report.orders.iter().enumerate();
        let grams = orders.map(|(len, order)| match len {
            0 => tokenizer.vocab_size() as u64,
            _ => order.grams,
        });
        writer.put(head(tokenizer, smoothed.unseen_context_factor(), grams)?.as_bytes())?;
        Ok(Self { writer, smoothed, tokenizer })
    }

    /// Starts the section of the n-grams of `len` + 1 words.
    ///
    /// # Errors
    /// A failure to write.
    pub fn section(&mut self, len: usize) -> Result<()> {
        self.writer.put(format!("\n\\{}-grams:\n", len + 1).as_bytes())
    }

    /// Writes lines.
    ///
    /// # Errors
    /// A failure to write.
    pub fn put(&mut self, lines: &[u8]) -> Result<()> {
        self.writer.put(lines)
    }

    /// Completes the file.
    ///
    /// # Errors
    /// A failure to write.
    pub fn finish(mut self, spelling: &Spelling<'_>) -> Result<Written> {
        self.writer.put(END)?;
        let zeros = spelling.zeros.load(Ordering::Relaxed);
        let notices = notices(self.tokenizer, self.smoothed.unseen_context_factor(), zeros);
        Ok(Written { bytes: self.writer.commit()?, notices })
    }
}

/// The strings of the tokens.
pub struct Spelling<'a> {
    /// Those of the first tokens, of which most text consists.
    strings: StringTable,
    tokenizer: &'a Tokenizer,
    zeros: AtomicBool,
}

impl<'a> Spelling<'a> {
    /// Those of `tokenizer`, as many at hand as fit into about `memory` bytes.
    pub fn new(tokenizer: &'a Tokenizer, memory: u64) -> Self {
        let strings = StringTable::first_of(tokenizer, memory as usize / StringTable::BYTES_PER_TOKEN);
        Self { strings, tokenizer, zeros: AtomicBool::new(false) }
    }

    /// Prefetches what [`Self::put`] reads: first where the string is, in a second call it.
    #[inline]
    fn prefetch(&self, id: u32, is_second: bool) {
        match ((id as usize) < self.strings.len(), is_second) {
            (true, false) => self.strings.prefetch(id),
            (true, true) => self.strings.prefetch_long(id),
            (false, _) => self.tokenizer.codec().prefetch(id, is_second),
        }
    }

    /// Appends a token and a space.
    #[inline]
    fn put(&self, id: u32, text: &mut TextBuffer) {
        if (id as usize) < self.strings.len() {
            return self.strings.put(id, text);
        }
        text.extend(&spell(self.tokenizer, id));
        text.push(b' ');
    }
}

/// The number of n-grams that wait until their words are in the cache, a power of two.
const WAITING: usize = 16;

/// An n-gram with what its line says.
#[derive(Clone, Copy, Default)]
struct Line {
    words: [u32; MAX_ORDER],
    len: usize,
    probability: f64,
    backoff: Option<f64>,
}

/// The lines of n-grams as text.
pub struct Lines<'a> {
    spelling: &'a Spelling<'a>,
    bos: Option<u32>,
    text: TextBuffer,
    /// The words of the last line, most of which the next one has, too: as text with a space after
    /// each, where that ends, and their ids.
    words: TextBuffer,
    ends: [usize; MAX_ORDER],
    ids: Vec<u32>,
    /// The last n-grams, by their numbers.
    waiting: [Line; WAITING],
    /// The number of n-grams, and of those whose line is complete.
    pushed: usize,
    done: usize,
    /// Back-off weights by their bits.
    backoffs: Vec<(u64, TextBuffer)>,
    zeros: bool,
}

impl<'a> Lines<'a> {
    /// No lines yet.
    pub fn new(spelling: &'a Spelling<'_>) -> Self {
        let backoffs = (0..KEPT).map(|_| (u64::MAX, TextBuffer::default())).collect();
        Self {
            spelling,
            bos: spelling.tokenizer.bos(),
            text: TextBuffer::default(),
            words: TextBuffer::default(),
            ends: [0; MAX_ORDER],
            ids: Vec::new(),
            waiting: [Line::default(); WAITING],
            pushed: 0,
            done: 0,
            backoffs,
            zeros: false,
        }
    }

    /// Appends words, each with a space.
    #[inline]
    fn put_words(&mut self, ids: &[u32]) {
        let same = self.ids.iter().zip(ids).take_while(|(a, b)| a == b).count();
        self.words.truncate(same.checked_sub(1).map_or(0, |last| self.ends[last]));
        self.ids.truncate(same);
        for &id in &ids[same..] {
            self.spelling.put(id, &mut self.words);
            self.ends[self.ids.len()] = self.words.as_bytes().len();
            self.ids.push(id);
        }
        self.text.extend(self.words.as_bytes());
    }

    /// Appends a line; it is complete some lines later, or by [`Self::complete`].
    #[inline]
    pub fn push(&mut self, gram: &Gram, probability: f64, backoff: Option<f64>) {
        if self.pushed - self.done == WAITING {
            self.complete_next();
        }
        let line = &mut self.waiting[self.pushed % WAITING];
        let words = gram.words();
        line.words[..words.len()].copy_from_slice(words);
        (line.len, line.probability, line.backoff) = (words.len(), probability, backoff);
        self.spelling.prefetch(words[words.len() - 1], false);
        if self.pushed - self.done >= WAITING / 2 {
            let before = &self.waiting[(self.pushed - WAITING / 2) % WAITING];
            self.spelling.prefetch(before.words[before.len - 1], true);
        }
        self.pushed += 1;
    }

    /// Completes all lines.
    pub fn complete(&mut self) {
        while self.done < self.pushed {
            self.complete_next();
        }
    }

    fn complete_next(&mut self) {
        let Line { words, len, probability, backoff } = self.waiting[self.done % WAITING];
        self.done += 1;
        let words = &words[..len];
        if words.len() == 1 && Some(words[0]) == self.bos {
            self.text.push(b'0');
        } else {
            self.zeros |= probability <= 0.0;
            push_log10(probability, &mut self.text);
        }
        self.text.push(b'\t');
        self.put_words(words);
        let text = &mut self.text;
        if let Some(backoff) = backoff {
            text.end_in(b'\t');
            self.zeros |= backoff <= 0.0;
            let bits = backoff.to_bits();
            let slot = (bits.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - KEPT.ilog2())) as usize;
            let (of, kept) = &mut self.backoffs[slot];
            if *of != bits {
                *of = bits;
                kept.clear();
                push_log10(backoff, kept);
                kept.push(b'\n');
            }
            text.extend(kept.as_bytes());
        } else {
            text.end_in(b'\n');
        }
    }

    /// Appends a line with the number of occurrences instead.
    pub fn push_count(&mut self, gram: &Gram) {
        self.put_words(gram.words());
        self.text.end_in(b'\t');
        self.text.extend(gram.count.to_string().as_bytes());
        self.text.push(b'\n');
    }

    /// The lines.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Removes the lines.
    pub fn clear(&mut self) {
        self.text.clear();
    }
}

impl Drop for Lines<'_> {
    fn drop(&mut self) {
        if self.zeros {
            self.spelling.zeros.store(true, Ordering::Relaxed);
        }
    }
}
