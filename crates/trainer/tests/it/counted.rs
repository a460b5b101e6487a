//! N-gram models on the command line: count, merge, export, evaluate, and unusual texts.

use crate::common::Bench;

fn bench() -> Bench {
    let bench = Bench::new();
    bench.text("a.txt", 200);
    bench.text("b.txt", 40);
    bench
}

fn nats(bench: &Bench, model: &str) -> f64 {
    let result = bench.run(&["eval", model, "b.txt", "--json"]).succeeded().result();
    result["eval"]["nats_per_token"].as_f64().unwrap()
}

#[test]
fn one_model_in_every_format_gives_one_number() {
    let bench = bench();
    let counted =
        bench.run(&["count", "a.txt", "--order", "3", "--out", "m.arpa", "--out", "m.ngram", "--json"]);
    let result = counted.succeeded().result();
    assert_eq!(result["written"].as_array().unwrap().len(), 2);
    let exact = nats(&bench, "m.ngram");
    // An ARPA file has 32-bit logarithms.
    assert!((nats(&bench, "m.arpa") - exact).abs() < 1e-6);
    bench.run(&["export", "m.ngram", "--out", "again.arpa"]).succeeded();
    let read = |name: &str| std::fs::read(bench.path().join(name)).unwrap();
    assert_eq!(read("again.arpa"), read("m.arpa"));
    bench.run(&["export", "m.arpa", "--out", "back.ngram"]).succeeded();
    assert_eq!(nats(&bench, "back.ngram"), nats(&bench, "m.arpa"));

    // A run of the same model gives the same numbers, and can be exported.
    let mut train = vec!["train", "a.txt", "--out", "run", "--set", "data.unit=line"];
    for set in
        ["tokenizer.kind=word", "model.kind=ngram", "model.order=3", "model.smoothing=modified_kneser_ney"]
    {
        train.extend(["--set", set]);
    }
    bench.run(&train).succeeded();
    bench.run(&["export", "run", "--format", "arpa", "--out", "run.arpa"]).succeeded();
    assert!((nats(&bench, "run") - nats(&bench, "run.arpa")).abs() < 1e-6);
    bench.run(&["sample", "m.arpa", "--tokens", "20"]).succeeded();
    bench.run(&["inspect", "m.ngram"]).succeeded();
}

/// An ∞-gram is a model like any other.
#[test]
fn a_model_without_an_order_has_every_use_of_one() {
    let bench = bench();
    for (tokenizer, unit) in [("word", "line"), ("char", "stream"), ("byte", "stream")] {
        let set = |key: &str, value: &str| format!("{key}={value}");
        let (kind, unit) = (set("tokenizer.kind", tokenizer), set("data.unit", unit));
        let train = ["train", "a.txt", "--out", "run", "--set", "model.kind=infinigram", "--set", &kind];
        bench.run(&[&train[..], &["--set", &unit]].concat()).succeeded();
        bench.run(&["export", "run", "--out", "m.infgram"]).succeeded();
        assert_eq!(nats(&bench, "m.infgram"), nats(&bench, "run"));
        // What one thread says, all say.
        let one = bench.run(&["eval", "run", "b.txt", "--json", "--threads", "1"]).succeeded().result();
        assert_eq!(one["eval"]["nats_per_token"], nats(&bench, "run"));
        for use_of in [
            &["sample", "m.infgram", "--tokens", "30"][..],
            &["score", "m.infgram", "b.txt"],
            &["explain", "m.infgram", "--text", "the"],
            &["inspect", "run"],
            &["eval", "run", "b.txt", "--adapt"],
            &["compress", "m.infgram", "a.txt", "--out", "a.sup"],
            &["decompress", "m.infgram", "a.sup", "--out", "back.txt"],
        ] {
            bench.run(use_of).succeeded();
        }
        let read = |name: &str| std::fs::read(bench.path().join(name)).unwrap();
        assert_eq!(read("back.txt"), read("a.txt"));
        // Beside a model of n-grams, by context.
        bench
            .run(&[
                "train",
                "a.txt",
                "--out",
                "kn",
                "--set",
                "model.kind=ngram",
                "--set",
                &kind,
                "--set",
                &unit,
            ])
            .succeeded();
        let mix = ["mix", "run", "kn", "--heldout", "b.txt", "--by-context", "--out", "mixed"];
        bench.run(&mix).succeeded();
        assert!(nats(&bench, "mixed") < nats(&bench, "run").min(nats(&bench, "kn")) + 1e-6);
        for made in ["run", "kn", "mixed"] {
            std::fs::remove_dir_all(bench.path().join(made)).unwrap();
        }
        for made in ["m.infgram", "a.sup", "back.txt"] {
            std::fs::remove_file(bench.path().join(made)).unwrap();
        }
    }
    bench.run(&["export", "b.txt", "--out", "x.infgram"]).refused(1, &["b.txt"]);
}

#[test]
fn shards_merge_to_the_bytes_of_the_whole() {
    let bench = bench();
    for tokenizer in ["word", "char"] {
        let whole = ["count", "a.txt", "--order", "4", "--tokenizer", tokenizer, "--out"];
        let count = |more: &[&str]| bench.run(&[&whole[..], more].concat()).succeeded();
        count(&["whole.counts", "--out", "whole.arpa"]);
        for shard in ["1/3", "2/3", "3/3"] {
            count(&[&format!("{}.counts", &shard[..1]), "--shard", shard]);
        }
        let parts = ["1.counts", "2.counts", "3.counts"];
        bench
            .run(&[&["merge"], &parts[..], &["--out", "merged.counts", "--out", "merged.arpa"]].concat())
            .succeeded();
        let read = |name: &str| std::fs::read(bench.path().join(name)).unwrap();
        if tokenizer == "word" {
            assert_eq!(read("merged.counts"), read("whole.counts"));
            assert_eq!(read("merged.arpa"), read("whole.arpa"));
        } else {
            // Characters of a part are numbered by code point, and a merge keeps the order of
            // parts.
            assert_eq!(read("merged.counts").len(), read("whole.counts").len());
        }
    }
}

#[test]
fn counting_says_what_it_does_unless_it_is_to_be_quiet() {
    let bench = bench();
    let count = ["count", "a.txt", "--order", "3", "--out", "m.ngram", "--out", "m.counts"];
    for more in [&[][..], &["--json"], &["--tune"]] {
        let ran = bench.run(&[&count[..], more].concat()).succeeded();
        let mut phases = vec!["reading", "counting", "writing counts", "estimating", "writing"];
        if more.contains(&"--tune") {
            // Before the token ids are replaced by the counts of the whole text.
            phases.insert(1, "counting all but the held-out tokens");
        }
        // Each line has seconds and a name.
        let mut told = ran.stderr.lines().filter_map(|line| {
            let (seconds, phase) = line.split_once(" s: ")?;
            seconds.parse::<f64>().ok().map(|seconds| (seconds, phase))
        });
        let (seconds, names): (Vec<f64>, Vec<&str>) = told.by_ref().unzip();
        assert_eq!(names, phases, "{}", ran.stderr);
        assert!(seconds.is_sorted(), "{}", ran.stderr);
    }
    assert_eq!(bench.run(&[&count[..], &["--quiet"]].concat()).succeeded().stderr, "");
    let merged = bench.run(&["merge", "m.counts", "--out", "n.ngram"]).succeeded().stderr;
    assert!(
        ["reading counts", "merging", "estimating", "writing"].iter().all(|phase| merged.contains(phase))
    );
}

#[test]
fn a_flag_of_count_is_the_setting_of_a_run() {
    let bench = bench();
    bench.run(&["count", "a.txt", "--order", "3", "--out", "a.counts"]).succeeded();
    // A flag, the settings of a run, and whether counts alone are enough.
    for (flags, settings, can_merge) in [
        ("--closed", "closed=true", true),
        ("--smoothing add_k --k 0.01", "smoothing=add_k k=0.01", true),
        ("--smoothing dirichlet --alpha 3,1", "smoothing=dirichlet alpha=[3.0,1.0]", true),
        ("--fallback 0.1,0.2,0.3", "fallback=[0.1,0.2,0.3]", true),
        ("--no-interpolate-unigrams", "interpolate_unigrams=false", true),
        ("--prune-entropy 0.01", "prune_entropy=0.01", true),
        ("--prune 3 5", "prune=[3,5]", true),
        ("--tune --heldout 0.3", "tune=true heldout=0.3", false),
    ] {
        let plain = "smoothing=modified_kneser_ney order=3";
        let sets: Vec<String> =
            plain.split(' ').chain(settings.split(' ')).map(|set| format!("model.{set}")).collect();
        let mut train = vec!["train", "a.txt", "--out", "run", "--set", "data.unit=line"];
        for set in ["tokenizer.kind=word", "data.val=[\"b.txt\"]", "model.kind=ngram"]
            .into_iter()
            .chain(sets.iter().map(String::as_str))
        {
            train.extend(["--set", set]);
        }
        bench.run(&train).succeeded();
        let flags: Vec<&str> = flags.split(' ').collect();
        let line = ["count", "a.txt", "--order", "3", "--out", "m.ngram"];
        bench.run(&[&line[..], &flags[..]].concat()).succeeded();
        let of_run = nats(&bench, "run");
        assert_eq!(nats(&bench, "m.ngram"), of_run, "{flags:?}");
        bench.run(&[&line[..], &["--smoothing", "witten_bell"]].concat()).succeeded();
        assert!(nats(&bench, "m.ngram") != of_run, "{flags:?} change nothing");
        if can_merge {
            bench.run(&[&["merge", "a.counts", "--out", "m.ngram"][..], &flags[..]].concat()).succeeded();
            assert_eq!(nats(&bench, "m.ngram"), of_run, "merge {flags:?}");
        }
        std::fs::remove_dir_all(bench.path().join("run")).unwrap();
    }
}

#[test]
fn a_written_model_is_pruned_as_a_counted_one() {
    let bench = bench();
    let read = |name: &str| std::fs::read_to_string(bench.path().join(name)).unwrap();
    for smoothing in ["modified_kneser_ney", "witten_bell", "katz"] {
        let count = ["count", "a.txt", "--order", "4", "--smoothing", smoothing, "--out"];
        bench.run(&[&count[..], &["m.ngram", "--out", "m.arpa"]].concat()).succeeded();
        let prune = ["--prune-entropy", "0.003"];
        bench.run(&[&count[..], &["direct.ngram", "--out", "direct.arpa"], &prune[..]].concat()).succeeded();
        for (from, to) in [("m.ngram", "a.arpa"), ("m.arpa", "b.arpa"), ("m.ngram", "c.ngram")] {
            let said = bench.run(&[&["export", from, "--out", to], &prune[..]].concat()).succeeded().stderr;
            assert!(said.contains(" are kept"), "{said}");
        }
        let direct = read("direct.arpa");
        assert!(direct.len() < read("m.arpa").len() * 3 / 4, "{smoothing}");
        assert_eq!(read("a.arpa"), direct, "{smoothing}");
        assert_eq!(nats(&bench, "c.ngram"), nats(&bench, "direct.ngram"));
        // The file has 32-bit logarithms.
        let found = read("b.arpa");
        assert_eq!(found.lines().count(), direct.lines().count(), "{smoothing}");
        for (found, direct) in found.lines().zip(direct.lines()) {
            for (found, direct) in found.split('\t').zip(direct.split('\t')) {
                match (found.parse::<f64>(), direct.parse::<f64>()) {
                    (Ok(a), Ok(b)) => assert!((a - b).abs() < 1e-5, "{found} {direct}"),
                    _ => assert_eq!(found, direct),
                }
            }
        }
    }
    for (smoothing, says) in
        [("stupid_backoff", "not stupid_backoff"), ("add_k", "not add_k"), ("mle", "not mle")]
    {
        bench
            .run(&["count", "a.txt", "--order", "2", "--smoothing", smoothing, "--out", "m.ngram"])
            .succeeded();
        let prune = ["export", "m.ngram", "--out", "x.ngram", "--prune-entropy", "0.1"];
        bench.run(&prune).refused(2, &["--prune-entropy: pruning by entropy needs", says]);
    }
    // Another program's file: not a distribution, or pruned so that `a b c` lacks `b c`.
    let head = "\\data\\\nngram 1=5\nngram 2=1\nngram 3=1\n\n\\1-grams:\n-0.6 <unk>\n0 <s>\n-0.6 </s>\n-0.6 a 0\n-0.6 b 0\n";
    let rest = "\\2-grams:\n-0.3 a b WEIGHT\n\\3-grams:\n-0.3 a b a\n\\end\\\n";
    for (weight, says) in [("0", "a 3-gram has no suffix"), ("2", "sum to")] {
        let file = format!("{head}{}", rest.replace("WEIGHT", weight));
        bench.file(
            "o.arpa",
            if weight == "2" {
                file.replace("a b a", "b a")
                    .replace("\nngram 3=1", "")
                    .replace("2=1", "2=2")
                    .replace("\\3-grams:\n", "")
                    .replace("a b 2", "a b")
            } else {
                file
            },
        );
        let prune = ["export", "o.arpa", "--out", "x.ngram", "--prune-entropy", "0.1"];
        bench.run(&prune).refused(2, &[says]);
    }
    assert!(!bench.path().join("x.ngram").exists());
}

#[test]
fn scores_that_do_not_sum_to_one_have_no_perplexity() {
    let bench = bench();
    bench
        .run(&["count", "a.txt", "--order", "3", "--smoothing", "stupid_backoff", "--out", "s.ngram"])
        .succeeded();
    let result = bench.run(&["eval", "s.ngram", "b.txt", "--json"]).succeeded().result();
    assert!(result["eval"]["perplexity"].is_null() && result["eval"]["nats_per_token"].is_null());
    assert!(result["eval"]["score_per_token"].as_f64().unwrap() < 0.0);
    assert!(bench.run(&["eval", "s.ngram", "b.txt"]).succeeded().stdout.contains("do not sum to one"));
    // An ARPA file declares scores in a separate line; reading and writing it keeps the model.
    let count = ["count", "a.txt", "--order", "2", "--smoothing", "stupid_backoff", "--out", "t.ngram"];
    bench.run(&count).succeeded();
    let eval =
        |model: &str| bench.run(&["eval", model, "b.txt", "--json"]).succeeded().result()["eval"].clone();
    assert!(
        bench.run(&["export", "t.ngram", "--out", "t.arpa"]).succeeded().stderr.contains("as the file says")
    );
    assert!(eval("t.arpa")["perplexity"].is_null(), "{}", eval("t.arpa"));
    let [ngram, arpa] = ["t.ngram", "t.arpa"].map(|model| eval(model)["score_per_token"].as_f64().unwrap());
    assert!((ngram - arpa).abs() < 1e-5, "{ngram} {arpa}");
    bench.run(&["export", "t.arpa", "--out", "u.arpa"]).succeeded();
    let [t, u] = ["t.arpa", "u.arpa"].map(|name| std::fs::read(bench.path().join(name)).unwrap());
    assert!(t == u && t.starts_with(b"# scores = stupid_backoff\n"));
}

#[test]
fn no_text_is_too_odd_to_count() {
    let bench = bench();
    bench.file("one.txt", "word");
    bench.file("same.txt", "again ".repeat(30_000));
    bench.file("lines.txt", "\n\n\n\n");
    for text in ["one.txt", "same.txt", "lines.txt"] {
        for smoothing in ["modified_kneser_ney", "katz", "jelinek_mercer", "witten_bell"] {
            let arguments = [
                "count",
                text,
                "--order",
                "9",
                "--smoothing",
                smoothing,
                "--out",
                "m.ngram",
                "--out",
                "m.arpa",
            ];
            bench.run(&arguments).succeeded();
            let result = bench.run(&["eval", "m.ngram", text, "--json"]).succeeded().result();
            assert!(
                result["eval"]["perplexity"].as_f64().unwrap() >= 1.0 - 1e-9,
                "{text} {smoothing}: {result}"
            );
            bench.run(&["eval", "m.arpa", text]).succeeded();
        }
    }
    bench.file("empty.txt", "");
    let failed = bench.run(&["count", "empty.txt", "--out", "e.ngram"]);
    assert!(failed.code == 1 && !bench.path().join("e.ngram").exists());
}

#[test]
fn settings_that_cannot_be_are_refused_before_any_work() {
    let bench = bench();
    for wrong in [
        &["--order", "17", "--out", "x.arpa"][..],
        &["--order", "0", "--out", "x.arpa"],
        &["--out", "x.txt"],
        &["--out", "x.arpa", "--shard", "1/2"],
        &["--out", "x.counts", "--shard", "3/2"],
        &["--out", "x.arpa", "--smoothing", "none"],
        &["--out", "x.arpa", "--smoothing", "witten_bell", "--prune", "0,1"],
        &["--out", "x.arpa", "--unit", "page"],
        &["--out", "x.arpa", "--threads", "0"],
    ] {
        let failed = bench.run(&[&["count", "a.txt"], wrong].concat());
        assert_eq!(failed.code, 2, "{wrong:?}: {}", failed.stderr);
    }
    assert_eq!(bench.entries(), ["a.txt", "b.txt"]);
}

#[test]
fn a_run_with_settings_that_are_refused_now_still_opens() {
    let bench = bench();
    let settings = ["tokenizer.kind=word", "model.kind=ngram", "model.order=3", "model.smoothing=add_k"];
    let train = [&["train", "a.txt", "--out", "run"], &crate::common::set(&settings)[..]].concat();
    bench.run(&train).succeeded();
    let before = nats(&bench, "run");
    let path = bench.path().join("run/config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replacen("[model]\n", "[model]\nclosed = true\n", 1)).unwrap();
    assert_eq!(nats(&bench, "run"), before);
    bench.run(&[&train[..], &["--set", "model.closed=true"]].concat()).refused(2, &["closed", "add_k"]);
}
