//! What readers of a pipeline see: the whole view, and the summary that lists are made of.

mod build;
mod steps;
mod target;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{Cause, Deed, End, Evidence, ExternalDeed, LastGood, Origin, RolledBack};
use super::status::{ArmoryStatus, State};
use super::timeline::TimelineEntry;
use super::waiting::{ActionView, Waiting};
use crate::deploy_file::Problem;
use crate::digest::Digest;
use crate::id::PipelineId;
use crate::manifest::ObjectRef;
use crate::principal::{Actor, ClientProduct};
use crate::progress::{FailingPod, PodCounts, Standing, WeightSource};

pub(crate) use build::evidence_views;
pub use build::{summary, view};

/// Everything about a pipeline, for people and programs.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    pub context: BTreeMap<String, String>,
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
    /// The earlier run that it goes back to, tries again or repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The run behind which it waits for its turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<PipelineId>,
    /// The newer run that took its place in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<PipelineId>,
}

/// Who ended a pipeline early.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoppingView {
    /// `cancelled`, `rejected`, `expired` or `superseded`.
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    /// What is being done: `waiting`, `before`, `applying`, `moving`, `finishing`, `aborting`, `after`, or how it ended.
    pub phase: String,
    /// Whether it is being taken back.
    pub rolling_back: bool,
    /// No earlier plan succeeded there: the strategy is not exercised.
    pub first_deployment: bool,
    /// `blueGreen`, `canary`, `rolling`, or `none` where nothing moves in steps.
    pub strategy: String,
    /// The plan.
    pub plan: Digest,
    /// The plan it goes back to if it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<LastGood>,
    /// The plan that it goes, or went, back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_to: Option<LastGood>,
    /// Who took it back, where that was a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<Deed>,
    /// How often a person had it begin once more.
    #[serde(default)]
    pub retried: u32,
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
    /// What others did in the cluster, past Aurora; the last 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external: Vec<ExternalView>,
}

/// What somebody did in the cluster, past Aurora.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExternalView {
    /// When it was seen.
    pub at: Timestamp,
    /// To which object.
    pub object: ObjectRef,
    /// What.
    pub deed: ExternalDeed,
    /// What is known of who it was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

/// One step of a strategy.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StepView {
    /// From 0.
    pub index: usize,
    /// `setWeight` or `pause`; of blue/green `deploy`, `pause`, `redirect` or `shutDown`; of rolling `roll`.
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    /// Of each gate that waits for a person, the roles any one of which may open it; empty: whoever may deploy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs_roles: Vec<Vec<String>>,
    /// Which change it brings, as the submitter said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeRow>,
    /// The earlier run that it goes back to, tries again or repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The run behind which it waits for its turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<PipelineId>,
    /// The newer run that took its place in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<PipelineId>,
}

/// Which change a pipeline brings: what submitters say of their source control, in fixed words, each cut to 200
/// characters.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangeRow {
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// What happened: `push`, `pull_request`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The branch or tag.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The pull request's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pr: Option<String>,
    /// Where people look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Who pushed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// One target in a row.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
