//! DaemonSets: one pod, for there is one node.

use async_trait::async_trait;
use serde_json::json;

use crate::sim::{
    objects::{Objects, WatchEvent},
    resource::DAEMON_SETS,
};

use super::{
    hash, meta, pods,
    queue::{Next, ObjectKey, Reconciler},
};

const REVISION: &str = "controller-revision-hash";

/// The controller of DaemonSets.
#[derive(Debug)]
pub(super) struct DaemonSets;

#[async_trait]
impl Reconciler for DaemonSets {
    fn wants(&self, _objects: &Objects, event: &WatchEvent) -> Vec<ObjectKey> {
        meta::own_or_controller(event, &DAEMON_SETS)
    }

    async fn reconcile(&self, objects: &Objects, (namespace, name): &ObjectKey) -> Next {
        let Some(set) = objects.get(&DAEMON_SETS, namespace, name) else {
            return Next::Done;
        };
        if meta::is_deleting(&set) {
            return Next::Done;
        }
        let revision = hash::of(&set["spec"]["template"]);
        let held = pods::of(objects, &set);
        let outdated = held
            .iter()
            .filter(|pod| meta::label(pod, REVISION) != revision && !meta::is_deleting(pod));
        if set["spec"]["updateStrategy"]["type"] != "OnDelete" {
            outdated.for_each(|pod| pods::delete(objects, pod));
        }
        if held.is_empty() {
            let mut template = set["spec"]["template"].clone();
            meta::put(&mut template, &["metadata", "labels", REVISION], revision.clone());
            // Refused in a namespace that is being deleted; there is nothing to wait for then.
            let _made = pods::create(objects, &set, &template, &format!("{name}-"));
        }
        let min_ready = meta::int(&set, "/spec/minReadySeconds").unwrap_or(0);
        let counts = pods::count(&held, min_ready, objects.now());
        let updated = held
            .iter()
            .filter(|pod| pods::is_active(pod) && meta::label(pod, REVISION) == revision);
        let mut written = (*set).clone();
        written["status"] = json!({
            "observedGeneration": set["metadata"]["generation"],
            "currentNumberScheduled": counts.all,
            "desiredNumberScheduled": 1,
            "numberMisscheduled": 0,
            "numberReady": counts.ready,
            "numberAvailable": counts.available,
            "numberUnavailable": 1 - counts.available,
            "updatedNumberScheduled": updated.count(),
        });
        // A set that vanished in between needs no status.
        let _written = objects.update_status(&DAEMON_SETS, namespace, name, None, &written);
        counts.next.map_or(Next::Done, Next::After)
    }
}
