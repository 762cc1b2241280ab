//! Field ownership: server-side apply and the tracking of every other write.

mod apply;
mod managed;
mod schema;
mod set;
mod strict;
#[cfg(test)]
mod tests;
mod typed;

pub(crate) use apply::{ApplyError, apply, merge_keys, nulls, record_update};
pub(crate) use managed::Manager;
pub(crate) use schema::Ty;
pub(crate) use strict::{mistakes, prune_unknown};
pub(crate) use set::Element;
