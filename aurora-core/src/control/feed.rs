//! The feed of a tenant: every event of every pipeline in one order, from a cursor on, without gap or repeat.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::folded::Folded;
use super::history::HistoryPoint;
use super::{ControlError, ControlPlane, Inner, journal};
use crate::authz::{Grant, ReadPipelines};
use crate::id::PipelineId;
use crate::pipeline::{Summary, TimelineEntry};
use crate::port::store::Scope;
use crate::tenant::Tenant;

/// Events read at once: a slow reader holds no more than this in memory.
const PAGE: usize = 256;

/// How often a feed looks by itself, because other processes write to the same store.
const POLL: Duration = Duration::from_secs(1);

/// A place in a tenant's feed; opaque to clients.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct Cursor(u64);

/// The text is not a cursor.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this is not a cursor; take it as it came from an earlier answer")]
pub struct InvalidCursor;

impl Cursor {
    /// The place before everything.
    pub const START: Self = Self(0);

    pub(super) const fn at(feed: u64) -> Self {
        Self(feed)
    }

    pub(super) const fn feed(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t1.{:016x}", self.0)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let digits = text
            .strip_prefix("t1.")
            .filter(|digits| digits.len() == 16)
            // Only as it is written: another spelling of a number is not a cursor of ours.
            .filter(|digits| {
                digits
                    .bytes()
                    .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            })
            .ok_or(InvalidCursor)?;
        u64::from_str_radix(digits, 16)
            .map(Self)
            .map_err(|_| InvalidCursor)
    }
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One event of a tenant's feed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedItem {
    /// From here the feed goes on after this item.
    pub cursor: Cursor,
    /// The pipeline.
    pub subject: PipelineId,
    /// The version of the event in its stream: that of the pipeline, or that of the target's history.
    pub version: u64,
    /// When it was stored.
    pub at: Timestamp,
    /// The event as a line of the timeline; absent where this program cannot read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<TimelineEntry>,
    /// The pipeline's row after the event; absent for points of its history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<Arc<Summary>>,
    /// The pipeline's row before the event; absent for its first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Arc<Summary>>,
    /// A point of the history of a target, which is named beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<(String, HistoryPoint)>,
}

/// A feed that goes on for as long as it is read.
pub type FeedItems = BoxStream<'static, Result<Arc<FeedItem>, ControlError>>;

impl ControlPlane {
    /// The feed of the tenant after a cursor, and then as it grows.
    ///
    /// The stream ends only with an error. A cursor beyond the feed's head (a restored store) is refused.
    ///
    /// # Errors
    /// [`ControlError`].
    ///
    /// # Cancel safety
    /// Dropping the future or the stream leaves nothing behind.
    pub async fn events(
        &self,
        grant: &Grant<ReadPipelines>,
        after: Cursor,
    ) -> Result<FeedItems, ControlError> {
        self.feed(grant, after, None, false).await
    }

    /// What the feed of the tenant, or of one pipeline, has after a cursor, up to now; then it ends.
    ///
    /// # Errors
    /// [`ControlError`].
    ///
    /// # Cancel safety
    /// Dropping the future or the stream leaves nothing behind.
    pub async fn events_so_far(
        &self,
        grant: &Grant<ReadPipelines>,
        only: Option<PipelineId>,
        after: Cursor,
    ) -> Result<FeedItems, ControlError> {
        self.feed(grant, after, only, true).await
    }

    /// The feed of one pipeline after a cursor, and then as it grows; it ends once the pipeline is over.
    ///
    /// # Errors
    /// [`ControlError`]; `NotFound` when there is no such pipeline.
    ///
    /// # Cancel safety
    /// Dropping the future or the stream leaves nothing behind.
    pub async fn pipeline_events(
        &self,
        grant: &Grant<ReadPipelines>,
        id: PipelineId,
        after: Cursor,
    ) -> Result<FeedItems, ControlError> {
        let scope = Scope::from(grant.tenant());
        let known = self
            .inner
            .store
            .read_stream(&scope, &journal::name(id), 0, 1)
            .await?;
        if known.is_empty() {
            return Err(super::acts::not_found(id));
        }
        self.feed(grant, after, Some(id), false).await
    }

    async fn feed(
        &self,
        grant: &Grant<ReadPipelines>,
        after: Cursor,
        only: Option<PipelineId>,
        so_far: bool,
    ) -> Result<FeedItems, ControlError> {
        let scope = Scope::from(grant.tenant());
        let written = self.inner.store.written();
        let head = self.inner.store.feed_head(&scope).await?;
        if after.feed() > head {
            return Err(ControlError::Invalid {
                problem: "this cursor is ahead of everything stored; read the document again and go on from its cursor"
                    .to_owned(),
            });
        }
        let reader = Reader {
            inner: Arc::clone(&self.inner),
            tenant: grant.tenant().clone(),
            scope,
            after: after.feed(),
            only,
            buffer: VecDeque::new(),
            folded: Folded::default(),
            written,
            until: so_far.then_some(head),
            over: false,
        };
        Ok(Box::pin(futures::stream::unfold(reader, Reader::next)))
    }

    /// Where the feed of the tenant ends now.
    ///
    /// # Errors
    /// [`ControlError`].
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    pub async fn feed_head(&self, grant: &Grant<ReadPipelines>) -> Result<Cursor, ControlError> {
        let head = self.inner.store.feed_head(&Scope::from(grant.tenant())).await?;
        Ok(Cursor::at(head))
    }
}

struct Reader {
    inner: Arc<Inner>,
    tenant: Tenant,
    scope: Scope,
    after: u64,
    only: Option<PipelineId>,
    buffer: VecDeque<Arc<FeedItem>>,
    /// For what is longer ago than what all readers share.
    folded: Folded,
    written: watch::Receiver<u64>,
    /// Where it ends.
    until: Option<u64>,
    over: bool,
}

impl Reader {
    async fn next(mut self) -> Option<(Result<Arc<FeedItem>, ControlError>, Self)> {
        loop {
            if let Some(item) = self.buffer.pop_front() {
                return Some((Ok(item), self));
            }
            if self.over || self.until.is_some_and(|until| self.after >= until) {
                return None;
            }
            self.written.borrow_and_update();
            match self.fill().await {
                Ok(true) => {}
                Ok(false) => {
                    // Somebody else's process may write without this channel noticing.
                    let changed = tokio::time::timeout(POLL, self.written.changed()).await;
                    if matches!(changed, Ok(Err(_))) {
                        tokio::time::sleep(POLL).await;
                    }
                }
                Err(error) => {
                    self.over = true;
                    return Some((Err(error), self));
                }
            }
        }
    }

    /// Reads the next page; tells whether there was anything.
    async fn fill(&mut self) -> Result<bool, ControlError> {
        let before = self.after;
        let kept = self.inner.summaries.of(&self.tenant);
        let shared = {
            // A tokio lock: refreshing reads the store while it is held, so that readers share one refresh.
            let mut kept = kept.lock().await;
            kept.refresh(&self.inner, &self.scope).await?;
            kept.since(self.after, PAGE)
        };
        match shared {
            Some((items, reached)) => {
                self.folded = Folded::default();
                for item in items {
                    self.keep(item);
                }
                self.after = reached;
            }
            None => self.fill_from_store().await?,
        }
        Ok(self.after != before)
    }

    async fn fill_from_store(&mut self) -> Result<(), ControlError> {
        let events = self.inner.store.read_feed(&self.scope, self.after, PAGE).await?;
        for event in events {
            let about = journal::id_of(&event.stream)
                .or_else(|| journal::history_of(&event.stream).map(|(id, _)| id));
            let wanted = self.only.is_none_or(|only| about == Some(only));
            if wanted && let Some(item) = self.folded.take(&self.inner, &self.scope, &event).await? {
                self.keep(Arc::new(item));
            }
            self.after = event.feed;
        }
        Ok(())
    }

    fn keep(&mut self, item: Arc<FeedItem>) {
        if self.over || self.only.is_some_and(|only| only != item.subject) {
            return;
        }
        self.over = self.only.is_some()
            && item
                .entry
                .as_ref()
                .is_some_and(|entry| entry.kind == "pipelineEnded");
        self.buffer.push_back(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_from_their_text() {
        let cursor = Cursor::at(0xa41f2);
        assert_eq!(cursor.to_string(), "t1.00000000000a41f2");
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in [
            "",
            "t1.",
            "t1.zzzzzzzzzzzzzzzz",
            "t2.00000000000a41f2",
            "t1.a41f2",
            "t1.+0000000000a41f2",
            "t1.00000000000A41F2",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text}");
        }
    }
}
