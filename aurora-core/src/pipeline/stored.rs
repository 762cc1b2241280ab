//! The stored form of events: `{type, v, at, actor?, comment?, fence?, data?}`, one JSON object each.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{Deed, Event, What};
use crate::principal::Actor;

/// The only version that any type of event has so far.
const VERSION: u32 = 1;

/// A stored event that this program cannot read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnreadableEvent {
    /// The bytes are not a stored event.
    #[error("it is not a stored event")]
    Malformed {
        /// Why.
        source: serde_json::Error,
    },
    /// A newer program wrote it.
    #[error("this program does not know `{event}` version {version}; upgrade the control plane")]
    Unknown {
        /// The type.
        event: String,
        /// The version.
        version: u32,
    },
}

#[derive(Deserialize, Serialize)]
struct Envelope {
    r#type: String,
    v: u32,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actor: Option<Actor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fence: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

/// Every type of event that this program can read.
const KNOWN: [&str; 28] = [
    "actAnswered",
    "actsAsked",
    "agentAway",
    "agentReached",
    "applied",
    "applyAsked",
    "cancelAsked",
    "commandAccepted",
    "dequeued",
    "externalSeen",
    "finishAsked",
    "finished",
    "gateExpired",
    "gateNotExercised",
    "gateOpened",
    "gatePassed",
    "gateReached",
    "gateRejected",
    "gateSkipped",
    "pipelineEnded",
    "progressSeen",
    "rollbackStarted",
    "submitted",
    "superseded",
    "targetEnded",
    "targetFailed",
    "targetRetried",
    "targetStarted",
];

/// Writes an event as the bytes that are stored.
pub fn encode(event: &Event) -> Vec<u8> {
    let mut what = serde_json::to_value(&event.what).unwrap_or_default();
    let envelope = Envelope {
        r#type: what["type"].as_str().unwrap_or_default().to_owned(),
        v: VERSION,
        at: event.at,
        actor: event.by.as_ref().map(|by| by.actor.clone()),
        comment: event.by.as_ref().and_then(|by| by.comment.clone()),
        fence: event.fence,
        data: what.get_mut("data").map(Value::take),
    };
    serde_json::to_vec(&envelope).unwrap_or_default()
}

/// Reads a stored event.
///
/// # Errors
/// [`UnreadableEvent`] when the bytes are none, or of a type or version that is not known.
pub fn decode(bytes: &[u8]) -> Result<Event, UnreadableEvent> {
    let malformed = |source| UnreadableEvent::Malformed { source };
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(malformed)?;
    let known = KNOWN.contains(&envelope.r#type.as_str());
    if envelope.v != VERSION || !known {
        return Err(UnreadableEvent::Unknown {
            event: envelope.r#type,
            version: envelope.v,
        });
    }
    let mut what = serde_json::Map::new();
    what.insert("type".into(), Value::String(envelope.r#type));
    if let Some(data) = envelope.data {
        what.insert("data".into(), data);
    }
    Ok(Event {
        at: envelope.at,
        by: envelope.actor.map(|actor| Deed {
            actor,
            comment: envelope.comment,
        }),
        fence: envelope.fence,
        what: serde_json::from_value::<What>(Value::Object(what)).map_err(malformed)?,
    })
}
