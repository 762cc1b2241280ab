//! The agent's side of one session from hello to goodbye; its loop waits for nothing but the link and the clock.

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agent::Shared;
use crate::agent::dispatch::Job;
use crate::agent::flow::{Credit, forward};
use crate::agent::report::Reporter;
use crate::command::{Command, Failure, Outcome, Update};
use crate::error::{ErrorChain, ErrorKind};
use crate::id::RequestId;
use crate::port::token::{Token, TokenError};
use crate::port::transport::AgentLink;
use crate::session::{
    CloseReason, FromAgent, FromHub, Hello, InventoryItem, OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, Welcome,
};

/// The welcome must be there within this time.
const WELCOME_WITHIN: Duration = Duration::from_secs(5);

/// The hub has this long to hear a goodbye and to close its end.
const GOODBYE_WITHIN: Duration = Duration::from_secs(2);

/// The share of a token's life after which the next one is sent, in percent.
const REFRESH_AFTER_PERCENT: u32 = 75;

/// After a nack the inventory is sent again, but not more often than this.
const INVENTORY_PAUSE: Duration = Duration::from_secs(5);

/// What the agent learns of its sessions.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// The hub sends the agent elsewhere.
    Draining { reconnect_in: Duration },
    /// It is over.
    Ended {
        reason: Option<CloseReason>,
        retry_after: Duration,
        /// How long it was open; absent when it never was.
        lived: Option<Duration>,
    },
    /// The hub said welcome.
    Opened,
}

/// Holds one session.
pub(super) async fn converse(
    shared: Arc<Shared>,
    number: u64,
    link: AgentLink,
    token: Token,
    events: mpsc::Sender<(u64, Event)>,
    leave: CancellationToken,
    stop: CancellationToken,
) {
    let ended = match open(&shared, link).await {
        Ok((welcome, link)) => {
            let started = Instant::now();
            shared.opened(&welcome);
            // The agent reads events as long as it runs.
            let _ = events.send((number, Event::Opened)).await;
            let session = Session::new(
                Arc::clone(&shared),
                number,
                welcome,
                token,
                link.tx,
                events.clone(),
            );
            let (reason, retry_after) = session.run(link.rx, leave, stop).await;
            Event::Ended {
                reason,
                retry_after,
                lived: Some(started.elapsed()),
            }
        }
        Err((reason, retry_after)) => Event::Ended {
            reason,
            retry_after,
            lived: None,
        },
    };
    let _ = events.send((number, ended)).await;
}

/// Says hello and waits for the welcome.
async fn open(
    shared: &Shared,
    mut link: AgentLink,
) -> Result<(Welcome, AgentLink), (Option<CloseReason>, Duration)> {
    let options = &shared.options;
    let hello = Hello {
        agent: shared.name.clone(),
        instance: shared.instance,
        replicas: options.replicas,
        versions: (PROTOCOL_VERSION, OLDEST_PROTOCOL_VERSION),
        features: options.features.clone(),
        software: options.software.clone(),
        labels: options.labels.clone(),
        now: shared.clock.now(),
    };
    let shaking = async {
        link.tx.send(FromAgent::Hello(hello)).await.ok()?;
        link.rx.recv().await
    };
    match tokio::time::timeout(WELCOME_WITHIN, shaking).await {
        Ok(Some(FromHub::Welcome(welcome))) if welcome.heartbeat.is_zero() => {
            Err((Some(CloseReason::Protocol), Duration::ZERO))
        }
        Ok(Some(FromHub::Welcome(welcome))) => Ok((welcome, link)),
        Ok(Some(FromHub::Goodbye { reason, retry_after })) => Err((Some(reason), retry_after)),
        Ok(Some(_other)) => Err((Some(CloseReason::Protocol), Duration::ZERO)),
        Ok(None) | Err(_) => Err((None, Duration::ZERO)),
    }
}

struct InHand {
    job: Arc<Job>,
    credit: Arc<Credit>,
    mutation: bool,
}

type Items = Vec<(String, InventoryItem)>;

struct Session {
    shared: Arc<Shared>,
    number: u64,
    welcome: Welcome,
    token: Token,
    tx: mpsc::Sender<FromAgent>,
    events: mpsc::Sender<(u64, Event)>,
    outbox: VecDeque<FromAgent>,
    in_hand: BTreeMap<RequestId, InHand>,
    forwarding: FuturesUnordered<BoxFuture<'static, RequestId>>,
    reporter: Reporter,
    heard: Instant,
    beat: Instant,
    refresh_at: Instant,
    report_at: Instant,
    reported: Instant,
    /// When the time for finishing is over; set by a stop.
    stopping: Option<Instant>,
}

/// What a turn of the loop brought.
enum Turn {
    Frame(Option<FromHub>),
    Items(Option<Items>),
    Leave,
    Passed,
    Sent(RequestId),
    Stop,
    Token(Result<Token, TokenError>),
}

impl Session {
    fn new(
        shared: Arc<Shared>,
        number: u64,
        welcome: Welcome,
        token: Token,
        tx: mpsc::Sender<FromAgent>,
        events: mpsc::Sender<(u64, Event)>,
    ) -> Self {
        let now = Instant::now();
        let refresh_at = now + refresh_after(&token, shared.clock.now());
        Self {
            shared,
            number,
            welcome,
            token,
            tx,
            events,
            outbox: VecDeque::new(),
            in_hand: BTreeMap::new(),
            forwarding: FuturesUnordered::new(),
            reporter: Reporter::default(),
            heard: now,
            beat: now,
            refresh_at,
            report_at: now,
            reported: now,
            stopping: None,
        }
    }

    async fn run(
        mut self,
        mut rx: mpsc::Receiver<FromHub>,
        leave: CancellationToken,
        stop: CancellationToken,
    ) -> (Option<CloseReason>, Duration) {
        let tx = self.tx.clone();
        let mut refreshing: Option<BoxFuture<'static, Result<Token, TokenError>>> = None;
        let mut looking: Option<BoxFuture<'static, Option<Items>>> = None;
        let mut leaving = false;
        loop {
            let now = Instant::now();
            if now >= self.heard + self.silence() {
                return (Some(CloseReason::Silent), Duration::ZERO);
            }
            let done = self
                .stopping
                .is_some_and(|until| now >= until || !self.has_mutations());
            if done {
                self.say_goodbye(&tx, &mut rx).await;
                return (None, Duration::ZERO);
            }
            if leaving && self.in_hand.is_empty() {
                // The hub learns it by the link's end if the link is full.
                let _ = tx.try_send(FromAgent::Goodbye("moved".into()));
                return (None, Duration::ZERO);
            }
            self.beat_if_due(now);
            if now >= self.refresh_at && refreshing.is_none() {
                refreshing = Some(self.next_token());
            }
            if now >= self.report_at && looking.is_none() {
                looking = Some(self.look());
            }
            let wake = self.wake(refreshing.is_some(), looking.is_some());
            let turn = tokio::select! {
                biased;
                () = stop.cancelled(), if self.stopping.is_none() => Turn::Stop,
                () = leave.cancelled(), if !leaving => Turn::Leave,
                frame = rx.recv() => Turn::Frame(frame),
                Some(request) = self.forwarding.next(), if !self.forwarding.is_empty() => Turn::Sent(request),
                token = pending_or(&mut refreshing) => Turn::Token(token),
                items = pending_or(&mut looking) => Turn::Items(items),
                permit = tx.reserve(), if !self.outbox.is_empty() => {
                    if let (Ok(permit), Some(frame)) = (permit, self.outbox.pop_front()) {
                        permit.send(frame);
                    }
                    Turn::Passed
                }
                () = tokio::time::sleep_until(wake) => Turn::Passed,
            };
            match turn {
                Turn::Frame(None) => return (None, Duration::ZERO),
                Turn::Frame(Some(frame)) => {
                    if let Some(end) = self.take(frame).await {
                        return end;
                    }
                }
                Turn::Items(items) => self.report(items),
                Turn::Leave => leaving = true,
                Turn::Passed => {}
                Turn::Sent(request) => {
                    self.in_hand.remove(&request);
                }
                Turn::Stop => self.stopping = Some(Instant::now() + self.shared.options.grace),
                Turn::Token(token) => self.refreshed(token),
            }
        }
    }

    /// Says what is left to say and goodbye, and waits until the hub has heard it and closes its end: a
    /// process that ended before would take outcomes with it that wait in a connection.
    async fn say_goodbye(&mut self, tx: &mpsc::Sender<FromAgent>, rx: &mut mpsc::Receiver<FromHub>) {
        let last = FromAgent::Goodbye("stopping".into());
        let frames: Vec<_> = self.outbox.drain(..).chain([last]).collect();
        let heard = async {
            for frame in frames {
                if tx.send(frame).await.is_err() {
                    return;
                }
            }
            while rx.recv().await.is_some() {}
        };
        // Whoever waits for the session to end must not wait beyond the grace period.
        let left = self.stopping.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        });
        let patience = GOODBYE_WITHIN.min(left / 2);
        if tokio::time::timeout(patience, heard).await.is_err() {
            tracing::debug!(session.id = %self.welcome.session, "the hub does not answer the goodbye");
        }
    }

    /// Takes a frame in; a reason ends the session.
    async fn take(&mut self, frame: FromHub) -> Option<(Option<CloseReason>, Duration)> {
        self.heard = Instant::now();
        self.shared.heard(self.shared.clock.now());
        match frame {
            FromHub::Cancel(request) => {
                if let Some(held) = self.in_hand.get(&request) {
                    held.job.cancel();
                }
            }
            FromHub::Command { request, command } => self.begin(request, *command),
            FromHub::Credit { request, bytes } => {
                if let Some(held) = self.in_hand.get(&request) {
                    held.credit.grant(bytes);
                }
            }
            FromHub::Drain { reconnect_in, reason } => {
                tracing::info!(session.id = %self.welcome.session, reason, "the hub sends the agent elsewhere");
                let _ = self
                    .events
                    .send((self.number, Event::Draining { reconnect_in }))
                    .await;
            }
            FromHub::Goodbye { reason, retry_after } => return Some((Some(reason), retry_after)),
            FromHub::Heartbeat => {}
            FromHub::InventoryNack(reason) => {
                tracing::debug!(session.id = %self.welcome.session, reason, "inventory is sent again");
                self.reporter.forget();
                self.report_at = self.report_at.min(self.reported + INVENTORY_PAUSE);
            }
            FromHub::Welcome(_) => return Some((Some(CloseReason::Protocol), Duration::ZERO)),
        }
        None
    }

    fn begin(&mut self, request: RequestId, command: Command) {
        if self.in_hand.contains_key(&request) {
            return;
        }
        if self.stopping.is_some() {
            let failure = Failure::new(
                ErrorKind::Unavailable,
                "agentStopping",
                "the agent is being stopped; send the command again when it is back",
            );
            let update = Update::Finished(Outcome::Failed(failure));
            self.outbox.push_back(FromAgent::Update { request, update });
            return;
        }
        let mutation = command.verb.is_mutation();
        tracing::debug!(command.id = %command.id, verb = command.verb.name(), %request, "command taken in hand");
        let job = Arc::new(self.shared.dispatcher.submit(command));
        let credit = Arc::new(Credit::new(self.welcome.credit));
        let forwarding = forward(request, Arc::clone(&job), Arc::clone(&credit), self.tx.clone());
        self.forwarding.push(forwarding.boxed());
        let held = InHand {
            job,
            credit,
            mutation,
        };
        self.in_hand.insert(request, held);
    }

    fn has_mutations(&self) -> bool {
        self.in_hand.values().any(|held| held.mutation)
    }

    fn beat_if_due(&mut self, now: Instant) {
        if now >= self.beat + self.welcome.heartbeat {
            self.beat = now;
            let ids = self.in_hand.keys().copied().collect();
            self.outbox.push_back(FromAgent::Heartbeat(ids));
        }
    }

    fn silence(&self) -> Duration {
        self.welcome.heartbeat * 5 / 2
    }

    fn wake(&self, refreshing: bool, looking: bool) -> Instant {
        let mut wake = (self.beat + self.welcome.heartbeat).min(self.heard + self.silence());
        if !refreshing {
            wake = wake.min(self.refresh_at);
        }
        if !looking {
            wake = wake.min(self.report_at);
        }
        self.stopping.map_or(wake, |until| wake.min(until))
    }

    fn next_token(&self) -> BoxFuture<'static, Result<Token, TokenError>> {
        let shared = Arc::clone(&self.shared);
        async move { shared.tokens.token(shared.clock.now()).await }.boxed()
    }

    fn refreshed(&mut self, token: Result<Token, TokenError>) {
        let (now, at) = (Instant::now(), self.shared.clock.now());
        let left = Duration::try_from(self.token.expires_at.duration_since(at)).unwrap_or(Duration::ZERO);
        let again = now + (left / 10).max(Duration::from_secs(1));
        match token {
            Ok(token) if !token.secret.equals(self.token.secret.expose()) => {
                self.outbox
                    .push_back(FromAgent::AuthRefresh(token.secret.clone()));
                self.refresh_at = now + refresh_after(&token, at).max(Duration::from_secs(1));
                self.token = token;
            }
            Ok(_same) => self.refresh_at = again,
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "no new token");
                self.refresh_at = again;
            }
        }
    }

    fn look(&self) -> BoxFuture<'static, Option<Items>> {
        let shared = Arc::clone(&self.shared);
        let looking = async move {
            match AssertUnwindSafe(shared.executor.inventory()).catch_unwind().await {
                Ok(Ok(items)) => Some(items),
                Ok(Err(error)) => {
                    tracing::warn!(error = %ErrorChain(&error), "inventory cannot be read");
                    None
                }
                Err(_panic) => {
                    tracing::error!("executor panicked while its inventory was read");
                    None
                }
            }
        };
        looking.boxed()
    }

    fn report(&mut self, items: Option<Items>) {
        let now = Instant::now();
        self.reported = now;
        self.report_at = now + self.shared.options.inventory_every;
        if let Some(items) = items {
            self.outbox.extend(self.reporter.report(items));
        }
    }
}

fn refresh_after(token: &Token, now: Timestamp) -> Duration {
    let left = Duration::try_from(token.expires_at.duration_since(now)).unwrap_or(Duration::ZERO);
    // A token without an end is looked at again after a day.
    (left / 100 * REFRESH_AFTER_PERCENT).min(Duration::from_secs(24 * 3600))
}

/// The value of a future that may be there; pending when there is none.
async fn pending_or<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(running) => {
            let value = running.await;
            *future = None;
            value
        }
        None => std::future::pending().await,
    }
}
