//! Domain, ports and use cases of the Aurora progressive-delivery control plane.
//!
//! This crate reaches no socket, file, environment or signal: adapters implement its [`port`]s.

#![warn(clippy::iter_over_hash_type)]

pub mod account;
pub mod agent;
mod announce;
pub mod authz;
pub mod backoff;
pub mod command;
pub mod control;
pub mod deploy_file;
pub mod digest;
pub mod entropy;
pub mod error;
pub mod hub;
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

/// The README's examples, compiled and run with the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ReadmeExample;
