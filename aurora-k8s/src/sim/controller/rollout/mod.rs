//! The Rollouts controller for blue/green and for canaries without a router, as the recorded real one behaves.
//!
//! A reconcile reads once and then writes step by step, some milliseconds apart, as the real controller does:
//! every intermediate state can be seen, and a patch that arrives in between is treated as there.

mod blue_green;
mod conditions;
mod counts;
mod finish;
mod invalid;
mod pause;
mod restart;
mod revision;
mod scale;
mod service;
mod spec;
mod status;
mod sync;

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::sim::{
    objects::{Objects, WatchEvent, WatchKind},
    resource::{REPLICA_SETS, ROLLOUTS, SERVICES},
};

use self::{revision::HASH_LABEL, status::Status, sync::Sync};
use super::{
    meta,
    queue::{Next, ObjectKey, Reconciler},
    write,
};

/// Time between two writes of one reconcile.
const PACE: Duration = Duration::from_millis(10);
/// A Rollout with this label belongs to another controller.
const INSTANCE_ID: &str = "argo-rollouts.argoproj.io/controller-instance-id";

/// The controller of Rollouts.
#[derive(Debug, Default)]
pub(super) struct Rollouts {
    /// Rollouts that were seen, so that their end is told once.
    seen: Mutex<BTreeSet<ObjectKey>>,
}

impl Rollouts {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<ObjectKey>> {
        // Nothing is left half-done under this lock.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, objects: &Objects, key: &ObjectKey) {
        let (namespace, name) = key;
        service::release(objects, namespace, name);
        if self.lock().remove(key) {
            let gone = json!({
                "apiVersion": ROLLOUTS.api_version(), "kind": "Rollout",
                "metadata": {"name": name, "namespace": namespace},
            });
            let message = format!("Rollout {name}/{namespace} is deleted.");
            record(objects, &gone, false, "RolloutDeleted", &message);
        }
    }
}

#[async_trait]
impl Reconciler for Rollouts {
    fn wants(&self, objects: &Objects, event: &WatchEvent) -> Vec<ObjectKey> {
        if *event.resource == ROLLOUTS || *event.resource == REPLICA_SETS {
            return meta::own_or_controller(event, &ROLLOUTS);
        }
        // A Service without the hash is not looked at: nothing repairs it before the next reconcile.
        // Neither is one that is gone.
        if *event.resource == SERVICES
            && event.kind != WatchKind::Deleted
            && event.object["spec"]["selector"][HASH_LABEL].is_string()
        {
            return service::rollouts_of(objects, &event.object);
        }
        Vec::new()
    }

    async fn reconcile(&self, objects: &Objects, key: &ObjectKey) -> Next {
        let (namespace, name) = key;
        let Some(rollout) = objects.get(&ROLLOUTS, namespace, name) else {
            self.forget(objects, key);
            return Next::Done;
        };
        self.lock().insert(key.clone());
        if meta::is_deleting(&rollout) || !meta::label(&rollout, INSTANCE_ID).is_empty() {
            return Next::Done;
        }
        if rollout.get("status").is_none() {
            let message = format!("Rollout resource added to informer: {namespace}/{name}");
            record(objects, &rollout, false, "RolloutAddedToInformer", &message);
        }
        if rollout["spec"]["replicas"].is_null() {
            tokio::time::sleep(PACE).await;
            // The write comes back as a change.
            let _defaulted = write::scale(objects, &ROLLOUTS, namespace, name, 1);
            return Next::Done;
        }
        if let Some(problem) = invalid::find(objects, &rollout) {
            tokio::time::sleep(PACE).await;
            report_invalid(objects, &rollout, &problem);
            return Next::Retry;
        }
        match Sync::new(objects, rollout).run().await {
            Ok(next) => next,
            Err(error) => {
                tracing::debug!(%error, "reconciling a rollout failed");
                Next::Retry
            }
        }
    }
}

/// Records an event on a Rollout.
fn record(objects: &Objects, rollout: &Value, warning: bool, reason: &str, message: &str) {
    write::event(objects, "rollouts-controller", rollout, warning, reason, message);
}

fn report_invalid(objects: &Objects, rollout: &Value, problem: &str) {
    let before = Status::of(rollout);
    let mut after = before.clone();
    let message = format!("The Rollout \"{}\" is invalid: {problem}", meta::name(rollout));
    let held = before
        .condition("InvalidSpec")
        .and_then(|held| held["message"].as_str());
    if held != Some(message.as_str()) {
        conditions::remove(&mut after, "InvalidSpec");
        conditions::set(
            &mut after,
            objects.now(),
            "InvalidSpec",
            "True",
            "InvalidSpec",
            &message,
        );
    }
    after.observed_generation = rollout["metadata"]["generation"].to_string();
    after.phase = "Degraded".to_owned();
    after.message = format!("InvalidSpec: {message}");
    persist(objects, rollout, &before, &after);
}

/// Writes what a reconcile changed of the status, and nothing else of it.
fn persist(objects: &Objects, rollout: &Value, before: &Status, after: &Status) -> Option<Status> {
    let patch = after.patch_from(before);
    if patch.as_object().is_none_or(serde_json::Map::is_empty) {
        return None;
    }
    let (namespace, name) = (meta::namespace(rollout), meta::name(rollout));
    let written = write::edit_status(objects, &ROLLOUTS, namespace, name, |live| {
        crate::sim::patch::merge(live, &patch);
        for always in ["blueGreen", "canary"] {
            if live[always].is_null() {
                live[always] = json!({});
            }
        }
    });
    written.ok().map(|rollout| Status::of(&rollout))
}
