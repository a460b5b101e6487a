//! Events of training, counting and comparing, as data.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use surprisal_platform::threads::Pool;
use surprisal_text::{SharedPassages, Split, TailDifference, TokenizerKind, WordChoice};

use crate::control::Control;
use crate::error::Result;
use crate::evaluation::Evaluation;
use crate::fingerprint::RunFingerprint;
use crate::ranks::Ranks;
use crate::sampling::Opening;
use crate::wording::{many, percent, thousands};

/// Number of a run, unique within the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(u64);

impl RunId {
    /// A new number.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A subscriber of events. Closures over a [`RunId`] and an [`Event`] are subscribers, too.
pub trait Events: Sync {
    /// Receives an event. Events of one run come in order; several runs call from their own
    /// threads.
    ///
    /// # Errors
    /// An error, which ends the run.
    fn on(&self, run: RunId, event: &Event) -> Result<()>;
}

impl<F: Fn(RunId, &Event) -> Result<()> + Sync> Events for F {
    fn on(&self, run: RunId, event: &Event) -> Result<()> {
        self(run, event)
    }
}

/// A subscriber that ignores all events.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Events for Silent {
    fn on(&self, _: RunId, _: &Event) -> Result<()> {
        Ok(())
    }
}

/// The context of a run: its threads, subscriber and control. A run depends on nothing else of the
/// process.
///
/// ```
/// use surprisal_engine::{Context, Control, Event, RunId, platform::threads::Pool};
/// # fn main() -> surprisal_engine::Result<()> {
/// let events = |run: RunId, event: &Event| {
///     println!("{run:?}: {event:?}"); // an error ends the run
///     Ok(())
/// };
/// let (pool, control) = (Pool::new(2)?, Control::new());
/// let (one, other) = (Context::new(&pool, &events, &control), Context::new(&pool, &events, &control));
/// assert_ne!(one.run, other.run); // so that one subscriber can tell runs apart
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Number of the run.
    pub run: RunId,
    /// Threads, which other runs may share.
    pub pool: &'a Pool,
    /// The subscriber.
    pub events: &'a dyn Events,
    /// The control.
    pub control: &'a Control,
    /// The processes that share the work.
    pub ranks: &'a Ranks,
}

impl<'a> Context<'a> {
    /// Context of a new run.
    pub fn new(pool: &'a Pool, events: &'a dyn Events, control: &'a Control) -> Self {
        Self { run: RunId::next(), pool, events, control, ranks: Ranks::ALONE }
    }

    /// Emits an event.
    ///
    /// # Errors
    /// The subscriber's.
    pub fn emit(&self, event: &Event) -> Result<()> {
        self.events.on(self.run, event)
    }

    /// Emits a note.
    ///
    /// # Errors
    /// The subscriber's.
    pub fn note(&self, note: Note) -> Result<()> {
        self.emit(&Event::Noted(note))
    }

    /// Emits [`Event::Phase`]: the next part of some work begins.
    ///
    /// # Errors
    /// The subscriber's.
    pub fn phase(&self, name: &'static str, whole: u64) -> Result<()> {
        self.emit(&Event::Phase { name, whole })
    }

    /// Emits notes in words.
    ///
    /// # Errors
    /// The subscriber's.
    pub fn notes(&self, notes: &[String]) -> Result<()> {
        notes.iter().try_for_each(|note| self.note(Note::Text(note.clone())))
    }
}

/// An event. Recorded events are lines of the run's metrics.jsonl, by [`Serialize`].
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The texts are read and encoded; nothing is written yet.
    #[serde(skip)]
    Texts {
        /// Name of the training text.
        name: String,
        /// Tokens to train on.
        train_tokens: u64,
        /// Bytes to train on.
        train_bytes: u64,
        /// `<unk>` tokens to train on.
        train_oov: u64,
        /// Tokens to validate.
        val_tokens: u64,
        /// Bytes to validate.
        val_bytes: u64,
        /// Rule by which validation was held out of the training text, if it was.
        split: Option<Split>,
        /// `<unk>` tokens to validate.
        val_oov: u64,
        /// Kind of the tokenizer.
        tokenizer: TokenizerKind,
        /// |V|.
        vocab_size: usize,
    },
    /// The run's folder is open.
    #[serde(skip)]
    Opened {
        /// The folder.
        folder: PathBuf,
        /// Step of the checkpoint that the run resumes from.
        resumed_at: Option<u64>,
    },
    /// A new run begins.
    #[serde(rename = "start")]
    Started(Started),
    /// A count-based model on the same texts, for comparison.
    Baseline {
        /// Its name.
        model: &'static str,
        /// Its evaluation on the validation text.
        eval: Evaluation,
    },
    /// The model is counted and saved.
    #[serde(skip)]
    Counted {
        /// Name such as "3-gram kneser_ney".
        name: String,
        /// Number of n-grams.
        parameters: u64,
        /// Its loss on the validation text.
        eval: Evaluation,
    },
    /// The network is mixed with an n-gram model, and the mixture is saved.
    #[serde(rename = "mixture")]
    Mixed(Box<Mixed>),
    /// Training is about to begin.
    #[serde(skip)]
    Planned(Planned),
    /// The run resumes from a checkpoint.
    #[serde(skip)]
    Resumed {
        /// Number of steps before.
        step: usize,
    },
    /// The run goes on with changed settings or texts.
    Changed(Changed),
    /// A step was made or skipped.
    #[serde(skip)]
    Step(Step),
    /// An update was skipped: its objective was far above the running mean.
    Skipped {
        /// The step.
        step: usize,
        /// Objective in nats per token.
        objective: f64,
        /// Running mean of the objective.
        mean: f64,
    },
    /// The gradient and update of every parameter in one of the first steps.
    #[serde(rename = "audit")]
    Audited {
        /// The step.
        step: usize,
        /// One for each parameter.
        parameters: Vec<ParameterAudit>,
    },
    /// A step that is recorded: about 500 of a run.
    #[serde(rename = "step")]
    Measured(Measured),
    /// The model was evaluated on the validation text.
    #[serde(rename = "epoch")]
    Evaluated(Evaluated),
    /// The validation loss rises while the training loss falls.
    Overfitting(Overfitting),
    /// The last step is made.
    #[serde(skip)]
    Trained,
    /// A sample from the model.
    #[serde(rename = "sample")]
    Sampled(Sampled),
    /// A checkpoint is saved.
    #[serde(skip)]
    Checkpointed {
        /// Step after which it was made.
        step: usize,
    },
    /// A note for the user.
    #[serde(skip)]
    Noted(Note),
    /// The model is saved and evaluated.
    #[serde(rename = "result")]
    Finished(RunSummary),
    /// A comparison is about to train.
    #[serde(skip)]
    Comparing {
        /// Number of variants.
        variants: usize,
        /// Number of runs.
        trials: usize,
        /// Number of runs finished before.
        finished: usize,
        /// Number of runs at a time.
        jobs: usize,
        /// Number of threads of all runs.
        threads: usize,
    },
    /// A run of a comparison is finished.
    #[serde(rename = "cell")]
    TrialFinished(TrialFinished),
    /// The next part of some work without a run.
    #[serde(skip)]
    Phase {
        /// Name of the part.
        name: &'static str,
        /// Number of steps; 0 where unknown.
        whole: u64,
    },
    /// Progress of the phase; emitted from any thread.
    #[serde(skip)]
    Advanced {
        /// Number of steps.
        steps: u64,
    },
    /// A text is about to be counted.
    #[serde(skip)]
    Counting {
        /// The text's name.
        name: String,
        /// Number of tokens.
        tokens: u64,
        /// |V|.
        vocab_size: usize,
        /// Upper bound of the memory, in bytes.
        memory: u64,
    },
    /// A file is written.
    #[serde(skip)]
    Wrote {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
    },
}

impl Event {
    /// Whether it is a line of metrics.jsonl.
    pub fn is_recorded(&self) -> bool {
        match self {
            Self::Started(_)
            | Self::Baseline { .. }
            | Self::Mixed(_)
            | Self::Changed(_)
            | Self::Skipped { .. }
            | Self::Audited { .. }
            | Self::Measured(_)
            | Self::Evaluated(_)
            | Self::Overfitting(_)
            | Self::Finished(_)
            | Self::TrialFinished(_) => true,
            Self::Sampled(sampled) => sampled.step.is_none(),
            _ => false,
        }
    }
}

/// The first event of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Started {
    /// Version of this library.
    pub version: &'static str,
    /// Kind of the model.
    pub kind: String,
    /// Kind of the tokenizer.
    pub tokenizer: String,
    /// |V|.
    pub vocab_size: usize,
    /// Tokens to train on.
    pub train_tokens: u64,
    /// `<unk>` tokens to train on.
    pub train_oov: u64,
    /// Tokens to validate.
    pub val_tokens: u64,
    /// Seed of the random streams.
    pub seed: u64,
    /// Hashes (BLAKE3, hexadecimal) of the tokens of "train" and "val".
    pub texts: BTreeMap<&'static str, String>,
    /// Start of a text without a prompt.
    pub opening: Opening,
    /// Fingerprint of settings and texts.
    pub identity: RunFingerprint,
    /// H(p) of the validation text in nats per token, where its source is known.
    #[serde(skip)]
    pub source_entropy: Option<f64>,
}

/// A setting or text that changed when a run went on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `section.key`; "train" or "val" for a text with other tokens.
    pub key: String,
    /// The value before, as in a config; empty for none.
    pub old: String,
    /// The value from now on.
    pub new: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |value: &str| if value.is_empty() { "unset".to_owned() } else { value.to_owned() };
        write!(f, "{}: {} → {}", self.key, of(&self.old), of(&self.new))
    }
}

/// The changes with which a run went on after `step`, and its texts from there on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Number of steps before.
    pub step: u64,
    /// The settings and texts.
    pub changes: Vec<Change>,
    /// Fingerprint of settings and texts.
    pub identity: RunFingerprint,
    /// Tokens to train on.
    pub train_tokens: u64,
    /// `<unk>` tokens to train on.
    pub train_oov: u64,
    /// Tokens to validate.
    pub val_tokens: u64,
    /// Hashes (BLAKE3, hexadecimal) of the tokens of "train" and "val".
    pub texts: BTreeMap<String, String>,
}

impl Changed {
    /// Whether the text `part`, "train" or "val", is another.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.changes.iter().any(|change| change.key == key)
    }
}

/// The plan of a training run.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Kind of the model.
    pub kind: String,
    /// Numbers in its parameters.
    pub parameters: u64,
    /// Steps per epoch, once batches have their full size.
    pub steps_per_epoch: usize,
    /// Rows per update.
    pub rows: usize,
    /// Tokens per row.
    pub block_size: usize,
    /// Shards per batch.
    pub shards: usize,
    /// Number of threads.
    pub threads: usize,
    /// Decoupled weight decay of matrices and embeddings.
    pub weight_decay: f64,
    /// L2 penalty of the same.
    pub l2: f64,
    /// Parameters with decay: matrices and embeddings.
    pub decayed: Group,
    /// Parameters without decay.
    pub plain: Group,
    /// Hidden matrices that Muon updates, if it is the optimizer.
    pub muon: Option<Group>,
    /// Options of the objective.
    pub loss: surprisal_loss::ObjectiveConfig,
    /// |V|.
    pub vocab_size: usize,
    /// Whether H(p) of the validation text is known.
    pub source_known: bool,
    /// Whether bf16 is configured, but not faster on this machine.
    pub slow_bf16: bool,
    /// Length of the run.
    pub length: StopCriterion,
}

/// Length of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StopCriterion {
    /// Number of updates.
    Steps(usize),
    /// Training time. The learning rate depends on it, so such a run is not reproducible to the
    /// bit.
    Budget(Duration),
}

/// A group of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Number of tensors.
    pub tensors: u64,
    /// Number of values.
    pub values: u64,
}

/// The audit of one parameter in one step.
#[derive(Debug, Clone, Serialize)]
pub struct ParameterAudit {
    /// Name in the model's file.
    pub name: String,
    /// Number of values.
    pub values: usize,
    /// ‖θ‖ before the step.
    pub weight_norm: f64,
    /// ‖∂L/∂θ‖ before clipping.
    pub gradient_norm: f64,
    /// ‖Δθ‖ of the step.
    pub update_norm: f64,
    /// A likely problem, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flag: Option<&'static str>,
}

/// Progress after a step.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(clippy::struct_field_names, reason = "the number of a step is its step, in every record")]
pub struct Step {
    /// Number of steps.
    pub step: usize,
    /// Share of the run, from 0 to 1.
    pub progress: f64,
    /// Mean −ln q of the training tokens since the last evaluation, in nats per token.
    pub train_nll: f64,
    /// Tokens per second so far.
    pub tokens_per_second: f64,
    /// Training time so far.
    pub train_seconds: f64,
}

/// Measures of a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// Number of steps.
    pub step: usize,
    /// Objective of the step's tokens, in nats per token.
    pub objective: f64,
    /// Mean −ln q of the step's tokens, in nats per token.
    pub train_nll: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Norm of the gradient before it is clipped.
    pub gradient_norm: f64,
    /// Tokens per second so far.
    pub tokens_per_second: f64,
    /// Training time so far.
    pub train_seconds: f64,
    /// Peak resident memory of the process, in bytes, if the system says.
    pub memory_bytes: Option<u64>,
}

/// Results of an evaluation during training.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Evaluated {
    /// Number of epochs, with the part of the current one.
    pub epoch: f64,
    /// Number of steps.
    pub step: usize,
    /// Mean objective since the last evaluation, in nats per token.
    pub objective: f64,
    /// Mean −ln q of the same tokens.
    pub train_nll: f64,
    /// Evaluation on the validation text.
    pub eval: Evaluation,
    /// Whether it is the best so far.
    pub best: bool,
    /// Training time.
    pub train_seconds: f64,
    /// Tokens per second so far.
    pub tokens_per_second: f64,
    /// Estimate of the remaining training time.
    #[serde(skip)]
    pub left_seconds: f64,
}

/// A network and an n-gram model of one text, mixed.
#[derive(Debug, Clone, Serialize)]
pub struct Mixed {
    /// Names of the network and the n-gram model.
    pub names: [String; 2],
    /// The network's loss on the validation text.
    pub network: Evaluation,
    /// The n-gram model's.
    pub counted: Evaluation,
    /// The mixture's.
    pub eval: Evaluation,
    /// The network's weight where a context has none of its own.
    pub share: f64,
    /// Number of held-out tokens that the weights were fitted to.
    pub heldout_tokens: u64,
    /// Number of n-grams of the n-gram model.
    pub ngrams: u64,
}

/// A validation loss that rises while the training loss falls.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Overfitting {
    /// The current step.
    pub step: usize,
    /// Step with the lowest validation loss.
    pub best_step: usize,
    /// Lowest validation loss, in nats per token.
    pub best_nats_per_token: f64,
    /// Current validation loss.
    pub nats_per_token: f64,
    /// Current training loss.
    pub train_nll: f64,
    /// Whether the run ends with the best weights.
    #[serde(skip)]
    pub best_is_kept: bool,
    /// Evaluations since the best.
    #[serde(skip)]
    pub evaluations: usize,
}

/// A sampled text.
#[derive(Debug, Clone, Serialize)]
pub struct Sampled {
    /// The text.
    pub text: String,
    /// Sampling temperature.
    pub temperature: f64,
    /// Seed of the draws.
    pub seed: u64,
    /// Step of a requested sample; `None` at the end of a run.
    #[serde(skip)]
    pub step: Option<usize>,
}

/// Results of a run.
#[derive(Debug, Clone, Serialize)]
pub struct RunSummary {
    /// Evaluation on the validation text.
    pub eval: Evaluation,
    /// Number of parameters, or of n-grams.
    pub parameters: u64,
    /// Time of training or counting.
    pub train_seconds: f64,
    /// Time of the whole run.
    pub wall_seconds: f64,
    /// Tokens per second of training time.
    pub tokens_per_second: f64,
    /// Number of epochs.
    pub epochs: f64,
    /// Number of steps.
    pub steps: usize,
    /// The run's folder.
    #[serde(serialize_with = "displayed")]
    pub run: PathBuf,
}

/// Results of a run of a comparison.
#[derive(Debug, Clone, Serialize)]
pub struct TrialFinished {
    /// Name of the variant.
    pub name: String,
    /// Seed of the run.
    pub seed: u64,
    /// Its folder, relative to the comparison's.
    pub run: PathBuf,
    /// The message of a divergence, after which there is no model.
    pub diverged: Option<String>,
    /// Evaluation on the validation text.
    pub eval: serde_json::Value,
    /// Duration.
    pub seconds: f64,
    /// Whether the model depends on the seed.
    #[serde(skip)]
    pub seeded: bool,
}

fn displayed<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// A note for the user, in words by [`fmt::Display`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Note {
    /// A note in words on a text, settings or a model.
    Text(String),
    /// The model that the run starts from has another tokenizer than the config.
    OwnTokens {
        /// The model's tokenizer.
        own: TokenizerKind,
        /// The config's tokenizer.
        requested: TokenizerKind,
    },
    /// At least a quarter of a text's tokens are unknown.
    Unknown {
        /// Name of the text.
        text: String,
        /// Name of the model.
        model: String,
        /// Number of unknown tokens.
        oov: u64,
        /// Number of tokens.
        tokens: u64,
    },
    /// Some words of the training text are not in the vocabulary.
    RareWords {
        /// The choice of words.
        choice: WordChoice,
        /// Number of `<unk>` tokens.
        unknown: u64,
        /// Number of tokens.
        tokens: u64,
        /// Whether the settings say so; otherwise the text has many words that occur once.
        requested: bool,
    },
    /// A text to evaluate has `<unk>`, which the model's training text did not have.
    UntaughtUnk {
        /// Whether tokens are words.
        words: bool,
    },
    /// The validation text is the training text.
    ValidationIsTraining,
    /// The held-out end of a text is not like the rest.
    TailDiffers(TailDifference),
    /// Passages of the validation text are in the training text.
    SharedPassages(SharedPassages),
    /// The validation text is too small to judge by: half the width of a 95 % interval of its loss.
    SmallValidation {
        /// Tokens to validate.
        tokens: u64,
        /// In nats per token.
        half_width: f64,
    },
    /// An evaluation would take too much of the budget, so its windows overlap less: the strides.
    StrideGrew {
        /// The configured stride.
        from: usize,
        /// The stride of this run's evaluations.
        to: usize,
    },
    /// Models of words and others are compared on the text that the words decode to.
    FoldedText,
    /// A text that looks like a config.
    LooksLikeConfig(PathBuf),
    /// A run without a hash of this text.
    NoHash(String),
    /// A checkpoint that is not complete.
    SkippedCheckpoint {
        /// Its folder.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// Training stopped by `train.patience`.
    StoppedEarly {
        /// Evaluations without a better one.
        patience: usize,
    },
    /// The run ends with earlier weights than the last.
    KeptBest {
        /// Their step.
        step: usize,
        /// Their validation loss, in nats per token.
        nats_per_token: f64,
    },
    /// Sampling ended early.
    SampleEnded(String),
    /// Seeds were given to a comparison of models that do not depend on them.
    SeedsUnused,
    /// Number of runs of a comparison that fit into memory at a time.
    MemoryForJobs(usize),
    /// A file of counts without the part of the text that it is of.
    UnknownPart(PathBuf),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(note) => f.write_str(note),
            Self::OwnTokens { own, requested: asked } => write!(
                f,
                "the model of model.init_from has its own tokenizer ({own}); tokenizer.kind = {asked} is not used"
            ),
            Self::Unknown { text, model, oov, tokens } => write!(
                f,
                "{} of {text} is unknown to {model}: {} of {} ({:.0} %). The loss says little of this text: all \
                 unknown words are one token, <unk>",
                if 2 * oov > *tokens { "most" } else { "much" },
                thousands(*oov),
                many(*tokens, "token"),
                100.0 * *oov as f64 / *tokens as f64
            ),
            Self::RareWords { choice: WordChoice { words, kept, .. }, unknown, tokens, requested } => {
                let number = |count: usize| thousands(count as u64);
                let (once, rare) = (percent((words - kept) as u64, *tokens), number(words - kept));
                let (words, kept, share) = (number(*words), number(*kept), percent(*unknown, *tokens));
                if *requested {
                    return write!(
                        f,
                        "{kept} of {words} different words are in the vocabulary; {share} of the training tokens are <unk>"
                    );
                }
                write!(
                    f,
                    "{rare} of {words} different words occur once, {once} of the training tokens: they become <unk>, so that \
                     the model learns how likely unknown words are (tokenizer.min_count = 2); tokenizer.min_count = 1 keeps them"
                )
            }
            Self::UntaughtUnk { words } => {
                f.write_str(
                    "the training text has no <unk>: its probability is a constant that nothing has taught, so judge by \
                     the perplexity without unknown tokens",
                )?;
                if *words {
                    f.write_str(", or learn it from rare words: tokenizer.min_count = 2")
                } else {
                    Ok(())
                }
            }
            Self::ValidationIsTraining => f.write_str(
                "the validation text is the training text: its loss says nothing about other texts",
            ),
            Self::TailDiffers(TailDifference { tail, random, lines, records }) => {
                // Blocks end with lines, so few lines may give no block to one of the parts.
                let other = match (lines, records) {
                    (0..=1, _) => "data.val names another text to validate with",
                    (_, true) => "data.split = \"documents\" holds out text from everywhere",
                    (0..1_000, false) => "data.split = \"lines\" holds out text from everywhere",
                    (_, false) => "data.split = \"lines\" or \"blocks\" holds out text from everywhere",
                };
                write!(
                    f,
                    "the held-out end of the text is not like the rest: their characters differ by {tail:.2} (total \
                     variation), and by {random:.2} between lines drawn at random, as where lines are sorted. The \
                     validation loss judges another text than the model learns; {other}"
                )
            }
            Self::SharedPassages(SharedPassages { bytes, of }) => write!(
                f,
                "{:.1} % of the validation text ({} of {}) are passages that are in the training text, too: its \
                 loss says less about new text",
                100.0 * *bytes as f64 / *of as f64,
                thousands(*bytes),
                many(*of, "byte")
            ),
            Self::SmallValidation { tokens, half_width } => write!(
                f,
                "the validation text has {}, too few to judge by: its loss is certain to ±{half_width:.2} nats per \
                 token (95 %), ±{:.0} % of the perplexity. Give more text, hold out more (data.val_fraction), or \
                 compare count-based models",
                many(*tokens, "token"),
                100.0 * half_width.exp_m1()
            ),
            Self::StrideGrew { from, to } => write!(
                f,
                "with a stride of {from} the last evaluation would take more than a fifth of the budget: eval.stride is \
                 {to} in this run, which gives tokens less context"
            ),
            Self::FoldedText => f.write_str(
                "models of words take several spaces for one: the variants are compared on the text as words decode \
                 it, with one space between two words and none beside a newline",
            ),
            Self::LooksLikeConfig(path) => {
                write!(f, "{} is read as a text, but looks like a config", path.display())
            }
            Self::NoHash(name) => {
                write!(f, "the run has no hash of {name}: whether it has changed is not checked")
            }
            Self::SkippedCheckpoint { path, reason } => {
                write!(f, "skipped the checkpoint {}: {reason}", path.display())
            }
            Self::StoppedEarly { patience } => write!(
                f,
                "stopped early: no better validation loss in {patience} evaluations (train.patience)"
            ),
            Self::KeptBest { step, nats_per_token } => write!(
                f,
                "the model of step {step} had the lowest validation loss, {nats_per_token:.4} nats per token, and is \
                 kept"
            ),
            Self::SampleEnded(why) => write!(f, "the sample ends early: {why}"),
            Self::SeedsUnused => f.write_str("seeds have no effect: all variants are counted, once each"),
            Self::MemoryForJobs(jobs) => write!(f, "there is memory for {jobs} at a time"),
            Self::UnknownPart(path) => write!(
                f,
                "{} does not say which part of which text it is of: missing, duplicate or reordered parts are not \
                 detected",
                path.display()
            ),
        }
    }
}
