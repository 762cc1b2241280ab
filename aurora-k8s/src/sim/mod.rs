//! A simulated Kubernetes cluster: object storage and controllers that behave like the recorded real ones.
//!
//! [`Objects`] holds the objects and their watch history, [`Controllers`] moves them as the real
//! controllers and kubelet would. Both know nothing of HTTP: [`api`] serves them.

pub mod api;
pub mod controller;
mod fields;
pub mod objects;
pub mod patch;
pub mod resource;

pub use controller::{Behaviour, Controllers};
pub use objects::{
    Clock, Delete, Expired, List, ObjectError, Objects, Propagation, RestoreError, WatchEvent, WatchKind,
};
pub use resource::{RESOURCES, Resource};
