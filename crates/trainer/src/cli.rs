//! The command line, as the person wrote it. What it means is decided elsewhere.

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use surprisal_engine::model::ngram::Smoothing;

/// Train and compare tiny language models, from counted n-grams to transformers, by one number: cross-entropy.
#[derive(Debug, Parser)]
#[command(name = "surprisal", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    /// Make standard output JSON lines (people still read standard error).
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say less on standard error.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train (or count) a model on text; without arguments, on the embedded corpus.
    Train(TrainArgs),
    /// Score text with a model: nats a token, perplexity, bits a byte.
    Eval(EvalArgs),
    /// Write new text, token by token.
    Sample(SampleArgs),
    /// Read a text with models side by side, token by token; or work out one token's loss and gradient.
    Explain(ExplainArgs),
    /// Train variants × seeds, judge them all alike, and say which differences are real.
    Compare(CompareArgs),
    /// Write report.html into a finished run's folder (compare writes its own).
    Report(ReportArgs),
    /// Say what a model or a text is.
    Inspect(InspectArgs),
    /// Count n-grams and write an ARPA file, a queryable file, or the counts themselves.
    Count(CountArgs),
    /// Add up counts of the parts of a text; the result is that of counting it whole.
    Merge(MergeArgs),
    /// Interpolate models: q = Σ λ q_m, λ to suit held-out text; counted ones also into one model.
    Mix(MixArgs),
    /// Write a model in another format.
    Export(ExportArgs),
    /// Time this machine: one JSON line a case.
    Bench(BenchArgs),
}

impl Command {
    /// How many threads it is to have, if that was said.
    pub(crate) fn threads(&self) -> Option<usize> {
        match self {
            Self::Eval(eval) => eval.threads,
            Self::Count(count) => count.how.threads,
            Self::Merge(merge) => merge.how.threads,
            Self::Mix(mix) => mix.threads,
            Self::Bench(bench) => Some(bench.threads),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "a command line has switches")]
pub(crate) struct TrainArgs {
    /// A config (.toml), or text files or directories; or a config and then texts, which replace its own.
    #[arg(value_name = "CONFIG.toml | TEXT")]
    pub(crate) inputs: Vec<PathBuf>,
    /// Override one key of the config, e.g. --set train.epochs=3 (repeatable).
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// The run folder to create (default: runs/NAME, with a number where it is taken).
    #[arg(long, value_name = "DIR", value_parser = out())]
    pub(crate) out: Option<PathBuf>,
    /// Go on with the run in --out from its newest valid checkpoint.
    #[arg(long)]
    pub(crate) resume: bool,
    /// List every parameter's gradient and update norm after the first steps, and flag the suspicious.
    #[arg(long)]
    pub(crate) audit: bool,
    /// Also write the metrics as TensorBoard events (RUN/tensorboard) or as a table (RUN/metrics.csv).
    #[arg(long, value_name = "FORMATS", value_delimiter = ',')]
    pub(crate) log: Vec<LogFormat>,
    /// Show the run on the whole terminal: curves, pace, the text it writes just now.
    #[arg(long)]
    pub(crate) tui: bool,
    /// Write report.html into the run's folder at the end.
    #[arg(long)]
    pub(crate) report: bool,
    /// Train for this much time instead of epochs or steps, e.g. 90s, 3min, 1h30min.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) budget: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Event files that TensorBoard reads.
    Tensorboard,
    /// One row an event, for spreadsheets.
    Csv,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct EvalArgs {
    /// A run folder, an .arpa file or an n-gram binary.
    pub(crate) model: PathBuf,
    /// Text files or directories (default: the validation text of the run).
    #[arg(value_name = "TEXT")]
    pub(crate) texts: Vec<PathBuf>,
    /// How far the window of a windowed model moves: each token but the first window's is scored with at least
    /// block_size − N tokens of context (default: the run's own).
    #[arg(long, value_name = "N")]
    pub(crate) stride: Option<usize>,
    /// Worker threads (default: the machine's cores); the result does not depend on them.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Also say whether its probabilities mean what they say: ECE and Brier on the second half of the text, before and after
    /// the temperature that suits the first.
    #[arg(long)]
    pub(crate) calibration: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SampleArgs {
    /// A run folder, an .arpa file or an n-gram binary.
    pub(crate) model: PathBuf,
    /// Text to go on from.
    #[arg(long, value_name = "TEXT", default_value = "", allow_hyphen_values = true)]
    pub(crate) prompt: String,
    /// How many tokens to write.
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub(crate) tokens: usize,
    /// Below 1 plays safe, above 1 wanders; 0 takes the most likely token always.
    #[arg(long, value_name = "T", default_value_t = 0.8)]
    pub(crate) temperature: f64,
    /// Keep only the K most likely tokens.
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<usize>,
    /// Keep the fewest tokens whose probabilities reach P together (nucleus sampling).
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f64>,
    /// The seed of the sampling stream: the same seed writes the same text (default: 1).
    #[arg(long, value_name = "S", value_parser = seed())]
    pub(crate) seed: Option<u64>,
    /// Go on from a prompt with characters or words that the model does not know: they become <unk>.
    #[arg(long)]
    pub(crate) allow_unknown: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ExplainArgs {
    /// Run folders, .arpa files or n-gram binaries.
    #[arg(value_name = "MODEL", required = true)]
    pub(crate) models: Vec<PathBuf>,
    /// The text to be read.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) text: String,
    /// Work out the loss and the gradient of token number N, from 1.
    #[arg(long, value_name = "N")]
    pub(crate) step: Option<usize>,
    /// How many of the likeliest tokens to show.
    #[arg(long, value_name = "K", default_value_t = 3)]
    pub(crate) top: usize,
    /// The ε of the smoothed gradient that --step shows beside the plain one.
    #[arg(long, value_name = "EPSILON", requires = "step")]
    pub(crate) smoothing: Option<f64>,
    /// Colours of the text: auto (on a terminal, unless NO_COLOR is set; the default), always or never.
    #[arg(long, value_name = "WHEN", conflicts_with = "step")]
    pub(crate) color: Option<clap::ColorChoice>,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct CompareArgs {
    /// The comparison: shared settings, variants, grids, seeds (configs/compare_*.toml).
    #[arg(value_name = "CONFIG.toml")]
    pub(crate) config: PathBuf,
    /// Text files or directories to train on and be judged by, instead of the config's own.
    #[arg(value_name = "TEXT")]
    pub(crate) texts: Vec<PathBuf>,
    /// Override one key of every variant, e.g. --set train.epochs=3 (repeatable).
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// The seeds, instead of the config's own.
    #[arg(long, value_name = "SEEDS", value_delimiter = ',', value_parser = seed())]
    pub(crate) seeds: Vec<u64>,
    /// How many cells at a time (default: the machine's cores).
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
    /// Where its runs are kept (default: runs/NAME); cells that are finished there are not made again.
    #[arg(long, value_name = "DIR", value_parser = out())]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ReportArgs {
    /// A run folder.
    pub(crate) run: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct InspectArgs {
    /// A run folder, a model file, or a text.
    pub(crate) path: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CountArgs {
    /// Text files or directories.
    #[arg(value_name = "TEXT", required = true)]
    pub(crate) texts: Vec<PathBuf>,
    /// What to write: by its name an .arpa, an .ngram (queryable), a .counts or a .tsv file (repeatable).
    #[arg(long, value_name = "PATH", required = true, value_parser = out())]
    pub(crate) out: Vec<PathBuf>,
    /// Count only part I of N of the text, for `merge`; parts of a text in lines.
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<String>,
    /// What an n-gram is.
    #[command(flatten)]
    pub(crate) what: NgramArgs,
    /// How to smooth.
    #[command(flatten)]
    pub(crate) how: SmoothingArgs,
    /// Words spelled like special tokens: unk, skip (KenLM's --skip_symbols) or error (default: unk, but for <s> that begins a
    /// line and </s> that ends one: they mark the sentence).
    #[arg(long, value_name = "POLICY", value_parser = ["unk", "skip", "error"])]
    pub(crate) literal_specials: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct MergeArgs {
    /// .counts or .tsv files: the parts of a text, in its order.
    #[arg(value_name = "COUNTS", required = true)]
    pub(crate) counts: Vec<PathBuf>,
    /// Add the counts up whatever they are of: parts of different texts, parts that are missing or there twice.
    #[arg(long)]
    pub(crate) sum: bool,
    /// What to write: by its name an .arpa, an .ngram (queryable), a .counts or a .tsv file (repeatable).
    #[arg(long, value_name = "PATH", required = true, value_parser = out())]
    pub(crate) out: Vec<PathBuf>,
    /// How to smooth.
    #[command(flatten)]
    pub(crate) how: SmoothingArgs,
    /// What the counts are of, which they know: to be sure of it.
    #[command(flatten)]
    pub(crate) what: NgramArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct NgramArgs {
    /// How many tokens an n-gram has (default: 5; of a merge, what the counts have).
    #[arg(long, value_name = "N")]
    pub(crate) order: Option<usize>,
    /// What a token is: byte, char or word (default: word; of a merge, what it was).
    #[arg(long, value_name = "KIND", value_parser = ["byte", "char", "word"], hide_possible_values = true)]
    pub(crate) tokenizer: Option<String>,
    /// How texts are read: line (sentences between <s> and </s>) or stream (default: line; of a merge, as they were).
    #[arg(long, value_name = "UNIT", value_parser = ["line", "stream"], hide_possible_values = true)]
    pub(crate) unit: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SmoothingArgs {
    /// How probabilities are made (default: modified_kneser_ney).
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(Smoothing::ALL.map(Smoothing::name)))]
    pub(crate) smoothing: Option<String>,
    /// Leave out grams that occur no more often than this, an order each from the first; the last is for all higher ones.
    #[arg(long, value_name = "COUNTS", num_args = 1.., value_delimiter = ',', value_parser = threshold)]
    pub(crate) prune: Vec<u32>,
    /// Reproduce another program's quirks: kenlm, with kneser_ney and modified_kneser_ney.
    #[arg(long, value_name = "PROGRAM", value_parser = ["kenlm"], hide_possible_values = true)]
    pub(crate) compat: Option<String>,
    /// Choose discounts (or k) to suit the last of the text instead of by formula.
    #[arg(long)]
    pub(crate) tune: bool,
    /// Keep values and weights of an .ngram file in this many bits (2 to 16; 8 is a good start) instead of exactly.
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u32).range(2..=16))]
    pub(crate) quantize: Option<u32>,
    /// Worker threads (default: the machine's cores); the result does not depend on them.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct MixArgs {
    /// Two models or more (run folders, .arpa or .ngram files), then the texts to judge them by (default: the held-out text).
    /// They have the same kind of tokens; words or characters that only some of them know are impossible to the others.
    #[arg(value_name = "MODEL | TEXT", required = true)]
    pub(crate) inputs: Vec<PathBuf>,
    /// The text that the weights are to suit: a file or a directory (repeatable). No model should
    /// have been trained on it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) heldout: Vec<PathBuf>,
    /// The weights instead, one a model, e.g. 0.7,0.3; they are made to sum to one.
    #[arg(long, value_name = "WEIGHTS", value_delimiter = ',')]
    pub(crate) weights: Vec<f64>,
    /// Write one model, an .ngram or .arpa file by its name: all n-grams of all models (counted ones), each as likely as in the
    /// mixture. What none of them has seen backs off by one weight a context, so it differs a little from the mixture.
    #[arg(long, value_name = "PATH", value_parser = out())]
    pub(crate) out: Option<PathBuf>,
    /// Worker threads (default: the machine's cores); the result does not depend on them.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ExportArgs {
    /// A run folder, an .arpa file or an n-gram binary.
    pub(crate) model: PathBuf,
    /// arpa, ngram, or hf, a folder that `transformers` loads (default: by the name of --out).
    #[arg(long, value_name = "FORMAT", value_parser = ["arpa", "ngram", "hf"], hide_possible_values = true)]
    pub(crate) format: Option<String>,
    /// Keep values and weights of an .ngram file in this many bits (2 to 16; 8 is a good start) instead of exactly.
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u32).range(2..=16))]
    pub(crate) quantize: Option<u32>,
    /// The file or folder to write.
    #[arg(long, value_name = "PATH", value_parser = out())]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    /// What to time.
    pub(crate) what: BenchWhat,
    /// Worker threads.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) threads: usize,
    /// Time spent on a case, in seconds.
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// Only cases whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) case: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BenchWhat {
    /// Cross-entropy and its gradient, from logits and from hidden states.
    Loss,
    /// Estimating an n-gram model, scores in batches and one by one, whole distributions.
    Ngram,
    /// A whole training step of nanoGPT's shapes: how fast, in how much memory, and what its time is spent on.
    Step,
}

/// A count of `--prune`, which takes all that follows it.
fn threshold(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| "a count is a whole number; texts come before the flags, or after `--`".to_owned())
}

/// The name of what is to be written, which `-` is none of.
fn out() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.to_str() {
        Some("-") => Err("a name is wanted; standard output has the name /dev/stdout"),
        _ => Ok(path),
    })
}

/// A seed on the command line can be what one in a config can be.
fn seed() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(0..=i64::MAX as u64)
}
