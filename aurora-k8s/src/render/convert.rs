//! Deployments become Rollouts in place, and what scales them follows.

use std::collections::{BTreeMap, BTreeSet};

use aurora_core::plan::STRATEGY_ANNOTATION;
use aurora_core::port::renderer::RenderRequest;
use aurora_core::strategy::{Rolling, Strategy};
use serde_json::{Map, Value, json};

use super::draft::{Draft, map_at};
use super::kinds;
use super::node::Node;
use super::report::Report;
use super::{services, strategy};
use crate::argo;

/// Converts every Deployment that is not opted out, and gives autoscaled workloads no replicas.
///
/// Returns the names of the Rollouts that were made.
pub(super) fn workloads(
    request: &RenderRequest,
    drafts: &mut [Draft],
    report: &mut Report,
) -> BTreeSet<String> {
    let scaled = scaled(drafts, report);
    let made = moving(request, drafts, report);
    let rendered = strategies(request, drafts, &made, report);
    for draft in drafts.iter_mut() {
        let object = draft.object();
        if kinds::is_deployment(&object)
            && let Some(strategy) = rendered.get(&object.name)
        {
            to_rollout(draft, strategy, report);
        }
        let is_scaled = |kind: &str| scaled.contains(&(kind.to_owned(), object.name.clone()));
        let as_rollout = kinds::is_rollout(&draft.object()) && is_scaled(argo::ROLLOUT);
        if is_scaled(&object.kind) || as_rollout {
            release_replicas(draft, report);
        }
    }
    for draft in drafts.iter_mut() {
        retarget(draft, &made, report);
    }
    refuse_two_autoscalers(drafts, report);
    say_who_meets(drafts, &made, report);
    made
}

/// The Deployments that become Rollouts.
fn moving(request: &RenderRequest, drafts: &[Draft], report: &mut Report) -> BTreeSet<String> {
    let referenced = taken_over(drafts);
    let (mut moving, mut any) = (BTreeSet::new(), false);
    for draft in drafts {
        let object = draft.object();
        if !kinds::is_deployment(&object) {
            continue;
        }
        if referenced.contains(&object.name) {
            report.note(
                &draft.place,
                "stays as it is: a Rollout of the plan takes its pods from it",
            );
        } else if stays(draft, report) {
            let what = "is opted out: it is applied as it is, ungated, and only its readiness counts";
            report.note(&draft.place, what);
        } else if request.strategy.is_some() {
            moving.insert(object.name);
        } else {
            any = true;
            refuse_without_strategy(request, draft, report);
        }
    }
    if moving.is_empty() && !any && request.strategy.is_some() {
        report.say(format!(
            "target `{}` names a strategy, but has no Deployment that moves by it: all is applied as it is",
            request.target
        ));
    }
    moving
}

/// The strategy of each Rollout that is made.
fn strategies(
    request: &RenderRequest,
    drafts: &[Draft],
    moving: &BTreeSet<String>,
    report: &mut Report,
) -> BTreeMap<String, Value> {
    let services = match &request.strategy {
        Some(Strategy::BlueGreen(_)) => services::of_blue_green(request, drafts, moving, report),
        _ => {
            if !request.services.is_empty() && !moving.is_empty() {
                report.say(format!(
                    "the Services that the file names for target `{}` are not used: its strategy moves none",
                    request.target
                ));
            }
            BTreeMap::new()
        }
    };
    let mut rendered = BTreeMap::new();
    for draft in drafts
        .iter()
        .filter(|draft| kinds::is_deployment(&draft.object()))
    {
        let name = draft.object().name;
        let own = draft.at("/spec/strategy").unwrap_or(&Value::Null);
        let strategy = match &request.strategy {
            Some(Strategy::Canary(canary)) => strategy::canary(canary, own),
            Some(Strategy::Rolling(rolling)) => strategy::rolling(rolling, own),
            Some(Strategy::BlueGreen(wanted)) => match services.get(&name) {
                Some(pair) => strategy::blue_green(wanted, pair),
                // It was refused; what else is wrong with it shall be found, too.
                None => strategy::rolling(&Rolling::default(), own),
            },
            None => continue,
        };
        if moving.contains(&name) {
            rendered.insert(name, strategy);
        }
    }
    rendered
}

/// What the autoscalers of the plan scale, by kind and name.
fn scaled(drafts: &[Draft], report: &mut Report) -> BTreeSet<(String, String)> {
    let mut scaled = BTreeSet::new();
    for draft in drafts.iter().filter(|draft| is_autoscaler(draft)) {
        let reference = Node::root(&draft.body).path(&["spec", "scaleTargetRef"]);
        if let (Some(kind), Some(name)) = (reference.name("kind"), reference.name("name")) {
            scaled.insert((kind.to_owned(), name.to_owned()));
        } else {
            let hint = "name what it scales: apiVersion, kind and name";
            report.error(&draft.place, "missing", &reference.pointer, "is incomplete", hint);
        }
    }
    scaled
}

/// One that scales a Deployment and one that scales its Rollout are two for the same workload, too.
fn refuse_two_autoscalers(drafts: &[Draft], report: &mut Report) {
    let mut first: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for draft in drafts.iter().filter(|draft| is_autoscaler(draft)) {
        let reference = Node::root(&draft.body).path(&["spec", "scaleTargetRef"]);
        let (Some(kind), Some(name)) = (reference.name("kind"), reference.name("name")) else {
            continue;
        };
        if let Some(other) = first.get(&(kind, name)) {
            let what = format!("scales {kind} {name}, as {other} does");
            let hint = "one autoscaler for one workload: two of them fight";
            report.error(&draft.place, "twoAutoscalers", &reference.pointer, &what, hint);
        }
        first.entry((kind, name)).or_insert(&draft.place.named);
    }
}

fn is_autoscaler(draft: &Draft) -> bool {
    let object = draft.object();
    object.group == "autoscaling" && object.kind == "HorizontalPodAutoscaler"
}

/// Deployments whose pods a user's own Rollout takes over.
pub(super) fn taken_over(drafts: &[Draft]) -> BTreeSet<String> {
    let rollouts = drafts.iter().filter(|draft| kinds::is_rollout(&draft.object()));
    rollouts
        .filter_map(|draft| {
            let reference = draft.at("/spec/workloadRef")?;
            let is_deployment = reference.get("kind").and_then(Value::as_str) == Some("Deployment");
            let name = reference.get("name").and_then(Value::as_str)?;
            is_deployment.then(|| name.to_owned())
        })
        .collect()
}

fn stays(draft: &Draft, report: &mut Report) -> bool {
    match draft.annotation(STRATEGY_ANNOTATION) {
        None => false,
        Some("none") => true,
        Some(other) => {
            let pointer = format!("/metadata/annotations/{}", STRATEGY_ANNOTATION.replace('/', "~1"));
            let what = format!("is `{other}`");
            let hint = "write `none` to keep the Deployment as it is, or leave the annotation out";
            report.error(&draft.place, "badValue", &pointer, &what, hint);
            true
        }
    }
}

fn refuse_without_strategy(request: &RenderRequest, draft: &Draft, report: &mut Report) {
    let what = format!(
        "is a Deployment, and target `{}` names no strategy",
        request.target
    );
    let hint = format!(
        "set `targets.{}.strategy`, or annotate the Deployment with {STRATEGY_ANNOTATION}: none",
        request.target
    );
    report.error(&draft.place, "noStrategy", "", &what, &hint);
}

fn to_rollout(draft: &mut Draft, strategy: &Value, report: &mut Report) {
    refuse_other_strategies(draft, report);
    let spec = map_at(&mut draft.body, &["spec"]);
    spec.retain(|_, value| !value.is_null());
    spec.insert("strategy".to_owned(), strategy.clone());
    spec.entry("replicas").or_insert_with(|| json!(1));
    spec.entry("revisionHistoryLimit")
        .or_insert_with(|| json!(argo::DEFAULT_REVISION_HISTORY));
    let deadline = progress_deadline(spec);
    spec.entry("progressDeadlineSeconds").or_insert(deadline);
    if let Some(body) = draft.body.as_object_mut() {
        body.insert("apiVersion".to_owned(), json!(argo::API_VERSION));
        body.insert("kind".to_owned(), json!(argo::ROLLOUT));
    }
    draft.place.converted = true;
}

fn refuse_other_strategies(draft: &Draft, report: &mut Report) {
    let strategy = Node::root(&draft.body).path(&["spec", "strategy"]);
    match strategy.get("type").map(|node| node.value.as_str()) {
        None | Some(Some("RollingUpdate")) => {}
        Some(Some("Recreate")) => {
            let what = "is Recreate, which no Rollout can do: old and new pods run side by side for a while";
            let hint = format!(
                "annotate the Deployment with {STRATEGY_ANNOTATION}: none to apply it as it is, or use RollingUpdate"
            );
            report.error(
                &draft.place,
                "recreate",
                &strategy.pointer_of("type"),
                what,
                &hint,
            );
        }
        Some(_) => {
            let hint = "RollingUpdate, or leave it out";
            report.error(
                &draft.place,
                "badValue",
                &strategy.pointer_of("type"),
                "is not known",
                hint,
            );
        }
    }
    for (key, node) in strategy.entries() {
        if !matches!(key, "rollingUpdate" | "type") {
            let what = "is not a field of a Deployment's strategy";
            report.error(
                &draft.place,
                "unknownKey",
                &node.pointer,
                what,
                "type and rollingUpdate are",
            );
        }
    }
}

/// The default, or as much more than the time a pod must stay ready as the default is.
fn progress_deadline(spec: &Map<String, Value>) -> Value {
    let ready = spec.get("minReadySeconds").and_then(Value::as_i64).unwrap_or(0);
    let deadline = argo::DEFAULT_PROGRESS_DEADLINE;
    json!(if ready < deadline {
        deadline
    } else {
        ready.saturating_add(deadline)
    })
}

/// The count belongs to the autoscaler: who does not send it does not own it.
fn release_replicas(draft: &mut Draft, report: &mut Report) {
    let written = map_at(&mut draft.body, &["spec"]).remove("replicas");
    if written.is_some_and(|replicas| replicas.as_i64().is_some_and(|replicas| replicas > 1)) {
        report.note(
            &draft.place,
            "its replicas are left to the autoscaler of the plan",
        );
    }
}

fn retarget(draft: &mut Draft, made: &BTreeSet<String>, report: &mut Report) {
    if !is_autoscaler(draft) {
        return;
    }
    let reference = Node::root(&draft.body).path(&["spec", "scaleTargetRef"]);
    let version = reference.text("apiVersion").unwrap_or("apps/v1");
    let is_ours = reference.name("name").is_some_and(|name| made.contains(name));
    if !is_ours || reference.text("kind") != Some("Deployment") || !version.starts_with("apps/") {
        return;
    }
    let reference = map_at(&mut draft.body, &["spec", "scaleTargetRef"]);
    reference.insert("apiVersion".to_owned(), json!(argo::API_VERSION));
    reference.insert("kind".to_owned(), json!(argo::ROLLOUT));
    report.note(
        &draft.place,
        "scales the Rollout that takes the Deployment's place",
    );
}

/// Other objects may name a Deployment that is now a Rollout: only their owner knows what to do.
fn say_who_meets(drafts: &[Draft], made: &BTreeSet<String>, report: &mut Report) {
    for draft in drafts.iter().filter(|draft| !is_autoscaler(draft)) {
        for key in ["scaleTargetRef", "targetRef"] {
            let reference = Node::root(&draft.body).path(&["spec", key]);
            let kind = reference.text("kind").unwrap_or("Deployment");
            if let Some(name) = reference.name("name").filter(|name| made.contains(*name))
                && kind == "Deployment"
            {
                report.note(
                    &draft.place,
                    &format!("spec.{key} names the Deployment {name}, which is now a Rollout of that name"),
                );
            }
        }
    }
}
