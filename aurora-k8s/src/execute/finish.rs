//! After a plan is done: declared values come back, and what left the plan goes, workloads first.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use aurora_core::command::{Applied, Direction};
use aurora_core::manifest::ObjectRef;
use aurora_core::port::executor::ExecutorError;

use super::accept::{fenced, list_rollouts};
use super::applied_set::{self, Entry, Stored};
use super::apply::{CONFLICTS, Work, stand_back};
use super::errors::rejected;
use super::kinds;
use super::live::{self, is_ours};
use super::observe::is_rollout;
use super::shut_down;
use super::stages::{Stage, is_autoscaler, runs_pods};
use crate::argo::status::{Rollout, SCALE_DOWN_DEADLINE, hash_of, is_owned_by};

/// How often it is looked whether ReplicaSets of a deleted workload are gone.
const LOOK: Duration = Duration::from_millis(500);

/// An old version whose delay ends within this time is waited for, so that its configuration goes with it.
/// Longer would keep a run from its end, and a failing one from being rolled back, for mere tidiness.
const SOON: Duration = Duration::from_secs(3);

/// How much longer its pods may take to end.
const ENDING: Duration = Duration::from_secs(10);

/// Why configuration that left the plan is kept.
const STILL_NAMED: &str = "a ReplicaSet or pod that can still run names it; finishing again later removes it";

/// The annotation that keeps an object when it leaves the plan.
const PRUNE: &str = "aurora.dev/prune";

impl Work<'_> {
    /// Finishes the plan that was applied last.
    pub(crate) async fn finish(&self) -> Result<Applied, ExecutorError> {
        let stored = self.take_over().await?;
        self.bring_to_declared(&stored).await?;
        let mut applied = self.outcome(&stored);
        let planned: BTreeSet<_> = self.plan.objects.iter().map(|planned| planned.object()).collect();
        let leaving: Vec<_> = stored
            .set
            .entries
            .iter()
            .filter(|entry| !planned.contains(&entry.object))
            .cloned()
            .collect();
        let mut gone = BTreeSet::new();
        let (workloads, others): (Vec<_>, Vec<_>) =
            leaving.into_iter().partition(|entry| runs_pods(&entry.object));
        for entry in &workloads {
            self.prune(entry, &mut applied, &mut gone).await?;
        }
        self.until_pods_are_gone(&workloads, &gone).await?;
        let (configuration, others): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|entry| Stage::of(&entry.object) == Stage::Configuration);
        for entry in &others {
            self.prune(entry, &mut applied, &mut gone).await?;
        }
        let names = if configuration.is_empty() {
            BTreeSet::new()
        } else {
            self.names_in_use().await?
        };
        for entry in &configuration {
            if names.contains(&entry.object.name) {
                applied
                    .kept
                    .insert(entry.object.to_string(), STILL_NAMED.to_owned());
            } else {
                self.prune(entry, &mut applied, &mut gone).await?;
            }
        }
        self.trim(&gone).await?;
        applied.pruned.sort();
        Ok(applied)
    }

    /// After configuration was kept: waits until no old version ends soon; tells whether one did end.
    ///
    /// Nothing is written, so it waits without a turn: a newer plan is not held up, and ends the wait.
    ///
    /// # Errors
    /// [`ExecutorError`]; `Superseded` when a newer plan was accepted meanwhile.
    pub(crate) async fn until_old_versions_end(&self, finished: &Applied) -> Result<bool, ExecutorError> {
        if !finished.kept.values().any(|why| why == STILL_NAMED) {
            return Ok(false);
        }
        let began = tokio::time::Instant::now();
        let mut waited = false;
        while began.elapsed() < SOON + ENDING {
            let rollouts = list_rollouts(&self.api, &self.plan.namespace).await?;
            let sets = self.list("apps", "ReplicaSet").await?;
            let latest = self.clock.now().checked_add(SOON).unwrap_or(Timestamp::MAX);
            let ending = sets
                .iter()
                .find(|set| is_old_version(set, &rollouts) && ends_before(set, latest));
            let Some(ending) = ending else {
                return Ok(waited);
            };
            waited = true;
            let name = ending["metadata"]["name"].as_str().unwrap_or_default();
            self.news.say(format!(
                "waiting until the old version {name} has ended, whose configuration goes with it"
            ));
            fenced(&self.api, self.apply).await?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(waited)
    }

    /// Only the plan that was accepted last can be finished; the finish's own stamp may be newer.
    async fn take_over(&self) -> Result<Stored, ExecutorError> {
        let key = &self.apply.set;
        for _ in 0..CONFLICTS {
            let stored = fenced(&self.api, self.apply).await?;
            if stored.set.digest != self.apply.plan {
                let message = format!(
                    "plan {} is not the one that was applied last ({}): apply it first",
                    self.apply.plan, stored.set.digest
                );
                return Err(rejected(&applied_set::object(key), message));
            }
            if stored.set.stamp == self.apply.stamp {
                return Ok(stored);
            }
            let mut set = stored.set.clone();
            set.stamp = self.apply.stamp;
            match applied_set::write(&self.api, key, Some(&stored), set).await {
                Ok(stored) => return Ok(stored),
                Err(problem) if problem.is_conflict() => stand_back().await,
                Err(problem) => return Err(problem.into_error("patch", &applied_set::object(key))),
            }
        }
        Err(ExecutorError::Contended {
            object: applied_set::object(key),
        })
    }

    /// Rollouts whose values were held back get what they declare, and so does what an older command wrote last.
    async fn bring_to_declared(&self, stored: &Stored) -> Result<(), ExecutorError> {
        let planned = |object: &ObjectRef| {
            self.plan
                .objects
                .iter()
                .any(|planned| planned.object() == *object)
        };
        let scaled: BTreeSet<_> = stored
            .set
            .entries
            .iter()
            .filter(|entry| is_autoscaler(&entry.object) && !planned(&entry.object))
            .map(|entry| entry.scales.as_str())
            .collect();
        for (index, planned) in self.plan.objects.iter().enumerate() {
            let object = planned.object();
            let held = self.apply.direction == Direction::Back || scaled.contains(object.name.as_str());
            let held = held && is_rollout(&object);
            // A late write of an older command, or nobody's: what the plan declares is applied again.
            let stamps = [stored.set.applied, self.apply.stamp];
            if held || !self.is_from(index, &stamps).await? {
                self.news.say(format!("bringing {object} to its declared values"));
                self.apply_declared(index).await?;
            }
        }
        Ok(())
    }

    /// Deletes one object that left the plan, if it is still the one that is listed.
    async fn prune(
        &self,
        entry: &Entry,
        applied: &mut Applied,
        gone: &mut BTreeSet<ObjectRef>,
    ) -> Result<(), ExecutorError> {
        let object = &entry.object;
        let resource = match self
            .kinds
            .of_version(&self.api, &entry.api_version, &object.kind)
            .await
        {
            Ok(resource) => resource,
            Err(problem) if kinds::is_unserved(&problem) => {
                gone.insert(object.clone());
                return Ok(());
            }
            Err(problem) => return Err(problem.into_error("delete", object)),
        };
        let path = resource.path(object);
        let found = self
            .api
            .find(&path)
            .await
            .map_err(|problem| problem.into_error("get", object))?;
        // Gone, or created again by somebody else: ours no more.
        let Some(found) = found.filter(|found| is_ours(Some(entry), found)) else {
            // An autoscaler that left was deleted by the apply.
            if is_autoscaler(object) && !entry.uid.is_empty() {
                applied.pruned.push(object.clone());
            }
            gone.insert(object.clone());
            return Ok(());
        };
        if let Some(why) = stays(object, &found) {
            applied.kept.insert(object.to_string(), why.to_owned());
            return Ok(());
        }
        fenced(&self.api, self.apply).await?;
        self.news.say(format!("deleting {object}, which left the plan"));
        let deleted = self.api.delete(&path, live::uid(&found)).await;
        deleted.map_err(|problem| problem.into_error("delete", object))?;
        applied.pruned.push(object.clone());
        gone.insert(object.clone());
        Ok(())
    }

    /// A pruned workload's ReplicaSets count for some moments more.
    async fn until_pods_are_gone(
        &self,
        pruned: &[Entry],
        gone: &BTreeSet<ObjectRef>,
    ) -> Result<(), ExecutorError> {
        let uids: Vec<_> = pruned
            .iter()
            .filter(|entry| gone.contains(&entry.object) && !entry.uid.is_empty())
            .collect();
        while !uids.is_empty() {
            let sets = self.list("apps", "ReplicaSet").await?;
            let left = uids
                .iter()
                .find(|entry| sets.iter().any(|set| is_owned_by(set, &entry.uid)));
            let Some(entry) = left else {
                return Ok(());
            };
            self.news.say(format!(
                "waiting until the ReplicaSets of {} are gone",
                entry.object
            ));
            fenced(&self.api, self.apply).await?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn list(&self, group: &str, kind: &str) -> Result<Vec<Value>, ExecutorError> {
        let Some(resource) = kinds::well_known(group, kind) else {
            return Ok(Vec::new());
        };
        let object = ObjectRef::new(group, kind, &self.plan.namespace, "");
        let list = self.api.list(&resource.collection(&self.plan.namespace)).await;
        list.map_err(|problem| problem.into_error("list", &object))
    }

    /// Every name that the template of a ReplicaSet that can still run, or a pod, refers to.
    async fn names_in_use(&self) -> Result<BTreeSet<String>, ExecutorError> {
        let (sets, pods) = (
            self.list("apps", "ReplicaSet").await?,
            self.list("", "Pod").await?,
        );
        let rollouts = list_rollouts(&self.api, &self.plan.namespace).await?;
        let mut names = BTreeSet::new();
        for set in sets.iter().filter(|set| can_run(set, &rollouts)) {
            configuration_names(&set["spec"]["template"]["spec"], &mut names);
        }
        // A pod that is leaving reads no configuration again.
        for pod in pods
            .iter()
            .filter(|pod| !pod["metadata"]["deletionTimestamp"].is_string())
        {
            configuration_names(&pod["spec"], &mut names);
        }
        Ok(names)
    }

    /// Takes what is gone off the list.
    async fn trim(&self, gone: &BTreeSet<ObjectRef>) -> Result<(), ExecutorError> {
        let key = &self.apply.set;
        for _ in 0..CONFLICTS {
            let stored = fenced(&self.api, self.apply).await?;
            let mut set = stored.set.clone();
            set.entries.retain(|entry| !gone.contains(&entry.object));
            if set == stored.set {
                return Ok(());
            }
            match applied_set::write(&self.api, key, Some(&stored), set).await {
                Ok(_) => return Ok(()),
                Err(problem) if problem.is_conflict() => stand_back().await,
                Err(problem) => return Err(problem.into_error("patch", &applied_set::object(key))),
            }
        }
        Err(ExecutorError::Contended {
            object: applied_set::object(key),
        })
    }
}

/// Why an object stays although it left the plan.
fn stays(object: &ObjectRef, live: &Value) -> Option<&'static str> {
    if live["metadata"]["annotations"][PRUNE] == "false" {
        return Some("its annotation aurora.dev/prune says false");
    }
    match Stage::of(object) {
        Stage::Namespace | Stage::Definitions => {
            Some("namespaces and CRDs are deleted by hand only: others may use them")
        }
        Stage::Volumes => Some("volumes hold data: they are deleted by hand only"),
        _ => None,
    }
}

/// A ReplicaSet of a blue/green Rollout whose traffic goes elsewhere.
fn is_old_version(set: &Value, rollouts: &[Value]) -> bool {
    rollouts.iter().map(Rollout::of).any(|rollout| {
        is_owned_by(set, rollout.uid())
            && rollout.is_blue_green()
            && ![rollout.current(), rollout.stable(), rollout.active()].contains(&hash_of(set))
    })
}

/// Its delay ends before that, or its pods are ending already.
fn ends_before(set: &Value, latest: Timestamp) -> bool {
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    match shut_down::deadline(set) {
        Some(end) => end < latest,
        None => count(&set["spec"]["replicas"]) == 0 && count(&set["status"]["replicas"]) > 0,
    }
}

/// It has pods, will have them for a while, or may get them again.
fn can_run(set: &Value, rollouts: &[Value]) -> bool {
    let replicas = |value: &Value| value.as_u64().unwrap_or(0) > 0;
    let hash = hash_of(set);
    let is_named = |rollout: &Value| {
        let rollout = Rollout::of(rollout);
        is_owned_by(set, rollout.uid())
            && !hash.is_empty()
            && (rollout.current() == hash || rollout.stable() == hash)
    };
    replicas(&set["spec"]["replicas"])
        || replicas(&set["status"]["replicas"])
        || set["metadata"]["annotations"][SCALE_DOWN_DEADLINE].is_string()
        || rollouts.iter().any(is_named)
}

/// Names of ConfigMaps and Secrets that a pod's spec refers to.
fn configuration_names(spec: &Value, names: &mut BTreeSet<String>) {
    match spec {
        Value::Array(items) => items.iter().for_each(|item| configuration_names(item, names)),
        Value::Object(fields) => {
            for (key, field) in fields {
                let name = match key.as_str() {
                    "configMap"
                    | "configMapKeyRef"
                    | "configMapRef"
                    | "nodePublishSecretRef"
                    | "secretKeyRef"
                    | "secretRef" => &field["name"],
                    "azureFile" | "secret" => field.get("secretName").unwrap_or(&field["name"]),
                    _ => &Value::Null,
                };
                names.extend(name.as_str().map(str::to_owned));
                if key == "imagePullSecrets" {
                    let secrets = field.as_array().map(Vec::as_slice).unwrap_or_default();
                    names.extend(
                        secrets
                            .iter()
                            .filter_map(|secret| secret["name"].as_str())
                            .map(str::to_owned),
                    );
                }
                configuration_names(field, names);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_way_to_name_configuration_counts() {
        let spec = json!({
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{
                "envFrom": [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b"}}],
                "env": [{"valueFrom": {"configMapKeyRef": {"name": "c"}}}, {"valueFrom": {"secretKeyRef": {"name": "d"}}}],
            }],
            "volumes": [
                {"configMap": {"name": "e"}}, {"secret": {"secretName": "f"}},
                {"projected": {"sources": [{"configMap": {"name": "g"}}, {"secret": {"name": "h"}}]}},
                {"csi": {"nodePublishSecretRef": {"name": "i"}}}, {"azureFile": {"secretName": "j"}},
                {"cephfs": {"secretRef": {"name": "k"}}},
            ],
        });
        let mut names = BTreeSet::new();
        configuration_names(&spec, &mut names);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert_eq!(
            names,
            ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "pull"]
        );
    }

    #[test]
    fn a_replica_set_without_pods_can_run_while_its_revision_counts() {
        let set = |hash: &str, replicas: u32| {
            json!({
                "metadata": {"labels": {"rollouts-pod-template-hash": hash}, "ownerReferences": [{"uid": "u"}]},
                "spec": {"replicas": replicas},
            })
        };
        let rollouts =
            [json!({"metadata": {"uid": "u"}, "status": {"currentPodHash": "new", "stableRS": "old"}})];
        assert!(can_run(&set("new", 0), &rollouts));
        assert!(can_run(&set("old", 0), &rollouts));
        assert!(!can_run(&set("older", 0), &rollouts));
        assert!(can_run(&set("older", 1), &rollouts));
        let mut delayed = set("older", 0);
        delayed["metadata"]["annotations"] = json!({"scale-down-deadline": "2026-01-01T00:00:00Z"});
        assert!(can_run(&delayed, &rollouts));
    }

    #[test]
    fn data_and_what_others_may_use_is_not_pruned() {
        let object = |group: &str, kind: &str| ObjectRef::new(group, kind, "shop", "x");
        let live = json!({"metadata": {}});
        assert!(stays(&object("", "PersistentVolumeClaim"), &live).is_some());
        assert!(stays(&object("apiextensions.k8s.io", "CustomResourceDefinition"), &live).is_some());
        assert!(stays(&object("", "Service"), &live).is_none());
        let marked = json!({"metadata": {"annotations": {"aurora.dev/prune": "false"}}});
        assert!(stays(&object("", "Service"), &marked).is_some());
    }
}
