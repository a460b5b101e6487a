//! A text as token ids.

use crate::Unit;

/// The tokens of a text, and what is needed to report on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenText {
    /// The ids. In line mode `<s>` and `</s>` stand around every line.
    pub ids: Vec<u32>,
    /// Bytes of the text as it was read.
    pub bytes: u64,
    /// How it was read.
    pub unit: Unit,
    /// Tokens that the vocabulary lacks.
    pub oov: u64,
    /// `<s>` in line mode.
    pub(crate) bos: Option<u32>,
    /// How many `<s>` there are.
    pub(crate) lines: u64,
}

impl TokenText {
    /// The independent sequences: the whole text, or its lines from `<s>` to `</s>`.
    pub fn sequences(&self) -> impl Iterator<Item = &[u32]> {
        let mut rest = self.ids.as_slice();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let end = match self.bos {
                Some(bos) => rest[1..].iter().position(|&id| id == bos).map_or(rest.len(), |at| at + 1),
                None => rest.len(),
            };
            let (sequence, after) = rest.split_at(end);
            rest = after;
            Some(sequence)
        })
    }

    /// `<s>`, where lines are sentences.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// How many tokens an evaluation scores: all but the `<s>`, which are context only.
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
            unit: Unit::Line,
            bos: Some(1),
            lines: 3,
            ..TokenText::default()
        };
        let sequences: Vec<&[u32]> = text.sequences().collect();
        assert_eq!(sequences, [&[1, 5, 6, 2][..], &[1, 2], &[1, 7, 2]]);
        assert_eq!(text.scored(), 6);
        let stream = TokenText { ids: vec![4, 1, 4], ..TokenText::default() };
        assert_eq!(stream.sequences().collect::<Vec<_>>(), [&[4, 1, 4][..]]);
        assert_eq!(TokenText::default().sequences().count(), 0);
    }
}
