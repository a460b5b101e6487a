//! What a run is told to do, as one TOML file for every kind of model.
//!
//! [`Config`] is what the person may write, with every default filled in; it is saved whole as the run's
//! `config.toml`, and reading that back gives the same run. [`load`] turns a file plus `--set` overrides into one,
//! and [`check`] refuses what cannot work, both with the file, the line and a hint.

mod budget;
mod check;
mod follow;
mod load;
mod loss;
mod words;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use surprisal_model::neural::{ActivationKind, NormKind, PositionKind};
use surprisal_text::{LastLine, LiteralSpecials, TokenizerKind, Unit};

pub use budget::parse_duration;
pub use check::check;
pub(crate) use check::{cores, texts, threads};
pub(crate) use follow::LENGTHS;
pub(crate) use load::{BUDGET, of_table, read as read_text};
pub use load::{Loaded, load, parse};
pub use loss::Loss;
pub(crate) use words::{explain, named};

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
    pub loss: Loss,
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

/// `[data]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// Text files or directories; empty: the embedded corpus.
    pub train: Vec<PathBuf>,
    /// Validation texts; empty: the last `val_fraction` of the training text.
    pub val: Vec<PathBuf>,
    /// How much of the text's end is held out when `val` is empty.
    pub val_fraction: f64,
    /// Which share of the training text is used, from its beginning: learning curves.
    pub train_fraction: f64,
    /// One stream of tokens, or one sentence a line.
    pub unit: Unit,
    /// Words spelled like special tokens: unk (unknown words), skip (white space) or error.
    pub literal_specials: LiteralSpecials,
    /// A last line without a newline: sentence (like any other) or open (without `</s>`).
    pub last_line: LastLine,
    /// The embedded corpus to use when `train` is empty.
    pub embedded: String,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            val: Vec::new(),
            val_fraction: 0.1,
            train_fraction: 1.0,
            unit: Unit::Stream,
            literal_specials: LiteralSpecials::Unk,
            last_line: LastLine::Sentence,
            embedded: "stories".into(),
        }
    }
}

/// `[tokenizer]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tokenizer {
    /// byte, char, word or bpe.
    pub kind: String,
    /// The size of a bpe vocabulary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
}

impl Default for Tokenizer {
    fn default() -> Self {
        Self { kind: "char".into(), vocab_size: None }
    }
}

impl Tokenizer {
    /// The text crate's name for it; `None` for a kind it does not have.
    pub fn kind(&self) -> Option<TokenizerKind> {
        match self.kind.as_str() {
            "byte" => Some(TokenizerKind::Byte),
            "char" => Some(TokenizerKind::Char),
            "word" => Some(TokenizerKind::Word),
            "bpe" => Some(TokenizerKind::Bpe { vocab_size: self.vocab_size.unwrap_or(1024) }),
            _ => None,
        }
    }
}

/// `[model]`: flat, so that a mistyped key is found on its line; [`check`] refuses keys of another kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// uniform, ngram, bigram, mlp or transformer.
    pub kind: String,
    /// ngram: how many tokens an n-gram has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<usize>,
    /// ngram: mle, add_k, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smoothing: Option<String>,
    /// ngram with add_k: what is added to every count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<f64>,
    /// ngram: choose k, or the discounts, to suit a held-out part of the training text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tune: Option<bool>,
    /// ngram: which share of the training text that is; the model is counted from all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heldout: Option<f64>,
    /// ngram: discounts of counts of 1, 2, 3 and more for orders where the formula fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<[f64; 3]>,
    /// ngram: "kenlm" takes over lmplz's quirk of statistics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compat: Option<String>,
    /// ngram: leave out grams of order i + 1 that occur no more often than prune[i].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune: Option<Vec<u32>>,
    /// ngram: leave out grams whose loss raises perplexity by less than this share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune_entropy: Option<f64>,
    /// ngram: give every word a share of what unigrams leave, instead of all of it to <unk>.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpolate_unigrams: Option<bool>,
    /// ngram: unknown words have probability zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<bool>,
    /// transformer: blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_layer: Option<usize>,
    /// transformer: attention heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_head: Option<usize>,
    /// mlp, transformer: width of the embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_embd: Option<usize>,
    /// mlp: width of the hidden layer; transformer: of the MLPs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_hidden: Option<usize>,
    /// mlp: how many tokens before the predicted one it sees (n − 1 of a neural n-gram).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// transformer: share of activations dropped in training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// transformer: biases in linear layers and norms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias: Option<bool>,
    /// transformer: one matrix for the token embedding and the head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tied: Option<bool>,
    /// transformer: heads of keys and values, each shared by n_head / n_kv_head heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_kv_head: Option<usize>,
    /// transformer: layer or rms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm: Option<NormKind>,
    /// transformer: learned or rope.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<PositionKind>,
    /// transformer with rope: the base of its angles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    /// transformer: scale queries and keys to unit mean square.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qk_norm: Option<bool>,
    /// transformer: gelu, relu2 or swiglu.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<ActivationKind>,
    /// transformer: start the projections back to the stream at zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_init: Option<bool>,
    /// transformer: keep logits within ± this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub softcap: Option<f64>,
    /// transformer: rows of a table that embeds each token with the one before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bigram_rows: Option<usize>,
    /// transformer: the folder of a model to start from, in Hugging Face's layout or our own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_from: Option<PathBuf>,
    /// transformer with init_from: go on with a text of which at most this share is unknown to that model (0.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unknown: Option<f64>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            kind: "transformer".into(),
            order: None,
            smoothing: None,
            k: None,
            tune: None,
            heldout: None,
            fallback: None,
            compat: None,
            prune: None,
            prune_entropy: None,
            interpolate_unigrams: None,
            closed: None,
            n_layer: None,
            n_head: None,
            n_embd: None,
            n_hidden: None,
            context: None,
            dropout: None,
            bias: None,
            tied: None,
            n_kv_head: None,
            norm: None,
            position: None,
            rope_theta: None,
            qk_norm: None,
            activation: None,
            zero_init: None,
            softcap: None,
            bigram_rows: None,
            init_from: None,
            max_unknown: None,
        }
    }
}

/// `[optim]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optim {
    /// adamw, sgd, or muon (for hidden matrices, with adamw for the rest).
    pub kind: String,
    /// The peak learning rate.
    pub lr: f64,
    /// Where the schedule ends.
    pub min_lr: f64,
    /// Steps of linear warm-up.
    pub warmup: usize,
    /// constant, cosine, linear, or wsd (warm-up, stable, decay).
    pub schedule: String,
    /// wsd: the last share of the run, in which the rate falls.
    pub cooldown: f64,
    /// sgd, muon: decay of the running gradient.
    pub momentum: f64,
    /// sgd: look ahead (Nesterov).
    pub nesterov: bool,
    /// muon: the peak learning rate of the hidden matrices, on the same schedule as lr.
    pub muon_lr: f64,
    /// Decay of a running mean of the weights, which is what is evaluated and kept; 0: none.
    pub ema: f64,
    /// Decoupled decay, of matrices and embeddings only: θ ← (1 − lr·decay) θ.
    pub weight_decay: f64,
    /// Coupled ½·l2·‖θ‖² added to the objective of the same parameters: the MAP estimate under a Gaussian prior.
    pub l2: f64,
    /// Decay rates of the two moment estimates.
    pub betas: [f64; 2],
    /// What keeps the division finite.
    pub eps: f64,
    /// The largest global gradient norm; 0: no clipping.
    pub grad_clip: f64,
    /// Pass over updates whose objective is more than so many times its running mean; 0: make every update.
    pub skip_spikes: f64,
}

impl Default for Optim {
    fn default() -> Self {
        Self {
            kind: "adamw".into(),
            lr: 1e-3,
            min_lr: 1e-4,
            warmup: 100,
            schedule: "cosine".into(),
            cooldown: 0.4,
            momentum: 0.95,
            nesterov: false,
            muon_lr: 0.02,
            ema: 0.0,
            weight_decay: 0.1,
            l2: 0.0,
            betas: [0.9, 0.99],
            eps: 1e-8,
            grad_clip: 1.0,
            skip_spikes: 0.0,
        }
    }
}

/// How many shards a batch is cut into: a number, or the machine's cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Shards {
    /// Exactly so many.
    Fixed(usize),
    /// "auto".
    Auto(Auto),
}

/// The word "auto".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// Whatever the machine has.
    Auto,
}

/// `[train]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Train {
    /// How often every training token is seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    /// How many updates, instead of epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// How much training time, instead of either: "3min".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// Windows (or lines) a batch.
    pub batch_size: usize,
    /// Batches an update: gradients are summed over them.
    pub grad_accumulation: usize,
    /// Tokens a window.
    pub block_size: usize,
    /// Windows a batch at first, growing to `batch_size` over `ramp_steps` updates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_start: Option<usize>,
    /// Tokens a window at first, doubling up to `block_size` over `ramp_steps` updates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_start: Option<usize>,
    /// How many updates `batch_start` and `block_start` take to grow.
    pub ramp_steps: usize,
    /// Where every random stream starts.
    pub seed: u64,
    /// Worker threads; 0: the machine's cores. Results do not depend on it.
    pub threads: usize,
    /// Batch shards, each computed on one thread; results depend on this, never on threads.
    pub shards: Shards,
    /// f32, or bf16 for the inputs of the linear layers' products (sums and everything else stay f32).
    pub precision: String,
    /// Stop after so many evaluations without a better validation loss; 0: never.
    pub patience: usize,
    /// Which weights a run ends with: best (of its evaluations) or last.
    pub select: String,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            epochs: None,
            steps: None,
            budget: None,
            batch_size: 12,
            grad_accumulation: 1,
            block_size: 64,
            batch_start: None,
            block_start: None,
            ramp_steps: 0,
            seed: 1337,
            threads: 0,
            shards: Shards::Auto(Auto::Auto),
            precision: "f32".into(),
            patience: 0,
            select: "best".into(),
        }
    }
}

impl Train {
    /// What `eval.stride` is where nothing says it.
    pub(crate) fn half_block(&self) -> usize {
        self.block_size.div_ceil(2)
    }
}

/// `[eval]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Eval {
    /// How far a windowed model's window moves; 0: half its block.
    pub stride: usize,
    /// Evaluate every so many steps as well; 0: never by steps.
    pub every_steps: usize,
    /// Evaluate every so many epochs; 0: only by steps and at the end.
    pub every_epochs: u64,
}

impl Default for Eval {
    fn default() -> Self {
        Self { stride: 0, every_steps: 0, every_epochs: 1 }
    }
}

/// `[sample]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sample {
    /// How many tokens to write at the end of a run; 0: none.
    pub tokens: usize,
    /// Below 1 plays safe, above 1 wanders.
    pub temperature: f64,
}

impl Default for Sample {
    fn default() -> Self {
        Self { tokens: 240, temperature: 0.8 }
    }
}

/// `[checkpoint]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoint {
    /// Save every so many steps; 0: never by steps.
    pub every_steps: usize,
    /// Save every so many minutes; 0: never by time.
    pub every_minutes: f64,
    /// How many of the newest to keep, beside the best.
    pub keep: usize,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { every_steps: 0, every_minutes: 5.0, keep: 2 }
    }
}
