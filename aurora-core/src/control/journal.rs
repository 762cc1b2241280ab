//! Reading pipelines from their streams and writing events with everything that goes with them.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::audit;
use crate::digest::Digest;
use crate::id::PipelineId;
use crate::pipeline::{
    End, Event, LastGood, Pipeline, Submitted, What, decode, encode, evolve, next_wake, outstanding, summary,
};
use crate::plan::StepMap;
use crate::port::store::{
    Append, Batch, Lease, Precondition, RecordKey, Scope, Store, StoreError, StoredEvent,
};

/// The prefix of the names of streams, leases and timers of pipelines.
pub(super) const PREFIX: &str = "pipeline/";

/// The kind of summary records.
pub(super) const SUMMARY: &str = "pipeline.summary";

/// The kind of the records that let one run per application through.
pub(super) const LOCK: &str = "application.lock";

/// The kind of the records of runs that wait for their application to be free: one per application.
pub(super) const QUEUE: &str = "application.queue";

/// The kind of the records of plans that succeeded.
pub(super) const LAST_GOOD: &str = "target.lastGood";

/// Events read at once.
const PAGE: usize = 500;

/// The name of a pipeline's stream, lease and timer.
pub(super) fn name(id: PipelineId) -> String {
    format!("{PREFIX}{id}")
}

/// The pipeline that a stream, lease or timer is about.
pub(super) fn id_of(name: &str) -> Option<PipelineId> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// The prefix of the names of streams that hold the history of a target.
const HISTORY: &str = "history/";

/// The name of the stream that holds the history of a target.
pub(super) fn history_name(id: PipelineId, target: &str) -> String {
    format!("{HISTORY}{id}/{target}")
}

/// The pipeline and the target whose history a stream holds.
pub(super) fn history_of(name: &str) -> Option<(PipelineId, &str)> {
    let (id, target) = name.strip_prefix(HISTORY)?.split_once('/')?;
    Some((id.parse().ok()?, target))
}

/// The lock of an application.
pub(super) fn lock_key(application: &str) -> RecordKey {
    RecordKey::new(LOCK, application)
}

/// The one place in the queue of an application.
pub(super) fn queue_key(application: &str) -> RecordKey {
    RecordKey::new(QUEUE, application)
}

/// Who holds an application, or waits for it.
#[derive(Deserialize, Serialize)]
pub(super) struct Lock {
    pub(super) pipeline: PipelineId,
}

/// The stored form of a plan that succeeded.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct StoredLastGood {
    v: u32,
    pipeline: PipelineId,
    plan: Digest,
    steps: StepMap,
}

/// Reads a pipeline; `None` where there is none.
pub(super) async fn load(
    store: &dyn Store,
    scope: &Scope,
    id: PipelineId,
) -> Result<Option<Pipeline>, StoreError> {
    let pipeline = catch_up(store, scope, Pipeline::new(id)).await?;
    let known = pipeline.version > 0 || pipeline.parked.is_some();
    Ok(known.then_some(pipeline))
}

/// Folds what was stored since.
pub(super) async fn catch_up(
    store: &dyn Store,
    scope: &Scope,
    mut pipeline: Pipeline,
) -> Result<Pipeline, StoreError> {
    let stream = name(pipeline.id);
    while pipeline.parked.is_none() {
        let events = store.read_stream(scope, &stream, pipeline.version, PAGE).await?;
        let full = events.len() == PAGE;
        pipeline = pipeline.fold(events.iter().map(|event| event.value.as_ref()));
        if !full {
            break;
        }
    }
    Ok(pipeline)
}

/// What was submitted; `None` where there is no such pipeline, or none that can be read.
pub(super) async fn submitted(
    store: &dyn Store,
    scope: &Scope,
    id: PipelineId,
) -> Result<Option<Submitted>, StoreError> {
    let first = store.read_stream(scope, &name(id), 0, 1).await?;
    let event = first.first().and_then(|event| decode(&event.value).ok());
    Ok(event.and_then(|event| match event.what {
        What::Submitted(submitted) => Some(*submitted),
        _ => None,
    }))
}

/// All events of a pipeline, as stored.
pub(super) async fn events(
    store: &dyn Store,
    scope: &Scope,
    id: PipelineId,
    after: u64,
) -> Result<Vec<StoredEvent>, StoreError> {
    let stream = name(id);
    let mut all = Vec::new();
    let mut after = after;
    loop {
        let page = store.read_stream(scope, &stream, after, PAGE).await?;
        let full = page.len() == PAGE;
        after = page.last().map_or(after, |event| event.version);
        all.extend(page);
        if !full {
            return Ok(all);
        }
    }
}

/// The batch that writes events, with all records that follow from them, and the state after it.
pub(super) fn batch(
    scope: &Scope,
    lease: Option<&Lease>,
    before: &Pipeline,
    events: &[Event],
) -> (Batch, Pipeline) {
    let fence = lease.map(|lease| lease.fence);
    let events: Vec<Event> = events
        .iter()
        .cloned()
        .map(|event| Event { fence, ..event })
        .collect();
    let mut batch = Batch::new(scope.clone());
    batch.lease = lease.cloned();
    batch.appends.push(Append {
        stream: name(before.id),
        expected: before.version,
        events: events.iter().map(|event| Bytes::from(encode(event))).collect(),
    });
    let mut after = before.clone();
    for event in &events {
        after = evolve(after, event);
        batch.puts.extend(audit::line(after.id, after.version, event));
        match &event.what {
            What::TargetEnded {
                target,
                end: End::Succeeded | End::RolledBack,
            } => batch.puts.extend(last_good(&after, target)),
            What::Dequeued => {
                let lock = lock_key(&after.application);
                let held = serde_json::to_vec(&Lock { pipeline: after.id }).unwrap_or_default();
                batch.preconditions.push(Precondition::Absent(lock.clone()));
                batch.puts.push((lock, held.into()));
                batch.deletes.push(queue_key(&after.application));
            }
            _ => {}
        }
    }
    batch.puts.extend(summary_record(&after));
    if after.is_final() {
        match (after.behind, after.replaced_by) {
            (None, _) => batch.deletes.push(lock_key(&after.application)),
            (Some(_), None) => batch.deletes.push(queue_key(&after.application)),
            // Whoever took its place has it now.
            (Some(_), Some(_)) => {}
        }
    }
    batch.timers.push((name(after.id), timer(&after)));
    (batch, after)
}

/// How many events a batch appends: in the feed they follow each other.
pub(super) fn events_of(batch: &Batch) -> u64 {
    batch
        .appends
        .iter()
        .map(|append| append.events.len() as u64)
        .sum()
}

/// When somebody has to look at a pipeline: at once while something is outstanding, else when time changes something.
pub(super) fn timer(pipeline: &Pipeline) -> Option<Timestamp> {
    if pipeline.is_final() {
        return None;
    }
    if outstanding(pipeline).is_empty() {
        return next_wake(pipeline, pipeline.changed_at);
    }
    Some(pipeline.submitted_at)
}

/// The record that lists are made of.
pub(super) fn summary_record(pipeline: &Pipeline) -> Option<(RecordKey, Bytes)> {
    let value = serde_json::to_vec(&summary(pipeline)).ok()?;
    Some((RecordKey::new(SUMMARY, pipeline.id.to_string()), value.into()))
}

/// The run and the plan of a record of a plan that succeeded.
pub(super) fn last_good_of(value: &[u8]) -> Option<(PipelineId, Digest)> {
    let stored: StoredLastGood = serde_json::from_slice(value).ok()?;
    Some((stored.pipeline, stored.plan))
}

fn last_good_key(application: &str, account: &str, namespace: &str) -> RecordKey {
    RecordKey::new(LAST_GOOD, format!("{application}/{account}/{namespace}"))
}

fn last_good(pipeline: &Pipeline, target: &str) -> Option<(RecordKey, Bytes)> {
    let target = pipeline.targets.get(target)?;
    let stored = if target.ended_as(End::Succeeded) {
        StoredLastGood {
            v: 1,
            pipeline: pipeline.id,
            plan: target.plan,
            steps: target.steps.clone(),
        }
    } else {
        // What a rule takes back is back where it was; a person may have chosen another plan.
        target.taken_back.as_ref()?;
        let back = target.back_to.clone()?;
        StoredLastGood {
            v: 1,
            pipeline: back.pipeline,
            plan: back.plan,
            steps: back.steps,
        }
    };
    let key = last_good_key(&pipeline.application, target.account.as_str(), &target.namespace);
    Some((key, serde_json::to_vec(&stored).ok()?.into()))
}

/// The last plan that succeeded for a target.
pub(super) async fn read_last_good(
    store: &dyn Store,
    scope: &Scope,
    application: &str,
    account: &str,
    namespace: &str,
) -> Result<Option<LastGood>, StoreError> {
    let key = last_good_key(application, account, namespace);
    let Some(record) = store.get(scope, &key).await? else {
        return Ok(None);
    };
    let stored: StoredLastGood =
        serde_json::from_slice(&record.value).map_err(|source| StoreError::Corrupt {
            what: format!("record `{}` `{}`", key.kind, key.id),
            source: source.into(),
        })?;
    Ok(Some(LastGood {
        pipeline: stored.pipeline,
        plan: stored.plan,
        steps: stored.steps,
    }))
}
