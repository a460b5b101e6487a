//! The command line as typed, before validation.

use std::path::PathBuf;

use clap::builder::{
    NonEmptyStringValueParser, PathBufValueParser, PossibleValuesParser, RangedU64ValueParser,
    TypedValueParser,
};
use clap::{Args, Parser, Subcommand};
use surprisal_engine::model::ngram::Smoothing;

use crate::memory;

/// Train and compare tiny language models, from n-grams to transformers, by one number:
/// cross-entropy.
#[derive(Debug, Parser)]
#[command(name = "surprisal", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    /// Write JSON lines to standard output (messages for people stay on standard error).
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print less to standard error.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// The command.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train or count a model on text; without arguments, on the embedded corpus.
    Train(TrainArgs),
    /// Score text with a model: nats per token, perplexity, bits per byte.
    Eval(EvalArgs),
    /// Score each line, word or token of texts: nats, log10, matched n-grams, unknown words.
    Score(ScoreArgs),
    /// Generate text, token by token.
    Sample(SampleArgs),
    /// Show a text's surprisal token by token, with models side by side; or the arithmetic of one
    /// token's loss and gradient.
    Explain(ExplainArgs),
    /// Train variants × seeds, evaluate them all in the same way, and test which differences are
    /// significant.
    Compare(CompareArgs),
    /// Write report.html into a run's folder (compare writes its own).
    Report(ReportArgs),
    /// Describe a model or a text.
    Inspect(InspectArgs),
    /// Count n-grams and write an ARPA file, a binary .ngram file, or the counts themselves.
    Count(Box<CountArgs>),
    /// Merge the counts of the parts of a text; the result equals counting the whole text.
    Merge(MergeArgs),
    /// Interpolate models: q = Σ λ q_m, with λ fitted to held-out text; n-gram models also into one
    /// model.
    Mix(MixArgs),
    /// Compress a file by arithmetic coding with a model; without one, with a model that learns
    /// from the file as it reads it.
    Compress(CompressArgs),
    /// Give back the file that `compress` was given.
    Decompress(CodingArgs),
    /// Write a model in another format.
    Export(ExportArgs),
    /// Measure the speed of this machine: one JSON line per case.
    Bench(BenchArgs),
    /// List the tokens of large texts that are kept for the next run, or remove them.
    Cache(CacheArgs),
    /// Show a web page on which to train, look and touch: one's own text, counts and networks.
    Serve(ServeArgs),
    /// Write the completions of a shell to standard output.
    Completions(CompletionsArgs),
    /// Write the manual pages: surprisal.1, and one for each command.
    Man(ManArgs),
}

impl Command {
    /// The number of threads given on the command line.
    pub(crate) fn threads(&self) -> Option<usize> {
        match self {
            Self::Eval(eval) => eval.threads,
            Self::Score(score) => score.threads,
            Self::Count(count) => count.how.threads,
            Self::Merge(merge) => merge.how.threads,
            Self::Mix(mix) => mix.threads,
            Self::Compress(compress) => compress.coding.threads,
            Self::Decompress(coding) => coding.threads,
            Self::Bench(bench) => Some(bench.threads),
            _ => None,
        }
    }

    /// The models and texts of a command that reads both.
    pub(crate) fn models_and_texts(&self) -> Vec<&PathBuf> {
        match self {
            Self::Eval(eval) => {
                let texts = eval.texts.iter().chain(&eval.pairs).chain(&eval.adapt_on);
                [&eval.model].into_iter().chain(texts).collect()
            }
            Self::Compress(compress) => compress.coding.paths.iter().collect(),
            Self::Decompress(coding) => coding.paths.iter().collect(),
            Self::Score(score) => [&score.model].into_iter().chain(&score.texts).collect(),
            Self::Sample(sample) => sample.model.iter().chain(&sample.prompt_file).collect(),
            Self::Explain(explain) => explain.models.iter().collect(),
            Self::Mix(mix) => mix.inputs.iter().chain(&mix.heldout).collect(),
            _ => Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "a command line has switches")]
pub(crate) struct TrainArgs {
    /// A config (.toml), or text files or directories; or a config and then texts that replace its
    /// own.
    #[arg(value_name = "CONFIG.toml | TEXT")]
    pub(crate) inputs: Vec<PathBuf>,
    /// Override one key of the config, e.g. --set train.epochs=3 (repeatable).
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// The run folder to create (default: runs/NAME, with a number if it exists).
    #[arg(long, value_name = "DIR", value_parser = out())]
    pub(crate) out: Option<PathBuf>,
    /// Resume the run in --out from its newest valid checkpoint; with --set, --budget or texts, it
    /// goes on with these changes, e.g. --set train.steps=+500 for 500 steps more than it has made.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Start from the weights of this model: a run, finished or not, a checkpoint, a model's folder
    /// or one in Hugging Face's layout. Its architecture and tokens replace the config's.
    #[arg(long, value_name = "MODEL")]
    pub(crate) from: Option<PathBuf>,
    /// With --from: add the characters of the text that the model lacks to its vocabulary.
    #[arg(long)]
    pub(crate) extend_vocab: bool,
    /// List every parameter's gradient and update norm after the first steps, and mark suspicious
    /// ones.
    #[arg(long)]
    pub(crate) audit: bool,
    /// Also write the metrics as TensorBoard events (RUN/tensorboard) or as a table
    /// (RUN/metrics.csv).
    #[arg(long, value_name = "FORMATS", value_delimiter = ',')]
    pub(crate) log: Vec<LogFormat>,
    /// Show a full-screen dashboard: learning curves, speed and samples.
    #[arg(long)]
    pub(crate) tui: bool,
    /// Write report.html into the run's folder at the end.
    #[arg(long)]
    pub(crate) report: bool,
    /// Train for this time instead of epochs or steps, e.g. 90s, 3min, 1h30min. Texts without a
    /// config, and without --set of a model or its training, have their tokens, sizes and length
    /// chosen for the time and this machine.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) budget: Option<String>,
    /// Train N runs that differ in their seed (train.seed and the next ones), and show the spread
    /// of their losses.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=1000),
          conflicts_with_all = ["resume", "audit", "tui", "log", "memory", "temp"])]
    pub(crate) seeds: Option<u64>,
    /// The validation text, instead of a part of the training text (repeatable).
    #[arg(long, value_name = "TEXT")]
    pub(crate) val: Vec<PathBuf>,
    /// Limits of memory, and temporary files, of an n-gram model.
    #[command(flatten)]
    pub(crate) room: RoomArgs,
    /// Options of reading texts.
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Event files for TensorBoard.
    Tensorboard,
    /// One row per event, for spreadsheets.
    Csv,
}

#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "a command line has switches")]
pub(crate) struct EvalArgs {
    /// A run folder, a Hugging Face folder, an .arpa file, an .ngram file or a KenLM binary.
    pub(crate) model: PathBuf,
    /// Text files, directories, pipes or - for standard input (default: the validation text of the
    /// run).
    #[arg(value_name = "TEXT")]
    pub(crate) texts: Vec<PathBuf>,
    /// The run's own text, or a folder with its texts, where they have moved.
    #[arg(long, value_name = "PATH", conflicts_with = "texts")]
    pub(crate) data: Option<PathBuf>,
    /// Tokens that the window of a windowed model moves by: except in the first window, each token
    /// is scored with at least block_size − N tokens of context (default: the run's own).
    #[arg(long, value_name = "N")]
    pub(crate) stride: Option<usize>,
    /// Worker threads (default: the machine's cores); the result does not depend on them.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Judge minimal pairs instead: whether the good text is likelier, for each line "good TAB bad
    /// [TAB group]" of this file; the accuracy of each group.
    #[arg(long, value_name = "FILE.tsv", conflicts_with_all = ["texts", "calibration"])]
    pub(crate) pairs: Option<PathBuf>,
    /// Score each file by itself, with a row each.
    #[arg(long, conflicts_with_all = ["data", "pairs", "calibration", "unknown_words"])]
    pub(crate) per_file: bool,
    /// List the unknown words, or characters, with their numbers of occurrences.
    #[arg(long, conflicts_with = "pairs")]
    pub(crate) unknown_words: bool,
    /// Also measure calibration: ECE and Brier score on the second half of the text, before and
    /// after the temperature fitted to the first half.
    #[arg(long)]
    pub(crate) calibration: bool,
    /// Evaluate a model that learns from the text while it reads it, with MODEL, which does not
    /// change, beside it: each token is scored before it is learnt. Such a loss compares only with
    /// others of this kind.
    #[arg(long, conflicts_with_all = ["calibration", "per_file", "pairs"])]
    pub(crate) adapt: bool,
    /// With --adapt, the learning rate of a network's own steps, one after each half of its window;
    /// 0: its weights stay. Networks with a state keep theirs
    #[arg(long, value_name = "RATE", requires = "adapt", default_value_t = 2e-4)]
    pub(crate) adapt_rate: f64,
    /// With --adapt, learn from this text first, without scoring it (repeatable).
    #[arg(long, value_name = "TEXT", requires = "adapt")]
    pub(crate) adapt_on: Vec<PathBuf>,
    /// With --adapt, learn from the training text of the run first.
    #[arg(long, requires = "adapt", conflicts_with = "adapt_on")]
    pub(crate) adapt_on_train: bool,
    /// Options of reading texts.
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ScoreArgs {
    /// A run folder, a Hugging Face folder, an .arpa file, an .ngram file or a KenLM binary.
    pub(crate) model: PathBuf,
    /// Text files, directories, pipes or - for standard input (default: the validation text of the
    /// run). Each is scored by itself.
    #[arg(value_name = "TEXT")]
    pub(crate) texts: Vec<PathBuf>,
    /// The parts that have rows: line, word or token. The surprisal of a word is the sum over its
    /// pieces: a piece belongs to the word whose characters it has, and white space by itself to
    /// the word before it.
    #[arg(long, value_name = "PART", default_value = "line")]
    pub(crate) by: ScoreBy,
    /// The context: of the line alone, or of the text before it, over the ends of lines (default:
    /// as the model was trained).
    #[arg(long, value_name = "REACH")]
    pub(crate) context: Option<ScoreContext>,
    /// Score the first word of a sentence without <s> before it.
    #[arg(long)]
    pub(crate) no_bos: bool,
    /// Leave out </s> at the end of sentences.
    #[arg(long)]
    pub(crate) no_eos: bool,
    /// Tokens that the window of a windowed model moves by, as in `eval`.
    #[arg(long, value_name = "N")]
    pub(crate) stride: Option<usize>,
    /// Worker threads (default: the machine's cores); the result does not depend on them.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Options of reading texts.
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ScoreBy {
    /// A row per line.
    Line,
    /// A row per word.
    Word,
    /// A row per token.
    Token,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ScoreContext {
    /// The line alone.
    Line,
    /// The text before.
    Text,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SampleArgs {
    /// A run folder, a Hugging Face folder, an .arpa file, an .ngram file or a KenLM binary
    /// (default: the embedded stories, which are counted first).
    pub(crate) model: Option<PathBuf>,
    /// The beginning of the text; without it, a sample starts as the training text starts.
    #[arg(long, value_name = "TEXT", default_value = "", allow_hyphen_values = true)]
    pub(crate) prompt: String,
    /// A file with the beginning of the text, or - for standard input; a newline at its end is left
    /// out.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// Read prompts from standard input, one per line, until its end (Ctrl-D).
    #[arg(long, conflicts_with_all = ["prompt", "prompt_file"])]
    pub(crate) interactive: bool,
    /// The number of tokens to generate (default: 500); with --lines the most per line (default:
    /// 10000).
    #[arg(long, value_name = "N")]
    pub(crate) tokens: Option<usize>,
    /// Generate N lines; of a model whose documents or lines end with a mark, N of those, each with
    /// the prompt.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) lines: Option<usize>,
    /// The number of samples. A sample depends on its number and the seed, not on the others.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) samples: u64,
    /// End a sample before this string.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) stop: Option<String>,
    /// Sampling temperature: below 1 is more predictable, above 1 more random; 0 always takes the
    /// most likely token.
    #[arg(long, value_name = "T", default_value_t = 0.8)]
    pub(crate) temperature: f64,
    /// Keep only the K most likely tokens.
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<usize>,
    /// Keep the fewest tokens whose probabilities sum to at least P (nucleus sampling).
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f64>,
    /// Keep the tokens with at least P times the probability of the most likely one.
    #[arg(long, value_name = "P")]
    pub(crate) min_p: Option<f64>,
    /// Make tokens of the text so far less likely: their log-probabilities are multiplied by R (1
    /// is no penalty).
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    pub(crate) repetition_penalty: f64,
    /// The random seed: the same seed generates the same text (default: 1).
    #[arg(long, value_name = "S", value_parser = seed())]
    pub(crate) seed: Option<u64>,
    /// Accept a prompt with characters or words that the model does not know, which become <unk>,
    /// and generate <unk>, which is otherwise left out: its probability is 0 and the rest is
    /// renormalised.
    #[arg(long)]
    pub(crate) allow_unknown: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ExplainArgs {
    /// Run folders, Hugging Face folders, .arpa files, .ngram files or KenLM binaries.
    #[arg(value_name = "MODEL", required = true)]
    pub(crate) models: Vec<PathBuf>,
    /// The text.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) text: String,
    /// Show the computation of the loss and gradient of token number N, from 1.
    #[arg(long, value_name = "N")]
    pub(crate) step: Option<usize>,
    /// The number of most likely tokens to show.
    #[arg(long, value_name = "K", default_value_t = 3)]
    pub(crate) top: usize,
    /// The ε of the label-smoothed gradient that --step also shows.
    #[arg(long, value_name = "EPSILON", requires = "step")]
    pub(crate) smoothing: Option<f64>,
    /// Colour the text: auto (on a terminal, unless NO_COLOR is set; the default), always or never.
    #[arg(long, value_name = "WHEN", conflicts_with = "step")]
    pub(crate) color: Option<clap::ColorChoice>,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct CompareArgs {
    /// The comparison: shared settings, variants, grids, seeds (configs/compare_*.toml).
    #[arg(value_name = "CONFIG.toml")]
    pub(crate) config: PathBuf,
    /// Text files or directories for training and validation, instead of the config's own.
    #[arg(value_name = "TEXT")]
    pub(crate) texts: Vec<PathBuf>,
    /// Override one key of every variant, e.g. --set train.epochs=3 (repeatable).
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// The seeds, instead of the config's own.
    #[arg(long, value_name = "SEEDS", value_delimiter = ',', value_parser = seed())]
    pub(crate) seeds: Vec<u64>,
    /// The number of runs at a time (default: the machine's cores).
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
    /// The folder of its runs (default: runs/NAME); finished runs there are not repeated.
    #[arg(long, value_name = "DIR", value_parser = out())]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ReportArgs {
    /// A run folder.
    pub(crate) run: PathBuf,
    /// The run's own text, or a folder with its texts, where they have moved.
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct InspectArgs {
    /// A run folder, a model file, or a text.
    pub(crate) path: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CountArgs {
    /// Text files, directories, pipes or - for standard input.
    #[arg(value_name = "TEXT", required = true)]
    pub(crate) texts: Vec<PathBuf>,
    /// The file to write, by its name: .arpa, .ngram (binary), .counts or .tsv, compressed with
    /// .gz, .bz2, .xz or .zst after that; - is standard output, in ARPA (repeatable).
    #[arg(long, value_name = "PATH", required = true)]
    pub(crate) out: Vec<PathBuf>,
    /// Count only part I of N of the text, for `merge`; only for texts in lines.
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<String>,
    /// Limits of memory, and temporary files.
    #[command(flatten)]
    pub(crate) room: RoomArgs,
    /// The kind of n-grams.
    #[command(flatten)]
    pub(crate) what: NgramArgs,
    /// The tokens of a tokenizer.json, or of GPT-2's vocab.json with merges.txt beside it.
    #[arg(long, value_name = "FILE", conflicts_with = "tokenizer")]
    pub(crate) tokenizer_file: Option<PathBuf>,
    /// The smoothing options.
    #[command(flatten)]
    pub(crate) how: SmoothingArgs,
    /// Treatment of words spelled like special tokens: unk, skip (KenLM's --skip_symbols) or
    /// error (default: unk, except that <s> at the start of a line and </s> at the end mark the
    /// sentence).
    #[arg(long, value_name = "POLICY", value_parser = ["unk", "skip", "error"])]
    pub(crate) literal_specials: Option<String>,
    /// Options of reading texts.
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
    /// The words of the vocabulary.
    #[command(flatten)]
    pub(crate) words: WordArgs,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RoomArgs {
    /// The most memory to use (default: what is free). A text that needs more is counted in
    /// temporary files, to the same bytes. A number with b, K (the default), M, G or T, powers of
    /// 1024, or % of the machine's memory, as in lmplz.
    #[arg(short = 'S', long, value_name = "SIZE", value_parser = memory::parse_size)]
    pub(crate) memory: Option<u64>,
    /// The folder for temporary files (default: that of the first output). A command that was
    /// killed goes on with what it finds there.
    #[arg(short = 'T', long, alias = "temp_prefix", value_name = "DIR")]
    pub(crate) temp: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct WordArgs {
    /// Words that occur fewer times become <unk> (default: 1, all words are kept, as in KenLM).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) min_count: Option<u64>,
    /// Keep the most frequent words, at most N tokens with <unk>, <s> and </s>; the others become
    /// <unk>.
    #[arg(long, value_name = "N")]
    pub(crate) vocab_size: Option<usize>,
    /// Keep the words in this file, one per line (what follows after a tab is ignored); the others
    /// become <unk>. With it, the parts of a text (--shard) have the same words.
    #[arg(long, value_name = "FILE")]
    pub(crate) vocab: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct MergeArgs {
    /// .counts or .tsv files: the parts of a text, in order.
    #[arg(value_name = "COUNTS", required = true)]
    pub(crate) counts: Vec<PathBuf>,
    /// Sum any counts: parts of different texts, missing parts or duplicate parts.
    #[arg(long)]
    pub(crate) sum: bool,
    /// The file to write, by its name: .arpa, .ngram (binary), .counts or .tsv, compressed with
    /// .gz, .bz2, .xz or .zst after that; - is standard output, in ARPA (repeatable).
    #[arg(long, value_name = "PATH", required = true)]
    pub(crate) out: Vec<PathBuf>,
    /// Limits of memory, and temporary files.
    #[command(flatten)]
    pub(crate) room: RoomArgs,
    /// The smoothing options.
    #[command(flatten)]
    pub(crate) how: SmoothingArgs,
    /// The expected kind of n-grams; an error if the counts differ.
    #[command(flatten)]
    pub(crate) what: NgramArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct NgramArgs {
    /// The largest n-gram, in tokens (default: 5; for merge, that of the counts).
    #[arg(short = 'o', long, value_name = "N", value_parser = order)]
    pub(crate) order: Option<usize>,
    /// The kind of tokens: byte, char or word (default: word; for merge, that of the counts).
    #[arg(long, value_name = "KIND", value_parser = ["byte", "char", "word"], hide_possible_values = true)]
    pub(crate) tokenizer: Option<String>,
    /// Reading of texts: line (sentences between <s> and </s>), stream, or document (a stream with
    /// </s> after each document; default: line; for merge, that of the counts).
    #[arg(long, value_name = "UNIT", value_parser = ["line", "stream", "document"], hide_possible_values = true)]
    pub(crate) unit: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SmoothingArgs {
    /// The smoothing method (default: modified_kneser_ney).
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(Smoothing::ALL.map(Smoothing::name)))]
    pub(crate) smoothing: Option<String>,
    /// Remove n-grams that occur no more often than this: one count per order, from order 1; the
    /// last applies to all higher orders. Words stay in the vocabulary, as likely as one that never
    /// occurred.
    #[arg(long, value_name = "COUNTS", num_args = 1.., value_delimiter = ',', value_parser = threshold)]
    pub(crate) prune: Vec<u32>,
    /// Remove n-grams whose removal raises perplexity by less than this fraction, e.g. 1e-7
    /// (Stolcke 1998).
    #[arg(long, value_name = "FRACTION")]
    pub(crate) prune_entropy: Option<f64>,
    /// Reproduce another program's numbers exactly: kenlm, with kneser_ney and modified_kneser_ney.
    #[arg(long, value_name = "PROGRAM", value_parser = ["kenlm"], hide_possible_values = true)]
    pub(crate) compat: Option<String>,
    /// The k of add_k (default: 1).
    #[arg(long, value_name = "K")]
    pub(crate) k: Option<f64>,
    /// The α of dirichlet, one number per order; the last applies to all higher orders (default:
    /// 50).
    #[arg(long, value_name = "ALPHAS", value_delimiter = ',')]
    pub(crate) alpha: Vec<f64>,
    /// The discounts of counts of 1, 2, and 3 or more in orders for which the formula has no
    /// solution, for absolute, kneser_ney and modified_kneser_ney (default: 0.5,1,1.5).
    #[arg(long, value_name = "D1,D2,D3", value_delimiter = ',')]
    pub(crate) fallback: Vec<f64>,
    /// Fit discounts, k or α to the last part of the text instead of using formulas and defaults.
    #[arg(long)]
    pub(crate) tune: bool,
    /// The fraction of the text to fit to, with --tune or jelinek_mercer (default: 0.05).
    #[arg(long, value_name = "FRACTION")]
    pub(crate) heldout: Option<f64>,
    /// Give the back-off mass of single words to <unk> alone, as SRILM does, not to all words.
    #[arg(long)]
    pub(crate) no_interpolate_unigrams: bool,
    /// Give <unk> probability zero: no word is outside the vocabulary.
    #[arg(long)]
    pub(crate) closed: bool,
    /// Store probabilities and weights of an .ngram file in this many bits (2 to 16; try 8 first)
    /// instead of exactly.
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u32).range(2..=16))]
    pub(crate) quantize: Option<u32>,
    /// Worker threads (default: the machine's cores); the result does not depend on them.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct MixArgs {
    /// Two models or more (run folders, Hugging Face folders, .arpa or .ngram files, KenLM
    /// binaries), then the texts to evaluate them on (default: the held-out text). All must have
    /// the same kind of tokens; tokens that a model does not know have probability zero in it.
    #[arg(value_name = "MODEL | TEXT", required = true)]
    pub(crate) inputs: Vec<PathBuf>,
    /// The text to fit the weights to: a file or a directory (repeatable). No model should have
    /// been trained on it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) heldout: Vec<PathBuf>,
    /// The weights instead, one per model, e.g. 0.7,0.3; they are normalised to sum to one.
    #[arg(long, value_name = "WEIGHTS", value_delimiter = ',')]
    pub(crate) weights: Vec<f64>,
    /// Fit weights to --heldout for each bin of contexts, too: by the longest context that the
    /// n-gram model of the highest order knows, and the number of different tokens after it.
    #[arg(long, requires = "heldout")]
    pub(crate) by_context: bool,
    /// Write the mixture as a folder, a model for every command; or, with a name that ends in
    /// .ngram or .arpa, as one n-gram model: all n-grams of all models, each with its probability
    /// in the mixture. The others back off with one weight per context, so that model differs
    /// slightly from the mixture.
    #[arg(long, value_name = "PATH")]
    pub(crate) out: Option<PathBuf>,
    /// Options of reading texts.
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
    /// Worker threads (default: the machine's cores); the result does not depend on them.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CompressArgs {
    /// The model and files.
    #[command(flatten)]
    pub(crate) coding: CodingArgs,
    /// Learn from the file while it is read, with MODEL, which does not change, beside it.
    #[arg(long)]
    pub(crate) adapt: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CodingArgs {
    /// A model of any kind, if there is one, and the file (- for standard input).
    #[arg(value_name = "MODEL | FILE", required = true, num_args = 1..=2)]
    pub(crate) paths: Vec<PathBuf>,
    /// The file to write; missing parent folders are made.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Worker threads (default: the machine's cores); the result does not depend on them.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ExportArgs {
    /// A run folder, a Hugging Face folder, an .arpa file, an .ngram file or a KenLM binary.
    pub(crate) model: PathBuf,
    /// The format: arpa, ngram, infgram, kenlm, the hash tables of KenLM's build_binary, hf, a
    /// folder that `transformers` loads, or gguf, a file that llama.cpp loads (default: by the name
    /// of --out).
    #[arg(long, value_name = "FORMAT", value_parser = ["arpa", "ngram", "infgram", "kenlm", "hf", "gguf"], hide_possible_values = true)]
    pub(crate) format: Option<String>,
    /// Store probabilities and weights of an .ngram file in this many bits (2 to 16; try 8 first)
    /// instead of exactly.
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u32).range(2..=16))]
    pub(crate) quantize: Option<u32>,
    /// Remove n-grams whose removal raises perplexity by less than this fraction, e.g. 1e-7
    /// (Stolcke 1998). To prune by count, which a model does not have, `merge` counts with --prune.
    #[arg(long, value_name = "FRACTION")]
    pub(crate) prune_entropy: Option<f64>,
    /// Answered with where to prune by count.
    #[arg(long, hide = true, num_args = 0.., value_name = "COUNTS")]
    pub(crate) prune: Option<Vec<String>>,
    /// The file or folder to write; missing parent folders are made.
    #[arg(long, value_name = "PATH")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CacheArgs {
    /// Remove all of them.
    #[arg(long)]
    pub(crate) clear: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
    /// A model, a run folder or a text to begin with (default: the embedded stories, on which a
    /// network begins to train).
    #[arg(value_name = "MODEL | RUN | TEXT")]
    pub(crate) given: Option<PathBuf>,
    /// The port (default: a free one).
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) port: u16,
    /// The address to listen on, e.g. that of this machine in a classroom's network, or 0.0.0.0 for
    /// all (default: 127.0.0.1, which only this machine reaches).
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) host: Option<std::net::IpAddr>,
    /// The folder of the page's runs and of texts that are sent to it.
    #[arg(long, value_name = "DIR", default_value = "runs", value_parser = out())]
    pub(crate) runs: PathBuf,
    /// Open the page in the browser that BROWSER names, or in the system's.
    #[arg(long)]
    pub(crate) open: bool,
    /// End after this time, e.g. 45min (default: when it is stopped with Ctrl-C).
    #[arg(long = "for", value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) lifetime: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ManArgs {
    /// The folder to write them into; missing folders are made.
    #[arg(long, value_name = "DIR", value_parser = out())]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    /// The part to measure.
    pub(crate) what: BenchWhat,
    /// Worker threads.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) threads: usize,
    /// The time per case, in seconds.
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// Run only cases whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) case: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BenchWhat {
    /// Cross-entropy and its gradient, from logits and from hidden states.
    Loss,
    /// N-gram models: estimation, scoring in batches and one by one, whole distributions.
    Ngram,
    /// A training step of nanoGPT's shapes: speed, memory, and time per operation.
    Step,
}

/// A count of `--prune`, which takes all the arguments that follow.
fn threshold(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| "a count is a whole number; texts come before the flags, or after `--`".to_owned())
}

/// An order, whose short flag is that of output files in other programs.
fn order(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "the order is a whole number; the file to write is --out".to_owned())
}

/// The parser of a folder to be written, which cannot be `-`.
fn out() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.to_str() {
        Some("-") => Err("a folder is written, which cannot go to standard output"),
        _ => Ok(path),
    })
}

/// Options of reading texts.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Reading texts")]
pub(crate) struct ReadingArgs {
    /// The field of JSON lines (a key, or a path such as meta.text) or the column of CSV and TSV
    /// that is the text; each record is a document.
    #[arg(long, value_name = "FIELD")]
    pub(crate) field: Option<String>,
    /// Read only the files in directories that match this pattern, e.g. '*.md' (repeatable).
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// Leave out the files in directories that match this pattern (repeatable).
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Treatment of bytes that are not UTF-8, and of NULs: error (the default), replace (by U+FFFD)
    /// or skip-line.
    #[arg(long, value_name = "POLICY", value_parser = ["error", "replace", "skip-line"], hide_possible_values = true)]
    pub(crate) invalid: Option<String>,
    /// The Unicode normal form that the text is brought to: none (the default) or nfc.
    #[arg(long, value_name = "FORM", value_parser = ["none", "nfc"], hide_possible_values = true)]
    pub(crate) normalize: Option<String>,
}

/// The parser of a seed, with the same range as in a config.
fn seed() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(0..=i64::MAX as u64)
}
