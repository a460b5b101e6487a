//! Settings on the command line replace those of configs and defaults; messages quote the user's
//! words.

use crate::common::{Bench, Ran};
use surprisal::error::CliError;
use surprisal_engine::config::{
    Config, Loaded, OptimKind, Override, SmoothToward, TokenizerType, check, load, parse,
};

/// The resolved config, with notes.
fn resolved(file: &str, set: &[&str]) -> Result<Loaded, CliError> {
    let set: Vec<Override> = set.iter().map(|set| Override::new("--set ", set)).collect();
    let mut loaded = parse("c.toml", file, &set)?;
    check(&mut loaded)?;
    Ok(loaded)
}

#[track_caller]
fn refused(file: &str, set: &[&str], parts: &[&str]) {
    let failure = resolved(file, set).unwrap_err();
    assert_eq!(failure.code(), 2, "{failure}");
    for part in parts {
        assert!(failure.to_string().contains(part), "no «{part}» in: {failure}");
    }
}

/// Trains a very small model; `more` is appended.
fn train(bench: &Bench, more: &[&str]) -> Ran {
    let small = ["--set", "model.kind=mlp", "--set", "model.n_hidden=8", "--set", "sample.tokens=0", "--set"];
    let all = [&["train"], more, &small, &["eval.every_epochs=0"]].concat();
    bench.run(&all)
}

#[test]
fn a_config_without_overrides_is_what_it_says() {
    let mut configs = 0;
    for path in crate::common::configs() {
        let text = std::fs::read_to_string(&path).unwrap();
        if path.file_name().unwrap().to_string_lossy().starts_with("compare_") || !text.contains('[') {
            continue;
        }
        let loaded = load(Some(&path), &[]).unwrap();
        assert_eq!(loaded.config, toml::from_str::<Config>(&text).unwrap(), "{}", path.display());
        assert_eq!(loaded.notices, [""; 0]);
        configs += 1;
    }
    assert!(configs >= 10, "{configs}");
    // Contradictions within one file are still refused.
    refused("[train]\nsteps = 3\nepochs = 1.0\n", &[], &["both", "steps", "epochs"]);
    refused(
        "[train]\nblock_size = 8\n[eval]\nstride = 9\n",
        &[],
        &["eval.stride is 9", "from 1 to 8", "train.block_size"],
    );
}

#[test]
fn the_length_that_is_said_replaces_the_one_of_the_config() {
    let bench = Bench::new();
    bench.text("own.txt", 60);
    // The default config has steps, and so does the file.
    let ran = train(&bench, &["own.txt", "--set", "train.epochs=1", "--out", "a"]).succeeded();
    assert!(ran.stderr.contains("train.steps = 320 gives way to --set train.epochs=1"), "{}", ran.stderr);
    let config = std::fs::read_to_string(bench.path().join("a/config.toml")).unwrap();
    assert!(config.contains("epochs = 1.0") && !config.contains("\nsteps ="), "{config}");
    bench.file("c.toml", "[train]\nsteps = 4\n");
    let ran = train(&bench, &["c.toml", "own.txt", "--budget", "1s", "--out", "b"]).succeeded();
    assert!(ran.stderr.contains("train.steps = 4 gives way to --budget 1s"), "{}", ran.stderr);
    bench.file("e.toml", "[train]\nbudget = \"3min\"\n");
    let ran =
        train(&bench, &["e.toml", "own.txt", "--set", "train.steps=2", "--json", "--out", "d"]).succeeded();
    assert_eq!(ran.result()["steps"], 2);
    // Two contradicting flags.
    train(&bench, &["own.txt", "--budget", "1s", "--set", "train.steps=3"])
        .refused(2, &["--budget 1s", "--set train.steps=3", "both"]);
    refused(
        "",
        &["train.epochs=1", "train.steps=3"],
        &["--set train.epochs=1", "--set train.steps=3", "both"],
    );
    // The same key twice is allowed: the last one counts.
    assert_eq!(resolved("", &["train.steps=3", "train.steps=5"]).unwrap().config.train.steps, Some(5));
    bench
        .run(&["train", "own.txt", "--set", "model.kind=ngram", "--budget", "1s"])
        .refused(2, &["--budget", "ngram", "counted"]);
}

#[test]
fn strides_ramps_shards_and_rates_follow() {
    let file = "[train]\nblock_size = 64\nblock_start = 16\nbatch_size = 32\nbatch_start = 8\nramp_steps = 100\nsteps = 400\n\
                shards = 4\n[eval]\nstride = 32\n[optim]\nlr = 1e-2\nmin_lr = 1e-3\n";
    let small =
        resolved(file, &["train.block_size=8", "train.batch_size=4", "train.steps=20", "optim.lr=5e-4"])
            .unwrap();
    let (train, eval, optim) = (&small.config.train, &small.config.eval, &small.config.optim);
    assert_eq!(
        (eval.stride, train.block_start, train.batch_start, train.ramp_steps),
        (Some(4), Some(2), Some(1), 5)
    );
    assert!((optim.min_lr - 5e-5).abs() < 1e-12, "{}", optim.min_lr);
    assert!(
        small
            .notices
            .iter()
            .any(|n| n.contains("eval.stride = 4 follows --set train.block_size=8; it was 32"))
    );
    assert_eq!(small.notices.len(), 5, "{:?}", small.notices);
    // A valid setting is kept without a note.
    let fits = resolved(file, &["train.block_size=32", "train.steps=100"]).unwrap();
    assert_eq!((fits.config.eval.stride, fits.config.train.ramp_steps), (Some(32), 100));
    assert_eq!(fits.notices, [""; 0]);
    // A stride of 0 is refused everywhere.
    refused("", &["eval.stride=0"], &["--set eval.stride=0: eval.stride is 0", "from 1 to 64"]);
    refused("[eval]\nstride = 0\n", &[], &["eval.stride is 0"]);
    assert_eq!(resolved("[train]\nblock_size = 7\n", &[]).unwrap().config.eval.stride, Some(4));
    // An explicit setting is not adapted.
    let said = ["train.block_size=8", "eval.stride=16"];
    refused(file, &said, &["--set eval.stride=16", "from 1 to 8", "train.block_size"]);
    // A default follows the file's setting if it would otherwise be invalid.
    let low = resolved("[optim]\nlr = 1e-5\n", &[]).unwrap().config.optim.min_lr;
    assert!((low - 1e-6).abs() < 1e-15, "{low}");
    refused("[optim]\nlr = 1e-5\nmin_lr = 1e-4\n", &[], &["optim.min_lr", "optim.lr"]);
}

#[test]
fn a_stride_that_nothing_says_is_half_a_block_and_said_where_that_changes() {
    for (file, block_size, stride) in [("[train]\nblock_size = 64\n", 8, 4), ("", 8, 4), ("", 128, 64)] {
        let set = format!("train.block_size={block_size}");
        let loaded = resolved(file, &[&set]).unwrap();
        assert_eq!(loaded.config.eval.stride, Some(stride));
        assert_eq!(loaded.notices, [format!("eval.stride = {stride} follows --set {set}; it was 32")]);
    }
    // The same block has the same stride; explicit settings are kept; n-gram models have no stride.
    assert_eq!(resolved("", &["model.kind=ngram", "train.block_size=8"]).unwrap().notices, [""; 0]);
    assert_eq!(resolved("", &["train.block_size=64"]).unwrap().notices, [""; 0]);
    let said = resolved("", &["train.block_size=8", "eval.stride=3"]).unwrap();
    assert_eq!((said.config.eval.stride, said.notices.len()), (Some(3), 0));
    let bench = Bench::new();
    bench.text("own.txt", 60);
    bench.file("c.toml", "[train]\nsteps = 2\n[optim]\nwarmup = 0\n");
    let ran = train(&bench, &["c.toml", "own.txt", "--set", "train.block_size=8", "--out", "a"]).succeeded();
    assert!(
        ran.stderr.contains("note: eval.stride = 4 follows --set train.block_size=8; it was 32"),
        "{}",
        ran.stderr
    );
}

#[test]
fn what_cannot_stand_beside_what_is_said_gives_way() {
    let of = |file: &str, set: &[&str]| resolved(file, set).unwrap();
    let bpe = of("[tokenizer]\nkind = \"bpe\"\nvocab_size = 300\n", &["tokenizer.kind=char"]);
    assert_eq!(bpe.config.tokenizer.vocab_size, None);
    assert_eq!(bpe.notices, ["tokenizer.vocab_size = 300 gives way to --set tokenizer.kind=char"]);
    let smooth = "[loss]\nlabel_smoothing = 0.1\nsmooth_toward = \"unigram\"\n";
    assert_eq!(of(smooth, &["loss.add_k=2"]).config.loss.label_smoothing, 0.0);
    assert_eq!(of(smooth, &["loss.label_smoothing=0"]).config.loss.smooth_toward, SmoothToward::Uniform);
    assert_eq!(of(smooth, &["model.kind=ngram"]).config.loss.label_smoothing, 0.0);
    assert_eq!(of("[loss]\nadd_k = 1.0\n", &["loss.label_smoothing=0.2"]).config.loss.add_k, 0.0);
    assert_eq!(of("[optim]\nkind = \"muon\"\n", &["model.kind=mlp"]).config.optim.kind, OptimKind::AdamW);
    let rope = "[model]\nposition = \"rope\"\nrope_theta = 500.0\n";
    let learned = of(rope, &["model.position=learned"]).config;
    assert_eq!(learned.model.transformer().unwrap().rope_theta, 10_000.0);
    let pruned = "[model]\nkind = \"ngram\"\norder = 3\nsmoothing = \"kneser_ney\"\nprune = [0, 1, 2]\n";
    assert_eq!(
        of(pruned, &["model.order=2"]).config.model.ngram(None, None).unwrap().prune,
        Vec::<u32>::new()
    );
    assert_eq!(
        of(pruned, &["model.smoothing=mle"]).config.model.ngram(None, None).unwrap().prune,
        Vec::<u32>::new()
    );
    let ramp = "[train]\nbatch_start = 2\nramp_steps = 9\n";
    assert_eq!(of(ramp, &["train.ramp_steps=0"]).config.train.batch_start, None);
    // In any order, model settings apply to the given kind.
    let model = of("[model]\nn_layer = 3\n", &["model.order=4", "model.kind=ngram"]).config.model;
    assert_eq!(model.ngram(None, None).unwrap().order, 4);
    // Setting the current kind has no effect.
    let same = of("[model]\nn_layer = 3\n", &["model.kind=transformer"]).config.model;
    assert_eq!(same.transformer().unwrap().n_layer, 3);
    // Keys of another kind in a file get a note; those of the default config do not.
    let bench = Bench::new();
    let file = bench.file("m.toml", "[model]\nn_layer = 3\nn_embd = 16\n[optim]\nlr = 0.1\n");
    let set = ["model.kind=mlp", "model.n_embd=8"].map(|set| Override::new("--set ", set));
    let loaded = load(Some(&file), &set).unwrap();
    assert_eq!(
        loaded.notices,
        ["what is of another model gives way to --set model.kind=mlp: model.n_layer = 3"]
    );
    assert!(load(Some(&file), &["model.kind=transformer".into()]).unwrap().notices.is_empty());
    // Two contradicting settings are refused.
    refused("", &["loss.add_k=1", "loss.label_smoothing=0.1"], &["both"]);
}

#[test]
fn heads_that_do_not_fit_are_named_with_a_number_that_does() {
    refused("", &["model.n_embd=130"], &["--set model.n_embd=130", "4 heads", "n_head = 5", "n_embd = 128"]);
    refused("", &["model.n_head=3"], &["--set model.n_head=3", "n_embd = 128", "n_head = 2", "n_embd = 126"]);
}

#[test]
fn a_warm_up_fits_the_length_that_is_said() {
    let bench = Bench::new();
    bench.text("own.txt", 60);
    bench.file("c.toml", "[train]\nsteps = 400\nbatch_size = 4\nblock_size = 16\n[optim]\nwarmup = 100\n");
    let warmup = |out: &str| -> usize {
        let config = std::fs::read_to_string(bench.path().join(out).join("config.toml")).unwrap();
        let line = config.lines().find(|line| line.starts_with("warmup = ")).unwrap().to_owned();
        line["warmup = ".len()..].parse().unwrap()
    };
    let ran = train(&bench, &["c.toml", "own.txt", "--set", "train.steps=30", "--out", "a"]).succeeded();
    assert!(
        ran.stderr.contains("optim.warmup = 3, a tenth of the run, follows --set train.steps=30"),
        "{}",
        ran.stderr
    );
    assert_eq!(warmup("a"), 3);
    let ran =
        train(&bench, &["c.toml", "own.txt", "--set", "train.epochs=1", "--json", "--out", "b"]).succeeded();
    assert_eq!(warmup("b"), ran.result()["steps"].as_u64().unwrap() as usize / 10);
    // Explicit settings are kept and adaptations are noted; a length that contains the warm-up
    // changes nothing.
    let more =
        ["--set", "train.steps=30", "--set", "optim.warmup=50", "--set", "eval.every_steps=40", "--out", "d"];
    let ran = train(&bench, &[&["c.toml", "own.txt"][..], &more].concat()).succeeded();
    assert!(ran.stderr.contains("never reaches optim.lr"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("--set eval.every_steps=40 is more than the run's 30 steps"),
        "{}",
        ran.stderr
    );
    assert_eq!(warmup("d"), 50);
    train(&bench, &["c.toml", "own.txt", "--set", "train.steps=101", "--out", "e"]).succeeded();
    assert_eq!(warmup("e"), 100);
    // A file alone is taken literally.
    bench.file("own.toml", "[data]\ntrain = [\"own.txt\"]\n[model]\nkind = \"bigram\"\n[train]\nsteps = 20\n[sample]\ntokens = 0\n");
    let ran = bench.run(&["train", "own.toml", "--out", "f"]).succeeded();
    assert!(ran.stderr.contains("never reaches optim.lr"), "{}", ran.stderr);
    assert_eq!(warmup("f"), 100);
}

#[test]
fn compare_follows_the_same_rules() {
    let bench = Bench::new();
    bench.text("own.txt", 60);
    let text = "[data]\ntrain = [\"own.txt\"]\n[train]\nsteps = 400\nblock_size = 32\n[eval]\nstride = 16\n[sample]\ntokens = 0\n\
                [[variant]]\nname = \"a\"\nmodel = { kind = \"bigram\" }\n";
    bench.file("k.toml", text);
    let set = ["--set", "train.epochs=0.2", "--set", "train.block_size=8"];
    let ran = bench.run(&[&["compare", "k.toml", "--out", "k"][..], &set].concat()).succeeded();
    for part in ["train.steps = 400 gives way", "eval.stride = 4 follows", "optim.warmup = "] {
        assert!(ran.stderr.contains(part), "no «{part}» in {}", ran.stderr);
    }
    let config = std::fs::read_to_string(bench.path().join("k/cells/a/seed-1/config.toml")).unwrap();
    assert!(
        config.contains("epochs = 0.2") && config.contains("stride = 4") && !config.contains("warmup = 100")
    );
    let both = ["--set", "train.epochs=1", "--set", "train.steps=3"];
    bench.run(&[&["compare", "k.toml"][..], &both].concat()).refused(2, &["both"]);
    bench.file("p.toml", text.replace("own.txt", "gone.txt"));
    bench.run(&["compare", "p.toml"]).refused(2, &["p.toml:2: \"a\": data.train names gone.txt"]);
    bench
        .run(&["compare", "p.toml", "--set", "data.train=none.txt"])
        .refused(2, &["p.toml: \"a\": --set data.train=none.txt: data.train names none.txt"]);
    bench.file(
        "o.toml",
        format!("{}data = {{ train = [\"none.txt\"] }}\n", text.replace("own.txt", "gone.txt")),
    );
    bench.run(&["compare", "o.toml"]).refused(2, &["o.toml: \"a\": data.train names none.txt"]);
    let own = bench.run(&["compare", "k.toml", "--set", "compare.seeds=[3,3]"]);
    let own = own.refused(2, &["--set compare.seeds=[3,3]: ", "--seeds"]);
    assert!(!own.stderr.contains("model.compat"), "{}", own.stderr);
    bench.file("s.toml", format!("[compare]\nseeds = [\"one\"]\n{text}"));
    bench
        .run(&["compare", "s.toml"])
        .refused(2, &["s.toml: [compare]: ", "\"one\", expected u64 in `seeds`\n"]);
    bench.file("w.toml", text.replace("steps = 400", "learning_rate = 1"));
    bench.run(&["compare", "w.toml"]).refused(2, &["w.toml: \"a\"", "did you mean `lr` in [optim]?"]);
    bench.file("t.toml", text.replace("steps = 400", "steps = \"x\""));
    bench.run(&["compare", "t.toml"]).refused(2, &["t.toml: \"a\": train.steps takes a whole number"]);
    bench.run(&["compare", "k.toml", "--set", "optim.learning_rate=1"]).refused(2, &["did you mean `lr`?"]);
    bench.run(&["compare", "k.toml", "--seeds", "9223372036854775808"]).refused(2, &["9223372036854775807"]);
}

#[test]
fn what_is_no_toml_is_said_with_what_to_type() {
    for (line, parts) in [
        ("kind = transformer", &["a text value needs quotes", "kind = \"transformer\""][..]),
        ("kind = transformer # the default", &["needs quotes", "kind = \"transformer\""]),
        ("n_layer = 1,5", &["point", "n_layer = 1.5"]),
        ("bias = True", &["small", "bias = true"]),
        ("softcap = None", &["None", "leave the line out"]),
        ("init_from = ../models/a", &["needs quotes", "init_from = \"../models/a\""]),
        ("init_from = \"C:\\models\"", &["single quotes"]),
        ("prune = [a, 1]", &["quotes", "prune = [\"a\", 1]"]),
        ("kind: mlp", &["=", "kind = mlp"]),
        ("n_layer = 2 n_head = 2", &["a line has one key", "n_layer"]),
    ] {
        let file = format!("[model]\n{line}\n");
        refused(&file, &[], &[&["c.toml:2: "][..], parts].concat());
    }
    refused("[train]\nbudget = 3min\n", &[], &["c.toml:2: ", "budget = \"3min\""]);
    refused("[data]\nunit = lines\n", &[], &["c.toml:2: ", "needs quotes", "unit = \"lines\""]);
    for (twice, key, line) in [("steps = 1\nsteps = 2", "steps", 3), ("[train]", "train", 2)] {
        let place = format!("c.toml:{line}: duplicate key `{key}`");
        refused(&format!("[train]\n{twice}\n"), &[], &[&place, "keep one"]);
    }
    refused("{\"train\": {\"steps\": 3}}\n", &[], &["c.toml:1: this is JSON", "[train]"]);
    let bench = Bench::new();
    bench.file("l.toml", b"[train]\nsteps = 1 # caf\xe9\n");
    let to_utf8 = "iconv -f LATIN1 -t UTF-8";
    bench.run(&["train", "l.toml"]).refused(2, &["l.toml:2: this is not UTF-8", to_utf8]);
    refused("[data]\ntrain = [a.txt, \"b.txt\"]\n", &[], &["c.toml:2: ", "train = [\"a.txt\", \"b.txt\"]"]);
    // The command line needs no quotes and brackets.
    let set = ["tokenizer.kind=bpe", "train.budget=45", "data.train=own.txt", "model.kind=transformer"];
    let config = resolved("[tokenizer]\nvocab_size = 300\nkind = \"bpe\"\n", &set).unwrap().config;
    assert_eq!((config.tokenizer.kind, config.tokenizer.vocab_size), (TokenizerType::Bpe, Some(300)));
    assert_eq!(config.train.budget.map(String::from).as_deref(), Some("45"));
    assert_eq!(config.data.train, [std::path::PathBuf::from("own.txt")]);
}

#[test]
fn keys_are_known_by_the_names_that_other_programs_have() {
    for (section, wrong, right) in [
        ("optim", "learning_rate", "did you mean `lr`?"),
        ("optim", "lerning_rate", "did you mean `lr`?"),
        ("model", "num_layers", "did you mean `n_layer`?"),
        ("model", "hidden_size", "did you mean `n_embd`?"),
        ("model", "n_heads", "did you mean `n_head`?"),
        ("model", "dropout_rate", "did you mean `dropout`?"),
        ("train", "context_length", "did you mean `block_size`?"),
        ("train", "max_iters", "did you mean `steps`?"),
        ("train", "epoch", "did you mean `epochs`?"),
        ("train", "batch", "did you mean `batch_size`?"),
        ("train", "lr", "did you mean `lr` in [optim]?"),
        ("train", "learning-rate", "did you mean `lr` in [optim]?"),
        ("model", "temperature", "did you mean `temperature` in [sample]?"),
        ("model", "vocab", "did you mean `vocab` in [tokenizer]?"),
        ("model", "n_vocab", "did you mean `vocab_size` in [tokenizer]?"),
        ("tokenizer", "min_freq", "did you mean `min_count`?"),
        ("data", "seed", "did you mean `seed` in [train]?"),
        ("sample", "qqqqqqqq", "there are: tokens, temperature"),
    ] {
        refused(
            &format!("[{section}]\n{wrong} = 1\n"),
            &[],
            &["c.toml:2: unknown field", wrong, section, right],
        );
    }
    // nanoGPT's configs have no sections.
    refused("learning_rate = 1e-3\n", &[], &["c.toml:1: ", "did you mean `lr` in [optim]?"]);
    refused("[trian]\nsteps = 3\n", &[], &["unknown field `trian`", "did you mean [train]?"]);
    refused("", &["Train.Steps=3"], &["unknown field `Train`", "did you mean [train]?"]);
    refused("", &["optim.learning_rate=1"], &["--set optim.learning_rate=1", "did you mean `lr`?"]);
    refused("", &["train.lr=1"], &["did you mean --set optim.lr=…?"]);
    refused("", &["learning_rate=1"], &["section.key=value", "did you mean --set optim.lr=…?"]);
}

#[test]
fn values_of_another_type_are_said_in_plain_words() {
    refused(
        "",
        &["train.epochs=abc"],
        &["--set train.epochs=abc: train.epochs takes a number", "the text \"abc\""],
    );
    refused("[train]\nepochs = \"3\"\n", &[], &["c.toml:2: train.epochs takes a number", "\"3\""]);
    refused(
        "",
        &["train.steps=-5"],
        &["train.steps takes a whole number that is not negative, and this is -5"],
    );
    refused("", &["train.steps=0"], &["train.steps is 0, but must be from 1 to 1099511627776"]);
    refused("", &["data.unit=lines"], &["data.unit is \"lines\"", "one of: stream, line"]);
    refused("[data]\nunit = \"lines\"\n", &[], &["c.toml:2: data.unit is \"lines\""]);
    refused("", &["train.steps=1e3"], &["train.steps takes a whole number", "this is 1000.0"]);
    refused("", &["optim.nesterov=yes"], &["optim.nesterov takes true or false"]);
    refused("", &["train.shards=many"], &["train.shards takes a whole number from 1, or \"auto\""]);
    refused("[data]\ntrain = \"a.txt\"\n", &[], &["data.train takes a list"]);
    refused("[tokenizer]\nkind = 3\n", &[], &["tokenizer.kind takes a text, in quotes", "this is 3"]);
    refused("train = 3\n", &[], &["c.toml:1: train takes a section"]);
    for seed in ["9223372036854775808", "-1"] {
        refused(
            "",
            &[&format!("train.seed={seed}")],
            &["train.seed takes a whole number", "9223372036854775807"],
        );
    }
    assert_eq!(resolved("", &["train.seed=9223372036854775807"]).unwrap().config.train.seed, i64::MAX as u64);
}

#[test]
fn an_argument_that_is_a_key_is_told_how_to_set_it() {
    let bench = Bench::new();
    for (argument, tip) in [
        (&["--seed", "3"][..], "--set train.seed=VALUE"),
        (&["--epochs=3"], "--set train.epochs=VALUE"),
        (&["--steps", "10"], "--set train.steps=VALUE"),
        (&["--lr", "1e-3"], "--set optim.lr=VALUE"),
        (&["--batch-size", "4"], "--set train.batch_size=VALUE"),
        (&["--learning-rate"], "--set optim.lr=VALUE"),
    ] {
        bench.run(&[&["train", "own.txt"], argument].concat()).refused(2, &["unexpected argument", tip]);
    }
    bench.run(&["compare", "k.toml", "--steps", "3"]).refused(2, &["--set train.steps=VALUE"]);
    let other = bench.run(&["sample", "run", "--lr", "3"]).refused(2, &["unexpected argument"]);
    assert!(!other.stderr.contains("--set"), "{}", other.stderr);
    let unknown = bench.run(&["train", "--rport"]).refused(2, &["--report"]);
    assert!(!unknown.stderr.contains("--set"), "{}", unknown.stderr);
}

#[test]
fn configs_given_to_the_wrong_command_are_sent_to_the_right_one() {
    let bench = Bench::new();
    bench.text("own.txt", 20);
    bench.file("k.toml", "[compare]\nseeds = [1]\n[[variant]]\nname = \"a\"\n");
    bench.file("v.toml", "[[variant]]\nname = \"a\"\n");
    bench.file("run.toml", "[train]\nsteps = 3\n");
    for file in ["k.toml", "v.toml"] {
        bench
            .run(&["train", file, "own.txt"])
            .refused(2, &["is a comparison", &format!("surprisal compare {file}")]);
    }
    bench.run(&["compare", "run.toml"]).refused(2, &["nothing to compare", "surprisal train run.toml"]);
    bench
        .run(&["compare", "own.txt"])
        .refused(2, &["own.txt is not a comparison's config", "CONFIG.toml own.txt"]);
    bench.file("bytes.bin", [0xFFu8, 0, 1]);
    bench.run(&["compare", "bytes.bin"]).refused(2, &["not a comparison's config"]);
    bench.run(&["compare", "gone.txt"]).refused(2, &["gone.txt", "No such file"]);
}

#[test]
fn texts_that_are_not_there_are_named_with_their_line() {
    let bench = Bench::new();
    bench.text("own.txt", 20);
    bench.file("c.toml", "[train]\nsteps = 1\n[data]\ntrain = [\"gone.txt\"]\n");
    bench.run(&["train", "c.toml"]).refused(2, &["c.toml:4: data.train names gone.txt", "hint"]);
    // In a list over several lines, the line of the entry.
    bench.file("l.toml", "[data]\ntrain = [\n  \"own.txt\",  # there\n  \"gone.txt\",\n]\n");
    bench.run(&["train", "l.toml"]).refused(2, &["l.toml:4: data.train names gone.txt"]);
    bench.file("v.toml", "[data]\nval = [\"gone.txt\"]\n");
    bench.run(&["train", "v.toml", "own.txt"]).refused(2, &["v.toml:2: data.val names gone.txt"]);
    bench
        .run(&["train", "--set", "data.train=gone.txt"])
        .refused(2, &["--set data.train=gone.txt: data.train names gone.txt"]);
    // Texts on the command line replace the config's.
    train(&bench, &["c.toml", "own.txt", "--set", "train.steps=1", "--out", "a"]).succeeded();
}

#[test]
fn short_texts_get_hints_that_their_command_can_follow() {
    let bench = Bench::new();
    bench.file("empty.txt", "");
    bench.file("short.txt", "x");
    bench.text("own.txt", 30);
    bench.run(&["count", "own.txt", "--order", "2", "--out", "m.arpa"]).succeeded();
    bench.file("k.toml", "[[variant]]\nname = \"a\"\nmodel = { kind = \"ngram\" }\n");
    for arguments in [
        &["train", "empty.txt"][..],
        &["count", "empty.txt", "--out", "x.arpa"],
        &["eval", "m.arpa", "empty.txt"],
        &["mix", "m.arpa", "m.arpa", "--heldout", "empty.txt"],
        &["mix", "m.arpa", "m.arpa", "empty.txt", "--weights", "1,1"],
        &["compare", "k.toml", "empty.txt"],
    ] {
        let ran = bench.run(arguments).refused(1, &["empty", "hint"]);
        assert!(!ran.stderr.contains("share") && !ran.stderr.contains("val_fraction"), "{}", ran.stderr);
    }
    bench.run(&["train", "short.txt"]).refused(1, &["short.txt", "data.val_fraction"]);
    let stream = ["count", "short.txt", "--unit", "stream", "--tokenizer", "char", "--out", "x.arpa"];
    let ran = bench.run(&stream).refused(1, &["short.txt", "give more text"]);
    assert!(!ran.stderr.contains("val_fraction"), "{}", ran.stderr);
}
