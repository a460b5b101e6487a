//! Which texts to read, and where training ends and validation begins.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::encode::{encode, learn_words, train, unknown};
use crate::error::{Error, Result};
use crate::files::{cut, name, spans};
use crate::numbers::many;
use crate::pieces::{Piece, Span};
use crate::workers::{Seen, each_piece};
use crate::{Reading, TokenText, Tokenizer, TokenizerKind, Unit};
use surprisal_source::Source;

/// The seed and the size of every embedded corpus: they are the same text for everyone.
const EMBEDDED_SEED: u64 = 1;
const EMBEDDED_BYTES: usize = 1_000_000;

/// What to read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DataOptions {
    /// Training texts: files, or directories of them (recursively, in the order of their names).
    pub train: Vec<PathBuf>,
    /// Validation texts; empty: the end of the training texts.
    pub val: Vec<PathBuf>,
    /// Which share of the bytes is validation when `val` is empty.
    pub val_fraction: f64,
    /// Which share of the training text is used, from its beginning; 0 is all of it, as 1 is.
    pub train_fraction: f64,
    /// How texts are read.
    pub unit: Unit,
    /// How texts are read, in detail.
    pub reading: Reading,
}

/// Texts, split into training and validation.
#[derive(Debug, Default)]
pub struct Corpus {
    name: String,
    unit: Unit,
    reading: Reading,
    train: Vec<Span>,
    val: Vec<Span>,
    /// Of a part of a text: all of it.
    whole: Vec<Span>,
    /// What was found out when the texts were looked for.
    found: Vec<String>,
    /// What was seen in either when it was read.
    seen: [OnceLock<Seen>; 2],
    notices: OnceLock<Vec<String>>,
    /// How many tokens it takes to learn from the training text.
    least: u64,
    /// Whether the validation text is a share of the training text.
    split: bool,
    source: Option<Known>,
}

/// A text whose source is known.
#[derive(Debug)]
struct Known {
    source: Source,
    text: String,
    /// Where validation starts, if it is the end of the text.
    split: Option<usize>,
}

impl Corpus {
    /// Finds the texts and splits them. They are read only as far as that needs.
    ///
    /// # Errors
    /// A path that is not there, a directory without text, texts that are empty or too short to split.
    pub fn load(options: &DataOptions) -> Result<Self> {
        let found = spans(&options.train)?;
        let name = name(&options.train, found.spans.len());
        let mut corpus = Self::split(name, found.spans, options)?;
        corpus.found.splice(..0, found.notices);
        Ok(corpus)
    }

    /// All of the training texts and no validation text; or of `parts` parts only `part`, from 1. Parts are about equally
    /// long, end where a line ends, and are the whole when they are put together; one may be empty.
    ///
    /// # Errors
    /// As [`Self::load`]; a part that there is none of.
    pub fn whole(options: &DataOptions, shard: Option<(usize, usize)>) -> Result<Self> {
        let found = spans(&options.train)?;
        let mut train = found.spans;
        let total: u64 = train.iter().map(Span::len).sum();
        let name = name(&options.train, train.len());
        if total == 0 {
            return Err(Error::Empty(name));
        }
        let mut corpus = Self::new(name, Vec::new(), options);
        corpus.found = found.notices;
        if let Some((part, parts)) = shard {
            if !(1..=parts).contains(&part) {
                return Err(Error::Setting(format!("there is no part {part} of {parts}")));
            }
            let at = |part: usize| (u128::from(total) * part as u128 / parts as u128) as u64;
            let (before, _) = cut(&train, at(part), Unit::Line)?;
            // From where the part before it ends.
            let (_, own) = cut(&before, at(part - 1), Unit::Line)?;
            corpus.whole = std::mem::replace(&mut train, own);
            corpus.name = format!("part {part} of {parts} of {}", corpus.name);
            corpus.least = 0;
        }
        corpus.train = train;
        Ok(corpus)
    }

    /// A corpus that comes with the program.
    ///
    /// # Errors
    /// A name that there is none of.
    pub fn embedded(name: &str, options: &DataOptions) -> Result<Self> {
        let Some(source) = Source::embedded(name) else {
            return Err(Error::NoSuchCorpus(name.to_owned()));
        };
        let text = source.sample(EMBEDDED_SEED, EMBEDDED_BYTES);
        let name = format!("{name} (embedded)");
        let span = Span::of_text(&name, &text);
        let mut corpus = Self::split(name, vec![span], options)?;
        let split =
            options.val.is_empty().then(|| corpus.val.first().map_or(text.len(), |span| span.start as usize));
        corpus.source = Some(Known { source, text, split });
        Ok(corpus)
    }

    fn new(name: String, train: Vec<Span>, options: &DataOptions) -> Self {
        Self { name, unit: options.unit, reading: options.reading, train, least: 2, ..Self::default() }
    }

    fn split(name: String, files: Vec<Span>, options: &DataOptions) -> Result<Self> {
        let total: u64 = files.iter().map(Span::len).sum();
        if total == 0 {
            return Err(Error::Empty(name));
        }
        let mut corpus = Self::new(name, files, options);
        corpus.split = options.val.is_empty();
        if corpus.split {
            // Counted from the start, as nanoGPT does, so that splits agree to the byte.
            let wanted = ((1.0 - options.val_fraction) * total as f64) as u64;
            let (train, val) = cut(&corpus.train, wanted, options.unit)?;
            (corpus.train, corpus.val) = (train, val);
        } else {
            let found = spans(&options.val)?;
            corpus.found = found.notices;
            corpus.val = found.spans;
            if corpus.val.iter().all(|span| span.len() == 0) {
                return Err(Error::Empty(crate::files::name(&options.val, corpus.val.len())));
            }
        }
        if options.train_fraction > 0.0 && options.train_fraction < 1.0 {
            let whole: u64 = corpus.train.iter().map(Span::len).sum();
            let wanted = (options.train_fraction * whole as f64) as u64;
            (corpus.train, _) = cut(&corpus.train, wanted, options.unit)?;
        }
        let too_short = |part: &str| Error::TooShort {
            name: corpus.name.clone(),
            message: format!("nothing of it is left for {part}"),
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

    /// What tells one text from another: a hash (BLAKE3, hexadecimal) of all of its bytes, also where only a part of them is
    /// to be read.
    ///
    /// # Errors
    /// A text that cannot be read.
    pub fn hash(&self) -> Result<String> {
        let spans = if self.whole.is_empty() { &self.train } else { &self.whole };
        // By all threads: of each piece, and then of what that gives.
        let hash = |hashes: &mut Vec<_>, _: &mut Seen, piece: &mut Piece| {
            hashes.push((piece.index, *blake3::hash(&piece.bytes).as_bytes()));
            Ok(())
        };
        let (hashes, _) = each_piece(spans, self.reading.threads, || Ok(Vec::new()), hash)?;
        let mut hashes = hashes.concat();
        hashes.sort_unstable();
        let joined: Vec<u8> = hashes.into_iter().flat_map(|(_, hash)| hash).collect();
        Ok(blake3::hash(&joined).to_hex().to_string())
    }

    /// How many bytes of text are read for training and for validation.
    pub fn bytes(&self) -> u64 {
        self.train.iter().chain(&self.val).map(Span::len).sum()
    }

    /// What the text is called.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// What a person should know about the text, as the first call finds it: to be asked after the text has been
    /// encoded, or it is read once more for this alone.
    pub fn notices(&self) -> &[String] {
        self.notices.get_or_init(|| {
            let mut all = Seen::default();
            for (seen, spans) in self.seen.iter().zip([&self.train, &self.val]) {
                // What cannot be read is no notice, but an error of whoever needs the text.
                let look = || each_piece(spans, self.reading.threads, || Ok(()), |(), _, _| Ok(()));
                all += *seen.get_or_init(|| look().map_or(Seen::default(), |(_, seen)| seen));
            }
            [self.found.clone(), all.notices(self.reading.literal_specials)].concat()
        })
    }

    /// Trains a tokenizer on the training split alone.
    ///
    /// # Errors
    /// Text that is not UTF-8 (unless tokens are bytes), a vocabulary that is too large.
    pub fn train_tokenizer(&self, kind: TokenizerKind) -> Result<Tokenizer> {
        train(kind, self.unit, &self.train, self.reading)
    }

    /// Trains a tokenizer and encodes the training split with it; for words that is one reading of the text.
    ///
    /// # Errors
    /// As [`Self::train_tokenizer`] and [`Self::encode_train`].
    pub fn tokenize_train(&self, kind: TokenizerKind) -> Result<(Tokenizer, TokenText)> {
        if kind == TokenizerKind::Word {
            let (tokenizer, text, seen) = learn_words(&self.train, self.unit, self.reading)?;
            self.seen[0].get_or_init(|| seen);
            return Ok((tokenizer, self.long_enough(text)?));
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
        let (text, seen) = encode(&self.train, tokenizer, self.reading)?;
        self.seen[0].get_or_init(|| seen);
        self.long_enough(text)
    }

    fn long_enough(&self, text: TokenText) -> Result<TokenText> {
        if text.scored() < self.least {
            return Err(Error::TooShort {
                name: self.name.clone(),
                message: format!(
                    "{} to train on, and the first has no context",
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
        let (text, seen) = encode(&self.val, tokenizer, self.reading)?;
        self.seen[1].get_or_init(|| seen);
        if text.scored() == 0 {
            return Err(Error::TooShort {
                name: self.name.clone(),
                message: "no token is left to validate on".into(),
                split: self.split,
            });
        }
        Ok(text)
    }

    /// What stands in the training split where its tokens are `<unk>`, by the place of the token, up to the place `end`.
    ///
    /// # Errors
    /// As [`Self::encode_train`].
    pub fn unknown_train(&self, tokenizer: &Tokenizer, end: usize) -> Result<BTreeMap<usize, String>> {
        unknown(&self.train, tokenizer, self.reading, end)
    }

    /// What stands in the validation split where its tokens are `<unk>`, by the place of the token, up to the place `end`.
    ///
    /// # Errors
    /// As [`Self::encode_val`].
    pub fn unknown_val(&self, tokenizer: &Tokenizer, end: usize) -> Result<BTreeMap<usize, String>> {
        unknown(&self.val, tokenizer, self.reading, end)
    }

    /// −ln p(validation text | training text) in nats, where the source of both is known.
    ///
    /// # Errors
    /// A failure of the source.
    pub fn source_nats_val(&self) -> Result<Option<f64>> {
        let Some(Known { source, text, split: Some(split) }) = &self.source else { return Ok(None) };
        Ok(Some(source.nats(&text[..*split], &text[*split..])?))
    }

    /// p(· | all text before) for every character of the validation text, where its source is known: `visit` is given the
    /// characters that can come with their probabilities. False where the source is not known.
    ///
    /// # Errors
    /// A failure of the source.
    pub fn source_predictions_val(&self, mut visit: impl FnMut(&[(char, f64)])) -> Result<bool> {
        let Some(Known { source, text, split: Some(split) }) = &self.source else { return Ok(false) };
        source.predictions(&text[..*split], &text[*split..], &mut visit)?;
        Ok(true)
    }

    /// The source that the text was sampled from, where it is known.
    pub fn source(&self) -> Option<&Source> {
        self.source.as_ref().map(|known| &known.source)
    }
}

/// A text to evaluate a model on.
#[derive(Debug)]
pub struct EvaluationText {
    /// Its tokens.
    pub tokens: TokenText,
    /// What it is called.
    pub name: String,
    /// What a person should know: how it was found, and how marks and names of special tokens in it were read.
    pub notices: Vec<String>,
}

/// Encodes files (or directories) with a tokenizer that is there already.
///
/// # Errors
/// As [`Corpus::load`] and [`Corpus::encode_val`].
pub fn encode_files(paths: &[PathBuf], tokenizer: &Tokenizer, reading: Reading) -> Result<EvaluationText> {
    let found = spans(paths)?;
    let mut text = evaluation_text(name(paths, found.spans.len()), &found.spans, tokenizer, reading)?;
    text.notices.splice(..0, found.notices);
    Ok(text)
}

/// The tokens of `text`, the same as of a file that holds it, and what stands where they are `<unk>`, by place.
///
/// # Errors
/// As [`encode_files`]; `name` is what the text is called in them.
pub fn encode_text(
    name: &str,
    text: &str,
    tokenizer: &Tokenizer,
    reading: Reading,
) -> Result<(EvaluationText, BTreeMap<usize, String>)> {
    let spans = [Span::of_text(name, text)];
    let encoded = evaluation_text(name.to_owned(), &spans, tokenizer, reading)?;
    Ok((encoded, unknown(&spans, tokenizer, reading, usize::MAX)?))
}

fn evaluation_text(
    name: String,
    spans: &[Span],
    tokenizer: &Tokenizer,
    reading: Reading,
) -> Result<EvaluationText> {
    let (tokens, seen) = encode(spans, tokenizer, reading)?;
    if tokens.scored() == 0 {
        return Err(Error::Empty(name));
    }
    Ok(EvaluationText { tokens, name, notices: seen.of_marks(reading.literal_specials) })
}

#[cfg(test)]
mod tests;
