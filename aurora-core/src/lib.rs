//! Domain, ports and use cases of the Aurora progressive-delivery control plane.
//!
//! This crate reaches no socket, file, environment or signal: adapters implement its [`port`]s, and
//! whoever embeds a hub, an agent or the whole control plane brings the adapters, Aurora's or their own.
//!
//! ```text
//!  control::ControlPlane ──CommandRouter──▶ hub::Hub ◀──Connector, Listener──▶ agent::Agent ──ClusterExecutor──▶ cluster
//!      │ Store  │ ManifestRenderer              │ TokenVerifier                    │ TokenSource
//! ```
//!
//! A hub and an agent in one process, over fakes that ship with the ports, are the README's example; a
//! control plane over an executor needs no hub at all:
//!
//! ```
//! use std::sync::Arc;
//!
//! use aurora_core::control::ControlPlane;
//! use aurora_core::port::clock::SystemClock;
//! use aurora_core::port::renderer::InMemoryRenderer;
//! use aurora_core::port::router::InMemoryRouter;
//! use aurora_core::port::store::memory::InMemoryStore;
//!
//! let store = Arc::new(InMemoryStore::new(Arc::new(SystemClock)));
//! let router = InMemoryRouter::new(SystemClock);
//! let plane = ControlPlane::new(store, router, InMemoryRenderer, SystemClock);
//! # let _ = plane;
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`deploy_file`] | what users write: text to [`DeployFile`](deploy_file::DeployFile), every problem with its place |
//! | [`pipeline`] | the pure engine: events, `decide`, `evolve`, `outstanding`, and what readers see |
//! | [`control`] | the use cases of people, and the runner that drives pipelines |
//! | [`hub`], [`agent`], [`session`] | the two ends of a session and what travels between them |
//! | [`port`] | the traits that adapters implement, each with its fake and its laws |
//! | [`command`], [`plan`], [`progress`], [`manifest`] | orders, what is applied, how far it is |
//! | [`tenant`], [`principal`], [`authz`], [`account`] | who may do what, and where |
//! | [`tasks`], [`backoff`], [`entropy`], [`secret`], [`digest`], [`id`], [`error`] | what all of them share |
//!
//! | feature | gives |
//! |---|---|
//! | `test-util` | the law suites of the ports and doubles that fail on purpose; laws may grow in any minor release |

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
