//! What every error of the workspace has in common: a kind to branch on, a chain to read.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A boxed cause of an error.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// What a caller can do about an error; people read [`ErrorChain`] instead.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ErrorKind {
    /// The caller gave up or the work was cancelled.
    Cancelled,
    /// The state is not what the caller assumed; read again and decide anew.
    Conflict,
    /// The time allowed for the work ran out.
    Deadline,
    /// The caller is known but may not do this.
    Denied,
    /// A limit was reached; later it may work.
    Exhausted,
    /// Something broke that the caller cannot mend.
    Internal,
    /// The request itself is wrong and stays wrong.
    Invalid,
    /// There is no such thing, or the caller may not know of it.
    NotFound,
    /// The other side cannot be reached now; later it may work.
    Unavailable,
    /// Nobody could be recognised by the credential.
    Unauthenticated,
    /// The other side does not have this ability.
    Unsupported,
}

impl ErrorKind {
    /// Tells whether the same request may succeed later without a change.
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Deadline | Self::Exhausted | Self::Unavailable)
    }
}

/// Displays an error and all its sources on one line, outermost first.
///
/// ```
/// use aurora_core::error::ErrorChain;
/// let error = std::io::Error::other("the disk is full");
/// assert_eq!(ErrorChain(&error).to_string(), "the disk is full");
/// ```
#[derive(Debug)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printed = self.0.to_string();
        f.write_str(&printed)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Transparent wrappers repeat their source's text: once is enough.
            if text != printed {
                write!(f, ": {text}")?;
            }
            printed = text;
            source = cause.source();
        }
        Ok(())
    }
}
