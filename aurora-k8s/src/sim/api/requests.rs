//! The request log of the simulated API server, in memory and as JSON lines in a file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

/// How many requests are remembered; when one more comes the oldest is forgotten (the file keeps all).
const REMEMBERED: usize = 100_000;

/// One request and what it did.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Request {
    /// When it was answered, RFC 3339, by the clock of the cluster.
    pub time: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection` or `other`.
    pub verb: String,
    /// The path.
    pub path: String,
    /// The query as it came.
    pub query: String,
    /// What the client calls itself.
    pub user_agent: String,
    /// The HTTP status; none when the client got no answer.
    pub code: Option<u16>,
    /// `resourceVersion` of the object before a write; none where it was not there.
    pub before: Option<String>,
    /// `resourceVersion` of the object after a write; none where it is gone.
    pub after: Option<String>,
    /// Whether the write changed the object.
    pub changed: bool,
}

/// Remembers requests; clones share the memory and the file.
#[derive(Clone, Debug)]
pub(crate) struct RequestLog {
    inner: Arc<Mutex<Inner>>,
    answered: Arc<watch::Sender<usize>>,
}

#[derive(Debug, Default)]
struct Inner {
    requests: VecDeque<Request>,
    file: Option<File>,
}

impl Default for RequestLog {
    fn default() -> Self {
        Self {
            inner: Arc::default(),
            answered: Arc::new(watch::channel(0).0),
        }
    }
}

impl RequestLog {
    /// Appends a line to `file` for every request from now on.
    pub(crate) fn write_to(&self, file: File) {
        self.lock().file = Some(file);
    }

    pub(crate) fn push(&self, request: Request) {
        let mut inner = self.lock();
        if let Some(file) = &mut inner.file
            && let Ok(mut line) = serde_json::to_string(&request)
        {
            line.push('\n');
            if let Err(error) = file.write_all(line.as_bytes()) {
                tracing::warn!(%error, "a request could not be logged");
            }
        }
        if inner.requests.len() == REMEMBERED {
            inner.requests.pop_front();
        }
        inner.requests.push_back(request);
        drop(inner);
        self.answered.send_modify(|count| *count += 1);
    }

    pub(crate) fn answered(&self) -> watch::Receiver<usize> {
        self.answered.subscribe()
    }

    pub(crate) fn all(&self) -> Vec<Request> {
        self.lock().requests.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A request is pushed whole or not at all.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
