//! The token issuer: clients from configuration, keys that rotate, and its routes.

mod attempts;
mod client;
mod client_secret;
mod endpoint;
mod form;
mod in_process;
mod key_ring;
mod router;
mod signing_keys;

use std::collections::BTreeMap;
use std::sync::Arc;

use aurora_core::port::clock::Clock;
use aurora_core::port::store::SharedStore;
use axum::Router;

pub use self::client::{ClientConfig, ClientKind};
pub use self::client_secret::{
    InvalidSecretHash, NewSecret, NoRandomness, SECRET_PREFIX, SecretHash, hash_secret, new_secret,
};
use self::endpoint::TokenEndpoint;
pub use self::in_process::{InProcessHttp, IssuerKeys};
pub use self::key_ring::KeySchedule;
use self::router::{Routes, metadata_document};
pub use self::signing_keys::KeysError;
use self::signing_keys::SigningKeys;
use crate::url::checked;

/// Issues access tokens to the clients of its configuration.
///
/// Signing keys are made on first use and kept in the store, which must seal them; replicas on one store
/// share them. The routes are `/.well-known/openid-configuration`,
/// `/.well-known/oauth-authorization-server`, `/oauth/jwks` and `/oauth/token`; the issuer is a public
/// origin without a path, and no header changes it.
///
/// ```
/// # async fn start(
/// #     store: aurora_core::port::store::SharedStore,
/// #     hash: aurora_auth::issue::SecretHash,
/// # ) -> Result<axum::Router, Box<dyn std::error::Error>> {
/// use std::sync::Arc;
///
/// use aurora_auth::issue::{ClientConfig, TokenIssuer};
/// use aurora_core::port::clock::SystemClock;
///
/// let client: ClientConfig = serde_json::from_value(serde_json::json!({
///     "id": "ci", "kind": "machine", "tenant": "acme/main", "secretHash": hash, "scopes": ["manage:deploy"],
/// }))?;
/// let issuer = TokenIssuer::new("https://127.0.0.1:8446", "aurora", &[client], store, Arc::new(SystemClock))?;
/// Ok(issuer.router())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TokenIssuer {
    routes: Routes,
    issuer: String,
}

/// The issuer cannot be built as configured.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the token issuer is not configured well: {}", problems.join("; "))]
pub struct InvalidIssuer {
    /// Everything that is wrong, in the order of the configuration.
    pub problems: Vec<String>,
}

impl TokenIssuer {
    /// An issuer with this public origin, for this audience and these clients.
    ///
    /// # Errors
    /// [`InvalidIssuer`] with everything that is wrong.
    pub fn new(
        issuer: impl Into<String>,
        audience: impl Into<String>,
        clients: &[ClientConfig],
        store: SharedStore,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidIssuer> {
        Self::with_schedule(issuer, audience, clients, store, clock, KeySchedule::default())
    }

    /// The same with another schedule of keys.
    ///
    /// # Errors
    /// [`InvalidIssuer`] with everything that is wrong.
    pub fn with_schedule(
        issuer: impl Into<String>,
        audience: impl Into<String>,
        clients: &[ClientConfig],
        store: SharedStore,
        clock: Arc<dyn Clock>,
        schedule: KeySchedule,
    ) -> Result<Self, InvalidIssuer> {
        let (issuer, audience) = (issuer.into(), audience.into());
        let checked_clients = check(&issuer, &audience, clients, schedule)?;
        let keys = Arc::new(SigningKeys::new(store, schedule));
        let endpoint = TokenEndpoint::new(issuer.clone(), audience, checked_clients, Arc::clone(&keys));
        Ok(Self {
            routes: Routes {
                endpoint: Arc::new(endpoint),
                keys,
                clock,
                metadata: metadata_document(&issuer).into(),
            },
            issuer,
        })
    }

    /// Says what would be wrong with an issuer, before there is a store to keep its keys.
    ///
    /// # Errors
    /// [`InvalidIssuer`] with everything that is wrong.
    pub fn check(
        issuer: &str,
        audience: &str,
        clients: &[ClientConfig],
        schedule: KeySchedule,
    ) -> Result<(), InvalidIssuer> {
        check(issuer, audience, clients, schedule).map(drop)
    }

    /// The issuer's routes, to be served at its origin.
    pub fn router(&self) -> Router {
        self.routes.clone().into_router()
    }

    /// Its keys, for verifiers in the same process.
    pub fn keys(&self) -> IssuerKeys {
        IssuerKeys {
            issuer: self.issuer.clone(),
            keys: Arc::clone(&self.routes.keys),
            clock: Arc::clone(&self.routes.clock),
        }
    }

    /// A caller that reaches its routes without a network, for token sources in the same process.
    ///
    /// # Panics
    /// Never: the issuer is an origin.
    pub fn in_process(&self) -> InProcessHttp {
        InProcessHttp::new(&self.issuer, self.router()).expect("the issuer was checked to be an origin")
    }

    /// The URL of the token endpoint.
    pub fn token_endpoint(&self) -> String {
        format!("{}/oauth/token", self.issuer)
    }

    /// Makes the keys ready, so that the first request does not wait for them and a broken store is seen
    /// at start.
    ///
    /// # Errors
    /// [`KeysError`] when they cannot be read, made or stored.
    ///
    /// # Cancel safety
    /// Keys may be stored or not; the next call finds out.
    pub async fn prepare(&self) -> Result<(), KeysError> {
        self.routes.keys.at(self.routes.clock.now()).await.map(drop)
    }

    /// Withdraws a signing key at once, for one that leaked: what it signed is refused as soon as verifiers
    /// ask again. Tells whether there was such a key.
    ///
    /// # Errors
    /// [`KeysError`] when the store does not take the change.
    ///
    /// # Cancel safety
    /// The key may be withdrawn or not.
    pub async fn withdraw_key(&self, id: &str) -> Result<bool, KeysError> {
        self.routes.keys.withdraw(id, self.routes.clock.now()).await
    }
}

fn check(
    issuer: &str,
    audience: &str,
    clients: &[ClientConfig],
    schedule: KeySchedule,
) -> Result<BTreeMap<String, client::Client>, InvalidIssuer> {
    let mut problems = Vec::new();
    match checked(issuer) {
        Err(error) => problems.push(format!("issuer: {error}")),
        Ok(url) if url.path() != "/" || issuer.ends_with('/') => problems.push(format!(
            "issuer: `{issuer}` has a path; write the origin alone, without a slash at the end"
        )),
        Ok(_) => {}
    }
    if audience.is_empty() {
        problems.push("audience: is empty".into());
    }
    let mut checked_clients = BTreeMap::new();
    for config in clients {
        match client::Client::check(config) {
            Ok(client) => {
                if checked_clients.insert(client.id.clone(), client).is_some() {
                    problems.push(format!("client `{}`: is there twice", config.id));
                }
            }
            Err(more) => problems.extend(more),
        }
    }
    if schedule.publish_before >= schedule.rotate_every {
        problems.push("key schedule: keys must sign for longer than they are published before".into());
    }
    if !problems.is_empty() {
        return Err(InvalidIssuer { problems });
    }
    Ok(checked_clients)
}
