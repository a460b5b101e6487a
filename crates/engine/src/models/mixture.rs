//! Mixtures of models: their common vocabulary, and their folder, which is a model for everything.

use std::collections::BTreeMap;
use std::path::Path;

use surprisal_formats::mixture_dir::{MixtureConfig, MixturePart, Reading, StoredMixture};
use surprisal_model::neural::Registry;
use surprisal_model::ngram::NgramModel;
use surprisal_model::{BinWeights, LanguageModel, MappedModel, Mixture, VocabMap, best_weights};
use surprisal_platform::threads::Pool;
use surprisal_text::{TextMode, TokenText, Tokenizer};

pub use surprisal_formats::mixture_dir::MixtureWeights;

use super::{self as models, LoadedModel, Model};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::evaluate::{context_bins, log_probs};
use crate::wording::many;

/// A mixture that was read from its folder.
pub struct MixtureModel {
    mixture: Mixture<'static>,
    /// Its parts and weights.
    pub config: MixtureConfig,
    /// The kind in words and the number of parameters of each part.
    pub parts: Vec<(String, u64)>,
}

impl std::ops::Deref for MixtureModel {
    type Target = dyn LanguageModel;

    fn deref(&self) -> &Self::Target {
        &self.mixture
    }
}

/// The mixture of `parts`, which have one vocabulary.
///
/// # Errors
/// Weights that do not fit the parts.
pub fn mix<'a>(parts: Vec<Box<dyn LanguageModel + 'a>>, weights: &MixtureWeights) -> Result<Mixture<'a>> {
    Ok(match weights {
        MixtureWeights::Static { weights } => Mixture::new(parts, weights)?,
        MixtureWeights::Context { weights, bins_of, bins } => {
            Mixture::new(parts, weights)?.by_context(*bins_of, bins.clone())?
        }
    })
}

/// The weights of `parts` that give `text` the lowest loss: the same everywhere, or for each bin of
/// the contexts of part `bins_of`.
///
/// # Errors
/// A failure of a model.
pub fn fit<M: LanguageModel>(
    parts: &[M],
    text: &TokenText,
    bins_of: Option<usize>,
    pool: &Pool,
) -> Result<MixtureWeights> {
    let scores: Result<Vec<_>> = parts.iter().map(|part| log_probs(part, text, pool)).collect();
    let scores = scores?;
    let weights = best_weights(&scores);
    let Some(bins_of) = bins_of else { return Ok(MixtureWeights::Static { weights }) };
    let bins = context_bins(&parts[bins_of], text, pool)?;
    let bins = BinWeights::fit(&scores, &bins, &weights);
    Ok(MixtureWeights::Context { weights, bins_of, bins })
}

/// The index of the n-gram model of the highest order, whose contexts can be binned.
///
/// # Errors
/// No n-gram model among them.
pub fn binned(models: &[LoadedModel]) -> Result<usize> {
    let order = |model: &Model| match model {
        Model::Infinigram(_) => Some(usize::MAX),
        model => model.order(),
    };
    let orders = models.iter().enumerate().filter_map(|(i, loaded)| Some((order(&loaded.model)?, i)));
    // The first of those of one order.
    let best = orders.max_by_key(|&(order, i)| (order, std::cmp::Reverse(i)));
    best.map(|(_, i)| i).ok_or_else(|| {
        Error::usage("weights by context need an n-gram model, whose contexts can be binned")
            .hint("count one from the training text and add it to the mixture")
    })
}

/// Writes the mixture of `models`, which have these `names`, as the folder `path`.
///
/// # Errors
/// A mixture among the models; a folder that cannot be written.
pub fn save(
    path: &Path,
    models: &[LoadedModel],
    names: &[String],
    tokenizer: &Tokenizer,
    weights: MixtureWeights,
) -> Result<()> {
    let part = |(loaded, name): (&LoadedModel, &String)| MixturePart {
        name: name.clone(),
        stride: match &loaded.model {
            Model::Neural(lm) => Some(lm.stride),
            Model::Uniform(_)
            | Model::Ngram(_)
            | Model::Kenlm(_)
            | Model::Infinigram(_)
            | Model::Mixture(_) => None,
        },
    };
    let parts = models.iter().zip(names).map(part).collect();
    // Texts are read as the first model's are.
    let data = models.first().map(|first| &first.config.data);
    let reading = data.map(|data| Reading {
        normalize: data.normalize,
        invalid: data.invalid,
        literal_specials: data.literal_specials,
        last_line: data.last_line,
    });
    let stored = StoredMixture {
        config: MixtureConfig::new(parts, weights, reading.unwrap_or_default()),
        tokenizer: tokenizer.to_json()?,
        models: models.iter().map(LoadedModel::stored).collect::<Result<_>>()?,
    };
    // A link is followed: the folder behind it is replaced.
    Ok(stored.save(path.canonicalize().unwrap_or_else(|_| path.to_owned()))?)
}

/// The mixture in the folder `path`.
pub(crate) fn open(path: &Path, registry: &Registry) -> Result<LoadedModel> {
    let damaged = |problem: &dyn std::fmt::Display| {
        Error::failed(format!("the mixture in {} is damaged: {problem}", path.display()))
    };
    let StoredMixture { config, tokenizer, models } = StoredMixture::load(path)?;
    let mut loaded = Vec::new();
    for (stored, part) in models.into_iter().zip(&config.parts) {
        let (model, tokenizer, kind) = models::of_stored(stored, part.stride, registry, path)?;
        model.neural().map_or(Ok(()), |neural| models::check_finite(neural, path))?;
        loaded.push(LoadedModel { kind, ..LoadedModel::of_file(model, tokenizer, "") });
    }
    let names: Vec<String> = config.parts.iter().map(|part| part.name.clone()).collect();
    let (union, maps) = merge_vocabularies(&names, &loaded).map_err(|error| damaged(&error))?;
    if union.to_json()? != tokenizer {
        return Err(damaged(&"its tokenizer.json is another mixture's"));
    }
    let parts = loaded.iter().map(|loaded| (loaded.kind.clone(), loaded.model.parameters())).collect();
    let mapped = loaded
        .into_iter()
        .zip(maps)
        .map(|(loaded, map)| Ok(Box::new(MappedModel::new(loaded.model, map)?) as Box<dyn LanguageModel>));
    let mixture = mapped.collect::<Result<_>>().and_then(|mapped| mix(mapped, &config.weights));
    let mixture = mixture.map_err(|error| damaged(&error))?;
    let mut own = Config::default();
    let Reading { normalize, invalid, literal_specials, last_line } = config.reading;
    (own.data.normalize, own.data.invalid) = (normalize, invalid);
    (own.data.literal_specials, own.data.last_line) = (literal_specials, last_line);
    let model = Model::Mixture(Box::new(MixtureModel { mixture, config, parts }));
    Ok(LoadedModel { config: own, ..LoadedModel::of_file(model, union, "mixture") })
}

/// The union of all vocabularies, and each model's map into it. There is at least one model.
///
/// # Errors
/// Models that cannot be mixed.
pub fn merge_vocabularies(paths: &[String], loaded: &[LoadedModel]) -> Result<(Tokenizer, Vec<VocabMap>)> {
    let of = |index: usize| &paths[index];
    let first = &loaded[0].tokenizer;
    for (index, other) in loaded.iter().enumerate() {
        if !other.model.is_distribution() {
            return Err(Error::usage(format!("{}: scores of stupid backoff do not sum to one", of(index)))
                .hint("mix models of another smoothing"));
        }
        let tokenizer = &other.tokenizer;
        let read = |tokenizer: &Tokenizer| (tokenizer.kind().name(), tokenizer.mode());
        if read(tokenizer) != read(first) {
            let as_read = |tokenizer: &Tokenizer| {
                let unit = match tokenizer.mode() {
                    TextMode::Line => ", line by line",
                    TextMode::Stream => " of a stream",
                    TextMode::Document => " of documents",
                };
                format!("{} tokens{unit}", tokenizer.kind().name())
            };
            return Err(Error::usage(format!(
                "{} reads {}, and {} reads {}",
                of(0),
                as_read(first),
                of(index),
                as_read(tokenizer)
            ))
            .hint("only models of the same tokens can be mixed"));
        }
    }
    let Some(lists) = loaded.iter().map(|loaded| loaded.tokenizer.words()).collect::<Option<Vec<_>>>() else {
        // Byte tokenizers are equal; BPE tokenizers must have the same tokenizer.json.
        let bytes = first.to_json()?;
        for (index, other) in loaded.iter().enumerate() {
            if other.tokenizer.to_json()? != bytes {
                return Err(Error::usage(format!("{} and {} have different BPE merges", of(0), of(index)))
                    .hint("train both with the same tokenizer.json"));
            }
        }
        let size = first.vocab_size();
        let same = || VocabMap::new((0..size as u32).collect(), size, None);
        return Ok((first.clone(), loaded.iter().map(|_| same()).collect::<Result<_, _>>()?));
    };
    let (mut all, mut known) = (Vec::new(), BTreeMap::new());
    let ids: Vec<Vec<u32>> = lists
        .into_iter()
        .map(|words| {
            let id = |word| {
                *known.entry(word).or_insert_with(|| {
                    all.push(word);
                    all.len() as u32 - 1
                })
            };
            words.map(id).collect()
        })
        .collect();
    let names = ids.into_iter().zip(loaded);
    let names = names.map(|(ids, loaded)| Ok(VocabMap::new(ids, all.len(), loaded.tokenizer.unk())?));
    let names: Vec<VocabMap> = names.collect::<Result<_>>()?;
    for (index, (names, loaded)) in names.iter().zip(loaded).enumerate() {
        let closed = loaded.model.ngram().is_some_and(|model: &NgramModel| model.config().closed);
        if closed && names.lacking() > 0 {
            return Err(Error::usage(format!(
                "{} has a closed vocabulary without {} of other models",
                of(index),
                many(names.lacking() as u64, "token")
            ))
            .hint("count it with model.closed = false, or with the vocabulary of the others"));
        }
    }
    Ok((Tokenizer::from_words(first.kind(), first.mode(), all)?, names))
}
