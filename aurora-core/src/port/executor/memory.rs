//! A cluster in memory: an executor with full behaviour, shared by its clones, that can be inspected and broken.

mod acts;
mod blue_green;
mod canary;
mod hands;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::world::World;
use super::{Capabilities, ClusterExecutor, ExecutorError, Levels, StageSink};
use crate::announce::Announcer;
use crate::command::{Act, Acted, Action, Applied, AppliedSetKey, Apply, Direction, Observe, Stamp};
use crate::manifest::ObjectRef;
use crate::plan::Plan;
use crate::port::clock::Clock;
use crate::session::InventoryItem;

/// What the pods of an image do instead of becoming available.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PodFault {
    /// The container ends with exit code 1 again and again.
    Crash,
    /// The pod runs and never becomes ready.
    NeverReady,
    /// The image cannot be pulled.
    Unpullable,
}

/// One write to the in-memory cluster that took effect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Write {
    /// An act changed an object.
    Acted {
        /// Which object.
        object: ObjectRef,
        /// What was done.
        action: Action,
        /// The revision it was done to.
        revision: String,
        /// The step at which it stood before.
        step: usize,
    },
    /// An apply created or changed an object.
    Applied {
        /// Which object.
        object: ObjectRef,
        /// The stamp of the apply.
        stamp: Stamp,
    },
    /// An object was deleted.
    Deleted {
        /// Which object.
        object: ObjectRef,
    },
}

/// A cluster in memory; clones are fresh executors over the same cluster.
///
/// Workloads move by themselves as far as they can whenever something changes, or, with
/// [`InMemoryCluster::with_ticks`], one move per [`InMemoryCluster::tick`]. Rollouts go through the
/// steps of `spec.strategy.canary.steps` and stop at each pause without a duration; a first
/// deployment takes no step. Those with `spec.strategy.blueGreen` keep both versions at full size, stop
/// before the redirect unless `autoPromotionEnabled` is not `false`, and keep the old version for
/// `scaleDownDelaySeconds` on the cluster's clock: what is over is seen with the next change or
/// [`InMemoryCluster::settle`]. An `apply` waits until what it applied is taken up.
#[derive(Clone, Debug)]
pub struct InMemoryCluster {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    world: Mutex<World>,
    /// Counts changes, so that whoever waits looks again.
    changes: Announcer,
}

impl Default for InMemoryCluster {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared {
                world: Mutex::new(World::default()),
                changes: Announcer::default(),
            }),
        }
    }
}

impl InMemoryCluster {
    /// Moves only when told to by [`InMemoryCluster::tick`]; by default it moves at once.
    #[must_use]
    pub fn with_ticks(self) -> Self {
        self.world().ticks = true;
        self
    }

    /// Takes times from a clock; by default each look at the time is a millisecond after the last.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        self.world().clock = Some(clock);
        self
    }

    /// Lets every workload make one move; tells whether any did.
    pub fn tick(&self) -> bool {
        let moved = self.world().tick();
        if moved {
            self.announce();
        }
        moved
    }

    /// Lets workloads move until none can.
    pub fn settle(&self) {
        while self.tick() {}
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the world, lets it move if it moves by itself, and tells whoever waits.
    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let result = {
            let mut world = self.world();
            let result = change(&mut world);
            world.run();
            result
        };
        self.announce();
        result
    }

    fn announce(&self) {
        self.shared.changes.announce();
    }

    /// Waits until everything that the plan applied is taken up.
    async fn taken_up(&self, apply: &Apply, plan: &Plan, stages: &StageSink) -> Result<(), ExecutorError> {
        let mut changes = self.shared.changes.subscribe();
        let total = u32::try_from(plan.objects.len()).unwrap_or(u32::MAX);
        loop {
            let waiting = {
                let world = self.world();
                world.fence(&apply.set, apply.stamp)?;
                world.not_taken_up(plan)
            };
            let Some(object) = waiting else {
                return Ok(());
            };
            let _ = stages.try_send((total, total, format!("waiting until {object} is taken up")));
            if changes.changed().await.is_err() {
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl ClusterExecutor for InMemoryCluster {
    fn capabilities(&self) -> Capabilities {
        Capabilities::none().with_steps().with_blue_green()
    }

    async fn apply(&self, apply: &Apply, plan: &Plan, stages: &StageSink) -> Result<Applied, ExecutorError> {
        self.change(|world| world.accept(apply, plan))?;
        let total = u32::try_from(plan.objects.len()).unwrap_or(u32::MAX);
        for (done, planned) in (0..).zip(&plan.objects) {
            let object = planned.object();
            let _ = stages.try_send((done, total, format!("applying {object}")));
            // A point at which the caller may stop, as between two requests to a real cluster.
            tokio::task::yield_now().await;
            let mut body = planned.body.clone();
            if apply.direction == Direction::Back {
                hold_back(&mut body);
            }
            self.change(|world| world.apply_one(apply, &object, body))?;
        }
        self.taken_up(apply, plan, stages).await?;
        Ok(self.world().applied(&apply.set, plan))
    }

    async fn finish(
        &self,
        apply: &Apply,
        plan: &Plan,
        _stages: &StageSink,
    ) -> Result<Applied, ExecutorError> {
        self.change(|world| world.check_finish(apply))?;
        for planned in &plan.objects {
            tokio::task::yield_now().await;
            let (object, body) = (planned.object(), planned.body.clone());
            self.change(|world| world.apply_one(apply, &object, body))?;
        }
        self.change(|world| world.prune(apply, plan))
    }

    async fn observe(&self, observe: &Observe, plan: &Plan) -> Result<Levels, ExecutorError> {
        let following = Following {
            cluster: self.clone(),
            changes: self.shared.changes.subscribe(),
            observe: observe.clone(),
            plan: plan.clone(),
            said: None,
        };
        Ok(stream::unfold(following, Following::next).boxed())
    }

    async fn act(&self, act: &Act) -> Result<Acted, ExecutorError> {
        self.change(|world| world.act(act))
    }

    async fn get(&self, object: &ObjectRef) -> Result<Option<Value>, ExecutorError> {
        let body = self.object(object);
        Ok(body.map(redacted))
    }

    async fn delete(&self, set: &AppliedSetKey, object: &ObjectRef) -> Result<(), ExecutorError> {
        self.change(|world| world.delete(set, object))
    }

    async fn inventory(&self) -> Result<Vec<(String, InventoryItem)>, ExecutorError> {
        Ok(self.world().inventory())
    }
}

/// One observer's place in its stream.
struct Following {
    cluster: InMemoryCluster,
    changes: watch::Receiver<u64>,
    observe: Observe,
    plan: Plan,
    said: Option<Vec<crate::progress::Progress>>,
}

impl Following {
    async fn next(mut self) -> Option<(Result<Vec<crate::progress::Progress>, ExecutorError>, Self)> {
        loop {
            self.changes.borrow_and_update();
            let levels = self.cluster.world().levels(&self.observe, &self.plan);
            let Some(said) = &self.said else {
                self.said = Some(levels.clone());
                return Some((Ok(levels), self));
            };
            let changed =
                |level: &&crate::progress::Progress| !said.iter().any(|old| old.says_the_same(level));
            let news: Vec<_> = levels.iter().filter(changed).cloned().collect();
            if !news.is_empty() {
                self.said = Some(levels);
                return Some((Ok(news), self));
            }
            self.changes.changed().await.ok()?;
        }
    }
}

/// A Rollout on its way back takes nothing old away before the new is there.
fn hold_back(body: &mut Value) {
    if body["kind"] == "Rollout" && body["spec"]["strategy"]["canary"].is_object() {
        body["spec"]["strategy"]["canary"]["maxUnavailable"] = json!(0);
    }
}

/// The object without the values of a Secret.
fn redacted(mut body: Value) -> Value {
    if body["kind"] == "Secret" {
        for field in ["data", "stringData"] {
            if let Some(entries) = body[field].as_object_mut() {
                entries
                    .values_mut()
                    .for_each(|value| *value = json!("(redacted)"));
            }
        }
    }
    body
}

/// The start of the in-memory cluster's time, where it has no clock.
fn epoch() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap_or_default()
}

#[cfg(test)]
mod tests;
