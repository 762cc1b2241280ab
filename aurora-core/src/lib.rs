//! Domain, ports and use cases of the Aurora progressive-delivery control plane.
//!
//! This crate reaches no socket, file, environment or signal: adapters implement its [`port`]s.

pub mod account;
pub mod authz;
pub mod backoff;
pub mod command;
pub mod deploy_file;
pub mod digest;
pub mod error;
pub mod id;
pub mod manifest;
pub mod pipeline;
pub mod plan;
pub mod port;
pub mod principal;
pub mod progress;
pub mod secret;
pub mod session;
pub mod strategy;
pub mod tasks;
pub mod tenant;
