//! What a person reads when something goes wrong: a message, often a hint, and the exit code that goes with it.

use std::fmt;

use surprisal_formats::DIVERGED;
use surprisal_loss::LossError;
use surprisal_store::place::Place;

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

/// The error and its sources, joined by colons, each said once.
fn chain(error: &dyn std::error::Error) -> String {
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
pub(crate) fn no_numbers(model: &str) -> Failure {
    Failure::failed(format!("{model} gives no numbers: its scores are NaN or infinite")).hint(DIVERGED)
}

macro_rules! from_library {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::failed(chain(&error))
            }
        }
    )+};
}

impl From<surprisal_store::Error> for Failure {
    fn from(error: surprisal_store::Error) -> Self {
        let hint = error.hint().map(str::to_owned);
        // By `--out /dev/stdout`.
        let closed = matches!(&error, surprisal_store::Error::Io { reason, path, .. }
            if reason.kind() == std::io::ErrorKind::BrokenPipe
                && Place::of(path).is_ok_and(|place| place.is_standard_output()));
        Self { kind: if closed { Kind::ClosedPipe } else { Kind::Failed }, message: chain(&error), hint }
    }
}

impl From<surprisal_formats::Error> for Failure {
    fn from(error: surprisal_formats::Error) -> Self {
        match error {
            surprisal_formats::Error::Store(error) => error.into(),
            error => {
                let hint = error.hint().map(str::to_owned);
                Self { kind: Kind::Failed, message: chain(&error), hint }
            }
        }
    }
}

impl From<surprisal_text::Error> for Failure {
    fn from(error: surprisal_text::Error) -> Self {
        Self { kind: Kind::Failed, message: chain(&error), hint: error.hint() }
    }
}

impl From<surprisal_platform::threads::PoolError> for Failure {
    fn from(error: surprisal_platform::threads::PoolError) -> Self {
        Self::failed(error.to_string()).hint(
            "this user or this shell may have no more threads (ulimit -u) or no memory for them (ulimit -v): ask for \
             fewer with --threads; --threads 1 needs none but the program's own",
        )
    }
}

impl From<LossError> for Failure {
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

from_library!(surprisal_model::Error, candle_core::Error, serde_json::Error,);

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
