//! StatefulSets: numbered pods with their claims, one after the other.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::sim::{
    objects::{Objects, WatchEvent},
    resource::{PERSISTENT_VOLUME_CLAIMS, STATEFUL_SETS},
};

use super::{
    hash, meta, pods,
    queue::{Next, ObjectKey, Reconciler},
};

const REVISION: &str = "controller-revision-hash";

/// The controller of StatefulSets.
#[derive(Debug)]
pub(super) struct StatefulSets;

#[async_trait]
impl Reconciler for StatefulSets {
    fn wants(&self, _objects: &Objects, event: &WatchEvent) -> Vec<ObjectKey> {
        meta::own_or_controller(event, &STATEFUL_SETS)
    }

    async fn reconcile(&self, objects: &Objects, (namespace, name): &ObjectKey) -> Next {
        let Some(set) = objects.get(&STATEFUL_SETS, namespace, name) else {
            return Next::Done;
        };
        if meta::is_deleting(&set) {
            return Next::Done;
        }
        let revision = format!("{name}-{}", hash::of(&set["spec"]["template"]));
        let held = pods::of(objects, &set);
        advance(objects, &set, &revision, &held);
        write_status(objects, &set, &revision, &held)
    }
}

/// Makes or replaces at most one pod, unless pods are managed in parallel.
fn advance(objects: &Objects, set: &Value, revision: &str, held: &[Arc<Value>]) {
    let replicas = meta::replicas(set);
    let parallel = set["spec"]["podManagementPolicy"] == "Parallel";
    let named = |ordinal: i64| {
        let wanted = format!("{}-{ordinal}", meta::name(set));
        held.iter().find(|pod| meta::name(pod) == wanted)
    };
    for ordinal in 0..replicas {
        match named(ordinal) {
            None => {
                create(objects, set, revision, ordinal);
                if !parallel {
                    return;
                }
            }
            Some(pod) if !parallel && pods::ready_since(pod).is_none() => {
                // A pod of an older template that does not become ready is replaced, not waited for.
                if meta::label(pod, REVISION) != revision && !meta::is_deleting(pod) {
                    pods::delete(objects, pod);
                }
                return;
            }
            Some(_) => {}
        }
    }
    let surplus = held
        .iter()
        .filter(|pod| ordinal_of(pod) >= replicas && !meta::is_deleting(pod));
    if let Some(pod) = surplus.max_by_key(|pod| ordinal_of(pod)) {
        pods::delete(objects, pod);
        return;
    }
    if set["spec"]["updateStrategy"]["type"] == "OnDelete" {
        return;
    }
    let partition = meta::int(set, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0);
    for ordinal in (partition..replicas).rev() {
        if let Some(pod) = named(ordinal)
            && meta::label(pod, REVISION) != revision
        {
            if !meta::is_deleting(pod) {
                pods::delete(objects, pod);
            }
            return;
        }
    }
}

fn ordinal_of(pod: &Value) -> i64 {
    meta::name(pod)
        .rsplit('-')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn create(objects: &Objects, set: &Value, revision: &str, ordinal: i64) {
    let name = format!("{}-{ordinal}", meta::name(set));
    let mut template = set["spec"]["template"].clone();
    meta::put(&mut template, &["metadata", "labels", REVISION], revision);
    meta::put(
        &mut template,
        &["metadata", "labels", "statefulset.kubernetes.io/pod-name"],
        name.clone(),
    );
    for claim in set["spec"]["volumeClaimTemplates"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let mount = meta::name(claim);
        let claim_name = format!("{mount}-{name}");
        let mut claim = claim.clone();
        meta::put(&mut claim, &["metadata", "name"], claim_name.clone());
        meta::put(&mut claim, &["metadata", "namespace"], meta::namespace(set));
        // A claim that is there already is taken up.
        let _made = objects.create(&PERSISTENT_VOLUME_CLAIMS, claim);
        let volume = json!({"name": mount, "persistentVolumeClaim": {"claimName": claim_name}});
        match template
            .pointer_mut("/spec/volumes")
            .and_then(Value::as_array_mut)
        {
            Some(volumes) => volumes.push(volume),
            None => meta::put(&mut template, &["spec", "volumes"], json!([volume])),
        }
    }
    // Refused in a namespace that is being deleted; there is nothing to wait for then.
    let _made = pods::create(objects, set, &template, &name);
}

fn write_status(objects: &Objects, set: &Value, revision: &str, held: &[Arc<Value>]) -> Next {
    let replicas = meta::replicas(set);
    let min_ready = meta::int(set, "/spec/minReadySeconds").unwrap_or(0);
    let counts = pods::count(held, min_ready, objects.now());
    let active = held.iter().filter(|pod| pods::is_active(pod));
    let updated = active
        .filter(|pod| meta::label(pod, REVISION) == revision)
        .count();
    let updated = i64::try_from(updated).unwrap_or(i64::MAX);
    let done = updated == replicas && counts.ready == replicas;
    let before = set["status"]["currentRevision"]
        .as_str()
        .unwrap_or(revision)
        .to_owned();
    let mut written = set.clone();
    written["status"] = json!({
        "observedGeneration": set["metadata"]["generation"],
        "replicas": counts.all,
        "readyReplicas": counts.ready,
        "availableReplicas": counts.available,
        "updatedReplicas": updated,
        "currentReplicas": if done { updated } else { counts.all - updated },
        "currentRevision": if done { revision.to_owned() } else { before },
        "updateRevision": revision,
        "collisionCount": 0,
    });
    // A set that vanished in between needs no status.
    let _written = objects.update_status(
        &STATEFUL_SETS,
        meta::namespace(set),
        meta::name(set),
        None,
        &written,
    );
    counts.next.map_or(Next::Done, Next::After)
}
