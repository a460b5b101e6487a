//! A smoother from outside of the library, through the public interface alone.

use std::sync::Arc;

use surprisal_model::ngram::reference::{Formula, Reference};
use surprisal_model::ngram::{
    ContextStats, ContextWeights, Heldout, NgramConfig, NgramModel, Report, Smoother, Smoothing, Tuning,
};
use surprisal_model::{Error, LanguageModel};

const VOCAB: usize = 12;

/// A text with structure: each token depends on the last one, and now and then on nothing.
fn text(len: usize, mut state: u64) -> Vec<u32> {
    let mut draw = |n: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % n
    };
    let mut text = vec![0];
    for _ in 1..len {
        let last = text[text.len() - 1];
        text.push(if draw(3) > 0 { (last * 5 + draw(2)) % 11 } else { draw(11) });
    }
    text
}

/// The formula of the built-in Witten-Bell.
struct MyWittenBell;

impl Smoother for MyWittenBell {
    fn name(&self) -> &'static str {
        "my_witten_bell"
    }

    fn weight(&self, _: usize, context: &ContextStats, _: f64) -> ContextWeights {
        let (total, types) = (context.total as f64, context.types() as f64);
        ContextWeights { scale: 1.0 / (total + types), backoff: types / (total + types) }
    }
}

#[test]
fn the_same_formula_is_the_same_model() {
    let train = text(3000, 1);
    let config = NgramConfig { order: 3, smoothing: Smoothing::WittenBell, ..NgramConfig::default() };
    let built_in = NgramModel::estimate(&train, VOCAB, &config).unwrap();
    let own = NgramModel::estimate_with(&train, VOCAB, &config, &mut MyWittenBell).unwrap();
    let test = text(500, 2);
    assert_eq!(own.log_probs(&test, 0).unwrap(), built_in.log_probs(&test, 0).unwrap());
    assert_eq!(own.report().smoother.as_deref(), Some("my_witten_bell"));
    assert_eq!(own.config().smoothing, Smoothing::Given);
    assert_eq!(own.parameters(), built_in.parameters());
    assert!(own.is_distribution());
    // Sampling: the likeliest next token, again and again.
    let mut sample = vec![1];
    let mut session = own.session().unwrap();
    for _ in 0..20 {
        let next = session.feed(&sample[sample.len() - 1..]).unwrap();
        assert!((next.iter().map(|q| q.exp()).sum::<f64>() - 1.0).abs() < 1e-12);
        sample.push((0..VOCAB).max_by(|&a, &b| next[a].total_cmp(&next[b])).unwrap() as u32);
    }
    assert!(own.log_probs(&sample, 0).unwrap().iter().all(|q| q.is_finite()));
}

/// A constant share of every context goes to the lower order; the share is fitted to held-out text.
struct Share {
    lower: f64,
}

impl Smoother for Share {
    fn name(&self) -> &'static str {
        "share"
    }

    fn weight(&self, _: usize, context: &ContextStats, _: f64) -> ContextWeights {
        ContextWeights { scale: (1.0 - self.lower) / context.total as f64, backoff: self.lower }
    }

    fn check(&self, _order: usize) -> Result<(), Error> {
        if self.lower > 0.0 && self.lower < 1.0 {
            return Ok(());
        }
        Err(Error::Config(format!("a share must be from 0 to 1, not {}", self.lower)))
    }

    fn tuning(&self) -> Tuning {
        Tuning::OnRequest
    }

    fn fit(&mut self, heldout: Option<&Heldout>, _: &mut Report) {
        let Some(heldout) = heldout else { return };
        let nats = |lower: f64| -> f64 {
            let q = heldout.tokens().map(|orders| {
                orders.iter().fold(heldout.uniform(), |q, at| {
                    (1.0 - lower) * f64::from(at.count) / at.context.total as f64 + lower * q
                })
            });
            q.map(|q| -q.ln()).sum()
        };
        let shares = (1..100).map(|percent| f64::from(percent) / 100.0);
        self.lower = shares.min_by(|&a, &b| nats(a).total_cmp(&nats(b))).unwrap_or(self.lower);
    }
}

#[test]
fn a_new_formula_is_fitted_and_agrees_with_its_reference() {
    let (train, test) = (text(3000, 1), text(2000, 3));
    let config = NgramConfig { order: 4, heldout: 0.2, tune: true, ..NgramConfig::default() };
    let mut fitted = Share { lower: 0.99 };
    let model = NgramModel::estimate_with(&train, VOCAB, &config, &mut fitted).unwrap();
    assert!(fitted.lower < 0.9, "{}", fitted.lower);
    let fixed = NgramConfig { tune: false, ..config.clone() };
    let poor = NgramModel::estimate_with(&train, VOCAB, &fixed, &mut Share { lower: 0.99 }).unwrap();
    let nats = |model: &NgramModel| -model.log_probs(&test, 0).unwrap().iter().sum::<f64>();
    assert!(nats(&model) < nats(&poor));
    let formula = Formula::new(move |word, context| {
        let own = context.counts[word] as f64 / context.total();
        (1.0 - fitted.lower) * own + fitted.lower * context.lower[word]
    });
    let reference = Reference::with_formula(&train, VOCAB, &config, formula);
    for context in [&[][..], &test[..1], &test[..9], &[11, 3]] {
        for (log_q, q) in model.next_log_probs(context).unwrap().iter().zip(reference.next(context)) {
            assert!((log_q.exp() - q).abs() < 1e-12, "{context:?}: {} {q}", log_q.exp());
        }
    }
    let model: Arc<dyn LanguageModel> = Arc::new(model);
    assert_eq!(model.vocab_size(), VOCAB);
}

/// One less than every count.
struct Less;

impl Smoother for Less {
    fn name(&self) -> &'static str {
        "less"
    }

    fn value(&self, _: usize, count: u32) -> f64 {
        f64::from(count) - 1.0
    }

    fn weight(&self, _: usize, context: &ContextStats, _: f64) -> ContextWeights {
        ContextWeights { scale: 1.0 / context.total as f64, backoff: 0.5 }
    }
}

#[test]
fn wrong_parameters_and_pruning_are_refused() {
    let estimate = |config: &NgramConfig, smoother: &mut dyn Smoother| {
        NgramModel::estimate_with(&[0, 1, 2], VOCAB, config, smoother).unwrap_err().to_string()
    };
    let config = NgramConfig::default();
    assert!(estimate(&config, &mut Share { lower: 1.5 }).contains("not 1.5"));
    // Token 11 is never counted, and would have a negative probability.
    assert!(estimate(&config, &mut Less).contains("less: order 1 has a value that is not a probability"));
    let pruned = NgramConfig { prune: vec![0, 1], ..config };
    assert!(estimate(&pruned, &mut MyWittenBell).contains("my_witten_bell"));
}
