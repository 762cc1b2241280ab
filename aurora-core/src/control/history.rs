//! The history of a target's weights and pods: a stream of its own, one point per change and at least five seconds apart.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::queries::{AsOf, Document};
use super::{ControlError, ControlPlane, journal};
use crate::authz::{Grant, ReadPipelines};
use crate::error::ErrorChain;
use crate::id::PipelineId;
use crate::manifest::ObjectRef;
use crate::port::store::{Append, Batch, Lease, Scope, Store, StoreError};
use crate::progress::Progress;

/// The least time between two points of one workload.
const APART: SignedDuration = SignedDuration::from_secs(5);

/// Points read at once.
const PAGE: usize = 500;

/// The most points of one answer.
const MAX_POINTS: usize = 2000;

/// How one workload stood at a moment.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HistoryPoint {
    /// When the control plane heard of it.
    pub at: Timestamp,
    /// When the agent saw it.
    pub observed_at: Timestamp,
    /// The workload.
    pub rollout: ObjectRef,
    /// Its own step, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// The weight that its steps ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u8>,
    /// The weight that is real.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real: Option<u8>,
    /// Available pods of the new version.
    pub new_available: u32,
    /// Available pods of the old version.
    pub old_available: u32,
    /// Where it stood: `moving`, `atPause`, `done`, …
    pub phase: String,
}

impl HistoryPoint {
    fn of(level: &Progress, at: Timestamp) -> Self {
        let standing = serde_json::to_value(&level.standing).unwrap_or_default();
        Self {
            at,
            observed_at: level.observed_at,
            rollout: level.object.clone(),
            step: level.step.map(|step| step.index),
            wanted: level.weight.map(|weight| weight.wanted),
            real: level.weight.map(|weight| weight.real),
            new_available: level.pods.new_available,
            old_available: level.pods.old_available,
            phase: standing["is"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// Whether it says the same as another, time aside.
    fn same(&self, other: &Self) -> bool {
        self.turns_like(other)
            && self.real == other.real
            && self.new_available == other.new_available
            && self.old_available == other.old_available
    }

    /// Whether nothing was asked or decided between it and another: only numbers moved.
    fn turns_like(&self, other: &Self) -> bool {
        self.step == other.step && self.wanted == other.wanted && self.phase == other.phase
    }
}

/// What a driver has heard and not written yet.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    targets: BTreeMap<String, Track>,
}

#[derive(Debug, Default)]
struct Track {
    /// The version of the stream, once it was read.
    version: Option<u64>,
    last: BTreeMap<ObjectRef, HistoryPoint>,
    pending: BTreeMap<ObjectRef, HistoryPoint>,
}

impl Recorder {
    /// Hears levels; nothing is written yet.
    pub(super) fn note(&mut self, target: &str, levels: &[Progress], now: Timestamp) {
        let track = self.targets.entry(target.to_owned()).or_default();
        for level in levels {
            let point = HistoryPoint::of(level, now);
            if track
                .last
                .get(&point.rollout)
                .is_some_and(|last| last.same(&point))
            {
                track.pending.remove(&point.rollout);
            } else {
                track.pending.insert(point.rollout.clone(), point);
            }
        }
    }

    /// When the next point may be written.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.targets.values().flat_map(Track::due_times).min()
    }

    /// Writes what is due; at the end, everything. What cannot be written is tried again with the next change:
    /// a history with a gap is worth more than a pipeline that stands.
    pub(super) async fn write(
        &mut self,
        store: &dyn Store,
        scope: &Scope,
        lease: &Lease,
        id: PipelineId,
        now: Timestamp,
        end: bool,
    ) {
        for (target, track) in &mut self.targets {
            if let Err(error) = track.write(store, scope, lease, id, target, now, end).await {
                track.version = None;
                tracing::debug!(target, error = %ErrorChain(&error), "points of the history are not written");
            }
        }
    }
}

impl Track {
    fn due_times(&self) -> impl Iterator<Item = Timestamp> {
        self.pending.values().map(|point| self.due(point))
    }

    fn due(&self, point: &HistoryPoint) -> Timestamp {
        match self.last.get(&point.rollout) {
            // A clock that was set back does not hold the next point up.
            Some(last) if last.at <= point.at => last.at.saturating_add(APART).unwrap_or(Timestamp::MAX),
            _ => point.at,
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what its only caller knows of the pipeline and the time"
    )]
    async fn write(
        &mut self,
        store: &dyn Store,
        scope: &Scope,
        lease: &Lease,
        id: PipelineId,
        target: &str,
        now: Timestamp,
        end: bool,
    ) -> Result<(), StoreError> {
        let due: Vec<HistoryPoint> = self
            .pending
            .values()
            .filter(|point| end || self.due(point) <= now)
            .cloned()
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let stream = journal::history_name(id, target);
        let version = match self.version {
            Some(version) => version,
            None => self.recall(store, scope, &stream).await?,
        };
        let events: Vec<Bytes> = due
            .iter()
            .filter_map(|point| serde_json::to_vec(point).ok())
            .map(Bytes::from)
            .collect();
        let count = u64::try_from(events.len()).unwrap_or_default();
        let mut batch = Batch::new(scope.clone());
        batch.lease = Some(lease.clone());
        batch.appends.push(Append {
            stream,
            expected: version,
            events,
        });
        store.commit(batch).await?;
        self.version = Some(version + count);
        for point in due {
            self.pending.remove(&point.rollout);
            self.last.insert(point.rollout.clone(), point);
        }
        Ok(())
    }

    /// Reads where an earlier driver stopped.
    async fn recall(&mut self, store: &dyn Store, scope: &Scope, stream: &String) -> Result<u64, StoreError> {
        let mut version = 0;
        loop {
            let page = store.read_stream(scope, stream, version, PAGE).await?;
            let full = page.len() == PAGE;
            for event in page {
                version = event.version;
                if let Ok(point) = serde_json::from_slice::<HistoryPoint>(&event.value) {
                    self.last.insert(point.rollout.clone(), point);
                }
            }
            if !full {
                return Ok(version);
            }
        }
    }
}

/// The history of one target.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct History {
    /// The target.
    pub target: String,
    /// Points in the order of time.
    pub points: Vec<HistoryPoint>,
    /// How many there are; more than `points` where they were thinned.
    pub recorded: usize,
}

impl ControlPlane {
    /// The history of a target's workloads in at most about `points` points.
    ///
    /// # Errors
    /// [`ControlError`]; `NotFound` where this tenant has no such pipeline or the pipeline no such target.
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    pub async fn history(
        &self,
        grant: &Grant<ReadPipelines>,
        id: PipelineId,
        target: &str,
        points: usize,
    ) -> Result<Document<History>, ControlError> {
        let document = self.pipeline(grant, id).await?;
        if !document.body.targets.contains_key(target) {
            return Err(no_target(id, target));
        }
        let scope = Scope::from(grant.tenant());
        let stream = journal::history_name(id, target);
        let mut all = Vec::new();
        let mut after = 0;
        loop {
            let page = self.inner.store.read_stream(&scope, &stream, after, PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().map_or(after, |event| event.version);
            all.extend(
                page.iter()
                    .filter_map(|event| serde_json::from_slice(&event.value).ok()),
            );
            if !full {
                break;
            }
        }
        let recorded = all.len();
        Ok(Document {
            as_of: AsOf { ..document.as_of },
            body: History {
                target: target.to_owned(),
                points: thinned(all, points.clamp(2, MAX_POINTS)),
                recorded,
            },
        })
    }
}

/// There is no such target in a pipeline.
pub(super) fn no_target(id: PipelineId, target: &str) -> ControlError {
    let target: String = target.chars().take(64).collect();
    ControlError::NotFound {
        what: format!("target `{target}` in pipeline {id}"),
    }
}

/// At most `most` points: the first and the last of each workload, those at which something was asked or decided, and
/// as many of the others as fit, evenly.
fn thinned(points: Vec<HistoryPoint>, most: usize) -> Vec<HistoryPoint> {
    if points.len() <= most {
        return points;
    }
    let mut before: BTreeMap<&ObjectRef, usize> = BTreeMap::new();
    let mut corners = vec![false; points.len()];
    for (index, point) in points.iter().enumerate() {
        let turned = before
            .insert(&point.rollout, index)
            .is_none_or(|last| !points[last].turns_like(point));
        corners[index] = turned;
    }
    for last in before.into_values() {
        corners[last] = true;
    }
    let count = corners.iter().filter(|corner| **corner).count();
    let (kept, others) = if count <= most {
        (count, points.len() - count)
    } else {
        (0, count)
    };
    let room = most - kept;
    let mut seen = 0;
    points
        .into_iter()
        .zip(corners)
        .filter(|(_, corner)| {
            if *corner && kept > 0 {
                return true;
            }
            if *corner != (kept == 0) {
                return false;
            }
            // Evenly: one where the share of what was seen passes the next whole number.
            seen += 1;
            seen * room / others != (seen - 1) * room / others
        })
        .map(|(point, _)| point)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(second: i64, step: usize, real: u8) -> HistoryPoint {
        HistoryPoint {
            at: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second),
            observed_at: Timestamp::UNIX_EPOCH,
            rollout: ObjectRef {
                group: "argoproj.io".into(),
                kind: "Rollout".into(),
                namespace: "shop".into(),
                name: "web".into(),
            },
            step: Some(step),
            wanted: Some(50),
            real: Some(real),
            new_available: 0,
            old_available: 0,
            phase: "moving".into(),
        }
    }

    #[test]
    fn thinning_keeps_the_ends_and_every_turn() {
        let points: Vec<HistoryPoint> = (0..1000)
            .map(|second| {
                point(
                    second,
                    usize::try_from(second / 400).unwrap(),
                    (second % 100) as u8,
                )
            })
            .collect();
        let thin = thinned(points.clone(), 50);
        assert!(thin.len() <= 50 && thin.len() > 40, "{}", thin.len());
        for turn in [0, 400, 800, 999] {
            assert!(thin.contains(&points[turn]), "{turn}");
        }
        assert!(thin.windows(2).all(|pair| pair[0].at < pair[1].at));
        assert_eq!(thinned(points.clone(), 2000), points);
    }

    #[test]
    fn too_many_turns_are_thinned_too() {
        let points: Vec<HistoryPoint> = (0..100)
            .map(|second| point(second, usize::try_from(second).unwrap(), 0))
            .collect();
        assert_eq!(thinned(points, 10).len(), 10);
    }
}
