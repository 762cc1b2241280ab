//! The runner: finds pipelines that somebody has to drive and starts a driver for each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::driver::{DriveEnd, Driver};
use super::{ControlPlane, journal};
use crate::error::ErrorChain;
use crate::id::PipelineId;
use crate::port::store::Scope;
use crate::tasks::{Stuck, Tasks};
use crate::tenant::Tenant;

/// Due timers read at once; a pipeline that is driven stays due, so this is far above what one replica drives.
const DUE: usize = 4096;

/// Pipelines driven at once by one replica; more of them wait for their turn.
const MAX_DRIVEN: usize = 1024;

/// How often it looks by itself: other replicas stop, and time passes.
const POLL: Duration = Duration::from_secs(1);

/// The least time between two looks, however much is written.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Ends that drivers have to tell; a full channel lets an ended driver wait, which costs a task.
const ENDS: usize = 64;

type Key = (Tenant, PipelineId);

impl ControlPlane {
    /// Drives pipelines until it is told to stop; returns once all that was under way has ended.
    ///
    /// Leases are given up at the end, so that another replica goes on at once.
    ///
    /// # Errors
    /// [`Stuck`] when something still runs after the grace period.
    ///
    /// # Cancel safety
    /// Dropping the future stops everything without waiting; leases end by themselves.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), Stuck> {
        let tasks = Tasks::stopped_by(&stop);
        let (ended, mut ends) = mpsc::channel(ENDS);
        let mut runner = Runner {
            plane: self.clone(),
            tasks: tasks.clone(),
            ended,
            driven: BTreeSet::new(),
            rest: BTreeMap::new(),
        };
        let mut written = self.inner.store.written();
        let mut look = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                end = ends.recv() => {
                    if let Some((key, end)) = end {
                        runner.ended(key, end);
                    }
                }
                () = tokio::time::sleep_until(look) => {
                    written.borrow_and_update();
                    runner.look().await;
                    look = Instant::now() + POLL;
                }
                changed = written.changed(), if look > Instant::now() + BETWEEN_LOOKS => {
                    if changed.is_ok() {
                        look = look.min(Instant::now() + BETWEEN_LOOKS);
                    } else {
                        // The store's announcer is gone; looking by itself is enough.
                        tokio::time::sleep_until(look).await;
                    }
                }
            }
        }
        drop(ends);
        tasks.drain(self.inner.options.grace).await
    }
}

struct Runner {
    plane: ControlPlane,
    tasks: Tasks,
    ended: mpsc::Sender<(Key, DriveEnd)>,
    driven: BTreeSet<Key>,
    /// Pipelines that are left alone until then.
    rest: BTreeMap<Key, Instant>,
}

/// How soon a pipeline that another replica drives is tried for: its lease may be given up at any time.
const HELD_FOR: Duration = Duration::from_secs(3);

/// How long a pipeline that cannot be read is left alone; somebody may have upgraded a replica and back.
const PARKED_FOR: Duration = Duration::from_secs(600);

impl Runner {
    async fn look(&mut self) {
        let due = match self.plane.inner.store.due_timers(DUE).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "due timers cannot be read");
                return;
            }
        };
        let now = Instant::now();
        self.rest.retain(|_, until| *until > now);
        for timer in due {
            let (Scope::Tenant(tenant), Some(id)) = (timer.scope, journal::id_of(&timer.name)) else {
                continue;
            };
            let key = (tenant, id);
            if self.driven.len() >= MAX_DRIVEN {
                tracing::warn!(
                    driven = self.driven.len(),
                    "more pipelines are due than are driven at once"
                );
                break;
            }
            if !self.rest.contains_key(&key) && self.driven.insert(key.clone()) {
                self.start(key);
            }
        }
    }

    fn start(&self, key: Key) {
        let inner = Arc::clone(&self.plane.inner);
        let ended = self.ended.clone();
        self.tasks.spawn(|stop| async move {
            let (tenant, id) = key.clone();
            let end = Driver::drive(inner, tenant, id, stop).await;
            // Nobody listens once the runner stops.
            let _ = ended.send((key, end)).await;
        });
    }

    fn ended(&mut self, key: Key, end: DriveEnd) {
        self.driven.remove(&key);
        let rest = match end {
            DriveEnd::Held => HELD_FOR,
            DriveEnd::Left => return,
            DriveEnd::Parked => PARKED_FOR,
        };
        self.rest.insert(key, Instant::now() + rest);
    }
}
