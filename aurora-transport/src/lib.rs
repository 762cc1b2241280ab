//! gRPC sessions, REST API and client, and outgoing HTTP for Aurora.

#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "rest")]
pub mod rest;
