//! Reads a counts file that does not fit into memory, n-gram by n-gram.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use surprisal_model::ngram::MAX_ORDER;
use surprisal_model::ngram::packed::{bits_for, packed_len};
use surprisal_store::Error as StoreError;
use surprisal_text::Tokenizer;

use super::{FORMAT, Header, Part, SECTIONS_PER_ORDER, word_bits};
use crate::container::{self, Place};
use crate::{Error, Result};

/// The bytes that are read at a time.
const READ_BYTES: usize = 1 << 16;

/// A counts file whose checksums match.
#[derive(Debug)]
pub struct CountsReader {
    path: PathBuf,
    header: Header,
    places: Vec<Place>,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The checksums of all sections, by which the file is recognised.
    pub checksums: Vec<u32>,
}

impl CountsReader {
    /// The number of n-grams of all orders of the file `path`, and its order, by its header alone.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn size(path: &Path) -> Result<(u64, usize)> {
        let size = |file: &File| -> Result<(u64, usize)> {
            let (header, _): (Header, Vec<Place>) = container::places(&FORMAT, file, path)?;
            Ok((header.orders.iter().map(|order| u64::from(order.grams)).sum(), header.orders.len()))
        };
        size(&open(path)?).map_err(|error| error.in_file(path))
    }

    /// Opens the file `path`, and reads it once for its checksums.
    ///
    /// # Errors
    /// [`Io`](StoreError::Io); [`Malformed`](StoreError::Malformed).
    pub fn open(path: &Path) -> Result<Self> {
        let file = open(path)?;
        let opened = Self::of_file(&file, path);
        opened.map_err(|error| error.in_file(path))
    }

    fn of_file(file: &File, path: &Path) -> Result<Self> {
        let malformed = |problem: &str| Error::malformed(FORMAT.what, problem);
        let (header, places): (Header, Vec<Place>) = container::places(&FORMAT, file, path)?;
        let order = header.orders.len();
        if !(1..=MAX_ORDER).contains(&order) || places.len() != order * SECTIONS_PER_ORDER + 1 {
            return Err(malformed("its number of sections does not fit its order"));
        }
        let mut words = Vec::new();
        for (section, place) in places.iter().enumerate() {
            let (mut bits, mut hasher) = (Bits::new(path, *place, 0)?, crc32fast::Hasher::new());
            while bits.fill()? {
                hasher.update(&bits.buffer);
                if section + 1 == places.len() {
                    words.extend_from_slice(&bits.buffer);
                }
                bits.buffer.clear();
            }
            if hasher.finalize() != place.crc32 {
                let problem =
                    format!("checksum (CRC-32) of section {section} does not match; the file is corrupt");
                return Err(malformed(&problem));
            }
        }
        let tokenizer = header.vocabulary.decode(&words)?;
        let fits = |section: usize, bits: u32, len: u64| {
            packed_len(bits, len).map(|len| len as u64) == Some(places[section].bytes)
        };
        for (len, order) in header.orders.iter().enumerate() {
            let (first, grams) = (len * SECTIONS_PER_ORDER, u64::from(order.grams));
            let next = header.orders.get(len + 1).map(|next| u64::from(next.grams));
            let words = if len == 0 {
                places[first].bytes == 0 && order.grams == header.vocab_size
            } else {
                fits(first, word_bits(header.vocab_size), grams)
            };
            let children = next.map_or(places[first + 2].bytes == 0, |next| fits(first + 2, 1, grams + next));
            if !(words && children && fits(first + 1, bits_for(order.largest.into()), grams)) {
                return Err(malformed("the lengths of its sections are wrong"));
            }
        }
        if tokenizer.vocab_size() != header.vocab_size as usize || tokenizer.bos() != header.bos {
            return Err(malformed("its counts and its tokenizer have different tokens"));
        }
        let checksums = places.iter().map(|place| place.crc32).collect();
        Ok(Self { path: path.to_owned(), header, places, tokenizer, checksums })
    }

    /// The length of the longest n-gram.
    pub fn order(&self) -> usize {
        self.header.orders.len()
    }

    /// The number of n-grams of all orders.
    pub fn grams(&self) -> u64 {
        self.header.orders.iter().map(|order| u64::from(order.grams)).sum()
    }

    /// The counted part of the text, if known.
    pub fn part(&self) -> Option<&Part> {
        self.header.part.as_ref()
    }

    /// Without `<s>`: the first words of the text.
    pub fn text_prefix(&self) -> &[u32] {
        &self.header.beginning
    }

    /// Calls `visit` with the number of occurrences of every word.
    ///
    /// # Errors
    /// A failure to read.
    pub fn each_word(&self, mut visit: impl FnMut(u32, u32)) -> Result<()> {
        let mut counts = self.counts(0)?;
        for word in 0..self.header.vocab_size {
            visit(word, counts.next()? as u32);
        }
        Ok(())
    }

    fn counts(&self, len: usize) -> Result<Bits> {
        let bits = bits_for(self.header.orders[len].largest.into());
        Bits::new(&self.path, self.places[len * SECTIONS_PER_ORDER + 1], bits)
    }

    /// Calls `visit` with the longest n-grams and with the shorter ones that end a text or a
    /// sentence, and how often they do, in order.
    ///
    /// # Errors
    /// Counts that do not fit together; a failure to read; an error of `visit`.
    pub fn each_end<E: From<Error>>(
        &self,
        mut visit: impl FnMut(&[u32], u32) -> Result<(), E>,
    ) -> Result<(), E> {
        let order = self.order();
        let malformed =
            || Error::malformed(FORMAT.what, "its counts do not fit together").in_file(&self.path);
        let mut levels = Vec::with_capacity(order);
        for len in 0..order {
            let first = len * SECTIONS_PER_ORDER;
            let word_bits = if len == 0 { 0 } else { word_bits(self.header.vocab_size) };
            levels.push(Level {
                words: Bits::new(&self.path, self.places[first], word_bits)?,
                counts: self.counts(len)?,
                children: Bits::new(&self.path, self.places[first + 2], 1)?,
                rest: 0,
                left: 0,
            });
        }
        let mut words = [0_u32; MAX_ORDER];
        levels[0].left = self.header.vocab_size;
        let mut len = 0;
        loop {
            let level = &mut levels[len];
            if level.left == 0 {
                // Back to the context, of which the rest of the occurrences ended something.
                let Some(up) = len.checked_sub(1) else { return Ok(()) };
                len = up;
                if levels[len].rest > 0 {
                    visit(&words[..=len], levels[len].rest)?;
                }
                continue;
            }
            level.left -= 1;
            words[len] =
                if len == 0 { self.header.vocab_size - 1 - level.left } else { level.words.next()? as u32 };
            let count = level.counts.next()? as u32;
            if words[len] >= self.header.vocab_size {
                return Err(malformed().into());
            }
            level.rest = count;
            if let Some(up) = len.checked_sub(1) {
                levels[up].rest = levels[up].rest.checked_sub(count).ok_or_else(malformed)?;
            }
            if len + 1 == order {
                visit(&words[..order], count)?;
                continue;
            }
            let mut children = 0;
            while levels[len].children.next()? == 1 {
                children += 1;
            }
            levels[len + 1].left = children;
            len += 1;
        }
    }
}

/// The cursors of one order.
struct Level {
    words: Bits,
    counts: Bits,
    children: Bits,
    /// The occurrences of the current n-gram that nothing followed so far.
    rest: u32,
    /// The n-grams with the same context that are left.
    left: u32,
}

fn open(path: &Path) -> Result<File> {
    Ok(File::open(path).map_err(|reason| StoreError::io("open", path, reason))?)
}

/// A reader of numbers of a fixed number of bits.
struct Bits {
    path: PathBuf,
    file: std::io::Take<File>,
    buffer: Vec<u8>,
    width: u32,
    /// The next bit in the buffer.
    at: usize,
}

impl Bits {
    fn new(path: &Path, place: Place, width: u32) -> Result<Self> {
        let mut file = open(path)?;
        file.seek(SeekFrom::Start(place.start)).map_err(|reason| StoreError::io("read", path, reason))?;
        let (path, file) = (path.to_owned(), file.take(place.bytes));
        Ok(Self { path, file, buffer: Vec::with_capacity(READ_BYTES), width, at: 0 })
    }

    /// Appends to the buffer; false at the end.
    fn fill(&mut self) -> Result<bool> {
        let mut part = Read::take(&mut self.file, READ_BYTES as u64);
        let count = part.read_to_end(&mut self.buffer);
        Ok(count.map_err(|reason| StoreError::io("read", &self.path, reason))? > 0)
    }

    #[inline]
    fn next(&mut self) -> Result<u64> {
        // Eight bytes follow the last number.
        if self.at / 8 + 8 > self.buffer.len() {
            self.buffer.drain(..self.at / 8);
            self.at %= 8;
            self.fill()?;
        }
        let word = self.buffer.get(self.at / 8..).and_then(|rest| rest.first_chunk());
        let word = word.map_or(0, |word| u64::from_le_bytes(*word));
        let value = word >> (self.at % 8) & ((1 << self.width) - 1);
        self.at += self.width as usize;
        Ok(value)
    }
}
