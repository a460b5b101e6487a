//! N-gram models against numbers by hand, against the reference, and as distributions.

use proptest::prelude::*;

use super::reference::Reference;
use super::*;

fn config(order: usize, smoothing: Smoothing, bos: Option<u32>) -> NgramConfig {
    NgramConfig { bos, heldout: 0.3, ..NgramConfig::new(order, smoothing) }
}

fn model(tokens: &[u32], vocab_size: usize, config: &NgramConfig) -> NgramModel {
    NgramModel::estimate(tokens, vocab_size, config).unwrap()
}

#[test]
fn small_models_have_the_numbers_of_a_calculation_by_hand() {
    // a b a b a c
    let text = [0, 1, 0, 1, 0, 2];
    let mle = model(&text, 4, &config(2, Smoothing::Mle, None));
    let add_half = model(&text, 4, &NgramConfig { k: 0.5, ..config(2, Smoothing::AddK, None) });
    let by_hand: [(&NgramModel, &[u32], usize, f64); 9] = [
        (&mle, &[0], 1, 2.0 / 3.0),
        (&mle, &[0], 2, 1.0 / 3.0),
        (&mle, &[3, 1], 0, 1.0),
        (&mle, &[1], 1, 0.0),
        // Never seen: the unigram is used.
        (&mle, &[3], 0, 0.5),
        (&mle, &[], 1, 1.0 / 3.0),
        (&add_half, &[0], 1, 2.5 / 5.0),
        (&add_half, &[0], 0, 0.5 / 5.0),
        (&add_half, &[3], 2, 0.25),
    ];
    for (model, context, word, q) in by_hand {
        let got = model.next_log_probs(context).unwrap()[word].exp();
        assert!((got - q).abs() < 1e-15, "{context:?} {word}: {got} {q}");
    }
    let scored = mle.log_probs(&text, 0).unwrap();
    assert!((scored[0] - 0.5f64.ln()).abs() < 1e-15 && (scored[5] - (1.0f64 / 3.0).ln()).abs() < 1e-15);
    assert_eq!(mle.log_probs(&[0, 0], 1).unwrap(), [f64::NEG_INFINITY]);
}

#[test]
fn lines_are_counted_between_their_ends() {
    // <s> = 0, </s> = 1: "a b", "", "b"
    let lines = [0, 2, 3, 1, 0, 1, 0, 3, 1];
    let model = model(&lines, 4, &config(2, Smoothing::Mle, Some(0)));
    let first = model.next_log_probs(&[0]).unwrap();
    for word in 1..4 {
        assert!((first[word].exp() - 1.0 / 3.0).abs() < 1e-15);
    }
    assert_eq!(first[0], f64::NEG_INFINITY);
    // A new line does not see the old one.
    assert_eq!(model.next_log_probs(&[0, 2, 1, 0]).unwrap(), first);
    assert_eq!(model.parameters(), 4 + 5);
}

#[test]
fn impossible_requests_are_errors() {
    let text = [0, 1];
    let plain = |order| config(order, Smoothing::Mle, None);
    for wrong in [
        plain(0),
        plain(MAX_ORDER + 1),
        NgramConfig { k: 0.0, ..config(2, Smoothing::AddK, None) },
        NgramConfig { k: f64::NAN, ..config(2, Smoothing::AddK, None) },
        NgramConfig { prune: vec![0, 1], ..config(2, Smoothing::WittenBell, None) },
        NgramConfig { prune: vec![0, 1], ..config(2, Smoothing::Dirichlet, None) },
        NgramConfig { alpha: vec![1.0, 0.0], ..config(2, Smoothing::Dirichlet, None) },
        NgramConfig { alpha: vec![1.0, 1.0, 1.0], ..config(2, Smoothing::Dirichlet, None) },
        NgramConfig { prune: vec![1], compat: Some(Compat::Kenlm), ..config(2, Smoothing::KneserNey, None) },
        NgramConfig { prune: vec![1], interpolate_unigrams: false, ..config(2, Smoothing::KneserNey, None) },
        NgramConfig { prune: vec![0, 2, 1], ..config(3, Smoothing::KneserNey, None) },
        NgramConfig { heldout: 0.0, ..plain(2) },
        NgramConfig { fallback: [1.5, 1.0, 1.0], ..plain(2) },
        NgramConfig { prune_entropy: f64::INFINITY, ..plain(2) },
    ] {
        assert!(matches!(NgramModel::estimate(&text, 2, &wrong), Err(Error::Config { .. })), "{wrong:?}");
    }
    let outside = NgramModel::estimate(&[0, 2], 2, &plain(2));
    assert!(matches!(outside, Err(Error::TokenOutOfRange { token: 2, index: 1, vocab_size: 2 })));
    let model = model(&text, 2, &plain(2));
    assert!(
        model.next_log_probs(&[5]).is_err()
            && model.log_probs(&[0], 2).is_err()
            && model.log_probs(&[7], 0).is_err()
    );
}

/// A random text over five words, or lines of it with `<s>` = 0 and `</s>` = 1.
fn texts() -> impl Strategy<Value = (Vec<u32>, usize, Option<u32>)> {
    let stream = prop::collection::vec(0_u32..5, 1..120).prop_map(|tokens| (tokens, 6, None));
    let line = prop::collection::vec(prop_oneof![4 => 2_u32..5, 1 => Just(6)], 0..9);
    let lines = prop::collection::vec(line, 1..25).prop_map(|lines| {
        let tokens = lines.into_iter().flat_map(|line| [vec![0], line, vec![1]].concat()).collect();
        (tokens, 8, Some(0))
    });
    prop_oneof![stream, lines]
}

/// Contexts that occur, contexts that do not, and beginnings of lines.
fn contexts(tokens: &[u32], vocab_size: usize, bos: Option<u32>, order: usize) -> Vec<Vec<u32>> {
    let mut contexts = vec![Vec::new(), vec![vocab_size as u32 - 1], vec![2, 5, 3, 2, 2, 5]];
    for end in (0..=tokens.len()).step_by(1 + tokens.len() / 12) {
        let mut context = &tokens[end - end.min(order + 1)..end];
        if let Some(bos) = bos
            && let Some(at) = context.iter().rposition(|&word| word == bos)
        {
            context = &context[at..];
        }
        contexts.push(context.to_vec());
    }
    contexts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn counts_are_those_of_a_map((tokens, vocab_size, bos) in texts(), order in 1_usize..7) {
        let config = config(order, Smoothing::KneserNey, bos);
        let counts = Counts::new(&tokens, vocab_size, order, bos).unwrap();
        prop_assert!(counts.check().is_ok());
        let statistics = Statistics::new(&counts, true, false);
        let report = Report { orders: estimator::report(&counts, &statistics), ..Report::default() };
        let reference = Reference::new(&tokens, vocab_size, &config, &report).unwrap();
        let mut found = 0;
        for (gram, count) in reference.occurrences() {
            let index = counts.find(gram).unwrap();
            prop_assert_eq!(u64::from(counts.levels[gram.len() - 1].counts[index]), count, "{:?}", gram);
            prop_assert_eq!(&counts.words(gram.len(), index)[..], gram);
            if gram.len() > 1 {
                let suffix = counts.levels[gram.len() - 1].suffix_links[index] as usize;
                prop_assert_eq!(&counts.words(gram.len() - 1, suffix)[..], &gram[1..]);
            }
            found += 1;
        }
        let bos_count = u64::from(bos.is_some());
        prop_assert_eq!(counts.grams(), found + bos_count);
        for len in 1..=order {
            prop_assert_eq!(report.orders[len - 1].count_of_counts, reference.count_of_counts(len));
        }
        let mut linked = counts.clone();
        linked.levels.iter_mut().for_each(|level| level.suffix_links.clear());
        linked.build_suffix_links().unwrap();
        prop_assert_eq!(linked, counts);
    }

    #[test]
    fn every_smoother_is_its_formula_and_sums_to_one((tokens, vocab_size, bos) in texts(), order in 1_usize..7) {
        for smoothing in Smoothing::ALL {
            let config = config(order, smoothing, bos);
            let model = model(&tokens, vocab_size, &config);
            let reference = Reference::new(&tokens, vocab_size, &config, model.report()).unwrap();
            check_distributions(&model, &reference, &contexts(&tokens, vocab_size, bos, order))?;
            check_batches(&model, &tokens)?;
        }
    }

    #[test]
    fn tuned_and_pruned_models_sum_to_one((tokens, vocab_size, bos) in texts(), order in 1_usize..6) {
        for smoothing in Smoothing::ALL.into_iter().filter(|smoothing| smoothing.is_tunable()) {
            for (tune, prune) in [(true, vec![]), (false, vec![0, 1]), (false, vec![2]), (true, vec![0, 0, 1, 2]), (true, vec![1, 1, 3])] {
                let prune = if config(1, smoothing, bos).smoother().unwrap().prunes_by_count() { prune } else { vec![] };
                if prune.len() > order {
                    continue;
                }
                let config = NgramConfig { tune, prune, ..config(order, smoothing, bos) };
                let model = model(&tokens, vocab_size, &config);
                let reference = Reference::new(&tokens, vocab_size, &config, model.report()).unwrap();
                check_distributions(&model, &reference, &contexts(&tokens, vocab_size, bos, order))?;
                check_batches(&model, &tokens)?;
            }
        }
    }
}

#[test]
fn pruning_by_entropy_drops_grams_keeps_sums_and_costs_little() {
    let train: Vec<u32> = (0..5000_u32).map(|i| (i * i % 101 + i % 7 * (i / 37 % 5)) % 23).collect();
    for smoothing in
        [Smoothing::ModifiedKneserNey, Smoothing::WittenBell, Smoothing::Dirichlet, Smoothing::Katz]
    {
        let full = config(4, smoothing, None);
        let whole = model(&train, 24, &full);
        let text = sampled(&whole, 5000);
        let mut sizes = vec![whole.parameters()];
        for prune_entropy in [1e-9, 1e-5, 1e-3] {
            let model = model(&train, 24, &NgramConfig { prune_entropy, ..full.clone() });
            sizes.push(model.parameters());
            for context in contexts(&text, 24, None, 4) {
                let sum: f64 = model.next_log_probs(&context).unwrap().iter().map(|q| q.exp()).sum();
                assert!((sum - 1.0).abs() < 1e-9, "{smoothing:?} {prune_entropy} {context:?}: {sum}");
            }
            let nats = |model: &NgramModel| -model.log_probs(&text, 0).unwrap().iter().sum::<f64>() / 5000.0;
            // On text of the model's own, every removed n-gram costs less than the threshold.
            let bound = 2.0 * prune_entropy * (whole.parameters() - model.parameters()) as f64 + 1e-9;
            let cost = nats(&model) - nats(&whole);
            assert!(cost < bound, "{smoothing:?} {prune_entropy}: {cost} against {bound}");
        }
        assert!(sizes.is_sorted_by(|a, b| a >= b) && sizes[3] < sizes[0], "{smoothing:?}: {sizes:?}");
    }
}

/// The n-grams of 2 and 3 words of a model.
fn grams(model: &NgramModel) -> std::collections::BTreeSet<Vec<u32>> {
    let tables = model.trie().to_estimate().unwrap().tables;
    let mut all = vec![(0..tables[0].value_ids.len() as u32).map(|word| vec![word]).collect::<Vec<_>>()];
    for len in 1..tables.len() {
        let of = |(node, gram): (usize, &Vec<u32>)| {
            let words = &tables[len].words[tables[len - 1].children(node)];
            words.iter().map(|&word| [&gram[..], &[word]].concat()).collect::<Vec<_>>()
        };
        all.push(all[len - 1].iter().enumerate().flat_map(of).collect());
    }
    all.into_iter().skip(1).flatten().collect()
}

#[test]
fn the_ngrams_that_stay_are_those_of_the_relative_entropy() {
    let text: Vec<u32> = (0..400_u32).map(|i| (i * i % 53 + i % 5 * (i / 31 % 4)) % 9).collect();
    let threshold = 0.001;
    for smoothing in [Smoothing::ModifiedKneserNey, Smoothing::WittenBell, Smoothing::Katz] {
        let whole = model(&text, 10, &config(3, smoothing, None));
        let q = |context: &[u32]| -> Vec<f64> {
            whole.next_log_probs(context).unwrap().into_iter().map(f64::exp).collect()
        };
        let seen = grams(&whole);
        // Σ p(v | h) ln (p(v | h) / p'(v | h)) over all words v, where only w is backed off in p'.
        let divergence = |gram: &[u32]| {
            let (&word, context) = gram.split_last().unwrap();
            let (own, lower) = (q(context), q(&context[1..]));
            let stays = |v: u32| v != word && seen.contains(&[context, &[v]].concat());
            let (mut kept, mut kept_lower) = (0.0, 0.0);
            for v in (0..10).filter(|&v| stays(v)) {
                (kept, kept_lower) = (kept + own[v as usize], kept_lower + lower[v as usize]);
            }
            let backoff = (1.0 - kept) / (1.0 - kept_lower);
            let term = |v: u32| {
                let (p, lower) = (own[v as usize], lower[v as usize]);
                if stays(v) { 0.0 } else { p * (p / (backoff * lower)).ln() }
            };
            let history: f64 = (0..context.len()).map(|i| q(&context[..i])[context[i] as usize]).product();
            history * (0..10).map(term).sum::<f64>()
        };
        let mut expected = std::collections::BTreeSet::new();
        for gram in
            seen.iter().filter(|gram| gram.len() == 3).chain(seen.iter().filter(|gram| gram.len() == 2))
        {
            let is_needed = expected.iter().any(|longer: &Vec<u32>| {
                longer.len() > gram.len() && (longer.starts_with(gram) || longer.ends_with(gram))
            });
            if is_needed || divergence(gram).exp_m1() >= threshold {
                expected.insert(gram.clone());
            }
        }
        assert!(
            expected.len() > 9 && expected.len() < seen.len() - 9,
            "{smoothing:?}: {} of {}",
            expected.len(),
            seen.len()
        );
        assert_eq!(grams(&whole.pruned(threshold).unwrap()), expected, "{smoothing:?}");
    }
}

/// A text drawn from a model.
fn sampled(model: &NgramModel, len: usize) -> Vec<u32> {
    let (mut text, mut state) = (Vec::new(), 7_u64);
    for _ in 0..len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut rest = (state >> 11) as f64 / (1_u64 << 53) as f64;
        let next = model.next_log_probs(&text).unwrap();
        let drawn = next.iter().position(|log_q| {
            rest -= log_q.exp();
            rest < 0.0
        });
        text.push(drawn.unwrap_or(0) as u32);
    }
    text
}

/// Batches give the same bits as word-by-word scores, across blocks and from any position.
fn check_batches(model: &NgramModel, tokens: &[u32]) -> Result<(), TestCaseError> {
    let view = model.trie().view();
    // Skips words, so that unseen n-grams occur at every block boundary.
    let text: Vec<u32> = tokens.iter().copied().cycle().step_by(tokens.len() % 3 + 1).take(1100).collect();
    let mut state = State::EMPTY;
    let mut scores = Vec::new();
    for &word in &text {
        scores.push(view.advance(&mut state, word).ln());
    }
    let mut batch = State::EMPTY;
    let (head, tail) = text.split_at(37);
    let blocks = [view.scores_in_blocks(&mut batch, head, &[]), view.scores_in_blocks(&mut batch, tail, &[])];
    prop_assert_eq!(blocks.concat(), &scores[..]);
    prop_assert_eq!(batch, state);
    prop_assert_eq!(view.log_probs(&mut State::EMPTY.clone(), &text), scores);
    // Sequences of 0, 1, 2, … words.
    let sequences: Vec<&[u32]> = (0..40).map(|i| &text[i * (i - i.min(1)) / 2..][..i]).collect();
    let apart = sequences.iter().map(|words| view.log_probs(&mut State::EMPTY.clone(), words));
    let mut together = Vec::new();
    view.each_log_probs(&sequences, 0, |_, log_probs| together.push(log_probs.to_vec()));
    prop_assert_eq!(&together, &apart.collect::<Vec<_>>());
    let ends = sequences.iter().scan(0, |end, words| Some(std::mem::replace(end, *end + words.len())));
    let starts: Vec<usize> = ends.collect();
    let blocks = view.scores_in_blocks(&mut State::EMPTY.clone(), &sequences.concat(), &starts);
    prop_assert_eq!(blocks, together.concat());
    check_log10(model, &text[..60.min(text.len())])
}

/// Scores in 32 bits are those in 64, with the matched lengths, and no later word needs what
/// shortening leaves out.
fn check_log10(model: &NgramModel, text: &[u32]) -> Result<(), TestCaseError> {
    let view = model.trie().view();
    let (mut state, mut block) = (State::EMPTY, QueryBlock::default());
    let alone: Vec<_> = text.iter().map(|&word| view.advance_log10(&mut state, word)).collect();
    let (mut after, mut together) = (State::EMPTY, Vec::new());
    for part in [&text[..text.len() / 3], &text[text.len() / 3..]] {
        let visit = |log10, matched| together.push((log10, matched));
        view.each_log10_in_blocks(&mut block, &mut after, part, visit);
    }
    prop_assert_eq!((together, after), (alone, state));
    let (mut state, mut short) = (State::EMPTY, State::EMPTY);
    for (at, &word) in text.iter().enumerate() {
        let (mut other, mut same) = (state, state);
        let (log10, matched) = view.advance_log10(&mut state, word);
        let q = view.advance(&mut other, word);
        prop_assert_eq!(state, other);
        if Some(word) == view.header.bos {
            prop_assert_eq!((log10, matched), (-99.0, 1));
        } else {
            let expected = if q > 0.0 { q.log10() } else { f64::from(log10) };
            prop_assert!((f64::from(log10) - expected).abs() < 1e-5, "{} {}", log10, expected);
            prop_assert!(q > 0.0 || log10 <= -99.0);
            prop_assert_eq!(matched, view.matched_order(&text[..=at]).max(1));
        }
        prop_assert_eq!(view.advance_log10(&mut short, word), (log10, matched));
        view.shorten(&mut short);
        view.shorten(&mut same);
        prop_assert_eq!(view.advance_log10(&mut same, word), (log10, matched));
        let mut shortened = state;
        view.shorten(&mut shortened);
        prop_assert_eq!(shortened, short);
        prop_assert!(short.context_len() <= state.context_len());
    }
    Ok(())
}

fn check_distributions(
    model: &NgramModel,
    reference: &Reference,
    contexts: &[Vec<u32>],
) -> std::result::Result<(), TestCaseError> {
    for context in contexts {
        let next = model.next_log_probs(context).unwrap();
        let sum: f64 = next.iter().map(|log_q| log_q.exp()).sum();
        let smoothing = model.config().smoothing;
        if model.is_distribution() {
            prop_assert!((sum - 1.0).abs() < 1e-9, "{smoothing:?} {context:?} sums to {sum}");
        }
        for ((word, &log_q), q) in (0..).zip(&next).zip(reference.next(context)) {
            prop_assert!(
                (log_q.exp() - q).abs() < 1e-12,
                "{smoothing:?} {context:?} {word}: {} {q}",
                log_q.exp()
            );
            let text = [context.as_slice(), &[word]].concat();
            let scored = model.log_probs(&text, context.len()).unwrap()[0];
            prop_assert!(
                scored == log_q || (scored - log_q).abs() < 1e-12,
                "{smoothing:?}: {scored} {log_q}"
            );
        }
    }
    Ok(())
}

#[test]
fn counting_passes_over_every_position_and_changes_nothing_by_telling() {
    let text: Vec<u32> = (0..5000_u32).map(|i| i * i % 101).collect();
    for (order, bos) in [(1, None), (3, None), (3, Some(0)), (9, None)] {
        let positions = std::sync::atomic::AtomicU64::new(0);
        let done = |more| {
            positions.fetch_add(more, std::sync::atomic::Ordering::Relaxed);
        };
        // Owned tokens.
        let counts = Counts::new_with_progress(text.clone(), 101, order, bos, &done).unwrap();
        assert_eq!(counts, Counts::new(&text, 101, order, bos).unwrap());
        assert_eq!(positions.into_inner(), Counts::PASSES * text.len() as u64);
    }
}

#[test]
fn long_orders_and_large_vocabularies_sort_beyond_one_record() {
    // 21 bits per word: four words per key; order 11 needs three more comparisons.
    let words: Vec<u32> = (0..3000_u32).map(|i| (i % 7) * (i / 1000 + 1) * 99_991 % 2_000_000).collect();
    let counts = Counts::new(&words, 2_000_000, 11, None).unwrap();
    counts.check().unwrap();
    let mut map = std::collections::BTreeMap::<&[u32], u32>::new();
    for len in 1..=11 {
        for gram in words.windows(len) {
            *map.entry(gram).or_default() += 1;
        }
    }
    for (gram, &count) in &map {
        assert_eq!(counts.levels[gram.len() - 1].counts[counts.find(gram).unwrap()], count);
    }
    assert_eq!(counts.grams(), map.len() as u64);
}

#[test]
fn eight_bits_are_nearly_the_same_model() {
    let sizes = (300, 60_000);
    let mut state = 1_u64;
    let mut word = 0;
    let text: Vec<u32> = (0..sizes.1)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let chance = (state >> 40) as f64 / (1_u64 << 24) as f64;
            word = (f64::from(word) * 0.5 + chance.powi(4) * f64::from(sizes.0) * 0.5) as u32;
            word
        })
        .collect();
    let (train, test) = text.split_at(50_000);
    let model = model(train, sizes.0 as usize, &config(3, Smoothing::ModifiedKneserNey, None));
    let nats =
        |model: &NgramModel| -model.log_probs(test, 0).unwrap().iter().sum::<f64>() / test.len() as f64;
    let exact = nats(&model);
    let small = model.quantized(8).unwrap();
    assert!(
        small.trie().header().levels[1..].iter().all(|level| level.values <= 256 && level.weights <= 256)
    );
    assert!(model.trie().header().levels.iter().any(|level| level.weights > 256));
    // 0.2 % of perplexity.
    assert!((nats(&small) - exact).abs() < 0.002, "{} and {exact}", nats(&small));
    for context in [&train[..2], &test[..2], &[]] {
        let sum: f64 = small.next_log_probs(context).unwrap().iter().map(|log_prob| log_prob.exp()).sum();
        assert!((sum - 1.0).abs() < 0.02, "{sum}");
    }
    // With a code for each value only the last digits of the weights change.
    let same = nats(&model.quantized(16).unwrap());
    assert!((same - exact).abs() < 1e-3, "{same} and {exact}");
    assert!(model.quantized(1).is_err() && model.quantized(17).is_err());
}

#[test]
fn one_repeated_word_and_orders_above_the_length() {
    let text = vec![3_u32; 50_000];
    let counts = Counts::new(&text, 4, MAX_ORDER, None).unwrap();
    assert_eq!(counts.levels[MAX_ORDER - 1].counts, [50_000 - 15]);
    for smoothing in Smoothing::ALL {
        let one = model(&[0], 3, &config(MAX_ORDER, smoothing, None));
        let sum: f64 = one.next_log_probs(&[0, 1]).unwrap().iter().map(|q| q.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-9 || smoothing == Smoothing::StupidBackoff, "{smoothing:?}");
        let empty = model(&[], 3, &config(3, smoothing, None));
        assert!(
            empty
                .next_log_probs(&[1])
                .unwrap()
                .iter()
                .all(|q| q.is_finite() || smoothing == Smoothing::StupidBackoff)
        );
    }
}

/// A text from a skewed source.
fn skewed_text() -> Vec<u32> {
    let mut state = 1_u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    let mut text = vec![0_u32];
    for _ in 0..20_000 {
        let last = text[text.len() - 1];
        let r = draw() % 100;
        text.push(if r < 60 { (last * 7 + 3) % 40 } else { (last + draw() % (1 + draw() % 40)) % 40 });
    }
    text
}

#[test]
fn no_grid_finds_better_dirichlet_strengths_than_tuning() {
    let text = skewed_text();
    let (train, heldout) = text.split_at(12_000);
    for order in [1, 2, 4] {
        let nats =
            |model: &NgramModel, from: usize| -model.log_probs(&text, from).unwrap().iter().sum::<f64>();
        // Tuning uses the last part of the text, and the grid is evaluated on it.
        let plain = NgramConfig { alpha: vec![2.0, 3.0], ..config(order, Smoothing::Dirichlet, None) };
        let plain = NgramConfig { alpha: plain.alpha[..order.min(2)].to_vec(), ..plain };
        let share = heldout.len() as f64 / text.len() as f64;
        let tuned = model(&text, 40, &NgramConfig { tune: true, heldout: share, ..plain.clone() });
        let best: Vec<f64> = tuned.report().orders.iter().map(|order| order.alpha.unwrap()).collect();
        let counted =
            |alpha: &[f64]| model(train, 40, &NgramConfig { alpha: alpha.to_vec(), ..plain.clone() });
        let least = nats(&counted(&best), train.len());
        assert!(least < nats(&counted(&plain.alpha), train.len()), "{best:?}");
        for i in 0..order {
            for factor in [1e-4, 0.01, 0.3, 0.8, 0.97, 1.03, 1.25, 3.0, 100.0, 1e5] {
                let mut moved = best.clone();
                moved[i] *= factor;
                let moved_nats = nats(&counted(&moved), train.len());
                assert!(moved_nats > least - 1e-3, "{best:?} {i} {factor}: {moved_nats} {least}");
            }
        }
    }
}

#[test]
fn tuned_parameters_predict_better_than_the_formula() {
    let text = skewed_text();
    let (train, test) = text.split_at(16_000);
    for smoothing in Smoothing::ALL.into_iter().filter(|smoothing| smoothing.is_tunable()) {
        let nats = |tune| {
            let config = NgramConfig { tune, heldout: 0.1, ..config(3, smoothing, None) };
            let model = model(train, 40, &config);
            -model.log_probs(test, 0).unwrap().iter().sum::<f64>() / test.len() as f64
        };
        let (formula, tuned) = (nats(false), nats(true));
        assert!(tuned < formula + 1e-4, "{smoothing:?}: {tuned} against {formula}");
    }
}

#[test]
fn a_closed_vocabulary_leaves_nothing_to_unknown_words() {
    let text: Vec<u32> = (0..90_u32).map(|i| 1 + i * i % 7 % 4).collect();
    for smoothing in Smoothing::ALL.into_iter().filter(|smoothing| smoothing.is_distribution()) {
        let closed = NgramConfig { unk: Some(0), closed: true, ..config(3, smoothing, None) };
        if smoothing == Smoothing::AddK {
            // It shares its mass over the whole vocabulary.
            assert!(closed.check().is_err());
            continue;
        }
        let model = model(&text, 6, &closed);
        for context in [&[][..], &[1], &[5], &[1, 2], &[4, 4]] {
            let q = model.next_log_probs(context).unwrap();
            let sum: f64 = q.iter().map(|q| q.exp()).sum();
            assert!(q[0] == f64::NEG_INFINITY && (sum - 1.0).abs() < 1e-9, "{smoothing:?} {context:?} {q:?}");
        }
    }
}
