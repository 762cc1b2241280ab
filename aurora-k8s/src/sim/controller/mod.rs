//! The controllers of the simulated cluster and what drives them.

mod autoscaler;
mod canonical;
mod claim;
mod daemon_set;
mod definition;
mod deployment;
mod disruption;
mod endpoints;
mod garbage;
mod hash;
mod job;
mod kubelet;
mod logs;
mod meta;
mod namespace;
mod pods;
mod queue;
mod replica_set;
mod rollout;
mod stateful_set;
#[cfg(test)]
mod tests;
mod write;

use std::{fmt, sync::Arc, time::Duration};

use futures::future::{BoxFuture, join_all};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::queue::{Reconciler, drive};
use super::Objects;

pub use self::logs::pod_log;

/// How the controllers behave, switchable while they run; clones share the switches.
#[derive(Clone)]
pub struct Behaviour {
    rollouts: Arc<watch::Sender<bool>>,
    count_delay: Arc<watch::Sender<Duration>>,
}

impl Behaviour {
    /// Takes the Rollouts controller away, as if its process were killed: Rollouts keep the status they have
    /// (or none), whatever becomes of their spec. Everything else goes on.
    pub fn stop_rollouts(&self) {
        self.rollouts.send_replace(false);
    }

    /// Starts the Rollouts controller without any memory of what it did before.
    pub fn start_rollouts(&self) {
        self.rollouts.send_replace(true);
    }

    /// Lets the counts in the status of ReplicaSets lag behind their pods, as under load; zero is the default.
    pub fn delay_counts(&self, by: Duration) {
        self.count_delay.send_replace(by);
    }

    /// How far the counts of ReplicaSets lag behind.
    pub(crate) fn count_delay(&self) -> Duration {
        *self.count_delay.borrow()
    }

    /// Whether the Rollouts controller is there.
    #[must_use]
    pub fn has_rollouts(&self) -> bool {
        *self.rollouts.borrow()
    }
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            rollouts: Arc::new(watch::channel(true).0),
            count_delay: Arc::new(watch::channel(Duration::ZERO).0),
        }
    }
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behaviour")
            .field("rollouts", &self.has_rollouts())
            .finish()
    }
}

/// All controllers of one cluster, and the kubelet of its one node.
#[derive(Debug)]
pub struct Controllers {
    objects: Objects,
    behaviour: Behaviour,
}

impl Controllers {
    /// Controllers over these objects; nothing happens before [`Controllers::run`].
    #[must_use]
    pub fn new(objects: Objects, behaviour: Behaviour) -> Self {
        Self { objects, behaviour }
    }

    /// Reconciles what changes until `stop` is cancelled. Sleeps on tokio's clock between due times.
    ///
    /// # Cancel safety
    /// Dropping the future is a crash of all controllers at once: what they wrote stays, and a new run goes on
    /// from it.
    pub async fn run(self, stop: CancellationToken) {
        let objects = &self.objects.written_by("kube-controller-manager");
        let kubelet = &self.objects.written_by("kubelet");
        kubelet::ensure_node(kubelet);
        let all: Vec<BoxFuture<'_, ()>> = vec![
            Box::pin(self.rollouts(&stop)),
            worker(
                objects,
                replica_set::ReplicaSets::new(self.behaviour.clone()),
                &stop,
            ),
            worker(kubelet, kubelet::Kubelet, &stop),
            worker(objects, deployment::Deployments, &stop),
            worker(objects, stateful_set::StatefulSets, &stop),
            worker(objects, daemon_set::DaemonSets, &stop),
            worker(objects, job::Jobs, &stop),
            worker(objects, autoscaler::Autoscalers, &stop),
            worker(objects, claim::Claims, &stop),
            worker(objects, endpoints::EndpointsOfServices, &stop),
            worker(objects, definition::Definitions, &stop),
            worker(objects, disruption::DisruptionBudgets, &stop),
            worker(objects, garbage::Garbage, &stop),
            worker(objects, namespace::Namespaces, &stop),
        ];
        join_all(all).await;
    }

    async fn rollouts(&self, stop: &CancellationToken) {
        let objects = self.objects.written_by("rollouts-controller");
        let mut switch = self.behaviour.rollouts.subscribe();
        while !stop.is_cancelled() {
            if !*switch.borrow_and_update() {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    changed = switch.changed() => if changed.is_err() { return },
                }
                continue;
            }
            // A controller needs some time before its caches are filled.
            tokio::time::sleep(Duration::from_millis(5)).await;
            let controller = rollout::Rollouts::default();
            tokio::select! {
                biased;
                changed = switch.wait_for(|on| !*on) => if changed.is_err() { return },
                () = drive(&objects, &controller, stop) => return,
            }
        }
    }
}

fn worker<'a>(
    objects: &'a Objects,
    reconciler: impl Reconciler + 'a,
    stop: &'a CancellationToken,
) -> BoxFuture<'a, ()> {
    Box::pin(async move { drive(objects, &reconciler, stop).await })
}
