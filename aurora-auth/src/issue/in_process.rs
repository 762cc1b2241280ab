//! The issuer reached without a network: its keys, and calls to its routes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aurora_core::error::BoxError;
use aurora_core::port::clock::Clock;
use aurora_core::port::http::{HttpAnswer, HttpCall, HttpCaller, HttpError};
use axum::Router;
use axum::body::{Body, to_bytes};
use http::{Request, Uri};
use tower::ServiceExt as _;

use super::router::KEYS_MAX_AGE;
use super::signing_keys::SigningKeys;
use crate::url::{checked, origin};
use crate::verify::{KeySource, KeysUnavailable, PublishedKeys};

/// The keys of an issuer in the same process.
#[derive(Clone, Debug)]
pub struct IssuerKeys {
    pub(super) issuer: String,
    pub(super) keys: Arc<SigningKeys>,
    pub(super) clock: Arc<dyn Clock>,
}

#[async_trait]
impl KeySource for IssuerKeys {
    async fn fetch(&self) -> Result<PublishedKeys, KeysUnavailable> {
        let ring = self
            .keys
            .at(self.clock.now())
            .await
            .map_err(|error| KeysUnavailable {
                origin: self.issuer.clone(),
                problem: "its store does not give them".into(),
                source: Some(error.into()),
            })?;
        Ok(PublishedKeys {
            document: ring.published().to_string().into(),
            max_age: Some(Duration::from_secs(KEYS_MAX_AGE.into())),
        })
    }
}

/// Makes calls to routes of the same process as if they were served at an origin; others are refused.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use aurora_auth::issue::InProcessHttp;
/// use aurora_core::port::http::{HttpCall, HttpCaller as _};
/// use axum::{Router, routing::get};
///
/// let http = InProcessHttp::new("https://up.example", Router::new().route("/a", get(|| async { "here" })))?;
/// let answer = http.call(HttpCall::fetch("https://up.example/a")).await.unwrap();
/// assert_eq!(answer.body, "here");
/// assert!(http.call(HttpCall::fetch("https://other.example/a")).await.is_err());
/// # Ok::<(), aurora_auth::verify::InvalidUrl>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct InProcessHttp {
    origin: Uri,
    router: Router,
}

impl InProcessHttp {
    /// Serves these routes at this origin.
    ///
    /// # Errors
    /// [`InvalidUrl`](crate::verify::InvalidUrl) when the origin is none.
    pub fn new(origin: &str, router: Router) -> Result<Self, crate::verify::InvalidUrl> {
        Ok(Self {
            origin: checked(origin)?,
            router,
        })
    }

    async fn answer(&self, call: HttpCall) -> Result<HttpAnswer, HttpError> {
        let invalid = |problem: &str| HttpError::Invalid {
            problem: problem.into(),
        };
        let uri: Uri = call
            .url
            .parse()
            .map_err(|_| invalid("the URL is not an absolute one"))?;
        if origin(&uri) != origin(&self.origin) {
            return Err(HttpError::Forbidden {
                destination: uri.host().unwrap_or("a place without a host").to_owned(),
            });
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder().method(call.method.as_str()).uri(path);
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Body::from(call.body))
            .map_err(|_| invalid("a method or header is not one"))?;
        // A router cannot fail: it answers.
        let response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, call.max_answer).await.map_err(|error| {
            let source: BoxError = error.into();
            tracing::debug!(%source, "answer not read");
            HttpError::TooLarge {
                limit: call.max_answer,
            }
        })?;
        Ok(HttpAnswer {
            status: parts.status.as_u16(),
            headers: parts
                .headers
                .iter()
                .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
                .collect(),
            body,
        })
    }
}

#[async_trait]
impl HttpCaller for InProcessHttp {
    async fn call(&self, call: HttpCall) -> Result<HttpAnswer, HttpError> {
        let timeout = call.timeout;
        tokio::time::timeout(timeout, self.answer(call))
            .await
            .unwrap_or(Err(HttpError::TimedOut { timeout }))
    }
}
