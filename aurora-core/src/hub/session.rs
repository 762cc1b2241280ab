//! One session as the rest of the hub sees it: who it is, what it has in hand, how to end it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::account::AgentKey;
use crate::agent::dispatch::is_kept;
use crate::command::{Outcome, Update};
use crate::hub::calls::{Call, Calls, Left, News, Results};
use crate::hub::figures::Tally;
use crate::hub::mailbox::Mailbox;
use crate::hub::outbox::Outbox;
use crate::id::{RequestId, SessionId};
use crate::port::router::{InstanceStatus, Order};
use crate::session::{CloseReason, FromHub, Hello};

/// One live session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) key: AgentKey,
    pub(super) id: SessionId,
    pub(super) epoch: u64,
    pub(super) hello: Hello,
    pub(super) outbox: Outbox,
    pub(super) close: CancellationToken,
    features: Vec<String>,
    client: String,
    address: String,
    since: Timestamp,
    heard: AtomicI64,
    requests: AtomicU64,
    draining: AtomicBool,
    calls: Mutex<Calls>,
    results: Arc<Mutex<Results>>,
    ending: Mutex<Option<(CloseReason, Duration)>>,
}

/// Who a session is of.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) key: AgentKey,
    pub(super) id: SessionId,
    pub(super) epoch: u64,
    pub(super) hello: Hello,
    pub(super) features: Vec<String>,
    pub(super) client: String,
    pub(super) address: String,
    pub(super) since: Timestamp,
    pub(super) results: Arc<Mutex<Results>>,
    pub(super) tally: Tally,
}

impl Session {
    pub(super) fn new(opened: Opened) -> Self {
        Self {
            key: opened.key,
            id: opened.id,
            epoch: opened.epoch,
            hello: opened.hello,
            outbox: Outbox::default(),
            close: CancellationToken::new(),
            features: opened.features,
            client: opened.client,
            address: opened.address,
            since: opened.since,
            heard: AtomicI64::new(opened.since.as_microsecond()),
            requests: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            calls: Mutex::new(Calls::counted_by(opened.tally)),
            results: opened.results,
            ending: Mutex::new(None),
        }
    }

    /// Puts a command on its way; gives the order back when the session is over.
    pub(super) fn send(&self, order: Order, mailbox: &Arc<Mailbox>) -> Result<RequestId, Box<Order>> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let request = RequestId::from_uuid(Uuid::from_u64_pair(self.epoch, number));
        let Order { command, blobs } = order;
        let call = Call {
            command: command.id,
            mutation: command.verb.is_mutation(),
            due: Instant::now() + command.deadline,
            blobs,
            viewers: vec![Arc::clone(mailbox)],
            dispatched: false,
            misses: 0,
        };
        let mut calls = self.calls();
        match calls.insert(request, call) {
            Ok(()) => {
                // Under the lock, so that commands leave in the order of their requests.
                self.outbox.command(request, command);
                Ok(request)
            }
            Err(call) => Err(Box::new(Order {
                command,
                blobs: call.blobs,
            })),
        }
    }

    /// The next frame that may go out; a command whose time is over is left out.
    pub(super) fn next_frame(&self) -> Option<FromHub> {
        loop {
            match self.outbox.pop()? {
                FromHub::Command { request, mut command } => {
                    let mut calls = self.calls();
                    if let Some(left) = calls.remaining(request, Instant::now()) {
                        command.deadline = left;
                        calls.dispatched(request);
                        return Some(FromHub::Command { request, command });
                    }
                }
                frame => return Some(frame),
            }
        }
    }

    /// A reader left before the outcome.
    pub(super) fn leave(&self, request: RequestId, mailbox: &Arc<Mailbox>) {
        let mut calls = self.calls();
        if calls.leave(request, mailbox) == Left::Cancel {
            self.stop(&mut calls, request);
        }
    }

    /// Ends the calls whose time is over.
    pub(super) fn expire(&self, now: Instant) {
        let over = self.calls().expire(now);
        for request in over {
            if !self.outbox.retract(request) {
                self.outbox.control(FromHub::Cancel(request));
            }
        }
    }

    /// Passes an agent's news on.
    pub(super) fn news(&self, request: RequestId, update: Update) {
        let what = self.calls().news(request, update);
        match what {
            News::Ended(Some((command, outcome))) if is_kept(&outcome) => {
                self.results().keep(command, outcome, Instant::now());
            }
            News::Ended(_) | News::Passed | News::Unread => {}
            News::Unknown => tracing::debug!(session.id = %self.id, %request, "news of an unknown command"),
        }
    }

    /// Compares with the ids that the agent has in hand.
    pub(super) fn reconcile(&self, in_hand: &[RequestId]) {
        let nobodys = self.calls().reconcile(in_hand);
        for request in nobodys {
            self.outbox.cancel_unknown(request);
        }
    }

    /// Gives back the credit of what a reader took.
    pub(super) fn credit(&self, request: RequestId, weight: u64) {
        let open = self.calls().is_dispatched(request).unwrap_or(false);
        if weight > 0 && open {
            let bytes = u32::try_from(weight).unwrap_or(u32::MAX);
            self.outbox.control(FromHub::Credit { request, bytes });
        }
    }

    /// Ends the session from outside; the first reason counts.
    pub(super) fn end(&self, reason: CloseReason, retry_after: Duration) {
        self.ending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert((reason, retry_after));
        // What comes from the agent from now on counts no more.
        self.calls().close();
        self.close.cancel();
    }

    pub(super) fn ending(&self) -> Option<(CloseReason, Duration)> {
        *self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hear(&self, now: Timestamp) {
        self.heard.store(now.as_microsecond(), Ordering::Relaxed);
    }

    pub(super) fn last_heard(&self) -> Timestamp {
        Timestamp::from_microsecond(self.heard.load(Ordering::Relaxed)).unwrap_or(self.since)
    }

    pub(super) fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.calls().len()
    }

    pub(super) fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> InstanceStatus {
        let offset = self.hello.now.as_millisecond() - self.since.as_millisecond();
        InstanceStatus {
            instance: self.hello.instance,
            session: self.id,
            epoch: self.epoch,
            software: self.hello.software.clone(),
            features: self.features.clone(),
            since: self.since,
            last_heartbeat: self.last_heard(),
            address: self.address.clone(),
            client: self.client.clone(),
            clock_offset_ms: offset,
            in_flight: u32::try_from(self.in_flight()).unwrap_or(u32::MAX),
        }
    }

    fn stop(&self, calls: &mut Calls, request: RequestId) {
        if self.outbox.retract(request) {
            calls.finish(request, &Outcome::Cancelled);
        } else {
            self.outbox.control(FromHub::Cancel(request));
        }
    }

    fn results(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
