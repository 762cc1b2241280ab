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
/// Templates of Jobs keep the plain names, and so the plain objects are there too: a Job's template
/// cannot change once it is applied, and it runs with what is there when it starts.
pub(super) fn rename(drafts: &mut Vec<Draft>, report: &mut Report) {
    fold_string_data(drafts);
    let (by_templates, plainly) = references(drafts, report);
    let taken = taken(drafts);
    let mut names: BTreeMap<Key, String> = BTreeMap::new();
    let mut kept = Vec::with_capacity(drafts.len());
    for mut draft in drafts.drain(..) {
        let object = draft.object();
        let key = (object.kind.clone(), object.name.clone());
        if !kinds::is_configuration(&object) || !is_versioned(&draft, report) || !by_templates.contains(&key)
        {
            kept.push(draft);
            continue;
        }
        let name = format!("{}-{}", object.name, content_hash(&draft.body));
        let is_there = taken.get(&(object.kind.clone(), name.clone()));
        if is_there == Some(&false) || name.len() > 253 {
            refuse_name(&draft, &name, report);
            kept.push(draft);
            continue;
        }
        if plainly.contains(&key) {
            kept.push(draft.clone());
        }
        if is_there.is_none() {
            version(&mut draft, &object, &name);
            kept.push(draft);
        }
        names.insert(key, name);
    }
    *drafts = kept;
    for draft in drafts.iter_mut() {
        rewrite(draft, &names);
    }
}

/// Configuration of the plan, and whether it stands there under a versioned name already.
fn taken(drafts: &[Draft]) -> BTreeMap<Key, bool> {
    let configuration = drafts
        .iter()
        .filter(|draft| kinds::is_configuration(&draft.object()));
    configuration
        .map(|draft| {
            let object = draft.object();
            ((object.kind, object.name), is_version(draft))
        })
        .collect()
}

fn refuse_name(draft: &Draft, name: &str, report: &mut Report) {
    let out = format!("annotate the object with {VERSIONED_ANNOTATION}: \"false\"");
    let (code, what, hint) = if name.len() > 253 {
        let what = format!(
            "is too long for a versioned name ({} of 253 characters)",
            name.len()
        );
        ("longName", what, format!("shorten it, or {out}"))
    } else {
        let what = format!("would be `{name}` with its version, which another object of the plan is called");
        ("nameTaken", what, format!("rename one of them, or {out}"))
    };
    report.error(&draft.place, code, "/metadata/name", &what, &hint);
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
    let spec = template.and_then(|template| draft.at(template)?.get("spec"));
    spec.map(|spec| pod::references(&Node::root(spec)))
        .unwrap_or_default()
}

fn has_fixed_template(object: &ObjectRef) -> bool {
    object.group == "batch" && object.kind == "Job"
}

/// Names in objects other than pod templates; in custom resources and storage every text may be one.
fn of_others(draft: &Draft, present: &BTreeSet<Key>) -> Vec<Key> {
    let object = draft.object();
    let body = Node::root(&draft.body);
    let secret = |name: Option<&str>| name.map(|name| ("Secret".to_owned(), name.to_owned()));
    match (object.group.as_str(), object.kind.as_str()) {
        ("networking.k8s.io", "Ingress") => {
            let tls = body.path(&["spec", "tls"]).items();
            let tls = tls.iter().filter_map(|entry| secret(entry.name("secretName")));
            // Controllers are told of Secrets and ConfigMaps in annotations, often as namespace/name.
            let annotations = body.path(&["metadata", "annotations"]).entries();
            let annotated = annotations.iter().filter_map(|(_, text)| text.value.as_str());
            let annotated =
                annotated.flat_map(|text| both(text.rsplit_once('/').map_or(text, |(_, name)| name)));
            tls.chain(annotated.filter(|key| present.contains(key))).collect()
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
        ("", "PersistentVolume") | ("storage.k8s.io", "StorageClass") => named_somewhere(&body, present),
        (group, _) if !kinds::is_built_in(group) && !kinds::is_rollout(&object) => {
            named_somewhere(&body, present)
        }
        _ => Vec::new(),
    }
}

/// Configuration that any text of an object names, its metadata aside.
fn named_somewhere(body: &Node<'_>, present: &BTreeSet<Key>) -> Vec<Key> {
    let mut texts = BTreeSet::new();
    for (_, field) in body.entries().iter().filter(|(key, _)| *key != "metadata") {
        collect_texts(field.value, &mut texts);
    }
    let keys = texts.into_iter().flat_map(both);
    keys.filter(|key| present.contains(key)).collect()
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
    wanted && !filled && !is_version(draft)
}

/// It stands under the name of its own content.
fn is_version(draft: &Draft) -> bool {
    draft
        .annotation(VERSION_OF_ANNOTATION)
        .is_some_and(|base| draft.object().name == format!("{base}-{}", content_hash(&draft.body)))
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
