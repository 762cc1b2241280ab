//! The issuer's HTTP surface: metadata, keys and the token endpoint.

use std::net::SocketAddr;
use std::sync::Arc;

use aurora_core::digest::Digest;
use aurora_core::error::ErrorChain;
use aurora_core::port::clock::Clock;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::client::known_scopes;
use super::endpoint::{TokenEndpoint, TokenRefusal, TokenRequest};
use super::signing_keys::SigningKeys;

/// The largest token request that is read.
const MAX_REQUEST: usize = 16 * 1024;

/// How long verifiers may use the keys without asking again, in seconds.
pub(super) const KEYS_MAX_AGE: u32 = 300;

/// How long clients may use the metadata without asking again, in seconds.
const METADATA_MAX_AGE: u32 = 3600;

/// What the routes share.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    pub(super) endpoint: Arc<TokenEndpoint>,
    pub(super) keys: Arc<SigningKeys>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metadata: Arc<str>,
}

impl Routes {
    pub(super) fn into_router(self) -> Router {
        Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/.well-known/oauth-authorization-server", get(metadata))
            .route("/oauth/jwks", get(keys))
            .route("/oauth/token", post(token))
            .with_state(self)
    }
}

/// What the issuer offers: only what it does, so there is no authorization endpoint and no ID token.
pub(super) fn metadata_document(issuer: &str) -> String {
    json!({
        "grant_types_supported": ["client_credentials"],
        "id_token_signing_alg_values_supported": [],
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/oauth/jwks"),
        "response_types_supported": [],
        "scopes_supported": known_scopes(),
        "subject_types_supported": ["public"],
        "token_endpoint": format!("{issuer}/oauth/token"),
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    })
    .to_string()
}

async fn metadata(State(routes): State<Routes>, headers: HeaderMap) -> Response {
    public_json(&headers, routes.metadata.to_string(), METADATA_MAX_AGE)
}

async fn keys(State(routes): State<Routes>, headers: HeaderMap) -> Response {
    match routes.keys.at(routes.clock.now()).await {
        Ok(ring) => public_json(&headers, ring.published().to_string(), KEYS_MAX_AGE),
        Err(error) => {
            tracing::error!(error = %ErrorChain(&error), "no keys to publish");
            refused(TokenRefusal::ServerError)
        }
    }
}

async fn token(State(routes): State<Routes>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_REQUEST).await else {
        return refused(TokenRefusal::InvalidRequest("the body is larger than 16 KiB"));
    };
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let authorization = values.next().map(|value| value.to_str().unwrap_or_default());
    if values.next().is_some() {
        return refused(TokenRefusal::InvalidRequest(
            "a client presents itself in one way only",
        ));
    }
    let asked = TokenRequest {
        query: parts.uri.query(),
        media_type: parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok()),
        authorization,
        body: &body,
        address: parts
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map(|ConnectInfo(address)| address.ip()),
    };
    match routes.endpoint.answer(asked, routes.clock.now()).await {
        Ok(issued) => private_json(
            StatusCode::OK,
            &json!({
                "access_token": issued.access_token,
                "expires_in": issued.expires_in.as_secs(),
                "scope": issued.scope,
                "token_type": "Bearer",
            }),
        ),
        Err(refusal) => refused(refusal),
    }
}

fn refused(refusal: TokenRefusal) -> Response {
    let (status, error, description) = match refusal {
        TokenRefusal::InvalidClient => (
            StatusCode::UNAUTHORIZED,
            "invalid_client",
            "the client is not recognised",
        ),
        TokenRefusal::MissingClient => (
            StatusCode::UNAUTHORIZED,
            "invalid_client",
            "present a client id and secret with HTTP Basic or in the body",
        ),
        TokenRefusal::InvalidRequest(what) => (StatusCode::BAD_REQUEST, "invalid_request", what),
        TokenRefusal::InvalidScope(what) => (StatusCode::BAD_REQUEST, "invalid_scope", what),
        TokenRefusal::InvalidTarget => (
            StatusCode::BAD_REQUEST,
            "invalid_target",
            "the client has another audience or tenant",
        ),
        TokenRefusal::UnsupportedGrantType => (
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            "the only grant is client_credentials",
        ),
        TokenRefusal::TooManyAttempts(_) => (
            StatusCode::TOO_MANY_REQUESTS,
            "invalid_client",
            "too many failed attempts; try again later",
        ),
        TokenRefusal::ServerError => (
            StatusCode::SERVICE_UNAVAILABLE,
            "server_error",
            "no token can be issued now; try again later",
        ),
    };
    let mut response = private_json(
        status,
        &json!({ "error": error, "error_description": description }),
    );
    match refusal {
        TokenRefusal::InvalidClient | TokenRefusal::MissingClient => {
            let challenge = HeaderValue::from_static("Basic realm=\"aurora\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        TokenRefusal::TooManyAttempts(wait) => {
            let seconds = HeaderValue::from(wait.as_secs() + 1);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        _ => {}
    }
    response
}

fn public_json(asked: &HeaderMap, body: String, max_age: u32) -> Response {
    let tag = format!("\"{}\"", Digest::of(body.as_bytes()).short(32));
    let known = asked
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|tags| {
            tags.split(',')
                .any(|known| known.trim() == tag || known.trim() == "*")
        });
    let (status, body) = if known {
        (StatusCode::NOT_MODIFIED, String::new())
    } else {
        (StatusCode::OK, body)
    };
    answer(
        status,
        body,
        &[
            (header::CACHE_CONTROL, format!("public, max-age={max_age}")),
            (header::ETAG, tag),
        ],
    )
}

fn private_json(status: StatusCode, body: &serde_json::Value) -> Response {
    answer(
        status,
        body.to_string(),
        &[
            (header::CACHE_CONTROL, "no-store".to_owned()),
            (header::PRAGMA, "no-cache".to_owned()),
        ],
    )
}

fn answer(status: StatusCode, body: String, headers: &[(HeaderName, String)]) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let held = response.headers_mut();
    held.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    held.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            held.insert(name, value);
        }
    }
    response
}
