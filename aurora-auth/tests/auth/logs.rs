//! What is logged shows neither tokens nor secrets.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use aurora_auth::issue::{ClientConfig, TokenIssuer, new_secret};
use aurora_auth::token_source::ClientCredentials;
use aurora_auth::verify::JwtVerifier;
use aurora_core::port::clock::InMemoryClock;
use aurora_core::port::http::memory::{Reply, ScriptedHttp};
use aurora_core::port::store::memory::InMemoryStore;
use aurora_core::port::token::{TokenSource as _, TokenVerifier as _};
use aurora_core::secret::Secret;

use crate::forge::{AUDIENCE, ISSUER, later, now, policy};

/// Keeps every field of every event and span as text.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<String>>);

impl Visit for Captured {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        writeln!(self.0.lock().unwrap(), "{field}={value:?}").unwrap();
    }
}

impl Subscriber for Captured {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

#[tokio::test]
async fn neither_tokens_nor_secrets_are_logged() {
    let captured = Captured::default();
    let _guard = tracing::subscriber::set_default(captured.clone());
    let made = new_secret("ci").unwrap();
    let client: ClientConfig = serde_json::from_value(json!({
        "id": "ci", "kind": "machine", "tenant": "acme/main", "secretHash": made.hash,
        "scopes": ["manage:deploy"], "ttlSeconds": 600,
    }))
    .unwrap();
    let clock = Arc::new(InMemoryClock::starting_at(now()));
    let store = Arc::new(InMemoryStore::new(clock.clone()));
    let issuer = TokenIssuer::new(ISSUER, AUDIENCE, &[client], store, clock).unwrap();
    let http = Arc::new(issuer.in_process());
    let source = |secret: &Secret| {
        ClientCredentials::new(http.clone(), issuer.token_endpoint(), "ci", secret.clone()).unwrap()
    };
    let token = source(&made.secret).token(now()).await.unwrap().secret;
    let wrong = Secret::new(format!("{}x", made.secret.expose()));
    assert!(source(&wrong).token(now()).await.is_err());

    let verifier = JwtVerifier::new(policy(), Arc::new(issuer.keys())).with_memory(4);
    assert!(verifier.verify(&token, now()).await.is_ok());
    assert!(verifier.verify(&token, later(3600)).await.is_err());
    let changed = Secret::new(format!("{}A", token.expose()));
    assert!(verifier.verify(&changed, now()).await.is_err());

    let broken = ScriptedHttp::new();
    let answer =
        json!({"access_token": token.expose(), "token_type": "Bearer", "expires_in": 600}).to_string();
    broken.play(
        issuer.token_endpoint(),
        [
            Reply::json(200, answer),
            Reply::status(500, token.expose().to_owned()),
        ],
    );
    let renewed = ClientCredentials::new(
        Arc::new(broken),
        issuer.token_endpoint(),
        "ci",
        made.secret.clone(),
    )
    .unwrap();
    renewed.token(now()).await.unwrap();
    renewed.token(later(500)).await.unwrap();

    let logged = captured.0.lock().unwrap().clone();
    for seen in [
        "token issued",
        "token refused",
        "token not renewed",
        "client not recognised",
    ] {
        assert!(logged.contains(seen), "{seen}\n{logged}");
    }
    let hash = String::from(made.hash);
    let parts = token
        .expose()
        .split('.')
        .chain([made.secret.expose(), hash.as_str()]);
    for hidden in parts {
        assert!(!logged.contains(hidden), "{logged}");
    }
}
