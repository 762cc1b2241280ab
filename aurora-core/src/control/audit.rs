//! Audit lines: one record per act of a person, in the batch of what it records.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use crate::id::PipelineId;
use crate::pipeline::{Event, Person, Subject, timeline_entry};
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
    result: &'static str,
    subject: Subject,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
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
        result: "done",
        subject: entry.subject,
        version: Some(version),
        comment: by.comment.as_deref(),
        text: entry.text,
    };
    record(event.at, &format!("{pipeline}/{version}"), &line)
}

/// An act that was not let happen.
pub(super) struct NotLet<'a> {
    pub(super) person: &'a Person,
    pub(super) action: &'a str,
    /// `denied` to this person, or `refused` to everybody as things are.
    pub(super) result: &'static str,
    pub(super) why: String,
}

/// The audit line of an act that was not let happen; `unique` keeps two of one moment apart.
pub(super) fn not_let(
    pipeline: PipelineId,
    not_let: &NotLet<'_>,
    at: Timestamp,
    unique: u64,
) -> Option<(RecordKey, Bytes)> {
    let line = Line {
        v: 1,
        at,
        actor: &not_let.person.actor,
        action: not_let.action.to_owned(),
        object: format!("pipeline/{pipeline}"),
        result: not_let.result,
        subject: Subject::default(),
        version: None,
        comment: not_let.person.comment.as_deref(),
        text: not_let.why.clone(),
    };
    record(at, &format!("{pipeline}/denied-{unique:016x}"), &line)
}

/// What the ids of lines of a moment begin with.
pub(super) fn time_id(at: Timestamp) -> String {
    format!("{:020}", at.as_microsecond().max(0))
}

fn record(at: Timestamp, rest: &str, line: &Line<'_>) -> Option<(RecordKey, Bytes)> {
    let id = format!("{}/{rest}", time_id(at));
    Some((RecordKey::new(KIND, id), serde_json::to_vec(line).ok()?.into()))
}
