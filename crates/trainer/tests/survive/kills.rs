//! SIGKILL at random moments; the resumed run ends with the same bits as an undisturbed one.
//!
//! `SURPRISAL_KILLS` sets the number of kills (300 in scripts/kills.sh).

use std::time::{Duration, Instant};

use crate::runs::{
    Chance, KINDS, Kind, assert_same, borrowed, finish, go_on, is_finished, outcome, set_threads,
};

/// The number of kills per kind of model.
fn wanted() -> usize {
    std::env::var("SURPRISAL_KILLS").map_or(12, |text| text.parse().unwrap())
}

/// Kills runs of `kind` until enough were hit during training; each is resumed to the end and
/// compared.
fn survives(kind: &Kind) {
    let bench = kind.bench();
    let started = Instant::now();
    bench.run(&borrowed(&kind.train("whole", &[]))).succeeded();
    let mut length = started.elapsed().as_secs_f64();
    let whole = outcome(&bench, "whole");
    let mut chance = Chance(kind.name.len() as u64);
    let (mut kills, mut runs, mut in_training) = (0, 0, 0);
    while kills < wanted() {
        runs += 1;
        assert!(runs < 20 * wanted(), "only {kills} of {runs} runs could be killed before they were done");
        let out = format!("killed{runs}");
        let mut hit = 0;
        // Sometimes the resumed run is killed, too.
        for _ in 0..=chance.below(3) {
            let arguments = go_on(kind, &bench, &out);
            let mut child = bench.command(&borrowed(&arguments)).spawn().unwrap();
            std::thread::sleep(Duration::from_secs_f64(length * chance.fraction()));
            child.kill().unwrap();
            child.wait().unwrap();
            if is_finished(&bench, &out) {
                // The machine is faster than before.
                length *= 0.9;
                break;
            }
            hit += 1;
            in_training +=
                usize::from(!crate::runs::names(&bench.path().join(&out).join("checkpoints")).is_empty());
            set_threads(&bench, &out, 1 + chance.below(3));
        }
        kills += hit;
        if hit > 0 {
            finish(kind, &bench, &out, 1 + chance.below(3));
            assert_same(&whole, &outcome(&bench, &out), &format!("in run {runs} after {kills} kills"));
        }
        std::fs::remove_dir_all(bench.path().join(&out)).unwrap_or_default();
    }
    eprintln!(
        "{}: {kills} kills in {runs} runs, {in_training} of them with a checkpoint to go on from",
        kind.name
    );
}

#[test]
fn a_killed_counted_run_ends_in_the_same_bits() {
    survives(&KINDS[0]);
}

#[test]
fn a_killed_mlp_run_ends_in_the_same_bits() {
    survives(&KINDS[1]);
}

#[test]
fn a_killed_transformer_run_ends_in_the_same_bits() {
    survives(&KINDS[2]);
}

#[test]
fn a_killed_run_of_muon_in_bf16_with_averaged_weights_ends_in_the_same_bits() {
    survives(&KINDS[3]);
}

#[test]
fn a_killed_recurrent_run_ends_in_the_same_bits() {
    survives(&KINDS[4]);
}

#[test]
fn a_run_is_only_resumed_as_it_was_begun() {
    let kind = &KINDS[1];
    let bench = kind.bench();
    bench.run(&borrowed(&kind.train("run", &[]))).succeeded();
    let whole = outcome(&bench, "run");
    // Like a run that was killed before its model was written; a finished run is not changed.
    std::fs::remove_dir_all(bench.path().join("run/model")).unwrap();
    let resume = ["train", "--resume", "--out", "run"];
    let text = std::fs::read_to_string(bench.path().join("a.txt")).unwrap();
    bench.file("a.txt", text.replacen("cat", "cow", 1));
    bench.run(&resume).refused(1, &["the texts have changed", "hint"]);
    bench.file("a.txt", &text);
    let config = bench.path().join("run/config.toml");
    let settings = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, settings.replace("seed = 1337", "seed = 1338")).unwrap();
    bench.run(&resume).refused(1, &["the settings in config.toml have changed", "hint"]);
    // The path of the text and the frequency of checkpoints do not matter.
    bench.file("b.txt", &text);
    let moved = settings.replace("a.txt", "b.txt").replace("every_steps = 7", "every_steps = 9");
    assert_ne!(moved, settings);
    std::fs::write(&config, moved).unwrap();
    bench.run(&resume).succeeded();
    assert_eq!(whole.events, outcome(&bench, "run").events);
}
