//! What can happen to a pipeline: the events that are stored and from which its state is folded.
//!
//! The serialised form is durable: what was once stored must decode and fold for ever. Add variants and
//! optional fields; never change the meaning of what is there. `tests/golden/events` holds one of each.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::gate::GateRef;
use super::status::State;
use crate::account::AccountName;
use crate::command::{Acted, Action, Applied};
use crate::deploy_file::Problem;
use crate::digest::Digest;
use crate::id::PipelineId;
use crate::manifest::ObjectRef;
use crate::plan::StepMap;
use crate::principal::{Actor, ClientProduct};
use crate::progress::{ExpectToken, FailingPod, Progress};
use crate::strategy::{Pause, Span, Strategy};

/// Something that happened, when, and by whom if a person or a rule did it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, by the control plane's clock.
    pub at: Timestamp,
    /// Who did it and why they said they did; absent for what was seen or follows by itself.
    pub by: Option<Deed>,
    /// The fence of the lease under which it was stored; absent for what a person's request stored.
    ///
    /// A command carries the fence of the event that asked for it, so that whoever sends it again, also
    /// under a later lease, sends the very same command.
    pub fence: Option<u64>,
    /// What happened.
    pub what: What,
}

/// Somebody's act: who, through which door (in the actor), and their comment.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deed {
    /// Who.
    pub actor: Actor,
    /// Their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// What happened.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    tag = "type",
    content = "data"
)]
pub enum What {
    /// An agent answered an act.
    ActAnswered {
        /// The target.
        target: String,
        /// The version of the event that asked for it.
        asked: u64,
        /// Its place among the acts that the event asked for.
        ordinal: u32,
        /// The answer.
        answer: Answer,
    },
    /// Acts were decided on.
    ActsAsked {
        /// The target.
        target: String,
        /// Why, as a stable code: `gateOpened`, `firstDeployment`, `redirect`, `rollback`, `rollbackNotPossible`,
        /// `shutDown`, `standsAgain`.
        why: String,
        /// One per object.
        acts: Vec<AskedAct>,
    },
    /// The agent cannot be reached.
    AgentAway {
        /// The target.
        target: String,
        /// A stable code.
        code: String,
        /// Why, for people.
        message: String,
    },
    /// The agent can be reached (again).
    AgentReached {
        /// The target.
        target: String,
    },
    /// The cluster holds the plan, and our revision of every workload is observed.
    Applied {
        /// The target.
        target: String,
        /// The version of the event that asked for it.
        asked: u64,
        /// What was changed.
        applied: Applied,
    },
    /// The plan is to be applied again, because somebody changed what it declares.
    ApplyAsked {
        /// The target.
        target: String,
        /// Why, for people.
        why: String,
    },
    /// A person ended the pipeline.
    CancelAsked,
    /// The agent took a command in hand.
    CommandAccepted {
        /// The target.
        target: String,
        /// The version of the event that asked for it.
        asked: u64,
    },
    /// Somebody acted in the cluster, past Aurora.
    ExternalSeen {
        /// The target.
        target: String,
        /// On which object.
        object: ObjectRef,
        /// What they did.
        deed: ExternalDeed,
        /// What is known of who it was; empty where nothing is.
        #[serde(default)]
        by: String,
    },
    /// The run that held the application is over: this one begins.
    Dequeued,
    /// All workloads are done: the plan is to be finished.
    FinishAsked {
        /// The target.
        target: String,
    },
    /// The plan is finished: declared values are back, what left the plan is pruned.
    Finished {
        /// The target.
        target: String,
        /// The version of the event that asked for it.
        asked: u64,
        /// What was changed.
        applied: Applied,
    },
    /// Nobody approved in time.
    GateExpired {
        /// Which gate.
        gate: GateRef,
    },
    /// No Rollout stood at the gate, so it asked nobody.
    GateNotExercised {
        /// Which gate.
        gate: GateRef,
    },
    /// A person or a timer opened the gate.
    GateOpened {
        /// Which gate.
        gate: GateRef,
    },
    /// Somebody moved the Rollouts past the gate in the cluster.
    GatePassed {
        /// Which gate.
        gate: GateRef,
    },
    /// All Rollouts have reached the gate (or what comes before it is done), and it waits.
    GateReached {
        /// Which gate.
        gate: GateRef,
    },
    /// A person said no.
    GateRejected {
        /// Which gate.
        gate: GateRef,
    },
    /// A person opened a timed gate before its time.
    GateSkipped {
        /// Which gate.
        gate: GateRef,
    },
    /// The pipeline is over.
    PipelineEnded {
        /// Succeeded, Failed or Cancelled.
        state: State,
        /// Whether what it had changed was taken back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rolled_back: Option<RolledBack>,
    },
    /// The agent reported levels that say something new.
    ProgressSeen {
        /// The target.
        target: String,
        /// Of which observation they are: the version of the event it goes back to.
        tag: u64,
        /// The objects that changed.
        levels: Vec<Progress>,
    },
    /// The target goes back to the last plan that succeeded, or to an earlier one that a person named.
    RollbackStarted {
        /// The target.
        target: String,
        /// Where to; absent: to the last plan that had succeeded when the target began.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<LastGood>,
    },
    /// Somebody submitted a deploy file.
    Submitted(Box<Submitted>),
    /// A newer run took this one's place in the queue.
    Superseded {
        /// The newer run.
        by: PipelineId,
    },
    /// A target's part is over.
    TargetEnded {
        /// The target.
        target: String,
        /// How.
        end: End,
    },
    /// A target failed.
    TargetFailed {
        /// The target.
        target: String,
        /// Why.
        cause: Cause,
        /// What was captured at that moment.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        evidence: Vec<Evidence>,
    },
    /// A person has a target that is over begin once more, with fresh gates.
    TargetRetried {
        /// The target.
        target: String,
    },
    /// A target's plan is to be applied.
    TargetStarted {
        /// The target.
        target: String,
        /// The last plan that succeeded there; absent: a first deployment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_good: Option<LastGood>,
    },
}

impl What {
    /// The target it is about.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::ActAnswered { target, .. }
            | Self::ActsAsked { target, .. }
            | Self::AgentAway { target, .. }
            | Self::AgentReached { target }
            | Self::Applied { target, .. }
            | Self::ApplyAsked { target, .. }
            | Self::CommandAccepted { target, .. }
            | Self::ExternalSeen { target, .. }
            | Self::FinishAsked { target }
            | Self::Finished { target, .. }
            | Self::ProgressSeen { target, .. }
            | Self::RollbackStarted { target, .. }
            | Self::TargetEnded { target, .. }
            | Self::TargetFailed { target, .. }
            | Self::TargetRetried { target }
            | Self::TargetStarted { target, .. } => Some(target),
            Self::GateExpired { gate }
            | Self::GateNotExercised { gate }
            | Self::GateOpened { gate }
            | Self::GatePassed { gate }
            | Self::GateReached { gate }
            | Self::GateRejected { gate }
            | Self::GateSkipped { gate } => Some(&gate.target),
            Self::CancelAsked
            | Self::Dequeued
            | Self::PipelineEnded { .. }
            | Self::Submitted(_)
            | Self::Superseded { .. } => None,
        }
    }
}

/// What a submit decided once and for all.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Submitted {
    /// The application.
    pub application: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Run-wide variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
    /// Which commit and who pushed it, as the submitter said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_control: Option<Value>,
    /// The program that submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ClientProduct>,
    /// The stored deploy file.
    pub file: Digest,
    /// From an apply or an opened gate to the next gate or the end.
    pub timeout: Span,
    /// Targets by name.
    pub targets: BTreeMap<String, SubmittedTarget>,
    /// What the submit warned of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Problem>,
    /// The earlier run that it goes back to, tries again or repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The run that held the application: this one waits until its turn comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<PipelineId>,
}

/// Which earlier run a run comes from, and how.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = RunOrigin))]
pub struct Origin {
    /// How.
    pub kind: OriginKind,
    /// The earlier run.
    pub of: PipelineId,
}

/// How a run comes from an earlier one.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum OriginKind {
    /// Its deploy file is deployed again, rendered anew.
    Redeploy,
    /// The same plans for what had not succeeded.
    Retry,
    /// Back to the plan of the earlier run, in full and without gates.
    RollBack,
}

/// One target of a submit.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubmittedTarget {
    /// The agent that serves it.
    pub account: AccountName,
    /// Where its objects go.
    pub namespace: String,
    /// Targets that must have succeeded first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// Gates before it starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Pause>,
    /// Gates after it is deployed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Pause>,
    /// How its Deployments move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// The rendered plan.
    pub plan: Digest,
    /// How steps of the file map to each Rollout.
    pub steps: StepMap,
    /// What the renderer noted for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The plan is an earlier one: it is brought in as going back is, in full and without gates.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub back: bool,
}

/// A plan that succeeded, to go back to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LastGood {
    /// The pipeline in which it succeeded.
    pub pipeline: PipelineId,
    /// The plan.
    pub plan: Digest,
    /// Its workloads.
    pub steps: StepMap,
}

/// One act that was decided on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AskedAct {
    /// The object.
    pub object: ObjectRef,
    /// What to do with it.
    pub action: Action,
    /// What was seen when it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<ExpectToken>,
}

/// How an act was answered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// It was carried out, or there was nothing to do.
    Acted(Acted),
    /// It was refused: what is there is not what was expected.
    Refused {
        /// A stable code.
        code: String,
        /// What is there.
        message: String,
    },
}

/// What somebody did past Aurora.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ExternalDeed {
    /// They aborted it.
    Aborted,
    /// They changed what the plan declares.
    Changed,
    /// They deleted it.
    Deleted,
    /// They paused it by hand.
    Paused,
    /// They moved it past a gate.
    Promoted,
    /// They shut its old version down, or its delay ended, before that was to be.
    ShutDown,
}

/// Why a target failed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Cause {
    /// Stable, for programs: `timeout`, `failingPod`, `degraded`, `invalid`, `aborted`, or an agent's code.
    pub code: String,
    /// What failed, where, and what to do next.
    pub message: String,
    /// One line per object concerned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// A failing pod, kept because rolling back removes it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Evidence {
    /// The workload it belongs to.
    pub object: ObjectRef,
    /// The pod and what was captured.
    pub pod: FailingPod,
    /// When; absent in what is stored, where the event says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// How a target's part ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum End {
    /// It failed and nothing was taken back: there was no earlier plan.
    Failed,
    /// The pipeline was ended and nothing was taken back: there was no earlier plan.
    LeftAsIs,
    /// It never began.
    NeverStarted,
    /// Going back failed.
    RollbackFailed,
    /// The last plan that succeeded is back.
    RolledBack,
    /// The new version is live.
    Succeeded,
}

/// Whether what a pipeline had changed was taken back.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RolledBack {
    /// Going back failed somewhere.
    Failed,
    /// Not, or not everywhere.
    No,
    /// Everywhere.
    Yes,
}
