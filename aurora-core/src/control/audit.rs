//! Audit lines: one record per act of a person, in the batch of what it records.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use crate::id::PipelineId;
use crate::pipeline::{Event, timeline_entry};
use crate::port::store::RecordKey;
use crate::principal::Actor;

/// The kind of audit records.
pub(super) const KIND: &str = "audit";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    v: u32,
    at: Timestamp,
    actor: &'a Actor,
    action: String,
    object: String,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
    text: String,
}

/// The audit line of an event, if somebody did it; ids sort by time.
pub(super) fn line(pipeline: PipelineId, version: u64, event: &Event) -> Option<(RecordKey, Bytes)> {
    let by = event.by.as_ref()?;
    let entry = timeline_entry(pipeline, version, event);
    let line = Line {
        v: 1,
        at: event.at,
        actor: &by.actor,
        action: entry.kind,
        object: format!("pipeline/{pipeline}"),
        version,
        comment: by.comment.as_deref(),
        text: entry.text,
    };
    let id = format!("{:020}/{pipeline}/{version}", event.at.as_microsecond().max(0));
    let value = serde_json::to_vec(&line).ok()?;
    Some((RecordKey::new(KIND, id), value.into()))
}
