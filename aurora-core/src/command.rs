//! Orders to one agent, and what comes back: progress and exactly one outcome.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::id::{CommandId, PipelineId};
use crate::manifest::ObjectRef;
use crate::progress::{ExpectToken, Progress};

/// Which decision is newer: the lease's fencing number, then the pipeline's event version.
///
/// An executor refuses an apply whose stamp is older than the last one it accepted for the same
/// applied set. Written `fence.version`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Stamp {
    /// Grows over all pipelines of a tenant.
    pub fence: u64,
    /// The version of the event that asked for the command.
    pub version: u64,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.fence, self.version)
    }
}

/// One order to one agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Set by the control plane; a replay has the same id.
    pub id: CommandId,
    /// The pipeline on whose behalf, for logs and audit; queries of people have none.
    pub pipeline: Option<PipelineId>,
    /// Who wanted it, as a display name for the agent's log.
    pub initiator: String,
    /// How long the command may take in all; there is none without a deadline.
    pub deadline: Duration,
    /// W3C trace context, where a trace is being kept.
    pub trace_parent: Option<String>,
    /// What to do.
    pub verb: Verb,
}

/// What an agent can be told to do.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verb {
    /// Move one object on, back or aside.
    Act(Act),
    /// Make the cluster hold a plan; answered once our revision of every workload is observed.
    Apply(Apply),
    /// Delete one object that an applied set lists; absent is fine.
    Delete {
        /// Whose applied set.
        set: AppliedSetKey,
        /// Which object.
        object: ObjectRef,
    },
    /// After a plan is done: bring what was held back to its declared value and prune what left the plan.
    Finish(Apply),
    /// Read one object; secrets' values never leave the cluster.
    Get {
        /// Which object.
        object: ObjectRef,
    },
    /// Follow the workloads of a plan; a query that the control plane renews.
    Observe(Observe),
    /// Answer at once: for measuring and for checking the way.
    Ping {
        /// Comes back unchanged.
        payload: Vec<u8>,
    },
}

impl Verb {
    /// Tells whether the verb changes something, so that a repeat must not do so again.
    pub const fn is_mutation(&self) -> bool {
        matches!(
            self,
            Self::Act(_) | Self::Apply(_) | Self::Delete { .. } | Self::Finish(_)
        )
    }

    /// The verb's name in logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Act(_) => "act",
            Self::Apply(_) => "apply",
            Self::Delete { .. } => "delete",
            Self::Finish(_) => "finish",
            Self::Get { .. } => "get",
            Self::Observe(_) => "observe",
            Self::Ping { .. } => "ping",
        }
    }
}

/// Names an applied set: one per application and namespace.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct AppliedSetKey {
    /// The tenant, as text, so that two tenants never share a set.
    pub tenant: String,
    /// The application.
    pub application: String,
    /// The namespace.
    pub namespace: String,
}

/// A plan to be applied.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Apply {
    /// Whose applied set.
    pub set: AppliedSetKey,
    /// The target's name.
    pub target: String,
    /// Which plan.
    pub plan: Digest,
    /// How new the decision is.
    pub stamp: Stamp,
    /// Forward, or back to an earlier plan (then nothing old is taken away before the new is there).
    pub direction: Direction,
}

/// Which way a plan goes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// Back to the last plan that succeeded: `maxUnavailable` is 0 until it is done.
    Back,
    /// On to a new version.
    Forward,
}

/// Which workloads to follow.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Observe {
    /// Whose applied set.
    pub set: AppliedSetKey,
    /// The plan whose workloads are followed and compared with what the cluster holds.
    pub plan: Digest,
    /// Which way it was applied, since that changes what the cluster should hold.
    pub direction: Direction,
}

/// One act on one Rollout.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Act {
    /// Whose applied set.
    pub set: AppliedSetKey,
    /// The object, a Rollout.
    pub object: ObjectRef,
    /// What to do.
    pub action: Action,
    /// What was seen when this was decided; an act without is refused where one is needed.
    pub expect: Option<ExpectToken>,
    /// How new the decision is; an act older than the applied set's last plan is refused.
    pub stamp: Stamp,
}

/// What can be done with a Rollout.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Stop and send traffic back.
    Abort,
    /// Stop by hand.
    Pause,
    /// On from the pause at which it stands.
    Promote,
    /// Through all steps to the end.
    PromoteFull,
    /// After a pause by hand.
    Resume,
    /// Begin again after an abort.
    Retry,
    /// End the wait before the older pods of a blue/green move are taken away.
    ShutDownOld,
    /// Past the step at which it stands, whatever that is.
    Skip,
}

/// News about a command that is under way; its last one is the outcome.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// The agent has taken the command in hand.
    Accepted,
    /// The command ended; nothing follows.
    Finished(Outcome),
    /// The present state of objects; for an observe the first ones are complete.
    Progress(Vec<Progress>),
    /// A stage or object of an apply was done: `done` of `total`, and what is next in words.
    Stage {
        /// Objects done.
        done: u32,
        /// Objects in all.
        total: u32,
        /// What is being done.
        doing: String,
    },
}

/// How a command ended: exactly one per command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The agent was lost.
    AgentLost {
        /// Whether the command may have reached it.
        dispatched: bool,
    },
    /// It was cancelled before it ended.
    Cancelled,
    /// Its time ran out.
    DeadlineExceeded,
    /// It failed.
    Failed(Failure),
    /// It succeeded.
    Ok(Reply),
}

impl Outcome {
    /// The outcome's name in logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AgentLost { .. } => "agentLost",
            Self::Cancelled => "cancelled",
            Self::DeadlineExceeded => "deadline",
            Self::Failed(_) => "failed",
            Self::Ok(_) => "ok",
        }
    }
}

/// Why a command failed, as the agent says it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct Failure {
    /// What can be done about it.
    pub kind: ErrorKind,
    /// A stable code: `foreignObject`, `superseded`, `wrongGate`, …
    pub code: String,
    /// What failed, where, and what to do next.
    pub message: String,
    /// One line per object concerned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<FailureDetail>,
}

impl Failure {
    /// A failure without details.
    pub fn new(kind: ErrorKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: code.into(),
            message: message.into(),
            details: Vec::new(),
        }
    }
}

/// One object's part of a failure.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FailureDetail {
    /// Which object.
    pub object: ObjectRef,
    /// What is wrong with it and what to do.
    pub message: String,
}

/// What a command that succeeded gives back.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// What an act did.
    Acted(Acted),
    /// What an apply or a finish changed.
    Applied(Applied),
    /// It is gone.
    Deleted,
    /// An object, or that there is none.
    Object(Option<Value>),
    /// The query ended with its deadline; renew it.
    Observed,
    /// A ping's payload.
    Pong(Vec<u8>),
}

/// What an act did.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Acted {
    /// It took effect.
    Done,
    /// There is nothing to stop: the revision is not a new one.
    NothingToAbort,
    /// It had taken effect before, or the object is already beyond that place.
    Unchanged,
    /// The new pods are not available yet: try again when they are.
    WaitForPods,
}

/// What an apply changed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Objects that were changed by it or by an earlier delivery of the same stamp.
    pub changed: u32,
    /// Objects that were as declared.
    pub unchanged: u32,
    /// Objects that were deleted.
    #[serde(default)]
    pub pruned: Vec<ObjectRef>,
    /// Objects that left the plan and are kept for now, with the reason.
    #[serde(default)]
    pub kept: BTreeMap<String, String>,
    /// What people should know.
    #[serde(default)]
    pub warnings: Vec<String>,
}
