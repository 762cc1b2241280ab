//! Following a pipeline: as a tree on a terminal, as lines elsewhere, as data for programs.

pub(crate) mod follow;
pub(crate) mod history;
pub(crate) mod lines;
pub(crate) mod tree;
