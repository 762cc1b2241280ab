//! Building the view and the summary of a pipeline from its state.

use jiff::Timestamp;
use serde_json::Value;

use super::target::target_view;
use super::{ChangeRow, EvidenceView, PipelineView, StoppingView, Summary, TargetRow, steps};
use crate::pipeline::waiting::{ActionView, Viewer, cancel_action, run_actions, waiting};
use crate::pipeline::{Pipeline, StopReason};
use crate::strategy::Pause;

/// What one who looks sees of a pipeline now; the caller adds the last decisions from the timeline.
pub fn view(pipeline: &Pipeline, viewer: &Viewer, now: Timestamp) -> PipelineView {
    let state = pipeline.state();
    let waits = waiting(pipeline, viewer, now);
    let mut actions: Vec<ActionView> = waits
        .iter()
        .flat_map(|wait| wait.actions.iter())
        .filter(|action| action.gate.is_some())
        .cloned()
        .collect();
    if !pipeline.is_final() && pipeline.parked.is_none() {
        actions.push(cancel_action(pipeline, viewer));
    }
    actions.extend(run_actions(pipeline, viewer));
    PipelineView {
        id: pipeline.id,
        version: pipeline.version,
        now,
        application: pipeline.application.clone(),
        description: pipeline.description.clone(),
        status: state.armory(),
        state,
        reason: pipeline.reason_code().map(str::to_owned),
        rolled_back: pipeline.ended.and_then(|ended| ended.rolled_back),
        actor: pipeline.actor.clone(),
        source: pipeline.source.clone(),
        source_control: pipeline.source_control.clone(),
        context: pipeline.context.clone(),
        started_at: pipeline.submitted_at,
        ended_at: pipeline.ended.map(|ended| ended.at),
        stopping: pipeline.stopping.as_ref().map(|stopping| StoppingView {
            why: match stopping.why {
                StopReason::Cancelled => "cancelled",
                StopReason::Expired => "expired",
                StopReason::Rejected => "rejected",
                StopReason::Superseded => "superseded",
            }
            .to_owned(),
            since: stopping.since,
            actor: stopping.by.as_ref().map(|by| by.actor.clone()),
            comment: stopping.by.as_ref().and_then(|by| by.comment.clone()),
            gate: stopping.gate.as_ref().map(ToString::to_string),
        }),
        targets: pipeline
            .targets
            .values()
            .map(|t| target_view(pipeline, t))
            .collect(),
        waiting: waits,
        actions,
        evidence: evidence_views(pipeline),
        last_decisions: Vec::new(),
        warnings: pipeline.warnings.clone(),
        origin: pipeline.origin,
        blocked_by: pipeline.behind.filter(|_| pipeline.is_queued()),
        replaced_by: pipeline.replaced_by,
    }
}

/// The row of a pipeline in lists.
pub fn summary(pipeline: &Pipeline) -> Summary {
    let state = pipeline.state();
    let mut needs_roles: Vec<Vec<String>> = Vec::new();
    if !state.is_final() {
        let gates = pipeline.targets.values().flat_map(|t| t.standing_gates());
        needs_roles.extend(gates.filter_map(|(_, gate)| match &gate.pause {
            Pause::Approval(approval) => Some(approval.roles.clone()),
            _ => None,
        }));
    }
    Summary {
        id: pipeline.id,
        version: pipeline.version,
        application: pipeline.application.clone(),
        description: pipeline.description.chars().take(200).collect(),
        status: state.armory(),
        state,
        reason: pipeline.reason_code().map(str::to_owned),
        rolled_back: pipeline.ended.and_then(|ended| ended.rolled_back),
        targets: pipeline
            .targets
            .values()
            .map(|target| TargetRow {
                name: target.name.clone(),
                account: target.account.to_string(),
                namespace: target.namespace.clone(),
                status: pipeline.target_state(target).armory(),
                step: steps::behind(target),
                total: steps::total(target),
            })
            .collect(),
        actor: pipeline.actor.clone(),
        source: pipeline.source.clone(),
        started_at: pipeline.submitted_at,
        changed_at: pipeline.changed_at,
        ended_at: pipeline.ended.map(|ended| ended.at),
        needs: if needs_roles.is_empty() {
            "none"
        } else {
            "approval"
        }
        .to_owned(),
        needs_roles,
        change: pipeline.source_control.as_ref().and_then(change),
        origin: pipeline.origin,
        blocked_by: pipeline.behind.filter(|_| pipeline.is_queued()),
        replaced_by: pipeline.replaced_by,
    }
}

/// What a submitter said of the source control, where it is said in words that clients are known to use.
fn change(said: &Value) -> Option<ChangeRow> {
    let first = |names: &[&str]| {
        names.iter().find_map(|name| {
            let text = said.get(name)?.as_str().filter(|text| !text.is_empty())?;
            Some(text.chars().take(200).collect::<String>())
        })
    };
    let row = ChangeRow {
        commit: first(&["sha", "commit"]),
        event: first(&["event"]),
        reference: first(&["referenceName", "reference", "ref"]),
        pr: first(&["prTitle"]),
        url: first(&["prUrl", "shaUrl", "sourceUrl", "url"]),
        by: first(&["triggeringPrincipal", "principal"]),
    };
    (row != ChangeRow::default()).then_some(row)
}

/// What was captured of failures, in order of target.
pub(crate) fn evidence_views(pipeline: &Pipeline) -> Vec<EvidenceView> {
    pipeline
        .targets
        .values()
        .flat_map(|target| {
            target.evidence.iter().map(|evidence| EvidenceView {
                target: target.name.clone(),
                taken_at: evidence.at.or(target.failed_at).unwrap_or(pipeline.changed_at),
                evidence: evidence.clone(),
            })
        })
        .collect()
}
