//! Texts of a config as tokens, with notes on them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use surprisal_formats::hf;
use surprisal_model::LanguageModel;
use surprisal_platform::threads::Pool;
use surprisal_text::{
    Corpus, DataOptions, EncodeOptions, Granularity, InputOptions, NoTexts, TextMode, TokenText, Tokenizer,
    TokenizerKind, WordVocabulary, is_pipe,
};

use crate::config::{Config, Loaded, TokenizerType, cores};
use crate::error::{Advice, Error, Result};
use crate::evaluate::{Evaluation, evaluate};
use crate::events::{Context, Event, Note};
use crate::kind::{self, Kind};
use crate::memory::{self, Room};
use crate::spelling::Spelling;
use crate::start;
use crate::token_cache;
use crate::word_choice::rare_words;
use crate::wording::{many, thousands};

/// Tokens to train on and to validate with.
#[derive(Debug)]
pub struct Dataset {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The training text.
    pub train: Arc<TokenText>,
    /// The validation text.
    pub val: TokenText,
    /// −ln p(validation text | training text) under the texts' source, where that is known.
    pub source_nats: Option<f64>,
    /// The decoded validation text.
    pub spelling: Spelling,
    /// The texts that the tokens are from, if still needed.
    pub corpus: Option<Corpus>,
    /// The minimum number of occurrences of a word, where the tokenizer has learned words.
    pub min_count: Option<u64>,
}

/// Options for reading the config's texts.
pub fn reading(config: &Config) -> EncodeOptions {
    EncodeOptions {
        threads: if config.train.threads == 0 { cores() } else { config.train.threads },
        literal_specials: config.data.literal_specials,
        last_line: config.data.last_line,
    }
}

/// Options of finding and cleaning the config's texts, for a tokenizer of any bytes or of text.
pub fn inputs(config: &Config, any_bytes: bool) -> InputOptions {
    let data = &config.data;
    InputOptions {
        field: data.field.clone(),
        include: data.include.clone(),
        exclude: data.exclude.clone(),
        invalid: data.invalid,
        normalize: data.normalize,
        any_bytes,
        as_stored: data.reader == 1,
        no_texts: NoTexts(Some(Kind::no_text)),
        ..InputOptions::default()
    }
}

pub(crate) fn corpus(config: &Config) -> Result<Corpus> {
    let data = &config.data;
    kind::check_texts(&data.train)?;
    kind::check_texts(&data.val)?;
    let options = DataOptions {
        train: data.train.clone(),
        val: data.val.clone(),
        inputs: inputs(config, config.tokenizer.kind == TokenizerType::Byte),
        once: false,
        mark_documents: data.unit.is_none(),
        split: data.split,
        split_seed: data.split_seed,
        val_fraction: data.val_fraction,
        train_fraction: data.train_fraction,
        train_part: data.train_part,
        mode: data.unit.unwrap_or(TextMode::Stream),
        encode_options: reading(config),
    };
    if data.train.is_empty() {
        Ok(Corpus::embedded(&data.embedded, &options)?)
    } else {
        Ok(Corpus::load(&options)?)
    }
}

/// Refuses to read texts again of which one is a pipe, with `hint`.
///
/// # Errors
/// Such texts.
pub fn refuse_pipes(config: &Config, hint: &str) -> Result<()> {
    let data = &config.data;
    let Some(pipe) = data.train.iter().chain(&data.val).find(|path| is_pipe(path)) else { return Ok(()) };
    Err(Error::failed(format!("{} is a pipe, and cannot be read again", pipe.display())).hint(hint))
}

pub(crate) fn own_corpus(config: &Config) -> Result<Corpus> {
    corpus(config).map_err(|failure| {
        failure.hint(Advice::PutBack { of: Some("the run's own texts are named in its config.toml") })
    })
}

impl Dataset {
    /// Reads the texts, learns the tokenizer from the training split alone unless it is `known`,
    /// and encodes both splits. `begun`: the texts are those of an existing run.
    ///
    /// # Errors
    /// An error in the texts, with the file and a hint.
    pub fn load(config: &Config, begun: bool, known: Option<Tokenizer>, ctx: &Context<'_>) -> Result<Self> {
        ctx.pool.install(|| Self::read(None, config, begun, known, ctx))
    }

    /// Sets `tokenizer.min_count` to the number that was used, so that the run's config gives the
    /// same vocabulary again.
    pub(crate) fn record_min_count(&self, settings: &mut Loaded) {
        let min_count = &mut settings.config.tokenizer.min_count;
        *min_count = min_count.or(self.min_count);
    }

    /// Evaluation of `model` on the validation text.
    ///
    /// # Errors
    /// A failure of the model.
    pub fn evaluate(&self, model: &dyn LanguageModel, pool: &Pool) -> Result<Evaluation> {
        let evaluation = evaluate(model, &self.val, self.tokenizer.unk(), self.source_nats, pool)?;
        Ok(Evaluation { spelling: Some(self.spelling), ..evaluation })
    }

    /// [`Self::load`] in the caller's threads, and for an n-gram model that is counted in `room`,
    /// with the tokens of the training text in a temporary file there if they are many.
    pub(crate) fn read(
        room: Option<&Room>,
        config: &Config,
        begun: bool,
        known: Option<Tokenizer>,
        ctx: &Context<'_>,
    ) -> Result<Self> {
        let corpus = if begun { own_corpus(config)? } else { corpus(config)? };
        let kind = config.tokenizer.kind();
        let known = if known.is_some() { known } else { given_tokenizer(config, &corpus, ctx)? };
        let cached = token_cache::folder_of(config, &corpus, room)?;
        if cached.is_none() {
            memory::check_text(corpus.bytes(), kind)?;
        }
        let (tokenizer, train, min_count) = match (known, &cached) {
            (known, Some(folder)) => token_cache::tokens(config, &corpus, known, folder, ctx)?,
            (Some(tokenizer), None) => {
                let train = corpus.encode_train(&tokenizer)?;
                (tokenizer, train, None)
            }
            (None, None) => {
                let words = config.tokenizer.words(config.data.normalize)?;
                learn(&corpus, kind, &words, ctx)?
            }
        };
        let val = corpus.encode_val(&tokenizer)?;
        ctx.notes(corpus.notices())?;
        let source_nats = corpus.source_nats_val()?;
        let spelling = Spelling::of(&tokenizer, &val, ctx.pool)?;
        ctx.emit(&Event::Texts {
            name: corpus.name(),
            train_tokens: train.scored(),
            train_bytes: train.bytes,
            train_oov: train.oov,
            val_tokens: val.scored(),
            val_bytes: val.bytes,
            split: corpus.split(),
            val_oov: val.oov,
            tokenizer: tokenizer.kind(),
            vocab_size: tokenizer.vocab_size(),
        })?;
        if tokenizer.unused_ids() > 0 {
            let (unused, size) =
                (thousands(tokenizer.unused_ids() as u64), thousands(tokenizer.vocab_size() as u64));
            ctx.note(Note::Text(format!(
                "{unused} of the tokenizer's {size} ids have no token: no text has them"
            )))?;
        }
        note_tokens(&val, "the validation text", "the vocabulary", ctx)?;
        if val.oov > 0 && train.oov == 0 {
            ctx.note(Note::UntaughtUnk { words: tokenizer.granularity() == Granularity::Word })?;
        }
        if config.model.init_from.is_some() && tokenizer.kind() != kind {
            ctx.note(Note::OwnTokens { own: tokenizer.kind(), requested: kind })?;
        }
        if train.ids == val.ids {
            ctx.note(Note::ValidationIsTraining)?;
        } else if !begun && !config.data.train.is_empty() {
            note_parts(&corpus, ctx)?;
        }
        let train = Arc::new(train);
        let data = Self { tokenizer, train, val, source_nats, spelling, corpus: Some(corpus), min_count };
        if config.model.init_from.is_some() && !begun {
            data.check_known("the model of model.init_from", config, ctx)?;
        }
        Ok(data)
    }

    /// Refuses a training text of which more than the allowed share is unknown to `model`, whose
    /// tokens these are: it would learn to predict `<unk>`, at a low perplexity. No unknown
    /// character is allowed by default, as characters can be added.
    ///
    /// # Errors
    /// Such a text; one that cannot be read.
    pub(crate) fn check_known(&self, model: &str, config: &Config, ctx: &Context<'_>) -> Result<()> {
        let (text, Some(corpus)) = (&self.train, &self.corpus) else { return Ok(()) };
        if text.oov == 0 {
            return Ok(());
        }
        let share = text.oov as f64 / text.scored() as f64;
        // Examples are from the first million tokens.
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for part in corpus.unknown_train(&self.tokenizer, 1_000_000)?.into_values() {
            *counts.entry(part).or_default() += 1;
        }
        let mut unknown: Vec<(String, u64)> = counts.into_iter().collect();
        unknown.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let listed: Vec<String> =
            unknown.iter().take(8).map(|(part, count)| format!("{part:?} {}×", thousands(*count))).collect();
        let more = if unknown.len() > listed.len() { ", …" } else { "" };
        let characters = self.tokenizer.granularity() == Granularity::Char;
        let different = if characters {
            format!("{}, ", many(unknown.len() as u64, "different character"))
        } else {
            String::new()
        };
        let said = format!(
            "{:.1} % of the training text is unknown to {model} ({different}{} of {} tokens: {}{more})",
            100.0 * share,
            thousands(text.oov),
            thousands(text.scored()),
            listed.join(", ")
        );
        if share > config.model.max_unknown.unwrap_or(if characters { 0.0 } else { 0.1 }) {
            return Err(Error::usage(said).hint(Advice::MaxUnknown { characters }));
        }
        ctx.note(Note::Text(said))
    }
}

/// Emits notes on a validation text that is not like the training text, or partly the same.
fn note_parts(corpus: &Corpus, ctx: &Context<'_>) -> Result<()> {
    if let Some(difference) = corpus.tail_difference()?.filter(|difference| difference.is_gross()) {
        ctx.note(Note::TailDiffers(difference))?;
    }
    let shared = corpus.shared_passages()?;
    // Phrases and headings that a text repeats are not many.
    if shared.bytes * 100 >= shared.of && shared.bytes > 0 {
        ctx.note(Note::SharedPassages(shared))?;
    }
    Ok(())
}

/// Learns a tokenizer and encodes the training text; of words those of `vocabulary`, with a note
/// if some are not in it, and their minimum number of occurrences.
pub(crate) fn learn(
    corpus: &Corpus,
    kind: TokenizerKind,
    vocabulary: &WordVocabulary,
    ctx: &Context<'_>,
) -> Result<(Tokenizer, TokenText, Option<u64>)> {
    if kind != TokenizerKind::Word {
        return Ok(corpus.tokenize_train(kind).map(|(tokenizer, text)| (tokenizer, text, None))?);
    }
    let (tokenizer, text, choice) = corpus.learn_words(vocabulary)?;
    if let Some(note) = rare_words(vocabulary.min_count, choice, text.oov, text.scored()) {
        ctx.note(note)?;
    }
    Ok((tokenizer, text, Some(choice.min_count)))
}

/// The tokenizer of `tokenizer.file`, or of the model that the run starts from.
fn given_tokenizer(config: &Config, corpus: &Corpus, ctx: &Context<'_>) -> Result<Option<Tokenizer>> {
    let unit = corpus.mode();
    let start = start::of(config, ctx)?;
    let own = start.as_ref().and_then(|start| start.tokenizer.as_ref());
    let tokenizer = match (&config.tokenizer.file, own) {
        (Some(path), _) => file_tokenizer(path, unit).map_err(|error| error.within("tokenizer.file"))?,
        (None, Some(bytes)) => match Tokenizer::from_json(bytes)? {
            // A file from outside does not say how texts are read.
            tokenizer if tokenizer.kind() == TokenizerKind::File => Tokenizer::from_file(bytes, unit)?,
            tokenizer => tokenizer,
        },
        // Byte tokenizers are all the same.
        (None, None) if start.is_none() || config.tokenizer.kind == TokenizerType::Byte => return Ok(None),
        (None, None) => {
            let folder = "the folder of model.init_from";
            return Err(start::no_tokenizer(folder, ", or name it as tokenizer.file"));
        }
    };
    let rows = start.map_or(0, |start| start.config.vocab_size());
    start::note_padding("the model of model.init_from", rows, tokenizer.vocab_size(), ctx)?;
    if config.model.extend_vocab { extended(corpus, &tokenizer, ctx).map(Some) } else { Ok(Some(tokenizer)) }
}

/// The characters of `tokenizer` and then those of the training text that it lacks.
fn extended(corpus: &Corpus, tokenizer: &Tokenizer, ctx: &Context<'_>) -> Result<Tokenizer> {
    const SHOWN: usize = 8;
    let Some(known) = tokenizer.words().filter(|_| tokenizer.kind() == TokenizerKind::Char) else {
        let kind = tokenizer.kind();
        return Err(Error::usage(format!(
            "model.extend_vocab adds characters, and the tokens of model.init_from are of the kind \"{kind}\""
        )));
    };
    let known: BTreeSet<&str> = known.collect();
    let (learned, _) = corpus.tokenize_train(TokenizerKind::Char)?;
    let new: Vec<&str> = learned.words().into_iter().flatten().filter(|word| !known.contains(word)).collect();
    if new.is_empty() {
        return Ok(tokenizer.clone());
    }
    let listed: Vec<String> = new.iter().take(SHOWN).map(|word| format!("{word:?}")).collect();
    ctx.note(Note::Text(format!(
        "{} of the text ({}{}) {} added to the model's vocabulary of {}; each starts as the mean of the others",
        many(new.len() as u64, "new character"),
        listed.join(", "),
        if new.len() > SHOWN { ", …" } else { "" },
        if new.len() == 1 { "is" } else { "are" },
        thousands(tokenizer.vocab_size() as u64)
    )))?;
    let words = tokenizer.words().into_iter().flatten().chain(new);
    Ok(Tokenizer::from_words(TokenizerKind::Char, tokenizer.mode(), words)?)
}

/// The tokenizer in the file or folder at `path`, for texts read as `unit`.
///
/// # Errors
/// A path without a tokenizer, or with one that gives a text no sequence of tokens of its own.
pub fn file_tokenizer(path: &Path, unit: TextMode) -> Result<Tokenizer> {
    const FORMS: &str = "give a tokenizer.json, which `save_pretrained` of `transformers` makes of other forms, or \
                         GPT-2's vocab.json with merges.txt beside it";
    let Some(bytes) = hf::read_tokenizer(path)? else {
        return Err(Error::usage(format!("{} has no tokenizer", path.display())).hint(FORMS));
    };
    Tokenizer::from_file(&bytes, unit)
        .map_err(|error| Error::usage(format!("{}: {error}", path.display())).hint(FORMS))
}

/// Emits notes if the tokens do not determine a text, or if at least a quarter of it is unknown to
/// `model`.
///
/// # Errors
/// An error of the subscriber.
pub fn note_tokens(tokens: &TokenText, text: &str, model: &str, ctx: &Context<'_>) -> Result<()> {
    if let Some(change) = &tokens.lossy {
        ctx.note(Note::Text(format!(
            "bits per byte of {text} are not known: its tokens do not give it back ({change}), so other texts have \
             the same tokens"
        )))?;
    }
    let (oov, scored) = (tokens.oov, tokens.scored());
    if 4 * oov < scored || oov == 0 {
        return Ok(());
    }
    let (text, model) = (text.to_owned(), model.to_owned());
    ctx.note(Note::Unknown { text, model, oov, tokens: scored })
}
