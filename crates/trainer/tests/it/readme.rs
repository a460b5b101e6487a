//! The READMEs: their commands work, their sections exist, and their claims fit the number of
//! seeds.

use std::path::Path;

use crate::common::{Bench, repository};
use toml::{Table, Value};

const READMES: [&str; 5] =
    ["README.md", "configs/README.md", "data/README.md", "scripts/README.md", "crates/trainer/README.md"];

fn readme(name: &str) -> String {
    std::fs::read_to_string(repository(name)).unwrap()
}

/// The text below a heading.
fn section<'a>(readme: &'a str, heading: &str) -> &'a str {
    let (_, rest) =
        readme.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no «{heading}»"));
    rest.split("\n## ").next().unwrap()
}

/// The program's command lines in code blocks, split into words, without the parts that are
/// optional.
fn commands(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("    surprisal "));
    lines
        .map(|line| {
            let line = line.split(" #").next().unwrap().replace(['[', ']'], "").replace(" N", " 5");
            let mut words = Vec::new();
            for (index, part) in line.split('"').enumerate() {
                match index % 2 {
                    0 => words.extend(part.split_whitespace().map(str::to_owned)),
                    _ => words.push(part.to_owned()),
                }
            }
            words
        })
        .collect()
}

#[test]
fn every_command_is_one() {
    let commands: Vec<Vec<String>> = READMES.iter().flat_map(|name| commands(&readme(name))).collect();
    assert!(commands.len() > 30, "{}", commands.len());
    for words in commands {
        let parsed = surprisal::usage::command()
            .try_get_matches_from([&["surprisal".to_owned()], &words[..]].concat());
        if let Err(error) = parsed {
            panic!("surprisal {}: {error}", words.join(" "));
        }
        let pairs = words.windows(2).filter(|pair| pair[0] == "--set");
        let set: Vec<_> = pairs.map(|pair| surprisal_engine::config::Override::from(&pair[1])).collect();
        surprisal_engine::config::parse("README.md", "", &set).unwrap();
        for config in words.iter().filter(|word| word.starts_with("configs/")) {
            assert!(Path::new(&repository(config)).is_file(), "{config}");
        }
    }
}

#[test]
fn a_newcomer_reads_first_who_it_is_for_and_how_to_train_on_own_text() {
    let readme = readme("README.md");
    assert!(readme.len() <= 8 << 10, "{} bytes", readme.len());
    let headings: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(headings[..3], ["Two commands", "Your own text", "Results"]);
    assert!(
        readme
            .split("\n## ")
            .next()
            .unwrap()
            .contains("It is for people who train toy models on their own text")
    );
    let own = section(&readme, "Your own text");
    for part in ["cargo install --locked --path crates/trainer", "surprisal train book.txt --tui"] {
        assert!(own.contains(&format!("\n    {part} ")), "no «{part}»");
    }
    // The installed program is not used before its installation is described.
    assert!(!section(&readme, "Two commands").contains("    surprisal "));
    assert!(readme.contains("(data/README.md#words)"));
    let teaching = self::readme("data/README.md");
    let words = section(&teaching, "Words");
    for word in ["ECE", "Holm", "T,", "Kneser-Ney", "nat", "perplexity", "MLE", "Brier", "seed"] {
        let row = |line: &str| line.starts_with("| ") && line.split(" | ").next().unwrap().contains(word);
        assert!(words.lines().any(row), "no «{word}»");
    }
}

#[test]
fn pictures_are_there_and_small_and_told_in_words() {
    let readme = readme("README.md");
    let pictures: Vec<(&str, &str)> = readme
        .split("![")
        .skip(1)
        .map(|part| part.split_once("](").unwrap())
        .map(|(words, rest)| (words, rest.split(')').next().unwrap()))
        .collect();
    let paths: Vec<&str> = pictures.iter().map(|picture| picture.1).collect();
    assert_eq!(paths, ["data/pictures/terminal.svg", "data/pictures/report.png"]);
    for (words, path) in pictures {
        let size = std::fs::metadata(repository(path)).unwrap().len();
        assert!(words.len() > 100 && size < 80_000, "{path}: {size} bytes, «{words}»");
    }
}

#[test]
fn what_is_said_of_counting_does_what_it_says() {
    let bench = Bench::new();
    for (name, lines) in [("book.txt", 300), ("corpus.txt", 400), ("held-out.txt", 50)] {
        bench.text(name, lines);
    }
    bench.file("words.txt", "cat\ndog\n");
    let config = repository("configs/word_kn5.toml");
    for (words, out) in [
        (&["train", &config, "book.txt"][..], "runs/c"),
        (&["train", &config, "corpus.txt"], "runs/book"),
        (&["count", "book.txt"], "a.ngram"),
        (&["count", "corpus.txt"], "b.arpa"),
    ] {
        bench.run(&[words, &["--out", out]].concat()).succeeded();
    }
    let commands = commands(section(&readme("crates/trainer/README.md"), "Count"));
    assert!(commands.len() > 8, "{}", commands.len());
    for words in commands {
        let words: Vec<String> = words
            .iter()
            .map(|word| match word.strip_prefix("configs/") {
                Some(_) => repository(word),
                None => word.clone(),
            })
            .collect();
        bench.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).succeeded();
    }
}

/// A comparison of configs/.
fn comparison(name: &str) -> Table {
    toml::from_str(&std::fs::read_to_string(repository(&format!("configs/{name}"))).unwrap()).unwrap()
}

fn seeds(comparison: &Table) -> usize {
    comparison["compare"]["seeds"].as_array().unwrap().len()
}

/// Whether a variant is neural: then results depend on seeds.
fn is_trained(config: &Table) -> bool {
    let kind = config.get("model").and_then(|model| model.get("kind")).and_then(Value::as_str);
    kind != Some("ngram")
}

#[test]
fn comparisons_have_seeds_enough_to_show_a_difference() {
    let mut trained = 0;
    for path in crate::common::configs() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("compare_") {
            continue;
        }
        let config = comparison(&name);
        let any = config["variant"].as_array().unwrap().iter().any(|variant| {
            let variant = variant.as_table().unwrap();
            match variant.get("use").and_then(Value::as_str) {
                Some(used) => is_trained(&comparison(used)),
                None => is_trained(variant),
            }
        });
        trained += usize::from(any);
        assert!(!any || seeds(&config) >= 3, "{name} has {} seeds", seeds(&config));
    }
    assert_eq!(trained, 4);
    assert!(seeds(&comparison("compare_mle_vs_smoothing.toml")) >= 5);
}

#[test]
fn demonstrations_promise_what_their_seeds_can_show() {
    let readme = readme("data/README.md");
    let teach = section(&readme, "Teach");
    let commands = commands(teach);
    let told = |n: usize| {
        let (_, rest) = teach.split_once(&format!("\n{n}. *")).unwrap();
        rest.split(&format!("\n{}. *", n + 1)).next().unwrap()
    };
    let told: Vec<&str> = (1..=6).map(told).collect();
    assert_eq!(commands.len(), told.len());
    let mut verdicts = 0;
    for (words, told) in commands.iter().zip(told) {
        if words[0] != "compare" {
            continue;
        }
        let config = comparison(words[1].strip_prefix("configs/").unwrap());
        let given =
            words.iter().position(|word| word == "--seeds").map(|at| words[at + 1].split(',').count());
        let promises = ["better", "worse", "shown by", "tax"].iter().any(|word| told.contains(word));
        let one_seed = given.unwrap_or_else(|| seeds(&config)) == 1;
        if promises {
            assert!(!one_seed && told.contains("five seeds") && seeds(&config) == 5, "{told}");
            verdicts += 1;
        } else {
            assert!(!one_seed || told.contains("not for a verdict"), "{told}");
        }
    }
    assert_eq!(verdicts, 1);
    // The same for other comparisons: none is to be run with one seed.
    let (before, _) = readme.split_once("## Teach").unwrap();
    assert!(!before.contains("--seeds 1"), "one seed shows nothing");
}
