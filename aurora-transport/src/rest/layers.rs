//! What wraps every request: an id, a span, numbers, limits.

use std::any::Any;
use std::time::Duration;

use aurora_core::error::ErrorKind;
use axum::BoxError;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

use super::problem::{PROBLEM_JSON, Refusal};

/// The header that names a request, in answers always, in requests if the client wants.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that a client may give.
const MAX_REQUEST_ID: usize = 128;

/// Names the request, gives it a span, and counts its answer.
pub(super) async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let given = request
        .headers()
        .get(&REQUEST_ID)
        .filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.to_str().is_ok());
    let id = match given {
        Some(id) => id.clone(),
        // A UUID's text is visible ASCII.
        None => HeaderValue::try_from(Uuid::new_v4().to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("none")),
    };
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("unknown", MatchedPath::as_str)
        .to_owned();
    let span = tracing::info_span!(
        "request",
        request.id = id.to_str().unwrap_or_default(),
        http.method = %method,
        http.route = route,
        tenant = tracing::field::Empty,
    );
    let mut response = next.run(request).instrument(span.clone()).await;
    let took = started.elapsed();
    let status = response.status();
    span.in_scope(|| tracing::debug!(http.status = status.as_u16(), ?took, "request answered"));
    super::metrics::answered(&method, &route, status, took);
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Gives what the framework refuses by itself the body that every refusal has.
pub(super) async fn only_problems(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let known = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|media_type| media_type == PROBLEM_JSON);
    if known || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let mut refusal = Refusal::with_status(
        status,
        "request.malformed",
        "the request cannot be read: its path or its headers are not as they must be",
    )
    .into_response();
    // Such as the methods that a path has.
    for (name, value) in response.headers() {
        if !matches!(*name, CONTENT_TYPE | CONTENT_LENGTH) {
            refusal.headers_mut().insert(name, value.clone());
        }
    }
    refusal
}

/// What the limits of the stack answer.
pub(super) async fn overloaded(error: BoxError) -> Response {
    let refusal = if error.is::<tower::timeout::error::Elapsed>() {
        Refusal::new(
            ErrorKind::Deadline,
            "timeout",
            "the request took too long; try again",
        )
    } else {
        Refusal::new(
            ErrorKind::Unavailable,
            "overloaded",
            "too many requests are under way; try again soon",
        )
    };
    refusal.into_response()
}

/// What a handler that panicked answers.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned());
    Refusal::broken(ErrorKind::Internal, &Panicked(text)).into_response()
}

#[derive(Debug, thiserror::Error)]
#[error("a handler panicked: {0}")]
struct Panicked(String);

/// How long a request may take; event streams only until they begin.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
