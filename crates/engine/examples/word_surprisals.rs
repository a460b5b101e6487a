//! Compares the word surprisals of models with those of the text's source, which is known here: a
//! 5-gram of characters that it counts, or the runs that are named, of the embedded stories.

#![allow(clippy::print_stdout, reason = "an example shows something")]

use std::path::PathBuf;

use surprisal_engine::config;
use surprisal_engine::evaluate::log_probs;
use surprisal_engine::model::LanguageModel;
use surprisal_engine::model::ngram::{NgramConfig, NgramModel, Smoothing};
use surprisal_engine::platform::threads::Pool;
use surprisal_engine::text::{Corpus, DataOptions, InputOptions, TokenText, Tokenizer, TokenizerKind};
use surprisal_engine::word_sums::{WordSurprisal, by_word};
use surprisal_engine::{Context, Control, Error, Result, Silent, models};

fn main() -> Result<()> {
    let pool = Pool::new(2)?;
    let data = config::Config::default().data;
    let options =
        DataOptions { val_fraction: data.val_fraction, train_fraction: 1.0, ..DataOptions::default() };
    let corpus = Corpus::embedded(&data.embedded, &options)?;
    let (characters, train) = pool.install(|| corpus.tokenize_train(TokenizerKind::Char))?;
    let val = corpus.encode_val(&characters)?;

    // −ln p of every character under the source, and of the words that it adds up to.
    let mut own = val.ids.iter().map(|&id| characters.token_bytes(id).into_owned());
    let mut nats = Vec::new();
    corpus.source_predictions_val(|distribution| {
        let next = own.next().unwrap_or_default();
        let of_next = |(character, _): &&(char, f64)| character.to_string().as_bytes() == next;
        nats.push(-distribution.iter().find(of_next).map_or(0.0, |(_, probability)| *probability).ln());
    })?;
    let exact = by_word(&characters, &val.ids, &nats, |_| None);
    println!("{} words, {:.4} nats each under their source", exact.len(), mean(&exact));

    let control = Control::new();
    let ctx = Context::new(&pool, &Silent, &control);
    let runs: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if runs.is_empty() {
        let config = NgramConfig::new(5, Smoothing::WittenBell);
        let model = pool.install(|| NgramModel::estimate(&train.ids, characters.vocab_size(), &config))?;
        compare("a counted 5-gram", &model, &characters, &val, &exact, &pool)?;
    }
    for path in runs {
        let loaded = models::load(&path, &ctx)?;
        let (text, _) = loaded.evaluation_text(&[], &loaded.inputs(InputOptions::default()), &ctx)?;
        let name = path.display().to_string();
        compare(&name, &*loaded.model, &loaded.tokenizer, &text.tokens, &exact, &pool)?;
    }
    Ok(())
}

fn mean(words: &[WordSurprisal]) -> f64 {
    words.iter().map(|word| word.nats).sum::<f64>() / words.len() as f64
}

/// Prints the correlation of a model's word surprisals with the `exact` ones.
fn compare(
    name: &str,
    model: &dyn LanguageModel,
    tokenizer: &Tokenizer,
    text: &TokenText,
    exact: &[WordSurprisal],
    pool: &Pool,
) -> Result<()> {
    let nats: Vec<f64> = log_probs(model, text, pool)?.iter().map(|log_prob| -log_prob).collect();
    let words = by_word(tokenizer, &text.ids, &nats, |_| None);
    if words.iter().map(|word| &word.word).ne(exact.iter().map(|word| &word.word)) {
        return Err(Error::usage(format!("{name} has other words: it is of another text")));
    }
    let difference = words.iter().map(|word| word.nats).sum::<f64>() - nats.iter().sum::<f64>();
    println!(
        "{name}: {:.4} nats a word, correlation {:.4} with the source's; the words' sum is {difference:.1e} off the text's",
        mean(&words),
        correlation(&words, exact)
    );
    Ok(())
}

/// Pearson's correlation.
fn correlation(a: &[WordSurprisal], b: &[WordSurprisal]) -> f64 {
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a.nats - mean_a, b.nats - mean_b);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    ab / (aa * bb).sqrt()
}
