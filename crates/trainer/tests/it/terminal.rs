//! Texts, names, options and configs cannot control the terminal: special characters are escaped.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use crate::common::{Bench, Ran, sentences};
use serde_json::Value;
use surprisal::wording::visible;

/// Whether a character is a control (except line end and tab), a direction mark, a separator or
/// invisible.
fn drives(character: char) -> bool {
    let code = character as u32;
    let control = code < 0x20 && !matches!(character, '\n' | '\t') || (0x7f..0xa0).contains(&code);
    let directions = matches!(code, 0x61c | 0x200e | 0x200f | 0x202a..=0x202e | 0x2066..=0x2069);
    control || directions || matches!(code, 0x2028 | 0x2029 | 0x200b | 0xfeff | 0xfff9..=0xfffb)
}

/// Every character below U+0100 and every special one, alone and in escape sequences.
fn hostile() -> String {
    let mut text: String = (1..0x100).chain(0x2000..0x2070).filter_map(char::from_u32).collect();
    text.push_str("\u{61c}\u{180e}\u{feff}\u{fff9}\u{e0041}");
    text.push_str(" \x1b]0;title\x07 \x1b[31m \x1b[2J \x1bc \u{9b}2J \u{9d}0;title\u{9c} \x1b(0 x\x08\x08\rY \u{202e}abc\u{202c}");
    text
}

#[track_caller]
fn safe(what: &str, text: &str) {
    if let Some(found) = text.chars().find(|&character| drives(character)) {
        panic!("{what}: {found:?} in\n{text:?}");
    }
}

#[track_caller]
fn shown(bench: &Bench, arguments: &[impl AsRef<OsStr>]) -> Ran {
    let mut command = bench.command(&[]);
    let output = command.args(arguments).output().unwrap();
    let names: Vec<String> =
        arguments.iter().map(|argument| argument.as_ref().display().to_string()).collect();
    let ran = Ran::of(output, &names.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    safe(&names.join(" "), &ran.stderr);
    safe(&names.join(" "), &ran.stdout);
    ran
}

#[test]
fn nothing_that_drives_a_terminal_is_shown_as_it_is() {
    for code in (0..0x20).chain(0x7f..0xa0) {
        let character = char::from_u32(code).unwrap();
        let shown = visible(&format!("a{character}b")).into_owned();
        let kept = matches!(character, '\n' | '\t');
        assert_eq!(shown.contains(character), kept, "{code:#x}");
        assert!(shown.starts_with('a') && shown.ends_with('b') && shown.chars().count() >= 3, "{shown}");
    }
    for code in [0x61c, 0x200b, 0x200e, 0x200f, 0x2028, 0x2029, 0x202a, 0x202e, 0x2066, 0x2069, 0xfeff] {
        let character = char::from_u32(code).unwrap();
        assert_eq!(visible(&character.to_string()), format!("\\u{{{code:x}}}"));
    }
    assert_eq!(visible("\x1b[31m\x7f\u{9b}2J\r\n\t"), "␛[31m␡\\u{9b}2J␍\n\t");
    // Ordinary text is unchanged and not copied.
    for text in ["", "žluťoučký кінь 馬 ", "می\u{200c}خواهم", "👩\u{200d}🚀", "e\u{301}\u{a0}\u{ad}"]
    {
        assert!(matches!(visible(text), Cow::Borrowed(same) if same == text));
    }
}

/// A text with all special characters, and a character model of it.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.file("a.txt", format!("{}\n{}\n{}", sentences(40), hostile(), sentences(10)));
    let count =
        ["count", "a.txt", "--tokenizer", "char", "--unit", "stream", "--order", "2", "--out", "m.ngram"];
    bench.run(&count).succeeded();
    bench
}

#[test]
fn texts_are_shown() {
    let bench = bench();
    let text = hostile();
    for words in [
        &["train", "a.txt", "--set", "model.kind=ngram", "--set", "data.val_fraction=0.3", "--out", "run"][..],
        &["train", "a.txt", "--set", "tokenizer.kind=word", "--set", "model.kind=ngram"],
        &["train", "a.txt", "--set", "tokenizer.kind=byte", "--set", "model.kind=ngram"],
        &["inspect", "a.txt"],
        &["inspect", "run"],
        &["eval", "run"],
        &["explain", "run", "m.ngram", "--text", &text],
        &["explain", "run", "--text", &text, "--step", "30"],
        &["explain", "run", "--text", &text, "--json"],
        &["sample", "run", "--prompt", &text, "--allow-unknown", "--json"],
        &["count", "a.txt", "--out", "w.arpa", "--order", "2"],
        &["explain", "w.arpa", "--text", &text],
    ] {
        shown(&bench, words).succeeded();
    }
    let explained = shown(&bench, &["explain", "m.ngram", "--text", "a\x1b[31mb\u{9b}\u{202e}c"]).succeeded();
    assert!(explained.stdout.contains("a␛[31mb\\u{9b}\\u{202e}c"), "{}", explained.stdout);
    // The values in JSON are unchanged.
    let read = shown(&bench, &["explain", "m.ngram", "--text", &text, "--json"]).succeeded().result();
    let tokens = read["tokens"].as_array().unwrap().iter();
    let marked = text.replace('\n', "⏎").replace('\t', "⇥").replace(' ', "␣");
    assert_eq!(tokens.map(|token| token["token"].as_str().unwrap()).collect::<String>(), marked);
    // Its own colours are kept, and everything else is escaped.
    let explain = ["explain", "m.ngram", "--text", &text, "--color", "always"];
    let coloured = bench.run(&explain).succeeded().stdout;
    assert!(coloured.contains("\x1b[48;5;") && coloured.contains("␛[31m".chars().next().unwrap()));
    safe("colours", &without_colours(&coloured));
}

/// The text without the colours of `explain`.
fn without_colours(text: &str) -> String {
    let mut plain = text.replace("\x1b[0m", "");
    while let Some(at) = plain.find("\x1b[48;5;") {
        let end = at + plain[at..].find('m').unwrap();
        assert!(plain[at + 2..end].bytes().all(|byte| byte.is_ascii_digit() || byte == b';'));
        plain.replace_range(at..=end, "");
    }
    plain
}

#[test]
fn only_sample_into_a_pipe_or_a_file_is_raw() {
    let bench = bench();
    let text = hostile();
    let sample = ["sample", "m.ngram", "--prompt", &text, "--tokens", "300"];
    let ran = bench.run(&sample).succeeded();
    assert!(ran.stdout.starts_with(&text), "{:?}", ran.stdout);
    let path = bench.file("written.txt", "");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    assert!(bench.command(&sample).stdout(file).stderr(Stdio::null()).status().unwrap().success());
    assert_eq!(std::fs::read_to_string(path).unwrap(), ran.stdout);
}

#[test]
fn names_are_shown() {
    let bench = bench();
    // File names cannot have NUL or a slash; they have at most 120 bytes here, not all of them
    // UTF-8.
    let bytes: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    let mut names: Vec<Vec<u8>> = bytes.chunks(60).map(<[u8]>::to_vec).collect();
    names.push("\x1b]0;t\x07\u{9b}2J\u{202e}\u{2066}\u{2028}".into());
    for name in names {
        let with = |more: &[u8]| OsString::from(OsStr::from_bytes(&[&name[..], more].concat()));
        let (text, arpa, gone) = (with(b".txt"), with(b".arpa"), with(b".gone"));
        std::fs::copy(bench.path().join("a.txt"), bench.path().join(&text)).unwrap();
        let word = OsStr::new;
        for arguments in [
            vec![word("inspect"), &text],
            vec![word("eval"), word("m.ngram"), &text],
            vec![word("count"), &text, word("--order"), word("2"), word("--out"), word("x.arpa")],
            vec![word("count"), word("a.txt"), word("--order"), word("2"), word("--out"), &arpa],
            vec![word("count"), &gone, word("--out"), word("x.arpa")],
            vec![word("count"), &text, word("--out"), &gone],
            vec![word("train"), &gone],
            vec![word("train"), &text, word("--set"), word("model.kind=uniform"), word("--quiet")],
            vec![word("eval"), &gone],
            vec![word("eval"), &text],
            vec![word("sample"), &arpa, word("--tokens"), word("0")],
            vec![word("explain"), &arpa, word("--text"), word("the")],
            vec![word("mix"), word("m.ngram"), &gone],
            vec![word("mix"), word("m.ngram"), word("m.ngram"), &text, word("--weights"), word("1,1")],
            vec![word("export"), word("m.ngram"), word("--out"), &gone],
            vec![word("merge"), &gone, word("--out"), word("x.arpa")],
            vec![word("report"), &gone],
            vec![word("compare"), &gone],
            vec![&gone],
        ] {
            shown(&bench, &arguments);
        }
    }
}

#[test]
fn what_is_quoted_within_a_line_stays_on_it() {
    let bench = bench();
    let long = bench.path().join("x\ny.txt");
    std::fs::copy(bench.path().join("a.txt"), long).unwrap();
    for (arguments, code, first) in [
        (&["train", "no\nfile"][..], 1, "error: cannot read no\\nfile: "),
        (&["train", "--set", "a.b\nc=3"], 2, "error: --set a.b\\nc=3: unknown field `a`"),
        (&["train", "--set", "train.steps=a\nb"], 2, "error: --set train.steps=a\\nb: train.steps takes"),
        (&["train", "--fo\no"], 2, "error: unexpected argument '--fo\\no' found"),
        (&["sample", "m.ngram", "--tokens", "1\n2"], 2, "error: invalid value '1\\n2' for '--tokens <N>'"),
        (&["tra\nin"], 2, "error: unrecognized subcommand 'tra\\nin'"),
        (&["train", "x\ny.txt", "--set", "model.kind=uniform", "--normalize", "nfc"], 0, "x\\ny.txt: "),
        (&["count", "x\ny.txt", "--order", "2", "--out", "m\n.arpa"], 0, "0.0 s: reading"),
    ] {
        let ran = bench.run(arguments);
        assert!(ran.code == code && ran.stderr.starts_with(first), "{first}\n{}", ran.stderr);
        for broken in arguments.iter().filter(|argument| argument.contains('\n')) {
            assert!(!ran.stderr.contains(broken), "{}", ran.stderr);
            let shown = broken.replace('\n', "\\n");
            assert!(ran.stderr.contains(&shown), "{shown}\n{}", ran.stderr);
        }
    }
    let read = bench.run(&["eval", "m.ngram", "x\ny.txt"]).succeeded().stdout;
    assert!(read.starts_with("text                      x\\ny.txt\ntokens "), "{read}");
    let read = bench.run(&["inspect", "x\ny.txt"]).succeeded().stdout;
    assert!(read.starts_with("text              x\\ny.txt\nbytes "), "{read}");
}

#[test]
fn links_in_a_circle_are_said() {
    let bench = bench();
    for (from, to) in [("one.arpa", "two.arpa"), ("two.arpa", "one.arpa"), ("gone", "nothing")] {
        std::os::unix::fs::symlink(to, bench.path().join(from)).unwrap();
    }
    for arguments in [
        &["train", "one.arpa"][..],
        &["train", "gone"],
        &["train", "a.txt", "--out", "one.arpa"],
        &["count", "a.txt", "--out", "one.arpa"],
        &["eval", "one.arpa"],
        &["eval", "m.ngram", "gone"],
    ] {
        bench.run(arguments).refused(1, &["the link is broken or points to itself"]);
    }
}

#[test]
fn options_are_shown() {
    let bench = bench();
    let all = hostile();
    for value in all.chars().map(String::from).chain(["\x1b]0;title\x07".to_owned(), all.clone()]) {
        // A letter first, because a dash would begin a flag.
        let (word, set) = (format!("x{value}"), format!("a.{value}b=3"));
        let flag = format!("--x{value}");
        for arguments in [&["train", "--set", &set][..], &["count", "a.txt", "--smoothing", &word]] {
            shown(&bench, arguments).refused(2, &[]);
        }
        if value.len() > 2 || drives(value.chars().next().unwrap()) {
            for arguments in [
                &["train", &flag][..],
                &[&word],
                &["sample", "m.ngram", "--tokens", &word],
                &["count", "a.txt", "--out", "x.arpa", "--prune", &word],
                &["count", "a.txt", "--out", "x.counts", "--shard", &word],
                &["export", "m.ngram", "--format", &word, "--out", "x"],
                &["bench", "loss", "--case", &word],
                &["train", "a.txt", "--budget", &word],
                &["train", "--set", &format!("model.kind={word}")],
                &["train", "--set", &format!("data.embedded={word}")],
            ] {
                let ran = shown(&bench, arguments);
                assert!(ran.code == 2 || ran.code == 1, "{arguments:?}: {}", ran.stderr);
            }
        }
    }
    let refused = shown(&bench, &["train", "--set", "a.\x1b[31mb=3"]).refused(2, &["a.␛[31mb=3"]);
    assert!(refused.stdout.is_empty());
    shown(&bench, &["count", "a.txt", "--smoothing", "\u{202e}nk"]).refused(2, &["\\u{202e}nk"]);
}

#[test]
fn configs_are_shown() {
    let bench = bench();
    let all: String = hostile().chars().filter(|character| !matches!(character, '\n' | '\'' | '"')).collect();
    let escaped: String = all.chars().map(|character| format!("\\U{:08x}", character as u32)).collect();
    for text in [
        format!("[train]\n{all} = 1\n"),
        format!("# {all}\n[train]\nseed = x\n"),
        format!("[train]\nseed = '{all}'\n"),
        format!("[train]\n\"{escaped}\" = 1\n"),
        format!("[\"{escaped}\"]\n"),
        format!("[model]\nkind = \"{escaped}\"\n"),
        format!("[data]\ntrain = [\"{}\"]\n", escaped.replace("\\U0000002f", "")),
        format!("[[variant]]\nname = \"{escaped}\"\nagainst = \"x{escaped}\"\n"),
    ] {
        bench.file("c.toml", &text);
        assert_ne!(shown(&bench, &["train", "c.toml"]).code, 0);
        assert_ne!(shown(&bench, &["compare", "c.toml"]).code, 0);
    }
    let name = "v\\u001b[31m\\u009b\\u202e";
    bench.file("g.toml", format!("[[variant]]\nname = \"{name}\"\nmodel = {{ kind = \"uniform\" }}\n"));
    let compared = shown(&bench, &["compare", "g.toml", "a.txt", "--out", "cmp"]).succeeded();
    assert!(compared.stdout.contains("v␛[31m\\u{9b}\\u{202e}"), "{}", compared.stdout);
    let json = shown(&bench, &["compare", "g.toml", "a.txt", "--out", "cmp", "--json"]).succeeded().result();
    assert_eq!(json["variants"][0]["name"], Value::from("v\u{1b}[31m\u{9b}\u{202e}"));
}

/// The same in a terminal, created by `script`.
#[test]
fn on_a_terminal_samples_are_shown_too() {
    let bench = bench();
    let binary = assert_cmd::cargo::cargo_bin!("surprisal");
    let on_a_terminal = |command: &str| {
        let line = format!("'{}' {command}", binary.display());
        let mut script = Command::new("script");
        script.args(["-q", "-e", "-c", &line, "/dev/null"]).current_dir(bench.path()).stdin(Stdio::null());
        let output = script.output().ok().filter(|output| output.status.code() != Some(127))?;
        // The terminal driver turns line ends into CRLF.
        Some(String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n"))
    };
    if on_a_terminal("--version").is_none_or(|told| !told.starts_with("surprisal ")) {
        crate::common::skipped("no `script` lends a terminal here");
        return;
    }
    bench.file("run.sh", "");
    let prompt = "a\x1b]0;title\x07\x1b[31m\u{9b}2J\u{202e}b";
    let sampled = on_a_terminal(&format!("sample m.ngram --tokens 200 --prompt '{prompt}'")).unwrap();
    safe("sample", &sampled);
    assert!(sampled.starts_with("a␛]0;title␇␛[31m\\u{9b}2J\\u{202e}b"), "{sampled}");
    for command in [
        "inspect a.txt".to_owned(),
        format!("eval m.ngram '{prompt}'"),
        format!("train --set 'a.{prompt}=1'"),
        format!("count a.txt --smoothing '{prompt}'"),
        format!("'{prompt}'"),
    ] {
        safe(&command, &on_a_terminal(&command).unwrap());
    }
    let explained = on_a_terminal(&format!("explain m.ngram --text '{prompt}'")).unwrap();
    assert!(explained.contains("\x1b[48;5;"), "{explained}");
    safe("explain", &without_colours(&explained));
}
