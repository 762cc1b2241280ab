//! Why a request of the client failed.

use aurora_core::error::{BoxError, ErrorKind};
use aurora_core::port::token::TokenError;

use super::super::problem::ProblemBody;

/// Why there is no answer, or another one than hoped for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The request cannot be made.
    #[error("{problem}")]
    Invalid {
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The API answered that it did not do it.
    #[error("{}", body.detail)]
    Refused {
        /// What it says.
        body: Box<ProblemBody>,
    },
    /// There is no token to show.
    #[error("there is no token for the API")]
    Token {
        /// Why.
        #[from]
        source: TokenError,
    },
    /// The API cannot be reached.
    #[error("the API cannot be reached")]
    Unreachable {
        /// Why.
        source: BoxError,
    },
    /// The answer is not one of this API: another program, or another version of it.
    #[error("the answer cannot be read")]
    Unreadable {
        /// Why.
        source: BoxError,
    },
}

impl ClientError {
    /// What can be done about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } => ErrorKind::Invalid,
            Self::Refused { body } => kind_of(body.status),
            Self::Token { source } => source.kind(),
            Self::Unreachable { .. } => ErrorKind::Unavailable,
            Self::Unreadable { .. } => ErrorKind::Internal,
        }
    }

    /// What the API said, where it said something.
    pub const fn problem(&self) -> Option<&ProblemBody> {
        match self {
            Self::Refused { body } => Some(body),
            _ => None,
        }
    }

    pub(super) fn unreachable(error: reqwest::Error) -> Self {
        // The URL says nothing that the caller does not know.
        Self::Unreachable {
            source: error.without_url().into(),
        }
    }

    pub(super) fn refused(status: u16, body: &[u8]) -> Self {
        match serde_json::from_slice::<ProblemBody>(body) {
            Ok(body) => Self::Refused { body: Box::new(body) },
            // A proxy on the way answered, or something else than Aurora is there.
            Err(_) => {
                let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
                let source = format!("HTTP {status} without a problem body: {text}").into();
                if matches!(kind_of(status), ErrorKind::Unavailable | ErrorKind::Deadline) {
                    return Self::Unreachable { source };
                }
                Self::Unreadable { source }
            }
        }
    }
}

const fn kind_of(status: u16) -> ErrorKind {
    match status {
        401 => ErrorKind::Unauthenticated,
        403 => ErrorKind::Denied,
        404 | 405 => ErrorKind::NotFound,
        408 | 504 => ErrorKind::Deadline,
        409 => ErrorKind::Conflict,
        429 => ErrorKind::Exhausted,
        501 => ErrorKind::Unsupported,
        502 | 503 => ErrorKind::Unavailable,
        400..=499 => ErrorKind::Invalid,
        _ => ErrorKind::Internal,
    }
}
