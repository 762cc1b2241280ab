//! The agent: dials the hub, does what it is told on its cluster, and reports.

pub(crate) mod dispatch;
pub(crate) mod perform;
