//! The laws of the executor, kept by the Kubernetes executor over the simulated cluster.

#[path = "executor/cluster.rs"]
#[expect(dead_code, reason = "the laws need only a part of it")]
mod cluster;

aurora_core::executor_laws!(cluster::Cluster::start());
