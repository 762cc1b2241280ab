//! Between the wire's messages and the domain: every field that comes in is checked and bounded here.

mod command;
mod outcome;
mod progress;
mod session;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use aurora_core::digest::Digest;
use aurora_core::manifest::ObjectRef;
use jiff::Timestamp;

use super::proto::agent as pb;

pub(super) use self::session::{
    Incoming, agent_frame, bad_command, from_agent_frame, from_hub_frame, hub_frame,
};

/// A field of a message is not acceptable.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the field `{field}` {problem}")]
#[expect(
    unnameable_types,
    reason = "the generated types whose conversions give it are public in name alone"
)]
pub struct BadField {
    /// Its name.
    pub(super) field: &'static str,
    /// What is wrong with it.
    pub(super) problem: &'static str,
}

impl BadField {
    pub(super) const fn new(field: &'static str, problem: &'static str) -> Self {
        Self { field, problem }
    }
}

/// Names of objects, namespaces, revisions.
const NAME: usize = 253;

/// Items of a list of objects.
const MANY: usize = 4096;

/// A text of at most `max` bytes.
fn text(value: String, max: usize, field: &'static str) -> Result<String, BadField> {
    if value.len() > max {
        return Err(BadField::new(field, "is too long"));
    }
    Ok(value)
}

/// A text of 1 to `max` bytes.
fn needed(value: String, max: usize, field: &'static str) -> Result<String, BadField> {
    if value.is_empty() {
        return Err(BadField::new(field, "is empty"));
    }
    text(value, max, field)
}

/// A list of at most `max` items.
fn bounded<T>(values: Vec<T>, max: usize, field: &'static str) -> Result<Vec<T>, BadField> {
    if values.len() > max {
        return Err(BadField::new(field, "has too many items"));
    }
    Ok(values)
}

/// A map of at most 64 short keys and values of at most 1024 bytes.
fn facts(
    values: BTreeMap<String, String>,
    field: &'static str,
) -> Result<BTreeMap<String, String>, BadField> {
    if values.len() > 64
        || values
            .iter()
            .any(|(key, value)| key.len() > 64 || value.len() > 1024)
    {
        return Err(BadField::new(field, "has too many or too long entries"));
    }
    Ok(values)
}

/// A message that must be there.
fn present<T>(value: Option<T>, field: &'static str) -> Result<T, BadField> {
    value.ok_or(BadField::new(field, "is missing"))
}

fn id<T: std::str::FromStr>(text: &str, field: &'static str) -> Result<T, BadField> {
    if text.len() != 36 {
        return Err(BadField::new(field, "is not a UUID of 36 characters"));
    }
    text.parse().map_err(|_| BadField::new(field, "is not a UUID"))
}

pub(super) fn digest(bytes: &[u8], field: &'static str) -> Result<Digest, BadField> {
    use std::fmt::Write as _;
    if bytes.len() != 32 {
        return Err(BadField::new(field, "is not 32 bytes"));
    }
    let mut text = String::with_capacity(71);
    text.push_str("sha256:");
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.parse().map_err(|_| BadField::new(field, "is not a digest"))
}

fn time(micros: i64, field: &'static str) -> Result<Timestamp, BadField> {
    Timestamp::from_microsecond(micros).map_err(|_| BadField::new(field, "is out of range"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl From<ObjectRef> for pb::ObjectRef {
    fn from(object: ObjectRef) -> Self {
        Self {
            group: object.group,
            kind: object.kind,
            namespace: object.namespace,
            name: object.name,
        }
    }
}

impl TryFrom<pb::ObjectRef> for ObjectRef {
    type Error = BadField;

    fn try_from(wire: pb::ObjectRef) -> Result<Self, BadField> {
        Ok(Self {
            group: text(wire.group, NAME, "object.group")?,
            kind: needed(wire.kind, NAME, "object.kind")?,
            namespace: text(wire.namespace, NAME, "object.namespace")?,
            name: needed(wire.name, NAME, "object.name")?,
        })
    }
}
