//! A scripted other side for outgoing HTTP calls: routes with answers, rules, and a record of calls.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{HttpAnswer, HttpCall, HttpCaller, HttpError, after_redirect};

/// Answers calls from a script and keeps what was asked; clones share both.
///
/// Each URL has a list of replies; the last one is repeated. A URL without a script cannot be reached.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use aurora_core::port::http::memory::{Reply, ScriptedHttp};
/// use aurora_core::port::http::{HttpCall, HttpCaller as _};
///
/// let http = ScriptedHttp::new();
/// http.on("https://hooks.example/deploy", Reply::json(200, r#"{"go":true}"#));
/// let answer = http.call(HttpCall::fetch("https://hooks.example/deploy")).await.unwrap();
/// assert_eq!(answer.status, 200);
/// assert_eq!(http.calls().len(), 1);
/// # });
/// ```
#[derive(Clone, Debug, Default)]
pub struct ScriptedHttp {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    routes: BTreeMap<String, VecDeque<Reply>>,
    forbidden: BTreeSet<String>,
    calls: Vec<HttpCall>,
}

/// What the other side does with one call.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answers.
    Answer(HttpAnswer),
    /// Takes the call and never answers.
    Silence,
    /// Is not there.
    Unreachable,
}

impl Reply {
    /// An answer with a body and no headers.
    pub fn status(status: u16, body: impl Into<Bytes>) -> Self {
        Self::Answer(HttpAnswer {
            status,
            headers: Vec::new(),
            body: body.into(),
        })
    }

    /// An answer in JSON.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self::status(status, body).with_header("content-type", "application/json")
    }

    /// A redirect to an absolute URL.
    pub fn redirect(status: u16, to: impl Into<String>) -> Self {
        Self::status(status, Bytes::new()).with_header("location", to)
    }

    /// Adds a header to an answer; other replies have none.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        if let Self::Answer(answer) = &mut self {
            answer.headers.push((name.to_ascii_lowercase(), value.into()));
        }
        self
    }
}

impl ScriptedHttp {
    /// A world in which nobody answers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the script of a URL by one reply for every call.
    pub fn on(&self, url: impl Into<String>, reply: Reply) {
        self.play(url, [reply]);
    }

    /// Replaces the script of a URL; the last reply is repeated.
    pub fn play(&self, url: impl Into<String>, replies: impl IntoIterator<Item = Reply>) {
        self.lock()
            .routes
            .insert(url.into(), replies.into_iter().collect());
    }

    /// Makes the rules refuse a host.
    pub fn forbid(&self, host: impl Into<String>) {
        self.lock().forbidden.insert(host.into());
    }

    /// The calls that reached the other side, in order; a followed redirect counts as one more.
    pub fn calls(&self) -> Vec<HttpCall> {
        self.lock().calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks the destination, writes the call down and takes the next reply of its script.
    fn reply_to(&self, call: &HttpCall) -> Result<Reply, HttpError> {
        let host = host_of(&call.url)?;
        let mut state = self.lock();
        if state.forbidden.contains(host) {
            return Err(HttpError::Forbidden {
                destination: host.into(),
            });
        }
        let Some(script) = state.routes.get_mut(&call.url) else {
            return Ok(Reply::Unreachable);
        };
        let reply = if script.len() > 1 {
            script.pop_front()
        } else {
            script.front().cloned()
        };
        let reply = reply.unwrap_or(Reply::Unreachable);
        if !matches!(reply, Reply::Unreachable) {
            state.calls.push(call.clone());
        }
        Ok(reply)
    }

    async fn follow(&self, mut call: HttpCall) -> Result<HttpAnswer, HttpError> {
        loop {
            let answer = match self.reply_to(&call)? {
                Reply::Answer(answer) => answer,
                Reply::Silence => std::future::pending().await,
                Reply::Unreachable => {
                    return Err(HttpError::Unreachable {
                        destination: host_of(&call.url)?.into(),
                        source: "nobody answers there".into(),
                    });
                }
            };
            if answer.body.len() > call.max_answer {
                return Err(HttpError::TooLarge {
                    limit: call.max_answer,
                });
            }
            let location = answer.header("location").map(str::to_owned);
            let Some(location) = location.filter(|_| call.max_redirects > 0) else {
                return Ok(answer);
            };
            let same_origin = origin_of(&location)? == origin_of(&call.url)?;
            match after_redirect(&call, answer.status, location, same_origin) {
                Some(next) => call = next,
                None => return Ok(answer),
            }
        }
    }
}

#[async_trait]
impl HttpCaller for ScriptedHttp {
    async fn call(&self, call: HttpCall) -> Result<HttpAnswer, HttpError> {
        let timeout = call.timeout;
        tokio::time::timeout(timeout, self.follow(call))
            .await
            .unwrap_or(Err(HttpError::TimedOut { timeout }))
    }
}

fn origin_of(url: &str) -> Result<&str, HttpError> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))
        .ok_or_else(|| invalid("the URL is not an absolute http or https one"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains('@') {
        return Err(invalid("the URL has no host, or a user before it"));
    }
    Ok(&url[..url.len() - rest.len() + authority.len()])
}

fn host_of(url: &str) -> Result<&str, HttpError> {
    let authority = origin_of(url)?.rsplit('/').next().unwrap_or_default();
    // The colons of an IPv6 address are no port.
    if let Some((host, _)) = authority.split_once(']') {
        return Ok(&authority[..host.len() + 1]);
    }
    Ok(authority.split_once(':').map_or(authority, |(host, _)| host))
}

fn invalid(problem: &str) -> HttpError {
    HttpError::Invalid {
        problem: problem.into(),
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use std::time::Duration;

    use super::super::laws::{HttpFixture, Served, Site};
    use super::*;

    #[async_trait]
    impl HttpFixture for ScriptedHttp {
        fn caller(&self) -> &dyn HttpCaller {
            self
        }

        async fn serve(&self, site: Site, path: &str, served: Served) -> String {
            let host = match site {
                Site::Home => "home.example",
                Site::Away => "away.example",
                Site::Refused => "169.254.169.254",
            };
            self.forbid("169.254.169.254");
            let url = format!("http://{host}{path}");
            let reply = match served {
                Served::Answer {
                    status,
                    headers,
                    body,
                } => headers
                    .into_iter()
                    .fold(Reply::status(status, body), |reply, (name, value)| {
                        reply.with_header(&name, value)
                    }),
                Served::Silence => Reply::Silence,
            };
            self.on(url.clone(), reply);
            url
        }

        async fn received(&self) -> Vec<HttpCall> {
            self.calls()
        }
    }

    crate::http_laws!(async { ScriptedHttp::new() });

    #[tokio::test]
    async fn a_script_is_played_in_order_and_its_last_reply_repeated() {
        let http = ScriptedHttp::new();
        http.play(
            "http://a.example/",
            [Reply::status(500, ""), Reply::status(200, "")],
        );
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(
                http.call(HttpCall::fetch("http://a.example/"))
                    .await
                    .unwrap()
                    .status,
            );
        }
        assert_eq!(seen, [500, 200, 200]);
    }

    #[test]
    fn a_host_is_found_in_every_form() {
        for (url, host) in [
            ("http://a.example", "a.example"),
            ("https://a.example:8443/x?y", "a.example"),
            ("http://[::1]/", "[::1]"),
            ("http://[fd00::1]:80/", "[fd00::1]"),
        ] {
            assert_eq!(host_of(url).ok(), Some(host), "{url}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_at_the_timeout_in_virtual_time() {
        let http = ScriptedHttp::new();
        http.on("http://a.example/", Reply::Silence);
        let started = tokio::time::Instant::now();
        let answer = http.call(HttpCall::fetch("http://a.example/")).await;
        assert!(matches!(answer, Err(HttpError::TimedOut { .. })));
        assert_eq!(started.elapsed(), Duration::from_secs(3));
    }
}
