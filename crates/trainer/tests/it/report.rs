//! `report.html`: figures, tables and texts. scripts/check_report.py tests it in a browser.

use std::collections::BTreeMap;

use crate::common::Bench;
use serde_json::Value;

/// Three variants, one of them neural, on a short text.
const GRID: &str = r#"
[compare]
seeds = [1, 2]
[data]
train = ["a.txt"]
val_fraction = 0.3
[train]
steps = 20
batch_size = 4
block_size = 16
shards = 1
[eval]
every_epochs = 0
[sample]
tokens = 20
[[variant]]
name = "trigram <i>"
model = { kind = "ngram", order = 3, smoothing = "witten_bell" }
[[variant]]
name = "bigram"
model = { kind = "ngram", order = 2, smoothing = "add_k" }
[[variant]]
name = "mlp"
model = { kind = "mlp", context = 3, n_embd = 4, n_hidden = 8 }
"#;

const PARTS: &str = r#"
[data]
embedded = "babble"
train_fraction = 0.02
[sample]
tokens = 20
[[variant]]
name = "trigram"
model = { kind = "ngram", order = 3, smoothing = "witten_bell" }
[[variant]]
name = "4-gram"
model = { kind = "ngram", order = 4, smoothing = "witten_bell" }
"#;

fn page(bench: &Bench, path: &str) -> String {
    std::fs::read_to_string(bench.path().join(path)).unwrap()
}

fn comparison(bench: &Bench, grid: &str) -> String {
    bench.text("a.txt", 400);
    bench.file("grid.toml", grid);
    bench.run(&["compare", "grid.toml", "--out", "c", "--quiet"]).succeeded();
    page(bench, "c/report.html")
}

/// The text of the body without tags.
fn read(html: &str) -> String {
    let (_, body) = html.split_once("<body>").unwrap();
    let (body, _) = body.split_once("<script>").unwrap();
    body.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text)).collect()
}

/// The tags of a kind, with their attributes.
fn tags<'a>(html: &'a str, kind: &str) -> Vec<&'a str> {
    let tags = html.split('<').filter_map(|part| part.split_once('>').map(|(tag, _)| tag));
    tags.filter(|tag| tag.split(' ').next() == Some(kind)).collect()
}

#[test]
fn words_are_explained_before_they_are_used() {
    let bench = Bench::new();
    bench.text("a.txt", 400);
    let sets = [
        "train.steps=40",
        "train.batch_size=4",
        "eval.every_steps=20",
        "eval.every_epochs=0",
        "model.n_embd=16",
    ];
    let sets = sets.map(|set| ["--set", set]).concat();
    bench.run(&[&["train", "a.txt", "--out", "run", "--report"][..], &sets].concat()).succeeded();
    for html in [page(&bench, "run/report.html"), comparison(&bench, GRID)] {
        let text = read(&html);
        let first = text.find("ECE").unwrap();
        let before = text[..first].trim_end_matches('(').trim_end();
        let spelt = before.ends_with("xpected calibration error")
            || text[first..].starts_with("ECE is the expected calibration error");
        assert!(spelt, "…{}", &text[first.saturating_sub(100)..first + 60]);
        for part in ["Brier", "nats per token", "95 % confidence interval", "fewer than 20 tokens"] {
            assert!(text.contains(part), "no «{part}»");
        }
    }
    let run = page(&bench, "run/report.html");
    let text = read(&run);
    assert!(text.contains("Only 2 evaluations, at the marks"), "{text}");
    // Axes have names and units.
    for axis in [
        "step",
        "nats per token",
        "confidence: q of the likeliest token",
        "accuracy",
        "entropy of the prediction, nats",
        "% of tokens",
    ] {
        assert!(run.contains(&format!(">\n{axis}\n</text>")), "no axis «{axis}»");
    }
}

#[test]
fn a_sample_is_shown_with_its_unknown_tokens() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    bench.run(&["train", "a.txt", "--out", "run", "-q", "--set", "model.kind=ngram"]).succeeded();
    let metrics = bench.path().join("run/metrics.jsonl");
    let record = std::fs::read_to_string(&metrics).unwrap();
    // The common substring is marked; `<unk>` is not encoded as the unknown token.
    for (drawn, shown) in [
        ("ggthe old man.", "<mark>the old man</mark>."),
        ("the <unk>old", "<pre>the &lt;unk&gt;old</pre></div>"),
    ] {
        let lines = record.lines().map(|line| {
            let mut event: Value = serde_json::from_str(line).unwrap();
            if event["event"] == "sample" {
                event["text"] = drawn.into();
            }
            format!("{event}\n")
        });
        std::fs::write(&metrics, lines.collect::<String>()).unwrap();
        bench.run(&["report", "run"]).succeeded();
        assert!(page(&bench, "run/report.html").contains(shown), "{drawn}");
    }
}

#[test]
fn tables_have_keys_units_and_headings_above_their_cells() {
    let bench = Bench::new();
    let html = comparison(&bench, GRID);
    let tables: Vec<&str> =
        html.split("<table").skip(1).map(|part| part.split("</table>").next().unwrap()).collect();
    assert_eq!(tables.len(), 2, "variants, differences");
    for table in tables {
        let words = |tag: &&str| tag.contains("class=\"words\"");
        let heads: Vec<bool> = tags(table, "th").iter().map(words).collect();
        assert!(heads[0] && heads.iter().any(|words| !words), "names to the left, numbers to the right");
        for row in table.split("<tr>").skip(2) {
            assert_eq!(tags(row, "td").iter().map(words).collect::<Vec<_>>(), heads);
        }
    }
}

/// A variant on a text of known entropy, and two on a text without.
const MIXED: &str = r#"
[compare]
seeds = [1, 2]
[data]
train = ["a.txt"]
val_fraction = 0.3
[train]
steps = 20
batch_size = 4
block_size = 16
shards = 1
[eval]
every_epochs = 0
[sample]
tokens = 0
[[variant]]
name = "trigram"
model = { kind = "ngram", order = 3, smoothing = "witten_bell" }
[[variant]]
name = "mlp"
model = { kind = "mlp", context = 3, n_embd = 4, n_hidden = 8 }
[[variant]]
name = "babble"
data = { train = [], embedded = "babble", train_fraction = 0.02 }
model = { kind = "ngram", order = 3, smoothing = "witten_bell" }
"#;

/// The rows of a table: by heading, the shown text and the sort value.
fn cells<'a>(html: &'a str, id: &str) -> Vec<BTreeMap<String, (&'a str, Option<f64>)>> {
    let (_, table) = html.split_once(&format!("id=\"{id}\"")).unwrap();
    let table = table.split("</table>").next().unwrap();
    let of = |row: &'a str, tag: &str| -> Vec<(&'a str, &'a str)> {
        let cells = row.split(tag).skip(1);
        cells.map(|cell| cell.split("</").next().unwrap().split_once('>').unwrap()).collect()
    };
    let mut rows = table.split("<tr>").skip(1);
    let heads = of(rows.next().unwrap(), "<th ");
    rows.map(|row| {
        let heads = heads.iter().map(|(_, heading)| heading.replace('\u{a0}', " "));
        let value = |(tag, text): (&'a str, &'a str)| {
            let value = tag.split("data-value=\"").nth(1).and_then(|rest| rest.split('"').next());
            (text, value.map(|value| value.parse().unwrap()))
        };
        heads.zip(of(row, "<td").into_iter().map(value)).collect()
    })
    .collect()
}

#[test]
fn numbers_stand_under_their_headings_and_sort_by_what_they_are() {
    let bench = Bench::new();
    let html = comparison(&bench, MIXED);
    let told: Value = serde_json::from_str(&page(&bench, "c/comparison.json")).unwrap();
    let close = |cell: Option<f64>, told: Option<f64>| match (cell, told) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * b.abs(),
        (a, b) => a == b,
    };
    let variants = cells(&html, "variants");
    assert_eq!(variants.len(), 3);
    for (row, told) in variants.iter().zip(told["variants"].as_array().unwrap()) {
        assert_eq!(row["variant"], (told["name"].as_str().unwrap(), None));
        assert_eq!(row["n"].1, Some(told["seeds"].as_array().unwrap().len() as f64));
        for (heading, pointer, times) in [
            ("nats per token", "/nats_per_token/mean", 1.0),
            ("perplexity", "/perplexity/mean", 1.0),
            ("bits per byte", "/bits_per_byte/mean", 1.0),
            ("ECE %", "/ece/mean", 100.0),
            ("ECE % after T", "/ece_after_temperature/mean", 100.0),
            ("T", "/temperature/mean", 1.0),
            ("Brier", "/brier/mean", 1.0),
            ("parameters", "/parameters", 1.0),
            ("training", "/train_seconds/mean", 1.0),
        ] {
            let told = told.pointer(pointer).and_then(Value::as_f64).map(|value| times * value);
            assert!(told.is_some() && close(row[heading].1, told), "{heading}: {:?}, {told:?}", row[heading]);
        }
        // An unknown gap is not infinite.
        let gap = row["gap to H(p)"];
        if told["name"] == "babble" {
            assert!(gap.1.unwrap() > 0.0 && gap.0 == format!("{:+.4}", gap.1.unwrap()), "{gap:?}");
        } else {
            assert_eq!(gap, ("–", None));
        }
    }
    for (row, told) in cells(&html, "differences").iter().zip(told["differences"].as_array().unwrap()) {
        assert_eq!(row["difference"].0, told["name"]);
        assert_eq!(
            (row["verdict"].0, row["calibration"].0),
            (told["verdict"].as_str().unwrap(), told["ece_verdict"].as_str().unwrap())
        );
        for (heading, pointer, times) in [
            ("Δ nats", "/nats_per_token/mean", 1.0),
            ("± seeds", "/nats_per_token/standard_error", 1.0),
            ("± text", "/nats_over_text/standard_error", 1.0),
            ("p", "/p", 1.0),
            ("Δ ECE %", "/ece/mean", 100.0),
        ] {
            let told = told.pointer(pointer).and_then(Value::as_f64).map(|value| times * value);
            assert!(close(row[heading].1, told), "{heading}: {:?}, {told:?}", row[heading]);
        }
    }
    let parts = cells(&html, "parts");
    assert_eq!(parts.iter().map(|row| row["H(p)"].1.is_some()).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!((parts[0]["+ approximation"], parts[0]["KL by itself"]), (("–", None), ("–", None)));
    let sum =
        ["H(p)", "+ approximation", "+ estimation", "+ miscalibration"].map(|part| parts[2][part].1.unwrap());
    assert!(close(parts[2]["= nats per token"].1, Some(sum.iter().sum())), "{sum:?}");
    assert!(close(
        parts[2]["KL by itself"].1,
        told.pointer("/variants/2/source/kl/mean").and_then(Value::as_f64)
    ));
}

#[test]
fn the_bars_of_the_loss_have_a_key_and_a_unit() {
    let bench = Bench::new();
    // Two models of the source's order: their approximation error is known to be zero.
    let html = comparison(&bench, PARTS);
    let (_, parts) = html.split_once("Decomposition of the loss").unwrap();
    let (key, rest) = parts.split_once("<table").unwrap();
    for (index, name) in ["H(p)", "approximation", "estimation", "miscalibration"].iter().enumerate() {
        assert!(key.contains(&format!("swatch p{index}\"></i>{name}</li>")), "{key}");
        assert!(rest.contains(&format!("class=\"p{index}\"")));
    }
    assert!(key.contains("nats per token; a full bar is "), "{key}");
}

#[test]
fn figures_exist_for_desktops_and_for_phones() {
    let bench = Bench::new();
    let html = comparison(&bench, GRID);
    assert_eq!(
        html.matches("<div class=\"wide\"><svg").count(),
        html.matches("<div class=\"narrow\"><svg").count()
    );
    let (_, narrow) = html.split_once("<div class=\"narrow\">").unwrap();
    let svg = narrow.split("</svg>").next().unwrap();
    assert!(
        svg.contains("width=\"358\"") && svg.contains("trigram &lt;i&gt;") && svg.contains("nats per token"),
        "{svg}"
    );
    assert!(!html.contains("<i>"), "names are no markup");
    // Every dot of a reliability diagram has a vertical interval, and dots are not connected.
    for figure in html.split("aria-label=\"accuracy by confidence\"").skip(1) {
        let figure = figure.split("</svg>").next().unwrap();
        let dots = figure.matches("<circle").count();
        assert!(dots >= 2);
        let coloured = |tag: &&str| tag.contains("#0B62B5") || tag.contains("#B05A00");
        let lines: Vec<&str> = tags(figure, "polyline").into_iter().filter(coloured).collect();
        assert_eq!(lines.len(), dots);
        for line in lines {
            let points = line.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
            let xs: Vec<&str> =
                points.split_whitespace().map(|point| point.split(',').next().unwrap()).collect();
            assert!(xs.len() == 2 && xs[0] == xs[1], "upright: {points}");
        }
    }
}

#[test]
fn variants_of_other_tokens_are_not_ranked_in_nats_a_token() {
    let bench = Bench::new();
    let other = format!("{GRID}\ntokenizer = {{ kind = \"byte\" }}\n");
    let html = comparison(&bench, &other);
    let text = read(&html);
    assert!(!text.contains("Lowest loss") && text.contains("none is called the best"), "{text}");
    assert!(html.contains("aria-label=\"bits per byte of every variant\""));
    let same = Bench::new();
    assert!(read(&comparison(&same, GRID)).contains("Lowest loss"));
}

/// The rules of a style sheet: selectors and declarations.
fn rules(css: &str) -> Vec<(&str, &str)> {
    let pieces = css.split('}').filter_map(|piece| piece.rsplit_once('{'));
    pieces.map(|(before, declared)| (before.rsplit(['{', '/']).next().unwrap().trim(), declared)).collect()
}

/// The declarations of a selector.
fn declared(css: &str, selector: &str) -> String {
    let of = |(selectors, _): &(&str, &str)| selectors.split(',').any(|one| one.trim() == selector);
    rules(css).into_iter().filter(of).map(|(_, declared)| declared).collect()
}

#[test]
fn pages_break_beside_rows_and_figures_and_words_stand_to_the_left() {
    let bench = Bench::new();
    let html = comparison(&bench, GRID);
    let (_, style) = html.split_once("<style>").unwrap();
    let (screen, print) = style.split_once("</style>").unwrap().0.split_once("@media print").unwrap();
    for heading in ["h1", "h2", "h3"] {
        assert!(declared(print, heading).contains("break-after: avoid"), "{heading}");
    }
    for whole in ["tr", "thead", "figure", ".card"] {
        assert!(declared(print, whole).contains("break-inside: avoid"), "{whole}");
    }
    // Headings are aligned like their cells.
    for cell in ["th.words", "td.words"] {
        assert!(declared(screen, cell).contains("text-align: left"), "{cell}");
    }
    for cell in ["th", "td"] {
        assert!(declared(screen, cell).contains("text-align: right"), "{cell}");
    }
    // A shadow marks the edge behind which a table continues.
    let scroll = declared(screen, ".scroll");
    for part in ["overflow-x: auto", "linear-gradient(to left, var(--shade), transparent)", "scroll, scroll"]
    {
        assert!(scroll.contains(part), "no «{part}» in {scroll}");
    }
    assert!(html.contains("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\""));
}

/// The value of an attribute of a tag.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    tag.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split('"').next())
}

/// The number of figures for phones; checks that all texts fit into them.
#[track_caller]
fn fitting(html: &str) -> usize {
    let figures =
        html.split("<div class=\"narrow\">").skip(1).map(|rest| rest.split("</svg>").next().unwrap());
    let fits = |figure: &str| {
        for text in figure.split("<text").skip(1) {
            let (tag, rest) = text.split_once('>').unwrap();
            let words =
                rest.split("</text>").next().unwrap().trim().replace("&lt;", "<").replace("&gt;", ">");
            let number = |name| attribute(tag, name).unwrap().parse::<f64>().unwrap();
            // Rotated text runs along the other axis.
            let (at, room) = match attribute(tag, "transform") {
                Some(_) => (number("y"), 300.0),
                None => (number("x"), 358.0),
            };
            // About 8 pixels per letter at size 12.
            let width = number("font-size") / 12.0 * 8.0 * words.chars().count() as f64;
            let from = match attribute(tag, "text-anchor").unwrap() {
                "start" => at,
                "middle" => at - width / 2.0,
                _ => at - width,
            };
            assert!(from >= 0.0 && from + width <= room, "{words}: from {from} to {}", from + width);
        }
    };
    figures.inspect(|figure| fits(figure)).filter(|figure| figure.matches("<text").count() > 4).count()
}

#[test]
fn words_in_figures_for_phones_are_not_cut() {
    // Two names of the shipped comparisons, and one that must be shortened.
    for name in [
        "transformer, 50 epochs, ε 0.05, decay 0.1",
        "transformer, 50 epochs, ε 0.1 toward kneser_ney",
        "a transformer with a name that is longer than any figure is wide, even one for a desktop",
    ] {
        let bench = Bench::new();
        assert_eq!(fitting(&comparison(&bench, &GRID.replace("trigram <i>", name))), 1);
        bench.run(&["report", "c/cells/mlp/seed-1"]).succeeded();
        assert_eq!(fitting(&page(&bench, "c/cells/mlp/seed-1/report.html")), 1);
    }
}
