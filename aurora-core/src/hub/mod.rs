//! The hub: accepts agents, routes commands to them and remembers their reports.

mod calls;
mod conversation;
mod figures;
mod inventory;
pub mod mailbox;
mod outbox;
mod registry;
mod session;
mod updates;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use self::figures::Tally;
use self::mailbox::Mailbox;
use self::registry::{Placed, Registry};
use crate::account::AgentKey;
use crate::authz::ConnectAgent;
use crate::command::Verb;
use crate::digest::Digest;
use crate::entropy::Entropy;
use crate::port::clock::Clock;
use crate::port::router::{AgentStatus, CommandRouter, Order, RouteError, Updates};
use crate::port::token::TokenVerifier;
use crate::port::transport::{BlobOffer, Listener};
use crate::principal::Principal;
use crate::tasks::{Stuck, Tasks};
use crate::tenant::Tenant;

pub use self::figures::{COMMAND_REFUSALS, HubFigures, OUTCOMES, SESSION_REFUSALS};

/// The longest time that a command may be given.
pub const MAX_DEADLINE: Duration = Duration::from_secs(3600);

/// The largest body that an order may carry.
pub const MAX_BLOB_BYTES: usize = 32 * 1024 * 1024;

/// The largest payload of a ping; with it a frame stays below its limit.
pub const MAX_PING_BYTES: usize = 128 * 1024;

/// Accepts sessions and routes commands to them; clones are one hub.
///
/// A hub holds everything in memory: agents connect again after it was restarted, and callers repeat
/// what they had under way.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    entropy: Arc<Entropy>,
    verifier: Option<Arc<dyn TokenVerifier>>,
    options: Options,
    draining: AtomicBool,
    registry: Mutex<Registry>,
}

#[derive(Clone, Debug)]
struct Options {
    heartbeat: Duration,
    credit: u32,
    in_flight: usize,
    drain_spread: Duration,
    grace: Duration,
    features: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(20),
            credit: 64 * 1024,
            in_flight: 256,
            drain_spread: Duration::from_secs(5),
            grace: Duration::from_secs(30),
            features: ["observe", "inventory", "authRefresh"]
                .map(str::to_owned)
                .to_vec(),
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("options", &self.inner.options)
            .field("sessions", &self.inner.registry().sessions().count())
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// A hub that knows no agent yet; without a verifier sessions end with their first token.
    pub fn new(clock: impl Clock) -> Self {
        Self::of(Inner {
            clock: Arc::new(clock),
            entropy: Arc::new(Entropy::from_system()),
            verifier: None,
            options: Options::default(),
            draining: AtomicBool::new(false),
            registry: Mutex::default(),
        })
    }

    /// Verifies the new tokens that agents send over a session that is under way.
    #[must_use]
    pub fn with_verifier(self, verifier: impl TokenVerifier) -> Self {
        self.changed(|inner| inner.verifier = Some(Arc::new(verifier)))
    }

    /// Makes random choices repeat; by default nobody can foretell them.
    #[must_use]
    pub fn with_entropy(self, entropy: Entropy) -> Self {
        self.changed(|inner| inner.entropy = Arc::new(entropy))
    }

    /// How often each side gives a sign of life: 20 s, below the minute after which middleboxes forget a flow.
    #[must_use]
    pub fn with_heartbeat(self, heartbeat: Duration) -> Self {
        self.changed(|inner| inner.options.heartbeat = heartbeat.max(Duration::from_millis(10)))
    }

    /// Commands that one session may have in flight: 256; one more is refused as exhausted.
    #[must_use]
    pub fn with_in_flight(self, in_flight: usize) -> Self {
        self.changed(|inner| inner.options.in_flight = in_flight.max(1))
    }

    /// Bytes of progress that may be under way per command: 64 KiB.
    #[must_use]
    pub fn with_credit(self, credit: u32) -> Self {
        self.changed(|inner| inner.options.credit = credit.max(1024))
    }

    /// When stopping: over which time agents are sent elsewhere (5 s), and how long commands may take (30 s).
    #[must_use]
    pub fn with_drain(self, spread: Duration, grace: Duration) -> Self {
        self.changed(|inner| {
            inner.options.drain_spread = spread;
            inner.options.grace = grace;
        })
    }

    /// Serves sessions until the listener closes or `stop` is cancelled; then drains and returns.
    ///
    /// # Errors
    /// [`Stuck`] when sessions did not end within the grace period.
    ///
    /// # Cancel safety
    /// Dropping the future ends all sessions at once.
    pub async fn run(&self, listener: impl Listener, stop: CancellationToken) -> Result<(), Stuck> {
        let tasks = Tasks::new();
        let drain = stop.child_token();
        self.inner.draining.store(false, Ordering::Relaxed);
        loop {
            let incoming = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                incoming = listener.accept() => incoming,
            };
            let Some(incoming) = incoming else { break };
            let (inner, drain) = (Arc::clone(&self.inner), drain.clone());
            tasks.spawn(|abort| async move {
                let serving = conversation::serve(Arc::clone(&inner), incoming, drain);
                tokio::select! {
                    biased;
                    () = abort_without_drain(abort, &inner) => {}
                    () = serving => {}
                }
            });
        }
        self.inner.draining.store(true, Ordering::Relaxed);
        drain.cancel();
        tasks
            .drain(self.inner.options.grace + Duration::from_secs(5))
            .await
    }

    fn of(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
        }
    }

    fn changed(self, change: impl FnOnce(&mut Inner)) -> Self {
        // Options are set before the hub is shared or has sessions, so nothing but options is carried over.
        let mut inner = Inner {
            clock: Arc::clone(&self.inner.clock),
            entropy: Arc::clone(&self.inner.entropy),
            verifier: self.inner.verifier.clone(),
            options: self.inner.options.clone(),
            draining: AtomicBool::new(false),
            registry: Mutex::default(),
        };
        change(&mut inner);
        Self::of(inner)
    }
}

impl Inner {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tally(&self) -> Tally {
        self.registry().tally()
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl CommandRouter for Hub {
    async fn route(&self, to: &AgentKey, order: Order) -> Result<Updates, RouteError> {
        let placed = self.place(to, order);
        if let Err(error) = &placed {
            self.inner.tally().command_refused(error);
        }
        placed
    }

    async fn agents(&self, tenant: &Tenant) -> Result<Vec<AgentStatus>, RouteError> {
        Ok(self.inner.registry().statuses(tenant))
    }
}

impl Hub {
    fn place(&self, to: &AgentKey, order: Order) -> Result<Updates, RouteError> {
        check(&order)?;
        let mailbox = Arc::new(Mailbox::default());
        let cap = self.inner.options.in_flight;
        let placed = self.inner.registry().place(to, order, &mailbox, cap)?;
        Ok(match placed {
            Placed::Sent(session, request) => updates::of_call(session, request, mailbox),
            Placed::Stored => updates::of_stored(mailbox),
        })
    }
}

impl BlobOffer for Hub {
    fn offered(&self, principal: &Principal, digest: Digest) -> Option<Bytes> {
        let principal = Arc::new(principal.clone());
        let grant = principal.authorize::<ConnectAgent>().ok()?;
        let names = grant.principal().agents.iter();
        let keys = names.map(|name| AgentKey::new(grant.tenant().clone(), name.clone()));
        let registry = self.inner.registry();
        keys.flat_map(|key| registry.sessions_of(&key))
            .find_map(|session| session.calls().blob(digest))
    }
}

/// Refuses what no agent could take.
fn check(order: &Order) -> Result<(), RouteError> {
    let invalid = |problem: String| Err(RouteError::Invalid { problem });
    let deadline = order.command.deadline;
    if deadline.is_zero() || deadline > MAX_DEADLINE {
        return invalid(format!(
            "its deadline of {deadline:?} is not between 1 ns and {MAX_DEADLINE:?}"
        ));
    }
    if let Verb::Ping { payload } = &order.command.verb
        && payload.len() > MAX_PING_BYTES
    {
        return invalid(format!(
            "its payload has {} bytes, at most {MAX_PING_BYTES} are taken",
            payload.len()
        ));
    }
    for (digest, body) in &order.blobs {
        if body.len() > MAX_BLOB_BYTES {
            return invalid(format!(
                "blob {digest} has {} bytes, at most {MAX_BLOB_BYTES} are taken",
                body.len()
            ));
        }
    }
    Ok(())
}

/// Ends a session whose hub was dropped rather than stopped; a drain lets it end by itself.
async fn abort_without_drain(abort: CancellationToken, hub: &Inner) {
    abort.cancelled().await;
    if hub.is_draining() {
        std::future::pending().await
    }
}
