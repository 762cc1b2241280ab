//! What the in-memory cluster holds, and the rules by which plans change it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::canary::{Declared, Seen, Surroundings, Workload, revision_of};
use super::{PodFault, Write};
use crate::command::{Applied, AppliedSetKey, Apply, Direction, FailureDetail, Observe, Stamp};
use crate::digest::Digest;
use crate::manifest::ObjectRef;
use crate::plan::Plan;
use crate::port::clock::Clock;
use crate::port::executor::ExecutorError;
use crate::progress::{PodCounts, Progress, Standing};
use crate::session::InventoryItem;

/// Kinds that run pods: they are never taken over from somebody else.
const WORKLOADS: [&str; 6] = [
    "DaemonSet",
    "Deployment",
    "Job",
    "ReplicaSet",
    "Rollout",
    "StatefulSet",
];

/// The manager of what executors write.
const OURS: &str = "aurora-agent";

/// An object and what the cluster knows of it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) body: Value,
    pub(super) uid: String,
    pub(super) generation: u64,
    /// Counts writes.
    pub(super) version: u64,
    pub(super) written_by: String,
}

/// The record of what is ours: see [`crate::command::AppliedSetKey`].
#[derive(Clone, Debug)]
struct AppliedSet {
    target: String,
    stamp: Stamp,
    digest: Digest,
    entries: BTreeMap<ObjectRef, Entry>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    uid: String,
    changed: bool,
}

/// Everything in the cluster.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) ticks: bool,
    pub(super) clock: Option<Arc<dyn Clock>>,
    pub(super) objects: BTreeMap<ObjectRef, Held>,
    pub(super) workloads: BTreeMap<ObjectRef, Workload>,
    pub(super) faults: BTreeMap<String, PodFault>,
    pub(super) stalled: BTreeSet<ObjectRef>,
    pub(super) controller_stopped: bool,
    pub(super) writes: Vec<Write>,
    sets: BTreeMap<AppliedSetKey, AppliedSet>,
    serial: u64,
    looks: u64,
}

impl World {
    /// Lets workloads move until none can, unless they move by ticks.
    pub(super) fn run(&mut self) {
        if !self.ticks {
            while self.tick() {}
        }
    }

    /// One move of each workload.
    pub(super) fn tick(&mut self) -> bool {
        if self.controller_stopped {
            return false;
        }
        let now = self.now();
        let mut moved = false;
        for (object, workload) in &mut self.workloads {
            let (Some(held), false) = (self.objects.get(object), self.stalled.contains(object)) else {
                continue;
            };
            self.serial += 1;
            let around = Surroundings {
                faults: &self.faults,
                now,
                serial: self.serial,
            };
            moved |= workload.advance(&Declared::by(&held.body), held.generation, &around);
        }
        moved
    }

    pub(super) fn now(&mut self) -> Timestamp {
        if let Some(clock) = &self.clock {
            return clock.now();
        }
        self.looks += 1;
        let start = super::epoch();
        start
            .checked_add(Duration::from_millis(self.looks))
            .unwrap_or(start)
    }

    /// The applied set's stamp must still be the one of the command in hand.
    pub(super) fn fence(&self, key: &AppliedSetKey, stamp: Stamp) -> Result<(), ExecutorError> {
        match self.sets.get(key) {
            Some(set) if set.stamp > stamp => Err(superseded(set.stamp)),
            _ => Ok(()),
        }
    }

    /// Takes a plan on: all refusals first, then the union of old and new objects is listed.
    pub(super) fn accept(&mut self, apply: &Apply, plan: &Plan) -> Result<(), ExecutorError> {
        let digest = plan.digest();
        self.fence(&apply.set, apply.stamp)?;
        let same = match self.sets.get(&apply.set) {
            Some(set) if set.stamp == apply.stamp && set.digest != digest => return Err(other_plan(apply)),
            Some(set) => set.stamp == apply.stamp,
            None => false,
        };
        self.refuse_foreign(&apply.set, plan)?;
        let mut entries = self
            .sets
            .get(&apply.set)
            .map(|set| set.entries.clone())
            .unwrap_or_default();
        for planned in &plan.objects {
            let object = planned.object();
            let held = self.objects.get(&object);
            let entry = entries.entry(object).or_default();
            if !same {
                entry.changed = held.is_none_or(|held| held.body != planned.body);
            }
            entry.uid = held.map(|held| held.uid.clone()).unwrap_or_default();
        }
        let set = AppliedSet {
            target: apply.target.clone(),
            stamp: apply.stamp,
            digest,
            entries,
        };
        self.sets.insert(apply.set.clone(), set);
        Ok(())
    }

    fn refuse_foreign(&self, key: &AppliedSetKey, plan: &Plan) -> Result<(), ExecutorError> {
        let mut objects = Vec::new();
        for planned in &plan.objects {
            let object = planned.object();
            let Some(held) = self.objects.get(&object) else {
                continue;
            };
            if self.is_ours(key, &object, held) {
                continue;
            }
            let workload = WORKLOADS.contains(&object.kind.as_str());
            if workload || !planned.adopt {
                let way = if workload {
                    "delete it, or give yours another name"
                } else {
                    "to take it over, annotate yours with aurora.dev/adopt: \"true\""
                };
                let message = format!("{object} belongs to {}: {way}", held.written_by);
                objects.push(FailureDetail { object, message });
            }
        }
        if objects.is_empty() {
            return Ok(());
        }
        Err(ExecutorError::Foreign { objects })
    }

    fn is_ours(&self, key: &AppliedSetKey, object: &ObjectRef, held: &Held) -> bool {
        let listed = self.sets.get(key).and_then(|set| set.entries.get(object));
        listed.is_some_and(|entry| entry.uid == held.uid || (entry.uid.is_empty() && held.written_by == OURS))
    }

    /// Creates or changes one object of a plan that was taken on.
    pub(super) fn apply_one(
        &mut self,
        apply: &Apply,
        object: &ObjectRef,
        body: Value,
    ) -> Result<(), ExecutorError> {
        self.fence(&apply.set, apply.stamp)?;
        if apply.direction == Direction::Forward
            && let Some(workload) = self.workloads.get_mut(object)
        {
            workload.end_delay_before(&revision_of(&body["spec"]["template"]));
        }
        let changed = self.put(object, body, OURS);
        let uid = self
            .objects
            .get(object)
            .map(|held| held.uid.clone())
            .unwrap_or_default();
        if let Some(set) = self.sets.get_mut(&apply.set) {
            set.entries.entry(object.clone()).or_default().uid = uid;
        }
        if changed {
            self.writes.push(Write::Applied {
                object: object.clone(),
                stamp: apply.stamp,
            });
        }
        Ok(())
    }

    /// Writes an object; tells whether that changed anything.
    pub(super) fn put(&mut self, object: &ObjectRef, mut body: Value, by: &str) -> bool {
        self.serial += 1;
        let uid = format!("uid-{}", self.serial);
        let held = self.objects.entry(object.clone()).or_insert_with(|| Held {
            body: Value::Null,
            uid,
            generation: 0,
            version: 0,
            written_by: by.to_owned(),
        });
        // A pause by hand is nobody's declaration: it stays through an apply.
        if by == OURS && held.body["spec"]["paused"] == true && body["spec"].is_object() {
            body["spec"]["paused"] = json!(true);
        }
        if held.body == body {
            return false;
        }
        held.generation += u64::from(held.body["spec"] != body["spec"] || held.generation == 0);
        held.version += 1;
        by.clone_into(&mut held.written_by);
        held.body = body;
        if WORKLOADS.contains(&object.kind.as_str()) {
            self.workloads.entry(object.clone()).or_default();
        }
        true
    }

    /// The first workload of a plan whose present generation was not taken up.
    pub(super) fn not_taken_up(&self, plan: &Plan) -> Option<ObjectRef> {
        followed(plan).into_iter().find(|object| {
            let generation = self.objects.get(object).map(|held| held.generation);
            let observed = self
                .workloads
                .get(object)
                .map(|workload| workload.observed_generation);
            generation.is_some() && generation != observed
        })
    }

    /// What an apply changed, by it or by an earlier delivery of it.
    pub(super) fn applied(&self, key: &AppliedSetKey, plan: &Plan) -> Applied {
        let entries = self.sets.get(key).map(|set| &set.entries);
        let changed = plan.objects.iter().filter(|planned| {
            entries
                .and_then(|entries| entries.get(&planned.object()))
                .is_some_and(|entry| entry.changed)
        });
        let changed = changed.count();
        Applied {
            changed: u32::try_from(changed).unwrap_or(u32::MAX),
            unchanged: u32::try_from(plan.objects.len() - changed).unwrap_or(u32::MAX),
            ..Applied::default()
        }
    }

    /// Only the plan that was applied last can be finished.
    pub(super) fn check_finish(&mut self, apply: &Apply) -> Result<(), ExecutorError> {
        self.fence(&apply.set, apply.stamp)?;
        match self.sets.get_mut(&apply.set) {
            Some(set) if set.digest == apply.plan => {
                set.stamp = apply.stamp;
                Ok(())
            }
            _ => Err(other_plan(apply)),
        }
    }

    /// Deletes what the applied set lists and the plan does not, workloads first.
    pub(super) fn prune(&mut self, apply: &Apply, plan: &Plan) -> Result<Applied, ExecutorError> {
        self.fence(&apply.set, apply.stamp)?;
        let planned: BTreeSet<_> = plan.objects.iter().map(|planned| planned.object()).collect();
        let entries = self
            .sets
            .get(&apply.set)
            .map(|set| set.entries.clone())
            .unwrap_or_default();
        let mut leaving: Vec<_> = entries
            .into_iter()
            .filter(|(object, _)| !planned.contains(object))
            .collect();
        leaving.sort_by_key(|(object, _)| !WORKLOADS.contains(&object.kind.as_str()));
        let mut applied = self.applied(&apply.set, plan);
        for (object, entry) in leaving {
            if let Some(workload) = self.user_of(&object) {
                applied.kept.insert(
                    object.to_string(),
                    format!("{workload} may still start pods that name it"),
                );
                continue;
            }
            let ours = self
                .objects
                .get(&object)
                .is_some_and(|held| held.uid == entry.uid);
            if ours && self.remove(&object) {
                self.writes.push(Write::Deleted {
                    object: object.clone(),
                });
                applied.pruned.push(object.clone());
            }
            if let Some(set) = self.sets.get_mut(&apply.set) {
                set.entries.remove(&object);
            }
        }
        Ok(applied)
    }

    /// The workload whose pods, present or to come, name a piece of configuration.
    fn user_of(&self, object: &ObjectRef) -> Option<&ObjectRef> {
        if !matches!(object.kind.as_str(), "ConfigMap" | "Secret") {
            return None;
        }
        let same_namespace = |workload: &&ObjectRef| workload.namespace == object.namespace;
        let names = |workload: &&ObjectRef| {
            let templates = self
                .workloads
                .get(workload)
                .into_iter()
                .flat_map(Workload::templates_in_use);
            templates
                .into_iter()
                .any(|template| mentions(template, &object.name))
        };
        self.workloads.keys().filter(same_namespace).find(names)
    }

    /// Removes an object and what runs for it.
    pub(super) fn remove(&mut self, object: &ObjectRef) -> bool {
        self.workloads.remove(object);
        self.objects.remove(object).is_some()
    }

    /// Deletes one object if the applied set lists it with its live uid.
    pub(super) fn delete(&mut self, key: &AppliedSetKey, object: &ObjectRef) -> Result<(), ExecutorError> {
        let Some(held) = self.objects.get(object) else {
            return Ok(());
        };
        if !self.is_ours(key, object, held) {
            let message = format!(
                "{object} is not in the applied set of {}: it is left alone",
                key.application
            );
            let objects = vec![FailureDetail {
                object: object.clone(),
                message,
            }];
            return Err(ExecutorError::Foreign { objects });
        }
        self.remove(object);
        if let Some(entry) = self.sets.get_mut(key).and_then(|set| set.entries.get_mut(object)) {
            entry.uid.clear();
        }
        self.writes.push(Write::Deleted {
            object: object.clone(),
        });
        Ok(())
    }

    /// The present state of every workload of a plan.
    pub(super) fn levels(&mut self, observe: &Observe, plan: &Plan) -> Vec<Progress> {
        let now = self.now();
        let level = |object: &ObjectRef| self.level(observe, plan, object, now);
        followed(plan).iter().map(level).collect()
    }

    fn level(&self, observe: &Observe, plan: &Plan, object: &ObjectRef, now: Timestamp) -> Progress {
        let planned = plan.objects.iter().find(|planned| planned.object() == *object);
        let (Some(held), Some(workload)) = (self.objects.get(object), self.workloads.get(object)) else {
            return missing(object, now);
        };
        let seen = Seen {
            uid: &held.uid,
            generation: held.generation,
            faults: &self.faults,
            now,
        };
        let mut progress = workload.progress(object, &Declared::by(&held.body), seen);
        let template = planned.map(|planned| &planned.body["spec"]["template"]);
        if template.is_some_and(|template| *template != held.body["spec"]["template"]) {
            let by = format!("spec.template was written by {}", held.written_by);
            progress.standing = Standing::ChangedElsewhere { by };
            progress.expect = None;
        } else if !self.is_ours(&observe.set, object, held) {
            let by = format!("it was created again by {}", held.written_by);
            progress.standing = Standing::ChangedElsewhere { by };
            progress.expect = None;
        }
        progress
    }

    /// Namespaces and applied sets.
    pub(super) fn inventory(&self) -> Vec<(String, InventoryItem)> {
        let namespaces: BTreeSet<_> = self
            .objects
            .keys()
            .map(|object| object.namespace.as_str())
            .collect();
        let namespaces = namespaces
            .into_iter()
            .filter(|name| !name.is_empty())
            .map(|name| {
                let item = InventoryItem {
                    kind: "namespace".to_owned(),
                    name: name.to_owned(),
                    facts: BTreeMap::new(),
                };
                (format!("namespace/{name}"), item)
            });
        let sets = self.sets.iter().map(|(key, set)| {
            let facts = [
                ("application", key.application.clone()),
                ("namespace", key.namespace.clone()),
                ("stamp", set.stamp.to_string()),
                ("target", set.target.clone()),
                ("tenant", key.tenant.clone()),
            ];
            let item = InventoryItem {
                kind: "appliedSet".to_owned(),
                name: key.application.clone(),
                facts: facts.map(|(name, fact)| (name.to_owned(), fact)).into(),
            };
            (format!("appliedSet/{}/{}", key.namespace, key.application), item)
        });
        namespaces.chain(sets).collect()
    }
}

/// The workloads of a plan that are followed.
fn followed(plan: &Plan) -> BTreeSet<ObjectRef> {
    let rollouts = plan
        .objects
        .iter()
        .map(|planned| planned.object())
        .filter(|object| object.kind == "Rollout");
    rollouts.chain(plan.steps.workloads.iter().cloned()).collect()
}

fn missing(object: &ObjectRef, now: Timestamp) -> Progress {
    Progress {
        object: object.clone(),
        standing: Standing::Missing,
        revision: String::new(),
        stable: String::new(),
        step: None,
        weight: None,
        pods: PodCounts::default(),
        expect: None,
        message: String::new(),
        failing: Vec::new(),
        observed_at: now,
    }
}

/// Tells whether a pod template has the name as a value anywhere.
fn mentions(value: &Value, name: &str) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| mentions(item, name)),
        Value::Object(fields) => fields.values().any(|field| mentions(field, name)),
        Value::String(text) => text == name,
        _ => false,
    }
}

fn superseded(accepted: Stamp) -> ExecutorError {
    ExecutorError::Superseded {
        accepted: accepted.to_string(),
    }
}

/// The plan is not the one that this stamp was accepted with.
fn other_plan(apply: &Apply) -> ExecutorError {
    let object = ObjectRef::new(
        "",
        "ConfigMap",
        &apply.set.namespace,
        format!("aurora-{}", apply.set.application),
    );
    let message = format!(
        "{object} has another plan for {} than {}: apply it first",
        apply.stamp, apply.plan
    );
    ExecutorError::Rejected {
        objects: vec![FailureDetail { object, message }],
    }
}
