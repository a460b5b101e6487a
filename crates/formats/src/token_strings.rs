//! Grams as text: tokens without white space in them, and the words of one context after the other.
//!
//! Files of counts and models are mostly words: writing one is looking up and copying strings of a few bytes, hundreds of
//! millions of times. So a short string is found in one place and copied as 32 bytes, whatever its length.

use std::borrow::Cow;

use rayon::prelude::*;
use surprisal_model::ngram::MAX_ORDER;
use surprisal_platform::prefetch::prefetch;
use surprisal_text::{TextMode, Tokenizer, TokenizerKind};

/// Text with room behind it, where what is copied in pieces of a fixed size may leave something.
#[derive(Debug, Default)]
pub(crate) struct TextBuffer {
    bytes: Vec<u8>,
    len: usize,
}

impl TextBuffer {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// The bytes behind the text, `wanted` or more.
    #[inline]
    fn room(&mut self, wanted: usize) -> &mut [u8] {
        if self.bytes.len() - self.len < wanted {
            self.grow(wanted);
        }
        &mut self.bytes[self.len..]
    }

    #[cold]
    fn grow(&mut self, wanted: usize) {
        self.bytes.resize(2 * self.bytes.len() + wanted, 0);
    }

    #[inline]
    pub(crate) fn push(&mut self, byte: u8) {
        self.room(1)[0] = byte;
        self.len += 1;
    }

    #[inline]
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        let len = bytes.len();
        let room = &mut self.room(len)[..len];
        // Most numbers and most words: two copies that overlap.
        if !(len <= 16 && copy_ends::<8>(bytes, room) || len <= 32 && copy_ends::<16>(bytes, room)) {
            room.copy_from_slice(bytes);
        }
        self.len += len;
    }

    /// What ended in one byte ends in another.
    #[inline]
    pub(crate) fn end_in(&mut self, byte: u8) {
        self.bytes[self.len - 1] = byte;
    }
}

/// Copies the first and the last `N` bytes, if there are as many.
#[inline]
fn copy_ends<const N: usize>(from: &[u8], to: &mut [u8]) -> bool {
    let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) else { return false };
    to[..N].copy_from_slice(first);
    to[from.len() - N..].copy_from_slice(last);
    true
}

/// A string and a space behind it, if there is room; otherwise where among long ones they stand. The last byte is how many
/// bytes there are, or [`LONG`].
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(32))]
struct StringSlot([u8; SLOT]);

/// Two to a cache line. Slots of 16 bytes copy less, but of the different words of C sources most are longer (in slots of this
/// size, one in seven), and a branch that nobody can foresee costs more than copying.
const SLOT: usize = 32;

const LONG: u8 = u8::MAX;

impl StringSlot {
    fn new(string: &[u8]) -> Self {
        let mut spelling = Self::default();
        match spelling.0[..SLOT - 1].get_mut(..=string.len()) {
            Some(bytes) => {
                bytes[..string.len()].copy_from_slice(string);
                bytes[string.len()] = b' ';
                spelling.0[SLOT - 1] = string.len() as u8 + 1;
            }
            None => spelling.0[SLOT - 1] = LONG,
        }
        spelling
    }

    /// Of a long string that stands at place `at`.
    fn long_at(at: usize) -> Self {
        let mut spelling = Self::default();
        spelling.0[..8].copy_from_slice(&(at as u64).to_le_bytes());
        spelling.0[SLOT - 1] = LONG;
        spelling
    }

    fn is_long(&self) -> bool {
        self.0[SLOT - 1] == LONG
    }

    /// Where a long string stands.
    #[inline]
    fn offset(&self) -> usize {
        self.0.first_chunk().map_or(0, |place| u64::from_le_bytes(*place) as usize)
    }
}

/// Byte strings by number, each with a space behind it.
pub(crate) struct StringTable {
    short: Vec<StringSlot>,
    /// Those that are long, one behind the other, each with its length before it.
    long: Vec<u8>,
}

impl StringTable {
    pub(crate) fn new<T: AsRef<[u8]>>(len: usize, string: impl Fn(u32) -> T + Sync) -> Self {
        let short = |id| StringSlot::new(string(id).as_ref());
        let mut short: Vec<StringSlot> = (0..len as u32).into_par_iter().map(short).collect();
        let mut long = Vec::new();
        for (id, spelling) in short.iter_mut().enumerate().filter(|(_, spelling)| spelling.is_long()) {
            let string = string(id as u32);
            let string = string.as_ref();
            *spelling = StringSlot::long_at(long.len());
            long.extend((string.len() as u64 + 1).to_le_bytes());
            long.extend(string);
            long.push(b' ');
        }
        Self { short, long }
    }

    /// The tokens of `tokenizer`; see [`spell`].
    pub(crate) fn from_tokenizer(tokenizer: &Tokenizer) -> Self {
        Self::new(tokenizer.vocab_size(), |id| spell(tokenizer, id))
    }

    /// Appends string `id` and a space.
    #[inline]
    pub(crate) fn put(&self, id: u32, text: &mut TextBuffer) {
        self.put_slot(&self.short[id as usize], text);
    }

    #[inline]
    fn put_slot(&self, spelling: &StringSlot, text: &mut TextBuffer) {
        if spelling.is_long() {
            self.put_long(spelling, text);
            return;
        }
        // All of it, whatever its last byte says: the text goes on behind the string.
        text.room(SLOT)[..SLOT].copy_from_slice(&spelling.0);
        text.len += usize::from(spelling.0[SLOT - 1]);
    }

    fn put_long(&self, spelling: &StringSlot, text: &mut TextBuffer) {
        let rest = &self.long[spelling.offset()..];
        let len = rest.first_chunk().map_or(0, |len| u64::from_le_bytes(*len) as usize);
        text.extend(&rest[8..8 + len]);
    }

    /// Asks for where string `id` stands, which is looked at soon.
    #[inline]
    fn prefetch(&self, id: u32) {
        prefetch(&self.short, id as usize);
    }

    /// Asks for string `id` itself, if it stands elsewhere.
    #[inline]
    fn prefetch_long(&self, id: u32) {
        let spelling = &self.short[id as usize];
        if spelling.is_long() {
            prefetch(&self.long, spelling.offset());
        }
    }
}

/// The words and the continuations of every order: what a trie and counts have in common.
pub(crate) struct NgramTree<'a> {
    /// The last word of each gram; that of a single word is its number.
    pub(crate) words: Vec<&'a [u32]>,
    /// The continuations of gram i are `starts[i]..starts[i + 1]` of the next order.
    pub(crate) child_offsets: Vec<&'a [u32]>,
    pub(crate) strings: &'a StringTable,
}

/// How many grams ahead it is asked for a word, and twice as many for where it stands.
const PREFETCH_DISTANCE: usize = 12;

impl NgramTree<'_> {
    /// The last word of a gram of `len` + 1 words; asks for those of grams behind it.
    #[inline]
    fn word(&self, len: usize, gram: usize) -> u32 {
        match self.words[len] {
            [] => gram as u32,
            words => {
                if let Some(&word) = words.get(gram + 2 * PREFETCH_DISTANCE) {
                    self.strings.prefetch(word);
                    self.strings.prefetch_long(words[gram + PREFETCH_DISTANCE]);
                }
                words[gram]
            }
        }
    }
}

/// The context of a gram: its node on every level above, and its words.
pub(crate) struct Context {
    /// How many words.
    len: usize,
    nodes: [usize; MAX_ORDER],
    words: [StringSlot; MAX_ORDER],
}

impl Context {
    /// The context, of `len` words, of `gram`.
    pub(crate) fn new(shape: &NgramTree<'_>, len: usize, gram: usize) -> Self {
        let (nodes, words) = ([0; MAX_ORDER], [StringSlot::default(); MAX_ORDER]);
        let mut context = Self { len, nodes, words };
        let mut node = gram;
        for len in (0..len).rev() {
            let starts = shape.child_offsets[len];
            node = starts.partition_point(|&start| start as usize <= node) - 1;
            context.nodes[len] = node;
        }
        context.spell(shape, 0);
        context
    }

    /// The number of this context among those of its length; 0 for the empty one.
    #[inline]
    pub(crate) fn node(&self) -> usize {
        self.len.checked_sub(1).map_or(0, |last| self.nodes[last])
    }

    /// Moves on to the context of `gram`, which is this one or one behind it.
    #[inline]
    pub(crate) fn advance(&mut self, shape: &NgramTree<'_>, gram: usize) {
        let (mut child, mut changed) = (gram, None);
        for len in (0..self.len).rev() {
            let starts = shape.child_offsets[len];
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

    /// Looks up the words from number `from` on.
    #[inline]
    fn spell(&mut self, shape: &NgramTree<'_>, from: usize) {
        for len in from..self.len {
            self.words[len] = shape.strings.short[shape.word(len, self.nodes[len]) as usize];
        }
    }

    /// Appends the words of `gram`, whose context this is, and a space after each.
    #[inline]
    pub(crate) fn put(&self, shape: &NgramTree<'_>, gram: usize, text: &mut TextBuffer) {
        for spelling in &self.words[..self.len] {
            shape.strings.put_slot(spelling, text);
        }
        shape.strings.put(shape.word(self.len, gram), text);
    }
}

/// Token `id` of `tokenizer`: words in line mode as they are, others escaped, the names of special ones kept.
pub(crate) fn spell(tokenizer: &Tokenizer, id: u32) -> Cow<'_, [u8]> {
    let as_they_are = tokenizer.kind() == TokenizerKind::Word && tokenizer.mode() == TextMode::Line;
    let specials = [tokenizer.unk(), tokenizer.bos(), tokenizer.eos()];
    let spelling = tokenizer.token_bytes(id);
    if as_they_are || specials.contains(&Some(id)) { spelling } else { escape(&spelling).into() }
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

/// The token that [`escape`] made `escaped` of; `None` if it is of none.
pub(crate) fn unescape(escaped: &str) -> Option<Vec<u8>> {
    let mut token = Vec::with_capacity(escaped.len());
    let mut parts = escaped.split('\\');
    token.extend(parts.next()?.bytes());
    while let Some(part) = parts.next() {
        let rest = match part.strip_prefix('x') {
            Some(hex) => {
                token.push(u8::from_str_radix(hex.get(..2)?, 16).ok()?);
                &hex[2..]
            }
            // Two backslashes have nothing between them.
            None if part.is_empty() => {
                token.push(b'\\');
                parts.next()?
            }
            None => return None,
        };
        token.extend(rest.bytes());
    }
    Some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_any_length_are_put_down_as_they_are() {
        let strings: Vec<Vec<u8>> = (0..40).map(|len| (0..len).map(|i| b'a' + i).collect()).collect();
        let spellings = StringTable::new(strings.len(), |id| &strings[id as usize]);
        let (mut text, mut expected) = (TextBuffer::default(), Vec::new());
        for i in (0..40).chain([30, 31, 29, 32, 0, 39]) {
            spellings.put(i, &mut text);
            text.end_in(b'|');
            text.extend(&strings[i as usize]);
            text.push(b'\n');
            let string = &strings[i as usize];
            expected.extend([string, &b"|"[..], string, b"\n"].concat());
        }
        assert!(text.as_bytes() == expected, "{}", String::from_utf8_lossy(text.as_bytes()));
        text.clear();
        spellings.put(3, &mut text);
        assert_eq!(text.as_bytes(), b"abc ");
    }

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
            assert_eq!(unescape(escaped).unwrap(), token);
        }
        assert_eq!(unescape(r"\\\x0Aa\\x\\\\").unwrap(), b"\\\na\\x\\\\");
        for wrong in [r"\", r"a\n", r"\x2", r"\\\", "\\xé"] {
            assert_eq!(unescape(wrong), None, "{wrong}");
        }
    }
}
