//! Bodies of answers, shared by the API and its client.

use std::collections::BTreeMap;
use std::sync::Arc;

use aurora_core::control::{AccountView, AgentView, AsOf, Facet};
use aurora_core::deploy_file::Problem;
use aurora_core::id::PipelineId;
use aurora_core::pipeline::{EvidenceView, PipelineView, Summary, TargetView, TimelineEntry};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A submit was taken.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubmitAnswer {
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// What is worth knowing about what was submitted.
    pub warnings: Vec<Problem>,
}

/// What somebody decides, or wants ended.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ActRequest {
    /// The target whose gate it is; not needed where the gate is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The gate; not needed while only one stands that the act can be about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// What the person saw: the gate's `expect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// For rolling back: the earlier run to whose version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_run: Option<PipelineId>,
    /// For redeploying: only these targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<String>>,
    /// For redeploying: run-wide variables beside those of the earlier run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
    /// Their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A decision is stored; what follows from it is on its way.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActAnswer {
    /// The pipeline; for an act on a run that is over, the new one that came of it.
    pub pipeline_id: PipelineId,
    /// Names the event that recorded it.
    pub event_id: String,
    /// `recorded`: an agent has not been asked yet.
    pub phase: String,
    /// The version of that event.
    pub version: u64,
    /// The control plane's time.
    pub now: Timestamp,
    /// An event stream opened with its cursor shows what follows.
    pub as_of: AsOf,
}

/// A page of pipelines.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListAnswer {
    /// The control plane's time.
    pub now: Timestamp,
    /// As of when.
    pub as_of: AsOf,
    /// The rows.
    #[schema(value_type = Vec<Summary>)]
    pub rows: Vec<Arc<Summary>>,
    /// The pages beside this one.
    pub page: Page,
    /// How many of each, per facet that was asked for.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, BTreeMap<String, usize>>)]
    pub counts: BTreeMap<Facet, BTreeMap<String, usize>>,
    /// Whether rows and counts cover everything.
    pub exact: bool,
}

/// The pages beside a page; a cursor goes into the parameter `cursor`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct Page {
    /// The one after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The one before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<String>,
}

/// A pipeline.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ViewAnswer {
    /// As of when.
    pub as_of: AsOf,
    /// The pipeline.
    #[serde(flatten)]
    pub view: PipelineView,
}

/// One target of a pipeline.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetAnswer {
    /// The control plane's time.
    pub now: Timestamp,
    /// As of when.
    pub as_of: AsOf,
    /// The version of the pipeline's last event.
    pub version: u64,
    /// The target.
    #[serde(flatten)]
    pub target: TargetView,
}

/// Lines of a timeline, in order.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimelineAnswer {
    /// The control plane's time.
    pub now: Timestamp,
    /// As of when.
    pub as_of: AsOf,
    /// The lines.
    pub entries: Vec<TimelineEntry>,
    /// There are more: those after this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// What was captured of a pipeline's failures.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceAnswer {
    /// The control plane's time.
    pub now: Timestamp,
    /// As of when.
    pub as_of: AsOf,
    /// One per failing pod.
    pub evidence: Vec<EvidenceItem>,
}

/// One piece of evidence.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct EvidenceItem {
    /// Names it in paths.
    pub id: String,
    /// What it is.
    #[serde(flatten)]
    pub evidence: EvidenceView,
}

/// When something was read that is no part of the tenant's feed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct ReadAt {
    /// When.
    pub at: Timestamp,
}

/// The agents of a tenant.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentsAnswer {
    /// The control plane's time.
    pub now: Timestamp,
    /// As of when.
    pub as_of: ReadAt,
    /// The agents, by name.
    pub agents: Vec<AgentView>,
}

/// One agent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentAnswer {
    /// The control plane's time.
    pub now: Timestamp,
    /// As of when.
    pub as_of: ReadAt,
    /// The agent.
    #[serde(flatten)]
    pub agent: AgentView,
}

/// The accounts of a tenant.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccountsAnswer {
    /// The control plane's time.
    pub now: Timestamp,
    /// As of when.
    pub as_of: ReadAt,
    /// The accounts, by name.
    pub accounts: Vec<AccountView>,
}
