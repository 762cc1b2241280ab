//! Decisions of people: approve, reject, cancel.

use aurora_core::authz::{Deploy, Grant, ReadPipelines};
use aurora_core::control::{AsOf, ControlError, Decision, Recorded};
use aurora_core::error::ErrorKind;
use aurora_core::id::PipelineId;
use aurora_core::pipeline::GateRef;
use aurora_core::principal::Principal;
use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;
use std::sync::Arc;

use super::Api;
use super::answer::json;
use super::authenticate::Granted;
use super::problem::Refusal;
use super::request::{Params, body, door, media_type, pipeline_id};
use super::wire::{ActAnswer, ActRequest};

/// A comment has at most 2000 characters; names and tokens are short.
const MAX_BODY: usize = 64 * 1024;

/// Acts that are planned and not there yet.
const LATER: [&str; 9] = [
    "hold",
    "note",
    "override",
    "promote-full",
    "release",
    "retry",
    "rollback",
    "skip",
    "withdraw",
];

/// `POST /pipelines/{id}/actions/{action}`
pub(super) async fn act(
    State(api): State<Api>,
    Granted(grant): Granted<Deploy>,
    Extension(principal): Extension<Arc<Principal>>,
    Path((id, action)): Path<(String, String)>,
    params: Params,
    request: Request,
) -> Result<Response, Refusal> {
    params.finish()?;
    let id = pipeline_id(&id)?;
    let reader = principal.authorize::<ReadPipelines>()?;
    if LATER.contains(&action.as_str()) {
        // Only who may see the pipeline hears more than that it is not there.
        api.inner.plane.pipeline(&reader, id).await?;
        return Err(Refusal::not_yet(&format!("the action `{action}`")));
    }
    let (parts, content) = request.into_parts();
    let door = door(&parts.headers)?;
    let act = read(&parts.headers, content).await?;
    let plane = &api.inner.plane;
    let done = match action.as_str() {
        "approve" | "reject" => {
            let gate = gate(&api, &reader, id, &act).await?;
            let decision = Decision {
                gate,
                expect: act.expect,
                comment: act.comment,
            };
            if action == "approve" {
                plane.approve(&grant, &door, id, decision).await
            } else {
                plane.reject(&grant, &door, id, decision).await
            }
        }
        "cancel" => {
            cancels_all(&act)?;
            plane.cancel(&grant, &door, id, act.comment).await
        }
        other => {
            let other: String = other.chars().take(64).collect();
            let detail = format!("there is no action `{other}`; there are approve, reject and cancel");
            return Err(Refusal::new(ErrorKind::NotFound, "action.unknown", detail));
        }
    };
    match done {
        Ok(recorded) => Ok(answer(&api, &recorded)),
        Err(error) => Err(refused(&api, &reader, id, error).await),
    }
}

async fn read(headers: &http::HeaderMap, content: axum::body::Body) -> Result<ActRequest, Refusal> {
    let content = body(content, MAX_BODY).await?;
    if content.is_empty() {
        return Ok(ActRequest::default());
    }
    if media_type(headers) != "application/json" {
        return Err(Refusal::with_status(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "mediaType.unknown",
            "an act is application/json",
        ));
    }
    serde_json::from_slice(&content).map_err(|error| {
        let detail = format!("the act cannot be read: {error}");
        Refusal::invalid("act.malformed", "", detail)
    })
}

fn cancels_all(act: &ActRequest) -> Result<(), Refusal> {
    let given = [
        ("target", &act.target),
        ("gate", &act.gate),
        ("expect", &act.expect),
    ];
    match given.into_iter().find(|(_, value)| value.is_some()) {
        None => Ok(()),
        Some((name, _)) => Err(Refusal::invalid(
            "act.malformed",
            &format!("/{name}"),
            format!("cancel ends the whole pipeline and takes no `{name}`"),
        )),
    }
}

/// The gate that is meant: the one that is named, or the only one that waits for a person.
async fn gate(
    api: &Api,
    reader: &Grant<ReadPipelines>,
    id: PipelineId,
    act: &ActRequest,
) -> Result<GateRef, Refusal> {
    if let Some(text) = &act.gate {
        let gate: GateRef = text
            .parse()
            .map_err(|error: aurora_core::pipeline::InvalidGate| {
                Refusal::invalid("gate.malformed", "/gate", error.to_string())
            })?;
        if act.target.as_ref().is_some_and(|target| *target != gate.target) {
            let detail = format!("the gate `{gate}` is not one of the target that is named");
            return Err(Refusal::invalid("gate.malformed", "/target", detail));
        }
        return Ok(gate);
    }
    let view = api.inner.plane.view(reader, id).await?.body;
    let of_target = |target: &Option<String>| act.target.is_none() || *target == act.target;
    let standing: Vec<&String> = view
        .waiting
        .iter()
        .filter(|wait| wait.kind == "approval" && of_target(&wait.subject.target))
        .filter_map(|wait| wait.subject.gate.as_ref())
        .collect();
    match standing.as_slice() {
        [only] => only
            .parse()
            .map_err(|error| Refusal::broken(ErrorKind::Internal, &NotAGate(error))),
        [] => {
            let detail = "nothing here waits for a person; the view's `waiting` says what it waits for";
            let refusal = Refusal::new(ErrorKind::Conflict, "gate.notStanding", detail);
            Err(refusal.showing(view))
        }
        several => {
            let gates: Vec<&str> = several.iter().map(|gate| gate.as_str()).collect();
            let detail = format!(
                "several gates wait for a person; name one of them in `gate`: {}",
                gates.join(", ")
            );
            Err(Refusal::invalid("gate.ambiguous", "/gate", detail))
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a view names a gate that is none")]
struct NotAGate(#[source] aurora_core::pipeline::InvalidGate);

fn answer(api: &Api, recorded: &Recorded) -> Response {
    let now = api.inner.clock.now();
    let answer = ActAnswer {
        pipeline_id: recorded.pipeline,
        event_id: format!("{}:{}", recorded.pipeline, recorded.version),
        phase: "recorded".to_owned(),
        version: recorded.version,
        now,
        as_of: AsOf {
            cursor: recorded.cursor,
            at: now,
        },
    };
    json(StatusCode::ACCEPTED, &answer)
}

/// A conflict shows the pipeline as it is now.
async fn refused(api: &Api, reader: &Grant<ReadPipelines>, id: PipelineId, error: ControlError) -> Refusal {
    let refusal = Refusal::from(error);
    if refusal.status() != StatusCode::CONFLICT {
        return refusal;
    }
    match api.inner.plane.view(reader, id).await {
        Ok(view) => refusal.showing(view.body),
        // The conflict is the answer; the view would only have saved a request.
        Err(_) => refusal.about(id),
    }
}
