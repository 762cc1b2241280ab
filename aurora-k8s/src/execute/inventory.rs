//! What a cluster has, for people: its namespaces and applied sets.

use std::collections::BTreeMap;

use serde_json::Value;

use aurora_core::manifest::ObjectRef;
use aurora_core::port::executor::ExecutorError;
use aurora_core::session::InventoryItem;

use super::api::Api;
use super::applied_set::{self, LABEL};
use super::errors::{Class, Problem};
use super::kinds;
use super::policy::AgentPolicy;

/// Lists namespaces that can be seen, and applied sets.
pub(crate) async fn inventory(
    api: &Api,
    policy: &AgentPolicy,
) -> Result<Vec<(String, InventoryItem)>, ExecutorError> {
    let mut items = BTreeMap::new();
    for name in namespaces(api, policy).await? {
        let item = InventoryItem {
            kind: "namespace".to_owned(),
            name: name.clone(),
            facts: BTreeMap::new(),
        };
        items.insert(format!("namespace/{name}"), item);
    }
    for body in config_maps(api, policy).await? {
        let Some(set) = applied_set::from_config_map(&body) else {
            continue;
        };
        let namespace = body["metadata"]["namespace"].as_str().unwrap_or_default();
        if !policy.allows(namespace) {
            continue;
        }
        let key = format!("appliedSet/{namespace}/{}", set.application);
        let facts = [
            ("application", set.application.clone()),
            ("namespace", namespace.to_owned()),
            ("objects", set.entries.len().to_string()),
            ("stamp", set.stamp.to_string()),
            ("target", set.target),
            ("tenant", set.tenant),
        ];
        let item = InventoryItem {
            kind: "appliedSet".to_owned(),
            name: set.application,
            facts: facts.map(|(name, fact)| (name.to_owned(), fact)).into(),
        };
        items.insert(key, item);
    }
    Ok(items.into_iter().collect())
}

async fn namespaces(api: &Api, policy: &AgentPolicy) -> Result<Vec<String>, ExecutorError> {
    if let Some(named) = policy.namespaces() {
        return Ok(named.iter().cloned().collect());
    }
    let name = |body: &Value| body["metadata"]["name"].as_str().map(str::to_owned);
    match api.list("/api/v1/namespaces").await {
        Ok(bodies) => Ok(bodies.iter().filter_map(name).collect()),
        // An agent with rights in some namespaces only does not see the others.
        Err(problem) if problem.class() == Class::Forbidden => Ok(Vec::new()),
        Err(problem) => Err(problem.into_error("list", &ObjectRef::new("", "Namespace", "", ""))),
    }
}

async fn config_maps(api: &Api, policy: &AgentPolicy) -> Result<Vec<Value>, ExecutorError> {
    let Some(resource) = kinds::well_known("", "ConfigMap") else {
        return Ok(Vec::new());
    };
    let in_namespace =
        |namespace: &str| format!("{}?labelSelector={LABEL}%3Dtrue", resource.collection(namespace));
    let failed = |problem: Problem| problem.into_error("list", &ObjectRef::new("", "ConfigMap", "", ""));
    let Some(named) = policy.namespaces() else {
        return match api.list(&in_namespace("")).await {
            Err(problem) if problem.class() == Class::Forbidden => Ok(Vec::new()),
            answer => answer.map_err(failed),
        };
    };
    let mut found = Vec::new();
    for namespace in named {
        match api.list(&in_namespace(namespace)).await {
            Err(problem) if matches!(problem.class(), Class::Forbidden | Class::NoNamespace) => {}
            answer => found.extend(answer.map_err(failed)?),
        }
    }
    Ok(found)
}
