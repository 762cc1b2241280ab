//! Getting a command to an agent and its updates back.

#[cfg(any(test, feature = "test-util"))]
pub mod laws;
mod memory;
#[cfg(any(test, feature = "test-util"))]
mod probe;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::account::{AgentKey, AgentName};
use crate::command::{Command, Update};
use crate::digest::Digest;
use crate::error::{BoxError, ErrorKind};
use crate::id::{InstanceId, SessionId};
use crate::session::InventoryItem;
use crate::tenant::Tenant;

pub use self::memory::InMemoryRouter;

/// Routes commands to agents, in process or through hubs.
#[async_trait]
pub trait CommandRouter: Debug + Send + Sync + 'static {
    /// Sends a command; the stream gives its updates and ends right after exactly one outcome.
    ///
    /// A failure after this returned is an outcome in the stream. Dropping the stream cancels the command.
    ///
    /// # Errors
    /// [`RouteError`]: `NotFound` for an agent that is unknown to the tenant (another tenant's is),
    /// `Unavailable` when it is not connected.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the command running until its deadline.
    async fn route(&self, to: &AgentKey, order: Order) -> Result<Updates, RouteError>;

    /// The agents of a tenant that were seen, connected or not.
    ///
    /// # Errors
    /// [`RouteError`] when the hub cannot be reached.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    async fn agents(&self, tenant: &Tenant) -> Result<Vec<AgentStatus>, RouteError>;
}

/// A command and the blobs that it names by digest.
#[derive(Clone, Debug)]
pub struct Order {
    /// The command.
    pub command: Command,
    /// Bodies that the agent may lack: the hub offers them for as long as the command runs.
    pub blobs: BTreeMap<Digest, Bytes>,
}

impl Order {
    /// A command that names no blob.
    pub const fn new(command: Command) -> Self {
        Self {
            command,
            blobs: BTreeMap::new(),
        }
    }

    /// Adds a body.
    #[must_use]
    pub fn with_blob(mut self, body: Bytes) -> Self {
        self.blobs.insert(Digest::of(&body), body);
        self
    }
}

/// The updates of one command; the last one is its outcome.
pub type Updates = BoxStream<'static, Update>;

/// What the hub knows of an agent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Its name, which is its account's name.
    pub name: AgentName,
    /// How many instances it said would run.
    pub declared_replicas: u32,
    /// The instances that are connected.
    pub instances: Vec<InstanceStatus>,
    /// When anything was last heard of it.
    pub last_seen: Timestamp,
    /// What it last said its cluster has.
    #[serde(default)]
    pub inventory: Option<InventoryStatus>,
}

/// One connected instance of an agent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InstanceStatus {
    /// The process.
    pub instance: InstanceId,
    /// Its session.
    pub session: SessionId,
    /// The session's epoch.
    pub epoch: u64,
    /// Its program version.
    pub software: String,
    /// Abilities that it and the hub share.
    pub features: Vec<String>,
    /// Since when.
    pub since: Timestamp,
    /// The last frame of any kind.
    pub last_heartbeat: Timestamp,
    /// Where it connects from.
    pub address: String,
    /// The credential's id.
    pub client: String,
    /// Its clock minus the hub's, in milliseconds.
    pub clock_offset_ms: i64,
    /// Commands in hand.
    pub in_flight: u32,
}

/// A complete snapshot of an agent's inventory.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InventoryStatus {
    /// Which snapshot.
    pub generation: u64,
    /// When it became complete or was last changed.
    pub at: Timestamp,
    /// Items by key.
    pub items: BTreeMap<String, InventoryItem>,
}

/// Why a command could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// The caller may not route commands.
    #[error("the hub does not let us route commands")]
    Denied {
        /// Why.
        source: BoxError,
    },
    /// Too many commands are under way.
    #[error("agent `{agent}` has too many commands in hand")]
    Exhausted {
        /// Which agent.
        agent: AgentKey,
    },
    /// The command cannot be sent as it is.
    #[error("the command cannot be sent: {problem}")]
    Invalid {
        /// What is wrong.
        problem: String,
    },
    /// No such agent in this tenant.
    #[error("agent `{agent}` is not known")]
    NotFound {
        /// Which agent.
        agent: AgentKey,
    },
    /// The agent is known and not connected now.
    #[error("agent `{agent}` is not connected")]
    Offline {
        /// Which agent.
        agent: AgentKey,
    },
    /// The hub cannot be reached.
    #[error("the hub cannot be reached")]
    Unavailable {
        /// Why.
        source: BoxError,
    },
}

impl RouteError {
    /// What can be done about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Exhausted { .. } => ErrorKind::Exhausted,
            Self::Invalid { .. } => ErrorKind::Invalid,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Offline { .. } | Self::Unavailable { .. } => ErrorKind::Unavailable,
        }
    }
}

#[async_trait]
impl<T: CommandRouter + ?Sized> CommandRouter for Arc<T> {
    async fn route(&self, to: &AgentKey, order: Order) -> Result<Updates, RouteError> {
        (**self).route(to, order).await
    }

    async fn agents(&self, tenant: &Tenant) -> Result<Vec<AgentStatus>, RouteError> {
        (**self).agents(tenant).await
    }
}
