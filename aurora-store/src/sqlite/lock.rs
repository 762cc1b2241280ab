//! The lock file that keeps a second process away from a store's file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::OpenError;

/// Held for as long as it lives; the operating system lets go of it when the process dies.
#[derive(Debug)]
pub(super) struct LockFile {
    _file: File,
}

impl LockFile {
    /// Takes the lock beside `store`, or says who has it.
    pub(super) fn take(store: &Path) -> Result<Self, OpenError> {
        let path = lock_path(store);
        let unusable = |source: std::io::Error| OpenError::Unusable {
            path: path.clone(),
            source: source.into(),
        };
        let mut file = private(
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false),
        )
        .open(&path)
        .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // An empty file: the holder has not written its number yet.
                let _ = file.read_to_string(&mut holder);
                return Err(OpenError::Locked {
                    path: store.to_owned(),
                    holder: holder.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        file.set_len(0).map_err(unusable)?;
        file.rewind().map_err(unusable)?;
        writeln!(file, "{}", std::process::id()).map_err(unusable)?;
        file.flush().map_err(unusable)?;
        Ok(Self { _file: file })
    }
}

/// Lets only the owner read what is created.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

fn lock_path(store: &Path) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}
