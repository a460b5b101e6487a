//! Flags of KenLM and SRILM, each with what to type here instead.

use std::path::Path;

use clap::{Arg, Command};

/// A flag as its program writes it (`N` for digits), the program, and the answer to it.
pub const HABITS: &[(&str, &str, &str)] = &[
    ("--text", "lmplz", "name the texts: surprisal count TEXT --out lm.arpa"),
    ("--arpa", "lmplz", "--out lm.arpa"),
    (
        "--discount_fallback",
        "lmplz",
        "not needed: without a closed form other discounts are used, with a note",
    ),
    ("--skip_symbols", "lmplz", "--literal-specials skip"),
    (
        "--interpolate_unigrams",
        "lmplz",
        "not needed: this is the default, as in lmplz; 0 is --no-interpolate-unigrams",
    ),
    ("--vocab_estimate", "lmplz", "not needed: the vocabulary grows as the text is read"),
    (
        "--vocab_pad",
        "lmplz",
        "there is none: the vocabulary is the words of the text, or those of --vocab FILE",
    ),
    ("--limit_vocab_file", "lmplz", "--vocab FILE, by which other words become <unk>"),
    ("--collapse_values", "lmplz", "there is none: probabilities and back-off weights are both written"),
    ("--minimum_block", "lmplz", IN_MEMORY),
    ("--sort_block", "lmplz", IN_MEMORY),
    ("--block_count", "lmplz", IN_MEMORY),
    ("--intermediate", "lmplz", "--out NAME.counts, which `merge` reads"),
    ("--renumber", "lmplz", "not needed: --out lm.ngram chooses its own numbers"),
    ("--verbose_header", "lmplz", "--json prints the figures, and `inspect` those of a model"),
    ("--memory", "lmplz", ONLY_COUNT),
    ("-S", "lmplz", ONLY_COUNT),
    ("--temp_prefix", "lmplz", ONLY_COUNT),
    ("-T", "lmplz", ONLY_COUNT),
    ("-text", "ngram-count", "name the texts: surprisal count TEXT --out lm.arpa"),
    ("-order", "ngram-count", "--order N, or -o N"),
    ("-lm", "ngram-count", "--out lm.arpa"),
    ("-kndiscountN", "ngram-count", "--smoothing modified_kneser_ney, the default, for all orders"),
    ("-knN", "ngram-count", "discounts are computed; --tune fits them to held-out text"),
    ("-ukndiscountN", "ngram-count", "--smoothing kneser_ney, for all orders"),
    ("-wbdiscountN", "ngram-count", "--smoothing witten_bell, for all orders"),
    ("-cdiscountN", "ngram-count", "--smoothing absolute, for all orders"),
    ("-addsmoothN", "ngram-count", "--smoothing add_k --k N; or --tune, which fits k"),
    ("-interpolateN", "ngram-count", "not needed: kneser_ney, witten_bell and absolute always interpolate"),
    ("-gtNmin", "ngram-count", "--prune takes one less: --prune 0 0 1 is -gt3min 2, the default of SRILM"),
    ("-gtNmax", "ngram-count", "--smoothing katz has Good-Turing discounts, of small counts"),
    ("-gtN", "ngram-count", "--smoothing katz computes Good-Turing discounts by itself"),
    (
        "-unk",
        "ngram-count",
        "not needed: <unk> is always in the vocabulary; --min-count 2 makes rare words <unk>",
    ),
    ("-vocab", "ngram-count", "--vocab FILE, by which other words become <unk>"),
    ("-limit-vocab", "ngram-count", "--vocab FILE, by which other words become <unk>"),
    ("-writeN", "ngram-count", "--out NAME.tsv (SRILM's form) or NAME.counts (smaller)"),
    ("-read", "ngram-count", "surprisal merge NAME.tsv --out lm.arpa"),
    ("-sort", "ngram-count", "not needed: n-grams are always written in one order"),
    (
        "-tolower",
        "ngram-count",
        "lower the text first: sed 's/.*/\\L&/' TEXT | surprisal count - --out lm.arpa",
    ),
    ("-ppl", "ngram", "surprisal eval MODEL TEXT"),
    ("-lm", "ngram", "name the model first: surprisal eval MODEL TEXT"),
    ("-order", "ngram", "the order is that of the model; `count` makes one of another --order"),
    ("-debug", "ngram", "surprisal score MODEL TEXT --by line, or --by token"),
    ("-gen", "ngram", "surprisal sample MODEL --lines N"),
    ("-mix-lmN", "ngram", "surprisal mix MODEL MODEL --out lm.arpa, with --heldout TEXT or --weights"),
    ("-mix-lambdaN", "ngram", "surprisal mix MODEL MODEL --weights WEIGHTS"),
    ("-lambda", "ngram", "surprisal mix MODEL MODEL --weights 0.7,0.3; --heldout TEXT fits them"),
    (
        "-prune",
        "ngram",
        "surprisal export MODEL --prune-entropy 1e-8 --out FILE.arpa; or `count` with the same flag",
    ),
    ("-renorm", "ngram", "not needed: models that are written here sum to one"),
    ("-write-lm", "ngram", "surprisal export MODEL --out lm.arpa"),
    ("-v", "query", "surprisal score MODEL TEXT --by line, or --by word; `eval` gives the summary"),
    ("-n", "query", "surprisal score MODEL TEXT --no-bos --no-eos"),
    ("-b", "query", "not needed: - as the TEXT reads a pipe"),
    ("-l", "query", "not needed: .ngram files and KenLM's binaries are memory-mapped"),
    ("-q", "build_binary", "surprisal export lm.arpa --quantize 8 --out lm.ngram"),
    ("-b", "build_binary", "--quantize 8 is for probabilities and back-off weights alike"),
    ("-a", "build_binary", "not needed: an .ngram file has one form"),
    ("-p", "build_binary", "not needed: an .ngram file is a trie, without a hash table"),
    ("-u", "build_binary", "not needed: log10 q of <unk> is -100 where the ARPA file has none, with a note"),
    ("-s", "build_binary", "not needed: a model may lack <s>, with a note; but </s> is needed"),
    ("-i", "build_binary", "there is none: a probability above 1 is an error, which names its line"),
    ("trie", "build_binary", "surprisal export lm.arpa --out lm.ngram; it is always a trie"),
    ("probing", "build_binary", "surprisal export lm.arpa --out lm.ngram; it is always a trie"),
];

const IN_MEMORY: &str = "not needed: `count -S 4G` sets a limit of memory, and the rest follows from it";
const ONLY_COUNT: &str = "only `count` has a limit of memory and temporary files";

/// Whether a command does a part of what another program does.
fn resembles(program: &str, command: &str) -> bool {
    match program {
        "lmplz" | "ngram-count" => ["count", "merge", "train"].contains(&command),
        "build_binary" => command == "export",
        "query" => ["eval", "score"].contains(&command),
        _ => ["eval", "score", "sample", "explain", "mix", "export", "inspect"].contains(&command),
    }
}

/// The flags of other programs in a refused command line, without its program's name, each with its
/// answers. Flags of the typed command are none of these, but for a switch with a number.
pub(crate) fn answers(command: &Command, typed: &[String]) -> Vec<(String, String)> {
    let typed = typed.split(|word| word == "--").next().unwrap_or_default();
    let verb = typed.iter().find_map(|word| command.find_subcommand(word));
    let name = verb.map_or("", Command::get_name);
    let own = |word: &str| -> Option<&Arg> {
        let mut all = [Some(command), verb].into_iter().flatten().flat_map(Command::get_arguments);
        all.find(|argument| names(argument).iter().any(|name| name == word))
    };
    let is_value = |word: &String| own(word).is_some_and(|before| before.get_action().takes_values());
    let mut found = Vec::new();
    for (at, word) in typed.iter().enumerate() {
        let flag = word.split('=').next().unwrap_or_default();
        let has_number = typed.get(at + 1).is_some_and(|next| next.parse::<f64>().is_ok());
        let is_own = own(flag).is_some();
        if at > 0 && is_value(&typed[at - 1]) || is_own && (is_value(word) || !has_number) {
            continue;
        }
        let rows = || HABITS.iter().filter(|(habit, ..)| is_written(habit, flag));
        let near: Vec<_> = rows().filter(|(_, program, _)| resembles(program, name)).collect();
        let is_word = !flag.starts_with('-');
        let rows = if !near.is_empty() || is_word || is_own { near } else { rows().collect() };
        if is_word && Path::new(flag).exists() {
            continue;
        }
        let answer = |(_, program, answer): &(_, _, _)| format!("`{flag}` of {program}: {answer}");
        found.extend(rows.into_iter().map(|row| (flag.to_owned(), answer(row))));
    }
    found
}

/// The names of an argument as they are typed.
fn names(argument: &Arg) -> Vec<String> {
    let short = argument.get_short().map(|letter| format!("-{letter}"));
    let aliases = argument.get_all_aliases().unwrap_or_default();
    let long = argument.get_long().into_iter().chain(aliases).map(|name| format!("--{name}"));
    short.into_iter().chain(long).collect()
}

/// Whether `typed` is the flag `habit`, with or without digits in the place of `N`.
fn is_written(habit: &str, typed: &str) -> bool {
    if !typed.starts_with('-') || typed.starts_with("--") {
        return habit == typed;
    }
    habit.replace('N', "") == typed.replace(|c: char| c.is_ascii_digit(), "")
}
