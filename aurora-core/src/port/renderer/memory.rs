//! A renderer that knows labels, namespaces and steps, and nothing else of a platform.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{ManifestRenderer, RenderError, RenderRequest};
use crate::deploy_file::Problem;
use crate::manifest::{Manifest, ObjectRef};
use crate::plan::{
    ADOPT_ANNOTATION, APPLICATION_LABEL, MappedStep, Plan, PlannedObject, STRATEGY_ANNOTATION, StepMap,
    TARGET_LABEL,
};
use crate::strategy::{Canary, Step, Strategy};

/// Renders without a platform: every Deployment becomes a Rollout with the steps of the file, every
/// other object keeps its body; all of them are namespaced and labelled.
///
/// Kinds whose readiness counts are Deployment (opted out), `StatefulSet`, `DaemonSet` and Job, by name
/// alone. Bodies are not checked beyond `kind` and `metadata.name`.
#[derive(Clone, Copy, Debug, Default)]
pub struct InMemoryRenderer;

impl ManifestRenderer for InMemoryRenderer {
    fn render(&self, request: &RenderRequest) -> Result<Plan, RenderError> {
        let mut problems = Vec::new();
        let namespace = namespace_of(request, &mut problems);
        let mut plan = Plan {
            version: Plan::VERSION,
            application: request.application.clone(),
            target: request.target.clone(),
            namespace,
            objects: Vec::new(),
            steps: StepMap::default(),
            notes: Vec::new(),
        };
        for manifest in &request.manifests {
            match planned(request, manifest, &plan.namespace) {
                Ok(object) => plan.objects.push(object),
                Err(problem) => problems.push(*problem),
            }
        }
        if problems.is_empty() {
            plan.steps = step_map(request, &plan.objects);
            Ok(plan)
        } else {
            Err(RenderError {
                target: request.target.clone(),
                problems,
            })
        }
    }
}

fn namespace_of(request: &RenderRequest, problems: &mut Vec<Problem>) -> String {
    if let Some(namespace) = &request.namespace {
        return namespace.clone();
    }
    let named: BTreeSet<String> = request
        .manifests
        .iter()
        .map(|manifest| manifest.object().namespace)
        .filter(|namespace| !namespace.is_empty())
        .collect();
    let mut named = named.into_iter();
    match (named.next(), named.next()) {
        (Some(only), None) => only,
        (Some(one), Some(other)) => {
            let message = format!("the manifests name two namespaces, `{one}` and `{other}`");
            problems.push(set_the_namespace(request, "twoNamespaces", message));
            one
        }
        (None, _) => {
            let message = "neither the target nor its manifests name a namespace".to_owned();
            problems.push(set_the_namespace(request, "noNamespace", message));
            String::new()
        }
    }
}

fn set_the_namespace(request: &RenderRequest, code: &str, message: String) -> Problem {
    let pointer = format!("/targets/{}/namespace", request.target);
    let hint = format!("set `targets.{}.namespace` in the deploy file", request.target);
    Problem::error(code, pointer, message).with_hint(hint)
}

fn planned(
    request: &RenderRequest,
    manifest: &Manifest,
    namespace: &str,
) -> Result<PlannedObject, Box<Problem>> {
    let object = manifest.object();
    let problem = |code: &str, pointer: &str, message: String| {
        Box::new(Problem::error(code, pointer, message).at(&manifest.origin.file, manifest.origin.line, 1))
    };
    let mut body = match &*manifest.body {
        Value::Object(body) if !object.kind.is_empty() => body.clone(),
        _ => return Err(problem("missing", "/kind", "the manifest has no kind".to_owned())),
    };
    if object.name.is_empty() {
        let message = format!("the {} has no name", object.kind);
        return Err(problem("missing", "/metadata/name", message));
    }
    if let Some(canary) = stepped(request, &object, &manifest.body)? {
        body.insert("apiVersion".to_owned(), json!("argoproj.io/v1alpha1"));
        body.insert("kind".to_owned(), json!("Rollout"));
        let spec = body.entry("spec").or_insert_with(|| json!({}));
        if let Some(spec) = spec.as_object_mut() {
            let steps: Vec<Value> = canary.steps.iter().map(rendered).collect();
            spec.insert("strategy".to_owned(), json!({"canary": {"steps": steps}}));
        }
    }
    let metadata = entry(&mut body, "metadata");
    metadata.insert("namespace".to_owned(), json!(namespace));
    let labels = entry(metadata, "labels");
    labels.insert(APPLICATION_LABEL.to_owned(), json!(request.application));
    labels.insert(TARGET_LABEL.to_owned(), json!(request.target));
    Ok(PlannedObject {
        body: Value::Object(body),
        origin: manifest.origin.clone(),
        adopt: annotation(&manifest.body, ADOPT_ANNOTATION) == Some("true"),
    })
}

/// The canary that moves an object; `None` for what has no steps.
fn stepped<'a>(
    request: &'a RenderRequest,
    object: &ObjectRef,
    body: &Value,
) -> Result<Option<&'a Canary>, Box<Problem>> {
    if object.kind != "Deployment" || annotation(body, STRATEGY_ANNOTATION) == Some("none") {
        return Ok(None);
    }
    match &request.strategy {
        Some(Strategy::Canary(canary)) => Ok(Some(canary)),
        Some(Strategy::BlueGreen(_) | Strategy::Rolling(_)) => {
            let pointer = format!("/targets/{}/strategy", request.target);
            Err(Box::new(Problem::error(
                "notYet",
                pointer,
                "only canaries are rendered in memory",
            )))
        }
        None => {
            let pointer = format!("/targets/{}/strategy", request.target);
            let message = format!("there is a {object} but the target names no strategy");
            Err(Box::new(
                Problem::error("missing", pointer, message).with_hint("name one of `strategies`"),
            ))
        }
    }
}

fn rendered(step: &Step) -> Value {
    match step {
        Step::Pause(_) => json!({"pause": {}}),
        Step::SetWeight(weight) => json!({"setWeight": weight}),
    }
}

fn step_map(request: &RenderRequest, objects: &[PlannedObject]) -> StepMap {
    let (mut rollouts, mut workloads) = (BTreeMap::new(), Vec::new());
    let Some(Strategy::Canary(canary)) = &request.strategy else {
        let workloads = objects.iter().map(PlannedObject::object).filter(counts).collect();
        return StepMap {
            workloads,
            ..StepMap::default()
        };
    };
    for object in objects.iter().map(PlannedObject::object) {
        if object.kind == "Rollout" {
            rollouts.insert(object.name, canary.steps.len());
        } else if counts(&object) {
            workloads.push(object);
        }
    }
    let mut weight = 0;
    let steps = canary.steps.iter().enumerate().map(|(index, step)| {
        if let Step::SetWeight(next) = step {
            weight = *next;
        }
        MappedStep {
            index: rollouts.keys().map(|name| (name.clone(), index)).collect(),
            gate: matches!(step, Step::Pause(_)),
            weight,
        }
    });
    StepMap {
        steps: steps.collect(),
        rollouts,
        workloads,
        ..StepMap::default()
    }
}

fn counts(object: &ObjectRef) -> bool {
    matches!(
        object.kind.as_str(),
        "DaemonSet" | "Deployment" | "Job" | "StatefulSet"
    )
}

fn annotation<'a>(body: &'a Value, name: &str) -> Option<&'a str> {
    body.get("metadata")?.get("annotations")?.get(name)?.as_str()
}

fn entry<'a>(parent: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = parent.entry(key).or_insert(Value::Null);
    if !value.is_object() {
        *value = json!({});
    }
    value
        .as_object_mut()
        .expect("it is an object or was just made one")
}

#[cfg(test)]
mod tests {
    crate::renderer_laws!(super::InMemoryRenderer);
}
