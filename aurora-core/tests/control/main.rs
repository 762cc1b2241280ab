//! The control plane over in-memory ports: whole pipelines, crashes, and seeded simulations.

mod api;
mod crash;
mod failures;
mod happy;
mod simulation;
mod world;
