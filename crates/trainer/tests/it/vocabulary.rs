//! Vocabularies of words: rare words teach `<unk>`, runs of earlier versions keep all words, and
//! `count` counts as if the other words were written `<unk>`.

use std::collections::BTreeMap;

use crate::common::{Bench, Ran, repository};
use serde_json::Value;

/// Lines of words; by Zipf's law the word of rank r is drawn with a probability near 1/r.
fn zipf(lines: usize, mut state: u64) -> String {
    let mut word = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let uniform = (state >> 11) as f64 / (1_u64 << 53) as f64;
        format!("w{:.0}", (uniform * 4000_f64.ln()).exp().floor())
    };
    (0..lines).map(|_| format!("{} {} {} {}\n", word(), word(), word(), word())).collect()
}

const SMALL: &str = "[data]\nunit = \"line\"\nval = [\"b.txt\"]\n[tokenizer]\nkind = \"word\"\n[model]\nkind = \"bigram\"\n[optim]\nlr = 0.1\nwarmup = 0\n\
    [train]\nsteps = 60\nbatch_size = 16\nblock_size = 16\nshards = 1\n[eval]\nevery_epochs = 0\nevery_steps = 30\n[sample]\ntokens = 0\n";

fn bench() -> Bench {
    let bench = Bench::new();
    bench.file("a.txt", zipf(800, 7));
    bench.file("b.txt", zipf(100, 8));
    bench.file("c.toml", SMALL);
    bench
}

fn train(bench: &Bench, config: &str, out: &str, sets: &[&str]) -> Ran {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let arguments = ["train", config, "a.txt", "--out", out, "--json"];
    bench.run(&arguments.into_iter().chain(sets).collect::<Vec<_>>()).succeeded()
}

/// The hashes of the files of a run's model.
fn model(bench: &Bench, run: &str) -> Value {
    let bytes = std::fs::read(bench.path().join(run).join("model/manifest.json")).unwrap();
    serde_json::from_slice::<Value>(&bytes).unwrap()["parts"].take()
}

fn read(bench: &Bench, name: &str) -> String {
    std::fs::read_to_string(bench.path().join(name)).unwrap()
}

fn number(value: &Value, key: &str) -> f64 {
    value["eval"][key].as_f64().unwrap()
}

#[test]
fn words_that_occur_once_teach_what_an_unknown_word_costs() {
    let bench = bench();
    let taught = train(&bench, "c.toml", "taught", &[]);
    let untaught = train(&bench, "c.toml", "untaught", &["tokenizer.min_count=1"]);
    let (with, without) = (taught.result(), untaught.result());
    // The constant of a token that is never a target grows with training; a learned one does not.
    let including = "perplexity_including_oov";
    assert!(number(&with, including) < 0.3 * number(&without, including), "{with}\n{without}");
    for result in [&with, &without] {
        assert!(number(result, "oov") > 0.0 && number(result, "perplexity_excluding_oov").is_finite());
    }

    let text = read(&bench, "a.txt");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for word in text.split_whitespace() {
        *counts.entry(word).or_default() += 1;
    }
    let once = counts.values().filter(|&&count| count == 1).count();
    let note = format!(
        "{once} of {} different words occur once, ",
        surprisal_engine::wording::thousands(counts.len() as u64)
    );
    assert!(
        taught.stderr.contains(&note) && taught.stderr.contains("tokenizer.min_count = 1 keeps them"),
        "{}",
        taught.stderr
    );
    assert!(untaught.stderr.contains("the training text has no <unk>"), "{}", untaught.stderr);
    assert!(!taught.stderr.contains("has no <unk>") && !untaught.stderr.contains("occur once"));
    for ran in [&taught, &untaught] {
        for part in ["w/o <unk>", "% of the validation tokens", "perplexity without them ", " % of the loss"]
        {
            assert!(ran.stderr.contains(part), "no «{part}» in {}", ran.stderr);
        }
        let epochs: Vec<Value> = ran.events().into_iter().filter(|event| event["event"] == "epoch").collect();
        assert!(
            epochs.len() == 2 && epochs.iter().all(|epoch| number(epoch, "perplexity_excluding_oov") > 1.0)
        );
    }
    // The evaluation of a run says the same as its end.
    for (run, result) in [("taught", &with), ("untaught", &without)] {
        let eval = bench.run(&["eval", run, "--json"]).succeeded();
        assert_eq!(eval.result()["eval"], result["eval"]);
        let shown = bench.run(&["eval", run]).succeeded().stdout;
        assert_eq!(shown.contains("; the model has not learned <unk>"), run == "untaught", "{shown}");
    }
    // The config of the run has the number, so that it comes again where the rule would not apply.
    let config = read(&bench, "taught/config.toml");
    assert!(config.contains("\nmin_count = 2\n"), "{config}");
    train(&bench, "taught/config.toml", "again", &[]);
    assert_eq!(model(&bench, "again"), model(&bench, "taught"));
}

#[test]
fn a_run_of_an_earlier_version_keeps_all_words() {
    let bench = bench();
    // Neural runs have checkpoints, counted runs have none.
    for (run, sets) in [("net", &[][..]), ("counted", &["model.kind=ngram", "model.order=2"])] {
        train(&bench, "c.toml", run, &[sets, &["tokenizer.min_count=1", "data.reader=1"]].concat());
        let expected = model(&bench, run);
        let config = read(&bench, &format!("{run}/config.toml"));
        let earlier = config.replace("min_count = 1\n", "").replace("reader = 1\n", "");
        assert_ne!(config, earlier);
        bench.file(&format!("{run}/config.toml"), &earlier);
        let vocab_size = |run: &str| {
            let tokenizer: Value =
                serde_json::from_str(&read(&bench, &format!("{run}/tokenizer.json"))).unwrap();
            tokenizer["model"]["vocab"].as_object().unwrap().len()
        };
        let ran = train(&bench, &format!("{run}/config.toml"), &format!("{run}-again"), &[]);
        assert!(!ran.stderr.contains("occur once"), "{}", ran.stderr);
        assert_eq!(model(&bench, &format!("{run}-again")), expected);
        let other = format!("{run}-other");
        train(&bench, "c.toml", &other, sets);
        assert!(vocab_size(&other) < vocab_size(run));
        for command in ["eval", "report"] {
            bench.run(&[command, run]).succeeded();
        }
        // As after a kill before the last event.
        let events = read(&bench, &format!("{run}/metrics.jsonl"));
        let events: Vec<&str> =
            events.lines().filter(|line| !line.contains("\"event\":\"result\"")).collect();
        bench.file(&format!("{run}/metrics.jsonl"), events.join("\n") + "\n");
        bench.run(&["train", "--resume", "--out", run]).succeeded();
        assert_eq!(model(&bench, run), expected);
    }
}

#[test]
fn a_config_chooses_words_by_number_size_and_list() {
    let bench = bench();
    bench.file("list.txt", "w1\t99\nw2\nnever\nw1\n</s>\n");
    let size = |sets: &[&str]| {
        let out = format!("run{}", bench.entries().len());
        train(&bench, "c.toml", &out, &[sets, &["train.steps=1"]].concat());
        let inspected = bench.run(&["inspect", &out, "--json"]).succeeded().result();
        (inspected["vocab_size"].as_u64().unwrap(), read(&bench, &format!("{out}/config.toml")))
    };
    let (limited, config) = size(&["tokenizer.vocab_size=50"]);
    assert_eq!(limited, 50);
    assert!(config.contains("\nmin_count = 1\n"), "{config}");
    assert_eq!(size(&["tokenizer.vocab=list.txt"]).0, 3 + 2);
    let (frequent, rare) = (size(&["tokenizer.min_count=9"]).0, size(&["tokenizer.min_count=3"]).0);
    assert!(3 < frequent && frequent < rare && rare < size(&[]).0);
    assert_eq!(size(&["tokenizer.min_count=9", "tokenizer.vocab=list.txt", "tokenizer.vocab_size=4"]).0, 4);
    // Another kind of tokenizer starts without them.
    bench.file("c.toml", SMALL.replace("\"word\"\n", "\"word\"\nmin_count = 5\n"));
    let ran = train(&bench, "c.toml", "chars", &["tokenizer.kind=char"]);
    assert!(
        ran.stderr.contains("tokenizer.min_count = 5 gives way to --set tokenizer.kind=char"),
        "{}",
        ran.stderr
    );
    let ran = train(&bench, "c.toml", "words", &["tokenizer.kind=word"]);
    assert!(
        !ran.stderr.contains("gives way") && ran.stderr.contains("different words are in the vocabulary")
    );

    let refused = |set: &str, parts: &[&str]| {
        bench
            .run(&["train", "c.toml", "a.txt", "--set", set])
            .refused(if set.contains(".txt") { 1 } else { 2 }, parts);
    };
    bench.file("wrong.txt", "a\nb c\n");
    refused(
        "tokenizer.vocab=wrong.txt",
        &["tokenizer.vocab: wrong.txt:2 has more than one word", "one per line"],
    );
    refused("tokenizer.vocab=nowhere.txt", &["tokenizer.vocab: ", "nowhere.txt"]);
    refused("tokenizer.vocab_size=3", &["tokenizer.vocab_size is too small", "<unk>, <s>, </s>"]);
    refused("tokenizer.min_count=0", &["tokenizer.min_count is 0"]);
    bench
        .run(&["train", "c.toml", "a.txt", "--set", "tokenizer.vocab=list.txt", "--out", "list.txt"])
        .refused(1, &["list.txt"]);
}

#[test]
fn numbers_to_compare_with_kenlm_need_all_words() {
    let bench = bench();
    let ran = train(&bench, &repository("configs/word_kn5.toml"), "kn", &[]);
    assert!(
        !ran.stderr.contains("occur once") && ran.stderr.contains("the training text has no <unk>"),
        "{}",
        ran.stderr
    );
    assert!(read(&bench, "kn/config.toml").contains("\nmin_count = 1\n"));
    let words: std::collections::BTreeSet<String> =
        zipf(800, 7).split_whitespace().map(str::to_owned).collect();
    bench.run(&["count", "a.txt", "--order", "2", "--out", "m.arpa"]).succeeded();
    assert!(read(&bench, "m.arpa").contains(&format!("\nngram 1={}\n", words.len() + 3)));
}

#[test]
fn counts_are_those_of_a_text_in_which_other_words_are_unk() {
    let bench = bench();
    let text = read(&bench, "a.txt");
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (at, word) in text.split_whitespace().enumerate() {
        counts.entry(word).or_insert((0, at)).0 += 1;
    }
    let mut ranked: Vec<(&str, (usize, usize))> = counts.clone().into_iter().collect();
    ranked.sort_by_key(|&(_, (count, first))| (std::cmp::Reverse(count), first));
    let frequent: Vec<&str> = ranked.iter().take(40 - 3).map(|&(word, _)| word).collect();
    let listed: Vec<&str> = counts.keys().copied().step_by(3).collect();
    bench.file("list.txt", listed.iter().rev().map(|word| format!("{word}\t7\n")).collect::<String>());
    let count = |text: &str, more: &[&str], out: &str| {
        let arguments = [
            "count",
            text,
            "--order",
            "3",
            "--out",
            &format!("{out}.arpa"),
            "--out",
            &format!("{out}.counts"),
        ];
        bench.run(&[&arguments[..], more].concat()).succeeded();
        ["arpa", "counts"].map(|suffix| std::fs::read(bench.path().join(format!("{out}.{suffix}"))).unwrap())
    };
    let often = counts.keys().copied().filter(|word| counts[word].0 >= 3).collect();
    for (flags, kept) in
        [(["--min-count", "3"], often), (["--vocab-size", "40"], frequent), (["--vocab", "list.txt"], listed)]
    {
        let is_kept = |word| kept.contains(&word);
        let lines = text.lines().map(|line| {
            let words = line.split(' ').map(|word| if is_kept(word) { word } else { "<unk>" });
            words.collect::<Vec<_>>().join(" ") + "\n"
        });
        bench.file("replaced.txt", lines.collect::<String>());
        let expected = count("replaced.txt", &[], "plain");
        for threads in ["1", "2", "3", "4"] {
            assert!(
                count("a.txt", &[&flags[..], &["--threads", threads]].concat(), "m") == expected,
                "{flags:?} {threads}"
            );
        }
        // What nothing teaches is said where unknown words are counted.
        bench.file("new.txt", "w1 never w2\n");
        let eval = bench.run(&["eval", "m.arpa", "new.txt"]).succeeded();
        assert!(
            !eval.stdout.contains("not learned") && eval.stdout.contains("(25.00 %)\n"),
            "{}",
            eval.stdout
        );
    }
    count("a.txt", &[], "all");
    let eval = bench.run(&["eval", "all.arpa", "new.txt"]).succeeded();
    assert!(eval.stdout.contains("(25.00 %); the model has not learned <unk>"), "{}", eval.stdout);

    // A list is the same for all parts of a text; numbers of occurrences are not.
    let whole = count("a.txt", &["--vocab", "list.txt"], "whole");
    for shard in ["1/3", "2/3", "3/3"] {
        let part = format!("{}.counts", &shard[..1]);
        let arguments = ["count", "a.txt", "--order", "3", "--shard", shard, "--out", &part];
        bench.run(&[&arguments[..], &["--vocab", "list.txt"]].concat()).succeeded();
        for flag in [["--min-count", "2"], ["--vocab-size", "9"]] {
            bench.run(&[&arguments[..], &flag].concat()).refused(2, &["whole text", "--vocab"]);
        }
    }
    bench
        .run(&["merge", "1.counts", "2.counts", "3.counts", "--out", "merged.counts", "--out", "merged.arpa"])
        .succeeded();
    let merged = ["arpa", "counts"]
        .map(|suffix| std::fs::read(bench.path().join(format!("merged.{suffix}"))).unwrap());
    assert!(merged == whole);
}

#[test]
fn lists_that_cannot_be_used_are_refused() {
    let bench = bench();
    let count = ["count", "a.txt", "--order", "2", "--out", "m.counts"];
    let refused = |more: &[&str], code: i32, parts: &[&str]| {
        bench.run(&[&count[..], more].concat()).refused(code, parts);
        assert!(!bench.path().join("m.counts").exists());
    };
    bench.file("wrong.txt", "a\n\n\t3\n");
    refused(&["--vocab", "wrong.txt"], 1, &["wrong.txt:3 has no word before the tab", "hint"]);
    bench.file("wrong.txt", b"a\nb\xFF\n");
    refused(&["--vocab", "wrong.txt"], 1, &["wrong.txt:2 is not valid UTF-8"]);
    bench.file("wrong.txt", "<unk>\n");
    refused(&["--vocab", "wrong.txt"], 1, &["wrong.txt lists no word"]);
    refused(&["--vocab", "nowhere.txt"], 1, &["--vocab: ", "nowhere.txt"]);
    refused(&["--vocab-size", "3"], 2, &["--vocab-size: ", "no room for words"]);
    refused(&["--min-count", "0"], 2, &["--min-count"]);
    for flag in [["--min-count", "2"], ["--vocab-size", "9"], ["--vocab", "a.txt"]] {
        refused(
            &[&["--tokenizer", "char"][..], &flag].concat(),
            2,
            &[flag[0], "has no effect with --tokenizer char"],
        );
    }
    bench.file("list.counts", "w1\n");
    bench
        .run(&["count", "a.txt", "--out", "list.counts", "--vocab", "list.counts"])
        .refused(2, &["list.counts"]);
    assert_eq!(read(&bench, "list.counts"), "w1\n");
}
