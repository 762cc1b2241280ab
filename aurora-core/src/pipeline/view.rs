//! What readers of a pipeline see: the whole view, and the summary that lists are made of.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::deployment::{Deployment, Phase, Stage};
use super::event::{Cause, End, Evidence, LastGood, RolledBack};
use super::gate::{Gate, GateRef, GateState, Place};
use super::status::{ArmoryStatus, State};
use super::timeline::TimelineEntry;
use super::waiting::{ActionView, Viewer, Waiting, cancel_action, waiting};
use super::{Pipeline, StopReason};
use crate::command::Direction;
use crate::deploy_file::Problem;
use crate::digest::Digest;
use crate::id::PipelineId;
use crate::manifest::ObjectRef;
use crate::principal::{Actor, ClientProduct};
use crate::progress::{FailingPod, PodCounts, Standing, WeightSource};
use crate::strategy::{Pause, Step};

/// Everything about a pipeline, for people and programs.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineView {
    /// Which one.
    pub id: PipelineId,
    /// The version of its last event.
    pub version: u64,
    /// The control plane's time.
    pub now: Timestamp,
    /// The application.
    pub application: String,
    /// For people.
    pub description: String,
    /// In Armory's words.
    pub status: ArmoryStatus,
    /// In ours.
    pub state: State,
    /// A stable word for why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether what it had changed was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
    /// Who submitted it.
    pub actor: Actor,
    /// The program that submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ClientProduct>,
    /// Which commit and who pushed it, as the submitter said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_control: Option<Value>,
    /// Run-wide variables.
    #[serde(default)]
    pub context: std::collections::BTreeMap<String, String>,
    /// When it was submitted.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Who ended it early, when and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<StoppingView>,
    /// Its targets, by name.
    pub targets: Vec<TargetView>,
    /// What it waits for; never empty while it is not over.
    pub waiting: Vec<Waiting>,
    /// What can be done with it.
    pub actions: Vec<ActionView>,
    /// What was captured of failures.
    pub evidence: Vec<EvidenceView>,
    /// The last lines of its timeline that are decisions, newest first.
    pub last_decisions: Vec<TimelineEntry>,
    /// What the submit warned of.
    #[serde(default)]
    pub warnings: Vec<Problem>,
}

/// Who ended a pipeline early.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoppingView {
    /// `cancelled`, `rejected` or `expired`.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
    /// Who; absent where time ran out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    /// Their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The gate it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
}

/// One target's part.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetView {
    /// Its name.
    pub name: String,
    /// The agent that serves it.
    pub account: String,
    /// Where its objects go.
    pub namespace: String,
    /// 0 for targets that depend on none, else one more than the highest of those.
    pub wave: usize,
    /// Targets that must have succeeded first.
    pub depends_on: Vec<String>,
    /// In Armory's words.
    pub status: ArmoryStatus,
    /// In ours.
    pub state: State,
    /// What is being done: `waiting`, `before`, `applying`, `moving`, `finishing`, `after`, or how it ended.
    pub phase: String,
    /// Whether it is being taken back.
    pub rolling_back: bool,
    /// No earlier plan succeeded there: the strategy is not exercised.
    pub first_deployment: bool,
    /// `canary`, or `none` where nothing moves in steps.
    pub strategy: String,
    /// The plan.
    pub plan: Digest,
    /// The plan it goes back to if it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<LastGood>,
    /// Gates before it.
    pub before: Vec<GateView>,
    /// Gates after it.
    pub after: Vec<GateView>,
    /// Steps of its strategy.
    pub steps: Vec<StepView>,
    /// How many steps are behind.
    pub step: usize,
    /// How many there are.
    pub total: usize,
    /// Its workloads.
    pub rollouts: Vec<RolloutView>,
    /// When the agent last reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<Timestamp>,
    /// `live`, or `offline` while the agent cannot be reached.
    pub freshness: String,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Cause>,
    /// What the renderer noted for people.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One step of a strategy.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// From 0.
    pub index: usize,
    /// `setWeight` or `pause`.
    pub kind: String,
    /// In words.
    pub text: String,
    /// The weight that holds at this step.
    pub weight: u8,
    /// `ahead`, `current`, `done` or `notExercised`.
    pub state: String,
    /// The gate, for a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateView>,
}

/// One gate.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GateView {
    /// Its name in acts.
    pub id: String,
    /// `approval` or `timer`.
    pub kind: String,
    /// `ahead`, `standing`, `open`, `notExercised`, `passed`, `rejected`, `expired` or `dropped`.
    pub state: String,
    /// Any one of these roles may approve; empty: everyone who may deploy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The timer's or the expiry's length in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Since when it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// When time opens or shuts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// When it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
    /// Their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// What to present with a decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
}

/// One workload of a target.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutView {
    /// Which object.
    pub object: ObjectRef,
    /// The revision being rolled out.
    pub revision: String,
    /// The revision that serves when nothing moves.
    pub stable: String,
    /// Where it stands.
    pub standing: Standing,
    /// Since when.
    pub since: Timestamp,
    /// Its own step, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_index: Option<usize>,
    /// How many steps it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_total: Option<usize>,
    /// The weight that its steps ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_wanted: Option<u8>,
    /// The weight that is real.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_real: Option<u8>,
    /// Where the real weight comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_source: Option<WeightSource>,
    /// Its pods.
    pub pods: PodCounts,
    /// The platform's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Its failing pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<FailingPod>,
}

/// What was captured of one failing pod.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceView {
    /// The target.
    pub target: String,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// The workload and the pod.
    #[serde(flatten)]
    pub evidence: Evidence,
}

/// One row of a list, at most about 1 kB.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Which one.
    pub id: PipelineId,
    /// The version of its last event.
    pub version: u64,
    /// The application.
    pub application: String,
    /// For people, cut to 200 characters.
    pub description: String,
    /// In Armory's words.
    pub status: ArmoryStatus,
    /// In ours.
    pub state: State,
    /// A stable word for why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether what it had changed was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
    /// Its targets.
    pub targets: Vec<TargetRow>,
    /// Who submitted it.
    pub actor: Actor,
    /// The program that submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ClientProduct>,
    /// When it was submitted.
    pub started_at: Timestamp,
    /// When it last changed.
    pub changed_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// `approval` while it waits for a person, else `none`.
    pub needs: String,
}

/// One target in a row.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetRow {
    /// Its name.
    pub name: String,
    /// The agent that serves it.
    pub account: String,
    /// Where its objects go.
    pub namespace: String,
    /// In Armory's words.
    pub status: ArmoryStatus,
    /// How many steps are behind.
    pub step: usize,
    /// How many there are.
    pub total: usize,
}

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
    }
}

/// The row of a pipeline in lists.
pub fn summary(pipeline: &Pipeline) -> Summary {
    let state = pipeline.state();
    let needs_approval = !state.is_final()
        && pipeline
            .targets
            .values()
            .any(|t| t.standing_gates().any(|(_, gate)| gate.wants_approval()));
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
                step: steps_behind(target),
                total: target.strategy.as_ref().map_or(0, |s| s.steps().len()),
            })
            .collect(),
        actor: pipeline.actor.clone(),
        source: pipeline.source.clone(),
        started_at: pipeline.submitted_at,
        changed_at: pipeline.changed_at,
        ended_at: pipeline.ended.map(|ended| ended.at),
        needs: if needs_approval { "approval" } else { "none" }.to_owned(),
    }
}

/// What was captured of failures, in order of target.
pub(crate) fn evidence_views(pipeline: &Pipeline) -> Vec<EvidenceView> {
    pipeline
        .targets
        .values()
        .flat_map(|target| {
            target.evidence.iter().map(|evidence| EvidenceView {
                target: target.name.clone(),
                taken_at: target.failed_at.unwrap_or(pipeline.changed_at),
                evidence: evidence.clone(),
            })
        })
        .collect()
}

fn target_view(pipeline: &Pipeline, target: &Deployment) -> TargetView {
    let state = pipeline.target_state(target);
    let gates = |wanted: fn(Place) -> bool| {
        target
            .gates_where(wanted)
            .map(|gate| gate_view(pipeline, target, gate))
            .collect()
    };
    let (end, ended_at) = match target.phase {
        Phase::Ended { end, at } => (Some(end), Some(at)),
        _ => (None, None),
    };
    TargetView {
        name: target.name.clone(),
        account: target.account.to_string(),
        namespace: target.namespace.clone(),
        wave: wave(pipeline, target, pipeline.targets.len()),
        depends_on: target.depends_on.clone(),
        status: state.armory(),
        state,
        phase: phase_name(&target.phase).to_owned(),
        rolling_back: target.run().is_some_and(|run| run.direction == Direction::Back),
        first_deployment: target.is_first(),
        strategy: if target.strategy.is_some() {
            "canary"
        } else {
            "none"
        }
        .to_owned(),
        plan: target.plan,
        last_good: target.last_good.clone(),
        before: gates(|place| matches!(place, Place::Before(_))),
        after: gates(|place| matches!(place, Place::After(_))),
        steps: step_views(pipeline, target),
        step: steps_behind(target),
        total: target.strategy.as_ref().map_or(0, |s| s.steps().len()),
        rollouts: rollout_views(target),
        observed_at: target.levels.values().map(|seen| seen.level.observed_at).max(),
        freshness: if target.away.is_some() { "offline" } else { "live" }.to_owned(),
        started_at: target.started_at,
        ended_at,
        end,
        error: target.failed.clone(),
        notes: target.notes.clone(),
    }
}

const fn phase_name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::Before => "before",
        Phase::Running(run) => match run.stage {
            Stage::Applying => "applying",
            Stage::Moving => "moving",
            Stage::Finishing => "finishing",
        },
        Phase::After => "after",
        Phase::Ended { end, .. } => match end {
            End::Failed => "failed",
            End::LeftAsIs => "leftAsIs",
            End::NeverStarted => "neverStarted",
            End::RollbackFailed => "rollbackFailed",
            End::RolledBack => "rolledBack",
            End::Succeeded => "succeeded",
        },
    }
}

/// `depth` ends the walk should a stored graph have a cycle.
fn wave(pipeline: &Pipeline, target: &Deployment, depth: usize) -> usize {
    if depth == 0 {
        return 0;
    }
    target
        .depends_on
        .iter()
        .filter_map(|name| pipeline.targets.get(name))
        .map(|dependency| wave(pipeline, dependency, depth - 1) + 1)
        .max()
        .unwrap_or(0)
}

/// How many steps of the file all Rollouts have behind them.
fn steps_behind(target: &Deployment) -> usize {
    let total = target.strategy.as_ref().map_or(0, |s| s.steps().len());
    if target.ended_as(End::Succeeded) || matches!(target.phase, Phase::After) {
        return total;
    }
    let forward = target
        .run()
        .is_some_and(|run| run.direction == Direction::Forward);
    if !forward {
        return 0;
    }
    target
        .steps
        .rollouts
        .keys()
        .map(|name| match target.rollout(name) {
            None => 0,
            Some(seen) if seen.level.standing == Standing::Done => total,
            Some(seen) => {
                let own = seen.level.step.map_or(0, |step| step.index);
                let behind =
                    |step: &&crate::plan::MappedStep| step.index.get(name).is_none_or(|index| *index < own);
                target.steps.steps.iter().take_while(behind).count()
            }
        })
        .min()
        .unwrap_or(0)
        .min(total)
}

fn step_views(pipeline: &Pipeline, target: &Deployment) -> Vec<StepView> {
    let behind = steps_behind(target);
    let steps = target.strategy.as_ref().map(|s| s.steps()).unwrap_or_default();
    let mut weight = 0;
    let mut views = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let (kind, text) = match step {
            Step::SetWeight(to) => {
                weight = *to;
                ("setWeight", format!("send {to} % to the new version"))
            }
            Step::Pause(Pause::Timed(span)) => ("pause", format!("wait {span}")),
            Step::Pause(Pause::Approval(approval)) if approval.roles.is_empty() => {
                ("pause", "wait for an approval".to_owned())
            }
            Step::Pause(Pause::Approval(approval)) => (
                "pause",
                format!("wait for an approval by {}", approval.roles.join(" or ")),
            ),
        };
        let gate = target.gate(Place::Step(index));
        let not_exercised =
            target.is_first() || gate.is_some_and(|g| matches!(g.state, GateState::NotExercised { .. }));
        let state = match index.cmp(&behind) {
            _ if not_exercised => "notExercised",
            std::cmp::Ordering::Less => "done",
            std::cmp::Ordering::Equal if target.run().is_some() => "current",
            _ => "ahead",
        };
        views.push(StepView {
            index,
            kind: kind.to_owned(),
            text,
            weight,
            state: state.to_owned(),
            gate: gate.map(|gate| gate_view(pipeline, target, gate)),
        });
    }
    views
}

fn gate_view(pipeline: &Pipeline, target: &Deployment, gate: &Gate) -> GateView {
    let at = GateRef::new(&target.name, gate.place);
    let (roles, span) = match &gate.pause {
        Pause::Timed(span) => (Vec::new(), Some(*span)),
        Pause::Approval(approval) => (approval.roles.clone(), approval.expires_after),
    };
    let (state, when) = match gate.state {
        GateState::Ahead => ("ahead", None),
        GateState::Dropped { at } => ("dropped", Some(at)),
        GateState::Expired { at } => ("expired", Some(at)),
        GateState::NotExercised { at } => ("notExercised", Some(at)),
        GateState::Open { at, .. } => ("open", Some(at)),
        GateState::Passed { at } => ("passed", Some(at)),
        GateState::Rejected { at, .. } => ("rejected", Some(at)),
        GateState::Standing { .. } => ("standing", None),
    };
    let by = gate.decided_by().map(|(by, _)| by);
    GateView {
        kind: if gate.wants_approval() {
            "approval"
        } else {
            "timer"
        }
        .to_owned(),
        state: state.to_owned(),
        roles,
        seconds: span.map(crate::strategy::Span::as_secs),
        since: gate.standing_since(),
        until: gate.until(),
        at: when,
        by: by.map(|by| by.actor.clone()),
        comment: by.and_then(|by| by.comment.clone()),
        expect: gate.standing_since().and_then(|_| pipeline.gate_expect(&at)),
        id: at.to_string(),
    }
}

fn rollout_views(target: &Deployment) -> Vec<RolloutView> {
    target
        .levels
        .values()
        .map(|seen| {
            let level = &seen.level;
            RolloutView {
                object: level.object.clone(),
                revision: level.revision.clone(),
                stable: level.stable.clone(),
                standing: level.standing.clone(),
                since: seen.since,
                step_index: level.step.map(|step| step.index),
                step_total: level.step.map(|step| step.total),
                weight_wanted: level.weight.map(|weight| weight.wanted),
                weight_real: level.weight.map(|weight| weight.real),
                weight_source: level.weight.map(|weight| weight.source),
                pods: level.pods,
                message: level.message.clone(),
                failing: level.failing.clone(),
            }
        })
        .collect()
}
