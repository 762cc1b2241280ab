//! Announcing changes to many waiters in one order, so that simulations replay.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Tells whoever subscribed that something changed, in the order in which they subscribed.
///
/// One tokio `watch` channel wakes several waiters in a random order; here each has a channel of its own.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    count: u64,
    waiters: Vec<watch::Sender<u64>>,
}

impl Announcer {
    /// Hears of every change from now on, several as one.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        let mut state = self.lock();
        // Those who left are forgotten here too: a quiet announcer must not keep them.
        state.waiters.retain(|waiter| waiter.receiver_count() > 0);
        let (sender, receiver) = watch::channel(state.count);
        state.waiters.push(sender);
        receiver
    }

    /// Something changed.
    pub(crate) fn announce(&self) {
        let mut state = self.lock();
        state.count += 1;
        let count = state.count;
        state.waiters.retain(|waiter| waiter.send(count).is_ok());
    }

    /// How many wait or may wait.
    pub(crate) fn listeners(&self) -> usize {
        let state = self.lock();
        state.waiters.iter().map(watch::Sender::receiver_count).sum()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that may panic runs while it is held, so what is inside is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_listener_hears_of_changes_after_it_came() {
        let announcer = Announcer::default();
        let early = announcer.subscribe();
        announcer.announce();
        let mut late = announcer.subscribe();
        assert!(early.has_changed().unwrap() && !late.has_changed().unwrap());
        announcer.announce();
        late.changed().await.unwrap();
        drop(early);
        announcer.announce();
        assert_eq!(announcer.listeners(), 1);
    }
}
