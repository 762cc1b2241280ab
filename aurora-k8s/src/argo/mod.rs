//! What Argo Rollouts objects say: pure functions from their JSON.

pub mod status;
pub mod template;
