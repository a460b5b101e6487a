//! Counted models against hand-made numbers, and as distributions.

use proptest::prelude::*;

use super::*;

fn config(order: usize, smoothing: Smoothing, k: f64, bos: Option<u32>) -> NgramConfig {
    NgramConfig { order, smoothing, k, bos }
}

#[test]
fn a_bigram_is_a_ratio_of_counts() {
    // a b a b a c
    let text = [0, 1, 0, 1, 0, 2];
    let model =
        NgramModel::estimate([&text[..]].into_iter(), 4, &config(2, Smoothing::Mle, 0.0, None)).unwrap();
    let p = |context: &[u32], word: usize| model.next(context).unwrap()[word].exp();
    assert!((p(&[0], 1) - 2.0 / 3.0).abs() < 1e-15);
    assert!((p(&[0], 2) - 1.0 / 3.0).abs() < 1e-15);
    assert!((p(&[3, 1], 0) - 1.0).abs() < 1e-15);
    assert_eq!(p(&[1], 1), 0.0);
    // Never seen: the unigram answers.
    assert!((p(&[3], 0) - 0.5).abs() < 1e-15);
    assert!((p(&[], 1) - 1.0 / 3.0).abs() < 1e-15);
    let scored = model.log_probs(&text, 0).unwrap();
    assert!((scored[0] - 0.5f64.ln()).abs() < 1e-15 && (scored[5] - (1.0f64 / 3.0).ln()).abs() < 1e-15);
    assert_eq!(model.log_probs(&[0, 0], 1).unwrap(), [f64::NEG_INFINITY]);
}

#[test]
fn add_k_adds_k() {
    let text = [0, 1, 0, 1, 0, 2];
    let model =
        NgramModel::estimate([&text[..]].into_iter(), 4, &config(2, Smoothing::AddK, 0.5, None)).unwrap();
    let p = |context: &[u32], word: usize| model.next(context).unwrap()[word].exp();
    assert!((p(&[0], 1) - 2.5 / 5.0).abs() < 1e-15);
    assert!((p(&[0], 0) - 0.5 / 5.0).abs() < 1e-15);
    assert!((p(&[3], 2) - 0.25).abs() < 1e-15);
}

#[test]
fn lines_are_counted_between_their_ends() {
    // <s> = 0, </s> = 1: "a b", "", "b"
    let lines: [&[u32]; 3] = [&[0, 2, 3, 1], &[0, 1], &[0, 3, 1]];
    let model = NgramModel::estimate(lines.into_iter(), 4, &config(2, Smoothing::Mle, 0.0, Some(0))).unwrap();
    let first = model.next(&[0]).unwrap();
    for word in 1..4 {
        assert!((first[word].exp() - 1.0 / 3.0).abs() < 1e-15);
    }
    assert_eq!(first[0], f64::NEG_INFINITY);
    // The unigram does not count <s>.
    assert_eq!(model.counts().levels[0].totals, [6]);
    assert_eq!(model.parameters(), 3 + 5);
}

#[test]
fn impossible_requests_are_errors() {
    let text: [&[u32]; 1] = [&[0, 1]];
    for wrong in [
        config(0, Smoothing::Mle, 0.0, None),
        config(17, Smoothing::Mle, 0.0, None),
        config(2, Smoothing::AddK, 0.0, None),
        config(2, Smoothing::AddK, f64::NAN, None),
    ] {
        assert!(matches!(NgramModel::estimate(text.into_iter(), 2, &wrong), Err(Error::Config { .. })));
    }
    let fine = config(2, Smoothing::Mle, 0.0, None);
    assert!(NgramModel::estimate(text.into_iter(), 1, &fine).is_err());
    let model = NgramModel::estimate(text.into_iter(), 2, &fine).unwrap();
    assert!(
        model.log_probs(&[0, 5], 0).is_err()
            && model.log_probs(&[0], 2).is_err()
            && model.next(&[9]).is_err()
    );
    let mut counts = model.counts().clone();
    counts.levels[1].counts[0] = 7;
    assert!(NgramModel::from_counts(fine, 2, counts).is_err());
}

proptest! {
    #[test]
    fn every_context_has_a_distribution(
        text in proptest::collection::vec(0u32..6, 1..80), order in 1usize..7, add: bool,
        context in proptest::collection::vec(0u32..7, 0..8),
    ) {
        let smoothing = if add { Smoothing::AddK } else { Smoothing::Mle };
        let config = config(order, smoothing, 0.3, None);
        let model = NgramModel::estimate([&text[..]].into_iter(), 7, &config).unwrap();
        let next = model.next(&context).unwrap();
        let sum: f64 = next.iter().map(|p| p.exp()).sum();
        prop_assert!((sum - 1.0).abs() < 1e-12, "{}", sum);
        // A point query gives what the whole distribution says.
        for word in 0..7 {
            let mut tokens = context.clone();
            tokens.push(word);
            let point = model.log_probs(&tokens, context.len()).unwrap()[0];
            prop_assert_eq!(point, next[word as usize]);
        }
        prop_assert_eq!(NgramModel::from_counts(config, 7, model.counts().clone()).unwrap(), model);
    }

    #[test]
    fn counts_agree_with_looking(text in proptest::collection::vec(0u32..4, 1..60), len in 0usize..4) {
        let counts = Counts::of(&[&text[..]], len + 1, false);
        let level = &counts.levels[len];
        for window in text.windows(len + 1) {
            let seen = text.windows(len + 1).filter(|other| *other == window).count() as u64;
            let (words, found, total) = level.continuations(&window[..len]).unwrap();
            let at = words.binary_search(&window[len]).unwrap();
            prop_assert_eq!(found[at], seen);
            prop_assert_eq!(total, text.windows(len + 1).filter(|other| other[..len] == window[..len]).count() as u64);
        }
    }
}
