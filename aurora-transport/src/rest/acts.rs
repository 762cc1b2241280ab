//! Acts of people: approve, reject, skip, cancel, retry, roll back, redeploy.

use aurora_core::authz::{Deploy, Grant, ReadPipelines};
use aurora_core::control::{AsOf, ControlError, Decision, Door, Recorded, Redeploy, TargetAct};
use aurora_core::error::ErrorKind;
use aurora_core::id::PipelineId;
use aurora_core::pipeline::GateRef;
use aurora_core::principal::Principal;
use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use std::sync::Arc;

use super::Api;
use super::answer::json;
use super::authenticate::Granted;
use super::problem::Refusal;
use super::reading;
use super::request::{Params, body, door, media_type, pipeline_id};
use super::wire::{ActAnswer, ActRequest};

/// A comment has at most 2000 characters; names and tokens are short.
const MAX_BODY: usize = 64 * 1024;

/// Acts that are planned and not there yet.
const LATER: [&str; 6] = ["hold", "note", "override", "promote-full", "release", "withdraw"];

/// An act that there is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Act {
    Approve,
    Cancel,
    Redeploy,
    Reject,
    Retry,
    RollBack,
    Skip,
}

impl Act {
    /// Every act and its name in paths.
    const ALL: [(&'static str, Self); 7] = [
        ("approve", Self::Approve),
        ("cancel", Self::Cancel),
        ("redeploy", Self::Redeploy),
        ("reject", Self::Reject),
        ("retry", Self::Retry),
        ("rollback", Self::RollBack),
        ("skip", Self::Skip),
    ];

    fn named(text: &str) -> Result<Self, Refusal> {
        if let Some((_, act)) = Self::ALL.iter().find(|(name, _)| *name == text) {
            return Ok(*act);
        }
        let text: String = text.chars().take(64).collect();
        let names: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
        let detail = format!("there is no action `{text}`; there are {}", names.join(", "));
        Err(Refusal::new(ErrorKind::NotFound, "action.unknown", detail))
    }

    /// The members of the body that mean something to it, besides the comment.
    const fn takes(self) -> &'static [&'static str] {
        match self {
            Self::Approve | Self::Reject | Self::Skip => &["target", "gate", "expect"],
            Self::Cancel => &[],
            Self::Redeploy => &["targets", "context"],
            Self::Retry => &["target"],
            Self::RollBack => &["target", "toRun"],
        }
    }

    /// Refuses what would be ignored: who says more than the act takes means something else.
    fn check(self, name: &str, body: &ActRequest) -> Result<(), Refusal> {
        let given = [
            ("target", body.target.is_some()),
            ("gate", body.gate.is_some()),
            ("expect", body.expect.is_some()),
            ("toRun", body.to_run.is_some()),
            ("targets", body.targets.is_some()),
            ("context", !body.context.is_empty()),
        ];
        let takes = self.takes();
        match given
            .iter()
            .find(|(member, given)| *given && !takes.contains(member))
        {
            None => Ok(()),
            Some((member, _)) => {
                let known = if takes.is_empty() {
                    "only a comment".to_owned()
                } else {
                    format!("{} and a comment", takes.join(", "))
                };
                let detail = format!("the act {name} takes {known}, and no `{member}`");
                Err(Refusal::invalid("act.malformed", &format!("/{member}"), detail))
            }
        }
    }
}

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
    let act = Act::named(&action)?;
    let (parts, content) = request.into_parts();
    let door = door(&parts.headers)?;
    let body = read(&parts.headers, content).await?;
    act.check(&action, &body)?;
    let plane = &api.inner.plane;
    let done = match act {
        Act::Approve => {
            let decision = decision(&api, (&grant, &reader), &door, id, body, "approval").await?;
            plane.approve(&grant, &door, id, decision).await
        }
        Act::Reject => {
            let decision = decision(&api, (&grant, &reader), &door, id, body, "approval").await?;
            plane.reject(&grant, &door, id, decision).await
        }
        Act::Skip => {
            let decision = decision(&api, (&grant, &reader), &door, id, body, "timer").await?;
            plane.skip(&grant, &door, id, decision).await
        }
        Act::Cancel => plane.cancel(&grant, &door, id, body.comment).await,
        Act::Retry => plane.retry(&grant, &door, id, target_act(body)).await,
        Act::RollBack => plane.roll_back(&grant, &door, id, target_act(body)).await,
        Act::Redeploy => {
            let wanted = Redeploy {
                targets: body.targets.map(|targets| targets.into_iter().collect()),
                context: body.context,
                comment: body.comment,
            };
            let _place = reading::permit(&api.inner.submits).await?;
            plane.redeploy(&grant, &door, id, wanted).await
        }
    };
    match done {
        Ok(recorded) => Ok(answer(&api, &recorded)),
        Err(error) => Err(refused(&api, &reader, id, error).await),
    }
}

fn target_act(body: ActRequest) -> TargetAct {
    TargetAct {
        target: body.target,
        to: body.to_run,
        comment: body.comment,
    }
}

async fn decision(
    api: &Api,
    (grant, reader): (&Grant<Deploy>, &Grant<ReadPipelines>),
    door: &Door,
    id: PipelineId,
    body: ActRequest,
    kind: &str,
) -> Result<Decision, Refusal> {
    let repeated = match &body.gate {
        None => api.inner.plane.gate_of_key(grant, door, id).await?,
        Some(_) => None,
    };
    let gate = match repeated {
        Some(gate) => gate,
        None => gate(api, reader, id, &body, kind).await?,
    };
    Ok(Decision {
        gate,
        expect: body.expect,
        comment: body.comment,
    })
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

/// The gate that is meant: the one that is named, or the only one that waits for such a thing.
async fn gate(
    api: &Api,
    reader: &Grant<ReadPipelines>,
    id: PipelineId,
    act: &ActRequest,
    kind: &str,
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
    if let Some(target) = &act.target
        && !view.targets.iter().any(|known| known.name == *target)
    {
        let known: Vec<&str> = view.targets.iter().map(|known| known.name.as_str()).collect();
        let target: String = target.chars().take(64).collect();
        let detail = format!(
            "pipeline {id} has no target `{target}`; it has {}",
            known.join(", ")
        );
        return Err(Refusal::new(ErrorKind::NotFound, "target.unknown", detail).about(id));
    }
    let of_target = |target: &Option<String>| act.target.is_none() || *target == act.target;
    let standing: Vec<&String> = view
        .waiting
        .iter()
        .filter(|wait| wait.kind == kind && of_target(&wait.subject.target))
        .filter_map(|wait| wait.subject.gate.as_ref())
        .collect();
    match standing.as_slice() {
        [only] => only
            .parse()
            .map_err(|error| Refusal::broken(ErrorKind::Internal, &NotAGate(error))),
        [] => {
            let place = match &act.target {
                Some(target) => format!("target `{target}`"),
                None => "this pipeline".to_owned(),
            };
            let what = if kind == "timer" { "a timer" } else { "a person" };
            let detail = match view.waiting.iter().find(|wait| of_target(&wait.subject.target)) {
                Some(wait) => format!("{place} does not wait for {what} now: {}", wait.reason.text),
                None => format!("{place} does not wait for {what} now"),
            };
            let refusal = Refusal::new(ErrorKind::Conflict, "gate.notStanding", detail);
            Err(refusal.showing(view))
        }
        several => {
            let gates: Vec<&str> = several.iter().map(|gate| gate.as_str()).collect();
            let detail = format!(
                "several gates stand there; name one of them in `gate`: {}",
                gates.join(", ")
            );
            Err(Refusal::invalid("gate.ambiguous", "/gate", detail))
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a view names a gate that is none")]
struct NotAGate(#[source] aurora_core::pipeline::InvalidGate);

pub(super) fn answer(api: &Api, recorded: &Recorded) -> Response {
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
    let mut response = json(StatusCode::ACCEPTED, &answer);
    // Of an act on a run that is over, that is a new one.
    if let Ok(location) = HeaderValue::try_from(format!("/pipelines/{}", recorded.pipeline)) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
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
