//! A simulated Kubernetes cluster: object storage and controllers that behave like the recorded real ones.
//!
//! [`Objects`] holds the objects and their watch history, [`Controllers`] moves them as the real
//! controllers and kubelet would. Both know nothing of HTTP: [`api`] serves them.
//!
//! ```
//! use std::sync::Arc;
//!
//! use aurora_k8s::sim::{Behaviour, Controllers, Objects, resource};
//! use serde_json::json;
//!
//! let objects = Objects::new(Arc::new(|| "2026-01-01T00:00:00Z".parse().unwrap()));
//! let seen = objects.resource_version();
//! let settings = json!({"metadata": {"name": "settings", "namespace": "default"}});
//! objects.create(&resource::CONFIG_MAPS, settings)?;
//! assert_eq!(objects.events_since(seen)?.len(), 1);
//! let controllers = Controllers::new(objects, Behaviour::default());
//! // controllers.run(stop).await moves what is created until it is stopped.
//! # drop(controllers);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
