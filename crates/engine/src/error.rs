//! What goes wrong: what happened, in facts, and what can be done about it.

use std::fmt;
use std::path::PathBuf;

use surprisal_formats::{DIVERGED_HINT, hf::FOLDER_HINT};
use surprisal_loss::LossError;

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for cannot be: settings, or too little memory for them. Nothing was started.
    Usage,
    /// The work failed.
    Failed,
    /// Loss or gradient norm stopped being finite.
    Diverged,
    /// [`Control::stop`](crate::Control::stop) ended the work.
    Stopped,
    /// Whoever was written to, by a pipe, went away.
    ClosedPipe,
}

/// What can be done about an error. A program says it in words of its own, with the options by which it is done there.
#[derive(Debug, Clone, PartialEq)]
pub enum Advice {
    /// In words, which name no option.
    Text(String),
    /// To write elsewhere: what is said before the option for that, and after it.
    Elsewhere(&'static str, &'static str),
    /// Another name for each file.
    NameEach,
    /// To go on with the run that is there, or to write elsewhere.
    ResumeOrElsewhere,
    /// An override that says `section.key`.
    Set {
        /// What was probably meant.
        key: String,
    },
    /// How overrides are written.
    SetForm,
    /// What a comparison has of its own: seeds and jobs.
    OfComparison,
    /// The file is that of a comparison.
    Compare(PathBuf),
    /// The file is that of one run.
    OneRun(PathBuf),
    /// The config comes before the text.
    ConfigFirst(PathBuf),
    /// Seeds that differ.
    OtherSeeds,
    /// Where the seeds of a comparison are said.
    SeedsOfComparison,
    /// So many cells at a time fit into memory.
    JobsThatFit(usize),
    /// The comparison's folder has other runs.
    OtherComparison,
    /// The run's texts are to be put back.
    PutBack {
        /// What is said first.
        of: Option<&'static str>,
    },
    /// To go on although the text is unknown to the model.
    MaxUnknown,
    /// To smooth, or to begin elsewhere.
    OtherStart,
    /// To let unknown words through.
    AllowUnknown(String),
    /// To read names of special tokens in a text in another way.
    LiteralSpecials,
    /// To train what a file says.
    TrainConfig,
    /// To start a run from a folder.
    StartFrom,
    /// To give the folder of a model as Hugging Face's libraries keep it.
    HuggingFaceFolder,
    /// To merge counts.
    Merge,
    /// Fewer threads, or none beside the caller's.
    FewerThreads,
    /// To go on with a comparison, or to name one of its runs.
    ComparisonRuns,
    /// The run diverged: to train a calmer one.
    Tamer {
        /// The run's folder.
        run: PathBuf,
        /// A learning rate to try.
        lr: f64,
    },
    /// To go on with the run in this folder.
    ResumeRun(PathBuf),
    /// To go on with the run just stopped.
    Resume,
    /// To count a text in parts, or fewer tokens at a time.
    CountLess,
    /// To name all parts of one text in their order, or to add up any.
    AllParts,
    /// To do the same again.
    Again,
    /// To do the same again, which goes on from here.
    GoOn,
}

impl<T: Into<String>> From<T> for Advice {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

/// Why the engine stops before its work is done.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind of failure.
    pub kind: Kind,
    /// What happened, without a trailing full stop.
    pub message: String,
    /// What can be done about it.
    pub advice: Option<Advice>,
}

impl Error {
    /// Something was asked for that cannot be.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, message: message.into(), advice: None }
    }

    /// Work that failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, message: message.into(), advice: None }
    }

    /// Adds what can be done about it.
    pub fn hint(mut self, advice: impl Into<Advice>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// The same with other words before its own.
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

/// A result of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error and its sources, joined by colons, each said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let text = inner.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        source = inner.source();
    }
    message
}

/// What to say of scores that are NaN.
pub fn no_numbers(model: &str) -> Error {
    Error::failed(format!("{model} gives no numbers: its scores are NaN or infinite")).hint(DIVERGED_HINT)
}

macro_rules! from_library {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::failed(chain(&error))
            }
        }
    )+};
}

impl From<surprisal_store::Error> for Error {
    fn from(error: surprisal_store::Error) -> Self {
        use std::io::ErrorKind;

        use surprisal_store::Error as Store;
        let elsewhere = |words| Some(Advice::Elsewhere(words, ""));
        let advice = match &error {
            Store::Io { path, .. } if path.is_symlink() && !path.exists() => None,
            Store::Io { reason, .. } => match reason.kind() {
                ErrorKind::StorageFull => elsewhere("the disk is full: free some space, or write elsewhere"),
                ErrorKind::QuotaExceeded => {
                    elsewhere("your disk quota is used up: free some space, or write elsewhere")
                }
                ErrorKind::ReadOnlyFilesystem => elsewhere("the file system is read-only: write elsewhere"),
                _ => None,
            },
            Store::Missing { hint: FOLDER_HINT, .. } => Some(Advice::HuggingFaceFolder),
            Store::Occupied { path } if path.join("config.toml").is_file() => Some(Advice::ResumeOrElsewhere),
            Store::Occupied { .. } => {
                Some(Advice::Elsewhere("choose another name", ", or move away what is there"))
            }
            Store::Locked { .. } => elsewhere("wait for it to finish or stop it, or choose another folder"),
            _ => None,
        };
        let advice = advice.or(error.hint().map(Advice::from));
        let kind = if error.is_broken_pipe() { Kind::ClosedPipe } else { Kind::Failed };
        Self { kind, message: chain(&error), advice }
    }
}

impl From<surprisal_formats::Error> for Error {
    fn from(error: surprisal_formats::Error) -> Self {
        match error {
            surprisal_formats::Error::Store(error) => error.into(),
            error => {
                let advice = error.hint().map(Advice::from);
                Self { kind: Kind::Failed, message: chain(&error), advice }
            }
        }
    }
}

impl From<surprisal_text::Error> for Error {
    fn from(error: surprisal_text::Error) -> Self {
        let advice = match &error {
            surprisal_text::Error::LiteralSpecial { .. } => Some(Advice::LiteralSpecials),
            error => error.hint().map(Advice::Text),
        };
        Self { kind: Kind::Failed, message: chain(&error), advice }
    }
}

impl From<LossError> for Error {
    fn from(error: LossError) -> Self {
        match error {
            // Logits that are no numbers are what divergence looks like from inside the loss.
            LossError::Row(_) | LossError::Element { option: "logits", .. } => {
                Self { kind: Kind::Diverged, ..no_numbers("this model") }
            }
            error => Self::failed(chain(&error)),
        }
    }
}

impl From<surprisal_platform::threads::PoolError> for Error {
    fn from(error: surprisal_platform::threads::PoolError) -> Self {
        Self::failed(error.to_string()).hint(Advice::FewerThreads)
    }
}

from_library!(surprisal_model::Error, candle_core::Error, serde_json::Error,);
