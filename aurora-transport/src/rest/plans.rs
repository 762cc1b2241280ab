//! Rendered plans, what two of them differ in, and the history of a target.

use aurora_core::authz::ReadPipelines;
use aurora_core::control::{Document, PlanRef};
use aurora_core::digest::Digest;
use aurora_core::error::ErrorKind;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;

use super::Api;
use super::answer::json;
use super::authenticate::Granted;
use super::bodies::{DiffAnswer, HistoryAnswer, ObjectAnswer, PlanAnswer};
use super::problem::Refusal;
use super::reading;
use super::request::{Params, bad_parameter, pipeline_id};
use super::wire::ReadAt;

/// Points of a history where nothing is said.
const DEFAULT_POINTS: usize = 200;
/// The most points of a history.
pub(super) const MAX_POINTS: usize = 2000;

/// `GET /pipelines/{id}/targets/{target}/history`
pub(super) async fn history(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    Path((id, target)): Path<(String, String)>,
    mut params: Params,
) -> Result<Response, Refusal> {
    let points = params.within("points", 2, MAX_POINTS)?.unwrap_or(DEFAULT_POINTS);
    params.finish()?;
    let id = pipeline_id(&id)?;
    let Document { as_of, body } = api.inner.plane.history(&grant, id, &target, points).await?;
    let answer = HistoryAnswer {
        now: api.inner.clock.now(),
        as_of,
        history: body,
    };
    Ok(json(StatusCode::OK, &answer))
}

/// `GET /pipelines/{id}/targets/{target}/plan`
pub(super) async fn plan(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    Path((id, target)): Path<(String, String)>,
    params: Params,
) -> Result<Response, Refusal> {
    params.finish()?;
    let _place = reading::permit(&api.inner.plans).await?;
    let Document { as_of, body } = api.inner.plane.plan(&grant, pipeline_id(&id)?, &target).await?;
    let answer = PlanAnswer {
        now: api.inner.clock.now(),
        as_of,
        plan: body,
    };
    Ok(json(StatusCode::OK, &answer))
}

/// `GET /pipelines/{id}/targets/{target}/plan/objects/{digest}`
pub(super) async fn object(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    Path((id, target, digest)): Path<(String, String, String)>,
    params: Params,
) -> Result<Response, Refusal> {
    params.finish()?;
    let id = pipeline_id(&id)?;
    let digest: Digest = digest.parse().map_err(|_| {
        let detail = "there is no such object; take its digest from the plan";
        Refusal::new(ErrorKind::NotFound, "notFound", detail)
    })?;
    let _place = reading::permit(&api.inner.plans).await?;
    let document = api.inner.plane.plan_object(&grant, id, &target, digest).await?;
    let answer = ObjectAnswer {
        now: api.inner.clock.now(),
        as_of: document.as_of,
        text: document.body,
    };
    Ok(json(StatusCode::OK, &answer))
}

/// `GET /diff`
pub(super) async fn diff(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    mut params: Params,
) -> Result<Response, Refusal> {
    let from = side(&mut params, "from")?;
    let to = side(&mut params, "to")?;
    params.finish()?;
    let _place = reading::permit(&api.inner.plans).await?;
    let diff = api.inner.plane.diff(&grant, &from, &to).await?;
    let now = api.inner.clock.now();
    let answer = DiffAnswer {
        now,
        as_of: ReadAt { at: now },
        diff,
    };
    Ok(json(StatusCode::OK, &answer))
}

fn side(params: &mut Params, name: &'static str) -> Result<PlanRef, Refusal> {
    let text = params.one(name)?.unwrap_or_default();
    text.parse()
        .map_err(|error| bad_parameter(name, &format!("names no plan: {error}")))
}
