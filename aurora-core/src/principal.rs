//! Who acts: the principal a credential proves, and the actor that events remember.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::account::AgentName;
use crate::tenant::Tenant;

/// What sort of somebody a principal is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum PrincipalKind {
    /// A client credential of one tenant: an agent, a CI job.
    Machine,
    /// One of Aurora's own parts; it belongs to no tenant.
    Service,
    /// A person.
    User,
}

/// Somebody that a verified credential stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    /// What sort of somebody.
    pub kind: PrincipalKind,
    /// The token's subject: unique per issuer.
    pub id: String,
    /// A name for people.
    pub display: String,
    /// The tenant that the credential is bound to; a service has none.
    pub tenant: Option<Tenant>,
    /// The permission strings of the token.
    pub scopes: BTreeSet<String>,
    /// Role names, compared without regard to case.
    pub roles: BTreeSet<String>,
    /// The agent names that the credential may claim.
    pub agents: BTreeSet<AgentName>,
    /// When the credential ends.
    pub expires_at: Timestamp,
}

impl Principal {
    /// Tells whether the token carries a scope.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.contains(scope)
    }

    /// Tells whether the principal holds a role; case does not matter.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held.eq_ignore_ascii_case(role))
    }
}

/// The door through which somebody acted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Channel {
    /// A REST client of the user's own.
    Api,
    /// The `aurora` command line.
    Cli,
    /// The web console.
    Console,
    /// Seen in the cluster: somebody acted past Aurora.
    External,
    /// A Spinnaker stage.
    Spinnaker,
    /// Aurora itself, by a rule or a timer.
    System,
}

/// Which program a request came from, as it said itself.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClientProduct {
    /// Its name.
    pub product: String,
    /// Its version.
    pub version: String,
}

/// Who did something, as stored events remember it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Actor {
    /// What sort of somebody.
    pub kind: PrincipalKind,
    /// The principal's id.
    pub id: String,
    /// A name for people.
    pub display: String,
    /// The door.
    pub via: Channel,
    /// The program, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientProduct>,
    /// For whom a service acted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
    /// The role or rule that allowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<String>,
}

impl Actor {
    /// Aurora itself, acting by the named rule.
    pub fn system(basis: &str) -> Self {
        Self {
            kind: PrincipalKind::Service,
            id: "aurora".into(),
            display: "Aurora".into(),
            via: Channel::System,
            client: None,
            on_behalf_of: None,
            basis: Some(basis.into()),
        }
    }

    /// A principal that came through a door.
    pub fn of(principal: &Principal, via: Channel, client: Option<ClientProduct>) -> Self {
        Self {
            kind: principal.kind,
            id: principal.id.clone(),
            display: principal.display.clone(),
            via,
            client,
            on_behalf_of: None,
            basis: None,
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display)
    }
}
