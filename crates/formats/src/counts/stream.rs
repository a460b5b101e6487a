//! Writes counts that are in streams.

use std::path::Path;

use surprisal_model::ngram::external::{
    GramStreams, Merged, OrderTotals, Put, pack_children, pack_counts, pack_words,
};
use surprisal_model::ngram::packed::bits_for;
use surprisal_text::Tokenizer;

use super::tsv::part_line;
use super::{FORMAT, Header, Order, Part, SECTIONS_PER_ORDER, word_bits};
use crate::file::FileWriter;
use crate::ngram::Vocabulary;
use crate::{Error, Result, container};

/// Writes the file `path` as [`super::write()`]; the streams are read several times.
///
/// # Errors
/// As there; 2³² n-grams of an order or more; a stream that cannot be read.
pub fn write_streamed(
    path: impl AsRef<Path>,
    streams: &dyn GramStreams,
    merged: &Merged,
    text_prefix: &[u32],
    tokenizer: &Tokenizer,
    part: Option<&Part>,
) -> Result<u64> {
    let layout = streams.layout();
    let vocab_size = layout.vocab_size as u32;
    let vocabulary = Vocabulary::of(tokenizer);
    let order = |(len, totals): (usize, &OrderTotals)| {
        let grams = if len == 0 { u64::from(vocab_size) } else { totals.grams };
        let grams = u32::try_from(grams).map_err(|_| {
            let problem = format!("{grams} n-grams of {} words are too many", len + 1);
            Error::Unsupported { what: "a counts file", problem, hint: "count parts of the text" }
        })?;
        Ok(Order { grams, largest: totals.largest })
    };
    let orders: Result<Vec<Order>> = merged.orders.iter().enumerate().map(order).collect();
    let header = Header {
        vocab_size,
        bos: layout.bos,
        beginning: text_prefix.to_vec(),
        orders: orders?,
        vocabulary,
        part: part.cloned(),
    };
    let emit = |section: usize, put: &mut Put<'_>| {
        let len = section / SECTIONS_PER_ORDER;
        if len == layout.order {
            return Vocabulary::emit(tokenizer, put);
        }
        match section % SECTIONS_PER_ORDER {
            0 if len == 0 => Ok(()),
            0 => pack_words(streams, len, word_bits(vocab_size), put),
            1 => pack_counts(streams, len, bits_for(header.orders[len].largest.into()), put),
            _ if len + 1 == layout.order => Ok(()),
            _ => pack_children(streams, len, put),
        }
    };
    let sections = layout.order * SECTIONS_PER_ORDER + 1;
    let mut writer = FileWriter::create(path)?;
    container::write_emitted(&FORMAT, &header, sections, &emit, &mut |bytes| writer.put(bytes))?;
    writer.commit()
}

/// A list of counts that is written line by line.
pub struct TsvStream(FileWriter);

impl TsvStream {
    /// Starts the file `path`.
    ///
    /// # Errors
    /// A file that cannot be created.
    pub fn create(path: &Path, part: Option<&Part>) -> Result<Self> {
        let mut writer = FileWriter::create(path)?;
        part_line(part).map_or(Ok(()), |line| writer.put(line.as_bytes()))?;
        Ok(Self(writer))
    }

    /// Writes lines.
    ///
    /// # Errors
    /// A failure to write.
    pub fn put(&mut self, lines: &[u8]) -> Result<()> {
        self.0.put(lines)
    }

    /// Completes the file; gives its size in bytes.
    ///
    /// # Errors
    /// A failure to write.
    pub fn finish(self) -> Result<u64> {
        self.0.commit()
    }
}
