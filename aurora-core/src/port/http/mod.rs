//! Outgoing HTTP calls, with limits and rules about where they may go.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{BoxError, ErrorKind};

/// Makes outgoing HTTP calls.
#[async_trait]
pub trait HttpCaller: Debug + Send + Sync + 'static {
    /// Makes one call and reads the whole answer.
    ///
    /// # Errors
    /// [`HttpError`]; a destination that the policy refuses, also after redirects, is an error before a
    /// byte is sent to it.
    ///
    /// # Cancel safety
    /// The call may or may not have reached the other side.
    async fn call(&self, call: HttpCall) -> Result<HttpAnswer, HttpError>;
}

/// One call.
#[derive(Clone, Debug)]
pub struct HttpCall {
    /// The method, upper case.
    pub method: String,
    /// An absolute http or https URL.
    pub url: String,
    /// Headers; values are not logged.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Bytes,
    /// The longest the whole call may take.
    pub timeout: Duration,
    /// The largest answer body in bytes.
    pub max_answer: usize,
    /// How many redirects may be followed, each checked like the first destination.
    pub max_redirects: u32,
}

impl HttpCall {
    /// A GET without redirects, 3 s and 256 KiB.
    pub fn fetch(url: impl Into<String>) -> Self {
        Self {
            method: "GET".into(),
            url: url.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            timeout: Duration::from_secs(3),
            max_answer: 256 * 1024,
            max_redirects: 0,
        }
    }

    /// A POST of a body of this media type.
    pub fn post(url: impl Into<String>, media_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            method: "POST".into(),
            headers: vec![("content-type".into(), media_type.into())],
            body: body.into(),
            ..Self::fetch(url)
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// An answer, of any status.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// Header names in lower case, and values that are text.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
}

impl HttpAnswer {
    /// The first value of a header; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The policy does not allow this destination.
    #[error("calls to {destination} are not allowed")]
    Forbidden {
        /// Host or address.
        destination: String,
    },
    /// The request is not one.
    #[error("not a call that can be made: {problem}")]
    Invalid {
        /// What is wrong.
        problem: String,
    },
    /// The answer is larger than allowed.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// No answer in time.
    #[error("no answer within {timeout:?}")]
    TimedOut {
        /// The limit.
        timeout: Duration,
    },
    /// The destination cannot be reached.
    #[error("{destination} cannot be reached")]
    Unreachable {
        /// Host.
        destination: String,
        /// Why.
        source: BoxError,
    },
}

impl HttpError {
    /// What can be done about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Forbidden { .. } => ErrorKind::Denied,
            Self::Invalid { .. } => ErrorKind::Invalid,
            Self::TooLarge { .. } => ErrorKind::Exhausted,
            Self::TimedOut { .. } => ErrorKind::Deadline,
            Self::Unreachable { .. } => ErrorKind::Unavailable,
        }
    }
}

#[async_trait]
impl<T: HttpCaller + ?Sized> HttpCaller for Arc<T> {
    async fn call(&self, call: HttpCall) -> Result<HttpAnswer, HttpError> {
        (**self).call(call).await
    }
}
