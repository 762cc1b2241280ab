//! The bounded history of writes from which watches are served.

use std::{collections::VecDeque, fmt, sync::Arc};

use serde_json::Value;

use super::error::Expired;
use crate::sim::resource::Resource;

/// How many writes are remembered. When one more comes the oldest is forgotten, and a watch that resumes from
/// before it finds its version expired and lists again.
pub const HISTORY_LIMIT: usize = 10_000;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// Created.
    Added,
    /// Changed.
    Modified,
    /// Gone; the object is its last state.
    Deleted,
}

impl fmt::Display for WatchKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        })
    }
}

/// One write.
#[derive(Clone, Debug)]
pub struct WatchEvent {
    /// Version that the write made.
    pub rv: u64,
    /// What happened.
    pub kind: WatchKind,
    /// Kind of the object.
    pub resource: Arc<Resource>,
    /// The object after the write.
    pub object: Arc<Value>,
    /// The object before the write; none when it was created.
    pub previous: Option<Arc<Value>>,
}

#[derive(Clone, Debug)]
pub(super) struct History {
    floor: u64,
    events: VecDeque<WatchEvent>,
}

impl History {
    pub(super) const fn starting_at(version: u64) -> Self {
        Self {
            floor: version,
            events: VecDeque::new(),
        }
    }

    pub(super) fn push(&mut self, event: WatchEvent) {
        if self.events.len() == HISTORY_LIMIT
            && let Some(forgotten) = self.events.pop_front()
        {
            self.floor = forgotten.rv;
        }
        self.events.push_back(event);
    }

    pub(super) fn since(&self, since: u64) -> Result<Vec<WatchEvent>, Expired> {
        if since < self.floor {
            return Err(Expired {
                requested: since,
                oldest: self.floor,
            });
        }
        let from = self.events.partition_point(|event| event.rv <= since);
        Ok(self.events.iter().skip(from).cloned().collect())
    }
}
