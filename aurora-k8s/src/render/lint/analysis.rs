//! Rules for analyses: how Rollouts use templates, and the templates themselves.

use std::collections::BTreeSet;

use super::{Lint, fields};
use crate::argo;
use crate::render::node::Node;

/// Fields of an object that the downward API gives, as analyses may use them.
const METADATA: [&str; 4] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.labels",
];

/// Checks where a Rollout uses templates: a step, in the background, before or after a promotion.
pub(super) fn check_use(analysis: &Node<'_>, lint: &mut Lint<'_>) {
    fields::check(analysis, fields::ANALYSIS, lint);
    let templates = analysis.field("templates").items();
    if templates.is_empty() {
        let what = "names no template: it would never end";
        lint.error(
            "missing",
            &analysis.field("templates"),
            what,
            "name at least one AnalysisTemplate",
        );
    }
    let mut seen = BTreeSet::new();
    for template in templates {
        match template.name("templateName") {
            None => lint.error("missing", &template.field("templateName"), "is missing", ""),
            Some(name) if !seen.insert(name) => {
                lint.error(
                    "duplicate",
                    &template,
                    format!("names `{name}` a second time"),
                    "",
                );
            }
            Some(_) => {}
        }
    }
    check_arguments(analysis, lint);
}

/// Checks the arguments that a Rollout gives to templates.
pub(super) fn check_arguments(analysis: &Node<'_>, lint: &mut Lint<'_>) {
    let mut seen = BTreeSet::new();
    for argument in analysis.field("args").items() {
        match argument.name("name") {
            None => lint.error("missing", &argument.field("name"), "is missing", ""),
            Some(name) if !seen.insert(name) => {
                lint.error(
                    "duplicate",
                    &argument,
                    format!("gives `{name}` a second time"),
                    "",
                );
            }
            Some(_) => {}
        }
        if argument.has("value") && argument.has("valueFrom") {
            lint.error(
                "excludes",
                &argument,
                "has both value and valueFrom",
                "keep one of them",
            );
        }
        if argument.has("value") {
            lint.text(&argument, "value");
        }
        let from = argument.field("valueFrom");
        if let Some(path) = from.field("fieldRef").name("fieldPath") {
            let base = path.split('[').next().unwrap_or_default();
            let known = METADATA.contains(&base) || base == "metadata.annotations";
            if base.starts_with("metadata") && !known {
                let what = format!("is `{path}`, which is no field of an object's metadata");
                let hint = "name, namespace, uid, labels['…'] or annotations['…']";
                lint.error("badValue", &from.field("fieldRef").field("fieldPath"), what, hint);
            }
        }
        if let Some(hash) = from.get("podTemplateHashValue")
            && !matches!(hash.value.as_str(), Some("Latest" | "Stable"))
        {
            lint.error("badValue", &hash, "is not known", "Latest or Stable");
        }
    }
}

/// Checks an `AnalysisTemplate`.
pub(super) fn check_template(spec: &Node<'_>, lint: &mut Lint<'_>) {
    let metrics = spec.field("metrics");
    if metrics.items().is_empty() && spec.field("templates").items().is_empty() {
        let what = "is empty: an analysis without metrics never ends";
        lint.error(
            "missing",
            &metrics,
            what,
            "add a metric, or name templates that have some",
        );
    }
    let mut seen = BTreeSet::new();
    for metric in metrics.items() {
        match metric.name("name") {
            None => lint.error("missing", &metric.field("name"), "is missing", ""),
            Some(name) if !seen.insert(name) => {
                lint.error(
                    "duplicate",
                    &metric,
                    format!("is a second metric named `{name}`"),
                    "",
                );
            }
            Some(_) => {}
        }
        check_metric(&metric, lint);
    }
    let mut seen = BTreeSet::new();
    for argument in spec.field("args").items() {
        if argument.name("name").is_some_and(|name| !seen.insert(name)) {
            lint.error("duplicate", &argument, "declares an argument a second time", "");
        }
        if argument.has("value") && argument.has("valueFrom") {
            lint.error(
                "excludes",
                &argument,
                "has both value and valueFrom",
                "keep one of them",
            );
        }
    }
}

fn check_metric(metric: &Node<'_>, lint: &mut Lint<'_>) {
    let providers = metric.field("provider").entries();
    if providers.len() != 1 {
        let what = match providers.len() {
            0 => "names no provider: the run would end with an error at once",
            _ => "names several providers",
        };
        lint.error(
            "notOne",
            &metric.field("provider"),
            what,
            "exactly one, for example prometheus",
        );
    }
    for key in ["interval", "initialDelay"] {
        let Some(node) = metric.get(key) else { continue };
        // An argument may be put in when the run starts.
        if node.value.as_str().is_some_and(|text| text.contains("{{")) {
            continue;
        }
        let seconds = node.value.as_str().and_then(argo::duration);
        if seconds.is_none_or(|seconds| seconds < 0.0) {
            lint.error(
                "badDuration",
                &node,
                format!("is {}", node.value),
                "a text like \"30s\" or \"5m\"",
            );
        }
    }
    if count(metric).is_some_and(|count| count > 1) && !metric.has("interval") {
        let what = "is missing: several measurements need a time between them";
        lint.error("missing", &metric.field("interval"), what, "for example \"30s\"");
    }
    if !metric.has("successCondition") && !metric.has("failureCondition") {
        let name = metric.name("name").unwrap_or("without a name");
        let what = format!("its metric {name} has no condition and succeeds whatever it measures");
        lint.report.note(lint.place, &what);
    }
}

/// Whether a metric measures until somebody stops it.
pub(super) fn is_endless(metric: &Node<'_>) -> bool {
    metric.has("interval") && !metric.has("count")
}

fn count(metric: &Node<'_>) -> Option<i64> {
    let node = metric.get("count")?;
    let text = node.value.as_str().and_then(|text| text.parse().ok());
    node.value.as_i64().or(text)
}
