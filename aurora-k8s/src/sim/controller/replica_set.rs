//! ReplicaSets: as many pods as wanted, and their counts in the status.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::sim::{
    objects::{Objects, WatchEvent},
    resource::REPLICA_SETS,
};

use super::{
    meta, pods,
    queue::{Next, ObjectKey, Reconciler},
    write,
};

/// The controller of ReplicaSets.
#[derive(Debug)]
pub(super) struct ReplicaSets;

#[async_trait]
impl Reconciler for ReplicaSets {
    fn latency(&self) -> Duration {
        Duration::from_millis(12)
    }

    fn wants(&self, _objects: &Objects, event: &WatchEvent) -> Vec<ObjectKey> {
        meta::own_or_controller(event, &REPLICA_SETS)
    }

    async fn reconcile(&self, objects: &Objects, (namespace, name): &ObjectKey) -> Next {
        let Some(set) = objects.get(&REPLICA_SETS, namespace, name) else {
            return Next::Done;
        };
        if meta::is_deleting(&set) {
            return Next::Done;
        }
        let wanted = meta::int(&set, "/spec/replicas").unwrap_or(1);
        let mut active = pods::of(objects, &set);
        active.retain(|pod| pods::is_active(pod));
        let held = i64::try_from(active.len()).unwrap_or(i64::MAX);
        let mut failure = None;
        for _ in held..wanted {
            match pods::create(objects, &set, &set["spec"]["template"], &format!("{name}-")) {
                Ok(pod) => active.push(pod),
                Err(error) => {
                    failure = Some(error.to_string());
                    break;
                }
            }
        }
        pods::deletion_order(&mut active);
        let surplus = usize::try_from(held - wanted).unwrap_or(0);
        for pod in active.drain(..surplus.min(active.len())) {
            pods::delete(objects, &pod);
        }
        let min_ready = meta::int(&set, "/spec/minReadySeconds").unwrap_or(0);
        let counts = pods::count(&active, min_ready, objects.now());
        let status = status(&set, counts, failure.as_deref());
        let mut next = (*set).clone();
        next["status"] = status;
        let generation_read = meta::int(&set, "/metadata/generation");
        let live_generation = objects
            .get(&REPLICA_SETS, namespace, name)
            .and_then(|live| meta::int(&live, "/metadata/generation"));
        if generation_read == live_generation {
            // A ReplicaSet that vanished in between needs no status.
            let _written = objects.update_status(&REPLICA_SETS, namespace, name, None, &next);
        }
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
