//! What the API server says about itself: groups, resources, version.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::error::ApiError;
use crate::sim::{Objects, Resource};

/// The Kubernetes version whose behaviour is simulated.
const VERSION: &str = "v1.34.5";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// `/version`.
pub(crate) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "34",
        "gitVersion": VERSION,
        "gitCommit": "simulated",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": "simulated/any",
    })
}

/// `/api`, `/apis` and `/apis/G`; aggregated: every resource of every group in one document.
pub(crate) fn groups(objects: &Objects, group: Option<&str>, aggregated: bool) -> Result<Value, ApiError> {
    let served = served(objects);
    match group {
        Some("") if aggregated => Ok(all(&served, true)),
        None if aggregated => Ok(all(&served, false)),
        Some("") => Ok(json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        })),
        None => {
            let groups: Vec<Value> = served
                .iter()
                .filter(|(name, _)| !name.is_empty())
                .map(|(name, versions)| api_group(name, versions))
                .collect();
            Ok(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        Some(name) => {
            let versions = served.get(name).ok_or_else(ApiError::unknown_path)?;
            let mut group = api_group(name, versions);
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            Ok(group)
        }
    }
}

/// `/api/v1` and `/apis/G/V`.
pub(crate) fn resources(objects: &Objects, group: &str, version: &str) -> Result<Value, ApiError> {
    let served = served(objects);
    let kinds = served
        .get(group)
        .and_then(|versions| versions.get(version))
        .ok_or_else(ApiError::unknown_path)?;
    let mut resources: Vec<Value> = kinds.iter().flat_map(|kind| listed(kind)).collect();
    if group == AUTHORIZATION {
        resources.push(json!({
            "name": "selfsubjectaccessreviews",
            "singularName": "selfsubjectaccessreview",
            "namespaced": false,
            "kind": "SelfSubjectAccessReview",
            "verbs": ["create"],
        }));
    }
    Ok(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": joined(group, version),
        "resources": resources,
    }))
}

/// `/openapi/v3`: where the documents of the group versions are.
pub(crate) fn open_api_index(objects: &Objects) -> Value {
    let mut paths = Map::new();
    for (group, versions) in served(objects) {
        for version in versions.keys() {
            let root = if group.is_empty() { "api" } else { "apis" };
            let path = format!("{root}/{}", joined(&group, version));
            let url = json!({"serverRelativeURL": format!("/openapi/v3/{path}")});
            paths.insert(path, url);
        }
    }
    json!({"paths": paths})
}

/// `/openapi/v3/apis/G/V`: which parameters patches take. kubectl reads there that the server validates fields
/// itself; the fields are not described.
pub(crate) fn open_api(objects: &Objects, group: &str, version: &str) -> Result<Value, ApiError> {
    let served = served(objects);
    let kinds = served
        .get(group)
        .and_then(|versions| versions.get(version))
        .ok_or_else(ApiError::unknown_path)?;
    let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation", "force"]
        .into_iter()
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}))
        .collect();
    let root = if group.is_empty() { "/api" } else { "/apis" };
    let paths: Map<String, Value> = kinds
        .iter()
        .map(|kind| {
            let within = if kind.namespaced {
                "/namespaces/{namespace}"
            } else {
                ""
            };
            let path = format!(
                "{root}/{}{within}/{}/{{name}}",
                joined(group, version),
                kind.plural
            );
            let patch = json!({
                "parameters": parameters,
                "responses": {"200": {"description": "OK"}},
                "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind.kind},
            });
            (path, json!({"patch": patch}))
        })
        .collect();
    Ok(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
    }))
}

/// Groups, their versions, their kinds.
type Served = BTreeMap<String, BTreeMap<String, Vec<Arc<Resource>>>>;

fn served(objects: &Objects) -> Served {
    let mut served = Served::new();
    served
        .entry(AUTHORIZATION.to_owned())
        .or_default()
        .insert("v1".to_owned(), Vec::new());
    for resource in objects.resources() {
        served
            .entry(resource.group.to_string())
            .or_default()
            .entry(resource.version.to_string())
            .or_default()
            .push(resource);
    }
    served
}

fn joined(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

fn api_group(name: &str, versions: &BTreeMap<String, Vec<Arc<Resource>>>) -> Value {
    let versions: Vec<Value> = versions
        .keys()
        .map(|version| json!({"groupVersion": joined(name, version), "version": version}))
        .collect();
    json!({"name": name, "preferredVersion": versions.first(), "versions": versions})
}

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

fn subresources(resource: &Resource) -> Vec<(&'static str, Value, Vec<&'static str>)> {
    let own = json!({
        "group": resource.group,
        "version": resource.version,
        "kind": resource.kind,
    });
    let mut out = Vec::new();
    if resource.has_status {
        out.push(("status", own.clone(), vec!["get", "patch", "update"]));
    }
    if resource.has_scale {
        let scale = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
        out.push(("scale", scale, vec!["get", "patch", "update"]));
    }
    if resource.group.is_empty() && resource.kind == "Pod" {
        out.push(("log", own, vec!["get"]));
    }
    out
}

fn listed(resource: &Resource) -> Vec<Value> {
    let mut main = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": VERBS,
    });
    if !resource.short_names.is_empty() {
        main["shortNames"] = json!(resource.short_names);
    }
    if is_in_all(resource) {
        main["categories"] = json!(["all"]);
    }
    let mut out = vec![main];
    for (name, kind, verbs) in subresources(resource) {
        out.push(json!({
            "name": format!("{}/{name}", resource.plural),
            "singularName": "",
            "namespaced": resource.namespaced,
            "group": kind["group"],
            "version": kind["version"],
            "kind": kind["kind"],
            "verbs": verbs,
        }));
    }
    out
}

/// What `kubectl get all` shows.
fn is_in_all(resource: &Resource) -> bool {
    matches!(
        resource.plural.as_ref(),
        "pods"
            | "services"
            | "deployments"
            | "replicasets"
            | "statefulsets"
            | "daemonsets"
            | "jobs"
            | "cronjobs"
            | "horizontalpodautoscalers"
    )
}

fn all(served: &Served, core: bool) -> Value {
    let items: Vec<Value> = served
        .iter()
        .filter(|(name, _)| name.is_empty() == core)
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|(version, kinds)| {
                    let mut resources: Vec<Value> = kinds.iter().map(|kind| aggregated(kind)).collect();
                    if name == AUTHORIZATION {
                        resources.push(json!({
                            "resource": "selfsubjectaccessreviews",
                            "singularResource": "selfsubjectaccessreview",
                            "responseKind": {"group": AUTHORIZATION, "version": "v1", "kind": "SelfSubjectAccessReview"},
                            "scope": "Cluster",
                            "verbs": ["create"],
                        }));
                    }
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            json!({"metadata": {"name": name, "creationTimestamp": null}, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

fn aggregated(resource: &Resource) -> Value {
    let subresources: Vec<Value> = subresources(resource)
        .into_iter()
        .map(|(name, kind, verbs)| json!({"subresource": name, "responseKind": kind, "verbs": verbs}))
        .collect();
    let mut out = json!({
        "resource": resource.plural,
        "singularResource": resource.singular,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "verbs": VERBS,
    });
    if !resource.short_names.is_empty() {
        out["shortNames"] = json!(resource.short_names);
    }
    if is_in_all(resource) {
        out["categories"] = json!(["all"]);
    }
    if !subresources.is_empty() {
        out["subresources"] = subresources.into();
    }
    out
}
