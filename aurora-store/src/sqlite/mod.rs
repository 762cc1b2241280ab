//! A store in one SQLite file: one process, one writer with group commit, a few readers.

mod backup;
mod lock;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod threads;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::watch;

use aurora_core::digest::Digest;
use aurora_core::error::{BoxError, ErrorKind};
use aurora_core::port::clock::Clock;
use aurora_core::port::store::limits::{check_blob, check_key, check_name, check_scan};
use aurora_core::port::store::{
    Batch, Committed, DueTimer, Lease, Name, Record, RecordKey, Scan, Scope, Store, StoreError, StoredEvent,
};

pub use backup::{BackupError, back_up};
use lock::LockFile;
use threads::{Readers, Writer};

/// Reads run beside the writer on so many threads: lists and streams of a console, no more.
const READERS: usize = 2;
/// How long a statement waits for a backup tool that has the file.
const BUSY: Duration = Duration::from_secs(5);
/// Statements that a connection keeps prepared: all of ours.
const STATEMENTS: usize = 64;

/// Keeps everything in a file; clones share it.
///
/// What was acknowledged was synced to the disk first. Work runs on the store's own threads; dropping
/// the last clone waits for what they have in hand (at most one transaction) and frees the file.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

/// Fields are dropped in order: the writer's connection after the readers', since the last one to close
/// brings the log into the file; the lock last.
#[derive(Debug)]
struct Inner {
    readers: Readers,
    writer: Writer,
    written: Arc<watch::Sender<u64>>,
    clock: Arc<dyn Clock>,
    _lock: LockFile,
}

/// Why a file cannot be used as a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file belongs to some other program.
    #[error("{} is a database of another program: name another file", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Another process, or another part of this one, has it.
    #[error("{} is in use by {}: stop that one first, or name another file", path.display(), named(*holder))]
    Locked {
        /// The file.
        path: PathBuf,
        /// The process that has it, where it said so.
        holder: Option<u32>,
    },
    /// A step to the present version failed; the file is as it was before that step.
    #[error("{} cannot be brought up to date: the step `{name}` failed", path.display())]
    Migration {
        /// The file.
        path: PathBuf,
        /// The step.
        name: &'static str,
        /// Why.
        source: BoxError,
    },
    /// A later version of Aurora wrote it.
    #[error("{} has version {found} and this program knows {known}: use a newer program, or a backup from before", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of the file.
        found: usize,
        /// The newest version that this program can use.
        known: usize,
    },
    /// It cannot be opened.
    #[error("{} cannot be opened as a store", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BoxError,
    },
}

fn named(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl OpenError {
    /// What can be done about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Foreign { .. } | Self::Newer { .. } => ErrorKind::Invalid,
            Self::Locked { .. } => ErrorKind::Conflict,
            Self::Migration { .. } => ErrorKind::Internal,
            Self::Unusable { .. } => ErrorKind::Unavailable,
        }
    }
}

impl SqliteStore {
    /// Opens a file, makes it when it is absent, and brings it up to date.
    ///
    /// Only its owner may read a file that this makes.
    ///
    /// # Errors
    /// [`OpenError`].
    ///
    /// # Cancel safety
    /// The file may be made or brought up to date; it is free again soon after.
    pub async fn open(path: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let path = path.into();
        let unusable = |path: &Path, source: BoxError| OpenError::Unusable {
            path: path.to_owned(),
            source,
        };
        let (reply, opened) = tokio::sync::oneshot::channel();
        let place = path.clone();
        // Waiting for a disk has no place on a worker of the runtime.
        std::thread::Builder::new()
            .name("store-open".to_owned())
            .spawn(move || drop(reply.send(open(&place, clock))))
            .map_err(|source| unusable(&path, source.into()))?;
        let inner = opened
            .await
            .map_err(|_| unusable(&path, "opening it panicked".into()))??;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }
}

fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Inner, OpenError> {
    let unusable = |source: BoxError| OpenError::Unusable {
        path: path.to_owned(),
        source,
    };
    let lock = LockFile::take(path)?;
    // SQLite makes its files with the permissions of the first one.
    lock::private(std::fs::OpenOptions::new().create(true).append(true))
        .open(path)
        .map_err(|source| unusable(source.into()))?;
    let read_write = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut writer = connect(path, read_write).map_err(|source| unusable(source.into()))?;
    schema::migrate(&mut writer, path, schema::MIGRATIONS, clock.now())?;
    let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let readers = (0..READERS)
        .map(|_| connect(path, read_only))
        .collect::<rusqlite::Result<Vec<_>>>()
        .map_err(|source| unusable(source.into()))?;
    let written = Arc::new(watch::Sender::new(0));
    let start = |source: std::io::Error| unusable(source.into());
    Ok(Inner {
        writer: Writer::start(writer, Arc::clone(&clock), Arc::clone(&written)).map_err(start)?,
        readers: Readers::start(readers).map_err(start)?,
        written,
        clock,
        _lock: lock,
    })
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Readers never wait for the writer; FULL syncs the log at each commit, not only at checkpoints.
    if !flags.contains(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
    }
    connection.pragma_update(None, "foreign_keys", true)?;
    // A page that was freed shows nothing of what was deleted.
    connection.pragma_update(None, "secure_delete", true)?;
    Ok(connection)
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for SqliteStore {
    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        batch.check()?;
        self.inner
            .writer
            .write(move |sql, now| writing::commit(sql, &batch, now))
            .await
    }

    async fn read_stream(
        &self,
        scope: &Scope,
        stream: &Name,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        check_name("a stream", stream)?;
        let (scope, stream) = (scope.clone(), stream.clone());
        self.inner
            .readers
            .read(move |sql| rows::read_stream(sql, &scope, &stream, after, limit))
            .await
    }

    async fn read_feed(
        &self,
        scope: &Scope,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let scope = scope.clone();
        self.inner
            .readers
            .read(move |sql| rows::read_feed(sql, &scope, after, limit))
            .await
    }

    async fn feed_head(&self, scope: &Scope) -> Result<u64, StoreError> {
        let scope = scope.clone();
        self.inner
            .readers
            .read(move |sql| rows::feed_head(sql, &scope))
            .await
    }

    fn written(&self) -> watch::Receiver<u64> {
        self.inner.written.subscribe()
    }

    async fn get(&self, scope: &Scope, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        check_key(key)?;
        let (scope, key) = (scope.clone(), key.clone());
        self.inner
            .readers
            .read(move |sql| rows::get(sql, &scope, &key))
            .await
    }

    async fn scan(&self, scope: &Scope, scan: Scan) -> Result<Vec<Record>, StoreError> {
        check_scan(&scan)?;
        let scope = scope.clone();
        self.inner
            .readers
            .read(move |sql| rows::scan(sql, &scope, &scan))
            .await
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
        let (scope, name, holder) = (scope.clone(), name.clone(), holder.to_owned());
        self.inner
            .writer
            .write(move |sql, now| writing::acquire(sql, &scope, &name, &holder, ttl, now))
            .await
    }

    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<Lease, StoreError> {
        let lease = lease.clone();
        self.inner
            .writer
            .write(move |sql, now| writing::renew(sql, &lease, ttl, now))
            .await
    }

    async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        let lease = lease.clone();
        self.inner
            .writer
            .write(move |sql, _| writing::release(sql, &lease))
            .await
    }

    async fn due_timers(&self, limit: usize) -> Result<Vec<DueTimer>, StoreError> {
        let now = self.inner.clock.now();
        self.inner
            .readers
            .read(move |sql| rows::due_timers(sql, now, limit))
            .await
    }

    async fn put_blob(&self, scope: &Scope, body: Bytes) -> Result<Digest, StoreError> {
        check_blob(&body)?;
        let digest = Digest::of(&body);
        let scope = scope.clone();
        self.inner
            .writer
            .write(move |sql, _| writing::put_blob(sql, &scope, &digest, &body))
            .await?;
        Ok(digest)
    }

    async fn get_blob(&self, scope: &Scope, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        let (scope, digest) = (scope.clone(), *digest);
        self.inner
            .readers
            .read(move |sql| rows::get_blob(sql, &scope, &digest))
            .await
    }
}
