//! Agents and accounts of a tenant: those that are connected, and those that were ever seen.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ControlError, ControlPlane};
use crate::account::AgentName;
use crate::authz::{Grant, ReadInfrastructure};
use crate::error::ErrorChain;
use crate::port::router::{AgentStatus, InstanceStatus, InventoryStatus, RouteError};
use crate::port::store::{Batch, RecordKey, Scan, Scope};
use crate::tenant::Tenant;

/// The kind of the records of agents that were seen.
const SEEN: &str = "agent.seen";

/// Records read at once.
const PAGE: usize = 500;

/// The record that an agent was seen.
pub(super) fn seen_key(agent: &str) -> RecordKey {
    RecordKey::new(SEEN, agent)
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    v: u32,
    first_seen: Timestamp,
}

/// An agent, connected or not.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AgentView {
    /// Its name, which is its account's name.
    pub name: AgentName,
    /// Whether any instance is connected.
    pub online: bool,
    /// How many instances it said would run; 0 where only its record is left.
    pub declared_replicas: u32,
    /// How many are connected.
    pub connected_replicas: usize,
    /// When anything was last heard of it, where the hub still knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// When it was first seen, where that is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Timestamp>,
    /// Its connected instances.
    pub instances: Vec<InstanceStatus>,
}

/// An account and what its agent last said of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AccountView {
    /// Its name.
    pub name: AgentName,
    /// Whether its agent is connected.
    pub online: bool,
    /// When anything was last heard of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// What its cluster has, as of the last snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<InventoryStatus>,
    /// How many items of each kind that has.
    pub counts: BTreeMap<String, usize>,
}

impl ControlPlane {
    /// All agents of the tenant that were ever seen, by name.
    ///
    /// # Errors
    /// [`ControlError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn agents(&self, grant: &Grant<ReadInfrastructure>) -> Result<Vec<AgentView>, ControlError> {
        let agents = self.fleet(grant).await?;
        Ok(agents.into_iter().map(|(view, _)| view).collect())
    }

    /// All accounts of the tenant, by name.
    ///
    /// # Errors
    /// [`ControlError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn accounts(
        &self,
        grant: &Grant<ReadInfrastructure>,
    ) -> Result<Vec<AccountView>, ControlError> {
        let accounts = self.fleet(grant).await?.into_iter().map(|(agent, inventory)| {
            let mut counts = BTreeMap::new();
            for item in inventory.iter().flat_map(|inventory| inventory.items.values()) {
                *counts.entry(item.kind.clone()).or_insert(0) += 1;
            }
            AccountView {
                name: agent.name,
                online: agent.online,
                last_seen: agent.last_seen,
                inventory,
                counts,
            }
        });
        Ok(accounts.collect())
    }

    async fn fleet(
        &self,
        grant: &Grant<ReadInfrastructure>,
    ) -> Result<Vec<(AgentView, Option<InventoryStatus>)>, ControlError> {
        let connected = self
            .seen_agents(grant.tenant())
            .await
            .map_err(|source| ControlError::Router { source })?;
        let mut agents = BTreeMap::new();
        for (name, first_seen) in self.recorded(grant.tenant()).await? {
            let view = AgentView {
                name: name.clone(),
                online: false,
                declared_replicas: 0,
                connected_replicas: 0,
                last_seen: None,
                first_seen: Some(first_seen),
                instances: Vec::new(),
            };
            agents.insert(name, (view, None));
        }
        for agent in connected {
            let first_seen = agents.get(&agent.name).and_then(|(view, _)| view.first_seen);
            // The hub's clock says when it was last heard of, ours when it was first asked for.
            let first_seen = first_seen.map(|first| first.min(agent.last_seen));
            let view = AgentView {
                name: agent.name.clone(),
                online: !agent.instances.is_empty(),
                declared_replicas: agent.declared_replicas,
                connected_replicas: agent.instances.len(),
                last_seen: Some(agent.last_seen),
                first_seen,
                instances: agent.instances,
            };
            agents.insert(agent.name, (view, agent.inventory));
        }
        Ok(agents.into_values().collect())
    }

    async fn recorded(&self, tenant: &Tenant) -> Result<Vec<(AgentName, Timestamp)>, ControlError> {
        let scope = Scope::from(tenant);
        let mut scan = Scan {
            kind: SEEN.to_owned(),
            prefix: String::new(),
            after: None,
            reverse: false,
            limit: PAGE,
        };
        let mut agents = Vec::new();
        loop {
            let page = self.inner.store.scan(&scope, scan.clone()).await?;
            let full = page.len() == PAGE;
            scan.after = page.last().map(|record| record.key.id.clone());
            agents.extend(page.into_iter().filter_map(|record| {
                let seen: Seen = serde_json::from_slice(&record.value).ok()?;
                Some((AgentName::new(record.key.id).ok()?, seen.first_seen))
            }));
            if !full {
                return Ok(agents);
            }
        }
    }

    /// Asks the hub for the tenant's agents and remembers those that are new.
    pub(super) async fn seen_agents(&self, tenant: &Tenant) -> Result<Vec<AgentStatus>, RouteError> {
        let agents = self.inner.router.agents(tenant).await?;
        let scope = Scope::from(tenant);
        let mut batch = Batch::new(scope.clone());
        for agent in &agents {
            let key = seen_key(agent.name.as_str());
            // Not remembered now is remembered the next time.
            if let Ok(None) = self.inner.store.get(&scope, &key).await {
                let since = agent.instances.iter().map(|instance| instance.since);
                let seen = Seen {
                    v: 1,
                    // It was there before anybody asked for it.
                    first_seen: since
                        .chain([agent.last_seen, self.inner.clock.now()])
                        .min()
                        .unwrap_or(agent.last_seen),
                };
                batch
                    .puts
                    .push((key, serde_json::to_vec(&seen).unwrap_or_default().into()));
            }
        }
        if !batch.puts.is_empty()
            && let Err(error) = self.inner.store.commit(batch).await
        {
            tracing::warn!(tenant = %tenant, error = %ErrorChain(&error), "agents could not be remembered");
        }
        Ok(agents)
    }
}
