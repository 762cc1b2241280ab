//! The ReplicaSets of a Rollout: which is new, stable, other; making the new one; history.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::sim::{
    objects::{Delete, ObjectError, Objects, seconds},
    resource::REPLICA_SETS,
};

use super::super::{meta, write};

/// The label that tells the revisions of one Rollout apart.
pub(super) const HASH_LABEL: &str = "rollouts-pod-template-hash";
pub(super) const REVISION: &str = "rollout.argoproj.io/revision";
const DESIRED: &str = "rollout.argoproj.io/desired-replicas";
/// Until when a ReplicaSet that is not needed any more keeps its pods.
pub(super) const DEADLINE: &str = "scale-down-deadline";

/// A ReplicaSet as it was at the beginning of a reconcile.
#[derive(Clone, Debug)]
pub(super) struct ReplicaSet {
    pub(super) object: Arc<Value>,
    pub(super) name: String,
    pub(super) hash: String,
    /// `spec.replicas`.
    pub(super) wanted: i64,
    pub(super) replicas: i64,
    pub(super) ready: i64,
    pub(super) available: i64,
    pub(super) revision: i64,
    /// When it was created, to the second.
    pub(super) created: Option<Timestamp>,
    /// When its scale-down delay ends.
    pub(super) deadline: Option<Timestamp>,
}

impl ReplicaSet {
    pub(super) fn of(object: Arc<Value>) -> Self {
        let int = |place: &str| meta::count(meta::int(&object, place).unwrap_or(0));
        let annotation = meta::annotation(&object, REVISION).and_then(|text| text.parse().ok());
        Self {
            name: meta::name(&object).to_owned(),
            hash: meta::label(&object, HASH_LABEL).to_owned(),
            wanted: int("/spec/replicas"),
            replicas: int("/status/replicas"),
            ready: int("/status/readyReplicas"),
            available: int("/status/availableReplicas"),
            revision: annotation.unwrap_or(0),
            created: meta::time(&object["metadata"]["creationTimestamp"]),
            deadline: meta::annotation(&object, DEADLINE).and_then(|text| text.parse().ok()),
            object,
        }
    }

    /// How many of its pods count when others are to be scaled down: those that are available, or all, but
    /// never more than it will keep.
    pub(super) fn counted_for_scale_down(&self, whatever_available: bool) -> i64 {
        if whatever_available {
            self.wanted
        } else {
            self.available.min(self.wanted)
        }
    }

    /// `spec.replicas` of the Rollout when this set was last scaled.
    pub(super) fn desired(&self) -> Option<i64> {
        meta::annotation(&self.object, DESIRED).and_then(|text| text.parse().ok())
    }
}

/// The ReplicaSets that a Rollout owns, oldest revision first.
pub(super) fn list(objects: &Objects, rollout: &Value) -> Vec<ReplicaSet> {
    let all = objects.list(&REPLICA_SETS, Some(meta::namespace(rollout))).items;
    let mut sets: Vec<ReplicaSet> = all
        .into_iter()
        .filter(|set| meta::is_controlled_by(set, rollout) && !meta::is_deleting(set))
        .map(ReplicaSet::of)
        .collect();
    sets.sort_by_key(|set| set.revision);
    sets
}

/// Creates the ReplicaSet of the present template, with no pods yet.
pub(super) fn create(
    objects: &Objects,
    rollout: &Value,
    hash: &str,
    revision: i64,
    replicas: i64,
) -> Result<ReplicaSet, ObjectError> {
    let mut template = rollout["spec"]["template"].clone();
    meta::put(&mut template, &["metadata", "labels", HASH_LABEL], hash);
    let mut selector = rollout["spec"]["selector"].clone();
    meta::put(&mut selector, &["matchLabels", HASH_LABEL], hash);
    // The annotations of the Rollout come along, but for those that controllers and kubectl keep.
    let mut annotations = rollout["metadata"]["annotations"].clone();
    if !annotations.is_object() {
        annotations = json!({});
    }
    if let Some(members) = annotations.as_object_mut() {
        members.retain(|name, _| {
            !name.starts_with("rollout.argoproj.io/") && !name.starts_with("kubectl.kubernetes.io/")
        });
    }
    annotations[REVISION] = revision.to_string().into();
    annotations[DESIRED] = replicas.to_string().into();
    let set = json!({
        "metadata": {
            "name": format!("{}-{hash}", meta::name(rollout)),
            "namespace": meta::namespace(rollout),
            "labels": template["metadata"]["labels"],
            "annotations": annotations,
            "ownerReferences": [meta::owner_reference(rollout)],
        },
        "spec": {
            "replicas": 0,
            "selector": selector,
            "template": template,
            "minReadySeconds": rollout["spec"]["minReadySeconds"].as_i64().unwrap_or(0),
        },
    });
    objects.create(&REPLICA_SETS, set).map(ReplicaSet::of)
}

/// Sets revision and readiness time on an existing ReplicaSet.
pub(super) fn renew(
    objects: &Objects,
    set: &ReplicaSet,
    revision: i64,
    min_ready_seconds: i64,
) -> Result<ReplicaSet, ObjectError> {
    let written = write::edit(
        objects,
        &REPLICA_SETS,
        meta::namespace(&set.object),
        &set.name,
        |object| {
            meta::put(
                object,
                &["metadata", "annotations", REVISION],
                revision.to_string(),
            );
            meta::put(object, &["spec", "minReadySeconds"], min_ready_seconds);
        },
    );
    written.map(ReplicaSet::of)
}

/// Scales a ReplicaSet and notes how many pods the Rollout wanted then; says whether its count changed.
pub(super) fn scale(
    objects: &Objects,
    rollout: &Value,
    set: &ReplicaSet,
    count: i64,
    wanted: i64,
) -> Result<bool, ObjectError> {
    if set.wanted == count && set.desired() == Some(wanted) {
        return Ok(false);
    }
    write::edit(
        objects,
        &REPLICA_SETS,
        meta::namespace(&set.object),
        &set.name,
        |object| {
            meta::put(object, &["spec", "replicas"], count);
            meta::put(object, &["metadata", "annotations", DESIRED], wanted.to_string());
            if count == 0
                && let Some(annotations) = object["metadata"]["annotations"].as_object_mut()
            {
                annotations.remove(DEADLINE);
            }
        },
    )?;
    if set.wanted == count {
        return Ok(false);
    }
    let direction = if count > set.wanted { "up" } else { "down" };
    let message = format!(
        "Scaled {direction} ReplicaSet {} (revision {}) from {} to {count}",
        set.name, set.revision, set.wanted
    );
    super::record(objects, rollout, false, "ScalingReplicaSet", &message);
    Ok(true)
}

/// Says until when a ReplicaSet keeps its pods, or with none that nothing ends them.
pub(super) fn set_deadline(
    objects: &Objects,
    set: &ReplicaSet,
    deadline: Option<Timestamp>,
) -> Result<(), ObjectError> {
    write::edit(
        objects,
        &REPLICA_SETS,
        meta::namespace(&set.object),
        &set.name,
        |object| match deadline {
            Some(at) => meta::put(object, &["metadata", "annotations", DEADLINE], seconds(at)),
            None => {
                if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
                    annotations.remove(DEADLINE);
                }
            }
        },
    )
    .map(|_| ())
}

/// Deletes the oldest ReplicaSets without pods beyond the limit.
pub(super) fn trim_history(objects: &Objects, others: &[ReplicaSet], limit: usize) {
    let surplus = others.len().saturating_sub(limit);
    for set in others.iter().take(surplus) {
        if set.wanted == 0 && set.replicas == 0 {
            let how = Delete {
                uid: Some(meta::uid(&set.object).to_owned()),
                ..Delete::default()
            };
            // Gone already is as good.
            let _deleted = objects.delete(&REPLICA_SETS, meta::namespace(&set.object), &set.name, &how);
        }
    }
}
