//! From stored events to what readers are told of them: each with the pipeline's row before and after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::feed::{Cursor, FeedItem};
use super::history::HistoryPoint;
use super::{Inner, journal};
use crate::id::PipelineId;
use crate::pipeline::{Pipeline, Summary, decode, summary, timeline_entry};
use crate::port::store::{Scope, StoreError, StoredEvent};

/// Pipelines whose state is kept, so that the next event costs no reading.
const STATES: usize = 1024;

/// Events read at once.
const PAGE: usize = 500;

/// Pipelines as of the last event that was taken of each.
#[derive(Debug, Default)]
pub(super) struct Folded {
    states: BTreeMap<PipelineId, (Pipeline, Arc<Summary>)>,
}

impl Folded {
    /// What an event says; `None` where it is about no pipeline.
    ///
    /// Events of one pipeline are taken in order.
    pub(super) async fn take(
        &mut self,
        inner: &Inner,
        scope: &Scope,
        event: &StoredEvent,
    ) -> Result<Option<FeedItem>, StoreError> {
        if let Some((id, target)) = journal::history_of(&event.stream) {
            return Ok(history_item(id, target, event));
        }
        let Some(id) = journal::id_of(&event.stream) else {
            return Ok(None);
        };
        let known = self.states.remove(&id);
        let known = known.filter(|(pipeline, _)| pipeline.version + 1 == event.version);
        let (before, row_before) = match known {
            Some((pipeline, row)) => (pipeline, Some(row)),
            None => {
                let pipeline = up_to(inner, scope, id, event.version.saturating_sub(1)).await?;
                let row = (pipeline.version > 0).then(|| Arc::new(summary(&pipeline)));
                (pipeline, row)
            }
        };
        let after = before.fold(std::iter::once(event.value.as_ref()));
        let row = Arc::new(summary(&after));
        let entry = decode(&event.value)
            .ok()
            .map(|decoded| timeline_entry(id, event.version, &decoded));
        if !after.is_final() && after.parked.is_none() {
            self.states.insert(id, (after, Arc::clone(&row)));
            if self.states.len() > STATES {
                self.states.pop_first();
            }
        }
        Ok(Some(FeedItem {
            cursor: Cursor::at(event.feed),
            subject: id,
            version: event.version,
            at: event.at,
            entry,
            row: Some(row),
            before: row_before,
            point: None,
        }))
    }
}

fn history_item(id: PipelineId, target: &str, event: &StoredEvent) -> Option<FeedItem> {
    let point: HistoryPoint = serde_json::from_slice(&event.value).ok()?;
    Some(FeedItem {
        cursor: Cursor::at(event.feed),
        subject: id,
        version: event.version,
        at: event.at,
        entry: None,
        row: None,
        before: None,
        point: Some((target.to_owned(), point)),
    })
}

/// A pipeline as it was at a version.
async fn up_to(inner: &Inner, scope: &Scope, id: PipelineId, version: u64) -> Result<Pipeline, StoreError> {
    let stream = journal::name(id);
    let mut pipeline = Pipeline::new(id);
    while pipeline.version < version && pipeline.parked.is_none() {
        let missing = usize::try_from(version - pipeline.version).unwrap_or(PAGE);
        let limit = missing.min(PAGE);
        let events = inner
            .store
            .read_stream(scope, &stream, pipeline.version, limit)
            .await?;
        if events.is_empty() {
            break;
        }
        pipeline = pipeline.fold(events.iter().map(|event| event.value.as_ref()));
    }
    Ok(pipeline)
}
