//! The feed of a tenant: every event of every pipeline in one order, from a cursor on, without gap or repeat.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::journal;
use super::{ControlError, ControlPlane, Inner};
use crate::authz::{Grant, ReadPipelines};
use crate::id::PipelineId;
use crate::pipeline::{Summary, TimelineEntry, decode, timeline_entry};
use crate::port::store::{RecordKey, Scope, StoredEvent};

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
            .filter(|d| d.len() == 16)
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
    /// The version of the event.
    pub version: u64,
    /// When it was stored.
    pub at: Timestamp,
    /// The event as a line of the timeline; absent where this program cannot read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<TimelineEntry>,
    /// The pipeline's row as it is now: it may be newer than the event, never older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<Summary>,
}

/// A feed that goes on for as long as it is read.
pub type FeedItems = BoxStream<'static, Result<FeedItem, ControlError>>;

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
        self.feed(grant, after, None).await
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
        self.feed(grant, after, Some(id)).await
    }

    async fn feed(
        &self,
        grant: &Grant<ReadPipelines>,
        after: Cursor,
        only: Option<PipelineId>,
    ) -> Result<FeedItems, ControlError> {
        let scope = Scope::from(grant.tenant());
        let written = self.inner.store.written();
        if after.feed() > self.inner.store.feed_head(&scope).await? {
            return Err(ControlError::Invalid {
                problem: "this cursor is ahead of everything stored; read the document again and go on from its cursor"
                    .to_owned(),
            });
        }
        let reader = Reader {
            inner: Arc::clone(&self.inner),
            scope,
            after: after.feed(),
            only,
            buffer: VecDeque::new(),
            written,
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
    scope: Scope,
    after: u64,
    only: Option<PipelineId>,
    buffer: VecDeque<FeedItem>,
    written: watch::Receiver<u64>,
    over: bool,
}

impl Reader {
    async fn next(mut self) -> Option<(Result<FeedItem, ControlError>, Self)> {
        loop {
            if let Some(item) = self.buffer.pop_front() {
                return Some((Ok(item), self));
            }
            if self.over {
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
        let events = self.inner.store.read_feed(&self.scope, self.after, PAGE).await?;
        let Some(last) = events.last() else {
            return Ok(false);
        };
        self.after = last.feed;
        let mut rows: BTreeMap<PipelineId, Option<Summary>> = BTreeMap::new();
        for event in events {
            let Some(id) = journal::id_of(&event.stream) else {
                continue;
            };
            if self.only.is_some_and(|only| only != id) {
                continue;
            }
            let row = match rows.get(&id) {
                Some(row) => row.clone(),
                None => {
                    let row = read_row(&self.inner, &self.scope, id).await?;
                    rows.insert(id, row.clone());
                    row
                }
            };
            let item = item(id, &event, row);
            self.over |=
                self.only.is_some() && item.entry.as_ref().is_some_and(|e| e.kind == "pipelineEnded");
            self.buffer.push_back(item);
        }
        Ok(true)
    }
}

fn item(id: PipelineId, event: &StoredEvent, row: Option<Summary>) -> FeedItem {
    let entry = decode(&event.value)
        .ok()
        .map(|decoded| timeline_entry(id, event.version, &decoded));
    FeedItem {
        cursor: Cursor::at(event.feed),
        subject: id,
        version: event.version,
        at: event.at,
        entry,
        row,
    }
}

/// A row that cannot be read (an older program's successor wrote it) is left out.
pub(super) async fn read_row(
    inner: &Inner,
    scope: &Scope,
    id: PipelineId,
) -> Result<Option<Summary>, ControlError> {
    let key = RecordKey::new(journal::SUMMARY, id.to_string());
    let record = inner.store.get(scope, &key).await?;
    Ok(record.and_then(|record| serde_json::from_slice(&record.value).ok()))
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
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text}");
        }
    }
}
