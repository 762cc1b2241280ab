//! Agents and accounts.

use aurora_core::authz::ReadInfrastructure;
use http::StatusCode;
use utoipa::openapi::RefOr;

use super::doc::Doc;
use super::schema;
use crate::rest::wire::{AccountsAnswer, AgentAnswer, AgentsAnswer};

pub(super) fn docs() -> Vec<Doc> {
    const AGENTS: &str = "agents";
    let instances = RefOr::T(schema::list(schema::object()));
    vec![
        Doc::get(
            "/agents",
            "listAgents",
            AGENTS,
            "Agents that are connected or ever were.",
        )
        .needs::<ReadInfrastructure>()
        .gives::<AgentsAnswer>("The agents, by name."),
        Doc::get("/agents/{agent}", "agent", AGENTS, "One agent.")
            .needs::<ReadInfrastructure>()
            .gives::<AgentAnswer>("The agent."),
        Doc::get(
            "/accounts",
            "listAccounts",
            AGENTS,
            "Accounts and what their clusters have.",
        )
        .needs::<ReadInfrastructure>()
        .gives::<AccountsAnswer>("The accounts, by name."),
        Doc::get(
            "/identity/connected-agents",
            "connectedAgents",
            AGENTS,
            "Connected instances, as clients of the older product read them.",
        )
        .needs::<ReadInfrastructure>()
        .query(
            "agent-identifier",
            schema::text(),
            "Only instances of this agent.",
        )
        .gives_raw(
            StatusCode::OK,
            "One entry per connected instance.",
            vec![("application/json", instances)],
        ),
    ]
}
