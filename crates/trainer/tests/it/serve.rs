//! `surprisal serve` as a program: its address, its end, and what it leaves. The page itself is
//! tested in crates/playground.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::Bench;

#[test]
fn ctrl_c_ends_the_page_and_leaves_usable_models() {
    let bench = Bench::new();
    let mut serve = bench.command(&["serve"]);
    let mut child = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut address = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
    assert!(address.starts_with("http://127.0.0.1:") && address.trim_end().ends_with('/'), "{address}");
    let metrics = bench.path().join("runs/stories-transformer/metrics.jsonl");
    let begun = Instant::now();
    while !std::fs::read_to_string(&metrics).is_ok_and(|text| text.contains(r#""event":"step""#)) {
        assert!(begun.elapsed() < Duration::from_secs(120), "no step is made");
        std::thread::sleep(Duration::from_millis(50));
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{stderr}");
    assert!(stderr.contains("Ctrl-C ends it"), "{stderr}");
    bench.run(&["sample", "runs/stories-transformer", "--tokens", "9"]).succeeded();
}

#[test]
fn wrong_hosts_texts_and_times_are_refused_in_words() {
    let bench = Bench::new();
    bench.text("a.txt", 120);
    bench.file("zeros.txt", [0u8; 400]);
    let refused = |arguments: &[&str], words: &[&str]| {
        drop(bench.run(&[&["serve"], arguments].concat()).refused(2, words));
    };
    refused(&["a.txt", "--for", "soon"], &["--for is \"soon\""]);
    refused(&["a.txt", "--host", "192.0.2.7", "--for", "1s"], &["cannot listen on 192.0.2.7:0"]);
    for path in ["nowhere.txt", "zeros.txt"] {
        let ran = bench.run(&["serve", path, "--for", "0.1s"]);
        assert!(ran.code != 0 && ran.stderr.contains(path), "{}", ran.stderr);
    }
    let ran = bench.run(&["serve", "a.txt", "--host", "0.0.0.0", "--for", "0.1s"]).succeeded();
    assert!(ran.stderr.contains("can train models on it"), "{}", ran.stderr);
}
