//! Rules for the blue/green strategy of a user's own Rollout.

use super::canary::{check_anti_affinity, check_revision_limit};
use super::{Lint, analysis, fields};
use crate::argo::IntOrPercent;
use crate::render::node::Node;

/// Checks a blue/green strategy.
pub(super) fn check(strategy: &Node<'_>, spec: &Node<'_>, lint: &mut Lint<'_>) {
    fields::check(strategy, fields::BLUE_GREEN, lint);
    let active = lint.text(strategy, "activeService");
    let preview = lint.text(strategy, "previewService");
    if active.is_none() {
        let hint = "name the Service that users reach";
        lint.error("missing", &strategy.field("activeService"), "is missing", hint);
    } else if active == preview {
        let what = "is the same Service as activeService";
        lint.error(
            "sameService",
            &strategy.field("previewService"),
            what,
            "two different Services are needed",
        );
    }
    for key in [
        "abortScaleDownDelaySeconds",
        "autoPromotionSeconds",
        "previewReplicaCount",
        "scaleDownDelaySeconds",
    ] {
        lint.whole(strategy, key, 0);
    }
    if let Some(node) = strategy.get("maxUnavailable")
        && IntOrPercent::read(node.value).is_none_or(|share| share.number() < 0)
    {
        let hint = "a whole number such as 1 or a share such as \"25%\"";
        lint.error("badValue", &node, format!("is {}", node.value), hint);
    }
    check_revision_limit(strategy, spec, lint);
    check_anti_affinity(strategy, lint);
    for key in ["prePromotionAnalysis", "postPromotionAnalysis"] {
        if let Some(analysis) = strategy.get(key) {
            analysis::check_use(&analysis, lint);
        }
    }
}
