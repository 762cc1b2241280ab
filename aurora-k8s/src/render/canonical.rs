//! The canonical form: what the Rollouts controller would write back, so that it changes nothing.
//!
//! The controller reads a Rollout into its types and writes the whole object: zero and empty values
//! of plain fields vanish, quantities are normalised, and fields that are no pointers appear as `{}`.

use std::mem;

use serde_json::{Map, Value, json};

use super::node::Node;
use super::pod;
use super::quantity::Quantity;
use super::report::{Place, Report};

/// Switches whose `false` vanishes.
const FLAGS: [&str; 15] = [
    "chapAuthDiscovery",
    "chapAuthSession",
    "clusterScope",
    "dynamicStableScale",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "matchTrafficWeight",
    "paused",
    "progressDeadlineAbort",
    "readOnly",
    "requiredForCompletion",
    "stdin",
    "stdinOnce",
    "tty",
];

/// Counts whose 0 vanishes.
const COUNTS: [&str; 9] = [
    "autoPromotionSeconds",
    "failureThreshold",
    "hostPort",
    "initialDelaySeconds",
    "minReadySeconds",
    "periodSeconds",
    "revisions",
    "successThreshold",
    "timeoutSeconds",
];

/// Texts that vanish when they are empty.
const TEXTS: [&str; 46] = [
    "annotationPrefix",
    "apiVersion",
    "audience",
    "canaryService",
    "containerName",
    "dnsPolicy",
    "effect",
    "exact",
    "fsType",
    "host",
    "hostIP",
    "hostname",
    "image",
    "imagePullPolicy",
    "ingress",
    "iscsiInterface",
    "key",
    "level",
    "medium",
    "nodeName",
    "operator",
    "prefix",
    "previewService",
    "priorityClassName",
    "protocol",
    "regex",
    "restartPolicy",
    "role",
    "rootService",
    "schedulerName",
    "scheme",
    "secretFile",
    "secretName",
    "serviceAccount",
    "serviceAccountName",
    "stableIngress",
    "stableService",
    "subPath",
    "subPathExpr",
    "subdomain",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "trafficSplitName",
    "user",
    "volumeName",
    "workingDir",
];

/// Maps with free keys: they vanish when empty, and their values stay as they are.
const MAPS: [&str; 10] = [
    "additionalIngressAnnotations",
    "annotations",
    "canaryIngressAnnotations",
    "labels",
    "limits",
    "matchLabels",
    "nodeSelector",
    "overhead",
    "requests",
    "volumeAttributes",
];

/// Configuration of plugins, which the controller keeps byte by byte.
const RAW: [&str; 2] = ["config", "plugins"];

/// Brings a Rollout into canonical form; its pod template has been before.
pub(super) fn rollout(body: &mut Value) {
    if let Some(spec) = body.get_mut("spec").and_then(Value::as_object_mut) {
        prune(spec, "spec");
        if let Some(strategy) = spec.get_mut("strategy") {
            write_empty_metadata(strategy);
        }
    }
}

/// What is done to pod templates of all kinds: file modes become numbers, quantities canonical.
pub(super) fn any_template(template: &mut Value) {
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("creationTimestamp");
    }
    let Some(spec) = template.get_mut("spec") else {
        return;
    };
    pod::each_quantity(spec, &mut |value| {
        if let Ok(quantity) = Quantity::read(value) {
            *value = json!(quantity.to_string());
        }
    });
    for volume in list(spec, "volumes") {
        read_modes(volume);
    }
}

/// What is done to the pod templates of Rollouts alone.
pub(super) fn rollout_template(template: &mut Value) {
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        // The schema of Rollouts declares these two and no other.
        metadata.retain(|key, _| matches!(key.as_str(), "annotations" | "labels"));
    }
    if let Some(template) = template.as_object_mut() {
        prune(template, "template");
    }
    let Some(spec) = template.get_mut("spec") else {
        return;
    };
    for key in ["initContainers", "containers"] {
        for container in list(spec, key).iter_mut().filter_map(Value::as_object_mut) {
            container.entry("resources").or_insert_with(|| json!({}));
            for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
                let grpc = container.get_mut(probe).and_then(|probe| probe.get_mut("grpc"));
                if let Some(grpc) = grpc.and_then(Value::as_object_mut) {
                    grpc.entry("service").or_insert_with(|| json!(""));
                }
            }
            for port in container.get_mut("ports").map(items).unwrap_or_default() {
                if let Some(port) = port.as_object_mut() {
                    port.entry("protocol").or_insert_with(|| json!("TCP"));
                }
            }
        }
    }
    for volume in list(spec, "volumes") {
        if let Some(claim) = volume.pointer_mut("/ephemeral/volumeClaimTemplate") {
            with_empty(claim, "metadata");
            if let Some(spec) = claim.get_mut("spec") {
                with_empty(spec, "resources");
            }
        }
    }
    pod::each_resource_field(spec, &mut |reference| {
        reference.entry("divisor").or_insert_with(|| json!("0"));
    });
}

/// Problems of quantities in a pod template, at the places the user wrote.
pub(super) fn check_quantities(spec: &Node<'_>, place: &Place, report: &mut Report) {
    for node in pod::quantities(spec) {
        check_quantity(&node, place, report);
    }
}

/// One quantity.
pub(super) fn check_quantity(node: &Node<'_>, place: &Place, report: &mut Report) {
    match Quantity::read(node.value) {
        Err(invalid) => {
            let hint = "for example 100m, 0.5, 512Mi or 1Gi";
            report.error(
                place,
                "badQuantity",
                &node.pointer,
                &format!("is wrong: {invalid}"),
                hint,
            );
        }
        Ok(quantity) if quantity.to_string().starts_with('-') => {
            report.error(
                place,
                "badQuantity",
                &node.pointer,
                "is negative",
                "resources are 0 or more",
            );
        }
        Ok(_) => {}
    }
}

/// Drops what the controller's types leave out; `context` is the field that holds the object.
fn prune(fields: &mut Map<String, Value>, context: &str) {
    let before = mem::take(fields);
    for (key, mut value) in before {
        if !RAW.contains(&key.as_str()) && !MAPS.contains(&key.as_str()) {
            match &mut value {
                Value::Object(inner) => prune(inner, &key),
                Value::Array(items) => {
                    for item in items.iter_mut().filter_map(Value::as_object_mut) {
                        prune(item, &key);
                    }
                }
                _ => {}
            }
        }
        if !vanishes(&key, &value, context) {
            fields.insert(key, value);
        }
    }
}

fn vanishes(key: &str, value: &Value, context: &str) -> bool {
    // Volumes of CSI drivers hold these two by pointer.
    let in_csi = context == "csi" && matches!(key, "fsType" | "readOnly");
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => {
            fields.is_empty() && (MAPS.contains(&key) || matches!(key, "headers" | "plugins"))
        }
        Value::Bool(set) => !set && FLAGS.contains(&key) && !in_csi,
        Value::Number(number) => number.as_i64() == Some(0) && COUNTS.contains(&key),
        Value::String(text) if text.is_empty() => {
            (TEXTS.contains(&key) && !in_csi) || is_text_of(key, context)
        }
        Value::String(_) => false,
    }
}

/// Texts that vanish in some objects only.
fn is_text_of(key: &str, context: &str) -> bool {
    match key {
        "name" => {
            context.ends_with("Ref")
                || matches!(context, "configMap" | "imagePullSecrets" | "ports" | "secret")
        }
        "path" => context == "httpGet",
        "type" => context == "seLinuxOptions",
        "value" => matches!(context, "args" | "env" | "tolerations"),
        _ => false,
    }
}

/// Analyses and experiments hold metadata that the controller always writes, empty or not.
fn write_empty_metadata(strategy: &mut Value) {
    let mut analyses = Vec::new();
    for key in ["prePromotionAnalysis", "postPromotionAnalysis"] {
        analyses.extend(
            strategy
                .pointer_mut(&format!("/blueGreen/{key}"))
                .map(mem::take)
                .map(|v| (key, v)),
        );
    }
    for (key, mut analysis) in analyses {
        with_empty(&mut analysis, "analysisRunMetadata");
        strategy["blueGreen"][key] = analysis;
    }
    let Some(canary) = strategy.get_mut("canary") else {
        return;
    };
    if let Some(background) = canary.get_mut("analysis") {
        with_empty(background, "analysisRunMetadata");
    }
    for step in list(canary, "steps") {
        if let Some(analysis) = step.get_mut("analysis") {
            with_empty(analysis, "analysisRunMetadata");
        }
        if let Some(experiment) = step.get_mut("experiment") {
            with_empty(experiment, "analysisRunMetadata");
            for template in list(experiment, "templates") {
                with_empty(template, "metadata");
            }
        }
    }
}

fn with_empty(value: &mut Value, key: &str) {
    if let Some(fields) = value.as_object_mut() {
        fields.entry(key).or_insert_with(|| json!({}));
    }
}

/// YAML 1.1 writes file modes as `0755`; as text they would be refused.
fn read_modes(volume: &mut Value) {
    match volume {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if matches!(key.as_str(), "defaultMode" | "mode") => {
                        if let Some(mode) = octal(text) {
                            *value = json!(mode);
                        }
                    }
                    other => read_modes(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(read_modes),
        _ => {}
    }
}

fn octal(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").or_else(|| text.strip_prefix('0'))?;
    u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777)
}

fn list<'a>(value: &'a mut Value, key: &str) -> &'a mut [Value] {
    value.get_mut(key).map(items).unwrap_or_default()
}

fn items(value: &mut Value) -> &mut [Value] {
    value.as_array_mut().map(Vec::as_mut_slice).unwrap_or_default()
}
