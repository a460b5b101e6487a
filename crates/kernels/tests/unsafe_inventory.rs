//! Checks that UNSAFE.md lists every file with `unsafe`, with its count and reason.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// In two parts, so that this file does not count itself.
const WORD: &str = concat!("un", "safe ");

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Number of blocks, functions and implementations that start with the keyword.
fn count(text: &str) -> usize {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or(""));
    let openings = ["{", "fn ", "impl ", "impl<", "extern "];
    code.flat_map(|line| line.match_indices(WORD).map(move |(at, word)| &line[at + word.len()..]))
        .filter(|rest| openings.iter().any(|opening| rest.starts_with(opening)))
        .count()
}

#[test]
fn the_inventory_is_complete() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    sources(&root.join("crates"), &mut files);
    assert!(files.len() > 50, "{files:?}");
    let mut found = BTreeMap::new();
    for file in files {
        let count = count(&std::fs::read_to_string(&file).unwrap());
        if count > 0 {
            let name = file.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
            found.insert(name, count);
        }
    }
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("UNSAFE.md")).unwrap();
    let mut listed = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| crates/")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert!(cells.len() == 3 && cells[2].len() > 20, "a row without a reason: {row}");
        listed.insert(cells[0].to_owned(), cells[1].parse::<usize>().unwrap());
    }
    assert_eq!(found, listed, "the code (left) and UNSAFE.md (right) differ");
}
