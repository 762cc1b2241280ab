//! Sessions inside one process: a connector and a listener over channels.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use super::{AgentLink, BlobOffer, Connector, Incoming, Listener, TransportError, link};
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::port::clock::Clock;
use crate::port::token::{TokenError, TokenVerifier};
use crate::principal::Principal;
use crate::secret::Secret;

/// Sessions that wait to be accepted; one more is told to come back later.
const ACCEPT_CAPACITY: usize = 256;

/// Both ends of a transport in one process; tokens are verified as at a socket.
///
/// Clones share everything. Faults come from the wrappers in `faults`.
#[derive(Clone, Debug)]
pub struct InMemoryTransport {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    verifier: Arc<dyn TokenVerifier>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Incoming>,
    offer: Option<Arc<dyn BlobOffer>>,
    closed: bool,
}

impl InMemoryTransport {
    /// Listens; offers no blobs yet.
    pub fn new(verifier: impl TokenVerifier, clock: impl Clock) -> Self {
        Self {
            inner: Arc::new(Inner {
                verifier: Arc::new(verifier),
                clock: Arc::new(clock),
                state: Mutex::default(),
                arrived: Notify::new(),
            }),
        }
    }

    /// Answers fetches from here.
    pub fn offer(&self, offer: impl BlobOffer) {
        self.state().offer = Some(Arc::new(offer));
    }

    /// Stops listening: sessions that wait are dropped, new ones find nobody.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.waiting.clear();
        state.offer = None;
        drop(state);
        self.inner.arrived.notify_waiters();
    }

    /// Listens again.
    pub fn reopen(&self) {
        self.state().closed = false;
    }

    async fn principal(&self, token: &Secret) -> Result<Arc<Principal>, TransportError> {
        if self.state().closed {
            return Err(nobody_listens());
        }
        let now = self.inner.clock.now();
        self.inner.verifier.verify(token, now).await.map_err(refusal)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Connector for InMemoryTransport {
    async fn connect(&self, token: &Secret) -> Result<AgentLink, TransportError> {
        let principal = self.principal(token).await?;
        let (near, far) = link();
        let mut state = self.state();
        if state.closed {
            return Err(nobody_listens());
        }
        if state.waiting.len() >= ACCEPT_CAPACITY {
            return Err(TransportError::Busy {
                retry_after: Duration::from_secs(1),
            });
        }
        state.waiting.push_back(Incoming {
            principal,
            address: "in process".into(),
            link: far,
        });
        drop(state);
        self.inner.arrived.notify_one();
        Ok(near)
    }

    async fn fetch(&self, token: &Secret, digest: Digest) -> Result<Bytes, TransportError> {
        let principal = self.principal(token).await?;
        let offer = self.state().offer.clone();
        offer
            .and_then(|offer| offer.offered(&principal, digest))
            .ok_or(TransportError::NotFound { digest })
    }
}

#[async_trait]
impl Listener for InMemoryTransport {
    async fn accept(&self) -> Option<Incoming> {
        loop {
            let arrived = self.inner.arrived.notified();
            {
                let mut state = self.state();
                if state.closed {
                    return None;
                }
                if let Some(incoming) = state.waiting.pop_front() {
                    if !state.waiting.is_empty() {
                        self.inner.arrived.notify_one();
                    }
                    return Some(incoming);
                }
            }
            arrived.await;
        }
    }
}

fn nobody_listens() -> TransportError {
    TransportError::Unreachable {
        source: "nobody listens".into(),
    }
}

fn refusal(error: TokenError) -> TransportError {
    match error.kind() {
        ErrorKind::Unauthenticated => TransportError::Unauthenticated { source: error.into() },
        _ => TransportError::Unreachable { source: error.into() },
    }
}
