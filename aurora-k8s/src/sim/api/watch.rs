//! Watches: the history of writes as a stream of JSON lines.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::error::ApiError;
use super::request::{Form, ObjectPath, Query};
use super::selector::Selector;
use super::table::{Include, partial, table};
use crate::sim::{Objects, Resource, WatchEvent, WatchKind};

/// How long a watch lasts when the client does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// One watch.
#[derive(Debug)]
pub(crate) struct Watch {
    objects: Objects,
    resource: Arc<Resource>,
    namespace: Option<String>,
    selector: Selector,
    form: Form,
    include: Include,
    bookmarks: bool,
    since: u64,
    lines: VecDeque<Bytes>,
    deadline: Instant,
    next_bookmark: Instant,
    changed: watch::Receiver<u64>,
    restarted: watch::Receiver<u64>,
    ended: bool,
}

impl Watch {
    /// Reads the request. What is to be sent at once (objects that are there already) waits in the watch.
    pub(crate) fn open(
        objects: &Objects,
        restarted: watch::Receiver<u64>,
        resource: Arc<Resource>,
        path: &ObjectPath,
        query: &Query,
        form: Form,
    ) -> Result<Self, ApiError> {
        let mut selector = Selector::parse(query, &resource.kind)?;
        if let Some(name) = &path.name {
            selector = selector.named(name);
        }
        let timeout = query
            .number("timeoutSeconds")?
            .filter(|seconds| *seconds > 0)
            .map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        let from = query.text("resourceVersion").unwrap_or("0");
        let since: u64 = from.parse().map_err(|_| {
            ApiError::scripted(
                500,
                &format!("Invalid value: \"{from}\": strconv.ParseUint: invalid syntax"),
                None,
            )
        })?;
        let initial = query.flag("sendInitialEvents");
        let now = Instant::now();
        let mut opened = Self {
            objects: objects.clone(),
            resource,
            namespace: path.namespace.clone(),
            selector,
            form,
            include: Include::parse(query)?,
            bookmarks: query.flag("allowWatchBookmarks"),
            since,
            lines: VecDeque::new(),
            deadline: now.checked_add(timeout).unwrap_or(now + DEFAULT_TIMEOUT),
            next_bookmark: now + BOOKMARK_EVERY,
            changed: objects.changed(),
            restarted,
            ended: false,
        };
        if since == 0 || initial {
            opened.begin_with_present(initial);
        }
        Ok(opened)
    }

    /// The lines of the watch until it times out, the server restarts or the version is expired.
    pub(crate) fn lines(self) -> impl Stream<Item = Bytes> + Send + 'static {
        futures::stream::unfold(self, |mut watch| async move {
            let line = watch.next().await?;
            Some((line, watch))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.restarted.has_changed().unwrap_or(true) {
                return None;
            }
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            self.changed.borrow_and_update();
            self.take_events();
            if !self.lines.is_empty() || self.ended {
                continue;
            }
            tokio::select! {
                biased;
                _ = self.restarted.changed() => return None,
                () = sleep_until(self.deadline) => {
                    self.bookmark(false);
                    self.ended = true;
                }
                changed = self.changed.changed() => {
                    // The storage is gone with everybody who could write to it.
                    if changed.is_err() {
                        return None;
                    }
                }
                () = sleep_until(self.next_bookmark) => {
                    self.next_bookmark += BOOKMARK_EVERY;
                    self.bookmark(false);
                }
            }
        }
    }

    fn begin_with_present(&mut self, marked: bool) {
        let list = self.objects.list(&self.resource, self.namespace.as_deref());
        self.since = list.resource_version;
        for object in list.items {
            if self.selector.matches(&object) {
                self.send("ADDED", &object);
            }
        }
        if marked {
            self.bookmark(true);
        }
    }

    fn take_events(&mut self) {
        let current = self.objects.resource_version();
        match self.objects.events_since(self.since) {
            Err(expired) => {
                let status = ApiError::expired(&expired).status();
                self.push(&json!({"type": "ERROR", "object": status}));
                self.ended = true;
            }
            Ok(events) => {
                for event in events {
                    self.since = self.since.max(event.rv);
                    self.take(&event);
                }
                // Everything up to `current` was among the events.
                self.since = self.since.max(current);
            }
        }
    }

    fn take(&mut self, event: &WatchEvent) {
        let same_kind =
            event.resource.group == self.resource.group && event.resource.plural == self.resource.plural;
        let namespace = event.object["metadata"]["namespace"].as_str();
        if !same_kind
            || self
                .namespace
                .as_deref()
                .is_some_and(|wanted| namespace != Some(wanted))
        {
            return;
        }
        let was = event
            .previous
            .as_ref()
            .is_some_and(|object| self.selector.matches(object));
        let is = self.selector.matches(&event.object);
        match (event.kind, was, is) {
            (WatchKind::Deleted, true, _) | (WatchKind::Deleted, _, true) => {
                self.send("DELETED", &event.object);
            }
            (WatchKind::Deleted, false, false) | (_, false, false) => {}
            (_, true, true) => self.send("MODIFIED", &event.object),
            (_, false, true) => self.send("ADDED", &event.object),
            (_, true, false) => {
                // The watcher sees the object leave as it last matched, at the version of the change.
                let mut last = event
                    .previous
                    .as_ref()
                    .map_or(Value::Null, |object| (**object).clone());
                last["metadata"]["resourceVersion"] = event.rv.to_string().into();
                self.send("DELETED", &last);
            }
        }
    }

    fn send(&mut self, kind: &str, object: &Value) {
        let shown = match self.form {
            Form::Objects => object.clone(),
            Form::Metadata => partial(object),
            Form::Table => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                table(
                    &self.resource,
                    &[object],
                    metadata,
                    self.include,
                    self.objects.now(),
                )
            }
        };
        self.push(&json!({"type": kind, "object": shown}));
    }

    fn bookmark(&mut self, end_of_initial: bool) {
        if !self.bookmarks && !end_of_initial {
            return;
        }
        let mut metadata = json!({"resourceVersion": self.since.to_string(), "creationTimestamp": null});
        if end_of_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = json!({
            "kind": self.resource.kind,
            "apiVersion": self.resource.api_version(),
            "metadata": metadata,
        });
        let object = match self.form {
            Form::Objects => object,
            Form::Metadata => partial(&object),
            Form::Table => table(
                &self.resource,
                &[],
                object["metadata"].clone(),
                self.include,
                self.objects.now(),
            ),
        };
        self.push(&json!({"type": "BOOKMARK", "object": object}));
    }

    fn push(&mut self, event: &Value) {
        let mut line = event.to_string();
        line.push('\n');
        self.lines.push_back(Bytes::from(line));
    }
}
