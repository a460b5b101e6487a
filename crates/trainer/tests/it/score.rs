//! `score`: rows of lines, words and tokens, whose sums are those of `eval`.

use crate::common::{Bench, set};
use serde_json::Value;

/// A model whose scores can be added by hand.
const ARPA: &str = "\\data\\\nngram 1=5\nngram 2=3\n\n\\1-grams:\n-1.0\t<unk>\n-99\t<s>\t-0.5\n-0.7\t</s>\n\
                    -0.5\ta\t-0.3\n-0.8\tb\t-0.2\n\n\\2-grams:\n-0.1\t<s> a\n-0.2\ta b\n-0.4\tb </s>\n\n\\end\\\n";

fn bench() -> Bench {
    let bench = Bench::new();
    bench.file("m.arpa", ARPA);
    bench
}

/// The columns of the rows, without the heading.
#[track_caller]
fn rows(bench: &Bench, arguments: &[&str], columns: &[&str]) -> Vec<String> {
    let ran = bench.run(&[&["score"], arguments].concat()).succeeded();
    let mut lines = ran.stdout.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let heading = lines.next().unwrap();
    let at = |name: &&str| heading.iter().position(|column| column == name).unwrap();
    let at: Vec<usize> = columns.iter().map(at).collect();
    let shown = |name: &str, cell: &str| match name {
        // ARPA files have 32-bit logarithms.
        "log10" => format!("{:.5}", cell.parse::<f64>().unwrap()),
        _ => cell.to_owned(),
    };
    lines
        .map(|row| {
            assert_eq!(row.len(), heading.len(), "{row:?}");
            at.iter().zip(columns).map(|(&at, name)| shown(name, row[at])).collect::<Vec<_>>().join(" ")
        })
        .collect()
}

#[test]
fn sentences_and_their_words_have_the_scores_that_are_added_by_hand() {
    let bench = bench();
    bench.file("t.txt", "a b\nb zz\n\n");
    let lines = ["text", "line", "tokens", "unknown", "log10"];
    assert_eq!(
        rows(&bench, &["m.arpa", "t.txt"], &lines),
        ["t.txt 1 3 0 -0.70000", "t.txt 2 3 1 -3.20000", "t.txt 3 1 0 -1.20000"]
    );
    let words = ["line", "position", "word", "matched", "unknown", "log10"];
    let found = rows(&bench, &["m.arpa", "t.txt", "--by", "word"], &words);
    assert_eq!(
        found,
        [
            "1 1 a 2 0 -0.10000",
            "1 2 b 2 0 -0.20000",
            "1 3 </s> 2 0 -0.40000",
            "2 1 b 1 0 -1.30000",
            "2 2 zz 1 1 -1.20000",
            "2 3 </s> 1 0 -0.70000",
            "3 1 </s> 1 0 -1.20000",
        ]
    );
    let tokens = ["line", "position", "token", "matched", "unknown", "log10"];
    assert_eq!(rows(&bench, &["m.arpa", "t.txt", "--by", "token"], &tokens), found);
    // Without marks, and over the ends of lines.
    assert_eq!(
        rows(&bench, &["m.arpa", "t.txt", "--no-bos", "--no-eos"], &lines),
        ["t.txt 1 2 0 -0.70000", "t.txt 2 2 1 -2.00000", "t.txt 3 0 0 0.00000"]
    );
    assert_eq!(
        rows(&bench, &["m.arpa", "t.txt", "--context", "text", "--by", "word"], &words),
        [
            "1 1 a 2 0 -0.10000",
            "1 2 b 2 0 -0.20000",
            "2 1 b 1 0 -1.00000",
            "2 2 zz 1 1 -1.20000",
            "3 1 </s> 1 0 -0.70000"
        ]
    );
    bench.run(&["export", "m.arpa", "--out", "m.ngram"]).succeeded();
    assert_eq!(rows(&bench, &["m.ngram", "t.txt", "--by", "word"], &words), found);
}

#[test]
fn rows_in_json_and_from_several_texts() {
    let bench = bench();
    bench.file("d/one.txt", "a b\n");
    bench.file("d/two.txt", "b\tzz\n");
    bench.file("empty.txt", "");
    let ran = bench.run(&["score", "m.arpa", "d", "empty.txt", "--json", "--by", "word"]).succeeded();
    let events = ran.events();
    let [first, .., zz, _, result] = events.as_slice() else { panic!("{}", ran.stdout) };
    assert_eq!(
        (&first["event"], &first["text"], &first["word"]),
        (&"word".into(), &"d/one.txt".into(), &"a".into())
    );
    assert_eq!((&zz["word"], &zz["unknown"], &zz["line"]), (&"zz".into(), &1.into(), &1.into()));
    assert!((first["nats"].as_f64().unwrap() - 0.1 * std::f64::consts::LN_10).abs() < 1e-6);
    assert_eq!((&result["lines"], &result["tokens"], &result["unknown"]), (&2.into(), &6.into(), &1.into()));
    let sum: f64 = events.iter().filter_map(|event| event["word"].as_str().and(event["nats"].as_f64())).sum();
    assert!((sum - result["nats"].as_f64().unwrap()).abs() < 1e-12);
    bench.run(&["score", "m.arpa", "empty.txt"]).refused(1, &["empty.txt"]);
    bench.run(&["score", "m.arpa"]).refused(2, &["name the texts"]);
    // A zero is infinite, and not a large number.
    bench.file("zero.arpa", ARPA.replace("-0.2\ta b", "-inf\ta b"));
    assert_eq!(rows(&bench, &["zero.arpa", "d/one.txt"], &["nats", "log10"]), ["inf -inf"]);
}

fn total(bench: &Bench, model: &str, text: &str) -> f64 {
    let result = bench.run(&["eval", model, text, "--json"]).succeeded().result();
    let eval = &result["eval"];
    eval["nats_per_token"].as_f64().unwrap() * eval["tokens"].as_f64().unwrap()
}

#[test]
fn rows_of_any_model_and_unit_sum_to_the_nats_of_the_text() {
    let bench = bench();
    bench.text("a.txt", 150);
    bench.file("b.txt", "the cat sees\n\na dog. The Zebra\n\n\nhears nothing.");
    let small = [
        "train.block_size=16",
        "train.batch_size=4",
        "train.steps=3",
        "sample.tokens=0",
        "model.n_layer=1",
        "model.n_embd=16",
        "model.n_head=2",
    ];
    let counted = ["model.kind=ngram", "model.order=4", "model.smoothing=witten_bell"];
    for (unit, tokenizer) in [
        ("stream", "char"),
        ("line", "word"),
        ("stream", "word"),
        ("stream", "bpe"),
        ("document", "byte"),
        ("line", "char"),
    ] {
        for (kind, settings) in [("net", &small[..]), ("counted", &counted[..])] {
            let (unit, kind_of, size) = (
                format!("data.unit={unit}"),
                format!("tokenizer.kind={tokenizer}"),
                "tokenizer.vocab_size=300",
            );
            let mut tokens = vec![unit.as_str(), kind_of.as_str()];
            tokens.extend((tokenizer == "bpe").then_some(size));
            let run = format!("{kind}-{}-{tokenizer}", &unit[10..]);
            bench
                .run(&[&["train", "a.txt", "--out", &run], &set(&tokens)[..], &set(settings)].concat())
                .succeeded();
            let expected = total(&bench, &run, "b.txt");
            for by in ["line", "word", "token"] {
                let ran = bench.run(&["score", &run, "b.txt", "--by", by, "--json"]).succeeded();
                let events = ran.events();
                let figures = |event: &Value| {
                    event["position"].as_u64().or(event["tokens"].as_u64()).and(event["nats"].as_f64())
                };
                let (rows, result) = events.split_at(events.len() - 1);
                let sum: f64 = rows.iter().filter_map(figures).sum();
                assert!((sum - expected).abs() < 1e-9 * expected, "{run} by {by}: {sum} {expected}");
                assert_eq!(
                    rows.iter().filter_map(|row| row["tokens"].as_u64()).sum::<u64>(),
                    result[0]["tokens"].as_u64().unwrap()
                );
                // Both blank lines count, and what is unknown is shown.
                let zebra = rows.iter().filter(|row| row["line"] == 3).collect::<Vec<_>>();
                if by == "word" {
                    let words: Vec<&str> = zebra
                        .iter()
                        .filter_map(|row| row["word"].as_str())
                        .filter(|word| *word != "</s>")
                        .collect();
                    assert_eq!(words, ["a", "dog.", "The", "Zebra"], "{run}");
                    assert!(
                        rows.iter().filter(|row| row["word"] == "hears").all(|row| row["line"] == 6),
                        "{run}"
                    );
                }
                assert!(!zebra.is_empty(), "{run} by {by}");
            }
            let marks = bench.run(&["score", &run, "b.txt", "--no-eos"]);
            if unit.ends_with("line") {
                marks.succeeded()
            } else {
                marks.refused(2, &["without <s> and </s>"])
            };
        }
    }
    // Lines by themselves do not see what stands before them.
    bench.file("other.txt", "a dog likes\n\na dog. The Zebra\n");
    let third = |text: &str, context: &str| {
        rows(&bench, &["counted-stream-char", text, "--context", context], &["line", "nats"])[2].clone()
    };
    assert_eq!(third("b.txt", "line"), third("other.txt", "line"));
    let own = rows(&bench, &["counted-line-word"], &["line", "nats"]);
    assert!(own.len() > 10);
}

#[test]
fn eval_gives_each_file_a_row_and_lists_unknown_words() {
    let bench = bench();
    bench.file("d/one.txt", "a b\nzz a yy zz\n");
    bench.file("d/two.txt", "b a\n");
    let ran = bench.run(&["eval", "m.arpa", "d", "--per-file", "--json"]).succeeded();
    let events = ran.events();
    assert_eq!(events.len(), 3);
    let sum = |key: &str| events[..2].iter().map(|event| event["eval"][key].as_f64().unwrap()).sum::<f64>();
    let whole = bench.run(&["eval", "m.arpa", "d", "--json"]).succeeded().result();
    for key in ["tokens", "bytes", "oov"] {
        assert_eq!(whole["eval"][key].as_f64().unwrap(), sum(key), "{key}");
    }
    for key in ["nats_per_token", "bits_per_byte", "perplexity"] {
        let (all, one) = (events[2]["eval"][key].as_f64().unwrap(), whole["eval"][key].as_f64().unwrap());
        assert!((all - one).abs() < 1e-12 * one, "{key}: {all} {one}");
    }
    let table = bench.run(&["eval", "m.arpa", "d", "--per-file"]).succeeded().stdout;
    assert!(table.contains("d/one.txt") && table.contains("2 texts"), "{table}");

    let ran = bench.run(&["eval", "m.arpa", "d", "--unknown-words", "--json"]).succeeded().result();
    assert_eq!(
        ran["unknown_words"],
        serde_json::json!([{ "word": "zz", "count": 2 }, { "word": "yy", "count": 1 }])
    );
    let shown = bench.run(&["eval", "m.arpa", "d", "--unknown-words"]).succeeded().stdout;
    assert!(
        shown.contains("2 unknown words  count\nzz                   2\nyy                   1\n"),
        "{shown}"
    );
}
