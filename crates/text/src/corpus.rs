//! Training and validation texts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::chunks::{Span, TextChunk};
use crate::common_text::CommonText;
use crate::encode::{
    UnknownText, WordMemory, encode, encode_and_count, encode_and_keep, encode_to, learn_word_tokenizer,
    learn_words, train, unknown_words,
};
use crate::error::{Error, Result};
use crate::inputs::{Found, check_pipes, find, name};
use crate::numbers::many;
use crate::parallel::for_each_chunk;
use crate::records::RECORD_END;
use crate::split::{TrainPart, split, split_at, spread};
use crate::split_checks::{SharedPassages, TailDifference, shared_passages, tail_difference};
use crate::warnings::TextWarnings;
use crate::{
    Codec, EncodeOptions, Granularity, InputOptions, Split, TextMode, TokenCounts, TokenText, Tokenizer,
    TokenizerKind, TrainingText, WordChoice, WordVocabulary,
};
use surprisal_source::Source;

/// The seed and the size of every embedded corpus, fixed so that its text is the same everywhere.
const EMBEDDED_SEED: u64 = 1;
const EMBEDDED_BYTES: usize = 1_000_000;

/// The texts to read, and the options of reading them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DataOptions {
    /// Training texts: files, directories (recursively, in the order of their names), pipes, or `-`
    /// for standard input. Each file is read once, also if it has several names.
    pub train: Vec<PathBuf>,
    /// Validation texts; if empty, validation is a part of the training texts.
    pub val: Vec<PathBuf>,
    /// Options of reading all these texts.
    pub inputs: InputOptions,
    /// Whether [`Corpus::whole`] is read only once, so that what has to be converted needs no
    /// temporary copy.
    pub once: bool,
    /// Whether several documents in stream mode get marks between them: document mode.
    pub mark_documents: bool,
    /// The rule by which a part is held out when `val` is empty.
    pub split: Split,
    /// The seed of random splits.
    pub split_seed: u64,
    /// The fraction of the text that is validation when `val` is empty.
    pub val_fraction: f64,
    /// The fraction of the training text that is used; 0 and 1 are all of it.
    pub train_fraction: f64,
    /// The part of the training text that this fraction is.
    pub train_part: TrainPart,
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
    /// The rule by which validation was held out of the training text, if it was.
    split: Option<Split>,
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
        check_pipes(options.train.iter().chain(&options.val))?;
        let found = find(&options.train, &options.inputs, false)?;
        let name = name(&options.train, found.spans.len());
        Self::divide(name, found, options)
    }

    /// All of the training texts and no validation text, or shard `(part, parts)` of them, from 1.
    ///
    /// Shards have about the same length, end with a line, and together are the whole; one may be
    /// empty.
    ///
    /// # Errors
    /// As [`Self::load`]; a shard number out of range.
    pub fn whole(options: &DataOptions, shard: Option<(usize, usize)>) -> Result<Self> {
        check_pipes(options.train.iter())?;
        let found = find(&options.train, &options.inputs, options.once && shard.is_none())?;
        let name = name(&options.train, found.spans.len());
        if found.spans.iter().all(Span::is_empty) {
            return Err(Error::Empty(name));
        }
        let mut corpus = Self::new(name, found, options);
        let mut train = std::mem::take(&mut corpus.train);
        let total: u64 = train.iter().map(Span::len).sum();
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

    /// A shard as a text of its own, with a hash of its own ([`Self::hash`]).
    #[must_use]
    pub fn detached(mut self) -> Self {
        self.whole.clear();
        self
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
        let found = Found { spans: vec![Span::from_text(&name, &text)], ..Found::default() };
        let mut corpus = Self::divide(name, found, options)?;
        let split = (corpus.split == Some(Split::Tail))
            .then(|| corpus.val.first().map_or(text.len(), |span| span.start as usize));
        corpus.source = Some(KnownSource { source, text, split });
        Ok(corpus)
    }

    fn new(name: String, found: Found, options: &DataOptions) -> Self {
        let mark_documents = options.mark_documents && found.has_documents && !options.inputs.as_stored;
        let mode = match options.mode {
            TextMode::Stream if mark_documents => TextMode::Document,
            mode => mode,
        };
        let mut file_notices = found.all_notices();
        if mode == TextMode::Stream && found.has_documents && !options.inputs.as_stored {
            file_notices.push(
                "several documents are read as one stream without marks between them; \
                 data.unit = \"document\" has marks"
                    .into(),
            );
        }
        Self {
            name,
            mode,
            encode_options: options.encode_options,
            train: in_mode(found.spans, mode, &options.inputs),
            file_notices,
            min_tokens: 2,
            ..Self::default()
        }
    }

    fn divide(name: String, mut found: Found, options: &DataOptions) -> Result<Self> {
        if found.spans.iter().all(Span::is_empty) {
            return Err(Error::Empty(name));
        }
        let val = if options.val.is_empty() {
            None
        } else {
            let val = find(&options.val, &options.inputs, false)?;
            if val.spans.iter().all(Span::is_empty) {
                return Err(Error::Empty(crate::inputs::name(&options.val, val.spans.len())));
            }
            found.has_documents |= val.has_documents;
            let both = val.files.iter().filter_map(|(id, path)| Some((path, found.files.get(id)?)));
            for (path, first) in both.filter(|(path, _)| path.is_file()) {
                let (path, first) = (path.display(), first.display());
                found.notices.push(if path.to_string() == first.to_string() {
                    format!("{path} is a training text and a validation text")
                } else {
                    format!("the validation text {path} is the training text {first}")
                });
            }
            found.notices.extend(val.notices);
            found.idle.retain(|pattern| val.idle.contains(pattern));
            Some(val.spans)
        };
        let mut corpus = Self::new(name, found, options);
        if let Some(val) = val {
            corpus.val = in_mode(val, corpus.mode, &options.inputs);
        } else {
            corpus.split = Some(options.split);
            (corpus.train, corpus.val) = split(
                &corpus.train,
                options.split,
                options.split_seed,
                options.val_fraction,
                corpus.mode,
                &corpus.name,
            )?;
        }
        if options.train_fraction > 0.0 && options.train_fraction < 1.0 {
            let (all, fraction, mode) = (&corpus.train, options.train_fraction, options.mode);
            let whole: u64 = all.iter().map(Span::len).sum();
            corpus.train = match options.train_part {
                TrainPart::Start => split_at(all, (fraction * whole as f64) as u64, mode)?.0,
                TrainPart::Spread => spread(all, options.split_seed, fraction)?,
            };
        }
        let too_short = |part: &str| Error::TooShort {
            name: corpus.name.clone(),
            message: format!("there is no text left for {part}"),
            split: corpus.split.is_some(),
        };
        if corpus.train.iter().all(Span::is_empty) {
            return Err(too_short("training"));
        }
        if corpus.val.iter().all(Span::is_empty) {
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
            let mut hasher = blake3::Hasher::new();
            hasher.update(&chunk.bytes);
            if chunk.ends_record() {
                hasher.update(&[RECORD_END]);
            }
            hashes.push((chunk.index, *hasher.finalize().as_bytes()));
            Ok(())
        };
        let (hashes, _) = for_each_chunk(spans, self.encode_options.threads, || Ok(Vec::new()), hash)?;
        let mut hashes = hashes.concat();
        // The records of a chunk are in order.
        hashes.sort_by_key(|(index, _)| *index);
        let joined: Vec<u8> = hashes.into_iter().flat_map(|(_, hash)| hash).collect();
        Ok(blake3::hash(&joined).to_hex().to_string())
    }

    /// The number of bytes for training and validation together.
    pub fn bytes(&self) -> u64 {
        self.train.iter().chain(&self.val).map(Span::len).sum()
    }

    /// The way texts become sequences.
    pub fn mode(&self) -> TextMode {
        self.mode
    }

    /// The rule by which validation was held out of the training text, if it was.
    pub fn split(&self) -> Option<Split> {
        self.split
    }

    /// Passages of the validation text that are also in the training text.
    ///
    /// # Errors
    /// A text that cannot be read.
    pub fn shared_passages(&self) -> Result<SharedPassages> {
        shared_passages(&self.train, &self.val, self.encode_options.threads)
    }

    /// The difference between the end of a text, where that is held out, and the rest.
    ///
    /// # Errors
    /// A text that cannot be read.
    pub fn tail_difference(&self) -> Result<Option<TailDifference>> {
        match self.split {
            Some(Split::Tail) => tail_difference(&self.train, &self.val).map(Some),
            Some(Split::Blocks | Split::Lines | Split::Documents | Split::Files) | None => Ok(None),
        }
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

    /// Counts for notices on the training split, if it has been encoded.
    pub fn train_warnings(&self) -> TextWarnings {
        self.warnings[0].get().copied().unwrap_or_default()
    }

    /// Gives the counts of an earlier encoding, so that [`Self::notices`] need not read the split.
    pub fn set_train_warnings(&self, warnings: TextWarnings) {
        self.warnings[0].get_or_init(|| warnings);
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
            return self
                .learn_words(&WordVocabulary::default())
                .map(|(tokenizer, text, _)| (tokenizer, text));
        }
        let tokenizer = self.train_tokenizer(kind)?;
        let text = self.encode_train(&tokenizer)?;
        Ok((tokenizer, text))
    }

    /// [`Self::tokenize_train`] for words, of which `vocabulary` chooses some.
    ///
    /// # Errors
    /// As there; a vocabulary without room for words.
    pub fn learn_words(&self, vocabulary: &WordVocabulary) -> Result<(Tokenizer, TokenText, WordChoice)> {
        let (tokenizer, text, warnings, choice) =
            learn_words(&self.train, self.mode, self.encode_options, vocabulary)?;
        self.warnings[0].get_or_init(|| warnings);
        Ok((tokenizer, self.check_length(text)?, choice))
    }

    /// The tokenizer of [`Self::learn_words`] alone, in memory for the vocabulary, and the number
    /// of occurrences of each token, at most 2³² − 1.
    ///
    /// # Errors
    /// As there; [`Error::TooManyWords`] for those that do not fit into `memory`.
    pub fn learn_word_tokenizer(
        &self,
        vocabulary: &WordVocabulary,
        memory: Option<WordMemory>,
    ) -> Result<(Tokenizer, WordChoice, Vec<u32>)> {
        learn_word_tokenizer(&self.train, self.mode, self.encode_options, vocabulary, memory)
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

    /// Passes the ids of the training split to `write`, in order and in bounded memory.
    ///
    /// # Errors
    /// As [`Self::encode_train`]; an error of `write`.
    pub fn encode_train_to(
        &self,
        tokenizer: &Tokenizer,
        mut write: impl FnMut(&[u32]) -> std::io::Result<()> + Send,
    ) -> Result<TokenCounts> {
        let write = |ids: &[u32]| write(ids).map_err(|reason| Error::Write(self.name.clone(), reason));
        let (counts, warnings) = encode_to(&self.train, tokenizer, self.encode_options, write)?;
        self.warnings[0].get_or_init(|| warnings);
        Ok(counts)
    }

    /// `text` if it has enough tokens to learn from.
    ///
    /// # Errors
    /// Too few tokens.
    pub fn check_length(&self, text: TokenText) -> Result<TokenText> {
        if text.scored() < self.min_tokens {
            return Err(Error::TooShort {
                name: self.name.clone(),
                message: format!(
                    "it has {} to train on, and the first has no context",
                    many(text.scored(), "token")
                ),
                split: self.split.is_some(),
            });
        }
        Ok(text)
    }

    /// The validation split as tokens.
    ///
    /// # Errors
    /// Text that is not UTF-8; no token to score.
    pub fn encode_val(&self, tokenizer: &Tokenizer) -> Result<TokenText> {
        let (text, warnings) = encode_and_count(&self.val, tokenizer, self.encode_options)?;
        self.warnings[1].get_or_init(|| warnings);
        if text.scored() == 0 {
            return Err(Error::TooShort {
                name: self.name.clone(),
                message: "no token is left to validate on".into(),
                split: self.split.is_some(),
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

    /// The validation text for comparing tokenizers; `folded` as word tokenizers decode it.
    ///
    /// # Errors
    /// As [`Self::encode_val`].
    pub fn common_val(&self, folded: bool) -> Result<CommonText> {
        CommonText::new(&self.val, self.mode, self.encode_options, folded)
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

/// `spans` as texts of `mode`.
fn in_mode(mut spans: Vec<Span>, mode: TextMode, inputs: &InputOptions) -> Vec<Span> {
    for span in &mut spans {
        span.cleaning.crlf_is_newline = mode == TextMode::Line && !inputs.as_stored;
    }
    spans
}

/// Texts that were found, and can be encoded with several tokenizers.
#[derive(Debug)]
pub struct Texts {
    name: String,
    spans: Vec<Span>,
    notices: Vec<String>,
    inputs: InputOptions,
}

impl Texts {
    /// Finds texts. With `once`, they are encoded only once, and a pipe needs no temporary copy.
    ///
    /// # Errors
    /// As [`Corpus::load`].
    pub fn open(paths: &[PathBuf], inputs: &InputOptions, once: bool) -> Result<Self> {
        check_pipes(paths.iter())?;
        let found = find(paths, inputs, once)?;
        let name = name(paths, found.spans.len());
        let notices = found.all_notices();
        Ok(Self { name, spans: found.spans, notices, inputs: inputs.clone() })
    }

    /// Each text by itself; the first has the notices about finding them.
    pub fn split(self) -> Vec<Self> {
        let Self { spans, mut notices, inputs, .. } = self;
        let one = |span: Span| {
            let (name, notices, inputs) = (span.name(), std::mem::take(&mut notices), inputs.clone());
            Self { name, spans: vec![span], notices, inputs }
        };
        spans.into_iter().map(one).collect()
    }

    /// Encodes the texts.
    ///
    /// # Errors
    /// As [`Corpus::encode_val`].
    pub fn encode(&self, tokenizer: &Tokenizer, options: EncodeOptions) -> Result<EvaluationText> {
        self.encode_and_keep(tokenizer, options, UnknownText::Counted).map(|(text, _)| text)
    }

    /// [`Self::encode`], where what is unknown is kept as `keep` says: in [`TokenText::unknown`],
    /// and if listed also beside it, by position; for other tokens than words and characters, it is
    /// only `<unk>`.
    ///
    /// # Errors
    /// As there.
    pub fn encode_and_keep(
        &self,
        tokenizer: &Tokenizer,
        options: EncodeOptions,
        keep: UnknownText,
    ) -> Result<(EvaluationText, BTreeMap<usize, String>)> {
        let spans = in_mode(self.spans.clone(), tokenizer.mode(), &self.inputs);
        let (mut text, unknown) = evaluation_text(self.name.clone(), &spans, tokenizer, options, keep)?;
        text.notices.splice(..0, self.notices.clone());
        Ok((text, unknown))
    }
}

/// Encodes texts with a trained tokenizer, in one pass.
///
/// # Errors
/// As [`Texts::open`] and [`Texts::encode`].
pub fn encode_files(
    paths: &[PathBuf],
    tokenizer: &Tokenizer,
    inputs: &InputOptions,
    options: EncodeOptions,
) -> Result<EvaluationText> {
    let any_bytes = inputs.any_bytes || tokenizer.granularity() == Granularity::Byte;
    let inputs = InputOptions { any_bytes, ..inputs.clone() };
    Texts::open(paths, &inputs, true)?.encode(tokenizer, options)
}

/// Encodes `text` like a file with this content, which `inputs` normalises, and returns the text of
/// every `<unk>` by position.
///
/// # Errors
/// As [`encode_files`], with `name` as the text's name.
pub fn encode_text(
    name: &str,
    text: &str,
    tokenizer: &Tokenizer,
    inputs: &InputOptions,
    options: EncodeOptions,
) -> Result<(EvaluationText, BTreeMap<usize, String>)> {
    let mut span = Span::from_text(name, &inputs.normalize.of(text));
    span.cleaning.keep_nuls = true;
    let spans = in_mode(vec![span], tokenizer.mode(), inputs);
    evaluation_text(name.to_owned(), &spans, tokenizer, options, UnknownText::Listed)
}

fn evaluation_text(
    name: String,
    spans: &[Span],
    tokenizer: &Tokenizer,
    options: EncodeOptions,
    keep: UnknownText,
) -> Result<(EvaluationText, BTreeMap<usize, String>)> {
    let (tokens, unknown, warnings) = encode_and_keep(spans, tokenizer, options, keep)?;
    if tokens.scored() == 0 {
        return Err(Error::Empty(name));
    }
    let mut notices = warnings.cleaning_notices();
    notices.extend(warnings.mark_notices(options.literal_specials));
    Ok((EvaluationText { tokens, name, notices }, unknown))
}

#[cfg(test)]
mod tests;
