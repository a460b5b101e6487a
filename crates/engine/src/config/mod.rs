//! What a run is told to do, as one TOML file for every kind of model.
//!
//! [`Config`] is what the person may write, with every default filled in; it is saved whole as the run's
//! `config.toml`, and reading that back gives the same run. [`load`] turns a file plus overrides into one,
//! and [`check`] refuses what cannot work, both with the file, the line and a hint.

/// A section of a config: its keys, each with its type and, where it is not the type's own, its default.
macro_rules! section {
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $key:ident: $type:ty $(= $default:expr)?,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[$doc])* pub $key: $type,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: section!(@default $($default)?),)+ }
            }
        }
    };
}

mod budget;
mod check;
mod follow;
mod keys;
mod load;
mod model;
mod words;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use surprisal_text::{LastLine, LiteralSpecials, TextMode, TokenizerKind};

use crate::error::{Error, Result};

pub use budget::Budget;
pub use check::check;
pub use check::{cores, texts, threads};
pub use follow::LENGTHS;
pub use keys::Override;
pub use load::{Loaded, load, parse};
pub(crate) use load::{of_table, read as read_text};
pub use model::Model;
pub use surprisal_loss::{ObjectiveConfig, SmoothToward};
pub use words::named;
pub(crate) use words::{explain, line_of_key};

/// Every setting of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What to read.
    pub data: Data,
    /// How to cut it into tokens.
    pub tokenizer: Tokenizer,
    /// What to train.
    pub model: Model,
    /// What to minimise.
    pub loss: ObjectiveConfig,
    /// How to minimise it.
    pub optim: Optim,
    /// How long and in what portions.
    pub train: Train,
    /// How to judge it.
    pub eval: Eval,
    /// What to write at the end.
    pub sample: Sample,
    /// When to save.
    pub checkpoint: Checkpoint,
}

section! {
    /// `[data]`
    Data {
        /// Text files or directories; empty: the embedded corpus.
        train: Vec<PathBuf>,
        /// Validation texts; empty: the last `val_fraction` of the training text.
        val: Vec<PathBuf>,
        /// How much of the text's end is held out when `val` is empty.
        val_fraction: f64 = 0.1,
        /// Which share of the training text is used, from its beginning: learning curves.
        train_fraction: f64 = 1.0,
        /// One stream of tokens, or one sentence a line.
        unit: TextMode = TextMode::Stream,
        /// Words spelled like special tokens: unk (unknown words), skip (white space) or error.
        literal_specials: LiteralSpecials = LiteralSpecials::Unk,
        /// A last line without a newline: sentence (like any other) or open (without `</s>`).
        last_line: LastLine = LastLine::Sentence,
        /// The embedded corpus to use when `train` is empty.
        embedded: String = "stories".into(),
    }
}

/// `tokenizer.kind`: what a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerType {
    /// A byte.
    Byte,
    /// A character.
    Char,
    /// A word.
    Word,
    /// A part of a word, by byte-pair encoding.
    Bpe,
}

section! {
    /// `[tokenizer]`
    Tokenizer {
        /// byte, char, word or bpe.
        kind: TokenizerType = TokenizerType::Char,
        /// The size of a bpe vocabulary.
        vocab_size: Option<usize>,
    }
}

impl Tokenizer {
    /// The kind with its vocabulary size, 1024 where none is set.
    pub fn kind(&self) -> TokenizerKind {
        match self.kind {
            TokenizerType::Byte => TokenizerKind::Byte,
            TokenizerType::Char => TokenizerKind::Char,
            TokenizerType::Word => TokenizerKind::Word,
            TokenizerType::Bpe => TokenizerKind::Bpe { vocab_size: self.vocab_size.unwrap_or(1024) },
        }
    }
}

/// The learning rate after its warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrSchedule {
    /// Stays at the peak.
    Constant,
    /// Half a cosine from the peak to the minimum (Loshchilov & Hutter 2017, without restarts).
    Cosine,
    /// A straight line from the peak to the minimum.
    Linear,
    /// Warm-up, stable, decay: the peak, then a straight line to the minimum (Hu et al. 2024).
    Wsd,
}

/// `optim.kind`: the update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimKind {
    /// Adam with decoupled decay (Loshchilov & Hutter 2019).
    AdamW,
    /// Stochastic gradient descent, with momentum.
    Sgd,
    /// Muon for hidden matrices, AdamW for the rest.
    Muon,
}

section! {
    /// `[optim]`
    Optim {
        /// adamw, sgd, or muon (for hidden matrices, with adamw for the rest).
        kind: OptimKind = OptimKind::AdamW,
        /// The peak learning rate.
        lr: f64 = 1e-3,
        /// Where the schedule ends.
        min_lr: f64 = 1e-4,
        /// Steps of linear warm-up.
        warmup: usize = 100,
        /// What becomes of the rate then.
        schedule: LrSchedule = LrSchedule::Cosine,
        /// wsd: the last share of the run, in which the rate falls.
        cooldown: f64 = 0.4,
        /// sgd, muon: decay of the running gradient.
        momentum: f64 = 0.95,
        /// sgd: look ahead (Nesterov).
        nesterov: bool,
        /// muon: the peak learning rate of the hidden matrices, on the same schedule as lr.
        muon_lr: f64 = 0.02,
        /// Decay of a running mean of the weights, which is what is evaluated and kept; 0: none.
        ema: f64,
        /// Decoupled decay, of matrices and embeddings only: θ ← (1 − lr·decay) θ.
        weight_decay: f64 = 0.1,
        /// Coupled ½·l2·‖θ‖² added to the objective of the same parameters: the MAP estimate under a Gaussian prior.
        l2: f64,
        /// Decay rates of the two moment estimates.
        betas: [f64; 2] = [0.9, 0.99],
        /// What keeps the division finite.
        eps: f64 = 1e-8,
        /// The largest global gradient norm; 0: no clipping.
        grad_clip: f64 = 1.0,
        /// Pass over updates whose objective is more than so many times its running mean; 0: make every update.
        skip_spikes: f64,
    }
}

/// How many shards a batch is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shards {
    /// As many as the machine has cores.
    Auto,
    /// Exactly so many.
    #[serde(untagged)]
    Fixed(usize),
}

/// `train.precision`: the number format of the inputs of linear layers' matmuls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As they are.
    F32,
    /// Rounded to bf16; sums stay f32.
    Bf16,
}

impl From<Precision> for surprisal_ops::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

/// `train.select`: the weights that a run ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Select {
    /// Those with the lowest validation loss of all evaluations.
    Best,
    /// Those of the last step.
    Last,
}

section! {
    /// `[train]`
    Train {
        /// How often every training token is seen.
        epochs: Option<f64>,
        /// How many updates, instead of epochs.
        steps: Option<usize>,
        /// How much training time, instead of either: "3min".
        budget: Option<Budget>,
        /// Windows (or lines) a batch.
        batch_size: usize = 12,
        /// Batches an update: gradients are summed over them.
        grad_accumulation: usize = 1,
        /// Tokens a window.
        block_size: usize = 64,
        /// Windows a batch at first, growing to `batch_size` over `ramp_steps` updates.
        batch_start: Option<usize>,
        /// Tokens a window at first, doubling up to `block_size` over `ramp_steps` updates.
        block_start: Option<usize>,
        /// How many updates `batch_start` and `block_start` take to grow.
        ramp_steps: usize,
        /// Where every random stream starts.
        seed: u64 = 1337,
        /// Worker threads; 0: the machine's cores. Results do not depend on it.
        threads: usize,
        /// Batch shards, each computed on one thread; results depend on this, never on threads.
        shards: Shards = Shards::Auto,
        /// f32, or bf16 for the inputs of the linear layers' products (sums and everything else stay f32).
        precision: Precision = Precision::F32,
        /// Stop after so many evaluations without a better validation loss; 0: never.
        patience: usize,
        /// Which weights a run ends with: best (of its evaluations) or last.
        select: Select = Select::Best,
    }
}

impl Train {
    /// What `eval.stride` is where nothing says it.
    pub(crate) fn half_block(&self) -> usize {
        self.block_size.div_ceil(2)
    }
}

section! {
    /// `[eval]`
    Eval {
        /// How far a windowed model's window moves (default: half its block).
        stride: Option<usize>,
        /// Evaluate every so many steps as well; 0: never by steps.
        every_steps: usize,
        /// Evaluate every so many epochs; 0: only by steps and at the end.
        every_epochs: u64 = 1,
    }
}

section! {
    /// `[sample]`
    Sample {
        /// How many tokens to write at the end of a run; 0: none.
        tokens: usize = 240,
        /// Below 1 plays safe, above 1 wanders.
        temperature: f64 = 0.8,
    }
}

section! {
    /// `[checkpoint]`
    Checkpoint {
        /// Save every so many steps; 0: never by steps.
        every_steps: usize,
        /// Save every so many minutes; 0: never by time.
        every_minutes: f64 = 5.0,
        /// How many of the newest to keep, beside the best.
        keep: usize = 2,
    }
}

/// What config.toml holds: every setting, with the defaults filled in.
///
/// # Errors
/// Settings that TOML cannot hold.
pub fn resolved(config: &Config) -> Result<String> {
    toml::to_string(config).map_err(|error| Error::failed(format!("cannot write the config: {error}")))
}
