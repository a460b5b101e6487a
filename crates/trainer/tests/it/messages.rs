//! Messages describe the mistake in the user's words and say what to type.

use crate::common::{Bench, Ran};

fn run(bench: &Bench, line: &str) -> Ran {
    bench.run(&line.split(' ').collect::<Vec<_>>())
}

/// A command line, its exit code, and texts that its message must and must not contain.
type Told<'a> = (&'a str, i32, &'a [&'a str], &'a [&'a str]);

#[track_caller]
fn refuses(bench: &Bench, cases: &[Told<'_>]) {
    let before = bench.entries();
    for (line, code, parts, wrong) in cases {
        let ran = run(bench, line).refused(*code, parts);
        for part in *wrong {
            assert!(!ran.stderr.contains(part), "surprisal {line}: «{part}» in\n{}", ran.stderr);
        }
        assert_eq!(bench.entries(), before, "surprisal {line} left something behind");
    }
}

#[test]
fn a_name_that_is_not_known_is_answered_by_those_that_are() {
    let bench = Bench::new();
    bench.text("a.txt", 40);
    refuses(
        &bench,
        &[
            (
                "count a.txt --out x.arpa --smoothing kn",
                2,
                &["'kn'", "kneser_ney", "witten_bell"],
                &["given"],
            ),
            ("count a.txt --out x.arpa --smoothing given", 2, &["'given'", "modified_kneser_ney"], &[]),
            (
                "count a.txt --out x.arpa --tokenizer bpe",
                2,
                &["'bpe'", "byte, char, word"],
                &["struct variant"],
            ),
            ("count a.txt --out x.arpa --unit page", 2, &["'page'", "line, stream"], &["variant"]),
            (
                "count a.txt --out x.arpa --literal-specials keep",
                2,
                &["'keep'", "unk, skip, error"],
                &["variant"],
            ),
            ("count a.txt --out x.arpa --compat srilm", 2, &["'srilm'", "kenlm"], &["variant"]),
            (
                "export a.txt --out x --format onnx",
                2,
                &["'onnx'", "arpa, ngram, infgram, kenlm, hf, gguf"],
                &[],
            ),
            ("train a.txt --out -", 2, &["'-' for '--out <DIR>'", "a folder is written"], &[]),
            (
                "count a.txt --out x.arpa --smoothing witten_bell --compat kenlm",
                2,
                &["witten_bell", "kneser_ney or modified_kneser_ney"],
                &["alone"],
            ),
            ("export a.txt --out x", 2, &["x has no known format", "--format"], &["\"\""]),
            ("train a.txt --log wandb", 2, &["'wandb'", "tensorboard, csv"], &[]),
            ("bench speed", 2, &["'speed'", "loss, ngram, step"], &[]),
            ("trian a.txt", 2, &["'trian'", "'train'"], &[]),
            ("a.txt", 2, &["'a.txt'", "surprisal train a.txt"], &[]),
        ],
    );
}

#[test]
fn flags_that_are_settings_are_answered_by_set() {
    let bench = Bench::new();
    bench.text("a.txt", 40);
    refuses(
        &bench,
        &[
            ("train a.txt --seed 3", 2, &["'--seed'", "--set train.seed=VALUE"], &["-- --seed", "similar"]),
            ("train a.txt --epochs 3", 2, &["--set train.epochs=VALUE"], &["-- --epochs", "similar"]),
            ("train a.txt --steps 3", 2, &["--set train.steps=VALUE"], &[]),
            ("train a.txt --lr 3", 2, &["--set optim.lr=VALUE"], &[]),
            ("train a.txt --order 3", 2, &["--set model.order=VALUE"], &[]),
            ("train a.txt --model mlp", 2, &["--set model.kind=VALUE"], &[]),
            ("train a.txt --val-fraction 0.2", 2, &["--set data.val_fraction=VALUE"], &[]),
            ("train a.txt --reprot", 2, &["'--report'"], &["--set"]),
            ("train a.txt --learning-rate 3", 2, &["'--learning-rate'"], &["-- --learning-rate"]),
            ("train a.txt --tokenizer bpe", 2, &["--set tokenizer.kind=VALUE"], &[]),
            ("compare a.toml --batch-size 3", 2, &["--set train.batch_size=VALUE"], &[]),
            ("sample m --length 3", 2, &["'--length'"], &["-- --length", "--set"]),
            ("eval m --seed 3", 2, &["'--seed'"], &["-- --seed", "--set"]),
            ("count a.txt -o x.arpa", 2, &["--order", "whole number", "is --out"], &[]),
            (
                "count a.txt -t 2",
                2,
                &["'-t'", "flags with this letter: --temp, --tokenizer, --tokenizer-file"],
                &["-- -t"],
            ),
            ("sample m -x", 2, &["'-x'"], &["-- -x"]),
            ("sample m once", 2, &["'once'", "--prompt TEXT"], &[]),
        ],
    );
}

#[test]
fn numbers_out_of_range_are_told_the_range() {
    let bench = Bench::new();
    bench.text("a.txt", 40);
    run(&bench, "count a.txt --order 2 --out m.ngram").succeeded();
    refuses(
        &bench,
        &[
            (
                "explain m.ngram --text the --step 1 --smoothing 2",
                2,
                &["--smoothing is 2", "from 0 to 1"],
                &[],
            ),
            ("explain m.ngram --text the --step 1 --smoothing nan", 2, &["from 0 to 1"], &[]),
            ("explain m.ngram --text the --step 1 --smoothing -0.1", 2, &["from 0 to 1"], &["-- -0.1"]),
            ("explain m.ngram --text the --step 1 --smoothing inf", 2, &["from 0 to 1"], &[]),
            ("sample m.ngram --temperature -1", 2, &["temperature"], &["-- -1"]),
            ("sample m.ngram --tokens -1", 2, &["'-1'", "whole number"], &["invalid digit", "-- -1"]),
            ("sample m.ngram --tokens 1.5", 2, &["'1.5'", "whole number"], &["invalid digit"]),
            ("sample m.ngram --tokens 99999999999999999999", 2, &["too large"], &["target type"]),
            ("train a.txt --budget -5s", 2, &["--budget -5s", "not a duration", "90s"], &["unexpected"]),
            ("explain m.ngram --text -s --step 9", 2, &["--step is 9"], &["unexpected"]),
            ("sample m.ngram --prompt -s", 2, &["does not know: \"-s\""], &["unexpected"]),
            ("sample m.ngram --temperature warm", 2, &["'warm'", "a number is expected"], &["literal"]),
            (
                "count a.txt --out x.arpa --order 2 --prune 0 0 1 1",
                2,
                &["at most 2", "not 4"],
                &["none is lower"],
            ),
            (
                "count a.txt --out x.arpa --order 3 --prune 0 2 1",
                2,
                &["none is lower", "[0, 2, 1]"],
                &["at most"],
            ),
            (
                "count --out x.arpa --prune 0 0 1 a.txt",
                2,
                &["'a.txt'", "texts come before", "`--`"],
                &["digit"],
            ),
        ],
    );
    // As the message suggests.
    run(&bench, "count --out x.arpa --order 2 --prune 0 1 -- a.txt").succeeded();
    run(&bench, "explain m.ngram --text the --step 1 --smoothing 1").succeeded();
}

#[test]
fn an_export_that_is_there_is_no_run_to_go_on_with() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    let small = "--set model.n_layer=1 --set model.n_embd=8 --set model.n_head=1 --set train.steps=1";
    run(&bench, &format!("train a.txt --out run --quiet {small}")).succeeded();
    run(&bench, "export run --format hf --out hf").succeeded();
    bench.file("full/notes.txt", "mine");
    refuses(&bench, &[("export run --format hf --out full", 1, &["full", "--out"], &["--resume"])]);
    assert_eq!(std::fs::read(bench.path().join("full/notes.txt")).unwrap(), b"mine");
}

#[test]
fn suffixes_are_read_in_any_case() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    bench.file("c.TOML", "[model]\nkind = \"uniform\"\n");
    let ran = run(&bench, "train c.TOML a.txt --out run").succeeded();
    assert!(ran.stderr.contains("a.txt: ") && !ran.stderr.contains("2 files"), "{}", ran.stderr);
    run(&bench, "train a.txt c.TOML").refused(2, &["c.TOML", "config"]);
    run(&bench, "count a.txt --order 2 --out m.ARPA --out m.NGRAM --out m.COUNTS --out m.Tsv").succeeded();
    run(&bench, "count a.txt --order 2 --out l.arpa --out l.ngram --out l.counts --out l.tsv").succeeded();
    run(&bench, "export m.NGRAM --out e.ARPA").succeeded();
    let read = |name: &str| std::fs::read(bench.path().join(name)).unwrap();
    for (upper, lower) in
        [("m.ARPA", "l.arpa"), ("m.NGRAM", "l.ngram"), ("m.COUNTS", "l.counts"), ("m.Tsv", "l.tsv")]
    {
        assert!(read(upper) == read(lower), "{upper}");
    }
    assert!(read("e.ARPA") == read("m.ARPA"));
    run(&bench, "mix m.NGRAM m.ARPA --weights 1,1 --out x.NGRAM").succeeded();
    run(&bench, "merge m.COUNTS --out n.ARPA").succeeded();
    assert!(read("n.ARPA") == read("m.ARPA"));
}

#[test]
fn a_config_that_is_given_as_a_text_is_said() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    bench.file("run.conf", "[train]\nsteps = 3\n[model]\nkind = \"mlp\"\n");
    bench.file("grid.txt", "[compare]\nseeds = [1]\n[[variant]]\nname = \"a\"\n");
    bench.file("notes.txt", "[ideas]\nfirst = 1\n");
    bench.file("run.json", "{\"train\": {\"steps\": 3}}\n");
    bench.file("ideas.json", "{\"train\": \"by bus\"}\n");
    for (line, name) in [
        ("count run.json --out j.arpa --order 2", Some("run.json")),
        ("count ideas.json --out i.arpa --order 2", None),
        ("train run.conf a.txt --set model.kind=uniform --out r", Some("run.conf")),
        ("train a.txt grid.txt --set model.kind=uniform --set data.unit=stream --out s", Some("grid.txt")),
        ("count run.conf --out x.arpa --order 2", Some("run.conf")),
        ("train a.txt notes.txt --set model.kind=uniform --out t", None),
        ("train a.txt --set data.val=run.conf --set model.kind=uniform --out u", Some("run.conf")),
        ("eval s run.conf", Some("run.conf")),
        ("mix s u --heldout grid.txt", Some("grid.txt")),
    ] {
        let told = run(&bench, line).succeeded().stderr;
        let said = told.lines().find(|line| line.contains("looks like a config")).map(str::to_owned);
        assert_eq!(said.is_some(), name.is_some(), "{told}");
        assert!(name.is_none_or(|name| said.unwrap().contains(name)), "{told}");
    }
}

#[test]
fn one_is_one() {
    let bench = Bench::new();
    bench.file("one.txt", "xy");
    bench.file("folder/only.txt", crate::common::sentences(60));
    bench.text("a.txt", 60);
    refuses(&bench, &[("train one.txt", 1, &["1 token to train on"], &["1 tokens"])]);
    let small = "--set model.kind=mlp --set train.steps=1 --set train.shards=1 --set train.threads=1";
    let told = run(&bench, &format!("train folder --out r {small} --set sample.tokens=0")).succeeded().stderr;
    for part in ["1 shard on 1 thread\n", "1 step,"] {
        assert!(told.contains(part), "no «{part}» in\n{told}");
    }
    let explained = run(&bench, "explain r --text a").succeeded().stdout;
    assert!(explained.contains("over 1 token\n"), "{explained}");
    bench.file("b.txt", "one");
    let counted = run(&bench, "count b.txt --order 1 --out m.arpa --tokenizer char --unit stream");
    assert!(!counted.stderr.contains("1 tokens"), "{}", counted.stderr);
    run(&bench, "count b.txt --order 3 --out b.counts").succeeded();
    let inspected = run(&bench, "inspect b.counts").succeeded().stdout;
    assert!(inspected.contains("1 different, counted 1 time\n"), "{inspected}");
}

#[test]
fn the_log_fits_80_columns() {
    let bench = Bench::new();
    bench.text("a.txt", 200);
    let small = "--set model.kind=mlp --set train.steps=6 --set eval.every_steps=2 --set sample.tokens=0 \
                 --set data.train_fraction=0.05 --set data.val_fraction=0.01";
    for (text, more) in [("a.txt", ""), ("a.txt", " --set loss.label_smoothing=0.1"), ("", "")] {
        let line =
            format!("train {text} --out r{}{} {small}{more}", text.len(), more.len()).replace("  ", " ");
        let told = run(&bench, &line).succeeded().stderr;
        let from = told.lines().position(|line| line.starts_with("baseline")).unwrap();
        let rows: Vec<&str> =
            told.lines().skip(from).filter(|line| line.contains("  ") && !line.contains("adamw")).collect();
        assert!(rows.len() >= 8, "{told}");
        assert!(rows.iter().any(|row| row.contains("train nll") && row.contains("val nats")), "{told}");
        assert_eq!(told.contains("gap to H(p)"), text.is_empty(), "{told}");
        for row in rows {
            assert!(row.chars().count() <= 80, "{row}\n{told}");
        }
    }
}

#[test]
fn two_ways_to_say_one_thing_are_not_chosen_from_in_silence() {
    let bench = Bench::new();
    bench.text("a.txt", 200);
    bench.text("b.txt", 100);
    bench
        .run(&["train", "a.txt", "--set", "data.train=b.txt", "--out", "run"])
        .refused(2, &["data.train=b.txt and a.txt both give"]);
    // Validation on the training text gives a warning, and the report mentions it.
    let set = ["--set", "data.val=a.txt", "--set", "model.kind=ngram", "--set", "model.order=2"];
    let ran = bench.run(&[&["train", "a.txt", "--report", "--out", "own"], &set[..]].concat()).succeeded();
    assert!(ran.stderr.contains("the validation text is the training text"), "{}", ran.stderr);
    let page = std::fs::read_to_string(bench.path().join("own/report.html")).unwrap();
    assert!(page.contains("which it was also trained on"), "{page}");
    let ran = bench.run(&["eval", "own", "--json"]).succeeded().result();
    assert_eq!(ran["text"], "a.txt");
}

#[test]
fn a_prompt_is_the_beginning_of_one_sentence() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    bench.run(&["count", "a.txt", "--order", "2", "--out", "m.arpa"]).succeeded();
    let sample = |prompt: &str| {
        bench.run(&["sample", "m.arpa", "--tokens", "3", "--temperature", "0", "--prompt", prompt])
    };
    assert_eq!(sample("<s> the").succeeded().stdout, sample("the").succeeded().stdout);
    assert_eq!(sample("<s>").succeeded().stdout, sample("").succeeded().stdout);
    sample("the cat </s>").refused(2, &["</s>"]);
    sample("the\ncat").refused(2, &["one line"]);
}

#[test]
fn discounts_without_a_closed_form_are_told_the_flag_of_their_command() {
    let bench = Bench::new();
    bench.text("a.txt", 20);
    let told = run(&bench, "count a.txt --order 3 --smoothing modified_kneser_ney --out m.ngram").succeeded();
    assert!(told.stderr.contains("no closed form here"), "{}", told.stderr);
    assert!(told.stderr.contains("(--tune finds better ones)"), "{}", told.stderr);
}

#[test]
fn the_log_s_sample_is_marked_in_ascii() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    let told = run(&bench, "train a.txt --out r --set model.kind=ngram").succeeded().stderr;
    let (_, sample) = told.split_once("a sample at temperature").unwrap();
    let sample: Vec<&str> = sample.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    assert!(!sample.is_empty() && sample.iter().all(|line| line.starts_with("  | ")), "{told}");
}
