//! How far an object is: always the full present state, in words that know no platform.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::manifest::ObjectRef;

/// An opaque proof of what somebody saw, which an act on it must carry.
///
/// For a Rollout: its uid, pod hash, step index and the start of its pause.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct ExpectToken(String);

impl ExpectToken {
    /// The longest token that is taken from a wire.
    pub const MAX_LEN: usize = 512;

    /// Wraps what an executor made; `None` when it is empty or too long.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        (!text.is_empty() && text.len() <= Self::MAX_LEN).then_some(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The present state of one workload of a plan.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Which object.
    pub object: ObjectRef,
    /// Where it stands.
    pub standing: Standing,
    /// The revision being rolled out (a Rollout's `currentPodHash`); empty when there is none.
    #[serde(default)]
    pub revision: String,
    /// The revision that serves when nothing moves (a Rollout's `stableRS`); empty when there is none.
    #[serde(default)]
    pub stable: String,
    /// The step being executed and how many there are, for what has steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepPosition>,
    /// The weight of the new revision, for what shifts traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
    /// Pods by revision.
    #[serde(default)]
    pub pods: PodCounts,
    /// What to present with an act at this place; absent where nothing can be promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<ExpectToken>,
    /// The platform's own words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Pods of the new revision that fail, with what was captured of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<FailingPod>,
    /// When the agent saw this.
    pub observed_at: Timestamp,
}

impl Progress {
    /// Tells whether two levels say the same, their time and messages aside.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.object == other.object
            && self.standing == other.standing
            && self.revision == other.revision
            && self.stable == other.stable
            && self.step == other.step
            && self.weight == other.weight
            && self.pods == other.pods
            && self.failing == other.failing
    }
}

/// Where one object stands; decided by the executor from the object alone.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "is")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Standing {
    /// Stopped by an abort: the stable revision serves, the new one is still declared.
    Aborted,
    /// The object on the cluster is not what the plan declares; applying again heals it.
    ChangedElsewhere {
        /// What differs, and who wrote it where that is known.
        by: String,
    },
    /// The platform says that it does not work.
    Degraded,
    /// Observed on our revision, complete and available.
    Done,
    /// The platform cannot take the object up as it is (a missing reference, a wrong field).
    Invalid,
    /// The object is not on the cluster.
    Missing,
    /// On its way.
    Moving,
    /// Our apply was not taken up yet.
    NotObserved,
    /// A person paused it by hand; gates do not open meanwhile.
    PausedByHand,
    /// Waits at a step until it is promoted.
    AtPause {
        /// The step's index in the object's own list.
        index: usize,
        /// The new revision's pods are available as far as this step wants them.
        ready: bool,
        /// The pause asks for a judgment (an inconclusive analysis), not for a plain promote.
        inconclusive: bool,
    },
}

/// The step being executed, from 0; equal to `total` when all are done.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct StepPosition {
    /// From 0.
    pub index: usize,
    /// How many.
    pub total: usize,
}

/// Wanted and real share of the new revision in percent.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Weight {
    /// What the steps ask for.
    pub wanted: u8,
    /// What the router says, or available new pods over all available pods.
    pub real: u8,
    /// Where `real` comes from.
    pub source: WeightSource,
}

/// Where a real weight comes from.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum WeightSource {
    /// Counted from available pods.
    Pods,
    /// The traffic router's own figure.
    Router,
}

/// Pods by revision.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PodCounts {
    /// How many the object should have.
    pub desired: u32,
    /// Of the new revision.
    pub new: u32,
    /// Of the new revision, available.
    pub new_available: u32,
    /// Of all other revisions.
    pub old: u32,
    /// Of all other revisions, available.
    pub old_available: u32,
}

/// A pod that fails and what was captured of it, because rolling back removes it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FailingPod {
    /// The pod's name.
    pub pod: String,
    /// The container.
    pub container: String,
    /// Why, in the platform's word: `CrashLoopBackOff`, `ImagePullBackOff`, `Unhealthy`.
    pub reason: String,
    /// How often the container was restarted.
    pub restarts: u32,
    /// The exit code of its last end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The platform's message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The last lines of the previous container, at most 20 of at most 300 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
    /// Since when it is seen failing for this reason.
    pub since: Timestamp,
    /// The image cannot be pulled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unpullable: bool,
}
