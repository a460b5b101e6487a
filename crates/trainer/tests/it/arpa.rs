//! Texts and ARPA files in other programs' form, and ARPA files for other programs.

use crate::common::{Bench, Ran};
use serde_json::Value;

const TEXT: &str = "the hen sees a fox\na fox sees the hen\nthe hen runs\na dog runs home\nthe dog sees the fox\n\
                    the fox and a hen run home\n";
const HELD: &str = "a hen sees the dog\nthe fox runs home\n";

/// Sentence marks around every line, as in texts for SRILM.
fn marked(text: &str) -> String {
    text.lines().map(|line| format!("<s> {line} </s>\n")).collect()
}

fn bench() -> Bench {
    let bench = Bench::new();
    bench.file("plain.txt", TEXT);
    bench.file("marked.txt", marked(TEXT));
    bench.file("held.txt", HELD);
    bench.file("marked_held.txt", marked(HELD));
    bench
}

fn read(bench: &Bench, name: &str) -> String {
    std::fs::read_to_string(bench.path().join(name)).unwrap()
}

fn count(bench: &Bench, text: &str, more: &[&str]) -> Ran {
    bench.run(&[&["count", text, "--order", "3"], more].concat()).succeeded()
}

fn eval(bench: &Bench, model: &str, text: &str) -> Value {
    bench.run(&["eval", model, text, "--json"]).succeeded().result()["eval"].clone()
}

fn nats(eval: &Value) -> f64 {
    eval["nats_per_token"].as_f64().unwrap_or(f64::INFINITY)
}

#[track_caller]
fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-6 * b.abs(), "{a} is not {b}");
}

#[test]
fn kenlms_tables_have_the_scores_of_their_model() {
    let bench = bench();
    count(&bench, "plain.txt", &["--out", "m.ngram"]);
    bench.run(&["export", "m.ngram", "--format", "kenlm", "--out", "m.binary"]).succeeded();
    let [of_model, of_tables] = ["m.ngram", "m.binary"].map(|model| nats(&eval(&bench, model, "held.txt")));
    close(of_tables, of_model);
    count(&bench, "plain.txt", &["--out", "addk.ngram", "--smoothing", "add_k", "--k", "1"]);
    let ran = bench.run(&["export", "addk.ngram", "--format", "kenlm", "--out", "addk.binary"]);
    ran.refused(1, &["does not back off", ".ngram"]);
    assert!(!bench.path().join("addk.binary").exists());
}

#[test]
fn marks_around_a_line_are_no_words_of_it() {
    let bench = bench();
    count(&bench, "plain.txt", &["--out", "plain.arpa", "--out", "m.ngram"]);
    let said = count(&bench, "marked.txt", &["--out", "marked.arpa"]).stderr;
    assert_eq!(read(&bench, "marked.arpa"), read(&bench, "plain.arpa"));
    assert_eq!(said.matches("12 sentence marks").count(), 1, "{said}");

    let right = eval(&bench, "m.ngram", "held.txt");
    let ran = bench.run(&["eval", "m.ngram", "marked_held.txt", "--json"]).succeeded();
    let found = &ran.result()["eval"];
    assert_eq!((nats(found), &found["tokens"], &found["oov"]), (nats(&right), &right["tokens"], &0.into()));
    assert_eq!((&found["bytes"], &found["bits_per_byte"]), (&right["bytes"], &right["bits_per_byte"]));
    assert!(ran.stderr.contains("4 sentence marks"), "{}", ran.stderr);

    // `explain` reads marks in the same way.
    let explain = |text: &str| bench.run(&["explain", "m.ngram", "--text", text, "--json"]).succeeded();
    let (plain, tagged) = (explain(HELD), explain(&marked(HELD)));
    assert_eq!(tagged.result(), plain.result());
    assert!(tagged.stderr.contains("4 sentence marks"), "{}", tagged.stderr);

    // So do both texts of `mix`.
    count(&bench, "held.txt", &["--smoothing", "witten_bell", "--out", "h.ngram"]);
    let mix = |text: &str| {
        bench.run(&["mix", "m.ngram", "h.ngram", "--heldout", text, "--json"]).succeeded().result()
    };
    let (plain, tagged) = (mix("held.txt"), mix("marked_held.txt"));
    assert_eq!(tagged["weights"], plain["weights"]);
    assert_eq!(nats(&tagged["eval"]), nats(&plain["eval"]));

    // So does `train`.
    let train = |text: &str, val: &str, out: &str| {
        let mut arguments = vec!["train", text, "--out", out, "--json"];
        let val = format!("data.val=[\"{val}\"]");
        for set in [&val, "data.unit=line", "tokenizer.kind=word", "model.kind=ngram", "model.order=3"] {
            arguments.extend(["--set", set]);
        }
        bench.run(&arguments).succeeded()
    };
    let plain = train("plain.txt", "held.txt", "plain");
    let tagged = train("marked.txt", "marked_held.txt", "marked");
    assert_eq!(nats(&tagged.result()["eval"]), nats(&plain.result()["eval"]));
    assert!(tagged.stderr.contains("16 sentence marks"), "{}", tagged.stderr);
    assert!(!plain.stderr.contains("mark"), "{}", plain.stderr);
}

#[test]
fn marks_are_found_wherever_lines_begin_and_end_and_nowhere_else() {
    let bench = Bench::new();
    bench.file("plain.txt", "a b\n\na\nb a\na\n");
    // Surrounding white space, empty sentences, a single mark, CRLF, and no newline at the end.
    bench.file("marked.txt", "\t<s>  a b\r\n<s> </s>\na </s> \nb a </s>\r\n<s> a </s>");
    count(&bench, "plain.txt", &["--out", "plain.tsv"]);
    let said = count(&bench, "marked.txt", &["--out", "marked.tsv"]).stderr;
    assert_eq!(read(&bench, "marked.tsv"), read(&bench, "plain.tsv"));
    assert!(said.contains("7 sentence marks") && !said.contains("unknown"), "{said}");

    // Within a line they are unknown words, with a warning.
    bench.file("within.txt", "a </s> b\na <s> b\n<s> <s> a\n<S> a <UNK> <unk>\n");
    bench.file("like.txt", "a <unk> b\na <unk> b\n<unk> a\n<S> a <UNK> <unk>\n");
    let said = count(&bench, "within.txt", &["--out", "within.arpa"]).stderr;
    count(&bench, "like.txt", &["--out", "like.arpa"]);
    assert_eq!(read(&bench, "within.arpa"), read(&bench, "like.arpa"));
    assert!(said.contains("1 sentence mark:") && said.contains("4 words spelled like special"), "{said}");
    assert!(said.contains("literal_specials") && said.contains("the text has the word <UNK>"), "{said}");
    bench.file("upper.txt", "a <UNK> b\na <UNK> b\nb <UNK> a\n");
    count(&bench, "upper.txt", &["--out", "upper.arpa"]);
    let file = read(&bench, "upper.arpa");
    assert!(file.contains("\t<UNK>\t") && file.contains("\t<unk>\t"), "{file}");
    assert_eq!(eval(&bench, "upper.arpa", "upper.txt")["oov"], 0);
    // Each policy.
    let error = ["count", "marked.txt", "--out", "x.tsv", "--literal-specials", "error"];
    bench.run(&error).refused(1, &["marked.txt", "<s>", "line 1", "--literal-specials"]);
    count(&bench, "marked.txt", &["--literal-specials", "skip", "--out", "skip.tsv"]);
    assert_eq!(read(&bench, "skip.tsv"), read(&bench, "plain.tsv"));
    let said = count(&bench, "within.txt", &["--literal-specials", "skip", "--out", "skip.tsv"]).stderr;
    bench.file("skipped.txt", "a b\na b\na\n<S> a <UNK>\n");
    count(&bench, "skipped.txt", &["--out", "skipped.tsv"]);
    assert_eq!(read(&bench, "skip.tsv"), read(&bench, "skipped.tsv"));
    assert!(said.contains("skipped"), "{said}");

    // Character tokenizers read marks as characters, with a note.
    let said = count(&bench, "marked.txt", &["--tokenizer", "char", "--out", "c.tsv"]).stderr;
    assert!(said.contains("<s> starts or </s> ends 5 lines"), "{said}");
    assert!(read(&bench, "c.tsv").contains("/ s >\t4\n"));
}

#[test]
fn a_last_line_without_newline_is_open_to_kenlm_alone() {
    let bench = Bench::new();
    let ends = |text: &str, more: &[&str]| {
        bench.file("a.txt", text);
        count(&bench, "a.txt", &[&["--out", "a.tsv", "--out", "a.arpa"], more].concat());
        let counts = read(&bench, "a.tsv");
        let line = counts.lines().find_map(|line| line.strip_prefix("</s>\t")).unwrap();
        line.parse::<u32>().unwrap()
    };
    assert_eq!(ends("a b\nb a\na", &[]), 3);
    // Like lmplz: no newline, no sentence end; a mark is a sentence end.
    assert_eq!(ends("a b\nb a\na", &["--compat", "kenlm"]), 2);
    // By lmplz's formulas, computed separately.
    let file = read(&bench, "a.arpa");
    for line in ["-0.5351132\t</s>\t0\n", "-0.40248764\ta </s>\t0\n", "-0.15619643\t<s> a b\n"] {
        assert!(file.contains(line), "{line:?} in {file}");
    }
    assert_eq!(ends("a b\nb a\na\n", &["--compat", "kenlm"]), 3);
    assert_eq!(ends("a b\nb a\na </s>", &["--compat", "kenlm"]), 3);
}

#[test]
fn a_list_of_counts_has_its_marks_as_marks() {
    let bench = Bench::new();
    let counts = "<s>\t1\n<s> the\t1\n<s> the hen\t1\nthe\t5\nthe hen\t2\nthe hen </s>\t1\nhen\t3\nhen </s>\t1\n</s>\t1\n";
    bench.file("other.tsv", counts);
    bench.run(&["merge", "other.tsv", "--smoothing", "mle", "--out", "m.ngram", "--json"]).succeeded();
    let ran = bench.run(&["merge", "other.tsv", "--out", "m.arpa", "--json"]).succeeded();
    assert_eq!(ran.result()["vocab_size"], 5);
    bench.file("q.txt", "the hen\n");
    // 1 · 2/2 (nothing else follows `the`) · 1/1.
    assert_eq!(nats(&eval(&bench, "m.ngram", "q.txt")), 0.0);
}

#[test]
fn zero_comes_back_as_zero() {
    let bench = bench();
    bench.file("z.txt", "the zebra\nhome the\n");
    count(&bench, "plain.txt", &["--smoothing", "mle", "--out", "m.ngram"]);
    let said = bench.run(&["export", "m.ngram", "--out", "m.arpa"]).succeeded().stderr;
    assert!(said.contains("-inf") && said.contains("KenLM refuses"), "{said}");
    assert!(
        count(&bench, "plain.txt", &["--smoothing", "mle", "--out", "again.arpa"]).stderr.contains("-inf")
    );
    assert_eq!(read(&bench, "again.arpa"), read(&bench, "m.arpa"));
    assert!(!read(&bench, "m.arpa").contains("-99"));
    let (exact, found) = (eval(&bench, "m.ngram", "z.txt"), eval(&bench, "m.arpa", "z.txt"));
    assert_eq!((nats(&exact), nats(&found)), (f64::INFINITY, f64::INFINITY));
    // Unseen after their contexts: zebra after `the`, home at the start, `the` after home, the end
    // after `the`. Nothing follows zebra, so the end after it has its unigram probability.
    assert_eq!((&exact["zero_probability"], &found["zero_probability"]), (&4.into(), &4.into()));
    // If all tokens have probability zero, there is no mean over the others.
    count(
        &bench,
        "plain.txt",
        &["--smoothing", "mle", "--unit", "stream", "--tokenizer", "char", "--out", "c.ngram"],
    );
    bench.file("q.txt", "q");
    let people = bench.run(&["eval", "c.ngram", "q.txt"]).succeeded().stdout;
    assert!(people.contains("none: all have probability zero") && !people.contains("NaN"), "{people}");
    close(nats(&eval(&bench, "m.arpa", "plain.txt")), nats(&eval(&bench, "m.ngram", "plain.txt")));
    // Without zeros there is no note.
    assert!(!count(&bench, "plain.txt", &["--out", "k.arpa"]).stderr.contains("-inf"));
}

/// An ARPA file in other programs' form, with `unigrams` among its lines.
fn arpa(unigrams: &str) -> String {
    let count = unigrams.lines().count();
    format!(
        "\\data\\\nngram 1={count}\nngram 2=3\n\n\\1-grams:\n{unigrams}\n\n\\2-grams:\n-0.2\t<s> a\n-0.4\ta b\n-0.5\ta a\n\n\\end\\\n"
    )
}

#[test]
fn files_of_others_are_read_as_they_are_meant_or_refused() {
    let bench = Bench::new();
    let ln = |logs: &[f64]| -logs.iter().sum::<f64>() * std::f64::consts::LN_10;
    let full = "-1\t<unk>\n-99\t<s>\t-0.3\n-0.6\t</s>\n-0.5\ta\t-0.25\n-0.7\tb\t-0.125";
    bench.file("full.arpa", arpa(full));
    bench.file("q.txt", "a b\nc a\n");
    // <s> a, a b, b </s>; <s> c, c a, a </s>.
    let right = ln(&[-0.2, -0.4, -0.125 - 0.6, -0.3 - 1.0, -0.5, -0.25 - 0.6]) / 6.0;
    let ran = bench.run(&["eval", "full.arpa", "q.txt", "--json"]).succeeded();
    close(nats(&ran.result()["eval"]), right);
    assert!(!ran.stderr.contains("note"), "{}", ran.stderr);
    // The layout does not matter.
    let crlf = arpa(full)
        .replace('\n', " \r\n")
        .replace('\t', " \t ")
        .replace("-0.5", "-5E-1")
        .replace("-0.25", "-2.5e-1");
    bench.file("crlf.arpa", format!("\u{feff}{crlf}"));
    close(nats(&eval(&bench, "crlf.arpa", "q.txt")), right);

    // Nor does text before \data\, up to a limit.
    let after = |lines: usize| format!("{}{}", "a line\n".repeat(lines), arpa(full));
    bench.file("after.arpa", after(9_000));
    close(nats(&eval(&bench, "after.arpa", "q.txt")), right);
    bench.file("far.arpa", after(10_000));
    let far = bench.run(&["eval", "far.arpa", "q.txt"]);
    far.refused(1, &["`far.arpa` is a text, not a model", "\\data\\ within the first 64 kB"]);

    // Without <unk> a default is used, and every command notes it, also for exports.
    bench.file("no_unk.arpa", arpa(full.strip_prefix("-1\t<unk>\n").unwrap()));
    bench.run(&["export", "no_unk.arpa", "--out", "no_unk.ngram"]).succeeded();
    for command in [
        &["eval", "no_unk.arpa", "q.txt"][..],
        &["eval", "no_unk.ngram", "q.txt"],
        &["explain", "no_unk.arpa", "--text", "a"],
        &["mix", "no_unk.arpa", "full.arpa", "--heldout", "q.txt"],
        &["export", "no_unk.arpa", "--out", "x.ngram"],
        &["sample", "no_unk.arpa", "--tokens", "3"],
    ] {
        let said = bench.run(command).succeeded().stderr;
        assert_eq!(
            said.matches("no <unk>: unknown words get log10 q = -100").count(),
            1,
            "{command:?} {said}"
        );
    }
    close(nats(&eval(&bench, "no_unk.arpa", "q.txt")), (right * 6.0 + ln(&[-99.0])) / 6.0);

    // Without <s> sentences begin without context; without </s> the file is refused.
    bench.file(
        "no_bos.arpa",
        arpa(&full.replace("-99\t<s>\t-0.3\n", ""))
            .replace("ngram 2=3", "ngram 2=2")
            .replace("-0.2\t<s> a\n", ""),
    );
    let ran = bench.run(&["eval", "no_bos.arpa", "q.txt", "--json"]).succeeded();
    assert!(ran.stderr.contains("no <s>"), "{}", ran.stderr);
    close(nats(&ran.result()["eval"]), ln(&[-0.5, -0.4, -0.125 - 0.6, -1.0, -0.5, -0.25 - 0.6]) / 6.0);
    bench.file("no_eos.arpa", arpa(&full.replace("-0.6\t</s>\n", "")));
    for command in [&["eval", "no_eos.arpa", "q.txt"][..], &["export", "no_eos.arpa", "--out", "y.ngram"]] {
        bench.run(command).refused(1, &["no_eos.arpa", "line 6", "no </s>", "estimate it again"]);
    }

    // Zero in both spellings.
    bench.file("z.txt", "b a\na b\n");
    for zero in ["-inf", "-Inf", "-99", "-99.0"] {
        bench.file("zero.arpa", arpa(&full.replace("-0.7\tb", &format!("{zero}\tb"))));
        let ran = bench.run(&["eval", "zero.arpa", "z.txt", "--json"]).succeeded();
        let found = &ran.result()["eval"];
        // Only the first b is unseen in its context.
        assert_eq!((nats(found), &found["zero_probability"]), (f64::INFINITY, &1.into()), "{zero}");
        assert!(ran.stderr.contains("zero"), "{}", ran.stderr);
        let people = bench.run(&["eval", "zero.arpa", "z.txt"]).succeeded().stdout;
        assert!(
            people.contains("inf")
                && people.lines().any(|line| line.starts_with("zero probability") && line.ends_with(" 1")),
            "{people}"
        );
        // As a back-off weight: everything that backs off through it has probability zero.
        bench.file("zero.arpa", arpa(&full.replace("a\t-0.25", &format!("a\t{zero}"))));
        assert_eq!(eval(&bench, "zero.arpa", "z.txt")["zero_probability"], 1, "{zero}");
    }
}

#[test]
fn any_model_s_own_arpa_file_gives_its_own_number() {
    let bench = Bench::new();
    bench.file("t.txt", "a b\\x20 c\n\tb a <s> a\n\u{a0}é\u{2028}a\u{85} <unk>\n".repeat(4) + "a b");
    bench.file("e.txt", "b a c\n<s> a\u{a0} é\\ q\n");
    for tokenizer in ["byte", "char", "word"] {
        for unit in ["stream", "line", "document"] {
            let what = ["--tokenizer", tokenizer, "--unit", unit, "--smoothing", "witten_bell"];
            count(&bench, "t.txt", &[&what[..], &["--out", "m.ngram"]].concat());
            let said = bench.run(&["export", "m.ngram", "--out", "m.arpa"]).succeeded().stderr;
            for text in ["t.txt", "e.txt"] {
                let (exact, found) = (eval(&bench, "m.ngram", text), eval(&bench, "m.arpa", text));
                close(nats(&found), nats(&exact));
                assert_eq!((&found["tokens"], &found["oov"]), (&exact["tokens"], &exact["oov"]));
            }
            let file = read(&bench, "m.arpa");
            if tokenizer == "word" && unit == "line" {
                assert!(file.starts_with("\\data\\\n") && !said.contains("note"), "{said}");
            } else {
                assert!(file.starts_with(&format!("# tokenizer = {tokenizer}, unit = {unit}\n\n\\data\\\n")));
                let who = if unit == "line" { "other programs take" } else { "KenLM refuses it" };
                assert!(said.contains(who), "{said}");
            }
            // Reading and writing again gives the same file.
            bench.run(&["export", "m.arpa", "--out", "again.arpa"]).succeeded();
            assert_eq!(read(&bench, "again.arpa"), file);
            // A wrong declaration is refused.
            let other = if tokenizer == "byte" { "char" } else { "byte" };
            if file.starts_with('#') {
                bench.file("wrong.arpa", file.replace(&format!("= {tokenizer},"), &format!("= {other},")));
                bench.run(&["eval", "wrong.arpa", "e.txt"]).refused(1, &[]);
            }
        }
    }
    // The rules of byte pairs are in the file.
    for unit in ["stream", "line", "document"] {
        let unit = format!("data.unit={unit}");
        let train = |out: &str, size: &str| {
            let mut train = vec!["train", "t.txt", "--out", out, "--set", size, "--set", &unit];
            let sets =
                ["tokenizer.kind=bpe", "model.kind=ngram", "model.order=3", "model.smoothing=witten_bell"];
            train.extend(sets.into_iter().flat_map(|set| ["--set", set]));
            bench.run(&train).succeeded();
            let file = format!("{out}.arpa");
            bench.run(&["export", out, "--out", &file]).succeeded();
            read(&bench, &file)
        };
        let file = train("run", "tokenizer.vocab_size=264");
        for text in ["t.txt", "e.txt"] {
            let (exact, found) = (eval(&bench, "run", text), eval(&bench, "run.arpa", text));
            close(nats(&found), nats(&exact));
            assert_eq!((&found["tokens"], &found["oov"]), (&exact["tokens"], &exact["oov"]));
        }
        bench.run(&["export", "run.arpa", "--out", "again.arpa"]).succeeded();
        assert_eq!(read(&bench, "again.arpa"), file);
        let [own, drawn] = ["run", "run.arpa"].map(|model| {
            bench.run(&["sample", model, "--tokens", "30", "--prompt", "the"]).succeeded().stdout
        });
        assert_eq!(own, drawn);
        // As long as the rules of a large vocabulary.
        bench.file("long.arpa", file.replacen("= {", &format!("= {{{}", " ".repeat(70_000)), 1));
        assert_eq!(eval(&bench, "long.arpa", "e.txt"), eval(&bench, "run.arpa", "e.txt"));
        // Without the rules, with damaged ones, and with those of other tokens.
        let lines: Vec<&str> = file.lines().collect();
        assert!(lines[1].starts_with("# tokenizer.json = {"), "{}", lines[1]);
        let other = train("other", "tokenizer.vocab_size=262");
        let grows = train("grows", "tokenizer.vocab_size=266");
        let half = &lines[1][..lines[1].len() / 2];
        for (line, says) in [
            ("", "line 1: its tokens are byte pairs"),
            (half, "line 2: the tokenizer in this line cannot be read"),
            ("# tokenizer.json = []", "line 2: the tokenizer in this line"),
            (
                "# tokenizer.json = {\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":4294967295},\"merges\":[]}}",
                "line 2",
            ),
            (other.lines().nth(1).unwrap(), "is not one of its tokens"),
            (grows.lines().nth(1).unwrap(), "has no 1-gram"),
        ] {
            bench.file("wrong.arpa", file.replacen(lines[1], line, 1));
            bench.run(&["eval", "wrong.arpa", "e.txt"]).refused(1, &["wrong.arpa", says, "hint"]);
        }
        for run in ["run", "other", "grows"] {
            std::fs::remove_dir_all(bench.path().join(run)).unwrap();
        }
    }
}

#[test]
fn a_file_of_odd_words_is_read_again() {
    let bench = Bench::new();
    let long = "x".repeat(70_000);
    let odd = [
        "<UNK>",
        "<unk>",
        "<S>",
        "</S>",
        "<s>",
        "</s>",
        "-",
        "\\data\\",
        "\\end\\",
        "\\1-grams:",
        "ngram",
        "1=3",
        "-0.5",
        "7",
        "nan",
        "-inf",
        "#",
        "# tokenizer = char, unit = line",
        "a\u{a0}b",
        "a\u{85}",
        "\u{2028}",
        "\u{feff}w",
        "\\",
        "\\x20",
        "v\u{b}t",
        "\u{1}",
        "=",
        "é",
        "\u{1F600}",
        &long,
    ];
    let text: String = (0..90)
        .map(|i| format!("{} {} {}\n", odd[i % 30], odd[(i * i + 7) % 30], odd[(i * 11 + 3) % 30]))
        .collect();
    bench.file("odd.txt", &text);
    let said = count(&bench, "odd.txt", &["--out", "m.ngram", "--out", "m.arpa"]).stderr;
    assert!(said.contains("KenLM does not distinguish them"), "{said}");
    let (exact, found) = (eval(&bench, "m.ngram", "odd.txt"), eval(&bench, "m.arpa", "odd.txt"));
    close(nats(&found), nats(&exact));
    assert_eq!((&found["tokens"], &found["oov"]), (&exact["tokens"], &exact["oov"]));
    bench.run(&["export", "m.arpa", "--out", "again.arpa"]).succeeded();
    assert_eq!(read(&bench, "again.arpa"), read(&bench, "m.arpa"));
}
