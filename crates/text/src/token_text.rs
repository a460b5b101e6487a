//! A text as token ids.

use std::ops::Range;

use crate::TextMode;

/// The tokens of a text, with the counts for evaluation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenText {
    /// The ids; in line mode with `<s>` and `</s>` around every line.
    pub ids: Vec<u32>,
    /// The bytes of the text, without sentence marks in it.
    pub bytes: u64,
    /// The way it was read.
    pub mode: TextMode,
    /// The number of `<unk>` tokens.
    pub oov: u64,
    /// `<s>` in line mode.
    pub(crate) bos: Option<u32>,
    /// The number of `<s>` tokens.
    pub(crate) lines: u64,
}

impl TokenText {
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
            ids: vec![1, 5, 6, 2, 1, 2, 1, 7, 2],
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
        let stream = TokenText { ids: vec![4, 1, 4], ..TokenText::default() };
        assert_eq!(stream.sequences().collect::<Vec<_>>(), [&[4, 1, 4][..]]);
        assert_eq!(stream.sequences_in(1..3).count(), 0);
        assert_eq!(TokenText::default().sequences().count(), 0);
    }
}
