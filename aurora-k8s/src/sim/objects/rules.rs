//! What Kubernetes' rules of writing look at in an object.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Propagation;
use crate::sim::resource::{self, Resource};

pub(super) fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

pub(super) fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|names| !names.is_empty())
}

/// Whether a namespace may still have content: its own finalizer says so.
pub(super) fn has_content(resource: &Resource, object: &Value) -> bool {
    resource == &resource::NAMESPACES && object["spec"]["finalizers"][0].is_string()
}

/// Whether a kubelet has to confirm that the pod stopped.
pub(super) fn awaits_kubelet(resource: &Resource, object: &Value) -> bool {
    resource == &resource::PODS
        && object["spec"]["nodeName"].is_string()
        && !matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

pub(super) fn pod_grace(object: &Value) -> Option<u64> {
    object["spec"]["terminationGracePeriodSeconds"].as_u64()
}

pub(super) fn add_finalizer(object: &mut Value, propagation: Propagation) {
    let finalizer = match propagation {
        Propagation::Background => return,
        Propagation::Foreground => "foregroundDeletion",
        Propagation::Orphan => "orphan",
    };
    let finalizers = &mut object["metadata"]["finalizers"];
    match finalizers.as_array_mut() {
        Some(names) if names.iter().any(|name| name == finalizer) => {}
        Some(names) => names.push(finalizer.into()),
        None => *finalizers = json!([finalizer]),
    }
}

pub(super) fn keep_assigned(resource: &Resource, value: &mut Value, live: &Value) {
    value["apiVersion"] = live["apiVersion"].clone();
    value["kind"] = resource.kind.as_ref().into();
    if !value["metadata"].is_object() {
        value["metadata"] = json!({});
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "resourceVersion",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        set_or_remove(&mut value["metadata"], field, live["metadata"].get(field));
    }
}

pub(super) fn set_or_remove(object: &mut Value, field: &str, value: Option<&Value>) {
    let Some(members) = object.as_object_mut() else {
        return;
    };
    match value {
        Some(value) => members.insert(field.to_owned(), value.clone()),
        None => members.remove(field),
    };
}

pub(super) fn body_differs(before: &Value, after: &Value) -> bool {
    let body = |object: &Value| -> BTreeMap<String, Value> {
        let members = object.as_object().into_iter().flatten();
        members
            .filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status" | "apiVersion" | "kind"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    body(before) != body(after)
}
