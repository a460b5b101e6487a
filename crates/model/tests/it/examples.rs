//! The examples do what they say.

use std::process::Command;

/// The first number of each line that the example prints; `cargo test` has built it beside the
/// tests.
fn numbers(name: &str) -> Vec<f64> {
    let tests = std::env::current_exe().unwrap();
    let example = tests.parent().unwrap().with_file_name("examples").join(name);
    let output = Command::new(example.with_extension(std::env::consts::EXE_EXTENSION)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = String::from_utf8(output.stdout).unwrap();
    shown.lines().map(|line| line.split(' ').find_map(|word| word.parse().ok()).unwrap()).collect()
}

#[test]
fn counting_and_gradient_descent_end_in_one_bigram() {
    let [counted, gradient, smoothed, apart] = numbers("bigram").try_into().unwrap();
    assert!((counted - gradient).abs() < 1e-3 && counted <= gradient, "{counted} and {gradient}");
    assert!(smoothed > counted + 0.01, "smoothing costs on the text itself: {smoothed}");
    assert!(apart < 1e-4, "{apart}");
}

#[test]
fn the_written_out_gpt_learns_and_is_the_librarys() {
    let numbers = numbers("gpt");
    let [.., nats, apart] = numbers.as_slice() else { panic!("{numbers:?}") };
    // A sentence is one of 32 and has 22 or 23 bytes: no model does better in the long run.
    let entropy = 32f64.ln() / 22.5;
    assert!((entropy..entropy + 0.02).contains(nats), "{nats}, and the entropy is {entropy}");
    assert!(*apart < 1e-5, "{apart}");
}

#[test]
fn the_lesson_from_scratch_ends_in_the_order_that_it_teaches() {
    let numbers = numbers("from_scratch");
    let [_, uniform, counted, smoothed, trained, mlp] = numbers[..] else { panic!("{numbers:?}") };
    assert!(counted.is_infinite(), "a pair that was never seen: {counted}");
    assert!(mlp < 0.8 * smoothed && smoothed < uniform && (trained - smoothed).abs() < 0.1, "{numbers:?}");
}
