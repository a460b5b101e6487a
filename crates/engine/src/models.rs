//! Models on disk: saving into a run, and loading from runs, checkpoints, folders and files.

pub mod mixture;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use surprisal_formats::kenlm::{self, Kenlm};
use surprisal_formats::model_dir::{StoredModel, Weights};
use surprisal_formats::{arpa, file, infinigram, ngram};
use surprisal_model::LanguageModel;
use surprisal_model::infinigram::Infinigram;
use surprisal_model::neural::{Neural, NeuralConfig, NeuralLm, Parameter, Registry};
use surprisal_model::ngram::{Counts, NgramModel, Smoothing, Uniform};
use surprisal_platform::threads::Pool;
use surprisal_store::run_dir::{RunFolder, RunWriter};
use surprisal_text::{
    EncodeOptions, EvaluationText, Granularity, InputOptions, InvalidBytes, NormalForm, Texts, TokenText,
    Tokenizer, UnknownText, encode_files,
};

use self::mixture::MixtureModel;
use crate::config::{self, Config};
use crate::data::{self, Dataset};
use crate::error::{Error, Result, no_numbers};
use crate::evaluate::{Evaluation, evaluate};
use crate::events::Context;
use crate::kind::{self, Kind};
use crate::rng::{RngStream, rng_for};
use crate::runs;
use crate::sampling::Opening;
use crate::saved::Unfinished;
use crate::spelling::Spelling;
use crate::start;
use crate::wording::thousands;

/// The kind of a KenLM binary in words.
const KENLM: &str = "KenLM binary";

/// A model with its tokenizer and origin.
pub struct LoadedModel {
    /// The model.
    pub model: Model,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Kind of the model in words.
    pub kind: String,
    pub(crate) config: Config,
    /// Folder of its run.
    pub folder: Option<RunFolder>,
    /// Origin of weights from a checkpoint.
    pub unfinished: Option<Unfinished>,
}

/// A model.
pub enum Model {
    /// All tokens are equally likely.
    Uniform(Uniform),
    /// An n-gram model.
    Ngram(Box<NgramModel>),
    /// An n-gram model in a KenLM binary, whose n-grams can be looked up and not listed.
    Kenlm(Box<Kenlm>),
    /// An ∞-gram model.
    Infinigram(Box<Infinigram>),
    /// A neural network.
    Neural(Box<NeuralLm>),
    /// A mixture.
    Mixture(Box<MixtureModel>),
}

impl Model {
    /// Number of parameters, or of n-grams.
    pub fn parameters(&self) -> u64 {
        match self {
            Self::Uniform(_) => 0,
            Self::Ngram(model) => model.parameters(),
            Self::Kenlm(model) => model.counts().iter().fold(0, |sum, &count| sum.saturating_add(count)),
            Self::Infinigram(model) => model.header().tokens.into(),
            Self::Neural(model) => model.neural.parameters().iter().map(|p| p.var.elem_count() as u64).sum(),
            Self::Mixture(model) => {
                model.parts.iter().fold(0, |sum, (_, parameters)| sum.saturating_add(*parameters))
            }
        }
    }

    /// The n-gram model, if it is one whose n-grams can be listed.
    pub fn ngram(&self) -> Option<&NgramModel> {
        match self {
            Self::Ngram(model) => Some(model),
            Self::Uniform(_) | Self::Kenlm(_) | Self::Infinigram(_) | Self::Neural(_) | Self::Mixture(_) => {
                None
            }
        }
    }

    /// The model of a KenLM binary, if it is one.
    pub fn kenlm(&self) -> Option<&Kenlm> {
        match self {
            Self::Kenlm(model) => Some(model),
            Self::Uniform(_) | Self::Ngram(_) | Self::Infinigram(_) | Self::Neural(_) | Self::Mixture(_) => {
                None
            }
        }
    }

    /// The length of the longest n-gram of a model of n-grams.
    pub fn order(&self) -> Option<usize> {
        match self {
            Self::Ngram(model) => Some(model.trie().header().levels.len()),
            Self::Kenlm(model) => Some(model.counts().len()),
            Self::Uniform(_) | Self::Infinigram(_) | Self::Neural(_) | Self::Mixture(_) => None,
        }
    }

    /// The ∞-gram model, if it is one.
    pub fn infinigram(&self) -> Option<&Infinigram> {
        match self {
            Self::Infinigram(model) => Some(model),
            _ => None,
        }
    }

    /// The neural model, if it is one.
    pub fn neural(&self) -> Option<&Neural> {
        match self {
            Self::Neural(model) => Some(&model.neural),
            Self::Uniform(_) | Self::Ngram(_) | Self::Kenlm(_) | Self::Infinigram(_) | Self::Mixture(_) => {
                None
            }
        }
    }

    /// The mixture, if it is one.
    pub fn mixture(&self) -> Option<&MixtureModel> {
        match self {
            Self::Mixture(model) => Some(model),
            Self::Uniform(_) | Self::Ngram(_) | Self::Kenlm(_) | Self::Infinigram(_) | Self::Neural(_) => {
                None
            }
        }
    }
}

impl std::ops::Deref for Model {
    type Target = dyn LanguageModel;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Uniform(model) => model,
            Self::Ngram(model) => model.as_ref(),
            Self::Kenlm(model) => model.as_ref(),
            Self::Infinigram(model) => model.as_ref(),
            Self::Neural(model) => model.as_ref(),
            Self::Mixture(model) => &***model,
        }
    }
}

/// Writes a model into the run.
pub(crate) fn save(folder: &RunWriter, tokenizer: &Tokenizer, config: Value, weights: Weights) -> Result<()> {
    let stored = StoredModel { config, weights, tokenizer: tokenizer.to_json()? };
    Ok(stored.save(folder.model())?)
}

pub(crate) fn save_neural(folder: &RunWriter, tokenizer: &Tokenizer, neural: &Neural) -> Result<()> {
    save(folder, tokenizer, serde_json::to_value(neural.config())?, tensors(neural))
}

fn tensors(neural: &Neural) -> Weights {
    let tensor = |parameter: &Parameter| (parameter.name.clone(), parameter.var.as_tensor().clone());
    Weights::Tensors(neural.parameters().iter().map(tensor).collect())
}

/// A model of the embedded stories, counted from their training part: characters, in the order and
/// with the smoothing of a good n-gram model of them.
///
/// # Errors
/// Too little memory; a subscriber's error.
pub fn stories(ctx: &Context<'_>) -> Result<LoadedModel> {
    const SETTINGS: &str = "[model]\nkind = \"ngram\"\norder = 12\nsmoothing = \"witten_bell\"\n";
    let config = config::parse("the embedded stories", SETTINGS, &[])?.config;
    let data = Dataset::load(&config, false, None, ctx)?;
    counted(config, &data, ctx)
}

/// The n-gram model that `config` describes, counted in memory from the training part of `data`.
///
/// # Errors
/// Too little memory; settings of another kind of model.
pub fn counted(config: Config, data: &Dataset, ctx: &Context<'_>) -> Result<LoadedModel> {
    let Dataset { tokenizer, train, .. } = data;
    let Some(settings) = config.model.ngram(tokenizer.bos(), tokenizer.unk()) else {
        return Err(Error::usage(format!("a model of kind {} is not counted", config.model.kind())));
    };
    let vocab_size = tokenizer.vocab_size();
    crate::memory::check(
        Counts::memory(train.ids.len(), vocab_size, settings.order),
        "counting this text",
        "count a smaller text",
    )?;
    let model = ctx.pool.install(|| NgramModel::estimate(&train.ids, vocab_size, &settings))?;
    let (model, tokenizer) = (Model::Ngram(Box::new(model)), tokenizer.clone());
    Ok(LoadedModel { model, tokenizer, kind: "ngram".into(), config, folder: None, unfinished: None })
}

/// Loads the model at `path` for use, as [`look`] does.
///
/// # Errors
/// As [`look`]; a model that diverged.
pub fn load(path: &Path, ctx: &Context<'_>) -> Result<LoadedModel> {
    load_with(path, &Registry::default(), ctx)
}

/// [`load`] for models whose architecture may be one of `registry`.
///
/// # Errors
/// As [`load`].
pub fn load_with(path: &Path, registry: &Registry, ctx: &Context<'_>) -> Result<LoadedModel> {
    let loaded = look_with(path, registry, ctx)?;
    loaded.model.neural().map_or(Ok(()), |neural| check_finite(neural, path)).map(|()| loaded)
}

/// Refuses a model from `path` whose parameters are not finite.
pub(crate) fn check_finite(neural: &Neural, path: &Path) -> Result<()> {
    if neural.is_finite()? { Ok(()) } else { Err(no_numbers(&format!("the model in {}", path.display()))) }
}

/// The model at `path`, told apart by content: of a run (with a note, the best so far, if it is not
/// finished), of a checkpoint, of a model folder, of a Hugging Face folder or of a file.
///
/// # Errors
/// A path of something else; damaged files.
pub fn look(path: &Path, ctx: &Context<'_>) -> Result<LoadedModel> {
    look_with(path, &Registry::default(), ctx)
}

fn look_with(path: &Path, registry: &Registry, ctx: &Context<'_>) -> Result<LoadedModel> {
    let of_file = |(model, tokenizer): (NgramModel, Tokenizer)| {
        // Notices about values that were missing in a file of another program.
        if matches!(model.config().smoothing, Smoothing::Given | Smoothing::StupidBackoff) {
            ctx.notes(&model.report().notices)?;
        }
        Ok(LoadedModel::of_file(Model::Ngram(Box::new(model)), tokenizer, "ngram"))
    };
    let of_kenlm = |(model, tokenizer): (Kenlm, Tokenizer)| {
        ctx.notes(model.notices())?;
        Ok(LoadedModel::of_file(Model::Kenlm(Box::new(model)), tokenizer, KENLM))
    };
    let of_infinigram = |(model, tokenizer): (Infinigram, Tokenizer)| {
        Ok(LoadedModel::of_file(Model::Infinigram(Box::new(model)), tokenizer, "infinigram"))
    };
    // A model folder may be without a run: then it has no text to evaluate on.
    let (stored, folder, unfinished) = match Kind::detect(path)? {
        Kind::Arpa { .. } => return of_file(arpa::open(path)?),
        Kind::Ngram => return of_file(ngram::open(path)?),
        Kind::Kenlm => return of_kenlm(kenlm::open(path)?),
        Kind::Infinigram => return of_infinigram(infinigram::open(path)?),
        Kind::Special => {
            let bytes = file::read(path)?;
            let within = |error: surprisal_formats::Error| Error::from(error).within(path.display());
            return match Kind::of_bytes(bytes.as_slice()) {
                Kind::Arpa { .. } => of_file(arpa::read(bytes.as_slice()).map_err(within)?),
                Kind::Ngram => of_file(ngram::from_bytes(bytes).map_err(within)?),
                Kind::Kenlm => of_kenlm(kenlm::from_bytes(bytes).map_err(within)?),
                Kind::Infinigram => of_infinigram(infinigram::from_bytes(bytes).map_err(within)?),
                kind => Err(kind.refuse(path)),
            };
        }
        Kind::HuggingFace => return hugging_face(path, ctx),
        Kind::Mixture => return mixture::open(path, registry),
        Kind::Model => (StoredModel::load(path)?, None, None),
        Kind::Run if Kind::detect(&path.join("model")).ok() == Some(Kind::Mixture) => {
            let folder = RunFolder::open(path)?;
            let config = run_config(&folder)?;
            return Ok(LoadedModel {
                config,
                folder: Some(folder),
                ..mixture::open(&path.join("model"), registry)?
            });
        }
        Kind::Run if path.join("model/manifest.json").is_file() => {
            (StoredModel::load(path.join("model"))?, RunFolder::open(path).ok(), None)
        }
        kind @ (Kind::Run | Kind::Checkpoint) => {
            let (stored, folder, unfinished) = runs::unfinished(path, kind == Kind::Checkpoint, ctx)?;
            (stored, Some(folder), Some(unfinished))
        }
        kind => return Err(kind.refuse(path)),
    };
    let config = match &folder {
        Some(folder) => run_config(folder)?,
        None => Config::default(),
    };
    let stride = folder.as_ref().and(config.eval.stride);
    let (model, tokenizer, kind) = of_stored(stored, stride, registry, path)?;
    Ok(LoadedModel { model, tokenizer, kind, config, folder, unfinished })
}

/// The settings of a run, with its texts where they are now.
fn run_config(folder: &RunFolder) -> Result<Config> {
    let mut config = config::load(Some(&folder.config()), &[])?.config;
    runs::find_texts(folder.root(), &mut config, None);
    Ok(config)
}

/// The model in its stored form at `path`, its tokenizer and its kind in words. `stride` is that of
/// a model with a window, if it is not half of the block size.
pub(crate) fn of_stored(
    stored: StoredModel,
    stride: Option<usize>,
    registry: &Registry,
    path: &Path,
) -> Result<(Model, Tokenizer, String)> {
    let tokenizer = Tokenizer::from_json(&stored.tokenizer)?;
    let damaged =
        |problem: String| Error::failed(format!("the model in {} is damaged: {problem}", path.display()));
    let kind = stored.kind()?.to_owned();
    let model = match stored.weights {
        Weights::Ngram(_) if kind == "uniform" => {
            Model::Uniform(Uniform::new(tokenizer.vocab_size(), tokenizer.bos()))
        }
        Weights::Ngram(bytes) if kind == "ngram" => {
            let (model, own) = ngram::from_bytes(bytes)?;
            if own.vocab_size() != tokenizer.vocab_size() {
                return Err(damaged("its tokenizer.json is another model's".into()));
            }
            Model::Ngram(Box::new(model))
        }
        Weights::Infinigram(bytes) if kind == "infinigram" => {
            Model::Infinigram(Box::new(infinigram::from_bytes(bytes)?.0))
        }
        Weights::Kenlm(bytes) if kind == KENLM => Model::Kenlm(Box::new(kenlm::from_bytes(bytes)?.0)),
        Weights::Tensors(tensors) => {
            let mut neural: NeuralConfig =
                serde_json::from_value(stored.config).map_err(|error| damaged(error.to_string()))?;
            neural.resolve(registry)?;
            let neural = Neural::from_tensors(&neural, tensors)?;
            let stride = stride.unwrap_or(neural.config().block_size().div_ceil(2));
            Model::Neural(Box::new(NeuralLm { neural, stride }))
        }
        Weights::Ngram(_) | Weights::Arpa(_) | Weights::Kenlm(_) | Weights::Infinigram(_) => {
            return Err(damaged(format!("its kind is {kind}")));
        }
    };
    if tokenizer.vocab_size() != model.vocab_size() {
        return Err(damaged(format!(
            "the tokenizer has {} tokens and the model {}",
            tokenizer.vocab_size(),
            model.vocab_size()
        )));
    }
    Ok((model, tokenizer, kind))
}

/// The model of a Hugging Face folder, with its context length as block size; rows of padding are
/// left out, with a note.
fn hugging_face(path: &Path, ctx: &Context<'_>) -> Result<LoadedModel> {
    let start = start::hugging_face(path)?;
    let name = path.display();
    let Some(bytes) = &start.tokenizer else {
        return Err(start::no_tokenizer(&format!("the Hugging Face folder {name}"), ""));
    };
    let tokenizer = Tokenizer::from_json(bytes).map_err(|error| Error::from(error).within(&name))?;
    let (rows, size) = (start.config.vocab_size(), tokenizer.vocab_size());
    if rows < size {
        let [rows, size] = [rows, size].map(|number| thousands(number as u64));
        return Err(Error::failed(format!("{name}: the tokenizer has {size} tokens, and the model {rows}"))
            .hint("the tokenizer is another model's, or has tokens that were added after training"));
    }
    start::note_padding(&format!("the model in {name}"), rows, size, ctx)?;
    let config = start.config.clone().sized(size, start.config.block_size());
    // Every parameter is the folder's: the stream of the start is not seen in the model.
    let neural = start::network(start, &config, &mut rng_for(0, RngStream::Init))?;
    let stride = config.block_size().div_ceil(2);
    let (kind, model) = (config.kind().to_owned(), Model::Neural(Box::new(NeuralLm { neural, stride })));
    Ok(LoadedModel { model, tokenizer, kind, config: Config::default(), folder: None, unfinished: None })
}

impl LoadedModel {
    /// A model without a run.
    pub(crate) fn of_file(model: Model, tokenizer: Tokenizer, kind: &str) -> Self {
        let (kind, config) = (kind.to_owned(), Config::default());
        Self { model, tokenizer, kind, config, folder: None, unfinished: None }
    }

    /// The model in its stored form, to be read with the same bits.
    pub(crate) fn stored(&self) -> Result<StoredModel> {
        let (config, weights) = match &self.model {
            Model::Uniform(_) => (json!({ "kind": "uniform" }), Weights::Ngram(Vec::new().into())),
            Model::Ngram(model) => {
                (json!({ "kind": "ngram" }), Weights::Ngram(ngram::to_bytes(model, &self.tokenizer)?.into()))
            }
            Model::Kenlm(model) => (json!({ "kind": KENLM }), Weights::Kenlm(model.bytes().clone())),
            Model::Infinigram(model) => (
                json!({ "kind": "infinigram" }),
                Weights::Infinigram(infinigram::to_bytes(model, &self.tokenizer)?),
            ),
            Model::Neural(lm) => (serde_json::to_value(lm.neural.config())?, tensors(&lm.neural)),
            Model::Mixture(_) => {
                return Err(Error::usage("a mixture cannot be a part of a mixture that is written")
                    .hint("name its parts instead"));
            }
        };
        Ok(StoredModel { config, weights, tokenizer: self.tokenizer.to_json()? })
    }

    /// The settings of its run; the defaults for a model without one.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Sets the stride of a windowed model, in tokens.
    ///
    /// # Errors
    /// A model without a window; a stride out of range.
    pub fn set_stride(&mut self, stride: usize) -> Result<()> {
        let Model::Neural(lm) = &mut self.model else {
            return Err(Error::usage(format!("a stride means nothing to this {} model", self.kind))
                .hint("only models that were trained read through a window"));
        };
        let block_size = lm.neural.config().block_size();
        if !(1..=block_size).contains(&stride) {
            return Err(Error::usage(format!(
                "the stride is {stride}, but must be from 1 to block_size = {block_size}"
            )));
        }
        lm.stride = stride;
        Ok(())
    }

    /// Takes the run's own texts from `moved`, as [`runs::find_texts`] says.
    ///
    /// # Errors
    /// A model without a run.
    pub fn move_texts(&mut self, moved: &Path) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Err(Error::usage("a model outside a run has no texts that could have moved")
                .hint("name the texts to score"));
        };
        runs::find_texts(folder.root(), &mut self.config, Some(moved));
        Ok(())
    }

    /// Options of finding and cleaning texts that `given` leaves at their defaults: those of the
    /// run.
    pub fn inputs(&self, given: InputOptions) -> InputOptions {
        let data = &self.config.data;
        let normalize = if given.normalize == NormalForm::None { data.normalize } else { given.normalize };
        let invalid = if given.invalid == InvalidBytes::Error { data.invalid } else { given.invalid };
        let limit = Some(crate::memory::largest_text(self.tokenizer.kind()));
        InputOptions { normalize, invalid, limit, ..given }
    }

    /// Options for reading texts.
    pub fn reading(&self) -> EncodeOptions {
        data::reading(&self.config)
    }

    /// `texts` as `inputs` says, or the run's validation text, with −ln p under its source where
    /// that is known.
    ///
    /// # Errors
    /// Texts that cannot be read, or have changed since the run.
    pub fn evaluation_text(
        &self,
        texts: &[PathBuf],
        inputs: &InputOptions,
        ctx: &Context<'_>,
    ) -> Result<(EvaluationText, Option<f64>)> {
        if !texts.is_empty() {
            kind::check_texts(texts)?;
            kind::note_configs(texts, ctx)?;
            let encode = || encode_files(texts, &self.tokenizer, inputs, self.reading());
            let text = ctx.pool.install(encode)?;
            ctx.notes(&text.notices)?;
            return Ok((text, None));
        }
        let Some(folder) = &self.folder else {
            return Err(
                Error::usage("a model outside a run has no text of its own").hint("name the texts to score")
            );
        };
        data::refuse_pipes(&self.config, "name the texts to score")?;
        let corpus = data::own_corpus(&self.config)?;
        let tokens = ctx.pool.install(|| corpus.encode_val(&self.tokenizer))?;
        let (whole, val) = (corpus.name(), &self.config.data.val);
        runs::check_text(folder, (&whole, val), "val", &tokens, ctx)?;
        ctx.notes(corpus.notices())?;
        let name = runs::named(val).unwrap_or_else(|| format!("validation split of {whole}"));
        let notices = corpus.notices().to_vec();
        Ok((EvaluationText { tokens, name, notices }, corpus.source_nats_val()?))
    }

    /// The training text of the run.
    ///
    /// # Errors
    /// A model outside a run; a text that cannot be read, or has changed.
    pub fn training_text(&self, ctx: &Context<'_>) -> Result<EvaluationText> {
        let Some(folder) = &self.folder else {
            return Err(Error::usage("a model outside a run has no training text of its own")
                .hint("name the texts to learn from"));
        };
        data::refuse_pipes(&self.config, "name the texts to learn from")?;
        let corpus = data::own_corpus(&self.config)?;
        let tokens = ctx.pool.install(|| corpus.encode_train(&self.tokenizer))?;
        let whole = corpus.name();
        runs::check_text(folder, (&whole, &self.config.data.val), "train", &tokens, ctx)?;
        Ok(EvaluationText { tokens, name: format!("training part of {whole}"), notices: Vec::new() })
    }

    /// Each of `texts` by itself, or the run's validation text. What is unknown is kept as `keep`
    /// says; where it is listed, beside each text by position.
    ///
    /// # Errors
    /// As [`Self::evaluation_text`].
    pub fn each_text(
        &self,
        texts: &[PathBuf],
        inputs: &InputOptions,
        keep: UnknownText,
        ctx: &Context<'_>,
    ) -> Result<Vec<(EvaluationText, BTreeMap<usize, String>)>> {
        if texts.is_empty() {
            let (text, _) = self.evaluation_text(texts, inputs, ctx)?;
            let read = || -> Result<_> {
                Ok(data::own_corpus(&self.config)?.unknown_val(&self.tokenizer, usize::MAX)?)
            };
            let is_listed = keep == UnknownText::Listed && text.tokens.oov > 0;
            let unknown = if is_listed { ctx.pool.install(read)? } else { BTreeMap::new() };
            return Ok(vec![(text, unknown)]);
        }
        kind::check_texts(texts)?;
        kind::note_configs(texts, ctx)?;
        let any_bytes = inputs.any_bytes || self.tokenizer.granularity() == Granularity::Byte;
        let opened = Texts::open(texts, &InputOptions { any_bytes, ..inputs.clone() }, true)?.split();
        let (mut found, mut empty) = (Vec::new(), None);
        for one in opened {
            let encode = || one.encode_and_keep(&self.tokenizer, self.reading(), keep);
            match ctx.pool.install(encode) {
                Ok(text) => found.push(text),
                Err(error @ surprisal_text::Error::Empty(_)) => empty = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        for (text, _) in &found {
            ctx.notes(&text.notices)?;
        }
        match empty {
            Some(error) if found.is_empty() => Err(error.into()),
            _ => Ok(found),
        }
    }

    /// Evaluation on `text`, whose −ln p under its source is `source_nats`.
    ///
    /// # Errors
    /// A failure of the model; a model that has diverged.
    pub fn evaluate(&self, text: &TokenText, source_nats: Option<f64>, pool: &Pool) -> Result<Evaluation> {
        let evaluation = evaluate(&*self.model, text, self.tokenizer.unk(), source_nats, pool)?.checked()?;
        Ok(Evaluation { spelling: Some(Spelling::of(&self.tokenizer, text, pool)?), ..evaluation })
    }

    /// The opening of a sample with `prompt`, which is normalised as the run's text was.
    ///
    /// # Errors
    /// Unknown parts of the prompt, unless they are allowed; a prompt that ends a sentence.
    pub fn prompt(&self, prompt: &str, allow_unknown: bool) -> Result<Opening> {
        Opening::prompt(&self.tokenizer, &self.config.data.normalize.of(prompt), allow_unknown)
    }

    /// The opening of a sample without a prompt, from the run's training text.
    ///
    /// # Errors
    /// Tokens that cannot be decoded.
    pub fn opening(&self) -> Result<Opening> {
        let recorded = || {
            let start = runs::start(self.folder.as_ref()?.root());
            serde_json::from_value::<Opening>(start["opening"].clone()).ok()
        };
        match recorded().filter(|opening| opening.is_of(&self.tokenizer)) {
            Some(opening) => Ok(opening),
            None => Opening::new(&self.tokenizer, None),
        }
    }

    /// Whether the training text had `<unk>`, where that is known.
    pub fn has_learned_unk(&self) -> Option<bool> {
        let start = self.folder.as_ref().map(|folder| runs::start(folder.root()));
        let recorded = start.and_then(|start| start["train_oov"].as_u64());
        recorded.map(|oov| oov > 0).or_else(|| match &self.model {
            Model::Ngram(model) => model.is_context(self.tokenizer.unk()?),
            Model::Kenlm(model) => Some(model.has_unk_as_context()),
            Model::Uniform(_) | Model::Infinigram(_) | Model::Neural(_) | Model::Mixture(_) => None,
        })
    }

    /// The result of the run, if it is finished.
    pub fn last_result(&self) -> Option<Value> {
        runs::result(self.folder.as_ref()?.root())
    }
}
