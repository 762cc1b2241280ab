//! Ending the old version of a blue/green move before its time: its ReplicaSets' delay is over now.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use aurora_core::command::{Act, Acted, Direction};
use aurora_core::manifest::ObjectRef;
use aurora_core::port::clock::Clock;
use aurora_core::port::executor::ExecutorError;

use super::accept::fenced;
use super::act::{expected, read, wrong};
use super::api::{Api, Patch};
use super::apply::{CONFLICTS, Work, stand_back};
use super::errors::{Class, Problem, rejected};
use super::kinds::{self, Resource};
use super::live::version;
use crate::argo::status::{Rollout, SCALE_DOWN_DEADLINE, hash_of};
use crate::argo::template;

/// How often it is looked whether pods of a ReplicaSet are gone.
const LOOK: Duration = Duration::from_millis(250);

/// Ends the delay of every older ReplicaSet of a blue/green Rollout whose traffic was redirected.
///
/// # Errors
/// [`ExecutorError`]; `Forbidden` where the agent may not patch ReplicaSets.
pub(crate) async fn old_version(
    api: &Api,
    act: &Act,
    path: &str,
    clock: &dyn Clock,
) -> Result<Acted, ExecutorError> {
    let object = &act.object;
    let mut ended = false;
    for _ in 0..CONFLICTS {
        let Some(live) = read(api, act, path).await? else {
            return Err(wrong(act, "it is not on the cluster".to_owned()));
        };
        let rollout = Rollout::of(&live);
        expected(act, &rollout).map_err(|found| wrong(act, found))?;
        if !rollout.is_blue_green() {
            let message = "it does not move by blue/green: it keeps no old version that could be shut down";
            return Err(rejected(object, message));
        }
        if !rollout.is_taken_up() {
            return Err(wrong(act, "its last change was not taken up yet".to_owned()));
        }
        if !rollout.is_redirected() {
            return Err(wrong(act, "its traffic was not redirected yet".to_owned()));
        }
        let sets = list(api, &object.namespace).await?;
        let sets: Vec<_> = sets.iter().collect();
        let now = clock.now();
        let kept: Vec<_> = rollout
            .old_sets(&sets)
            .into_iter()
            .filter(|set| deadline(set).is_none_or(|end| end > now))
            .collect();
        if kept.is_empty() {
            return Ok(if ended { Acted::Done } else { Acted::Unchanged });
        }
        for set in kept {
            ended |= end_delay(api, &object.namespace, set, now).await?;
        }
        stand_back().await;
    }
    Err(ExecutorError::Contended {
        object: object.clone(),
    })
}

/// When the delay of a ReplicaSet ends; none while none runs.
pub(crate) fn deadline(set: &Value) -> Option<Timestamp> {
    set["metadata"]["annotations"][SCALE_DOWN_DEADLINE]
        .as_str()?
        .parse()
        .ok()
}

/// Ends the delay of one ReplicaSet as it was read; tells whether it did, else somebody was faster.
async fn end_delay(api: &Api, namespace: &str, set: &Value, now: Timestamp) -> Result<bool, ExecutorError> {
    let name = set["metadata"]["name"].as_str().unwrap_or_default();
    let object = ObjectRef::new("apps", "ReplicaSet", namespace, name);
    let Some(resource) = replica_sets() else {
        return Ok(false);
    };
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let body = json!({"metadata": {
        "resourceVersion": version(set),
        "annotations": {SCALE_DOWN_DEADLINE: now},
    }});
    match api.patch(&resource.path(&object), Patch::Merge, &body).await {
        Ok(_) => Ok(true),
        Err(problem) if matches!(problem.class(), Class::Conflict | Class::NotFound) => Ok(false),
        Err(problem) => Err(problem.into_error("patch", &object)),
    }
}

fn replica_sets() -> Option<Resource> {
    kinds::well_known("apps", "ReplicaSet")
}

async fn list(api: &Api, namespace: &str) -> Result<Vec<Value>, ExecutorError> {
    let Some(resource) = replica_sets() else {
        return Ok(Vec::new());
    };
    let object = ObjectRef::new("apps", "ReplicaSet", namespace, "");
    let failed = |problem: Problem| problem.into_error("list", &object);
    api.list(&resource.collection(namespace)).await.map_err(failed)
}

impl Work<'_> {
    /// Before an ordinary plan brings an older version back that still runs: ends that version first.
    ///
    /// The controller would take its pods for a rollback and send all traffic to them without a pause.
    pub(crate) async fn end_older_version(&self, live: &Value, body: &Value) -> Result<(), ExecutorError> {
        let rollout = Rollout::of(live);
        let declared = &body["spec"]["template"];
        let is_there = template::difference(declared, &live["spec"]["template"]).is_none();
        if self.apply.direction == Direction::Back || !rollout.is_blue_green() || is_there {
            return Ok(());
        }
        let namespace = &self.plan.namespace;
        loop {
            let sets = list(&self.api, namespace).await?;
            let sets: Vec<_> = sets.iter().collect();
            let Some(older) = older_version(&rollout, &sets, declared) else {
                return Ok(());
            };
            let name = older["metadata"]["name"].as_str().unwrap_or_default();
            self.news.say(format!(
                "ending ReplicaSet {name}, an older version that would go live without a gate"
            ));
            fenced(&self.api, self.apply).await?;
            let now = self.clock.now();
            if deadline(older).is_some_and(|end| end > now) {
                end_delay(&self.api, namespace, older, now).await?;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The ReplicaSet of a template, if it has pods that are kept for a while and is not newer than the stable one.
fn older_version<'s>(rollout: &Rollout<'_>, sets: &[&'s Value], declared: &Value) -> Option<&'s Value> {
    let own = rollout.own(sets);
    let created = |set: &Value| set["metadata"]["creationTimestamp"].as_str().map(str::to_owned);
    let stable = own.iter().find(|set| hash_of(set) == rollout.stable())?;
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    own.iter().copied().find(|set| {
        let is_kept = deadline(set).is_some()
            || (count(&set["spec"]["replicas"]) == 0 && count(&set["status"]["replicas"]) > 0);
        hash_of(set) != rollout.stable() && is_kept && created(set) <= created(stable) && is_of(set, declared)
    })
}

/// Whether a ReplicaSet was made of a pod template.
fn is_of(set: &Value, declared: &Value) -> bool {
    let held = &set["spec"]["template"];
    match template::digest_of(declared) {
        Some(digest) => template::digest_of(held) == Some(digest),
        None => {
            let mut held = held.clone();
            if let Some(labels) = held["metadata"]["labels"].as_object_mut() {
                labels.remove(crate::argo::POD_TEMPLATE_HASH);
            }
            template::difference(declared, &held).is_none()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(hash: &str, created: &str, replicas: u32, until: Option<&str>) -> Value {
        let mut set = json!({
            "metadata": {
                "name": format!("web-{hash}"), "creationTimestamp": created,
                "labels": {"rollouts-pod-template-hash": hash}, "ownerReferences": [{"uid": "u"}],
                "annotations": {},
            },
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"image": hash}]}}},
        });
        if let Some(until) = until {
            set["metadata"]["annotations"][SCALE_DOWN_DEADLINE] = json!(until);
        }
        set
    }

    #[test]
    fn only_an_older_version_with_pods_that_are_kept_is_ended() {
        let rollout = json!({
            "metadata": {"uid": "u"}, "status": {"stableRS": "v2", "currentPodHash": "v2"},
            "spec": {"strategy": {"blueGreen": {}}},
        });
        let rollout = Rollout::of(&rollout);
        let stable = set("v2", "2026-01-01T00:01:00Z", 3, None);
        let template = |hash: &str| json!({"spec": {"containers": [{"image": hash}]}});
        let later = Some("2026-01-01T01:00:00Z");
        let table = [
            (set("v1", "2026-01-01T00:00:00Z", 3, later), true),
            (set("v1", "2026-01-01T00:00:00Z", 0, None), false),
            (set("v1", "2026-01-01T00:02:00Z", 3, later), false),
        ];
        for (other, expected) in &table {
            let found = older_version(&rollout, &[&stable, other], &template("v1"));
            assert_eq!(found.is_some(), *expected, "{other}");
        }
        let (kept, _) = &table[0];
        assert!(older_version(&rollout, &[&stable, kept], &template("v3")).is_none());
        assert!(older_version(&rollout, &[&stable, kept], &template("v2")).is_none());
    }
}
