//! Texts to token ids, on several threads: pieces are encoded as they come and put together in their order.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::pieces::{Piece, Pieces, Span};
use crate::tokenizer::{
    Codec, Key, MAX_VOCABULARY, Met, PAD, Part, Slots, Table, look_up, merge, scan, separates, specials,
    train_bpe, train_chars,
};
use crate::workers::{Seen, each_piece};
use crate::{LastLine, LiteralSpecials, Reading, TokenText, Tokenizer, TokenizerKind, Unit};

/// The ids of a piece, and what has to be summed up over pieces.
#[derive(Debug, Default)]
struct Encoded {
    index: usize,
    ids: Vec<u32>,
    lines: u64,
    oov: u64,
    /// Words spelled like special tokens, but for the next.
    specials: u64,
    /// `<s>` at the beginning and `</s>` at the end of lines that are sentences.
    marks: u64,
    /// What they take, which is nothing of the sentences.
    mark_bytes: u64,
    /// Lines with such marks where tokens are no words.
    written: u64,
}

/// Learns the vocabulary of `spans`, the training text.
///
/// # Errors
/// Text that is not UTF-8 (except for bytes), a vocabulary that is too large, a failure to read.
pub(crate) fn train(kind: TokenizerKind, unit: Unit, spans: &[Span], reading: Reading) -> Result<Tokenizer> {
    let codec = match kind {
        TokenizerKind::Byte => Codec::Byte,
        TokenizerKind::Char => Codec::Char(train_chars(unit, spans, reading.threads)?),
        TokenizerKind::Word => return Ok(learn_words(spans, unit, reading)?.0),
        TokenizerKind::Bpe { vocab_size } => {
            Codec::Bpe(Box::new(train_bpe(vocab_size, unit, Pieces::new(spans))?))
        }
    };
    Ok(Tokenizer { codec, unit })
}

/// The tokens of `spans` under a vocabulary that is there already.
pub(crate) fn encode(spans: &[Span], tokenizer: &Tokenizer, reading: Reading) -> Result<(TokenText, Seen)> {
    if let Codec::Word(table) = &tokenizer.codec
        && !table.is_indexed()
        && is_short(spans, table)
    {
        return encode_once(spans, table, tokenizer, reading);
    }
    let (encoded, mut seen) = each_piece(
        spans,
        reading.threads,
        || Ok(Vec::new()),
        |encoded: &mut Vec<Encoded>, piece| {
            encoded.push(match &tokenizer.codec {
                Codec::Word(table) => {
                    cut_words(piece, tokenizer.unit, reading, encoded.last(), Known(table))?
                }
                _ => other_tokens(piece, tokenizer, reading)?,
            });
            Ok(())
        },
    )?;
    let text = put_together(encoded, &[], tokenizer, spans, &mut seen, Vec::new());
    Ok((text, seen.cut_anywhere(matches!(tokenizer.codec, Codec::Byte | Codec::Char(_)))))
}

/// Whether `spans` have so few words that an index of all of the vocabulary's would hardly be used.
fn is_short(spans: &[Span], table: &Table) -> bool {
    let bytes: u64 = spans.iter().map(Span::len).sum();
    bytes < 8 * table.words().len() as u64 && bytes < MAX_VOCABULARY as u64
}

/// [`encode`] without an index of the vocabulary: the text's own words get ids of their own first, and the vocabulary is
/// read once to see which of them it has.
fn encode_once(
    spans: &[Span],
    table: &Table,
    tokenizer: &Tokenizer,
    reading: Reading,
) -> Result<(TokenText, Seen)> {
    let (met, encoded, mut seen) = meet_words(spans, tokenizer.unit, reading)?;
    let maps = look_up(&met, table.words(), reading.threads.clamp(1, 2), tokenizer.unit);
    let mut text = put_together(encoded, &maps, tokenizer, spans, &mut seen, Vec::new());
    // Whatever is unknown has become <unk> only now.
    text.oov = text.ids.iter().filter(|&&id| id == 0).count() as u64;
    Ok((text, seen))
}

/// The word tokenizer of `spans`, and their tokens, from reading them once.
pub(crate) fn learn_words(
    spans: &[Span],
    unit: Unit,
    reading: Reading,
) -> Result<(Tokenizer, TokenText, Seen)> {
    let (met, encoded, mut seen) = meet_words(spans, unit, reading)?;
    seen.capitals = met.iter().any(|one| one.interner.find(Key::of(b"<UNK>"), b"<UNK>").is_some());
    let (table, maps, memory) = merge(met, unit, || match encoded.as_slice() {
        [_] => Vec::new(),
        many => vec![0; many.iter().flatten().map(|part| part.ids.len()).sum()],
    })?;
    let tokenizer = Tokenizer { codec: Codec::Word(table), unit };
    let text = put_together(encoded, &maps, &tokenizer, spans, &mut seen, memory);
    Ok((tokenizer, text, seen))
}

/// What each thread met of the words of `spans`, and wrote down by ids of its own.
fn meet_words(spans: &[Span], unit: Unit, reading: Reading) -> Result<(Vec<Met>, Vec<Vec<Encoded>>, Seen)> {
    let bytes: u64 = spans.iter().map(Span::len).sum();
    let (states, seen) = each_piece(
        spans,
        reading.threads,
        || Ok((Met::of_text(unit, bytes / reading.threads.max(1) as u64)?, Vec::new())),
        |(met, encoded): &mut (Met, Vec<Encoded>), piece| {
            // Places order by piece, then by token.
            let place = (piece.index as u64) << 32;
            encoded.push(cut_words(piece, unit, reading, encoded.last(), Learning { met, place })?);
            Ok(())
        },
    )?;
    let (met, encoded) = states.into_iter().unzip();
    Ok((met, encoded, seen))
}

/// Ids of words: known ones, or new ones as well.
trait Vocabulary {
    fn first_slots(&self, parts: &[Part]) -> Slots;

    /// The id of part `n` of a batch, the text's token number `at`, if it has one.
    fn id(&mut self, slots: &Slots, n: usize, key: Key, word: &[u8], at: usize) -> Result<Option<u32>>;
}

struct Known<'a>(&'a Table);

impl Vocabulary for Known<'_> {
    fn first_slots(&self, parts: &[Part]) -> Slots {
        self.0.first_slots(parts)
    }

    #[inline]
    fn id(&mut self, slots: &Slots, n: usize, key: Key, word: &[u8], _: usize) -> Result<Option<u32>> {
        Ok(self.0.find_from(slots, n, key, word))
    }
}

/// A vocabulary that writes down what it does not know, by the place of the token that it becomes.
struct Noting<'a> {
    known: Known<'a>,
    unknown: &'a mut BTreeMap<usize, String>,
    specials: u32,
}

impl Vocabulary for Noting<'_> {
    fn first_slots(&self, parts: &[Part]) -> Slots {
        self.known.first_slots(parts)
    }

    fn id(&mut self, slots: &Slots, n: usize, key: Key, word: &[u8], at: usize) -> Result<Option<u32>> {
        let id = self.known.id(slots, n, key, word, at)?;
        if id.is_none_or(|id| id < self.specials) {
            // A word that becomes no token is overwritten by the next, which has its place.
            self.unknown.insert(at, String::from_utf8_lossy(word).into_owned());
        }
        Ok(id)
    }
}

struct Learning<'a> {
    met: &'a mut Met,
    place: u64,
}

impl Vocabulary for Learning<'_> {
    fn first_slots(&self, parts: &[Part]) -> Slots {
        self.met.interner.first_slots(parts)
    }

    #[inline]
    fn id(&mut self, slots: &Slots, n: usize, key: Key, word: &[u8], at: usize) -> Result<Option<u32>> {
        match self.met.interner.find_from(slots, n, key, word) {
            Some(id) => Ok(Some(id)),
            None => {
                self.met.first.push(self.place | at as u64);
                // The whole piece has been checked to be UTF-8.
                self.met.interner.insert(key, &String::from_utf8_lossy(word)).map(Some)
            }
        }
    }
}

/// Writes down the words of a piece.
struct Words<'a, V> {
    vocabulary: V,
    piece: &'a Piece,
    literal: LiteralSpecials,
    unit: Unit,
    specials: u32,
    encoded: Encoded,
    /// The text ends in the mark `</s>`, without a newline.
    closed: bool,
}

const BOS: u32 = 1;
const EOS: u32 = 2;

impl<V: Vocabulary> Words<'_, V> {
    fn take(&mut self, parts: &[Part]) -> Result<()> {
        let slots = self.vocabulary.first_slots(parts);
        for (n, part) in parts.iter().enumerate() {
            if self.unit == Unit::Line && part.is_newline() {
                self.encoded.ids.extend_from_slice(&[EOS, BOS]);
                self.encoded.lines += 1;
            } else {
                self.word(&slots, n, part.key, part.bytes(&self.piece.bytes), part.at)?;
            }
        }
        Ok(())
    }

    #[inline]
    fn word(&mut self, slots: &Slots, n: usize, key: Key, word: &[u8], at: usize) -> Result<()> {
        match self.vocabulary.id(slots, n, key, word, self.encoded.ids.len())? {
            Some(id) if id >= self.specials => self.encoded.ids.push(id),
            Some(id) => self.literal_special(id, word, at)?,
            None => {
                self.encoded.oov += 1;
                self.encoded.ids.push(0);
            }
        }
        Ok(())
    }

    #[cold]
    fn literal_special(&mut self, id: u32, word: &[u8], at: usize) -> Result<()> {
        if self.literal == LiteralSpecials::Unk && self.is_mark(id, at, at + word.len()) {
            self.encoded.marks += 1;
            // With what is between it and the sentence.
            let beside = match id {
                BOS => Some(at + word.len()),
                _ if self.encoded.ids.last() == Some(&BOS) => None,
                _ => at.checked_sub(1),
            };
            let blank = beside.is_some_and(|at| matches!(self.piece.bytes[at], b' ' | b'\t'));
            self.encoded.mark_bytes += word.len() as u64 + u64::from(blank);
            return Ok(());
        }
        self.encoded.specials += 1;
        match self.literal {
            LiteralSpecials::Unk => {
                self.encoded.oov += 1;
                self.encoded.ids.push(0);
            }
            LiteralSpecials::Skip => {}
            LiteralSpecials::Error => {
                return Err(Error::LiteralSpecial {
                    name: self.piece.name(),
                    line: self.piece.line(at),
                    token: String::from_utf8_lossy(word).into_owned(),
                });
            }
        }
        Ok(())
    }
}

impl<V> Words<'_, V> {
    /// Whether the special token `id` in bytes `from..to` says what is so anyway: `<s>` before everything else on its line,
    /// or `</s>` behind it.
    fn is_mark(&mut self, id: u32, from: usize, to: usize) -> bool {
        let seen = |byte: &&u8| **byte == b'\n' || !separates(**byte);
        match id {
            BOS => {
                self.piece.bytes[..from].iter().rfind(seen).map_or(self.piece.opens, |&byte| byte == b'\n')
            }
            EOS => self.piece.bytes[to..].iter().find(seen).map_or_else(
                || {
                    self.closed = self.piece.closes;
                    self.closed
                },
                |&byte| byte == b'\n',
            ),
            _ => false,
        }
    }
}

/// The tokens of a piece that are words; leaves [`PAD`] behind its bytes.
fn cut_words<V: Vocabulary>(
    piece: &mut Piece,
    unit: Unit,
    reading: Reading,
    last: Option<&Encoded>,
    vocabulary: V,
) -> Result<Encoded> {
    piece.text()?;
    let len = piece.bytes.len();
    let newline = piece.bytes.last() == Some(&b'\n');
    piece.bytes.extend_from_slice(&PAD);
    let piece = &*piece;
    // Pieces of a text are much alike.
    let ids = Vec::with_capacity(last.map_or(len / 4, |last| last.ids.len() + last.ids.len() / 8));
    let mut words = Words {
        vocabulary,
        piece,
        literal: reading.literal_specials,
        unit,
        specials: specials(unit),
        encoded: Encoded { index: piece.index, ids, ..Encoded::default() },
        closed: false,
    };
    let lines = unit == Unit::Line;
    if lines && piece.opens {
        words.encoded.ids.push(BOS);
        words.encoded.lines += 1;
    }
    scan(&piece.bytes, |parts| words.take(parts))?;
    let closed = words.closed || reading.last_line == LastLine::Sentence;
    let mut encoded = words.encoded;
    if lines && newline {
        // The last newline began a line that is not there, or is the next piece's.
        encoded.ids.pop();
        encoded.lines -= 1;
    } else if lines && piece.closes && closed {
        encoded.ids.push(EOS);
    }
    Ok(encoded)
}

/// The tokens of a piece that are not words.
fn other_tokens(piece: &Piece, tokenizer: &Tokenizer, reading: Reading) -> Result<Encoded> {
    let mut encoded = Encoded { index: piece.index, ..Encoded::default() };
    let bytes = matches!(tokenizer.codec, Codec::Byte);
    // The whole piece is checked first, so that an error says where in the file it is.
    let text = if bytes { "" } else { piece.text()? };
    let append = |from: usize, to: usize, ids: &mut Vec<u32>| {
        if bytes {
            tokenizer.encode_bytes(&piece.bytes[from..to], ids);
            return Ok(());
        }
        tokenizer.encode_into(&text[from..to], ids)
    };
    match (tokenizer.bos(), tokenizer.eos()) {
        (Some(bos), Some(eos)) => {
            let mut start = 0;
            let ends = memchr::memchr_iter(b'\n', &piece.bytes).map(|at| at + 1);
            let open = (piece.bytes.last() != Some(&b'\n')).then_some(piece.bytes.len());
            for end in ends.chain(open) {
                if start > 0 || piece.opens {
                    encoded.ids.push(bos);
                    encoded.lines += 1;
                }
                append(start, end, &mut encoded.ids)?;
                encoded.written += u64::from(has_marks(&piece.bytes[start..end]));
                let ended = open != Some(end) || (piece.closes && reading.last_line == LastLine::Sentence);
                if ended {
                    encoded.ids.push(eos);
                }
                start = end;
            }
        }
        _ => append(0, piece.bytes.len(), &mut encoded.ids)?,
    }
    if let Some(unk) = tokenizer.unk() {
        encoded.oov = encoded.ids.iter().filter(|&&id| id == unk).count() as u64;
    }
    Ok(encoded)
}

/// What stands in `spans` where their tokens are `<unk>`, by the place of the token, up to the place `end`.
///
/// # Errors
/// As [`encode`]'s.
pub(crate) fn unknown(
    spans: &[Span],
    tokenizer: &Tokenizer,
    reading: Reading,
    end: usize,
) -> Result<BTreeMap<usize, String>> {
    let (mut found, mut start) = (BTreeMap::new(), 0);
    if tokenizer.unk().is_none() {
        return Ok(found);
    }
    for piece in Pieces::new(spans) {
        let mut piece = piece?;
        let mut unknown = BTreeMap::new();
        let encoded = if let Codec::Word(table) = &tokenizer.codec {
            let specials = specials(tokenizer.unit);
            let noting = Noting { known: Known(table), unknown: &mut unknown, specials };
            cut_words(&mut piece, tokenizer.unit, reading, None, noting)?
        } else {
            let encoded = other_tokens(&piece, tokenizer, reading)?;
            let line = tokenizer.unit == Unit::Line;
            let places = (0..encoded.ids.len()).filter(|&at| !(line && matches!(encoded.ids[at], BOS | EOS)));
            let chars = piece.text()?.chars().filter(|&c| !(line && c == '\n'));
            unknown.extend(places.zip(chars.map(String::from)));
            encoded
        };
        unknown.retain(|&at, _| at + start < end && encoded.ids.get(at) == Some(&0));
        found.extend(unknown.into_iter().map(|(at, word)| (at + start, word)));
        start += encoded.ids.len();
    }
    Ok(found)
}

/// Whether a line begins with the word `<s>` or ends with the word `</s>`.
fn has_marks(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let alone = |beside: Option<&u8>| beside.is_none_or(u8::is_ascii_whitespace);
    line.strip_prefix(b"<s>").is_some_and(|rest| alone(rest.first()))
        || line.strip_suffix(b"</s>").is_some_and(|rest| alone(rest.last()))
}

/// The pieces that each thread encoded, as one text; with `maps` from each thread's ids to the final ones. `memory` is for
/// the text, if it is as long.
fn put_together(
    encoded: Vec<Vec<Encoded>>,
    maps: &[Vec<u32>],
    tokenizer: &Tokenizer,
    spans: &[Span],
    seen: &mut Seen,
    memory: Vec<u32>,
) -> TokenText {
    let mut parts: Vec<(usize, Encoded)> = Vec::new();
    for (thread, its) in encoded.into_iter().enumerate() {
        parts.extend(its.into_iter().map(|part| (thread, part)));
    }
    parts.sort_unstable_by_key(|(_, part)| part.index);
    let mut text = TokenText {
        bytes: spans.iter().map(Span::len).sum(),
        unit: tokenizer.unit(),
        bos: tokenizer.bos(),
        ..TokenText::default()
    };
    let mut mark_bytes = 0;
    for (_, part) in &parts {
        text.oov += part.oov;
        text.lines += part.lines;
        mark_bytes += part.mark_bytes;
        seen.specials += part.specials;
        seen.marks += part.marks;
        seen.written += part.written;
    }
    if mark_bytes < text.bytes {
        text.bytes -= mark_bytes;
    }
    if maps.is_empty() && parts.len() == 1 {
        text.ids = parts.pop().map(|(_, part)| part.ids).unwrap_or_default();
        return text;
    }
    text.ids = memory;
    text.ids.resize(parts.iter().map(|(_, part)| part.ids.len()).sum(), 0);
    // Each part goes to its own place in the text, and its memory back as soon as it is there.
    let mut rest = text.ids.as_mut_slice();
    let places = parts.into_iter().map(|(thread, part)| {
        let place;
        (place, rest) = std::mem::take(&mut rest).split_at_mut(part.ids.len());
        (thread, part, place)
    });
    let places: Vec<_> = places.collect();
    places.into_par_iter().for_each(|(thread, part, place)| match maps.get(thread) {
        Some(map) => {
            for (to, &id) in place.iter_mut().zip(&part.ids) {
                *to = map[id as usize];
            }
        }
        None => place.copy_from_slice(&part.ids),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TokenizerKind;
    use crate::pieces::Place;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn a_vocabulary_without_an_index_gives_the_same_tokens(
            line in "([a-d]{1,3}|[ef]{9,10}|<unk>|<s>| |\n|\r){1,200}",
            repeats in prop::sample::select(vec![1_usize, 3000]),
            threads in 1_usize..4,
            unit in prop::sample::select(vec![Unit::Stream, Unit::Line]),
            literal_specials in prop::sample::select(vec![LiteralSpecials::Unk, LiteralSpecials::Skip]),
        ) {
            let text = line.repeat(repeats);
            let end = text.len() as u64;
            let span = [Span { place: Place::Memory { name: "memory".into(), text: text.into() }, start: 0, end }];
            let special = ["<unk>", "<s>", "</s>"].into_iter().take(specials(unit) as usize).map(str::to_owned);
            let known = ["a", "bb", "ab", "eeeeeeeee", "\n"].into_iter();
            let others = (0..400_000).map(|n| format!("w{n}"));
            let known = known.filter(|word| unit == Unit::Stream || *word != "\n").map(str::to_owned);
            let words: Vec<String> = special.chain(others).chain(known).collect();
            let list = words.iter().map(String::as_str);
            let indexed = Tokenizer::from_words(TokenizerKind::Word, unit, list).unwrap();
            let stored = Tokenizer::from_stored_words(TokenizerKind::Word, unit, words.iter().map(String::as_bytes)).unwrap();
            let reading = Reading { threads, literal_specials, ..Reading::default() };
            let (a, b) = (encode(&span, &indexed, reading).unwrap(), encode(&span, &stored, reading).unwrap());
            let Codec::Word(table) = &stored.codec else { panic!("words") };
            prop_assert_eq!(table.is_indexed(), !is_short(&span, table));
            prop_assert_eq!(&a.0.ids, &b.0.ids);
            prop_assert_eq!((a.0.oov, a.0.lines, a.0.bytes, a.1), (b.0.oov, b.0.lines, b.0.bytes, b.1));
        }
    }

    #[test]
    fn a_stored_word_that_is_there_twice_is_the_first() {
        let mut words: Vec<String> =
            ["<unk>", "<s>", "</s>", "a", "b", "a", "<unk>"].map(str::to_owned).into();
        words.extend((0..20_000).map(|n| format!("w{n}")));
        let make = || {
            let list = words.iter().map(String::as_bytes);
            Tokenizer::from_stored_words(TokenizerKind::Word, Unit::Line, list).unwrap()
        };
        let text = "a b <unk> c w19999\n";
        let place = Place::Memory { name: "memory".into(), text: text.into() };
        let span = [Span { place, start: 0, end: text.len() as u64 }];
        let expected = [1, 3, 4, 0, 0, 20_006, 2];
        let (met, indexed) = (make(), make());
        assert_eq!(indexed.encode("a b").unwrap(), [3, 4]);
        for (tokenizer, has_index) in [(met, false), (indexed, true)] {
            let read = encode(&span, &tokenizer, Reading::default()).unwrap();
            assert!(matches!(&tokenizer.codec, Codec::Word(table) if table.is_indexed() == has_index));
            assert_eq!(read.0.ids, expected);
        }
    }
}
