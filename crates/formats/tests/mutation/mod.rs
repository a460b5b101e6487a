//! A bounded number of mutations of seeds, the same in every run.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

const ROUNDS: usize = 3000;

/// Knuth's linear congruential generator (MMIX): the same mutations everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// Bytes that often break parsers: limits of integers, structure, and invalid UTF-8.
const PIECES: &[&[u8]] = &[
    b"0",
    b"-1",
    b"1e400",
    b"18446744073709551615",
    b"9223372036854775808",
    b"null",
    b"true",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\"",
    b",",
    b":",
    b"\\u0000",
    b"\\ud800",
    b"..",
    b"/",
    b"\xff",
    b"\0",
    b"[[[[[[[[[[[[[[[[[[[[",
    b"NaN",
    b"\n",
    b"=",
    b"\r\n",
    b"\xe2\x82",
    b"\xef\xbb\xbf",
];

/// One to four changes: a flipped bit, a cut, an insertion, a repetition, or a part of another
/// seed.
fn mutate(seed: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len());
        let end = (at + 1 + chance.below(16)).min(bytes.len());
        match chance.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << chance.below(8),
            1 => drop(bytes.drain(at.min(end)..end)),
            2 => drop(bytes.splice(at..at, PIECES[chance.below(PIECES.len())].iter().copied())),
            3 => drop(bytes.splice(at.min(end)..end, PIECES[chance.below(PIECES.len())].iter().copied())),
            4 => {
                let piece = bytes[at.min(end)..end].to_vec();
                let to = chance.below(bytes.len());
                drop(bytes.splice(to..to, piece));
            }
            _ => bytes.truncate(bytes.len() - chance.below(20).min(bytes.len())),
        }
    }
    bytes
}

/// The time limit for an input.
const LIMIT: Duration = Duration::from_secs(1);

/// Passes the seeds in `folder` and their mutations to `target`, which panics if a property does
/// not hold.
pub(crate) fn survives(folder: &Path, target: impl Fn(&[u8])) {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut chance = Chance(7);
    assert!(!paths.is_empty());
    for path in paths {
        let seed = fs::read(&path).unwrap();
        target(&seed);
        for round in 0..ROUNDS {
            let bytes = mutate(&seed, &mut chance);
            let clock = || {
                let started = Instant::now();
                target(&bytes);
                started.elapsed()
            };
            let mut took = clock();
            // Repeated, because only an input that is slow by itself is slow again.
            for _ in 0..3 {
                took = if took < LIMIT { took } else { clock() };
            }
            assert!(took < LIMIT, "round {round} of {} took {took:?}", path.display());
        }
    }
}
