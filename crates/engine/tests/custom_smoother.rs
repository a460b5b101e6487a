//! A smoother from outside, by the public API alone: estimated, evaluated, sampled, saved, opened
//! again.

#![allow(clippy::unwrap_used, reason = "a test fails where something is wrong")]

use surprisal_engine::evaluate::evaluate;
use surprisal_engine::formats::ngram;
use surprisal_engine::generation::generate;
use surprisal_engine::model::ngram::{
    ContextStats, ContextWeights, NgramConfig, NgramModel, Smoother, Smoothing,
};
use surprisal_engine::platform::threads::Pool;
use surprisal_engine::sampling::Sampling;
use surprisal_engine::text::{Corpus, DataOptions, TokenizerKind};
use surprisal_engine::{Context, Control, Silent, models};

/// A discount of `d` from every count; what is taken away goes to the lower order.
struct Discount {
    d: f64,
}

impl Smoother for Discount {
    fn name(&self) -> &'static str {
        "discount"
    }

    fn value(&self, _: usize, count: u32) -> f64 {
        // `<unk>` was counted 0 times.
        (f64::from(count) - self.d).max(0.0)
    }

    fn weight(&self, _: usize, context: &ContextStats, _: f64) -> ContextWeights {
        let total = context.total as f64;
        ContextWeights { scale: 1.0 / total, backoff: self.d * context.types() as f64 / total }
    }
}

#[test]
fn a_smoother_from_outside_is_estimated_sampled_and_opened_again() {
    let options = DataOptions { val_fraction: 0.1, train_fraction: 0.2, ..DataOptions::default() };
    let corpus = Corpus::embedded("stories", &options).unwrap();
    let (tokenizer, train) = corpus.tokenize_train(TokenizerKind::Char).unwrap();
    let val = corpus.encode_val(&tokenizer).unwrap();
    let (pool, control) = (Pool::new(2).unwrap(), Control::new());
    let ctx = Context::new(&pool, &Silent, &control);
    let unk = tokenizer.unk();
    let size = tokenizer.vocab_size();
    let nats = |model: &NgramModel| {
        evaluate(model, &val, unk, None, &pool).unwrap().checked().unwrap().nats_per_token()
    };

    let config = NgramConfig { unk, ..NgramConfig::new(4, Smoothing::Mle) };
    let model = NgramModel::estimate_with(&train.ids, size, &config, &mut Discount { d: 0.5 }).unwrap();
    let own = nats(&model);
    let bigram = NgramConfig { unk, ..NgramConfig::new(2, Smoothing::WittenBell) };
    let bigram = nats(&NgramModel::estimate(&train.ids, size, &bigram).unwrap());
    assert!(own < bigram - 0.5, "three characters of context are worth more than one: {own}, {bigram}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.ngram");
    ngram::write(&path, &model, &tokenizer).unwrap();
    let loaded = models::load(&path, &ctx).unwrap();
    let again = evaluate(&*loaded.model, &val, unk, None, &pool).unwrap();
    assert_eq!(again.nats_per_token(), own);

    let opening = loaded.prompt("The ", false).unwrap();
    let sample = |model: &dyn surprisal_engine::model::LanguageModel| {
        let mut sample = String::new();
        let emit = |piece: &str| {
            sample.push_str(piece);
            Ok(())
        };
        let sampling = Sampling::new(0.8, None, None).unwrap();
        generate(model, &tokenizer, &opening, 40, sampling, 1, emit).unwrap();
        sample
    };
    let drawn = sample(&model);
    assert!(drawn.starts_with("The ") && drawn.chars().count() == 44, "{drawn}");
    assert_eq!(sample(&*loaded.model), drawn);
}
