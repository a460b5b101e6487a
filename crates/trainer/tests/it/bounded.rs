//! Counting in bounded memory: the bytes of counting in memory.

use std::fs;

use crate::common::{Bench, Ran};

/// Lines of invented words, of which few are frequent, with phrases that are said again.
pub(crate) fn text(lines: usize) -> String {
    let mut state = 1_u32;
    let mut pick = |n: f64| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((f64::from(state >> 8) / f64::from(1 << 24)).powi(3) * n) as usize
    };
    let mut said: Vec<String> = Vec::new();
    for _ in 0..lines {
        let words = (0..=pick(9.0)).map(|_| format!("w{}", pick(700.0)));
        let mut line = words.collect::<Vec<_>>().join(" ");
        if !said.is_empty() && pick(3.0) == 0 {
            line = format!("{line} {}", said[pick(said.len() as f64)]);
        }
        line.truncate(line.char_indices().nth(200).map_or(line.len(), |(at, _)| at));
        said.push(line);
    }
    said.join("\n") + "\n"
}

fn run(bench: &Bench, line: &str) -> Ran {
    bench.run(&line.split_whitespace().collect::<Vec<_>>())
}

/// Counts in memory and in 400 KiB, and compares the files.
fn assert_same(bench: &Bench, what: &str, formats: &[&str]) {
    let log = spilled(bench, what, formats);
    assert!(log.contains("sorted, merged"), "{what}: {log}");
}

/// As [`assert_same`]; gives the log of the second.
fn spilled(bench: &Bench, what: &str, formats: &[&str]) -> String {
    let out = |name: &str| formats.iter().map(|format| format!("--out {name}.{format} ")).collect::<String>();
    run(bench, &format!("count a.txt {what} {}", out("memory"))).succeeded();
    let spilled = run(bench, &format!("count a.txt {what} {} -S 400K -T temp", out("disk"))).succeeded();
    for format in formats {
        let [memory, disk] = ["memory", "disk"].map(|name| {
            let path = bench.path().join(format!("{name}.{format}"));
            let bytes = fs::read(&path).unwrap();
            fs::remove_file(path).unwrap();
            bytes
        });
        assert!(memory == disk, "{what}: .{format}");
    }
    assert_eq!(fs::read_dir(bench.path().join("temp")).unwrap().count(), 0, "{what}: left temporary files");
    spilled.stderr
}

fn bench() -> Bench {
    let bench = Bench::new();
    bench.file("a.txt", text(4000));
    fs::create_dir(bench.path().join("temp")).unwrap();
    bench
}

#[test]
fn every_order_and_format_has_the_bytes_of_memory() {
    let bench = bench();
    for order in 2..=6 {
        assert_same(&bench, &format!("-o {order}"), &["arpa", "ngram", "counts", "tsv"]);
    }
    for unit in ["line", "stream"] {
        for kind in ["char", "byte", "word"] {
            let what = format!("-o 4 --tokenizer {kind} --unit {unit}");
            assert_same(&bench, &what, &["arpa", "ngram", "counts"]);
        }
    }
    assert_same(&bench, "-o 3 --shard 2/3", &["counts", "tsv"]);
}

#[test]
fn single_words_are_counted_with_the_vocabulary() {
    let bench = bench();
    for what in [
        "",
        "--tokenizer char --unit stream",
        "--tokenizer byte",
        "--smoothing katz --prune-entropy 1e-5",
        "--prune 1 --min-count 2",
        "--compat kenlm",
    ] {
        let what = format!("-o 1 {what}");
        let log = spilled(&bench, &what, &["arpa", "ngram", "counts", "tsv"]);
        assert!(!log.contains("sorted, merged"), "{what}: {log}");
    }
    run(&bench, "count a.txt -o 1 --out m.arpa -S 10K -T temp").refused(2, &["so far need", "words"]);
    run(&bench, "count a.txt -o 1 --tune --out m.arpa -S 50K -T temp")
        .refused(2, &["held-out", "the limit is"]);
}

#[test]
fn every_smoother_that_backs_off_has_the_bytes_of_memory() {
    let bench = bench();
    for smoothing in
        ["mle", "witten_bell", "dirichlet", "absolute", "kneser_ney", "modified_kneser_ney", "katz"]
    {
        assert_same(&bench, &format!("-o 4 --smoothing {smoothing}"), &["arpa", "ngram"]);
    }
    assert_same(&bench, "-o 4 --smoothing add_k", &["ngram"]);
    assert_same(&bench, "-o 4 --smoothing stupid_backoff", &["ngram"]);
    for settings in [
        "--prune 0,0,1",
        "--prune 1",
        "--smoothing absolute --prune 0,2",
        "--compat kenlm",
        "--min-count 3",
        "--vocab-size 100",
        "--closed",
        "--min-count 2 --no-interpolate-unigrams",
        "--fallback 0.4,0.8,1.2",
    ] {
        assert_same(&bench, &format!("-o 5 {settings}"), &["arpa", "ngram", "counts"]);
    }
}

#[test]
fn quantised_models_have_the_bytes_of_memory() {
    let bench = bench();
    for (smoothing, settings) in [
        ("modified_kneser_ney", "--quantize 4"),
        ("modified_kneser_ney", "--quantize 12 --prune 0,0,1"),
        ("witten_bell", "--quantize 3"),
        ("add_k", "--quantize 2"),
        ("stupid_backoff", "--quantize 2"),
    ] {
        assert_same(&bench, &format!("-o 4 --smoothing {smoothing} {settings}"), &["ngram"]);
    }
    assert_same(&bench, "-o 3 --unit stream --tokenizer char --quantize 5", &["ngram", "arpa"]);
    assert_same(&bench, "-o 2 --unit stream --tokenizer byte --smoothing katz", &["ngram", "arpa"]);
}

#[test]
fn a_trained_model_has_the_bytes_of_memory() {
    let bench = bench();
    for settings in [
        "--set model.order=4 --set model.smoothing=modified_kneser_ney --set tokenizer.kind=word",
        "--set model.order=5 --set model.smoothing=witten_bell --set model.prune_entropy=0",
        "--set model.order=1 --set tokenizer.kind=byte",
    ] {
        let line = format!("train a.txt --set model.kind=ngram {settings}");
        run(&bench, &format!("{line} --out memory")).succeeded();
        let spilled = run(&bench, &format!("{line} --out disk -S 600K -T temp")).succeeded();
        assert_eq!(
            spilled.stderr.contains("sorted, merged"),
            !settings.contains("order=1"),
            "{}",
            spilled.stderr
        );
        let file = |run: &str, name: &str| fs::read(bench.path().join(run).join(name)).unwrap();
        for name in ["model/model.ngram", "model/config.json", "tokenizer.json", "config.toml"] {
            assert!(file("memory", name) == file("disk", name), "{settings}: {name}");
        }
        let [memory, disk] = ["memory", "disk"].map(|run| {
            let log = String::from_utf8(file(run, "metrics.jsonl")).unwrap();
            let events: Vec<serde_json::Value> =
                log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            // The sample; and the last line, which has times, too.
            (events[4].clone(), events[5]["eval"].clone())
        });
        assert!(memory == disk && memory.1["tokens"].is_u64(), "{settings}: {memory:?} {disk:?}");
        assert_eq!(fs::read_dir(bench.path().join("temp")).unwrap().count(), 0, "{settings}");
        for run in ["memory", "disk"] {
            fs::remove_dir_all(bench.path().join(run)).unwrap();
        }
    }
    run(&bench, "train a.txt --set model.kind=ngram --set model.smoothing=jelinek_mercer -S 300K -T temp")
        .refused(2, &["held-out", "the limit is"]);
    run(&bench, "train a.txt -S 300K").refused(2, &["--memory", "n-grams"]);
}

#[test]
fn hundreds_of_parts_are_merged_in_groups() {
    let bench = bench();
    bench.file("a.txt", text(100_000));
    for unit in ["line", "stream"] {
        let log = spilled(&bench, &format!("-o 3 --unit {unit} --tokenizer char"), &["arpa", "counts"]);
        let parts =
            log.split_once(" parts, sorted, merged").unwrap().0.rsplit(' ').next().unwrap().to_owned();
        assert!(parts.parse::<usize>().unwrap() > 100, "{log}");
    }
    // Killed at some moments, it finds groups to go on from.
    let line = "count a.txt -o 3 --tokenizer char --out m.arpa -S 400K -T temp";
    let mut groups = 0;
    for at in [500, 500] {
        let mut command = bench.command(&line.split_whitespace().collect::<Vec<_>>());
        assert!(!command.env("SURPRISAL_FAULT", format!("crash:{at}")).output().unwrap().status.success());
        let folders = fs::read_dir(bench.path().join("temp")).unwrap().map(|entry| entry.unwrap().path());
        let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap());
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        groups += files.map(name).filter(|name| name.starts_with("group-")).count();
    }
    assert!(groups > 0, "no group was merged");
    assert_same(&bench, "-o 3 --tokenizer char", &["arpa"]);
}

#[test]
fn what_needs_all_ngrams_in_memory_says_so() {
    let bench = bench();
    for (settings, why) in [
        ("--smoothing katz --quantize 8 --out m.ngram", "Katz"),
        ("--smoothing jelinek_mercer", "held-out"),
        ("--tune", "held-out"),
        ("--prune-entropy 1e-5", "entropy"),
    ] {
        let line = format!("count a.txt {settings} --out m.arpa -S 200K -T temp");
        run(&bench, &line).refused(2, &["the limit is", "in memory", why]);
    }
    run(&bench, "count a.txt --out m.arpa -S 50K -T temp")
        .refused(2, &["needs at least", "words", "bytes each", "--memory", "--min-count", "--vocab-size"]);
    run(&bench, "count a.txt --out m.arpa -S 10K -T temp")
        .refused(2, &["so far need", "words", "bytes each", "--memory", "--min-count", "--vocab-size"]);
    assert!(!bench.path().join("m.arpa").exists());
}

#[test]
fn merged_parts_have_the_bytes_of_memory() {
    let bench = bench();
    for part in 1..=4 {
        run(&bench, &format!("count a.txt -o 4 --shard {part}/4 --out p{part}.counts")).succeeded();
    }
    run(&bench, "count a.txt -o 4 --unit stream --tokenizer char --out c.counts").succeeded();
    bench.file("b.txt", text(3000).replace("w1", "new"));
    run(&bench, "count b.txt -o 4 --unit stream --tokenizer char --out d.counts").succeeded();
    let parts = "p1.counts p2.counts p3.counts p4.counts";
    for (what, formats, memory) in [
        (parts, &["arpa", "ngram", "counts", "tsv"][..], "700K"),
        (&format!("{parts} --smoothing absolute --prune 0,1"), &["arpa", "ngram", "counts"], "700K"),
        ("p3.counts p1.counts --sum --smoothing witten_bell", &["arpa", "counts"], "700K"),
        (&format!("{parts} --smoothing jelinek_mercer"), &["arpa", "ngram"], "700K"),
        ("c.counts d.counts --sum", &["arpa", "ngram", "counts"], "150K"),
    ] {
        let out =
            |name: &str| formats.iter().map(|format| format!("--out {name}.{format} ")).collect::<String>();
        run(&bench, &format!("merge {what} {}", out("memory"))).succeeded();
        let spilled = run(&bench, &format!("merge {what} {} -S {memory} -T temp", out("disk"))).succeeded();
        assert!(spilled.stderr.contains("sorted, merged"), "{what}: {}", spilled.stderr);
        for format in formats {
            let [memory, disk] = ["memory", "disk"]
                .map(|name| fs::read(bench.path().join(format!("{name}.{format}"))).unwrap());
            assert!(memory == disk, "{what}: .{format}");
        }
        assert_eq!(fs::read_dir(bench.path().join("temp")).unwrap().count(), 0, "{what}");
    }
    let mut bytes = fs::read(bench.path().join("p2.counts")).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    bench.file("p2.counts", bytes);
    run(&bench, &format!("merge {parts} --out m.arpa -S 700K -T temp"))
        .refused(1, &["p2.counts", "checksum"]);
}
