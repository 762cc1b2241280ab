//! What the API server or the Rollouts controller would refuse, or accept and then hang on.

mod analysis;
mod blue_green;
mod canary;
mod configuration;
mod fields;
mod istio;
pub(super) mod labels;
mod pod;
mod references;
mod required;
mod rollout;
mod routing;
mod steps;
mod templates;

use aurora_core::manifest::ObjectRef;
use aurora_core::port::renderer::RenderRequest;

use super::canonical;
use super::draft::Draft;
use super::kinds;
use super::node::Node;
use super::report::{Place, Report};
use crate::argo;

/// Problems of one object.
#[derive(Debug)]
struct Lint<'a> {
    place: &'a Place,
    report: &'a mut Report,
}

impl Lint<'_> {
    fn error(&mut self, code: &str, node: &Node<'_>, what: impl AsRef<str>, hint: &str) {
        self.report
            .error(self.place, code, &node.pointer, what.as_ref(), hint);
    }

    /// A whole number of at least `least`, if it is there.
    fn whole(&mut self, parent: &Node<'_>, key: &str, least: i64) -> Option<i64> {
        let node = parent.get(key)?;
        match node.value.as_i64() {
            None => {
                self.error(
                    "badType",
                    &node,
                    format!("is {}, not a whole number", node.value),
                    "",
                );
                None
            }
            Some(number) if number < least => {
                let what = format!("is {number}, which is less than {least}");
                self.error("outOfRange", &node, what, "");
                None
            }
            some => some,
        }
    }

    /// A text that says something, if it is there.
    fn text<'b>(&mut self, parent: &Node<'b>, key: &str) -> Option<&'b str> {
        let node = parent.get(key)?;
        match node.value.as_str() {
            None => {
                let what = format!("is {}, not a text", node.value);
                self.error("badType", &node, what, "put it in quotes");
                None
            }
            some => some.filter(|text| !text.is_empty()),
        }
    }
}

/// Checks every object of a plan, and what they say about each other.
pub(super) fn check(request: &RenderRequest, drafts: &[Draft], report: &mut Report) {
    for draft in drafts {
        let object = draft.object();
        let body = Node::root(&draft.body);
        let mut lint = Lint {
            place: &draft.place,
            report,
        };
        if let Some(template) = kinds::pod_template(&object) {
            let template = at(&body, template);
            if !template.value.is_null() {
                pod::check(&template, &owner(&object, &body), &mut lint);
            } else if !kinds::is_rollout(&object) {
                lint.error("missing", &template, "is missing", "it describes the pods");
            }
        }
        if kinds::runs_for_ever(&object) {
            rollout::check_selector(&body.field("spec"), &mut lint);
        }
        match (object.group.as_str(), object.kind.as_str()) {
            ("", "ConfigMap" | "Secret") => configuration::check(request, &object, &body, &mut lint),
            ("", "PersistentVolumeClaim") => check_claim(&body.field("spec"), &mut lint),
            ("", "Service") => configuration::check_service(&body.field("spec"), &mut lint),
            ("apps", "StatefulSet") => {
                for claim in body.path(&["spec", "volumeClaimTemplates"]).items() {
                    check_claim(&claim.field("spec"), &mut lint);
                }
            }
            ("autoscaling", "HorizontalPodAutoscaler") => check_autoscaler(&body.field("spec"), &mut lint),
            (argo::GROUP, argo::ROLLOUT) => rollout::check(&body.field("spec"), &mut lint),
            (argo::GROUP, argo::ANALYSIS_TEMPLATE | argo::CLUSTER_ANALYSIS_TEMPLATE) => {
                analysis::check_template(&body.field("spec"), &mut lint);
            }
            _ => {}
        }
    }
    references::check(drafts, report);
}

fn owner<'a>(object: &ObjectRef, body: &Node<'a>) -> pod::Owner<'a> {
    let claims = body.path(&["spec", "volumeClaimTemplates"]).items();
    let claims = claims
        .iter()
        .filter_map(|claim| claim.field("metadata").name("name"))
        .collect();
    let life = match object.group.as_str() {
        _ if kinds::runs_for_ever(object) => Some(pod::Life::Service),
        "batch" => Some(pod::Life::Job),
        _ => None,
    };
    pod::Owner {
        life,
        strict: kinds::is_rollout(object),
        claims,
    }
}

fn at<'a>(body: &Node<'a>, pointer: &str) -> Node<'a> {
    pointer
        .split('/')
        .skip(1)
        .fold(body.clone(), |node, key| node.field(key))
}

fn check_claim(spec: &Node<'_>, lint: &mut Lint<'_>) {
    for kind in ["limits", "requests"] {
        for (_, quantity) in spec.path(&["resources", kind]).entries() {
            canonical::check_quantity(&quantity, lint.place, lint.report);
        }
    }
}

fn check_autoscaler(spec: &Node<'_>, lint: &mut Lint<'_>) {
    let least = lint.whole(spec, "minReplicas", 0).unwrap_or(1);
    let Some(most) = lint.whole(spec, "maxReplicas", 1) else {
        if !spec.has("maxReplicas") {
            lint.error(
                "missing",
                &spec.field("maxReplicas"),
                "is missing",
                "the most pods it may ask for",
            );
        }
        return;
    };
    if most < least {
        let what = format!("is {most}, less than minReplicas, which is {least}");
        lint.error("outOfRange", &spec.field("maxReplicas"), what, "");
    }
}
