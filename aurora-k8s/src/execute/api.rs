//! Requests to one API server: JSON in and out, problems sorted, patience with what passes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use kube::core::WatchEvent;
use serde_json::Value;

use aurora_core::backoff::Backoff;
use aurora_core::port::executor::StageSink;

use super::errors::{Class, Problem};

/// The field manager of everything that is applied.
pub(crate) const MANAGER: &str = "aurora-agent";

/// The first and the longest wait between two attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// How long the API server may take to answer anything but a watch.
const ANSWER: Duration = Duration::from_secs(40);

/// The largest answer that is read; a list of a very large namespace stays well below.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// How an object is changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Patch {
    /// Server-side apply, forced.
    Apply,
    /// The same without any effect.
    ApplyDryRun,
    Json,
    Merge,
}

/// One API server.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client,
    news: Option<News>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl Api {
    pub(crate) const fn new(client: Client) -> Self {
        Self { client, news: None }
    }

    /// Says what it waits for.
    pub(crate) fn telling(&self, news: &News) -> Self {
        Self {
            client: self.client.clone(),
            news: Some(news.clone()),
        }
    }

    /// Reads; waits out what passes.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Problem> {
        self.patiently(path, || self.json(Method::GET, path, None)).await
    }

    /// Reads an object; none when there is none.
    pub(crate) async fn find(&self, path: &str) -> Result<Option<Value>, Problem> {
        match self.get(path).await {
            Ok(object) => Ok(Some(object)),
            Err(problem) if matches!(problem.class(), Class::NotFound | Class::NoNamespace) => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// Reads all objects of a list.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Value>, Problem> {
        Ok(items_of(self.get(path).await?))
    }

    /// Creates; waits out what passes.
    pub(crate) async fn create(&self, path: &str, body: &Value) -> Result<Value, Problem> {
        let path = format!("{path}?fieldManager={MANAGER}");
        let request = || self.json(Method::POST, &path, Some(("application/json", body)));
        self.patiently(&path, request).await
    }

    /// Changes an object; waits out what passes, so the patch must be safe to repeat.
    pub(crate) async fn patch(&self, path: &str, patch: Patch, body: &Value) -> Result<Value, Problem> {
        let (kind, query) = match patch {
            Patch::Apply => ("application/apply-patch+yaml", "&force=true"),
            Patch::ApplyDryRun => ("application/apply-patch+yaml", "&force=true&dryRun=All"),
            Patch::Json => ("application/json-patch+json", ""),
            Patch::Merge => ("application/merge-patch+json", ""),
        };
        let path = format!("{path}?fieldManager={MANAGER}{query}");
        self.patiently(&path, || self.json(Method::PATCH, &path, Some((kind, body))))
            .await
    }

    /// Deletes the object with this uid and, in the background, what it owns; absent is fine.
    pub(crate) async fn delete(&self, path: &str, uid: &str) -> Result<(), Problem> {
        let options = serde_json::json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "propagationPolicy": "Background", "preconditions": {"uid": uid},
        });
        let request = || self.json(Method::DELETE, path, Some(("application/json", &options)));
        match self.patiently(path, request).await {
            Ok(_) => Ok(()),
            // Another uid is another object: ours is gone.
            Err(problem) if matches!(problem.class(), Class::NotFound | Class::Conflict) => Ok(()),
            Err(problem) => Err(problem),
        }
    }

    /// Reads text once, without patience.
    pub(crate) async fn text(&self, path: &str) -> Result<String, Problem> {
        let bytes = self.send(Method::GET, path, None).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Lists once, without patience: the objects and where a watch goes on.
    pub(crate) async fn list_once(&self, path: &str) -> Result<(Vec<Value>, String), Problem> {
        let list = self.json(Method::GET, path, None).await?;
        let version = list["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        Ok((items_of(list), version))
    }

    /// Watches from a place in the history on.
    pub(crate) async fn watch(&self, path: &str, from: &str) -> Result<Events, Problem> {
        let uri =
            format!("{path}?watch=true&allowWatchBookmarks=true&timeoutSeconds=290&resourceVersion={from}");
        let request = Request::get(uri)
            .body(Vec::new())
            .map_err(|error| Problem::unanswered(error.to_string()))?;
        let events = self
            .client
            .request_events::<Value>(request)
            .await
            .map_err(told_by_kube)?;
        Ok(events.map(|event| event.map_err(told_by_kube)).boxed())
    }

    async fn json(&self, method: Method, path: &str, body: Option<(&str, &Value)>) -> Result<Value, Problem> {
        let bytes = self.send(method, path, body).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Problem::unanswered(format!("the answer is not JSON: {error}")))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<bytes::Bytes, Problem> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("accept", "application/json");
        if let Some((kind, _)) = body {
            request = request.header("content-type", kind);
        }
        let bytes = body
            .map(|(_, body)| body.to_string().into_bytes())
            .unwrap_or_default();
        let request = request
            .body(Body::from(bytes))
            .map_err(|error| Problem::unanswered(error.to_string()))?;
        let exchange = async {
            let response = self.client.send(request).await.map_err(told_by_kube)?;
            let (head, body) = response.into_parts();
            let wait = head
                .headers
                .get("retry-after")
                .and_then(|value| value.to_str().ok()?.parse().ok());
            let bytes = body.collect_bytes().await.map_err(told_by_kube)?;
            if !head.status.is_success() {
                return Err(Problem::from_answer(
                    head.status.as_u16(),
                    wait.map(Duration::from_secs),
                    &bytes,
                ));
            }
            if bytes.len() > MAX_ANSWER {
                return Err(Problem::unanswered("the answer is too large to read"));
            }
            Ok(bytes)
        };
        let unanswered = |_| Problem::unanswered(format!("no answer within {} s", ANSWER.as_secs()));
        tokio::time::timeout(ANSWER, exchange).await.map_err(unanswered)?
    }

    /// Repeats what passes, for as long as the caller waits.
    async fn patiently<T, F>(&self, path: &str, attempt: impl Fn() -> F) -> Result<T, Problem>
    where
        F: Future<Output = Result<T, Problem>>,
    {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let problem = match attempt().await {
                Err(problem) if problem.class() == Class::Transient => problem,
                answer => return answer,
            };
            let jitter = backoff.next(random());
            let wait = problem.retry_after.map_or(jitter, |wished| wished + jitter);
            tracing::debug!(path, status = problem.status, "asking the cluster again");
            if let Some(news) = &self.news {
                news.say(format!("waiting for the cluster: {}", problem.message));
            }
            tokio::time::sleep(wait).await;
        }
    }
}

/// What happens to the objects of a list.
pub(crate) type Events = BoxStream<'static, Result<WatchEvent<Value>, Problem>>;

/// Who hears what an apply is doing.
#[derive(Clone, Debug)]
pub(crate) struct News {
    sink: StageSink,
    done: Arc<AtomicU32>,
    total: u32,
}

impl News {
    pub(crate) fn new(sink: &StageSink, total: usize) -> Self {
        Self {
            sink: sink.clone(),
            done: Arc::default(),
            total: u32::try_from(total).unwrap_or(u32::MAX),
        }
    }

    /// Says what is being done; who does not listen misses it.
    pub(crate) fn say(&self, doing: String) {
        let _ = self
            .sink
            .try_send((self.done.load(Ordering::Relaxed), self.total, doing));
    }

    /// One more object is done.
    pub(crate) fn done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

fn items_of(mut list: Value) -> Vec<Value> {
    match list["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

/// A random number for jitter.
pub(crate) fn random() -> u64 {
    u64::try_from(uuid::Uuid::new_v4().as_u128() >> 64).unwrap_or_default()
}

fn told_by_kube(error: kube::Error) -> Problem {
    if let kube::Error::Api(status) = &error {
        return Problem {
            status: status.code,
            reason: status.reason.clone(),
            message: status.message.clone(),
            ..Problem::default()
        };
    }
    Problem::unanswered(aurora_core::error::ErrorChain(&error).to_string())
}
