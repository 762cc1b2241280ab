//! Token verification and the OIDC service of Aurora.
//!
//! It turns access tokens into principals, holding every token to a fixed policy, and gets tokens for a
//! client credential and renews them in time. With the feature `issue` it also is the issuer.
//!
//! ```text
//!  token ─▶ JwtVerifier ─▶ Principal          ClientCredentials ─▶ Token
//!               │ KeySource                          │ HttpCaller
//!               ▼                                    ▼
//!     /oauth/jwks of the issuer            /oauth/token of the issuer
//! ```
//!
//! An issuer, a client and a verifier in one process, without a network:
//!
//! ```
//! # use std::sync::Arc;
//! use aurora_auth::issue::{TokenIssuer, new_secret};
//! use aurora_auth::token_source::ClientCredentials;
//! use aurora_auth::verify::{JwtVerifier, VerifyPolicy};
//! use aurora_core::port::clock::{Clock as _, SystemClock};
//! use aurora_core::port::store::memory::InMemoryStore;
//! use aurora_core::port::token::{TokenSource as _, TokenVerifier as _};
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let (origin, audience, secret) = ("https://login.example.test", "aurora", new_secret("ci")?);
//! let client = serde_json::from_value(serde_json::json!({
//!     "id": "ci", "kind": "machine", "tenant": "acme/main", "secretHash": secret.hash, "scopes": ["manage:deploy"],
//! }))?;
//! let store = Arc::new(InMemoryStore::new(Arc::new(SystemClock)));
//! let issuer = TokenIssuer::new(origin, audience, &[client], store, Arc::new(SystemClock))?;
//!
//! let http = Arc::new(issuer.in_process()); // or `aurora_transport::http::ReqwestCaller`
//! let tokens = ClientCredentials::new(http, issuer.token_endpoint(), "ci", secret.secret)?;
//! let token = tokens.token(SystemClock.now()).await?;
//!
//! let verifier = JwtVerifier::new(VerifyPolicy::new(origin, audience)?, Arc::new(issuer.keys()));
//! let principal = verifier.verify(&token.secret, SystemClock.now()).await?;
//! assert_eq!((principal.id.as_str(), principal.has_scope("manage:deploy")), ("ci", true));
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`verify`] | the policy, the cache of keys, the way from claims to a principal |
//! | [`token_source`] | client credentials that are renewed in time |
//! | `issue` | clients, signing keys and their rotation, the token endpoint and its router |
//!
//! | feature | gives |
//! |---|---|
//! | `verify` (default) | [`verify`] and [`token_source`]: no server |
//! | `issue` (default) | `issue`, and with it axum and argon2 |

#[cfg(feature = "issue")]
pub mod issue;
pub mod token_source;
mod url;
pub mod verify;
