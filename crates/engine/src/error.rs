//! Errors of the engine, with advice on what to do.

use std::fmt;
use std::path::PathBuf;

use surprisal_formats::{DIVERGED_HINT, hf::FOLDER_HINT};
use surprisal_loss::LossError;

/// The kind of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitKind {
    /// Invalid settings, or too little memory for them. No work was started.
    Usage,
    /// The work failed.
    Failed,
    /// The loss or the gradient norm is not finite.
    Diverged,
    /// Stopped by [`Control::stop`](crate::Control::stop).
    Stopped,
    /// The reader of a pipe has closed it.
    BrokenPipe,
}

/// Advice on an error, which a program words with its own options.
#[derive(Debug, Clone, PartialEq)]
pub enum Advice {
    /// Advice in words that name no option.
    Text(String),
    /// Write elsewhere: the words before and after the option for that.
    Elsewhere(&'static str, &'static str),
    /// Give each file another name.
    NameEach,
    /// Resume the existing run, or write elsewhere.
    ResumeOrElsewhere,
    /// Override `section.key`.
    Set {
        /// The key that was probably meant.
        key: String,
    },
    /// Write overrides in their form.
    SetForm,
    /// Set seeds and jobs of the comparison instead.
    OfComparison,
    /// Compare with this file.
    Compare(PathBuf),
    /// Train with this file.
    OneRun(PathBuf),
    /// Give the config before the text.
    ConfigFirst(PathBuf),
    /// Give different seeds.
    OtherSeeds,
    /// Set the seeds of the comparison.
    SeedsOfComparison,
    /// Make this number of runs at a time.
    JobsThatFit(usize),
    /// Write the comparison elsewhere.
    OtherComparison,
    /// Restore the run's texts.
    PutBack {
        /// The words before that.
        of: Option<&'static str>,
    },
    /// Allow more unknown tokens.
    MaxUnknown {
        /// Whether they are characters, which can be added to the model's vocabulary.
        characters: bool,
    },
    /// Smooth, or begin with another text.
    OtherStart,
    /// Draw `<unk>`, too, or smooth.
    DrawUnknown,
    /// Allow unknown words or characters.
    AllowUnknown(String),
    /// Set how names of special tokens in a text are read.
    LiteralSpecials,
    /// Set how bytes that are no text are read.
    InvalidBytes,
    /// Train with this config.
    TrainConfig,
    /// Give a folder in Hugging Face's layout.
    HuggingFaceFolder,
    /// Merge counts.
    Merge,
    /// Use fewer threads.
    FewerThreads,
    /// Continue the comparison, or name one of its runs.
    ComparisonRuns,
    /// Go on from the last good checkpoint with a lower learning rate.
    Tamer {
        /// The run's folder.
        run: PathBuf,
        /// A learning rate to try.
        lr: f64,
    },
    /// Start a new run, from this one's weights where its settings allow that.
    NewRun(PathBuf),
    /// Count again with other settings.
    CountAgain(PathBuf),
    /// Give the run more steps or time.
    MoreSteps,
    /// Restore the run's texts, or go on with them as they are.
    NameTexts,
    /// Resume the run in this folder.
    ResumeRun(PathBuf),
    /// Resume the run just stopped.
    Resume,
    /// Count the text in parts.
    CountLess,
    /// Allow more memory, or count fewer words.
    FewerWords,
    /// Put temporary files elsewhere.
    OtherTemp,
    /// Give a list of words.
    ListWords,
    /// Name all parts of one text in their order, or add up any counts.
    AllParts,
    /// Start again.
    Again,
    /// Start again with the same command, which resumes the work.
    Continue,
}

impl<T: Into<String>> From<T> for Advice {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

/// An error of the engine.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The kind.
    pub kind: ExitKind,
    /// The message, without a full stop.
    pub message: String,
    /// Advice on what to do.
    pub advice: Option<Advice>,
}

impl Error {
    /// An error in the request.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: ExitKind::Usage, message: message.into(), advice: None }
    }

    /// A failure of the work.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: ExitKind::Failed, message: message.into(), advice: None }
    }

    /// Adds advice.
    pub fn hint(mut self, advice: impl Into<Advice>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Puts a file, line or key before the message.
    pub fn within(mut self, location: impl fmt::Display) -> Self {
        self.message = format!("{location}: {}", self.message);
        self
    }
}

/// A result of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Messages of an error and its sources, joined by colons, without repetition.
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

/// The error of a model whose scores are NaN.
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
        let kind = if error.is_broken_pipe() { ExitKind::BrokenPipe } else { ExitKind::Failed };
        Self { kind, message: chain(&error), advice }
    }
}

impl From<surprisal_formats::Error> for Error {
    fn from(error: surprisal_formats::Error) -> Self {
        match error {
            surprisal_formats::Error::Store(error) => error.into(),
            surprisal_formats::Error::Text(error) => error.into(),
            error => {
                let advice = error.hint().map(Advice::from);
                Self { kind: ExitKind::Failed, message: chain(&error), advice }
            }
        }
    }
}

impl From<surprisal_text::Error> for Error {
    fn from(error: surprisal_text::Error) -> Self {
        use surprisal_text::Error as Text;
        let advice = match &error {
            surprisal_text::Error::LiteralSpecial { .. } => Some(Advice::LiteralSpecials),
            surprisal_text::Error::InvalidUtf8 { .. }
            | surprisal_text::Error::InvalidUtf16 { .. }
            | surprisal_text::Error::InvalidRecord { .. }
            | surprisal_text::Error::Nul { .. } => Some(Advice::InvalidBytes),
            error => error.hint().map(Advice::Text),
        };
        let is_setting = matches!(error, Text::Setting(_) | Text::Pattern { .. } | Text::TooLarge { .. });
        let kind = if is_setting { ExitKind::Usage } else { ExitKind::Failed };
        Self { kind, message: chain(&error), advice }
    }
}

impl From<LossError> for Error {
    fn from(error: LossError) -> Self {
        match error {
            // Logits that are not finite come from divergence.
            LossError::Row(_) | LossError::Element { option: "logits", .. } => {
                Self { kind: ExitKind::Diverged, ..no_numbers("this model") }
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

impl From<surprisal_model::Error> for Error {
    fn from(error: surprisal_model::Error) -> Self {
        use surprisal_model::Error as Model;
        // A failure of what the engine itself reads and writes on the model's behalf.
        match error {
            Model::Stream(inner) => match inner.downcast::<surprisal_store::Error>() {
                Ok(error) => (*error).into(),
                Err(inner) => match inner.downcast::<Self>() {
                    Ok(error) => *error,
                    Err(inner) => Self::failed(inner.to_string()),
                },
            },
            error => Self::failed(chain(&error)),
        }
    }
}

from_library!(candle_core::Error, serde_json::Error,);
