//! Access tokens in the metadata of outgoing requests.

use aurora_core::secret::Secret;
use tonic::{Request, Status};

/// A request that carries a token.
pub(super) fn with_token<T>(message: T, token: &Secret) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    let mut value: tonic::metadata::MetadataValue<_> = format!("Bearer {}", token.expose())
        .parse()
        .map_err(|_| Status::unauthenticated("the token has characters that no header may have"))?;
    value.set_sensitive(true);
    request.metadata_mut().insert("authorization", value);
    Ok(request)
}
