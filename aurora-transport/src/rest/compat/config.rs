//! `GET /pipelines/{id}/config`: what was submitted, as it came.

use aurora_core::authz::Deploy;
use aurora_core::authz::ReadPipelines;
use aurora_core::principal::Principal;
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use std::sync::Arc;

use super::super::Api;
use super::super::authenticate::Granted;
use super::super::problem::Refusal;
use super::super::request::{Params, pipeline_id};

/// `GET /pipelines/{id}/config`
///
/// Whoever may deploy may read it: it holds the manifests of Secrets as they were submitted, and the
/// same rights would deploy them again.
pub(in super::super) async fn config(
    State(api): State<Api>,
    Granted(_): Granted<Deploy>,
    Extension(principal): Extension<Arc<Principal>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, Refusal> {
    params.finish()?;
    let reader = principal.authorize::<ReadPipelines>()?;
    let config = api.inner.plane.config(&reader, pipeline_id(&id)?).await?;
    let media_type = if config.body.trim_ascii_start().starts_with(b"{") {
        "application/json"
    } else {
        "application/yaml"
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((StatusCode::OK, headers, config.body).into_response())
}
