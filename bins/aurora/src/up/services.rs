//! Hub, API and token issuer in one process, on one listener.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aurora_auth::issue::TokenIssuer;
use aurora_auth::verify::{JwtVerifier, VerifyPolicy};
use aurora_bin::figures::{publish_engine, publish_hub};
use aurora_bin::health::Health;
use aurora_bin::http_server::HttpServer;
use aurora_bin::identity::AUDIENCE;
use aurora_bin::tls::Authority;
use aurora_core::account::AgentName;
use aurora_core::control::ControlPlane;
use aurora_core::hub::Hub;
use aurora_core::port::clock::{Clock as _, SystemClock};
use aurora_core::port::store::SharedStore;
use aurora_core::tasks::Tasks;
use aurora_k8s::render::ArgoRenderer;
use aurora_store::sealed::SealedStore;
use aurora_store::sqlite::SqliteStore;
use aurora_transport::grpc::GrpcListener;
use aurora_transport::http::{EgressRules, ReqwestCaller, Roots};
use aurora_transport::rest::{Api, Credential};
use axum::Router;
use axum::extract::Request;
use tower::ServiceExt as _;

use super::state::State;
use crate::context::Context;

/// How long requests, commands and pipelines in hand are waited for at the end.
const GRACE: Duration = Duration::from_secs(20);

/// So many verified tokens are remembered.
const REMEMBERED_TOKENS: usize = 1000;

/// Everything that `aurora up` serves.
#[derive(Debug)]
pub(crate) struct Services {
    state: State,
    url: String,
    authority: String,
    hub: Hub,
    control: ControlPlane,
    tasks: Tasks,
}

impl Services {
    /// Starts over a state directory; a second process on the same directory is refused. `reach` says where
    /// manifests and deploy files are read from.
    pub(crate) async fn start(
        directory: &Path,
        listen: SocketAddr,
        agents: &[AgentName],
        reach: EgressRules,
    ) -> Result<Self> {
        let state = State::open(directory, agents)?;
        let clock = SystemClock;
        let pipelines = open(&state, "pipelines.sqlite").await?;
        let identities = open(&state, "identities.sqlite").await?;

        let authority = Authority::kept_in(&state.path("tls"), clock.now())?;
        let identity = authority.server(&[listen.ip().to_string()], clock.now())?;
        let server = HttpServer::bind(listen, Some(identity.server_config(&["h2", "http/1.1"])?)).await?;
        let url = server.url();

        let issuer = TokenIssuer::new(&url, AUDIENCE, &state.clients()?, identities, Arc::new(clock))?;
        issuer.prepare().await?;
        let policy = VerifyPolicy::new(&url, AUDIENCE)?;
        let verifier =
            Arc::new(JwtVerifier::new(policy, Arc::new(issuer.keys())).with_memory(REMEMBERED_TOKENS));

        let hub = Hub::new(clock).with_verifier(Arc::clone(&verifier));
        let listener = GrpcListener::new(Arc::clone(&verifier), clock, hub.clone());
        let sessions = listener.routes().into_axum_router();
        // The state directory's lock keeps a second process out, so the same name may take its leases over at once.
        let control = ControlPlane::new(pipelines, hub.clone(), ArgoRenderer, clock).with_holder("up");
        let tasks = Tasks::new();
        let rest = Api::new(control.clone(), verifier, clock)
            .with_http(ReqwestCaller::new(reach, Roots::System)?)
            .with_stop(tasks.stop_token())
            .with_credentials(credentials(&state)?);
        let (accepting, driving) = (hub.clone(), control.clone());
        tasks.spawn(|stop| async move {
            let _ = accepting.run(listener, stop).await;
        });
        tasks.spawn(|stop| async move {
            let _ = driving.run(stop).await;
        });
        let router = by_path(rest.router(), issuer.router(), sessions);
        tasks.spawn(|stop| async move {
            let _ = server.serve(router, stop, GRACE).await;
        });
        Ok(Self {
            state,
            url,
            authority: authority.certificate().to_owned(),
            hub,
            control,
            tasks,
        })
    }

    /// Where agents and clients connect.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Has their figures among the metrics.
    pub(crate) fn publish(&self, health: &Health) {
        publish_hub(health, self.hub.clone());
        publish_engine(health, self.control.clone());
    }

    /// A file or folder of its state.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.state.path(name)
    }

    /// How the command line connects.
    pub(crate) fn cli_context(&self) -> Context {
        let (id, secret) = self.state.cli();
        self.context(id, secret.expose())
    }

    /// How agents connect.
    pub(crate) fn agent_context(&self) -> Context {
        let (id, secret) = self.state.agents();
        self.context(id, secret.expose())
    }

    /// Finishes what is in hand and stops.
    pub(crate) async fn stop(self) -> Result<()> {
        self.tasks
            .drain(GRACE + Duration::from_secs(5))
            .await
            .context("not everything ended")
    }

    fn context(&self, id: &str, secret: &str) -> Context {
        Context {
            version: 1,
            server: self.url.clone(),
            issuer: self.url.clone(),
            certificate_authority: self.authority.clone(),
            client_id: id.to_owned(),
            client_secret: secret.to_owned(),
        }
    }
}

/// The clients of the token issuer that belong to a tenant, for whoever manages it to see.
fn credentials(state: &State) -> Result<Vec<Credential>> {
    let mut credentials = Vec::new();
    for client in state.clients()? {
        let Some(tenant) = &client.tenant else {
            continue;
        };
        let agents = client.agents.iter().map(AgentName::new);
        credentials.push(Credential {
            client_id: client.id.clone(),
            tenant: tenant.parse()?,
            scopes: client.scopes.iter().cloned().collect(),
            roles: client.roles.clone(),
            agents: agents.collect::<Result<_, _>>()?,
        });
    }
    Ok(credentials)
}

async fn open(state: &State, name: &str) -> Result<SharedStore> {
    let store = SqliteStore::open(state.path(name), Arc::new(SystemClock)).await?;
    Ok(Arc::new(SealedStore::new(store, state.master_keys()?)))
}

/// One listener for all: sessions and tokens by their paths, everything else is the API's.
fn by_path(api: Router, issuer: Router, sessions: Router) -> Router {
    Router::new().fallback_service(tower::service_fn(move |request: Request| {
        let path = request.uri().path();
        let chosen = if path.starts_with("/aurora.agent.") {
            &sessions
        } else if path.starts_with("/oauth/") || path.starts_with("/.well-known/") {
            &issuer
        } else {
            &api
        };
        chosen.clone().oneshot(request)
    }))
}
