//! The model that a run starts from, `model.init_from`: its architecture, tokens and weights.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;
use surprisal_formats::hf;
use surprisal_formats::mixture_dir::StoredMixture;
use surprisal_formats::model_dir::{StoredModel, Weights};
use surprisal_model::neural::{Neural, NeuralConfig};
use surprisal_text::{Tokenizer, TokenizerKind};

use crate::config::{Config, Loaded, OptimKind};
use crate::error::{Error, Result};
use crate::events::{Context, Note, Silent};
use crate::kind::Kind;
use crate::runs;
use crate::wording::thousands;

/// A neural model from any kind of folder.
pub(crate) struct Start {
    pub(crate) config: NeuralConfig,
    pub(crate) tensors: BTreeMap<String, Tensor>,
    /// The bytes of its `tokenizer.json`, if it has one.
    pub(crate) tokenizer: Option<Vec<u8>>,
}

/// The model of `model.init_from`, if the config has it; notes on it are not emitted.
pub(crate) fn of(config: &Config, ctx: &Context<'_>) -> Result<Option<Start>> {
    let silent = Context { events: &Silent, ..*ctx };
    config.model.init_from.as_ref().map(|path| read(path, &silent)).transpose()
}

fn read(path: &Path, ctx: &Context<'_>) -> Result<Start> {
    let stored = |stored: StoredModel| match stored.weights {
        Weights::Tensors(tensors) => Ok(Start {
            config: serde_json::from_value(stored.config)?,
            tensors,
            tokenizer: Some(stored.tokenizer),
        }),
        Weights::Ngram(_) | Weights::Arpa(_) | Weights::Kenlm(_) | Weights::Infinigram(_) => {
            Err(counted(path))
        }
    };
    let read = match Kind::detect(path) {
        Ok(Kind::HuggingFace) => hugging_face(path),
        Ok(Kind::Model) => StoredModel::load(path).map_err(Error::from).and_then(stored),
        Ok(Kind::Run) if Kind::detect(&path.join("model")).ok() == Some(Kind::Mixture) => {
            let mixture = StoredMixture::load(path.join("model")).map_err(Error::from);
            mixture.and_then(|mixture| {
                let mut models = mixture.models.into_iter();
                let network = models.find(|model| matches!(model.weights, Weights::Tensors(_)));
                network.map_or_else(|| Err(counted(path)), stored)
            })
        }
        Ok(Kind::Run) if path.join("model/manifest.json").is_file() => {
            StoredModel::load(path.join("model")).map_err(Error::from).and_then(stored)
        }
        Ok(kind @ (Kind::Run | Kind::Checkpoint)) => {
            runs::unfinished(path, kind == Kind::Checkpoint, ctx).and_then(|(model, ..)| stored(model))
        }
        Ok(Kind::Arpa { .. } | Kind::Ngram | Kind::Infinigram | Kind::Kenlm) => Err(counted(path)),
        Ok(kind @ Kind::Mixture) => Err(kind.refuse(path).hint("name its neural model itself")),
        Ok(kind) => Err(kind.refuse(path)),
        Err(error) => Err(error),
    };
    read.map_err(|error| error.within("model.init_from"))
}

/// The model of a Hugging Face folder.
pub(crate) fn hugging_face(path: &Path) -> Result<Start> {
    let model = hf::read(path)?;
    let config = NeuralConfig::Transformer(model.config.transformer());
    Ok(Start { config, tensors: model.tensors, tokenizer: model.tokenizer })
}

/// The error of a Hugging Face `folder` without a tokenizer; `or` is what else helps.
pub(crate) fn no_tokenizer(folder: &str, or: &str) -> Error {
    Error::usage(format!(
        "{folder} has no tokenizer.json, and no vocab.json with merges.txt: the model's tokens are not known"
    ))
    .hint(format!("put the model's tokenizer.json into the folder{or}"))
}

/// Emits a note if `model` has more rows than tokens.
pub(crate) fn note_padding(model: &str, rows: usize, tokens: usize, ctx: &Context<'_>) -> Result<()> {
    if rows <= tokens {
        return Ok(());
    }
    let (rows, size) = (thousands(rows as u64), thousands(tokens as u64));
    ctx.note(Note::Text(format!(
        "{model} has {rows} rows for {size} tokens: the others are padding, and are left out"
    )))
}

fn counted(path: &Path) -> Error {
    Error::usage(format!(
        "`{}` is an n-gram model: it has counts, not weights that training could start from",
        path.display()
    ))
    .hint("start from a neural model; or train one toward n-grams: loss.smooth_toward = \"kneser_ney\"")
}

/// Fills in the architecture of `model.init_from`, and what has to follow from it.
///
/// # Errors
/// A model that cannot be read or is counted; settings that contradict it.
pub(crate) fn adopt(loaded: &mut Loaded, ctx: &Context<'_>) -> Result<()> {
    let Some(path) = loaded.config.model.init_from.clone().filter(|_| !loaded.config.model.is_counted())
    else {
        return Ok(());
    };
    let start = read(&path, ctx)?;
    let said = loaded.override_as_written("model.init_from").unwrap_or_else(|| "model.init_from".into());
    let Loaded { config, notices, overrides: _, path: _, text: _ } = loaded;
    if start.config.kind() != config.model.kind() {
        notices.push(format!("model.kind = {} follows {said}", start.config.kind()));
    }
    config.model.adopt(start.config.clone());
    if config.optim.kind == OptimKind::Muon && !config.model.has_hidden_matrices() {
        config.optim.kind = OptimKind::AdamW;
        notices.push(format!("optim.kind = adamw follows {said}, which has no hidden matrices; it was muon"));
    }
    if let (Some(bytes), None) = (&start.tokenizer, &config.tokenizer.file)
        && let tokenizer = Tokenizer::from_json(bytes)?
        && tokenizer.kind() != TokenizerKind::File
        && let mode = tokenizer.mode()
        && let Some(other) = config.data.unit.replace(mode).filter(|unit| *unit != mode)
    {
        let [mode, other] = [mode, other].map(|mode| format!("{mode:?}").to_lowercase());
        if loaded.override_as_written("data.unit").is_some() {
            let problem = format!("is \"{other}\", and the model of {said} reads texts as \"{mode}\"");
            return Err(loaded.error_at("data", "unit", problem).hint("leave it away, or train a new model"));
        }
        loaded.notices.push(format!("data.unit = {mode} follows {said}; it was {other}"));
    }
    let (asked, most) = (loaded.config.train.block_size, start.config.block_size());
    if loaded.config.model.transformer().is_some() && asked > most {
        if loaded.override_as_written("train.block_size").is_some() {
            let message = format!("is {asked}, and the model of {said} takes at most {most}");
            return Err(loaded.error_at("train", "block_size", message));
        }
        loaded.notices.push(format!("train.block_size = {most} follows {said}; it was {asked}"));
        loaded.config.train.block_size = most;
        let half = loaded.config.train.half_block();
        loaded.config.eval.stride = loaded.config.eval.stride.map(|stride| stride.min(half));
    }
    Ok(())
}

/// The start's network with the vocabulary of `neural`: rows of padding are left out, and new ones
/// are the mean of the others.
///
/// # Errors
/// Tensors that do not fit.
pub(crate) fn network(start: Start, neural: &NeuralConfig, init: &mut ChaCha8Rng) -> Result<Neural> {
    let old = start.config.vocab_size();
    let tokens = match &start.tokenizer {
        Some(bytes) => Tokenizer::from_json(bytes)?.vocab_size().min(old),
        None => old,
    };
    let mut tensors = start.tensors;
    if old != neural.vocab_size() || start.config.bigram_rows() != neural.bigram_rows() {
        for parameter in Neural::new(neural, init)?.parameters() {
            let Some(tensor) = tensors.get_mut(&parameter.name) else { continue };
            *tensor = if parameter.name == "bigram.weight" {
                pairs(tensor, parameter.var.as_tensor(), (&start.config, tokens), neural)?
            } else {
                resized(tensor, parameter.var.dims(), tokens)?
            };
        }
    }
    Ok(Neural::from_tensors(neural, tensors)?)
}

/// `tensor` with the sizes `dims`, of its first `tokens` rows where a size differs.
fn resized(tensor: &Tensor, dims: &[usize], tokens: usize) -> Result<Tensor> {
    let mut tensor = tensor.clone();
    if tensor.rank() != dims.len() {
        return Ok(tensor);
    }
    for (dim, &size) in
        dims.iter().enumerate().filter(|(dim, size)| tensor.dims()[*dim] != **size).collect::<Vec<_>>()
    {
        tensor = tensor.narrow(dim, 0, size.min(tokens).min(tensor.dims()[dim]))?;
        let more = size - tensor.dims()[dim];
        if more > 0 {
            let mean = tensor.mean_keepdim(dim)?;
            tensor = Tensor::cat(&[vec![&tensor], vec![&mean; more]].concat(), dim)?;
        }
    }
    Ok(tensor.force_contiguous()?)
}

/// A table of bigrams with the rows of known pairs where the larger vocabulary has them.
fn pairs(
    old: &Tensor,
    new: &Tensor,
    (start, tokens): (&NeuralConfig, usize),
    neural: &NeuralConfig,
) -> Result<Tensor> {
    let rows: Vec<Vec<f32>> = old.to_vec2()?;
    let mut moved: Vec<Vec<f32>> = vec![vec![0.0; new.dims()[1]]; new.dims()[0]];
    let known = tokens.min(neural.vocab_size()) as u32;
    for before in std::iter::once(None).chain((0..known).map(Some)) {
        for id in 0..known {
            let at = |config: &NeuralConfig| config.bigram_row(before, id).map(|row| row as usize);
            if let (Some(from), Some(to)) = (at(start), at(neural)) {
                moved[to].clone_from(&rows[from]);
            }
        }
    }
    Ok(Tensor::new(moved, old.device())?)
}
