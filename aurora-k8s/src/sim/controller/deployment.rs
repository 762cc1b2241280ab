//! Deployments: a ReplicaSet per template, rolled over within the bounds.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::sim::{
    objects::{Objects, WatchEvent, later},
    resource::{DEPLOYMENTS, REPLICA_SETS},
};

use super::{
    hash, meta,
    queue::{Next, ObjectKey, Reconciler},
    write,
};

const HASH_LABEL: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";

/// The controller of Deployments.
#[derive(Debug)]
pub(super) struct Deployments;

#[derive(Debug)]
struct Set {
    object: std::sync::Arc<Value>,
    wanted: i64,
    available: i64,
    revision: i64,
}

#[async_trait]
impl Reconciler for Deployments {
    fn wants(&self, _objects: &Objects, event: &WatchEvent) -> Vec<ObjectKey> {
        meta::own_or_controller(event, &DEPLOYMENTS)
    }

    async fn reconcile(&self, objects: &Objects, (namespace, name): &ObjectKey) -> Next {
        let Some(deployment) = objects.get(&DEPLOYMENTS, namespace, name) else {
            return Next::Done;
        };
        if meta::is_deleting(&deployment) {
            return Next::Done;
        }
        let template_hash = hash::of(&json!([HASH_LABEL, deployment["spec"]["template"]]));
        let (new, old) = sets(objects, &deployment, &template_hash);
        let revision = old.iter().map(|set| set.revision).max().unwrap_or(0) + 1;
        let Some(new) = new else {
            return if create(objects, &deployment, &template_hash, revision) {
                Next::Done
            } else {
                Next::Retry
            };
        };
        if deployment["spec"]["paused"] != true {
            take_up(objects, &deployment, &new, revision);
            roll(objects, &deployment, &new, &old);
        }
        trim_history(objects, &deployment, &old);
        write_status(objects, &deployment, &new, &old)
    }
}

fn sets(objects: &Objects, deployment: &Value, template_hash: &str) -> (Option<Set>, Vec<Set>) {
    let (mut new, mut old) = (None, Vec::new());
    for object in objects
        .list(&REPLICA_SETS, Some(meta::namespace(deployment)))
        .items
    {
        if !meta::is_controlled_by(&object, deployment) || meta::is_deleting(&object) {
            continue;
        }
        let revision = meta::annotation(&object, REVISION).and_then(|text| text.parse().ok());
        let set = Set {
            wanted: meta::count(meta::int(&object, "/spec/replicas").unwrap_or(0)),
            available: meta::int(&object, "/status/availableReplicas").unwrap_or(0),
            revision: revision.unwrap_or(0),
            object,
        };
        if meta::label(&set.object, HASH_LABEL) == template_hash {
            new = Some(set)
        } else {
            old.push(set)
        }
    }
    old.sort_by_key(|set| set.revision);
    (new, old)
}

fn create(objects: &Objects, deployment: &Value, template_hash: &str, revision: i64) -> bool {
    let mut template = deployment["spec"]["template"].clone();
    meta::put(&mut template, &["metadata", "labels", HASH_LABEL], template_hash);
    let mut selector = deployment["spec"]["selector"].clone();
    meta::put(&mut selector, &["matchLabels", HASH_LABEL], template_hash);
    let name = format!("{}-{template_hash}", meta::name(deployment));
    let set = json!({
        "metadata": {
            "name": name,
            "namespace": meta::namespace(deployment),
            "labels": template["metadata"]["labels"],
            "annotations": {REVISION: revision.to_string()},
            "ownerReferences": [meta::owner_reference(deployment)],
        },
        "spec": {
            "replicas": 0,
            "selector": selector,
            "template": template,
            "minReadySeconds": deployment["spec"]["minReadySeconds"].as_i64().unwrap_or(0),
        },
    });
    objects.create(&REPLICA_SETS, set).is_ok()
}

/// Gives the ReplicaSet of the present template the newest revision.
fn take_up(objects: &Objects, deployment: &Value, new: &Set, revision: i64) {
    let (namespace, text) = (
        meta::namespace(deployment),
        new.revision.max(revision).to_string(),
    );
    if new.revision < revision {
        let _newest = write::edit(
            objects,
            &REPLICA_SETS,
            namespace,
            meta::name(&new.object),
            |set| {
                meta::put(set, &["metadata", "annotations", REVISION], text.clone());
            },
        );
    }
    if meta::annotation(deployment, REVISION) != Some(text.as_str()) {
        let _noted = write::edit(
            objects,
            &DEPLOYMENTS,
            namespace,
            meta::name(deployment),
            |deployment| {
                meta::put(deployment, &["metadata", "annotations", REVISION], text.clone());
            },
        );
    }
}

fn roll(objects: &Objects, deployment: &Value, new: &Set, old: &[Set]) {
    let replicas = meta::replicas(deployment);
    let strategy = &deployment["spec"]["strategy"];
    let held: i64 = old.iter().map(|set| set.wanted).sum();
    if strategy["type"] == "Recreate" {
        let pods: i64 = old
            .iter()
            .filter_map(|set| meta::int(&set.object, "/status/replicas"))
            .sum();
        for set in old {
            scale(objects, deployment, set, 0);
        }
        if held == 0 && pods == 0 {
            scale(objects, deployment, new, replicas);
        }
        return;
    }
    let bound = |field: &str, up: bool| {
        let given = &strategy["rollingUpdate"][field];
        let given = if given.is_null() {
            &Value::from("25%")
        } else {
            given
        };
        meta::share(given, replicas, up).unwrap_or(0)
    };
    let surge = bound("maxSurge", true);
    let unavailable = if surge == 0 {
        bound("maxUnavailable", false).max(1)
    } else {
        bound("maxUnavailable", false)
    };
    let room = (replicas + surge - held).max(0);
    let next_new = if new.wanted > replicas {
        replicas
    } else {
        replicas.min(new.wanted.max(room))
    };
    scale(objects, deployment, new, next_new);
    // Pods that are not available go first; of the others as many as the bounds allow.
    let available: i64 =
        old.iter().map(|set| set.available.min(set.wanted)).sum::<i64>() + new.available.min(new.wanted);
    let mut spare = available - (replicas - unavailable);
    for set in old.iter().filter(|set| set.wanted > 0) {
        let healthy = set.available.min(set.wanted);
        let goes = spare.clamp(0, healthy);
        spare -= goes;
        scale(objects, deployment, set, healthy - goes);
    }
}

fn scale(objects: &Objects, deployment: &Value, set: &Set, count: i64) {
    if set.wanted == count {
        return;
    }
    let (namespace, name) = (meta::namespace(deployment), meta::name(&set.object));
    if write::scale(objects, &REPLICA_SETS, namespace, name, count).is_ok() {
        let direction = if count > set.wanted { "up" } else { "down" };
        let message = format!(
            "Scaled {direction} replica set {name} from {} to {count}",
            set.wanted
        );
        write::event(
            objects,
            "deployment-controller",
            deployment,
            false,
            "ScalingReplicaSet",
            &message,
        );
    }
}

fn trim_history(objects: &Objects, deployment: &Value, old: &[Set]) {
    let limit = meta::int(deployment, "/spec/revisionHistoryLimit").unwrap_or(10);
    let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    for set in old
        .iter()
        .take(surplus)
        .filter(|set| set.wanted == 0 && set.available == 0)
    {
        let how = crate::sim::objects::Delete::default();
        // Gone already is as good.
        let _trimmed = objects.delete(
            &REPLICA_SETS,
            meta::namespace(deployment),
            meta::name(&set.object),
            &how,
        );
    }
}

fn write_status(objects: &Objects, deployment: &Value, new: &Set, old: &[Set]) -> Next {
    let now = objects.now();
    let replicas = meta::replicas(deployment);
    let count = |set: &Set, field: &str| meta::int(&set.object["status"], field).unwrap_or(0);
    let sum = |field: &str| old.iter().map(|set| count(set, field)).sum::<i64>() + count(new, field);
    let (all, ready, available) = (sum("/replicas"), sum("/readyReplicas"), sum("/availableReplicas"));
    let updated = count(new, "/replicas");
    let done = updated == replicas && all == replicas && available == replicas;
    let before = &deployment["status"];
    let counters = [
        ("replicas", all),
        ("updatedReplicas", updated),
        ("readyReplicas", ready),
        ("availableReplicas", available),
        ("unavailableReplicas", (replicas.max(all) - available).max(0)),
    ];
    let moved = ["updatedReplicas", "readyReplicas", "availableReplicas"]
        .iter()
        .any(|field| {
            let now = counters
                .iter()
                .find(|(name, _)| name == field)
                .map_or(0, |(_, count)| *count);
            now != before[*field].as_i64().unwrap_or(0)
        });
    let mut conditions = before["conditions"].clone();
    let unavailable = meta::share(
        &deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"],
        replicas,
        false,
    );
    if available >= replicas - unavailable.unwrap_or(replicas / 4) {
        let message = "Deployment has minimum availability.";
        meta::set_condition(
            &mut conditions,
            "Available",
            "True",
            "MinimumReplicasAvailable",
            message,
            now,
        );
    } else {
        let message = "Deployment does not have minimum availability.";
        meta::set_condition(
            &mut conditions,
            "Available",
            "False",
            "MinimumReplicasUnavailable",
            message,
            now,
        );
    }
    let set_name = meta::name(&new.object);
    let deadline = meta::int(deployment, "/spec/progressDeadlineSeconds").unwrap_or(600);
    let last =
        meta::condition(&conditions, "Progressing").and_then(|held| meta::time(&held["lastUpdateTime"]));
    let due = last.map(|last| later(last, deadline.unsigned_abs()));
    let exceeded = meta::condition(&conditions, "Progressing")
        .is_some_and(|held| held["reason"] == "ProgressDeadlineExceeded");
    let mut next = Next::Done;
    if done {
        let message = format!("ReplicaSet \"{set_name}\" has successfully progressed.");
        meta::set_condition(
            &mut conditions,
            "Progressing",
            "True",
            "NewReplicaSetAvailable",
            &message,
            now,
        );
    } else if moved || (!exceeded && due.is_none_or(|due| due > now)) {
        let message = format!("ReplicaSet \"{set_name}\" is progressing.");
        meta::set_condition(
            &mut conditions,
            "Progressing",
            "True",
            "ReplicaSetUpdated",
            &message,
            now,
        );
        if moved {
            touch(&mut conditions, now);
        }
        let left = due
            .filter(|due| *due > now)
            .map(|due| Duration::try_from(due.duration_since(now)));
        next =
            Next::After(left.and_then(Result::ok).unwrap_or(Duration::from_secs(1)) + Duration::from_secs(1));
    } else {
        let message = format!("ReplicaSet \"{set_name}\" has timed out progressing.");
        meta::set_condition(
            &mut conditions,
            "Progressing",
            "False",
            "ProgressDeadlineExceeded",
            &message,
            now,
        );
    }
    let mut status =
        json!({"observedGeneration": deployment["metadata"]["generation"], "conditions": conditions});
    for (field, count) in counters {
        if count > 0 {
            status[field] = count.into();
        }
    }
    let mut written = deployment.clone();
    written["status"] = status;
    // A Deployment that vanished in between needs no status.
    let (namespace, name) = (meta::namespace(deployment), meta::name(deployment));
    let _written = objects.update_status(&DEPLOYMENTS, namespace, name, None, &written);
    next
}

fn touch(conditions: &mut Value, now: jiff::Timestamp) {
    for held in conditions.as_array_mut().into_iter().flatten() {
        if held["type"] == "Progressing" {
            held["lastUpdateTime"] = crate::sim::objects::seconds(now).into();
        }
    }
}
