//! Encodes texts on several threads: chunk by chunk, and then joined in the order of the text.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use rayon::prelude::*;

use crate::chunks::{Span, TextChunk, TextChunks};
use crate::error::{Error, Result};
use crate::parallel::{for_each_chunk, for_each_of, write_in_order};
use crate::tokenizer::{
    ByteCodec, Key, LOAD_PADDING, LocalVocab, MAX_VOCABULARY, PreToken, Vocab, VocabLookup, WordCodec,
    is_separator, map_to_vocab, merge_vocabs, pre_tokenize, special_tokens,
};
use crate::warnings::TextWarnings;
use crate::{
    EncodeOptions, Granularity, LastLine, LiteralSpecials, TextMode, TokenCounts, TokenText, Tokenizer,
    TokenizerKind, TrainingText, WordChoice, WordVocabulary,
};

/// The ids of a chunk.
struct EncodedChunk {
    index: usize,
    ids: Vec<u32>,
    /// The first [`crate::Codec::round_trip_error`].
    lossy: Option<String>,
    /// Unknown parts of the text, if they are counted.
    unknown: BTreeMap<String, u64>,
    /// The same by the position of their token, if they are listed.
    unknown_at: Vec<(usize, String)>,
}

/// The part of unknown words or characters that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownText {
    /// None, which is the fastest.
    Forgotten,
    /// Their numbers of occurrences.
    Counted,
    /// These, and each with the position of its token.
    Listed,
}

impl EncodedChunk {
    fn new(index: usize, ids: Vec<u32>) -> Self {
        Self { index, ids, lossy: None, unknown: BTreeMap::new(), unknown_at: Vec::new() }
    }
}

/// Trains a built-in tokenizer on `spans`.
///
/// # Errors
/// Text that is not UTF-8 (except for bytes), a vocabulary that is too large, a failure to read.
pub(crate) fn train(
    kind: TokenizerKind,
    mode: TextMode,
    spans: &[Span],
    options: EncodeOptions,
) -> Result<Tokenizer> {
    if kind == TokenizerKind::Word {
        return Ok(learn_word_tokenizer(spans, mode, options, &WordVocabulary::default(), None)?.0);
    }
    Tokenizer::learn(kind, mode, &TrainingText { spans, threads: options.threads })
}

/// The chunks of `spans`, cut where the tokenizer says if it has an opinion.
fn text_chunks(spans: &[Span], tokenizer: &Tokenizer) -> TextChunks {
    let chunks = TextChunks::new(spans);
    if tokenizer.codec().can_cut("", "").is_none() {
        return chunks;
    }
    let tokenizer = tokenizer.clone();
    chunks.cut_by(move |before, after| tokenizer.codec().can_cut(before, after) == Some(true))
}

/// Encodes `spans` with a trained tokenizer.
pub(crate) fn encode(
    spans: &[Span],
    tokenizer: &Tokenizer,
    options: EncodeOptions,
) -> Result<(TokenText, TextWarnings)> {
    encode_and_keep(spans, tokenizer, options, UnknownText::Forgotten)
        .map(|(text, _, warnings)| (text, warnings))
}

/// [`encode`] with [`TokenText::unknown`], the numbers of unknown words or characters.
pub(crate) fn encode_and_count(
    spans: &[Span],
    tokenizer: &Tokenizer,
    options: EncodeOptions,
) -> Result<(TokenText, TextWarnings)> {
    encode_and_keep(spans, tokenizer, options, UnknownText::Counted)
        .map(|(text, _, warnings)| (text, warnings))
}

/// [`encode`]; gives also the listed unknown words or characters by the position of their token.
pub(crate) fn encode_and_keep(
    spans: &[Span],
    tokenizer: &Tokenizer,
    options: EncodeOptions,
    unknown: UnknownText,
) -> Result<(TokenText, BTreeMap<usize, String>, TextWarnings)> {
    let has_parts = matches!(tokenizer.granularity(), Granularity::Word | Granularity::Char);
    // Other tokens are listed by the name of <unk>.
    let keeps = (has_parts || unknown == UnknownText::Listed) && tokenizer.unk().is_some();
    let keep = if keeps { unknown } else { UnknownText::Forgotten };
    let record = keep != UnknownText::Forgotten;
    let words = tokenizer.codec_as::<WordCodec>();
    if let Some(WordCodec { vocab, .. }) = words
        && !vocab.is_indexed()
        && is_short(spans, vocab)
    {
        return encode_without_index(spans, vocab, tokenizer, options, keep);
    }
    let (encoded, warnings) = for_each_of(
        text_chunks(spans, tokenizer),
        options.threads,
        || Ok(Vec::new()),
        |encoded: &mut Vec<EncodedChunk>, warnings, chunk| {
            let mut part = if let Some(words) = words.filter(|_| !record) {
                let last = encoded.last();
                let ids = encode_words(chunk, words.mode, options, last, warnings, &words.vocab)?;
                EncodedChunk::new(chunk.index, ids)
            } else if record {
                let check = encoded.iter().all(|chunk| chunk.lossy.is_none());
                let (mut part, unknown) = encode_with_unknown(chunk, tokenizer, options, warnings, check)?;
                if keep == UnknownText::Listed {
                    part.unknown_at.extend(unknown);
                } else {
                    for word in unknown.into_values() {
                        *part.unknown.entry(word).or_default() += 1;
                    }
                }
                part
            } else {
                // One reason is enough.
                let check = encoded.iter().all(|chunk| chunk.lossy.is_none());
                encode_chunk(chunk, tokenizer, options, warnings, check)?
            };
            // One record a thread is enough.
            if let Some(first) = encoded.first_mut() {
                add_unknown(&mut first.unknown, std::mem::take(&mut part.unknown));
            }
            push(encoded, part);
            Ok(())
        },
    )?;
    let warnings = warnings.with_line_ends_if(words.is_some());
    let (text, unknown_at) = concatenate(encoded, &[], tokenizer, warnings, keep);
    Ok((text, unknown_at, without_harmless_cuts(warnings, tokenizer)))
}

/// Encodes `spans` in bounded memory, and passes the ids to `write` in the order of the text.
pub(crate) fn encode_to(
    spans: &[Span],
    tokenizer: &Tokenizer,
    options: EncodeOptions,
    mut write: impl FnMut(&[u32]) -> Result<()> + Send,
) -> Result<(TokenCounts, TextWarnings)> {
    let words = tokenizer.codec_as::<WordCodec>();
    let (counts, warnings) = write_in_order(
        text_chunks(spans, tokenizer),
        options.threads,
        |counts: &mut TokenCounts, warnings, chunk, ids: &mut Vec<u32>| {
            let own = match words {
                Some(words) => encode_words(chunk, words.mode, options, None, warnings, &words.vocab)?,
                None => encode_chunk(chunk, tokenizer, options, warnings, false)?.ids,
            };
            let count = |id: Option<u32>| own.iter().filter(|&&other| Some(other) == id).count() as u64;
            counts.tokens += own.len() as u64;
            counts.oov += count(tokenizer.unk());
            counts.lines += count(tokenizer.bos());
            ids.extend(own);
            Ok(())
        },
        |ids: Vec<u32>| write(&ids),
    )?;
    let warnings = warnings.with_line_ends_if(words.is_some());
    let mut sum = TokenCounts { bytes: text_bytes(warnings), ..TokenCounts::default() };
    for TokenCounts { tokens, oov, lines, .. } in counts {
        sum.tokens += tokens;
        sum.oov += oov;
        sum.lines += lines;
    }
    Ok((sum, without_harmless_cuts(warnings, tokenizer)))
}

fn add_unknown(sums: &mut BTreeMap<String, u64>, counts: BTreeMap<String, u64>) {
    for (word, count) in counts {
        *sums.entry(word).or_default() += count;
    }
}

/// The bytes of a text without its sentence marks.
fn text_bytes(warnings: TextWarnings) -> u64 {
    if warnings.mark_bytes < warnings.bytes { warnings.bytes - warnings.mark_bytes } else { warnings.bytes }
}

/// The warnings without cuts within words if the tokenizer may cut between any two characters.
fn without_harmless_cuts(warnings: TextWarnings, tokenizer: &Tokenizer) -> TextWarnings {
    warnings.ignore_cuts_if(matches!(tokenizer.granularity(), Granularity::Byte | Granularity::Char))
}

/// Adds the ids of a chunk, or of a further record of it.
fn push(encoded: &mut Vec<EncodedChunk>, part: EncodedChunk) {
    match encoded.last_mut() {
        Some(last) if last.index == part.index => {
            let before = last.ids.len();
            last.unknown_at.extend(part.unknown_at.into_iter().map(|(at, word)| (before + at, word)));
            last.ids.extend(part.ids);
            last.lossy = last.lossy.take().or(part.lossy);
        }
        _ => encoded.push(part),
    }
}

/// Whether `spans` have so few words that an index of the whole vocabulary is not worth building.
fn is_short(spans: &[Span], vocab: &Vocab) -> bool {
    let bytes: u64 = spans.iter().map(Span::len).sum();
    !spans.iter().any(Span::is_stream)
        && bytes < 8 * vocab.words().len() as u64
        && bytes < MAX_VOCABULARY as u64
}

/// [`encode`] without an index of the vocabulary: the text's words get local ids, and one pass over
/// the vocabulary maps them.
fn encode_without_index(
    spans: &[Span],
    vocab: &Vocab,
    tokenizer: &Tokenizer,
    options: EncodeOptions,
    keep: UnknownText,
) -> Result<(TokenText, BTreeMap<usize, String>, TextWarnings)> {
    let (locals, mut encoded, warnings) = encode_local(spans, tokenizer.mode(), options)?;
    let maps = map_to_vocab(&locals, vocab.words());
    if keep == UnknownText::Listed {
        for ((own, map), chunks) in locals.iter().zip(&maps).zip(&mut encoded) {
            let words: Vec<&str> = own.words().collect();
            for EncodedChunk { ids, unknown_at, .. } in chunks {
                let unknown = ids.iter().enumerate().filter(|(_, id)| map[**id as usize] == 0);
                unknown_at.extend(unknown.map(|(at, &id)| (at, words[id as usize].to_owned())));
            }
        }
    } else if keep == UnknownText::Counted {
        let counts = count_ids(&locals, &encoded);
        for (((own, map), counts), chunks) in locals.iter().zip(&maps).zip(&counts).zip(&mut encoded) {
            let words = own.words().zip(map).zip(counts).filter(|((_, id), count)| **id == 0 && **count > 0);
            let unknown = words.map(|((word, _), &count)| (word.to_owned(), count.into())).collect();
            if let Some(first) = chunks.first_mut() {
                add_unknown(&mut first.unknown, unknown);
            }
        }
    }
    let (text, unknown_at) = concatenate(encoded, &maps, tokenizer, warnings, keep);
    Ok((text, unknown_at, warnings))
}

/// Learns the words of `spans` and encodes them in one pass over the text.
pub(crate) fn learn_words(
    spans: &[Span],
    mode: TextMode,
    options: EncodeOptions,
    vocabulary: &WordVocabulary,
) -> Result<(Tokenizer, TokenText, TextWarnings, WordChoice)> {
    vocabulary.check(mode)?;
    let (locals, encoded, mut warnings) = encode_local(spans, mode, options)?;
    warnings.uppercase_unk = locals.iter().any(|one| one.contains(b"<UNK>"));
    let counts = if vocabulary.needs_counts() { count_ids(&locals, &encoded) } else { Vec::new() };
    let (vocab, maps) = merge_vocabs(locals)?;
    let frequencies = add_counts(counts, &maps, vocab.words().len());
    let ChosenWords { tokenizer, maps, choice, .. } =
        choose_words(vocab, maps, frequencies, mode, vocabulary)?;
    let (text, _) = concatenate(encoded, &maps, &tokenizer, warnings, UnknownText::Forgotten);
    Ok((tokenizer, text, warnings, choice))
}

/// The memory for learning words.
#[derive(Debug, Clone, Copy)]
pub struct WordMemory {
    /// The most bytes.
    pub limit: u64,
    /// The bytes of a word beside those of its letters and of looking it up.
    pub per_word: u64,
}

/// Learns the words of `spans` alone: memory holds the vocabulary, not the text. Also gives the
/// number of occurrences of each token.
///
/// A chunk's new words are added in the order of the text, so ids are those of [`learn_words`].
pub(crate) fn learn_word_tokenizer(
    spans: &[Span],
    mode: TextMode,
    options: EncodeOptions,
    vocabulary: &WordVocabulary,
    memory: Option<WordMemory>,
) -> Result<(Tokenizer, WordChoice, Vec<u32>)> {
    vocabulary.check(mode)?;
    let shared = RwLock::new(Vocab::compact(mode)?);
    let mut counts: Vec<u32> = Vec::new();
    write_in_order(
        TextChunks::new(spans),
        options.threads,
        |(): &mut (), warnings, chunk, LearnedChunk { ids, new }: &mut LearnedChunk| {
            let lookup = LearningLookup { shared: &shared, guard: None, batches: 0, new };
            ids.extend(encode_words(chunk, mode, options, None, warnings, lookup)?);
            Ok(())
        },
        |LearnedChunk { ids, new }| {
            let mut final_ids = Vec::with_capacity(new.words().len());
            if new.words().len() > 0 {
                let mut vocab = shared.write().unwrap_or_else(PoisonError::into_inner);
                for (key, word) in new.words().keyed() {
                    let known = vocab.find(key, word.as_bytes());
                    final_ids.push(known.map_or_else(|| vocab.insert(key, word), Ok)?);
                }
                let (words, bytes) = (vocab.words().len() as u64, vocab.words().num_bytes() as u64);
                if let Some(WordMemory { limit, per_word }) = memory {
                    let needed = Vocab::compact_memory(words, bytes) + per_word * words;
                    if needed > limit {
                        return Err(Error::TooManyWords { words, needed, limit });
                    }
                }
            }
            counts.resize(counts.len().max(final_ids.iter().max().map_or(0, |&id| id as usize + 1)), 0);
            for id in ids {
                let id = if id & NEW_WORD == 0 { id } else { final_ids[(id ^ NEW_WORD) as usize] };
                if let Some(count) = counts.get_mut(id as usize) {
                    *count = count.saturating_add(1);
                }
            }
            Ok(())
        },
    )?;
    let vocab = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    counts.resize(vocab.words().len(), 0);
    let ChosenWords { tokenizer, choice, frequencies, .. } =
        choose_words(vocab, Vec::new(), counts, mode, vocabulary)?;
    Ok((tokenizer, choice, frequencies))
}

/// The tokens of a chunk before its new words have ids.
#[derive(Default)]
struct LearnedChunk {
    /// Ids; those of `new` words are with [`NEW_WORD`].
    ids: Vec<u32>,
    new: Vocab,
}

/// The bit of ids of a chunk's new words.
const NEW_WORD: u32 = 1 << 31;
/// The number of batches of words after which other threads can add theirs.
const BATCHES_LOCKED: usize = 16;

/// A lookup in a vocabulary that grows meanwhile.
struct LearningLookup<'a> {
    shared: &'a RwLock<Vocab>,
    guard: Option<RwLockReadGuard<'a, Vocab>>,
    batches: usize,
    new: &'a mut Vocab,
}

impl LearningLookup<'_> {
    #[inline]
    fn vocab(&mut self) -> &Vocab {
        self.guard.get_or_insert_with(|| self.shared.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl VocabLookup for LearningLookup<'_> {
    #[inline]
    fn prefetch(&mut self, keys: impl Iterator<Item = Key> + Clone) {
        self.batches += 1;
        if self.batches.is_multiple_of(BATCHES_LOCKED) {
            self.guard = None;
        }
        self.vocab().prefetch(keys);
    }

    #[inline]
    fn id(&mut self, key: Key, word: &[u8], _: usize) -> Result<Option<u32>> {
        if let Some(id) = self.vocab().find(key, word) {
            return Ok(Some(id));
        }
        let new = match self.new.find(key, word) {
            Some(id) => id,
            // The chunk is known to be UTF-8.
            None => self.new.insert(key, &String::from_utf8_lossy(word))?,
        };
        Ok(Some(new | NEW_WORD))
    }
}

/// The words of a vocabulary.
struct ChosenWords {
    tokenizer: Tokenizer,
    /// The maps of each thread's ids to the final ones.
    maps: Vec<Vec<u32>>,
    choice: WordChoice,
    /// The number of occurrences of each token, at most 2³² − 1, if there are counts.
    frequencies: Vec<u32>,
}

/// The words that `vocabulary` chooses from those of `vocab`, which occur `frequencies` times.
fn choose_words(
    mut vocab: Vocab,
    mut maps: Vec<Vec<u32>>,
    mut frequencies: Vec<u32>,
    mode: TextMode,
    vocabulary: &WordVocabulary,
) -> Result<ChosenWords> {
    let (choice, kept) = vocabulary.choose(&vocab, mode, &frequencies);
    if choice.kept < choice.words {
        let (restricted, map) = vocab.restricted(&kept)?;
        vocab = restricted;
        let all = std::mem::replace(&mut frequencies, vec![0; vocab.words().len()]);
        for (&id, count) in map.iter().zip(all) {
            let sum = &mut frequencies[id as usize];
            *sum = sum.saturating_add(count);
        }
        maps.par_iter_mut().flatten().for_each(|id| *id = map[*id as usize]);
        if maps.is_empty() {
            maps.push(map);
        }
    }
    let tokenizer = Tokenizer::built_in(Arc::new(WordCodec { vocab, mode }));
    Ok(ChosenWords { tokenizer, maps, choice, frequencies })
}

/// For each of `locals` the number of occurrences of its ids.
fn count_ids(locals: &[LocalVocab], encoded: &[Vec<EncodedChunk>]) -> Vec<Vec<u32>> {
    let count = |(own, chunks): (&LocalVocab, &Vec<EncodedChunk>)| {
        let mut counts = vec![0_u32; own.len()];
        for &id in chunks.iter().flat_map(|chunk| &chunk.ids) {
            counts[id as usize] = counts[id as usize].saturating_add(1);
        }
        counts
    };
    locals.par_iter().zip(encoded).map(count).collect()
}

/// The sums of `counts`, whose ids `maps` map to `len` final ones; without maps, ids are final.
fn add_counts(mut counts: Vec<Vec<u32>>, maps: &[Vec<u32>], len: usize) -> Vec<u32> {
    if maps.is_empty() {
        return counts.pop().unwrap_or_default();
    }
    let mut sums = vec![0_u32; if counts.is_empty() { 0 } else { len }];
    // A thread that came too late for any text knows the marks, but has no counts.
    for (&id, count) in maps.iter().zip(&counts).flat_map(|(map, counts)| map.iter().zip(counts)) {
        sums[id as usize] = sums[id as usize].saturating_add(*count);
    }
    sums
}

/// Encodes the words of `spans` with local ids, from a vocabulary per thread.
fn encode_local(
    spans: &[Span],
    mode: TextMode,
    options: EncodeOptions,
) -> Result<(Vec<LocalVocab>, Vec<Vec<EncodedChunk>>, TextWarnings)> {
    let bytes: u64 = spans.iter().map(Span::len).sum();
    let (states, warnings) = for_each_chunk(
        spans,
        options.threads,
        || Ok((LocalVocab::with_capacity(mode, bytes / options.threads.max(1) as u64)?, Vec::new())),
        |(locals, encoded): &mut (LocalVocab, Vec<EncodedChunk>), warnings, chunk| {
            let before = encoded.last().filter(|last| last.index == chunk.index);
            locals.start_piece(chunk.index, before.map_or(0, |last| last.ids.len()));
            let ids = encode_words(chunk, mode, options, encoded.last(), warnings, locals)?;
            push(encoded, EncodedChunk::new(chunk.index, ids));
            Ok(())
        },
    )?;
    let (locals, encoded) = states.into_iter().unzip();
    Ok((locals, encoded, warnings.with_line_ends_if(true)))
}

/// Ids of word tokenizers in line mode.
const BOS: u32 = 1;
const EOS: u32 = 2;
/// The id of `</s>` of word tokenizers in document mode.
const DOCUMENT_EOS: u32 = 1;

/// A lookup that records unknown words by the position of their token.
struct UnknownRecorder<'a> {
    vocab: &'a Vocab,
    unknown: &'a mut BTreeMap<usize, String>,
    num_special_tokens: u32,
}

impl VocabLookup for UnknownRecorder<'_> {
    fn prefetch(&mut self, keys: impl Iterator<Item = Key> + Clone) {
        self.vocab.prefetch(keys);
    }

    fn id(&mut self, key: Key, word: &[u8], at: usize) -> Result<Option<u32>> {
        let id = self.vocab.find(key, word);
        if id.is_none_or(|id| id < self.num_special_tokens) {
            // A word without a token is overwritten by the next, which gets the same position.
            self.unknown.insert(at, String::from_utf8_lossy(word).into_owned());
        }
        Ok(id)
    }
}

/// Encodes the words of a chunk.
struct WordEncoder<'a, V> {
    lookup: V,
    chunk: &'a TextChunk,
    literal_specials: LiteralSpecials,
    mode: TextMode,
    num_special_tokens: u32,
    ids: Vec<u32>,
    warnings: &'a mut TextWarnings,
    /// Whether the text ends with the mark `</s>` and no newline.
    ends_with_eos_mark: bool,
}

impl<V: VocabLookup> WordEncoder<'_, V> {
    #[inline]
    fn push(&mut self, token: PreToken) -> Result<()> {
        if self.mode == TextMode::Line && token.is_newline() {
            self.ids.extend_from_slice(&[EOS, BOS]);
            return Ok(());
        }
        let word = token.bytes(&self.chunk.bytes);
        match self.lookup.id(token.key, word, self.ids.len())? {
            Some(id) if id < self.num_special_tokens => return self.special_lookalike(id, word, token.at),
            id => self.ids.push(id.unwrap_or(0)),
        }
        Ok(())
    }

    #[cold]
    fn special_lookalike(&mut self, id: u32, word: &[u8], at: usize) -> Result<()> {
        if self.literal_specials == LiteralSpecials::Unk && self.is_sentence_mark(id, at, at + word.len()) {
            self.warnings.sentence_marks += 1;
            // Together with the blank between the mark and the sentence.
            let beside = match id {
                BOS => Some(at + word.len()),
                _ if self.ids.last() == Some(&BOS) => None,
                _ => at.checked_sub(1),
            };
            let blank = beside.is_some_and(|at| matches!(self.chunk.bytes[at], b' ' | b'\t'));
            self.warnings.mark_bytes += word.len() as u64 + u64::from(blank);
            return Ok(());
        }
        self.warnings.special_lookalikes += 1;
        match self.literal_specials {
            LiteralSpecials::Unk => self.ids.push(0),
            LiteralSpecials::Skip => {}
            LiteralSpecials::Error => {
                return Err(Error::LiteralSpecial {
                    name: self.chunk.name(),
                    line: self.chunk.line(at),
                    token: String::from_utf8_lossy(word).into_owned(),
                });
            }
        }
        Ok(())
    }

    /// Whether the name of special token `id` in bytes `from..to` is a sentence mark: `<s>` at the
    /// start of a line or `</s>` at its end.
    fn is_sentence_mark(&mut self, id: u32, from: usize, to: usize) -> bool {
        if self.mode != TextMode::Line {
            return false;
        }
        let not_blank = |byte: &&u8| **byte == b'\n' || !is_separator(**byte);
        match id {
            BOS => self.chunk.bytes[..from]
                .iter()
                .rfind(not_blank)
                .map_or(self.chunk.starts_line, |&byte| byte == b'\n'),
            EOS => self.chunk.bytes[to..].iter().find(not_blank).map_or_else(
                || {
                    self.ends_with_eos_mark = self.chunk.ends_line;
                    self.ends_with_eos_mark
                },
                |&byte| byte == b'\n',
            ),
            _ => false,
        }
    }
}

/// Encodes a chunk as words; leaves [`LOAD_PADDING`] after its bytes.
fn encode_words(
    chunk: &mut TextChunk,
    mode: TextMode,
    options: EncodeOptions,
    last: Option<&EncodedChunk>,
    warnings: &mut TextWarnings,
    lookup: impl VocabLookup,
) -> Result<Vec<u32>> {
    chunk.text()?;
    let len = chunk.bytes.len();
    let newline = chunk.bytes.last() == Some(&b'\n');
    chunk.bytes.extend_from_slice(&LOAD_PADDING);
    let chunk = &*chunk;
    // Chunks of a text have about the same number of tokens.
    let ids = Vec::with_capacity(last.map_or(len / 4, |last| last.ids.len() + last.ids.len() / 8));
    let (literal, num_special_tokens) = (options.literal_specials, special_tokens(mode).len() as u32);
    let mut words = WordEncoder {
        lookup,
        chunk,
        literal_specials: literal,
        mode,
        num_special_tokens,
        ids,
        warnings,
        ends_with_eos_mark: false,
    };
    let lines = mode == TextMode::Line;
    if lines && chunk.starts_line {
        words.ids.push(BOS);
    }
    pre_tokenize(&chunk.bytes, |tokens| {
        words.lookup.prefetch(tokens.iter().map(|token| token.key));
        tokens.iter().try_for_each(|&token| words.push(token))
    })?;
    if lines && newline {
        // The line after the last newline belongs to the next chunk, or does not exist.
        words.ids.pop();
    } else if lines
        && chunk.ends_line
        && (words.ends_with_eos_mark || options.last_line == LastLine::Sentence)
    {
        words.ids.push(EOS);
    }
    if mode == TextMode::Document && chunk.ends_document {
        words.ids.push(DOCUMENT_EOS);
    }
    Ok(words.ids)
}

/// Encodes a chunk with any tokenizer but words; `check`: whether the round trip is checked.
fn encode_chunk(
    chunk: &TextChunk,
    tokenizer: &Tokenizer,
    options: EncodeOptions,
    warnings: &mut TextWarnings,
    check: bool,
) -> Result<EncodedChunk> {
    let (mut ids, mut lossy) = (Vec::new(), None);
    let bytes = tokenizer.codec_as::<ByteCodec>();
    // The whole chunk is checked first, so that an error has the position in the file.
    let text = if bytes.is_some() { "" } else { chunk.text()? };
    warnings.special_names += tokenizer.codec().special_names_in(text) as u64;
    let mut append = |from: usize, to: usize, ids: &mut Vec<u32>| -> Result<()> {
        match bytes {
            Some(codec) => codec.encode_bytes(&chunk.bytes[from..to], ids),
            None => {
                let (before, text) = (if from == 0 { chunk.context() } else { "" }, &text[from..to]);
                let start = ids.len();
                tokenizer.encode_into(before, text, ids)?;
                let is_mark = |id: &&u32| [tokenizer.bos(), tokenizer.eos()].contains(&Some(**id));
                if let Some(id) = ids[start..].iter().find(is_mark) {
                    let token = String::from_utf8_lossy(&tokenizer.codec().token_name(*id)).into_owned();
                    return Err(Error::LiteralSpecial { name: chunk.name(), line: chunk.line(from), token });
                }
                if check && lossy.is_none() {
                    lossy = tokenizer.codec().round_trip_error(before, text, &ids[start..]);
                }
            }
        }
        Ok(())
    };
    match (tokenizer.bos(), tokenizer.eos()) {
        (Some(bos), Some(eos)) => {
            let mut start = 0;
            let ends = memchr::memchr_iter(b'\n', &chunk.bytes).map(|at| at + 1);
            let open = (chunk.bytes.last() != Some(&b'\n')).then_some(chunk.bytes.len());
            for end in ends.chain(open) {
                if start > 0 || chunk.starts_line {
                    ids.push(bos);
                }
                append(start, end, &mut ids)?;
                warnings.marked_lines += u64::from(has_marks(&chunk.bytes[start..end]));
                let ended = open != Some(end) || (chunk.ends_line && options.last_line == LastLine::Sentence);
                if ended {
                    ids.push(eos);
                }
                start = end;
            }
        }
        (_, eos) => {
            append(0, chunk.bytes.len(), &mut ids)?;
            ids.extend(eos.filter(|_| chunk.ends_document));
        }
    }
    Ok(EncodedChunk { lossy, ..EncodedChunk::new(chunk.index, ids) })
}

/// The text of every `<unk>` token of `spans`, by token position, for positions below `end`;
/// `<unk>` itself if the tokens are neither words nor characters.
pub(crate) fn unknown_words(
    spans: &[Span],
    tokenizer: &Tokenizer,
    options: EncodeOptions,
    end: usize,
) -> Result<BTreeMap<usize, String>> {
    let (mut found, mut start) = (BTreeMap::new(), 0);
    if tokenizer.unk().is_none() {
        return Ok(found);
    }
    for chunk in text_chunks(spans, tokenizer) {
        let warnings = &mut TextWarnings::default();
        let (part, unknown) = encode_with_unknown(&mut chunk?, tokenizer, options, warnings, false)?;
        found.extend(unknown.into_iter().map(|(at, word)| (at + start, word)).filter(|(at, _)| *at < end));
        start += part.ids.len();
    }
    Ok(found)
}

/// The ids of a chunk, and the text of every `<unk>` among them by position; `check` as in
/// [`encode_chunk`].
fn encode_with_unknown(
    chunk: &mut TextChunk,
    tokenizer: &Tokenizer,
    options: EncodeOptions,
    warnings: &mut TextWarnings,
    check: bool,
) -> Result<(EncodedChunk, BTreeMap<usize, String>)> {
    let mut unknown = BTreeMap::new();
    let unk = tokenizer.unk();
    let part = if let Some(WordCodec { vocab, mode }) = tokenizer.codec_as() {
        let num_special_tokens = special_tokens(*mode).len() as u32;
        let recorder = UnknownRecorder { vocab, unknown: &mut unknown, num_special_tokens };
        EncodedChunk::new(chunk.index, encode_words(chunk, *mode, options, None, warnings, recorder)?)
    } else {
        let part = encode_chunk(chunk, tokenizer, options, warnings, check)?;
        let ids = &part.ids;
        if !ids.iter().any(|&id| Some(id) == unk) {
            return Ok((part, unknown));
        }
        let marks = [tokenizer.bos(), tokenizer.eos()];
        let positions = (0..ids.len()).filter(|&at| !marks.contains(&Some(ids[at])));
        let is_unknown = |at: &usize| Some(ids[*at]) == unk;
        if tokenizer.granularity() == Granularity::Char {
            let newlines = tokenizer.mode().keeps_newlines();
            let chars = chunk.text()?.chars().filter(|&c| newlines || c != '\n');
            unknown.extend(
                positions.zip(chars).filter(|(at, _)| is_unknown(at)).map(|(at, c)| (at, c.to_string())),
            );
        } else {
            let name = unk.map_or_else(String::new, |unk| tokenizer.token(unk));
            unknown.extend(positions.filter(is_unknown).map(|at| (at, name.clone())));
        }
        part
    };
    unknown.retain(|&at, _| part.ids.get(at).copied() == unk);
    Ok((part, unknown))
}

/// Whether a line starts with the word `<s>` or ends with the word `</s>`.
fn has_marks(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let alone = |beside: Option<&u8>| beside.is_none_or(u8::is_ascii_whitespace);
    line.strip_prefix(b"<s>").is_some_and(|rest| alone(rest.first()))
        || line.strip_suffix(b"</s>").is_some_and(|rest| alone(rest.last()))
}

/// Joins the chunks that each thread encoded; `maps` are from each thread's ids to the final ones.
fn concatenate(
    encoded: Vec<Vec<EncodedChunk>>,
    maps: &[Vec<u32>],
    tokenizer: &Tokenizer,
    warnings: TextWarnings,
    keep: UnknownText,
) -> (TokenText, BTreeMap<usize, String>) {
    let mut parts: Vec<(usize, EncodedChunk)> = Vec::new();
    for (thread, its) in encoded.into_iter().enumerate() {
        parts.extend(its.into_iter().map(|part| (thread, part)));
    }
    parts.sort_unstable_by_key(|(_, part)| part.index);
    let (mut unknown, mut unknown_at, mut before) = (BTreeMap::new(), BTreeMap::new(), 0);
    for (_, part) in &mut parts {
        add_unknown(&mut unknown, std::mem::take(&mut part.unknown));
        let here = std::mem::take(&mut part.unknown_at);
        unknown_at.extend(here.into_iter().map(|(at, word)| (before + at, word)));
        before += part.ids.len();
    }
    let has_parts = matches!(tokenizer.granularity(), Granularity::Word | Granularity::Char);
    for word in unknown_at.values().filter(|_| has_parts) {
        *unknown.entry(word.clone()).or_default() += 1;
    }
    let lossy = parts.iter_mut().find_map(|(_, part)| part.lossy.take());
    let ids = match parts.as_mut_slice() {
        [(_, only)] if maps.is_empty() => std::mem::take(&mut only.ids),
        _ => join_chunks(parts, maps),
    };
    let count =
        |id: Option<u32>| id.map_or(0, |id| ids.par_iter().filter(|&&other| other == id).count() as u64);
    let text = TokenText {
        bytes: text_bytes(warnings),
        mode: tokenizer.mode(),
        oov: count(tokenizer.unk()),
        lossy,
        unknown: (keep != UnknownText::Forgotten && !unknown.is_empty()).then(|| unknown.into()),
        bos: tokenizer.bos(),
        lines: count(tokenizer.bos()),
        ids: ids.into(),
    };
    (text, unknown_at)
}

fn join_chunks(parts: Vec<(usize, EncodedChunk)>, maps: &[Vec<u32>]) -> Vec<u32> {
    let mut joined = vec![0; parts.iter().map(|(_, part)| part.ids.len()).sum()];
    // The memory of each part is freed as soon as it is copied.
    let mut rest = joined.as_mut_slice();
    let places = parts.into_iter().map(|(thread, EncodedChunk { ids, .. })| {
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

    #[test]
    fn a_thread_without_text_changes_no_count() {
        let maps = [vec![0, 1, 2], vec![0, 1, 2, 4, 3]];
        for counts in [vec![vec![], vec![0, 5, 5, 3, 9]], vec![vec![0, 2, 2], vec![0, 3, 3, 3, 9]]] {
            assert_eq!(add_counts(counts, &maps, 5), [0, 5, 5, 9, 3]);
        }
        let text = Span::from_text("memory", "a b a\n");
        let options = EncodeOptions { threads: 2, ..EncodeOptions::default() };
        let learn =
            || learn_word_tokenizer(&[text], TextMode::Line, options, &WordVocabulary::default(), None);
        let (tokenizer, _, frequencies) = learn().unwrap();
        let of = |word: &str| frequencies[tokenizer.id(word.as_bytes()).unwrap() as usize];
        assert_eq!((of("a"), of("b"), frequencies.iter().sum::<u32>()), (2, 1, 5));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn a_vocabulary_without_an_index_gives_the_same_tokens(
            line in "([a-d]{1,3}|[ef]{9,10}|<unk>|<s>| |\n|\r){1,200}",
            repeats in prop::sample::select(vec![1_usize, 3000]),
            threads in 1_usize..4,
            mode in prop::sample::select(vec![TextMode::Stream, TextMode::Line]),
            literal_specials in prop::sample::select(vec![LiteralSpecials::Unk, LiteralSpecials::Skip]),
        ) {
            let text = line.repeat(repeats);
            let span = [Span::from_text("memory", &text)];
            let special = special_tokens(mode).iter().map(|&name| name.to_owned());
            let known = ["a", "bb", "ab", "eeeeeeeee", "\n"].into_iter();
            let others = (0..400_000).map(|n| format!("w{n}"));
            let known = known.filter(|word| mode == TextMode::Stream || *word != "\n").map(str::to_owned);
            let words: Vec<String> = special.chain(others).chain(known).collect();
            let list = words.iter().map(String::as_str);
            let indexed = Tokenizer::from_words(TokenizerKind::Word, mode, list).unwrap();
            let stored = Tokenizer::from_stored_words(TokenizerKind::Word, mode, words.iter().map(String::as_bytes)).unwrap();
            let options = EncodeOptions { threads, literal_specials, ..EncodeOptions::default() };
            let (a, b) = (encode(&span, &indexed, options).unwrap(), encode(&span, &stored, options).unwrap());
            let WordCodec { vocab, .. } = stored.codec_as().unwrap();
            prop_assert_eq!(vocab.is_indexed(), !is_short(&span, vocab));
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
            Tokenizer::from_stored_words(TokenizerKind::Word, TextMode::Line, list).unwrap()
        };
        let text = "a b <unk> c w19999\n";
        let span = [Span::from_text("memory", text)];
        let expected = [1, 3, 4, 0, 0, 20_006, 2];
        let (locals, indexed) = (make(), make());
        assert_eq!(indexed.encode("a b").unwrap(), [3, 4]);
        for (tokenizer, has_index) in [(locals, false), (indexed, true)] {
            let read = encode(&span, &tokenizer, EncodeOptions::default()).unwrap();
            assert_eq!(tokenizer.codec_as::<WordCodec>().unwrap().vocab.is_indexed(), has_index);
            assert_eq!(read.0.ids, expected);
        }
    }
}
