//! A scripted executor that counts what reaches the cluster and can be held, for laws and session tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::command::{Act, Acted, Applied, AppliedSetKey, Apply, Observe};
use crate::manifest::ObjectRef;
use crate::plan::Plan;
use crate::port::executor::{Capabilities, ClusterExecutor, ExecutorError, Levels, StageSink};
use crate::progress::{PodCounts, Progress, Standing};
use crate::session::InventoryItem;

/// What has reached a [`ProbeExecutor`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// Mutations that took effect.
    pub mutations: u32,
    /// Of those, by the version of their stamp.
    pub by_version: BTreeMap<u64, u32>,
    /// Versions in the order in which they took effect.
    pub order: Vec<u64>,
    /// Calls that are under way.
    pub running: u32,
    /// Calls that were dropped before they ended.
    pub dropped: u32,
    /// Mutations wait for [`ProbeExecutor::release`].
    pub held: bool,
}

/// Counts calls; mutations can be held back, one panics on demand.
///
/// Clones share everything, as executors over one cluster do. It has no precondition in its cluster:
/// what keeps a mutation from happening twice is whoever calls it.
#[derive(Clone, Debug)]
pub struct ProbeExecutor {
    seen: Arc<watch::Sender<Seen>>,
    items: Arc<watch::Sender<Vec<(String, InventoryItem)>>>,
}

impl Default for ProbeExecutor {
    fn default() -> Self {
        Self {
            seen: Arc::new(watch::Sender::new(Seen::default())),
            items: Arc::new(watch::Sender::new(Vec::new())),
        }
    }
}

/// The version in a stamp at which the probe panics.
pub const PANIC_AT: u64 = 666;

impl ProbeExecutor {
    /// What has reached it.
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until something holds of what has reached it.
    pub async fn until(&self, holds: impl FnMut(&Seen) -> bool) {
        let mut seen = self.seen.subscribe();
        // The sender is ours, so it cannot be gone.
        let _ = seen.wait_for(holds).await;
    }

    /// Lets mutations wait.
    pub fn hold(&self) {
        self.seen.send_modify(|seen| seen.held = true);
    }

    /// Lets mutations go on.
    pub fn release(&self) {
        self.seen.send_modify(|seen| seen.held = false);
    }

    /// What its cluster has from now on.
    pub fn stock(&self, items: Vec<(String, InventoryItem)>) {
        self.items.send_replace(items);
    }

    async fn mutate(&self, version: u64) {
        assert!(version != PANIC_AT, "the probe was told to panic");
        let call = Call::begin(&self.seen);
        let mut seen = self.seen.subscribe();
        let _ = seen.wait_for(|seen| !seen.held).await;
        self.seen.send_modify(|seen| {
            seen.mutations += 1;
            *seen.by_version.entry(version).or_default() += 1;
            seen.order.push(version);
        });
        call.end();
    }
}

/// A level of the probe's one object.
pub fn probe_level(new: u32) -> Progress {
    Progress {
        object: ObjectRef::new("argoproj.io", "Rollout", "web", "probe"),
        standing: Standing::Moving,
        revision: "r2".into(),
        stable: "r1".into(),
        step: None,
        weight: None,
        pods: PodCounts {
            desired: 4,
            new,
            ..PodCounts::default()
        },
        expect: None,
        message: String::new(),
        failing: Vec::new(),
        observed_at: Timestamp::UNIX_EPOCH,
    }
}

#[async_trait]
impl ClusterExecutor for ProbeExecutor {
    fn capabilities(&self) -> Capabilities {
        Capabilities::none()
    }

    async fn apply(&self, apply: &Apply, plan: &Plan, stages: &StageSink) -> Result<Applied, ExecutorError> {
        let _ = stages
            .send((0, 1, format!("applying {}", plan.application)))
            .await;
        self.mutate(apply.stamp.version).await;
        Ok(Applied {
            changed: u32::try_from(plan.objects.len()).unwrap_or(u32::MAX),
            ..Applied::default()
        })
    }

    async fn finish(
        &self,
        apply: &Apply,
        _plan: &Plan,
        _stages: &StageSink,
    ) -> Result<Applied, ExecutorError> {
        self.mutate(apply.stamp.version).await;
        Ok(Applied::default())
    }

    async fn observe(&self, _observe: &Observe, _plan: &Plan) -> Result<Levels, ExecutorError> {
        let call = Call::begin(&self.seen);
        let levels = futures::stream::iter(0..1000)
            .map(|new| vec![probe_level(new)])
            .map(Ok);
        let rest = futures::stream::once(async move {
            let _until_dropped = call;
            std::future::pending().await
        });
        Ok(levels.chain(rest).boxed())
    }

    async fn act(&self, act: &Act) -> Result<Acted, ExecutorError> {
        self.mutate(act.stamp.version).await;
        Ok(Acted::Done)
    }

    async fn get(&self, object: &ObjectRef) -> Result<Option<Value>, ExecutorError> {
        Ok(Some(
            json!({ "kind": object.kind, "metadata": { "name": object.name } }),
        ))
    }

    async fn delete(&self, _set: &AppliedSetKey, _object: &ObjectRef) -> Result<(), ExecutorError> {
        self.mutate(0).await;
        Ok(())
    }

    async fn inventory(&self) -> Result<Vec<(String, InventoryItem)>, ExecutorError> {
        Ok(self.items.borrow().clone())
    }
}

/// Counts a call while it lasts.
#[derive(Debug)]
struct Call {
    seen: Arc<watch::Sender<Seen>>,
    ended: bool,
}

impl Call {
    fn begin(seen: &Arc<watch::Sender<Seen>>) -> Self {
        seen.send_modify(|seen| seen.running += 1);
        Self {
            seen: Arc::clone(seen),
            ended: false,
        }
    }

    fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let dropped = u32::from(!self.ended);
        self.seen.send_modify(|seen| {
            seen.running -= 1;
            seen.dropped += dropped;
        });
    }
}
