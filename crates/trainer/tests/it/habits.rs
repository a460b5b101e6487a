//! The command line as users of KenLM, SRILM and NLTK type it.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use crate::common::{Bench, Ran};
use surprisal::examples::EXAMPLES;
use surprisal::habits::HABITS;
use surprisal::usage;

fn run(bench: &Bench, line: &str) -> Ran {
    bench.run(&line.split(' ').collect::<Vec<_>>())
}

#[test]
fn less_memory_than_the_vocabulary_needs_is_refused() {
    let bench = Bench::new();
    bench.text("a.txt", 100);
    let line = "count a.txt -o 3 --out m.arpa";
    // Refused when the words are read, or while they are.
    for allowed in ["-S 9K", "-S 9", "--memory 1b"] {
        let parts = ["need", "the limit is", "--memory", "--min-count"];
        run(&bench, &format!("{line} {allowed}")).refused(2, &parts);
        assert_eq!(bench.entries(), ["a.txt"], "{allowed}");
    }
    run(&bench, &format!("{line} -S 1M")).succeeded();
    run(&bench, "count a.txt -o 2 --out n.arpa -S 30K").succeeded();
    run(&bench, "count a.txt -o 6 --out n.arpa -S 30K").refused(2, &["needs at least"]);
    for wrong in ["-S 1GB", "-S 12Q", "-S -1", "--memory=much"] {
        run(&bench, &format!("{line} {wrong}")).refused(2, &["for '--memory <SIZE>'"]);
    }
}

#[test]
fn a_folder_for_temporary_files_is_checked_and_not_used_without_need() {
    let bench = Bench::new();
    bench.text("a.txt", 30);
    std::fs::create_dir(bench.path().join("t")).unwrap();
    for flag in ["-T t", "-T t/", "--temp t", "--temp_prefix t"] {
        let stderr = run(&bench, &format!("count a.txt -o 2 --out m.arpa {flag}")).succeeded().stderr;
        assert_eq!(stderr.matches("no temporary files").count(), 1, "{flag}\n{stderr}");
    }
    for wrong in ["-T none", "-T a.txt"] {
        run(&bench, &format!("count a.txt -o 2 --out n.arpa {wrong}")).refused(2, &["--temp: cannot write"]);
    }
    assert_eq!(bench.entries(), ["a.txt", "m.arpa", "t"]);
}

/// The exit code and the message of a command line that is refused.
fn refused(line: &str) -> Option<(i32, String)> {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let line = [&["surprisal".to_owned()], &words[..]].concat();
    let error = usage::command().try_get_matches_from(line).err()?;
    Some((error.exit_code(), usage::explain(error, &words)))
}

fn verbs() -> Vec<String> {
    usage::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect()
}

/// The flags of a command as they are typed, with those of all commands.
fn flags(verb: &str) -> Vec<String> {
    let command = usage::command();
    let arguments = command.find_subcommand(verb).unwrap().get_arguments().chain(command.get_arguments());
    let names = |argument: &clap::Arg| {
        let aliases = argument.get_all_aliases().unwrap_or_default();
        let longs = argument.get_long().into_iter().chain(aliases);
        let short = argument.get_short().map(|letter| format!("-{letter}"));
        longs.map(|name| format!("--{name}")).chain(short).collect::<Vec<_>>()
    };
    arguments.flat_map(names).collect()
}

#[test]
fn flags_of_other_programs_are_answered_at_every_command() {
    let mut answered: BTreeSet<&(&str, &str, &str)> = BTreeSet::new();
    for verb in verbs() {
        let own = flags(&verb);
        for (flag, ..) in HABITS {
            let typed = flag.replace('N', "2");
            let is_word = !flag.starts_with('-');
            if own.contains(&typed) && *flag != "-q" || is_word && verb != "export" {
                continue;
            }
            for line in [format!("{verb} a {typed} 3 --out b"), format!("{verb} {typed} 3 a --out b")] {
                // -q is --quiet, and some commands take any number of texts.
                let Some((code, message)) = refused(&line) else {
                    assert_eq!(*flag, "-q", "{line}");
                    continue;
                };
                let rows = HABITS.iter().filter(|(other, ..)| other == flag);
                let shown = rows.filter(|(_, program, answer)| {
                    message.contains(&format!("tip: `{typed}` of {program}: {answer}\n"))
                });
                let shown: Vec<_> = shown.collect();
                assert!(code == 2 && (!shown.is_empty() || *flag == "-q"), "{line}\n{message}");
                answered.extend(shown);
            }
        }
    }
    let silent: Vec<_> = HABITS.iter().filter(|row| !answered.contains(row)).collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn a_pasted_command_line_is_answered_flag_by_flag() {
    let bench = Bench::new();
    bench.text("a.txt", 30);
    for (line, answers) in [
        (
            "count -order 3 -text a.txt -lm x.arpa -kndiscount2 -interpolate -gt3min 1 -write1 c",
            &[
                "'-order' found",
                "--order N",
                "name the texts",
                "--out lm.arpa",
                "modified_kneser_ney",
                "interpolate\n",
                "`-gt3min` of ngram-count: --prune",
                "NAME.tsv",
            ][..],
        ),
        (
            "count --text=a.txt --arpa x.arpa --discount_fallback",
            &["`--text` of lmplz", "`--arpa`", "with a note"],
        ),
        (
            "eval -lm x.arpa -ppl a.txt -debug 2",
            &["`-lm` of ngram", "surprisal eval MODEL TEXT", "--by token"],
        ),
        ("eval x.arpa a.txt -n", &["`-n` of query: surprisal score MODEL TEXT --no-bos --no-eos"]),
        ("export trie x.arpa -q 8 -b8 -a 255", &["always a trie", "--quantize 8 --out", "alike", "one form"]),
        ("export x.arpa -q 8 --out x.ngram", &["'8' found", "`-q` of build_binary"]),
        ("-order 3 -text a.txt", &["'-order' found", "name the texts"]),
    ] {
        let ran = run(&bench, line).refused(2, answers);
        assert!(!ran.stderr.contains("similar"), "{}", ran.stderr);
        assert_eq!(bench.entries(), ["a.txt"], "{line}");
    }
    // Of the two meanings of a flag, that of the program that the command resembles.
    for (line, not) in [
        ("count -lm x", "of ngram:"),
        ("count -order x", "this letter"),
        ("eval -lm x", "of ngram-count:"),
        ("export a -b 8", "of query"),
    ] {
        let message = refused(line).unwrap().1;
        assert!(message.contains("tip: ") && !message.contains(not), "{message}");
    }
}

#[test]
fn no_flag_of_this_program_is_taken_for_another_programs() {
    for verb in verbs() {
        for flag in flags(&verb) {
            for line in [format!("{verb} {flag} --no-such"), format!("{verb} a {flag} x --no-such")] {
                if let Some((_, message)) = refused(&line) {
                    assert!(!message.contains("` of "), "{line}\n{message}");
                }
            }
        }
    }
    // Values, words after --, and files of that name are none either.
    for line in
        ["sample m --prompt -order --no-such", "sample m --no-such -- -lm", "count --vocab probing --no-such"]
    {
        let message = refused(line).unwrap().1;
        assert!(!message.contains("` of "), "{line}\n{message}");
    }
}

/// The words of an example, without its program, quotes and redirection.
fn words(example: &str) -> Vec<String> {
    let line = example.strip_prefix("surprisal ").unwrap().split(" > ").next().unwrap();
    let parts = line.split('"').enumerate();
    let words = parts.flat_map(|(at, part)| match at % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}

#[test]
fn every_help_ends_with_two_examples_that_work() {
    let bench = Bench::new();
    bench.file("book.txt", "Once ".to_owned() + &crate::common::sentences(150));
    for (name, lines) in [("corpus.txt", 120), ("held-out.txt", 40)] {
        bench.text(name, lines);
    }
    let tiny =
        "model.n_layer=1 model.n_head=1 model.n_embd=8 train.steps=4 train.batch_size=4 train.block_size=16";
    let tiny: Vec<&str> = tiny.split(' ').collect();
    bench
        .run(&[&["train", "book.txt", "--out", "runs/book"][..], &crate::common::set(&tiny)].concat())
        .succeeded();
    let variants = ["mle", "add_k"].map(|name| {
        format!("[[variant]]\nname = \"{name}\"\nmodel = {{ kind = \"ngram\", smoothing = \"{name}\" }}\n")
    });
    bench.file("comparison.toml", "[data]\ntrain = [\"book.txt\"]\n".to_owned() + &variants.concat());
    for line in [
        "count corpus.txt --order 2 --out lm.arpa --out a.arpa --out lm.ngram",
        "count held-out.txt --order 2 --out b.ngram",
        "compress book.txt --out book.sz",
        "compress runs/book held-out.txt --out held-out.sz",
        "count corpus.txt --shard 1/2 --out part1.counts",
        "count corpus.txt --shard 2/2 --out part2.counts",
    ] {
        run(&bench, line).succeeded();
    }
    let listed: Vec<&str> = EXAMPLES.iter().map(|(verb, _)| *verb).collect();
    assert_eq!(
        listed.iter().collect::<BTreeSet<_>>(),
        verbs().iter().map(String::as_str).collect::<Vec<_>>().iter().collect()
    );
    // These take minutes, or go on until they are stopped, and are only parsed.
    let long = ["--budget 10min", "compare_mle_vs_smoothing", "bench loss", "serve"];
    for (verb, examples) in EXAMPLES {
        let help = run(&bench, &format!("{verb} --help")).succeeded().stdout;
        let shown = format!("Examples:\n  {}\n  {}\n", examples[0], examples[1]);
        assert!(help.ends_with(&shown), "{verb}\n{help}");
        for example in examples {
            let words = words(example);
            assert_eq!(words[0], *verb);
            if long.iter().any(|part| example.contains(part)) {
                usage::command()
                    .try_get_matches_from([&["surprisal".to_owned()], &words[..]].concat())
                    .unwrap();
            } else {
                bench.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).succeeded();
            }
        }
    }
}

#[test]
fn completions_name_every_command() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&bench, &format!("completions {shell}")).succeeded().stdout;
        for verb in verbs() {
            assert!(script.contains(&verb), "{shell}: no {verb}");
        }
        assert!(script.contains("literal-specials"), "{shell}");
        let has_values = ["bash", "zsh", "fish"].contains(&shell);
        assert_eq!(script.contains("witten_bell"), has_values, "{shell}");
        let mut command = bench.command(&["completions", shell]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ran = Ran::of(child.wait_with_output().unwrap(), &["completions", shell]).succeeded();
        assert_eq!(ran.stderr, "");
        if shell == "bash" {
            let path = bench.file("script", &script);
            match Command::new("bash").arg("-n").arg(path).output() {
                Ok(output) => drop(Ran::of(output, &["bash -n"]).succeeded()),
                Err(error) => crate::common::skipped(&format!("bash: {error}")),
            }
        }
    }
    run(&bench, "completions tcsh").refused(2, &["'tcsh'", "bash", "zsh"]);
}

#[test]
fn manual_pages_have_every_flag_and_replace_only_their_own() {
    let bench = Bench::new();
    run(&bench, "man --out share/man1").succeeded();
    let folder = bench.path().join("share/man1");
    let page = |name: &str| {
        std::fs::read_to_string(folder.join(name)).unwrap().replace("\\-", "-").replace("\\*(Aq", "'")
    };
    let command = usage::command();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), verbs().len() + 1);
    for verb in command.get_subcommands() {
        let name = verb.get_name();
        let text = page(&format!("surprisal-{name}.1"));
        let hidden = verb.get_arguments().filter(|argument| argument.is_hide_set());
        let hidden: Vec<&str> = hidden.filter_map(clap::Arg::get_long).collect();
        let is_shown = |flag: &&String| {
            flag.strip_prefix("--").is_some_and(|name| !name.contains('_') && !hidden.contains(&name))
        };
        for flag in flags(name).iter().filter(is_shown) {
            assert!(text.contains(&format!("{flag}\\fR")), "{name}: no {flag}\n{text}");
        }
        assert!(text.contains(".SH NAME") && text.contains(".SH EXAMPLES\n  surprisal "), "{text}");
        assert!(text.contains(&verb.get_about().unwrap().to_string()[..20]), "{text}");
        assert!(page("surprisal.1").contains(&format!("surprisal-{name}(1)")));
    }
    run(&bench, "man --out share/man1").succeeded();
    bench.file("share/man1/surprisal-eval.1", "my own notes\n");
    let before = page("surprisal.1");
    run(&bench, "man --out share/man1").refused(2, &["surprisal-eval.1", "no manual page", "--out"]);
    assert!(page("surprisal-eval.1") == "my own notes\n" && page("surprisal.1") == before);
    run(&bench, "man --out -").refused(2, &["standard output"]);
    bench.file("f", "");
    run(&bench, "man --out f").refused(1, &["`f"]);
}
