//! From manifests to drafts: lists are flattened, what a server wrote is left out, what cannot be applied is refused.

use std::collections::BTreeMap;

use aurora_core::manifest::{Manifest, ObjectRef};
use aurora_core::plan::ADOPT_ANNOTATION;
use serde_json::{Map, Value};

use super::draft::Draft;
use super::kinds;
use super::lint::labels;
use super::node::{Node, at_mut};
use super::report::{Place, Report};
use crate::argo;

/// Fields of `metadata` that only an API server writes.
const SERVER_FIELDS: [&str; 8] = [
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Annotations that other programs keep on live objects.
const FOREIGN_ANNOTATIONS: [&str; 2] = [
    "deployment.kubernetes.io/revision",
    "kubectl.kubernetes.io/last-applied-configuration",
];

/// Lists inside lists are followed this deep.
const MAX_LIST_DEPTH: usize = 8;

/// Makes a draft of every object in the manifests.
pub(super) fn drafts(manifests: &[Manifest], report: &mut Report) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for manifest in manifests {
        let place = Place {
            named: String::new(),
            origin: manifest.origin.clone(),
            prefix: String::new(),
            converted: false,
        };
        take(&manifest.body, place, 0, &mut drafts, report);
    }
    refuse_duplicates(&drafts, report);
    drafts
}

fn take(body: &Value, mut place: Place, depth: usize, drafts: &mut Vec<Draft>, report: &mut Report) {
    let object = ObjectRef::of(body);
    place.named = match (object.kind.as_str(), object.name.as_str()) {
        ("", _) => "manifest without a kind".to_owned(),
        (kind, "") => format!("{kind} without a name"),
        (kind, name) => format!("{kind} {name}"),
    };
    if !body.is_object() {
        report.error(
            &place,
            "notAnObject",
            "",
            "is not an object",
            "a manifest has apiVersion, kind and metadata",
        );
        return;
    }
    if object.kind.ends_with("List") && body.get("items").is_some() {
        if depth == MAX_LIST_DEPTH {
            report.error(
                &place,
                "tooDeep",
                "/items",
                "is a list in too many lists",
                "write its objects as documents",
            );
            return;
        }
        let items = Node::root(body).field("items");
        if !items.value.is_array() {
            report.error(&place, "badType", "/items", "is not a list", "");
        }
        for item in items.items() {
            let inner = Place {
                prefix: format!("{}{}", place.prefix, item.pointer),
                ..place.clone()
            };
            take(item.value, inner, depth + 1, drafts, report);
        }
        return;
    }
    if !is_acceptable(body, &object, &place, report) {
        return;
    }
    let mut draft = Draft {
        body: body.clone(),
        place,
        adopt: false,
    };
    leave_out_what_servers_write(&mut draft, report);
    labels::check_metadata(&Node::root(&draft.body).field("metadata"), &draft.place, report);
    draft.adopt = adopts(&draft, report);
    drafts.push(draft);
}

fn is_acceptable(body: &Value, object: &ObjectRef, place: &Place, report: &mut Report) -> bool {
    let before = report.count();
    let node = Node::root(body);
    let api_version = node.name("apiVersion").unwrap_or_default();
    for (key, hint) in [
        ("apiVersion", "for example `v1` or `apps/v1`"),
        ("kind", "for example `Deployment`"),
    ] {
        if node.name(key).is_none() {
            report.error(place, "missing", &format!("/{key}"), "is missing", hint);
        }
    }
    let metadata = node.field("metadata");
    if metadata.has("generateName") && metadata.name("name").is_none() {
        let hint = "give it a `name`: the same plan must name the same objects each time";
        report.error(
            place,
            "generateName",
            "/metadata/generateName",
            "cannot be used",
            hint,
        );
    } else {
        match metadata.get("name").map(|name| name.value.as_str()) {
            None | Some(Some("")) => {
                report.error(
                    place,
                    "missing",
                    "/metadata/name",
                    "is missing",
                    "every object needs a name",
                );
            }
            Some(None) => {
                report.error(
                    place,
                    "badType",
                    "/metadata/name",
                    "is not a text",
                    "put it in quotes",
                );
            }
            Some(Some(name)) => check_name(object, name, place, report),
        }
    }
    if metadata
        .get("namespace")
        .is_some_and(|node| !node.value.is_string())
    {
        report.error(
            place,
            "badType",
            "/metadata/namespace",
            "is not a text",
            "put it in quotes",
        );
    }
    let successor = kinds::successor(api_version, &object.kind);
    if let Some(successor) = successor {
        let what = format!("`{api_version}` is no longer served by clusters");
        let hint = format!("write `{successor}` and check the fields that changed with it");
        report.error(place, "oldVersion", "/apiVersion", &what, &hint);
    }
    let home = kinds::home(&object.kind);
    if let Some(group) =
        home.filter(|group| !api_version.is_empty() && successor.is_none() && *group != object.group)
    {
        let what = format!("is `{api_version}`, where no cluster has a {}", object.kind);
        report.error(
            place,
            "wrongGroup",
            "/apiVersion",
            &what,
            &format!("write `{group}/v1`"),
        );
    }
    match (object.group.as_str(), object.kind.as_str()) {
        ("", "Pod" | "ReplicationController") | ("apps", "ReplicaSet") => {
            let what = format!("is {}, which cannot be rolled out by itself", object.kind);
            report.error(
                place,
                "bareWorkload",
                "/kind",
                &what,
                "write a Deployment, or a Job for what ends",
            );
        }
        ("kustomize.config.k8s.io", _) => {
            let hint = "run `kustomize build` and deploy what it writes";
            report.error(
                place,
                "notAnObject",
                "/kind",
                "is Kustomization: input of kustomize, not an object of a cluster",
                hint,
            );
        }
        _ => {}
    }
    report.count() == before
}

fn check_name(object: &ObjectRef, name: &str, place: &Place, report: &mut Report) {
    let (good, rule) = match (object.group.as_str(), object.kind.as_str()) {
        ("rbac.authorization.k8s.io", _) => (
            !name.contains(['/', '%']) && name != "." && name != ".." && name.len() <= 253,
            "a name without `/` and `%`",
        ),
        ("", "Service") => (
            labels::is_dns_label(name) && !name.starts_with(|c: char| c.is_ascii_digit()),
            "at most 63 lower-case letters, digits and dashes, starting with a letter",
        ),
        ("", "Namespace") => (
            labels::is_dns_label(name),
            "at most 63 lower-case letters, digits and dashes, none at the edges",
        ),
        _ => (
            labels::is_dns_name(name),
            "at most 253 lower-case letters, digits, dashes and points, none at the edges",
        ),
    };
    if !good {
        let what = format!("`{name}` is not a name that clusters take");
        report.error(place, "badName", "/metadata/name", &what, rule);
    }
}

fn leave_out_what_servers_write(draft: &mut Draft, report: &mut Report) {
    let mut left_out = Vec::new();
    let object = draft.object();
    let is_service = object.group.is_empty() && object.kind == "Service";
    let status = draft.body.as_object_mut().and_then(|body| body.remove("status"));
    if status.is_some_and(|status| says_something(&status)) {
        left_out.push("status".to_owned());
    }
    // The Rollouts controller writes it, and an old one would select no pods at all.
    let selector = at_mut(&mut draft.body, "/spec/selector").and_then(Value::as_object_mut);
    if is_service && selector.is_some_and(|selector| selector.remove(argo::POD_TEMPLATE_HASH).is_some()) {
        left_out.push(format!("spec.selector.{}", argo::POD_TEMPLATE_HASH));
    }
    let metadata = draft.metadata();
    metadata.remove("creationTimestamp");
    metadata.remove("generateName");
    for field in SERVER_FIELDS {
        if metadata.remove(field).is_some_and(|value| says_something(&value)) {
            left_out.push(format!("metadata.{field}"));
        }
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        let foreign = |name: &str| {
            FOREIGN_ANNOTATIONS.contains(&name)
                || name == argo::MANAGED_BY
                || name.starts_with(argo::CONTROLLER_ANNOTATIONS)
                || name == aurora_core::plan::PLAN_ANNOTATION
        };
        annotations.retain(|name, _| {
            let keep = !foreign(name);
            if !keep && name != aurora_core::plan::PLAN_ANNOTATION {
                left_out.push(format!("annotation {name}"));
            }
            keep
        });
    }
    for key in ["annotations", "labels"] {
        let empty = |value: &Value| value.is_null() || value.as_object().is_some_and(Map::is_empty);
        if metadata.get(key).is_some_and(empty) {
            metadata.remove(key);
        }
    }
    if !left_out.is_empty() {
        report.note(&draft.place, &format!("left out {}", left_out.join(", ")));
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => fields.values().any(says_something),
        _ => true,
    }
}

fn adopts(draft: &Draft, report: &mut Report) -> bool {
    match draft.annotation(ADOPT_ANNOTATION) {
        None | Some("false") => false,
        Some("true") => {
            let what = "takes over an object of that name; it is then deleted when it leaves the plan";
            report.note(&draft.place, what);
            true
        }
        Some(other) => {
            let pointer = format!("/metadata/annotations/{}", ADOPT_ANNOTATION.replace('/', "~1"));
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
    }
}

fn refuse_duplicates(drafts: &[Draft], report: &mut Report) {
    let mut seen: BTreeMap<(String, String, String), &Draft> = BTreeMap::new();
    for draft in drafts {
        let object = draft.object();
        let key = (object.group.clone(), object.kind.clone(), object.name.clone());
        if let Some(first) = seen.get(&key) {
            let what = format!("was declared before, at {}", first.origin());
            report.error(
                &draft.place,
                "duplicate",
                "/metadata/name",
                &what,
                "keep one of them",
            );
        } else {
            seen.insert(key, draft);
        }
    }
}
