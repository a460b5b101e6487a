//! The examples do what they say.

#![allow(clippy::unwrap_used, reason = "a test fails where something is wrong")]

use std::process::Command;

/// Output of the example; `cargo test` has built it beside the tests.
fn shown(name: &str) -> String {
    let tests = std::env::current_exe().unwrap();
    let example = tests.parent().unwrap().with_file_name("examples").join(name);
    let output = Command::new(example.with_extension(std::env::consts::EXE_EXTENSION)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_run_is_told_by_events_of_ones_own() {
    let shown = shown("train");
    for part in ["uniform: ", "bigram MLE: ", "step 100: ", "step 300: ", "it writes: ", "perplexity "] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn a_run_is_stopped_from_outside_opens_and_goes_on() {
    let shown = shown("stop");
    for part in ["the checkpoint is saved", "it opens: bigram", "and goes on, to 2000 steps"] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn a_sentence_is_less_surprising_than_its_words_in_disorder() {
    let shown = shown("score");
    let number = |line: &str| line.split_whitespace().next().unwrap().parse::<f64>().unwrap();
    let (words, sentences): (Vec<&str>, Vec<&str>) = shown.lines().partition(|line| line.starts_with(' '));
    let nats: Vec<f64> = sentences.iter().map(|line| number(line)).collect();
    assert!(nats.len() == 2 && nats[0] < nats[1], "{shown}");
    // Seven words and the end of the sentence, to two digits each.
    for (nats, words) in nats.iter().zip(words.chunks(8)) {
        let sum: f64 = words.iter().map(|line| number(line)).sum();
        assert!((sum - nats).abs() < 0.05 && words[7].ends_with("</s>"), "{shown}");
    }
}

#[test]
fn word_surprisals_of_a_5_gram_go_with_those_of_the_source_and_sum_to_the_text_s() {
    let shown = shown("word_surprisals");
    let line = shown.lines().find(|line| line.starts_with("a counted 5-gram")).unwrap();
    let after = |words: &str| {
        let rest = line.split_once(words).unwrap().1;
        rest.split_whitespace().next().unwrap().parse::<f64>().unwrap()
    };
    assert!((0.55..0.65).contains(&after("correlation ")), "{line}");
    assert!(after("sum is ").abs() < 1e-8, "{line}");
}
