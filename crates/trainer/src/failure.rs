//! What a person reads when something goes wrong: a message, often a hint, and the exit code that goes with it.

use std::fmt;

use surprisal_engine::{self as engine, Advice, Error, PlaceAdvice};

use crate::wording::one_line;

/// Why the program stops before its work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line or the configuration is wrong: nothing was started (exit code 2).
    Usage,
    /// The work failed (exit code 1).
    Failed,
    /// Loss or gradient norm stopped being finite (exit code 3).
    Diverged,
    /// Stopped by a signal after a checkpoint (exit code 128 + the signal's number).
    Stopped(u8),
    /// Whoever read our standard output went away, which is not an error (exit code 0).
    ClosedPipe,
}

/// A failed command: message, hint, exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which exit code this is.
    pub kind: Kind,
    /// What happened, without a trailing full stop.
    pub message: String,
    /// What the person can do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A mistake on the command line or in the configuration.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, message: message.into(), hint: None }
    }

    /// Work that failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, message: message.into(), hint: None }
    }

    /// Adds what the person can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, stopped by `signal` if it was stopped.
    pub(crate) fn by_signal(mut self, signal: Option<u8>) -> Self {
        if let (Kind::Stopped(_), Some(signal)) = (self.kind, signal) {
            self.kind = Kind::Stopped(signal);
            self.message = self.message.replacen("stopped", "stopped by a signal", 1);
        }
        self
    }

    /// Of what was asked for by flags, for which `error` begins with names of its own.
    pub(crate) fn of_flags(error: Error, flags: &[(&str, &str)]) -> Self {
        let mut failure = Self::from(error);
        if let Some((name, flag)) = flags.iter().find(|(name, _)| failure.message.starts_with(name)) {
            failure.message = failure.message.replacen(name, flag, 1);
        }
        failure
    }

    /// The process's exit code.
    pub fn code(&self) -> u8 {
        match self.kind {
            Kind::ClosedPipe => 0,
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Diverged => 3,
            Kind::Stopped(signal) => 128 + signal,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", one_line(&self.message))?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {}", one_line(hint)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// A result whose error is for a person to read.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// What to do, by the names that this program has for it.
pub(crate) fn words(advice: Advice) -> String {
    let text = match advice {
        Advice::Set { key } => return format!("did you mean --set {key}=…?"),
        Advice::SetForm => "for example --set train.epochs=3 or --set tokenizer.kind=bpe",
        Advice::OfComparison => "compare has --seeds and --jobs for it",
        Advice::Compare(path) => return format!("surprisal compare {}", path.display()),
        Advice::OneRun(path) => {
            return format!(
                "surprisal train {} makes the one run of it; configs/compare_mle_vs_smoothing.toml shows how a \
                 comparison is written",
                path.display()
            );
        }
        Advice::ConfigFirst(path) => {
            return format!(
                "name the config first, then the texts: surprisal compare CONFIG.toml {}",
                path.display()
            );
        }
        Advice::OtherSeeds => "give different seeds, for example --seeds 1,2,3",
        Advice::SeedsOfComparison => "name the seeds there: seeds = [1, 2, 3] in [compare], or --seeds 1,2,3",
        Advice::JobsThatFit(jobs) => return format!("--jobs {jobs} fits"),
        Advice::OtherComparison => "give another --out, or remove the old comparison",
        Advice::PutBack { of } => {
            let before = of.map_or_else(String::new, |of| format!("{of}: "));
            return format!(
                "{before}put them back as they were; or score others that were held out: surprisal eval RUN TEXT"
            );
        }
        Advice::MaxUnknown => {
            "train a new model on this text; --set model.max_unknown=1 goes on all the same, with <unk> in their place"
        }
        Advice::OtherPlace(place) => match place {
            PlaceAdvice::NameEach => "give each --out a name of its own",
            PlaceAdvice::Name => "give another name with --out",
            PlaceAdvice::NameOrRemove => "give another name with --out, or remove that file first",
            PlaceAdvice::Folder => "write to another folder with --out",
            PlaceAdvice::NewFolder => "give another folder with --out",
            PlaceAdvice::Outside => "write outside of that folder with --out",
            PlaceAdvice::RunFolder => {
                "bring back metrics.jsonl, config.toml and the texts as they were; or train into another folder with \
                 --out"
            }
            PlaceAdvice::DiskFull => "the disk is full: free some space, or write elsewhere with --out",
            PlaceAdvice::QuotaFull => {
                "your disk quota is used up: free some space, or write elsewhere with --out"
            }
            PlaceAdvice::ReadOnly => "the file system is read-only: write elsewhere with --out",
            PlaceAdvice::ResumeOrFolder => {
                "continue that run with --resume, or choose another folder with --out"
            }
            PlaceAdvice::NameOrMove => "choose another name with --out, or move away what is there",
            PlaceAdvice::WaitOrFolder => {
                "wait for it to finish or stop it, or choose another folder with --out"
            }
        },
        Advice::OtherStart => "smooth its counts (add_k), or try another --prompt or --seed",
        Advice::AllowUnknown(lacks) => {
            return format!("its text had no such {lacks}; --allow-unknown goes on with <unk> in its place");
        }
        Advice::TrainConfig => "train it: surprisal train CONFIG.toml",
        Advice::StartFrom => "a run can start from it: surprisal train TEXT --set model.init_from=FOLDER",
        Advice::Merge => "merge them into one: surprisal merge COUNTS --out MODEL.ngram",
        Advice::ComparisonRuns => {
            "name one of its runs: the folders in cells/; surprisal compare CONFIG.toml --out FOLDER goes on with it, and \
             writes its report"
        }
        Advice::Tamer { run, lr } => {
            return format!(
                "lower optim.lr, lengthen optim.warmup, or set optim.grad_clip: surprisal train {}/config.toml --set \
                 optim.lr={lr:.1e} --out NEW",
                run.display()
            );
        }
        Advice::ResumeRun(path) => {
            return format!("surprisal train --resume --out {} goes on with it", path.display());
        }
        Advice::Resume => "--resume with the same --out goes on from here",
        Advice::Again => "the same command begins again",
        Advice::GoOn => "the same command goes on from here",
        Advice::FewerThreads => {
            "this user or this shell may have no more threads (ulimit -u) or no memory for them (ulimit -v): ask for \
             fewer with --threads; --threads 1 needs none but the program's own"
        }
        Advice::Text(text) => return text,
    };
    text.to_owned()
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match error.kind {
            engine::Kind::Usage => Kind::Usage,
            engine::Kind::Failed => Kind::Failed,
            engine::Kind::Diverged => Kind::Diverged,
            // Which signal it was, those know who listened for it.
            engine::Kind::Stopped => Kind::Stopped(0),
            engine::Kind::ClosedPipe => Kind::ClosedPipe,
        };
        Self { kind, message: error.message, hint: error.advice.map(words) }
    }
}

impl From<Failure> for Error {
    /// For what the engine calls back, and gives back as it was.
    fn from(failure: Failure) -> Self {
        let kind = match failure.kind {
            Kind::Usage => engine::Kind::Usage,
            Kind::Failed => engine::Kind::Failed,
            Kind::Diverged => engine::Kind::Diverged,
            Kind::Stopped(_) => engine::Kind::Stopped,
            Kind::ClosedPipe => engine::Kind::ClosedPipe,
        };
        Self { kind, message: failure.message, advice: failure.hint.map(Advice::Text) }
    }
}

/// What the engine has words for.
macro_rules! by_engine {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Error::from(error).into()
            }
        }
    )+};
}

by_engine!(
    engine::store::Error,
    engine::formats::Error,
    engine::text::Error,
    engine::model::Error,
    engine::loss::LossError,
    surprisal_platform::threads::PoolError,
    serde_json::Error,
);

impl From<std::io::Error> for Failure {
    /// For our own standard output; files carry their paths in the errors of the crates that open them.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self { kind: Kind::ClosedPipe, message: "standard output was closed".into(), hint: None };
        }
        Self::failed(format!("cannot write to standard output: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        assert_eq!(Failure::failed("x").code(), 1);
        assert_eq!(Failure::usage("x").code(), 2);
        assert_eq!(Failure { kind: Kind::Diverged, message: String::new(), hint: None }.code(), 3);
        assert_eq!(Failure { kind: Kind::Stopped(15), message: String::new(), hint: None }.code(), 143);
    }
}
