//! The control plane over in-memory ports: whole pipelines, crashes, and seeded simulations.

mod happy;
mod world;
