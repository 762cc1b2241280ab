//! A value that is built anew when the files that it was built from change.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};

/// Builds a value from the texts of some files, and again when one of them changed.
///
/// It is for certificates and secrets that are renewed while the process runs. Files are read at each use,
/// so it is for what is used seldom: opening a connection, not answering a request. What cannot be read or
/// built is logged, and the last good value goes on.
pub struct Rebuilt<T> {
    files: Vec<PathBuf>,
    build: Build<T>,
    held: Mutex<Held<T>>,
}

type Build<T> = Box<dyn Fn(&[String]) -> Result<T> + Send + Sync>;

struct Held<T> {
    texts: Vec<String>,
    value: Arc<T>,
}

impl<T> fmt::Debug for Rebuilt<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rebuilt")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl<T> Rebuilt<T> {
    /// Builds the first value.
    ///
    /// # Errors
    /// When a file cannot be read, or the value not be built.
    pub fn new(
        files: impl IntoIterator<Item = PathBuf>,
        build: impl Fn(&[String]) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Self> {
        let files: Vec<_> = files.into_iter().collect();
        let texts = read(&files)?;
        let value = Arc::new(build(&texts)?);
        Ok(Self {
            files,
            build: Box::new(build),
            held: Mutex::new(Held { texts, value }),
        })
    }

    /// The value that fits the files as they are now.
    pub fn current(&self) -> Arc<T> {
        let read = read(&self.files);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let built = read.and_then(|texts| {
            if texts == held.texts {
                return Ok(None);
            }
            Ok(Some(((self.build)(&texts)?, texts)))
        });
        match built {
            Ok(None) => {}
            Ok(Some((value, texts))) => {
                tracing::info!(files = ?self.files, "files changed; using what they hold now");
                *held = Held {
                    texts,
                    value: Arc::new(value),
                };
            }
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "files cannot be used; going on with what they held before"
                );
            }
        }
        Arc::clone(&held.value)
    }
}

fn read(files: &[PathBuf]) -> Result<Vec<String>> {
    files
        .iter()
        .map(|path| {
            std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_used_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        let number = |text: &[String]| Ok(text[0].trim().parse::<u32>()?);
        assert!(
            Rebuilt::new([path.clone()], number).is_err(),
            "absent at the start"
        );
        std::fs::write(&path, "1").unwrap();
        let rebuilt = Rebuilt::new([path.clone()], number).unwrap();
        let first = rebuilt.current();
        assert!(
            Arc::ptr_eq(&first, &rebuilt.current()),
            "not built again without a change"
        );
        for (text, expected) in [(Some("2"), 2), (Some("two"), 2), (None, 2), (Some("3"), 3)] {
            match text {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            assert_eq!(*rebuilt.current(), expected, "{text:?}");
        }
    }
}
