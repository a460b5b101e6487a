//! Models that are counted, not trained: the baselines of every run, and `kind = "ngram"` itself.

use std::time::Instant;

use serde_json::json;
use surprisal_model::LanguageModel;
use surprisal_model::ngram::{NgramConfig, NgramModel, Uniform};
use surprisal_platform::threads::Pool;
use surprisal_store::run::RunWriter;

use super::record::Record;
use super::state::Account;
use super::table::Table;
use crate::config::Config;
use crate::data::Prepared;
use crate::evaluate::{Evaluation, evaluate};
use crate::failure::Result;
use crate::output::Output;
use crate::wording::many;

/// The instant baselines on the same validation text, before anything is trained.
pub(super) fn baselines(
    data: &Prepared,
    table: Table,
    pool: &Pool,
    record: &mut Record,
    output: &Output,
) -> Result<()> {
    if let Some(nats) = data.source_nats {
        let entropy = nats / data.val.scored() as f64;
        output.say(format!(
            "the source of this text is known: its own entropy H(p) is {entropy:.4} nats a token on the validation \
             text, and no model can do better"
        ));
    }
    output.say(table.baseline_header());
    let vocab_size = data.tokenizer.vocab_size();
    let bos = data.val.bos();
    let uniform: Box<dyn LanguageModel> = Box::new(Uniform::new(vocab_size, bos));
    let counted = |order| -> Result<Box<dyn LanguageModel>> {
        let config = NgramConfig { order, bos, ..NgramConfig::default() };
        Ok(Box::new(pool.install(|| NgramModel::estimate(&data.train.ids, vocab_size, &config))?))
    };
    for (name, model) in [("uniform", uniform), ("unigram", counted(1)?), ("bigram MLE", counted(2)?)] {
        let evaluation = evaluate(model.as_ref(), &data.val, data.tokenizer.unk(), data.source_nats, pool)?;
        output.say(table.baseline(name, &evaluation));
        record.event(&json!({ "event": "baseline", "model": name, "eval": evaluation }), output)?;
    }
    Ok(())
}

/// Counts, saves and evaluates the model that the config asks for.
pub(super) fn train(
    config: &Config,
    data: &Prepared,
    table: Table,
    folder: &RunWriter,
    pool: &Pool,
    output: &Output,
) -> Result<(Box<dyn LanguageModel>, Evaluation, Account)> {
    let started = Instant::now();
    let vocab_size = data.tokenizer.vocab_size();
    let bos = data.val.bos();
    let (model, parameters, name): (Box<dyn LanguageModel>, u64, String) = if config.model.kind == "uniform" {
        crate::models::save_uniform(folder, &data.tokenizer)?;
        (Box::new(Uniform::new(vocab_size, bos)), 0, "uniform".into())
    } else {
        let ngram = crate::config::ngram_config(&config.model, bos, data.tokenizer.unk())?;
        let model = pool.install(|| NgramModel::estimate(&data.train.ids, vocab_size, &ngram))?;
        output.say_notices(&model.report().notices);
        crate::models::save_ngram(folder, &data.tokenizer, &model)?;
        let parameters = model.parameters();
        let name = format!("{}-gram {}", ngram.order, ngram.smoothing.name());
        (Box::new(model), parameters, name)
    };
    let train_seconds = started.elapsed().as_secs_f64();
    let evaluation = evaluate(model.as_ref(), &data.val, data.tokenizer.unk(), data.source_nats, pool)?;
    output.say(format!("counted {}", many(parameters, "n-gram")));
    output.say(table.baseline(&name, &evaluation));
    let account = Account {
        parameters,
        train_seconds,
        tokens_per_second: data.train.scored() as f64 / train_seconds,
        epochs: 1.0,
        steps: 0,
    };
    Ok((model, evaluation, account))
}
