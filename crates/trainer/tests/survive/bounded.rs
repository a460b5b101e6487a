//! Counting in bounded memory that is killed, runs out of disk, or finds a damaged file.
//!
//! `SURPRISAL_KILLS` sets the number of kills at random moments.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::Bench;
use crate::runs::Chance;

const COUNT: [&str; 9] = ["count", "a.txt", "-o", "4", "-S", "600K", "-T", "temp", "--out"];

fn bench() -> (Bench, Vec<u8>) {
    let bench = Bench::new();
    let mut chance = Chance(7);
    let words = (0..60_000).map(|i| {
        let word = chance.below(30) * chance.below(30);
        format!("w{word}{}", if i % 7 == 6 { "\n" } else { " " })
    });
    bench.file("a.txt", words.collect::<String>());
    fs::create_dir(bench.path().join("temp")).unwrap();
    bench.run(&["count", "a.txt", "-o", "4", "--out", "whole.arpa"]).succeeded();
    let whole = fs::read(bench.path().join("whole.arpa")).unwrap();
    (bench, whole)
}

fn arguments() -> Vec<&'static str> {
    [&COUNT[..], &["disk.arpa"]].concat()
}

/// The temporary files that an earlier process has completed, and others.
fn temporary(bench: &Bench) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let folders = fs::read_dir(bench.path().join("temp")).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let is_resumable = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        ["run-", "group-", "grams-"].iter().any(|start| name.starts_with(start))
    };
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    files.into_iter().partition(is_resumable)
}

/// Goes on to the end, to the same bytes, and leaves nothing.
fn finish(bench: &Bench, whole: &[u8], what: &str) {
    bench.run(&arguments()).succeeded();
    let path = bench.path().join("disk.arpa");
    assert!(fs::read(&path).unwrap() == whole, "{what}: other bytes");
    fs::remove_file(path).unwrap();
    let left: Vec<PathBuf> =
        fs::read_dir(bench.path().join("temp")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{what}: {left:?} {:?}", temporary(bench));
}

#[test]
fn a_killed_count_goes_on_to_the_same_bytes() {
    let kills = std::env::var("SURPRISAL_KILLS").map_or(6, |text| text.parse().unwrap());
    let (bench, whole) = bench();
    let started = Instant::now();
    finish(&bench, &whole, "undisturbed");
    let length = started.elapsed().as_secs_f64();
    let (mut chance, mut killed, mut found) = (Chance(3), 0, 0);
    for _ in 0..20 * kills {
        if killed >= kills {
            break;
        }
        let mut child = bench.command(&arguments()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_secs_f64(length * chance.fraction()));
        child.kill().unwrap();
        child.wait().unwrap();
        if bench.path().join("disk.arpa").exists() {
            continue;
        }
        killed += 1;
        found += usize::from(!temporary(&bench).0.is_empty());
        // Sometimes several are killed one after the other.
        if chance.below(3) > 0 {
            finish(&bench, &whole, &format!("after {killed} kills"));
        }
    }
    finish(&bench, &whole, "at the end");
    eprintln!("{killed} kills, {found} of them with temporary files to go on from");
}

/// Counts with a fault at operation `at` of the files.
fn with_fault(bench: &Bench, fault: &str, at: usize) -> std::process::Output {
    let mut command = bench.command(&arguments());
    command.env("SURPRISAL_FAULT", format!("{fault}:{at}")).output().unwrap()
}

#[test]
fn a_full_disk_leaves_only_what_can_be_used_again() {
    let (bench, whole) = bench();
    let mut at = 1;
    loop {
        // Every other time from the start, so that late operations are reached, too.
        if at % 2 == 0 {
            fs::remove_dir_all(bench.path().join("temp")).unwrap();
            fs::create_dir(bench.path().join("temp")).unwrap();
        }
        let output = with_fault(&bench, "full", at);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            break;
        }
        assert_eq!(output.status.code(), Some(1), "{at}: {stderr}");
        assert!(stderr.contains("the disk is full") && !stderr.contains("panicked"), "{at}: {stderr}");
        let (_, others) = temporary(&bench);
        assert!(others.iter().all(|path| path.ends_with("lock")), "{at}: {others:?}");
        assert!(!bench.path().join("disk.arpa").exists(), "{at}");
        at += 1 + at / 5;
    }
    assert!(at > 10, "{at}");
    finish(&bench, &whole, "after a full disk");
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 4;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_temporary_file_is_named() {
    let (bench, whole) = bench();
    let mut at = 1;
    let mut damaged = 0;
    while damaged < 2 {
        let output = with_fault(&bench, "crash", at);
        assert!(!output.status.success(), "{at}: no file was left");
        at += 2;
        let (files, _) = temporary(&bench);
        let wanted = ["run-", "grams-"][damaged];
        let Some(file) =
            files.iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with(wanted))
        else {
            continue;
        };
        flip(file, 100);
        let name = file.file_name().unwrap().to_string_lossy();
        bench.run(&arguments()).refused(1, &[&name, "damaged", "checksum", "remove it"]);
        fs::remove_file(file).unwrap();
        damaged += 1;
        if damaged == 1 {
            finish(&bench, &whole, "after a damaged run");
        }
    }
    finish(&bench, &whole, "after a damaged partition");
}
