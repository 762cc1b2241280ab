//! gRPC sessions, REST API and client, and outgoing HTTP for Aurora.
//!
//! ```text
//!  Agent ──grpc::GrpcConnector══ TLS ══grpc::GrpcListener──▶ Hub ◀──grpc::RoutingService══ TLS ══grpc::HubClient──ControlPlane
//!  program ──rest::client::Client══ TLS ══rest::Api──▶ ControlPlane          use case ──http::ReqwestCaller══▶ the world
//! ```
//!
//! `proto/` is the contract for agents in other languages: every message and field is commented there.
//!
//! | module and feature | owns |
//! |---|---|
//! | `grpc` (default) | agent sessions, caller streams, TLS that can be changed while it serves |
//! | `rest` (default) | the REST API over a control plane, and its typed client |
//! | `http` (default) | outgoing calls with limits and rules about where they may go |

#[cfg(feature = "grpc-client")]
pub mod grpc;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "rest")]
pub mod rest;
