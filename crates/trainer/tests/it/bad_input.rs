//! Bad input gives a clear message and the documented exit code, and leaves nothing behind.

use crate::common::{Bench, sentences};

/// Runs `train` with `arguments` on a bench filled by `prepare`; the folder must not change.
#[track_caller]
fn refuses(prepare: impl FnOnce(&Bench), arguments: &[&str], code: i32, parts: &[&str]) {
    let bench = Bench::new();
    prepare(&bench);
    let before = bench.entries();
    let mut all = vec!["train"];
    all.extend(arguments);
    bench.run(&all).refused(code, parts);
    assert_eq!(bench.entries(), before, "something was left behind");
}

#[test]
fn a_missing_file_is_named() {
    refuses(|_| {}, &["nowhere.txt"], 1, &["nowhere.txt"]);
    refuses(|_| {}, &["nowhere.toml"], 2, &["nowhere.toml", "hint"]);
}

#[test]
fn a_directory_without_text() {
    refuses(
        |bench| drop(bench.file("folder/image.png", [0x89, b'P', b'N', b'G', 0])),
        &["folder"],
        1,
        &["folder"],
    );
}

#[test]
fn an_empty_text() {
    refuses(|bench| drop(bench.file("a.txt", "")), &["a.txt"], 1, &["a.txt", "empty"]);
}

#[test]
fn a_text_of_one_token() {
    refuses(|bench| drop(bench.file("a.txt", "x")), &["a.txt"], 1, &["hint"]);
}

#[test]
fn a_text_shorter_than_a_window() {
    refuses(
        |bench| drop(bench.file("a.txt", sentences(3))),
        &["a.txt", "--set", "train.block_size=500"],
        1,
        &["block_size", "hint"],
    );
}

#[test]
fn an_empty_validation_text() {
    refuses(
        |bench| {
            bench.text("a.txt", 50);
            bench.file("val.txt", "");
        },
        &["a.txt", "--set", "data.val=[\"val.txt\"]"],
        1,
        &["val.txt", "empty"],
    );
}

#[test]
fn invalid_utf8_is_located_and_byte_is_suggested() {
    let mut bytes = sentences(60).into_bytes();
    bytes[1234] = 0xFF;
    for kind in ["char", "word", "bpe"] {
        let set = format!("tokenizer.kind={kind}");
        refuses(
            |bench| drop(bench.file("a.txt", &bytes)),
            &["a.txt", "--set", &set],
            1,
            &["a.txt", "1234", "byte"],
        );
    }
    let bench = Bench::new();
    bench.file("a.txt", &bytes);
    bench
        .run(&["train", "a.txt", "--set", "tokenizer.kind=byte", "--set", "model.kind=uniform", "--quiet"])
        .succeeded();
}

#[test]
fn crlf_is_kept_and_noted_and_a_nul_is_refused() {
    let bench = Bench::new();
    bench.file("a.txt", sentences(40).replace('\n', "\r\n"));
    let ran = bench.run(&["train", "a.txt", "--set", "model.kind=uniform"]).succeeded();
    assert!(ran.stderr.contains("CRLF"), "{}", ran.stderr);
    bench.file("b.txt", sentences(40).replace("nothing", "no\0thing"));
    bench
        .run(&["train", "b.txt", "--set", "model.kind=uniform"])
        .refused(1, &["b.txt", "NUL", "line", "--invalid"]);
    let replaced = ["train", "b.txt", "--set", "model.kind=uniform", "--invalid", "replace"];
    let ran = bench.run(&replaced).succeeded();
    assert!(ran.stderr.contains("became U+FFFD"), "{}", ran.stderr);
}

#[test]
fn mistakes_in_a_config_are_found_on_their_line() {
    let cases = [
        ("[optim]\nlearning_rate = 1\n", ":2:", "learning_rate"),
        ("[train]\nseed = 1\nbatch_size = \"x\"\n", ":3:", "takes a whole number"),
        ("[model]\nn_head = 3\nn_embd = 128\n", ":3:", "n_head"),
        ("[train\n", ":1", ""),
        ("[loss]\n\nlabel_smoothing = 2.0\n", ":3:", "label_smoothing"),
    ];
    for (text, line, word) in cases {
        refuses(|bench| drop(bench.file("c.toml", text)), &["c.toml"], 2, &["c.toml", line, word]);
    }
}

#[test]
fn sizes_that_no_memory_holds_are_refused_before_allocation() {
    refuses(
        |bench| drop(bench.text("a.txt", 200)),
        &["a.txt", "--set", "model.n_embd=1048576", "--set", "model.n_layer=200"],
        2,
        &["memory", "hint"],
    );
}

#[test]
fn an_occupied_out_is_left_alone() {
    let bench = Bench::new();
    bench.text("a.txt", 50);
    let precious = bench.file("out/precious.txt", "mine");
    bench
        .run(&["train", "a.txt", "--out", "out", "--set", "model.kind=uniform"])
        .refused(1, &["out", "hint"]);
    assert_eq!(std::fs::read_to_string(precious).unwrap(), "mine");
    assert_eq!(std::fs::read_dir(bench.path().join("out")).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn an_out_below_a_file_is_refused() {
    refuses(
        |bench| {
            bench.text("a.txt", 50);
            bench.file("file", "x");
        },
        &["a.txt", "--out", "file/run", "--set", "model.kind=uniform"],
        1,
        &["file"],
    );
}

#[test]
fn a_folder_that_is_no_model_is_refused_by_every_reader() {
    let bench = Bench::new();
    bench.file("folder/readme", "x");
    for command in [&["eval", "folder"][..], &["sample", "folder"], &["eval", "gone"], &["sample", "gone"]] {
        bench.run(command).refused(1, &[command[1]]);
    }
}

#[test]
fn sampling_settings_out_of_range_are_usage_errors() {
    let bench = Bench::new();
    for setting in [["--temperature", "-1"], ["--top-k", "0"], ["--top-p", "1.5"]] {
        let mut arguments = vec!["sample", "x"];
        let joined = setting.join("=");
        arguments.push(&joined);
        bench.run(&arguments).refused(2, &[]);
    }
}
