//! The Services that a Rollout points at its stable and canary pods.

use std::sync::Arc;

use serde_json::Value;

use super::{
    record,
    revision::{HASH_LABEL, ReplicaSet},
    sync::Sync,
};
use crate::sim::{
    controller::{meta, queue::ObjectKey, write},
    objects::Objects,
    resource::{ROLLOUTS, SERVICES},
};

/// Says which Rollout writes the selector of a Service.
pub(super) const MANAGED_BY: &str = "argo-rollouts.argoproj.io/managed-by-rollouts";

/// Rollouts that name a Service.
pub(super) fn rollouts_of(objects: &Objects, service: &Value) -> Vec<ObjectKey> {
    let all = objects.list(&ROLLOUTS, Some(meta::namespace(service))).items;
    all.iter()
        .filter(|rollout| named_by(rollout).contains(&meta::name(service)))
        .map(|it| meta::key(it))
        .collect()
}

/// Points the Services of the Rollout at their ReplicaSets, once all of whose pods are available.
pub(super) fn point(sync: &Sync<'_>) {
    if let (Some(service), Some(stable)) = (&sync.spec.stable_service, &sync.stable) {
        switch(sync, service, stable);
    }
    if let (Some(service), Some(new)) = (&sync.spec.canary_service, &sync.new) {
        switch(sync, service, new);
    }
}

/// Takes hash and annotation off the Services of a Rollout that is gone.
pub(super) fn release(objects: &Objects, namespace: &str, rollout: &str) {
    let managed: Vec<Arc<Value>> = objects
        .list(&SERVICES, Some(namespace))
        .items
        .into_iter()
        .filter(|service| meta::annotation(service, MANAGED_BY) == Some(rollout))
        .collect();
    for service in managed {
        let _released = write::edit(objects, &SERVICES, namespace, meta::name(&service), |service| {
            if let Some(selector) = service["spec"]["selector"].as_object_mut() {
                selector.remove(HASH_LABEL);
            }
            if let Some(annotations) = service["metadata"]["annotations"].as_object_mut() {
                annotations.remove(MANAGED_BY);
            }
        });
    }
}

fn named_by(rollout: &Value) -> Vec<&str> {
    let strategy = &rollout["spec"]["strategy"];
    let fields = [
        ("canary", "stableService"),
        ("canary", "canaryService"),
        ("blueGreen", "activeService"),
        ("blueGreen", "previewService"),
    ];
    let named = fields.iter().map(|(kind, field)| &strategy[*kind][*field]);
    named.filter_map(Value::as_str).collect()
}

fn switch(sync: &Sync<'_>, name: &str, set: &ReplicaSet) {
    let namespace = meta::namespace(&sync.rollout);
    let Some(service) = sync.objects.get(&SERVICES, namespace, name) else {
        return;
    };
    let ready = set.wanted > 0 && set.available >= set.wanted;
    if ready {
        select(sync, &service, &set.hash);
    }
}

/// The hash that a Service selects; empty when it selects none, or is not there.
pub(super) fn selected(objects: &Objects, namespace: &str, name: &str) -> String {
    let service = objects.get(&SERVICES, namespace, name);
    let hash = service.and_then(|service| {
        service["spec"]["selector"][HASH_LABEL]
            .as_str()
            .map(str::to_owned)
    });
    hash.unwrap_or_default()
}

/// Points a Service at the pods with a hash.
pub(super) fn select(sync: &Sync<'_>, service: &Value, hash: &str) {
    let (namespace, name) = (meta::namespace(service), meta::name(service));
    let held = service["spec"]["selector"][HASH_LABEL]
        .as_str()
        .unwrap_or_default();
    if held == hash {
        return;
    }
    let switched = write::edit(sync.objects, &SERVICES, namespace, name, |service| {
        meta::put(service, &["spec", "selector", HASH_LABEL], hash);
        meta::put(
            service,
            &["metadata", "annotations", MANAGED_BY],
            meta::name(&sync.rollout),
        );
    });
    if switched.is_ok() {
        let message = format!("Switched selector for service '{name}' from '{held}' to '{hash}'");
        record(sync.objects, &sync.rollout, false, "SwitchService", &message);
    }
}
