//! A store that keeps everything in memory: full behaviour, no I/O, clones share what they keep.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

use super::limits::{check_blob, check_key, check_name, check_scan};
use super::{
    Batch, Committed, DueTimer, Lease, Name, Precondition, Record, RecordKey, Scan, Scope, Store, StoreError,
    StoredEvent,
};
use crate::announce::Announcer;
use crate::digest::Digest;
use crate::port::clock::Clock;

/// Keeps everything until its last clone is dropped.
///
/// ```
/// # use std::sync::Arc;
/// use aurora_core::port::clock::SystemClock;
/// use aurora_core::port::store::{Batch, RecordKey, Scope, Store, memory::InMemoryStore};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = InMemoryStore::new(Arc::new(SystemClock));
/// let mut batch = Batch::new(Scope::Global);
/// batch.puts.push((RecordKey::new("greeting", "first"), "hello".into()));
/// store.commit(batch).await?;
/// let kept = store.get(&Scope::Global, &RecordKey::new("greeting", "first")).await?;
/// assert_eq!(kept.map(|record| record.version), Some(1));
/// # Ok::<(), aurora_core::port::store::StoreError>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct InMemoryStore {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<BTreeMap<Scope, Kept>>>,
    written: Arc<Announcer>,
}

/// What one scope has.
#[derive(Debug, Default)]
struct Kept {
    blobs: BTreeMap<Digest, Bytes>,
    events: Vec<StoredEvent>,
    fence: u64,
    leases: BTreeMap<Name, Lease>,
    records: BTreeMap<RecordKey, Record>,
    streams: BTreeMap<Name, Vec<usize>>,
    timers: BTreeMap<Name, Timestamp>,
}

impl InMemoryStore {
    /// Keeps nothing yet; `clock` is the store's time.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            state: Arc::default(),
            written: Arc::default(),
        }
    }

    /// All events of a scope in the order of its feed.
    pub fn events(&self, scope: &Scope) -> Vec<StoredEvent> {
        self.look(scope, |kept| kept.events.clone())
    }

    /// All records of a scope in the order of their keys.
    pub fn records(&self, scope: &Scope) -> Vec<Record> {
        self.look(scope, |kept| kept.records.values().cloned().collect())
    }

    /// All timers of a scope, due or not.
    pub fn timers(&self, scope: &Scope) -> BTreeMap<Name, Timestamp> {
        self.look(scope, |kept| kept.timers.clone())
    }

    /// All leases of a scope that were not given up, ended or not.
    pub fn leases(&self, scope: &Scope) -> Vec<Lease> {
        self.look(scope, |kept| kept.leases.values().cloned().collect())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Scope, Kept>> {
        // No code that may panic runs while it is held, so what is inside is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look<T: Default>(&self, scope: &Scope, read: impl FnOnce(&Kept) -> T) -> T {
        self.lock().get(scope).map(read).unwrap_or_default()
    }
}

#[async_trait]
impl Store for InMemoryStore {
    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        batch.check()?;
        let mut state = self.lock();
        let now = self.clock.now();
        let kept = state.entry(batch.scope.clone()).or_default();
        kept.check(&batch, now)?;
        kept.write(batch, now);
        let feed = kept.head();
        self.written.announce();
        Ok(Committed { feed, at: now })
    }

    async fn read_stream(
        &self,
        scope: &Scope,
        stream: &Name,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        check_name("a stream", stream)?;
        Ok(self.look(scope, |kept| {
            let places = kept.streams.get(stream).map(Vec::as_slice).unwrap_or_default();
            let skip = usize::try_from(after).unwrap_or(usize::MAX);
            places
                .iter()
                .skip(skip)
                .take(limit)
                .map(|at| kept.events[*at].clone())
                .collect()
        }))
    }

    async fn read_feed(
        &self,
        scope: &Scope,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        Ok(self.look(scope, |kept| {
            let skip = usize::try_from(after).unwrap_or(usize::MAX);
            kept.events.iter().skip(skip).take(limit).cloned().collect()
        }))
    }

    async fn feed_head(&self, scope: &Scope) -> Result<u64, StoreError> {
        Ok(self.look(scope, Kept::head))
    }

    fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    async fn get(&self, scope: &Scope, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        check_key(key)?;
        Ok(self.look(scope, |kept| kept.records.get(key).cloned()))
    }

    async fn scan(&self, scope: &Scope, scan: Scan) -> Result<Vec<Record>, StoreError> {
        check_scan(&scan)?;
        Ok(self.look(scope, |kept| {
            let of_kind = kept
                .records
                .range(RecordKey::new(scan.kind.as_str(), "")..)
                .take_while(|(key, _)| key.kind == scan.kind)
                .map(|(_, record)| record)
                .filter(|record| record.key.id.starts_with(&scan.prefix));
            let after = scan.after.as_ref();
            if scan.reverse {
                let below = of_kind.filter(|record| after.is_none_or(|after| record.key.id < *after));
                let mut found: Vec<_> = below.cloned().collect();
                found.reverse();
                found.truncate(scan.limit);
                return found;
            }
            of_kind
                .filter(|record| after.is_none_or(|after| record.key.id > *after))
                .take(scan.limit)
                .cloned()
                .collect()
        }))
    }

    async fn acquire_lease(
        &self,
        scope: &Scope,
        name: &Name,
        holder: &str,
        ttl: Duration,
    ) -> Result<Lease, StoreError> {
        check_name("a lease", name)?;
        check_name("a holder", holder)?;
        let mut state = self.lock();
        let now = self.clock.now();
        let kept = state.entry(scope.clone()).or_default();
        if let Some(held) = kept.leases.get(name)
            && held.until > now
            && held.holder != holder
        {
            return Err(StoreError::Held {
                name: name.clone(),
                holder: held.holder.clone(),
                until: held.until,
            });
        }
        kept.fence = Lease::next_fence(kept.fence, now);
        let lease = Lease {
            scope: scope.clone(),
            name: name.clone(),
            holder: holder.to_owned(),
            fence: kept.fence,
            until: Lease::end(now, ttl),
        };
        kept.leases.insert(name.clone(), lease.clone());
        Ok(lease)
    }

    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<Lease, StoreError> {
        let mut state = self.lock();
        let now = self.clock.now();
        let held = state
            .get_mut(&lease.scope)
            .and_then(|kept| kept.leases.get_mut(&lease.name))
            .filter(|held| held.is_held_as(lease, now))
            .ok_or_else(|| lease.lost())?;
        held.until = Lease::end(now, ttl);
        Ok(held.clone())
    }

    async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        let mut state = self.lock();
        if let Some(kept) = state.get_mut(&lease.scope)
            && kept
                .leases
                .get(&lease.name)
                .is_some_and(|held| held.fence == lease.fence)
        {
            kept.leases.remove(&lease.name);
        }
        Ok(())
    }

    async fn due_timers(&self, limit: usize) -> Result<Vec<DueTimer>, StoreError> {
        let state = self.lock();
        let now = self.clock.now();
        let mut due: Vec<DueTimer> = Vec::new();
        for (scope, kept) in &*state {
            for (name, at) in kept.timers.iter().filter(|(_, at)| **at <= now) {
                due.push(DueTimer {
                    scope: scope.clone(),
                    name: name.clone(),
                    at: *at,
                });
            }
        }
        due.sort_by_key(|timer| timer.at);
        due.truncate(limit);
        Ok(due)
    }

    async fn put_blob(&self, scope: &Scope, body: Bytes) -> Result<Digest, StoreError> {
        check_blob(&body)?;
        let digest = Digest::of(&body);
        self.lock()
            .entry(scope.clone())
            .or_default()
            .blobs
            .insert(digest, body);
        Ok(digest)
    }

    async fn get_blob(&self, scope: &Scope, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        Ok(self.look(scope, |kept| kept.blobs.get(digest).cloned()))
    }
}

impl Kept {
    fn head(&self) -> u64 {
        self.events.len() as u64
    }

    fn check(&self, batch: &Batch, now: Timestamp) -> Result<(), StoreError> {
        if let Some(lease) = &batch.lease {
            self.leases
                .get(&lease.name)
                .filter(|held| held.is_held_as(lease, now))
                .ok_or_else(|| lease.lost())?;
        }
        for precondition in &batch.preconditions {
            let (key, wanted) = match precondition {
                Precondition::Absent(key) => (key, 0),
                Precondition::Version(key, version) => (key, *version),
            };
            if self.records.get(key).map_or(0, |record| record.version) != wanted {
                return Err(StoreError::Conflict {
                    what: format!("the record `{}/{}`", key.kind, key.id),
                });
            }
        }
        for append in &batch.appends {
            let version = self.streams.get(&append.stream).map_or(0, Vec::len);
            if version as u64 != append.expected {
                return Err(StoreError::Conflict {
                    what: format!("the stream `{}`", append.stream),
                });
            }
        }
        Ok(())
    }

    fn write(&mut self, batch: Batch, now: Timestamp) {
        for append in batch.appends {
            for value in append.events {
                let places = self.streams.entry(append.stream.clone()).or_default();
                places.push(self.events.len());
                self.events.push(StoredEvent {
                    stream: append.stream.clone(),
                    version: places.len() as u64,
                    feed: self.events.len() as u64 + 1,
                    at: now,
                    value,
                });
            }
        }
        for (key, value) in batch.puts {
            let version = self.records.get(&key).map_or(0, |record| record.version) + 1;
            self.records.insert(key.clone(), Record { key, version, value });
        }
        for key in batch.deletes {
            self.records.remove(&key);
        }
        for (name, at) in batch.timers {
            match at {
                Some(at) => {
                    let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
                    self.timers.insert(name, at);
                }
                None => {
                    self.timers.remove(&name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    crate::store_laws!({
        let kept = Arc::new(OnceLock::new());
        move |clock| {
            let store = kept.get_or_init(|| InMemoryStore::new(clock)).clone();
            async move { Arc::new(store) as crate::port::store::SharedStore }
        }
    });
}
