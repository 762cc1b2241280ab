//! The renderer of Argo Rollouts objects: from a user's manifests to the plan of one target.
//!
//! A Deployment becomes a Rollout in place, with the steps of the file as canary steps; what the
//! controller would reject, or accept and then hang on, is refused with its place in the user's file.
//! Annotations of ours (`aurora.dev/strategy`, `adopt`, `versioned`) stay on the objects, so that a
//! rendered plan renders to itself.
//!
//! # Strategies
//! - **Canary**: steps by weight; every pause is an indefinite one, which the control plane ends.
//! - **Blue/green**: the Rollout always stops before its redirect. Its Services are those that the file
//!   names, joined to Deployments by their selectors; a Deployment that no pair is about is moved by the
//!   one Service that selects its pods. None, several, or one that other pods need as well is an error.
//!   No Service is made up: without a preview there is none. The old version stays as long as
//!   [`BlueGreen::keeps_old`](aurora_core::strategy::BlueGreen::keeps_old) says.
//! - **Rolling**: a canary without steps; shares of the file come before those of the Deployment.
//! - A Deployment annotated `aurora.dev/strategy: none`, and every workload of another kind, is applied as
//!   it is; its readiness counts, that of a `CronJob` does not.
//!
//! # Configuration
//! A `ConfigMap` or Secret that a pod template names (volumes, projected volumes, environment, pull
//! secrets, Secrets of storage drivers) gets its content's hash into its name and becomes immutable, in the
//! templates of Rollouts, opted-out Deployments, `StatefulSets`, `DaemonSets` and `CronJobs` alike. It keeps
//! its plain name, or is applied under both,
//! - where it is annotated `aurora.dev/versioned: "false"`, or a service account's token;
//! - where a Job names it: a Job's template cannot change, so it reads what is there when it starts;
//! - where an Ingress (TLS or annotation), a `ServiceAccount`, a Role's `resourceNames`, storage or a custom
//!   resource names it, which would not follow.

mod canonical;
mod convert;
mod draft;
mod intake;
mod kinds;
mod lint;
mod namespace;
mod node;
mod pod;
mod quantity;
mod report;
mod selection;
mod services;
mod step_map;
mod strategy;
#[cfg(test)]
mod tests;
mod versioned;

use std::collections::BTreeSet;

use aurora_core::digest::Digest;
use aurora_core::plan::{APPLICATION_LABEL, Plan, PlannedObject, TARGET_LABEL, TEMPLATE_DIGEST_ANNOTATION};
use aurora_core::port::renderer::{ManifestRenderer, RenderError, RenderRequest};
use serde_json::{Value, json};

use draft::{Draft, map_at};
use node::at_mut;
use report::Report;

pub use quantity::{InvalidQuantity, Quantity};
pub use versioned::VERSION_OF_ANNOTATION;

/// Renders plans for clusters with Argo Rollouts.
///
/// Objects of a plan are ordered by what they are (namespace, service accounts and roles,
/// configuration, claims, Services, the rest, workloads, Rollouts, autoscalers, budgets, cron jobs),
/// then by group, kind and name, so the order of documents in the file does not matter.
///
/// ```
/// use aurora_core::port::renderer::{ManifestRenderer, RenderRequest};
/// use aurora_core::manifest::{Manifest, Origin};
/// use aurora_core::tenant::Tenant;
/// use aurora_k8s::render::ArgoRenderer;
/// use serde_json::json;
///
/// let service = json!({
///     "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
///     "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
/// });
/// let plan = ArgoRenderer.render(&RenderRequest {
///     tenant: Tenant::new("acme", "dev")?,
///     application: "shop".to_owned(),
///     target: "staging".to_owned(),
///     namespace: Some("shop".to_owned()),
///     strategy: None,
///     services: Vec::new(),
///     manifests: vec![Manifest::new(service, Origin::default())],
/// })?;
/// assert_eq!(plan.objects[0].body["metadata"]["labels"]["aurora.dev/target"], "staging");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ArgoRenderer;

impl ManifestRenderer for ArgoRenderer {
    fn render(&self, request: &RenderRequest) -> Result<Plan, RenderError> {
        let mut report = Report::default();
        lint::labels::check_request(request, &mut report);
        let mut drafts = intake::drafts(&request.manifests, &mut report);
        if request.manifests.is_empty() {
            refuse_nothing(request, &mut report);
        }
        let namespace = namespace::settle(request, &mut drafts, &mut report);
        let made = convert::workloads(request, &mut drafts, &mut report);
        drafts.iter_mut().for_each(canonicalise);
        lint::check(request, &drafts, &mut report);
        versioned::rename(&mut drafts, &mut report);
        match report.close() {
            Ok(notes) => Ok(plan(request, namespace, drafts, &made, notes)),
            Err(problems) => Err(RenderError {
                target: request.target.clone(),
                problems,
            }),
        }
    }
}

/// Applying nothing would delete all that the target has.
fn refuse_nothing(request: &RenderRequest, report: &mut Report) {
    let message = format!("target `{}` has no manifests", request.target);
    let hint = "name at least one path or inline text that is for this target";
    report.error_in_file("noManifests", "/manifests".to_owned(), message, hint);
}

fn canonicalise(draft: &mut Draft) {
    let object = draft.object();
    let is_rollout = kinds::is_rollout(&object);
    let template = kinds::pod_template(&object).and_then(|pointer| at_mut(&mut draft.body, pointer));
    if let Some(template) = template {
        remove_digest(template);
        canonical::any_template(template);
        if is_rollout {
            canonical::rollout_template(template);
        }
    }
    if is_rollout {
        canonical::rollout(&mut draft.body);
    }
}

/// A digest that came with the manifest is of an earlier rendering.
fn remove_digest(template: &mut Value) {
    let annotations = at_mut(template, "/metadata/annotations").and_then(Value::as_object_mut);
    if let Some(annotations) = annotations {
        annotations.remove(TEMPLATE_DIGEST_ANNOTATION);
        if annotations.is_empty() {
            map_at(template, &["metadata"]).remove("annotations");
        }
    }
}

fn plan(
    request: &RenderRequest,
    namespace: String,
    mut drafts: Vec<Draft>,
    made: &BTreeSet<String>,
    notes: Vec<String>,
) -> Plan {
    for draft in &mut drafts {
        label(request, draft);
        write_digest(draft);
    }
    drafts.sort_by_cached_key(|draft| {
        let object = draft.object();
        (kinds::rank(&object), object)
    });
    let steps = step_map::step_map(request, &drafts, made);
    let objects: Vec<PlannedObject> = drafts.into_iter().map(Draft::into_planned).collect();
    Plan {
        version: Plan::VERSION,
        application: request.application.clone(),
        target: request.target.clone(),
        namespace,
        objects,
        steps,
        notes,
    }
}

fn label(request: &RenderRequest, draft: &mut Draft) {
    let labels = map_at(&mut draft.body, &["metadata", "labels"]);
    labels.insert(APPLICATION_LABEL.to_owned(), json!(request.application));
    labels.insert(TARGET_LABEL.to_owned(), json!(request.target));
}

/// Pods that run for ever carry the digest of their own description, never the id of a run.
fn write_digest(draft: &mut Draft) {
    let object = draft.object();
    if !kinds::runs_for_ever(&object) {
        return;
    }
    let template = kinds::pod_template(&object).and_then(|pointer| at_mut(&mut draft.body, pointer));
    if let Some(template) = template {
        let digest = Digest::of_json(template).to_string();
        map_at(template, &["metadata", "annotations"])
            .insert(TEMPLATE_DIGEST_ANNOTATION.to_owned(), json!(digest));
    }
}
