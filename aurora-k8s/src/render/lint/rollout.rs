//! Rules for a Rollout as a whole.

use serde_json::Value;

use super::{Lint, blue_green, canary, fields};
use crate::argo;
use crate::render::node::Node;

/// Checks the spec of a Rollout, its pod template aside.
pub(super) fn check(spec: &Node<'_>, lint: &mut Lint<'_>) {
    fields::check(spec, fields::ROLLOUT, lint);
    check_counts(spec, lint);
    check_source_of_pods(spec, lint);
    if spec.is_set("paused") {
        let hint = "take it out: Aurora moves from gate to gate by itself";
        lint.error(
            "paused",
            &spec.field("paused"),
            "is true: nothing would ever move",
            hint,
        );
    }
    if let Some(at) = spec.get("restartAt") {
        let time = at.value.as_str().map(str::parse::<jiff::Timestamp>);
        if !matches!(time, Some(Ok(_))) {
            lint.error(
                "badTime",
                &at,
                "is not a time",
                "for example \"2026-01-31T12:00:00Z\"",
            );
        }
    }
    let strategy = spec.field("strategy");
    fields::check(&strategy, fields::STRATEGY, lint);
    match (strategy.get("canary"), strategy.get("blueGreen")) {
        (Some(node), None) => canary::check(&node, spec, lint),
        (None, Some(node)) => blue_green::check(&node, spec, lint),
        (Some(_), Some(_)) => {
            lint.error(
                "twoStrategies",
                &strategy,
                "has both canary and blueGreen",
                "keep one of them",
            );
        }
        (None, None) => {
            lint.error(
                "missing",
                &strategy,
                "has neither canary nor blueGreen",
                "add one of them",
            );
        }
    }
}

fn check_counts(spec: &Node<'_>, lint: &mut Lint<'_>) {
    lint.whole(spec, "replicas", 0);
    let ready = lint.whole(spec, "minReadySeconds", 0).unwrap_or(0);
    lint.whole(spec, "revisionHistoryLimit", 0);
    let deadline = lint.whole(spec, "progressDeadlineSeconds", 1);
    if spec.has("progressDeadlineSeconds") && deadline.is_none() {
        return;
    }
    let seconds = deadline.unwrap_or(argo::DEFAULT_PROGRESS_DEADLINE);
    if seconds <= ready {
        let what = format!("is {seconds}, not more than minReadySeconds, which is {ready}");
        let hint = "pods need that long to count as available: give them more time";
        lint.error("outOfRange", &spec.field("progressDeadlineSeconds"), what, hint);
    }
}

fn check_source_of_pods(spec: &Node<'_>, lint: &mut Lint<'_>) {
    let Some(reference) = spec.get("workloadRef") else {
        if !spec.has("template") {
            lint.error(
                "missing",
                &spec.field("template"),
                "is missing",
                "it describes the pods",
            );
        }
        return;
    };
    if spec.has("template") {
        let what = "is there beside workloadRef, which brings a template of its own";
        lint.error("twoTemplates", &spec.field("template"), what, "keep one of them");
    }
    if lint.text(&reference, "name").is_none() {
        lint.error(
            "missing",
            &reference.field("name"),
            "is missing",
            "name the workload",
        );
    }
    let version = reference.text("apiVersion").unwrap_or_default();
    let kind = reference.text("kind").unwrap_or_default();
    if !matches!(
        (version, kind),
        ("apps/v1", "Deployment" | "ReplicaSet") | ("v1", "PodTemplate")
    ) {
        let what = format!("names a {kind} of `{version}`");
        let hint = "a Deployment or ReplicaSet of apps/v1 or a PodTemplate of v1 can be referenced";
        lint.error("badReference", &reference, what, hint);
    }
    if let Some(how) = reference.get("scaleDown")
        && !matches!(how.value.as_str(), Some("never" | "onsuccess" | "progressively"))
    {
        lint.error(
            "badValue",
            &how,
            "is not known",
            "never, onsuccess or progressively",
        );
    }
}

/// The selector of a workload must be there and match its own pods.
pub(super) fn check_selector(spec: &Node<'_>, lint: &mut Lint<'_>) {
    let selector = spec.field("selector");
    if spec.has("workloadRef") && selector.value.is_null() {
        return;
    }
    if selector.value.is_null() {
        let hint = "repeat labels of the pod template in `matchLabels`";
        lint.error("missing", &selector, "is missing", hint);
        return;
    }
    let (labels, expressions) = (selector.field("matchLabels"), selector.field("matchExpressions"));
    if labels.entries().is_empty() && expressions.items().is_empty() {
        let hint = "repeat labels of the pod template in `matchLabels`";
        lint.error(
            "emptySelector",
            &selector,
            "selects every pod of the namespace",
            hint,
        );
        return;
    }
    if !spec.has("template") {
        return;
    }
    let pods = spec.path(&["template", "metadata", "labels"]);
    for (key, wanted) in labels.entries() {
        let carried = pods.value.get(key);
        if carried != Some(wanted.value) {
            let what = match carried {
                Some(carried) => format!("is {}, but the pod template has {carried}", wanted.value),
                None => "is not a label of the pod template".to_owned(),
            };
            lint.error(
                "selectorMismatch",
                &wanted,
                what,
                "selector and pod template must agree",
            );
        }
    }
    for expression in expressions.items() {
        if !matches(&expression, pods.value) {
            let what = "does not match the labels of the pod template";
            lint.error(
                "selectorMismatch",
                &expression,
                what,
                "selector and pod template must agree",
            );
        }
    }
}

fn matches(expression: &Node<'_>, labels: &Value) -> bool {
    let carried = expression.text("key").and_then(|key| labels.get(key));
    let values = expression.field("values");
    let listed = carried.is_some_and(|carried| values.items().iter().any(|value| value.value == carried));
    match expression.text("operator") {
        Some("In") => listed,
        Some("NotIn") => !listed,
        Some("Exists") => carried.is_some(),
        Some("DoesNotExist") => carried.is_none(),
        _ => false,
    }
}
