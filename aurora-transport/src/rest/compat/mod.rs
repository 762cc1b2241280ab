//! What clients of the older product ask for beside pipelines: paths and bodies as they know them.

mod config;
mod deployment;
mod directory;
mod link;
mod query;
mod queue;

pub use deployment::{DeployedObject, DeploymentStatus, KubernetesStatus, StrategyStatus, StrategyStep};
pub use directory::{Credential, Me, MeTenant, Role, TenantEntry};

pub(super) use config::config;
pub(super) use deployment::deployment;
pub(super) use directory::{credentials, environments, later, me, roles};
pub(super) use link::{CONFIG_LOCATION, Location, Wanted};
pub(super) use queue::queue;
