//! ReplicaSets: as many pods as wanted, and their counts in the status.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::sim::{
    objects::{Objects, WatchEvent},
    resource::REPLICA_SETS,
};

use super::{
    Behaviour, meta, pods,
    queue::{Next, ObjectKey, Reconciler},
    write,
};

/// How many pods are made in one go; the rest follows with the next look, which their creation causes.
const BURST: i64 = 500;

/// The controller of ReplicaSets.
#[derive(Debug)]
pub(super) struct ReplicaSets {
    behaviour: Behaviour,
    /// When counts that differ from the status are due, while they lag behind.
    due: Mutex<BTreeMap<ObjectKey, Instant>>,
}

impl ReplicaSets {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            due: Mutex::default(),
        }
    }

    /// How long a changed status has to wait still.
    fn wait(&self, key: &ObjectKey, changed: bool) -> Option<Duration> {
        let delay = self.behaviour.count_delay();
        let now = Instant::now();
        // Nothing is left half-done under this lock.
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if !changed || delay.is_zero() {
            due.remove(key);
            return None;
        }
        let at = *due.entry(key.clone()).or_insert(now + delay);
        if at > now {
            return Some(at - now);
        }
        due.remove(key);
        None
    }
}

#[async_trait]
impl Reconciler for ReplicaSets {
    fn latency(&self) -> Duration {
        Duration::from_millis(12)
    }

    fn wants(&self, _objects: &Objects, event: &WatchEvent) -> Vec<ObjectKey> {
        meta::own_or_controller(event, &REPLICA_SETS)
    }

    async fn reconcile(&self, objects: &Objects, key: &ObjectKey) -> Next {
        let (namespace, name) = key;
        let Some(set) = objects.get(&REPLICA_SETS, namespace, name) else {
            return Next::Done;
        };
        if meta::is_deleting(&set) {
            return Next::Done;
        }
        let (active, failure) = keep_pods(objects, &set);
        let min_ready = meta::int(&set, "/spec/minReadySeconds").unwrap_or(0);
        let counts = pods::count(&active, min_ready, objects.now());
        let mut next = (*set).clone();
        next["status"] = status(&set, counts, failure.as_deref());
        if let Some(wait) = self.wait(key, next["status"] != set["status"]) {
            return Next::After(wait);
        }
        // A ReplicaSet that vanished in between needs no status; one that changed comes again.
        let _written = objects.update_status(&REPLICA_SETS, namespace, name, None, &next);
        if let Some(message) = failure {
            write::event(
                objects,
                "replicaset-controller",
                &set,
                true,
                "FailedCreate",
                &message,
            );
            return Next::Retry;
        }
        counts.next.map_or(Next::Done, Next::After)
    }
}

/// Makes or deletes pods until there are as many as wanted; answers those that stay, and why one could not be
/// made.
fn keep_pods(objects: &Objects, set: &Value) -> (Vec<Arc<Value>>, Option<String>) {
    let wanted = meta::replicas(set);
    let mut active = pods::of(objects, set);
    active.retain(|pod| pods::is_active(pod));
    let held = i64::try_from(active.len()).unwrap_or(i64::MAX);
    let prefix = format!("{}-", meta::name(set));
    for _ in held..wanted.min(held.saturating_add(BURST)) {
        match pods::create(objects, set, &set["spec"]["template"], &prefix) {
            Ok(pod) => active.push(pod),
            Err(error) => return (active, Some(error.to_string())),
        }
    }
    pods::deletion_order(&mut active);
    let surplus = usize::try_from(held - wanted).unwrap_or(0);
    for pod in active.drain(..surplus) {
        pods::delete(objects, &pod);
    }
    (active, None)
}

fn status(set: &Value, counts: pods::Counts, failure: Option<&str>) -> Value {
    let mut status = json!({
        "replicas": counts.all,
        "observedGeneration": set["metadata"]["generation"],
    });
    let optional = [
        ("fullyLabeledReplicas", counts.all),
        ("readyReplicas", counts.ready),
        ("availableReplicas", counts.available),
    ];
    for (field, count) in optional {
        if count > 0 {
            status[field] = count.into();
        }
    }
    if let Some(message) = failure {
        status["conditions"] = json!([
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message},
        ]);
    }
    status
}
