//! The laws of the token port, on the verifier and the source of this crate.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::json;

use aurora_auth::issue::{ClientConfig, InProcessHttp, TokenIssuer, new_secret};
use aurora_auth::token_source::ClientCredentials;
use aurora_core::error::BoxError;
use aurora_core::port::clock::InMemoryClock;
use aurora_core::port::http::{HttpAnswer, HttpCall, HttpCaller, HttpError};
use aurora_core::port::store::memory::InMemoryStore;
use aurora_core::port::token::laws::{Minted, SourceFixture, VerifierFixture, start};
use aurora_core::port::token::memory::IssuerAnswers;
use aurora_core::port::token::{TokenSource, TokenVerifier};
use aurora_core::principal::PrincipalKind;
use aurora_core::secret::Secret;

use crate::forge::{AUDIENCE, ISSUER, Signer, World, header, token};

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

#[async_trait]
impl VerifierFixture for World {
    fn verifier(&self) -> &dyn TokenVerifier {
        &self.verifier
    }

    async fn mint(&self, asked: &Minted) -> Secret {
        let principal = &asked.principal;
        let mut claims = json!({
            "iss": if asked.other_issuer { "https://evil.example" } else { ISSUER },
            "aud": if asked.other_audience { "other" } else { AUDIENCE },
            "sub": principal.id, "client_id": principal.id, "jti": "j", "name": principal.display,
            "iat": asked.not_before.as_second(), "nbf": asked.not_before.as_second(),
            "exp": principal.expires_at.as_second(),
            "scope": principal.scopes.iter().cloned().collect::<Vec<_>>().join(" "),
            "roles": principal.roles, "agents": principal.agents,
            "kind": match principal.kind {
                PrincipalKind::Machine => "machine",
                PrincipalKind::Service => "service",
                PrincipalKind::User => "user",
            },
        });
        if let Some(tenant) = &principal.tenant {
            claims["org"] = json!(tenant.organization);
            claims["env"] = json!(tenant.environment);
        }
        Secret::new(token(&header(&self.signer, "k1"), &claims, &self.signer))
    }
}

mod es256 {
    use super::*;

    aurora_core::token_laws!(async { World::new() });
}

mod ed25519_with_memory {
    use super::*;

    aurora_core::token_laws!(async {
        let mut world = World::of(Signer::ed25519());
        world.verifier = world.verifier.with_memory(64);
        world
    });
}

/// The issuer's own routes, behind a switch.
#[derive(Debug)]
struct Switched {
    inner: InProcessHttp,
    answers: Arc<Mutex<IssuerAnswers>>,
}

#[async_trait]
impl HttpCaller for Switched {
    async fn call(&self, call: HttpCall) -> Result<HttpAnswer, HttpError> {
        let answers = *self.answers.lock().unwrap();
        match answers {
            IssuerAnswers::Tokens => self.inner.call(call).await,
            IssuerAnswers::Nothing => Err(HttpError::Unreachable {
                destination: "issuer.example".into(),
                source: BoxError::from("switched off"),
            }),
            IssuerAnswers::Refusals => Ok(HttpAnswer {
                status: 401,
                headers: Vec::new(),
                body: r#"{"error":"invalid_client"}"#.into(),
            }),
        }
    }
}

#[derive(Debug)]
struct SwitchedSource {
    source: ClientCredentials,
    answers: Arc<Mutex<IssuerAnswers>>,
}

impl SwitchedSource {
    fn new() -> Self {
        let made = new_secret("ci").unwrap();
        let client: ClientConfig = serde_json::from_value(json!({
            "id": "ci", "kind": "machine", "tenant": "acme/main", "secretHash": made.hash,
            "scopes": ["manage:deploy"], "ttlSeconds": 600,
        }))
        .unwrap();
        let clock = Arc::new(InMemoryClock::starting_at(start()));
        let store = Arc::new(InMemoryStore::new(clock.clone()));
        let issuer = TokenIssuer::new(ISSUER, AUDIENCE, &[client], store, clock).unwrap();
        let answers = Arc::new(Mutex::new(IssuerAnswers::Tokens));
        let http = Switched {
            inner: issuer.in_process(),
            answers: Arc::clone(&answers),
        };
        Self {
            source: ClientCredentials::new(Arc::new(http), issuer.token_endpoint(), "ci", made.secret)
                .unwrap(),
            answers,
        }
    }
}

impl SourceFixture for SwitchedSource {
    fn source(&self) -> &dyn TokenSource {
        &self.source
    }

    fn issuer_answers(&self, answers: IssuerAnswers) {
        *self.answers.lock().unwrap() = answers;
    }
}

mod client_credentials {
    use super::*;

    aurora_core::token_source_laws!(async { SwitchedSource::new() });
}
