//! Durable state: event streams, records, leases, timers and blobs of tenants.

#[cfg(any(test, feature = "test-util"))]
pub mod failing;
#[cfg(any(test, feature = "test-util"))]
pub mod laws;
mod lease;
pub mod limits;
pub mod memory;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::digest::Digest;
use crate::error::{BoxError, ErrorKind};
use crate::tenant::Tenant;

/// Keeps what must survive: every method is atomic, and what was acknowledged survives a crash.
///
/// A store knows nothing of what it keeps: values are bytes, kinds are names. Time is the store's own, to
/// the microsecond. Names, sizes and batches outside of [`limits`] are `Invalid`. What belongs to one
/// scope is invisible and out of reach in every other one, except that [`Store::due_timers`] reads all.
/// A read gives fewer than its `limit` only when there is no more.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Writes a batch, all or nothing, if all its preconditions hold.
    ///
    /// Once it returned, the batch survives a crash and every reader sees all of it.
    ///
    /// # Errors
    /// [`StoreError`]; `Conflict` when a precondition fails, `LeaseLost` when its lease is not held.
    ///
    /// # Cancel safety
    /// The batch may or may not be written; read to find out.
    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError>;

    /// Reads at most `limit` events of a stream with a version above `after`, in order.
    ///
    /// # Errors
    /// [`StoreError`]; an unknown stream is empty.
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    async fn read_stream(
        &self,
        scope: &Scope,
        stream: &Name,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// Reads at most `limit` events of all streams of a scope with a feed number above `after`.
    ///
    /// The order is the order in which readers see commits: who saw n never later sees an m below n.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    async fn read_feed(
        &self,
        scope: &Scope,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// The highest feed number of a scope; 0 while it is empty.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    async fn feed_head(&self, scope: &Scope) -> Result<u64, StoreError>;

    /// Changes whenever a batch was written here; a wake-up, not an order: read to see what is new.
    fn written(&self) -> watch::Receiver<u64>;

    /// Reads one record.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    async fn get(&self, scope: &Scope, key: &RecordKey) -> Result<Option<Record>, StoreError>;

    /// Reads records of a kind whose id begins with `prefix`, in order of id (or its reverse).
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    async fn scan(&self, scope: &Scope, scan: Scan) -> Result<Vec<Record>, StoreError>;

    /// Takes a lease that nobody holds, or that the same holder holds: then its older fence is lost.
    ///
    /// The fence is `max(last fence of the scope + 1, the store's time in µs)`.
    ///
    /// # Errors
    /// [`StoreError`]; `Held` with its end while somebody else holds it.
    ///
    /// # Cancel safety
    /// The lease may be taken; it ends by itself.
    async fn acquire_lease(
        &self,
        scope: &Scope,
        name: &Name,
        holder: &str,
        ttl: Duration,
    ) -> Result<Lease, StoreError>;

    /// Prolongs a lease; its fence stays.
    ///
    /// # Errors
    /// [`StoreError`]; `LeaseLost` when it ended or somebody else took it.
    ///
    /// # Cancel safety
    /// The lease may or may not be prolonged.
    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<Lease, StoreError>;

    /// Gives a lease up; one that is lost already is fine.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// The lease may be given up; it ends by itself.
    async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError>;

    /// At most `limit` timers of all scopes that are due by the store's time, the oldest first; a timer is
    /// due at its time.
    ///
    /// They stay until a batch removes or replaces them.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    async fn due_timers(&self, limit: usize) -> Result<Vec<DueTimer>, StoreError>;

    /// Keeps a body under its digest; again is fine.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// The blob may or may not be kept.
    async fn put_blob(&self, scope: &Scope, body: Bytes) -> Result<Digest, StoreError>;

    /// Reads a body back.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    async fn get_blob(&self, scope: &Scope, digest: &Digest) -> Result<Option<Bytes>, StoreError>;
}

/// Whose data: a tenant's, or Aurora's own.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Scope {
    /// Belongs to no tenant.
    Global,
    /// A tenant's.
    Tenant(Tenant),
}

impl Scope {
    /// The scope as a key; the global one cannot be a tenant's text.
    pub fn as_text(&self) -> String {
        match self {
            Self::Global => "-".to_owned(),
            Self::Tenant(tenant) => tenant.to_string(),
        }
    }
}

impl From<&Tenant> for Scope {
    fn from(tenant: &Tenant) -> Self {
        Self::Tenant(tenant.clone())
    }
}

/// A kind, an id, a stream or a lease: 1 to 512 bytes of text.
pub type Name = String;

/// Names a record.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RecordKey {
    /// What it is: `pipeline.summary`, `agent.seen`, …
    pub kind: Name,
    /// Which one.
    pub id: Name,
}

impl RecordKey {
    /// Names a record.
    pub fn new(kind: impl Into<Name>, id: impl Into<Name>) -> Self {
        Self {
            kind: kind.into(),
            id: id.into(),
        }
    }
}

/// A record and its version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Which.
    pub key: RecordKey,
    /// Starts at 1 and grows by one with each write; a record that was deleted starts at 1 again.
    pub version: u64,
    /// What it holds.
    pub value: Bytes,
}

/// What to scan.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The kind.
    pub kind: Name,
    /// Only ids that begin so; empty for all.
    pub prefix: String,
    /// Go on after this id; absent: from the start (or the end, if reversed).
    pub after: Option<Name>,
    /// From the highest id down.
    pub reverse: bool,
    /// At most so many.
    pub limit: usize,
}

/// An event of a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredEvent {
    /// The stream.
    pub stream: Name,
    /// Counts the events of the stream from 1.
    pub version: u64,
    /// Its place in the scope's feed; all events of one batch follow each other.
    pub feed: u64,
    /// When it was stored, by the store's time.
    pub at: Timestamp,
    /// The event.
    pub value: Bytes,
}

/// Writes that happen together or not at all, in one scope; none of them twice to the same thing.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Whose data.
    pub scope: Scope,
    /// A lease that must still be held, with this fence.
    pub lease: Option<Lease>,
    /// What must hold.
    pub preconditions: Vec<Precondition>,
    /// Events to append, to any number of streams.
    pub appends: Vec<Append>,
    /// Records to write.
    pub puts: Vec<(RecordKey, Bytes)>,
    /// Records to remove; absent is fine.
    pub deletes: Vec<RecordKey>,
    /// Timers to set (replacing one of the same name) or, without a time, to remove.
    pub timers: Vec<(Name, Option<Timestamp>)>,
}

impl Batch {
    /// An empty batch.
    pub const fn new(scope: Scope) -> Self {
        Self {
            scope,
            lease: None,
            preconditions: Vec::new(),
            appends: Vec::new(),
            puts: Vec::new(),
            deletes: Vec::new(),
            timers: Vec::new(),
        }
    }
}

/// Events for one stream.
#[derive(Clone, Debug)]
pub struct Append {
    /// The stream.
    pub stream: Name,
    /// The version that the stream must have: 0 for a new one.
    pub expected: u64,
    /// In order; none: only the version is checked.
    pub events: Vec<Bytes>,
}

/// What must hold for a batch to be written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Precondition {
    /// There is no such record.
    Absent(RecordKey),
    /// The record has this version; 0: there is none.
    Version(RecordKey, u64),
}

/// What a batch did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Committed {
    /// The scope's feed number after it.
    pub feed: u64,
    /// When, by the store's time.
    pub at: Timestamp,
}

/// The right to drive something, for a while.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lease {
    /// Whose data it is about.
    pub scope: Scope,
    /// What it is about.
    pub name: Name,
    /// Who holds it.
    pub holder: String,
    /// Grows over all leases of a scope, also after a store was restored.
    pub fence: u64,
    /// When it ends, by the store's time.
    pub until: Timestamp,
}

/// A timer that is due.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DueTimer {
    /// Whose.
    pub scope: Scope,
    /// Its name.
    pub name: Name,
    /// When it was due.
    pub at: Timestamp,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else wrote first.
    #[error("{what} was changed by somebody else")]
    Conflict {
        /// The stream or record.
        what: String,
    },
    /// What is kept cannot be read: damaged, or sealed under another key.
    #[error("{what} cannot be read")]
    Corrupt {
        /// Which.
        what: String,
        /// Why.
        source: BoxError,
    },
    /// Somebody else holds the lease.
    #[error("`{holder}` holds the lease `{name}`")]
    Held {
        /// The lease.
        name: String,
        /// Who.
        holder: String,
        /// Until when, by the store's time.
        until: Timestamp,
    },
    /// A name, limit or value is not acceptable.
    #[error("not a batch that can be written: {problem}")]
    Invalid {
        /// What is wrong.
        problem: String,
    },
    /// The lease is not held any more.
    #[error("the lease `{name}` is lost")]
    LeaseLost {
        /// The lease.
        name: String,
    },
    /// The store does not work now.
    #[error("the store cannot be used")]
    Unavailable {
        /// Why.
        source: BoxError,
    },
}

impl StoreError {
    /// What can be done about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Conflict { .. } | Self::Held { .. } | Self::LeaseLost { .. } => ErrorKind::Conflict,
            Self::Corrupt { .. } => ErrorKind::Internal,
            Self::Invalid { .. } => ErrorKind::Invalid,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
        }
    }
}

/// A shared store.
pub type SharedStore = Arc<dyn Store>;

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<T: Store + ?Sized> Store for Arc<T> {
    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        (**self).commit(batch).await
    }

    async fn read_stream(
        &self,
        scope: &Scope,
        stream: &Name,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        (**self).read_stream(scope, stream, after, limit).await
    }

    async fn read_feed(
        &self,
        scope: &Scope,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        (**self).read_feed(scope, after, limit).await
    }

    async fn feed_head(&self, scope: &Scope) -> Result<u64, StoreError> {
        (**self).feed_head(scope).await
    }

    fn written(&self) -> watch::Receiver<u64> {
        (**self).written()
    }

    async fn get(&self, scope: &Scope, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        (**self).get(scope, key).await
    }

    async fn scan(&self, scope: &Scope, scan: Scan) -> Result<Vec<Record>, StoreError> {
        (**self).scan(scope, scan).await
    }

    async fn acquire_lease(
        &self,
        scope: &Scope,
        name: &Name,
        holder: &str,
        ttl: Duration,
    ) -> Result<Lease, StoreError> {
        (**self).acquire_lease(scope, name, holder, ttl).await
    }

    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<Lease, StoreError> {
        (**self).renew_lease(lease, ttl).await
    }

    async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        (**self).release_lease(lease).await
    }

    async fn due_timers(&self, limit: usize) -> Result<Vec<DueTimer>, StoreError> {
        (**self).due_timers(limit).await
    }

    async fn put_blob(&self, scope: &Scope, body: Bytes) -> Result<Digest, StoreError> {
        (**self).put_blob(scope, body).await
    }

    async fn get_blob(&self, scope: &Scope, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        (**self).get_blob(scope, digest).await
    }
}
