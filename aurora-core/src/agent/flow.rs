//! Passing one command's news on to the hub, within the credit that the hub gives.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::{Notify, mpsc};

use crate::agent::dispatch::Job;
use crate::command::Update;
use crate::hub::mailbox::update_weight;
use crate::id::RequestId;
use crate::session::FromAgent;

/// Levels in one frame weigh at most so much: far below the largest frame.
const MAX_FRAME_WEIGHT: u64 = 96 * 1024;

/// Bytes of progress that may still be sent for one command.
#[derive(Debug)]
pub(super) struct Credit {
    initial: i64,
    left: AtomicI64,
    granted: Notify,
}

impl Credit {
    pub(super) fn new(initial: u32) -> Self {
        Self {
            initial: i64::from(initial),
            left: AtomicI64::new(i64::from(initial)),
            granted: Notify::new(),
        }
    }

    /// Adds what the hub grants; there is never more than at the start, so a generous hub does no harm.
    pub(super) fn grant(&self, bytes: u32) {
        let more = |left: i64| Some(left.saturating_add(i64::from(bytes)).min(self.initial));
        // The closure always gives a value.
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        self.granted.notify_one();
    }

    async fn available(&self) {
        while self.left.load(Ordering::Relaxed) <= 0 {
            self.granted.notified().await;
        }
    }

    fn spend(&self, weight: u64) {
        let weight = i64::try_from(weight).unwrap_or(i64::MAX);
        self.left.fetch_sub(weight, Ordering::Relaxed);
    }
}

/// Sends a job's news until its outcome is on the link; gives the request back.
///
/// While there is no credit, later levels take the place of earlier ones in the job's mailbox. The
/// outcome waits for no credit.
pub(super) async fn forward(
    request: RequestId,
    job: Arc<Job>,
    credit: Arc<Credit>,
    tx: mpsc::Sender<FromAgent>,
) -> RequestId {
    let mailbox = Arc::clone(job.mailbox());
    loop {
        mailbox.ready().await;
        if mailbox.needs_credit() {
            tokio::select! {
                biased;
                () = credit.available() => {}
                () = mailbox.ended() => {}
            }
        }
        let Some(update) = mailbox.next(MAX_FRAME_WEIGHT).await else {
            return request;
        };
        credit.spend(update_weight(&update));
        let last = matches!(update, Update::Finished(_));
        let sent = tx.send(FromAgent::Update { request, update }).await;
        if last || sent.is_err() {
            return request;
        }
    }
}
