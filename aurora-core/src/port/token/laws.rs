//! What every token verifier and every token source must do.
#![expect(clippy::unwrap_used, reason = "a law reports by panicking")]

use std::fmt::Debug;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::memory::IssuerAnswers;
use super::{TokenError, TokenSource, TokenVerifier};
use crate::account::AgentName;
use crate::error::{ErrorChain, ErrorKind};
use crate::principal::{Principal, PrincipalKind};
use crate::secret::Secret;
use crate::tenant::Tenant;

/// A verifier under test, and somebody who can make tokens for it.
#[async_trait]
pub trait VerifierFixture: Debug + Send + Sync {
    /// The verifier.
    fn verifier(&self) -> &dyn TokenVerifier;

    /// Makes a token: a good one, but for the flaws that are asked for.
    async fn mint(&self, asked: &Minted) -> Secret;
}

/// The token that a law wants.
#[derive(Clone, Debug)]
pub struct Minted {
    /// For whom, and until when.
    pub principal: Principal,
    /// Good from then on, and issued then.
    pub not_before: Timestamp,
    /// By somebody whom the verifier does not trust.
    pub other_issuer: bool,
    /// For somebody else than the verifier.
    pub other_audience: bool,
}

/// A source under test whose issuer can be switched; its tokens live 600 s.
pub trait SourceFixture: Debug + Send + Sync {
    /// The source.
    fn source(&self) -> &dyn TokenSource;

    /// Changes how the issuer answers from now on.
    fn issuer_answers(&self, answers: IssuerAnswers);
}

/// When the laws begin; a whole second.
pub fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// A machine with something in every field, whose credential ends 600 s after the [`start`].
pub fn machine() -> Principal {
    Principal {
        kind: PrincipalKind::Machine,
        id: "ci-runner".into(),
        display: "CI runner".into(),
        tenant: Some(Tenant::new("acme", "main").unwrap()),
        scopes: ["connect:agentHub", "manage:deploy"].map(String::from).into(),
        roles: ["Deployer", "QA Lead"].map(String::from).into(),
        agents: ["prod-eu", "staging"]
            .map(|name| AgentName::new(name).unwrap())
            .into(),
        expires_at: start() + SignedDuration::from_secs(600),
    }
}

fn good() -> Minted {
    Minted {
        principal: machine(),
        not_before: start(),
        other_issuer: false,
        other_audience: false,
    }
}

fn soon() -> Timestamp {
    start() + SignedDuration::from_secs(1)
}

async fn assert_refused(fixture: &dyn VerifierFixture, token: &Secret, now: Timestamp, what: &str) {
    let error = match fixture.verifier().verify(token, now).await {
        Ok(principal) => panic!("{what} must be refused, and was taken for {}", principal.id),
        Err(error) => error,
    };
    assert_eq!(
        error.kind(),
        ErrorKind::Unauthenticated,
        "{what} must be Unauthenticated"
    );
}

async fn assert_good(fixture: &dyn VerifierFixture, token: &Secret, now: Timestamp, what: &str) {
    if let Err(error) = fixture.verifier().verify(token, now).await {
        panic!("{what} must be accepted, and was refused: {error:?}");
    }
}

/// A good token gives the principal that it was made for, whole.
pub async fn a_good_token_gives_its_principal(fixture: &dyn VerifierFixture) {
    let token = fixture.mint(&good()).await;
    let verified = fixture.verifier().verify(&token, soon()).await.unwrap();
    assert_eq!(*verified, machine(), "the principal must come back whole");
}

/// A service's token gives a principal without a tenant.
pub async fn a_service_has_no_tenant(fixture: &dyn VerifierFixture) {
    let service = Principal {
        kind: PrincipalKind::Service,
        id: "api".into(),
        display: "api".into(),
        tenant: None,
        scopes: ["route:commands".to_owned()].into(),
        roles: Default::default(),
        agents: Default::default(),
        expires_at: machine().expires_at,
    };
    let token = fixture
        .mint(&Minted {
            principal: service.clone(),
            ..good()
        })
        .await;
    let verified = fixture.verifier().verify(&token, soon()).await.unwrap();
    assert_eq!(*verified, service, "a service must come back as a service");
}

/// A token that ended more than the leeway ago is refused.
pub async fn an_expired_token_is_refused(fixture: &dyn VerifierFixture) {
    let token = fixture.mint(&good()).await;
    assert_good(fixture, &token, soon(), "a token before its end").await;
    let later = machine().expires_at + SignedDuration::from_secs(61);
    assert_refused(fixture, &token, later, "an expired token").await;
}

/// A token whose time has not come is refused until it has.
pub async fn an_early_token_is_refused(fixture: &dyn VerifierFixture) {
    let not_before = start() + SignedDuration::from_secs(300);
    let token = fixture.mint(&Minted { not_before, ..good() }).await;
    assert_refused(fixture, &token, start(), "an early token").await;
    assert_good(fixture, &token, not_before, "a token whose time has come").await;
}

/// A token of another issuer is refused.
pub async fn another_issuers_token_is_refused(fixture: &dyn VerifierFixture) {
    let token = fixture
        .mint(&Minted {
            other_issuer: true,
            ..good()
        })
        .await;
    assert_refused(fixture, &token, soon(), "another issuer's token").await;
}

/// A token for another audience is refused.
pub async fn a_token_for_another_audience_is_refused(fixture: &dyn VerifierFixture) {
    let token = fixture
        .mint(&Minted {
            other_audience: true,
            ..good()
        })
        .await;
    assert_refused(fixture, &token, soon(), "a token for another audience").await;
}

/// A token of which one byte was changed is refused, whichever byte it is.
pub async fn a_tampered_token_is_refused(fixture: &dyn VerifierFixture) {
    let token = fixture.mint(&good()).await;
    let text = token.expose().as_bytes();
    for position in 0..text.len() {
        for replacement in [b'A', b'b', b'-', b'.'] {
            if text[position] != replacement {
                let mut changed = text.to_vec();
                changed[position] = replacement;
                let changed = Secret::new(String::from_utf8(changed).unwrap());
                assert_refused(fixture, &changed, soon(), "a tampered token").await;
            }
        }
    }
}

/// A part of a token, a token with something after it, and nothing at all are refused.
pub async fn a_cut_or_prolonged_token_is_refused(fixture: &dyn VerifierFixture) {
    let token = fixture.mint(&good()).await;
    let text = token.expose();
    for end in 0..text.len() {
        assert_refused(fixture, &Secret::new(&text[..end]), soon(), "a cut token").await;
    }
    for tail in ["A", "=", ".", ".A", "\n", " ", "\0"] {
        let longer = Secret::new(format!("{text}{tail}"));
        assert_refused(fixture, &longer, soon(), "a prolonged token").await;
    }
}

/// The time is the argument's: what was refused or accepted before does not matter.
pub async fn now_is_the_argument(fixture: &dyn VerifierFixture) {
    let token = fixture.mint(&good()).await;
    let late = machine().expires_at + SignedDuration::from_secs(61);
    for _ in 0..2 {
        assert_good(
            fixture,
            &token,
            soon(),
            "a good token after a look at another time",
        )
        .await;
        assert_refused(fixture, &token, late, "an expired token that was good before").await;
    }
}

/// An error shows nothing of the token, however it is printed.
pub async fn an_error_shows_nothing_of_the_token(fixture: &dyn VerifierFixture) {
    let token = fixture
        .mint(&Minted {
            other_audience: true,
            ..good()
        })
        .await;
    for shown in [token.expose().to_owned(), format!("{}x", token.expose())] {
        let Err(error) = fixture.verifier().verify(&Secret::new(&shown), soon()).await else {
            panic!("a token for another audience must be refused");
        };
        let printed = format!("{error} {error:?} {}", ErrorChain(&error));
        for part in shown.split('.').filter(|part| part.len() > 8) {
            assert!(!printed.contains(part), "an error must not show the token");
        }
    }
}

/// A source's token is good now and not about to end.
pub async fn a_source_gives_a_token_with_life_left(fixture: &dyn SourceFixture) {
    let token = fixture.source().token(start()).await.unwrap();
    assert!(
        token.expires_at >= start() + SignedDuration::from_secs(60),
        "a fresh token must have life left"
    );
}

/// A fresh token is given again, not asked for again.
pub async fn a_source_keeps_a_fresh_token(fixture: &dyn SourceFixture) {
    let first = fixture.source().token(start()).await.unwrap();
    let second = fixture.source().token(soon()).await.unwrap();
    assert!(
        first.secret.equals(second.secret.expose()),
        "a fresh token must be given again"
    );
}

/// A token is replaced before it ends.
pub async fn a_source_renews_before_expiry(fixture: &dyn SourceFixture) {
    let first = fixture.source().token(start()).await.unwrap();
    let near = first.expires_at - SignedDuration::from_secs(60);
    let second = fixture.source().token(near).await.unwrap();
    assert!(
        !first.secret.equals(second.secret.expose()),
        "a token near its end must be replaced"
    );
    assert!(
        second.expires_at > first.expires_at,
        "the next token must end later"
    );
}

/// While the issuer is away the last token serves until its end, then the source is unavailable.
pub async fn a_source_outlives_an_absent_issuer(fixture: &dyn SourceFixture) {
    let first = fixture.source().token(start()).await.unwrap();
    fixture.issuer_answers(IssuerAnswers::Nothing);
    let near = first.expires_at - SignedDuration::from_secs(60);
    match fixture.source().token(near).await {
        Ok(kept) => assert!(kept.secret.equals(first.secret.expose())),
        Err(error) => panic!("the last token must serve until its end, and there is none: {error:?}"),
    }
    match fixture.source().token(first.expires_at).await {
        Ok(_) => panic!("a token that has ended must not be given"),
        Err(error) => assert!(
            matches!(error, TokenError::Unavailable { .. }),
            "an absent issuer must be Unavailable"
        ),
    }
    fixture.issuer_answers(IssuerAnswers::Tokens);
    let later = first.expires_at + SignedDuration::from_secs(120);
    let back = fixture.source().token(later).await;
    assert!(back.is_ok(), "a source must recover with its issuer");
}

/// A refused credential is an error that no retry mends.
pub async fn a_refused_credential_is_unauthenticated(fixture: &dyn SourceFixture) {
    fixture.issuer_answers(IssuerAnswers::Refusals);
    let refused = fixture.source().token(start()).await;
    assert_eq!(
        refused.err().map(|error| error.kind()),
        Some(ErrorKind::Unauthenticated),
        "a refused credential must be Unauthenticated"
    );
}

/// Makes a test of each law of [`TokenVerifier`]; the argument is a future of a [`VerifierFixture`].
#[macro_export]
macro_rules! token_laws {
    ($fixture:expr) => {
        $crate::token_laws! { @tests $fixture;
            a_good_token_gives_its_principal,
            a_service_has_no_tenant,
            an_expired_token_is_refused,
            an_early_token_is_refused,
            another_issuers_token_is_refused,
            a_token_for_another_audience_is_refused,
            a_tampered_token_is_refused,
            a_cut_or_prolonged_token_is_refused,
            now_is_the_argument,
            an_error_shows_nothing_of_the_token,
        }
    };
    (@tests $fixture:expr; $($law:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $law() {
            $crate::port::token::laws::$law(&$fixture.await).await;
        }
    )+};
}

/// Makes a test of each law of [`TokenSource`]; the argument is a future of a [`SourceFixture`].
#[macro_export]
macro_rules! token_source_laws {
    ($fixture:expr) => {
        $crate::token_laws! { @tests $fixture;
            a_source_gives_a_token_with_life_left,
            a_source_keeps_a_fresh_token,
            a_source_renews_before_expiry,
            a_source_outlives_an_absent_issuer,
            a_refused_credential_is_unauthenticated,
        }
    };
}
