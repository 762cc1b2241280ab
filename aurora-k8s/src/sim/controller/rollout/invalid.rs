//! What the controller refuses in a spec, and what this simulated one does not run.

use serde_json::Value;

use super::{revision::HASH_LABEL, service::MANAGED_BY, spec::duration_seconds};
use crate::sim::{controller::meta, objects::Objects, resource::SERVICES};

/// Steps that only work with a traffic router.
const ROUTED_STEPS: &[(&str, &str)] = &[
    (
        "setCanaryScale",
        "SetCanaryScale requires TrafficRouting to be set",
    ),
    (
        "setHeaderRoute",
        "SetHeaderRoute requires TrafficRouting, supports Istio and ALB and Apisix",
    ),
    (
        "setMirrorRoute",
        "SetMirrorRoute requires TrafficRouting, supports Istio and Plugins",
    ),
];
/// Steps that the simulated controller does not run.
const OTHER_STEPS: &[&str] = &["analysis", "experiment", "plugin"];

/// The first problem of a Rollout, as `path: kind: value: text`. Spec comes before references.
pub(super) fn find(objects: &Objects, rollout: &Value) -> Option<String> {
    strategy(&rollout["spec"])
        .or_else(|| selector_and_template(&rollout["spec"]))
        .or_else(|| numbers(&rollout["spec"]))
        .or_else(|| canary(&rollout["spec"]["strategy"]["canary"]))
        .or_else(|| blue_green(&rollout["spec"]))
        .or_else(|| references(objects, rollout))
}

fn invalid(path: &str, value: &Value, text: &str) -> String {
    format!("{path}: Invalid value: {value}: {text}")
}

fn not_simulated(path: &str) -> String {
    format!(
        "{path}: Forbidden: the simulated controller does not run it; it runs blue/green, and canaries of set weights and pauses, without analysis or traffic routing"
    )
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(members) => !members.is_empty(),
        _ => true,
    }
}

fn strategy(spec: &Value) -> Option<String> {
    let strategy = &spec["strategy"];
    let (canary, blue_green) = (&strategy["canary"], &strategy["blueGreen"]);
    match (canary.is_null(), blue_green.is_null()) {
        (true, true) => Some(
            "spec.strategy.strategy: Required value: Rollout has missing field '.spec.strategy.canary or .spec.strategy.blueGreen'"
                .to_owned(),
        ),
        (false, false) => Some(
            "spec.strategy.strategy: Invalid value: \"\": Multiple Strategies can not be listed".to_owned(),
        ),
        (true, false) | (false, true) => None,
    }
    .or_else(|| is_set(&spec["workloadRef"]).then(|| not_simulated("spec.workloadRef")))
    .or_else(|| is_set(&spec["rollbackWindow"]).then(|| not_simulated("spec.rollbackWindow")))
    .or_else(|| {
        let fields = ["trafficRouting", "analysis", "pingPong"];
        let field = fields.iter().find(|field| is_set(&canary[**field]))?;
        Some(not_simulated(&format!("spec.strategy.canary.{field}")))
    })
    .or_else(|| {
        let fields = ["prePromotionAnalysis", "postPromotionAnalysis"];
        let field = fields.iter().find(|field| is_set(&blue_green[**field]))?;
        Some(not_simulated(&format!("spec.strategy.blueGreen.{field}")))
    })
}

fn selector_and_template(spec: &Value) -> Option<String> {
    let selector = &spec["selector"];
    if selector.is_null() {
        return Some("spec.selector: Required value: Rollout has missing field '.spec.selector'".to_owned());
    }
    let labels = &spec["template"]["metadata"]["labels"];
    if !is_set(&selector["matchLabels"]) && selector["matchExpressions"].as_array().is_none_or(Vec::is_empty)
    {
        return Some(invalid(
            "spec.selector",
            selector,
            "empty selector is invalid for deployment",
        ));
    }
    if !meta::selects(selector, labels) {
        let text = "`selector` does not match template `labels`";
        return Some(invalid("spec.template.metadata.labels", labels, text));
    }
    let containers = spec["template"]["spec"]["containers"].as_array();
    let Some(containers) = containers.filter(|containers| !containers.is_empty()) else {
        return Some("spec.template.spec.containers: Required value".to_owned());
    };
    for (index, container) in containers.iter().enumerate() {
        for field in ["name", "image"] {
            if container[field].as_str().is_none_or(str::is_empty) {
                return Some(format!(
                    "spec.template.spec.containers[{index}].{field}: Required value"
                ));
            }
        }
    }
    let policy = &spec["template"]["spec"]["restartPolicy"];
    (!policy.is_null() && policy != "Always").then(|| {
        format!("spec.template.spec.restartPolicy: Unsupported value: {policy}: supported values: \"Always\"")
    })
}

fn numbers(spec: &Value) -> Option<String> {
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        if spec[field].as_i64().is_some_and(|number| number < 0) {
            return Some(invalid(
                &format!("spec.{field}"),
                &spec[field],
                "must be greater than or equal to 0",
            ));
        }
    }
    let deadline = spec["progressDeadlineSeconds"].as_i64().unwrap_or(600);
    let min_ready = spec["minReadySeconds"].as_i64().unwrap_or(0);
    (deadline <= min_ready).then(|| {
        invalid(
            "spec.progressDeadlineSeconds",
            &deadline.into(),
            "must be greater than minReadySeconds",
        )
    })
}

fn canary(canary: &Value) -> Option<String> {
    let zero = |field: &str| {
        matches!(canary[field].as_i64(), Some(0)) || canary[field] == "0%" || canary[field] == "0"
    };
    if zero("maxSurge") && zero("maxUnavailable") {
        let text = "MaxSurge and MaxUnavailable both can not be zero";
        return Some(invalid("spec.strategy.maxSurge", &canary["maxSurge"], text));
    }
    let (stable, other) = (&canary["stableService"], &canary["canaryService"]);
    if stable.is_string() && stable == other && stable != "" {
        let text = "This rollout uses the same service for the stable and canary services, but two different services are required.";
        return Some(invalid("spec.strategy.stableService", stable, text));
    }
    for (field, text) in [
        (
            "scaleDownDelaySeconds",
            "Canary scaleDownDelaySeconds can only be used with traffic routing",
        ),
        (
            "dynamicStableScale",
            "Canary dynamicStableScale can only be used with traffic routing",
        ),
    ] {
        if is_set(&canary[field]) && canary[field] != false {
            return Some(invalid(&format!("spec.strategy.{field}"), &canary[field], text));
        }
    }
    let steps = canary["steps"].as_array().into_iter().flatten();
    steps
        .enumerate()
        .find_map(|(index, found)| step(&format!("spec.strategy.steps[{index}]"), found))
}

fn blue_green(spec: &Value) -> Option<String> {
    let strategy = &spec["strategy"]["blueGreen"];
    if strategy.is_null() {
        return None;
    }
    let (active, preview) = (&strategy["activeService"], &strategy["previewService"]);
    let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if name(active) == name(preview) {
        let text = "This rollout uses the same service for the active and preview services, but two different services are required.";
        return Some(invalid("spec.strategy.blueGreen.activeService", active, text));
    }
    let limit = strategy["scaleDownDelayRevisionLimit"].as_i64();
    let history = spec["revisionHistoryLimit"].as_i64().unwrap_or(10);
    limit.filter(|limit| *limit > history).map(|limit| {
        invalid(
            "spec.strategy.blueGreen.scaleDownDelayRevisionLimit",
            &limit.into(),
            "This rollout's revision history limit can not be smaller than the rollout's scale down delay revision limit",
        )
    })
}

fn step(path: &str, step: &Value) -> Option<String> {
    for (field, text) in ROUTED_STEPS {
        if !step[*field].is_null() {
            return Some(invalid(&format!("{path}.{field}"), &step[*field], text));
        }
    }
    if let Some(field) = OTHER_STEPS.iter().find(|field| !step[**field].is_null()) {
        return Some(not_simulated(&format!("{path}.{field}")));
    }
    let (weight, pause) = (&step["setWeight"], &step["pause"]);
    if weight.is_null() == pause.is_null() {
        let text =
            "Step must have one of the following set: experiment, setWeight, setCanaryScale, plugin or pause";
        return Some(invalid(path, step, text));
    }
    if weight.as_i64().is_some_and(|weight| !(0..=100).contains(&weight)) {
        let text = "SetWeight needs to be between 0 and 100";
        return Some(invalid(&format!("{path}.setWeight"), weight, text));
    }
    let duration = &pause["duration"];
    let seconds = if duration.is_null() {
        0
    } else {
        duration_seconds(duration).unwrap_or(-1)
    };
    (seconds < 0).then(|| {
        invalid(
            &format!("{path}.pause.duration"),
            &seconds.into(),
            "Duration needs to be greater than 0",
        )
    })
}

fn references(objects: &Objects, rollout: &Value) -> Option<String> {
    let strategy = &rollout["spec"]["strategy"];
    let labels = &rollout["spec"]["template"]["metadata"]["labels"];
    for (kind, field) in [
        ("canary", "stableService"),
        ("canary", "canaryService"),
        ("blueGreen", "activeService"),
        ("blueGreen", "previewService"),
    ] {
        let Some(name) = strategy[kind][field].as_str().filter(|name| !name.is_empty()) else {
            continue;
        };
        let path = format!("spec.strategy.{kind}.{field}");
        let Some(service) = objects.get(&SERVICES, meta::namespace(rollout), name) else {
            return Some(invalid(
                &path,
                &name.into(),
                &format!("service \"{name}\" not found"),
            ));
        };
        for (label, value) in service["spec"]["selector"].as_object().into_iter().flatten() {
            if label != HASH_LABEL && labels.get(label) != Some(value) {
                let text = format!("Service \"{name}\" has unmatch label \"{label}\" in rollout");
                return Some(invalid(&path, &name.into(), &text));
            }
        }
        let manager = meta::annotation(&service, MANAGED_BY);
        if manager.is_some_and(|manager| manager != meta::name(rollout)) {
            let text = format!("Service \"{name}\" is managed by another Rollout");
            return Some(invalid(&path, &name.into(), &text));
        }
    }
    None
}
