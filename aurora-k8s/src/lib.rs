//! Kubernetes for Aurora: a renderer of Argo Rollouts objects, an executor, and a simulated cluster.

#[cfg(feature = "render")]
pub mod argo;
#[cfg(feature = "render")]
pub mod render;
