//! A simulated cluster in virtual time, executors over a real client, and the hands of other people.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryFutureExt as _};
use http::{Method, Request, Response};
use hyper::body::{Body as HttpBody, Frame};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::Service;

use aurora_core::manifest::ObjectRef;
use aurora_core::port::clock::InMemoryClock;
use aurora_core::port::executor::ClusterExecutor;
use aurora_core::port::executor::laws::ClusterFixture;
use aurora_core::tasks::Tasks;
use aurora_k8s::execute::{AgentPolicy, KubeExecutor};
use aurora_k8s::sim::api::{ApiBody, KubeApi};
use aurora_k8s::sim::objects::tokio_clock;
use aurora_k8s::sim::{Behaviour, Controllers, Objects};

const START: &str = "2026-01-01T00:00:00.35Z";

/// The cluster; dropping it stops its controllers.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) api: KubeApi,
    /// What is behind the API, with every state that was there.
    pub(crate) objects: Objects,
    pub(crate) behaviour: Behaviour,
    pub(crate) policy: AgentPolicy,
    clock: InMemoryClock,
    watches: Arc<AtomicUsize>,
    _tasks: Tasks,
}

impl Cluster {
    /// A cluster with the namespace of the laws.
    pub(crate) async fn start() -> Self {
        let start = START.parse().expect("the time is written right");
        let clock = InMemoryClock::starting_at(start);
        let objects = Objects::new(tokio_clock(start));
        let behaviour = Behaviour::default();
        let tasks = Tasks::new();
        let controllers = Controllers::new(objects.clone(), behaviour.clone());
        tasks.spawn(|stop| controllers.run(stop));
        let cluster = Self {
            api: KubeApi::new(objects.clone()),
            objects,
            behaviour,
            policy: AgentPolicy::new(),
            clock,
            watches: Arc::default(),
            _tasks: tasks,
        };
        cluster
            .create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}))
            .await;
        cluster
    }

    /// A fresh executor, which remembers nothing.
    pub(crate) fn kube_executor(&self) -> KubeExecutor {
        self.executor_over(None)
    }

    /// A fresh executor whose first patch of a path is held until the gate is opened.
    pub(crate) fn held_executor(&self, part: &str) -> (KubeExecutor, Gate) {
        let gate = Gate {
            part: part.to_owned(),
            reached: watch::Sender::new(false),
            open: watch::Sender::new(false),
        };
        (self.executor_over(Some(gate.clone())), gate)
    }

    fn executor_over(&self, gate: Option<Gate>) -> KubeExecutor {
        let counted = Counted {
            api: self.api.clone(),
            watches: self.watches.clone(),
            gate,
        };
        KubeExecutor::new(Client::new(counted, "default"))
            .with_policy(self.policy.clone())
            .with_clock(Arc::new(self.clock.clone()))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> Result<Value, kube::Error> {
        let client = Client::new(self.api.clone(), "default");
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .body(bytes);
        let text = client
            .request_text(request.expect("the request is written right"))
            .await?;
        Ok(serde_json::from_str(&text).expect("the API answers JSON"))
    }

    /// Reads an object.
    pub(crate) async fn get(&self, object: &ObjectRef) -> Option<Value> {
        self.ask(Method::GET, &path(object), "application/json", None)
            .await
            .ok()
    }

    /// Lists objects of a kind in the namespace of the laws.
    pub(crate) async fn list(&self, group: &str, kind: &str) -> Vec<Value> {
        let object = ObjectRef::new(group, kind, "shop", "");
        let listed = self
            .ask(
                Method::GET,
                path(&object).trim_end_matches('/'),
                "application/json",
                None,
            )
            .await;
        listed.expect("the kind is served")["items"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Somebody else creates an object.
    pub(crate) async fn create(&self, body: Value) {
        let object = ObjectRef::of(&body);
        let whole = path(&object);
        let (collection, _) = whole.rsplit_once('/').expect("a path has slashes");
        let collection = format!("{collection}?fieldManager=kubectl-create");
        self.ask(Method::POST, &collection, "application/json", Some(&body))
            .await
            .expect("it can be created");
    }

    /// Somebody else changes an object.
    pub(crate) async fn patch(&self, object: &ObjectRef, patch: Value) {
        let path = format!("{}?fieldManager=kubectl-edit", path(object));
        let patched = self
            .ask(Method::PATCH, &path, "application/merge-patch+json", Some(&patch))
            .await;
        patched.expect("it can be changed");
    }

    /// Somebody else, or a plugin, changes the status of an object.
    pub(crate) async fn patch_status(&self, object: &ObjectRef, patch: Value) {
        let path = format!("{}/status?fieldManager=kubectl-argo-rollouts", path(object));
        let patched = self
            .ask(Method::PATCH, &path, "application/merge-patch+json", Some(&patch))
            .await;
        patched.expect("its status can be changed");
    }

    /// Somebody else deletes an object and waits until it is gone.
    pub(crate) async fn delete(&self, object: &ObjectRef) {
        let options = json!({"propagationPolicy": "Background"});
        self.ask(Method::DELETE, &path(object), "application/json", Some(&options))
            .await
            .expect("it can be deleted");
        while self.get(object).await.is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Requests of executors that changed something, as verb and path.
    pub(crate) fn changes(&self) -> Vec<(String, String)> {
        let by_executor = self.api.requests().into_iter().filter(|request| request.changed);
        by_executor
            .filter(|request| !request.query.contains("kubectl"))
            .map(|request| (request.verb, request.path))
            .collect()
    }
}

#[async_trait]
impl ClusterFixture for Cluster {
    fn executor(&self) -> Arc<dyn ClusterExecutor> {
        Arc::new(self.kube_executor())
    }

    fn watches(&self) -> usize {
        self.watches.load(Ordering::SeqCst)
    }

    async fn identity(&self, object: &ObjectRef) -> Option<(String, u64)> {
        let body = self.get(object).await?;
        let uid = body["metadata"]["uid"].as_str()?.to_owned();
        // Kinds without generations have none to move.
        Some((uid, body["metadata"]["generation"].as_u64().unwrap_or(0)))
    }

    async fn object(&self, object: &ObjectRef) -> Option<Value> {
        self.get(object).await
    }

    async fn create_by_hand(&self, body: Value) {
        self.create(body).await;
    }

    async fn patch_by_hand(&self, object: &ObjectRef, patch: Value) {
        self.patch(object, patch).await;
    }

    async fn delete_by_hand(&self, object: &ObjectRef) {
        self.delete(object).await;
    }
}

/// The path of an object of one of the kinds that tests use.
pub(crate) fn path(object: &ObjectRef) -> String {
    let plural = match object.kind.as_str() {
        "HorizontalPodAutoscaler" => "horizontalpodautoscalers".to_owned(),
        kind => format!("{}s", kind.to_lowercase()),
    };
    let root = match object.group.as_str() {
        "" => "/api/v1".to_owned(),
        "argoproj.io" => "/apis/argoproj.io/v1alpha1".to_owned(),
        "autoscaling" => "/apis/autoscaling/v2".to_owned(),
        group => format!("/apis/{group}/v1"),
    };
    if object.namespace.is_empty() {
        return format!("{root}/{plural}/{}", object.name);
    }
    format!("{root}/namespaces/{}/{plural}/{}", object.namespace, object.name)
}

/// Holds patches of a path.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    part: String,
    reached: watch::Sender<bool>,
    open: watch::Sender<bool>,
}

impl Gate {
    /// Waits until a patch is held.
    pub(crate) async fn reached(&self) {
        let mut reached = self.reached.subscribe();
        reached
            .wait_for(|reached| *reached)
            .await
            .expect("the gate is there");
    }

    /// Lets what is held, and all that follows, go.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    fn holds(&self, request: &Request<Body>) -> bool {
        request.method() == Method::PATCH && request.uri().path().contains(&self.part)
    }
}

/// The API with its open watches counted.
#[derive(Clone)]
struct Counted {
    api: KubeApi,
    watches: Arc<AtomicUsize>,
    gate: Option<Gate>,
}

impl Service<Request<Body>> for Counted {
    type Response = Response<CountedBody>;
    type Error = tower::BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<Body>>::poll_ready(&mut self.api, context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let watches = request
            .uri()
            .query()
            .is_some_and(|query| query.contains("watch=true"))
            .then(|| {
                self.watches.fetch_add(1, Ordering::SeqCst);
                Open(self.watches.clone())
            });
        let mut api = self.api.clone();
        let gate = self.gate.clone().filter(|gate| gate.holds(&request));
        let answer = async move {
            if let Some(gate) = gate {
                gate.reached.send_replace(true);
                let mut open = gate.open.subscribe();
                open.wait_for(|open| *open).await?;
            }
            api.call(request).await
        };
        answer
            .map_ok(|response| {
                response.map(|body| CountedBody {
                    body: Box::pin(body),
                    _open: watches,
                })
            })
            .boxed()
    }
}

struct CountedBody {
    body: Pin<Box<ApiBody>>,
    _open: Option<Open>,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.body.as_mut().poll_frame(context)
    }
}

/// One open watch.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
