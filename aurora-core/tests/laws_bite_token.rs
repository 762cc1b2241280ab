//! Every law of the token port is seen to fail on a double that breaks just what it asks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use aurora_core::error::BoxError;
use aurora_core::port::token::laws::{self, Minted, SourceFixture, VerifierFixture};
use aurora_core::port::token::memory::{InMemoryTokenSource, InMemoryTokens, IssuerAnswers};
use aurora_core::port::token::{Token, TokenError, TokenSource, TokenVerifier};
use aurora_core::principal::{Principal, PrincipalKind};
use aurora_core::secret::Secret;
use aurora_core::tenant::Tenant;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum VerifierFault {
    AcceptsAnyAudience,
    AcceptsAnyIssuer,
    AcceptsEarly,
    AcceptsExpired,
    ComparesAPrefix,
    DropsRoles,
    GivesServicesATenant,
    IgnoresCase,
    IsUnavailableWhenExpired,
    RemembersRefusals,
    ShowsTheToken,
    TrimsTheToken,
}

#[derive(Debug)]
struct BrokenVerifier {
    tokens: InMemoryTokens,
    fault: VerifierFault,
    minted: Mutex<Vec<(String, Principal)>>,
    refused: Mutex<bool>,
}

impl BrokenVerifier {
    fn new(fault: VerifierFault) -> Self {
        Self {
            tokens: InMemoryTokens::new(),
            fault,
            minted: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    fn similar(&self, token: &str, alike: impl Fn(&str, &str) -> bool) -> Option<Arc<Principal>> {
        let minted = self.minted.lock().unwrap_or_else(PoisonError::into_inner);
        minted
            .iter()
            .find(|(text, _)| alike(text, token))
            .map(|(_, principal)| Arc::new(principal.clone()))
    }
}

#[async_trait]
impl TokenVerifier for BrokenVerifier {
    async fn verify(&self, token: &Secret, now: Timestamp) -> Result<Arc<Principal>, TokenError> {
        let text = token.expose();
        let honest = self.tokens.verify(token, now).await;
        let forgiven = |reasons: &[&str]| match &honest {
            Err(TokenError::Unauthenticated { reason }) => reasons.contains(reason),
            _ => false,
        };
        let lenient = match self.fault {
            VerifierFault::AcceptsAnyAudience if forgiven(&["audience"]) => self.similar(text, |a, b| a == b),
            VerifierFault::AcceptsAnyIssuer if forgiven(&["issuer"]) => self.similar(text, |a, b| a == b),
            VerifierFault::AcceptsEarly if forgiven(&["not yet valid"]) => self.similar(text, |a, b| a == b),
            VerifierFault::AcceptsExpired if forgiven(&["expired"]) => self.similar(text, |a, b| a == b),
            VerifierFault::ComparesAPrefix => self.similar(text, |a, b| b.len() >= 40 && a.starts_with(b)),
            VerifierFault::IgnoresCase => self.similar(text, |a, b| a.eq_ignore_ascii_case(b)),
            VerifierFault::TrimsTheToken => self.similar(text, |a, b| a == b.trim()),
            _ => None,
        };
        if let Some(principal) = lenient {
            return Ok(principal);
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let error = match honest {
            Ok(principal) => match self.fault {
                VerifierFault::DropsRoles => {
                    return Ok(Arc::new(Principal {
                        roles: Default::default(),
                        ..(*principal).clone()
                    }));
                }
                VerifierFault::GivesServicesATenant if principal.kind == PrincipalKind::Service => {
                    return Ok(Arc::new(Principal {
                        tenant: Tenant::new("acme", "main").ok(),
                        ..(*principal).clone()
                    }));
                }
                VerifierFault::RemembersRefusals if *refused => {
                    TokenError::Unauthenticated { reason: "remembered" }
                }
                _ => return Ok(principal),
            },
            Err(TokenError::Unauthenticated { reason: "expired" })
                if self.fault == VerifierFault::IsUnavailableWhenExpired =>
            {
                TokenError::Unavailable {
                    source: "expired".into(),
                }
            }
            Err(_) if self.fault == VerifierFault::ShowsTheToken => TokenError::Unavailable {
                source: BoxError::from(format!("cannot verify {text}")),
            },
            Err(error) => error,
        };
        *refused = true;
        Err(error)
    }
}

#[async_trait]
impl VerifierFixture for BrokenVerifier {
    fn verifier(&self) -> &dyn TokenVerifier {
        self
    }

    async fn mint(&self, asked: &Minted) -> Secret {
        let mut issuer = self.tokens.clone();
        if asked.other_issuer {
            issuer = issuer.with_issuer("https://evil.example");
        }
        if asked.other_audience {
            issuer = issuer.with_audience("other");
        }
        let token = issuer.issue_from(asked.principal.clone(), asked.not_before);
        self.minted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((token.secret.expose().to_owned(), asked.principal.clone()));
        token.secret
    }
}

macro_rules! verifier_laws_bite {
    ($($law:ident on $fault:ident: $says:literal),+ $(,)?) => {$(
        #[tokio::test]
        #[should_panic(expected = $says)]
        async fn $law() {
            laws::$law(&BrokenVerifier::new(VerifierFault::$fault)).await;
        }
    )+};
}

verifier_laws_bite! {
    a_good_token_gives_its_principal on DropsRoles: "must come back whole",
    a_service_has_no_tenant on GivesServicesATenant: "come back as a service",
    an_expired_token_is_refused on AcceptsExpired: "an expired token must be refused",
    an_early_token_is_refused on AcceptsEarly: "an early token must be refused",
    another_issuers_token_is_refused on AcceptsAnyIssuer: "another issuer's token must be refused",
    a_token_for_another_audience_is_refused on AcceptsAnyAudience: "for another audience must be refused",
    a_tampered_token_is_refused on IgnoresCase: "a tampered token must be refused",
    a_cut_or_prolonged_token_is_refused on ComparesAPrefix: "a cut token must be refused",
    now_is_the_argument on RemembersRefusals: "must be accepted",
    an_error_shows_nothing_of_the_token on ShowsTheToken: "must not show the token",
}

#[tokio::test]
#[should_panic(expected = "a prolonged token must be refused")]
async fn a_token_with_white_space_after_it_is_caught() {
    laws::a_cut_or_prolonged_token_is_refused(&BrokenVerifier::new(VerifierFault::TrimsTheToken)).await;
}

#[tokio::test]
#[should_panic(expected = "must be Unauthenticated")]
async fn a_fault_of_the_token_that_looks_like_an_outage_is_caught() {
    laws::an_expired_token_is_refused(&BrokenVerifier::new(VerifierFault::IsUnavailableWhenExpired)).await;
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum SourceFault {
    AsksEveryTime,
    CallsARefusalAnOutage,
    GivesEndedTokens,
    GivesUpAtOnce,
    NeverRenews,
    SaysWrongEnd,
    StaysDown,
}

#[derive(Debug)]
struct BrokenSource {
    tokens: InMemoryTokens,
    source: InMemoryTokenSource,
    fault: SourceFault,
    held: Mutex<Option<Token>>,
    down: Mutex<bool>,
}

impl BrokenSource {
    fn new(fault: SourceFault) -> Self {
        let tokens = InMemoryTokens::new();
        Self {
            source: tokens.source_for(laws::machine(), Duration::from_secs(600)),
            tokens,
            fault,
            held: Mutex::default(),
            down: Mutex::default(),
        }
    }
}

#[async_trait]
impl TokenSource for BrokenSource {
    async fn token(&self, now: Timestamp) -> Result<Token, TokenError> {
        let source = match self.fault {
            SourceFault::AsksEveryTime => self.tokens.source_for(laws::machine(), Duration::from_secs(600)),
            _ => self.source.clone(),
        };
        let honest = source.token(now).await;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = held.as_ref().is_some_and(|token| token.expires_at <= now);
        match (self.fault, &*held, honest) {
            (SourceFault::NeverRenews, Some(token), _) => Ok(token.clone()),
            (SourceFault::GivesEndedTokens, Some(token), Err(_)) if ended => Ok(token.clone()),
            (SourceFault::GivesUpAtOnce, Some(first), Ok(token))
                if first.secret.equals(token.secret.expose()) =>
            {
                Err(TokenError::Unavailable {
                    source: "gave up".into(),
                })
            }
            (SourceFault::StaysDown, _, _) if *down => Err(TokenError::Unavailable {
                source: "stays down".into(),
            }),
            (SourceFault::CallsARefusalAnOutage, _, Err(_)) => Err(TokenError::Unavailable {
                source: "refused".into(),
            }),
            (SourceFault::SaysWrongEnd, _, Ok(token)) => Ok(Token {
                expires_at: now + SignedDuration::from_secs(1),
                ..token
            }),
            (_, _, Ok(token)) => {
                *held = Some(token.clone());
                Ok(token)
            }
            (_, _, Err(error)) => {
                *down = true;
                Err(error)
            }
        }
    }
}

impl SourceFixture for BrokenSource {
    fn source(&self) -> &dyn TokenSource {
        self
    }

    fn issuer_answers(&self, answers: IssuerAnswers) {
        self.tokens.answer_with(answers);
    }
}

macro_rules! source_laws_bite {
    ($($test:ident: $law:ident on $fault:ident: $says:literal),+ $(,)?) => {$(
        #[tokio::test]
        #[should_panic(expected = $says)]
        async fn $test() {
            laws::$law(&BrokenSource::new(SourceFault::$fault)).await;
        }
    )+};
}

source_laws_bite! {
    a_token_about_to_end_is_caught: a_source_gives_a_token_with_life_left on SaysWrongEnd:
        "must have life left",
    asking_every_time_is_caught: a_source_keeps_a_fresh_token on AsksEveryTime: "must be given again",
    never_renewing_is_caught: a_source_renews_before_expiry on NeverRenews: "must be replaced",
    giving_up_while_a_token_is_good_is_caught: a_source_outlives_an_absent_issuer on GivesUpAtOnce:
        "must serve until its end",
    giving_ended_tokens_is_caught: a_source_outlives_an_absent_issuer on GivesEndedTokens:
        "must not be given",
    staying_down_is_caught: a_source_outlives_an_absent_issuer on StaysDown: "must recover",
    calling_a_refusal_an_outage_is_caught: a_refused_credential_is_unauthenticated on CallsARefusalAnOutage:
        "must be Unauthenticated",
}
