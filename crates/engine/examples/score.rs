//! Counts a trigram model, writes it as an .ngram file, and scores sentences and their words with
//! what the file gives back.

#![allow(clippy::print_stdout, reason = "an example shows something")]

use surprisal_engine::formats::ngram;
use surprisal_engine::model::ngram::{NgramConfig, NgramModel, Smoothing};
use surprisal_engine::platform::threads::Pool;
use surprisal_engine::text::{Corpus, DataOptions, TextMode, TokenizerKind};
use surprisal_engine::word_sums::by_word;
use surprisal_engine::{Context, Control, Result, Silent, models};

fn main() -> Result<()> {
    let pool = Pool::new(2)?;
    let options = DataOptions {
        mode: TextMode::Line,
        val_fraction: 0.1,
        train_fraction: 1.0,
        ..DataOptions::default()
    };
    let corpus = Corpus::embedded("stories", &options)?;
    let (tokenizer, train) = pool.install(|| corpus.tokenize_train(TokenizerKind::Word))?;
    let (bos, unk) = (tokenizer.bos(), tokenizer.unk());
    let config =
        NgramConfig { order: 3, smoothing: Smoothing::WittenBell, bos, unk, ..NgramConfig::default() };
    let model = pool.install(|| NgramModel::estimate(&train.ids, tokenizer.vocab_size(), &config))?;
    let path = std::env::temp_dir().join(format!("surprisal-example-{}.ngram", std::process::id()));
    ngram::write(&path, &model, &tokenizer)?;

    let control = Control::new();
    let loaded = models::load(&path, &Context::new(&pool, &Silent, &control))?;
    for sentence in ["the cat sat by the river .", "river the by sat cat the ."] {
        let mut tokens: Vec<u32> = loaded.tokenizer.bos().into_iter().collect();
        tokens.extend(loaded.tokenizer.encode(sentence)?);
        tokens.extend(loaded.tokenizer.eos());
        let surprisals: Vec<f64> =
            loaded.model.log_probs(&tokens, 1)?.iter().map(|log_prob| -log_prob).collect();
        let nats: f64 = surprisals.iter().sum();
        println!("{nats:.2} nats for {:?}, {:.2} a token", sentence, nats / (tokens.len() - 1) as f64);
        for word in by_word(&loaded.tokenizer, &tokens[1..], &surprisals, |_| None) {
            println!("  {:6.2} {}", word.nats, word.word);
        }
    }
    drop(std::fs::remove_file(path));
    Ok(())
}
