//! What runs where.

use aurora_core::authz::ReadPipelines;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;

use super::Api;
use super::answer::json;
use super::authenticate::Granted;
use super::bodies::{ApplicationAnswer, ApplicationsAnswer};
use super::problem::Refusal;
use super::request::Params;
use super::wire::Page;

/// The most applications of a page.
pub(super) const MAX_ROWS: usize = 200;

/// `GET /applications`
pub(super) async fn applications(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    mut params: Params,
) -> Result<Response, Refusal> {
    let limit = params.within("limit", 1, MAX_ROWS)?;
    let cursor = params.one("cursor")?;
    params.finish()?;
    let page = api
        .inner
        .plane
        .applications(&grant, limit, cursor.as_deref())
        .await?;
    let answer = ApplicationsAnswer {
        now: api.inner.clock.now(),
        as_of: page.as_of,
        applications: page.applications,
        page: Page {
            next: page.next,
            prev: page.prev,
        },
    };
    Ok(json(StatusCode::OK, &answer))
}

/// `GET /applications/{application}`
pub(super) async fn application(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, Refusal> {
    params.finish()?;
    let (as_of, application) = api.inner.plane.application(&grant, &name).await?;
    let answer = ApplicationAnswer {
        now: api.inner.clock.now(),
        as_of,
        application,
    };
    Ok(json(StatusCode::OK, &answer))
}
