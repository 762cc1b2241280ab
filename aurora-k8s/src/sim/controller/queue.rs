//! The loop of every controller: what changed becomes a key, a key is reconciled, one at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::sim::objects::{Objects, WatchEvent};

/// Namespace and name.
pub(super) type ObjectKey = (String, String);

/// When to look at a key again, apart from what changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// After this time.
    After(Duration),
    /// When something changes.
    Done,
    /// After a time that doubles with each failure in a row.
    Retry,
}

/// Longest time without a look; what is due later is looked at in vain before.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// First delay of [`Next::Retry`].
const RETRY_FIRST: Duration = Duration::from_millis(1);
/// Longest delay of [`Next::Retry`].
const RETRY_LONGEST: Duration = Duration::from_secs(10);

/// What one controller does with one key.
#[async_trait]
pub(super) trait Reconciler: Send + Sync {
    /// How long a change waits before it is looked at.
    fn latency(&self) -> Duration {
        Duration::from_millis(8)
    }

    /// Which keys a write concerns.
    fn wants(&self, objects: &Objects, event: &WatchEvent) -> Vec<ObjectKey>;

    /// Brings one key closer to what is wanted.
    ///
    /// # Cancel safety
    /// Dropping it leaves what was written; the next reconcile goes on from there.
    async fn reconcile(&self, objects: &Objects, key: &ObjectKey) -> Next;
}

#[derive(Default)]
struct Queue {
    due: BTreeMap<ObjectKey, Instant>,
    busy: BTreeSet<ObjectKey>,
    failures: BTreeMap<ObjectKey, u32>,
}

/// Runs one controller until `stop` is cancelled.
pub(super) async fn drive(objects: &Objects, reconciler: &dyn Reconciler, stop: &CancellationToken) {
    let mut changed = objects.changed();
    let mut queue = Queue::default();
    let mut running: FuturesUnordered<BoxFuture<'_, (ObjectKey, Next)>> = FuturesUnordered::new();
    let (everything, mut seen) = objects.everything();
    queue.notice(objects, reconciler, &everything);
    loop {
        for key in queue.take_due(Instant::now()) {
            running.push(Box::pin(async move {
                let next = reconciler.reconcile(objects, &key).await;
                (key, next)
            }));
        }
        let next_due = queue.next_due();
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some((key, next)) = running.next(), if !running.is_empty() => queue.finished(key, next),
            alive = changed.changed() => {
                if alive.is_err() {
                    return;
                }
                changed.borrow_and_update();
                match objects.events_since(seen) {
                    Ok(events) => {
                        seen = events.last().map_or(seen, |event| event.rv);
                        queue.notice(objects, reconciler, &events);
                    }
                    Err(_expired) => {
                        let (everything, at) = objects.everything();
                        seen = at;
                        queue.notice(objects, reconciler, &everything);
                    }
                }
            }
            () = sleep_until(next_due.unwrap_or_else(Instant::now)), if next_due.is_some() => {}
        }
    }
}

impl Queue {
    fn notice(&mut self, objects: &Objects, reconciler: &dyn Reconciler, events: &[WatchEvent]) {
        let at = Instant::now() + reconciler.latency();
        for event in events {
            for key in reconciler.wants(objects, event) {
                self.at(key, at);
            }
        }
    }

    fn at(&mut self, key: ObjectKey, at: Instant) {
        let due = self.due.entry(key).or_insert(at);
        *due = at.min(*due);
    }

    fn take_due(&mut self, now: Instant) -> Vec<ObjectKey> {
        let ready: Vec<ObjectKey> = self
            .due
            .iter()
            .filter(|(key, at)| **at <= now && !self.busy.contains(*key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &ready {
            self.due.remove(key);
            self.busy.insert(key.clone());
        }
        ready
    }

    fn next_due(&self) -> Option<Instant> {
        self.due
            .iter()
            .filter(|(key, _)| !self.busy.contains(*key))
            .map(|(_, at)| *at)
            .min()
    }

    fn finished(&mut self, key: ObjectKey, next: Next) {
        self.busy.remove(&key);
        match next {
            Next::Done => {
                self.failures.remove(&key);
            }
            Next::After(time) => {
                self.failures.remove(&key);
                self.at(key, Instant::now() + time.min(LONGEST));
            }
            Next::Retry => {
                let failures = self.failures.entry(key.clone()).or_insert(0);
                let delay = RETRY_FIRST
                    .saturating_mul(2_u32.saturating_pow(*failures))
                    .min(RETRY_LONGEST);
                *failures = failures.saturating_add(1);
                self.at(key, Instant::now() + delay);
            }
        }
    }
}
