//! Field ownership: server-side apply and the tracking of every other write.

mod apply;
mod managed;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod recorded;
mod schema;
mod set;
mod strict;
#[cfg(test)]
mod tests;
mod typed;

pub(crate) use apply::{ApplyError, apply, list_merge, nulls, record_update};
pub(crate) use managed::Manager;
pub(crate) use schema::{ListMerge, Ty};
pub(crate) use set::Element;
pub(crate) use strict::{mistakes, prune_unknown};
