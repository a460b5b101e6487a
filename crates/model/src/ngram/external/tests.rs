//! The streams of a text in parts against the same text in memory.

use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::ngram::{BackoffScheme, NgramConfig, Smoothing, from_counts};
use crate::ngram::{Compat, Counts};

/// Streams in memory by partition and number, as lists of blocks.
type Streams = BTreeMap<(usize, usize), Vec<Vec<u8>>>;

struct InMemory(std::vec::IntoIter<Vec<u8>>);

impl Blocks for InMemory {
    fn next(&mut self, block: &mut Vec<u8>) -> Result<bool> {
        Ok(self.0.next().map(|next| *block = next).is_some())
    }
}

fn open(streams: &Streams, partition: usize, stream: usize) -> Box<dyn Blocks> {
    Box::new(InMemory(streams.get(&(partition, stream)).cloned().unwrap_or_default().into_iter()))
}

/// An n-gram with its probability and its back-off weight.
type Scored = (Vec<u32>, f64, Option<f64>);

#[derive(Default)]
struct Output {
    grams: Vec<Scored>,
    lower: Vec<(Vec<u32>, f64)>,
}

impl LevelOutput for Output {
    fn gram(&mut self, gram: &Gram, probability: f64, backoff: Option<f64>) -> Result<()> {
        self.grams.push((gram.words().to_vec(), probability, backoff));
        Ok(())
    }

    fn lower(&mut self, words: &[u32], probability: f64) -> Result<()> {
        self.lower.push((words.to_vec(), probability));
        Ok(())
    }
}

/// All n-grams with their probabilities and back-off weights, by order, from parts of `share`
/// tokens.
fn streamed(tokens: &[u32], vocab: usize, config: &NgramConfig, share: usize) -> Vec<Vec<Scored>> {
    let mut frequencies = vec![0; vocab];
    for &token in tokens {
        frequencies[token as usize] += 1;
    }
    let layout = Layout::new(config.order, config.bos, &frequencies, 4).unwrap();
    let mut runs: Vec<Streams> = Vec::new();
    for start in (0..tokens.len()).step_by(share) {
        let own = share.min(tokens.len() - start);
        let end = tokens.len().min(start + own + config.order - 1);
        let part = TextPart {
            tokens: tokens[start..end].to_vec(),
            own,
            before: start.checked_sub(1).map(|at| tokens[at]),
        };
        let streams = Mutex::new(Streams::new());
        let put = |partition, block: &[u8]| {
            streams.lock().unwrap().entry((partition, 0)).or_default().push(block.to_vec());
            Ok(())
        };
        part.sort(&layout, true, &put).unwrap();
        runs.push(streams.into_inner().unwrap());
    }
    let smoother = config.smoother().unwrap();
    let prefix = if config.bos.is_some() { &[] } else { &tokens[..tokens.len().min(config.order - 1)] };
    let continuation = smoother.uses_continuation_counts();
    let options = MergeOptions::new(config, continuation, true, prefix.to_vec());
    let (mut streams, mut merged) = (Streams::new(), Merged::default());
    for partition in 0..layout.partitions() {
        let runs = runs.iter().map(|run| open(run, partition, 0)).collect();
        let part = merge(runs, &layout, &options, &mut |stream, block| {
            streams.entry((partition, stream.index(&layout))).or_default().push(block.to_vec());
            Ok(())
        });
        merged.add(&part.unwrap());
    }
    let reader = |partition, len| {
        let blocks = open(&streams, partition, Stream::Grams(len).index(&layout));
        GramReader::new(blocks, &layout, len + 1, continuation)
    };
    for len in 1..config.order.min(merged.last.len() + 1) {
        let gram = merged.last[merged.last.len() - len..].to_vec();
        let found = reader(layout.partition_of(gram[0]), len - 1).find(&gram).unwrap();
        let (count, used) = found.unwrap();
        merged.lmplz_quirk(len - 1, count, used);
    }
    let (mut counts, mut used) = (vec![0; vocab], vec![0; vocab]);
    for partition in 0..layout.partitions() {
        let mut words = reader(partition, 0);
        while let Some(gram) = words.read().unwrap() {
            (counts[gram.words()[0] as usize], used[gram.words()[0] as usize]) = (gram.count, gram.used);
        }
    }
    let smoothed = Smoothed::new(config, &merged.orders, counts, used).unwrap();
    let mut lower = Streams::new();
    let mut all = Vec::new();
    for len in 0..config.order {
        let mut level = Vec::new();
        let mut next = Streams::new();
        for partition in 0..layout.partitions() {
            let before = (len + 1 < config.order && smoothed.needs_lower())
                .then(|| open(&streams, partition, Stream::Before(len).index(&layout)));
            let mut output = Output::default();
            if len == 0 {
                smoothed
                    .first_level(layout.words(partition), reader(partition, 0), before, None, &mut output)
                    .unwrap();
            } else {
                let blocks = || Ok(open(&lower, partition, 0));
                let lower = if !smoothed.needs_lower() {
                    LowerReader::None
                } else if layout.words(partition).len() == 1 {
                    LowerReader::stream(blocks().unwrap())
                } else {
                    sort_lower(&layout, partition, blocks).unwrap()
                };
                let (grams, contexts) = (reader(partition, len), reader(partition, len - 1));
                let weights = [None, None];
                let streams = LevelStreams { grams, contexts, before, lower, weights };
                smoothed.level(len, streams, &mut output).unwrap();
            }
            level.extend(output.grams);
            for (words, probability) in output.lower {
                for word in words {
                    let partition = layout.partition_of(word);
                    let blocks = next.entry((partition, 0)).or_default();
                    blocks.push(Vec::new());
                    put_lower(&layout, partition, word, probability, blocks.last_mut().unwrap());
                }
            }
        }
        lower = next;
        all.push(level);
    }
    all
}

/// The same in memory.
fn in_memory(tokens: &[u32], vocab: usize, config: &NgramConfig) -> Vec<Vec<Scored>> {
    let counts = Counts::new(tokens, vocab, config.order, config.bos).unwrap();
    let (estimate, _) = from_counts(counts, config, None).unwrap();
    let mut lower = Vec::new();
    let mut contexts: Vec<Vec<u32>> = vec![Vec::new()];
    let mut all = Vec::new();
    for (len, table) in estimate.tables.iter().enumerate() {
        let probabilities = estimate.level(len, &lower).all();
        let mut words: Vec<Vec<u32>> = Vec::new();
        if len == 0 {
            words.extend((0..vocab as u32).map(|word| vec![word]));
        } else {
            let offsets = &estimate.tables[len - 1].child_offsets;
            for (context, range) in contexts.iter().zip(offsets.windows(2)) {
                for gram in range[0]..range[1] {
                    words.push([&context[..], &[table.words[gram as usize]]].concat());
                }
            }
        }
        let backoff = |gram: usize| {
            table.weight_ids.get(gram).map(|&weight| table.distinct_weights[weight as usize].backoff)
        };
        all.push(
            (0..words.len()).map(|gram| (words[gram].clone(), probabilities[gram], backoff(gram))).collect(),
        );
        (contexts, lower) = (words, probabilities);
    }
    all
}

fn smoothings() -> Vec<NgramConfig> {
    let streamed = Smoothing::ALL.into_iter().filter(|&smoothing| {
        let config = NgramConfig::new(3, smoothing);
        let is_streamed = Smoothed::refusal(&config, false, true).unwrap().is_none();
        is_streamed && ![Smoothing::AddK, Smoothing::Katz].contains(&smoothing)
    });
    let mut configs: Vec<NgramConfig> = streamed.map(|smoothing| NgramConfig::new(3, smoothing)).collect();
    for smoothing in [Smoothing::Absolute, Smoothing::KneserNey, Smoothing::ModifiedKneserNey] {
        configs.push(NgramConfig { prune: vec![0, 0, 1], ..NgramConfig::new(3, smoothing) });
        configs.push(NgramConfig { prune: vec![1], ..NgramConfig::new(3, smoothing) });
    }
    configs.push(NgramConfig {
        compat: Some(Compat::Kenlm),
        ..NgramConfig::new(3, Smoothing::ModifiedKneserNey)
    });
    configs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn parts_give_the_bits_of_the_whole(
        text in prop::collection::vec(1_u32..12, 1..200),
        lines in any::<bool>(),
        order in 2_usize..7,
        share in 1_usize..80,
    ) {
        let mut tokens = text;
        if lines {
            tokens.insert(0, 1);
        }
        for config in smoothings() {
            let prune = config.prune.iter().copied().take(order).collect();
            let config = NgramConfig { order, prune, bos: lines.then_some(1), unk: Some(0), ..config };
            prop_assert_eq!(
                streamed(&tokens, 12, &config, share),
                in_memory(&tokens, 12, &config),
                "{:?}", config
            );
        }
    }
}

#[test]
fn what_needs_all_ngrams_is_refused() {
    for (smoothing, is_streamed, is_quantized) in [
        (Smoothing::Katz, true, false),
        (Smoothing::JelinekMercer, false, false),
        (Smoothing::StupidBackoff, true, true),
        (Smoothing::ModifiedKneserNey, true, true),
    ] {
        let config = NgramConfig::new(3, smoothing);
        let refusals = [false, true].map(|quantize| Smoothed::refusal(&config, quantize, true).unwrap());
        assert_eq!(refusals.map(|it| it.is_none()), [is_streamed, is_quantized], "{smoothing:?}");
    }
    assert_eq!(Smoothed::refusal(&NgramConfig::default(), true, true).unwrap(), None);
    assert!(matches!(
        NgramConfig::new(2, Smoothing::Mle).smoother().unwrap().scheme(),
        BackoffScheme::Interpolate
    ));
}
