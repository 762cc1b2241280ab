//! The controllers of the simulated cluster and what drives them.

use tokio_util::sync::CancellationToken;

use super::Objects;

/// How the controllers behave, switchable while they run; clones share the switches.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {}

/// All controllers of one cluster.
#[derive(Debug)]
pub struct Controllers {
    _objects: Objects,
}

impl Controllers {
    /// Controllers over these objects; nothing happens before [`Controllers::run`].
    #[must_use]
    pub fn new(objects: Objects, _behaviour: Behaviour) -> Self {
        Self { _objects: objects }
    }

    /// Reconciles what changes until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        stop.cancelled().await;
    }
}
