//! Following a pipeline: as a tree on a terminal, as lines elsewhere, as data for programs.

pub mod follow;
pub mod history;
pub mod lines;
pub mod tree;
