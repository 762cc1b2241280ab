//! Following all objects of one kind: a list, then a watch, and a list again whenever that breaks.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use kube::core::WatchEvent;
use serde_json::Value;

use aurora_core::backoff::Backoff;

use super::api::{Api, Events, random};
use super::errors::{Class, Problem};

/// The first and the longest wait before listing again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// What became known of the objects of one kind.
#[derive(Debug)]
pub(crate) enum Change {
    /// An object is gone.
    Gone(Value),
    /// These are all.
    Listed(Vec<Value>),
    /// An object is new or changed.
    Put(Value),
}

/// Follows the objects under a path until dropped; ends only with a problem that does not pass.
pub(crate) fn follow(api: Api, path: String) -> BoxStream<'static, Result<Change, Problem>> {
    let follower = Follower {
        api,
        path,
        events: None,
        version: None,
        backoff: Backoff::new(RETRY.0, RETRY.1),
        over: false,
    };
    stream::unfold(follower, Follower::next).boxed()
}

struct Follower {
    api: Api,
    path: String,
    events: Option<Events>,
    /// Where the watch goes on; none when all has to be listed again.
    version: Option<String>,
    backoff: Backoff,
    over: bool,
}

impl Follower {
    async fn next(mut self) -> Option<(Result<Change, Problem>, Self)> {
        if self.over {
            return None;
        }
        loop {
            let step = match (&mut self.events, &self.version) {
                (Some(events), _) => {
                    let event = events.next().await;
                    self.on_event(event)
                }
                (None, Some(version)) => match self.api.watch(&self.path, version).await {
                    Ok(events) => {
                        self.events = Some(events);
                        None
                    }
                    Err(problem) => self.on_problem(problem).await,
                },
                (None, None) => match self.list().await {
                    Ok(items) => Some(Ok(Change::Listed(items))),
                    Err(problem) => self.on_problem(problem).await,
                },
            };
            if let Some(step) = step {
                return Some((step, self));
            }
        }
    }

    /// Lists, and opens the watch before anybody hears of the list, so that nothing falls in between.
    async fn list(&mut self) -> Result<Vec<Value>, Problem> {
        let (items, version) = self.api.list_once(&self.path).await?;
        self.events = Some(self.api.watch(&self.path, &version).await?);
        self.version = Some(version);
        Ok(items)
    }

    fn on_event(
        &mut self,
        event: Option<Result<WatchEvent<Value>, Problem>>,
    ) -> Option<Result<Change, Problem>> {
        match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                self.heard(&object);
                Some(Ok(Change::Put(object)))
            }
            Some(Ok(WatchEvent::Deleted(object))) => {
                self.heard(&object);
                Some(Ok(Change::Gone(object)))
            }
            Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                self.version = Some(bookmark.metadata.resource_version);
                None
            }
            // Too old, or anything else: what was missed is found by listing.
            Some(Ok(WatchEvent::Error(_)) | Err(_)) => {
                self.events = None;
                self.version = None;
                None
            }
            // The server ends watches after some minutes; the history still reaches back.
            None => {
                self.events = None;
                None
            }
        }
    }

    fn heard(&mut self, object: &Value) {
        self.backoff.reset();
        if let Some(version) = object["metadata"]["resourceVersion"].as_str() {
            self.version = Some(version.to_owned());
        }
    }

    async fn on_problem(&mut self, problem: Problem) -> Option<Result<Change, Problem>> {
        self.events = None;
        self.version = None;
        // 410 is how a too old place in the history is refused before a watch begins.
        if problem.class() != Class::Transient && problem.status != 410 {
            self.over = true;
            return Some(Err(problem));
        }
        let jitter = self.backoff.next(random());
        let wait = problem.retry_after.map_or(jitter, |wished| wished + jitter);
        tracing::debug!(path = self.path, status = problem.status, "listing again");
        tokio::time::sleep(wait).await;
        None
    }
}
