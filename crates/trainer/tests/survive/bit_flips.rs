//! Bit flips: of thousands in checkpoints and models of every kind, none is loaded without an
//! error.

use std::path::Path;

use surprisal_formats::model_dir::StoredModel;
use surprisal_store::checkpoint;

use crate::runs::{Chance, KINDS, assert_same, borrowed, names, outcome};

/// Flips a bit of the file, calls `check`, and restores the file.
fn flipped(path: &Path, original: &[u8], bit: usize, check: impl FnOnce()) {
    let mut bytes = original.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    std::fs::write(path, bytes).unwrap();
    check();
    std::fs::write(path, original).unwrap();
}

#[test]
fn no_flipped_bit_of_a_checkpoint_or_a_model_is_loaded_in_silence() {
    let mut flips = 0;
    for kind in &KINDS {
        let bench = kind.bench();
        bench.run(&borrowed(&kind.train("run", &[]))).succeeded();
        let model = bench.path().join("run/model");
        let checkpoints = bench.path().join("run/checkpoints");
        let newest = names(&checkpoints).pop().map(|name| checkpoints.join(name));
        let mut chance = Chance(5);
        for folder in [Some(model.clone()), newest].into_iter().flatten() {
            for name in names(&folder) {
                let path = folder.join(&name);
                let original = std::fs::read(&path).unwrap();
                for _ in 0..300 {
                    let bit = chance.below(original.len() * 8);
                    flipped(&path, &original, bit, || {
                        let error = if folder == model {
                            StoredModel::load(&folder).map(|_| ()).unwrap_err().to_string()
                        } else {
                            checkpoint::load(&folder).map(|_| ()).unwrap_err().to_string()
                        };
                        assert!(!error.is_empty(), "bit {bit} of {name}");
                    });
                    flips += 1;
                }
            }
        }
        StoredModel::load(&model).unwrap();
    }
    eprintln!("{flips} flipped bits, none loaded");
    assert!(flips >= 5000, "{flips}");
}

#[test]
fn the_commands_refuse_a_damaged_model_by_name() {
    for kind in &KINDS {
        let bench = kind.bench();
        bench.run(&borrowed(&kind.train("run", &[]))).succeeded();
        let model = bench.path().join("run/model");
        let mut chance = Chance(11);
        for name in names(&model) {
            let path = model.join(&name);
            let original = std::fs::read(&path).unwrap();
            flipped(&path, &original, chance.below(original.len() * 8), || {
                bench.run(&["eval", "run"]).refused(1, &["error: ", "run/model/"]);
                bench.run(&["sample", "run", "--tokens", "5"]).refused(1, &["error: ", "run/model/"]);
            });
            std::fs::write(&path, &original[..original.len() / 2]).unwrap();
            bench.run(&["inspect", "run"]).refused(1, &["error: ", "run/model/"]);
            std::fs::write(&path, &original).unwrap();
        }
        bench.run(&["eval", "run"]).succeeded();
    }
}

#[test]
fn a_damaged_checkpoint_is_skipped_aloud_and_the_run_ends_in_the_same_bits() {
    for kind in &KINDS[1..] {
        let bench = kind.bench();
        bench.run(&borrowed(&kind.train("run", &[]))).succeeded();
        let whole = outcome(&bench, "run");
        let checkpoints = bench.path().join("run/checkpoints");
        let mut chance = Chance(13);
        for round in 0..6 {
            let damaged = names(&checkpoints).pop().unwrap();
            let parts = names(&checkpoints.join(&damaged));
            let path = checkpoints.join(&damaged).join(&parts[round % parts.len()]);
            let mut bytes = std::fs::read(&path).unwrap();
            let bit = chance.below(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bytes).unwrap();
            // Like a run that was killed before its model was written; a finished run is not
            // changed.
            std::fs::remove_dir_all(bench.path().join("run/model")).unwrap();
            let ran = bench.run(&["train", "--resume", "--out", "run", "--quiet"]).succeeded();
            assert!(
                ran.stderr.contains("skipped the checkpoint") && ran.stderr.contains(&damaged),
                "{}",
                ran.stderr
            );
            assert_same(
                &whole,
                &outcome(&bench, "run"),
                &format!("after a flipped bit in {}", path.display()),
            );
        }
    }
}
