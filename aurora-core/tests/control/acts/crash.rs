//! Acts that outlive the process: every write of a story is a place to crash, before it and after it unheard.

use std::sync::Arc;
use std::time::Duration;

use aurora_core::control::{ControlPlane, TargetAct};
use aurora_core::deploy_file::{DeployFile, InProgress};
use aurora_core::id::PipelineId;
use aurora_core::manifest::ObjectRef;
use aurora_core::pipeline::{Pipeline, RolledBack, State, What};
use aurora_core::port::executor::memory::{PodFault, Write};
use aurora_core::port::store::failing::{FailingStore, Side};
use tokio_util::sync::CancellationToken;

use super::{deployed, of, to, version};
use crate::world::{World, canary, deployer, door, drive, file, first_version, submission, target, yes};

/// What people do after version 2 (and before everything) went well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Story {
    /// A run that is over goes back to the first version by a new run.
    BackOver,
    /// A run that goes on goes back to the first version in place.
    BackRunning,
    /// Two runs: the second waits for the end of the first.
    Queue,
    /// A target fails while another goes on, and begins again in place.
    RetryRunning,
    /// A run fails, and a new one deploys the same plans.
    RetryOver,
}

/// Somebody who goes on where they were, however often they have to begin anew: each step is repeated by its key.
struct Player<'a> {
    world: &'a World,
    plane: &'a ControlPlane,
    gone: CancellationToken,
}

/// The process died.
#[derive(Debug)]
struct Gone;

impl Player<'_> {
    async fn submit(&self, file: DeployFile, key: &str) -> Result<PipelineId, Gone> {
        let mut wanted = submission(file);
        wanted.idempotency = Some(key.to_owned());
        let ada = deployer("ada", &[]);
        let submitted = self.plane.submit(&ada, &door(), wanted).await;
        submitted.map(|submitted| submitted.pipeline).map_err(|_| Gone)
    }

    async fn until(&self, id: PipelineId, wanted: impl Fn(&Pipeline) -> bool) -> Result<(), Gone> {
        tokio::select! {
            biased;
            () = self.gone.cancelled() => Err(Gone),
            _ = self.world.until(id, wanted) => Ok(()),
        }
    }

    /// Says yes at a gate once it stands; that it was said before is fine.
    async fn approve(&self, id: PipelineId, gate: &str) -> Result<(), Gone> {
        let at = gate.parse().unwrap();
        let reached = |p: &Pipeline| {
            p.gate(&at)
                .is_some_and(|gate| gate.standing_since().is_some() || gate.is_behind())
        };
        self.until(id, reached).await?;
        let grace = deployer("grace", &["release-manager"]);
        let _ = self.plane.approve(&grace, &door(), id, yes(gate)).await;
        if self.gone.is_cancelled() {
            Err(Gone)
        } else {
            Ok(())
        }
    }

    async fn ended(&self, id: PipelineId) -> Result<(), Gone> {
        self.until(id, Pipeline::is_final).await
    }

    async fn retry(&self, id: PipelineId, act: TargetAct) -> Result<PipelineId, Gone> {
        let door = door().with_idempotency("retry");
        let recorded = self.plane.retry(&deployer("ada", &[]), &door, id, act).await;
        recorded
            .map(|recorded| recorded.pipeline)
            .map_err(|error| self.died(&error))
    }

    async fn back(&self, id: PipelineId, act: TargetAct) -> Result<PipelineId, Gone> {
        let door = door().with_idempotency("back");
        let recorded = self.plane.roll_back(&deployer("ada", &[]), &door, id, act).await;
        recorded
            .map(|recorded| recorded.pipeline)
            .map_err(|error| self.died(&error))
    }

    fn died(&self, error: &aurora_core::control::ControlError) -> Gone {
        assert!(self.gone.is_cancelled(), "{error:?}");
        Gone
    }

    /// The whole story; the runs that it made, in order.
    async fn play(&self, story: Story, first: PipelineId) -> Result<Vec<PipelineId>, Gone> {
        match story {
            Story::BackOver => {
                let id = self.submit(version(&["staging"], "app:3"), "three").await?;
                self.approve(id, "staging/step/1").await?;
                self.ended(id).await?;
                let back = self.back(id, to("staging", first)).await?;
                self.ended(back).await?;
                Ok(vec![id, back])
            }
            Story::BackRunning => {
                let id = self.submit(version(&["staging"], "app:3"), "three").await?;
                let gate = "staging/step/1".parse().unwrap();
                let stood = |p: &Pipeline| {
                    p.gate(&gate)
                        .is_some_and(|g| g.state != aurora_core::pipeline::GateState::Ahead)
                };
                self.until(id, stood).await?;
                self.back(id, to("staging", first)).await?;
                self.ended(id).await?;
                Ok(vec![id])
            }
            Story::Queue => {
                let id = self.submit(version(&["staging"], "app:3"), "three").await?;
                let waiting = DeployFile {
                    in_progress: InProgress::EnqueueOne,
                    ..version(&["staging"], "app:4")
                };
                let next = self.submit(waiting, "four").await?;
                self.approve(id, "staging/step/1").await?;
                self.ended(id).await?;
                self.approve(next, "staging/step/1").await?;
                self.ended(next).await?;
                Ok(vec![id, next])
            }
            Story::RetryOver => {
                let id = self.submit(version(&["staging"], "app:bad"), "bad").await?;
                self.ended(id).await?;
                self.world.cluster("staging").heal_image("app:bad");
                let again = self.retry(id, TargetAct::default()).await?;
                self.approve(again, "staging/step/1").await?;
                self.ended(again).await?;
                Ok(vec![id, again])
            }
            Story::RetryRunning => {
                let targets = [("prod", target("prod", &[])), ("staging", target("staging", &[]))];
                let id = self
                    .submit(file("shop", "app:bad", canary(), &targets), "bad")
                    .await?;
                self.until(id, |p| {
                    p.targets["staging"].is_over() || p.targets["staging"].retried > 0
                })
                .await?;
                self.world.cluster("staging").heal_image("app:bad");
                self.retry(id, of("staging")).await?;
                self.approve(id, "staging/step/1").await?;
                self.approve(id, "prod/step/1").await?;
                self.ended(id).await?;
                Ok(vec![id])
            }
        }
    }
}

/// What one run of a story came to.
#[derive(Debug, Eq, PartialEq)]
struct Ending {
    states: Vec<(State, Option<RolledBack>)>,
    writes: Vec<(ObjectRef, String)>,
    decisions: Vec<String>,
}

async fn run(story: Story, crash: Option<(u64, Side)>) -> (Ending, bool) {
    let accounts: &[&str] = if story == Story::RetryRunning {
        &["prod", "staging"]
    } else {
        &["staging"]
    };
    let world = World::new(accounts);
    let plane = world.plane();
    let tasks = drive(&plane);
    let first = first_version(&world, &plane, version(accounts, "app:1")).await;
    deployed(&world, &plane, version(accounts, "app:2")).await;
    tasks.drain(Duration::from_secs(60)).await.unwrap();
    world.cluster("staging").break_image("app:bad", PodFault::Crash);
    let before: Vec<usize> = world
        .clusters
        .values()
        .map(|cluster| cluster.writes().len())
        .collect();

    let failing = FailingStore::new(world.store.clone());
    let failing = match crash {
        Some((write, side)) => failing.with_crash(write, side),
        None => failing,
    };
    let plane = world.plane_over(Arc::new(failing.clone())).with_holder("first");
    let tasks = drive(&plane);
    let player = Player {
        world: &world,
        plane: &plane,
        gone: failing.crashed().clone(),
    };
    let _ = player.play(story, first).await;
    let crashed = failing.crashed().is_cancelled();
    tasks.drain(Duration::from_secs(60)).await.unwrap();

    let plane = world.plane().with_holder("second");
    let _tasks = drive(&plane);
    let player = Player {
        world: &world,
        plane: &plane,
        gone: CancellationToken::new(),
    };
    let runs = player.play(story, first).await.unwrap();
    let left: Vec<String> = world
        .store
        .records(&world.scope())
        .into_iter()
        .map(|record| record.key.kind)
        .filter(|kind| kind.starts_with("application."))
        .collect();
    assert!(left.is_empty(), "the application is free again: {left:?}");
    assert!(world.store.timers(&world.scope()).is_empty(), "no timer is left");
    let streams: std::collections::BTreeSet<String> = world
        .store
        .events(&world.scope())
        .into_iter()
        .map(|event| event.stream)
        // What was seen of a run has a stream beside the run's own.
        .filter(|stream| !stream.starts_with("history/"))
        .collect();
    assert_eq!(streams.len(), runs.len() + 2, "nothing was begun twice");

    let mut ending = Ending {
        states: Vec::new(),
        writes: Vec::new(),
        decisions: Vec::new(),
    };
    for (cluster, skip) in world.clusters.values().zip(before) {
        let writes = cluster.writes().into_iter().skip(skip).map(|write| match write {
            Write::Acted {
                object, action, step, ..
            } => (object, format!("{action:?} at {step}")),
            Write::Applied { object, .. } => (object, "applied".to_owned()),
            Write::Deleted { object } => (object, "deleted".to_owned()),
        });
        ending.writes.extend(writes);
    }
    ending.writes.sort();
    for id in runs {
        let pipeline = world.pipeline(id).await;
        ending
            .states
            .push((pipeline.state(), pipeline.ended.unwrap().rolled_back));
        ending.decisions.extend(
            world
                .events(id)
                .await
                .into_iter()
                .filter_map(|event| match event.what {
                    What::Dequeued => Some("dequeued".to_owned()),
                    What::GateOpened { gate } => {
                        Some(format!("opened {gate} by {}", event.by.unwrap().actor.id))
                    }
                    What::RollbackStarted { target, to } => {
                        Some(format!("{target} back, named {}", to.is_some()))
                    }
                    What::TargetEnded { target, end } => Some(format!("{target} {end:?}")),
                    What::TargetFailed { target, cause, .. } => Some(format!("{target} {}", cause.code)),
                    What::TargetRetried { target } => Some(format!("{target} retried")),
                    What::TargetStarted { target, last_good } => {
                        Some(format!("{target} over {}", last_good.is_some()))
                    }
                    _ => None,
                }),
        );
    }
    // Targets beside each other decide in any order.
    ending.decisions.sort();
    (ending, crashed)
}

async fn crash_everywhere(story: Story, states: &[State], fewest: u64) {
    let (undisturbed, _) = run(story, None).await;
    let found: Vec<State> = undisturbed.states.iter().map(|(state, _)| *state).collect();
    assert_eq!(found, states, "{undisturbed:#?}");
    for side in [Side::Before, Side::After] {
        let mut write = 1;
        loop {
            let (ending, crashed) = run(story, Some((write, side))).await;
            assert_eq!(ending, undisturbed, "after a crash {side:?} write {write}");
            if !crashed {
                break;
            }
            write += 1;
        }
        assert!(write > fewest, "there were only {write} places to crash");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_over_goes_back_the_same_wherever_it_crashes() {
    crash_everywhere(Story::BackOver, &[State::Succeeded, State::Succeeded], 15).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_goes_on_goes_back_to_an_earlier_one_the_same_wherever_it_crashes() {
    crash_everywhere(Story::BackRunning, &[State::Cancelled], 10).await;
}

#[tokio::test(start_paused = true)]
async fn a_queued_run_gets_its_turn_wherever_it_crashes() {
    crash_everywhere(Story::Queue, &[State::Succeeded, State::Succeeded], 15).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_failed_is_retried_once_wherever_it_crashes() {
    crash_everywhere(Story::RetryOver, &[State::Failed, State::Succeeded], 15).await;
}

#[tokio::test(start_paused = true)]
async fn a_target_is_retried_in_place_once_wherever_it_crashes() {
    crash_everywhere(Story::RetryRunning, &[State::Succeeded], 15).await;
}
