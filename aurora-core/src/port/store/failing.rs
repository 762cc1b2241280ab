//! A store that breaks at a chosen write: for tests of what a crash leaves behind.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Batch, Committed, DueTimer, Lease, Name, Record, RecordKey, Scan, Scope, Store, StoreError, StoredEvent,
};
use crate::digest::Digest;

/// On which side of a write's effect it breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Nothing was written.
    Before,
    /// It was written, and the writer never hears of it.
    After,
}

/// Passes everything on, until the chosen write; clones share the count.
///
/// Commits and blobs count as writes, from 1. Leases do not: how often they are renewed is a matter of time.
#[derive(Clone, Debug)]
pub struct FailingStore<S> {
    inner: S,
    plan: Arc<Mutex<Plan>>,
    crashed: CancellationToken,
}

#[derive(Debug, Default)]
struct Plan {
    crash: Option<(u64, Side)>,
    fail: Vec<(u64, Side)>,
    writes: u64,
}

impl<S: Store> FailingStore<S> {
    /// Breaks nowhere yet.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            plan: Arc::default(),
            crashed: CancellationToken::new(),
        }
    }

    /// The `write`-th write fails; everything else goes on.
    #[must_use]
    pub fn with_failure(self, write: u64, side: Side) -> Self {
        self.lock().fail.push((write, side));
        self
    }

    /// From the `write`-th write on nothing works any more, as if the process had died there.
    #[must_use]
    pub fn with_crash(self, write: u64, side: Side) -> Self {
        self.lock().crash = Some((write, side));
        self
    }

    /// Cancelled at the crash.
    pub const fn crashed(&self) -> &CancellationToken {
        &self.crashed
    }

    /// How many writes were tried.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// What it passes on to: what survived.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> Result<(), StoreError> {
        if self.crashed.is_cancelled() {
            return Err(broken("the store has crashed"));
        }
        Ok(())
    }

    fn next_write(&self) -> Result<Option<Side>, StoreError> {
        self.alive()?;
        let mut plan = self.lock();
        plan.writes += 1;
        let this = plan.writes;
        if let Some((_, side)) = plan.crash.filter(|(write, _)| *write == this) {
            self.crashed.cancel();
            return Ok(Some(side));
        }
        Ok(plan
            .fail
            .iter()
            .find(|(write, _)| *write == this)
            .map(|(_, side)| *side))
    }
}

macro_rules! write_or_break {
    ($store:ident, $write:expr) => {
        match $store.next_write()? {
            None => $write.await,
            Some(Side::Before) => Err(broken("nothing was written")),
            Some(Side::After) => {
                let written = $write.await;
                written.and(Err(broken("it was written and nobody heard")))
            }
        }
    };
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: Store> Store for FailingStore<S> {
    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        write_or_break!(self, self.inner.commit(batch))
    }

    async fn read_stream(
        &self,
        scope: &Scope,
        stream: &Name,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.alive()?;
        self.inner.read_stream(scope, stream, after, limit).await
    }

    async fn read_feed(
        &self,
        scope: &Scope,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.alive()?;
        self.inner.read_feed(scope, after, limit).await
    }

    async fn feed_head(&self, scope: &Scope) -> Result<u64, StoreError> {
        self.alive()?;
        self.inner.feed_head(scope).await
    }

    fn written(&self) -> watch::Receiver<u64> {
        self.inner.written()
    }

    async fn get(&self, scope: &Scope, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.alive()?;
        self.inner.get(scope, key).await
    }

    async fn scan(&self, scope: &Scope, scan: Scan) -> Result<Vec<Record>, StoreError> {
        self.alive()?;
        self.inner.scan(scope, scan).await
    }

    async fn acquire_lease(
        &self,
        scope: &Scope,
        name: &Name,
        holder: &str,
        ttl: Duration,
    ) -> Result<Lease, StoreError> {
        self.alive()?;
        self.inner.acquire_lease(scope, name, holder, ttl).await
    }

    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<Lease, StoreError> {
        self.alive()?;
        self.inner.renew_lease(lease, ttl).await
    }

    async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        self.alive()?;
        self.inner.release_lease(lease).await
    }

    async fn due_timers(&self, limit: usize) -> Result<Vec<DueTimer>, StoreError> {
        self.alive()?;
        self.inner.due_timers(limit).await
    }

    async fn put_blob(&self, scope: &Scope, body: Bytes) -> Result<Digest, StoreError> {
        write_or_break!(self, self.inner.put_blob(scope, body))
    }

    async fn get_blob(&self, scope: &Scope, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        self.alive()?;
        self.inner.get_blob(scope, digest).await
    }
}

fn broken(why: &'static str) -> StoreError {
    StoreError::Unavailable { source: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::port::clock::SystemClock;
    use crate::port::store::memory::InMemoryStore;

    fn put(id: &str) -> Batch {
        let mut batch = Batch::new(Scope::Global);
        batch
            .puts
            .push((RecordKey::new("thing", id), Bytes::from_static(b"x")));
        batch
    }

    fn kept(store: &InMemoryStore) -> Vec<String> {
        store
            .records(&Scope::Global)
            .into_iter()
            .map(|record| record.key.id)
            .collect()
    }

    #[tokio::test]
    async fn a_failure_after_the_effect_has_the_effect() {
        let store = FailingStore::new(InMemoryStore::new(Arc::new(SystemClock)))
            .with_failure(1, Side::Before)
            .with_failure(2, Side::After);
        for id in ["one", "two"] {
            let error = store.commit(put(id)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
        }
        store.commit(put("three")).await.unwrap();
        assert_eq!(kept(store.inner()), ["three", "two"]);
    }

    #[tokio::test]
    async fn after_a_crash_nothing_works_and_what_was_written_is_there() {
        let memory = InMemoryStore::new(Arc::new(SystemClock));
        let store = FailingStore::new(memory.clone()).with_crash(2, Side::After);
        store.commit(put("one")).await.unwrap();
        store.commit(put("two")).await.unwrap_err();
        assert!(store.crashed().is_cancelled());
        store
            .get(&Scope::Global, &RecordKey::new("thing", "one"))
            .await
            .unwrap_err();
        assert_eq!(kept(&memory), ["one", "two"]);
    }
}
