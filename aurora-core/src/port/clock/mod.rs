//! What time it is.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// Tells the time of day; sleeping is tokio's.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The present time, UTC, to the microsecond.
    fn now(&self) -> Timestamp;
}

impl<T: Clock + ?Sized> Clock for Arc<T> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        truncated(Timestamp::now())
    }
}

/// A clock that moves with tokio's time, so that paused tests run in virtual time; it can jump.
#[derive(Clone, Debug)]
pub struct InMemoryClock {
    state: Arc<Mutex<(Instant, Timestamp)>>,
}

impl InMemoryClock {
    /// Starts at a time; needs a tokio runtime.
    pub fn starting_at(start: Timestamp) -> Self {
        Self {
            state: Arc::new(Mutex::new((Instant::now(), start))),
        }
    }

    /// Jumps, forward or back, without any timer noticing.
    pub fn jump(&self, by: jiff::SignedDuration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 = state.1.checked_add(by).unwrap_or(state.1);
    }
}

impl Clock for InMemoryClock {
    fn now(&self) -> Timestamp {
        let (since, start) = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed: Duration = since.elapsed();
        truncated(start.checked_add(elapsed).unwrap_or(start))
    }
}

fn truncated(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}
