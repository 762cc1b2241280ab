//! Looking at one pipeline: status, view, timeline, evidence.

use aurora_core::authz::ReadPipelines;
use aurora_core::control::{AsOf, Document};
use aurora_core::digest::Digest;
use aurora_core::error::ErrorKind;
use aurora_core::pipeline::{EvidenceView, PipelineView, TimelineEntry};
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;

use super::Api;
use super::answer::json;
use super::armory::PipelineStatus;
use super::authenticate::Granted;
use super::problem::Refusal;
use super::request::{Params, pipeline_id};
use super::wire::{EvidenceAnswer, EvidenceItem, TargetAnswer, TimelineAnswer, ViewAnswer};

/// Lines of a timeline where nothing is said.
const DEFAULT_LINES: usize = 100;
/// The most lines of one answer.
pub(super) const MAX_LINES: usize = 500;
/// Digits of the name of a piece of evidence: enough for one pipeline.
const EVIDENCE_DIGITS: usize = 16;

/// `GET /pipelines/{id}`
pub(super) async fn status(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, Refusal> {
    params.finish()?;
    let view = api.inner.plane.view(&grant, pipeline_id(&id)?).await?.body;
    Ok(json(StatusCode::OK, &PipelineStatus::of(view)))
}

/// `GET /pipelines/{id}/view`
pub(super) async fn view(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, Refusal> {
    params.finish()?;
    let Document { as_of, body } = api.inner.plane.view(&grant, pipeline_id(&id)?).await?;
    Ok(json(StatusCode::OK, &ViewAnswer { as_of, view: body }))
}

/// `GET /pipelines/{id}/targets/{target}/view`
pub(super) async fn target_view(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    Path((id, name)): Path<(String, String)>,
    params: Params,
) -> Result<Response, Refusal> {
    params.finish()?;
    let Document { as_of, body } = api.inner.plane.view(&grant, pipeline_id(&id)?).await?;
    let PipelineView {
        id,
        now,
        version,
        targets,
        ..
    } = body;
    let target = targets.into_iter().find(|target| target.name == name);
    let target = target.ok_or_else(|| {
        let name: String = name.chars().take(64).collect();
        let detail = format!("pipeline {id} has no target `{name}`");
        Refusal::new(ErrorKind::NotFound, "notFound", detail)
    })?;
    let answer = TargetAnswer {
        now,
        as_of,
        version,
        target,
    };
    Ok(json(StatusCode::OK, &answer))
}

/// `GET /pipelines/{id}/timeline`
pub(super) async fn timeline(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Response, Refusal> {
    let id = pipeline_id(&id)?;
    let mut after = params.version("after")?.unwrap_or(0);
    let before = params.version("before")?;
    let limit = params.within("limit", 1, MAX_LINES)?.unwrap_or(DEFAULT_LINES);
    let filter = LineFilter {
        target: params.one("target")?,
        kinds: params.many("kind")?,
        actor: params.one("actor")?,
    };
    params.finish()?;
    let plane = &api.inner.plane;
    // The cursor first: what is written meanwhile is told again by the stream, and never missed.
    let cursor = plane.feed_head(&grant).await?;
    let mut entries = Vec::new();
    let next = loop {
        let page = plane.timeline(&grant, id, after, MAX_LINES).await?;
        let Some(last) = page.entries.last().map(|entry| entry.version) else {
            break None;
        };
        let over = before.is_some_and(|before| last >= before);
        let mut matching = page
            .entries
            .into_iter()
            .filter(|entry| before.is_none_or(|before| entry.version < before))
            .filter(|entry| filter.lets_through(entry));
        while entries.len() < limit
            && let Some(entry) = matching.next()
        {
            entries.push(entry);
        }
        if let Some(left) = matching.next() {
            break Some(left.version - 1);
        }
        after = last;
        if !page.more || over {
            break None;
        }
    };
    let now = api.inner.clock.now();
    let answer = TimelineAnswer {
        now,
        as_of: AsOf { cursor, at: now },
        entries,
        next,
    };
    Ok(json(StatusCode::OK, &answer))
}

struct LineFilter {
    target: Option<String>,
    kinds: Vec<String>,
    actor: Option<String>,
}

impl LineFilter {
    fn lets_through(&self, entry: &TimelineEntry) -> bool {
        let actor_is = |wanted: &String| {
            let actor = entry.actor.as_ref();
            actor.is_some_and(|actor| actor.id == *wanted || actor.display == *wanted)
        };
        (self.target.is_none() || entry.subject.target == self.target)
            && (self.kinds.is_empty() || self.kinds.contains(&entry.kind))
            && self.actor.as_ref().is_none_or(actor_is)
    }
}

/// `GET /pipelines/{id}/evidence`
pub(super) async fn evidence(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, Refusal> {
    params.finish()?;
    let Document { as_of, body } = api.inner.plane.view(&grant, pipeline_id(&id)?).await?;
    let answer = EvidenceAnswer {
        now: body.now,
        as_of,
        evidence: body.evidence.into_iter().map(item).collect(),
    };
    Ok(json(StatusCode::OK, &answer))
}

/// `GET /pipelines/{id}/evidence/{evidence}`
pub(super) async fn one_evidence(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    Path((id, name)): Path<(String, String)>,
    params: Params,
) -> Result<Response, Refusal> {
    params.finish()?;
    let id = pipeline_id(&id)?;
    let Document { as_of, body } = api.inner.plane.view(&grant, id).await?;
    let found = body.evidence.into_iter().map(item).find(|item| item.id == name);
    let found = found.ok_or_else(|| {
        let name: String = name.chars().take(64).collect();
        let detail = format!("pipeline {id} has no evidence `{name}`");
        Refusal::new(ErrorKind::NotFound, "notFound", detail)
    })?;
    let answer = EvidenceAnswer {
        now: body.now,
        as_of,
        evidence: vec![found],
    };
    Ok(json(StatusCode::OK, &answer))
}

/// Named by its content: evidence is never changed, and its place in the list may be.
fn item(evidence: EvidenceView) -> EvidenceItem {
    let content = serde_json::to_value(&evidence).unwrap_or_default();
    EvidenceItem {
        id: Digest::of_json(&content).short(EVIDENCE_DIGITS),
        evidence,
    }
}
