//! Texts through every door, by the commands: pipes, compressed files, records, folders, splits.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{Bench, Ran, sentences};
use surprisal_text::Compression;

const FORMATS: [(Compression, &str); 4] = [
    (Compression::Gzip, "gz"),
    (Compression::Bzip2, "bz2"),
    (Compression::Xz, "xz"),
    (Compression::Zstd, "zst"),
];

fn compressed(format: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut writer = format.writer(Vec::new()).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// Runs with `input` on standard input; gives the raw standard output, too.
fn piped(bench: &Bench, arguments: &[&str], input: &[u8]) -> (Ran, Vec<u8>) {
    let mut command = bench.command(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let bytes = output.stdout.clone();
    (Ran::of(output, arguments), bytes)
}

fn bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// A line of the table that `eval` prints.
fn row(ran: &Ran, label: &str) -> String {
    let line = ran.stdout.lines().find(|line| line.starts_with(label));
    line.unwrap_or_else(|| panic!("{label} in {}", ran.stdout)).to_owned()
}

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let quick = ["--set", "model.kind=ngram", "--set", "model.order=2", "--set", "sample.tokens=0"];
    [&["train"], more, &quick].concat()
}

#[test]
fn counts_and_scores_are_the_same_through_files_pipes_and_compression() {
    let bench = Bench::new();
    let text = sentences(400);
    bench.file("t.txt", &text);
    bench.run(&["count", "t.txt", "--order", "3", "--out", "m.arpa", "--out", "m.tsv"]).succeeded();
    let arpa = bytes(&bench.path().join("m.arpa"));
    let nats = row(&bench.run(&["eval", "m.arpa", "t.txt"]).succeeded(), "nats per token");
    for (format, extension) in FORMATS {
        let name = format!("t.{extension}");
        bench.file(&name, compressed(format, text.as_bytes()));
        let packed = format!("m.arpa.{extension}");
        bench.run(&["count", &name, "--order", "3", "--out", "z.arpa", "--out", &packed]).succeeded();
        assert!(bytes(&bench.path().join("z.arpa")) == arpa, "{name}");
        let mut unpacked = Vec::new();
        let file = bytes(&bench.path().join(&packed));
        assert_eq!(Compression::of(&file), Some(format));
        format.reader(&file[..]).unwrap().read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == arpa, "{packed}");
        assert_eq!(row(&bench.run(&["eval", &packed, &name]).succeeded(), "nats per token"), nats);
        // Compressed data through a pipe.
        let (ran, out) = piped(
            &bench,
            &["count", "-", "--order", "3", "--out", "-"],
            &compressed(format, text.as_bytes()),
        );
        ran.succeeded();
        assert!(out == arpa, "{name}");
    }
    let inspect = |name: &str| bench.run(&["inspect", name]).succeeded().stdout;
    assert_eq!(inspect("t.xz").replace("t.xz", "t.txt"), inspect("t.txt"));
    for input in ["-", "/dev/stdin"] {
        let (ran, out) = piped(&bench, &["count", input, "--order", "3", "--out", "-"], text.as_bytes());
        ran.succeeded();
        assert!(out == arpa, "{input}");
        let (ran, _) = piped(&bench, &["eval", "m.arpa", input], text.as_bytes());
        assert_eq!(row(&ran.succeeded(), "nats per token"), nats);
        let (ran, _) = piped(&bench, &["eval", input, "t.txt"], &arpa);
        assert_eq!(row(&ran.succeeded(), "nats per token"), nats);
        let tsv = bytes(&bench.path().join("m.tsv"));
        let (ran, out) = piped(&bench, &["merge", input, "--out", "-"], &compressed(Compression::Zstd, &tsv));
        ran.succeeded();
        assert!(out == arpa, "{input}");
    }
    // Characters need two passes, so a pipe is copied.
    bench.run(&["count", "t.txt", "--tokenizer", "char", "--order", "3", "--out", "c.arpa"]).succeeded();
    let (ran, out) =
        piped(&bench, &["count", "-", "--tokenizer", "char", "--order", "3", "--out", "-"], text.as_bytes());
    assert!(ran.succeeded().stderr.contains("temporary copy"));
    assert!(out == bytes(&bench.path().join("c.arpa")));
    let (ran, _) = piped(&bench, &["mix", "m.arpa", "m.arpa", "--heldout", "-"], text.as_bytes());
    let (of_pipe, _) = piped(&bench, &["mix", "-", "m.arpa", "--heldout", "t.txt"], &arpa);
    of_pipe.succeeded();
    for twice in [
        &["mix", "-", "m.arpa", "--heldout", "-"][..],
        &["eval", "-", "-"],
        &["explain", "-", "-", "--text", "a"],
        &["sample", "-", "--prompt-file", "-"],
    ] {
        piped(&bench, twice, &arpa).0.refused(2, &["standard input is named twice"]);
    }
    ran.succeeded();
    bench.run(&["count", "-", "-", "--out", "x.arpa"]).refused(2, &["standard input is named twice"]);
}

#[cfg(unix)]
#[test]
fn named_pipes_are_read() {
    let bench = Bench::new();
    bench.text("t.txt", 100);
    bench.run(&["count", "t.txt", "--order", "2", "--out", "m.arpa"]).succeeded();
    let script = "mkfifo p; cat t.txt > p & \"$0\" count p --order 2 --out q.arpa && \"$0\" eval <(cat m.arpa) <(cat t.txt)";
    let program = assert_cmd::cargo::cargo_bin!("surprisal");
    let ran =
        Command::new("bash").current_dir(bench.path()).arg("-c").arg(script).arg(program).output().unwrap();
    let ran = Ran::of(ran, &["count", "p"]).succeeded();
    assert!(bytes(&bench.path().join("q.arpa")) == bytes(&bench.path().join("m.arpa")));
    assert_eq!(row(&ran, "nats"), row(&bench.run(&["eval", "m.arpa", "t.txt"]).succeeded(), "nats"));
}

#[test]
fn a_run_from_a_pipe_is_the_run_from_the_file() {
    let bench = Bench::new();
    let text = sentences(300);
    bench.file("t.txt", &text);
    bench.run(&train(&["t.txt", "--out", "a"])).succeeded();
    let (ran, _) = piped(&bench, &train(&["-", "--out", "b"]), text.as_bytes());
    assert!(ran.succeeded().stderr.contains("temporary copy"));
    let weights = |run: &str| bytes(&bench.path().join(run).join("model/model.ngram"));
    assert!(weights("a") == weights("b"));
    bench.run(&["eval", "b"]).refused(1, &["cannot be read again", "name the texts"]);
    bench.run(&["report", "b"]).refused(1, &["cannot be read again"]);
    // A comparison reads its texts once for each tokenizer.
    bench.file(
        "g.toml",
        "[[variant]]\nname = \"a\"\nmodel = { kind = \"uniform\" }\n[[variant]]\nname = \"b\"\nmodel = { kind = \
         \"uniform\" }\ntokenizer = { kind = \"byte\" }\n",
    );
    let (ran, _) = piped(&bench, &["compare", "g.toml", "-", "--out", "c"], text.as_bytes());
    ran.refused(1, &["cannot be read again"]);
    let (nats, again) = (bench.run(&["eval", "a", "t.txt"]), bench.run(&["eval", "b", "t.txt"]));
    assert_eq!(row(&nats.succeeded(), "nats"), row(&again.succeeded(), "nats"));
}

#[test]
fn records_are_documents_and_plain_reading_gets_a_hint() {
    let bench = Bench::new();
    let lines: Vec<String> = sentences(200).lines().map(str::to_owned).collect();
    let jsonl: String =
        lines.iter().map(|line| serde_json::json!({ "id": 1, "text": line }).to_string() + "\n").collect();
    bench.file("t.jsonl", &jsonl);
    bench.file(
        "t.csv",
        format!("id,text\n{}", lines.iter().map(|line| format!("1,{line}\n")).collect::<String>()),
    );
    let word = ["--set", "tokenizer.kind=word"];
    let ran =
        bench.run(&train(&[&["t.jsonl", "--field", "text", "--out", "j"][..], &word].concat())).succeeded();
    assert!(!ran.stderr.contains("looks like"));
    bench
        .run(&train(&[&["t.csv", "--set", "data.field=text", "--out", "c"][..], &word].concat()))
        .succeeded();
    let tokenizer = |run: &str| bytes(&bench.path().join(run).join("tokenizer.json"));
    assert!(tokenizer("j") == tokenizer("c"));
    let config = String::from_utf8(bytes(&bench.path().join("j/config.toml"))).unwrap();
    assert!(config.contains("unit = \"document\"") && config.contains("field = \"text\""), "{config}");
    // A sample stops at the end of a document.
    let sample = bench.run(&["sample", "j", "--tokens", "500"]).succeeded().stdout;
    assert!(sample.trim().lines().count() == 1 && sample.len() < 1_000, "{sample}");
    let ran = bench.run(&["count", "t.jsonl", "--order", "2", "--out", "m.arpa"]).succeeded();
    assert!(ran.stderr.contains("looks like JSON lines") && ran.stderr.contains("data.field = \"text\""));
    bench
        .run(&["count", "t.jsonl", "--field", "body", "--out", "x.arpa"])
        .refused(1, &["t.jsonl, line 1", "no field \"body\"", "there are: id, text"]);
    // Records in lines are the lines.
    bench.file("t.txt", sentences(200));
    bench.run(&["count", "t.jsonl", "--field", "text", "--order", "2", "--out", "r.arpa"]).succeeded();
    bench.run(&["count", "t.txt", "--order", "2", "--out", "p.arpa"]).succeeded();
    assert!(bytes(&bench.path().join("r.arpa")) == bytes(&bench.path().join("p.arpa")));
}

#[test]
fn a_text_that_has_changed_is_noticed_with_every_split() {
    let bench = Bench::new();
    for split in ["blocks", "lines", "documents", "files"] {
        for (name, word) in [("a", "cat"), ("b", "cow"), ("c", "dog")] {
            bench.file(&format!("d/{name}.txt"), sentences(200).replace("cat", word));
        }
        let by = format!("data.split={split}");
        bench.run(&train(&["d", "--set", &by, "--set", "data.val_fraction=0.4", "--out", split])).succeeded();
        bench.run(&["eval", split]).succeeded();
        for name in ["a", "b", "c"] {
            bench.file(&format!("d/{name}.txt"), sentences(200).replace("cat", "owl"));
        }
        bench.run(&["eval", split]).refused(1, &["has changed since the run was made"]);
    }
}

#[test]
fn folders_of_documents_are_not_glued() {
    let bench = Bench::new();
    bench.file("d/a.txt", "alpha beta ".repeat(30).trim_end());
    bench.file("d/b.txt", "gamma delta ".repeat(30).trim_end());
    bench.file("d/c.bin", [b"x".repeat(2_000), vec![0, 1, 2]].concat());
    let word = ["--set", "tokenizer.kind=word", "--set", "data.split=files"];
    let ran = bench.run(&train(&[&["d", "--out", "r"][..], &word].concat())).succeeded();
    assert!(ran.stderr.contains("1 binary file") && ran.stderr.contains("c.bin"), "{}", ran.stderr);
    let json = String::from_utf8(bytes(&bench.path().join("r/tokenizer.json"))).unwrap();
    assert!(json.contains("</s>") && !json.contains("betagamma"), "{json}");
    bench.run(&["count", "d/c.bin", "--out", "x.arpa"]).refused(1, &["NUL on line 1", "--invalid"]);
}

#[test]
fn folders_of_texts_are_no_models_and_leave_models_out() {
    let bench = Bench::new();
    bench.file("d/config.json", "{\"a\": 1}\n");
    bench.file("d/config.toml", "title = \"a site\"\n");
    bench.file("d/model/text.txt", sentences(200));
    bench.file("t.txt", sentences(200));
    bench.run(&["count", "t.txt", "--order", "2", "--out", "d/lm.arpa"]).succeeded();
    let ran = bench.run(&["count", "d", "--order", "2", "--out", "all.arpa"]).succeeded();
    assert!(ran.stderr.contains("left out 1 file (an ARPA file)"), "{}", ran.stderr);
    bench.file("d/config.json", "{\"model_type\": \"gpt2\"}\n");
    bench.run(&["count", "d", "--out", "x.arpa"]).refused(1, &["Hugging Face folder"]);
}

#[test]
fn a_report_of_a_pipe_is_refused_before_the_work() {
    let bench = Bench::new();
    let arguments = train(&["-", "--report", "--out", "r"]);
    piped(&bench, &arguments, sentences(200).as_bytes()).0.refused(1, &["- is a pipe", "file first"]);
    assert!(!bench.path().join("r").exists());
    let twice = train(&["-", "--val", "-", "--out", "r"]);
    piped(&bench, &twice, sentences(200).as_bytes()).0.refused(2, &["named twice"]);
}

#[test]
fn prompts_and_lists_of_words_have_the_normal_form_of_the_text() {
    let bench = Bench::new();
    let text = "un cafe\u{301} noir\nun the\u{301} noir\n".repeat(40);
    bench.file("t.txt", &text);
    bench.file("words.txt", "un\ncafe\u{301}\nnoir\n");
    let word = ["--normalize", "nfc", "--set", "tokenizer.kind=word", "--set", "data.unit=line"];
    bench.run(&train(&[&["t.txt", "--out", "r"][..], &word].concat())).succeeded();
    let ran = bench.run(&["explain", "r", "--text", "un cafe\u{301} noir"]).succeeded();
    assert!(!ran.stdout.contains("unknown"), "{}", ran.stdout);
    bench.run(&["sample", "r", "--prompt", "un cafe\u{301}"]).succeeded();
    let count =
        ["count", "t.txt", "--normalize", "nfc", "--vocab", "words.txt", "--order", "2", "--out", "x.arpa"];
    bench.run(&count).succeeded();
    assert!(String::from_utf8(bytes(&bench.path().join("x.arpa"))).unwrap().contains("un caf\u{e9}"));
}

#[test]
fn sorted_lines_are_told_and_shared_passages_and_small_validation_too() {
    let bench = Bench::new();
    let mut lines: Vec<String> = (0..3_000u32)
        .map(|n| format!("{}{}", char::from(b'a' + (n % 26) as u8), n * 7_919 % 1_000))
        .collect();
    bench.file("mixed.txt", lines.join("\n"));
    lines.sort();
    bench.file("sorted.txt", lines.join("\n"));
    let says = |arguments: &[&str]| bench.run(&train(arguments)).succeeded().stderr;
    let sorted = says(&["sorted.txt", "--out", "a"]);
    assert!(sorted.contains("not like the rest") && sorted.contains("data.split"), "{sorted}");
    assert!(!says(&["mixed.txt", "--out", "b"]).contains("not like the rest"));
    assert!(!says(&["sorted.txt", "--out", "c", "--set", "data.split=lines"]).contains("not like the rest"));
    let shared = says(&["mixed.txt", "--val", "sorted.txt", "--out", "d"]);
    assert!(!shared.contains("passages"), "other lines in between: {shared}");
    let text = sentences(3_000);
    bench.file("s.txt", &text);
    bench.file("v.txt", format!("{}{}", "quite another text. ".repeat(50), &text[500..4_000]));
    let shared = says(&["s.txt", "--val", "v.txt", "--out", "e"]);
    assert!(shared.contains("passages that are in the training text"), "{shared}");
    bench.file("tiny.txt", &text[..700]);
    let tiny = says(&["tiny.txt", "--out", "f"]);
    assert!(tiny.contains("too few to judge by") && tiny.contains("±"), "{tiny}");
}

#[test]
fn line_ends_and_dirty_bytes_are_said_truly() {
    let bench = Bench::new();
    let text = sentences(100);
    bench.file("t.txt", &text);
    bench.file("crlf.txt", text.replace('\n', "\r\n"));
    bench.file("bom.txt", format!("\u{FEFF}{text}"));
    let count = |name: &str, more: &[&str]| {
        let out = format!("{name}.arpa");
        let ran = bench.run(&[&["count", name, "--order", "2", "--out", &out], more].concat()).succeeded();
        (bytes(&bench.path().join(out)), ran.stderr)
    };
    let plain = count("t.txt", &[]);
    let crlf = count("crlf.txt", &[]);
    assert!(
        crlf.0 == plain.0 && crlf.1.contains("CRLF ends 100 lines; they are read as line ends"),
        "{}",
        crlf.1
    );
    assert!(count("bom.txt", &[]).0 == plain.0);
    let mut dirty = text.clone().into_bytes();
    dirty.extend(b"bad \xE9 line\nnul \0 line\n");
    bench.file("dirty.txt", &dirty);
    bench
        .run(&["count", "dirty.txt", "--out", "x.arpa"])
        .refused(1, &["dirty.txt", "0xe9", "line 101", "--invalid"]);
    let skipped = count("dirty.txt", &["--invalid", "skip-line"]);
    assert!(skipped.0 == plain.0 && skipped.1.contains("left out 2 lines"), "{}", skipped.1);
    let replaced = count("dirty.txt", &["--invalid", "replace"]);
    assert!(replaced.1.contains("2 invalid bytes became") && replaced.0 != plain.0, "{}", replaced.1);
    // A byte model reads anything.
    bench.run(&train(&["dirty.txt", "--set", "tokenizer.kind=byte", "--out", "r"])).succeeded();
}

#[test]
fn runs_of_older_versions_keep_their_reading() {
    let bench = Bench::new();
    bench.file("d/a.txt", "\u{FEFF}alpha beta\r\n".repeat(40));
    bench.file("d/b.txt", "gamma\r\n".repeat(40));
    let old = "# The settings of this run, with every default filled in.\n\n[data]\ntrain = [\"d\"]\nunit = \"stream\"\n";
    bench.file("old.toml", old);
    bench.run(&train(&["old.toml", "--out", "r"])).succeeded();
    let config = String::from_utf8(bytes(&bench.path().join("r/config.toml"))).unwrap();
    assert!(config.contains("reader = 1"), "{config}");
    let json = String::from_utf8(bytes(&bench.path().join("r/tokenizer.json"))).unwrap();
    assert!(json.contains('\u{FEFF}') && !json.contains("</s>"), "{json}");
    bench.run(&train(&["d", "--out", "n"])).succeeded();
    let config = String::from_utf8(bytes(&bench.path().join("n/config.toml"))).unwrap();
    assert!(config.contains("reader = 2") && config.contains("unit = \"document\""), "{config}");
    let json = String::from_utf8(bytes(&bench.path().join("n/tokenizer.json"))).unwrap();
    // Only the mark at the start of the file is one.
    assert!(json.contains("</s>"), "{json}");
}

/// The rows of the neural and the counted cases that are about texts.
#[test]
fn the_cases_give_the_right_values() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases");
    if !cases.exists() {
        eprintln!("SKIPPED: the cases are not beside the project");
        return;
    }
    let bench = Bench::new();
    let case = |name: &str| cases.join(name).to_str().unwrap().to_owned();
    // Counted, rows 2, 7, 14, 15 and 21.
    bench.run(&["count", &case("counted/base.txt"), "--order", "2", "--out", "base.arpa"]).succeeded();
    let base = bytes(&bench.path().join("base.arpa"));
    let arguments = ["count", &case("counted/base.txt"), "--order", "2", "--out", "-"];
    assert!(bench.command(&arguments).output().unwrap().stdout == base);
    for name in ["base.txt.gz", "base.txt.bz2", "base.txt.xz", "base.txt.zst", "bom.txt"] {
        bench
            .run(&["count", &case(&format!("counted/{name}")), "--order", "2", "--out", "z.arpa"])
            .succeeded();
        if name != "bom.txt" {
            assert!(bytes(&bench.path().join("z.arpa")) == base, "{name}");
        }
    }
    let bom = bytes(&bench.path().join("z.arpa"));
    assert!(!String::from_utf8(bom).unwrap().contains('\u{FEFF}'));
    let eval = |model: &str| bench.run(&["eval", &case(model), &case("counted/evlf.txt")]).succeeded().stdout;
    assert_eq!(eval("counted/base.arpa.gz"), eval("counted/base.arpa"));
    // Neural, rows 13 to 17 and 22.
    let small = case("neural/small.toml");
    let run = |text: &str, more: &[&str]| {
        let text = case(text);
        let fast = ["--set", "train.steps=2", "--set", "sample.tokens=0"];
        bench.run(&[&["train", &small, &text], more, &fast].concat())
    };
    #[cfg(unix)]
    {
        // The link is a file of its own where the cases were copied without links.
        for name in ["a.txt", "b.txt"] {
            bench.file(&format!("linked/{name}"), bytes(&cases.join("neural/dir_symlink").join(name)));
        }
        std::fs::create_dir(bench.path().join("linked/zz")).unwrap();
        std::os::unix::fs::symlink("../a.txt", bench.path().join("linked/zz/link.txt")).unwrap();
        let fast = ["--set", "train.steps=2", "--set", "sample.tokens=0"];
        let ran = bench.run(&[&["train", &small, "linked", "--out", "link"][..], &fast].concat()).succeeded();
        assert!(
            ran.stderr.contains("each file is read once") && ran.stderr.contains("2 files"),
            "{}",
            ran.stderr
        );
    }
    let ran = run("neural/dir_latebin", &["--out", "bin"]).succeeded();
    assert!(ran.stderr.contains("b.dat"), "{}", ran.stderr);
    let plain = |name: &str| {
        let bytes = bytes(&cases.join("neural").join(name));
        let wide: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|&unit| u16::from_le_bytes(unit)).collect();
        match name {
            "utf16_bom.txt" => String::from_utf16(&wide[1..]).unwrap(),
            _ => String::from_utf8(bytes).unwrap().trim_start_matches('\u{FEFF}').to_owned(),
        }
    };
    for (name, same) in
        [("eng.txt.gz", "eng.txt"), ("utf16_bom.txt", "utf16_bom.txt"), ("bom.txt", "bom.txt")]
    {
        run(&format!("neural/{name}"), &["--out", name]).succeeded();
        bench.file("plain.txt", plain(same));
        let sizes = |text: &str, out: &str| {
            let ran = bench.run(&train(&[text, "--out", out])).succeeded();
            let line = ran.stderr.lines().find(|line| line.contains("to train on")).unwrap();
            line.split_once(": ").unwrap().1.to_owned()
        };
        let (read, expected) = (
            sizes(&case(&format!("neural/{name}")), &format!("counted-{name}")),
            sizes("plain.txt", &format!("plain-{name}")),
        );
        assert_eq!(read, expected, "{name}");
    }
    for name in ["data.jsonl", "data.csv"] {
        let ran = run(&format!("neural/{name}"), &["--out", &format!("p{name}")]).succeeded();
        assert!(ran.stderr.contains("data.field"), "{}", ran.stderr);
        let ran = run(&format!("neural/{name}"), &["--field", "text", "--out", name]).succeeded();
        assert!(!ran.stderr.contains("data.field"), "{}", ran.stderr);
    }
    let ran = run("neural/nfd.txt", &["--out", "nfd"]).succeeded();
    assert!(ran.stderr.contains("normal form C"), "{}", ran.stderr);
    run("neural/nfd.txt", &["--normalize", "nfc", "--out", "nfc"]).succeeded();
    let ran = run("neural/names_sorted.txt", &["--out", "sorted"]).succeeded();
    assert!(
        ran.stderr.contains("0.18 (total variation)") && ran.stderr.contains("by 0.04"),
        "{}",
        ran.stderr
    );
    for name in ["tiny500.txt", "tiny70.txt"] {
        let ran = run(&format!("neural/{name}"), &["--set", "train.block_size=8", "--out", name]).succeeded();
        assert!(ran.stderr.contains("too few to judge by"), "{name}: {}", ran.stderr);
    }
    // No text that is not sorted warns.
    for name in ["tinyshakespeare.txt", "names.txt"] {
        let text = cases.join("../data").join(name);
        let ran = bench.run(&train(&[text.to_str().unwrap(), "--out", name])).succeeded();
        assert!(!ran.stderr.contains("not like the rest"), "{name}: {}", ran.stderr);
    }
}
