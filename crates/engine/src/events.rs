//! What happens in a piece of work, as data; and what a person should know of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use surprisal_platform::threads::Pool;
use surprisal_text::TokenizerKind;

use crate::control::Control;
use crate::error::Result;
use crate::evaluation::Evaluation;
use crate::identity::Identity;
use crate::sampling::Opening;
use crate::wording::{many, thousands};

/// Which piece of work an event is of: a number that is given once in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(u64);

impl RunId {
    /// One that no other work of this process has.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Is told what happens. Closures over a [`RunId`] and an [`Event`] are subscribers, too.
pub trait Events: Sync {
    /// Called in order for each run; several runs call from their own threads.
    ///
    /// # Errors
    /// What ends the run: one that must not, keeps its errors.
    fn on(&self, run: RunId, event: &Event) -> Result<()>;
}

impl<F: Fn(RunId, &Event) -> Result<()> + Sync> Events for F {
    fn on(&self, run: RunId, event: &Event) -> Result<()> {
        self(run, event)
    }
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Events for Silent {
    fn on(&self, _: RunId, _: &Event) -> Result<()> {
        Ok(())
    }
}

/// What a piece of work is given beside its settings: threads to work on, who is told of it, and the way back into it. Nothing
/// else of a process decides what it does.
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
    /// Which work this is.
    pub run: RunId,
    /// Its threads; other work may share them.
    pub pool: &'a Pool,
    /// Who is told what happens.
    pub events: &'a dyn Events,
    /// The way back.
    pub control: &'a Control,
}

impl<'a> Context<'a> {
    /// Of a new piece of work.
    pub fn new(pool: &'a Pool, events: &'a dyn Events, control: &'a Control) -> Self {
        Self { run: RunId::next(), pool, events, control }
    }

    /// Tells of an event.
    ///
    /// # Errors
    /// The subscriber's.
    pub fn tell(&self, event: &Event) -> Result<()> {
        self.events.on(self.run, event)
    }

    /// Tells what a person should know.
    ///
    /// # Errors
    /// The subscriber's.
    pub fn note(&self, note: Note) -> Result<()> {
        self.tell(&Event::Noted(note))
    }

    /// Tells that the next part of some work begins: [`Event::Phase`].
    ///
    /// # Errors
    /// The subscriber's.
    pub fn phase(&self, name: &'static str, whole: u64) -> Result<()> {
        self.tell(&Event::Phase { name, whole })
    }

    /// Tells what was noticed, in words.
    ///
    /// # Errors
    /// The subscriber's.
    pub fn notes(&self, notes: &[String]) -> Result<()> {
        notes.iter().try_for_each(|note| self.note(Note::Text(note.clone())))
    }
}

/// What happens. As JSON ([`Serialize`]) an event that is recorded is a line of the run's metrics.jsonl.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The texts are read and encoded; nothing is written yet.
    #[serde(skip)]
    Texts {
        /// The training text's.
        name: String,
        /// Tokens to train on.
        train_tokens: u64,
        /// Bytes to train on.
        train_bytes: u64,
        /// Tokens to validate.
        val_tokens: u64,
        /// Bytes to validate.
        val_bytes: u64,
        /// How they were cut into tokens.
        tokenizer: TokenizerKind,
        /// |V|.
        vocab_size: usize,
    },
    /// The run has its folder.
    #[serde(skip)]
    Opened {
        /// The folder.
        folder: PathBuf,
        /// The step of the checkpoint that it goes on from.
        resumed_at: Option<u64>,
    },
    /// A new run begins.
    #[serde(rename = "start")]
    Started(Started),
    /// A model counted in an instant, to hold the run's own against.
    Baseline {
        /// Its name.
        model: &'static str,
        /// Its loss on the validation text.
        eval: Evaluation,
    },
    /// The model is counted and saved.
    #[serde(skip)]
    Counted {
        /// "3-gram kneser_ney".
        name: String,
        /// N-grams.
        parameters: u64,
        /// Its loss on the validation text.
        eval: Evaluation,
    },
    /// What training is about to do.
    #[serde(skip)]
    Planned(Planned),
    /// The run goes on after so many steps.
    #[serde(skip)]
    Resumed {
        /// Steps made before.
        step: usize,
    },
    /// A step was made, or passed over.
    #[serde(skip)]
    Step(Step),
    /// An update was passed over: its objective was far from the running mean.
    Skipped {
        /// Which.
        step: usize,
        /// Nats a token.
        objective: f64,
        /// The running mean.
        mean: f64,
    },
    /// Every parameter's gradient and update in one of the first steps.
    #[serde(rename = "audit")]
    Audited {
        /// Which.
        step: usize,
        /// One each.
        parameters: Vec<ParameterAudit>,
    },
    /// The validation text was scored.
    #[serde(rename = "epoch")]
    Evaluated(Evaluated),
    /// The validation loss has turned while the training loss falls.
    Overfitting(Overfitting),
    /// The last step is made.
    #[serde(skip)]
    Trained,
    /// A little of what the model writes.
    #[serde(rename = "sample")]
    Sampled(Sampled),
    /// A checkpoint is whole.
    #[serde(skip)]
    Checkpointed {
        /// Of the state after this step.
        step: usize,
    },
    /// What a person should know.
    #[serde(skip)]
    Noted(Note),
    /// The model is saved and judged.
    #[serde(rename = "result")]
    Finished(RunSummary),
    /// What a comparison is about to make.
    #[serde(skip)]
    Comparing {
        /// Rows of the table.
        variants: usize,
        /// Runs.
        trials: usize,
        /// Of them finished before.
        finished: usize,
        /// How many at a time.
        jobs: usize,
        /// On so many threads together.
        threads: usize,
    },
    /// A cell of a comparison is made.
    #[serde(rename = "cell")]
    TrialFinished(TrialFinished),
    /// The next part of work that makes no run.
    #[serde(skip)]
    Phase {
        /// What is done now.
        name: &'static str,
        /// In how many steps; 0 where nobody can tell.
        whole: u64,
    },
    /// More steps of the phase are done, on whichever thread.
    #[serde(skip)]
    Advanced {
        /// How many.
        steps: u64,
    },
    /// A text is about to be counted.
    #[serde(skip)]
    Counting {
        /// The text's name.
        name: String,
        /// To be counted.
        tokens: u64,
        /// |V|.
        vocab_size: usize,
        /// Bytes of memory that it takes at most.
        memory: u64,
    },
    /// A file is written.
    #[serde(skip)]
    Wrote {
        /// Which.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
}

impl Event {
    /// Whether it is a line of metrics.jsonl.
    pub fn is_recorded(&self) -> bool {
        match self {
            Self::Started(_)
            | Self::Baseline { .. }
            | Self::Skipped { .. }
            | Self::Audited { .. }
            | Self::Evaluated(_)
            | Self::Overfitting(_)
            | Self::Finished(_)
            | Self::TrialFinished(_) => true,
            Self::Sampled(sampled) => sampled.step.is_none(),
            _ => false,
        }
    }
}

/// What a run's record begins with.
#[derive(Debug, Clone, Serialize)]
pub struct Started {
    /// Of this library.
    pub version: &'static str,
    /// The model's.
    pub kind: String,
    /// The tokenizer's kind.
    pub tokenizer: String,
    /// |V|.
    pub vocab_size: usize,
    /// Tokens to train on.
    pub train_tokens: u64,
    /// Tokens to validate.
    pub val_tokens: u64,
    /// Of the run's random streams.
    pub seed: u64,
    /// Hashes (BLAKE3, hexadecimal) of the tokens of "train" and "val".
    pub texts: BTreeMap<&'static str, String>,
    /// How a text without a prompt starts.
    pub opening: Opening,
    /// Whose run it is.
    pub identity: Identity,
    /// H(p) of the validation text, where its source is known, in nats a token.
    #[serde(skip)]
    pub source_entropy: Option<f64>,
}

/// What training is about to do.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The model's kind.
    pub kind: String,
    /// Numbers in its parameters.
    pub parameters: u64,
    /// Steps an epoch, once batches have grown to their size.
    pub steps_an_epoch: usize,
    /// Rows an update.
    pub rows: usize,
    /// Tokens a row.
    pub block_size: usize,
    /// Parts that a batch is cut into.
    pub shards: usize,
    /// How many work.
    pub threads: usize,
    /// Decoupled decay of matrices and embeddings.
    pub weight_decay: f64,
    /// Coupled decay of the same.
    pub l2: f64,
    /// Matrices and embeddings.
    pub decayed: Group,
    /// The rest.
    pub plain: Group,
    /// Hidden matrices that Muon updates, where it does.
    pub muon: Option<Group>,
    /// What is minimised.
    pub loss: surprisal_loss::ObjectiveConfig,
    /// |V|.
    pub vocab_size: usize,
    /// Whether H(p) of the validation text is known.
    pub source_known: bool,
    /// bf16 is asked for and made by rounding: this machine is no faster with it.
    pub slow_bf16: bool,
    /// When it ends.
    pub length: Length,
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    /// After so many updates.
    Steps(usize),
    /// After so much training time. The learning rate then follows the clock, so such a run is not repeatable to the
    /// bit.
    Budget(Duration),
}

/// Some of the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// How many.
    pub tensors: u64,
    /// Numbers in them.
    pub values: u64,
}

/// One parameter in one step.
#[derive(Debug, Clone, Serialize)]
pub struct ParameterAudit {
    /// As in the model's file.
    pub name: String,
    /// Numbers in it.
    pub values: usize,
    /// ‖θ‖ before the step.
    pub weight_norm: f64,
    /// ‖∂L/∂θ‖ before clipping.
    pub gradient_norm: f64,
    /// ‖Δθ‖ of the step.
    pub update_norm: f64,
    /// What looks wrong, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flag: Option<&'static str>,
}

/// Where training stands after a step.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(clippy::struct_field_names, reason = "the number of a step is its step, in every record")]
pub struct Step {
    /// Steps made.
    pub step: usize,
    /// From 0 to 1.
    pub progress: f64,
    /// Mean −ln q of the training tokens since the last evaluation, in nats.
    pub train_nll: f64,
    /// The pace so far.
    pub tokens_per_second: f64,
    /// Time spent on steps so far.
    pub train_seconds: f64,
}

/// What an evaluation found.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Evaluated {
    /// Epochs done, with the part of the current one.
    pub epoch: f64,
    /// Steps made.
    pub step: usize,
    /// Mean of what was minimised since the last evaluation, in nats a token.
    pub objective: f64,
    /// Mean unsmoothed −ln q of the same tokens.
    pub train_nll: f64,
    /// Of the validation text.
    pub eval: Evaluation,
    /// Better than all before.
    pub best: bool,
    /// Time spent on steps.
    pub train_seconds: f64,
    /// The pace so far.
    pub tokens_per_second: f64,
    /// Training time still to come, at that pace.
    #[serde(skip)]
    pub left_seconds: f64,
}

/// The validation loss has turned.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Overfitting {
    /// Now.
    pub step: usize,
    /// When it was lowest.
    pub best_step: usize,
    /// What it was then.
    pub best_nats_per_token: f64,
    /// What it is.
    pub nats_per_token: f64,
    /// What training is at.
    pub train_nll: f64,
    /// Whether the best weights are those that the run ends with.
    #[serde(skip)]
    pub best_is_kept: bool,
    /// Evaluations since.
    #[serde(skip)]
    pub evaluations: usize,
}

/// A text that the model wrote.
#[derive(Debug, Clone, Serialize)]
pub struct Sampled {
    /// What it wrote.
    pub text: String,
    /// Of the draw.
    pub temperature: f64,
    /// Of the draw.
    pub seed: u64,
    /// The step that it was asked for at; none at the end of a run.
    #[serde(skip)]
    pub step: Option<usize>,
}

/// What a run comes to.
#[derive(Debug, Clone, Serialize)]
pub struct RunSummary {
    /// Of the validation text.
    pub eval: Evaluation,
    /// Numbers in its parameters, or n-grams.
    pub parameters: u64,
    /// Time spent on steps, or on counting.
    pub train_seconds: f64,
    /// Time spent on everything.
    pub wall_seconds: f64,
    /// The pace.
    pub tokens_per_second: f64,
    /// How often the text was seen.
    pub epochs: f64,
    /// Steps made.
    pub steps: usize,
    /// The run's folder.
    #[serde(serialize_with = "displayed")]
    pub run: PathBuf,
}

/// How a cell of a comparison ended.
#[derive(Debug, Clone, Serialize)]
pub struct TrialFinished {
    /// The variant's name.
    pub name: String,
    /// The run's.
    pub seed: u64,
    /// Its folder, in the comparison's.
    pub run: PathBuf,
    /// Why there is no model.
    pub diverged: Option<String>,
    /// Of the validation text.
    pub eval: serde_json::Value,
    /// How long it took.
    pub seconds: f64,
    /// Whether other seeds would give other models.
    #[serde(skip)]
    pub seeded: bool,
}

fn displayed<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// What a person should know. [`fmt::Display`] says it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Note {
    /// What was noticed of a text, of settings or of a model, in words.
    Text(String),
    /// The model that the run starts from brings its own tokens.
    OwnTokens {
        /// They are.
        own: TokenizerKind,
        /// The config asks for.
        asked: TokenizerKind,
    },
    /// A quarter of a text or more is unknown.
    Unknown {
        /// The text's name.
        text: String,
        /// To whom.
        model: String,
        /// How many.
        oov: u64,
        /// Of how many.
        tokens: u64,
    },
    /// The validation text is the training text.
    ValidationIsTraining,
    /// A text that looks like a config.
    LooksLikeConfig(PathBuf),
    /// A run that kept no hash of this text.
    NoHash(String),
    /// A checkpoint that is not whole.
    SkippedCheckpoint {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The run's patience is over.
    StoppedEarly {
        /// Evaluations without a better one.
        patience: usize,
    },
    /// The weights kept are not the last ones.
    KeptBest {
        /// Of which step they are.
        step: usize,
        /// Their loss, in nats a token.
        nats_per_token: f64,
    },
    /// The sample could not be ended.
    SampleEnded(String),
    /// Seeds were given to a comparison of counted models.
    SeedsUnused,
    /// How many cells of a comparison fit into memory at a time.
    MemoryForJobs(usize),
    /// A file of counts that does not say what they are of.
    UnknownPart(PathBuf),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(note) => f.write_str(note),
            Self::OwnTokens { own, asked } => write!(
                f,
                "the model of model.init_from brings its own tokens ({own}); tokenizer.kind = {asked} is not used"
            ),
            Self::Unknown { text, model, oov, tokens } => write!(
                f,
                "{} of {text} is unknown to {model}: {} of {} ({:.0} %). What follows says little of this text: \
                 all that is unknown is one token, <unk>",
                if 2 * oov > *tokens { "most" } else { "much" },
                thousands(*oov),
                many(*tokens, "token"),
                100.0 * *oov as f64 / *tokens as f64
            ),
            Self::ValidationIsTraining => {
                f.write_str("the validation text is the training text: its loss says nothing of other texts")
            }
            Self::LooksLikeConfig(path) => {
                write!(f, "{} is read as a text, but looks like a config", path.display())
            }
            Self::NoHash(name) => {
                write!(f, "the run has no hash of {name}: that it is still the same is not certain")
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
                "the model of step {step} had the lowest validation loss, {nats_per_token:.4} nats a token, and is the \
                 one kept"
            ),
            Self::SampleEnded(why) => write!(f, "the sample ends early: {why}"),
            Self::SeedsUnused => f.write_str("seeds change nothing: all variants are counted, once each"),
            Self::MemoryForJobs(jobs) => write!(f, "there is memory for {jobs} at a time"),
            Self::UnknownPart(path) => write!(
                f,
                "{} does not say which part of which text it is: whether parts are missing, there twice or in another \
                 order is not checked",
                path.display()
            ),
        }
    }
}
