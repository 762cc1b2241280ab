//! What travels between agent and hub: envelopes on a link, in both directions.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::account::AgentName;
use crate::command::{Command, Outcome, Update};
use crate::digest::Digest;
use crate::id::{InstanceId, RequestId, SessionId};
use crate::secret::Secret;

/// The newest version of the session protocol that this crate speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// The oldest version that this crate still serves.
pub const OLDEST_PROTOCOL_VERSION: u32 = 1;

/// The largest encoded envelope; larger ones are refused for their request alone.
pub const MAX_ENVELOPE_BYTES: usize = 256 * 1024;

/// The first envelope of a session: who the agent is and what it can do.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    /// The name it claims; the credential must allow it.
    pub agent: AgentName,
    /// This process.
    pub instance: InstanceId,
    /// How many instances of this agent are meant to run at once.
    pub replicas: u32,
    /// The newest and oldest protocol versions that it speaks.
    pub versions: (u32, u32),
    /// Abilities by name, and what the executor says about itself.
    pub features: Vec<String>,
    /// Its program version, for people.
    pub software: String,
    /// Names and values for people: platform version, namespace policy.
    pub labels: BTreeMap<String, String>,
    /// The agent's clock, to show its offset.
    pub now: Timestamp,
}

/// The hub's answer to a hello.
#[derive(Clone, Debug, PartialEq)]
pub struct Welcome {
    /// This session.
    pub session: SessionId,
    /// Grows with every session of the agent: what an older session says counts no more.
    pub epoch: u64,
    /// The version that both speak.
    pub version: u32,
    /// Abilities that both have.
    pub features: Vec<String>,
    /// How often each side gives a sign of life.
    pub heartbeat: Duration,
    /// When the session ends unless a new token comes first.
    pub expires_at: Timestamp,
    /// Bytes of replies that may be under way for one command without a credit.
    pub credit: u32,
}

/// A frame from the agent to the hub.
#[derive(Clone, Debug)]
pub enum FromAgent {
    /// A new token for the session that is under way.
    AuthRefresh(Secret),
    /// The agent leaves; the reason is for people.
    Goodbye(String),
    /// A sign of life, and the ids of the commands in hand.
    Heartbeat(Vec<RequestId>),
    /// The first envelope.
    Hello(Hello),
    /// What the agent's cluster has, as a snapshot or a change.
    Inventory(Inventory),
    /// News of a command; the epoch says of which session.
    Update {
        /// Which command on this link.
        request: RequestId,
        /// The news.
        update: Update,
    },
}

/// A frame from the hub to the agent.
#[derive(Clone, Debug)]
pub enum FromHub {
    /// Stop a command; its outcome still follows.
    Cancel(RequestId),
    /// An order.
    Command {
        /// The correlation on this link.
        request: RequestId,
        /// The order.
        command: Box<Command>,
    },
    /// So many more bytes may be sent for a command.
    Credit {
        /// Which command.
        request: RequestId,
        /// How many.
        bytes: u32,
    },
    /// Open another session within this time, then close this one.
    Drain {
        /// Spread the new attempt over this time.
        reconnect_in: Duration,
        /// Why, for people.
        reason: String,
    },
    /// The hub ends the session.
    Goodbye {
        /// Why.
        reason: CloseReason,
        /// Wait at least this long before another attempt.
        retry_after: Duration,
    },
    /// A sign of life.
    Heartbeat,
    /// Send the whole inventory again.
    InventoryNack(String),
    /// The session is open.
    Welcome(Welcome),
}

/// Why a hub ends a session.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CloseReason {
    /// Another instance of this name is connected and replicas were not declared.
    Conflict,
    /// The credential may not connect an agent, or not one of this name.
    Denied,
    /// The hub stops.
    Drained,
    /// The token ended and no new one came.
    Expired,
    /// The agent did not keep to the protocol.
    Protocol,
    /// No sign of life.
    Silent,
    /// A newer session of the same instance took over.
    Superseded,
    /// Agent and hub have no protocol version in common.
    Version,
}

/// A snapshot of what the agent's cluster has, or a change to it.
#[derive(Clone, Debug, PartialEq)]
pub enum Inventory {
    /// The snapshot of this generation starts.
    Begin {
        /// Which snapshot; grows.
        generation: u64,
    },
    /// An item changed or, without a value, is gone.
    Delta {
        /// The snapshot that it changes.
        generation: u64,
        /// Counts the deltas of the generation from 1.
        sequence: u64,
        /// The item's key.
        key: String,
        /// Its new value.
        value: Option<InventoryItem>,
    },
    /// The snapshot is complete.
    End {
        /// Which snapshot.
        generation: u64,
        /// How many items.
        count: u64,
        /// The digest of all items, order aside.
        digest: Digest,
    },
    /// One item of the snapshot.
    Item {
        /// Which snapshot.
        generation: u64,
        /// The item's key: unique in the snapshot.
        key: String,
        /// The item.
        value: InventoryItem,
    },
}

/// One thing of an inventory: for people and for listing accounts, never for driving a pipeline.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InventoryItem {
    /// What it is: `namespace`, `appliedSet`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Facts for people.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

/// The digest that an inventory's end carries.
///
/// SHA-256 over the items in byte order of their keys: for each the key, a line feed, the item as
/// canonical JSON (`facts` left out when empty), a line feed.
pub fn inventory_digest(items: &BTreeMap<String, InventoryItem>) -> Digest {
    let mut text = String::new();
    for (key, item) in items {
        // An item is made of texts alone, so it always has a JSON form.
        let value = serde_json::to_value(item).unwrap_or(serde_json::Value::Null);
        text.push_str(key);
        text.push('\n');
        text.push_str(&crate::digest::canonical_json(&value));
        text.push('\n');
    }
    Digest::of(text.as_bytes())
}

/// Tells an update's outcome, if it is the last one.
pub fn outcome_of(update: &Update) -> Option<&Outcome> {
    match update {
        Update::Finished(outcome) => Some(outcome),
        Update::Accepted | Update::Progress(_) | Update::Stage { .. } => None,
    }
}
