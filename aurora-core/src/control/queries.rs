//! Looking at one pipeline: its view, timeline, evidence and what was submitted.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::acts::not_found;
use super::feed::Cursor;
use super::{ControlError, ControlPlane, journal, viewer};
use crate::authz::{Grant, ReadPipelines};
use crate::id::PipelineId;
use crate::pipeline::{
    EvidenceView, Pipeline, PipelineView, TimelineEntry, decode, evidence_views, timeline_entry, view,
};
use crate::port::store::{Scope, StoredEvent};

/// How often a document is read again because the tenant's feed moved meanwhile.
const ATTEMPTS: usize = 3;

/// Lines of the timeline that a view shows.
const LAST_DECISIONS: usize = 10;

/// As of which place in the feed, and when by the control plane's clock.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AsOf {
    /// An event stream opened with it goes on where the document ends.
    pub cursor: Cursor,
    /// When it was read.
    pub at: Timestamp,
}

/// Something that was read, and as of when.
///
/// A stream from `as_of.cursor` misses nothing. It repeats only events up to the document's `version`
/// that were stored while it was read on a busy tenant; who cares skips those.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document<T> {
    /// As of when.
    pub as_of: AsOf,
    /// What was read.
    #[serde(flatten)]
    pub body: T,
}

/// The timeline of a pipeline, or a part of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// Lines in order.
    pub entries: Vec<TimelineEntry>,
    /// Whether there are more after the last.
    pub more: bool,
}

/// What was submitted, as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredConfig {
    /// The body.
    pub body: Bytes,
}

impl ControlPlane {
    /// Everything about a pipeline, as the one who asks may see and act on it.
    ///
    /// # Errors
    /// [`ControlError`]; `NotFound` where this tenant has none.
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    pub async fn view(
        &self,
        grant: &Grant<ReadPipelines>,
        id: PipelineId,
    ) -> Result<Document<PipelineView>, ControlError> {
        let (as_of, pipeline, events) = self.read(grant, id).await?;
        let mut body = view(&pipeline, &viewer(grant.principal()), as_of.at);
        body.last_decisions = last_decisions(id, &events);
        Ok(Document { as_of, body })
    }

    /// The folded state itself, for embedders; people and programs are served by [`ControlPlane::view`].
    ///
    /// # Errors
    /// [`ControlError`]; `NotFound` where this tenant has none.
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    pub async fn pipeline(
        &self,
        grant: &Grant<ReadPipelines>,
        id: PipelineId,
    ) -> Result<Document<Pipeline>, ControlError> {
        let (as_of, body, _) = self.read(grant, id).await?;
        Ok(Document { as_of, body })
    }

    /// The lines of a pipeline's timeline after a version, at most `limit` of them.
    ///
    /// # Errors
    /// [`ControlError`]; `NotFound` where this tenant has none.
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    pub async fn timeline(
        &self,
        grant: &Grant<ReadPipelines>,
        id: PipelineId,
        after: u64,
        limit: usize,
    ) -> Result<Timeline, ControlError> {
        let scope = Scope::from(grant.tenant());
        let store = self.inner.store.as_ref();
        let limit = limit.clamp(1, 1000);
        let mut events = store
            .read_stream(&scope, &journal::name(id), after, limit + 1)
            .await?;
        if events.is_empty()
            && store
                .read_stream(&scope, &journal::name(id), 0, 1)
                .await?
                .is_empty()
        {
            return Err(not_found(id));
        }
        let more = events.len() > limit;
        events.truncate(limit);
        let entries = events
            .iter()
            .filter_map(|event| Some(timeline_entry(id, event.version, &decode(&event.value).ok()?)))
            .collect();
        Ok(Timeline { entries, more })
    }

    /// What was captured of a pipeline's failures.
    ///
    /// # Errors
    /// [`ControlError`]; `NotFound` where this tenant has none.
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    pub async fn evidence(
        &self,
        grant: &Grant<ReadPipelines>,
        id: PipelineId,
    ) -> Result<Vec<EvidenceView>, ControlError> {
        let (_, pipeline, _) = self.read(grant, id).await?;
        Ok(evidence_views(&pipeline))
    }

    /// What was submitted, as it came.
    ///
    /// # Errors
    /// [`ControlError`]; `NotFound` where this tenant has none.
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    pub async fn config(
        &self,
        grant: &Grant<ReadPipelines>,
        id: PipelineId,
    ) -> Result<StoredConfig, ControlError> {
        let (_, pipeline, _) = self.read(grant, id).await?;
        let scope = Scope::from(grant.tenant());
        let body = self.inner.store.get_blob(&scope, &pipeline.file).await?;
        let body = body.ok_or_else(|| ControlError::NotFound {
            what: format!("stored deploy file of pipeline {id}"),
        })?;
        Ok(StoredConfig { body })
    }

    /// Reads a pipeline together with a place in the feed at which it looked like that.
    async fn read(
        &self,
        grant: &Grant<ReadPipelines>,
        id: PipelineId,
    ) -> Result<(AsOf, Pipeline, Vec<StoredEvent>), ControlError> {
        let scope = Scope::from(grant.tenant());
        let store = self.inner.store.as_ref();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let before = store.feed_head(&scope).await?;
            let events = journal::events(store, &scope, id, 0).await?;
            if events.is_empty() {
                return Err(not_found(id));
            }
            if attempt == ATTEMPTS || store.feed_head(&scope).await? == before {
                let as_of = AsOf {
                    cursor: Cursor::at(before),
                    at: self.inner.clock.now(),
                };
                let pipeline = Pipeline::new(id).fold(events.iter().map(|event| event.value.as_ref()));
                return Ok((as_of, pipeline, events));
            }
        }
    }
}

fn last_decisions(id: PipelineId, events: &[StoredEvent]) -> Vec<TimelineEntry> {
    events
        .iter()
        .rev()
        .filter_map(|event| Some(timeline_entry(id, event.version, &decode(&event.value).ok()?)))
        .filter(|entry| entry.phase == "recorded")
        .take(LAST_DECISIONS)
        .collect()
}
