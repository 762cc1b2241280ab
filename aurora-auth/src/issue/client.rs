//! The clients that may ask for tokens, as configuration lists them.

use std::collections::BTreeSet;
use std::time::Duration;

use aurora_core::account::AgentName;
use aurora_core::authz::{
    ConnectAgent, Deploy, Permission, ROUTE_COMMANDS, ReadInfrastructure, ReadPipelines,
};
use aurora_core::principal::PrincipalKind;
use aurora_core::tenant::Tenant;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::client_secret::SecretHash;
use crate::verify::{MAX_TTL, is_scope};

/// How long tokens live where a client does not say.
const DEFAULT_TTL: Duration = Duration::from_secs(30 * 60);

/// The shortest life that a client may ask for.
const MIN_TTL: Duration = Duration::from_secs(5);

/// Scopes of the product that we succeed, taken so that its credentials keep working.
const FOREIGN_SCOPES: [&str; 4] = [
    "exec:infra:op",
    "get:infra:op",
    "read:artifacts:data",
    "write:infra:data",
];

/// One client as written in a configuration file; unknown members are refused.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientConfig {
    /// The client id.
    pub id: String,
    /// A name for people; the id where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What sort of somebody.
    pub kind: ClientKind,
    /// `organization/environment`; a service has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The hash of its secret.
    pub secret_hash: SecretHash,
    /// The hash of the secret before, which still works while programs change over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_secret_hash: Option<SecretHash>,
    /// What it may ask for, and gets when it asks for nothing.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Its roles.
    #[serde(default)]
    pub roles: BTreeSet<String>,
    /// The agent names that it may claim.
    #[serde(default)]
    pub agents: Vec<String>,
    /// How long its tokens live, in seconds: 5 to 3600, 1800 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// It gets no tokens (any more).
    #[serde(default)]
    pub disabled: bool,
    /// It gets no tokens from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// What a client can be; people are no clients.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientKind {
    /// An agent or a job of one tenant.
    Machine,
    /// One of Aurora's own parts.
    Service,
}

/// A client that makes sense.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) kind: PrincipalKind,
    pub(super) tenant: Option<Tenant>,
    pub(super) secrets: Vec<SecretHash>,
    pub(super) scopes: BTreeSet<String>,
    pub(super) roles: BTreeSet<String>,
    pub(super) agents: BTreeSet<AgentName>,
    pub(super) ttl: Duration,
    disabled: bool,
    expires_at: Option<Timestamp>,
}

impl Client {
    /// Tells whether the client may have a token at a time.
    pub(super) fn is_enabled(&self, now: Timestamp) -> bool {
        !self.disabled && self.expires_at.is_none_or(|end| now < end)
    }

    /// Checks what was written, and says all that is wrong with it.
    pub(super) fn check(config: &ClientConfig) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut wrong = |problem: String| problems.push(format!("client `{}`: {problem}", shown(&config.id)));
        if !is_client_id(&config.id) {
            wrong("an id has 1 to 64 letters, digits, dots, dashes and underscores".into());
        }
        for (what, text) in config
            .name
            .iter()
            .map(|name| ("name", name))
            .chain(config.roles.iter().map(|role| ("role", role)))
        {
            if text.is_empty() || text.len() > 128 || text.chars().any(char::is_control) {
                wrong(format!("a {what} has 1 to 128 printable characters"));
            }
        }
        let tenant = match (&config.tenant, config.kind) {
            (Some(text), ClientKind::Machine) => text
                .parse::<Tenant>()
                .map_err(|error| wrong(format!("tenant: {error}")))
                .ok(),
            (None, ClientKind::Service) => None,
            (None, ClientKind::Machine) => {
                wrong("a machine needs a tenant: organization/environment".into());
                None
            }
            (Some(_), ClientKind::Service) => {
                wrong("a service has no tenant".into());
                None
            }
        };
        let mut agents = BTreeSet::new();
        for name in &config.agents {
            match AgentName::new(name.as_str()) {
                Ok(name) => {
                    agents.insert(name);
                }
                Err(error) => wrong(format!("agents: {error}")),
            }
        }
        for problem in scope_problems(config) {
            wrong(problem);
        }
        let ttl = config.ttl_seconds.map_or(DEFAULT_TTL, Duration::from_secs);
        if ttl < MIN_TTL || ttl > MAX_TTL {
            wrong("ttlSeconds is 5 to 3600".into());
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            id: config.id.clone(),
            name: config.name.clone(),
            kind: match config.kind {
                ClientKind::Machine => PrincipalKind::Machine,
                ClientKind::Service => PrincipalKind::Service,
            },
            tenant,
            secrets: std::iter::once(&config.secret_hash)
                .chain(&config.previous_secret_hash)
                .cloned()
                .collect(),
            scopes: config.scopes.iter().cloned().collect(),
            roles: config.roles.clone(),
            agents,
            ttl,
            disabled: config.disabled,
            expires_at: config.expires_at,
        })
    }
}

fn scope_problems(config: &ClientConfig) -> Vec<String> {
    let known = known_scopes();
    let mut problems = Vec::new();
    for scope in &config.scopes {
        if !is_scope(scope) || !known.contains(scope.as_str()) {
            problems.push(format!(
                "the scope `{}` is unknown; there are {}",
                shown(scope),
                known.iter().copied().collect::<Vec<_>>().join(", ")
            ));
        }
    }
    if config.scopes.is_empty() {
        problems.push("scopes are missing".into());
    }
    let routes = config.scopes.iter().any(|scope| scope == ROUTE_COMMANDS);
    let connects = config
        .scopes
        .iter()
        .any(|scope| ConnectAgent::SCOPES.contains(&scope.as_str()));
    match config.kind {
        ClientKind::Machine if routes => {
            problems.push(format!("only a service may have the scope `{ROUTE_COMMANDS}`"));
        }
        ClientKind::Machine if connects && config.agents.is_empty() => {
            problems.push("a client that connects agents needs the agents that it may claim".into());
        }
        ClientKind::Service if config.scopes.iter().any(|scope| scope != ROUTE_COMMANDS) => {
            problems.push(format!("a service may have only the scope `{ROUTE_COMMANDS}`"));
        }
        ClientKind::Machine | ClientKind::Service => {}
    }
    if config.kind == ClientKind::Service && !(config.roles.is_empty() && config.agents.is_empty()) {
        problems.push("a service has neither roles nor agents".into());
    }
    problems
}

/// Every scope that means something here.
pub(super) fn known_scopes() -> BTreeSet<&'static str> {
    [
        Deploy::SCOPES,
        ReadPipelines::SCOPES,
        ReadInfrastructure::SCOPES,
        ConnectAgent::SCOPES,
        &FOREIGN_SCOPES,
        &[ROUTE_COMMANDS],
    ]
    .into_iter()
    .flatten()
    .copied()
    .collect()
}

fn is_client_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}
