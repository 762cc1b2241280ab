//! Who an incoming request is from.

use std::sync::Arc;

use aurora_core::port::token::TokenVerifier;
use aurora_core::principal::Principal;
use aurora_core::secret::Secret;
use jiff::Timestamp;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::status::status;

/// The longest token that is looked at.
const MAX_TOKEN: usize = 16 * 1024;

/// Who a request is from.
pub(super) async fn authenticate(
    metadata: &MetadataMap,
    verifier: &dyn TokenVerifier,
    now: Timestamp,
) -> Result<Arc<Principal>, Status> {
    let token = token_of(metadata)
        .ok_or_else(|| Status::unauthenticated("send an access token: authorization: Bearer …"))?;
    verifier.verify(&token, now).await.map_err(|error| {
        tracing::info!(error = %aurora_core::error::ErrorChain(&error), ?error, "token refused");
        status(error.kind(), error.to_string())
    })
}

fn token_of(metadata: &MetadataMap) -> Option<Secret> {
    let value = metadata.get("authorization")?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let good = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= MAX_TOKEN;
    good.then(|| Secret::new(token.trim()))
}
