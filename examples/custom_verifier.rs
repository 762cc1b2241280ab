//! Identity of your own: agents show keys from a table instead of tokens from an issuer.
//!
//! A verifier turns a token into a principal or refuses it; a token source gives an agent its token. For a
//! verifier of real tokens, `token_laws!` asks for what a good one must refuse.

#![expect(clippy::print_stdout, reason = "examples say what happens")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aurora_core::agent::{Agent, AgentState};
use aurora_core::digest::Digest;
use aurora_core::error::BoxError;
use aurora_core::hub::Hub;
use aurora_core::port::clock::SystemClock;
use aurora_core::port::executor::memory::InMemoryCluster;
use aurora_core::port::token::{Token, TokenError, TokenSource, TokenVerifier};
use aurora_core::port::transport::InMemoryTransport;
use aurora_core::principal::Principal;
use aurora_core::secret::Secret;
use aurora_core::tasks::Tasks;
use aurora_examples::machine;
use jiff::Timestamp;

/// Digests of keys and whose they are: the keys themselves are not kept.
#[derive(Clone, Debug)]
struct KeyTable(Arc<BTreeMap<Digest, Arc<Principal>>>);

#[async_trait]
impl TokenVerifier for KeyTable {
    async fn verify(&self, token: &Secret, now: Timestamp) -> Result<Arc<Principal>, TokenError> {
        let known = self.0.get(&Digest::of(token.expose().as_bytes()));
        match known {
            Some(principal) if now < principal.expires_at => Ok(Arc::clone(principal)),
            // Who presented it is told nothing more; the reason goes to logs.
            Some(_) => Err(TokenError::Unauthenticated { reason: "expired" }),
            None => Err(TokenError::Unauthenticated { reason: "unknown" }),
        }
    }
}

/// Gives the same key each time.
#[derive(Debug)]
struct Key(&'static str);

#[async_trait]
impl TokenSource for Key {
    async fn token(&self, _now: Timestamp) -> Result<Token, TokenError> {
        Ok(Token {
            secret: Secret::new(self.0),
            expires_at: Timestamp::MAX,
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let keys = [(Digest::of(b"correct horse"), Arc::new(machine("edge")?))];
    let table = KeyTable(Arc::new(keys.into()));
    let hub = Hub::new(SystemClock).with_verifier(table.clone());
    let (transport, tasks) = (InMemoryTransport::new(table, SystemClock), Tasks::new());
    let listener = transport.clone();
    tasks.spawn(|stop| async move {
        let _ = hub.run(listener, stop).await;
    });

    for key in ["correct horse", "battery staple"] {
        let name = aurora_core::account::AgentName::new("edge")?;
        let agent = Agent::new(name, transport.clone(), Key(key), InMemoryCluster::default());
        let mut status = agent.status();
        tasks.spawn(|stop| async move {
            let _ = agent.run(stop).await;
        });
        let decided =
            |state: &AgentState| matches!(state, AgentState::Connected { .. } | AgentState::Refused);
        let health = status.wait_for(|health| decided(&health.state)).await?;
        let connected = matches!(health.state, AgentState::Connected { .. });
        println!("`{key}` is {}", if connected { "accepted" } else { "refused" });
    }
    Ok(tasks.drain(Duration::from_secs(5)).await?)
}
