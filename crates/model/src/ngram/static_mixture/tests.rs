//! Static mixtures as distributions, and against the exact mixture.

use proptest::prelude::*;

use super::*;
use crate::ngram::testing::numbered;
use crate::{MappedModel, Mixture};

const UNK: u32 = 0;

/// A model with its vocabulary: `<unk>`, `<s>`, `</s>`, then names by first appearance.
struct Read {
    model: NgramModel,
    names: Vec<u8>,
}

fn read(lines: &[Vec<u8>], all: Option<&[u8]>, config: &NgramConfig) -> Read {
    let names = all.map_or(vec![0, 1, 2], <[u8]>::to_vec);
    let (tokens, names) = numbered(lines, names, config.bos);
    Read { model: NgramModel::estimate(&tokens, names.len(), config).unwrap(), names }
}

/// Maps to the vocabulary of all names.
fn vocab_maps(reads: &[Read]) -> Vec<VocabMap> {
    let mut all: Vec<u8> = Vec::new();
    for read in reads {
        all.extend(read.names.iter().filter(|name| !all.contains(name)).copied().collect::<Vec<_>>());
    }
    let id = |name: &u8| all.iter().position(|other| other == name).unwrap() as u32;
    reads
        .iter()
        .map(|read| VocabMap::new(read.names.iter().map(id).collect(), all.len(), Some(UNK)).unwrap())
        .collect()
}

fn static_of(reads: &[Read], names: &[VocabMap], weights: &[f64]) -> NgramModel {
    let parts = reads.iter().zip(names).zip(weights);
    let parts: Vec<MixtureComponent<'_>> = parts
        .map(|((read, names), &weight)| MixtureComponent { model: &read.model, weight, map: names })
        .collect();
    static_mixture(&parts, Some(UNK)).unwrap()
}

/// The contexts of a model, each with the words seen after it.
fn contexts(model: &NgramModel) -> Vec<(Vec<u32>, Vec<u32>)> {
    let tables = model.trie().tables().unwrap();
    let mut found = Vec::new();
    let mut grams: Vec<Vec<u32>> = (0..model.vocab_size() as u32).map(|word| vec![word]).collect();
    for pair in tables.windows(2) {
        let mut next = Vec::new();
        for (node, gram) in grams.into_iter().enumerate() {
            let words = pair[1].words[pair[0].children(node)].to_vec();
            next.extend(words.iter().map(|&word| [&gram[..], &[word]].concat()));
            found.push((gram, words));
        }
        grams = next;
    }
    found
}

fn probabilities(model: &dyn LanguageModel, context: &[u32]) -> Vec<f64> {
    model.next_log_probs(context).unwrap().into_iter().map(f64::exp).collect()
}

/// Every context sums to one, and every n-gram has the probability of the exact mixture.
fn check_static(
    reads: &[Read],
    names: &[VocabMap],
    weights: &[f64],
    strange: &[Vec<u32>],
) -> Result<(), TestCaseError> {
    let model = static_of(reads, names, weights);
    let exact: Vec<Box<dyn LanguageModel + '_>> = reads
        .iter()
        .zip(names)
        .map(|(read, names)| {
            Box::new(MappedModel::new(&read.model, names).unwrap()) as Box<dyn LanguageModel + '_>
        })
        .collect();
    let exact = Mixture::new(exact, weights).unwrap();
    let size = model.vocab_size() as u32;
    let strange =
        strange.iter().map(|context| (context.iter().map(|word| word % size).collect(), Vec::new()));
    for (context, words) in
        contexts(&model).into_iter().chain([(Vec::new(), (0..size).collect())]).chain(strange)
    {
        let (said, meant) = (probabilities(&model, &context), probabilities(&exact, &context));
        let sum: f64 = said.iter().sum();
        prop_assert!((sum - 1.0).abs() < 1e-9, "{context:?} sums to {sum}");
        for word in words {
            let (said, meant) = (said[word as usize], meant[word as usize]);
            prop_assert!((said - meant).abs() < 1e-12, "{context:?} {word}: {said} {meant}");
        }
        // What is possible under the exact mixture is possible here.
        for (word, (said, meant)) in said.iter().zip(&meant).enumerate() {
            prop_assert!(*said > 0.0 || *meant < 1e-12, "{context:?} {word}: {said} {meant}");
        }
    }
    Ok(())
}

fn config() -> impl Strategy<Value = NgramConfig> {
    let distributions: Vec<Smoothing> =
        Smoothing::ALL.into_iter().filter(|smoothing| smoothing.is_distribution()).collect();
    let pruned = prop_oneof![3 => Just(0.0), 1 => Just(1e-3)];
    (1_usize..5, prop::sample::select(distributions), pruned, any::<bool>()).prop_map(
        |(order, smoothing, pruned, interpolate_unigrams)| {
            let prunes = !matches!(smoothing, Smoothing::Mle | Smoothing::AddK);
            NgramConfig {
                order,
                smoothing,
                prune_entropy: if prunes { pruned } else { 0.0 },
                // Without it, add-k has possible words after contexts that are impossible without
                // context.
                interpolate_unigrams: interpolate_unigrams || smoothing == Smoothing::AddK,
                heldout: 0.3,
                bos: Some(1),
                unk: Some(UNK),
                ..NgramConfig::default()
            }
        },
    )
}

fn lines(names: std::ops::Range<u8>) -> impl Strategy<Value = Vec<Vec<u8>>> {
    // Now and then a word is <unk>, which is a context like others.
    let word = prop_oneof![10 => names, 1 => Just(0_u8)];
    prop::collection::vec(prop::collection::vec(word, 0..7), 1..9)
}

fn strange() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(any::<u32>(), 1..6), 0..5)
}

proptest! {
    #[test]
    fn one_vocabulary(
        texts in prop::collection::vec((lines(10..15), config()), 1..4),
        weights in prop::collection::vec(prop_oneof![1 => Just(0.0), 6 => 0.01_f64..1.0], 3),
        strange in strange(),
    ) {
        let all = [0, 1, 2, 10, 11, 12, 13, 14];
        let reads: Vec<Read> = texts.iter().map(|(lines, config)| read(lines, Some(&all), config)).collect();
        let mut weights = weights[..reads.len()].to_vec();
        weights[0] += 0.1;
        check_static(&reads, &vocab_maps(&reads), &weights, &strange)?;
    }

    #[test]
    fn different_vocabularies(
        texts in prop::collection::vec((0_u8..4).prop_flat_map(|first| (lines(10 + first..14 + first), config())), 2..4),
        weights in prop::collection::vec(0.01_f64..1.0, 3),
        strange in strange(),
    ) {
        // After <unk> a word may be more likely than without context, where unigrams are discounted
        // to 0.
        let read = |(lines, config): &(Vec<Vec<u8>>, NgramConfig)| read(lines, None, &NgramConfig { interpolate_unigrams: true, ..config.clone() });
        let reads: Vec<Read> = texts.iter().map(read).collect();
        check_static(&reads, &vocab_maps(&reads), &weights[..reads.len()], &strange)?;
    }

    #[test]
    fn streams(texts in prop::collection::vec((lines(10..15), config()), 2..3), strange in strange()) {
        let reads: Vec<Read> =
            texts.iter().map(|(lines, config)| read(lines, None, &NgramConfig { bos: None, interpolate_unigrams: true, ..config.clone() })).collect();
        check_static(&reads, &vocab_maps(&reads), &[0.4, 0.6], &strange)?;
    }

    #[test]
    fn a_model_with_itself_is_that_model(lines in lines(10..15), config in config(), strange in strange()) {
        // Add-k alone does not back off: its back-off mass is uniform.
        prop_assume!(config.smoothing != Smoothing::AddK);
        let reads = [read(&lines, None, &config), read(&lines, None, &config)];
        let mixed = static_of(&reads, &vocab_maps(&reads), &[0.3, 0.7]);
        let size = mixed.vocab_size() as u32;
        let strange = strange.iter().map(|context| context.iter().map(|word| word % size).collect());
        for context in contexts(&mixed).into_iter().map(|(context, _)| context).chain(strange) {
            let (own, mixed) = (probabilities(&reads[0].model, &context), probabilities(&mixed, &context));
            for (own, mixed) in own.iter().zip(&mixed) {
                prop_assert!((own - mixed).abs() < 1e-9, "{context:?}: {own} {mixed}");
            }
        }
    }
}

/// <unk> a b c; a b; a b c, but no b c: another program's pruning.
fn gappy() -> NgramModel {
    let table = |words: &[u32], starts: &[u32], q: &[f64], backoffs: &[f64]| UnpackedLevel {
        words: words.to_vec(),
        child_offsets: starts.to_vec(),
        value_ids: (0..q.len() as u32).collect(),
        distinct_values: q.to_vec(),
        weight_ids: (0..backoffs.len() as u32).collect(),
        distinct_weights: backoffs.iter().map(|&backoff| ContextWeights { scale: 1.0, backoff }).collect(),
    };
    let tables = vec![
        table(&[], &[0, 0, 1, 1, 1], &[0.1, 0.3, 0.3, 0.3], &[1.0, 0.5 / 0.7, 1.0, 1.0]),
        table(&[2], &[0, 1], &[0.5], &[0.4 / 0.7]),
        table(&[3], &[], &[0.6], &[]),
    ];
    let trie = Trie::pack(4, None, BackoffScheme::BackOff, 1.0, false, tables).unwrap();
    let config = NgramConfig { unk: Some(0), ..NgramConfig::new(3, Smoothing::Given) };
    NgramModel::new(config, Report::default(), trie)
}

#[test]
fn grams_without_suffixes_are_mixed_too() {
    let text: Vec<u32> = (0..90_u32).map(|i| 1 + i * i % 7 % 3).collect();
    let config = NgramConfig { unk: Some(0), ..NgramConfig::new(2, Smoothing::WittenBell) };
    let other = NgramModel::estimate(&text, 4, &config).unwrap();
    let names: Vec<u8> = (0..4).collect();
    let alone = [Read { model: gappy(), names: names.clone() }];
    let both = [Read { model: gappy(), names: names.clone() }, Read { model: other, names }];
    let strange = [vec![1, 2], vec![3, 1, 2], vec![2, 2], vec![0, 1]];
    check_static(&alone, &vocab_maps(&alone), &[1.0], &strange).unwrap();
    check_static(&both, &vocab_maps(&both), &[0.5, 0.5], &strange).unwrap();
}

#[test]
fn what_is_no_distribution_is_made_one() {
    // As from a damaged file: unigrams sum to 2, the bigrams after `a` to 3.
    let table = |words: &[u32], starts: &[u32], q: &[f64]| UnpackedLevel {
        words: words.to_vec(),
        child_offsets: starts.to_vec(),
        value_ids: (0..q.len() as u32).collect(),
        distinct_values: q.to_vec(),
        weight_ids: vec![0; if starts.is_empty() { 0 } else { q.len() }],
        distinct_weights: vec![ContextWeights { scale: 1.0, backoff: 7.0 }],
    };
    let tables = vec![table(&[], &[0, 0, 2, 2], &[0.0, 1.0, 1.0]), table(&[1, 2], &[], &[1.0, 2.0])];
    let trie = Trie::pack(3, None, BackoffScheme::BackOff, 1.0, false, tables).unwrap();
    let config = NgramConfig { unk: Some(0), ..NgramConfig::new(2, Smoothing::Given) };
    let model = NgramModel::new(config, Report::default(), trie);
    let reads = [Read { model, names: vec![0, 1, 2] }];
    let mixed = static_of(&reads, &vocab_maps(&reads), &[1.0]);
    for context in [&[][..], &[0], &[1], &[2]] {
        assert!((probabilities(&mixed, context).iter().sum::<f64>() - 1.0).abs() < 1e-12, "{context:?}");
    }
    assert_eq!(mixed.report().notices.len(), 1);
}

#[test]
fn ratios_of_almost_nothing_keep_their_digits() {
    // After `a`, nearly everything is `b` or `c`, in both orders: the rest is a ratio of rounding
    // errors.
    for tiny in [1e-5, 1e-9, 1e-13, 0.0] {
        let mut text = [1, 2, 1, 3].repeat(50);
        text.extend([0, 4]);
        let config = NgramConfig { unk: Some(0), ..NgramConfig::new(3, Smoothing::Mle) };
        let sharp = NgramModel::estimate(&text[..200], 5, &config).unwrap();
        let blunt = NgramModel::estimate(&text, 5, &NgramConfig { order: 1, ..config }).unwrap();
        let names: Vec<u8> = (0..5).collect();
        let reads = [Read { model: sharp, names: names.clone() }, Read { model: blunt, names }];
        check_static(&reads, &vocab_maps(&reads), &[1.0 - tiny, tiny], &[vec![4, 1], vec![2, 1]]).unwrap();
    }
}

#[test]
fn what_cannot_be_mixed_is_refused() {
    let lines = [vec![10, 11, 10]];
    let config = NgramConfig { bos: Some(1), unk: Some(UNK), ..NgramConfig::default() };
    let sound = read(&lines, None, &config);
    let stream = read(&lines, None, &NgramConfig { bos: None, ..config.clone() });
    let scores = read(&lines, None, &NgramConfig { smoothing: Smoothing::StupidBackoff, ..config });
    let names = VocabMap::new((0..5).collect(), 5, Some(UNK)).unwrap();
    let other = VocabMap::new((0..4).collect(), 4, Some(UNK)).unwrap();
    let part = |read: &'static str, weight| {
        let model = match read {
            "scores" => &scores.model,
            "stream" => &stream.model,
            _ => &sound.model,
        };
        MixtureComponent { model, weight, map: if read == "other" { &other } else { &names } }
    };
    for (parts, says) in [
        (vec![], "needs a model"),
        (vec![part("sound", 0.0)], "weights"),
        (vec![part("sound", f64::NAN)], "weights"),
        (vec![part("sound", 1.0), part("sound", -1.0)], "weights"),
        (vec![part("sound", 1.0), part("scores", 1.0)], "stupid backoff"),
        (vec![part("sound", 1.0), part("stream", 1.0)], "stream"),
        (vec![part("sound", 1.0), part("other", 1.0)], "a map of"),
    ] {
        let error = static_mixture(&parts, Some(UNK)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
