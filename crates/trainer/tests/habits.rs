//! The command line as users of KenLM, SRILM and NLTK type it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails where something is wrong")]

mod common;

use common::{Bench, Ran};

fn run(bench: &Bench, line: &str) -> Ran {
    bench.run(&line.split(' ').collect::<Vec<_>>())
}

#[test]
fn a_text_that_needs_more_memory_than_allowed_is_refused() {
    let bench = Bench::new();
    bench.text("a.txt", 100);
    let line = "count a.txt -o 3 --out m.arpa";
    let stderr = run(&bench, line).succeeded().stderr;
    let at_most = stderr.split("counting needs at most ").nth(1).unwrap().lines().next().unwrap();
    std::fs::remove_file(bench.path().join("m.arpa")).unwrap();
    for allowed in ["-S 9K", "-S 9", "--memory 1b"] {
        let parts = [at_most, "--memory allows", "--order", "--shard I/N", "merge", "fits into -S 1M"];
        run(&bench, &format!("{line} {allowed}")).refused(2, &parts);
        assert_eq!(bench.entries(), ["a.txt"], "{allowed}");
    }
    // As the hint says; a higher order needs more.
    run(&bench, &format!("{line} -S 1M")).succeeded();
    run(&bench, "count a.txt -o 2 --out n.arpa -S 30K").succeeded();
    run(&bench, "count a.txt -o 6 --out n.arpa -S 30K").refused(2, &["-S 1M"]);
    for wrong in ["-S 1GB", "-S 12Q", "-S -1", "--memory=much"] {
        run(&bench, &format!("{line} {wrong}")).refused(2, &["for '--memory <SIZE>'"]);
    }
}

#[test]
fn a_folder_for_temporary_files_is_checked_and_not_used() {
    let bench = Bench::new();
    bench.text("a.txt", 30);
    std::fs::create_dir(bench.path().join("t")).unwrap();
    for flag in ["-T t", "-T t/", "--temp-prefix t", "--temp_prefix t"] {
        let stderr = run(&bench, &format!("count a.txt -o 2 --out m.arpa {flag}")).succeeded().stderr;
        assert_eq!(stderr.matches("counting happens in memory").count(), 1, "{flag}\n{stderr}");
    }
    for wrong in ["-T none", "-T a.txt"] {
        run(&bench, &format!("count a.txt -o 2 --out n.arpa {wrong}"))
            .refused(2, &["--temp-prefix: cannot write"]);
    }
    assert_eq!(bench.entries(), ["a.txt", "m.arpa", "t"]);
}
