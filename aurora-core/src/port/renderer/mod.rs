//! Turning a deploy file's manifests into the plan of one target.

#[cfg(feature = "test-util")]
pub mod laws;
mod memory;

use std::fmt::Debug;
use std::sync::Arc;

use crate::deploy_file::Problem;
use crate::manifest::Manifest;
use crate::plan::Plan;
use crate::strategy::{ServicePair, Strategy};
use crate::tenant::Tenant;

pub use memory::InMemoryRenderer;

/// Renders plans: pure, the same input gives the same bytes.
pub trait ManifestRenderer: Debug + Send + Sync + 'static {
    /// Renders the plan of one target.
    ///
    /// # Errors
    /// [`RenderError`] with every problem found, each with its place in the user's file: whatever the
    /// platform would reject, or accept and then hang on.
    fn render(&self, request: &RenderRequest) -> Result<Plan, RenderError>;
}

/// What one target's plan is made of.
#[derive(Clone, Debug)]
pub struct RenderRequest {
    /// Whose.
    pub tenant: Tenant,
    /// The application.
    pub application: String,
    /// The target's name.
    pub target: String,
    /// The target's namespace, where the file gives one; else the manifests' single one counts.
    pub namespace: Option<String>,
    /// How Deployments move; `None` where the target names no strategy.
    pub strategy: Option<Strategy>,
    /// The Services of a blue/green move that the file names; empty: found by their selectors.
    pub services: Vec<ServicePair>,
    /// The manifests for this target, in the order of the file.
    pub manifests: Vec<Manifest>,
}

/// The manifests cannot be rendered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("target `{target}` cannot be rendered: {} problem(s)", problems.len())]
pub struct RenderError {
    /// The target.
    pub target: String,
    /// Every problem, at least one of them an error.
    pub problems: Vec<Problem>,
}

impl<T: ManifestRenderer + ?Sized> ManifestRenderer for Arc<T> {
    fn render(&self, request: &RenderRequest) -> Result<Plan, RenderError> {
        (**self).render(request)
    }
}
