//! Opening and accepting sessions; the conversation itself is a [`Link`] of bounded channels.

#[cfg(any(test, feature = "test-util"))]
pub mod faults;
#[cfg(any(test, feature = "test-util"))]
pub mod laws;
mod memory;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::digest::Digest;
use crate::error::{BoxError, ErrorKind};
use crate::principal::Principal;
use crate::secret::Secret;
use crate::session::{FromAgent, FromHub};

pub use self::memory::InMemoryTransport;

/// Envelopes that wait on a link; a sender waits when it is full, which is the back-pressure.
pub const LINK_CAPACITY: usize = 32;

/// The two ends of a session as one side sees them; dropping `tx` closes the other side's `rx`.
#[derive(Debug)]
pub struct Link<Out, In> {
    /// What this side says.
    pub tx: mpsc::Sender<Out>,
    /// What the other side says; it ends when the session does.
    pub rx: mpsc::Receiver<In>,
}

/// Makes the two ends of a link.
pub fn link<Out, In>() -> (Link<Out, In>, Link<In, Out>) {
    let (out_tx, out_rx) = mpsc::channel(LINK_CAPACITY);
    let (in_tx, in_rx) = mpsc::channel(LINK_CAPACITY);
    let near = Link {
        tx: out_tx,
        rx: in_rx,
    };
    let far = Link {
        tx: in_tx,
        rx: out_rx,
    };
    (near, far)
}

/// The agent's end of a session.
pub type AgentLink = Link<FromAgent, FromHub>;

/// The hub's end of a session.
pub type HubLink = Link<FromHub, FromAgent>;

/// Opens sessions to a hub.
#[async_trait]
pub trait Connector: Debug + Send + Sync + 'static {
    /// Opens a session with this token.
    ///
    /// # Errors
    /// [`TransportError`]; `Unauthenticated` for a token that the hub refuses, which no retry mends.
    ///
    /// # Cancel safety
    /// Dropping the future leaves no session behind.
    async fn connect(&self, token: &Secret) -> Result<AgentLink, TransportError>;

    /// Fetches the body of a blob that a command in hand names; the digest was checked.
    ///
    /// # Errors
    /// [`TransportError`]; `NotFound` when the hub does not offer it (any more).
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    async fn fetch(&self, token: &Secret, digest: Digest) -> Result<Bytes, TransportError>;
}

/// Accepts sessions of agents that have proved who they are.
#[async_trait]
pub trait Listener: Debug + Send + Sync + 'static {
    /// Waits for the next authenticated session; `None` once the listener is closed.
    ///
    /// # Cancel safety
    /// Dropping the future loses no session.
    async fn accept(&self) -> Option<Incoming>;
}

/// A session that was opened by somebody whose token is verified; its hello has yet to come.
#[derive(Debug)]
pub struct Incoming {
    /// Who.
    pub principal: Arc<Principal>,
    /// Where from, for people.
    pub address: String,
    /// The conversation.
    pub link: HubLink,
}

/// Offers blobs to agents: implemented by the hub, asked by listeners.
pub trait BlobOffer: Debug + Send + Sync + 'static {
    /// The body, if a command in hand of an agent that this principal may claim names it.
    fn offered(&self, principal: &Principal, digest: Digest) -> Option<Bytes>;
}

/// Why a session could not be opened or a body not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The other side has too much to do.
    #[error("the hub asks to come back later")]
    Busy {
        /// Wait at least this long.
        retry_after: std::time::Duration,
    },
    /// There is no such blob.
    #[error("the hub does not offer {digest}")]
    NotFound {
        /// Which.
        digest: Digest,
    },
    /// The other side broke the protocol.
    #[error("the hub broke the protocol: {problem}")]
    Protocol {
        /// How.
        problem: String,
    },
    /// The token is refused.
    #[error("the hub refuses the token")]
    Unauthenticated {
        /// Why.
        source: BoxError,
    },
    /// The other side cannot be reached.
    #[error("the hub cannot be reached")]
    Unreachable {
        /// Why.
        source: BoxError,
    },
}

impl TransportError {
    /// What can be done about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Busy { .. } => ErrorKind::Exhausted,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Protocol { .. } => ErrorKind::Internal,
            Self::Unauthenticated { .. } => ErrorKind::Unauthenticated,
            Self::Unreachable { .. } => ErrorKind::Unavailable,
        }
    }
}

#[async_trait]
impl<T: Connector + ?Sized> Connector for Arc<T> {
    async fn connect(&self, token: &Secret) -> Result<AgentLink, TransportError> {
        (**self).connect(token).await
    }

    async fn fetch(&self, token: &Secret, digest: Digest) -> Result<Bytes, TransportError> {
        (**self).fetch(token, digest).await
    }
}

#[async_trait]
impl<T: Listener + ?Sized> Listener for Arc<T> {
    async fn accept(&self) -> Option<Incoming> {
        (**self).accept().await
    }
}

impl<T: BlobOffer + ?Sized> BlobOffer for Arc<T> {
    fn offered(&self, principal: &Principal, digest: Digest) -> Option<Bytes> {
        (**self).offered(principal, digest)
    }
}
