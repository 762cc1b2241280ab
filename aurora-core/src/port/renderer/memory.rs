//! A renderer that knows labels, namespaces and steps, and nothing else of a platform.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{ManifestRenderer, RenderError, RenderRequest};
use crate::deploy_file::Problem;
use crate::manifest::{Manifest, ObjectRef};
use crate::plan::{
    ADOPT_ANNOTATION, APPLICATION_LABEL, MappedStep, Plan, PlannedObject, STRATEGY_ANNOTATION, StepMap,
    TARGET_LABEL,
};
use crate::strategy::{Portion, ServicePair, Step, Strategy};

/// Renders without a platform: every Deployment becomes a Rollout that moves as the file says, every
/// other object keeps its body; all of them are namespaced and labelled.
///
/// Kinds whose readiness counts are Deployment (opted out), `StatefulSet`, `DaemonSet` and Job, by name
/// alone. Bodies are not checked beyond `kind` and `metadata.name`.
#[derive(Clone, Copy, Debug, Default)]
pub struct InMemoryRenderer;

impl ManifestRenderer for InMemoryRenderer {
    fn render(&self, request: &RenderRequest) -> Result<Plan, RenderError> {
        let mut problems = absent_services(request);
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
    if let Some(strategy) = moved_by(request, &object, &manifest.body)? {
        body.insert("apiVersion".to_owned(), json!("argoproj.io/v1alpha1"));
        body.insert("kind".to_owned(), json!("Rollout"));
        let spec = body.entry("spec").or_insert_with(|| json!({}));
        if let Some(spec) = spec.as_object_mut() {
            spec.insert("strategy".to_owned(), rendered(request, strategy, &manifest.body));
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

/// The strategy that moves an object; `None` for what moves by itself.
fn moved_by<'a>(
    request: &'a RenderRequest,
    object: &ObjectRef,
    body: &Value,
) -> Result<Option<&'a Strategy>, Box<Problem>> {
    if object.kind != "Deployment" || annotation(body, STRATEGY_ANNOTATION) == Some("none") {
        return Ok(None);
    }
    if let Some(strategy) = &request.strategy {
        return Ok(Some(strategy));
    }
    let pointer = format!("/targets/{}/strategy", request.target);
    let message = format!("there is a {object} but the target names no strategy");
    Err(Box::new(
        Problem::error("missing", pointer, message).with_hint("name one of `strategies`"),
    ))
}

fn rendered(request: &RenderRequest, strategy: &Strategy, body: &Value) -> Value {
    let portion = |portion: &Portion| match portion {
        Portion::Count(count) => json!(count),
        Portion::Percent(percent) => json!(format!("{percent}%")),
    };
    match strategy {
        Strategy::Canary(canary) => {
            let step = |step: &Step| match step {
                Step::Pause(_) => json!({"pause": {}}),
                Step::SetWeight(weight) => json!({"setWeight": weight}),
            };
            json!({"canary": {"steps": canary.steps.iter().map(step).collect::<Vec<_>>()}})
        }
        Strategy::BlueGreen(blue_green) => {
            let mut rendered = json!({
                "autoPromotionEnabled": false,
                "scaleDownDelaySeconds": blue_green.keeps_old(),
            });
            if let Some(pair) = services_of(request, body) {
                rendered["activeService"] = json!(pair.active);
                if let Some(preview) = pair.preview {
                    rendered["previewService"] = json!(preview);
                }
            }
            json!({"blueGreen": rendered})
        }
        Strategy::Rolling(rolling) => {
            let mut rendered = json!({});
            if let Some(surge) = &rolling.max_surge {
                rendered["maxSurge"] = portion(surge);
            }
            if let Some(unavailable) = &rolling.max_unavailable {
                rendered["maxUnavailable"] = portion(unavailable);
            }
            json!({"canary": rendered})
        }
    }
}

/// The Services of a workload, as the file names them or as the first one that selects its pods.
fn services_of(request: &RenderRequest, body: &Value) -> Option<ServicePair> {
    let labels = body.pointer("/spec/template/metadata/labels");
    let selects = |service: &&Manifest| {
        let selector = service.body.pointer("/spec/selector").and_then(Value::as_object);
        let carried = |(key, value): (&String, &Value)| labels.and_then(|l| l.get(key)) == Some(value);
        is_service(service) && selector.is_some_and(|selector| selector.iter().all(carried))
    };
    let selecting: Vec<String> = request
        .manifests
        .iter()
        .filter(selects)
        .map(|service| service.object().name)
        .collect();
    let named = request
        .services
        .iter()
        .find(|pair| selecting.contains(&pair.active));
    named.cloned().or_else(|| {
        let active = selecting.first()?.clone();
        Some(ServicePair {
            active,
            preview: None,
        })
    })
}

fn is_service(manifest: &Manifest) -> bool {
    let object = manifest.object();
    object.group.is_empty() && object.kind == "Service"
}

/// Services that the file names and no manifest declares.
fn absent_services(request: &RenderRequest) -> Vec<Problem> {
    if !matches!(request.strategy, Some(Strategy::BlueGreen(_))) {
        return Vec::new();
    }
    let named = request
        .services
        .iter()
        .flat_map(|pair| std::iter::once(&pair.active).chain(&pair.preview));
    let is_declared = |name: &str| {
        let mut services = request.manifests.iter().filter(|manifest| is_service(manifest));
        services.any(|manifest| manifest.object().name == name)
    };
    named
        .filter(|name| !is_declared(name))
        .map(|name| {
            let message = format!(
                "target `{}`: the Service `{name}` is not among its manifests",
                request.target
            );
            Problem::error("noService", format!("/targets/{}", request.target), message)
        })
        .collect()
}

fn step_map(request: &RenderRequest, objects: &[PlannedObject]) -> StepMap {
    let canary = match &request.strategy {
        Some(Strategy::Canary(canary)) => canary.steps.as_slice(),
        _ => &[],
    };
    let mut map = StepMap::default();
    for object in objects.iter().map(PlannedObject::object) {
        if object.kind == "Rollout" {
            map.rollouts.insert(object.name, canary.len());
        } else if counts(&object) {
            map.workloads.push(object);
        }
    }
    if matches!(request.strategy, Some(Strategy::BlueGreen(_))) {
        map.blue_green = map.rollouts.keys().cloned().collect();
    }
    let mut weight = 0;
    let steps = canary.iter().enumerate().map(|(index, step)| {
        if let Step::SetWeight(next) = step {
            weight = *next;
        }
        MappedStep {
            index: map.rollouts.keys().map(|name| (name.clone(), index)).collect(),
            gate: matches!(step, Step::Pause(_)),
            weight,
        }
    });
    map.steps = steps.collect();
    map
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
