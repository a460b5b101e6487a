//! Files of an earlier version are read, resumed and written again with the same numbers and bytes.
//!
//! `fixtures/write.py` describes the files in `fixtures/` and how they were made.

use std::path::Path;

use crate::common::{Bench, Ran, repository, skipped};
use serde_json::Value;

/// A copy of the files of commit e62ad18 as the working folder, and the expected output.
fn fixture() -> (Bench, Value) {
    let bench = Bench::new();
    copy(Path::new(&repository("crates/trainer/tests/fixtures/e62ad18")), bench.path());
    let expected = json(&bench, "expected.json");
    (bench, expected)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn json(bench: &Bench, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(bench.path().join(name)).unwrap()).unwrap()
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

/// The class of this processor, for results that depend on it.
fn processor() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    return match (is_x86_feature_detected!("avx512f"), is_x86_feature_detected!("fma")) {
        (true, _) if is_x86_feature_detected!("avx512bf16") => "avx512bf16",
        (false, true) => "fma",
        _ => "another",
    };
    #[cfg(not(target_arch = "x86_64"))]
    return "another";
}

/// The first position where `now` differs from `before`; additional keys are allowed.
///
/// Bits per byte of texts with unknown words now include spelling them.
fn difference(before: &Value, now: &Value) -> Option<String> {
    let spelt = now.get("spelling_bits_per_byte").is_some();
    let within = |key: &str, before: &Value, now: Option<&Value>| {
        if spelt && key == "bits_per_byte" {
            return None;
        }
        difference(before, now.unwrap_or(&Value::Null)).map(|found| format!("{key}: {found}"))
    };
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            before.iter().find_map(|(key, value)| within(key, value, now.get(key)))
        }
        (Value::Array(before), Value::Array(now)) if before.len() == now.len() => {
            before.iter().zip(now).enumerate().find_map(|(i, (a, b))| within(&i.to_string(), a, Some(b)))
        }
        _ => (before != now).then(|| format!("{before} became {now}")),
    }
}

/// Runs the selected commands, and compares their results and weights.
fn say_the_same(chosen: impl Fn(&str, &str) -> bool) {
    let (_, expected) = fixture();
    let mut commands = 0;
    for command in expected["says"].as_array().unwrap() {
        let mut arguments = words(&command["arguments"]);
        if !chosen(arguments[0], arguments[1]) {
            continue;
        }
        commands += 1;
        let (bench, _) = fixture();
        arguments.extend(["--json", "--quiet"]);
        let mut process = bench.command(&arguments);
        process.env_remove("SURPRISAL_ISA");
        if command["portable"] == true {
            process.env("SURPRISAL_ISA", "portable");
        }
        let mut now = Ran::of(process.output().unwrap(), &arguments).succeeded().result();
        if let Some(out) = arguments.iter().position(|word| *word == "--out") {
            let manifest = json(&bench, &format!("{}/model/manifest.json", arguments[out + 1]));
            now = serde_json::json!({ "said": now, "weights": manifest["parts"] });
        }
        let says = &command["says"];
        let Some(before) = says.get("any").or_else(|| says.get(processor())) else {
            skipped(&format!("no numbers of `{}` are kept for this processor", arguments.join(" ")));
            continue;
        };
        assert_eq!(difference(before, &now), None, "surprisal {}", arguments.join(" "));
    }
    assert!(commands > 0);
}

#[test]
fn models_and_runs_are_read_to_the_same_numbers() {
    say_the_same(|command, _| command != "train");
}

/// Of processors without AVX-512, no bits are kept: their products have had a kernel of their own
/// since, which sums in another order.
#[test]
fn configs_train_to_the_same_bits() {
    say_the_same(|command, first| command == "train" && first != "--resume");
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bits() {
    say_the_same(|_, first| first == "--resume");
}

#[test]
fn files_are_written_again_to_the_byte() {
    let (bench, expected) = fixture();
    for command in expected["writes"].as_array().unwrap() {
        bench.run(&words(&command["arguments"])).succeeded();
        for (new, old) in command["same"].as_object().unwrap() {
            let [new_bytes, old_bytes] =
                [new, old.as_str().unwrap()].map(|name| std::fs::read(bench.path().join(name)).unwrap());
            assert!(new_bytes == old_bytes, "{new} is not {old}: surprisal {}", command["arguments"]);
        }
    }
}
