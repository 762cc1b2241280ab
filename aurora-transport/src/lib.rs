//! gRPC sessions, REST API and client, and outgoing HTTP for Aurora.
//!
//! It connects what `aurora-core` owns: agents to hubs, control planes to hubs, programs to the API, and
//! use cases to the world. Each part is a feature, so an agent brings no server along.
//!
//! ```text
//!  Agent ──grpc::GrpcConnector══ TLS ══grpc::GrpcListener──▶ Hub ◀──grpc::RoutingService══ TLS ══grpc::HubClient──ControlPlane
//!  program ──rest::client::Client══ TLS ══rest::Api──▶ ControlPlane          use case ──http::ReqwestCaller══▶ the world
//! ```
//!
//! Outgoing calls reach no private network unless somebody said so; a session over gRPC is the example
//! `embed_hub` of the repository:
//!
//! ```
//! # #[cfg(all(feature = "grpc-client", feature = "http"))] {
//! use aurora_core::session::FromHub;
//! use aurora_transport::grpc::frame::{Decoded, decode_from_hub, encode_from_hub};
//! use aurora_transport::http::EgressRules;
//!
//! let rules = EgressRules::public_only();
//! assert!(!rules.allow([10, 0, 0, 1].into()) && rules.with_private().allow([10, 0, 0, 1].into()));
//!
//! // The frames of a session as bytes, for a transport of your own.
//! let bytes = encode_from_hub(FromHub::Heartbeat, 7);
//! assert!(matches!(decode_from_hub(bytes), Ok(Decoded::Frame(FromHub::Heartbeat))));
//! # }
//! ```
//!
//! `proto/` is the contract for agents in other languages: every message and field is commented there.
//!
//! | module | owns |
//! |---|---|
//! | `grpc` | agent sessions, caller streams, their frames, TLS that can be changed while it serves |
//! | `rest` | the REST API over a control plane, and its typed client |
//! | `http` | outgoing calls with limits and rules about where they may go |
//!
//! | feature | gives |
//! |---|---|
//! | `grpc-client` | of `grpc` what dials out: connector, hub client, frames; no server |
//! | `grpc` (default) | all of it: listener, routing service and serving too; brings axum |
//! | `rest` (default) | `rest`; brings axum |
//! | `http` (default) | `http` |

#[cfg(feature = "grpc-client")]
pub mod grpc;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "rest")]
pub mod rest;
