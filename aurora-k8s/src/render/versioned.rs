//! `ConfigMaps` and Secrets that pods name get names that hold the hash of their content.
//!
//! So a change of configuration is a change of the pod template, rolls out step by step, and rolls
//! back with the code.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use aurora_core::digest::Digest;
use aurora_core::manifest::ObjectRef;
use aurora_core::plan::VERSIONED_ANNOTATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::draft::{Draft, map_at};
use super::kinds;
use super::node::Node;
use super::pod::{self, Reference};
use super::report::Report;

/// Annotation of an object under its versioned name: the name that the manifest gives it.
pub const VERSION_OF_ANNOTATION: &str = "aurora.dev/version-of";

/// Digits of the hash in a name.
const DIGITS: usize = 8;

/// A `ConfigMap` that every namespace has.
const ROOT_CERTIFICATES: &str = "kube-root-ca.crt";

/// Kind and name.
type Key = (String, String);

/// Renames what pod templates name, and the references to it.
///
/// Templates of Jobs keep the plain names: they cannot change once they are applied.
pub(super) fn rename(drafts: &mut Vec<Draft>, report: &mut Report) {
    fold_string_data(drafts);
    let (by_templates, plainly) = references(drafts, report);
    let mut names: BTreeMap<Key, String> = BTreeMap::new();
    let mut plain = Vec::new();
    for draft in drafts.iter_mut() {
        let object = draft.object();
        let key = (object.kind.clone(), object.name.clone());
        if !kinds::is_configuration(&object) || !is_versioned(draft, report) || !by_templates.contains(&key) {
            continue;
        }
        let name = format!("{}-{}", object.name, content_hash(&draft.body));
        if name.len() > 253 {
            let what = format!(
                "is too long for a versioned name ({} of 253 characters)",
                name.len()
            );
            let hint = format!("shorten it, or annotate the object with {VERSIONED_ANNOTATION}: \"false\"");
            report.error(&draft.place, "longName", "/metadata/name", &what, &hint);
            continue;
        }
        if plainly.contains(&key) {
            plain.push(draft.clone());
        }
        version(draft, &object, &name);
        names.insert(key, name);
    }
    drafts.append(&mut plain);
    for draft in drafts.iter_mut() {
        rewrite(draft, &names);
    }
}

/// `stringData` is another way to write `data`, and a trap when keys leave it.
fn fold_string_data(drafts: &mut [Draft]) {
    for draft in drafts.iter_mut().filter(|draft| draft.object().kind == "Secret") {
        if !kinds::is_configuration(&draft.object()) {
            continue;
        }
        let body = map_at(&mut draft.body, &[]);
        let Some(Value::Object(texts)) = body.remove("stringData") else {
            continue;
        };
        let data = map_at(&mut draft.body, &["data"]);
        for (key, text) in texts {
            if let Some(text) = text.as_str() {
                data.insert(key, json!(STANDARD.encode(text)));
            }
        }
    }
}

/// What pod templates that can change name, and what everything else names.
fn references(drafts: &[Draft], report: &mut Report) -> (BTreeSet<Key>, BTreeSet<Key>) {
    let mut present: BTreeSet<Key> = BTreeSet::new();
    for object in drafts.iter().map(Draft::object).filter(kinds::is_configuration) {
        present.insert((object.kind, object.name));
    }
    let (mut by_templates, mut plainly) = (BTreeSet::new(), BTreeSet::new());
    for draft in drafts {
        for reference in of_template(draft) {
            let key = (reference.kind.to_owned(), reference.name.clone());
            if !present.contains(&key) && !reference.optional && reference.name != ROOT_CERTIFICATES {
                let what = format!(
                    "its pods need the {} {}, which is not in the plan and must be there",
                    reference.kind, reference.name
                );
                report.note(&draft.place, &what);
            }
            if has_fixed_template(&draft.object()) {
                plainly.insert(key);
            } else {
                by_templates.insert(key);
            }
        }
        plainly.extend(of_others(draft, &present));
    }
    (by_templates, plainly)
}

fn of_template(draft: &Draft) -> Vec<Reference> {
    let template = kinds::pod_template(&draft.object());
    let spec = template.and_then(|template| draft.body.pointer(template)?.get("spec"));
    spec.map(|spec| pod::references(&Node::root(spec)))
        .unwrap_or_default()
}

fn has_fixed_template(object: &ObjectRef) -> bool {
    object.group == "batch" && object.kind == "Job"
}

/// Names in objects other than pod templates; in custom resources every text may be one.
fn of_others(draft: &Draft, present: &BTreeSet<Key>) -> Vec<Key> {
    let object = draft.object();
    let body = Node::root(&draft.body);
    let secret = |name: Option<&str>| name.map(|name| ("Secret".to_owned(), name.to_owned()));
    match (object.group.as_str(), object.kind.as_str()) {
        ("networking.k8s.io", "Ingress") => {
            let tls = body.path(&["spec", "tls"]).items();
            tls.iter()
                .filter_map(|entry| secret(entry.name("secretName")))
                .collect()
        }
        ("", "ServiceAccount") => ["imagePullSecrets", "secrets"]
            .iter()
            .flat_map(|key| body.field(key).items())
            .filter_map(|entry| secret(entry.name("name")))
            .collect(),
        ("rbac.authorization.k8s.io", "ClusterRole" | "Role") => {
            let rules = body.field("rules").items();
            let names = rules.iter().flat_map(|rule| rule.field("resourceNames").items());
            names
                .filter_map(|name| name.value.as_str())
                .flat_map(both)
                .filter(|key| present.contains(key))
                .collect()
        }
        (group, _) if !kinds::is_built_in(group) && !kinds::is_rollout(&object) => {
            let mut texts = BTreeSet::new();
            for (_, field) in body.entries().iter().filter(|(key, _)| *key != "metadata") {
                collect_texts(field.value, &mut texts);
            }
            texts
                .into_iter()
                .flat_map(both)
                .filter(|key| present.contains(key))
                .collect()
        }
        _ => Vec::new(),
    }
}

fn both(name: &str) -> [Key; 2] {
    ["ConfigMap", "Secret"].map(|kind| (kind.to_owned(), name.to_owned()))
}

fn collect_texts<'a>(value: &'a Value, texts: &mut BTreeSet<&'a str>) {
    match value {
        Value::String(text) => {
            texts.insert(text);
        }
        Value::Array(items) => items.iter().for_each(|item| collect_texts(item, texts)),
        Value::Object(fields) => fields.values().for_each(|field| collect_texts(field, texts)),
        _ => {}
    }
}

fn is_versioned(draft: &Draft, report: &mut Report) -> bool {
    let wanted = match draft.annotation(VERSIONED_ANNOTATION) {
        None | Some("true") => true,
        Some("false") => false,
        Some(other) => {
            let pointer = format!(
                "/metadata/annotations/{}",
                VERSIONED_ANNOTATION.replace('/', "~1")
            );
            let what = format!("is `{other}`");
            report.error(
                &draft.place,
                "badValue",
                &pointer,
                &what,
                "write \"true\" or \"false\"",
            );
            false
        }
    };
    // A controller fills these in, so they must stay changeable.
    let filled =
        draft.body.get("type").and_then(Value::as_str) == Some("kubernetes.io/service-account-token");
    let done = draft
        .annotation(VERSION_OF_ANNOTATION)
        .is_some_and(|base| draft.object().name == format!("{base}-{}", content_hash(&draft.body)));
    wanted && !filled && !done
}

fn content_hash(body: &Value) -> String {
    let mut content = Map::new();
    for key in ["binaryData", "data", "type"] {
        let value = body.get(key).filter(|value| !value.is_null());
        if let Some(value) = value.filter(|value| value.as_object().is_none_or(|map| !map.is_empty())) {
            content.insert(key.to_owned(), value.clone());
        }
    }
    // An Opaque Secret and one without a type are the same.
    if content.get("type").and_then(Value::as_str) == Some("Opaque") {
        content.remove("type");
    }
    Digest::of_json(&Value::Object(content)).short(DIGITS)
}

fn version(draft: &mut Draft, object: &ObjectRef, name: &str) {
    map_at(&mut draft.body, &[]).insert("immutable".to_owned(), json!(true));
    draft.metadata().insert("name".to_owned(), json!(name));
    map_at(&mut draft.body, &["metadata", "annotations"])
        .insert(VERSION_OF_ANNOTATION.to_owned(), json!(object.name));
}

fn rewrite(draft: &mut Draft, names: &BTreeMap<Key, String>) {
    let object = draft.object();
    if has_fixed_template(&object) {
        return;
    }
    let references = of_template(draft);
    let Some(template) = kinds::pod_template(&object) else {
        return;
    };
    for reference in references {
        let key = (reference.kind.to_owned(), reference.name);
        let place = draft
            .body
            .pointer_mut(&format!("{template}/spec{}", reference.pointer));
        if let (Some(name), Some(place)) = (names.get(&key), place) {
            *place = json!(name);
        }
    }
}
