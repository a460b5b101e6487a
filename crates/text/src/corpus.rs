//! Training and validation texts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::chunks::{Span, TextChunk};
use crate::encode::{encode, learn_words, train, unknown_words};
use crate::error::{Error, Result};
use crate::files::{find_files, name, split_at};
use crate::numbers::many;
use crate::parallel::{TextWarnings, for_each_chunk};
use crate::{Codec, EncodeOptions, TextMode, TokenText, Tokenizer, TokenizerKind, TrainingText};
use surprisal_source::Source;

/// The seed and the size of every embedded corpus, fixed so that its text is the same everywhere.
const EMBEDDED_SEED: u64 = 1;
const EMBEDDED_BYTES: usize = 1_000_000;

/// The texts to read, and the options of reading them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DataOptions {
    /// Training texts: files, or directories (recursively, in the order of their names).
    pub train: Vec<PathBuf>,
    /// Validation texts; if empty, validation is the end of the training texts.
    pub val: Vec<PathBuf>,
    /// The fraction of the bytes that is validation when `val` is empty.
    pub val_fraction: f64,
    /// The fraction of the training text that is used, from its start; 0 and 1 are all of it.
    pub train_fraction: f64,
    /// The way texts become sequences.
    pub mode: TextMode,
    /// Options of encoding.
    pub encode_options: EncodeOptions,
}

/// Texts, split into training and validation.
#[derive(Debug, Default)]
pub struct Corpus {
    name: String,
    mode: TextMode,
    encode_options: EncodeOptions,
    train: Vec<Span>,
    val: Vec<Span>,
    /// The whole text if `train` is a part of it.
    whole: Vec<Span>,
    /// Notices from finding the files.
    file_notices: Vec<String>,
    /// Warnings about training and validation text, once they have been read.
    warnings: [OnceLock<TextWarnings>; 2],
    notices: OnceLock<Vec<String>>,
    /// The minimum number of training tokens.
    min_tokens: u64,
    /// Whether validation is the end of the training text.
    split: bool,
    source: Option<KnownSource>,
}

/// A text with its source.
#[derive(Debug)]
struct KnownSource {
    source: Source,
    text: String,
    /// The start of validation, if it is the end of the text.
    split: Option<usize>,
}

impl Corpus {
    /// Finds the texts and splits them; reads only the bytes around the split.
    ///
    /// # Errors
    /// A missing path, a directory without text, texts that are empty or too short to split.
    pub fn load(options: &DataOptions) -> Result<Self> {
        let found = find_files(&options.train)?;
        let name = name(&options.train, found.spans.len());
        let mut corpus = Self::split(name, found.spans, options)?;
        corpus.file_notices.splice(..0, found.notices);
        Ok(corpus)
    }

    /// All of the training texts and no validation text, or shard `(part, parts)` of them, from 1.
    ///
    /// Shards have about the same length, end with a line, and together are the whole; one may be
    /// empty.
    ///
    /// # Errors
    /// As [`Self::load`]; a shard number out of range.
    pub fn whole(options: &DataOptions, shard: Option<(usize, usize)>) -> Result<Self> {
        let found = find_files(&options.train)?;
        let mut train = found.spans;
        let total: u64 = train.iter().map(Span::len).sum();
        let name = name(&options.train, train.len());
        if total == 0 {
            return Err(Error::Empty(name));
        }
        let mut corpus = Self::new(name, Vec::new(), options);
        corpus.file_notices = found.notices;
        if let Some((part, parts)) = shard {
            if !(1..=parts).contains(&part) {
                return Err(Error::Setting(format!("there is no part {part} of {parts}")));
            }
            let at = |part: usize| (u128::from(total) * part as u128 / parts as u128) as u64;
            let (before, _) = split_at(&train, at(part), TextMode::Line)?;
            // From the end of the previous part.
            let (_, own) = split_at(&before, at(part - 1), TextMode::Line)?;
            corpus.whole = std::mem::replace(&mut train, own);
            corpus.name = format!("part {part} of {parts} of {}", corpus.name);
            corpus.min_tokens = 0;
        }
        corpus.train = train;
        Ok(corpus)
    }

    /// The embedded corpus `name`, a sample of a source.
    ///
    /// # Errors
    /// An unknown name.
    pub fn embedded(name: &str, options: &DataOptions) -> Result<Self> {
        let Some(source) = Source::embedded(name) else {
            return Err(Error::NoSuchCorpus(name.to_owned()));
        };
        let text = source.sample(EMBEDDED_SEED, EMBEDDED_BYTES);
        let name = format!("{name} (embedded)");
        let span = Span::from_text(&name, &text);
        let mut corpus = Self::split(name, vec![span], options)?;
        let split =
            options.val.is_empty().then(|| corpus.val.first().map_or(text.len(), |span| span.start as usize));
        corpus.source = Some(KnownSource { source, text, split });
        Ok(corpus)
    }

    fn new(name: String, train: Vec<Span>, options: &DataOptions) -> Self {
        Self {
            name,
            mode: options.mode,
            encode_options: options.encode_options,
            train,
            min_tokens: 2,
            ..Self::default()
        }
    }

    fn split(name: String, files: Vec<Span>, options: &DataOptions) -> Result<Self> {
        let total: u64 = files.iter().map(Span::len).sum();
        if total == 0 {
            return Err(Error::Empty(name));
        }
        let mut corpus = Self::new(name, files, options);
        corpus.split = options.val.is_empty();
        if corpus.split {
            // From the start, as in nanoGPT, so that splits are the same to the byte.
            let wanted = ((1.0 - options.val_fraction) * total as f64) as u64;
            let (train, val) = split_at(&corpus.train, wanted, options.mode)?;
            (corpus.train, corpus.val) = (train, val);
        } else {
            let found = find_files(&options.val)?;
            corpus.file_notices = found.notices;
            corpus.val = found.spans;
            if corpus.val.iter().all(|span| span.len() == 0) {
                return Err(Error::Empty(crate::files::name(&options.val, corpus.val.len())));
            }
        }
        if options.train_fraction > 0.0 && options.train_fraction < 1.0 {
            let whole: u64 = corpus.train.iter().map(Span::len).sum();
            let wanted = (options.train_fraction * whole as f64) as u64;
            (corpus.train, _) = split_at(&corpus.train, wanted, options.mode)?;
        }
        let too_short = |part: &str| Error::TooShort {
            name: corpus.name.clone(),
            message: format!("there is no text left for {part}"),
            split: corpus.split,
        };
        if corpus.train.iter().all(|span| span.len() == 0) {
            return Err(too_short("training"));
        }
        if corpus.val.iter().all(|span| span.len() == 0) {
            return Err(too_short("validation"));
        }
        Ok(corpus)
    }

    /// A hash (BLAKE3, hexadecimal) of all bytes of the training text; of the whole text for a
    /// shard.
    ///
    /// # Errors
    /// A text that cannot be read.
    pub fn hash(&self) -> Result<String> {
        let spans = if self.whole.is_empty() { &self.train } else { &self.whole };
        // The hash of the chunks' hashes, so that threads share the work.
        let hash = |hashes: &mut Vec<_>, _: &mut TextWarnings, chunk: &mut TextChunk| {
            hashes.push((chunk.index, *blake3::hash(&chunk.bytes).as_bytes()));
            Ok(())
        };
        let (hashes, _) = for_each_chunk(spans, self.encode_options.threads, || Ok(Vec::new()), hash)?;
        let mut hashes = hashes.concat();
        hashes.sort_unstable();
        let joined: Vec<u8> = hashes.into_iter().flat_map(|(_, hash)| hash).collect();
        Ok(blake3::hash(&joined).to_hex().to_string())
    }

    /// The number of bytes for training and validation together.
    pub fn bytes(&self) -> u64 {
        self.train.iter().chain(&self.val).map(Span::len).sum()
    }

    /// The name of the text.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// Notices about the text for the user, computed at the first call.
    ///
    /// A call before the text was encoded reads it once more.
    pub fn notices(&self) -> &[String] {
        self.notices.get_or_init(|| {
            let mut all = TextWarnings::default();
            for (warnings, spans) in self.warnings.iter().zip([&self.train, &self.val]) {
                // A text that cannot be read is an error of encoding it, not a notice.
                let look =
                    || for_each_chunk(spans, self.encode_options.threads, || Ok(()), |(), _, _| Ok(()));
                all += *warnings
                    .get_or_init(|| look().map_or(TextWarnings::default(), |(_, warnings)| warnings));
            }
            [self.file_notices.clone(), all.notices(self.encode_options.literal_specials)].concat()
        })
    }

    /// Trains a tokenizer on the training split alone.
    ///
    /// # Errors
    /// Text that is not UTF-8 (except for bytes), a vocabulary that is too large.
    pub fn train_tokenizer(&self, kind: TokenizerKind) -> Result<Tokenizer> {
        train(kind, self.mode, &self.train, self.encode_options)
    }

    /// Trains a codec from outside this crate on the training split alone.
    ///
    /// # Errors
    /// As [`Codec::learn`] and [`Tokenizer::custom`]; a codec with another mode than the corpus.
    pub fn train_codec(&self, mut codec: Box<dyn Codec>) -> Result<Tokenizer> {
        if codec.mode() != self.mode {
            let (own, other) = (codec.mode(), self.mode);
            return Err(Error::Setting(format!(
                "the codec is for {own:?} mode, and the text is in {other:?} mode"
            )));
        }
        codec.learn(&TrainingText { spans: &self.train, threads: self.encode_options.threads })?;
        Tokenizer::custom(Arc::from(codec))
    }

    /// Trains a tokenizer and encodes the training split; words need one pass over the text.
    ///
    /// # Errors
    /// As [`Self::train_tokenizer`] and [`Self::encode_train`].
    pub fn tokenize_train(&self, kind: TokenizerKind) -> Result<(Tokenizer, TokenText)> {
        if kind == TokenizerKind::Word {
            let (tokenizer, text, warnings) = learn_words(&self.train, self.mode, self.encode_options)?;
            self.warnings[0].get_or_init(|| warnings);
            return Ok((tokenizer, self.check_length(text)?));
        }
        let tokenizer = self.train_tokenizer(kind)?;
        let text = self.encode_train(&tokenizer)?;
        Ok((tokenizer, text))
    }

    /// The training split as tokens.
    ///
    /// # Errors
    /// Text that is not UTF-8; too few tokens to learn from.
    pub fn encode_train(&self, tokenizer: &Tokenizer) -> Result<TokenText> {
        let (text, warnings) = encode(&self.train, tokenizer, self.encode_options)?;
        self.warnings[0].get_or_init(|| warnings);
        self.check_length(text)
    }

    fn check_length(&self, text: TokenText) -> Result<TokenText> {
        if text.scored() < self.min_tokens {
            return Err(Error::TooShort {
                name: self.name.clone(),
                message: format!(
                    "it has {} to train on, and the first has no context",
                    many(text.scored(), "token")
                ),
                split: self.split,
            });
        }
        Ok(text)
    }

    /// The validation split as tokens.
    ///
    /// # Errors
    /// Text that is not UTF-8; no token to score.
    pub fn encode_val(&self, tokenizer: &Tokenizer) -> Result<TokenText> {
        let (text, warnings) = encode(&self.val, tokenizer, self.encode_options)?;
        self.warnings[1].get_or_init(|| warnings);
        if text.scored() == 0 {
            return Err(Error::TooShort {
                name: self.name.clone(),
                message: "no token is left to validate on".into(),
                split: self.split,
            });
        }
        Ok(text)
    }

    /// The text of every `<unk>` token of the training split, by token position, for positions
    /// below `end`.
    ///
    /// # Errors
    /// As [`Self::encode_train`].
    pub fn unknown_train(&self, tokenizer: &Tokenizer, end: usize) -> Result<BTreeMap<usize, String>> {
        unknown_words(&self.train, tokenizer, self.encode_options, end)
    }

    /// The text of every `<unk>` token of the validation split, by token position, for positions
    /// below `end`.
    ///
    /// # Errors
    /// As [`Self::encode_val`].
    pub fn unknown_val(&self, tokenizer: &Tokenizer, end: usize) -> Result<BTreeMap<usize, String>> {
        unknown_words(&self.val, tokenizer, self.encode_options, end)
    }

    /// −ln p(validation text | training text) in nats; `None` if the source is not known.
    ///
    /// # Errors
    /// A failure of the source.
    pub fn source_nats_val(&self) -> Result<Option<f64>> {
        let Some(KnownSource { source, text, split: Some(split) }) = &self.source else { return Ok(None) };
        Ok(Some(source.nats(&text[..*split], &text[*split..])?))
    }

    /// Calls `visit` with p(· | all text before) for every character of the validation text.
    ///
    /// Returns false if the source is not known.
    ///
    /// # Errors
    /// A failure of the source.
    pub fn source_predictions_val(&self, mut visit: impl FnMut(&[(char, f64)])) -> Result<bool> {
        let Some(KnownSource { source, text, split: Some(split) }) = &self.source else { return Ok(false) };
        source.predictions(&text[..*split], &text[*split..], &mut visit)?;
        Ok(true)
    }

    /// The source that the text was sampled from, if it is known.
    pub fn source(&self) -> Option<&Source> {
        self.source.as_ref().map(|known| &known.source)
    }
}

/// An encoded text for evaluation.
#[derive(Debug)]
pub struct EvaluationText {
    /// The tokens.
    pub tokens: TokenText,
    /// The name.
    pub name: String,
    /// Notices for the user, about finding the files and about special-token names in the text.
    pub notices: Vec<String>,
}

/// Encodes files or directories with a trained tokenizer.
///
/// # Errors
/// As [`Corpus::load`] and [`Corpus::encode_val`].
pub fn encode_files(
    paths: &[PathBuf],
    tokenizer: &Tokenizer,
    options: EncodeOptions,
) -> Result<EvaluationText> {
    let found = find_files(paths)?;
    let mut text = evaluation_text(name(paths, found.spans.len()), &found.spans, tokenizer, options)?;
    text.notices.splice(..0, found.notices);
    Ok(text)
}

/// Encodes `text` like a file with this content, and returns the text of every `<unk>` by position.
///
/// # Errors
/// As [`encode_files`], with `name` as the text's name.
pub fn encode_text(
    name: &str,
    text: &str,
    tokenizer: &Tokenizer,
    options: EncodeOptions,
) -> Result<(EvaluationText, BTreeMap<usize, String>)> {
    let spans = [Span::from_text(name, text)];
    let encoded = evaluation_text(name.to_owned(), &spans, tokenizer, options)?;
    Ok((encoded, unknown_words(&spans, tokenizer, options, usize::MAX)?))
}

fn evaluation_text(
    name: String,
    spans: &[Span],
    tokenizer: &Tokenizer,
    options: EncodeOptions,
) -> Result<EvaluationText> {
    let (tokens, warnings) = encode(spans, tokenizer, options)?;
    if tokens.scored() == 0 {
        return Err(Error::Empty(name));
    }
    Ok(EvaluationText { tokens, name, notices: warnings.mark_notices(options.literal_specials) })
}

#[cfg(test)]
mod tests;
