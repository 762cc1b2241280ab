//! Answers: JSON that no cache keeps.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    with_type(status, HeaderValue::from_static("application/json"), body)
}

/// A JSON answer of a more exact media type.
pub(super) fn with_type(status: StatusCode, media_type: HeaderValue, body: &impl Serialize) -> Response {
    // Every body is made of texts, numbers and maps with text keys.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let headers = [
        (CONTENT_TYPE, media_type),
        // What a tenant has may not lie about in somebody's cache.
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, body).into_response()
}
