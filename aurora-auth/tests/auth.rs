//! Verifying, sourcing and issuing tokens, through the public surface of the crate.
#![expect(
    clippy::unwrap_used,
    reason = "what makes the inputs of a test fails it by panicking"
)]

mod forge;

#[path = "auth/issue.rs"]
mod issue;
#[path = "auth/keys.rs"]
mod keys;
#[path = "auth/laws.rs"]
mod laws;
#[path = "auth/logs.rs"]
mod logs;
#[path = "auth/source.rs"]
mod source;
#[path = "auth/verify.rs"]
mod verify;
