//! N-gram counting without a run: from texts, or counts of their parts, to files of counts and
//! models; in memory, or in streams where that is not enough.

mod external;
mod in_order;
mod levels;
mod merge;
mod served;

pub use crate::memory::Room;
pub use external::Streams;
pub(crate) use served::serve;

use external::{Text, Work};

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use surprisal_formats::counts::Part;
use surprisal_formats::{arpa, counts, file, ngram};
use surprisal_model::ngram::external::Smoothed;
use surprisal_model::ngram::packed::Bytes;
use surprisal_model::ngram::{Counts, NgramConfig, NgramModel, from_counts};
use surprisal_text::{
    Corpus, DataOptions, TokenText, Tokenizer, TokenizerKind, WordMemory, WordVocabulary, is_pipe,
};

use crate::data::{learn, note_tokens};
use crate::error::{Advice, Error, Result};
use crate::events::{Context, Event, Note};
use crate::kind::{self, Kind};
use crate::word_choice::rare_words;
use crate::{memory, outputs};

/// Counts of a text.
#[derive(Debug)]
pub struct Counted {
    /// N-gram counts of all orders.
    pub counts: Grams,
    /// Tokenizer of the text.
    pub tokenizer: Tokenizer,
    /// Part of the text that was counted, where that is known.
    pub part: Option<Part>,
    /// Counts without the held-out tokens, and those tokens, for the choice of parameters.
    tuning: Option<(Counts, Vec<u32>)>,
}

/// N-gram counts of all orders.
#[derive(Debug)]
pub enum Grams {
    /// In memory.
    Memory(Counts),
    /// In temporary files.
    Streams(Box<Streams>),
}

impl Grams {
    /// The length of the longest n-gram.
    pub fn order(&self) -> usize {
        match self {
            Self::Memory(counts) => counts.order(),
            Self::Streams(streams) => streams.layout.order,
        }
    }

    /// The number of different n-grams of all orders.
    pub fn grams(&self) -> u64 {
        match self {
            Self::Memory(counts) => counts.grams(),
            Self::Streams(streams) => streams.merged.orders.iter().map(|order| order.grams).sum(),
        }
    }
}

/// The tokens of a text.
#[derive(Debug)]
pub struct Tokens<'a> {
    /// The kind of tokenizer that learns from the text.
    pub kind: TokenizerKind,
    /// Of words, those that are no `<unk>`.
    pub vocabulary: &'a WordVocabulary,
    /// A tokenizer that is given instead.
    pub known: Option<Tokenizer>,
}

/// The counts of `corpus`, which `work` is of, in bounded memory.
fn streamed(work: &Work<'_>, corpus: &Corpus, ctx: &Context<'_>) -> Result<Grams> {
    let (tokens, vocab_size) = (work.tokens(), work.tokenizer.vocab_size());
    let scored = tokens - work.config.bos.map_or(0, |bos| u64::from(work.frequencies[bos as usize]));
    let name = corpus.name();
    ctx.emit(&Event::Counting { name, tokens: scored, vocab_size, memory: work.memory })?;
    let grams = grams(work, ctx)?;
    ctx.notes(corpus.notices())?;
    Ok(grams)
}

/// Counts in temporary files; those of single words are known.
fn grams(work: &Work<'_>, ctx: &Context<'_>) -> Result<Grams> {
    Ok(match work.config.order {
        1 => Grams::Memory(Counts::of_words(work.frequencies.to_vec(), work.config.bos)),
        _ => Grams::Streams(Box::new(work.run(ctx)?)),
    })
}

/// Makes the model of `config` from `text`, whose tokens are not all in memory, in the memory of
/// `room` without `held` bytes, and passes the bytes of its file to `keep`.
///
/// # Errors
/// Settings that need all n-grams in memory; too little memory or disk; those of `keep`.
pub(crate) fn model<T>(
    (text, tokenizer): (&TokenText, &Tokenizer),
    config: &NgramConfig,
    (room, held): (&Room, u64),
    ctx: &Context<'_>,
    keep: impl FnOnce(Bytes) -> Result<T>,
) -> Result<T> {
    let memory = memory::limit(room).saturating_sub(held);
    if let Some(why) = Smoothed::refusal(config, room.quantize, true)? {
        let needed = Counts::memory(text.ids.len(), tokenizer.vocab_size(), config.order);
        return Err(over_limit(needed, memory, Some(&why)));
    }
    let mut frequencies = vec![0; tokenizer.vocab_size()];
    external::add_frequencies(&text.ids, &mut frequencies);
    let frequencies = frequencies.as_slice();
    let work = Work { text: Text::Tokens(text), tokenizer, frequencies, config, memory, room };
    match grams(&work, ctx)? {
        Grams::Memory(counts) => {
            let (estimate, report) = ctx.pool.install(|| from_counts(counts, config, None))?;
            ctx.notes(&report.notices)?;
            let model = NgramModel::new(config.clone(), report, estimate.into_trie()?);
            keep(ngram::to_bytes(&model, tokenizer)?.into())
        }
        Grams::Streams(mut streams) => {
            let path = streams.folder.file("model", 0).with_extension("ngram");
            let files = Files::new(std::slice::from_ref(&path))?;
            streams.write_models(&files, (config, None), tokenizer, ctx, &mut |_, _| Ok(()))?;
            let kept = keep(file::read(&path)?)?;
            streams.remove()?;
            Ok(kept)
        }
    }
}

/// The error of a text that does not fit into memory, and the reason why that is needed.
fn over_limit(needed: u64, limit: u64, why: Option<&str>) -> Error {
    let why = why.map_or_else(String::new, |why| format!(" ({why})"));
    let (needed, limit) = (crate::wording::bytes(needed), crate::wording::bytes(limit));
    Error::usage(format!("counting this text needs up to {needed} of memory, and the limit is {limit}{why}"))
        .hint(Advice::CountLess)
}

/// Counts of the training texts of `data`, or of part `i` of `n` where `shard` is `(i, n)`, up to
/// the order of `model`, with tokens held out where it needs them. A text that does not fit into
/// `room` is counted in temporary files. Emits [`Event::Phase`] and [`Event::Counting`].
///
/// # Errors
/// Texts that cannot be read or do not fit into memory and disk; an order out of range; a part of a
/// text with a vocabulary that depends on the whole; a subscriber's error.
pub fn count(
    data: &DataOptions,
    tokens: Tokens<'_>,
    shard: Option<(usize, usize)>,
    model: &NgramConfig,
    room: &Room,
    ctx: &Context<'_>,
) -> Result<Counted> {
    if !ctx.ranks.is_alone() && shard.is_none() {
        match served::refusal(data, &tokens, model) {
            None => return served::count(data, tokens, model, room, ctx),
            Some(why) => ctx.note(Note::Text(format!("one of the processes counts alone: {why}")))?,
        }
    }
    let place = shard.map_or(Place::Whole, |(part, parts)| Place::Part(part, parts));
    count_in(data, tokens, place, model, room, ctx)
}

/// The part of a text that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Whole,
    /// A part, from 1, of some, which is recognised by the hash of the whole.
    Part(usize, usize),
    /// The same of parts that ranks count: each reads its own only.
    OfRanks(usize, usize),
}

impl Place {
    fn corpus(self, data: &DataOptions, ctx: &Context<'_>) -> Result<Corpus> {
        Ok(ctx.pool.install(|| match self {
            Self::Whole => Corpus::whole(data, None),
            Self::Part(part, parts) => Corpus::whole(data, Some((part, parts))),
            Self::OfRanks(part, parts) => Corpus::whole(data, Some((part, parts))).map(Corpus::detached),
        })?)
    }
}

/// As [`count`], of the text in `place`.
fn count_in(
    data: &DataOptions,
    tokens: Tokens<'_>,
    place: Place,
    model: &NgramConfig,
    room: &Room,
    ctx: &Context<'_>,
) -> Result<Counted> {
    let Tokens { kind, vocabulary, known } = tokens;
    if matches!(place, Place::Part(..)) && vocabulary.needs_counts() {
        let message = "rare words are those of the whole text, which the parts of a text do not know";
        return Err(Error::usage(message).hint(Advice::ListWords));
    }
    kind::check_texts(&data.train)?;
    kind::note_configs(&data.train, ctx)?;
    // Words are learned and encoded in one pass, and known tokens are only encoded.
    let mut data = data.clone();
    data.once = kind == TokenizerKind::Word || known.is_some();
    data.inputs.any_bytes |= kind == TokenizerKind::Byte;
    let can_spill = Smoothed::refusal(model, room.quantize, true)?.is_none();
    if can_spill && room.memory.is_some() {
        // Read twice: the vocabulary first, which says whether the rest fits.
        data.once = false;
    } else {
        data.inputs.limit = Some(memory::largest_text(kind));
    }
    let mut corpus = place.corpus(&data, ctx)?;
    let is_known = known.is_some();
    let mut known = known;
    let mut rare = None;
    // Most words are longer than three letters; how long they are is known when they are read.
    let tokens = corpus.bytes() as usize / if kind == TokenizerKind::Word { 4 } else { 1 };
    let fits = room.memory.is_none()
        && memory::check_text(corpus.bytes(), kind).is_ok()
        && Counts::memory(tokens, 0, model.order) <= memory::limit(room);
    if can_spill && !fits && data.once {
        data.once = false;
        corpus = place.corpus(&data, ctx)?;
    }
    if can_spill && !fits {
        ctx.phase("reading words", 0)?;
        let limit = memory::limit(room);
        let (tokenizer, frequencies, note) =
            ctx.pool.install(|| words(&corpus, kind, vocabulary, known.take(), limit))?;
        rare = note;
        let config = NgramConfig { bos: tokenizer.bos(), unk: tokenizer.unk(), ..model.clone() };
        let tokens = external::tokens(&frequencies)?;
        let memory = Counts::memory(tokens as usize, tokenizer.vocab_size(), model.order);
        if model.order == 1 || memory > limit {
            let work = Work {
                text: Text::Corpus(&corpus, &data),
                tokenizer: &tokenizer,
                frequencies: &frequencies,
                config: &config,
                memory: limit,
                room,
            };
            let streams = streamed(&work, &corpus, ctx)?;
            rare.map_or(Ok(()), |note| ctx.note(note))?;
            let part = part_of(&corpus, place, ctx)?;
            return Ok(Counted { counts: streams, tokenizer, part, tuning: None });
        }
        known = Some(tokenizer);
    } else {
        memory::check_text(corpus.bytes(), kind)?;
    }
    ctx.phase("reading", 0)?;
    let (tokenizer, text) = ctx.pool.install(|| -> Result<_> {
        match known {
            Some(tokenizer) => {
                let text = corpus.encode_train(&tokenizer)?;
                Ok((tokenizer, text))
            }
            None => learn(&corpus, kind, vocabulary, ctx).map(|(tokenizer, text, _)| (tokenizer, text)),
        }
    })?;
    ctx.notes(corpus.notices())?;
    rare.map_or(Ok(()), |note| ctx.note(note))?;
    if is_known {
        note_tokens(&text, &corpus.name(), "the tokenizer", ctx)?;
    }
    let model = NgramConfig { bos: tokenizer.bos(), unk: tokenizer.unk(), ..model.clone() };
    let vocab_size = tokenizer.vocab_size();
    let memory = Counts::memory(text.ids.len(), vocab_size, model.order);
    let limit = memory::limit(room);
    if can_spill && memory > limit && !data.train.iter().any(|path| is_pipe(path)) {
        // It was taken for smaller than it is.
        let mut frequencies = vec![0_u32; vocab_size];
        external::add_frequencies(&text.ids, &mut frequencies);
        drop(text);
        data.once = false;
        let corpus = place.corpus(&data, ctx)?;
        let work = Work {
            text: Text::Corpus(&corpus, &data),
            tokenizer: &tokenizer,
            frequencies: &frequencies,
            config: &model,
            memory: limit,
            room,
        };
        let streams = streamed(&work, &corpus, ctx)?;
        let part = part_of(&corpus, place, ctx)?;
        return Ok(Counted { counts: streams, tokenizer, part, tuning: None });
    }
    ctx.emit(&Event::Counting { name: corpus.name(), tokens: text.scored(), vocab_size, memory })?;
    if let Some(limit) = room.memory.filter(|&limit| memory > limit) {
        return Err(over_limit(memory, limit, Smoothed::refusal(&model, room.quantize, true)?.as_deref()));
    }
    memory::check(memory, "counting this text", Advice::CountLess)?;
    let of = |tokens: Cow<'_, [u32]>, what| -> Result<Counts> {
        ctx.phase(what, Counts::PASSES * tokens.len() as u64)?;
        // An error of the subscriber comes again with the next phase.
        let done = |steps| drop(ctx.emit(&Event::Advanced { steps }));
        let counted =
            ctx.pool.install(|| Counts::new_with_progress(tokens, vocab_size, model.order, model.bos, &done));
        Ok(counted?)
    };
    let tuning = if model.needs_heldout() {
        let at = model.heldout_from(&text.ids);
        Some((of(text.ids[..at].into(), "counting all but the held-out tokens")?, text.ids[at..].to_vec()))
    } else {
        None
    };
    let counts = of(text.ids.into_vec().into(), "counting")?;
    let part = part_of(&corpus, place, ctx)?;
    Ok(Counted { counts: Grams::Memory(counts), tokenizer, part, tuning })
}

/// The part of a text in a file of counts.
fn part_of(corpus: &Corpus, place: Place, ctx: &Context<'_>) -> Result<Option<Part>> {
    let (number, parts) = match place {
        Place::Whole => return Ok(Some(Part::whole())),
        Place::OfRanks(..) => return Ok(None),
        Place::Part(number, parts) => (number, parts),
    };
    ctx.phase("hashing the whole text, to recognise its parts", 0)?;
    Ok(Some(Part { number: number as u32, parts: parts as u32, text: corpus.hash()? }))
}

/// The tokenizer, the number of occurrences of each token, and a note on rare words.
fn words(
    corpus: &Corpus,
    kind: TokenizerKind,
    vocabulary: &WordVocabulary,
    known: Option<Tokenizer>,
    limit: u64,
) -> Result<(Tokenizer, Vec<u32>, Option<Note>)> {
    if kind == TokenizerKind::Word && known.is_none() {
        // Which words are rare is known when all have been read.
        let per_word = if vocabulary.needs_counts() { 4 } else { external::BYTES_PER_WORD };
        let memory = Some(WordMemory { limit, per_word });
        let learned = corpus.learn_word_tokenizer(vocabulary, memory);
        let (tokenizer, choice, frequencies) = learned.map_err(external::too_many_words)?;
        let count = |id: Option<u32>| id.map_or(0, |id| u64::from(frequencies[id as usize]));
        let scored = external::tokens(&frequencies)? - count(tokenizer.bos());
        let note = rare_words(vocabulary.min_count, choice, count(tokenizer.unk()), scored);
        return Ok((tokenizer, frequencies, note));
    }
    let tokenizer = known.map_or_else(|| corpus.train_tokenizer(kind), Ok)?;
    let mut frequencies = vec![0_u32; tokenizer.vocab_size()];
    corpus.encode_train_to(&tokenizer, |ids| {
        external::add_frequencies(ids, &mut frequencies);
        Ok(())
    })?;
    Ok((tokenizer, frequencies, None))
}

/// Sum of the counts in files: of all parts of one text in their order, or, for a `sum`, of any
/// texts, for models of `config`. A sum of neighbouring parts is a part again if it is one of
/// fewer, equal parts.
///
/// # Errors
/// Files without counts, or of other tokens; parts that are duplicate, missing, in another order,
/// or of different texts; counts that do not fit into `room`; a subscriber's error.
pub fn merge(
    paths: &[PathBuf],
    sum: bool,
    config: &NgramConfig,
    room: &Room,
    ctx: &Context<'_>,
) -> Result<Counted> {
    ctx.phase("reading counts", 0)?;
    if let Some(readers) = merge::too_large(paths, room)? {
        if let Some(why) = Smoothed::refusal(config, room.quantize, false)?.filter(|_| room.models) {
            return Err(Error::usage(format!("these counts do not fit into memory, and {why}"))
                .hint(Advice::CountLess));
        }
        let parts = merge::parts(&readers);
        let part = if sum { larger_part(&parts) } else { whole_of_parts(paths, &parts, ctx)? };
        let (streams, tokenizer) = merge::merge(&readers, config, room, ctx)?;
        return Ok(Counted { counts: Grams::Streams(Box::new(streams)), tokenizer, part, tuning: None });
    }
    if room.memory.is_some() && !merge::can_stream(paths)? {
        ctx.note(Note::Text(
            "only .counts files that are not compressed are merged within a limit: these are read whole"
                .into(),
        ))?;
    }
    let (mut shards, mut parts) = (Vec::new(), Vec::new());
    for path in paths {
        let (counts, tokenizer, part) = open(path, Kind::detect(path)?)?;
        shards.push((counts, tokenizer));
        parts.push(part);
    }
    let part = if sum { larger_part(&parts) } else { whole_of_parts(paths, &parts, ctx)? };
    ctx.phase("merging", 0)?;
    let (counts, tokenizer) = ctx.pool.install(|| counts::merge(shards))?;
    Ok(Counted { counts: Grams::Memory(counts), tokenizer, part, tuning: None })
}

/// The counts in a file of `kind`, with their tokenizer and their part of the text, if known.
///
/// # Errors
/// A file without counts, or a malformed one.
pub fn open(path: &Path, kind: Kind) -> Result<(Counts, Tokenizer, Option<Part>)> {
    // A pipe is known by its content.
    let content = if kind == Kind::Special { Some(file::read(path)?) } else { None };
    let kind = content.as_ref().map_or(kind, |content| Kind::of_bytes(content.as_slice()));
    let read = || content.clone().map_or_else(|| file::read(path), Ok);
    let within = |error| Error::from(error).within(path.display());
    Ok(match kind {
        Kind::Counts => counts::from_bytes(read()?).map_err(within)?,
        Kind::CountsTsv | Kind::Text => {
            let bytes = read()?;
            let (counts, tokenizer) = counts::read_tsv(bytes.as_slice(), None).map_err(within)?;
            (counts, tokenizer, counts::part_of_tsv(bytes.as_slice()))
        }
        kind => {
            let message = format!("{} has no counts: it is {}", path.display(), kind.words().0);
            return Err(Error::usage(message).hint("give counts: .counts or .tsv"));
        }
    })
}

/// Checks that parts are all of one text; gives the whole, if that is known.
fn whole_of_parts(paths: &[PathBuf], parts: &[Option<Part>], ctx: &Context<'_>) -> Result<Option<Part>> {
    let wrong = |path: &Path, what: String| {
        Err(Error::usage(format!("{} {what}", path.display())).hint(Advice::AllParts))
    };
    let place = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
    for (index, path) in paths.iter().enumerate() {
        if paths[..index].iter().any(|other| place(other) == place(path)) {
            return wrong(path, "is given twice".into());
        }
    }
    let known: Vec<&Part> = parts.iter().flatten().collect();
    // Older files, sums, and lists from other programs do not name their part; nor do whole texts
    // in TSV.
    if let Some(unknown) = parts.iter().position(Option::is_none) {
        let path = &paths[unknown];
        if paths.len() > 1 || path.extension().is_none_or(|extension| extension != "tsv") {
            ctx.note(Note::UnknownPart(path.clone()))?;
        }
        return Ok(None);
    }
    for ((path, part), number) in paths.iter().zip(&known).zip(1..) {
        let Part { number: own, parts, text } = part;
        if *parts == 1 && paths.len() > 1 {
            return wrong(path, "has the counts of a whole text, not of a part of one".into());
        }
        if (*parts, text) != (known[0].parts, &known[0].text) {
            let what = format!("is not of the same parts of the same text as {}", paths[0].display());
            return wrong(path, what);
        }
        if *own != number {
            return wrong(path, format!("is part {own} of {parts} where part {number} of {parts} should be"));
        }
    }
    match (paths.last(), known.last()) {
        (Some(path), Some(Part { number, parts, .. })) if number < parts => {
            wrong(path, format!("is part {number}, and the last of {parts} should be part {parts}"))
        }
        (_, last) => Ok(last.map(|_| Part::whole())),
    }
}

/// The part that neighbouring parts make together, if they make one: parts 3 and 4 of 8 are part 2
/// of 4.
fn larger_part(parts: &[Option<Part>]) -> Option<Part> {
    let first = parts.first()?.as_ref()?;
    let (len, before) = (parts.len() as u32, first.number - 1);
    let follow = parts.iter().zip(u64::from(first.number)..).all(|(part, number)| {
        let is_next = |part: &Part| u64::from(part.number) == number && part.parts == first.parts;
        part.as_ref().is_some_and(|part| is_next(part) && part.text == first.text)
    });
    if !follow || first.parts % len != 0 || before % len != 0 {
        return None;
    }
    let part = Part { number: before / len + 1, parts: first.parts / len, text: first.text.clone() };
    Some(if part.parts == 1 { Part::whole() } else { part })
}

/// Output files, with their formats by file extension.
#[derive(Debug)]
pub struct Files(Vec<(PathBuf, String)>);

impl Files {
    /// Files for counts (.counts, .tsv) and for models of them (.arpa, .ngram).
    ///
    /// # Errors
    /// A name with another extension.
    pub fn new(paths: &[PathBuf]) -> Result<Self> {
        let files: Vec<_> = paths.iter().map(|path| (path.clone(), outputs::suffix(path))).collect();
        let known = |format: &str| ["arpa", "ngram", "counts", "tsv"].contains(&format);
        match files.iter().find(|(_, format)| !known(format)) {
            None => Ok(Self(files)),
            Some((path, _)) => Err(Error::usage(format!("{} has no known format", path.display()))
                .hint("name it .arpa, .ngram, .counts or .tsv")),
        }
    }

    /// Whether a file has one of `formats`.
    pub fn any(&self, formats: &[&str]) -> bool {
        self.0.iter().any(|(_, format)| formats.contains(&format.as_str()))
    }

    /// The room for counting into these files, whose models are quantised or not, with temporary
    /// files in `temp`, or else beside the first of them.
    pub fn room(&self, memory: Option<u64>, temp: Option<PathBuf>, quantize: bool) -> Room {
        let beside = || {
            let file = self.0.first().map(|(path, _)| path).filter(|path| path.as_os_str() != "-");
            let folder = file.and_then(|path| path.parent()).map(Path::to_owned);
            folder.map_or_else(std::env::temp_dir, |folder| {
                if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder }
            })
        };
        let models = self.any(&["arpa", "ngram"]);
        Room { memory, temp: temp.unwrap_or_else(beside), models, quantize }
    }

    fn all(&self, format: &'static str) -> impl Iterator<Item = &Path> {
        self.0.iter().filter(move |(_, of)| of == format).map(|(path, _)| path.as_path())
    }
}

impl Counted {
    /// Writes all files, with models of `config` and the values of .ngram files in `quantize` bits;
    /// gives the files and their sizes in bytes. Emits [`Event::Phase`] and [`Event::Wrote`].
    ///
    /// # Errors
    /// Settings that do not fit; a file that cannot be written; a subscriber's error.
    pub fn write(
        self,
        files: &Files,
        config: &NgramConfig,
        quantize: Option<u32>,
        ctx: &Context<'_>,
    ) -> Result<Vec<(PathBuf, u64)>> {
        let (tokenizer, part, pool) = (&self.tokenizer, self.part.as_ref(), ctx.pool);
        let (order, bos, unk) = (self.counts.order(), tokenizer.bos(), tokenizer.unk());
        let config = NgramConfig { order, bos, unk, ..config.clone() };
        config.check().map_err(|error| Error::usage(error.to_string()))?;
        let mut written = Vec::new();
        let mut done = |path: &Path, bytes: u64| {
            written.push((path.to_owned(), bytes));
            ctx.emit(&Event::Wrote { path: path.to_owned(), bytes })
        };
        if files.any(&["counts", "tsv"]) {
            ctx.phase("writing counts", 0)?;
        }
        for path in files.all("counts") {
            let bytes = match &self.counts {
                Grams::Memory(counts) => pool.install(|| counts::write(path, counts, tokenizer, part))?,
                Grams::Streams(streams) => pool.install(|| streams.write_counts(path, tokenizer, part))?,
            };
            done(path, bytes)?;
        }
        for path in files.all("tsv") {
            let bytes = match &self.counts {
                Grams::Memory(counts) => pool.install(|| counts::write_tsv(path, counts, tokenizer, part))?,
                Grams::Streams(streams) => streams.write_tsv(path, tokenizer, part, ctx)?,
            };
            done(path, bytes)?;
        }
        let counts = match self.counts {
            Grams::Memory(counts) => counts,
            Grams::Streams(mut streams) => {
                if files.any(&["arpa", "ngram"]) {
                    streams.write_models(files, (&config, quantize), tokenizer, ctx, &mut done)?;
                }
                streams.remove()?;
                return Ok(written);
            }
        };
        if !files.any(&["arpa", "ngram"]) {
            return Ok(written);
        }
        ctx.phase("estimating", 0)?;
        let tuning = self.tuning.as_ref().map(|(counts, heldout)| (counts, heldout.as_slice()));
        let (estimate, report) = pool.install(|| from_counts(counts, &config, tuning))?;
        ctx.notes(&report.notices)?;
        ctx.phase("writing", 0)?;
        for path in files.all("arpa") {
            let written = pool.install(|| arpa::write(path, &estimate, tokenizer))?;
            ctx.notes(&written.notices)?;
            done(path, written.bytes)?;
        }
        if files.any(&["ngram"]) {
            let trie = pool.install(|| estimate.into_trie())?;
            let mut model = NgramModel::new(config, report, trie);
            if let Some(bits) = quantize {
                model = pool.install(|| model.quantized(bits))?;
            }
            for path in files.all("ngram") {
                done(path, pool.install(|| ngram::write(path, &model, tokenizer))?)?;
            }
        }
        Ok(written)
    }
}
