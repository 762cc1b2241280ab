//! The agent: dials the hub, does what it is told on its cluster, and reports.

pub(crate) mod dispatch;
mod flow;
pub(crate) mod perform;
mod plans;
mod report;
mod session;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::dispatch::{Dispatcher, Limits};
use self::plans::FetchedPlans;
use self::session::Event;
use crate::account::AgentName;
use crate::backoff::Backoff;
use crate::entropy::Entropy;
use crate::error::{ErrorChain, ErrorKind};
use crate::id::{InstanceId, SessionId};
use crate::port::clock::{Clock, SystemClock};
use crate::port::executor::ClusterExecutor;
use crate::port::token::{Token, TokenSource};
use crate::port::transport::{AgentLink, Connector, TransportError};
use crate::secret::Secret;
use crate::session::{CloseReason, Welcome};
use crate::tasks::{Stuck, Tasks};

/// A connection must be open within this time.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// A session that lived so long worked: the next attempt begins at the shortest wait again.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// The first and the longest wait between attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(60));

/// Events of sessions that wait for the agent: a session has at most three, and it waits when there are more.
const EVENT_CAPACITY: usize = 16;

/// Beside a cluster: holds a session with a hub, does its commands with an executor and reports.
///
/// It works on through lost links, new tokens, draining hubs and commands that break its executor.
pub struct Agent {
    name: AgentName,
    connector: Arc<dyn Connector>,
    tokens: Arc<dyn TokenSource>,
    executor: Arc<dyn ClusterExecutor>,
    clock: Arc<dyn Clock>,
    entropy: Arc<Entropy>,
    options: Options,
    limits: Limits,
    health: watch::Sender<AgentHealth>,
}

#[derive(Clone, Debug)]
struct Options {
    replicas: u32,
    software: String,
    labels: BTreeMap<String, String>,
    features: Vec<String>,
    inventory_every: Duration,
    grace: Duration,
}

/// How the agent's way to its hub is, for health endpoints.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgentHealth {
    /// What it is doing.
    pub state: AgentState,
    /// When the hub was last heard, to the second.
    pub last_hub_frame: Option<Timestamp>,
    /// Why the last attempt or session ended, for people.
    pub last_problem: Option<String>,
}

impl AgentHealth {
    /// How long ago the hub was last heard.
    pub fn hub_frame_age(&self, now: Timestamp) -> Option<Duration> {
        let age = now.duration_since(self.last_hub_frame?);
        Some(Duration::try_from(age).unwrap_or(Duration::ZERO))
    }
}

/// What an agent is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AgentState {
    /// It has a session.
    Connected {
        /// Which.
        session: SessionId,
        /// Its epoch.
        epoch: u64,
    },
    /// It tries to get one.
    Connecting,
    /// The hub or the issuer refuses its credential: somebody has to do something.
    Refused,
    /// It has ended.
    Stopped,
}

/// What all sessions of an agent share.
struct Shared {
    name: AgentName,
    instance: InstanceId,
    tokens: Arc<dyn TokenSource>,
    executor: Arc<dyn ClusterExecutor>,
    clock: Arc<dyn Clock>,
    options: Options,
    dispatcher: Dispatcher,
    health: watch::Sender<AgentHealth>,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("name", &self.name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// An agent of this name; its token must allow the name.
    pub fn new(
        name: AgentName,
        connector: impl Connector,
        tokens: impl TokenSource,
        executor: impl ClusterExecutor,
    ) -> Self {
        Self {
            name,
            connector: Arc::new(connector),
            tokens: Arc::new(tokens),
            executor: Arc::new(executor),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(Entropy::from_system()),
            options: Options {
                replicas: 1,
                software: concat!("aurora-agent/", env!("CARGO_PKG_VERSION")).into(),
                labels: BTreeMap::new(),
                features: ["observe", "inventory", "authRefresh"]
                    .map(str::to_owned)
                    .to_vec(),
                inventory_every: Duration::from_secs(30),
                grace: Duration::from_secs(20),
            },
            limits: Limits::default(),
            health: watch::Sender::new(AgentHealth {
                state: AgentState::Connecting,
                last_hub_frame: None,
                last_problem: None,
            }),
        }
    }

    /// Another clock than the machine's.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Makes random choices repeat; by default nobody can foretell them.
    #[must_use]
    pub fn with_entropy(mut self, entropy: Entropy) -> Self {
        self.entropy = Arc::new(entropy);
        self
    }

    /// How many instances of this agent are meant to run at once: 1.
    #[must_use]
    pub fn with_replicas(mut self, replicas: u32) -> Self {
        self.options.replicas = replicas.max(1);
        self
    }

    /// The program's name and version, for people.
    #[must_use]
    pub fn with_software(mut self, software: impl Into<String>) -> Self {
        self.options.software = software.into();
        self
    }

    /// A fact about the cluster for people: its version, the agent's policy.
    #[must_use]
    pub fn with_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.labels.insert(name.into(), value.into());
        self
    }

    /// Mutations that may run side by side, and as many short queries: 16.
    #[must_use]
    pub const fn with_workers(mut self, workers: usize) -> Self {
        self.limits.workers = if workers == 0 { 1 } else { workers };
        self
    }

    /// How often the cluster is looked at for changes of the inventory: 30 s.
    #[must_use]
    pub const fn with_inventory_every(mut self, every: Duration) -> Self {
        self.options.inventory_every = every;
        self
    }

    /// How long commands in hand may take after a stop: 20 s.
    #[must_use]
    pub const fn with_grace(mut self, grace: Duration) -> Self {
        self.options.grace = grace;
        self
    }

    /// Tells how the way to the hub is, also after the agent was started.
    pub fn status(&self) -> watch::Receiver<AgentHealth> {
        self.health.subscribe()
    }

    /// Works until `stop` is cancelled, then finishes the mutations in hand and returns.
    ///
    /// # Errors
    /// [`Stuck`] when commands or sessions did not end within the grace period.
    ///
    /// # Cancel safety
    /// Dropping the future tells sessions to stop without waiting for them.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Stuck> {
        let plans = FetchedPlans {
            connector: Arc::clone(&self.connector),
            tokens: Arc::clone(&self.tokens),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            cache: Default::default(),
        };
        let grace = self.options.grace;
        let shared = Arc::new(Shared {
            name: self.name,
            instance: InstanceId::at(self.clock.now(), self.entropy.ten_bytes()),
            tokens: self.tokens,
            executor: Arc::clone(&self.executor),
            clock: self.clock,
            options: self.options,
            dispatcher: Dispatcher::new(self.executor, Arc::new(plans), self.limits),
            health: self.health,
        });
        let (events, heard) = mpsc::channel(EVENT_CAPACITY);
        let mut dialer = Dialer {
            shared: Arc::clone(&shared),
            connector: self.connector,
            entropy: self.entropy,
            tasks: Tasks::stopped_by(&stop),
            events,
            heard,
            backoff: Backoff::new(BACKOFF.0, BACKOFF.1),
            refused: None,
            sessions: 0,
            open: BTreeMap::new(),
        };
        let dialing = dialer.dial();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = dialing => {}
        }
        let sessions = dialer.close(grace).await;
        let commands = shared.dispatcher.drain(grace).await;
        shared
            .health
            .send_modify(|health| health.state = AgentState::Stopped);
        sessions.and(commands)
    }
}

impl Shared {
    fn opened(&self, welcome: &Welcome) {
        let now = self.clock.now();
        tracing::info!(agent.id = %self.name, session.id = %welcome.session, welcome.epoch, "connected");
        self.health.send_modify(|health| {
            health.state = AgentState::Connected {
                session: welcome.session,
                epoch: welcome.epoch,
            };
            health.last_hub_frame = Some(now);
            health.last_problem = None;
        });
    }

    fn heard(&self, now: Timestamp) {
        self.health.send_if_modified(|health| {
            let news = health
                .last_hub_frame
                .is_none_or(|last| now.as_second() != last.as_second());
            if news {
                health.last_hub_frame = Some(now);
            }
            news
        });
    }

    fn trouble(&self, state: AgentState, problem: String) {
        self.health.send_modify(|health| {
            health.state = state;
            health.last_problem = Some(problem);
        });
    }
}

/// Opens sessions, one after the other; the next one before a draining one is left.
struct Dialer {
    shared: Arc<Shared>,
    connector: Arc<dyn Connector>,
    entropy: Arc<Entropy>,
    tasks: Tasks,
    events: mpsc::Sender<(u64, Event)>,
    heard: mpsc::Receiver<(u64, Event)>,
    backoff: Backoff,
    /// A token that the hub has refused: it is not tried again.
    refused: Option<Secret>,
    sessions: u64,
    /// Sessions by number, with what tells them to leave once they are idle.
    open: BTreeMap<u64, CancellationToken>,
}

impl Dialer {
    async fn dial(&mut self) {
        let mut wait = Duration::ZERO;
        loop {
            self.pause(wait).await;
            wait = match self.connect().await {
                Ok((link, token)) => {
                    let number = self.start(link, token);
                    self.follow(number).await
                }
                Err(retry_after) => retry_after.max(self.next_wait()),
            };
        }
    }

    fn next_wait(&mut self) -> Duration {
        self.backoff.next(self.entropy.next_u64())
    }

    /// Waits, and hears meanwhile of sessions that end.
    async fn pause(&mut self, wait: Duration) {
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                biased;
                Some((number, event)) = self.heard.recv() => {
                    if let Event::Ended { reason, .. } = event {
                        self.open.remove(&number);
                        self.trouble(AgentState::Connecting, explain(reason).to_owned());
                    }
                }
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }

    /// Opens a link; an error says how long to wait at least.
    async fn connect(&mut self) -> Result<(AgentLink, Token), Duration> {
        let connecting = AgentState::Connecting;
        let now = self.shared.clock.now();
        let token = match self.shared.tokens.token(now).await {
            Ok(token) => token,
            Err(error) => {
                let state = if error.kind() == ErrorKind::Unauthenticated {
                    AgentState::Refused
                } else {
                    connecting
                };
                tracing::warn!(error = %ErrorChain(&error), "no token");
                self.trouble(state, ErrorChain(&error).to_string());
                return Err(Duration::ZERO);
            }
        };
        if let Some(refused) = &self.refused
            && refused.equals(token.secret.expose())
        {
            return Err(Duration::ZERO);
        }
        let opening = self.connector.connect(&token.secret);
        match tokio::time::timeout(CONNECT_WITHIN, opening).await {
            Ok(Ok(link)) => Ok((link, token)),
            Ok(Err(error)) => {
                tracing::warn!(error = %ErrorChain(&error), "no session");
                let text = ErrorChain(&error).to_string();
                match error {
                    TransportError::Unauthenticated { .. } => {
                        self.refused = Some(token.secret);
                        self.trouble(AgentState::Refused, text);
                        Err(Duration::ZERO)
                    }
                    TransportError::Busy { retry_after } => {
                        self.trouble(connecting, text);
                        Err(retry_after)
                    }
                    _ => {
                        self.trouble(connecting, text);
                        Err(Duration::ZERO)
                    }
                }
            }
            Err(_elapsed) => {
                self.trouble(connecting, "the hub did not answer in time".into());
                Err(Duration::ZERO)
            }
        }
    }

    fn start(&mut self, link: AgentLink, token: Token) -> u64 {
        self.sessions += 1;
        let number = self.sessions;
        let leave = CancellationToken::new();
        self.open.insert(number, leave.clone());
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        self.tasks.spawn(|stop| async move {
            session::converse(shared, number, link, token, events, leave, stop).await;
        });
        number
    }

    /// Follows the newest session until another one is wanted; tells how long to wait first.
    async fn follow(&mut self, number: u64) -> Duration {
        loop {
            // The dialer holds a sender, so the channel never ends.
            let Some((from, event)) = self.heard.recv().await else {
                return Duration::ZERO;
            };
            match event {
                Event::Opened if from == number => {
                    for (_, leave) in self.open.range(..number) {
                        leave.cancel();
                    }
                }
                Event::Draining { reconnect_in } if from == number => return reconnect_in,
                Event::Ended {
                    reason,
                    retry_after,
                    lived,
                } => {
                    self.open.remove(&from);
                    if from == number {
                        return self.ended(reason, retry_after, lived);
                    }
                }
                Event::Draining { .. } | Event::Opened => {}
            }
        }
    }

    fn ended(
        &mut self,
        reason: Option<CloseReason>,
        retry_after: Duration,
        lived: Option<Duration>,
    ) -> Duration {
        if lived.is_some_and(|lived| lived >= STABLE_AFTER) {
            self.backoff.reset();
        }
        let refused = matches!(reason, Some(CloseReason::Denied | CloseReason::Version));
        let state = if refused {
            AgentState::Refused
        } else {
            AgentState::Connecting
        };
        let text = explain(reason);
        tracing::info!(agent.id = %self.shared.name, ?reason, "session ended");
        self.trouble(state, text.to_owned());
        retry_after.max(self.next_wait())
    }

    /// Says what is wrong, unless an older session still serves.
    fn trouble(&self, state: AgentState, problem: String) {
        if self.open.is_empty() {
            self.shared.trouble(state, problem);
        }
    }

    async fn close(self, grace: Duration) -> Result<(), Stuck> {
        let Self { tasks, mut heard, .. } = self;
        let draining = tasks.drain(grace + Duration::from_secs(1));
        tokio::pin!(draining);
        loop {
            tokio::select! {
                biased;
                drained = &mut draining => return drained,
                Some(_event) = heard.recv() => {}
            }
        }
    }
}

fn explain(reason: Option<CloseReason>) -> &'static str {
    let Some(reason) = reason else {
        return "the link to the hub was lost";
    };
    match reason {
        CloseReason::Conflict => {
            "another instance of this agent is connected; declare its replicas, or stop one of them"
        }
        CloseReason::Denied => {
            "the credential may not connect an agent of this name; give it the scope and list the name"
        }
        CloseReason::Drained => "the hub stops",
        CloseReason::Expired => "the token ended and no new one came in time",
        CloseReason::Protocol => "one side did not keep to the protocol",
        CloseReason::Silent => "the hub gave no sign of life",
        CloseReason::Superseded => "a newer session of this agent took over",
        CloseReason::Version => "agent and hub have no protocol version in common; upgrade the older one",
    }
}
