//! What goes wrong: what happened, in facts, and what can be done about it.

use std::fmt;
use std::path::PathBuf;

use surprisal_formats::DIVERGED;
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

/// What can be done about an error. [`fmt::Display`] says it in words of its own; a program that knows by which of its options
/// it is done says it in its own words instead.
#[derive(Debug, Clone, PartialEq)]
pub enum Advice {
    /// In words.
    Text(String),
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
    /// Another place to write to; the words say why or how else.
    OtherPlace(PlaceAdvice),
    /// To smooth, or to begin elsewhere.
    OtherStart,
    /// To let unknown words through.
    AllowUnknown(String),
    /// To train what a file says.
    TrainConfig,
    /// To start a run from a folder.
    StartFrom,
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
    /// To do the same again.
    Again,
    /// To do the same again, which goes on from here.
    GoOn,
}

/// Why another place is better, and what else helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceAdvice {
    /// Another name for each file.
    NameEach,
    /// Another name.
    Name,
    /// Another name, or to remove the file.
    NameOrRemove,
    /// Another folder than a model's.
    Folder,
    /// A new folder.
    NewFolder,
    /// Outside of a folder of texts.
    Outside,
    /// Another folder for a run that is another one, or its record brought back.
    RunFolder,
    /// Elsewhere: the disk is full.
    DiskFull,
    /// Elsewhere: the user's share of the disk is used up.
    QuotaFull,
    /// Elsewhere: nothing can be written here.
    ReadOnly,
    /// To go on with the run that is there, or another folder.
    ResumeOrFolder,
    /// Another name, or to move what is there.
    NameOrMove,
    /// To wait for whoever writes there, or another folder.
    WaitOrFolder,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Text(text) => text,
            Self::Set { key } => return write!(f, "did you mean {key}=…?"),
            Self::SetForm => "for example train.epochs=3 or tokenizer.kind=bpe",
            Self::OfComparison => "a comparison has seeds and jobs for it",
            Self::Compare(path) => return write!(f, "compare what {} says", path.display()),
            Self::OneRun(path) => {
                return write!(f, "{} makes one run; a comparison has [[variant]] sections", path.display());
            }
            Self::ConfigFirst(_) => "the config comes first, then the texts",
            Self::OtherSeeds => "give different seeds, for example 1, 2, 3",
            Self::SeedsOfComparison => "name the seeds there: seeds = [1, 2, 3] in [compare]",
            Self::JobsThatFit(jobs) => return write!(f, "{jobs} at a time fit"),
            Self::OtherComparison => "choose another folder, or remove the old comparison",
            Self::PutBack { of } => {
                let before = of.map_or_else(String::new, |of| format!("{of}: "));
                return write!(f, "{before}put them back as they were; or score others that were held out");
            }
            Self::MaxUnknown => {
                "train a new model on this text; model.max_unknown = 1 goes on all the same, with <unk> in their place"
            }
            Self::OtherPlace(place) => match place {
                PlaceAdvice::NameEach => "give each file a name of its own",
                PlaceAdvice::Name => "give another name",
                PlaceAdvice::NameOrRemove => "give another name, or remove that file first",
                PlaceAdvice::Folder => "write to another folder",
                PlaceAdvice::NewFolder => "give another folder",
                PlaceAdvice::Outside => "write outside of that folder",
                PlaceAdvice::RunFolder => {
                    "bring back metrics.jsonl, config.toml and the texts as they were; or train into another folder"
                }
                PlaceAdvice::DiskFull => "the disk is full: free some space, or write elsewhere",
                PlaceAdvice::QuotaFull => "your disk quota is used up: free some space, or write elsewhere",
                PlaceAdvice::ReadOnly => "the file system is read-only: write elsewhere",
                PlaceAdvice::ResumeOrFolder => "go on with that run, or choose another folder",
                PlaceAdvice::NameOrMove => "choose another name, or move away what is there",
                PlaceAdvice::WaitOrFolder => "wait for it to finish or stop it, or choose another folder",
            },
            Self::OtherStart => "smooth its counts (add_k), or try another prompt or seed",
            Self::AllowUnknown(lacks) => return write!(f, "its text had no such {lacks}"),
            Self::TrainConfig => "train what it says",
            Self::StartFrom => "a run can start from it: model.init_from",
            Self::Merge => "merge them into one model",
            Self::FewerThreads => {
                "this user or this shell may have no more threads or no memory for them: ask for fewer; one needs none \
                 but the caller's own"
            }
            Self::ComparisonRuns => "name one of its runs: the folders in cells/",
            Self::Tamer { lr, .. } => {
                return write!(f, "lower optim.lr ({lr:.1e}), lengthen optim.warmup, or set optim.grad_clip");
            }
            Self::ResumeRun(path) => return write!(f, "go on with the run in {}", path.display()),
            Self::Resume => "the run goes on from here when it is resumed",
            Self::Again => "the same begins again",
            Self::GoOn => "the same goes on from here",
        };
        f.write_str(words)
    }
}

impl From<PlaceAdvice> for Advice {
    fn from(advice: PlaceAdvice) -> Self {
        Self::OtherPlace(advice)
    }
}

impl From<&str> for Advice {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Advice {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Why the engine stops before its work is done.
#[derive(Debug, Clone, PartialEq)]
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.advice {
            Some(advice) => write!(f, "{} ({advice})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}

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
    Error::failed(format!("{model} gives no numbers: its scores are NaN or infinite")).hint(DIVERGED)
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
        let place = match &error {
            Store::Io { path, .. } if path.is_symlink() && !path.exists() => None,
            Store::Io { reason, .. } => match reason.kind() {
                ErrorKind::StorageFull => Some(PlaceAdvice::DiskFull),
                ErrorKind::QuotaExceeded => Some(PlaceAdvice::QuotaFull),
                ErrorKind::ReadOnlyFilesystem => Some(PlaceAdvice::ReadOnly),
                _ => None,
            },
            Store::Occupied { path } if path.join("config.toml").is_file() => {
                Some(PlaceAdvice::ResumeOrFolder)
            }
            Store::Occupied { .. } => Some(PlaceAdvice::NameOrMove),
            Store::Locked { .. } => Some(PlaceAdvice::WaitOrFolder),
            _ => None,
        };
        let advice = place.map(Advice::OtherPlace).or(error.hint().map(Advice::from));
        let kind = if error.is_closed_pipe() { Kind::ClosedPipe } else { Kind::Failed };
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
        Self { kind: Kind::Failed, message: chain(&error), advice: error.hint().map(Advice::Text) }
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
