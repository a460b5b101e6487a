//! Errors of requests: a status with a message in words.

use hyper::StatusCode;
use surprisal_engine::{Advice, Error, ExitKind};

/// The error of a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

pub(crate) type Result<T> = std::result::Result<T, Problem>;

impl Problem {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), hint: None }
    }

    /// An error in what was sent.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// The problem as an error of the program, before there is a page.
    pub(crate) fn into_error(self) -> Error {
        let error = Error::failed(self.message);
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({ "error": self.message, "hint": self.hint })
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match error.kind {
            ExitKind::Usage => StatusCode::BAD_REQUEST,
            ExitKind::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            ExitKind::Failed | ExitKind::Diverged | ExitKind::BrokenPipe => StatusCode::UNPROCESSABLE_ENTITY,
        };
        // Other advice is about options, which a page has not.
        let hint = match error.advice {
            Some(Advice::Text(text)) => Some(text),
            _ => None,
        };
        Self { status, message: error.message, hint }
    }
}

macro_rules! from_engine {
    ($($error:ty),+) => {
        $(impl From<$error> for Problem {
            fn from(error: $error) -> Self {
                Error::from(error).into()
            }
        })+
    };
}

from_engine!(
    surprisal_engine::model::Error,
    surprisal_engine::text::Error,
    surprisal_engine::store::Error,
    surprisal_engine::loss::LossError,
    serde_json::Error
);
