//! Taking a plan on: everything that is in the way is said at once, before the first write.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use aurora_core::command::{Apply, FailureDetail};
use aurora_core::digest::Digest;
use aurora_core::manifest::ObjectRef;
use aurora_core::plan::{ADOPT_ANNOTATION, Plan};
use aurora_core::port::executor::ExecutorError;

use super::api::Api;
use super::applied_set::{self, AppliedSet, Entry, Stored};
use super::errors::{Class, no_such_kind};
use super::hpa;
use super::kinds::{self, Kinds, Resource, is_unserved};
use super::live::{self, Neighbours, covers, is_ours};
use super::stages::{is_autoscaler, runs_pods};

/// Reads that are under way at once.
const READS: usize = 8;

/// Finds where every object of a plan is served; kinds that are not are named all at once.
pub(crate) async fn resources(api: &Api, kinds: &Kinds, plan: &Plan) -> Result<Vec<Resource>, ExecutorError> {
    let mut found = Vec::with_capacity(plan.objects.len());
    let mut unserved = Vec::new();
    for planned in &plan.objects {
        let object = planned.object();
        match kinds.of_body(api, &planned.body).await {
            Ok(resource) => found.push(resource),
            Err(problem) if is_unserved(&problem) => match defined_in(plan, &planned.body) {
                Some(resource) => found.push(resource),
                None => unserved.push(FailureDetail {
                    message: no_such_kind(&object),
                    object,
                }),
            },
            Err(problem) => return Err(problem.into_error("get", &object)),
        }
    }
    if unserved.is_empty() {
        return Ok(found);
    }
    Err(ExecutorError::Rejected { objects: unserved })
}

/// Where a kind will be served once the plan's own CRD is there.
fn defined_in(plan: &Plan, body: &Value) -> Option<Resource> {
    let api_version = body["apiVersion"].as_str()?;
    let (group, version) = api_version.split_once('/')?;
    let definitions = plan.objects.iter().map(|planned| &planned.body);
    let definition = definitions
        .filter(|body| body["kind"] == "CustomResourceDefinition")
        .find(|definition| {
            let spec = &definition["spec"];
            let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
            spec["group"] == group
                && spec["names"]["kind"] == body["kind"]
                && versions
                    .iter()
                    .any(|served| served["name"] == version && served["served"] != false)
        })?;
    Some(Resource {
        api_version: api_version.to_owned(),
        plural: definition["spec"]["names"]["plural"].as_str()?.to_owned(),
        namespaced: definition["spec"]["scope"] == "Namespaced",
    })
}

/// Reads every object of a plan; absent ones are none.
async fn read_all(
    api: &Api,
    plan: &Plan,
    resources: &[Resource],
) -> Result<Vec<Option<Value>>, ExecutorError> {
    let reads = plan.objects.iter().zip(resources);
    let reads: Vec<_> = reads
        .map(|(planned, resource)| read_one(api, planned.object(), resource))
        .collect();
    stream::iter(reads).buffered(READS).try_collect().await
}

async fn read_one(api: &Api, object: ObjectRef, resource: &Resource) -> Result<Option<Value>, ExecutorError> {
    match api.find(&resource.path(&object)).await {
        // The kind comes with the plan.
        Err(problem) if problem.class() == Class::NoSuchKind => Ok(None),
        answer => answer.map_err(|problem| problem.into_error("get", &object)),
    }
}

/// Refuses what belongs to somebody else; gives the union of old and new objects to list.
pub(crate) async fn survey(
    api: &Api,
    apply: &Apply,
    plan: &Plan,
    resources: &[Resource],
    stored: Option<&Stored>,
) -> Result<AppliedSet, ExecutorError> {
    let live = read_all(api, plan, resources).await?;
    let set = stored.map(|stored| &stored.set);
    let mut foreign = Vec::new();
    for (planned, live) in plan.objects.iter().zip(&live) {
        let Some(live) = live else { continue };
        let object = planned.object();
        if is_ours(set.and_then(|set| set.entry(&object)), live) || (planned.adopt && !runs_pods(&object)) {
            continue;
        }
        let message = refusal(&object, &live::writers(live));
        foreign.push(FailureDetail { object, message });
    }
    for object in neighbours_in_the_way(api, plan, set).await? {
        if !foreign.iter().any(|detail| detail.object == object) {
            let message = refusal(&object, "somebody else");
            foreign.push(FailureDetail { object, message });
        }
    }
    if !foreign.is_empty() {
        return Err(ExecutorError::Foreign { objects: foreign });
    }
    Ok(union(apply, plan, &live, set))
}

fn refusal(object: &ObjectRef, writers: &str) -> String {
    if runs_pods(object) {
        let (name, namespace, kind) = (&object.name, &object.namespace, object.kind.to_lowercase());
        return format!(
            "{object} (written by {writers}) runs pods that the plan's would be mixed up with: \
             move its traffic away and delete it (kubectl -n {namespace} delete {kind} {name}), or use other names and labels"
        );
    }
    format!("{object} belongs to {writers}: annotate yours with {ADOPT_ANNOTATION}: \"true\" to take it over")
}

/// Workloads of somebody else whose pods a selector of the plan matches.
async fn neighbours_in_the_way(
    api: &Api,
    plan: &Plan,
    set: Option<&AppliedSet>,
) -> Result<Vec<ObjectRef>, ExecutorError> {
    let selectors: Vec<_> = plan
        .objects
        .iter()
        .filter(|planned| matches!(planned.object().kind.as_str(), "Deployment" | "Rollout"))
        .map(|planned| &planned.body["spec"]["selector"])
        .collect();
    if selectors.is_empty() {
        return Ok(Vec::new());
    }
    let neighbours = Neighbours {
        deployments: list(api, plan, "apps", "Deployment").await?,
        rollouts: list_rollouts(api, &plan.namespace).await?,
        replica_sets: list(api, plan, "apps", "ReplicaSet").await?,
        pods: list(api, plan, "", "Pod").await?,
    };
    Ok(selectors
        .into_iter()
        .flat_map(|selector| neighbours.matched_by(selector, set, &plan.namespace))
        .collect())
}

async fn list(api: &Api, plan: &Plan, group: &str, kind: &str) -> Result<Vec<Value>, ExecutorError> {
    let Some(resource) = kinds::well_known(group, kind) else {
        return Ok(Vec::new());
    };
    let object = ObjectRef::new(group, kind, &plan.namespace, "");
    api.list(&resource.collection(&plan.namespace))
        .await
        .map_err(|problem| problem.into_error("list", &object))
}

/// Live Rollouts of a namespace; none where their CRD is not installed.
pub(crate) async fn list_rollouts(api: &Api, namespace: &str) -> Result<Vec<Value>, ExecutorError> {
    match api.list(&kinds::rollouts().collection(namespace)).await {
        Ok(rollouts) => Ok(rollouts),
        Err(problem) if problem.class() == Class::NoSuchKind => Ok(Vec::new()),
        Err(problem) => {
            let object = ObjectRef::new("argoproj.io", "Rollout", namespace, "");
            Err(problem.into_error("list", &object))
        }
    }
}

/// The set with everything that was listed and everything that the plan has.
fn union(apply: &Apply, plan: &Plan, live: &[Option<Value>], before: Option<&AppliedSet>) -> AppliedSet {
    let mut set = AppliedSet::new(apply);
    let again = before.is_some_and(|before| before.stamp == apply.stamp);
    let listed = before.map(|before| before.entries.clone()).unwrap_or_default();
    let mut entries: BTreeMap<_, _> = listed
        .into_iter()
        .map(|entry| (entry.object.clone(), entry))
        .collect();
    for entry in entries.values_mut().filter(|_| !again) {
        entry.changed = false;
    }
    for (planned, live) in plan.objects.iter().zip(live) {
        let object = planned.object();
        let old = entries.get(&object);
        let digest = Digest::of_json(&planned.body).short(16);
        let as_declared = || {
            let same = old.is_some_and(|old| old.digest == digest);
            same && live.as_ref().is_some_and(|live| covers(live, &planned.body))
        };
        let scales = if is_autoscaler(&object) {
            hpa::scaled_by(&planned.body)
        } else {
            None
        };
        let entry = Entry {
            api_version: planned.body["apiVersion"].as_str().unwrap_or_default().to_owned(),
            // A delivery that comes again tells what the first one changed.
            changed: if again {
                old.is_some_and(|old| old.changed)
            } else {
                !as_declared()
            },
            uid: live
                .as_ref()
                .map(|live| live::uid(live).to_owned())
                .unwrap_or_default(),
            scales: scales.unwrap_or_default().to_owned(),
            digest,
            object: object.clone(),
        };
        entries.insert(object, entry);
    }
    set.entries = entries.into_values().collect();
    set
}

/// Tells whether writing the set would say anything new.
pub(crate) fn is_listed_already(stored: Option<&Stored>, union: &AppliedSet) -> bool {
    stored.is_some_and(|stored| {
        let mut sorted = union.clone();
        sorted.entries.sort_by(|a, b| a.object.cmp(&b.object));
        stored.set == sorted
    })
}

/// Reads the set of a command that goes on only while no newer one was accepted.
pub(crate) async fn fenced(api: &Api, apply: &Apply) -> Result<Stored, ExecutorError> {
    let stored = applied_set::read(api, &apply.set).await?;
    let Some(stored) = stored else {
        let object = applied_set::object(&apply.set);
        return Err(super::errors::rejected(
            &object,
            "the applied set was deleted meanwhile: apply again",
        ));
    };
    stored.set.fence(apply.stamp)?;
    Ok(stored)
}
