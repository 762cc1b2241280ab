//! Outgoing HTTP calls, with limits and rules about where they may go.

#[cfg(feature = "test-util")]
pub mod laws;
pub mod memory;

use std::fmt::{self, Debug};
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
    /// byte is sent to it. A redirect that is not followed is an answer like any other.
    ///
    /// # Cancel safety
    /// The call may or may not have reached the other side.
    async fn call(&self, call: HttpCall) -> Result<HttpAnswer, HttpError>;
}

/// One call; `Debug` shows neither header values, nor the body, nor the URL's query.
#[derive(Clone)]
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

/// The call that a redirect asks for; `None` where the status is none that is followed.
///
/// A method other than GET and HEAD becomes GET and loses its body, except for 307 and 308; headers that
/// carry credentials stay only within one origin. One redirect less is left.
pub fn after_redirect(call: &HttpCall, status: u16, location: String, same_origin: bool) -> Option<HttpCall> {
    let left = call.max_redirects.checked_sub(1)?;
    let mut next = HttpCall {
        url: location,
        max_redirects: left,
        ..call.clone()
    };
    match status {
        307 | 308 => {}
        301..=303 => {
            if !matches!(call.method.as_str(), "GET" | "HEAD") {
                next.method = "GET".into();
                next.body = Bytes::new();
                next.headers
                    .retain(|(name, _)| !name.to_ascii_lowercase().starts_with("content-"));
            }
        }
        _ => return None,
    }
    if !same_origin {
        next.headers.retain(|(name, _)| {
            !CREDENTIAL_HEADERS
                .iter()
                .any(|held| name.eq_ignore_ascii_case(held))
        });
    }
    Some(next)
}

/// Headers that must not travel to another origin.
const CREDENTIAL_HEADERS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-api-key"];

impl Debug for HttpCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCall")
            .field("method", &self.method)
            .field("url", &self.url.split(['?', '#']).next().unwrap_or_default())
            .field("headers", &names(&self.headers))
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish_non_exhaustive()
    }
}

/// An answer, of any status; `Debug` shows neither header values nor the body.
#[derive(Clone)]
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

impl Debug for HttpAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpAnswer")
            .field("status", &self.status)
            .field("headers", &names(&self.headers))
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

fn names(headers: &[(String, String)]) -> Vec<&str> {
    headers.iter().map(|(name, _)| name.as_str()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_credential() {
        let call = HttpCall::post("https://a.example/token?key=hunter2", "text/plain", "hunter2")
            .with_header("authorization", "hunter2");
        let answer = HttpAnswer {
            status: 200,
            headers: vec![("set-cookie".into(), "hunter2".into())],
            body: "hunter2".into(),
        };
        let shown = format!("{call:?} {answer:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(
            shown.contains("authorization") && shown.contains("7 bytes"),
            "{shown}"
        );
    }

    #[test]
    fn only_307_and_308_keep_method_and_body() {
        let call = HttpCall {
            max_redirects: 1,
            ..HttpCall::post("https://a.example/", "text/plain", "body")
        };
        for (status, method) in [
            (301, "GET"),
            (302, "GET"),
            (303, "GET"),
            (307, "POST"),
            (308, "POST"),
        ] {
            let next = after_redirect(&call, status, "https://a.example/b".into(), true).unwrap();
            assert_eq!(next.method, method, "{status}");
            assert_eq!(next.body.is_empty(), method == "GET", "{status}");
            assert_eq!(next.max_redirects, 0);
        }
        for status in [200, 300, 304, 305, 404] {
            assert!(after_redirect(&call, status, "https://a.example/b".into(), true).is_none());
        }
    }
}
