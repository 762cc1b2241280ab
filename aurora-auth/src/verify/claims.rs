//! The claims of an access token, and the principal that they make.

use std::collections::BTreeSet;

use aurora_core::account::AgentName;
use aurora_core::principal::{Principal, PrincipalKind};
use aurora_core::tenant::Tenant;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::policy::{LEEWAY, VerifyPolicy};
use super::refusal::Refusal;

/// The longest identifier in a claim.
const MAX_IDENTIFIER: usize = 256;

/// The claims of our access tokens on the wire, version 1: RFC 9068 and `org`, `env`, `kind`, `roles`,
/// `agents`, `name`.
///
/// Each claim has one type; `null`, another type or a repeated name is refused. Unknown claims are
/// ignored.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) aud: Audience,
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    #[serde(
        default,
        deserialize_with = "super::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) nbf: Option<i64>,
    pub(crate) jti: String,
    pub(crate) client_id: String,
    #[serde(default)]
    pub(crate) scope: String,
    #[serde(
        default,
        deserialize_with = "super::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) org: Option<String>,
    #[serde(
        default,
        deserialize_with = "super::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) env: Option<String>,
    pub(crate) kind: Kind,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) roles: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) agents: BTreeSet<AgentName>,
    #[serde(
        default,
        deserialize_with = "super::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) name: Option<String>,
}

/// One audience, or several.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum Audience {
    One(String),
    Several(Vec<String>),
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Machine,
    Service,
    User,
}

impl From<Kind> for PrincipalKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Machine => Self::Machine,
            Kind::Service => Self::Service,
            Kind::User => Self::User,
        }
    }
}

impl From<PrincipalKind> for Kind {
    fn from(kind: PrincipalKind) -> Self {
        match kind {
            PrincipalKind::Machine => Self::Machine,
            PrincipalKind::Service => Self::Service,
            PrincipalKind::User => Self::User,
        }
    }
}

impl Audience {
    fn includes(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(several) => several.iter().any(|one| one == audience),
        }
    }
}

/// When a verified token is good, by its own claims; both ends without leeway.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Validity {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

impl Validity {
    /// Holds a time to the validity, with the leeway on both sides.
    pub(super) fn check(self, now: Timestamp) -> Result<(), Refusal> {
        let earliest = now.checked_add(LEEWAY).unwrap_or(Timestamp::MAX);
        let latest = now.checked_sub(LEEWAY).unwrap_or(Timestamp::MIN);
        if self.from > earliest {
            return Err(Refusal::NotYetValid);
        }
        if self.until <= latest {
            return Err(Refusal::Expired);
        }
        Ok(())
    }
}

impl Claims {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(payload).map_err(|_| Refusal::Claims)
    }

    /// Holds the claims to the policy at a time.
    pub(super) fn check(&self, policy: &VerifyPolicy, now: Timestamp) -> Result<Validity, Refusal> {
        if self.iss != policy.issuer {
            return Err(Refusal::Issuer);
        }
        if !self.aud.includes(&policy.audience) {
            return Err(Refusal::Audience);
        }
        let instant = |seconds| Timestamp::from_second(seconds).map_err(|_| Refusal::Claims);
        let (issued, until) = (instant(self.iat)?, instant(self.exp)?);
        let from = self.nbf.map_or(Ok(issued), instant)?;
        let latest_issue = now.checked_add(LEEWAY).unwrap_or(Timestamp::MAX);
        if issued > latest_issue {
            return Err(Refusal::IssuedInFuture);
        }
        let validity = Validity { from, until };
        validity.check(now)?;
        let life = until.duration_since(issued);
        let latest_end = latest_issue.checked_add(policy.max_ttl).unwrap_or(Timestamp::MAX);
        if life > policy.max_ttl || until > latest_end {
            return Err(Refusal::LivesTooLong);
        }
        if !life.is_positive() {
            return Err(Refusal::Claims);
        }
        Ok(validity)
    }

    /// The principal that the claims describe.
    pub(super) fn into_principal(self, until: Timestamp) -> Result<Principal, Refusal> {
        let identifier = |text: &str| {
            let fits = (1..=MAX_IDENTIFIER).contains(&text.len());
            if fits && !text.chars().any(char::is_control) {
                Ok(())
            } else {
                Err(Refusal::Claims)
            }
        };
        identifier(&self.sub)?;
        identifier(&self.jti)?;
        identifier(&self.client_id)?;
        let display = self.name.unwrap_or_else(|| self.sub.clone());
        identifier(&display)?;
        self.roles.iter().try_for_each(|role| identifier(role))?;
        let kind = PrincipalKind::from(self.kind);
        let tenant = match (self.org, self.env) {
            (Some(org), Some(env)) => Some(Tenant::new(org, env).map_err(|_| Refusal::Claims)?),
            (None, None) => None,
            _ => return Err(Refusal::Claims),
        };
        // A service belongs to no tenant and everybody else to one; only machines claim agent names.
        if tenant.is_none() != (kind == PrincipalKind::Service)
            || (kind != PrincipalKind::Machine && !self.agents.is_empty())
        {
            return Err(Refusal::Claims);
        }
        Ok(Principal {
            kind,
            id: self.sub,
            display,
            tenant,
            scopes: scopes_of(&self.scope).ok_or(Refusal::Claims)?,
            roles: self.roles,
            agents: self.agents,
            expires_at: until,
        })
    }
}

/// Splits a scope text on single spaces; `None` where RFC 6749 3.3 would not have it so.
pub(crate) fn scopes_of(text: &str) -> Option<BTreeSet<String>> {
    if text.is_empty() {
        return Some(BTreeSet::new());
    }
    text.split(' ')
        .map(|scope| is_scope(scope).then(|| scope.to_owned()))
        .collect()
}

/// Tells whether a text is one scope.
pub(crate) fn is_scope(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_split_on_single_spaces() {
        assert_eq!(scopes_of(""), Some(BTreeSet::new()));
        assert_eq!(scopes_of("a b:c"), Some(["a", "b:c"].map(String::from).into()));
        for bad in [" ", "a  b", " a", "a ", "a\tb", "a\u{a0}b", "a\"", "a\\b"] {
            assert_eq!(scopes_of(bad), None, "{bad:?}");
        }
    }
}
