//! The application that the tests deploy, and orders about it.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use aurora_core::command::{Act, Acted, Action, Applied, AppliedSetKey, Apply, Direction, Observe, Stamp};
use aurora_core::digest::Digest;
use aurora_core::manifest::{ObjectRef, Origin};
use aurora_core::plan::{Plan, PlannedObject, StepMap};
use aurora_core::port::executor::{ClusterExecutor, ExecutorError};
use aurora_core::progress::{ExpectToken, Progress, Standing};
use aurora_k8s::execute::KubeExecutor;

use super::cluster::Cluster;

/// How long, in virtual time, anything may take.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) fn rollout(name: &str) -> ObjectRef {
    ObjectRef::new("argoproj.io", "Rollout", "shop", name)
}

pub(crate) fn core(kind: &str, name: &str) -> ObjectRef {
    ObjectRef::new("", kind, "shop", name)
}

pub(crate) fn set() -> AppliedSetKey {
    AppliedSetKey {
        tenant: "acme/production".to_owned(),
        application: "shop".to_owned(),
        namespace: "shop".to_owned(),
    }
}

/// Steps with a pause after 25 and after 50 percent: gates 1 and 3.
pub(crate) fn two_gates() -> Value {
    json!([{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}])
}

pub(crate) fn template(name: &str, image: &str) -> Value {
    let spec = json!({"containers": [{"name": name, "image": image, "resources": {}}]});
    with_digest(json!({"metadata": {"labels": {"app": name}}, "spec": spec}))
}

/// The template with the digest of its content.
pub(crate) fn with_digest(mut template: Value) -> Value {
    let digest = Digest::of_json(&template["spec"]).short(16);
    template["metadata"]["annotations"]["aurora.dev/template-digest"] = json!(digest);
    template
}

pub(crate) fn rollout_body(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"canary": {"maxUnavailable": "25%", "maxSurge": "25%", "steps": two_gates()}},
            "template": template(name, image),
        },
    })
}

/// A Rollout whose pods take their environment from a ConfigMap of the given name.
pub(crate) fn configured(mut body: Value, config: &str) -> Value {
    let mut template = body["spec"]["template"].clone();
    template["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": config}}]);
    body["spec"]["template"] = with_digest(template);
    body
}

pub(crate) fn service_body(name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"app": app}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]},
    })
}

pub(crate) fn config_body(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"},
        "data": {"name": name},
    })
}

pub(crate) fn plan(bodies: impl IntoIterator<Item = Value>) -> Plan {
    let planned = |mut body: Value| {
        body["metadata"]["labels"] =
            json!({"aurora.dev/application": "shop", "aurora.dev/target": "staging"});
        PlannedObject {
            body,
            origin: Origin::default(),
            adopt: false,
        }
    };
    Plan {
        version: Plan::VERSION,
        application: "shop".to_owned(),
        target: "staging".to_owned(),
        namespace: "shop".to_owned(),
        objects: bodies.into_iter().map(planned).collect(),
        steps: StepMap::default(),
        notes: Vec::new(),
    }
}

/// One Rollout `web` of an image.
pub(crate) fn web(image: &str) -> Plan {
    plan([rollout_body("web", image)])
}

pub(crate) fn order(plan: &Plan, version: u64, direction: Direction) -> Apply {
    Apply {
        set: set(),
        target: "staging".to_owned(),
        plan: plan.digest(),
        stamp: Stamp { fence: 7, version },
        direction,
    }
}

/// Applies with a given executor, in virtual time.
pub(crate) async fn apply_with(
    executor: &KubeExecutor,
    plan: &Plan,
    version: u64,
    direction: Direction,
) -> Result<Applied, ExecutorError> {
    let (stages, _heard) = mpsc::channel(8);
    let order = order(plan, version, direction);
    let applying = executor.apply(&order, plan, &stages);
    tokio::time::timeout(PATIENCE, applying)
        .await
        .expect("an apply must end")
}

pub(crate) async fn apply(cluster: &Cluster, plan: &Plan, version: u64) -> Result<Applied, ExecutorError> {
    apply_with(&cluster.kube_executor(), plan, version, Direction::Forward).await
}

pub(crate) async fn roll_back(
    cluster: &Cluster,
    plan: &Plan,
    version: u64,
) -> Result<Applied, ExecutorError> {
    apply_with(&cluster.kube_executor(), plan, version, Direction::Back).await
}

pub(crate) async fn finish(
    cluster: &Cluster,
    plan: &Plan,
    version: u64,
    direction: Direction,
) -> Result<Applied, ExecutorError> {
    let (stages, _heard) = mpsc::channel(8);
    let order = order(plan, version, direction);
    let executor = cluster.kube_executor();
    let finishing = executor.finish(&order, plan, &stages);
    tokio::time::timeout(PATIENCE, finishing)
        .await
        .expect("a finish must end")
}

/// Observes until one object is as wanted.
pub(crate) async fn until(
    cluster: &Cluster,
    plan: &Plan,
    object: &ObjectRef,
    wanted: impl Fn(&Progress) -> bool,
) -> Progress {
    let observe = Observe {
        set: set(),
        plan: plan.digest(),
        direction: Direction::Forward,
    };
    let mut levels = cluster
        .kube_executor()
        .observe(&observe, plan)
        .await
        .expect("it can be observed");
    let mut last = None;
    let seen = tokio::time::timeout(PATIENCE, async {
        loop {
            let news = levels
                .next()
                .await
                .expect("it goes on")
                .expect("the cluster can be read");
            for progress in news.into_iter().filter(|progress| progress.object == *object) {
                if wanted(&progress) {
                    return progress;
                }
                last = Some(progress);
            }
        }
    });
    let seen = seen.await;
    seen.unwrap_or_else(|_| panic!("{object} never got where it should; last seen: {last:#?}"))
}

pub(crate) async fn until_done(cluster: &Cluster, plan: &Plan, name: &str) -> Progress {
    until(cluster, plan, &rollout(name), |seen| {
        seen.standing == Standing::Done
    })
    .await
}

pub(crate) async fn until_at(cluster: &Cluster, plan: &Plan, name: &str, gate: usize) -> Progress {
    until(
        cluster,
        plan,
        &rollout(name),
        |seen| matches!(seen.standing, Standing::AtPause { index, ready: true, .. } if index == gate),
    )
    .await
}

/// What is seen of an object right now.
pub(crate) async fn now(cluster: &Cluster, plan: &Plan, name: &str) -> Progress {
    until(cluster, plan, &rollout(name), |_| true).await
}

pub(crate) async fn deployed(cluster: &Cluster, plan: &Plan) {
    apply(cluster, plan, 1).await.expect("the first plan is applied");
    for planned in &plan.objects {
        let object = planned.object();
        if object.kind == "Rollout" {
            until_done(cluster, plan, &object.name).await;
        }
    }
}

/// The first image deployed, the second at its first gate.
pub(crate) async fn at_first_gate(cluster: &Cluster) -> (Plan, Progress) {
    deployed(cluster, &web("shop:1")).await;
    let second = web("shop:2");
    apply(cluster, &second, 2)
        .await
        .expect("the second plan is applied");
    let seen = until_at(cluster, &second, "web", 1).await;
    (second, seen)
}

pub(crate) async fn act(
    cluster: &Cluster,
    action: Action,
    name: &str,
    expect: Option<&ExpectToken>,
    version: u64,
) -> Result<Acted, ExecutorError> {
    let act = Act {
        set: set(),
        object: rollout(name),
        action,
        expect: expect.cloned(),
        stamp: Stamp { fence: 7, version },
    };
    let executor = cluster.kube_executor();
    tokio::time::timeout(PATIENCE, executor.act(&act))
        .await
        .expect("an act must end")
}

/// The one message of a refusal.
pub(crate) fn words(error: &ExecutorError) -> String {
    let failure = error.to_failure();
    let details: Vec<_> = failure
        .details
        .iter()
        .map(|detail| format!("{}: {}", detail.object, detail.message))
        .collect();
    format!("{}; {}", failure.message, details.join("; "))
}
