//! What an act would do, before it is done.

use aurora_core::authz::ReadPipelines;
use aurora_core::control::{Document, Intent};
use aurora_core::error::ErrorKind;
use aurora_core::pipeline::{GateRef, InvalidGate};
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;

use super::Api;
use super::answer::json;
use super::authenticate::Granted;
use super::bodies::ImpactAnswer;
use super::problem::Refusal;
use super::request::{Params, bad_parameter, pipeline_id};

/// Acts that have an impact.
const ACTS: [&str; 7] = [
    "approve", "cancel", "redeploy", "reject", "retry", "rollback", "skip",
];

/// `GET /pipelines/{id}/actions/{action}/impact`
pub(super) async fn impact(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    Path((id, action)): Path<(String, String)>,
    mut params: Params,
) -> Result<Response, Refusal> {
    let gate = params.one("gate")?;
    let gate: Option<GateRef> = gate
        .map(|gate| gate.parse())
        .transpose()
        .map_err(|error: InvalidGate| bad_parameter("gate", &format!("is none: {error}")))?;
    if !ACTS.contains(&action.as_str()) {
        let detail = format!("there is no such act; there are {}", ACTS.join(", "));
        return Err(Refusal::new(ErrorKind::NotFound, "action.unknown", detail));
    }
    let intent = Intent {
        action,
        gate,
        target: params.one("target")?,
        to: params.parsed("to", "the id of a pipeline")?,
    };
    params.finish()?;
    let id = pipeline_id(&id)?;
    let Document { as_of, body } = api.inner.plane.impact(&grant, id, &intent).await?;
    let answer = ImpactAnswer {
        now: api.inner.clock.now(),
        as_of,
        impact: body,
    };
    Ok(json(StatusCode::OK, &answer))
}
