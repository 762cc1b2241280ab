//! The hub's side of one session from hello to goodbye: one loop that no reader and no agent can block.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::authz::ConnectAgent;
use crate::error::ErrorChain;
use crate::hub::Inner;
use crate::hub::registry::Admitted;
use crate::hub::session::Session;
use crate::id::SessionId;
use crate::port::token::TokenError;
use crate::port::transport::{Incoming, Link};
use crate::principal::Principal;
use crate::secret::Secret;
use crate::session::{CloseReason, FromAgent, FromHub, Hello, Welcome};

/// The first frame must be there within this time.
const HELLO_WITHIN: Duration = Duration::from_secs(5);

/// After its token ended a session may finish what it has in hand for this long.
const EXPIRY_DRAIN: Duration = Duration::from_secs(30);

/// A link that takes nothing for so long is given up.
const STALL: Duration = Duration::from_secs(10);

/// A session that has nothing in hand is kept for this long after the agent should have moved on.
const LINGER: Duration = Duration::from_secs(1);

/// Serves one session to its end.
pub(super) async fn serve(hub: Arc<Inner>, incoming: Incoming, drain: CancellationToken) {
    let Incoming {
        principal,
        address,
        link: Link { tx, mut rx },
    } = incoming;
    let hello = tokio::time::timeout(HELLO_WITHIN, rx.recv()).await;
    let Ok(Some(FromAgent::Hello(hello))) = hello else {
        tracing::info!(address, client = principal.id, "no hello came");
        hub.tally().session_refused(CloseReason::Protocol);
        goodbye(&tx, CloseReason::Protocol, Duration::ZERO);
        return;
    };
    let agent = hello.agent.clone();
    let admitted = match admit(&hub, &principal, hello, address) {
        Ok(admitted) => admitted,
        Err((reason, retry_after)) => {
            tracing::warn!(agent.id = %agent, client = principal.id, ?reason, "session refused");
            hub.tally().session_refused(reason);
            goodbye(&tx, reason, retry_after);
            return;
        }
    };
    hub.tally().opened(admitted.again);
    if let Some(old) = admitted.replaced
        && !old.is_draining()
    {
        // One that is being drained was asked to open this one, and may finish what it has in hand.
        old.end(CloseReason::Superseded, Duration::ZERO);
    }
    let session = admitted.session;
    let welcome = Welcome {
        session: session.id,
        epoch: session.epoch,
        version: admitted.version,
        features: session.status().features,
        heartbeat: hub.options.heartbeat,
        expires_at: principal.expires_at,
        credit: hub.options.credit,
    };
    tracing::info!(agent.id = %session.key, session.id = %session.id, session.epoch, "session opened");
    session.outbox.control(FromHub::Welcome(welcome));
    let now = Instant::now();
    let conversation = Conversation {
        hub: Arc::clone(&hub),
        session: Arc::clone(&session),
        tx,
        principal,
        heard: now,
        beat: now,
        stalled: None,
        drain: Drain::Not,
        verifying: None,
    };
    let (reason, retry_after) = conversation.run(rx, drain).await;
    session.end(reason, retry_after);
    hub.registry().remove(&session);
    tracing::info!(agent.id = %session.key, session.id = %session.id, ?reason, "session ended");
}

fn admit(
    hub: &Inner,
    principal: &Arc<Principal>,
    hello: Hello,
    address: String,
) -> Result<Admitted, (CloseReason, Duration)> {
    let grant = principal.authorize::<ConnectAgent>().map_err(|denied| {
        tracing::info!(error = %ErrorChain(&denied), "not allowed");
        (CloseReason::Denied, Duration::from_secs(30))
    })?;
    if hub.is_draining() {
        return Err((CloseReason::Drained, Duration::from_secs(1)));
    }
    let now = hub.clock.now();
    let id = SessionId::at(now, hub.entropy.ten_bytes());
    hub.registry()
        .admit(&grant, hello, address, id, &hub.options.features, now)
}

fn goodbye(tx: &mpsc::Sender<FromHub>, reason: CloseReason, retry_after: Duration) {
    // A link that takes no more frames learns it by being closed.
    let _ = tx.try_send(FromHub::Goodbye { reason, retry_after });
}

/// Where a session is on its way out.
#[derive(Clone, Copy, Debug)]
enum Drain {
    Not,
    /// The token ended; a new one would bring the session back.
    Expired {
        until: Instant,
    },
    /// The hub stops.
    Stopping {
        moved: Instant,
        until: Instant,
    },
}

struct Conversation {
    hub: Arc<Inner>,
    session: Arc<Session>,
    tx: mpsc::Sender<FromHub>,
    principal: Arc<Principal>,
    heard: Instant,
    /// When the last sign of life was given.
    beat: Instant,
    stalled: Option<Instant>,
    drain: Drain,
    /// A new token to be verified beside everything else; a newer one takes its place.
    verifying: Option<Verification>,
}

type Verification = BoxFuture<'static, Result<Arc<Principal>, TokenError>>;

impl Conversation {
    async fn run(
        mut self,
        mut rx: mpsc::Receiver<FromAgent>,
        drain: CancellationToken,
    ) -> (CloseReason, Duration) {
        let session = Arc::clone(&self.session);
        let tx = self.tx.clone();
        let mut verifying: Option<Verification> = None;
        let reason = loop {
            if let Some(next) = self.verifying.take() {
                verifying = Some(next);
            }
            if let Some(reason) = self.tick(Instant::now()) {
                break reason;
            }
            let wake = self.wake();
            let stopping = matches!(self.drain, Drain::Stopping { .. });
            tokio::select! {
                biased;
                () = session.close.cancelled() => {
                    break session.ending().map_or(CloseReason::Drained, |(reason, _)| reason);
                }
                () = drain.cancelled(), if !stopping => self.start_drain(),
                frame = rx.recv() => match frame {
                    Some(frame) => if let Some(reason) = self.take(frame) { break reason },
                    None => break CloseReason::Silent,
                },
                verified = verification(&mut verifying) => self.refreshed(verified),
                permit = tx.reserve(), if self.stalled.is_some() => match permit {
                    Ok(permit) => {
                        self.stalled = None;
                        if let Some(frame) = session.next_frame() {
                            permit.send(frame);
                        }
                    }
                    Err(_closed) => break CloseReason::Silent,
                },
                () = session.outbox.changed(), if self.stalled.is_none() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
            self.flush();
        };
        let retry_after = session.ending().map_or(Duration::ZERO, |(_, after)| after);
        goodbye(&self.tx, reason, retry_after);
        (reason, retry_after)
    }

    /// Hands over what the link takes.
    fn flush(&mut self) {
        while !self.session.outbox.is_empty() {
            match self.tx.try_reserve() {
                Ok(permit) => {
                    self.stalled = None;
                    match self.session.next_frame() {
                        Some(frame) => permit.send(frame),
                        None => return,
                    }
                }
                Err(_full) => {
                    self.stalled.get_or_insert_with(Instant::now);
                    return;
                }
            }
        }
    }

    /// Does what is due and says whether the session is over.
    fn tick(&mut self, now: Instant) -> Option<CloseReason> {
        self.session.expire(now);
        let heartbeat = self.hub.options.heartbeat;
        if now >= self.heard + silence(heartbeat) {
            return Some(CloseReason::Silent);
        }
        if self.stalled.is_some_and(|since| now >= since + STALL) {
            return Some(CloseReason::Silent);
        }
        if now >= self.beat + heartbeat {
            self.beat = now;
            self.session.outbox.control(FromHub::Heartbeat);
        }
        match self.drain {
            Drain::Not if now >= self.expiry(now) => {
                self.session.set_draining(true);
                self.session.outbox.control(FromHub::Drain {
                    reconnect_in: Duration::ZERO,
                    reason: "the token has ended".into(),
                });
                self.drain = Drain::Expired {
                    until: now + EXPIRY_DRAIN,
                };
                None
            }
            Drain::Expired { until } if now >= until => Some(CloseReason::Expired),
            Drain::Stopping { until, .. } if now >= until => Some(CloseReason::Drained),
            Drain::Stopping { moved, .. } if now >= moved && self.is_idle() => Some(CloseReason::Drained),
            Drain::Not | Drain::Expired { .. } | Drain::Stopping { .. } => None,
        }
    }

    fn is_idle(&self) -> bool {
        self.session.in_flight() == 0 && self.session.outbox.is_empty()
    }

    fn wake(&self) -> Instant {
        let heartbeat = self.hub.options.heartbeat;
        let now = Instant::now();
        let drain = match self.drain {
            Drain::Not => self.expiry(now),
            Drain::Expired { until } => until,
            // Idle sessions end as soon as they may; others are looked at again by what ends them.
            Drain::Stopping { moved, until } if now < moved => moved.min(until),
            Drain::Stopping { until, .. } => until.min(now + Duration::from_millis(50)),
        };
        let due = self.session.calls().next_due();
        [due, self.stalled.map(|since| since + STALL)]
            .into_iter()
            .flatten()
            .fold(
                drain
                    .min(self.beat + heartbeat)
                    .min(self.heard + silence(heartbeat)),
                Ord::min,
            )
    }

    /// When the token ends, by the clock of now.
    fn expiry(&self, now: Instant) -> Instant {
        let left = self.principal.expires_at.duration_since(self.hub.clock.now());
        let far = Duration::from_secs(365 * 24 * 3600);
        now + Duration::try_from(left).unwrap_or(Duration::ZERO).min(far)
    }

    fn start_drain(&mut self) {
        let options = &self.hub.options;
        let share = u128::from(self.hub.entropy.next_u64());
        let nanos = (share * options.drain_spread.as_nanos()) >> 64;
        let reconnect_in = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let linger = if options.drain_spread.is_zero() {
            Duration::ZERO
        } else {
            LINGER
        };
        let now = Instant::now();
        self.drain = Drain::Stopping {
            moved: now + reconnect_in + linger,
            until: now + options.grace,
        };
        self.session.set_draining(true);
        self.session.outbox.control(FromHub::Drain {
            reconnect_in,
            reason: "the hub stops".into(),
        });
    }

    /// Takes a frame in; a reason ends the session.
    fn take(&mut self, frame: FromAgent) -> Option<CloseReason> {
        let now = self.hub.clock.now();
        self.heard = Instant::now();
        self.session.hear(now);
        match frame {
            FromAgent::AuthRefresh(token) => self.refresh(token, now),
            FromAgent::Goodbye(reason) => {
                tracing::debug!(session.id = %self.session.id, reason, "agent says goodbye");
                return Some(CloseReason::Drained);
            }
            FromAgent::Heartbeat(in_hand) => self.session.reconcile(&in_hand),
            FromAgent::Hello(_) => return Some(CloseReason::Protocol),
            FromAgent::Inventory(news) => {
                let taken = self.hub.registry().inventory(&self.session, news, now);
                if let Err(problem) = taken {
                    self.session.outbox.control(FromHub::InventoryNack(problem));
                }
            }
            FromAgent::Update { request, update } => self.session.news(request, update),
        }
        None
    }

    fn refresh(&mut self, token: Secret, now: Timestamp) {
        match self.hub.verifier.clone() {
            Some(verifier) => {
                self.verifying = Some(Box::pin(async move { verifier.verify(&token, now).await }));
            }
            None => tracing::warn!("the hub has no verifier: sessions end with their first token"),
        }
    }

    /// A new token prolongs the session if it is the same principal's and still allows it.
    fn refreshed(&mut self, verified: Result<Arc<Principal>, TokenError>) {
        let session = &self.session;
        let principal = match verified {
            Ok(principal) => principal,
            Err(error) => {
                tracing::warn!(session.id = %session.id, error = %ErrorChain(&error), "new token refused");
                return;
            }
        };
        let same = principal.id == self.principal.id
            && principal.tenant.as_ref() == Some(&session.key.tenant)
            && principal.agents.contains(&session.key.name)
            && principal.authorize::<ConnectAgent>().is_ok();
        if !same {
            tracing::warn!(session.id = %session.id, client = principal.id, "new token is somebody else's");
            return;
        }
        if principal.expires_at > self.principal.expires_at {
            self.principal = principal;
            if matches!(self.drain, Drain::Expired { .. }) {
                self.drain = Drain::Not;
                session.set_draining(false);
            }
        }
    }
}

/// Silence that means that the other side is gone: two and a half heartbeats.
fn silence(heartbeat: Duration) -> Duration {
    heartbeat * 5 / 2
}

/// The token that is being verified; pending when there is none.
async fn verification(verifying: &mut Option<Verification>) -> Result<Arc<Principal>, TokenError> {
    match verifying {
        Some(future) => {
            let verified = future.await;
            *verifying = None;
            verified
        }
        None => std::future::pending().await,
    }
}
