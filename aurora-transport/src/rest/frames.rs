//! Frames of event streams, shared by the API and its client.

use std::sync::Arc;

use aurora_core::control::{Cursor, HistoryPoint};
use aurora_core::id::PipelineId;
use aurora_core::pipeline::{ArmoryStatus, State, Summary, TimelineEntry};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A frame of an event stream.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent {
    /// Still here: every ten seconds.
    Beat(Beat),
    /// The stream ends; whether to come back is in the reason.
    Bye(Bye),
    /// The first frame.
    Hello(Hello),
    /// A workload's weight or pods changed.
    HistoryPoint(Box<HistoryAppended>),
    /// A pipeline's row changed.
    PipelineChanged(Box<PipelineChanged>),
    /// Something was missed: read the document again; the stream goes on.
    Resync(Resync),
    /// A pipeline's timeline has a new line.
    TimelineAppended(Box<TimelineAppended>),
}

/// The first frame of a stream.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
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
    /// The same for all who see the same.
    #[serde(default)]
    pub visibility: String,
}

/// A sign of life.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct Beat {
    /// The control plane's time.
    pub now: Timestamp,
    /// Everything up to here was told.
    pub cursor: Cursor,
}

/// Why a stream ends.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bye {
    /// `drain`: come back; `ended`: the pipeline is over; `expired`: come back with a new token;
    /// `broken`: come back later.
    pub reason: String,
    /// Come back after so long.
    pub retry_after_ms: u64,
}

/// Something was missed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct Resync {
    /// `cursorUnknown`: the cursor is ahead of everything stored.
    pub reason: String,
}

/// A pipeline's row after an event.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct PipelineChanged {
    /// The pipeline.
    pub subject: PipelineId,
    /// The version of the event.
    pub version: u64,
    /// When it was stored.
    pub at: Timestamp,
    /// What that is to the stream's filter.
    #[serde(default, rename = "match")]
    pub matched: Match,
    /// What counts are made of, before the event; absent for a new pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
    /// The row.
    #[schema(value_type = Summary)]
    pub row: Arc<Summary>,
}

/// What a changed row is to a filter.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Match {
    /// It was let through, and is.
    #[default]
    Changed,
    /// It is let through now.
    Entered,
    /// It is not let through any more.
    Left,
}

/// A row before an event, as far as counts are made of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct Before {
    /// In Armory's words.
    pub status: ArmoryStatus,
    /// In ours.
    pub state: State,
    /// What it needed.
    pub needs: String,
}

/// A new point of a target's history.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct HistoryAppended {
    /// The pipeline.
    pub subject: PipelineId,
    /// The target.
    pub target: String,
    /// Its place in the target's history, from 1.
    pub version: u64,
    /// When it was stored.
    pub at: Timestamp,
    /// The point.
    pub point: HistoryPoint,
}

/// A line of a timeline.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
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
            Self::HistoryPoint(_) => "history.point",
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
            Self::HistoryPoint(data) => serde_json::to_string(data),
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
            "history.point" => serde_json::from_str(data).map(Self::HistoryPoint),
            "pipeline.changed" => serde_json::from_str(data).map(Self::PipelineChanged),
            "resync" => serde_json::from_str(data).map(Self::Resync),
            "timeline.appended" => serde_json::from_str(data).map(Self::TimelineAppended),
            _ => return None,
        };
        Some(event)
    }
}
