//! A typed client of the REST API.

mod error;
mod stream;
mod submit;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aurora_core::control::{Cursor, Document, Facet, PipelineQuery};
use aurora_core::id::PipelineId;
use aurora_core::pipeline::PipelineView;
use aurora_core::port::clock::Clock;
use aurora_core::port::token::TokenSource;
use aurora_core::principal::ClientProduct;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Certificate, Method, RequestBuilder, Response, Url, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::ClientError;
pub use stream::Events;
pub use submit::{LinkAnswer, LinkRequest, SubmitRequest};

use super::armory::PipelineStatus;
use super::bodies::HistoryAnswer;
use super::compat::Me;
use super::request::IDEMPOTENCY_KEY;
use super::wire::{
    AccountsAnswer, ActAnswer, ActRequest, AgentAnswer, AgentsAnswer, EvidenceAnswer, ListAnswer,
    SubmitAnswer, TargetAnswer, TimelineAnswer,
};

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take: a little more than the API itself allows.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
/// The largest answer that is read.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Where an API is and who talks to it.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Its origin, perhaps with a path: `https://aurora.example`. Plain `http` only on this machine.
    pub server: String,
    /// Certificate authorities as PEM; absent: the machine's own.
    pub authorities: Option<Bytes>,
    /// The program that talks, as its requests say.
    pub product: ClientProduct,
}

/// Talks to the REST API; clones share connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    tokens: Arc<dyn TokenSource>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client that gets its tokens from a source.
    ///
    /// # Errors
    /// [`ClientError`]; `Invalid` when the origin or the authorities are none.
    pub fn try_new(
        config: ClientConfig,
        tokens: Arc<dyn TokenSource>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        let base = base(&config.server)?;
        let ClientProduct { product, version } = &config.product;
        let mut builder = reqwest::Client::builder()
            .user_agent(format!("{product}/{version}"))
            // A redirect would carry the token to somewhere else.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT);
        if let Some(pem) = &config.authorities {
            let authorities = Certificate::from_pem_bundle(pem).map_err(|error| ClientError::Invalid {
                problem: format!("the certificate authorities cannot be read: {error}"),
            })?;
            builder = builder.tls_certs_only(authorities);
        }
        let http = builder.build().map_err(|error| ClientError::Invalid {
            problem: format!("TLS cannot be set up: {error}"),
        })?;
        Ok(Self {
            http,
            base,
            tokens,
            clock,
        })
    }

    /// Submits a deploy file.
    ///
    /// # Errors
    /// [`ClientError`].
    ///
    /// # Cancel safety
    /// The pipeline may or may not be there; the same request again, with its key, finds out.
    pub async fn submit(&self, submit: &SubmitRequest) -> Result<SubmitAnswer, ClientError> {
        let (media_type, body) = submit.body()?;
        let request = self
            .request(Method::POST, &["pipelines", "kubernetes"])
            .await?
            .header(CONTENT_TYPE, media_type)
            .header(super::FILE_NAME.as_str(), submit.header_name())
            .header(IDEMPOTENCY_KEY, submit.key.as_str())
            .body(body);
        answer(request).await
    }

    /// Submits a deploy file that lies at a URL.
    ///
    /// # Errors
    /// [`ClientError`].
    ///
    /// # Cancel safety
    /// As for [`Client::submit`].
    pub async fn submit_link(&self, link: &LinkRequest) -> Result<LinkAnswer, ClientError> {
        let request = self
            .request(Method::POST, &["pipelines", "kubernetes"])
            .await?
            .header(CONTENT_TYPE, super::submit::START_BY_LINK)
            .header(super::compat::CONFIG_LOCATION.as_str(), link.url.as_str())
            .header(IDEMPOTENCY_KEY, link.key.as_str())
            .body(link.body().to_string());
        answer(request).await
    }

    /// The status in the words of the older product.
    ///
    /// # Errors
    /// [`ClientError`].
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind; so for every reading method here.
    pub async fn status(&self, id: PipelineId) -> Result<PipelineStatus, ClientError> {
        self.get(&["pipelines", &id.to_string()]).await
    }

    /// Everything about a pipeline.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn view(&self, id: PipelineId) -> Result<Document<PipelineView>, ClientError> {
        self.get(&["pipelines", &id.to_string(), "view"]).await
    }

    /// One target of a pipeline.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn target(&self, id: PipelineId, target: &str) -> Result<TargetAnswer, ClientError> {
        self.get(&["pipelines", &id.to_string(), "targets", target, "view"])
            .await
    }

    /// How the weights and pods of a target's workloads moved.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn history(&self, id: PipelineId, target: &str) -> Result<HistoryAnswer, ClientError> {
        self.get(&["pipelines", &id.to_string(), "targets", target, "history"])
            .await
    }

    /// A page of pipelines.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list(&self, query: &PipelineQuery) -> Result<ListAnswer, ClientError> {
        self.find(&["pipelines"], &parameters(query)).await
    }

    /// Lines of a pipeline's timeline after a version.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn timeline(&self, id: PipelineId, after: u64) -> Result<TimelineAnswer, ClientError> {
        let path = ["pipelines", &id.to_string(), "timeline"];
        self.find(&path, &[("after", after.to_string())]).await
    }

    /// What was captured of a pipeline's failures.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn evidence(&self, id: PipelineId) -> Result<EvidenceAnswer, ClientError> {
        self.get(&["pipelines", &id.to_string(), "evidence"]).await
    }

    /// Opens a gate.
    ///
    /// # Errors
    /// [`ClientError`]; a conflict's body has the pipeline as it is now.
    ///
    /// # Cancel safety
    /// The decision may or may not be recorded; so for every other act.
    pub async fn approve(&self, id: PipelineId, act: &ActRequest) -> Result<ActAnswer, ClientError> {
        self.act(id, "approve", act).await
    }

    /// Refuses a gate.
    ///
    /// # Errors
    /// [`ClientError`]; a conflict's body has the pipeline as it is now.
    pub async fn reject(&self, id: PipelineId, act: &ActRequest) -> Result<ActAnswer, ClientError> {
        self.act(id, "reject", act).await
    }

    /// Ends a pipeline.
    ///
    /// # Errors
    /// [`ClientError`]; a conflict's body has the pipeline as it is now.
    pub async fn cancel(&self, id: PipelineId, comment: Option<String>) -> Result<ActAnswer, ClientError> {
        let act = ActRequest {
            comment,
            ..ActRequest::default()
        };
        self.act(id, "cancel", &act).await
    }

    /// Opens a timed gate before its time.
    ///
    /// # Errors
    /// [`ClientError`]; a conflict's body has the pipeline as it is now.
    pub async fn skip(&self, id: PipelineId, act: &ActRequest) -> Result<ActAnswer, ClientError> {
        self.act(id, "skip", act).await
    }

    /// Deploys once more what did not succeed; of a run that is over, a new run comes of it.
    ///
    /// # Errors
    /// [`ClientError`]; a conflict's body has the pipeline as it is now.
    pub async fn retry(&self, id: PipelineId, act: &ActRequest) -> Result<ActAnswer, ClientError> {
        self.act(id, "retry", act).await
    }

    /// Takes a target back to an earlier version; of a run that is over, a new run comes of it.
    ///
    /// # Errors
    /// [`ClientError`]; a conflict's body has the pipeline as it is now.
    pub async fn roll_back(&self, id: PipelineId, act: &ActRequest) -> Result<ActAnswer, ClientError> {
        self.act(id, "rollback", act).await
    }

    /// Deploys the deploy file of an earlier run again: a new run.
    ///
    /// # Errors
    /// [`ClientError`]; a conflict's body has the pipeline as it is now.
    pub async fn redeploy(&self, id: PipelineId, act: &ActRequest) -> Result<ActAnswer, ClientError> {
        self.act(id, "redeploy", act).await
    }

    /// What a pipeline was started with, as it came; it holds the values of Secrets.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn config(&self, id: PipelineId) -> Result<Vec<u8>, ClientError> {
        let request = self
            .request(Method::GET, &["pipelines", &id.to_string(), "config"])
            .await?;
        read(checked(request.send().await).await?).await
    }

    /// Follows one pipeline until it is over, across breaks of the connection.
    ///
    /// Nothing is missed or told twice after `from`, which a document's `as_of` has; without it the stream
    /// begins now.
    pub fn watch(&self, id: PipelineId, from: Option<Cursor>) -> Events {
        let path = ["pipelines".to_owned(), id.to_string(), "events".to_owned()];
        Events::begin(self.clone(), path.into(), from)
    }

    /// Follows all pipelines of the tenant, across breaks of the connection.
    pub fn watch_all(&self, from: Option<Cursor>) -> Events {
        Events::begin(self.clone(), vec!["events".to_owned()], from)
    }

    /// Who the token stands for, and what it opens.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn me(&self) -> Result<Me, ClientError> {
        self.get(&["me"]).await
    }

    /// The agents of the tenant.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn agents(&self) -> Result<AgentsAnswer, ClientError> {
        self.get(&["agents"]).await
    }

    /// One agent.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn agent(&self, name: &str) -> Result<AgentAnswer, ClientError> {
        self.get(&["agents", name]).await
    }

    /// The accounts of the tenant.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn accounts(&self) -> Result<AccountsAnswer, ClientError> {
        self.get(&["accounts"]).await
    }

    async fn act(&self, id: PipelineId, action: &str, act: &ActRequest) -> Result<ActAnswer, ClientError> {
        let request = self
            .request(Method::POST, &["pipelines", &id.to_string(), "actions", action])
            .await?
            .header(IDEMPOTENCY_KEY, uuid::Uuid::new_v4().to_string());
        answer(json(request, act)).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ClientError> {
        self.find(path, &[]).await
    }

    async fn find<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, ClientError> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        answer(self.authorized(Method::GET, url).await?.timeout(ANSWER_TIMEOUT)).await
    }

    async fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, ClientError> {
        let request = self.authorized(method, self.url(path)).await?;
        Ok(request.timeout(ANSWER_TIMEOUT))
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        // Only URLs without a host have no segments, and those were refused.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    async fn authorized(&self, method: Method, url: Url) -> Result<RequestBuilder, ClientError> {
        let token = self.tokens.token(self.clock.now()).await?;
        let bearer = format!("Bearer {}", token.secret.expose());
        let mut bearer =
            reqwest::header::HeaderValue::try_from(bearer).map_err(|_| ClientError::Invalid {
                problem: "the token has characters that no token has".to_owned(),
            })?;
        bearer.set_sensitive(true);
        Ok(self.http.request(method, url).header(AUTHORIZATION, bearer))
    }
}

fn base(server: &str) -> Result<Url, ClientError> {
    let invalid = |why: &str| ClientError::Invalid {
        problem: format!("`{server}` is not where an API can be: {why}"),
    };
    let url = Url::parse(server).map_err(|error| invalid(&error.to_string()))?;
    let host = url.host_str().ok_or_else(|| invalid("it has no host"))?;
    let is_local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    match url.scheme() {
        "https" => {}
        "http" if is_local => {}
        "http" => return Err(invalid("a token would cross the network unencrypted; use https")),
        _ => return Err(invalid("it begins with https://")),
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err(invalid("it is an origin, perhaps with a path, and nothing more"));
    }
    Ok(url)
}

fn json(request: RequestBuilder, body: &impl Serialize) -> RequestBuilder {
    // Bodies of ours are made of texts and numbers.
    let body = serde_json::to_vec(body).unwrap_or_default();
    request.header(CONTENT_TYPE, "application/json").body(body)
}

async fn answer<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, ClientError> {
    let response = checked(request.send().await).await?;
    let body = read(response).await?;
    serde_json::from_slice(&body).map_err(|error| ClientError::Unreadable { source: error.into() })
}

/// A response that is a success, or what its problem body says.
async fn checked(response: Result<Response, reqwest::Error>) -> Result<Response, ClientError> {
    let response = response.map_err(ClientError::unreachable)?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status().as_u16();
    let body = read(response).await?;
    Err(ClientError::refused(status, &body))
}

async fn read(mut response: Response) -> Result<Vec<u8>, ClientError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(ClientError::unreachable)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(ClientError::Unreadable {
                source: format!("it has more than {MAX_ANSWER} bytes").into(),
            });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The parameters of a query, as the API reads them.
fn parameters(query: &PipelineQuery) -> Vec<(&'static str, String)> {
    let mut parameters = Vec::new();
    let texts = [
        ("application", &query.application),
        ("target", &query.target),
        ("account", &query.account),
        ("reason", &query.reason),
        ("actor", &query.actor),
        ("needs", &query.needs),
        ("q", &query.text),
        ("cursor", &query.page),
    ];
    for (name, value) in texts {
        parameters.extend(value.clone().map(|value| (name, value)));
    }
    parameters.extend(query.statuses.iter().map(|status| ("status", word(status))));
    parameters.extend(query.states.iter().map(|state| ("state", word(state))));
    parameters.extend(query.counts.iter().map(|facet: &Facet| ("counts", word(facet))));
    parameters.extend(query.since.map(|since| ("since", since.to_string())));
    parameters.extend(query.until.map(|until| ("until", until.to_string())));
    parameters.extend(query.limit.map(|limit| ("limit", limit.to_string())));
    parameters
}

/// A value of an enum as it is written in bodies.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
