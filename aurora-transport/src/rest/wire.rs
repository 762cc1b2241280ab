//! Bodies of answers, shared by the API and its client.

use std::collections::BTreeMap;

use aurora_core::control::{AccountView, AgentView, AsOf, Cursor, Facet};
use aurora_core::deploy_file::Problem;
use aurora_core::id::PipelineId;
use aurora_core::pipeline::{EvidenceView, Summary, TargetView, TimelineEntry};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A submit was taken.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubmitAnswer {
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// What is worth knowing about what was submitted.
    pub warnings: Vec<Problem>,
}

/// What somebody decides, or wants ended.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
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
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
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

/// A page of pipelines, the newest first.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListAnswer {
    /// The control plane's time.
    pub now: Timestamp,
    /// As of when.
    pub as_of: AsOf,
    /// The rows.
    pub rows: Vec<Summary>,
    /// The pages beside this one.
    pub page: Page,
    /// How many of each, per facet that was asked for.
    #[serde(default)]
    pub counts: BTreeMap<Facet, BTreeMap<String, usize>>,
    /// Whether rows and counts cover everything.
    pub exact: bool,
}

/// The pages beside a page; a cursor goes into the parameter `cursor`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Page {
    /// Older ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Newer ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<String>,
}

/// One target of a pipeline.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
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
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
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
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
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
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct EvidenceItem {
    /// Names it in paths.
    pub id: String,
    /// What it is.
    #[serde(flatten)]
    pub evidence: EvidenceView,
}

/// When something was read that is no part of the tenant's feed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct ReadAt {
    /// When.
    pub at: Timestamp,
}

/// The agents of a tenant.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
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
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
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
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountsAnswer {
    /// The control plane's time.
    pub now: Timestamp,
    /// As of when.
    pub as_of: ReadAt,
    /// The accounts, by name.
    pub accounts: Vec<AccountView>,
}

/// A frame of an event stream.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent {
    /// Still here: every ten seconds.
    Beat(Beat),
    /// The stream ends; whether to come back is in the reason.
    Bye(Bye),
    /// The first frame.
    Hello(Hello),
    /// A pipeline's row changed.
    PipelineChanged(Box<PipelineChanged>),
    /// Something was missed: read the document again; the stream goes on.
    Resync(Resync),
    /// A pipeline's timeline has a new line.
    TimelineAppended(Box<TimelineAppended>),
}

/// The first frame of a stream.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// The control plane's time.
    pub now: Timestamp,
    /// The program's version.
    pub server_version: String,
    /// What it tells of.
    pub topics: Vec<String>,
    /// When the token ends, and the stream with it.
    pub token_expires_at: Timestamp,
    /// A beat comes every so many seconds.
    pub beat_seconds: u64,
}

/// A sign of life.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Beat {
    /// The control plane's time.
    pub now: Timestamp,
    /// Everything up to here was told.
    pub cursor: Cursor,
}

/// Why a stream ends.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bye {
    /// `drain`: come back; `ended`: the pipeline is over; `expired`: come back with a new token;
    /// `broken`: come back later.
    pub reason: String,
    /// Come back after so long.
    pub retry_after_ms: u64,
}

/// Something was missed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Resync {
    /// `cursorUnknown`: the cursor is ahead of everything stored.
    pub reason: String,
}

/// A pipeline's row as it is now.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PipelineChanged {
    /// The pipeline.
    pub subject: PipelineId,
    /// The version of the event.
    pub version: u64,
    /// When it was stored.
    pub at: Timestamp,
    /// The row; it may be newer than the event, never older.
    pub row: Summary,
}

/// A line of a timeline.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TimelineAppended {
    /// The pipeline.
    pub subject: PipelineId,
    /// The version of the event.
    pub version: u64,
    /// When it was stored.
    pub at: Timestamp,
    /// The line.
    pub entry: TimelineEntry,
}

impl StreamEvent {
    /// The frame's name on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Beat(_) => "beat",
            Self::Bye(_) => "bye",
            Self::Hello(_) => "hello",
            Self::PipelineChanged(_) => "pipeline.changed",
            Self::Resync(_) => "resync",
            Self::TimelineAppended(_) => "timeline.appended",
        }
    }

    /// The frame's data on the wire.
    pub(super) fn data(&self) -> String {
        let json = match self {
            Self::Beat(data) => serde_json::to_string(data),
            Self::Bye(data) => serde_json::to_string(data),
            Self::Hello(data) => serde_json::to_string(data),
            Self::PipelineChanged(data) => serde_json::to_string(data),
            Self::Resync(data) => serde_json::to_string(data),
            Self::TimelineAppended(data) => serde_json::to_string(data),
        };
        // They hold texts, numbers and maps with text keys.
        json.unwrap_or_default()
    }

    /// Reads a frame; `None` for a name that this version does not know.
    pub(super) fn read(name: &str, data: &str) -> Option<Result<Self, serde_json::Error>> {
        let event = match name {
            "beat" => serde_json::from_str(data).map(Self::Beat),
            "bye" => serde_json::from_str(data).map(Self::Bye),
            "hello" => serde_json::from_str(data).map(Self::Hello),
            "pipeline.changed" => serde_json::from_str(data).map(Self::PipelineChanged),
            "resync" => serde_json::from_str(data).map(Self::Resync),
            "timeline.appended" => serde_json::from_str(data).map(Self::TimelineAppended),
            _ => return None,
        };
        Some(event)
    }
}
