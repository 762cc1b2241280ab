//! Starting a run: the application's lock, its one place in the queue, and everything else in one batch.

use bytes::Bytes;

use super::ControlPlane;
use super::journal::{self, Lock};
use crate::deploy_file::InProgress;
use crate::id::PipelineId;
use crate::pipeline::{Deed, Event, Input, Pipeline, Submitted, What, decide, evolve};
use crate::port::store::{Batch, Precondition, Record, Scope, StoreError};

/// What came of one attempt to start a run.
pub(super) enum Attempt {
    /// Something changed meanwhile: look again.
    Again,
    /// This run is in the way.
    Busy(PipelineId),
    /// It is stored.
    Started {
        /// The new run.
        pipeline: PipelineId,
        /// The run behind which it waits for its turn.
        behind: Option<PipelineId>,
        /// The place of its first event in the feed.
        feed: u64,
    },
}

/// A run that is to be started.
pub(super) struct NewRun<'a> {
    pub(super) scope: &'a Scope,
    pub(super) submitted: &'a Submitted,
    /// Who starts it.
    pub(super) deed: Deed,
    /// What becomes of it while another run is under way.
    pub(super) in_progress: InProgress,
}

/// Who holds an application and who waits for it, with the versions of the records that say so.
#[derive(Clone, Copy, Debug, Default)]
struct Places {
    holder: Option<(PipelineId, u64)>,
    next: Option<(PipelineId, u64)>,
}

impl ControlPlane {
    /// Tries once to store a run that begins now or waits for its turn; `remember` adds to its batch.
    pub(super) async fn start(
        &self,
        new: &NewRun<'_>,
        remember: impl FnOnce(&mut Batch, PipelineId),
    ) -> Result<Attempt, StoreError> {
        let store = self.inner.store.as_ref();
        let (scope, application) = (new.scope, &new.submitted.application);
        let now = self.inner.clock.now();
        let id = PipelineId::at(now, self.inner.entropy.ten_bytes());
        let places = Places {
            holder: place(store.get(scope, &journal::lock_key(application)).await?)?,
            next: place(store.get(scope, &journal::queue_key(application)).await?)?,
        };
        if new.in_progress == InProgress::Reject
            && let Some((busy, _)) = places.holder.or(places.next)
        {
            return Ok(Attempt::Busy(busy));
        }
        let mut submitted = new.submitted.clone();
        submitted.behind = places.holder.map(|(holder, _)| holder);
        let behind = submitted.behind;
        let mut batch = first_batch(id, scope, submitted, new.deed.clone(), now);
        take_place(&mut batch, application, places, id);
        if let Some((waiting, _)) = places.next {
            let Some(replaced) = self.replaced(scope, waiting, id, &new.deed).await? else {
                return Ok(Attempt::Busy(waiting));
            };
            merge(&mut batch, replaced);
        }
        remember(&mut batch, id);
        let more = journal::events_of(&batch).saturating_sub(1);
        match store.commit(batch).await {
            Ok(committed) => {
                tracing::info!(scope = scope.as_text(), pipeline.id = %id, application, "pipeline submitted");
                Ok(Attempt::Started {
                    pipeline: id,
                    behind,
                    feed: committed.feed.saturating_sub(more),
                })
            }
            Err(StoreError::Conflict { .. }) => Ok(Attempt::Again),
            Err(error) => Err(error),
        }
    }

    /// What ends the run that waits, because a newer one takes its place; `None` while it cannot be read.
    async fn replaced(
        &self,
        scope: &Scope,
        waiting: PipelineId,
        by: PipelineId,
        deed: &Deed,
    ) -> Result<Option<Batch>, StoreError> {
        let Some(pipeline) = journal::load(self.inner.store.as_ref(), scope, waiting).await? else {
            return Ok(None);
        };
        if pipeline.parked.is_some() {
            return Ok(None);
        }
        let supersede = Input::Supersede {
            by,
            deed: deed.clone(),
        };
        // Refused: it got its turn or was cancelled meanwhile, which its version tells at the commit.
        let events = decide(&pipeline, supersede, self.inner.clock.now()).unwrap_or_default();
        if events.is_empty() {
            return Ok(Some(Batch::new(scope.clone())));
        }
        let (batch, _) = journal::batch(scope, None, &pipeline, &events);
        Ok(Some(batch))
    }
}

fn first_batch(
    id: PipelineId,
    scope: &Scope,
    submitted: Submitted,
    deed: Deed,
    now: jiff::Timestamp,
) -> Batch {
    let mut events = vec![Event {
        at: now,
        by: Some(deed),
        fence: None,
        what: What::Submitted(Box::new(submitted)),
    }];
    let empty = Pipeline::new(id);
    let begun = evolve(empty.clone(), &events[0]);
    // What waits from the first moment on is said from the first moment on.
    events.extend(decide(&begun, Input::Tick, now).unwrap_or_default());
    let (batch, _) = journal::batch(scope, None, &empty, &events);
    batch
}

/// The new run takes the lock where it is free, else the one place in the queue.
fn take_place(batch: &mut Batch, application: &str, places: Places, id: PipelineId) {
    let (lock, queue) = (journal::lock_key(application), journal::queue_key(application));
    let as_seen = |key: &crate::port::store::RecordKey, seen: Option<(PipelineId, u64)>| match seen {
        Some((_, version)) => Precondition::Version(key.clone(), version),
        None => Precondition::Absent(key.clone()),
    };
    batch.preconditions.push(as_seen(&lock, places.holder));
    batch.preconditions.push(as_seen(&queue, places.next));
    let held: Bytes = serde_json::to_vec(&Lock { pipeline: id })
        .unwrap_or_default()
        .into();
    if places.holder.is_some() {
        batch.puts.push((queue, held));
    } else {
        batch.puts.push((lock, held));
        if places.next.is_some() {
            batch.deletes.push(queue);
        }
    }
}

fn merge(batch: &mut Batch, other: Batch) {
    batch.preconditions.extend(other.preconditions);
    batch.appends.extend(other.appends);
    batch.puts.extend(other.puts);
    batch.deletes.extend(other.deletes);
    batch.timers.extend(other.timers);
}

fn place(record: Option<Record>) -> Result<Option<(PipelineId, u64)>, StoreError> {
    let Some(record) = record else {
        return Ok(None);
    };
    let held: Lock = serde_json::from_slice(&record.value).map_err(|source| StoreError::Corrupt {
        what: format!("record `{}` `{}`", record.key.kind, record.key.id),
        source: source.into(),
    })?;
    Ok(Some((held.pipeline, record.version)))
}
