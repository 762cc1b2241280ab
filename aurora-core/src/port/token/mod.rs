//! Verifying tokens, and getting one for oneself.

#[cfg(feature = "test-util")]
pub mod laws;
pub mod memory;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::error::{BoxError, ErrorKind};
use crate::principal::Principal;
use crate::secret::Secret;

/// Turns a token into the principal that it stands for.
#[async_trait]
pub trait TokenVerifier: Debug + Send + Sync + 'static {
    /// Verifies a token as of `now`.
    ///
    /// # Errors
    /// [`TokenError`]: `Unauthenticated` for every fault of the token, `Unavailable` when the keys
    /// cannot be had just now.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    async fn verify(&self, token: &Secret, now: Timestamp) -> Result<Arc<Principal>, TokenError>;
}

/// Gives a token that is good for a while, renewed in time.
#[async_trait]
pub trait TokenSource: Debug + Send + Sync + 'static {
    /// A token that is not about to end at `now`.
    ///
    /// # Errors
    /// [`TokenError`]: `Unauthenticated` when the issuer refuses the credential, `Unavailable` when it
    /// cannot be reached and the last token has ended.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    async fn token(&self, now: Timestamp) -> Result<Token, TokenError>;
}

/// A token and its end.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token itself.
    pub secret: Secret,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Why there is no principal, or no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The token or credential is not good; `reason` is from a closed set, for logs and metrics.
    #[error("the token is not accepted")]
    Unauthenticated {
        /// Which check failed: never shown to the one who presented it.
        reason: &'static str,
    },
    /// It cannot be told now.
    #[error("tokens cannot be checked or issued now")]
    Unavailable {
        /// Why.
        source: BoxError,
    },
}

impl TokenError {
    /// What can be done about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Unauthenticated { .. } => ErrorKind::Unauthenticated,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
        }
    }
}

#[async_trait]
impl<T: TokenVerifier + ?Sized> TokenVerifier for Arc<T> {
    async fn verify(&self, token: &Secret, now: Timestamp) -> Result<Arc<Principal>, TokenError> {
        (**self).verify(token, now).await
    }
}

#[async_trait]
impl<T: TokenSource + ?Sized> TokenSource for Arc<T> {
    async fn token(&self, now: Timestamp) -> Result<Token, TokenError> {
        (**self).token(now).await
    }
}
