//! The start of samples, valid prompts, and texts with tokens unknown to the initial model.

use crate::common::{Bench, Ran, sentences};
use serde_json::Value;

/// Lines of letters that are three bytes each.
fn wide(lines: usize) -> String {
    sentences(lines)
        .chars()
        .map(|c| if c.is_ascii_lowercase() { char::from_u32(0x4E00 + 37 * c as u32).unwrap() } else { c })
        .collect()
}

fn set(keys: &[&'static str]) -> Vec<&'static str> {
    keys.iter().flat_map(|key| ["--set", key]).collect()
}

fn train(bench: &Bench, text: &str, out: &str, keys: &[&'static str]) -> Vec<Value> {
    bench.run(&[&["train", text, "--out", out, "--json"][..], &set(keys)].concat()).succeeded().events()
}

fn sample(bench: &Bench, model: &str, seed: u64, more: &[&str]) -> String {
    let seed = seed.to_string();
    let all = [&["sample", model, "--tokens", "12", "--json", "--seed", &seed][..], more].concat();
    bench.run(&all).succeeded().result()["text"].as_str().unwrap().to_owned()
}

/// A sample without randomness.
fn greedy(bench: &Bench, model: &str) -> String {
    let all = ["sample", model, "--tokens", "12", "--json", "--temperature", "0"];
    bench.run(&all).succeeded().result()["text"].as_str().unwrap().to_owned()
}

/// The first characters of the lines of `text`.
fn starts(text: &str) -> Vec<char> {
    text.lines().filter_map(|line| line.chars().next()).collect()
}

const COUNTED: [&str; 3] = ["model.kind=ngram", "model.order=6", "sample.tokens=30"];
const SMALL: [&str; 8] = [
    "model.n_layer=1",
    "model.n_head=2",
    "model.n_embd=16",
    "train.steps=30",
    "train.block_size=16",
    "optim.warmup=2",
    "sample.tokens=30",
    "eval.every_epochs=0",
];

#[test]
fn a_sample_without_a_prompt_starts_as_a_line_does() {
    let bench = Bench::new();
    let text = wide(120);
    bench.file("a.txt", &text);
    let lines = starts(&text);
    for kind in ["tokenizer.kind=byte", "tokenizer.kind=char", "tokenizer.kind=word", "tokenizer.kind=bpe"] {
        let out = &kind["tokenizer.kind=".len()..];
        let events = train(&bench, "a.txt", out, &[&COUNTED[..], &[kind]].concat());
        for seed in 0..6 {
            let written = sample(&bench, out, seed, &["--temperature", "1"]);
            assert!(lines.contains(&written.chars().next().unwrap()), "{out}: {written:?}");
            let whole = written.trim_end_matches('\u{FFFD}');
            assert!(!whole.contains('\u{FFFD}') && !whole.contains("<unk>"), "{out}: {written:?}");
        }
        assert!(lines.contains(&greedy(&bench, out).chars().next().unwrap()));
        // The same start as at the end of training, from the run's record.
        let shown = events.iter().find(|event| event["event"] == "sample").unwrap();
        let again = ["--tokens", "30", "--temperature", "0.8", "--seed", "1337", "--json"];
        let again = bench.run(&[&["sample", out][..], &again].concat()).succeeded().result();
        assert_eq!(again["text"], shown["text"], "{out}");
    }
}

#[test]
fn a_text_of_one_line_is_started_as_it_starts() {
    let bench = Bench::new();
    bench.file("a.txt", wide(120).replace('\n', " "));
    let first = wide(1).chars().next().unwrap();
    let word = wide(1).split(' ').next().unwrap().to_owned();
    for kind in ["tokenizer.kind=byte", "tokenizer.kind=char", "tokenizer.kind=bpe", "tokenizer.kind=word"] {
        let out = &kind["tokenizer.kind=".len()..];
        train(&bench, "a.txt", out, &[&SMALL[..], &[kind]].concat());
        for seed in 0..4 {
            let written = sample(&bench, out, seed, &[]);
            assert!(written.starts_with(first), "{out}: {written:?}");
            assert!(out != "word" || written.starts_with(&word), "{written:?}");
        }
    }
}

#[test]
fn a_trained_model_never_starts_with_the_unknown() {
    let bench = Bench::new();
    bench.text("a.txt", 120);
    for (out, kind) in [("char", "tokenizer.kind=char"), ("word", "tokenizer.kind=word")] {
        train(&bench, "a.txt", out, &[&SMALL[..], &[kind]].concat());
        let drawn = |temperature| {
            let bench = &bench;
            (0..5).map(move |seed| sample(bench, out, seed, &["--temperature", temperature]))
        };
        for written in drawn("1").chain(drawn("100")).chain([greedy(&bench, out)]) {
            assert!(!written.starts_with("<unk>") && !written.starts_with('\n'), "{out}: {written:?}");
        }
    }
    // A run of an older version without this record starts after a line end.
    let metrics = bench.path().join("char/metrics.jsonl");
    let text = std::fs::read_to_string(&metrics).unwrap();
    let before = sample(&bench, "char", 5, &[]);
    assert!(text.lines().next().unwrap().contains("\"opening\""));
    std::fs::write(&metrics, text.replacen("\"opening\"", "\"closing\"", 1)).unwrap();
    assert_eq!(sample(&bench, "char", 5, &[]), before);
    // A record with ids outside of the vocabulary is ignored.
    std::fs::write(&metrics, text.replacen("\"before\":[", "\"before\":[9999,", 1)).unwrap();
    assert_eq!(sample(&bench, "char", 5, &[]), before);
    // Models of sentences start sentences.
    train(
        &bench,
        "a.txt",
        "lines",
        &["model.kind=ngram", "model.order=3", "data.unit=line", "model.smoothing=mle"],
    );
    for seed in 0..5 {
        assert!(
            starts(&sentences(120)).contains(&sample(&bench, "lines", seed, &[]).chars().next().unwrap())
        );
    }
}

#[test]
fn a_prompt_that_the_model_does_not_know_is_refused_by_name() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    train(&bench, "a.txt", "char", &COUNTED);
    train(&bench, "a.txt", "word", &[&COUNTED[..], &["tokenizer.kind=word"]].concat());
    train(&bench, "a.txt", "byte", &[&COUNTED[..], &["tokenizer.kind=byte"]].concat());
    bench
        .run(&["sample", "char", "--prompt", "the Ω cat Ω\u{1b}"])
        .refused(2, &["does not know: \"\\u{1b}\", \"Ω\"\n", "character", "--allow-unknown"]);
    bench
        .run(&["sample", "word", "--prompt", "the zebra hears\ta gnu"])
        .refused(2, &["does not know: \"gnu\", \"zebra\"\n", "word", "--allow-unknown"]);
    for (model, prompt) in [("char", "the cΩt"), ("word", "the zebra")] {
        let ran =
            bench.run(&["sample", model, "--prompt", prompt, "--allow-unknown", "--tokens", "3"]).succeeded();
        assert!(ran.stdout.starts_with("the "), "{}", ran.stdout);
    }
    // A known prompt is continued as before; bytes know every prompt.
    let ran = bench.run(&["sample", "char", "--prompt", "the cat", "--tokens", "5"]).succeeded();
    assert!(ran.stdout.starts_with("the cat"), "{}", ran.stdout);
    bench.run(&["sample", "byte", "--prompt", "Ω", "--tokens", "3"]).succeeded();
}

#[test]
fn numbers_out_of_range_are_refused_in_our_words() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    train(&bench, "a.txt", "run", &COUNTED);
    bench.run(&["sample", "run", "--temperature", "-1"]).refused(2, &["--temperature is -1", "0 or more"]);
    bench.run(&["sample", "run", "--top-p", "-0.5"]).refused(2, &["--top-p is -0.5"]);
    bench.run(&["sample", "run", "--seed", "-3"]).refused(2, &["--seed"]);
    // The same range of seeds as in a config.
    bench.run(&["sample", "run", "--seed", "9223372036854775807", "--tokens", "1"]).succeeded();
    bench.run(&["sample", "run", "--seed", "9223372036854775808"]).refused(2, &["9223372036854775807"]);
}

#[test]
fn a_model_is_not_started_from_on_a_text_that_it_does_not_know() {
    let bench = Bench::new();
    bench.text("a.txt", 120);
    bench.file("wide.txt", wide(60));
    bench.file("few.txt", sentences(60).replacen("bird", "birδ", 6));
    train(&bench, "a.txt", "run", &SMALL);
    bench.run(&["export", "run", "--format", "hf", "--out", "hf"]).succeeded();
    let short = ["train.steps=2", "train.block_size=16", "sample.tokens=0", "model.init_from=hf"];
    let on = |text: &'static str, more: &[&'static str]| {
        bench.run(&[&["train", text, "--out", "on"][..], &set(&[&short[..], more].concat())].concat())
    };
    let ran = on("wide.txt", &[]).refused(2, &[" % of the training text is unknown", "model.max_unknown=1"]);
    // The most frequent first.
    let count = |c: char| {
        let text = wide(60);
        let train = &text[..text.len() * 9 / 10];
        train.matches(c).count()
    };
    let most = wide(60).chars().filter(|c| !c.is_ascii()).max_by_key(|c| count(*c)).unwrap();
    assert!(ran.stderr.contains(&format!("tokens: \"{most}\" ")), "{}", ran.stderr);
    assert!(!bench.path().join("on").exists());
    on("wide.txt", &["model.max_unknown=0.1"]).refused(2, &["unknown"]);
    // A few unknown characters can be added, or allowed; another kind of tokens is said.
    on("few.txt", &[]).refused(2, &["1 different character, 6 of", "--extend-vocab"]);
    let ran = on("few.txt", &["tokenizer.kind=word", "model.max_unknown=0.1"]).succeeded();
    assert!(ran.stderr.contains("\"δ\" 6×"), "{}", ran.stderr);
    let note = "has its own tokenizer (char); tokenizer.kind = word is not used";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    std::fs::remove_dir_all(bench.path().join("on")).unwrap();
    on("wide.txt", &["model.max_unknown=1"]).succeeded();
    std::fs::remove_dir_all(bench.path().join("on")).unwrap();
    // Without its tokenizer the meaning of its tokens is unknown.
    std::fs::remove_file(bench.path().join("hf/tokenizer.json")).unwrap();
    on("a.txt", &["model.kind=transformer"]).refused(2, &["no tokenizer.json", "hint"]);
    let bad = ["train.steps=1", "model.max_unknown=0.5"];
    bench
        .run(&[&["train", "a.txt"][..], &set(&bad)].concat())
        .refused(2, &["model.max_unknown means nothing"]);
}

/// Unknown tokens for an initial model are counted exactly.
#[test]
fn the_allowed_share_of_unknown_characters_is_exact() {
    let bench = Bench::new();
    bench.text("a.txt", 120);
    bench.text("val.txt", 20);
    train(&bench, "a.txt", "run", &SMALL);
    bench.run(&["export", "run", "--format", "hf", "--out", "hf"]).succeeded();
    let short = [
        "train.steps=1",
        "train.block_size=16",
        "sample.tokens=0",
        "model.init_from=hf",
        "model.max_unknown=0.1",
        "data.val=val.txt",
    ];
    let on = |unknown: usize| {
        let known: String = sentences(60).chars().take(1000 - unknown).collect();
        bench.file("b.txt", "δ".repeat(unknown) + &known);
        bench.run(&[&["train", "b.txt", "--out", "on"][..], &set(&short)].concat())
    };
    let said = |share: &str, unknown: usize| {
        format!(
            "{share} % of the training text is unknown to the model of model.init_from (1 different character, {unknown} of 1,000 tokens: \"δ\" {unknown}×)"
        )
    };
    for (unknown, share) in [(99, "9.9"), (100, "10.0")] {
        let ran = on(unknown).succeeded();
        assert!(ran.stderr.contains(&said(share, unknown)), "{}", ran.stderr);
        std::fs::remove_dir_all(bench.path().join("on")).unwrap();
    }
    on(101).refused(2, &[&said("10.1", 101), "model.max_unknown=1"]);
    assert!(!bench.path().join("on").exists());
}

/// The texts of the samples of a command.
fn texts(bench: &Bench, arguments: &[&str]) -> Vec<String> {
    let ran = bench.run(&[&["sample"], arguments, &["--json"]].concat()).succeeded();
    ran.events().iter().map(|event| event["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn samples_of_bytes_have_whole_characters() {
    let bench = Bench::new();
    bench.file("a.txt", wide(120));
    train(&bench, "a.txt", "trained", &[&SMALL[..], &["tokenizer.kind=byte"]].concat());
    train(&bench, "a.txt", "counted", &[&COUNTED[..], &["tokenizer.kind=byte", "model.order=3"]].concat());
    bench.run(&["export", "counted", "--out", "bytes.arpa"]).succeeded();
    for model in ["trained", "counted", "bytes.arpa"] {
        let drawn = texts(&bench, &[model, "--samples", "200", "--tokens", "31", "--temperature", "1"]);
        assert_eq!(drawn.len(), 200);
        for text in &drawn {
            assert!(!text.contains('\u{FFFD}') && !text.is_empty(), "{model}: {text:?}");
        }
    }
    // Bytes that are no UTF-8 are generated where the text has them.
    let latin: Vec<u8> = sentences(120).bytes().map(|byte| if byte == b'e' { 0xE9 } else { byte }).collect();
    bench.file("latin.txt", latin);
    train(&bench, "latin.txt", "latin", &[&COUNTED[..], &["tokenizer.kind=byte"]].concat());
    assert!(texts(&bench, &["latin", "--prompt", "the c"])[0].contains('\u{FFFD}'));
}

#[test]
fn the_unknown_is_drawn_only_where_it_is_asked_for() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    let ngram = ["model.kind=ngram", "tokenizer.kind=word", "tokenizer.min_count=9", "model.order=2"];
    train(&bench, "a.txt", "smooth", &[&ngram[..], &["model.smoothing=add_k"]].concat());
    let drawn = texts(&bench, &["smooth", "--samples", "1000", "--tokens", "20", "--temperature", "1"]);
    assert!(drawn.len() == 1000 && drawn.iter().all(|text| !text.contains("<unk>")));
    let drawn = texts(&bench, &["smooth", "--samples", "20", "--allow-unknown", "--temperature", "1"]);
    assert!(drawn.iter().any(|text| text.contains("<unk>")));
    // Where nothing else has a probability, that is said.
    bench.file("b.txt", "a x1 a x2 a x3 a x4\n".repeat(2) + "a x5 a x6\n");
    let rare = ["model.kind=ngram", "model.order=2", "model.smoothing=mle", "tokenizer.kind=word"];
    train(&bench, "b.txt", "mle", &[&rare[..], &["tokenizer.min_count=5", "data.val=b.txt"]].concat());
    bench
        .run(&["sample", "mle", "--prompt", "a"])
        .refused(1, &["every next token but <unk> has probability zero", "--allow-unknown"]);
}

#[test]
fn a_sample_depends_on_its_number_and_not_on_the_others() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    train(&bench, "a.txt", "run", &SMALL);
    let five = texts(&bench, &["run", "--samples", "5", "--tokens", "20"]);
    assert_eq!(texts(&bench, &["run", "--samples", "2", "--tokens", "20"]), five[..2]);
    assert_eq!(texts(&bench, &["run", "--tokens", "20"]), five[..1]);
    assert!(five[0] != five[1] && five[1] != five[2], "{five:?}");
    let ran = bench.run(&["sample", "run", "--samples", "2", "--tokens", "20"]).succeeded();
    let shown = format!("--- sample 1 ---\n{}\n--- sample 2 ---\n{}\n", five[0], five[1]);
    let ends = |text: &str| text.replace("\n\n", "\n");
    assert_eq!(ends(&ran.stdout), ends(&shown));
    bench.run(&["sample", "run", "--samples", "2", "--temperature", "0"]).refused(2, &["--samples"]);
}

#[test]
fn samples_end_at_lines_and_strings() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    let texts_of = |more: &[&str]| texts(&bench, &[&["run"], more].concat());
    for unit in ["data.unit=line", "data.unit=stream", "data.unit=document"] {
        let text = if unit.ends_with("document") {
            let lines =
                sentences(60).lines().map(|line| format!("{{\"text\": \"{line}\"}}\n")).collect::<String>();
            bench.file("a.jsonl", lines);
            "a.jsonl"
        } else {
            "a.txt"
        };
        let field = if unit.ends_with("document") { "data.field=text" } else { "sample.tokens=9" };
        drop(std::fs::remove_dir_all(bench.path().join("run")));
        train(&bench, text, "run", &[&COUNTED[..], &[unit, field]].concat());
        let drawn = bench.run(&["sample", "run", "--lines", "7"]).succeeded();
        assert_eq!(drawn.stdout.lines().count(), 7, "{unit}: {}", drawn.stdout);
        assert!(drawn.stdout.ends_with(".\n"), "{unit}: {}", drawn.stdout);
        let prompted = bench.run(&["sample", "run", "--lines", "3", "--prompt", "the c"]).succeeded().stdout;
        let repeated = prompted.matches("the c").count();
        assert!(prompted.starts_with("the c") && (repeated >= 3 || unit.ends_with("stream")), "{prompted}");
        let cut = bench.run(&["sample", "run", "--lines", "2", "--tokens", "3"]).succeeded();
        assert!(cut.stderr.contains("did not end within 3 tokens (--tokens)"), "{unit}: {}", cut.stderr);
        // The string may be in the prompt, is not shown, and may be of several tokens.
        let stopped = texts_of(&["--prompt", "the c", "--stop", "the ", "--seed", "3", "--tokens", "90"]);
        let whole = texts_of(&["--prompt", "the c", "--seed", "3", "--tokens", "90"]);
        let at = whole[0][5..].find("the ").map_or(whole[0].len(), |at| at + 5);
        assert_eq!(stopped[0], whole[0][..at], "{unit}");
    }
}

#[test]
fn prompts_come_from_files_and_from_lines_of_the_input() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    train(&bench, "a.txt", "run", &COUNTED);
    let plain = texts(&bench, &["run", "--prompt", "the c", "--tokens", "20"]);
    bench.file("prompt.txt", "the c\n");
    assert_eq!(texts(&bench, &["run", "--prompt-file", "prompt.txt", "--tokens", "20"]), plain);
    let piped = |arguments: &[&str], input: &str| {
        let mut child = bench.command(arguments);
        let mut child = child
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        Ran::of(child.wait_with_output().unwrap(), arguments)
    };
    let ran = piped(&["sample", "run", "--prompt-file", "-", "--tokens", "20", "--json"], "the c\r\n");
    assert_eq!(ran.succeeded().result()["text"], plain[0]);
    // A prompt that is refused does not end the session.
    let ran = piped(&["sample", "run", "--interactive", "--tokens", "20"], "the c\nΩ\nthe\n").succeeded();
    assert!(ran.stdout.starts_with(&plain[0]), "{}", ran.stdout);
    assert!(ran.stderr.contains("does not know: \"Ω\"") && !ran.stderr.contains("> "), "{}", ran.stderr);
    assert!(ran.stdout[plain[0].len()..].trim_start().starts_with("the"), "{}", ran.stdout);
    bench.run(&["sample", "run", "--prompt-file", "none.txt"]).refused(1, &["none.txt"]);
    bench
        .run(&["sample", "run", "--prompt-file", "prompt.txt", "--interactive"])
        .refused(2, &["--interactive"]);
}

#[test]
fn without_a_model_the_embedded_stories_are_sampled() {
    let bench = Bench::new();
    let ran = bench.run(&["sample", "--lines", "2", "--min-p", "0.02", "--repetition-penalty", "1.05"]);
    let ran = ran.succeeded();
    assert_eq!(ran.stdout.lines().count(), 2, "{}", ran.stdout);
    assert!(ran.stdout.chars().next().unwrap().is_uppercase(), "{}", ran.stdout);
    bench.run(&["sample", "--min-p", "2"]).refused(2, &["--min-p is 2"]);
    bench.run(&["sample", "--repetition-penalty", "0"]).refused(2, &["--repetition-penalty is 0"]);
    bench.run(&["sample", "--lines", "0"]).refused(2, &["--lines"]);
}
