//! Fast output of n-grams as text, with tokens escaped so that they contain no white space.
//!
//! Writing counts and models is mostly copying short strings, hundreds of millions of times. A
//! short string is therefore stored in a 32-byte slot and copied as 32 bytes, whatever its length.

use std::borrow::Cow;

use rayon::prelude::*;
use surprisal_model::ngram::MAX_ORDER;
use surprisal_platform::prefetch::prefetch;
use surprisal_text::{TextMode, Tokenizer, TokenizerKind};

/// A text buffer with spare space behind the text, because copies of a fixed size write beyond it.
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

    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The spare space behind the text, at least `needed` bytes.
    #[inline]
    fn spare(&mut self, needed: usize) -> &mut [u8] {
        if self.bytes.len() - self.len < needed {
            self.grow(needed);
        }
        &mut self.bytes[self.len..]
    }

    #[cold]
    fn grow(&mut self, needed: usize) {
        self.bytes.resize(2 * self.bytes.len() + needed, 0);
    }

    #[inline]
    pub(crate) fn push(&mut self, byte: u8) {
        self.spare(1)[0] = byte;
        self.len += 1;
    }

    #[inline]
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        let len = bytes.len();
        let spare = &mut self.spare(len)[..len];
        // For most numbers and words: two overlapping copies.
        if !(len <= 16 && copy_ends::<8>(bytes, spare) || len <= 32 && copy_ends::<16>(bytes, spare)) {
            spare.copy_from_slice(bytes);
        }
        self.len += len;
    }

    /// Replaces the last byte.
    #[inline]
    pub(crate) fn end_in(&mut self, byte: u8) {
        self.bytes[self.len - 1] = byte;
    }
}

/// Copies the first and the last `N` bytes; false if there are fewer than `N`.
#[inline]
fn copy_ends<const N: usize>(from: &[u8], to: &mut [u8]) -> bool {
    let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) else { return false };
    to[..N].copy_from_slice(first);
    to[from.len() - N..].copy_from_slice(last);
    true
}

/// A string and a space, or the offset of a long string in [`StringTable::long`]. The last byte is
/// the length with the space, or [`LONG`].
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(32))]
struct StringSlot([u8; SLOT]);

/// Half a cache line. Slots of 16 bytes copy less, but most distinct words of C sources are longer
/// (with this size one in seven is), and an unpredictable branch costs more than the copy.
const SLOT: usize = 32;

const LONG: u8 = u8::MAX;

impl StringSlot {
    fn new(string: &[u8]) -> Self {
        let mut slot = Self::default();
        match slot.0[..SLOT - 1].get_mut(..=string.len()) {
            Some(bytes) => {
                bytes[..string.len()].copy_from_slice(string);
                bytes[string.len()] = b' ';
                slot.0[SLOT - 1] = string.len() as u8 + 1;
            }
            None => slot.0[SLOT - 1] = LONG,
        }
        slot
    }

    /// The slot of a long string at offset `at`.
    fn long_at(at: usize) -> Self {
        let mut slot = Self::default();
        slot.0[..8].copy_from_slice(&(at as u64).to_le_bytes());
        slot.0[SLOT - 1] = LONG;
        slot
    }

    fn is_long(&self) -> bool {
        self.0[SLOT - 1] == LONG
    }

    /// The offset of a long string.
    #[inline]
    fn offset(&self) -> usize {
        self.0.first_chunk().map_or(0, |place| u64::from_le_bytes(*place) as usize)
    }
}

/// A table of byte strings by id, each followed by a space.
pub(crate) struct StringTable {
    short: Vec<StringSlot>,
    /// The long strings, each preceded by its length.
    long: Vec<u8>,
}

impl StringTable {
    pub(crate) fn new<T: AsRef<[u8]>>(len: usize, string: impl Fn(u32) -> T + Sync) -> Self {
        let short = |id| StringSlot::new(string(id).as_ref());
        let mut short: Vec<StringSlot> = (0..len as u32).into_par_iter().map(short).collect();
        let mut long = Vec::new();
        for (id, slot) in short.iter_mut().enumerate().filter(|(_, slot)| slot.is_long()) {
            let string = string(id as u32);
            let string = string.as_ref();
            *slot = StringSlot::long_at(long.len());
            long.extend((string.len() as u64 + 1).to_le_bytes());
            long.extend(string);
            long.push(b' ');
        }
        Self { short, long }
    }

    /// The memory in bytes of a token of the usual length.
    pub(crate) const BYTES_PER_TOKEN: usize = SLOT + SLOT / 8;

    /// The tokens of `tokenizer` below `len`, spelled by [`spell`].
    pub(crate) fn first_of(tokenizer: &Tokenizer, len: usize) -> Self {
        Self::new(len.min(tokenizer.vocab_size()), |id| spell(tokenizer, id))
    }

    /// The number of strings.
    pub(crate) fn len(&self) -> usize {
        self.short.len()
    }

    /// The tokens of `tokenizer`, spelled by [`spell`].
    pub(crate) fn from_tokenizer(tokenizer: &Tokenizer) -> Self {
        Self::new(tokenizer.vocab_size(), |id| spell(tokenizer, id))
    }

    /// Appends string `id` and a space.
    #[inline]
    pub(crate) fn put(&self, id: u32, text: &mut TextBuffer) {
        self.put_slot(&self.short[id as usize], text);
    }

    #[inline]
    fn put_slot(&self, slot: &StringSlot, text: &mut TextBuffer) {
        if slot.is_long() {
            self.put_long(slot, text);
            return;
        }
        // Copies the whole slot; the text then continues after the string.
        text.spare(SLOT)[..SLOT].copy_from_slice(&slot.0);
        text.len += usize::from(slot.0[SLOT - 1]);
    }

    fn put_long(&self, slot: &StringSlot, text: &mut TextBuffer) {
        let rest = &self.long[slot.offset()..];
        let len = rest.first_chunk().map_or(0, |len| u64::from_le_bytes(*len) as usize);
        text.extend(&rest[8..8 + len]);
    }

    /// Prefetches the slot of string `id`.
    #[inline]
    pub(crate) fn prefetch(&self, id: u32) {
        prefetch(&self.short, id as usize);
    }

    /// Prefetches string `id` if it is a long one.
    #[inline]
    pub(crate) fn prefetch_long(&self, id: u32) {
        let slot = &self.short[id as usize];
        if slot.is_long() {
            prefetch(&self.long, slot.offset());
        }
    }
}

/// The n-gram tree that a trie and counts have in common.
pub(crate) struct NgramTree<'a> {
    /// The last word of each n-gram, by order; empty for order 1, where the word is the index.
    pub(crate) words: Vec<&'a [u32]>,
    /// The continuations of n-gram i are `offsets[i]..offsets[i + 1]` of the next order.
    pub(crate) child_offsets: Vec<&'a [u32]>,
    pub(crate) strings: &'a StringTable,
}

/// Prefetch distance in n-grams: long strings this far ahead, slots twice as far.
const PREFETCH_DISTANCE: usize = 12;

impl NgramTree<'_> {
    /// The last word of an n-gram with `len` + 1 words; prefetches words of later n-grams.
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

/// The context of an n-gram: its node at every lower order, and its words.
pub(crate) struct Context {
    /// The number of words.
    len: usize,
    nodes: [usize; MAX_ORDER],
    words: [StringSlot; MAX_ORDER],
}

impl Context {
    /// The context, with `len` words, of n-gram `gram`.
    pub(crate) fn new(tree: &NgramTree<'_>, len: usize, gram: usize) -> Self {
        let (nodes, words) = ([0; MAX_ORDER], [StringSlot::default(); MAX_ORDER]);
        let mut context = Self { len, nodes, words };
        let mut node = gram;
        for len in (0..len).rev() {
            let offsets = tree.child_offsets[len];
            node = offsets.partition_point(|&start| start as usize <= node) - 1;
            context.nodes[len] = node;
        }
        context.spell(tree, 0);
        context
    }

    /// The index of this context among those of its length; 0 for the empty one.
    #[inline]
    pub(crate) fn node(&self) -> usize {
        self.len.checked_sub(1).map_or(0, |last| self.nodes[last])
    }

    /// Moves to the context of `gram`, which is this or a later one.
    #[inline]
    pub(crate) fn advance(&mut self, tree: &NgramTree<'_>, gram: usize) {
        let (mut child, mut changed) = (gram, None);
        for len in (0..self.len).rev() {
            let offsets = tree.child_offsets[len];
            let before = self.nodes[len];
            while offsets[self.nodes[len] + 1] as usize <= child {
                self.nodes[len] += 1;
            }
            if self.nodes[len] == before {
                break;
            }
            (child, changed) = (self.nodes[len], Some(len));
        }
        if let Some(from) = changed {
            self.spell(tree, from);
        }
    }

    /// Looks up the words from index `from` on.
    #[inline]
    fn spell(&mut self, tree: &NgramTree<'_>, from: usize) {
        for len in from..self.len {
            self.words[len] = tree.strings.short[tree.word(len, self.nodes[len]) as usize];
        }
    }

    /// Appends the words of `gram`, which has this context, with a space after each.
    #[inline]
    pub(crate) fn put(&self, tree: &NgramTree<'_>, gram: usize, text: &mut TextBuffer) {
        for slot in &self.words[..self.len] {
            tree.strings.put_slot(slot, text);
        }
        tree.strings.put(tree.word(self.len, gram), text);
    }
}

/// The spelling of token `id` in text files: words in line mode plain, special tokens as `<unk>`,
/// `<s>` and `</s>`, the names of others escaped.
pub(crate) fn spell(tokenizer: &Tokenizer, id: u32) -> Cow<'_, [u8]> {
    if Some(id) == tokenizer.unk() {
        return b"<unk>".into();
    }
    let plain = tokenizer.kind() == TokenizerKind::Word && tokenizer.mode() == TextMode::Line;
    if plain || [tokenizer.bos(), tokenizer.eos()].contains(&Some(id)) {
        return tokenizer.token_bytes(id);
    }
    let name = tokenizer.codec().token_name(id);
    if name.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'<')) {
        return name;
    }
    let escaped = escape(&name);
    match escaped.strip_prefix(b"<") {
        Some(rest) if matches!(rest, b"unk>" | b"s>" | b"/s>") => [b"\\x3C", rest].concat().into(),
        _ => escaped.into(),
    }
}

/// Escapes white space, control characters, backslashes and bytes that are not UTF-8.
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

/// The inverse of [`escape`]; `None` if `escaped` is not valid.
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
            // An empty part between two backslashes.
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
        let table = StringTable::new(strings.len(), |id| &strings[id as usize]);
        let (mut text, mut expected) = (TextBuffer::default(), Vec::new());
        for i in (0..40).chain([30, 31, 29, 32, 0, 39]) {
            table.put(i, &mut text);
            text.end_in(b'|');
            text.extend(&strings[i as usize]);
            text.push(b'\n');
            let string = &strings[i as usize];
            expected.extend([string, &b"|"[..], string, b"\n"].concat());
        }
        assert!(text.as_bytes() == expected, "{}", String::from_utf8_lossy(text.as_bytes()));
        text.clear();
        table.put(3, &mut text);
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
