//! Rules for pod templates.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Lint, fields, labels, required};
use crate::render::canonical;
use crate::render::node::Node;
use crate::render::pod;
use crate::render::quantity::Quantity;
use crate::render::report;

/// What a probe can do.
const HANDLERS: [&str; 4] = ["exec", "grpc", "httpGet", "tcpSocket"];

/// What a pod template belongs to.
#[derive(Debug)]
pub(super) struct Owner<'a> {
    /// How long its pods run; `None` where the template is only kept for others.
    pub(super) life: Option<Life>,
    /// It is a Rollout, whose schema refuses every field that it does not declare.
    pub(super) strict: bool,
    /// Volumes that come from claims of the owner.
    pub(super) claims: Vec<&'a str>,
}

/// How long pods run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Life {
    /// Until their work is done.
    Job,
    /// Until somebody ends them.
    Service,
}

/// Checks a pod template.
pub(super) fn check(template: &Node<'_>, owner: &Owner<'_>, lint: &mut Lint<'_>) {
    labels::check_metadata(&template.field("metadata"), lint.place, lint.report);
    let spec = template.field("spec");
    if spec.field("containers").items().is_empty() {
        lint.error(
            "missing",
            &spec.field("containers"),
            "is missing",
            "a pod needs at least one container",
        );
    }
    if owner.strict {
        check_declared(template, &spec, lint);
    }
    if owner.life == Some(Life::Service) {
        if let Some(policy) = spec
            .get("restartPolicy")
            .filter(|node| node.value.as_str() != Some("Always"))
        {
            let what = format!("is {}, but pods of this kind are always restarted", policy.value);
            lint.error(
                "badValue",
                &policy,
                what,
                "take it out, or use a Job for what ends",
            );
        }
        if spec.has("activeDeadlineSeconds") {
            let node = spec.field("activeDeadlineSeconds");
            lint.error(
                "notSupported",
                &node,
                "cannot be used where pods run for ever",
                "take it out",
            );
        }
    } else if owner.life == Some(Life::Job)
        && !matches!(spec.text("restartPolicy"), Some("Never" | "OnFailure"))
    {
        let what = "is not set to what a Job can have";
        lint.error(
            "badValue",
            &spec.field("restartPolicy"),
            what,
            "Never or OnFailure",
        );
    }
    canonical::check_quantities(&spec, lint.place, lint.report);
    required::check(&spec, lint);
    let mut volumes = check_volumes(&spec, lint);
    volumes.extend(&owner.claims);
    let mut names = BTreeSet::new();
    for container in pod::containers(&spec) {
        check_container(&container, &mut names, &volumes, lint);
    }
    if !spec.field("ephemeralContainers").items().is_empty() {
        let node = spec.field("ephemeralContainers");
        lint.error(
            "notSupported",
            &node,
            "cannot be declared",
            "they are added to running pods only",
        );
    }
    for (list, key) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let mut seen = BTreeSet::new();
        for item in spec.field(list).items() {
            if item.name(key).is_some_and(|name| !seen.insert(name)) {
                lint.error(
                    "duplicate",
                    &item.field(key),
                    "is there twice",
                    "keep one of them",
                );
            }
        }
    }
    lint.whole(&spec, "terminationGracePeriodSeconds", 0);
}

/// Rollouts take only fields that their schema declares.
fn check_declared(template: &Node<'_>, spec: &Node<'_>, lint: &mut Lint<'_>) {
    fields::check(template, fields::POD_TEMPLATE, lint);
    fields::check(spec, fields::POD, lint);
    for container in pod::containers(spec) {
        fields::check(&container, fields::CONTAINER, lint);
    }
}

/// Checks the volumes; returns their names.
fn check_volumes<'a>(spec: &Node<'a>, lint: &mut Lint<'_>) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for volume in spec.field("volumes").items() {
        let name = lint.text(&volume, "name");
        match name {
            None => lint.error(
                "missing",
                &volume.field("name"),
                "is missing",
                "containers mount it by name",
            ),
            Some(name) if !names.insert(name) => {
                lint.error(
                    "duplicate",
                    &volume.field("name"),
                    format!("`{name}` is there twice"),
                    "",
                );
            }
            Some(name) if !labels::is_dns_label(name) => {
                let hint = "at most 63 lower-case letters, digits and dashes";
                lint.error("badName", &volume.field("name"), format!("is `{name}`"), hint);
            }
            Some(_) => {}
        }
        let sources: Vec<&str> = volume
            .entries()
            .iter()
            .filter(|(key, node)| *key != "name" && !node.value.is_null())
            .map(|(key, _)| *key)
            .collect();
        // Without a source it is an emptyDir.
        if sources.len() > 1 {
            let what = format!("has several sources: {}", sources.join(", "));
            lint.error("notOne", &volume, what, "keep one of them");
        }
        check_modes(&volume, lint);
    }
    names
}

fn check_modes(node: &Node<'_>, lint: &mut Lint<'_>) {
    for (key, field) in node.entries() {
        if matches!(key, "defaultMode" | "mode") && !field.value.is_null() {
            if !field
                .value
                .as_i64()
                .is_some_and(|mode| (0..=0o777).contains(&mode))
            {
                let what = format!("is {}, not a file mode", field.value);
                lint.error("badType", &field, what, "for example 0644 (octal) or 420");
            }
        } else {
            check_modes(&field, lint);
        }
    }
    for item in node.items() {
        check_modes(&item, lint);
    }
}

fn check_container<'a>(
    container: &Node<'a>,
    names: &mut BTreeSet<&'a str>,
    volumes: &BTreeSet<&str>,
    lint: &mut Lint<'_>,
) {
    match lint.text(container, "name") {
        None => lint.error(
            "missing",
            &container.field("name"),
            "is missing",
            "every container needs a name",
        ),
        Some(name) if !labels::is_dns_label(name) => {
            let hint = "at most 63 lower-case letters, digits and dashes";
            lint.error("badName", &container.field("name"), format!("is `{name}`"), hint);
        }
        Some(name) if !names.insert(name) => {
            let hint = "every container of a pod has a name of its own";
            lint.error(
                "duplicate",
                &container.field("name"),
                format!("`{name}` is there twice"),
                hint,
            );
        }
        Some(_) => {}
    }
    match lint.text(container, "image") {
        None => lint.error(
            "missing",
            &container.field("image"),
            "is missing",
            "name the image to run",
        ),
        Some(image) if image.trim() != image => {
            lint.error(
                "badValue",
                &container.field("image"),
                "has spaces at its edges",
                "",
            );
        }
        Some(_) => {}
    }
    if let Some(policy) = container.get("imagePullPolicy")
        && !matches!(policy.value.as_str(), Some("Always" | "IfNotPresent" | "Never"))
    {
        lint.error(
            "badValue",
            &policy,
            "is not known",
            "Always, IfNotPresent or Never",
        );
    }
    for key in ["args", "command"] {
        for word in container.field(key).items() {
            if !word.value.is_string() {
                let hint = format!("put it in quotes: \"{}\"", word.value);
                lint.error("badType", &word, format!("is {}, not a text", word.value), &hint);
            }
        }
    }
    check_environment(container, lint);
    check_ports(container, lint);
    check_mounts(container, volumes, lint);
    check_resources(container, lint);
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get(key) {
            check_probe(&probe, key, lint);
        }
    }
}

fn check_environment(container: &Node<'_>, lint: &mut Lint<'_>) {
    let mut first: BTreeMap<&str, String> = BTreeMap::new();
    for variable in container.field("env").items() {
        let Some(name) = lint.text(&variable, "name") else {
            lint.error("missing", &variable.field("name"), "is missing", "");
            continue;
        };
        if let Some(before) = first.get(name) {
            let what = format!("`{name}` is there before, at {}", report::dotted(before));
            lint.error("duplicate", &variable.field("name"), what, "keep one of them");
        }
        first.entry(name).or_insert_with(|| variable.pointer.clone());
        if let Some(value) = variable.get("value") {
            if !value.value.is_string() {
                let what = format!("is {}, but variables hold only texts", value.value);
                let hint = format!("put it in quotes: \"{}\"", value.value);
                lint.error("badType", &value, what, &hint);
            }
            let filled = value.value.as_str().is_some_and(|text| !text.is_empty());
            if filled && variable.has("valueFrom") {
                lint.error(
                    "excludes",
                    &variable,
                    "has both value and valueFrom",
                    "keep one of them",
                );
            }
        }
        if let Some(from) = variable.get("valueFrom")
            && from.entries().len() != 1
        {
            let hint = "for example configMapKeyRef with name and key";
            lint.error("notOne", &from, "needs exactly one source", hint);
        }
    }
}

fn check_ports(container: &Node<'_>, lint: &mut Lint<'_>) {
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    for port in container.field("ports").items() {
        let number = lint.whole(&port, "containerPort", 1);
        if !port.has("containerPort") {
            lint.error("missing", &port.field("containerPort"), "is missing", "");
        }
        if number.is_some_and(|number| number > 65535) {
            lint.error(
                "outOfRange",
                &port.field("containerPort"),
                "is more than 65535",
                "",
            );
        }
        let protocol = port.text("protocol").unwrap_or("TCP");
        if !matches!(protocol, "SCTP" | "TCP" | "UDP") {
            lint.error(
                "badValue",
                &port.field("protocol"),
                "is not known",
                "TCP, UDP or SCTP",
            );
        }
        if number.is_some_and(|number| !numbers.insert((number, protocol))) {
            let what = format!("is there twice for {protocol}");
            lint.error(
                "duplicate",
                &port.field("containerPort"),
                what,
                "keep one of them",
            );
        }
        if let Some(name) = port.name("name") {
            let letters = name.bytes().any(|b| b.is_ascii_lowercase());
            if name.len() > 15 || !letters || !labels::is_dns_label(name) || name.contains("--") {
                let hint = "at most 15 lower-case letters, digits and single dashes, with a letter";
                lint.error("badName", &port.field("name"), format!("is `{name}`"), hint);
            }
            if !names.insert(name) {
                lint.error(
                    "duplicate",
                    &port.field("name"),
                    format!("`{name}` is there twice"),
                    "",
                );
            }
        }
    }
}

fn check_mounts(container: &Node<'_>, volumes: &BTreeSet<&str>, lint: &mut Lint<'_>) {
    let mut paths = BTreeSet::new();
    for mount in container.field("volumeMounts").items() {
        match lint.text(&mount, "mountPath") {
            None => lint.error("missing", &mount.field("mountPath"), "is missing", ""),
            Some(path) if !paths.insert(path) => {
                let what = format!("`{path}` is mounted twice");
                lint.error("duplicate", &mount.field("mountPath"), what, "keep one of them");
            }
            Some(_) => {}
        }
        match lint.text(&mount, "name") {
            None => lint.error("missing", &mount.field("name"), "is missing", "name the volume"),
            Some(name) if !volumes.contains(name) => {
                let what = format!("names the volume `{name}`, which the pod does not have");
                lint.error(
                    "unknownVolume",
                    &mount.field("name"),
                    what,
                    "declare it in spec.volumes",
                );
            }
            Some(_) => {}
        }
    }
}

fn check_resources(container: &Node<'_>, lint: &mut Lint<'_>) {
    let resources = container.field("resources");
    let limits = resources.field("limits");
    for (name, request) in resources.field("requests").entries() {
        let Some(limit) = limits.get(name) else { continue };
        let read = |value: &Value| Quantity::read(value).ok();
        if let (Some(asked), Some(most)) = (read(request.value), read(limit.value))
            && asked > most
        {
            let what = format!("is {asked}, more than its limit, which is {most}");
            lint.error("outOfRange", &request, what, "raise the limit or ask for less");
        }
    }
}

fn check_probe(probe: &Node<'_>, key: &str, lint: &mut Lint<'_>) {
    let handlers = HANDLERS.iter().filter(|handler| probe.has(handler)).count();
    if handlers != 1 {
        let what = if handlers == 0 {
            "says nothing to probe"
        } else {
            "probes in several ways"
        };
        lint.error(
            "notOne",
            probe,
            what,
            "exactly one of exec, grpc, httpGet and tcpSocket",
        );
    }
    for (field, least) in [
        ("failureThreshold", 0),
        ("initialDelaySeconds", 0),
        ("periodSeconds", 0),
        ("successThreshold", 0),
        ("timeoutSeconds", 0),
        ("terminationGracePeriodSeconds", 1),
    ] {
        lint.whole(probe, field, least);
    }
    if key != "readinessProbe" && probe.int("successThreshold").is_some_and(|times| times > 1) {
        let what = format!("is more than 1, which a {key} cannot have");
        lint.error(
            "outOfRange",
            &probe.field("successThreshold"),
            what,
            "take it out",
        );
    }
}
