//! Config of a run, one TOML file for every kind of model.
//!
//! [`load`] reads a [`Config`] from a file and overrides, and [`check`] checks it; errors have the
//! file, the line and a hint. The checked config is saved as the run's `config.toml`, which gives
//! the same run again.

/// Defines a section of a config: keys with types, and defaults other than the type's.
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
use surprisal_model::ngram::{NgramConfig, Smoothing};
use surprisal_text::{
    InvalidBytes, LastLine, LiteralSpecials, MinCount, NormalForm, Split, TextMode, TokenizerKind, TrainPart,
};

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

/// All settings of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Texts.
    pub data: Data,
    /// Tokenizer.
    pub tokenizer: Tokenizer,
    /// Model.
    pub model: Model,
    /// An n-gram model beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixture: Option<Mixture>,
    /// Objective.
    pub loss: ObjectiveConfig,
    /// Optimizer.
    pub optim: Optim,
    /// Length, batches and seed.
    pub train: Train,
    /// Evaluation.
    pub eval: Eval,
    /// Sample at the end of a run.
    pub sample: Sample,
    /// Checkpoints.
    pub checkpoint: Checkpoint,
}

section! {
    /// `[data]`
    Data {
        /// Text files, directories, pipes or - (standard input); empty: the embedded corpus.
        train: Vec<PathBuf>,
        /// Validation texts; empty: a part of the training text.
        val: Vec<PathBuf>,
        /// Part of the text that is held out when `val` is empty: tail (its end), blocks, lines,
        /// documents or files.
        split: Split = Split::Tail,
        /// Seed of the other splits than tail.
        split_seed: u64 = 1,
        /// Share of the text that is held out when `val` is empty.
        val_fraction: f64 = 0.1,
        /// Share of the training text that is used.
        train_fraction: f64 = 1.0,
        /// The part that this share is: start, or spread (small blocks from everywhere).
        train_part: TrainPart = TrainPart::Start,
        /// stream (one sequence of tokens), line (one sentence per line) or document (a stream with
        /// a mark after each document); default: document where there are several, or else stream.
        unit: Option<TextMode>,
        /// Field of JSON lines, or column of CSV and TSV, that is the text; none: plain text.
        field: Option<String>,
        /// Patterns of the files that are read in directories; empty: all.
        include: Vec<String>,
        /// Patterns of files that are left out.
        exclude: Vec<String>,
        /// Bytes that are not UTF-8, and NULs: error, replace (by U+FFFD) or skip-line.
        invalid: InvalidBytes = InvalidBytes::Error,
        /// Unicode normal form that the text is brought to: none or nfc.
        normalize: NormalForm = NormalForm::None,
        /// Tokens in a file that is mapped, not in memory: auto (texts from 256 MiB), on or off.
        token_cache: TokenCache = TokenCache::Auto,
        /// Rules of reading: 2, or 1 for runs of versions that read bytes as they are stored.
        reader: u8 = 2,
        /// Words spelled like special tokens: unk (unknown words), skip (white space) or error.
        literal_specials: LiteralSpecials = LiteralSpecials::Unk,
        /// A last line without a newline: sentence (like any other) or open (without `</s>`).
        last_line: LastLine = LastLine::Sentence,
        /// The embedded corpus to use when `train` is empty.
        embedded: String = "stories".into(),
    }
}

/// `data.token_cache`: whether the tokens of the training text are kept in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenCache {
    /// Those of texts from 256 MiB.
    Auto,
    /// Always, except for count-based models.
    On,
    /// Never.
    Off,
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
    /// A token of the file in `tokenizer.file`; the default where that is set.
    File,
}

section! {
    /// `[tokenizer]`
    Tokenizer {
        /// byte, char, word or bpe; file, with `file`.
        kind: TokenizerType = TokenizerType::Char,
        /// The size of a bpe vocabulary, or the largest of a word vocabulary, special tokens
        /// included.
        vocab_size: Option<usize>,
        /// word: words with fewer occurrences become `<unk>`; unset: 2 where the text has many
        /// words that occur once ([`MinCount::Auto`]), otherwise 1. A run's own config has it.
        min_count: Option<u64>,
        /// word: a file with the words to keep, one per line; the others become `<unk>`.
        vocab: Option<PathBuf>,
        /// A `tokenizer.json`, GPT-2's vocab.json with merges.txt beside it, or a folder of either.
        file: Option<PathBuf>,
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
            TokenizerType::File => TokenizerKind::File,
        }
    }

    /// The minimum number of occurrences of a word.
    pub(crate) fn min_count(&self) -> MinCount {
        match self.min_count {
            Some(count) => MinCount::Fixed(count),
            None if self.vocab_size.is_some() || self.vocab.is_some() => MinCount::Fixed(1),
            None => MinCount::Auto,
        }
    }
}

section! {
    /// `[mixture]`: an n-gram model beside the network of `[model]`. The run's model is the mixture
    /// of both, with weights by context.
    Mixture {
        /// Tokens of the longest n-gram; default: 9 of bytes and characters, 5 of words and their
        /// parts.
        order: Option<usize>,
        /// The smoothing of the n-gram model.
        smoothing: Smoothing = Smoothing::ModifiedKneserNey,
        /// Fits the n-gram model's discounts to held-out text.
        tune: bool = true,
        /// The share of the training text, small blocks from everywhere, that the weights are
        /// fitted to. The network does not train on it.
        heldout: f64 = 0.02,
    }
}

impl Mixture {
    /// The n-gram model for tokens of this kind, with the ids of `<s>` and `<unk>`.
    pub(crate) fn ngram(&self, kind: TokenizerType, bos: Option<u32>, unk: Option<u32>) -> NgramConfig {
        let order = self.order.unwrap_or(match kind {
            TokenizerType::Byte | TokenizerType::Char => 9,
            TokenizerType::Word | TokenizerType::Bpe | TokenizerType::File => 5,
        });
        let (smoothing, tune) = (self.smoothing, self.tune);
        NgramConfig { order, smoothing, tune, bos, unk, ..NgramConfig::default() }
    }
}

/// Learning rate schedule after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrSchedule {
    /// The peak rate.
    Constant,
    /// Half a cosine from the peak to the minimum (Loshchilov & Hutter 2017, without restarts).
    Cosine,
    /// Linear from the peak to the minimum.
    Linear,
    /// Warm-up, stable, decay: the peak, then linear to the minimum (Hu et al. 2024).
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
        /// Schedule after the warm-up.
        schedule: LrSchedule = LrSchedule::Cosine,
        /// wsd: share of the run, at its end, in which the rate falls.
        cooldown: f64 = 0.4,
        /// sgd, muon: momentum.
        momentum: f64 = 0.95,
        /// sgd: Nesterov momentum.
        nesterov: bool,
        /// muon: the peak learning rate of the hidden matrices, on the same schedule as lr.
        muon_lr: f64 = 0.02,
        /// Decay of an exponential moving average of the weights, which is evaluated and saved; 0:
        /// none.
        ema: f64,
        /// Decoupled weight decay of matrices and embeddings: θ ← (1 − lr·decay) θ.
        weight_decay: f64 = 0.1,
        /// Adds ½·l2·‖θ‖² of the same parameters to the objective: the MAP estimate under a
        /// Gaussian prior.
        l2: f64,
        /// Decay rates of the two moment estimates.
        betas: [f64; 2] = [0.9, 0.99],
        /// Added to the divisor.
        eps: f64 = 1e-8,
        /// The largest global gradient norm; 0: no clipping.
        grad_clip: f64 = 1.0,
        /// Skip updates whose objective is more than this many times its running mean; 0: none.
        skip_spikes: f64,
    }
}

/// Number of shards of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shards {
    /// The number of cores.
    Auto,
    /// This number.
    #[serde(untagged)]
    Fixed(usize),
}

/// `train.precision`: the number format of the inputs of linear layers' matmuls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bf16 where this machine has instructions for it and the model is a transformer, else f32.
    Auto,
    /// As they are.
    F32,
    /// Rounded to bf16; sums stay f32.
    Bf16,
}

impl From<Precision> for surprisal_ops::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Auto | Precision::F32 => Self::F32,
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
        /// Number of passes over the training text.
        epochs: Option<f64>,
        /// Number of updates, instead of epochs.
        steps: Option<usize>,
        /// Training time, instead of either: "3min".
        budget: Option<Budget>,
        /// Windows (or lines) per batch.
        batch_size: usize = 12,
        /// Batches per update, whose gradients are summed.
        grad_accumulation: usize = 1,
        /// Tokens per window.
        block_size: usize = 64,
        /// Windows per batch at first, growing to `batch_size` over `ramp_steps` updates.
        batch_start: Option<usize>,
        /// Tokens per window at first, doubling up to `block_size` over `ramp_steps` updates.
        block_start: Option<usize>,
        /// Number of updates in which batches and windows grow.
        ramp_steps: usize,
        /// Seed of all random streams.
        seed: u64 = 1337,
        /// Worker threads; 0: the number of cores. Results do not depend on it.
        threads: usize,
        /// Shards of a batch, computed on one thread each; results depend on it.
        shards: Shards = Shards::Auto,
        /// f32, or bf16 for the inputs of linear layers' matmuls (all else is f32); auto: what is
        /// fast on this machine.
        precision: Precision = Precision::F32,
        /// Stop after this many evaluations without a better validation loss; 0: never.
        patience: usize,
        /// Weights that a run ends with: best (of its evaluations) or last.
        select: Select = Select::Best,
    }
}

impl Train {
    /// Default of `eval.stride`.
    pub(crate) fn half_block(&self) -> usize {
        self.block_size.div_ceil(2)
    }
}

section! {
    /// `[eval]`
    Eval {
        /// Tokens between the windows of a windowed model (default: half a block).
        stride: Option<usize>,
        /// Steps between evaluations; 0: not by steps.
        every_steps: usize,
        /// Epochs between evaluations; 0: only by steps and at the end.
        every_epochs: u64 = 1,
    }
}

section! {
    /// `[sample]`
    Sample {
        /// Number of tokens; 0: no sample.
        tokens: usize = 240,
        /// Temperature.
        temperature: f64 = 0.8,
    }
}

section! {
    /// `[checkpoint]`
    Checkpoint {
        /// Steps between checkpoints; 0: not by steps.
        every_steps: usize,
        /// Minutes between checkpoints; 0: not by time.
        every_minutes: f64 = 5.0,
        /// Number of newest checkpoints to keep; each also has the best weights so far.
        keep: usize = 2,
    }
}

/// The first line of a run's config.toml.
pub(crate) const RESOLVED_HEADING: &str = "# The settings of this run, with every default filled in.";

/// The text of config.toml: all settings, with their defaults.
///
/// # Errors
/// Settings that TOML cannot represent.
pub fn resolved(config: &Config) -> Result<String> {
    toml::to_string(config).map_err(|error| Error::failed(format!("cannot write the config: {error}")))
}
