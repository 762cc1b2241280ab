//! Agents and accounts.

use aurora_core::authz::ReadInfrastructure;
use aurora_core::error::ErrorKind;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json as value};

use super::Api;
use super::answer::json;
use super::authenticate::Granted;
use super::problem::Refusal;
use super::request::Params;
use super::wire::{AccountsAnswer, AgentAnswer, AgentsAnswer, ReadAt};

/// `GET /agents`
pub(super) async fn agents(
    State(api): State<Api>,
    Granted(grant): Granted<ReadInfrastructure>,
    params: Params,
) -> Result<Response, Refusal> {
    params.finish()?;
    let agents = api.inner.plane.agents(&grant).await?;
    let now = api.inner.clock.now();
    let as_of = ReadAt { at: now };
    Ok(json(StatusCode::OK, &AgentsAnswer { now, as_of, agents }))
}

/// `GET /agents/{agent}`
pub(super) async fn agent(
    State(api): State<Api>,
    Granted(grant): Granted<ReadInfrastructure>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, Refusal> {
    params.finish()?;
    let agents = api.inner.plane.agents(&grant).await?;
    let found = agents.into_iter().find(|agent| agent.name.as_str() == name);
    let agent = found.ok_or_else(|| {
        let name: String = name.chars().take(64).collect();
        let detail = format!("there is no agent {name}");
        Refusal::new(ErrorKind::NotFound, "notFound", detail)
    })?;
    let now = api.inner.clock.now();
    let as_of = ReadAt { at: now };
    Ok(json(StatusCode::OK, &AgentAnswer { now, as_of, agent }))
}

/// `GET /accounts`
pub(super) async fn accounts(
    State(api): State<Api>,
    Granted(grant): Granted<ReadInfrastructure>,
    params: Params,
) -> Result<Response, Refusal> {
    params.finish()?;
    let accounts = api.inner.plane.accounts(&grant).await?;
    let now = api.inner.clock.now();
    let as_of = ReadAt { at: now };
    Ok(json(StatusCode::OK, &AccountsAnswer { now, as_of, accounts }))
}

/// `GET /identity/connected-agents`: one entry per connected instance, for clients of the older product.
pub(super) async fn connected(
    State(api): State<Api>,
    Granted(grant): Granted<ReadInfrastructure>,
    mut params: Params,
) -> Result<Response, Refusal> {
    let only = params.lenient("agent-identifier");
    params.finish()?;
    let tenant = grant.tenant().clone();
    let mut connected: Vec<Value> = Vec::new();
    for agent in api.inner.plane.agents(&grant).await? {
        if only.as_ref().is_some_and(|only| agent.name.as_str() != only) {
            continue;
        }
        for instance in &agent.instances {
            connected.push(value!({
                "agentIdentifier": agent.name,
                "agentInstanceUuid": instance.instance,
                "agentVersion": instance.software,
                "clientId": instance.client,
                "connectedAtIso8601": instance.since,
                "lastHeartbeatAtIso8601": instance.last_heartbeat,
                "streamId": instance.session,
                "ipAddress": instance.address,
                "orgId": tenant.organization,
                "envId": tenant.environment,
            }));
        }
    }
    Ok(json(StatusCode::OK, &connected))
}
