//! Verifying access tokens: a fixed policy, the issuer's keys, and the principal that comes out.

mod claims;
mod compact;
mod key;
mod key_cache;
mod key_set;
mod policy;
mod refusal;
mod source;
mod verified;

use std::sync::Arc;

use async_trait::async_trait;
use aurora_core::digest::Digest;
use aurora_core::port::token::{TokenError, TokenVerifier};
use aurora_core::principal::Principal;
use aurora_core::secret::Secret;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

pub(crate) use self::claims::Claims;
#[cfg(feature = "issue")]
pub(crate) use self::claims::{Audience, is_scope, scopes_of};
use self::compact::{MAX_TOKEN, Unverified};
use self::key_cache::KeyCache;
pub use self::policy::{Algorithm, LEEWAY, MAX_TTL, VerifyPolicy};
use self::refusal::Refusal;
pub use self::source::{HttpKeys, KeySource, KeysUnavailable, PublishedKeys};
use self::verified::VerifiedTokens;
pub use crate::url::InvalidUrl;

/// Verifies signed access tokens (RFC 9068) of one issuer.
///
/// The algorithm comes from the issuer's key, never from the token; everything that a token of ours does
/// not have is refused. Keys are fetched when the first token arrives and kept; [`keep_fresh`] renews them
/// in the background.
///
/// [`keep_fresh`]: JwtVerifier::keep_fresh
///
/// ```
/// # fn wire(http: std::sync::Arc<dyn aurora_core::port::http::HttpCaller>) -> Result<(), aurora_auth::verify::InvalidUrl> {
/// use std::sync::Arc;
///
/// use aurora_auth::verify::{HttpKeys, JwtVerifier, VerifyPolicy};
///
/// let policy = VerifyPolicy::new("https://issuer.example", "aurora")?;
/// let keys = HttpKeys::of_issuer(http, "https://issuer.example")?;
/// let verifier = JwtVerifier::new(policy, Arc::new(keys)).with_memory(10_000);
/// # let _ = verifier;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct JwtVerifier {
    policy: VerifyPolicy,
    keys: KeyCache,
    memory: Option<VerifiedTokens>,
}

impl JwtVerifier {
    /// Holds tokens to this policy, with keys from this source.
    pub fn new(policy: VerifyPolicy, source: Arc<dyn KeySource>) -> Self {
        let keys = KeyCache::new(source, policy.algorithms.clone());
        Self {
            policy,
            keys,
            memory: None,
        }
    }

    /// Remembers at most so many verified tokens, each for up to 60 s; by default none.
    #[must_use]
    pub fn with_memory(mut self, capacity: usize) -> Self {
        self.memory = Some(VerifiedTokens::new(capacity));
        self
    }

    /// Fetches keys before they age, for as long as the future is polled; it never ends by itself.
    ///
    /// # Cancel safety
    /// Dropping the future stops the fetching and leaves nothing behind.
    pub async fn keep_fresh(&self) {
        self.keys.keep_fresh(random).await;
    }

    async fn verify_anew(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<(Principal, claims::Validity), TokenError> {
        let unverified = Unverified::parse(token)?;
        if !unverified.is_access_token() {
            return Err(Refusal::Type.into());
        }
        let key = self.keys.find(unverified.header.kid.as_deref()).await?;
        if unverified.header.alg != key.algorithm.name() {
            return Err(Refusal::Algorithm.into());
        }
        if !key.signed(unverified.signed, unverified.signature) {
            return Err(Refusal::Signature.into());
        }
        let claims = Claims::parse(&unverified.payload()?)?;
        let validity = claims.check(&self.policy, now)?;
        Ok((claims.into_principal(validity.until)?, validity))
    }
}

#[async_trait]
impl TokenVerifier for JwtVerifier {
    async fn verify(&self, token: &Secret, now: Timestamp) -> Result<Arc<Principal>, TokenError> {
        let token = token.expose();
        if token.len() > MAX_TOKEN {
            return Err(Refusal::TooLarge.into());
        }
        let digest = Digest::of(token.as_bytes());
        let generation = self.keys.generation();
        if let Some(memory) = &self.memory
            && let Some(principal) = memory.find(&digest, generation, now)
        {
            return Ok(principal);
        }
        match self.verify_anew(token, now).await {
            Ok((principal, validity)) => {
                let principal = Arc::new(principal);
                if let Some(memory) = &self.memory {
                    // Keys that changed meanwhile make this entry useless, which is what is wanted.
                    memory.remember(digest, &principal, validity, generation, now);
                }
                Ok(principal)
            }
            Err(error) => {
                if let TokenError::Unauthenticated { reason } = error {
                    tracing::debug!(reason, token.digest = digest.short(16), "token refused");
                }
                Err(error)
            }
        }
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness all verifiers refresh at the same moment, which is only less polite.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u64::from_be_bytes(bytes)
}

/// Reads a member that may be absent, but not `null`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
