//! From a bearer token to a principal, and from a principal to a grant.

use std::collections::BTreeSet;
use std::sync::Arc;

use aurora_core::authz::{Grant, Permission};
use aurora_core::digest::Digest;
use aurora_core::error::ErrorKind;
use aurora_core::principal::{Principal, PrincipalKind};
use aurora_core::secret::Secret;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::problem::Refusal;
use super::{Api, openapi};

/// Digits of a key of visibility.
const VISIBILITY_DIGITS: usize = 16;
/// The longest token that is looked at.
const MAX_TOKEN: usize = 16 * 1024;

/// Puts the principal of the request's token into its extensions, or answers for the handlers.
///
/// It stands in front of every route, known or not, so that nobody learns what there is; only the document that
/// describes the API is open.
pub(super) async fn authenticate(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    if request.uri().path() == openapi::PATH {
        return next.run(request).await;
    }
    match principal(&api, request.headers()).await {
        Ok(principal) => {
            if let Err(refusal) = api.inner.buckets.take(api.inner.rate, &principal) {
                return refusal.into_response();
            }
            if let Some(tenant) = &principal.tenant {
                tracing::Span::current().record("tenant", tracing::field::display(tenant));
            }
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

async fn principal(api: &Api, headers: &HeaderMap) -> Result<Arc<Principal>, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Refusal::unauthenticated(false));
    };
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or_else(|| Refusal::unauthenticated(false))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refusal::unauthenticated(false));
    }
    let token = token.trim();
    if token.is_empty() || token.len() > MAX_TOKEN {
        return Err(Refusal::unauthenticated(true));
    }
    let now = api.inner.clock.now();
    let principal = match api.inner.verifier.verify(&Secret::new(token), now).await {
        Ok(principal) => principal,
        Err(error) if error.kind() == ErrorKind::Unauthenticated => {
            tracing::info!(%error, "token refused");
            return Err(Refusal::unauthenticated(true));
        }
        Err(error) => return Err(Refusal::broken(ErrorKind::Unavailable, &error)),
    };
    // A service acts for every tenant on the hub: here it would be nobody's.
    if principal.kind == PrincipalKind::Service {
        return Err(Refusal::new(
            ErrorKind::Denied,
            "service.refused",
            "a service's token opens nothing here; use a user's or a machine's",
        ));
    }
    Ok(principal)
}

/// The same for all who see the same: their tenant, and what they may do and decide in it.
pub(super) fn visibility(principal: &Principal) -> String {
    let roles: BTreeSet<String> = principal.roles.iter().map(|role| role.to_lowercase()).collect();
    let seen = serde_json::json!([
        principal.tenant.as_ref().map(ToString::to_string),
        principal.scopes,
        roles
    ]);
    Digest::of_json(&seen).short(VISIBILITY_DIGITS)
}

/// The grant that a handler needs: it runs only when there is one.
#[derive(Debug)]
pub(super) struct Granted<P: Permission>(pub(super) Grant<P>);

impl<P: Permission, S: Send + Sync> FromRequestParts<S> for Granted<P> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let principal = parts
            .extensions
            .get::<Arc<Principal>>()
            .ok_or_else(|| Refusal::unauthenticated(false))?;
        Ok(Self(principal.authorize::<P>()?))
    }
}
