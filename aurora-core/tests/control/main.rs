//! The control plane over in-memory ports: whole pipelines, crashes, and seeded simulations.

#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

mod acts;
mod api;
mod blue_green;
mod crash;
mod failures;
mod golden;
mod happy;
mod interleavings;
mod simulation;
mod world;
