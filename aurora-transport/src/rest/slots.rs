//! How many event streams are open, and for whom.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aurora_core::authz::{Grant, ReadPipelines};
use aurora_core::error::ErrorKind;
use aurora_core::tenant::Tenant;

use super::Api;
use super::problem::Refusal;

/// Streams of one principal: a few tabs and programs.
const STREAMS_OF_ONE: usize = 16;
/// Streams of all together.
const STREAMS: usize = 2048;

/// How many may be open.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamLimits {
    pub(super) of_one: usize,
    pub(super) all: usize,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            of_one: STREAMS_OF_ONE,
            all: STREAMS,
        }
    }
}

/// How many streams each principal has open.
pub(super) type OpenStreams = Arc<Mutex<BTreeMap<(Option<Tenant>, String), usize>>>;

/// The right to one stream; given back when it is dropped.
pub(super) struct Slot {
    api: Api,
    holder: (Option<Tenant>, String),
}

impl Slot {
    pub(super) fn take(api: &Api, grant: &Grant<ReadPipelines>) -> Result<Self, Refusal> {
        let holder = (Some(grant.tenant().clone()), grant.principal().id.clone());
        let mut open = api.inner.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let own = open.get(&holder).copied().unwrap_or(0);
        let limits = api.inner.stream_limits;
        if own >= limits.of_one || all >= limits.all {
            let detail = format!("{own} event streams are open for you; close one, or try again later");
            return Err(Refusal::new(ErrorKind::Exhausted, "streams.exhausted", detail));
        }
        open.insert(holder.clone(), own + 1);
        super::metrics::streams(all + 1);
        Ok(Self {
            api: api.clone(),
            holder,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self
            .api
            .inner
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.holder) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.holder);
            }
        }
        super::metrics::streams(open.values().sum());
    }
}
