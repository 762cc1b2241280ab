//! Kubernetes for Aurora: a renderer of Argo Rollouts objects, an executor, and a simulated cluster.
//!
//! The renderer turns a user's manifests into a plan, refusing whatever the cluster would refuse or hang on;
//! the executor makes a cluster hold it and tells how far it is. The simulated cluster is held to recordings
//! of the real controller, and `kube` cannot tell it from a real one.
//!
//! ```text
//!  manifests ──render::ArgoRenderer──▶ plan ──execute::KubeExecutor──▶ Kubernetes API ◀── sim: a cluster for demos and tests
//! ```
//!
//! ```
//! # #[cfg(feature = "render")] {
//! use aurora_core::manifest::{Manifest, Origin};
//! use aurora_core::port::renderer::{ManifestRenderer as _, RenderRequest};
//! use aurora_core::strategy::{Canary, Step, Strategy};
//! use aurora_core::tenant::Tenant;
//! use aurora_k8s::render::ArgoRenderer;
//! use serde_json::json;
//!
//! let web = json!({
//!     "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
//!     "spec": {
//!         "selector": {"matchLabels": {"app": "web"}},
//!         "template": {
//!             "metadata": {"labels": {"app": "web"}},
//!             "spec": {"containers": [{"name": "web", "image": "registry.example.test/web:1"}]},
//!         },
//!     },
//! });
//! let plan = ArgoRenderer.render(&RenderRequest {
//!     tenant: Tenant::new("acme", "main")?,
//!     application: "shop".to_owned(),
//!     target: "staging".to_owned(),
//!     namespace: Some("shop".to_owned()),
//!     strategy: Some(Strategy::Canary(Canary { steps: vec![Step::SetWeight(50)] })),
//!     services: Vec::new(),
//!     manifests: vec![Manifest::new(web, Origin::default())],
//! })?;
//! assert_eq!(plan.objects[0].body["kind"], "Rollout");
//! assert_eq!(plan.steps.rollouts["web"], 1);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `render` | manifests to a plan; the lint of what a controller would refuse, or accept and hang on |
//! | `execute` | the applied set, stages, observing, acts, pruning, over a `kube::Client` |
//! | `sim` | a simulated cluster: API, controllers and state |
//! | [`argo`] | what all of them know of Argo Rollouts |
//!
//! | feature | gives |
//! |---|---|
//! | `render` (default) | `render`: no `kube` |
//! | `execute` (default) | `execute`; whoever enables it chooses a Kubernetes version, as in `k8s-openapi/v1_34` |
//! | `sim` | `sim`, and with it a server |

pub mod argo;
#[cfg(feature = "execute")]
pub mod execute;
#[cfg(feature = "render")]
pub mod render;
#[cfg(feature = "sim")]
pub mod sim;
