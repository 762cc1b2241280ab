//! Kubernetes for Aurora: a renderer of Argo Rollouts objects, an executor, and a simulated cluster.
//!
//! ```text
//!  manifests ──render::ArgoRenderer──▶ plan ──execute::KubeExecutor──▶ Kubernetes API ◀── sim: a cluster for demos and tests
//! ```
//!
//! | module and feature | owns |
//! |---|---|
//! | `render` (default) | manifests to a plan; the lint of what a controller would refuse, or accept and hang on |
//! | `execute` (default) | the applied set, stages, observing, acts, pruning, over a `kube::Client` |
//! | `sim` | a simulated cluster: API, controllers and state, held to recordings of the real controller |
//! | [`argo`] | what all of them know of Argo Rollouts |
//!
//! Whoever enables `execute` chooses a Kubernetes version, as in `k8s-openapi/v1_34`.

pub mod argo;
#[cfg(feature = "execute")]
pub mod execute;
#[cfg(feature = "render")]
pub mod render;
#[cfg(feature = "sim")]
pub mod sim;
