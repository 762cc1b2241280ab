//! The namespace of a plan: which one it is, and what of the manifests changes with it.

use std::collections::{BTreeMap, BTreeSet};

use aurora_core::port::renderer::RenderRequest;
use serde_json::{Value, json};

use super::draft::Draft;
use super::kinds;
use super::lint::labels;
use super::report::Report;

/// Decides the namespace and moves every namespaced object there.
pub(super) fn settle(request: &RenderRequest, drafts: &mut [Draft], report: &mut Report) -> String {
    let written = written(drafts);
    let namespace = decide(request, &written, drafts, report);
    if let Some(namespace) = &namespace {
        say_what_is_overridden(namespace, &written, report);
        move_into(namespace, drafts, report);
        move_subjects(namespace, drafts);
    }
    namespace.unwrap_or_default()
}

/// The namespaces that manifests of namespaced kinds name, and how many do.
fn written(drafts: &[Draft]) -> BTreeMap<String, usize> {
    let mut written = BTreeMap::new();
    for object in drafts.iter().map(Draft::object) {
        if !object.namespace.is_empty() && !kinds::is_cluster_scoped(&object) {
            *written.entry(object.namespace).or_insert(0) += 1;
        }
    }
    written
}

fn decide(
    request: &RenderRequest,
    written: &BTreeMap<String, usize>,
    drafts: &[Draft],
    report: &mut Report,
) -> Option<String> {
    let target = request.target.replace('~', "~0").replace('/', "~1");
    let pointer = format!("/targets/{target}/namespace");
    let hint = format!("set `targets.{}.namespace` in the deploy file", request.target);
    if let Some(namespace) = &request.namespace {
        if !labels::is_dns_label(namespace) {
            let message = format!("`{namespace}` is not a name that a namespace can have");
            let rule = "at most 63 lower-case letters, digits and dashes, none at the edges";
            report.error_in_file("badName", pointer, message, rule);
        }
        return Some(namespace.clone());
    }
    let mut names = written.keys();
    match (names.next(), names.next()) {
        (Some(only), None) => Some(only.clone()),
        (None, _) => {
            let message = format!("target `{}` and its manifests name no namespace", request.target);
            report.error_in_file("noNamespace", pointer, message, &hint);
            None
        }
        (Some(_), Some(_)) => {
            let places: Vec<String> = written
                .keys()
                .filter_map(|name| {
                    let draft = drafts.iter().find(|draft| draft.object().namespace == *name)?;
                    Some(format!("`{name}` ({}, {})", draft.place.named, draft.origin()))
                })
                .collect();
            let message = format!("the manifests name several namespaces: {}", places.join(", "));
            report.error_in_file("twoNamespaces", pointer, message, &hint);
            None
        }
    }
}

fn say_what_is_overridden(namespace: &str, written: &BTreeMap<String, usize>, report: &mut Report) {
    for (other, count) in written.iter().filter(|(other, _)| *other != namespace) {
        let objects = if *count == 1 { "object" } else { "objects" };
        report.say(format!(
            "the target's namespace `{namespace}` takes the place of `{other}` in {count} {objects}"
        ));
    }
}

fn move_into(namespace: &str, drafts: &mut [Draft], report: &mut Report) {
    for draft in drafts {
        let object = draft.object();
        if object.kind == "Namespace" && object.group.is_empty() && object.name != namespace {
            let what = format!("is not the target's own namespace, which is `{namespace}`");
            let hint = "take this Namespace out of the manifests, or deploy into it";
            report.error(&draft.place, "foreignNamespace", "/metadata/name", &what, hint);
        }
        if kinds::is_cluster_scoped(&object) {
            draft.metadata().remove("namespace");
        } else {
            draft.metadata().insert("namespace".to_owned(), json!(namespace));
        }
    }
}

/// Role bindings name service accounts with their namespace: those of the plan move with it.
fn move_subjects(namespace: &str, drafts: &mut [Draft]) {
    let ours: BTreeSet<String> = drafts
        .iter()
        .map(Draft::object)
        .filter(|object| object.group.is_empty() && object.kind == "ServiceAccount")
        .map(|object| object.name)
        .collect();
    for draft in drafts {
        let object = draft.object();
        if !matches!(object.kind.as_str(), "ClusterRoleBinding" | "RoleBinding") {
            continue;
        }
        let subjects = draft.body.get_mut("subjects").and_then(Value::as_array_mut);
        for subject in subjects.into_iter().flatten().filter_map(Value::as_object_mut) {
            let is_account = subject.get("kind").and_then(Value::as_str) == Some("ServiceAccount");
            let is_ours = subject
                .get("name")
                .and_then(Value::as_str)
                .is_some_and(|name| ours.contains(name));
            if is_account && is_ours {
                subject.insert("namespace".to_owned(), json!(namespace));
            }
        }
    }
}
