//! Making a cluster hold what a plan declares, and telling how far it is.

#[cfg(any(test, feature = "test-util"))]
pub mod laws;
pub mod memory;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde_json::Value;

use crate::command::{Act, Acted, Applied, AppliedSetKey, Apply, Failure, FailureDetail, Observe};
use crate::error::{BoxError, ErrorKind};
use crate::manifest::ObjectRef;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::session::InventoryItem;

/// Acts on one cluster, with rights of its own.
///
/// Every method may be called again with the same arguments, also on a fresh executor over the same
/// cluster: the cluster itself remembers what was done, so nothing takes effect twice.
#[async_trait]
pub trait ClusterExecutor: Debug + Send + Sync + 'static {
    /// What this executor can do beyond the required.
    fn capabilities(&self) -> Capabilities;

    /// Makes the cluster hold a plan and returns once our revision of every workload is observed.
    ///
    /// `stages` hears what is being done; a full or closed channel loses news, nothing else.
    ///
    /// # Errors
    /// [`ExecutorError`]; `Superseded` when the applied set has accepted a newer stamp.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the plan partly applied; the same apply goes on where it stopped.
    async fn apply(&self, apply: &Apply, plan: &Plan, stages: &StageSink) -> Result<Applied, ExecutorError>;

    /// After a plan is done: brings what was held back to its declared value and prunes what left the plan.
    ///
    /// # Errors
    /// [`ExecutorError`]; `Superseded` as for an apply.
    ///
    /// # Cancel safety
    /// As for [`ClusterExecutor::apply`].
    async fn finish(&self, apply: &Apply, plan: &Plan, stages: &StageSink) -> Result<Applied, ExecutorError>;

    /// Follows the workloads of a plan: first the full present state, then levels as they change.
    ///
    /// The stream ends only with an error or by being dropped, which leaves no watch behind.
    ///
    /// # Errors
    /// [`ExecutorError`] when the cluster cannot be read.
    ///
    /// # Cancel safety
    /// Dropping the future or the stream leaves nothing behind.
    async fn observe(&self, observe: &Observe, plan: &Plan) -> Result<Levels, ExecutorError>;

    /// Does one thing with one object, if it still is what the act expects.
    ///
    /// # Errors
    /// [`ExecutorError`]; `WrongGate` when the object stands at another place than the act expects.
    ///
    /// # Cancel safety
    /// The act may or may not have taken effect; the same act again tells `Unchanged` if it had.
    async fn act(&self, act: &Act) -> Result<Acted, ExecutorError>;

    /// Reads one object; values of Secrets are left out.
    ///
    /// # Errors
    /// [`ExecutorError`] when the cluster cannot be read.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    async fn get(&self, object: &ObjectRef) -> Result<Option<Value>, ExecutorError>;

    /// Deletes one object that the applied set lists with its live uid; absent is fine.
    ///
    /// # Errors
    /// [`ExecutorError`]; `Foreign` when it is not ours.
    ///
    /// # Cancel safety
    /// The object may or may not be deleted; the same call again is fine.
    async fn delete(&self, set: &AppliedSetKey, object: &ObjectRef) -> Result<(), ExecutorError>;

    /// What the cluster has, for people: its namespaces and applied sets.
    ///
    /// # Errors
    /// [`ExecutorError`] when the cluster cannot be read.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    async fn inventory(&self) -> Result<Vec<(String, InventoryItem)>, ExecutorError>;
}

/// Levels of the workloads of a plan.
pub type Levels = BoxStream<'static, Result<Vec<Progress>, ExecutorError>>;

/// Hears what an apply is doing: objects done, objects in all, and what is being done.
pub type StageSink = tokio::sync::mpsc::Sender<(u32, u32, String)>;

/// Optional abilities of an executor.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Capabilities {
    /// It has workloads with steps: canaries pause at gates.
    pub steps: bool,
    /// It has workloads that move by blue/green: both versions run, and traffic is redirected at once.
    pub blue_green: bool,
}

impl Capabilities {
    /// No optional ability.
    pub const fn none() -> Self {
        Self {
            steps: false,
            blue_green: false,
        }
    }

    /// Workloads move in steps.
    #[must_use]
    pub const fn with_steps(mut self) -> Self {
        self.steps = true;
        self
    }

    /// Workloads move by blue/green.
    #[must_use]
    pub const fn with_blue_green(mut self) -> Self {
        self.blue_green = true;
        self
    }
}

/// Why an executor could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutorError {
    /// Another writer was faster for too long.
    #[error("{object} kept changing while it was written")]
    Contended {
        /// Which object.
        object: ObjectRef,
    },
    /// The agent may not do this in its cluster.
    #[error("the agent may not {verb} {object}")]
    Forbidden {
        /// The Kubernetes verb.
        verb: String,
        /// Which object.
        object: ObjectRef,
        /// The cluster's words.
        source: BoxError,
    },
    /// Objects of somebody else stand in the way; nothing was written.
    #[error("{} object(s) belong to somebody else", objects.len())]
    Foreign {
        /// Each with the way to adopt it.
        objects: Vec<FailureDetail>,
    },
    /// The cluster does not take these objects as they are.
    #[error("{} object(s) are not accepted", objects.len())]
    Rejected {
        /// Each with what is wrong and what to do.
        objects: Vec<FailureDetail>,
    },
    /// A newer plan was accepted for this applied set.
    #[error("a newer plan {accepted} was accepted for this application")]
    Superseded {
        /// The newer stamp.
        accepted: String,
    },
    /// The cluster cannot be reached or does not answer.
    #[error("the cluster cannot be reached")]
    Unavailable {
        /// Why.
        source: BoxError,
    },
    /// The executor does not have this ability.
    #[error("this executor cannot {what}")]
    Unsupported {
        /// What was asked.
        what: String,
    },
    /// The object stands at another place than the act expects.
    #[error("{object} is not where it was when this was decided: {found}")]
    WrongGate {
        /// Which object.
        object: ObjectRef,
        /// What is there.
        found: String,
    },
}

impl ExecutorError {
    /// What can be done about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Contended { .. } | Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Forbidden { .. } => ErrorKind::Denied,
            Self::Foreign { .. } | Self::Superseded { .. } | Self::WrongGate { .. } => ErrorKind::Conflict,
            Self::Rejected { .. } => ErrorKind::Invalid,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
        }
    }

    /// A stable code for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Contended { .. } => "contended",
            Self::Forbidden { .. } => "forbidden",
            Self::Foreign { .. } => "foreignObject",
            Self::Rejected { .. } => "rejected",
            Self::Superseded { .. } => "superseded",
            Self::Unavailable { .. } => "clusterUnavailable",
            Self::Unsupported { .. } => "unsupported",
            Self::WrongGate { .. } => "wrongGate",
        }
    }

    /// The error as it travels to the control plane.
    pub fn to_failure(&self) -> Failure {
        let details = match self {
            Self::Foreign { objects } | Self::Rejected { objects } => objects.clone(),
            _ => Vec::new(),
        };
        let message = crate::error::ErrorChain(self).to_string();
        Failure {
            kind: self.kind(),
            code: self.code().to_owned(),
            message,
            details,
        }
    }
}

#[async_trait]
impl<T: ClusterExecutor + ?Sized> ClusterExecutor for Arc<T> {
    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    async fn apply(&self, apply: &Apply, plan: &Plan, stages: &StageSink) -> Result<Applied, ExecutorError> {
        (**self).apply(apply, plan, stages).await
    }

    async fn finish(&self, apply: &Apply, plan: &Plan, stages: &StageSink) -> Result<Applied, ExecutorError> {
        (**self).finish(apply, plan, stages).await
    }

    async fn observe(&self, observe: &Observe, plan: &Plan) -> Result<Levels, ExecutorError> {
        (**self).observe(observe, plan).await
    }

    async fn act(&self, act: &Act) -> Result<Acted, ExecutorError> {
        (**self).act(act).await
    }

    async fn get(&self, object: &ObjectRef) -> Result<Option<Value>, ExecutorError> {
        (**self).get(object).await
    }

    async fn delete(&self, set: &AppliedSetKey, object: &ObjectRef) -> Result<(), ExecutorError> {
        (**self).delete(set, object).await
    }

    async fn inventory(&self) -> Result<Vec<(String, InventoryItem)>, ExecutorError> {
        (**self).inventory().await
    }
}
