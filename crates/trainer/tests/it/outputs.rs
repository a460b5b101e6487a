//! Output paths: no input and no foreign file is replaced; links, modes, pipes and devices are
//! kept; of two writers, one is refused.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::{Bench, Ran};

/// A text, its n-gram model in both formats, and its counts.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    let count = ["count", "a.txt", "--order", "2", "--quiet"];
    let outs = ["--out", "m.arpa", "--out", "m.ngram", "--out", "m.counts", "--out", "m.tsv"];
    bench.run(&[&count[..], &outs].concat()).succeeded();
    bench
}

fn read(bench: &Bench, name: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(bench.path().join(name)).unwrap()
}

/// Checks that the command is refused with code 2 and a message with `parts`, before any work, and
/// that every file is unchanged.
#[track_caller]
fn refuses(bench: &Bench, arguments: &[&str], parts: &[&str]) {
    let state = || -> Vec<(String, Option<Vec<u8>>)> {
        let names = bench.entries().into_iter();
        names.map(|name| (name.clone(), std::fs::read(bench.path().join(name)).ok())).collect()
    };
    let before = state();
    let ran = bench.run(arguments).refused(2, parts).refused(2, &["hint: "]);
    assert!(!ran.stderr.contains("reading") && !ran.stderr.contains("counting"), "{}", ran.stderr);
    assert!(state() == before, "{arguments:?} changed something: {:?}", bench.entries());
}

#[test]
fn what_a_command_reads_it_does_not_replace() {
    let bench = bench();
    // Despite its name it is a text.
    bench.text("text.arpa", 20);
    std::fs::create_dir(bench.path().join("d")).unwrap();
    let read_by = "is read by this command";
    refuses(&bench, &["count", "text.arpa", "--order", "2", "--out", "text.arpa"], &["text.arpa", read_by]);
    refuses(&bench, &["count", "text.arpa", "--order", "2", "--out", "d/../text.arpa"], &[read_by]);
    refuses(&bench, &["merge", "m.counts", "--out", "m.counts"], &["m.counts", read_by]);
    refuses(&bench, &["merge", "m.tsv", "--out", "x.arpa", "--out", "m.tsv"], &["m.tsv", read_by]);
    refuses(&bench, &["export", "m.ngram", "--out", "m.ngram"], &["m.ngram", read_by]);
    let mix = ["mix", "m.ngram", "m.arpa", "--weights", "1,1", "--out"];
    refuses(&bench, &[&mix[..], &["m.ngram"]].concat(), &["m.ngram", read_by]);
    refuses(&bench, &["mix", "m.ngram", "m.arpa", "--heldout", "m.tsv", "--out", "m.arpa"], &[read_by]);
    let own = ["mix", "m.ngram", "m.arpa", "--heldout", "text.arpa", "--out", "text.arpa"];
    refuses(&bench, &own, &["text.arpa", read_by]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("text.arpa", bench.path().join("soft.arpa")).unwrap();
        std::fs::hard_link(bench.path().join("text.arpa"), bench.path().join("hard.arpa")).unwrap();
        refuses(&bench, &["count", "text.arpa", "--out", "soft.arpa"], &["soft.arpa", read_by]);
        refuses(&bench, &["count", "text.arpa", "--out", "hard.arpa"], &["hard.arpa", read_by]);
        refuses(&bench, &["count", "soft.arpa", "--out", "text.arpa"], &["text.arpa", read_by]);
    }
    // Two outputs are the same file.
    refuses(&bench, &["count", "a.txt", "--out", "x.arpa", "--out", "d/../x.arpa"], &["x.arpa", "one file"]);
}

#[test]
fn nothing_is_written_into_a_folder_that_is_read_whole() {
    let bench = Bench::new();
    bench.text("texts/a.txt", 60);
    std::fs::create_dir(bench.path().join("texts/inner")).unwrap();
    std::fs::create_dir(bench.path().join("texts/.hidden")).unwrap();
    let within = ["`texts`", "take it for a text"];
    refuses(&bench, &["count", "texts", "--order", "2", "--out", "texts/m.arpa"], &within);
    refuses(
        &bench,
        &["count", "texts/.", "--order", "2", "--out", "texts/inner/m.tsv"],
        &["take it for a text"],
    );
    refuses(&bench, &["train", "texts", "--out", "texts/run"], &within);
    refuses(&bench, &["train", "texts", "--out", "texts"], &["texts", "is read by this command"]);
    refuses(&bench, &["train", "."], &["runs/", "take it for a text"]);
    bench.file("grid.toml", "[[variant]]\nname = \"a\"\n[variant.model]\nkind = \"uniform\"\n");
    refuses(&bench, &["compare", "grid.toml", "texts", "--out", "texts/grid"], &within);
    bench.run(&["compare", "grid.toml", "texts", "--out", "texts"]).refused(1, &["texts", "already there"]);
    assert_eq!(std::fs::read_dir(bench.path().join("texts")).unwrap().count(), 3);
    // Hidden files are not read.
    bench.run(&["count", "texts", "--order", "2", "--out", "texts/.hidden/m.arpa", "--quiet"]).succeeded();
    bench.run(&["count", "texts", "--order", "2", "--out", "m.arpa", "--quiet"]).succeeded();
    assert_eq!(read(&bench, "m.arpa"), read(&bench, "texts/.hidden/m.arpa"));
}

#[test]
fn a_place_where_nothing_can_be_written_is_refused_before_the_work() {
    let bench = bench();
    bench.file("file", "mine");
    bench.text("folder.arpa/inside.txt", 3);
    let long = format!("{}.arpa", "x".repeat(251));
    for command in [
        &["count", "a.txt", "--order", "2"][..],
        &["merge", "m.counts"],
        &["export", "m.ngram"],
        &["mix", "m.ngram", "m.ngram", "--weights", "1,1"],
    ] {
        let with = |out: &'static str| [command, &["--out", out]].concat();
        refuses(&bench, &with("file/x.arpa"), &["file/x.arpa", "`file` is not a folder"]);
        refuses(&bench, &with("file/no/x.arpa"), &["file/no/x.arpa", "`file` is not a folder"]);
        // Missing folders are made, and stay only with what is written.
        bench.run(&with("no/such/x.arpa")).succeeded();
        assert!(bench.path().join("no/such/x.arpa").is_file());
        std::fs::remove_dir_all(bench.path().join("no")).unwrap();
        refuses(&bench, &with("x.arpa/"), &["x.arpa/", "is a folder"]);
        refuses(&bench, &with("folder.arpa"), &["folder.arpa", "is a folder"]);
        let arguments = [command, &["--out", &long]].concat();
        let ran = bench.run(&arguments).refused(1, &["too long"]);
        assert!(!ran.stderr.contains("reading"), "{}", ran.stderr);
    }
    // A name of the maximum length.
    let longest = format!("{}.arpa", "x".repeat(250));
    bench.run(&["export", "m.ngram", "--out", &longest]).succeeded();
    assert_eq!(read(&bench, longest), read(&bench, "m.arpa"));
    bench.run(&["train", "a.txt", "--out", &long]).refused(1, &["too long"]);
    bench.run(&["train", "a.txt", "--out", &format!("new/{long}")]).refused(1, &["too long"]);
    assert!(!bench.path().join("new").exists());
}

#[test]
fn only_what_a_file_of_ours_was_is_replaced() {
    let bench = bench();
    let model = read(&bench, "m.arpa");
    let foreign: [(&str, &[u8]); 5] = [
        ("letter.arpa", b"Dear Sir,\n\\data\\ is not what this is.\n"),
        ("print.arpa", b"%PDF-1.7\n"),
        ("packed.ngram", b"\x1f\x8b\x08\x00"),
        ("table.tsv", b"name\tage\nAnn\t31\n"),
        ("notes.counts", b"\n"),
    ];
    for (name, bytes) in foreign {
        bench.file(name, bytes);
        refuses(&bench, &["count", "a.txt", "--order", "2", "--out", name], &[name, "is left alone"]);
        assert_eq!(read(&bench, name), bytes);
    }
    refuses(
        &bench,
        &["export", "m.ngram", "--format", "arpa", "--out", "a.txt"],
        &["a.txt", "is left alone"],
    );
    // An empty file, and all kinds of our files.
    bench.file("empty.arpa", "");
    for (name, before) in [
        ("empty.arpa", None),
        ("a.arpa", Some("m.tsv")),
        ("b.arpa", Some("m.ngram")),
        ("c.arpa", Some("m.counts")),
    ] {
        if let Some(before) = before {
            std::fs::copy(bench.path().join(before), bench.path().join(name)).unwrap();
        }
        for _ in 0..2 {
            bench.run(&["count", "a.txt", "--order", "2", "--out", name, "--quiet"]).succeeded();
            assert_eq!(read(&bench, name), model);
        }
    }
    // Counts of all kinds of tokens are recognised.
    for tokenizer in ["byte", "char", "word"] {
        for _ in 0..2 {
            let count = ["count", "a.txt", "--order", "2", "--tokenizer", tokenizer, "--quiet", "--out"];
            bench.run(&[&count[..], &[&format!("{tokenizer}.tsv")]].concat()).succeeded();
        }
    }
    // One file of a model folder is not a model.
    let train = ["train", "a.txt", "--set", "model.kind=ngram", "--set", "model.order=2", "--quiet"];
    bench.run(&[&train[..], &["--out", "run"]].concat()).succeeded();
    let inner = "run/model/model.ngram";
    refuses(&bench, &["count", "a.txt", "--order", "2", "--out", inner], &[inner, "belong together"]);
    refuses(&bench, &["export", "run", "--quantize", "4", "--out", inner], &[inner, "belong together"]);
    bench.run(&["eval", "run", "--quiet"]).succeeded();
    bench.run(&["export", "run", "--out", "run/m.arpa", "--quiet"]).succeeded();
    bench.run(&["eval", "run", "--quiet"]).succeeded();
}

#[test]
fn folders_with_something_in_them_are_left_alone() {
    let bench = bench();
    bench.file("mine/notes", "mine");
    bench.file("cells/cells/notes", "mine");
    bench.file("cells/report.html", "mine");
    bench.file("cells/data.csv", "mine");
    bench.file("locked/lock", "mine");
    bench.file("grid.toml", "[[variant]]\nname = \"a\"\n[variant.model]\nkind = \"uniform\"\n");
    let train = [
        "train",
        "a.txt",
        "--set",
        "model.kind=bigram",
        "--set",
        "train.steps=1",
        "--set",
        "train.batch_size=2",
        "--set",
        "train.block_size=8",
        "--set",
        "eval.stride=4",
        "--set",
        "sample.tokens=0",
        "--quiet",
    ];
    for folder in ["mine", "cells", "locked"] {
        let refused = ["already there", folder, "hint"];
        bench.run(&[&train[..], &["--out", folder]].concat()).refused(1, &refused);
        bench.run(&["compare", "grid.toml", "a.txt", "--out", folder]).refused(1, &refused);
    }
    let report = read(&bench, "cells/report.html");
    assert_eq!(report, b"mine");
    assert_eq!(read(&bench, "locked/lock"), b"mine");
    // A comparison's own folder is resumed; a foreign page is not replaced.
    bench.run(&["compare", "grid.toml", "a.txt", "--out", "grid"]).succeeded();
    assert_eq!(
        bench.run(&["compare", "grid.toml", "a.txt", "--out", "grid", "--json"]).succeeded().events().len(),
        1
    );
    bench.file("grid/report.html", "mine");
    bench.run(&["compare", "grid.toml", "a.txt", "--out", "grid"]).refused(2, &["report.html", "left alone"]);

    let small = [
        "--set",
        "model.kind=transformer",
        "--set",
        "model.n_layer=1",
        "--set",
        "model.n_embd=8",
        "--set",
        "model.n_head=1",
    ];
    bench.run(&[&train[..], &small, &["--out", "r"]].concat()).succeeded();
    bench.run(&["export", "r", "--format", "hf", "--out", "r"]).refused(2, &["`r` is read by this command"]);
    bench.run(&["export", "r", "--format", "hf", "--out", "mine"]).refused(1, &["mine", "already there"]);
    bench.run(&["export", "r", "--format", "hf", "--out", "no/hf"]).succeeded();
    // Hidden folders beside it may be foreign.
    bench.file(".hf.tmp/precious", "mine");
    bench.file("r/.draft.tmp", "mine");
    bench.file("r/.old.old/precious", "mine");
    std::fs::create_dir(bench.path().join("hf")).unwrap();
    bench.run(&["export", "r", "--format", "hf", "--out", "hf"]).succeeded();
    bench.run(&["report", "r"]).succeeded();
    for precious in
        [".hf.tmp/precious", "r/.draft.tmp", "r/.old.old/precious", "mine/notes", "cells/data.csv"]
    {
        assert_eq!(read(&bench, precious), b"mine", "{precious}");
    }
    bench.file("r/report.html", "mine");
    bench.run(&["report", "r"]).refused(2, &["report.html", "left alone"]);
}

/// Checks that no hidden file is left.
#[cfg(unix)]
fn no_debris(bench: &Bench) {
    let left: Vec<String> =
        bench.entries().into_iter().filter(|name| name.starts_with('.') || name == "lock").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_modes_stay() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let bench = bench();
    let model = read(&bench, "m.arpa");
    let at = |name: &str| bench.path().join(name);
    std::fs::create_dir(at("store")).unwrap();
    bench.file("store/real.arpa", "");
    symlink("store/real.arpa", at("link.arpa")).unwrap();
    symlink("link.arpa", at("second.arpa")).unwrap();
    symlink("store/new.arpa", at("dangling.arpa")).unwrap();
    symlink("circle.arpa", at("circle.arpa")).unwrap();
    for (link, real) in [
        ("link.arpa", "store/real.arpa"),
        ("second.arpa", "store/real.arpa"),
        ("dangling.arpa", "store/new.arpa"),
    ] {
        bench.run(&["count", "a.txt", "--order", "2", "--out", link, "--quiet"]).succeeded();
        assert!(std::fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link}");
        assert_eq!(read(&bench, real), model, "{link}");
        assert!(std::fs::symlink_metadata(at(real)).unwrap().is_file());
    }
    bench.run(&["export", "m.ngram", "--out", "circle.arpa"]).refused(1, &["circle.arpa"]);
    for mode in [0o600, 0o640, 0o664, 0o755] {
        std::fs::set_permissions(at("store/real.arpa"), std::fs::Permissions::from_mode(mode)).unwrap();
        bench.run(&["export", "m.ngram", "--out", "link.arpa", "--quiet"]).succeeded();
        assert_eq!(std::fs::metadata(at("store/real.arpa")).unwrap().permissions().mode() & 0o7777, mode);
    }
    // A read-only file is protected by its owner.
    std::fs::set_permissions(at("store/real.arpa"), std::fs::Permissions::from_mode(0o444)).unwrap();
    refuses(&bench, &["export", "m.ngram", "--out", "link.arpa"], &["link.arpa", "read-only"]);
    // Another hard link of the file keeps the old content.
    bench.file("one.arpa", b"\\data\\\nngram 1=1\n");
    std::fs::hard_link(at("one.arpa"), at("other.arpa")).unwrap();
    bench.run(&["export", "m.ngram", "--out", "one.arpa", "--quiet"]).succeeded();
    assert_eq!(
        (read(&bench, "one.arpa"), read(&bench, "other.arpa")),
        (model, b"\\data\\\nngram 1=1\n".to_vec())
    );
    no_debris(&bench);
    assert_eq!(std::fs::read_dir(at("store")).unwrap().count(), 2);
}

/// The binary with its standard output redirected to `file` by the shell.
#[cfg(unix)]
fn shell(bench: &Bench, script: &str) -> Ran {
    let mut command = Command::new("bash");
    command.args(["-c", script]).arg(bench.command(&[]).get_program());
    Ran::of(command.current_dir(bench.path()).output().unwrap(), &[script])
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_written_to() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let bench = bench();
    let model = String::from_utf8(read(&bench, "m.arpa")).unwrap();
    let at = |name: &str| bench.path().join(name);
    // A named pipe, for every command that writes a file.
    for (command, expected) in [
        (&["count", "a.txt", "--order", "2"][..], &model),
        (&["merge", "m.counts"], &model),
        (&["export", "m.ngram"], &model),
        (&["mix", "m.ngram", "m.ngram", "--weights", "1,1"], &String::new()),
    ] {
        assert!(Command::new("mkfifo").arg(at("pipe.arpa")).status().unwrap().success());
        let reader = Command::new("cat").arg(at("pipe.arpa")).stdout(Stdio::piped()).spawn().unwrap();
        bench.run(&[command, &["--out", "pipe.arpa", "--quiet"]].concat()).succeeded();
        let got = String::from_utf8(reader.wait_with_output().unwrap().stdout).unwrap();
        assert!(got.starts_with("\\data\\") && got.ends_with("\\end\\\n"), "{command:?}: {got}");
        assert!(expected.is_empty() || got == *expected, "{command:?}");
        assert!(std::fs::symlink_metadata(at("pipe.arpa")).unwrap().file_type().is_fifo());
        std::fs::remove_file(at("pipe.arpa")).unwrap();
    }
    // A device, by name or link.
    symlink("/dev/null", at("null.ngram")).unwrap();
    for out in ["/dev/null", "null.ngram"] {
        bench.run(&["count", "a.txt", "--order", "2", "--out", out]).succeeded();
        assert!(std::fs::metadata(at(out)).unwrap().file_type().is_char_device());
    }
    assert!(std::fs::symlink_metadata(at("null.ngram")).unwrap().is_symlink());
    assert_eq!(
        shell(&bench, "\"$0\" export m.ngram --out /dev/stdout --quiet | cat").succeeded().stdout,
        model
    );
    // Into a file with other content, at the shell's position.
    if cfg!(target_os = "linux") {
        shell(&bench, "(echo before; \"$0\" export m.ngram --out /dev/stdout -q; echo after) >all.txt")
            .succeeded();
        assert_eq!(String::from_utf8(read(&bench, "all.txt")).unwrap(), format!("before\n{model}after\n"));
        shell(&bench, "\"$0\" export m.ngram --out /dev/stdout -q >>all.txt").succeeded();
        assert_eq!(read(&bench, "all.txt").len(), "before\nafter\n".len() + 2 * model.len());
        let substituted = "\"$0\" count a.txt --order 2 --out >(cat >copy.txt; echo >done) -q; while [ ! -e done ]; do sleep .01; done";
        shell(&bench, substituted).succeeded();
        assert_eq!(String::from_utf8(read(&bench, "copy.txt")).unwrap(), model);
        let ran = shell(&bench, "\"$0\" export m.ngram --out /dev/full --format arpa");
        ran.refused(1, &["/dev/full", "No space left"]);
    }
    // A reader that closes the pipe early is not an error.
    let ran =
        shell(&bench, "set -o pipefail; \"$0\" export m.ngram --out /dev/stdout -q | head -c 1 >/dev/null");
    assert_eq!((ran.succeeded().stderr.as_str(), bench.entries().contains(&"lock".into())), ("", false));
    no_debris(&bench);
}

#[cfg(target_os = "linux")]
#[test]
fn names_are_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let bench = bench();
    let odd = |name: &[u8]| OsStr::from_bytes(name).to_owned();
    std::fs::create_dir(bench.path().join("o")).unwrap();
    let run = |arguments: &[&str], out: &OsStr| {
        Ran::of(bench.command(arguments).arg("--out").arg(out).output().unwrap(), arguments).succeeded()
    };
    let arpa = odd(b"o/\xff\xfe.arpa");
    for command in [
        &["count", "a.txt", "--order", "2", "--json"][..],
        &["merge", "m.counts", "--json"],
        &["export", "m.ngram", "--json"],
    ] {
        let written = run(command, &arpa).result()["written"][0]["path"].clone();
        assert_eq!(written, "o/\u{fffd}\u{fffd}.arpa");
        assert_eq!(read(&bench, &arpa), read(&bench, "m.arpa"));
    }
    run(&["mix", "m.ngram", "m.ngram", "--weights", "1,1", "--json"], &arpa);
    // Names that look the same are different.
    let other = odd(b"o/\xfe\xff.arpa");
    let mut two = bench.command(&["count", "a.txt", "--order", "2", "--out"]);
    Ran::of(two.arg(&arpa).arg("--out").arg(&other).output().unwrap(), &[]).succeeded();
    assert_eq!(std::fs::read_dir(bench.path().join("o")).unwrap().count(), 2);
    let train = [
        "train",
        "a.txt",
        "--set",
        "model.kind=bigram",
        "--set",
        "train.steps=1",
        "--set",
        "train.batch_size=2",
        "--set",
        "train.block_size=8",
        "--set",
        "eval.stride=4",
        "--json",
        "--report",
    ];
    run(&train, &odd(b"run\xff"));
    assert!(bench.path().join(odd(b"run\xff/report.html")).is_file());
    bench.file("grid.toml", "[[variant]]\nname = \"a\"\n[variant.model]\nkind = \"uniform\"\n");
    run(&["compare", "grid.toml", "a.txt", "--json"], &odd(b"grid\xff"));
    assert!(bench.path().join(odd(b"grid\xff/comparison.json")).is_file());
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// A process that holds the lock of its output until a pipe, which it writes first, is read.
#[cfg(unix)]
struct Held(Child);

#[cfg(unix)]
impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(unix)]
fn wait_for(path: &Path) {
    for _ in 0..3000 {
        if path.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{} does not come", path.display());
}

#[cfg(unix)]
#[test]
fn of_two_writers_of_one_file_the_second_is_refused_and_a_dead_ones_lock_is_taken_over() {
    let bench = bench();
    let at = |name: &str| bench.path().join(name);
    assert!(Command::new("mkfifo").arg(at("pipe.counts")).status().unwrap().success());
    // Blocked by the pipe, which is written first.
    let mut command =
        bench.command(&["count", "a.txt", "--order", "2", "--out", "pipe.counts", "--out", "x.arpa"]);
    let first = Held(command.stderr(Stdio::null()).spawn().unwrap());
    wait_for(&at(".x.arpa.lock"));
    let process = format!("process {}", first.0.id());
    let named = ["`x.arpa` is being written to by", &process, "hint"];
    for _ in 0..1000 {
        // Until the owner is recorded.
        if std::fs::read(at(".x.arpa.lock")).is_ok_and(|text| text.ends_with(b"}")) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::fs::create_dir(at("d")).unwrap();
    std::os::unix::fs::symlink("../x.arpa", at("d/link.arpa")).unwrap();
    bench.run(&["count", "a.txt", "--order", "2", "--out", "x.arpa"]).refused(1, &named);
    bench.run(&["export", "m.ngram", "--out", "x.arpa"]).refused(1, &named);
    bench.run(&["merge", "m.counts", "--out", "y.arpa", "--out", "d/link.arpa"]).refused(1, &[&process]);
    assert!(!at("x.arpa").exists() && !at("y.arpa").exists() && !at(".y.arpa.lock").exists());
    signal(&first.0, "-KILL");
    drop(first);
    assert!(at(".x.arpa.lock").exists(), "a killed process leaves its lock");
    bench.run(&["count", "a.txt", "--order", "2", "--out", "x.arpa"]).succeeded();
    assert_eq!(read(&bench, "x.arpa"), read(&bench, "m.arpa"));
    // A foreign hidden file with this name is not a lock.
    bench.file(".x.arpa.lock", "mine");
    bench
        .run(&["count", "a.txt", "--order", "2", "--out", "x.arpa"])
        .refused(1, &[".x.arpa.lock", "already there"]);
    assert_eq!(read(&bench, ".x.arpa.lock"), b"mine");
}

#[test]
fn of_many_exports_and_comparisons_into_one_new_folder_one_goes_on() {
    let bench = bench();
    let small = [
        "train.steps=1",
        "train.batch_size=2",
        "train.block_size=8",
        "eval.stride=4",
        "sample.tokens=0",
        "model.kind=transformer",
        "model.n_layer=1",
        "model.n_embd=8",
        "model.n_head=1",
    ];
    let mut train = vec!["train", "a.txt", "--out", "r", "--quiet"];
    for set in small {
        train.extend(["--set", set]);
    }
    bench.run(&train).succeeded();
    bench.file("grid.toml", "[[variant]]\nname = \"a\"\n[variant.model]\nkind = \"ngram\"\norder = 2\n");
    let export = ["export", "r", "--format", "hf", "--out", "hf"];
    let compare = ["compare", "grid.toml", "a.txt", "--out", "grid"];
    for (arguments, folder) in [(&export[..], "hf"), (&compare, "grid")] {
        let children: Vec<Child> = (0..4)
            .map(|_| bench.command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
            .collect();
        let ends: Vec<Ran> =
            children.into_iter().map(|child| Ran::of(child.wait_with_output().unwrap(), arguments)).collect();
        let stderr: String = ends.iter().map(|ran| ran.stderr.as_str()).collect();
        assert!(ends.iter().any(|ran| ran.code == 0), "{stderr}");
        for ran in ends {
            if ran.code != 0 {
                let ran = ran.refused(1, &[folder, "hint"]);
                assert!(
                    ran.stderr.contains("being written to by process")
                        || ran.stderr.contains("already there"),
                    "{stderr}"
                );
            }
        }
        let hidden = bench.entries().into_iter().find(|name| name.starts_with('.'));
        assert_eq!((hidden, bench.path().join(folder).join("lock").exists()), (None, false));
    }
    bench
        .run(&[
            "train",
            "a.txt",
            "--set",
            "model.init_from=hf",
            "--set",
            "train.steps=1",
            "--set",
            "train.block_size=8",
            "--set",
            "eval.stride=4",
            "--set",
            "train.batch_size=2",
            "--quiet",
            "--out",
            "on",
        ])
        .succeeded();
    assert!(bench.path().join("grid/report.html").is_file());
}

#[cfg(unix)]
#[test]
fn a_comparison_that_is_being_made_is_left_to_its_maker() {
    let bench = bench();
    bench.file(
        "grid.toml",
        "[train]\nsteps = 100000\nblock_size = 8\nbatch_size = 2\n[[variant]]\nname = \"a\"\n[variant.model]\nkind = \"bigram\"\n",
    );
    let compare = ["compare", "grid.toml", "a.txt", "--out", "grid"];
    let first = Held(bench.command(&compare).stderr(Stdio::null()).spawn().unwrap());
    wait_for(&bench.path().join("grid/cells/a/seed-1/config.toml"));
    let process = format!("process {}", first.0.id());
    bench.run(&compare).refused(1, &["`grid` is being written to by", &process]);
    bench.run(&["train", "a.txt", "--out", "grid"]).refused(1, &["grid"]);
}

#[cfg(unix)]
#[test]
fn where_files_may_have_no_bytes_no_lock_is_left() {
    let bench = bench();
    bench.file("grid.toml", "[[variant]]\nname = \"a\"\n[variant.model]\nkind = \"uniform\"\n");
    for command in [
        "count a.txt --order 2 --out x.arpa",
        "train a.txt --set model.kind=uniform --out run",
        "export m.ngram --out x.arpa",
        "merge m.counts --out x.arpa",
        "mix m.ngram m.ngram --weights 1,1 --out x.arpa",
        "compare grid.toml a.txt --out run",
    ] {
        shell(&bench, &format!("ulimit -f 0; \"$0\" {command}")).refused(1, &["hint", "ulimit -f"]);
        no_debris(&bench);
        assert!(!bench.path().join("run").exists() && !bench.path().join("x.arpa").exists());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn events_that_nobody_could_take_are_an_error_at_the_end() {
    let bench = bench();
    let train = "train a.txt --set model.kind=ngram --set model.order=2 --json -q --out";
    let full = "No space left on device";
    shell(&bench, &format!("\"$0\" {train} whole >/dev/null")).succeeded();
    let ran =
        shell(&bench, &format!("\"$0\" {train} full >/dev/full")).refused(1, &["standard output", full]);
    assert_eq!(ran.stderr.matches("error: ").count(), 1, "{}", ran.stderr);
    assert_eq!(read(&bench, "full/model/manifest.json"), read(&bench, "whole/model/manifest.json"));
    shell(&bench, &format!("set -o pipefail; \"$0\" {train} closed | head -n 1 >/dev/null")).succeeded();
    assert_eq!(read(&bench, "closed/model/manifest.json"), read(&bench, "whole/model/manifest.json"));
    // A comparison is complete, too.
    bench.file("grid.toml", "[[variant]]\nname = \"a\"\n[variant.model]\nkind = \"uniform\"\n");
    let compare = "compare grid.toml a.txt --json -q --out";
    shell(&bench, &format!("\"$0\" {compare} grid >/dev/full")).refused(1, &[full]);
    assert!(bench.path().join("grid/report.html").is_file());
    shell(&bench, &format!("set -o pipefail; \"$0\" {compare} other | true")).succeeded();
    assert!(bench.path().join("other/report.html").is_file());
    for command in [
        "count a.txt --order 2 --out x.arpa",
        "eval m.ngram a.txt",
        "inspect m.ngram",
        "export m.ngram --out x.arpa",
    ] {
        shell(&bench, &format!("\"$0\" {command} --json -q >/dev/full"))
            .refused(1, &["standard output", full]);
    }
    assert_eq!(read(&bench, "x.arpa"), read(&bench, "m.arpa"));
}

#[test]
fn files_of_ours_are_replaced_whatever_their_tokens_and_those_of_others_are_not() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    // The same command twice.
    for arguments in [
        &["count", "a.txt", "--tokenizer", "char", "--order", "2", "--out", "char.arpa"][..],
        &["count", "a.txt", "--order", "2", "--shard", "1/2", "--out", "part.tsv"],
    ] {
        bench.run(arguments).succeeded();
        bench.run(arguments).succeeded();
    }
    // Files that only begin like ours.
    for (name, text) in [
        ("vocab.arpa", "<unk>\t0\n<s>\t0\n▁the\t-3.2\n"),
        ("gloss.tsv", "<unk>\tunknown word\nfoo\tbar\n"),
        ("notes.arpa", "\\data\\\nngram 1=5 -- from the lecture\n"),
        ("page.arpa", "<!doctype html><title>Notes on entropy · Surprisal</title>mine"),
    ] {
        bench.file(name, text);
        bench.run(&["count", "a.txt", "--order", "2", "--out", name]).refused(2, &[name, "left alone"]);
        assert_eq!(std::fs::read_to_string(bench.path().join(name)).unwrap(), text);
    }
}

#[test]
fn a_whole_model_is_not_made_again_where_the_end_of_its_record_is_lost() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    let set = ["--set", "model.kind=ngram", "--set", "model.order=2"];
    bench.run(&[&["train", "a.txt", "--out", "run"], &set[..]].concat()).succeeded();
    let metrics = bench.path().join("run/metrics.jsonl");
    let record = std::fs::read_to_string(&metrics).unwrap();
    let cut = &record[..=record.trim_end().rfind('\n').unwrap()];
    std::fs::write(&metrics, cut).unwrap();
    let model = std::fs::read(bench.path().join("run/model/model.ngram")).unwrap();
    // With the same settings and texts it gives the same bits again, as after a crash.
    bench.run(&["train", "--resume", "--out", "run"]).succeeded();
    assert_eq!(std::fs::read(bench.path().join("run/model/model.ngram")).unwrap(), model);
    let config = bench.path().join("run/config.toml");
    let settings = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&metrics, cut).unwrap();
    std::fs::write(&config, settings.replace("order = 2", "order = 3")).unwrap();
    bench.run(&["train", "--resume", "--out", "run"]).refused(1, &["complete model", "metrics.jsonl"]);
    std::fs::write(&config, settings).unwrap();
    std::fs::remove_file(&metrics).unwrap();
    bench.run(&["train", "--resume", "--out", "run"]).refused(1, &["complete model", "metrics.jsonl"]);
    assert_eq!(std::fs::read(bench.path().join("run/model/model.ngram")).unwrap(), model);
    std::fs::write(&metrics, record).unwrap();
    bench.run(&["train", "--resume", "--out", "run"]).succeeded();
    bench.run(&["train", "--resume", "--out", "run", "--log", "csv"]).refused(2, &["--log", "finished"]);
}

/// `generate` of transformers starts and stops at the marks; llama.cpp, too.
#[test]
fn an_exported_transformer_knows_its_marks_and_missing_folders_are_made() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    let lines = crate::common::sentences(60)
        .lines()
        .map(|line| format!("{{\"text\": \"{line}\"}}\n"))
        .collect::<String>();
    bench.file("a.jsonl", lines);
    let small =
        ["model.n_layer=1", "model.n_head=2", "model.n_embd=16", "train.steps=2", "train.block_size=16"];
    let train = |text: &str, out: &str, keys: &[&'static str]| {
        let sets = small.iter().chain(keys).flat_map(|key| ["--set", key]).collect::<Vec<_>>();
        bench.run(&[&["train", text, "--out", out], sets.as_slice()].concat()).succeeded();
    };
    train("a.txt", "stream", &[]);
    train("a.txt", "line", &["data.unit=line"]);
    train("a.jsonl", "document", &["data.unit=document", "data.field=text"]);
    for (run, bos, eos) in [
        ("stream", None, None),
        ("line", Some((1, "<s>")), Some((2, "</s>"))),
        ("document", Some((1, "</s>")), Some((1, "</s>"))),
    ] {
        let out = format!("{run}_out/made/hf");
        bench.run(&["export", run, "--format", "hf", "--out", &out]).succeeded();
        let json = |name: &str| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(bench.path().join(&out).join(name)).unwrap()).unwrap()
        };
        for (mark, token) in [("bos", bos), ("eos", eos)] {
            let id = token.map(|(id, _)| id);
            assert_eq!(json("config.json")[format!("{mark}_token_id")].as_u64(), id, "{run}");
            assert_eq!(json("generation_config.json")[format!("{mark}_token_id")].as_u64(), id, "{run}");
            let name = token.map(|(_, name)| name);
            assert_eq!(json("tokenizer_config.json")[format!("{mark}_token")].as_str(), name, "{run}");
        }
        assert_eq!(json("generation_config.json")["suppress_tokens"], serde_json::json!([0]));
        // A file of ours is replaced.
        for _ in 0..2 {
            bench.run(&["export", run, "--out", &format!("{run}_out/x/{run}.gguf")]).succeeded();
        }
    }
    bench.file("foreign.gguf", b"GGUF of another program");
    bench.run(&["export", "line", "--out", "foreign.gguf"]).refused(2, &["is already there"]);
    train("a.txt", "qk", &["model.qk_norm=true"]);
    bench
        .run(&["export", "qk", "--out", "no/qk.gguf"])
        .refused(2, &["has no GGUF format", "without qk_norm"]);
    assert!(!bench.path().join("no").exists());
    bench.run(&["export", "stream", "--out", "x.arpa"]).refused(2, &["cannot be written as arpa"]);
}
