//! The REST API over a control plane with in-memory ports, request by request.

mod act_table;
mod acts;
mod client;
mod compat;
mod events;
mod fetch;
mod limits;
mod openapi;
mod overview;
mod reading;
mod restart;
mod routes;
mod submit;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aurora_core::account::{AgentKey, AgentName};
use aurora_core::control::ControlPlane;
use aurora_core::id::PipelineId;
use aurora_core::port::clock::InMemoryClock;
use aurora_core::port::executor::memory::{InMemoryCluster, PodFault};
use aurora_core::port::renderer::InMemoryRenderer;
use aurora_core::port::router::InMemoryRouter;
use aurora_core::port::store::memory::InMemoryStore;
use aurora_core::port::token::memory::InMemoryTokens;
use aurora_core::principal::{Principal, PrincipalKind};
use aurora_core::tasks::Tasks;
use aurora_core::tenant::Tenant;
use axum::body::{Body, Bytes, to_bytes};
use http::{HeaderMap, Request, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{Api, Credential, ProblemBody};

const DEPLOY: &[&str] = &["manage:deploy"];
const EVERYTHING: &[&str] = &["manage:deploy", "read:infrastructure:data"];

/// A control plane that is driven, its API, and tokens for it.
struct World {
    api: Api,
    clock: InMemoryClock,
    plane: ControlPlane,
    router: InMemoryRouter,
    tokens: InMemoryTokens,
    store: InMemoryStore,
    _tasks: Tasks,
}

/// A whole answer.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn problem(&self) -> ProblemBody {
        assert_eq!(self.headers["content-type"], super::PROBLEM_JSON, "{self:?}");
        let body: ProblemBody = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body.status, self.status.as_u16());
        assert!(!body.error_id.is_empty() && !body.errors.is_empty());
        body
    }

    /// The problem with what differs from answer to answer taken out, for snapshots.
    fn shape(&self) -> String {
        let mut body = serde_json::to_value(self.problem()).unwrap();
        body["error_id"] = json!("[id]");
        let mut text = serde_json::to_string_pretty(&body).unwrap();
        if let Some(id) = body["pipelineId"].as_str() {
            text = text.replace(id, "[pipeline]");
        }
        text
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap().to_str().unwrap()
    }
}

impl World {
    async fn new() -> Self {
        Self::with(|api| api).await
    }

    async fn with(change: impl FnOnce(Api) -> Api) -> Self {
        let start: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let clock = InMemoryClock::starting_at(start);
        let router = InMemoryRouter::new(clock.clone());
        let cluster = InMemoryCluster::default().with_clock(Arc::new(clock.clone()));
        cluster.break_image("app:broken", PodFault::Crash);
        let agent = AgentKey::new(ours(), AgentName::new("staging-agent").unwrap());
        router.connect(agent, cluster);
        let foreign = AgentKey::new(theirs(), AgentName::new("their-agent").unwrap());
        router.connect(
            foreign,
            InMemoryCluster::default().with_clock(Arc::new(clock.clone())),
        );
        let store = InMemoryStore::new(Arc::new(clock.clone()));
        let plane = ControlPlane::new(
            Arc::new(store.clone()),
            router.clone(),
            InMemoryRenderer,
            clock.clone(),
        );
        let tokens = InMemoryTokens::new();
        let tasks = Tasks::new();
        let runner = plane.clone();
        tasks.spawn(|stop| async move {
            runner.run(stop).await.unwrap();
        });
        let credential = |id: &str, tenant: Tenant| Credential {
            client_id: id.to_owned(),
            tenant,
            scopes: BTreeSet::from(["manage:deploy".to_owned()]),
            roles: BTreeSet::from([format!("{id}-role")]),
            agents: BTreeSet::new(),
        };
        let credentials = vec![credential("ci", ours()), credential("their-ci", theirs())];
        let api = Api::new(plane.clone(), tokens.clone(), clock.clone()).with_credentials(credentials);
        Self {
            api: change(api),
            clock,
            plane,
            router,
            tokens,
            store,
            _tasks: tasks,
        }
    }

    fn token(&self, tenant: &Tenant, name: &str, scopes: &[&str], roles: &[&str]) -> String {
        self.token_of(PrincipalKind::User, Some(tenant), name, scopes, roles)
    }

    fn token_of(
        &self,
        kind: PrincipalKind,
        tenant: Option<&Tenant>,
        name: &str,
        scopes: &[&str],
        roles: &[&str],
    ) -> String {
        let principal = Principal {
            kind,
            id: name.to_lowercase(),
            display: name.to_owned(),
            tenant: tenant.cloned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            agents: BTreeSet::new(),
            expires_at: "2026-11-24T09:00:00Z".parse().unwrap(),
        };
        self.tokens.issue(principal).secret.expose().to_owned()
    }

    fn ada(&self) -> String {
        self.token(&ours(), "Ada", EVERYTHING, &["Release-Manager"])
    }

    /// Who may do everything in our tenant.
    fn owner(&self) -> String {
        let scopes = [EVERYTHING, &["api:organization:full"]].concat();
        self.token(&ours(), "Olga", &scopes, &["release-manager"])
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.api.router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: to_bytes(body, usize::MAX).await.unwrap(),
        }
    }

    async fn get(&self, token: &str, path: &str) -> Answer {
        self.send(request("GET", path, Some(token), &[], Body::empty()))
            .await
    }

    async fn post(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.post_with(token, path, &[], body).await
    }

    async fn post_with(&self, token: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        self.send(request(
            "POST",
            path,
            Some(token),
            &all,
            Body::from(body.to_string()),
        ))
        .await
    }

    /// Submits a file and gives the pipeline.
    async fn submit(&self, file: &Value) -> String {
        let answer = self.post(&self.ada(), "/pipelines/kubernetes", file).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        answer.json()["pipelineId"].as_str().unwrap().to_owned()
    }

    /// A pipeline that waits for a release manager.
    async fn waiting(&self) -> String {
        let id = self.submit(&gated("shop")).await;
        self.until(&id, "AWAITING_APPROVAL").await;
        id
    }

    async fn until(&self, id: &str, status: &str) {
        let id: PipelineId = id.parse().unwrap();
        let grant = reader();
        for _ in 0..100_000 {
            let seen = self.plane.view(&grant, id).await.unwrap().body;
            if serde_json::to_value(seen.status).unwrap() == status {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("never {status}: {:#?}", self.plane.view(&grant, id).await);
    }
}

fn reader() -> aurora_core::authz::Grant<aurora_core::authz::ReadPipelines> {
    let principal = Arc::new(Principal {
        kind: PrincipalKind::User,
        id: "reader".into(),
        display: "Reader".into(),
        tenant: Some(ours()),
        scopes: BTreeSet::from(["read:pipelines".to_owned()]),
        roles: BTreeSet::new(),
        agents: BTreeSet::new(),
        expires_at: Timestamp::MAX,
    });
    principal.authorize().unwrap()
}

fn request(
    method: &str,
    path: &str,
    token: Option<&str>,
    headers: &[(&str, &str)],
    body: Body,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

fn ours() -> Tenant {
    Tenant::new("acme", "main").unwrap()
}

fn theirs() -> Tenant {
    Tenant::new("globex", "main").unwrap()
}

/// One target, one Deployment.
fn file(application: &str, image: &str) -> Value {
    let manifest = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": application},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": application}},
            "template": {
                "metadata": {"labels": {"app": application}},
                "spec": {"containers": [{"name": "app", "image": image}]},
            },
        },
    });
    json!({
        "version": "v1",
        "kind": "kubernetes",
        "application": application,
        "description": format!("{application} with {image}"),
        "context": {"team": "lanterns"},
        "targets": {
            "staging": {"account": "staging-agent", "namespace": "shop", "strategy": "slowly"},
        },
        "strategies": {"slowly": {"canary": {"steps": [
            {"setWeight": {"weight": 50}},
            {"pause": {"duration": 30, "unit": "seconds"}},
        ]}}},
        "manifests": [{"path": "manifests/app.yaml"}],
        "files": {"manifests/app.yaml": [manifest.to_string()]},
    })
}

/// The same, and a release manager must say yes before it begins.
fn gated(application: &str) -> Value {
    let mut file = file(application, "app:1");
    file["targets"]["staging"]["constraints"] = json!({
        "beforeDeployment": [{"pause": {"untilApproved": true, "requiresRoles": ["release-manager"]}}],
    });
    file
}
