//! Tokens without cryptography: an in-memory issuer that is its own verifier and source.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Token, TokenError, TokenSource, TokenVerifier};
use crate::digest::Digest;
use crate::principal::Principal;
use crate::secret::Secret;

/// The share of a token's life after which a source asks for the next one, in percent.
const RENEW_AFTER_PERCENT: u32 = 75;

/// Issues opaque tokens and verifies them; clones share what was issued.
///
/// The n-th token of an issuer is always the same text, so tests are deterministic.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use std::collections::BTreeSet;
///
/// use aurora_core::port::token::TokenVerifier as _;
/// use aurora_core::port::token::memory::InMemoryTokens;
/// use aurora_core::principal::{Principal, PrincipalKind};
/// use jiff::Timestamp;
///
/// let tokens = InMemoryTokens::new();
/// let token = tokens.issue(Principal {
///     kind: PrincipalKind::User,
///     id: "alice".into(),
///     display: "Alice".into(),
///     tenant: None,
///     scopes: BTreeSet::new(),
///     roles: BTreeSet::new(),
///     agents: BTreeSet::new(),
///     expires_at: Timestamp::MAX,
/// });
/// let principal = tokens.verify(&token.secret, Timestamp::UNIX_EPOCH).await.unwrap();
/// assert_eq!(principal.id, "alice");
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct InMemoryTokens {
    issued: Arc<Mutex<Issued>>,
    issuer: String,
    audience: String,
}

#[derive(Debug, Default)]
struct Issued {
    tokens: BTreeMap<String, Entry>,
    count: u64,
    answers: IssuerAnswers,
}

#[derive(Clone, Debug)]
struct Entry {
    principal: Arc<Principal>,
    issuer: String,
    audience: String,
    not_before: Timestamp,
}

/// How the issuer behind a source behaves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IssuerAnswers {
    /// With tokens.
    #[default]
    Tokens,
    /// Not at all: it cannot be reached.
    Nothing,
    /// With a refusal of the credential.
    Refusals,
}

impl Default for InMemoryTokens {
    fn default() -> Self {
        Self::new()
    }
}

impl InMemoryTokens {
    /// An issuer that has issued nothing.
    pub fn new() -> Self {
        Self {
            issued: Arc::default(),
            issuer: "https://issuer.example".into(),
            audience: "aurora".into(),
        }
    }

    /// The same tokens seen by, or issued as, another issuer.
    #[must_use]
    pub fn with_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = issuer.into();
        self
    }

    /// The same tokens seen by, or issued for, another audience.
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = audience.into();
        self
    }

    /// Issues a token that is good at once and until the principal's `expires_at`.
    pub fn issue(&self, principal: Principal) -> Token {
        self.issue_from(principal, Timestamp::MIN)
    }

    /// Issues a token that is good from `not_before` until the principal's `expires_at`.
    pub fn issue_from(&self, principal: Principal, not_before: Timestamp) -> Token {
        let mut issued = self.lock();
        issued.count += 1;
        let text = format!(
            "aur_mem_{}",
            Digest::of(format!("{} {}", self.issuer, issued.count).as_bytes()).short(48)
        );
        let expires_at = principal.expires_at;
        issued.tokens.insert(
            text.clone(),
            Entry {
                principal: Arc::new(principal),
                issuer: self.issuer.clone(),
                audience: self.audience.clone(),
                not_before,
            },
        );
        Token {
            secret: Secret::new(text),
            expires_at,
        }
    }

    /// Takes a token back: from now on it is as if it had never been issued.
    pub fn revoke(&self, token: &Secret) {
        self.lock().tokens.remove(token.expose());
    }

    /// How many tokens were issued so far.
    pub fn issued(&self) -> u64 {
        self.lock().count
    }

    /// Changes how the issuer answers sources from now on; tokens that exist stay good.
    pub fn answer_with(&self, answers: IssuerAnswers) {
        self.lock().answers = answers;
    }

    /// A source of tokens for one principal, each good for `ttl`; `expires_at` is set by it.
    pub fn source_for(&self, principal: Principal, ttl: Duration) -> InMemoryTokenSource {
        InMemoryTokenSource {
            tokens: self.clone(),
            principal,
            ttl,
            held: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Issued> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TokenVerifier for InMemoryTokens {
    async fn verify(&self, token: &Secret, now: Timestamp) -> Result<Arc<Principal>, TokenError> {
        let refused = |reason| Err(TokenError::Unauthenticated { reason });
        let Some(entry) = self.lock().tokens.get(token.expose()).cloned() else {
            return refused("unknown");
        };
        if entry.issuer != self.issuer {
            return refused("issuer");
        }
        if entry.audience != self.audience {
            return refused("audience");
        }
        if now < entry.not_before {
            return refused("not yet valid");
        }
        if now >= entry.principal.expires_at {
            return refused("expired");
        }
        Ok(entry.principal)
    }
}

/// Gives tokens of an [`InMemoryTokens`] for one principal; clones share the token they hold.
#[derive(Clone, Debug)]
pub struct InMemoryTokenSource {
    tokens: InMemoryTokens,
    principal: Principal,
    ttl: Duration,
    held: Arc<Mutex<Option<(Token, Timestamp)>>>,
}

#[async_trait]
impl TokenSource for InMemoryTokenSource {
    async fn token(&self, now: Timestamp) -> Result<Token, TokenError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, renew_at)) = &*held
            && now < *renew_at
        {
            return Ok(token.clone());
        }
        let answers = self.tokens.lock().answers;
        match answers {
            IssuerAnswers::Tokens => {
                let expires_at = now.checked_add(self.ttl).unwrap_or(Timestamp::MAX);
                let renew_after = self.ttl.saturating_mul(RENEW_AFTER_PERCENT) / 100;
                let token = self.tokens.issue_from(
                    Principal {
                        expires_at,
                        ..self.principal.clone()
                    },
                    now,
                );
                *held = Some((
                    token.clone(),
                    now.checked_add(renew_after).unwrap_or(Timestamp::MAX),
                ));
                Ok(token)
            }
            IssuerAnswers::Refusals => Err(TokenError::Unauthenticated { reason: "credential" }),
            IssuerAnswers::Nothing => match &*held {
                Some((token, _)) if now < token.expires_at => Ok(token.clone()),
                _ => Err(TokenError::Unavailable {
                    source: "the issuer does not answer".into(),
                }),
            },
        }
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use super::super::laws::{Minted, SourceFixture, VerifierFixture};
    use super::*;

    #[async_trait]
    impl VerifierFixture for InMemoryTokens {
        fn verifier(&self) -> &dyn TokenVerifier {
            self
        }

        async fn mint(&self, asked: &Minted) -> Secret {
            self.clone()
                .with_issuer(if asked.other_issuer {
                    "https://evil.example"
                } else {
                    &self.issuer
                })
                .with_audience(if asked.other_audience {
                    "other"
                } else {
                    &self.audience
                })
                .issue_from(asked.principal.clone(), asked.not_before)
                .secret
        }
    }

    impl SourceFixture for InMemoryTokenSource {
        fn source(&self) -> &dyn TokenSource {
            self
        }

        fn issuer_answers(&self, answers: IssuerAnswers) {
            self.tokens.answer_with(answers);
        }
    }

    crate::token_laws!(async { InMemoryTokens::new() });
    crate::token_source_laws!(async {
        InMemoryTokens::new().source_for(super::super::laws::machine(), Duration::from_secs(600))
    });

    #[tokio::test]
    async fn a_revoked_token_is_refused() {
        let tokens = InMemoryTokens::new();
        let token = tokens.issue(super::super::laws::machine());
        tokens.revoke(&token.secret);
        let verified = tokens.verify(&token.secret, Timestamp::UNIX_EPOCH).await;
        assert!(matches!(verified, Err(TokenError::Unauthenticated { .. })));
    }

    #[test]
    fn the_same_order_of_issuing_gives_the_same_tokens() {
        let issue = || {
            let tokens = InMemoryTokens::new();
            tokens.issue(super::super::laws::machine());
            tokens.issue(super::super::laws::machine())
        };
        assert!(issue().secret.equals(issue().secret.expose()));
    }
}
