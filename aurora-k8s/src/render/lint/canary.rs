//! Rules for the canary strategy, its steps and routers aside.

use super::{Lint, analysis, fields, routing, steps};
use crate::argo::{self, IntOrPercent};
use crate::render::node::Node;

/// Checks a canary.
pub(super) fn check(canary: &Node<'_>, spec: &Node<'_>, lint: &mut Lint<'_>) {
    fields::check(canary, fields::CANARY, lint);
    check_rolling(canary, lint);
    check_anti_affinity(canary, lint);
    check_threshold(canary, spec, lint);
    check_revision_limit(canary, spec, lint);
    lint.whole(canary, "scaleDownDelaySeconds", 0);
    lint.whole(canary, "abortScaleDownDelaySeconds", 0);
    lint.whole(canary, "minPodsPerReplicaSet", 0);
    for key in ["canaryService", "stableService"] {
        lint.text(canary, key);
    }
    let (ours, stable) = (canary.name("canaryService"), canary.name("stableService"));
    if ours.is_some() && ours == stable {
        let what = "is the same Service as canaryService";
        lint.error(
            "sameService",
            &canary.field("stableService"),
            what,
            "two different Services are needed",
        );
    }
    routing::check(canary, lint);
    if let Some(background) = canary.get("analysis") {
        analysis::check_use(&background, lint);
        let count = canary.field("steps").items().len();
        let start = lint.whole(&background, "startingStep", 0).unwrap_or(0);
        if start > 0 && usize::try_from(start).is_ok_and(|start| start >= count) {
            let what = format!("is {start}, but there are {count} steps");
            lint.error(
                "outOfRange",
                &background.field("startingStep"),
                what,
                "steps count from 0",
            );
        }
    }
    steps::check(canary, spec, lint);
}

/// How far pods may be more or fewer than declared.
fn check_rolling(canary: &Node<'_>, lint: &mut Lint<'_>) {
    let mut numbers = Vec::new();
    for key in ["maxSurge", "maxUnavailable"] {
        let Some(node) = canary.get(key) else {
            numbers.push(Some(25));
            continue;
        };
        let read = IntOrPercent::read(node.value).map(IntOrPercent::number);
        if read.is_none_or(|number| number < 0) {
            let what = format!("is {}, which the controller takes for 0", node.value);
            lint.error(
                "badValue",
                &node,
                what,
                "a whole number such as 1 or a share such as \"25%\"",
            );
        }
        numbers.push(read);
    }
    if numbers == [Some(0), Some(0)] {
        let what = "is 0 and so is maxSurge: no pod could ever be exchanged";
        lint.error(
            "noRoom",
            &canary.field("maxUnavailable"),
            what,
            "set one of them to at least 1",
        );
    }
}

/// Exactly one rule, for canary and blue/green alike.
pub(super) fn check_anti_affinity(strategy: &Node<'_>, lint: &mut Lint<'_>) {
    let Some(rule) = strategy.get("antiAffinity") else {
        return;
    };
    let required = rule.has("requiredDuringSchedulingIgnoredDuringExecution");
    let preferred = rule.get("preferredDuringSchedulingIgnoredDuringExecution");
    if required == preferred.is_some() {
        lint.error(
            "notOne",
            &rule,
            "needs exactly one of required… and preferred…",
            "keep one of them",
        );
    }
    if let Some(preferred) = preferred {
        let weight = preferred.int("weight");
        if !weight.is_some_and(|weight| (1..=100).contains(&weight)) {
            lint.error(
                "outOfRange",
                &preferred.field("weight"),
                "is not between 1 and 100",
                "",
            );
        }
    }
}

fn check_threshold(canary: &Node<'_>, spec: &Node<'_>, lint: &mut Lint<'_>) {
    let Some(threshold) = canary.get("replicaProgressThreshold") else {
        return;
    };
    fields::check(&threshold, &["type", "value"], lint);
    let value = lint.whole(&threshold, "value", 0);
    let hint = "a step would never be complete";
    match (threshold.text("type"), value) {
        (Some("Percent"), Some(value)) if value > 100 => {
            lint.error(
                "outOfRange",
                &threshold.field("value"),
                format!("is {value} percent"),
                hint,
            );
        }
        (Some("Pod"), Some(value)) if spec.int("replicas").is_some_and(|replicas| value > replicas) => {
            let what = format!("is {value} pods, more than there are replicas");
            lint.error("outOfRange", &threshold.field("value"), what, hint);
        }
        (Some("Percent" | "Pod"), _) => {}
        _ => lint.error(
            "badValue",
            &threshold.field("type"),
            "is not known",
            "Percent or Pod",
        ),
    }
}

/// Old `ReplicaSets` that are deleted cannot be kept for a delay.
pub(super) fn check_revision_limit(strategy: &Node<'_>, spec: &Node<'_>, lint: &mut Lint<'_>) {
    let Some(limit) = lint.whole(strategy, "scaleDownDelayRevisionLimit", 0) else {
        return;
    };
    let kept = spec
        .int("revisionHistoryLimit")
        .unwrap_or(argo::DEFAULT_REVISION_HISTORY);
    if limit > kept {
        let what = format!("is {limit}, more than revisionHistoryLimit, which is {kept}");
        let node = strategy.field("scaleDownDelayRevisionLimit");
        lint.error(
            "outOfRange",
            &node,
            what,
            "raise spec.revisionHistoryLimit or lower this",
        );
    }
}
