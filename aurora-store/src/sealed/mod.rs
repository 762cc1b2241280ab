//! A store whose values are encrypted before they reach the one inside.

mod crypto;
mod keys;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use aurora_core::digest::Digest;
use aurora_core::error::BoxError;
use aurora_core::port::store::limits::{check_blob, check_key, check_scan};
use aurora_core::port::store::{
    Append, Batch, Committed, DueTimer, Lease, Name, Precondition, Record, RecordKey, Scan, Scope, Store,
    StoreError, StoredEvent,
};

use crypto::{Header, Place};
use keys::{KeyRing, ScopeKeys, sealing};
pub use keys::{MasterKey, MasterKeyError, MasterKeys};

/// Kinds of records that begin so are the sealing's own; nobody else can read or write them.
const RESERVED: &str = "sealed.";
const BLOBS: &str = "sealed.blob";

/// Seals values with AES-256-GCM: those of events, records and blobs.
///
/// Names, kinds, ids, versions, feed numbers, times, timers and leases stay readable: no secret belongs
/// there. Each scope has data keys of its own, wrapped by a master key. A value is bound to its place
/// (scope, stream and version, or kind and id), so it cannot be moved; a record's value is also bound to
/// its version where the batch that wrote it named the version before.
///
/// Several replicas may share what is inside, also while keys are rotated.
#[derive(Debug)]
pub struct SealedStore<S> {
    inner: S,
    ring: KeyRing,
}

impl<S: Store> SealedStore<S> {
    /// Seals what goes into a store.
    pub fn new(inner: S, masters: MasterKeys) -> Self {
        Self {
            inner,
            ring: KeyRing::new(masters),
        }
    }

    /// What it seals for.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// Makes a new data key for a scope and gives its number; older ones still open what they sealed.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// The key may or may not be made; either is fine.
    pub async fn rotate(&self, scope: &Scope) -> Result<u64, StoreError> {
        self.ring.rotate(&self.inner, scope).await
    }

    /// Wraps all data keys with the current master key and gives how many had an older one.
    ///
    /// Once it returned 0, older master keys are not needed any more.
    ///
    /// # Errors
    /// [`StoreError`]; `Conflict` when another replica does the same: try again.
    ///
    /// # Cancel safety
    /// Some keys may be wrapped anew; all stay readable.
    pub async fn rewrap(&self) -> Result<usize, StoreError> {
        self.ring.rewrap(&self.inner).await
    }

    async fn seal_batch(&self, batch: &mut Batch) -> Result<(), StoreError> {
        if batch.puts.is_empty() && batch.appends.iter().all(|append| append.events.is_empty()) {
            return Ok(());
        }
        let keys = self.ring.for_sealing(&self.inner, &batch.scope).await?;
        let scope = batch.scope.as_text();
        for append in &mut batch.appends {
            seal_events(&keys, &scope, append)?;
        }
        for (key, value) in &mut batch.puts {
            let version = batch.preconditions.iter().find_map(|held| match held {
                Precondition::Absent(of) if of == key => Some(1),
                Precondition::Version(of, version) if of == key => Some(version + 1),
                _ => None,
            });
            *value = seal(&keys, record_place(&scope, key, version), value)?;
        }
        Ok(())
    }

    async fn open(&self, scope: &Scope, place: Place<'_>, sealed: &[u8]) -> Result<Bytes, StoreError> {
        let what = || match place.version {
            Some(version) => format!(
                "version {version} of the {} `{}`",
                place.sort,
                place.name.join("/")
            ),
            None => format!("the {} `{}`", place.sort, place.name.join("/")),
        };
        let header = Header::read(sealed).map_err(|error| corrupt(what(), error))?;
        let keys = self.ring.for_opening(&self.inner, scope, header.key).await?;
        let key = keys
            .number(header.key)
            .ok_or_else(|| corrupt(what(), format!("its data key {} is gone", header.key)))?;
        let version = place.version.filter(|_| header.is_versioned);
        let opened = key.open(Place { version, ..place }, sealed);
        opened.map(Bytes::from).map_err(|error| corrupt(what(), error))
    }

    async fn open_record(&self, scope: &Scope, record: Record) -> Result<Record, StoreError> {
        let text = scope.as_text();
        let place = record_place(&text, &record.key, Some(record.version));
        let value = self.open(scope, place, &record.value).await?;
        Ok(Record { value, ..record })
    }

    async fn open_events(
        &self,
        scope: &Scope,
        mut events: Vec<StoredEvent>,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let text = scope.as_text();
        for event in &mut events {
            let place = event_place(&text, &event.stream, event.version);
            event.value = self.open(scope, place, &event.value).await?;
        }
        Ok(events)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: Store> Store for SealedStore<S> {
    async fn commit(&self, mut batch: Batch) -> Result<Committed, StoreError> {
        batch.check()?;
        check_batch(&batch)?;
        self.seal_batch(&mut batch).await?;
        self.inner.commit(batch).await
    }

    async fn read_stream(
        &self,
        scope: &Scope,
        stream: &Name,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let events = self.inner.read_stream(scope, stream, after, limit).await?;
        self.open_events(scope, events).await
    }

    async fn read_feed(
        &self,
        scope: &Scope,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let events = self.inner.read_feed(scope, after, limit).await?;
        self.open_events(scope, events).await
    }

    async fn feed_head(&self, scope: &Scope) -> Result<u64, StoreError> {
        self.inner.feed_head(scope).await
    }

    fn written(&self) -> watch::Receiver<u64> {
        self.inner.written()
    }

    async fn get(&self, scope: &Scope, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        check_key(key)?;
        check_kind(&key.kind)?;
        match self.inner.get(scope, key).await? {
            Some(record) => self.open_record(scope, record).await.map(Some),
            None => Ok(None),
        }
    }

    async fn scan(&self, scope: &Scope, scan: Scan) -> Result<Vec<Record>, StoreError> {
        check_scan(&scan)?;
        check_kind(&scan.kind)?;
        let mut records = Vec::new();
        for record in self.inner.scan(scope, scan).await? {
            records.push(self.open_record(scope, record).await?);
        }
        Ok(records)
    }

    async fn acquire_lease(
        &self,
        scope: &Scope,
        name: &Name,
        holder: &str,
        ttl: Duration,
    ) -> Result<Lease, StoreError> {
        self.inner.acquire_lease(scope, name, holder, ttl).await
    }

    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<Lease, StoreError> {
        self.inner.renew_lease(lease, ttl).await
    }

    async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        self.inner.release_lease(lease).await
    }

    async fn due_timers(&self, limit: usize) -> Result<Vec<DueTimer>, StoreError> {
        self.inner.due_timers(limit).await
    }

    /// The body goes in first, then a record that says under which digest its sealed form is: what a crash
    /// leaves between the two is a body that nobody names.
    async fn put_blob(&self, scope: &Scope, body: Bytes) -> Result<Digest, StoreError> {
        check_blob(&body)?;
        let digest = Digest::of(&body);
        let keys = self.ring.for_sealing(&self.inner, scope).await?;
        let index = blob_index(&keys, &digest);
        if self.inner.get(scope, &index).await?.is_some() {
            return Ok(digest);
        }
        let (text, name) = (scope.as_text(), digest.to_string());
        let sealed = seal(&keys, blob_place(&text, &name), &body)?;
        let stored = self.inner.put_blob(scope, sealed).await?;
        let mut batch = Batch::new(scope.clone());
        let value = seal(
            &keys,
            record_place(&text, &index, None),
            stored.to_string().as_bytes(),
        )?;
        batch.puts.push((index, value));
        self.inner.commit(batch).await?;
        Ok(digest)
    }

    async fn get_blob(&self, scope: &Scope, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        // The first key names blobs for ever; without any key nothing was kept here.
        let keys = self.ring.for_opening(&self.inner, scope, 1).await?;
        if keys.first().is_none() {
            return Ok(None);
        }
        let index = blob_index(&keys, digest);
        let Some(named) = self.inner.get(scope, &index).await? else {
            return Ok(None);
        };
        let what = || format!("the blob `{digest}`");
        let (text, name) = (scope.as_text(), digest.to_string());
        let stored = self
            .open(scope, record_place(&text, &index, None), &named.value)
            .await?;
        let stored: Digest = std::str::from_utf8(&stored)
            .map_err(|error| corrupt(what(), error))?
            .parse()
            .map_err(|error: aurora_core::digest::InvalidDigest| corrupt(what(), error))?;
        let Some(sealed) = self.inner.get_blob(scope, &stored).await? else {
            return Err(corrupt(what(), "its sealed body is gone"));
        };
        let body = self.open(scope, blob_place(&text, &name), &sealed).await?;
        if Digest::of(&body) != *digest {
            return Err(corrupt(what(), "its body has another digest"));
        }
        Ok(Some(body))
    }
}

fn seal_events(keys: &ScopeKeys, scope: &str, append: &mut Append) -> Result<(), StoreError> {
    let mut version = append.expected;
    for value in &mut append.events {
        version += 1;
        *value = seal(keys, event_place(scope, &append.stream, version), value)?;
    }
    Ok(())
}

fn seal(keys: &ScopeKeys, place: Place<'_>, value: &[u8]) -> Result<Bytes, StoreError> {
    let Some((number, key)) = keys.newest() else {
        return Err(StoreError::Unavailable {
            source: "there is no data key".into(),
        });
    };
    key.seal(number, place, value).map(Bytes::from).map_err(sealing)
}

fn check_batch(batch: &Batch) -> Result<(), StoreError> {
    let puts = batch.puts.iter().map(|(key, _)| key);
    let conditions = batch.preconditions.iter().map(|held| match held {
        Precondition::Absent(key) | Precondition::Version(key, _) => key,
    });
    for key in puts.chain(&batch.deletes).chain(conditions) {
        check_kind(&key.kind)?;
    }
    Ok(())
}

fn check_kind(kind: &str) -> Result<(), StoreError> {
    if kind.starts_with(RESERVED) {
        return Err(StoreError::Invalid {
            problem: format!("kinds that begin with `{RESERVED}` are the sealing's own"),
        });
    }
    Ok(())
}

fn blob_index(keys: &ScopeKeys, digest: &Digest) -> RecordKey {
    // Not the digest itself: whoever guesses a body could otherwise see whether it is here.
    let id = keys.first().map(|key| key.index(digest.as_bytes()));
    RecordKey::new(BLOBS, id.unwrap_or_default())
}

fn event_place<'a>(scope: &'a str, stream: &'a str, version: u64) -> Place<'a> {
    Place {
        sort: "event",
        scope,
        name: [stream, ""],
        version: Some(version),
    }
}

fn record_place<'a>(scope: &'a str, key: &'a RecordKey, version: Option<u64>) -> Place<'a> {
    Place {
        sort: "record",
        scope,
        name: [&key.kind, &key.id],
        version,
    }
}

fn blob_place<'a>(scope: &'a str, digest: &'a str) -> Place<'a> {
    Place {
        sort: "blob",
        scope,
        name: [digest, ""],
        version: None,
    }
}

fn corrupt(what: String, source: impl Into<BoxError>) -> StoreError {
    StoreError::Corrupt {
        what,
        source: source.into(),
    }
}
