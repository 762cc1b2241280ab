//! The REST API over a control plane, and its typed client.
//!
//! Paths, media types and status codes of the older product are served as they are; what it lacked
//! stands beside them. Failed requests answer RFC 9457 problem bodies ([`ProblemBody`]). Numbers about
//! requests go to the recorder of the `metrics` crate that the process has installed.

mod acts;
mod answer;
mod applications;
mod approvals;
mod armory;
mod audit;
mod authenticate;
mod bodies;
pub mod client;
mod compat;
mod deprecated;
mod events;
mod fleet;
mod frames;
mod impact;
mod layers;
mod list;
mod metrics;
mod openapi;
mod pipelines;
mod plans;
mod problem;
mod rate;
mod reading;
mod request;
mod routes;
mod slots;
mod submit;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;
use std::sync::Arc;

use aurora_core::control::ControlPlane;
use aurora_core::error::ErrorKind;
use aurora_core::port::clock::Clock;
use aurora_core::port::http::HttpCaller;
use aurora_core::port::token::TokenVerifier;
use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use http::header::AUTHORIZATION;
use http::{Method, StatusCode};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower::timeout::TimeoutLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;

pub use armory::{DeploymentStep, Environment, PauseStep, PipelineStatus, Step};
pub use bodies::{
    ApplicationAnswer, ApplicationsAnswer, ApprovalsAnswer, AuditAnswer, DiffAnswer, HistoryAnswer,
    ImpactAnswer, ObjectAnswer, PlanAnswer,
};
pub use compat::{
    Credential, DeployedObject, DeploymentStatus, KubernetesStatus, Me, MeTenant, Role, StrategyStatus,
    StrategyStep, TenantEntry,
};
pub use frames::{
    Beat, Before, Bye, Hello, HistoryAppended, Match, PipelineChanged, Resync, StreamEvent, TimelineAppended,
};
pub use layers::REQUEST_ID;
pub use problem::{PROBLEM_JSON, ProblemBody};
pub use rate::RequestRate;
pub use request::IDEMPOTENCY_KEY;
pub use submit::FILE_NAME;
pub use wire::{
    AccountsAnswer, ActAnswer, ActRequest, AgentAnswer, AgentsAnswer, EvidenceAnswer, EvidenceItem,
    ListAnswer, Page, ReadAt, SubmitAnswer, TargetAnswer, TimelineAnswer, ViewAnswer,
};

use problem::Refusal;

/// Requests that are worked on at once: above it the API says so at once instead of slowly.
const DEFAULT_REQUESTS: usize = 512;
/// Submits that are read at once: each may take some ten times 16 MiB until it is stored.
const SUBMITS: usize = 8;
/// Submits that read from URLs at once: each holds its manifests while it waits for the next, and one more is
/// refused for now.
const FETCHES: usize = 8;
/// Plans that are read and compared at once: each may be tens of MiB.
const PLANS: usize = 4;

/// Serves a control plane over REST.
///
/// ```
/// # use std::sync::Arc;
/// # use aurora_core::control::ControlPlane;
/// # use aurora_core::port::clock::SystemClock;
/// # use aurora_core::port::renderer::InMemoryRenderer;
/// # use aurora_core::port::router::InMemoryRouter;
/// # use aurora_core::port::store::memory::InMemoryStore;
/// # use aurora_core::port::token::memory::InMemoryTokens;
/// use aurora_transport::rest::Api;
/// # let store = Arc::new(InMemoryStore::new(Arc::new(SystemClock)));
/// # let router = InMemoryRouter::new(SystemClock);
/// let plane = ControlPlane::new(store, router, InMemoryRenderer, SystemClock);
/// let api = Api::new(plane, InMemoryTokens::new(), SystemClock);
/// let service = api.router();
/// # let _ = service;
/// ```
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

struct Inner {
    plane: ControlPlane,
    verifier: Arc<dyn TokenVerifier>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    streams: slots::OpenStreams,
    stream_limits: slots::StreamLimits,
    requests: usize,
    rate: RequestRate,
    buckets: rate::Buckets,
    submits: Semaphore,
    fetches: Semaphore,
    plans: Semaphore,
    credentials: Option<Vec<Credential>>,
    http: Option<Arc<dyn HttpCaller>>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("plane", &self.inner.plane)
            .field("requests", &self.inner.requests)
            .finish_non_exhaustive()
    }
}

impl Api {
    /// An API over a control plane; who comes is known by `verifier`.
    pub fn new(plane: ControlPlane, verifier: impl TokenVerifier, clock: impl Clock) -> Self {
        Self {
            inner: Arc::new(Inner {
                plane,
                verifier: Arc::new(verifier),
                clock: Arc::new(clock),
                stop: CancellationToken::new(),
                streams: slots::OpenStreams::default(),
                stream_limits: slots::StreamLimits::default(),
                requests: DEFAULT_REQUESTS,
                rate: RequestRate::default(),
                buckets: rate::Buckets::default(),
                submits: Semaphore::new(SUBMITS),
                fetches: Semaphore::new(FETCHES),
                plans: Semaphore::new(PLANS),
                credentials: None,
                http: None,
            }),
        }
    }

    /// Ends event streams with a goodbye when the token is cancelled; by default they end with the server.
    #[must_use]
    pub fn with_stop(self, stop: CancellationToken) -> Self {
        self.changed(|inner| inner.stop = stop)
    }

    /// How many requests are worked on at once; 512, far more than a store with one writer keeps busy.
    #[must_use]
    pub fn with_requests(self, requests: usize) -> Self {
        self.changed(|inner| inner.requests = requests.max(1))
    }

    /// How often one principal may ask; 100 times a second, 500 at once.
    #[must_use]
    pub fn with_rate(self, rate: RequestRate) -> Self {
        self.changed(|inner| inner.rate = rate)
    }

    /// How many event streams may be open, of one principal and of all; 16 and 2048.
    #[must_use]
    pub fn with_streams(self, of_one: usize, all: usize) -> Self {
        self.changed(|inner| inner.stream_limits = slots::StreamLimits { of_one, all })
    }

    /// The document that describes the API, as it is served at `/openapi.json`.
    pub fn openapi() -> String {
        openapi::text()
    }

    /// Reads manifests by URL and deploy files by link through this caller, within its rules; by default none
    /// are read.
    #[must_use]
    pub fn with_http(self, http: impl HttpCaller) -> Self {
        self.changed(|inner| inner.http = Some(Arc::new(http)))
    }

    /// Lists these credentials to whoever manages their tenant; by default it says that it knows of none.
    #[must_use]
    pub fn with_credentials(self, credentials: Vec<Credential>) -> Self {
        self.changed(|inner| inner.credentials = Some(credentials))
    }

    /// The method and the path of every route there is.
    pub fn paths() -> Vec<(Method, &'static str)> {
        let routes = routes::routes().into_iter();
        routes.map(|route| (route.method, route.path)).collect()
    }

    /// The routes and everything around them, as a tower service.
    pub fn router(&self) -> Router {
        let mut router = Router::new();
        for route in routes::routes() {
            let handler = match deprecated::successor(route.path) {
                None => route.handler,
                Some(successor) => route.handler.layer(map_response(move |response| async move {
                    deprecated::say(response, successor)
                })),
            };
            router = router.route(route.path, handler);
        }
        let unknown = || async { Refusal::new(ErrorKind::NotFound, "notFound", "there is no such path") };
        let other_method = || async {
            let detail = "this path is there, with another method";
            Refusal::with_status(StatusCode::METHOD_NOT_ALLOWED, "method.unknown", detail)
        };
        let stack = ServiceBuilder::new()
            // Outermost, so that even a refused or panicked request has an id and is counted.
            .layer(from_fn(layers::observe))
            // What is refused further in by the framework's own words gets ours.
            .layer(from_fn(layers::only_problems))
            // A panic is one request's failure, not a broken connection.
            .layer(CatchPanicLayer::custom(layers::panicked))
            // Tokens must not show in any debug output of a request further in.
            .layer(SetSensitiveRequestHeadersLayer::new([AUTHORIZATION]))
            // Turns what the three limits below say into answers.
            .layer(HandleErrorLayer::new(layers::overloaded))
            // Above the limit requests are refused, not queued: clients know how to come back.
            .layer(LoadShedLayer::new())
            // One limit for all routes: the memory that bodies take is shared.
            .layer(GlobalConcurrencyLimitLayer::new(self.inner.requests))
            // A client that sends its body one byte a second does not keep a place.
            .layer(TimeoutLayer::new(layers::REQUEST_TIMEOUT))
            // Innermost: whoever is refused by a limit costs no signature check.
            .layer(from_fn_with_state(self.clone(), authenticate::authenticate));
        router
            .fallback(unknown)
            .method_not_allowed_fallback(other_method)
            .layer(stack)
            .with_state(self.clone())
    }

    fn changed(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = match Arc::try_unwrap(self.inner) {
            Ok(inner) => inner,
            Err(shared) => Inner {
                plane: shared.plane.clone(),
                verifier: Arc::clone(&shared.verifier),
                clock: Arc::clone(&shared.clock),
                stop: shared.stop.clone(),
                streams: Arc::clone(&shared.streams),
                stream_limits: shared.stream_limits,
                requests: shared.requests,
                rate: shared.rate,
                buckets: rate::Buckets::default(),
                submits: Semaphore::new(SUBMITS),
                fetches: Semaphore::new(FETCHES),
                plans: Semaphore::new(PLANS),
                credentials: shared.credentials.clone(),
                http: shared.http.clone(),
            },
        };
        change(&mut inner);
        Self {
            inner: Arc::new(inner),
        }
    }
}
