//! The same seed gives the same bits: over 1, 2, 3 and 8 threads, twice each, for three kinds and
//! three seeds.

use crate::runs::{KINDS, assert_same, borrowed, outcome};

#[test]
fn weights_and_metrics_depend_on_the_seed_and_not_on_threads_or_chance() {
    for kind in &KINDS {
        let bench = kind.bench();
        let mut by_seed = Vec::new();
        for seed in [1, 2, 3] {
            let seed_is = format!("train.seed={seed}");
            let mut first = None;
            for threads in [1, 2, 3, 8] {
                for run in ["a", "b"] {
                    let out = format!("{seed}-{threads}-{run}");
                    let threads_are = format!("train.threads={threads}");
                    let more = [seed_is.as_str(), &threads_are, "train.shards=3", "train.steps=30"];
                    let more = if kind.name == "counted" { &more[..3] } else { &more[..] };
                    bench.run(&borrowed(&kind.train(&out, more))).succeeded();
                    let found = outcome(&bench, &out);
                    std::fs::remove_dir_all(bench.path().join(&out)).unwrap();
                    match &first {
                        None => first = Some(found),
                        Some(first) => {
                            let when =
                                format!("for {} with seed {seed}, run {run} on {threads} threads", kind.name);
                            assert_same(first, &found, &when);
                        }
                    }
                }
            }
            by_seed.push(first.unwrap());
        }
        // Counting has no seed; the other models differ.
        let differ = |a: usize, b: usize| by_seed[a].files != by_seed[b].files;
        let trained = kind.name != "counted";
        assert_eq!([differ(0, 1), differ(1, 2), differ(0, 2)], [trained; 3], "{}", kind.name);
    }
}
