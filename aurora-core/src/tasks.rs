//! Spawned tasks and their owner: nothing runs on after the one who started it has returned.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Owns tasks; each gets a stop token that [`Tasks::drain`] and dropping cancel.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Some tasks did not end within the grace period.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{remaining} task(s) did not end within {grace:?}")]
pub struct Stuck {
    /// How many still run.
    pub remaining: usize,
    /// How long they were given.
    pub grace: Duration,
}

impl Tasks {
    /// Owns nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Owns tasks that also stop when `parent` is cancelled.
    pub fn stopped_by(parent: &CancellationToken) -> Self {
        Self {
            inner: Arc::new(Inner {
                tracker: TaskTracker::new(),
                stop: parent.child_token(),
            }),
        }
    }

    /// Starts a task and hands it its stop token.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn<F>(&self, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let future = task(self.inner.stop.child_token());
        drop(self.inner.tracker.spawn(future));
    }

    /// The token that stops all of them.
    pub fn stop_token(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.inner.tracker.len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.inner.tracker.is_empty()
    }

    /// Stops all tasks and waits for them.
    ///
    /// # Errors
    /// [`Stuck`] when some still run after `grace`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the tasks told to stop, but not waited for.
    pub async fn drain(&self, grace: Duration) -> Result<(), Stuck> {
        self.inner.stop.cancel();
        self.inner.tracker.close();
        tokio::time::timeout(grace, self.inner.tracker.wait())
            .await
            .map_err(|_| Stuck {
                remaining: self.inner.tracker.len(),
                grace,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drain_waits_for_what_is_in_hand() {
        let tasks = Tasks::new();
        let (done, mut seen) = tokio::sync::mpsc::channel(1);
        tasks.spawn(|stop| async move {
            stop.cancelled().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            let _ = done.send(()).await;
        });
        assert_eq!(tasks.drain(Duration::from_secs(5)).await, Ok(()));
        assert_eq!(seen.recv().await, Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ignores_its_token_is_counted() {
        let tasks = Tasks::new();
        tasks.spawn(|_stop| std::future::pending());
        let grace = Duration::from_secs(1);
        assert_eq!(tasks.drain(grace).await, Err(Stuck { remaining: 1, grace }));
    }
}
