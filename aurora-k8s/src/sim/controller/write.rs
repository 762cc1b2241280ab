//! Writing as controllers do: read, change, write, and again when somebody was faster; events.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{fmt::Write as _, sync::Arc};

use crate::sim::{
    objects::{ObjectError, Objects, seconds, version_of},
    patch,
    resource::{EVENTS, Resource},
};

use super::meta;

/// How often a write is tried again when the object changed in between.
const ATTEMPTS: usize = 5;

/// Merges a patch into the `status` of the live object.
pub(super) fn patch_status(
    objects: &Objects,
    resource: &Resource,
    namespace: &str,
    name: &str,
    status: &Value,
) -> Result<Arc<Value>, ObjectError> {
    edit_status(objects, resource, namespace, name, |live| {
        patch::merge(live, status)
    })
}

/// Changes the `status` of the live object.
pub(super) fn edit_status(
    objects: &Objects,
    resource: &Resource,
    namespace: &str,
    name: &str,
    change: impl Fn(&mut Value),
) -> Result<Arc<Value>, ObjectError> {
    attempt(objects, resource, namespace, name, |live, version| {
        let mut next = (**live).clone();
        change(&mut next["status"]);
        if next["status"].is_null() {
            return Ok(Arc::clone(live));
        }
        objects.update_status(resource, namespace, name, Some(version), &next)
    })
}

/// Changes the live object, apart from its status.
pub(super) fn edit(
    objects: &Objects,
    resource: &Resource,
    namespace: &str,
    name: &str,
    change: impl Fn(&mut Value),
) -> Result<Arc<Value>, ObjectError> {
    attempt(objects, resource, namespace, name, |live, version| {
        let mut next = (**live).clone();
        change(&mut next);
        objects.update(resource, namespace, name, Some(version), next)
    })
}

/// Sets `spec.replicas`.
pub(super) fn scale(
    objects: &Objects,
    resource: &Resource,
    namespace: &str,
    name: &str,
    replicas: i64,
) -> Result<Arc<Value>, ObjectError> {
    edit(objects, resource, namespace, name, |object| {
        meta::put(object, &["spec", "replicas"], replicas)
    })
}

fn attempt(
    objects: &Objects,
    resource: &Resource,
    namespace: &str,
    name: &str,
    write: impl Fn(&Arc<Value>, u64) -> Result<Arc<Value>, ObjectError>,
) -> Result<Arc<Value>, ObjectError> {
    let mut outcome = Err(missing(resource, name));
    for _ in 0..ATTEMPTS {
        let Some(live) = objects.get(resource, namespace, name) else {
            return Err(missing(resource, name));
        };
        outcome = write(&live, version_of(&live));
        if !matches!(outcome, Err(ObjectError::Conflict { .. })) {
            return outcome;
        }
    }
    outcome
}

fn missing(resource: &Resource, name: &str) -> ObjectError {
    ObjectError::NotFound {
        resource: resource.qualified(),
        name: name.to_owned(),
    }
}

/// Records an event about an object; the same one again is counted up.
pub(super) fn event(
    objects: &Objects,
    component: &str,
    about: &Value,
    warning: bool,
    reason: &str,
    message: &str,
) {
    let (namespace, now) = (meta::namespace(about), seconds(objects.now()));
    let mut digest = Sha256::new();
    for part in [meta::uid(about), reason, message] {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    let mut name = format!("{}.", meta::name(about));
    for byte in digest.finalize().iter().take(8) {
        // Writing to a String cannot fail.
        let _written = write!(name, "{byte:02x}");
    }
    let counted = edit(objects, &EVENTS, namespace, &name, |event| {
        let count = event["count"].as_u64().unwrap_or(0) + 1;
        event["count"] = count.into();
        event["lastTimestamp"] = now.clone().into();
    });
    if counted.is_ok() {
        return;
    }
    let event = json!({
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "namespace": namespace,
            "name": meta::name(about),
            "uid": meta::uid(about),
            "resourceVersion": about["metadata"]["resourceVersion"],
        },
        "type": if warning { "Warning" } else { "Normal" },
        "reason": reason,
        "message": message,
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": component},
        "reportingComponent": component,
        "reportingInstance": "",
    });
    // In a namespace that is being deleted nothing can be recorded, as in a real cluster.
    let _recorded = objects.create(&EVENTS, event);
}
