//! Rules for the analysis templates of a plan that Rollouts use.

use serde_json::Value;

use super::references::{Index, must_exist};
use super::{Lint, analysis};
use crate::argo;
use crate::render::draft::Draft;
use crate::render::node::Node;

/// Checks every use of a template in a Rollout.
pub(super) fn check(spec: &Node<'_>, index: &Index<'_>, lint: &mut Lint<'_>) {
    for (analysis, bounded) in uses(spec) {
        check_use(&analysis, bounded, index, lint);
    }
}

/// Every use of templates, and whether its metrics must come to an end.
fn uses<'a>(spec: &Node<'a>) -> Vec<(Node<'a>, bool)> {
    let strategy = spec.field("strategy");
    let canary = strategy.field("canary");
    let mut found: Vec<(Node<'a>, bool)> = canary
        .get("analysis")
        .map(|node| (node, false))
        .into_iter()
        .collect();
    for step in canary.field("steps").items() {
        found.extend(step.get("analysis").map(|node| (node, true)));
        // An experiment ends its analyses itself.
        let analyses = step.path(&["experiment", "analyses"]).items();
        found.extend(analyses.into_iter().map(|node| (node, false)));
    }
    for key in ["prePromotionAnalysis", "postPromotionAnalysis"] {
        found.extend(strategy.field("blueGreen").get(key).map(|node| (node, true)));
    }
    found
}

fn check_use(analysis: &Node<'_>, bounded: bool, index: &Index<'_>, lint: &mut Lint<'_>) {
    let (mut complete, mut templates) = (true, Vec::new());
    // An experiment names one template for each analysis, all others have a list.
    let one = analysis.has("templateName").then(|| analysis.clone());
    for reference in one.into_iter().chain(analysis.field("templates").items()) {
        complete &= collect(&reference, index, &mut templates, lint);
    }
    for template in &templates {
        let spec = Node::root(&template.body).field("spec");
        for metric in spec.field("metrics").items() {
            if bounded && analysis::is_endless(&metric) {
                let what = format!(
                    "uses {}, whose metric `{}` measures without end",
                    template.place.named,
                    metric.name("name").unwrap_or_default()
                );
                lint.error("endless", analysis, what, "give the metric a `count`");
            }
        }
        for argument in spec.field("args").items() {
            let name = argument.name("name").unwrap_or_default();
            let has = |node: &Node<'_>| node.has("value") || node.has("valueFrom");
            let given = analysis.field("args").items();
            let given = given
                .iter()
                .any(|argument| argument.name("name") == Some(name) && has(argument));
            if complete && !has(&argument) && !given {
                let what = format!(
                    "gives no value for `{name}`, which {} needs",
                    template.place.named
                );
                lint.error(
                    "missingArgument",
                    &analysis.field("args"),
                    what,
                    "add it to the arguments",
                );
            }
        }
    }
}

/// Finds a template and those that it names itself; false when one is not in the plan.
fn collect<'a>(
    reference: &Node<'_>,
    index: &Index<'a>,
    found: &mut Vec<&'a Draft>,
    lint: &mut Lint<'_>,
) -> bool {
    let Some(name) = reference.name("templateName") else {
        return false;
    };
    let kind = match reference.value.get("clusterScope").and_then(Value::as_bool) {
        Some(true) => argo::CLUSTER_ANALYSIS_TEMPLATE,
        _ => argo::ANALYSIS_TEMPLATE,
    };
    let Some(draft) = index.find(argo::GROUP, kind, name) else {
        must_exist(kind, name, lint);
        return false;
    };
    if found.iter().any(|known| known.object() == draft.object()) {
        return true;
    }
    found.push(draft);
    let mut complete = true;
    for reference in Node::root(&draft.body).path(&["spec", "templates"]).items() {
        complete &= collect(&reference, index, found, lint);
    }
    complete
}
