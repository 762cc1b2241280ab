//! The hub: accepts agents, routes commands to them and remembers their reports.

pub(crate) mod mailbox;
