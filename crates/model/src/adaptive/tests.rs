//! Tests of the model that learns while it reads.

use proptest::prelude::*;

use super::*;
use crate::LanguageModel;
use crate::ngram::{NgramConfig, NgramModel};

fn settings(vocab_size: usize) -> Settings {
    let letters = (0..vocab_size).map(|token| token % 3 > 0).collect();
    Settings { vocab_size, letters, tokens: 1000, ..Settings::default() }
}

/// A text with repeats of tokens below `vocab_size`.
fn text(vocab_size: usize) -> Vec<u32> {
    let token = |i: usize| (i * i / 3 + i / 7) as u32 % vocab_size as u32;
    let once: Vec<u32> = (0..150).map(token).collect();
    [&once[..], &once[20..100], &once[..]].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_step_is_a_distribution_and_a_token_has_what_the_row_says(
        vocab_size in prop::sample::select(vec![1_usize, 2, 3, 5, 17, 65, 300]),
        weights in prop::collection::vec(0..1000u64, 0..70),
        has_frozen in any::<bool>(),
    ) {
        let tokens = text(vocab_size);
        let counted = NgramModel::estimate(&tokens[..90], vocab_size, &NgramConfig::default()).unwrap();
        let mut online = Online::new(Settings { weights, ..settings(vocab_size) });
        for i in 0..tokens.len() {
            let frozen = has_frozen.then(|| counted.next_log_probs(&tokens[..i]).unwrap());
            let row = online.row(frozen.as_deref());
            let sum: f64 = row.iter().map(|log_prob| log_prob.exp()).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9, "{sum} at {i}");
            // By brute force: each token, read by a model that was given the same text.
            if i % 97 == 0 {
                for token in (0..vocab_size as u32).step_by(vocab_size / 5 + 1) {
                    let mut other = Online::new(online.settings.clone());
                    for (j, &before) in tokens[..i].iter().enumerate() {
                        let frozen = has_frozen.then(|| counted.next_log_probs(&tokens[..j]).unwrap());
                        other.read(before, frozen.as_deref());
                    }
                    prop_assert_eq!(other.read(token, frozen.as_deref()), row[token as usize]);
                }
            }
            prop_assert_eq!(online.read(tokens[i], frozen.as_deref()), row[tokens[i] as usize]);
        }
    }
}

#[test]
fn no_later_token_changes_an_earlier_one_and_rows_teach_nothing() {
    let tokens = text(20);
    let nats = |tokens: &[u32], rows: bool| -> Vec<f64> {
        let mut online = Online::new(settings(20));
        let read = |&token| {
            if rows {
                online.row(None);
            }
            online.read(token, None)
        };
        tokens.iter().map(read).collect()
    };
    let all = nats(&tokens, false);
    assert_eq!(nats(&tokens, true), all);
    let mut changed = tokens.clone();
    changed[200..].fill(3);
    assert_eq!(nats(&changed, false)[..200], all[..200]);
    // The repeat is cheap: fewer nats than in the first reading by far.
    let sum = |range: std::ops::Range<usize>| all[range].iter().sum::<f64>() / all.len() as f64;
    assert!(sum(240..380) > 0.25 * sum(0..140), "{} {}", sum(0..140), sum(240..380));
}

#[test]
fn a_session_gives_the_distributions_of_reading() {
    let tokens = text(11);
    let counted = NgramModel::estimate(&tokens, 11, &NgramConfig::default()).unwrap();
    let mut session =
        AdaptiveSession::new(Online::new(settings(11)), Some(counted.session().unwrap())).unwrap();
    let mut online = Online::new(settings(11));
    let mut row = session.feed(&[]).unwrap();
    for (i, &token) in tokens.iter().enumerate() {
        let frozen = counted.next_log_probs(&tokens[..i]).unwrap();
        assert_eq!(row, online.row(Some(&frozen)));
        online.read(token, Some(&frozen));
        row = session.feed(&[token]).unwrap();
    }
    assert!(session.feed(&[11]).is_err());
}

#[test]
fn a_frozen_model_keeps_its_distribution() {
    let tokens = text(13);
    let counted = NgramModel::estimate(&tokens, 13, &NgramConfig::default()).unwrap();
    let mut frozen = Frozen::new(13);
    for i in 0..60 {
        let row = counted.next_log_probs(&tokens[..i]).unwrap();
        for token in 0..13 {
            let mut q = 1.0;
            let reached = frozen.walk(&row, |split, p| {
                q *= if token >= split { p } else { 1.0 - p };
                token >= split
            });
            assert_eq!(reached, token);
            assert!((q.ln() - row[token as usize]).abs() < 1e-3 || row[token as usize] < -8.0);
        }
    }
}

#[test]
fn what_a_frozen_model_knows_helps() {
    let tokens = text(30);
    let counted = NgramModel::estimate(&tokens, 30, &NgramConfig::default()).unwrap();
    let nats = |has_frozen: bool| -> f64 {
        let mut online = Online::new(settings(30));
        let read = |i: usize| {
            let frozen = has_frozen.then(|| counted.next_log_probs(&tokens[..i]).unwrap());
            -online.read(tokens[i], frozen.as_deref())
        };
        (0..tokens.len()).map(read).sum()
    };
    assert!(nats(true) < 0.6 * nats(false), "{} {}", nats(true), nats(false));
}
