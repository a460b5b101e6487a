//! Texts to token ids, on several threads: pieces are encoded as they come and put together in their order.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::pieces::{Piece, Pieces, Span};
use crate::tokenizer::{
    Codec, Key, MAX_VOCABULARY, Met, PAD, Part, Table, Vocabulary, look_up, merge, scan, separates, specials,
    train_bpe, train_chars,
};
use crate::workers::{Seen, each_piece};
use crate::{LastLine, LiteralSpecials, Reading, TokenText, Tokenizer, TokenizerKind, Unit};

/// The ids of a piece.
struct Encoded {
    index: usize,
    ids: Vec<u32>,
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
    let (encoded, seen) = each_piece(
        spans,
        reading.threads,
        || Ok(Vec::new()),
        |encoded: &mut Vec<Encoded>, seen, piece| {
            let ids = match &tokenizer.codec {
                Codec::Word(table) => cut_words(piece, tokenizer.unit, reading, encoded.last(), seen, table)?,
                _ => other_tokens(piece, tokenizer, reading, seen)?,
            };
            encoded.push(Encoded { index: piece.index, ids });
            Ok(())
        },
    )?;
    let text = put_together(encoded, &[], tokenizer, spans, seen);
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
    let (met, encoded, seen) = meet_words(spans, tokenizer.unit, reading)?;
    let maps = look_up(&met, table.words());
    Ok((put_together(encoded, &maps, tokenizer, spans, seen), seen))
}

/// The word tokenizer of `spans`, and their tokens, from reading them once.
pub(crate) fn learn_words(
    spans: &[Span],
    unit: Unit,
    reading: Reading,
) -> Result<(Tokenizer, TokenText, Seen)> {
    let (met, encoded, mut seen) = meet_words(spans, unit, reading)?;
    seen.capitals = met.iter().any(|one| one.knows(b"<UNK>"));
    let (table, maps) = merge(met)?;
    let tokenizer = Tokenizer { codec: Codec::Word(table), unit };
    let text = put_together(encoded, &maps, &tokenizer, spans, seen);
    Ok((tokenizer, text, seen))
}

/// What each thread met of the words of `spans`, and wrote down by ids of its own.
fn meet_words(spans: &[Span], unit: Unit, reading: Reading) -> Result<(Vec<Met>, Vec<Vec<Encoded>>, Seen)> {
    let bytes: u64 = spans.iter().map(Span::len).sum();
    let (states, seen) = each_piece(
        spans,
        reading.threads,
        || Ok((Met::of_text(unit, bytes / reading.threads.max(1) as u64)?, Vec::new())),
        |(met, encoded): &mut (Met, Vec<Encoded>), seen, piece| {
            met.begin(piece.index);
            let ids = cut_words(piece, unit, reading, encoded.last(), seen, met)?;
            encoded.push(Encoded { index: piece.index, ids });
            Ok(())
        },
    )?;
    let (met, encoded) = states.into_iter().unzip();
    Ok((met, encoded, seen))
}

const BOS: u32 = 1;
const EOS: u32 = 2;

/// A vocabulary that writes down what it does not know, by the place of the token that it becomes.
struct Noting<'a> {
    table: &'a Table,
    unknown: &'a mut BTreeMap<usize, String>,
    specials: u32,
}

impl Vocabulary for Noting<'_> {
    fn table(&self) -> &Table {
        self.table
    }

    fn id(&mut self, key: Key, word: &[u8], at: usize) -> Result<Option<u32>> {
        let id = self.table.find(key, word);
        if id.is_none_or(|id| id < self.specials) {
            // A word that becomes no token is overwritten by the next, which has its place.
            self.unknown.insert(at, String::from_utf8_lossy(word).into_owned());
        }
        Ok(id)
    }
}

/// Writes down the words of a piece.
struct Words<'a, V> {
    vocabulary: V,
    piece: &'a Piece,
    literal: LiteralSpecials,
    unit: Unit,
    specials: u32,
    ids: Vec<u32>,
    seen: &'a mut Seen,
    /// The text ends in the mark `</s>`, without a newline.
    closed: bool,
}

impl<V: Vocabulary> Words<'_, V> {
    #[inline]
    fn take(&mut self, part: Part) -> Result<()> {
        if self.unit == Unit::Line && part.is_newline() {
            self.ids.extend_from_slice(&[EOS, BOS]);
            return Ok(());
        }
        let word = part.bytes(&self.piece.bytes);
        match self.vocabulary.id(part.key, word, self.ids.len())? {
            Some(id) if id < self.specials => return self.literal_special(id, word, part.at),
            id => self.ids.push(id.unwrap_or(0)),
        }
        Ok(())
    }

    #[cold]
    fn literal_special(&mut self, id: u32, word: &[u8], at: usize) -> Result<()> {
        if self.literal == LiteralSpecials::Unk && self.is_mark(id, at, at + word.len()) {
            self.seen.marks += 1;
            // With what is between it and the sentence.
            let beside = match id {
                BOS => Some(at + word.len()),
                _ if self.ids.last() == Some(&BOS) => None,
                _ => at.checked_sub(1),
            };
            let blank = beside.is_some_and(|at| matches!(self.piece.bytes[at], b' ' | b'\t'));
            self.seen.mark_bytes += word.len() as u64 + u64::from(blank);
            return Ok(());
        }
        self.seen.specials += 1;
        match self.literal {
            LiteralSpecials::Unk => self.ids.push(0),
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
fn cut_words(
    piece: &mut Piece,
    unit: Unit,
    reading: Reading,
    last: Option<&Encoded>,
    seen: &mut Seen,
    vocabulary: impl Vocabulary,
) -> Result<Vec<u32>> {
    piece.text()?;
    let len = piece.bytes.len();
    let newline = piece.bytes.last() == Some(&b'\n');
    piece.bytes.extend_from_slice(&PAD);
    let piece = &*piece;
    // Pieces of a text are much alike.
    let ids = Vec::with_capacity(last.map_or(len / 4, |last| last.ids.len() + last.ids.len() / 8));
    let (literal, specials) = (reading.literal_specials, specials(unit).len() as u32);
    let mut words = Words { vocabulary, piece, literal, unit, specials, ids, seen, closed: false };
    let lines = unit == Unit::Line;
    if lines && piece.opens {
        words.ids.push(BOS);
    }
    scan(&piece.bytes, |parts| {
        words.vocabulary.table().prefetch(parts.iter().map(|part| part.key));
        parts.iter().try_for_each(|&part| words.take(part))
    })?;
    if lines && newline {
        // The last newline began a line that is not there, or is the next piece's.
        words.ids.pop();
    } else if lines && piece.closes && (words.closed || reading.last_line == LastLine::Sentence) {
        words.ids.push(EOS);
    }
    Ok(words.ids)
}

/// The tokens of a piece that are not words.
fn other_tokens(piece: &Piece, tokenizer: &Tokenizer, reading: Reading, seen: &mut Seen) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
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
                    ids.push(bos);
                }
                append(start, end, &mut ids)?;
                seen.written += u64::from(has_marks(&piece.bytes[start..end]));
                let ended = open != Some(end) || (piece.closes && reading.last_line == LastLine::Sentence);
                if ended {
                    ids.push(eos);
                }
                start = end;
            }
        }
        _ => append(0, piece.bytes.len(), &mut ids)?,
    }
    Ok(ids)
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
        let seen = &mut Seen::default();
        let ids = if let Codec::Word(table) = &tokenizer.codec {
            let specials = specials(tokenizer.unit).len() as u32;
            let noting = Noting { table, unknown: &mut unknown, specials };
            cut_words(&mut piece, tokenizer.unit, reading, None, seen, noting)?
        } else {
            let ids = other_tokens(&piece, tokenizer, reading, seen)?;
            let line = tokenizer.unit == Unit::Line;
            let places = (0..ids.len()).filter(|&at| !(line && matches!(ids[at], BOS | EOS)));
            let chars = piece.text()?.chars().filter(|&c| !(line && c == '\n'));
            unknown.extend(places.zip(chars.map(String::from)));
            ids
        };
        unknown.retain(|&at, _| at + start < end && ids.get(at) == Some(&0));
        found.extend(unknown.into_iter().map(|(at, word)| (at + start, word)));
        start += ids.len();
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

/// The pieces that each thread encoded, as one text; with `maps` from each thread's ids to the final ones.
fn put_together(
    encoded: Vec<Vec<Encoded>>,
    maps: &[Vec<u32>],
    tokenizer: &Tokenizer,
    spans: &[Span],
    seen: Seen,
) -> TokenText {
    let mut parts: Vec<(usize, Encoded)> = Vec::new();
    for (thread, its) in encoded.into_iter().enumerate() {
        parts.extend(its.into_iter().map(|part| (thread, part)));
    }
    parts.sort_unstable_by_key(|(_, part)| part.index);
    let ids = match parts.as_mut_slice() {
        [(_, only)] if maps.is_empty() => std::mem::take(&mut only.ids),
        _ => joined(parts, maps),
    };
    let bytes: u64 = spans.iter().map(Span::len).sum();
    let count =
        |id: Option<u32>| id.map_or(0, |id| ids.par_iter().filter(|&&other| other == id).count() as u64);
    TokenText {
        bytes: if seen.mark_bytes < bytes { bytes - seen.mark_bytes } else { bytes },
        unit: tokenizer.unit(),
        oov: count(tokenizer.unk()),
        bos: tokenizer.bos(),
        lines: count(tokenizer.bos()),
        ids,
    }
}

fn joined(parts: Vec<(usize, Encoded)>, maps: &[Vec<u32>]) -> Vec<u32> {
    let mut joined = vec![0; parts.iter().map(|(_, part)| part.ids.len()).sum()];
    // Each part goes to its own place in the text, and its memory back as soon as it is there.
    let mut rest = joined.as_mut_slice();
    let places = parts.into_iter().map(|(thread, Encoded { ids, .. })| {
        let place;
        (place, rest) = std::mem::take(&mut rest).split_at_mut(ids.len());
        (thread, ids, place)
    });
    let places: Vec<_> = places.collect();
    places.into_par_iter().for_each(|(thread, ids, place)| match maps.get(thread) {
        Some(map) => {
            for (to, &id) in place.iter_mut().zip(&ids) {
                *to = map[id as usize];
            }
        }
        None => place.copy_from_slice(&ids),
    });
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TokenizerKind;
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
            let span = [Span::of_text("memory", &text)];
            let special = specials(unit).iter().map(|&name| name.to_owned());
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
        let span = [Span::of_text("memory", text)];
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
