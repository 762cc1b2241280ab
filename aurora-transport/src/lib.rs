//! gRPC sessions, REST API and client, and outgoing HTTP for Aurora.

#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "rest")]
pub mod rest;
