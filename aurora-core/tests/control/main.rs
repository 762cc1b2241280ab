//! The control plane over in-memory ports: whole pipelines, crashes, and seeded simulations.

mod api;
mod crash;
mod failures;
mod golden;
mod happy;
mod simulation;
mod world;
