//! Accounts and the agents that serve them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::tenant::{InvalidName, Tenant};

/// The name of an agent, which is also the name of the account it serves.
///
/// 1 to 63 characters of `a-z A-Z 0-9 . _ -`, beginning with a letter or digit.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct AgentName(String);

/// A target's account: the agent name written in the deploy file.
pub type AccountName = AgentName;

impl AgentName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidName`] when the text has other characters or another length.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        let inner = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        let start = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if text.len() > 63 || !inner || !start {
            return Err(InvalidName {
                text: text.chars().take(64).collect(),
                expected: "an agent name of 1 to 63 letters, digits, dots, dashes and underscores",
            });
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<AgentName> for String {
    fn from(name: AgentName) -> Self {
        name.0
    }
}

impl TryFrom<String> for AgentName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

/// Which agent, of which tenant: what commands are routed by.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct AgentKey {
    /// Whose agent it is.
    pub tenant: Tenant,
    /// Its name, which is the account's name.
    pub name: AgentName,
}

impl AgentKey {
    /// Names an agent of a tenant.
    pub const fn new(tenant: Tenant, name: AgentName) -> Self {
        Self { tenant, name }
    }
}

impl fmt::Display for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.name)
    }
}
