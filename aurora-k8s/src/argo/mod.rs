//! What the product knows of Argo Rollouts: names, how its values are read, and what its objects say.

pub mod status;
pub mod template;
mod value;

pub use value::{IntOrPercent, duration};

/// The API group.
pub const GROUP: &str = "argoproj.io";

/// Group and version of all Argo Rollouts objects.
pub const API_VERSION: &str = "argoproj.io/v1alpha1";

/// The kind that replaces a Deployment.
pub const ROLLOUT: &str = "Rollout";

/// The kind of an analysis in the Rollout's namespace.
pub const ANALYSIS_TEMPLATE: &str = "AnalysisTemplate";

/// The kind of an analysis that all namespaces share.
pub const CLUSTER_ANALYSIS_TEMPLATE: &str = "ClusterAnalysisTemplate";

/// The label that the controller puts on `ReplicaSets` and pods, and into the selectors of Services.
pub const POD_TEMPLATE_HASH: &str = "rollouts-pod-template-hash";

/// The annotation by which the controller marks Services and Ingresses that a Rollout manages.
pub const MANAGED_BY: &str = "argo-rollouts.argoproj.io/managed-by-rollouts";

/// Prefix of the annotations that the controller keeps on a Rollout and its `ReplicaSets`.
pub const CONTROLLER_ANNOTATIONS: &str = "rollout.argoproj.io/";

/// Surge and unavailability that the controller assumes where a canary gives none.
pub const DEFAULT_ROLLING_SHARE: &str = "25%";

/// `ReplicaSets` that the controller keeps where a Rollout gives no limit.
pub const DEFAULT_REVISION_HISTORY: i64 = 10;

/// Seconds without progress after which the controller calls a Rollout failed.
pub const DEFAULT_PROGRESS_DEADLINE: i64 = 600;
