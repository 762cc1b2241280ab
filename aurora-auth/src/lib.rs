//! Token verification and the OIDC service of Aurora.
//!
//! [`verify`] turns access tokens into principals: it holds every token to a fixed policy and caches the
//! issuer's keys. [`token_source`] gets tokens for a client credential and renews them in time. `issue`
//! (feature `issue`) is the token issuer itself.
//!
//! ```text
//!  token ─▶ JwtVerifier ─▶ Principal          ClientCredentials ─▶ Token
//!               │ KeySource                          │ HttpCaller
//!               ▼                                    ▼
//!     /oauth/jwks of the issuer            /oauth/token of the issuer
//! ```

#[cfg(feature = "issue")]
pub mod issue;
pub mod token_source;
mod url;
pub mod verify;
