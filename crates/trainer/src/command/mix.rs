//! `surprisal mix`: interpolates models, q(w | h) = Σ λ_m q_m(w | h), and writes the mixture as a
//! folder, or a mixture of n-gram models as one back-off model.

use std::path::{Path, PathBuf};

use serde_json::json;
use surprisal_engine::model::ngram::{self as counted, MixtureComponent};
use surprisal_engine::model::{LanguageModel, MappedModel};
use surprisal_engine::text::{Granularity, InputOptions, Texts};

use crate::align::align;
use crate::cli;
use crate::command::count::input_options;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::wording::{bytes, many, number, shown, thousands};
use surprisal_engine::Context;
use surprisal_engine::data::note_tokens;
use surprisal_engine::evaluate::{Evaluation, evaluate};
use surprisal_engine::kind::{Kind, check_texts, note_configs};
use surprisal_engine::models::mixture::{self, MixtureWeights};
use surprisal_engine::models::{self, LoadedModel};
use surprisal_engine::outputs;
use surprisal_engine::spelling::Spelling;

/// The command line arguments, validated before any model is read.
struct ValidatedArgs<'a> {
    models: Vec<&'a PathBuf>,
    texts: Vec<PathBuf>,
    arguments: &'a cli::MixArgs,
}

impl<'a> ValidatedArgs<'a> {
    fn new(arguments: &'a cli::MixArgs) -> Result<Self> {
        let (mut models, mut texts): (Vec<&PathBuf>, Vec<&PathBuf>) = (Vec::new(), Vec::new());
        for path in &arguments.inputs {
            let kind = Kind::detect(path)?;
            // A mixture begins with two models, so a pipe there is one.
            let is_model = kind.is_model() || kind == Kind::Special && models.len() < 2 && texts.is_empty();
            if is_model { models.push(path) } else { texts.push(path) }
        }
        if models.len() < 2 {
            let texts: Vec<String> = texts.iter().map(|path| path.display().to_string()).collect();
            let none =
                if texts.is_empty() { String::new() } else { format!("; not a model: {}", texts.join(", ")) };
            return Err(Error::usage(format!(
                "a mixture needs two models or more, not {}{none}",
                models.len()
            ))
            .hint("name run folders, Hugging Face folders, ARPA files or .ngram files"));
        }
        let weights = &arguments.weights;
        if weights.is_empty() && arguments.heldout.is_empty() {
            return Err(Error::usage("no mixture weights")
                .hint("give --heldout TEXT, to fit the weights to, or --weights, one per model"));
        }
        if !(weights.is_empty() || arguments.heldout.is_empty() || texts.is_empty()) {
            return Err(Error::usage("--weights gives the weights, so --heldout has no effect here")
                .hint("omit one of them"));
        }
        let sum: f64 = weights.iter().sum();
        let sound = weights.iter().all(|weight| *weight >= 0.0) && sum > 0.0 && sum.is_finite();
        let fits = weights.is_empty() || sound && weights.len() == models.len();
        if !fits {
            return Err(Error::usage(format!("--weights is {weights:?} for {} models", models.len()))
                .hint("give one weight per model, 0 or more, in the order of the models"));
        }
        if let Some(out) = &arguments.out {
            match outputs::suffix(out).as_str() {
                "arpa" | "ngram" if arguments.by_context => {
                    let problem = "a back-off model has one weight per model, and --by-context many";
                    return Err(Error::usage(format!("{}: {problem}", out.display()))
                        .hint("give --out the name of a folder, which keeps the weights of each bin"));
                }
                "arpa" | "ngram" | "" => {}
                _ => {
                    return Err(Error::usage(format!("{} has no known format", out.display()))
                        .hint("name it .ngram or .arpa, or without a suffix for a folder"));
                }
            }
        }
        let judged = if texts.is_empty() { &arguments.heldout[..] } else { &[] };
        let texts: Vec<PathBuf> = texts.into_iter().chain(judged).cloned().collect();
        if texts.is_empty() && arguments.out.is_none() {
            return Err(Error::usage("there is nothing to do with the mixture")
                .hint("give texts to evaluate it on, or a file to write with --out"));
        }
        Ok(Self { models, texts, arguments })
    }

    /// Whether one n-gram model is written.
    fn writes_ngrams(&self) -> bool {
        self.arguments.out.is_some() && self.folder().is_none()
    }

    /// The folder to write.
    fn folder(&self) -> Option<&Path> {
        self.arguments.out.as_deref().filter(|out| outputs::suffix(out).is_empty())
    }

    /// Whether the evaluated text is the one that the weights were fitted to.
    fn evaluates_on_heldout(&self) -> bool {
        self.arguments.weights.is_empty() && self.texts == self.arguments.heldout
    }
}

pub(crate) fn run(arguments: &cli::MixArgs, ctx: &Context<'_>, output: &Output) -> Result<()> {
    let plan = ValidatedArgs::new(arguments)?;
    check_texts(&arguments.heldout)?;
    note_configs(&arguments.heldout, ctx)?;
    let inputs = [&arguments.inputs[..], &arguments.heldout].concat();
    let _locks = match plan.folder() {
        Some(folder) => outputs::folder(folder, &inputs)?,
        None => outputs::files(arguments.out.as_deref(), &inputs)?,
    };
    let pool = ctx.pool;
    output.phase("reading models", 0);
    let load = || plan.models.iter().map(|path| models::load(path, ctx)).collect::<Result<Vec<_>>>();
    let loaded = pool.install(load)?;
    check_models(&plan, &loaded)?;
    let paths: Vec<String> = plan.models.iter().map(|path| path.display().to_string()).collect();
    let (tokenizer, names) = mixture::merge_vocabularies(&paths, &loaded)?;
    let bins_of = arguments.by_context.then(|| mixture::binned(&loaded)).transpose()?;
    output.phase("reading texts", 0);
    let reading = loaded[0].reading();
    let open = |paths: &[PathBuf]| -> Result<Texts> {
        let any_bytes = tokenizer.granularity() == Granularity::Byte;
        let inputs = InputOptions { any_bytes, ..loaded[0].inputs(input_options(&arguments.reading)?) };
        Ok(Texts::open(paths, &inputs, false)?)
    };
    let read = |texts: &Texts| {
        let text = texts.encode(&tokenizer, reading)?;
        ctx.notes(&text.notices)?;
        Ok::<_, Error>(text)
    };
    let texts = if plan.texts.is_empty() { None } else { Some(open(&plan.texts)?) };
    let text = texts.as_ref().map(read).transpose()?;
    let parts = loaded.iter().zip(&names).map(|(loaded, names)| Ok(MappedModel::new(&*loaded.model, names)?));
    let parts: Vec<MappedModel<_, _>> = parts.collect::<Result<_>>()?;
    let fitted = if arguments.weights.is_empty() {
        let other;
        let heldout = match &text {
            Some(text) if plan.evaluates_on_heldout() => text,
            _ => {
                other = read(&open(&arguments.heldout)?)?;
                note_tokens(&other.tokens, &other.name, "the models", ctx)?;
                &other
            }
        };
        output.phase("fitting weights", 0);
        mixture::fit(&parts, &heldout.tokens, bins_of, pool)?
    } else {
        MixtureWeights::Static { weights: arguments.weights.clone() }
    };
    let (MixtureWeights::Static { weights } | MixtureWeights::Context { weights, .. }) = &fitted;
    let of_all = MixtureWeights::Static { weights: weights.clone() };
    let by_context = Some(fitted).filter(|weights| matches!(weights, MixtureWeights::Context { .. }));
    let boxed = || parts.iter().map(|part| Box::new(*part) as Box<dyn LanguageModel + '_>).collect();
    let mixture = mixture::mix(boxed(), &of_all)?;
    let weights = mixture.weights();

    let unk = tokenizer.unk();
    let judge = |model: &dyn LanguageModel| -> Result<Option<Evaluation>> {
        let Some(text) = &text else { return Ok(None) };
        let spelling = Some(Spelling::of(&tokenizer, &text.tokens, pool)?);
        Ok(Some(Evaluation { spelling, ..evaluate(model, &text.tokens, unk, None, pool)? }))
    };
    if text.is_some() {
        output.phase("evaluating", 0);
    }
    // Each model's own evaluation, as `eval` reports it, and the number of its unknown tokens that
    // other models know.
    let mut alone: Vec<(Evaluation, u64)> = Vec::new();
    for ((path, loaded), names) in plan.models.iter().zip(&loaded).zip(&names) {
        let (Some(text), Some(texts)) = (&text, &texts) else { break };
        let lacking = text.tokens.ids.iter().filter(|&&id| names.own(id).is_some_and(|(_, lacking)| lacking));
        let lacking = lacking.count() as u64;
        let own = texts.encode(&loaded.tokenizer, loaded.reading())?.tokens;
        note_tokens(&own, &text.name, &path.display().to_string(), ctx)?;
        alone.push((loaded.evaluate(&own, None, pool)?, lacking));
    }
    let mixed = judge(&mixture)?;
    let binned = match &by_context {
        Some(by_context) => judge(&mixture::mix(boxed(), by_context)?)?,
        None => None,
    };
    let fixed = match &arguments.out {
        Some(out) if plan.writes_ngrams() => {
            output.phase("mixing", 0);
            let parts: Option<Vec<MixtureComponent<'_>>> = loaded
                .iter()
                .zip(&names)
                .zip(weights)
                .map(|((loaded, names), &weight)| {
                    Some(MixtureComponent { model: loaded.model.ngram()?, weight, map: names })
                })
                .collect();
            let parts = parts.unwrap_or_default();
            let needed = counted::static_mixture_memory(&parts);
            output.info(format!("mixing needs at most {}", bytes(needed)));
            surprisal_engine::memory::check(
                needed,
                "mixing these models",
                "prune them first, with `count --prune`",
            )?;
            let model = pool.install(|| counted::static_mixture(&parts, unk))?;
            ctx.notes(&model.report().notices)?;
            let judged = judge(&model)?;
            output.phase("writing", 0);
            let format = outputs::suffix(out);
            let size = pool.install(|| super::export::write(&format, out, &model, &tokenizer, ctx))?;
            Some((out, judged, Some(size)))
        }
        Some(out) => {
            output.phase("writing", 0);
            let saved = by_context.clone().unwrap_or(of_all);
            mixture::save(out, &loaded, &paths, &tokenizer, saved)?;
            Some((out, binned.or(mixed), None))
        }
        None => None,
    };
    let ranges = by_context.as_ref().map(ranges);
    let seconds = output.seconds();
    output.end_bar();

    let name = text.as_ref().map(|text| text.name.clone());
    if output.json() {
        let models: Vec<_> = plan
            .models
            .iter()
            .zip(weights)
            .enumerate()
            .map(|(i, (path, weight))| {
                let (eval, lacking) = alone.get(i).copied().unzip();
                json!({ "model": path.display().to_string(), "weight": weight, "eval": eval, "lacking": lacking })
            })
            .collect();
        let written: Vec<_> = fixed
            .iter()
            .map(|(path, eval, size)| json!({ "path": path.display().to_string(), "bytes": size, "eval": eval }))
            .collect();
        return output.event(&json!({
            "event": "result", "weights": weights, "models": models, "eval": mixed, "text": name,
            "by_context": by_context.as_ref().map(|weights| json!({ "eval": binned, "weights": weights })),
            "text_is_heldout": plan.evaluates_on_heldout(), "written": written, "seconds": seconds,
        }));
    }
    let heading = match name {
        Some(name) if plan.evaluates_on_heldout() => format!("{name}, to which the weights were fitted"),
        Some(name) => name,
        None => "no text to evaluate on".to_owned(),
    };
    let header = ["", "weight", "nats per token", "perplexity", "bits per byte", "unknown", "zero prob."];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let mut notes = String::new();
    for (i, (path, weight)) in plan.models.iter().zip(weights).enumerate() {
        let (evaluation, lacking) = alone.get(i).copied().unzip();
        rows.push(row(path.display().to_string(), format!("{weight:.4}"), evaluation.as_ref()));
        if let Some(lacking @ 1..) = lacking {
            notes.push_str(&format!(
                "\n{}: {} of its unknown tokens are known to other models. Alone it scores them as <unk>, as `eval` does; in the \
                 mixture it gives them probability zero, with infinite loss.\n",
                shown(path),
                thousands(lacking)
            ));
        }
    }
    rows.push(row("the mixture".into(), String::new(), mixed.as_ref()));
    if by_context.is_some() {
        rows.push(row("the mixture, by context".into(), String::new(), binned.as_ref()));
    }
    if let Some((path, evaluation, Some(_))) = &fixed {
        rows.push(row(format!("{}, one model", path.display()), String::new(), evaluation.as_ref()));
    }
    if let (Some(MixtureWeights::Context { bins_of, bins, .. }), Some(ranges)) = (&by_context, &ranges) {
        notes.push_str(&format!(
            "\nBy context: {} of {}, each fitted as if it had {} more with the weights of all.\n",
            many(bins.all().count() as u64, "bin"),
            paths[*bins_of],
            many(bins.strength as u64, "token")
        ));
        for (path, (least, most)) in paths.iter().zip(ranges) {
            notes.push_str(&format!("{path}: weights from {least:.4} to {most:.4}\n"));
        }
    }
    output.write_stdout(&format!("{heading}\n\n{}{notes}", align(&rows)))?;
    match &fixed {
        Some((path, _, Some(size))) => output.wrote(path, *size),
        Some((path, _, None)) => output.info(format!("wrote the folder {}", shown(path))),
        None => {}
    }
    Ok(())
}

/// The least and the greatest weight of each model in any bin.
fn ranges(weights: &MixtureWeights) -> Vec<(f64, f64)> {
    let MixtureWeights::Context { weights, bins, .. } = weights else { return Vec::new() };
    let range = |(model, all): (usize, &f64)| {
        let of_bins = bins.all().map(|weights| weights[model]);
        of_bins.fold((*all, *all), |(least, most), weight| (least.min(weight), most.max(weight)))
    };
    weights.iter().enumerate().map(range).collect()
}

fn row(name: String, weight: String, evaluation: Option<&Evaluation>) -> Vec<String> {
    let mut row = vec![name, weight];
    if let Some(evaluation) = evaluation {
        let numbers = [evaluation.nats_per_token(), evaluation.perplexity(), evaluation.bits_per_byte()];
        row.extend(numbers.map(|value| number(value, 4)));
        row.extend([evaluation.oov, evaluation.zero_probability].map(thousands));
    }
    row
}

/// Refuses models without n-grams where one n-gram model is to be written.
fn check_models(plan: &ValidatedArgs<'_>, loaded: &[LoadedModel]) -> Result<()> {
    let without = |(_, other): &(&&PathBuf, &LoadedModel)| other.model.ngram().is_none();
    match plan.models.iter().zip(loaded).find(without).filter(|_| plan.writes_ngrams()) {
        None => Ok(()),
        Some((path, other)) => Err(Error::usage(format!(
            "{} is a {}, which has no n-grams to write",
            path.display(),
            other.kind
        ))
        .hint("mix n-gram models, or give --out the name of a folder")),
    }
}
