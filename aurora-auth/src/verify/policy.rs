//! What a token must be: issuer, audience, algorithms and times.

use std::time::Duration;

use jiff::SignedDuration;

use crate::url::{InvalidUrl, checked};

/// A signature algorithm that a verifier can be told to accept.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Algorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
}

impl Algorithm {
    /// The name in token headers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }

    pub(super) const fn primitive(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
        }
    }
}

/// How far clocks may be apart, in both directions.
pub const LEEWAY: SignedDuration = SignedDuration::from_secs(30);

/// The longest life of an access token, unless the policy says otherwise.
pub const MAX_TTL: Duration = Duration::from_secs(3600);

/// What a verifier holds every token to.
#[derive(Clone, Debug)]
pub struct VerifyPolicy {
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) max_ttl: SignedDuration,
}

impl VerifyPolicy {
    /// Tokens of this issuer for this audience, compared byte by byte: ES256, RS256 or EdDSA, living at
    /// most an hour.
    ///
    /// # Errors
    /// [`InvalidUrl`] when the issuer is not an https URL (http only for this machine itself).
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Result<Self, InvalidUrl> {
        let issuer = issuer.into();
        checked(&issuer)?;
        Ok(Self {
            issuer,
            audience: audience.into(),
            algorithms: vec![Algorithm::Es256, Algorithm::Rs256, Algorithm::EdDsa],
            max_ttl: SignedDuration::try_from(MAX_TTL).unwrap_or(SignedDuration::MAX),
        })
    }

    /// Accepts only these algorithms.
    #[must_use]
    pub fn with_algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// Accepts tokens that live up to `max_ttl`.
    #[must_use]
    pub fn with_max_ttl(mut self, max_ttl: Duration) -> Self {
        self.max_ttl = SignedDuration::try_from(max_ttl).unwrap_or(SignedDuration::MAX);
        self
    }

    /// Whose tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// For whom.
    pub fn audience(&self) -> &str {
        &self.audience
    }
}
