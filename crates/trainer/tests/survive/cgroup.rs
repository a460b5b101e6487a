//! In a container with little memory: what does not fit is refused in words, and nothing is killed.

use std::path::{Path, PathBuf};

use crate::common::{Bench, Ran, sentences, skipped};

const LIMIT: &str = "314572800";

/// A memory group of 300 MiB, removed at the end.
struct Group(PathBuf);

impl Group {
    /// `None` without the right to make one.
    fn new() -> Option<Self> {
        let name = format!("surprisal-test-{}", std::process::id());
        let versions = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        versions.iter().find_map(|(root, limit)| {
            let folder = Path::new(root).join(&name);
            std::fs::create_dir(&folder).ok()?;
            let group = Self(folder);
            std::fs::write(group.0.join(limit), LIMIT).ok()?;
            Some(group)
        })
    }

    fn run(&self, bench: &Bench, arguments: &[&str]) -> Ran {
        let own = bench.command(arguments);
        let mut command = std::process::Command::new("sh");
        let script = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
        command.args(["-c", script]).arg(&self.0).arg(own.get_program()).args(own.get_args());
        command.current_dir(bench.path()).env("XDG_CACHE_HOME", bench.path().join("cache"));
        Ran::of(command.output().unwrap(), arguments)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(std::fs::remove_dir(&self.0));
    }
}

#[test]
fn in_little_memory_work_is_refused_in_words_or_fits() {
    let Some(group) = Group::new() else { return skipped("no memory group can be made here") };
    let bench = Bench::new();
    let text = sentences(20_000);
    bench.file("a.txt", text.repeat(60_000_000 / text.len()));
    bench.file("b.txt", sentences(300));
    let train = |set: &[&str]| {
        let settings = set.iter().flat_map(|setting| ["--set", setting]);
        let fixed = ["train", "a.txt", "--val", "b.txt", "--out", "run", "--set", "train.steps=3"];
        group.run(&bench, &fixed.into_iter().chain(settings).collect::<Vec<_>>())
    };
    let chars = "tokenizer.kind=char";
    for (settings, parts) in [
        (&["tokenizer.kind=byte"][..], ["of memory, and", "read less of it"]),
        (&[chars], ["too large for this machine's memory", "data.token_cache"]),
        (&["model.kind=ngram"], ["too large for this machine's memory", "--shard"]),
        (
            &[chars, "data.token_cache=on", "train.batch_size=512", "train.block_size=256"],
            ["training this transformer needs", "batch_size"],
        ),
    ] {
        train(settings).refused(2, &parts);
        assert!(!bench.path().join("run").exists(), "{settings:?}");
    }
    train(&[chars, "data.token_cache=on"]).succeeded();
    group.run(&bench, &["eval", "run", "a.txt"]).refused(2, &["too large for this machine's memory"]);
}
