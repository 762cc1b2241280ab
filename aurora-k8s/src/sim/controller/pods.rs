//! Pods as their owners see them: made of a template, ready, available, in which order they go.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::sim::{
    objects::{Delete, ObjectError, Objects},
    resource::PODS,
};

use super::meta;

/// Creates a pod of a template for its owner; `name` is completed where it ends with a dash.
pub(super) fn create(
    objects: &Objects,
    owner: &Value,
    template: &Value,
    name: &str,
) -> Result<Arc<Value>, ObjectError> {
    let mut metadata = template["metadata"].clone();
    if !metadata.is_object() {
        metadata = json!({});
    }
    let naming = if name.ends_with('-') {
        "generateName"
    } else {
        "name"
    };
    metadata[naming] = name.into();
    metadata["namespace"] = meta::namespace(owner).into();
    metadata["ownerReferences"] = json!([meta::owner_reference(owner)]);
    objects.create(&PODS, json!({"metadata": metadata, "spec": template["spec"]}))
}

/// Pods that this owner controls, those under deletion included.
pub(super) fn of(objects: &Objects, owner: &Value) -> Vec<Arc<Value>> {
    let all = objects.list(&PODS, Some(meta::namespace(owner))).items;
    all.into_iter()
        .filter(|pod| meta::is_controlled_by(pod, owner))
        .collect()
}

/// Deletes this very pod with its own grace period.
pub(super) fn delete(objects: &Objects, pod: &Value) {
    let how = Delete {
        uid: Some(meta::uid(pod).to_owned()),
        ..Delete::default()
    };
    // Gone already, or another pod of that name: nothing left to do.
    let _deleted = objects.delete(&PODS, meta::namespace(pod), meta::name(pod), &how);
}

/// Whether a pod counts for its owner: neither under deletion nor finished.
pub(super) fn is_active(pod: &Value) -> bool {
    !meta::is_deleting(pod) && !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// Since when a pod is ready.
pub(super) fn ready_since(pod: &Value) -> Option<Timestamp> {
    let ready = meta::condition(&pod["status"]["conditions"], "Ready")?;
    if ready["status"] != "True" {
        return None;
    }
    meta::time(&ready["lastTransitionTime"])
}

/// How many pods of a set are ready and available, and when the next one becomes available.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) all: i64,
    pub(super) ready: i64,
    pub(super) available: i64,
    pub(super) next: Option<Duration>,
}

pub(super) fn count(pods: &[Arc<Value>], min_ready_seconds: i64, now: Timestamp) -> Counts {
    let mut counts = Counts::default();
    for pod in pods.iter().filter(|pod| is_active(pod)) {
        counts.all += 1;
        let Some(since) = ready_since(pod) else { continue };
        counts.ready += 1;
        let wait = Duration::from_secs(min_ready_seconds.unsigned_abs());
        let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        match wait.checked_sub(passed) {
            Some(left) if !left.is_zero() => {
                counts.next = Some(counts.next.map_or(left, |next| next.min(left)));
            }
            _ => counts.available += 1,
        }
    }
    counts
}

/// Orders pods as they are deleted: unscheduled, not ready, restarted often, youngest first.
pub(super) fn deletion_order(pods: &mut [Arc<Value>]) {
    pods.sort_by_key(|pod| {
        let scheduled = pod["spec"]["nodeName"].is_string();
        let running = pod["status"]["phase"] == "Running";
        let ready = ready_since(pod);
        let restarts = meta::int(pod, "/status/containerStatuses/0/restartCount").unwrap_or(0);
        let youth = std::cmp::Reverse((
            ready.map(Timestamp::as_second),
            meta::time(&pod["metadata"]["creationTimestamp"]).map(Timestamp::as_second),
            crate::sim::objects::version_of(pod),
        ));
        (scheduled, running, ready.is_some(), -restarts, youth)
    });
}
