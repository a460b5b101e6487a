//! The words of this tree: those that crates/README.md bans, the width of comments, and how a doc
//! comment begins.

use std::fs;
use std::path::{Path, PathBuf};

const WIDTH: usize = 100;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && !["target", "runs", "node_modules"].contains(&&*name) {
            files(&path, found);
        } else if ["rs", "md", "toml", "py", "sh"]
            .iter()
            .any(|end| path.extension().is_some_and(|e| e == *end))
        {
            found.push(path);
        }
    }
}

/// The phrases in quotes between the two marks.
fn banned(readme: &str) -> Vec<String> {
    let list = readme.split("<!-- banned -->").nth(1).unwrap().split("<!-- /banned -->").next().unwrap();
    let quoted = list.split('"').skip(1).step_by(2).map(str::to_lowercase);
    quoted.collect()
}

#[test]
fn comments_are_narrow_and_banned_words_are_not_written() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = fs::read_to_string(crates.join("README.md")).unwrap();
    let banned = banned(&readme);
    assert!(banned.len() >= 8, "{banned:?}");
    let (mut paths, mut wrong) = (Vec::new(), Vec::new());
    for folder in [crates, &crates.join("../scripts"), &crates.join("../configs")] {
        files(folder, &mut paths);
    }
    paths.push(crates.join("../README.md"));
    for path in &paths {
        let text = fs::read_to_string(path).unwrap();
        let is_rust = path.extension().is_some_and(|end| end == "rs");
        let (mut is_list, mut is_code) = (false, false);
        for (number, line) in (1..).zip(text.lines()) {
            let place = || format!("{}:{number}: {}", path.display(), line.trim());
            is_list = line.contains("<!-- banned -->") || is_list && !line.contains("<!-- /banned -->");
            let comment = line.trim_start();
            let lower = line.to_lowercase();
            if !is_list && banned.iter().any(|phrase| lower.contains(phrase.as_str())) {
                wrong.push(place());
            }
            let fence = comment.trim_start_matches(['/', '!']).trim_start().starts_with("```");
            is_code ^= is_rust && comment.starts_with("//") && fence;
            if is_rust && comment.starts_with("//") && !is_code {
                let has_break = comment.trim_start_matches(['/', '!', ' ']).contains(' ');
                let vague = ["What", "How", "Which", "Whose"];
                let is_doc = comment.strip_prefix("/// ").or_else(|| comment.strip_prefix("//! "));
                let first = text.lines().nth(number.max(2) - 2).unwrap_or_default().trim_start();
                let begins = is_doc.is_some() && (number == 1 || !first.starts_with(&comment[..3]));
                let word = is_doc.and_then(|doc| doc.split([' ', '.', ',']).next()).unwrap_or_default();
                if line.chars().count() > WIDTH && has_break || begins && vague.contains(&word) {
                    wrong.push(place());
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} places:\n{}", wrong.len(), wrong.join("\n"));
}
