//! The cluster under test, and the application that the laws deploy to it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::command::{Act, Acted, Action, Applied, AppliedSetKey, Apply, Direction, Observe, Stamp};
use crate::digest::Digest;
use crate::manifest::{ObjectRef, Origin};
use crate::plan::{Plan, PlannedObject, StepMap};
use crate::port::executor::memory::{InMemoryCluster, PodFault};
use crate::port::executor::{ClusterExecutor, ExecutorError};
use crate::progress::{ExpectToken, Progress, Standing};

/// The image that every cluster under test must let crash with an exit code, again and again.
pub const CRASHING_IMAGE: &str = "example.com/shop:crash";

/// How long, in virtual time, a law waits for a cluster to move.
const PATIENCE: Duration = Duration::from_secs(600);

/// How many stage news an apply can be ahead of a law; what is over that is lost.
const STAGES: usize = 64;

/// An empty cluster under test, and the hands of other people in it.
#[async_trait]
pub trait ClusterFixture: Debug + Send + Sync {
    /// A fresh executor over the cluster: one that remembers nothing.
    fn executor(&self) -> Arc<dyn ClusterExecutor>;

    /// How many watches are open now.
    fn watches(&self) -> usize;

    /// The uid of an object and its generation, which moves when what it declares changes.
    async fn identity(&self, object: &ObjectRef) -> Option<(String, u64)>;

    /// The object as it is, secrets included.
    async fn object(&self, object: &ObjectRef) -> Option<Value>;

    /// Somebody else creates an object.
    async fn create_by_hand(&self, body: Value);

    /// Somebody else changes an object with a JSON merge patch.
    async fn patch_by_hand(&self, object: &ObjectRef, patch: Value);

    /// Somebody else deletes an object.
    async fn delete_by_hand(&self, object: &ObjectRef);
}

/// The in-memory cluster under test.
#[derive(Debug)]
pub struct InMemoryFixture {
    cluster: InMemoryCluster,
}

impl Default for InMemoryFixture {
    fn default() -> Self {
        let cluster = InMemoryCluster::default();
        cluster.break_image(CRASHING_IMAGE, PodFault::Crash);
        Self { cluster }
    }
}

impl InMemoryFixture {
    /// The cluster.
    pub const fn cluster(&self) -> &InMemoryCluster {
        &self.cluster
    }
}

#[async_trait]
impl ClusterFixture for InMemoryFixture {
    fn executor(&self) -> Arc<dyn ClusterExecutor> {
        Arc::new(self.cluster.clone())
    }

    fn watches(&self) -> usize {
        self.cluster.watches()
    }

    async fn identity(&self, object: &ObjectRef) -> Option<(String, u64)> {
        self.cluster.identity(object)
    }

    async fn object(&self, object: &ObjectRef) -> Option<Value> {
        self.cluster.object(object)
    }

    async fn create_by_hand(&self, body: Value) {
        self.cluster.put_by_hand(body);
    }

    async fn patch_by_hand(&self, object: &ObjectRef, patch: Value) {
        self.cluster.edit_by_hand(object, |body| merge(body, &patch));
    }

    async fn delete_by_hand(&self, object: &ObjectRef) {
        self.cluster.delete_by_hand(object);
    }
}

/// A JSON merge patch, RFC 7396.
fn merge(body: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *body = patch.clone();
        return;
    };
    if !body.is_object() {
        *body = json!({});
    }
    for (name, field) in fields {
        if field.is_null() {
            body.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut body[name], field);
        }
    }
}

/// The namespace of the application.
pub(super) const NAMESPACE: &str = "shop";

/// The application's Rollout.
pub(super) fn rollout() -> ObjectRef {
    ObjectRef::new("argoproj.io", "Rollout", NAMESPACE, "web")
}

/// The application's Service.
pub(super) fn service() -> ObjectRef {
    ObjectRef::new("", "Service", NAMESPACE, "web")
}

/// The configuration of one release.
pub(super) fn settings(release: &str) -> ObjectRef {
    ObjectRef::new("", "ConfigMap", NAMESPACE, format!("settings-{release}"))
}

pub(super) fn set() -> AppliedSetKey {
    AppliedSetKey {
        tenant: "acme/production".to_owned(),
        application: "shop".to_owned(),
        namespace: NAMESPACE.to_owned(),
    }
}

pub(super) fn service_body() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]},
    })
}

pub(super) fn settings_body(release: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": format!("settings-{release}"), "namespace": NAMESPACE},
        "data": {"release": release},
    })
}

pub(super) fn rollout_body(release: &str, image: &str) -> Value {
    let spec = json!({"containers": [{
        "name": "web", "image": image,
        "envFrom": [{"configMapRef": {"name": format!("settings-{release}")}}],
    }]});
    let digest = Digest::of_json(&spec).short(16);
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"canary": {"maxUnavailable": "25%", "steps": [
                {"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {}},
            ]}},
            "template": {
                "metadata": {
                    "labels": {"app": "web"},
                    "annotations": {"aurora.dev/template-digest": digest},
                },
                "spec": spec,
            },
        },
    })
}

/// A plan of some objects; none may be adopted.
pub(super) fn plan_of(bodies: Vec<Value>) -> Plan {
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
        namespace: NAMESPACE.to_owned(),
        objects: bodies.into_iter().map(planned).collect(),
        steps: StepMap {
            rollouts: [("web".to_owned(), 4)].into(),
            ..StepMap::default()
        },
        notes: Vec::new(),
    }
}

/// A release of the application: its configuration, its Service and its Rollout.
pub(super) fn release(name: &str) -> Plan {
    let image = format!("example.com/shop:{name}");
    plan_of(vec![
        settings_body(name),
        service_body(),
        rollout_body(name, &image),
    ])
}

/// A release whose pods crash.
pub(super) fn crashing(name: &str) -> Plan {
    plan_of(vec![
        settings_body(name),
        service_body(),
        rollout_body(name, CRASHING_IMAGE),
    ])
}

pub(super) fn stamp(version: u64) -> Stamp {
    Stamp { fence: 7, version }
}

pub(super) fn order(plan: &Plan, version: u64, direction: Direction) -> Apply {
    Apply {
        set: set(),
        target: "staging".to_owned(),
        plan: plan.digest(),
        stamp: stamp(version),
        direction,
    }
}

pub(super) async fn apply(
    fixture: &dyn ClusterFixture,
    plan: &Plan,
    version: u64,
) -> Result<Applied, ExecutorError> {
    apply_towards(fixture, plan, version, Direction::Forward).await
}

pub(super) async fn apply_towards(
    fixture: &dyn ClusterFixture,
    plan: &Plan,
    version: u64,
    direction: Direction,
) -> Result<Applied, ExecutorError> {
    let (stages, _heard) = mpsc::channel(STAGES);
    let order = order(plan, version, direction);
    let executor = fixture.executor();
    let applying = executor.apply(&order, plan, &stages);
    tokio::time::timeout(PATIENCE, applying)
        .await
        .expect("an apply must end")
}

pub(super) async fn finish(
    fixture: &dyn ClusterFixture,
    plan: &Plan,
    version: u64,
    direction: Direction,
) -> Result<Applied, ExecutorError> {
    let (stages, _heard) = mpsc::channel(STAGES);
    let order = order(plan, version, direction);
    let executor = fixture.executor();
    let finishing = executor.finish(&order, plan, &stages);
    tokio::time::timeout(PATIENCE, finishing)
        .await
        .expect("a finish must end")
}

pub(super) fn observation(plan: &Plan, direction: Direction) -> Observe {
    Observe {
        set: set(),
        plan: plan.digest(),
        direction,
    }
}

/// Observes until the Rollout is as wanted.
pub(super) async fn until(
    fixture: &dyn ClusterFixture,
    plan: &Plan,
    direction: Direction,
    wanted: impl Fn(&Progress) -> bool,
) -> Progress {
    let observe = observation(plan, direction);
    let mut levels = fixture.executor().observe(&observe, plan).await.unwrap();
    let mut last = None;
    let seen = tokio::time::timeout(PATIENCE, async {
        while let Some(news) = levels.next().await {
            for progress in news.unwrap() {
                if progress.object == rollout() {
                    if wanted(&progress) {
                        return Some(progress);
                    }
                    last = Some(progress);
                }
            }
        }
        None
    });
    let seen = seen.await.ok().flatten();
    seen.unwrap_or_else(|| panic!("the rollout never got where it should; last seen: {last:#?}"))
}

pub(super) async fn until_done(fixture: &dyn ClusterFixture, plan: &Plan) -> Progress {
    until(fixture, plan, Direction::Forward, |seen| {
        seen.standing == Standing::Done
    })
    .await
}

pub(super) async fn until_at(fixture: &dyn ClusterFixture, plan: &Plan, gate: usize) -> Progress {
    until(
        fixture,
        plan,
        Direction::Forward,
        |seen| matches!(seen.standing, Standing::AtPause { index, ready: true, .. } if index == gate),
    )
    .await
}

/// Observes until nothing moves by itself: at the first pause, or done where there are no steps.
pub(super) async fn until_settled(fixture: &dyn ClusterFixture, plan: &Plan) -> Progress {
    if fixture.executor().capabilities().steps {
        until_at(fixture, plan, 1).await
    } else {
        until_done(fixture, plan).await
    }
}

/// Deploys the first release with stamp 1.
pub(super) async fn deployed(fixture: &dyn ClusterFixture, plan: &Plan) {
    apply(fixture, plan, 1).await.unwrap();
    until_done(fixture, plan).await;
}

/// Deploys v1, then v2 with stamp 2 up to its first pause, which is step 1.
pub(super) async fn at_the_first_pause(fixture: &dyn ClusterFixture) -> (Plan, Progress) {
    deployed(fixture, &release("v1")).await;
    let plan = release("v2");
    apply(fixture, &plan, 2).await.unwrap();
    let seen = until_at(fixture, &plan, 1).await;
    (plan, seen)
}

/// Acts with a fresh executor, again as long as pods are waited for.
pub(super) async fn act(
    fixture: &dyn ClusterFixture,
    action: Action,
    expect: Option<&ExpectToken>,
    version: u64,
) -> Result<Acted, ExecutorError> {
    let act = Act {
        set: set(),
        object: rollout(),
        action,
        expect: expect.cloned(),
        stamp: stamp(version),
    };
    fixture.executor().act(&act).await
}
