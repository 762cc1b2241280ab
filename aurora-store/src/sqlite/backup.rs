//! Copying a store's file while another process uses it.

use std::path::{Path, PathBuf};

use aurora_core::error::{BoxError, ErrorKind};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::{BUSY, lock, schema};

/// Why a file was not copied; what was begun at the new place is gone again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The copy is not sound.
    #[error("the copy {} is not sound: {problem}", path.display())]
    Damaged {
        /// The copy.
        path: PathBuf,
        /// What SQLite found first.
        problem: String,
    },
    /// There is something at the new place.
    #[error("{} is there already: name a new place", path.display())]
    Exists {
        /// The new place.
        path: PathBuf,
    },
    /// It cannot be copied.
    #[error("{} cannot be copied to {}", from.display(), to.display())]
    Failed {
        /// The store's file.
        from: PathBuf,
        /// The new place.
        to: PathBuf,
        /// Why.
        source: BoxError,
    },
    /// The file is no store of ours, or one of a later version.
    #[error("{} is not a store that this program knows", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
    },
}

impl BackupError {
    /// What can be done about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Damaged { .. } => ErrorKind::Internal,
            Self::Exists { .. } => ErrorKind::Conflict,
            Self::Failed { .. } => ErrorKind::Unavailable,
            Self::Unknown { .. } => ErrorKind::Invalid,
        }
    }
}

/// Copies a store's file to a new place, also while another process writes to it, and checks the copy.
///
/// The copy is the store as it was at one moment, after some commit and before the next. It blocks the
/// thread for as long as the disk takes; the writer goes on meanwhile. Values stay sealed: the copy opens
/// with the same master key. Whoever opens a copy that is older than what was done since goes on safely:
/// leases taken there have fences above all earlier ones, because a fence is never below the store's time.
///
/// # Errors
/// [`BackupError`].
pub fn back_up(from: &Path, to: &Path) -> Result<(), BackupError> {
    // A link counts too, also one that leads nowhere: what it names is not ours to remove.
    if to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists { path: to.to_owned() });
    }
    let copied = copy(from, to).and_then(|()| check(to));
    if copied.is_err() {
        // What is half a copy must not be taken for one.
        let _ = std::fs::remove_file(to);
    }
    copied
}

fn copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    let failed = |source: BoxError| BackupError::Failed {
        from: from.to_owned(),
        to: to.to_owned(),
        source,
    };
    let sql = |error: rusqlite::Error| failed(error.into());
    // Read and write, because a reader of a write-ahead log takes part in its shared memory; nothing is written.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(from, flags).map_err(sql)?;
    source.busy_timeout(BUSY).map_err(sql)?;
    if !schema::is_known(&source).map_err(sql)? {
        return Err(BackupError::Unknown {
            path: from.to_owned(),
        });
    }
    lock::private(std::fs::OpenOptions::new().write(true).create_new(true))
        .open(to)
        .map_err(|error| failed(error.into()))?;
    let mut target = Connection::open_with_flags(to, flags).map_err(sql)?;
    {
        let backup = Backup::new(&source, &mut target).map_err(sql)?;
        // All pages in one step: in several, a busy writer would let it begin again and again.
        match backup.step(-1).map_err(sql)? {
            StepResult::Done => {}
            other => return Err(failed(format!("SQLite stopped with {other:?}").into())),
        }
    }
    target.close().map_err(|(_, error)| sql(error))?;
    let file = std::fs::File::open(to).map_err(|error| failed(error.into()))?;
    file.sync_all().map_err(|error| failed(error.into()))
}

/// Whether a copy is sound.
fn check(path: &Path) -> Result<(), BackupError> {
    let damaged = |problem: String| BackupError::Damaged {
        path: path.to_owned(),
        problem,
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| damaged(error.to_string()))?;
    let said: String = connection
        .pragma_query_value(None, "integrity_check", |row| row.get(0))
        .map_err(|error| damaged(error.to_string()))?;
    if said == "ok" { Ok(()) } else { Err(damaged(said)) }
}
