//! Examples of each command, which end its help.

/// A command, and two examples of it.
pub const EXAMPLES: &[(&str, [&str; 2])] = &[
    (
        "train",
        [
            "surprisal train book.txt --budget 10min",
            "surprisal train book.txt --set model.kind=ngram --set model.order=4 --out runs/counted",
        ],
    ),
    ("eval", ["surprisal eval lm.arpa held-out.txt", "surprisal eval runs/book --adapt --adapt-on-train"]),
    (
        "score",
        [
            "surprisal score lm.arpa held-out.txt --by word",
            "surprisal score lm.arpa held-out.txt --no-bos --no-eos",
        ],
    ),
    (
        "sample",
        [
            "surprisal sample runs/book --prompt \"Once\" --tokens 200 --temperature 0.7",
            "surprisal sample lm.arpa --lines 5 --seed 3",
        ],
    ),
    (
        "explain",
        [
            "surprisal explain lm.arpa lm.ngram --text \"the old man\"",
            "surprisal explain runs/book --text \"the old man\" --step 4",
        ],
    ),
    (
        "compare",
        [
            "surprisal compare configs/compare_mle_vs_smoothing.toml book.txt",
            "surprisal compare comparison.toml --seeds 1,2,3 --jobs 2",
        ],
    ),
    ("report", ["surprisal report runs/book", "surprisal report runs/book --data book.txt"]),
    ("inspect", ["surprisal inspect book.txt", "surprisal inspect lm.arpa"]),
    (
        "count",
        [
            "surprisal count corpus.txt --order 3 --out lm.arpa --out lm.ngram",
            "surprisal count corpus.txt --shard 1/2 --out part1.counts",
        ],
    ),
    (
        "merge",
        [
            "surprisal merge part1.counts part2.counts --out lm.arpa",
            "surprisal merge part1.counts part2.counts --smoothing witten_bell --out lm.ngram",
        ],
    ),
    (
        "mix",
        [
            "surprisal mix a.arpa b.ngram --heldout held-out.txt --by-context --out mixed",
            "surprisal mix a.arpa b.ngram --weights 0.7,0.3 --out ab.arpa",
        ],
    ),
    (
        "export",
        [
            "surprisal export lm.arpa --quantize 8 --out lm.ngram",
            "surprisal export runs/book --format hf --out book-hf",
        ],
    ),
    (
        "compress",
        [
            "surprisal compress book.txt --out book.sz",
            "surprisal compress runs/book held-out.txt --adapt --out held-out.sz",
        ],
    ),
    (
        "decompress",
        [
            "surprisal decompress book.sz --out again.txt",
            "surprisal decompress runs/book held-out.sz --out held-out-again.txt",
        ],
    ),
    ("bench", ["surprisal bench loss", "surprisal bench step --case cpu/f32 --seconds 1"]),
    ("cache", ["surprisal cache", "surprisal cache --clear"]),
    ("serve", ["surprisal serve book.txt --open", "surprisal serve runs/book --host 0.0.0.0 --port 8000"]),
    (
        "completions",
        [
            "surprisal completions bash > ~/.local/share/bash-completion/completions/surprisal",
            "surprisal completions fish > ~/.config/fish/completions/surprisal.fish",
        ],
    ),
    ("man", ["surprisal man --out ~/.local/share/man/man1", "surprisal man --out man1"]),
];

/// The examples of `command` as they end its help; empty for a command without any.
pub(crate) fn of(command: &str) -> String {
    let found = EXAMPLES.iter().find(|(name, _)| *name == command);
    found.map_or_else(String::new, |(_, lines)| format!("Examples:\n  {}", lines.join("\n  ")))
}
