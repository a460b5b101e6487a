//! The command line, as the person wrote it. What it means is decided elsewhere.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Train and compare tiny language models, from counted n-grams to transformers, by one number: cross-entropy.
#[derive(Debug, Parser)]
#[command(name = "surprisal", version, about, max_term_width = 100)]
pub struct Cli {
    /// Make standard output JSON lines (people still read standard error).
    #[arg(long, global = true)]
    pub json: bool,
    /// Say less on standard error.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train (or count) a model on text; without arguments, on the embedded corpus.
    Train(Train),
    /// Score text with a model: nats a token, perplexity, bits a byte.
    Eval(Eval),
    /// Write new text, token by token.
    Sample(Sample),
    /// Say what a model or a text is.
    Inspect(Inspect),
    /// Time this machine: one JSON line a case.
    Bench(Bench),
}

/// `surprisal train`.
#[derive(Debug, Clone, Default, Args)]
pub struct Train {
    /// A config (.toml), or text files or directories; or a config and then texts, which replace its own.
    #[arg(value_name = "CONFIG.toml | TEXT")]
    pub inputs: Vec<PathBuf>,
    /// Override one key of the config, e.g. --set train.epochs=3 (repeatable).
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// The run folder to create (default: runs/NAME, with a number where it is taken).
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with the run in --out from its newest valid checkpoint.
    #[arg(long)]
    pub resume: bool,
    /// List every parameter's gradient and update norm after the first steps, and flag the suspicious.
    #[arg(long)]
    pub audit: bool,
    /// Train for this much time instead of epochs or steps, e.g. 90s, 3min, 1h30min.
    #[arg(long, value_name = "TIME")]
    pub budget: Option<String>,
}

/// `surprisal eval`.
#[derive(Debug, Clone, Args)]
pub struct Eval {
    /// A run folder, an .arpa file or an n-gram binary.
    pub model: PathBuf,
    /// Text files or directories (default: the validation text of the run).
    #[arg(value_name = "TEXT")]
    pub texts: Vec<PathBuf>,
    /// How far the window of a windowed model moves: each token but the first window's is scored with at least
    /// block_size − N tokens of context (default: the run's own).
    #[arg(long, value_name = "N")]
    pub stride: Option<usize>,
    /// Worker threads (default: the machine's cores); the result does not depend on them.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// `surprisal sample`.
#[derive(Debug, Clone, Args)]
pub struct Sample {
    /// A run folder, an .arpa file or an n-gram binary.
    pub model: PathBuf,
    /// Text to go on from.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub prompt: String,
    /// How many tokens to write.
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub tokens: usize,
    /// Below 1 plays safe, above 1 wanders; 0 takes the most likely token always.
    #[arg(long, value_name = "T", default_value_t = 0.8)]
    pub temperature: f64,
    /// Keep only the K most likely tokens.
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Keep the fewest tokens whose probabilities reach P together (nucleus sampling).
    #[arg(long, value_name = "P")]
    pub top_p: Option<f64>,
    /// The seed of the sampling stream: the same seed writes the same text.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
}

/// `surprisal inspect`.
#[derive(Debug, Clone, Args)]
pub struct Inspect {
    /// A run folder, a model file, or a text.
    pub path: PathBuf,
}

/// `surprisal bench`.
#[derive(Debug, Clone, Args)]
pub struct Bench {
    /// What to time.
    pub what: BenchWhat,
    /// Worker threads.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub threads: usize,
    /// Time spent on a case, in seconds.
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    pub seconds: f64,
    /// Only cases whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub case: String,
}

/// What can be timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BenchWhat {
    /// Cross-entropy and its gradient, from logits and from hidden states.
    Loss,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_finds_no_fault_in_the_definitions() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
