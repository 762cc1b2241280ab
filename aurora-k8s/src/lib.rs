//! Kubernetes for Aurora: a renderer of Argo Rollouts objects, an executor, and a simulated cluster.

pub mod argo;
#[cfg(feature = "execute")]
pub mod execute;
#[cfg(feature = "render")]
pub mod render;
#[cfg(feature = "sim")]
pub mod sim;
