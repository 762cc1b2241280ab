//! A tenant: one environment of one organization, the fence around everything stored and routed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of an organization or environment: 1 to 63 of `a-z`, `0-9` and `-`, not at the edges.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slug(String);

/// A name that is not a [`Slug`], or a tenant that is not `organization/environment`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct InvalidName {
    /// What was given, cut to 64 characters.
    pub text: String,
    /// What would be right.
    pub expected: &'static str,
}

impl Slug {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidName`] when the text has other characters or another length.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        let inner = text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if text.is_empty() || text.len() > 63 || !inner || text.starts_with('-') || text.ends_with('-') {
            return Err(InvalidName {
                text: text.chars().take(64).collect(),
                expected: "a name of 1 to 63 lower-case letters, digits and dashes",
            });
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Slug> for String {
    fn from(slug: Slug) -> Self {
        slug.0
    }
}

impl TryFrom<String> for Slug {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

/// An organization and one of its environments; written `organization/environment`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Tenant {
    /// A company.
    pub organization: Slug,
    /// An isolated set of accounts inside it.
    pub environment: Slug,
}

impl Tenant {
    /// Names a tenant.
    ///
    /// # Errors
    /// [`InvalidName`] when one of the names is not a [`Slug`].
    pub fn new(organization: impl Into<String>, environment: impl Into<String>) -> Result<Self, InvalidName> {
        Ok(Self {
            organization: Slug::new(organization)?,
            environment: Slug::new(environment)?,
        })
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.organization, self.environment)
    }
}

impl FromStr for Tenant {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (organization, environment) = text.split_once('/').ok_or_else(|| InvalidName {
            text: text.chars().take(64).collect(),
            expected: "a tenant written organization/environment",
        })?;
        Self::new(organization, environment)
    }
}
