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

    /// The text before token `at` and the rest, where lines stay whole: the rest begins with the
    /// first line that starts there or later. The bytes of the two are not known.
    pub fn split_at(&self, at: usize, unk: Option<u32>) -> (Self, Self) {
        let at = at.min(self.ids.len());
        let next = |bos| self.ids[at..].iter().position(|&id| id == bos);
        let at = self.bos.map_or(at, |bos| next(bos).map_or(self.ids.len(), |lines| at + lines));
        let part = |range: Range<usize>| {
            let ids = self.ids.part(range);
            let count = |of: Option<u32>| ids.iter().filter(|&&id| Some(id) == of).count() as u64;
            let (oov, lines) = (count(unk), count(self.bos));
            let counts = TokenCounts { tokens: ids.len() as u64, bytes: 0, oov, lines };
            let lossy = Some("it is a part of a text".to_owned());
            Self { lossy, ..Self::from_parts(ids, self.mode, self.bos, counts) }
        };
        (part(0..at), part(at..self.ids.len()))
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
}
