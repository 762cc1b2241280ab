//! The timeline: each event in words, for people and for programs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::decide::rules;
use super::event::End;
use super::event::{Answer, Event, ExternalDeed, Origin, OriginKind, Submitted, What};
use super::gate::{GateRef, Place};
use super::waiting::Subject;
use crate::command::{Acted, Action};
use crate::id::{CommandId, PipelineId};
use crate::principal::{Actor, Channel, PrincipalKind};

/// One line of a pipeline's timeline.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TimelineEntry {
    /// The version of the event.
    pub version: u64,
    /// When.
    pub at: Timestamp,
    /// The type of the event.
    pub kind: String,
    /// `recorded` (somebody's decision), `sent` (asked of an agent) or `seen` (reported by an agent).
    pub phase: String,
    /// What it is about.
    pub subject: Subject,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    /// Their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// In words.
    pub text: String,
    /// The commands that it asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<CommandId>,
}

/// An event as a line of the timeline.
pub fn timeline_entry(pipeline: PipelineId, version: u64, event: &Event) -> TimelineEntry {
    let what = &event.what;
    let (kind, phase) = kind_and_phase(what);
    TimelineEntry {
        version,
        at: event.at,
        kind: kind.to_owned(),
        phase: phase.to_owned(),
        subject: subject(what),
        actor: match what {
            What::ExternalSeen { by, .. } => Some(outsider(by)),
            _ => event.by.as_ref().map(|by| by.actor.clone()),
        },
        comment: event.by.as_ref().and_then(|by| by.comment.clone()),
        text: text(what),
        commands: (0..commands(what))
            .map(|ordinal| CommandId::derive(pipeline, version, ordinal))
            .collect(),
    }
}

/// Somebody who acted in the cluster, past Aurora; the cluster knows them at most by their program.
fn outsider(by: &str) -> Actor {
    let name = if by.is_empty() { "somebody" } else { by };
    Actor {
        kind: PrincipalKind::User,
        id: name.to_owned(),
        display: name.to_owned(),
        via: Channel::External,
        client: None,
        on_behalf_of: None,
        basis: None,
    }
}

const fn kind_and_phase(what: &What) -> (&'static str, &'static str) {
    match what {
        What::ActAnswered { .. } => ("actAnswered", "seen"),
        What::ActsAsked { .. } => ("actsAsked", "sent"),
        What::AgentAway { .. } => ("agentAway", "seen"),
        What::AgentReached { .. } => ("agentReached", "seen"),
        What::Applied { .. } => ("applied", "seen"),
        What::ApplyAsked { .. } => ("applyAsked", "sent"),
        What::CancelAsked => ("cancelAsked", "recorded"),
        What::CommandAccepted { .. } => ("commandAccepted", "seen"),
        What::Dequeued => ("dequeued", "recorded"),
        What::ExternalSeen { .. } => ("externalSeen", "seen"),
        What::FinishAsked { .. } => ("finishAsked", "sent"),
        What::Finished { .. } => ("finished", "seen"),
        What::GateExpired { .. } => ("gateExpired", "recorded"),
        What::GateNotExercised { .. } => ("gateNotExercised", "recorded"),
        What::GateOpened { .. } => ("gateOpened", "recorded"),
        What::GatePassed { .. } => ("gatePassed", "seen"),
        What::GateReached { .. } => ("gateReached", "seen"),
        What::GateRejected { .. } => ("gateRejected", "recorded"),
        What::GateSkipped { .. } => ("gateSkipped", "recorded"),
        What::PipelineEnded { .. } => ("pipelineEnded", "recorded"),
        What::ProgressSeen { .. } => ("progressSeen", "seen"),
        What::RollbackStarted { .. } => ("rollbackStarted", "sent"),
        What::Submitted(_) => ("submitted", "recorded"),
        What::Superseded { .. } => ("superseded", "recorded"),
        What::TargetEnded { .. } => ("targetEnded", "recorded"),
        What::TargetFailed { .. } => ("targetFailed", "recorded"),
        What::TargetRetried { .. } => ("targetRetried", "recorded"),
        What::TargetStarted { .. } => ("targetStarted", "sent"),
    }
}

fn subject(what: &What) -> Subject {
    let gate = match what {
        What::GateExpired { gate }
        | What::GateNotExercised { gate }
        | What::GateOpened { gate }
        | What::GatePassed { gate }
        | What::GateReached { gate }
        | What::GateRejected { gate }
        | What::GateSkipped { gate } => Some(gate),
        _ => None,
    };
    Subject {
        target: what.target().map(str::to_owned),
        step: gate.and_then(|gate| match gate.place {
            Place::Step(step) => Some(step),
            Place::Before(_) | Place::Redirect(_) | Place::ShutDown(_) | Place::After(_) => None,
        }),
        gate: gate.map(ToString::to_string),
    }
}

fn commands(what: &What) -> u32 {
    match what {
        What::ActsAsked { acts, .. } => u32::try_from(acts.len()).unwrap_or(u32::MAX),
        What::ApplyAsked { .. }
        | What::FinishAsked { .. }
        | What::RollbackStarted { .. }
        | What::TargetStarted { .. } => 1,
        _ => 0,
    }
}

pub(super) fn gate_in_words(gate: &GateRef) -> String {
    let (target, place) = (&gate.target, gate.place);
    match place {
        Place::Before(index) => format!("gate {} before target `{target}`", index + 1),
        Place::Step(step) => format!("the gate at step {} of target `{target}`", step + 1),
        Place::Redirect(index) => format!("gate {} before the redirect of target `{target}`", index + 1),
        Place::ShutDown(index) => {
            format!(
                "gate {} before the old version of target `{target}` is shut down",
                index + 1
            )
        }
        Place::After(index) => format!("gate {} after target `{target}`", index + 1),
    }
}

pub(super) fn text(what: &What) -> String {
    match what {
        What::ActAnswered { target, answer, .. } => match answer {
            Answer::Acted(Acted::Done) => format!("target `{target}`: the act took effect"),
            Answer::Acted(Acted::Unchanged) => format!("target `{target}`: the act had taken effect before"),
            Answer::Acted(Acted::WaitForPods) => format!("target `{target}`: new pods are not available yet"),
            Answer::Acted(Acted::NothingToAbort) => format!("target `{target}`: there was nothing to abort"),
            Answer::Refused { message, .. } => format!("target `{target}`: the act was refused: {message}"),
        },
        What::ActsAsked { target, why, acts } => {
            let acts: Vec<String> = acts
                .iter()
                .map(|act| format!("{} {}", action(act.action), act.object))
                .collect();
            format!("target `{target}`: {} ({why})", acts.join(", "))
        }
        What::AgentAway { target, message, .. } => format!("target `{target}`: {message}"),
        What::AgentReached { target } => format!("target `{target}`: the agent is there"),
        What::Applied { target, applied, .. } => format!(
            "target `{target}`: the plan is applied: {} changed, {} as declared",
            applied.changed, applied.unchanged
        ),
        What::ApplyAsked { target, why } => format!("target `{target}`: the plan is applied again: {why}"),
        What::CancelAsked => "the pipeline was cancelled".to_owned(),
        What::CommandAccepted { target, .. } => {
            format!("target `{target}`: the agent has the command in hand")
        }
        What::ExternalSeen {
            target,
            object,
            deed,
            by,
        } => {
            let by = match deed {
                _ if !by.is_empty() => by,
                ExternalDeed::ShutDown => "somebody, or its delay,",
                _ => "somebody",
            };
            let did = match deed {
                ExternalDeed::Aborted => "aborted",
                ExternalDeed::Changed => "changed",
                ExternalDeed::Deleted => "deleted",
                ExternalDeed::Paused => "paused",
                ExternalDeed::Promoted => "promoted",
                ExternalDeed::ShutDown => "shut down the old version of",
            };
            format!("target `{target}`: {by} {did} {object} in the cluster")
        }
        What::Dequeued => "the application is free: the pipeline begins".to_owned(),
        What::FinishAsked { target } => format!("target `{target}`: all workloads are done"),
        What::Finished { target, applied, .. } => {
            format!(
                "target `{target}`: finished, {} object(s) pruned",
                applied.pruned.len()
            )
        }
        What::GateExpired { gate } => format!("nobody approved {} in time", gate_in_words(gate)),
        What::GateNotExercised { gate } => {
            format!("no Rollout stood at {}: not exercised", gate_in_words(gate))
        }
        What::GateOpened { gate } => format!("{} was opened", gate_in_words(gate)),
        What::GatePassed { gate } => format!(
            "the Rollouts were moved past {} in the cluster",
            gate_in_words(gate)
        ),
        What::GateReached { gate } => format!("{} is reached", gate_in_words(gate)),
        What::GateRejected { gate } => format!("{} was rejected", gate_in_words(gate)),
        What::GateSkipped { gate } => format!("{} was opened before its time", gate_in_words(gate)),
        What::PipelineEnded { state, .. } => format!("the pipeline ended: {}", state.name()),
        What::ProgressSeen { levels, .. } => {
            let levels: Vec<String> = levels.iter().map(rules::describe).collect();
            levels.join("; ")
        }
        What::RollbackStarted { target, to: None } => {
            format!("target `{target}` goes back to the last plan that succeeded")
        }
        What::RollbackStarted { target, to: Some(to) } => {
            format!(
                "target `{target}` goes back to the plan of pipeline {}",
                to.pipeline
            )
        }
        What::Submitted(submitted) => submitted_in_words(submitted),
        What::Superseded { by } => format!("pipeline {by} took its place in the queue"),
        What::TargetEnded { target, end } => format!("target `{target}` {}", ended(*end)),
        What::TargetFailed { cause, .. } => cause.message.clone(),
        What::TargetRetried { target } => format!("target `{target}` begins once more"),
        What::TargetStarted {
            target,
            last_good: Some(_),
        } => format!("target `{target}` starts"),
        What::TargetStarted {
            target,
            last_good: None,
        } => {
            format!("target `{target}` starts: first deployment, strategy not exercised")
        }
    }
}

fn submitted_in_words(submitted: &Submitted) -> String {
    let mut text = format!("submitted for {} target(s)", submitted.targets.len());
    if let Some(Origin { kind, of }) = submitted.origin {
        let how = match kind {
            OriginKind::Redeploy => "the deploy file of pipeline {} again",
            OriginKind::Retry => "what had not succeeded in pipeline {}, once more",
            OriginKind::RollBack => "back to the plan of pipeline {}",
        };
        text.push_str(": ");
        text.push_str(&how.replace("{}", &of.to_string()));
    }
    if let Some(behind) = submitted.behind {
        text.push_str(&format!("; it waits for the end of pipeline {behind}"));
    }
    text
}

const fn action(action: Action) -> &'static str {
    match action {
        Action::Abort => "abort",
        Action::Pause => "pause",
        Action::Promote => "promote",
        Action::PromoteFull => "promote in full",
        Action::Resume => "resume",
        Action::Retry => "retry",
        Action::ShutDownOld => "shut down the old version of",
        Action::Skip => "skip the step of",
    }
}

const fn ended(end: End) -> &'static str {
    match end {
        End::Failed => "failed; there was no earlier plan to go back to, its objects stay as evidence",
        End::LeftAsIs => "was ended; there was no earlier plan to go back to",
        End::NeverStarted => "never started",
        End::RollbackFailed => "failed, and going back failed too",
        End::RolledBack => "is back at the last plan that succeeded",
        End::Succeeded => "succeeded",
    }
}
