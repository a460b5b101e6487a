//! The environment: limits, signals, files that change or never end, shards that do not match.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Bench, Ran, sentences};

/// The time in which a signal must end a command on a busy machine.
const SOON: Duration = Duration::from_secs(2);

fn send(signal: &str, child: &Child) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// Runs the binary after the shell has run `setting`.
fn after(bench: &Bench, setting: &str, arguments: &[&str]) -> Ran {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{setting}; exec \"$0\" \"$@\"")]).arg(bench.command(&[]).get_program());
    Ran::of(command.args(arguments).current_dir(bench.path()).output().unwrap(), &[setting])
}

/// A text with hardly any repeated bigrams.
fn many_words(count: u64) -> String {
    let mut state = 1_u64;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % 5000
    };
    (0..count).map(|n| format!("w{}{}", word(), if n % 9 == 8 { '\n' } else { ' ' })).collect()
}

fn fifo(bench: &Bench, name: &str) {
    assert!(Command::new("mkfifo").arg(bench.path().join(name)).status().unwrap().success());
}

#[test]
fn threads_and_jobs_are_from_1_to_1024_whoever_is_asked() {
    let bench = Bench::new();
    bench.text("a.txt", 50);
    bench.run(&["count", "a.txt", "--order", "2", "--out", "m.ngram", "--out", "m.counts"]).succeeded();
    for wrong in ["0", "1025", "18446744073709551615"] {
        for command in [
            &["eval", "m.ngram", "a.txt"][..],
            &["mix", "m.ngram", "m.ngram", "a.txt", "--weights", "1,1"],
            &["count", "a.txt", "--out", "b.arpa"],
            &["merge", "m.counts", "--out", "b.arpa"],
            &["bench", "ngram"],
        ] {
            let ran = bench.run(&[command, &["--threads", wrong]].concat());
            ran.refused(2, &["--threads is", wrong, "from 1 to 1024"]);
        }
    }
    bench.run(&["eval", "m.ngram", "a.txt", "--threads", "3"]).succeeded();
    let train = |set: &str| bench.run(&["train", "a.txt", "--set", set, "--out", "run"]);
    train("train.threads=1025").refused(2, &["train.threads is 1025", "from 1 to 1024"]);
    let grid =
        "[data]\ntrain = [\"a.txt\"]\n[[variant]]\nname = \"a\"\nmodel = { kind = \"ngram\", order = 2 }\n";
    bench.file("c.toml", grid);
    bench.file("d.toml", format!("[compare]\njobs = 1025\n{grid}"));
    for wrong in ["0", "1025", "1000000"] {
        bench.run(&["compare", "c.toml", "--jobs", wrong]).refused(2, &["--jobs is", "from 1 to 1024"]);
    }
    bench.run(&["compare", "d.toml"]).refused(2, &["d.toml: compare.jobs is 1025", "from 1 to 1024"]);
    bench.run(&["compare", "c.toml", "--jobs", "1024", "--out", "c"]).succeeded();
    // In a config, 0 means the machine's cores.
    bench.file("d.toml", format!("[compare]\njobs = 0\n{grid}"));
    bench.run(&["compare", "d.toml", "--set", "train.threads=0", "--out", "d"]).succeeded();
}

#[test]
#[cfg(target_os = "linux")]
fn what_the_limits_of_the_shell_do_not_let_fit_is_refused_in_words() {
    let bench = Bench::new();
    bench.text("a.txt", 200_000);
    let count = ["count", "a.txt", "--order", "9", "--threads", "1", "--out", "m.ngram"];
    // N-grams that do not fit are counted in temporary files, to the same bytes.
    bench.run(&count).succeeded();
    let read = || std::fs::read(bench.path().join("m.ngram")).unwrap();
    let whole = read();
    for limit in ["ulimit -v 200000", "ulimit -d 200000"] {
        std::fs::remove_file(bench.path().join("m.ngram")).unwrap();
        let counted = after(&bench, limit, &count).succeeded();
        assert!(counted.stderr.contains("sorted, merged"), "{}", counted.stderr);
        assert_eq!(read(), whole);
    }
    std::fs::remove_file(bench.path().join("m.ngram")).unwrap();
    // What needs them all in memory is refused.
    let tuned = [&count[..], &["--tune"]].concat();
    after(&bench, "ulimit -v 200000", &tuned)
        .refused(2, &["counting this text needs about", "are free", "--order"]);
    after(&bench, "ulimit -d 200000", &tuned).refused(2, &["counting this text needs about", "are free"]);
    bench.file("b.bin", vec![b'b'; 20 << 20]);
    let bytes = ["count", "b.bin", "--tokenizer", "byte", "--threads", "1", "--tune", "--out", "m.ngram"];
    after(&bench, "ulimit -v 150000", &bytes).refused(2, &["reading this text needs about", "are free"]);
    // Each thread needs memory for its stack.
    bench.text("b.txt", 100);
    bench.run(&["count", "b.txt", "--order", "2", "--out", "m.ngram"]).succeeded();
    after(&bench, "ulimit -v 1000000", &["eval", "m.ngram", "b.txt", "--threads", "1024"])
        .refused(1, &["cannot start 1024 worker threads", "fewer with --threads"]);
    std::fs::remove_file(bench.path().join("m.ngram")).unwrap();
    let train = ["train", "a.txt", "--set", "model.kind=ngram", "--set", "model.order=9", "--out", "run"];
    after(&bench, "ulimit -v 200000", &train).refused(2, &["counting this text needs about", "model.order"]);
    let grid = "[data]\ntrain = [\"a.txt\"]\n[tokenizer]\nkind = \"word\"\n[[variant]]\nname = \"{model.order}\"\n\
                model = { kind = \"ngram\" }\n[variant.grid]\n\"model.order\" = [2, 3, 4, 5]\n";
    bench.file("c.toml", grid);
    let compare = ["compare", "c.toml", "--jobs", "4", "--out", "c"];
    after(&bench, "ulimit -v 200000", &compare)
        .refused(2, &["training 4 runs at a time needs about", "--jobs"]);
    assert_eq!(bench.entries(), ["a.txt", "b.bin", "b.txt", "c.toml"]);
}

#[test]
#[cfg(target_os = "linux")]
fn memory_that_is_refused_on_the_way_ends_in_words_too() {
    let bench = Bench::new();
    // One distinct word per line: the size of the vocabulary is unknown before reading.
    let words: String = (0..400_000_u64).map(|n| format!("{:x}\n", n * 7919)).collect();
    bench.file("a.txt", words);
    let ran = after(
        &bench,
        "ulimit -v 80000",
        &["count", "a.txt", "--order", "1", "--threads", "1", "--out", "m.arpa"],
    );
    assert!(matches!(ran.code, 1 | 2), "{} {}", ran.code, ran.stderr);
    assert!(ran.stderr.contains("memory") && ran.stderr.contains("hint"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("backtrace") && !ran.stderr.contains("panicked"), "{}", ran.stderr);
    assert_eq!(bench.entries(), ["a.txt"]);
}

#[test]
fn a_signal_ends_reading_counting_and_writing_at_once_and_leaves_no_half_file() {
    let bench = Bench::new();
    bench.file("a.txt", many_words(300_000));
    for (phase, signal, code) in [
        ("reading", "-INT", 130),
        ("counting", "-TERM", 143),
        ("estimating", "-HUP", 129),
        ("writing", "-INT", 130),
    ] {
        let arguments = ["count", "a.txt", "--order", "6", "--threads", "1", "--out", "m.arpa"];
        let mut child = bench.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        if phase == "writing" {
            while bench.entries().len() < 2 {
                std::thread::sleep(Duration::from_millis(1));
            }
        } else {
            while !lines.next().expect("it has ended").unwrap().contains(&format!("s: {phase}")) {}
        }
        send(signal, &child);
        let sent = Instant::now();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{phase}");
        assert!(sent.elapsed() < SOON, "{phase}: {:?}", sent.elapsed());
        assert_eq!(bench.entries(), ["a.txt"], "{phase}");
    }
}

#[test]
fn a_signal_ends_learning_of_tokens_mixing_tuning_and_evaluating_at_once() {
    let bench = Bench::new();
    bench.file("a.txt", many_words(400_000));
    bench.file("b.txt", many_words(4000));
    bench.run(&["count", "b.txt", "--order", "3", "--out", "m.ngram"]).succeeded();
    let before = bench.entries();
    let bpe = ["--set", "tokenizer.kind=bpe", "--set", "tokenizer.vocab_size=8000", "--out", "run"];
    for (arguments, wait) in [
        (&[&["train", "a.txt"], &bpe[..]].concat()[..], 400),
        (&["mix", "m.ngram", "m.ngram", "--heldout", "a.txt"], 300),
        (&["count", "a.txt", "--order", "4", "--tune", "--out", "n.ngram"], 600),
        (&["eval", "m.ngram", "a.txt"], 100),
    ] {
        let mut child =
            bench.command(arguments).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        send("-INT", &child);
        let sent = Instant::now();
        let code = child.wait().unwrap().code();
        assert!(sent.elapsed() < SOON, "{arguments:?}: {:?}", sent.elapsed());
        // A fast machine may have finished before.
        assert!(code == Some(130) || code == Some(0), "{arguments:?}: {code:?}");
        if code == Some(130) && bench.path().join("n.ngram").exists() {
            // The signal came after the file was complete and before the process ended.
            bench.run(&["inspect", "n.ngram"]).succeeded();
            std::fs::remove_file(bench.path().join("n.ngram")).unwrap();
        }
        if code == Some(130) {
            assert_eq!(bench.entries(), before, "{arguments:?}");
        } else {
            eprintln!("{arguments:?} ended before the signal came");
            drop(std::fs::remove_file(bench.path().join("n.ngram")));
        }
    }
}

#[test]
fn a_signal_before_the_first_step_waits_for_nothing() {
    let bench = Bench::new();
    bench.text("a.txt", 300_000);
    let arguments =
        ["train", "a.txt", "--set", "model.kind=mlp", "--set", "tokenizer.kind=word", "--out", "run"];
    let mut child = bench.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // The baselines follow.
    while !lines.next().expect("it has ended").unwrap().contains("to train on") {}
    send("-INT", &child);
    let sent = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(sent.elapsed() < SOON, "{:?}", sent.elapsed());
    assert!(
        !bench.path().join("run/checkpoints").read_dir().is_ok_and(|mut entries| entries.next().is_some())
    );
}

#[test]
fn an_evaluation_that_a_signal_ends_is_made_again_and_the_run_ends_in_the_same_bits() {
    // Few steps, and evaluations of nearly all of the text.
    let set = [
        "model.n_layer=1",
        "model.n_embd=16",
        "model.n_head=2",
        "train.batch_size=2",
        "train.block_size=16",
        "train.steps=12",
        "train.shards=1",
        "eval.every_steps=3",
        "eval.stride=4",
        "data.val_fraction=0.9",
        "sample.tokens=5",
        "optim.ema=0.9",
    ];
    let bench = Bench::new();
    bench.text("a.txt", 2000);
    let train = |out: &str| -> Vec<String> {
        let set = set.iter().flat_map(|set| ["--set".to_owned(), (*set).to_owned()]);
        ["train", "a.txt", "--out", out].map(str::to_owned).into_iter().chain(set).collect()
    };
    let weights = |out: &str| std::fs::read(bench.path().join(out).join("model/model.safetensors")).unwrap();
    let epochs = |out: &str| -> Vec<String> {
        let text = std::fs::read_to_string(bench.path().join(out).join("metrics.jsonl")).unwrap();
        let events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        events.filter(|event| event["event"] == "epoch").map(|event| event["eval"].to_string()).collect()
    };
    let run = |arguments: &[String]| bench.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    run(&train("whole")).succeeded();
    for (number, signal, code) in [(0, "-INT", 130), (1, "-TERM", 143), (2, "-HUP", 129)] {
        let out = format!("run{number}");
        let arguments = train(&out);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut child = bench.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("weight decay") {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "the run has ended");
        }
        std::thread::sleep(Duration::from_millis(60 * (number + 1)));
        send(signal, &child);
        let sent = Instant::now();
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        let ended = child.wait().unwrap().code();
        assert!(sent.elapsed() < SOON, "{:?}", sent.elapsed());
        assert_eq!(ended, Some(code), "{rest}");
        assert!(rest.contains("stopped by a signal after step "), "{rest}");
        bench.run(&["train", "--resume", "--out", &out]).succeeded();
        assert_eq!(weights(&out), weights("whole"));
        assert_eq!(epochs(&out), epochs("whole"));
    }
}

#[test]
fn a_text_that_changes_while_it_is_read_is_named() {
    let bench = Bench::new();
    let path = bench.text("a.txt", 400_000);
    bench.text("b.txt", 200);
    bench.run(&["count", "b.txt", "--order", "2", "--out", "m.ngram"]).succeeded();
    let before = bench.entries();
    let kind = ["--set", "model.kind=ngram", "--out", "run"];
    for arguments in [
        &["count", "a.txt", "--order", "2", "--out", "m.arpa"][..],
        &["eval", "m.ngram", "a.txt"],
        &[&["train", "a.txt"], &kind[..]].concat(),
        &[&["train", "b.txt", "--set", "data.val=[\"a.txt\"]"], &kind[..]].concat(),
    ] {
        let mut child =
            bench.command(arguments).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        // Changes without a change of length, repeatedly.
        while child.try_wait().unwrap().is_none() {
            use std::io::Write;
            let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all(b"THE").unwrap();
            drop(file);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ran::of(child.wait_with_output().unwrap(), arguments)
            .refused(1, &["a.txt was changed while it was being read"]);
        assert_eq!(bench.entries(), before);
    }
}

#[test]
fn what_is_no_file_is_refused_and_folders_pass_it_over() {
    let bench = Bench::new();
    bench.text("texts/a.txt", 60);
    fifo(&bench, "pipe");
    fifo(&bench, "pipe.tsv");
    fifo(&bench, "pipe.counts");
    fifo(&bench, "texts/pipe.txt");
    bench.run(&["inspect", "pipe"]).refused(1, &["pipe", "a pipe or a device", "file first"]);
    for what in ["/dev/zero", "/dev/null"] {
        bench.run(&["inspect", what]).refused(1, &[what, "a pipe or a device", "file first"]);
        bench.run(&["count", what, "--out", "m.arpa"]).refused(1, &[what, "neither a file"]);
        bench.run(&["train", what, "--out", "run"]).refused(1, &[what, "neither a file"]);
    }
    bench.run(&["report", "pipe"]).refused(1, &["a pipe or a device"]);
    bench.run(&["count", "texts", "--order", "2", "--out", "m.arpa"]).succeeded();
    if Path::new("/proc/self").exists() {
        // The text files in it differ between systems; the command must end and report what it
        // skipped.
        let ran = bench.run(&["count", "/proc/self", "--order", "2", "--out", "self.arpa"]);
        assert!(ran.code == 0 || ran.code == 1, "{}", ran.stderr);
        assert!(ran.stderr.contains("/proc/self/root is on another file system"), "{}", ran.stderr);
        bench.run(&["inspect", "/proc/self"]).succeeded();
        bench.run(&["merge", "/proc/self", "--out", "x.arpa"]).refused(2, &["/proc/self has no counts"]);
        bench.run(&["report", "/proc/self"]).refused(1, &["/proc/self", "is not a run"]);
        // A link to another file system is not followed, with a note.
        std::os::unix::fs::symlink("/proc", bench.path().join("texts/way-out")).unwrap();
        let ran = bench.run(&["count", "texts", "--order", "2", "--out", "n.arpa"]).succeeded();
        assert!(ran.stderr.contains("way-out is on another file system"), "{}", ran.stderr);
        let read = |name: &str| std::fs::read(bench.path().join(name)).unwrap();
        assert_eq!(read("m.arpa"), read("n.arpa"));
        let ran = bench.run(&["eval", "n.arpa", "texts"]).succeeded();
        assert!(ran.stderr.contains("way-out is on another file system"), "{}", ran.stderr);
    }
}

#[test]
fn a_record_that_is_a_pipe_is_not_waited_for() {
    let bench = Bench::new();
    bench.text("a.txt", 200);
    let set = ["--set", "model.kind=ngram", "--set", "model.order=2"];
    bench.run(&[&["train", "a.txt", "--out", "run"], &set[..]].concat()).succeeded();
    // The model can be used without the record of its training.
    std::fs::remove_file(bench.path().join("run/metrics.jsonl")).unwrap();
    fifo(&bench, "run/metrics.jsonl");
    for command in [
        &["sample", "run", "--tokens", "2"][..],
        &["eval", "run", "a.txt"],
        &["explain", "run", "--text", "a"],
        &["inspect", "run"],
        &["export", "run", "--out", "x.arpa"],
        &["mix", "run", "run", "a.txt", "--weights", "1,1"],
    ] {
        bench.run(command).succeeded();
    }
    bench.file("g.toml", "[[variant]]\nname = \"a\"\nmodel = { kind = \"uniform\" }\n");
    bench.run(&["compare", "g.toml", "a.txt", "--out", "c"]).succeeded();
    std::fs::remove_file(bench.path().join("c/comparison.json")).unwrap();
    fifo(&bench, "c/comparison.json");
    bench.file("c/notes", "mine");
    bench.run(&["compare", "g.toml", "a.txt", "--out", "c"]).refused(1, &["already there"]);
    for entry in ["metrics.jsonl", "model"] {
        let path = bench.path().join("run").join(entry);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
    fifo(&bench, "run/metrics.jsonl");
    bench.run(&["train", "--resume", "--out", "run"]).refused(1, &["metrics.jsonl", "a pipe or a device"]);
}

#[test]
fn parts_that_are_not_one_text_are_refused_and_summed_where_that_is_meant() {
    let bench = Bench::new();
    bench.text("a.txt", 90);
    bench.file("b.txt", sentences(90).replacen("cat", "cow", 1));
    let count = |text: &str, shard: &str, out: &str| {
        bench.run(&["count", text, "--order", "2", "--shard", shard, "--out", out]).succeeded();
    };
    for ending in ["counts", "tsv"] {
        for part in 1..=3 {
            count("a.txt", &format!("{part}/3"), &format!("a{part}.{ending}"));
        }
        // The texts differ only in the first part; the others have the same bytes.
        count("b.txt", "2/3", &format!("b2.{ending}"));
        count("a.txt", "2/2", &format!("h2.{ending}"));
        let merge = |parts: &[&str], more: &[&str]| {
            let parts: Vec<String> = parts.iter().map(|part| format!("{part}.{ending}")).collect();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            bench.run(&[&["merge"], &parts[..], &["--out", "m.arpa"], more].concat())
        };
        merge(&["a1", "a2", "a3"], &[]).succeeded();
        for (parts, says) in [
            (&["a1", "a1"][..], "is given twice"),
            (&["a1", "a2", "a3", "a2"], "is given twice"),
            (&["a1", "a3", "a2"], "is part 3 of 3 where part 2 of 3 should be"),
            (&["a1", "a2"], "the last of 3 should be part 3"),
            (&["a2", "a3"], "where part 1 of 3 should be"),
            (&["a1", "a3"], "where part 2 of 3 should be"),
            (&["a2"], "where part 1 of 3 should be"),
            (&["a1", "b2", "a3"], "not of the same parts of the same text"),
            (&["a1", "h2"], "not of the same parts of the same text"),
        ] {
            merge(parts, &[]).refused(2, &[says, "--sum"]);
            merge(parts, &["--sum"]).succeeded();
        }
        let copy = |from: &str, to: &str| {
            std::fs::copy(
                bench.path().join(format!("{from}.{ending}")),
                bench.path().join(format!("{to}.{ending}")),
            )
        };
        copy("a1", "c1").unwrap();
        merge(&["a1", "c1", "a2", "a3"], &[]).refused(2, &["is part 1 of 3 where part 2 of 3 should be"]);
    }
    // Whole texts are not parts, and a merge of all parts is whole again.
    bench.run(&["count", "a.txt", "--order", "2", "--out", "w.counts"]).succeeded();
    bench.run(&["merge", "a1.counts", "a2.counts", "a3.counts", "--out", "v.counts"]).succeeded();
    let read = |name: &str| std::fs::read(bench.path().join(name)).unwrap();
    assert_eq!(read("v.counts"), read("w.counts"));
    bench.run(&["merge", "w.counts", "v.counts", "--out", "m.arpa"]).refused(2, &["a whole text", "--sum"]);
    let ran = bench.run(&["merge", "w.counts", "--out", "m.arpa"]).succeeded();
    assert!(!ran.stderr.contains("does not say"), "{}", ran.stderr);
    // Parts can be added up in a tree: neighbours that make a half are that half.
    let sum = |parts: [&str; 2], out: &str| {
        bench.run(&["merge", parts[0], parts[1], "--sum", "--out", out]).succeeded();
    };
    for part in 1..=4 {
        count("a.txt", &format!("{part}/4"), &format!("q{part}.counts"));
    }
    sum(["q1.counts", "q2.counts"], "left.counts");
    sum(["q3.counts", "q4.counts"], "right.counts");
    assert_eq!(read("right.counts"), read("h2.counts"));
    bench.run(&["merge", "left.counts", "right.counts", "--out", "v.counts"]).succeeded();
    assert_eq!(read("v.counts"), read("w.counts"));
    sum(["left.counts", "right.counts"], "v.counts");
    assert_eq!(read("v.counts"), read("w.counts"));
    // The text of another sum is unknown.
    for parts in [["q2.counts", "q3.counts"], ["q1.counts", "q3.counts"], ["q2.counts", "q1.counts"]] {
        sum(parts, "s.counts");
        let ran = bench.run(&["merge", "s.counts", "--out", "m.arpa"]).succeeded();
        assert!(ran.stderr.contains("s.counts does not say which part of which text"), "{}", ran.stderr);
    }
    bench.run(&["merge", "w.counts", "v.counts", "--sum", "--out", "s.counts"]).succeeded();
    let ran = bench.run(&["merge", "s.counts", "--out", "m.arpa"]).succeeded();
    assert!(ran.stderr.contains("s.counts does not say which part of which text"), "{}", ran.stderr);
}

#[cfg(target_os = "linux")]
fn cut(bench: &Bench) {
    let file = std::fs::OpenOptions::new().write(true).open(bench.path().join("m.ngram")).unwrap();
    file.set_len(4096).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_model_that_is_cut_short_while_it_is_read_ends_the_command_in_words() {
    let bench = Bench::new();
    let words: String =
        (0..60_000_u64).map(|n| format!("w{} w{} w{n}\n", n * n % 997, n * 7919 % 30011)).collect();
    bench.file("a.txt", words);
    bench.run(&["count", "a.txt", "--order", "4", "--out", "m.ngram"]).succeeded();
    // A memory-mapped file is read at once; many repetitions make the command last until the file
    // is cut.
    let copies: Vec<String> = (0..40).map(|n| format!("copies/{n}.txt")).collect();
    let text = std::fs::read(bench.path().join("a.txt")).unwrap();
    for name in &copies {
        bench.file(name, &text);
    }
    let many: Vec<&str> = copies.iter().map(String::as_str).collect();
    for arguments in [
        &[&["eval", "m.ngram"], &many[..]].concat()[..],
        &[&["mix", "m.ngram", "m.ngram", "--weights", "1,1"], &many[..]].concat(),
    ] {
        let child = bench.command(arguments).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        std::fs::copy(bench.path().join("m.ngram"), bench.path().join("kept.ngram")).unwrap();
        cut(&bench);
        Ran::of(child.wait_with_output().unwrap(), arguments)
            .refused(1, &["m.ngram was cut short while it was in use"]);
        std::fs::rename(bench.path().join("kept.ngram"), bench.path().join("m.ngram")).unwrap();
    }
    let arguments = ["sample", "m.ngram", "--tokens", "100000000", "--temperature", "1"];
    let mut child = bench.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    // The command is running.
    stdout.read_exact(&mut [0; 100]).unwrap();
    cut(&bench);
    let reader = std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    let ran = Ran::of(child.wait_with_output().unwrap(), &arguments);
    ran.refused(1, &["m.ngram was cut short while it was in use", "rename"]);
    reader.join().unwrap().unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn without_threads_there_is_a_hint_and_one_is_enough() {
    let bench = Bench::new();
    bench.text("a.txt", 300);
    let binary = bench.path().join("surprisal");
    std::fs::copy(bench.command(&[]).get_program(), &binary).unwrap();
    std::fs::set_permissions(bench.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    let run = |arguments: &[&str]| {
        // Limits do not apply to root, so another user runs the command.
        let user = if root { "setpriv --reuid=54321 --clear-groups --" } else { "" };
        let line = format!("ulimit -u 1 && exec {user} ./surprisal \"$@\"");
        let mut command = Command::new("bash");
        command.args(["-c", &line, "sh"]).args(arguments).current_dir(bench.path());
        Ran::of(command.output().unwrap(), arguments)
    };
    let ran = run(&["count", "a.txt", "--order", "3", "--threads", "2", "--out", "m.ngram"]);
    if ran.stderr.contains("setpriv") || ran.stderr.contains("bash") {
        eprintln!("SKIPPED: nothing can be run as another user here, or there is no bash");
        return;
    }
    ran.refused(1, &["cannot start 2 worker threads", "ulimit -u", "--threads 1"]);
    run(&["count", "a.txt", "--order", "3", "--threads", "1", "--out", "m.ngram"]).succeeded();
    run(&["eval", "m.ngram", "a.txt", "--threads", "1"]).succeeded();
    run(&["inspect", "m.ngram"]).succeeded();
    let few = ["--set", "train.steps=2", "--set", "train.threads=1", "--set", "model.kind=mlp"];
    run(&[&["train", "a.txt", "--out", "run"], &few[..]].concat()).succeeded();
    bench.run(&["count", "a.txt", "--order", "3", "--out", "n.ngram"]).succeeded();
    let read = |name: &str| std::fs::read(bench.path().join(name)).unwrap();
    assert_eq!(read("m.ngram"), read("n.ngram"));
}

#[cfg(not(feature = "mpi"))]
#[test]
fn several_processes_of_a_build_without_mpi_are_refused() {
    let bench = Bench::new();
    bench.text("a.txt", 50);
    let count = ["count", "a.txt", "--order", "2", "--out", "m.ngram"];
    for (name, value) in [("OMPI_COMM_WORLD_SIZE", "4"), ("PMI_SIZE", "2"), ("PMIX_RANK", "1")] {
        let output = bench.command(&count).env(name, value).output().unwrap();
        Ran::of(output, &count).refused(2, &["one of several processes", "without MPI", "the feature `mpi`"]);
        assert!(!bench.path().join("m.ngram").exists());
    }
    for (name, value) in [("OMPI_COMM_WORLD_SIZE", "1"), ("PMIX_RANK", "0")] {
        Ran::of(bench.command(&count).env(name, value).output().unwrap(), &count).succeeded();
    }
}
