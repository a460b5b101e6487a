//! Grams as text: tokens without white space in them, and the words of one context after the other.

use surprisal_model::ngram::MAX_ORDER;
use surprisal_text::{Tokenizer, TokenizerKind, Unit};

/// Byte strings by number, one behind the other.
pub(crate) struct Spellings {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Spellings {
    pub(crate) fn of(strings: impl Iterator<Item = Vec<u8>>) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        for string in strings {
            bytes.extend(string);
            ends.push(bytes.len());
        }
        Self { bytes, ends }
    }

    /// The tokens of `tokenizer`: words in line mode as they are, others escaped, the names of special ones kept.
    pub(crate) fn tokens(tokenizer: &Tokenizer) -> Self {
        let as_they_are = tokenizer.kind() == TokenizerKind::Word && tokenizer.unit() == Unit::Line;
        let specials = [tokenizer.unk(), tokenizer.bos(), tokenizer.eos()];
        Self::of((0..tokenizer.vocab_size() as u32).map(|id| {
            let spelling = tokenizer.spelling(id);
            if as_they_are || specials.contains(&Some(id)) { spelling } else { escape(&spelling) }
        }))
    }

    #[inline]
    pub(crate) fn get(&self, id: u32) -> &[u8] {
        &self.bytes[self.ends[id as usize]..self.ends[id as usize + 1]]
    }
}

/// The words and the continuations of every order: what a trie and counts have in common.
pub(crate) struct Shape<'a> {
    /// The last word of each gram; that of a single word is its number.
    pub(crate) words: Vec<&'a [u32]>,
    /// The continuations of gram i are `starts[i]..starts[i + 1]` of the next order.
    pub(crate) starts: Vec<&'a [u32]>,
    pub(crate) spellings: &'a Spellings,
}

/// The context of a gram: its node on every level above, and its words.
pub(crate) struct Context {
    /// How many words.
    len: usize,
    nodes: [usize; MAX_ORDER],
    /// Its words, each with a space after it.
    pub(crate) words: Vec<u8>,
    ends: [usize; MAX_ORDER],
}

impl Context {
    /// The context, of `len` words, of `gram`.
    pub(crate) fn of(shape: &Shape<'_>, len: usize, gram: usize) -> Self {
        let mut context = Self { len, nodes: [0; MAX_ORDER], words: Vec::new(), ends: [0; MAX_ORDER] };
        let mut node = gram;
        for len in (0..len).rev() {
            let starts = shape.starts[len];
            node = starts.partition_point(|&start| start as usize <= node) - 1;
            context.nodes[len] = node;
        }
        context.spell(shape, 0);
        context
    }

    /// Moves on to the context of `gram`, which is this one or one behind it.
    #[inline]
    pub(crate) fn advance(&mut self, shape: &Shape<'_>, gram: usize) {
        let (mut child, mut changed) = (gram, None);
        for len in (0..self.len).rev() {
            let starts = shape.starts[len];
            let before = self.nodes[len];
            while starts[self.nodes[len] + 1] as usize <= child {
                self.nodes[len] += 1;
            }
            if self.nodes[len] == before {
                break;
            }
            (child, changed) = (self.nodes[len], Some(len));
        }
        if let Some(from) = changed {
            self.spell(shape, from);
        }
    }

    /// Spells the words from number `from` on.
    fn spell(&mut self, shape: &Shape<'_>, from: usize) {
        self.words.truncate(if from == 0 { 0 } else { self.ends[from - 1] });
        for len in from..self.len {
            let node = self.nodes[len];
            let word = if len == 0 { node as u32 } else { shape.words[len][node] };
            self.words.extend_from_slice(shape.spellings.get(word));
            self.words.push(b' ');
            self.ends[len] = self.words.len();
        }
    }
}

/// A token without white space, control characters, and bytes that are no UTF-8.
fn escape(token: &[u8]) -> Vec<u8> {
    let mut escaped = String::new();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02X}")).collect::<String>();
    for chunk in token.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => escaped.push_str("\\\\"),
                c if c.is_whitespace() || c.is_control() => {
                    escaped.push_str(&hex(c.encode_utf8(&mut [0; 4]).as_bytes()));
                }
                c => escaped.push(c),
            }
        }
        escaped.push_str(&hex(chunk.invalid()));
    }
    escaped.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_can_be_undone() {
        for (token, escaped) in [
            (&b"a"[..], "a"),
            (b" ", "\\x20"),
            (b"\n", "\\x0A"),
            (b"\\x0A", "\\\\x0A"),
            (b"\xFF\xC3", "\\xFF\\xC3"),
            ("é\u{85}\u{3000}".as_bytes(), "é\\xC2\\x85\\xE3\\x80\\x80"),
        ] {
            assert_eq!(String::from_utf8(escape(token)).unwrap(), escaped);
        }
    }
}
