//! Each law of transports is seen to fail on a transport with the flaw that it is about.
#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aurora_core::digest::Digest;
use aurora_core::port::clock::InMemoryClock;
use aurora_core::port::token::memory::InMemoryTokens;
use aurora_core::port::transport::faults::{Fault, FaultyConnector};
use aurora_core::port::transport::laws::{self, LawBlobs, TransportUnderTest};
use aurora_core::port::transport::{AgentLink, Connector, InMemoryTransport, Link, TransportError, link};
use aurora_core::principal::{Principal, PrincipalKind};
use aurora_core::secret::Secret;
use aurora_core::tasks::Tasks;
use aurora_core::tenant::Tenant;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

/// What is wrong with a transport.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flaw {
    /// Frames are doubled now and then.
    Stutters,
    /// The other side does not learn that a link ended.
    Lingers,
    /// Takes any number of frames.
    Hoards,
    /// Takes any token for a network fault.
    Vague,
    /// Cuts bodies short.
    Truncates,
    /// Has a body for every digest.
    Invents,
}

#[derive(Debug)]
struct Flawed {
    inner: FaultyConnector<InMemoryTransport>,
    flaw: Flaw,
    tasks: Tasks,
    held: std::sync::Mutex<Vec<Box<dyn std::any::Any + Send>>>,
}

#[async_trait]
impl Connector for Flawed {
    async fn connect(&self, token: &Secret) -> Result<AgentLink, TransportError> {
        let connected = self.inner.connect(token).await;
        match self.flaw {
            Flaw::Vague => connected.map_err(|_| TransportError::Unreachable { source: "no".into() }),
            Flaw::Lingers => {
                let Link { tx, rx } = connected?;
                let (near, far) = link();
                let (mut outgoing, mut incoming) = (far.rx, rx);
                // Both ends are held open for ever.
                let (kept_tx, kept_back) = (tx.clone(), far.tx.clone());
                self.held.lock().unwrap().push(Box::new((kept_tx, kept_back)));
                self.tasks.spawn(|_| async move {
                    while let Some(frame) = outgoing.recv().await {
                        let _ = tx.send(frame).await;
                    }
                });
                self.tasks.spawn(|_| async move {
                    while let Some(frame) = incoming.recv().await {
                        let _ = far.tx.send(frame).await;
                    }
                    std::future::pending::<()>().await;
                });
                Ok(near)
            }
            Flaw::Hoards => {
                let Link { tx, rx } = connected?;
                let (near_tx, mut outgoing) = mpsc::channel(1_000_000);
                self.tasks.spawn(|_| async move {
                    while let Some(frame) = outgoing.recv().await {
                        let _ = tx.send(frame).await;
                    }
                });
                Ok(Link { tx: near_tx, rx })
            }
            _ => connected,
        }
    }

    async fn fetch(&self, token: &Secret, digest: Digest) -> Result<Bytes, TransportError> {
        let fetched = self.inner.fetch(token, digest).await;
        match self.flaw {
            Flaw::Truncates => fetched.map(|body| body.slice(..body.len() / 2)),
            Flaw::Invents => Ok(fetched.unwrap_or_default()),
            _ => fetched,
        }
    }
}

fn flawed(flaw: Flaw) -> TransportUnderTest {
    let tokens = InMemoryTokens::new();
    let clock = InMemoryClock::starting_at(Timestamp::UNIX_EPOCH);
    let transport = InMemoryTransport::new(tokens.clone(), clock);
    transport.offer(LawBlobs);
    let frames = AtomicU64::new(0);
    let wire = FaultyConnector::new(transport.clone(), move |_| {
        let number = frames.fetch_add(1, Ordering::Relaxed);
        let stutter = flaw == Flaw::Stutters && number % 40 == 39;
        if stutter { Fault::Duplicate } else { Fault::None }
    });
    let connector = Flawed {
        inner: wire,
        flaw,
        tasks: Tasks::new(),
        held: Default::default(),
    };
    TransportUnderTest {
        connector: Arc::new(connector),
        listener: Arc::new(transport),
        good: tokens.issue(principal()).secret,
        refused: Secret::new("nobody issued this"),
        keep: Vec::new(),
    }
}

fn principal() -> Principal {
    Principal {
        kind: PrincipalKind::Machine,
        id: "agents".into(),
        display: "agents".into(),
        tenant: Tenant::new("acme", "main").ok(),
        scopes: Default::default(),
        roles: Default::default(),
        agents: Default::default(),
        expires_at: Timestamp::MAX,
    }
}

macro_rules! bites {
    ($($law:ident on $flaw:ident;)*) => {
        $(
            #[tokio::test(start_paused = true)]
            #[should_panic]
            async fn $law() {
                let under_test = flawed(Flaw::$flaw);
                let law = laws::$law(&under_test);
                tokio::time::timeout(Duration::from_secs(3600), law).await.expect("the law waits for ever");
            }
        )*
    };
}

bites! {
    frames_keep_their_order_both_ways on Stutters;
    dropping_the_agents_end_closes_the_hubs on Lingers;
    dropping_the_hubs_end_closes_the_agents on Lingers;
    a_full_link_makes_the_sender_wait_and_loses_nothing on Hoards;
    a_refused_token_is_unauthenticated_and_opens_nothing on Vague;
    a_blob_is_fetched_whole on Truncates;
    a_blob_that_is_not_offered_is_not_found on Invents;
}

/// The in-memory transport keeps the laws.
mod kept {
    use super::*;

    async fn in_memory() -> TransportUnderTest {
        let tokens = InMemoryTokens::new();
        let transport =
            InMemoryTransport::new(tokens.clone(), InMemoryClock::starting_at(Timestamp::UNIX_EPOCH));
        transport.offer(LawBlobs);
        TransportUnderTest {
            connector: Arc::new(transport.clone()),
            listener: Arc::new(transport),
            good: tokens.issue(principal()).secret,
            refused: Secret::new("nobody issued this"),
            keep: Vec::new(),
        }
    }

    aurora_core::transport_laws!(in_memory);
}
