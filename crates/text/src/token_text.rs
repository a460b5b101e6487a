//! A text as token ids.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::TextMode;

/// The ids of a text: in memory, or of a mapped file.
#[derive(Clone)]
pub struct TokenIds(Storage);

#[derive(Clone)]
enum Storage {
    Memory(Vec<u32>),
    Mapped { ids: Arc<dyn AsRef<[u32]> + Send + Sync>, key: Arc<str> },
}

impl TokenIds {
    /// The ids that `ids` keeps, such as a mapped file. `key` is a hash of the text and the
    /// tokenizer, which stands for the ids where they are too many to be hashed.
    pub fn mapped(ids: Arc<dyn AsRef<[u32]> + Send + Sync>, key: &str) -> Self {
        Self(Storage::Mapped { ids, key: key.into() })
    }

    /// The hash that stands for ids that are not in memory.
    pub fn key(&self) -> Option<&str> {
        match &self.0 {
            Storage::Memory(_) => None,
            Storage::Mapped { key, .. } => Some(key),
        }
    }

    /// The ids in `range`, copied if they are in memory.
    fn part(&self, range: Range<usize>) -> Self {
        struct Part(Arc<dyn AsRef<[u32]> + Send + Sync>, Range<usize>);

        impl AsRef<[u32]> for Part {
            fn as_ref(&self) -> &[u32] {
                &(*self.0).as_ref()[self.1.clone()]
            }
        }

        match &self.0 {
            Storage::Memory(ids) => ids[range].to_vec().into(),
            Storage::Mapped { ids, key } => {
                let key = format!("{key}[{}..{}]", range.start, range.end);
                Self::mapped(Arc::new(Part(ids.clone(), range)), &key)
            }
        }
    }

    /// The ids in memory, copied if they are in a file.
    pub fn into_vec(self) -> Vec<u32> {
        match self.0 {
            Storage::Memory(ids) => ids,
            Storage::Mapped { ids, .. } => (*ids).as_ref().to_vec(),
        }
    }
}

impl Default for TokenIds {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl From<Vec<u32>> for TokenIds {
    fn from(ids: Vec<u32>) -> Self {
        Self(Storage::Memory(ids))
    }
}

impl Deref for TokenIds {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match &self.0 {
            Storage::Memory(ids) => ids,
            Storage::Mapped { ids, .. } => (**ids).as_ref(),
        }
    }
}

impl fmt::Debug for TokenIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Eq for TokenIds {}

impl PartialEq for TokenIds {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: AsRef<[u32]>> PartialEq<T> for TokenIds {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

/// The tokens of a text, with the counts for evaluation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenText {
    /// The ids; in line mode with `<s>` and `</s>` around every line.
    pub ids: TokenIds,
    /// The bytes of the text, without sentence marks in it.
    pub bytes: u64,
    /// The way it was read.
    pub mode: TextMode,
    /// The number of `<unk>` tokens.
    pub oov: u64,
    /// The reason why the tokens do not determine the text, if they do not: then its bits per byte
    /// are not known. Only tokenizers of files are checked.
    pub lossy: Option<String>,
    /// The words or characters that `<unk>` stands for, and their numbers; `None` where there are
    /// none, or they were not recorded: of training texts, and of tokens that are neither.
    pub unknown: Option<Arc<BTreeMap<String, u64>>>,
    /// `<s>` in line mode.
    pub(crate) bos: Option<u32>,
    /// The number of `<s>` tokens.
    pub(crate) lines: u64,
}

/// Counts of a text's tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    /// The number of ids.
    pub tokens: u64,
    /// The bytes of the text, without sentence marks in it.
    pub bytes: u64,
    /// The number of `<unk>` tokens.
    pub oov: u64,
    /// The number of `<s>` tokens.
    pub lines: u64,
}

impl TokenText {
    /// The text of `ids` that were encoded with a tokenizer that has the mark `bos` (or none), with
    /// these counts.
    pub fn from_parts(ids: TokenIds, mode: TextMode, bos: Option<u32>, counts: TokenCounts) -> Self {
        let TokenCounts { bytes, oov, lines, .. } = counts;
        // Bytes of tokens that are not in memory are not judged by.
        Self { ids, bytes, mode, oov, lossy: None, unknown: None, bos, lines }
    }

    /// The text in two: without about a `share` of it, and that share, in small blocks from
    /// everywhere. Lines stay whole, and of a text that is not in memory the end is taken, so that
    /// it is not copied. The bytes of the two are not known.
    pub fn hold_out(&self, share: f64, unk: Option<u32>) -> (Self, Self) {
        /// The most blocks, and the fewest tokens of one: each begins in the context of another
        /// text.
        const BLOCKS: usize = 32;
        const BLOCK: usize = 1024;
        let len = self.ids.len();
        let next_line = |at: usize| {
            let at = at.min(len);
            let next = |bos| self.ids[at..].iter().position(|&id| id == bos);
            self.bos.map_or(at, |bos| next(bos).map_or(len, |lines| at + lines))
        };
        let held = (len as f64 * share).ceil() as usize;
        if self.ids.key().is_some() {
            let at = next_line(len - held.min(len));
            return (self.part(self.ids.part(0..at), unk), self.part(self.ids.part(at..len), unk));
        }
        let blocks = (held / BLOCK).clamp(1, BLOCKS);
        let (mut rest, mut out) = (Vec::with_capacity(len - held.min(len)), Vec::with_capacity(held));
        let mut end = 0;
        for block in 0..blocks {
            // In the middle of its part of the text.
            let first = (len * (2 * block + 1) / blocks).saturating_sub(held / blocks) / 2;
            let start = next_line(first).max(end);
            rest.extend_from_slice(&self.ids[end..start]);
            end = next_line(first + held * (block + 1) / blocks - held * block / blocks).max(start);
            out.extend_from_slice(&self.ids[start..end]);
        }
        rest.extend_from_slice(&self.ids[end..]);
        (self.part(rest.into(), unk), self.part(out.into(), unk))
    }

    fn part(&self, ids: TokenIds, unk: Option<u32>) -> Self {
        let count = |of: Option<u32>| ids.iter().filter(|&&id| Some(id) == of).count() as u64;
        let (oov, lines) = (count(unk), count(self.bos));
        let counts = TokenCounts { tokens: ids.len() as u64, bytes: 0, oov, lines };
        let lossy = Some("it is a part of a text".to_owned());
        Self { lossy, ..Self::from_parts(ids, self.mode, self.bos, counts) }
    }

    /// The independent sequences: the whole text, or its lines from `<s>` to `</s>`.
    pub fn sequences(&self) -> impl Iterator<Item = &[u32]> {
        self.sequences_in(0..self.ids.len())
    }

    /// The sequences that start in `range`. Only the ids of these sequences are read.
    pub fn sequences_in(&self, range: Range<usize>) -> impl Iterator<Item = &[u32]> {
        let next = |from: usize, end: usize| {
            let among = self.ids.get(from..end).unwrap_or_default();
            let found = self.bos.and_then(|bos| among.iter().position(|&id| id == bos));
            found.map_or(end, |at| from + at)
        };
        let end = range.end.min(self.ids.len());
        let mut at = if range.start == 0 { 0 } else { next(range.start, end) };
        std::iter::from_fn(move || {
            let start = at;
            (start < end).then(|| {
                at = next(start + 1, self.ids.len());
                &self.ids[start..at]
            })
        })
    }

    /// `<s>`, in line mode.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The number of tokens that an evaluation scores: all but `<s>`, which is only context.
    pub fn scored(&self) -> u64 {
        self.ids.len() as u64 - self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_sequences() {
        let text = TokenText {
            ids: vec![1, 5, 6, 2, 1, 2, 1, 7, 2].into(),
            mode: TextMode::Line,
            bos: Some(1),
            lines: 3,
            ..TokenText::default()
        };
        let sequences: Vec<&[u32]> = text.sequences().collect();
        assert_eq!(sequences, [&[1, 5, 6, 2][..], &[1, 2], &[1, 7, 2]]);
        assert_eq!(text.scored(), 6);
        for share in 1..11 {
            let parts = (0..9).step_by(share).flat_map(|start| text.sequences_in(start..start + share));
            assert_eq!(parts.collect::<Vec<_>>(), sequences, "{share}");
        }
        let stream = TokenText { ids: vec![4, 1, 4].into(), ..TokenText::default() };
        assert_eq!(stream.sequences().collect::<Vec<_>>(), [&[4, 1, 4][..]]);
        assert_eq!(stream.sequences_in(1..3).count(), 0);
        assert_eq!(TokenText::default().sequences().count(), 0);
    }

    fn text(ids: Vec<u32>, bos: Option<u32>) -> TokenText {
        let mode = if bos.is_some() { TextMode::Line } else { TextMode::Stream };
        TokenText::from_parts(ids.into(), mode, bos, TokenCounts::default())
    }

    #[test]
    fn what_is_held_out_is_gone_from_the_rest_and_both_keep_their_order() {
        for (len, share) in [(1000, 0.1), (31, 0.5), (5, 0.2), (0, 0.1), (100_000, 0.02)] {
            let (rest, out) = text((0..len).collect(), None).hold_out(share, Some(7));
            assert_eq!(out.ids.len(), (f64::from(len) * share).ceil() as usize, "{len}");
            let mut all = [&rest.ids[..], &out.ids].concat();
            assert!(rest.ids.is_sorted() && out.ids.is_sorted());
            all.sort_unstable();
            assert_eq!(all, (0..len).collect::<Vec<_>>());
            assert_eq!(rest.oov + out.oov, u64::from(len > 7));
        }
    }

    #[test]
    fn lines_are_held_out_whole() {
        let ids: Vec<u32> = (0..500_u32).flat_map(|line| [0, 2 + line, 3 + line % 5, 1]).collect();
        let whole = text(ids, Some(0));
        let (rest, out) = whole.hold_out(0.1, None);
        let lines = |of: &TokenText| of.sequences().map(<[u32]>::to_vec).collect::<Vec<_>>();
        let mut all = [lines(&rest), lines(&out)].concat();
        assert!((40..=60).contains(&out.lines), "{}", out.lines);
        all.sort_unstable_by_key(|line| line[1]);
        assert_eq!(all, lines(&whole));
    }

    #[test]
    fn of_a_text_in_a_file_the_end_is_held_out() {
        let ids: Vec<u32> = (0..100).collect();
        let mapped = TokenIds::mapped(Arc::new(ids), "key");
        let whole = TokenText::from_parts(mapped, TextMode::Stream, None, TokenCounts::default());
        let (rest, out) = whole.hold_out(0.05, None);
        assert_eq!((rest.ids.len(), &out.ids[..]), (95, &[95, 96, 97, 98, 99][..]));
        assert!(rest.ids.key() != out.ids.key() && rest.ids.key() != whole.ids.key());
    }
}
