//! The stated memory of counting and mixing, against the allocator's peak.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::alloc::System;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use surprisal_model::VocabMap;
use surprisal_model::ngram::{
    Counts, MixtureComponent, NgramConfig, NgramModel, static_mixture, static_mixture_memory,
};
use surprisal_platform::counting_allocator::{CountingAllocator, peak_of};

#[global_allocator]
static ALLOCATOR: CountingAllocator<System> = CountingAllocator::new(System);

const TOKENS: u32 = 1 << 20;
const VOCAB: u32 = 50_000;

/// One test: two at once would count each other's memory.
#[test]
fn what_is_stated_is_enough() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut word = || rng.random_range(0..VOCAB);
    let different: Vec<u32> = (0..TOKENS).map(|_| word()).collect();
    let every_other: Vec<u32> = (0..TOKENS).map(|i| if i % 2 == 0 { 0 } else { word() }).collect();
    let one = vec![3; TOKENS as usize];
    let rare: Vec<u32> = (0..TOKENS).map(|_| word().min(word()).min(word())).collect();
    for (name, text) in
        [("different", &different), ("every other", &every_other), ("one", &one), ("rare", &rare)]
    {
        for order in [2, 3, 5, 8] {
            let (counts, peak) = peak_of(|| Counts::new(text, VOCAB as usize, order, None).unwrap());
            let (peak, stated) = (peak.unwrap() as u64, Counts::memory(text.len(), VOCAB as usize, order));
            assert!(peak <= stated, "{name}, order {order}: {peak} of {stated} bytes");
            assert_eq!(
                counts.levels[0].counts.iter().map(|&count| u64::from(count)).sum::<u64>(),
                u64::from(TOKENS)
            );
        }
    }
    let config = NgramConfig { order: 4, ..NgramConfig::default() };
    let models = [&different, &rare]
        .map(|text| NgramModel::estimate(&text[..1 << 18], VOCAB as usize, &config).unwrap());
    let names = VocabMap::new((0..VOCAB).collect(), VOCAB as usize, None).unwrap();
    let parts = models.each_ref().map(|model| MixtureComponent { model, weight: 0.5, map: &names });
    let (mixed, peak) = peak_of(|| static_mixture(&parts, None).unwrap());
    let (peak, stated) = (peak.unwrap() as u64, static_mixture_memory(&parts));
    assert!(peak <= stated, "mixing: {peak} of {stated} bytes");
    assert!(mixed.parameters() > models[0].parameters());
}
