//! Every write of a pipeline is a place to crash: before it, and after it without hearing of it.

use std::sync::Arc;
use std::time::Duration;

use aurora_core::command::Action;
use aurora_core::control::ControlPlane;
use aurora_core::deploy_file::TargetSpec;
use aurora_core::id::PipelineId;
use aurora_core::manifest::ObjectRef;
use aurora_core::pipeline::{Place, RolledBack, State, What};
use aurora_core::port::executor::memory::{PodFault, Write};
use aurora_core::port::store::Store as _;
use aurora_core::port::store::failing::{FailingStore, Side};
use aurora_core::strategy::{Canary, Portion, Rolling, Strategy};
use aurora_core::tasks::Tasks;

use crate::world::{
    World, blue_green, canary, deployer, door, drive, file_of, first_version, submission, target, yes,
};

/// How a pipeline is meant to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Story {
    Cancelled,
    /// At the gates before the end of the old version: traffic was redirected.
    CancelledLate,
    Fails,
    Succeeds,
}

/// How it moves there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    BlueGreen,
    Canary,
    Rolling,
}

impl Way {
    fn strategy(self) -> Strategy {
        match self {
            Self::BlueGreen => blue_green(),
            Self::Canary => Strategy::Canary(Canary { steps: canary() }),
            Self::Rolling => Strategy::Rolling(Rolling {
                max_surge: Some(Portion::Percent(25)),
                max_unavailable: Some(Portion::Count(0)),
            }),
        }
    }
}

/// What one run came to.
#[derive(Debug, Eq, PartialEq)]
struct Ending {
    state: State,
    rolled_back: Option<RolledBack>,
    /// Per object what took effect, without stamps.
    writes: Vec<(ObjectRef, String)>,
    /// What people and rules decided, in order.
    decisions: Vec<String>,
}

/// Somebody who approves whatever waits for them (or cancels), until the pipeline is over.
async fn person(
    plane: &ControlPlane,
    world: &World,
    id: PipelineId,
    story: Story,
    failing: &FailingStore<impl aurora_core::port::store::Store>,
) {
    let mut written = world.store.written();
    while !failing.crashed().is_cancelled() {
        written.borrow_and_update();
        let pipeline = world.pipeline(id).await;
        if pipeline.is_final() {
            return;
        }
        let standing = pipeline.targets.values().find_map(|t| {
            t.standing_gates()
                .find(|(_, g)| g.wants_approval())
                .map(|(place, _)| (t.name.clone(), place))
        });
        if let Some((target, place)) = standing {
            let gate = aurora_core::pipeline::GateRef::new(target, place).to_string();
            let grace = deployer("grace", &["release-manager"]);
            // A crash may hide that it was stored; the next look tells.
            let cancels = match story {
                Story::Cancelled => true,
                Story::CancelledLate => matches!(place, Place::ShutDown(_)),
                Story::Fails | Story::Succeeds => false,
            };
            let _ = if cancels {
                plane.cancel(&grace, &door(), id, None).await
            } else {
                plane.approve(&grace, &door(), id, yes(&gate)).await
            };
        }
        let _ = tokio::time::timeout(Duration::from_secs(5), written.changed()).await;
    }
}

/// Runs version 2 with a crash at one write; `None` when there are fewer writes.
async fn run(way: Way, story: Story, crash: Option<(u64, Side)>) -> (Ending, bool) {
    let file = |image, targets: &[(&str, TargetSpec)]| file_of("shop", image, way.strategy(), targets);
    let world = World::new(&["staging", "prod"]);
    let plane = world.plane();
    let tasks = drive(&plane);
    let targets = [
        ("staging", target("staging", &[])),
        ("prod", target("prod", &["staging"])),
    ];
    first_version(&world, &plane, file("app:1", &targets)).await;
    tasks.drain(Duration::from_secs(60)).await.unwrap();
    if story == Story::Fails {
        world.cluster("prod").break_image("app:2", PodFault::Crash);
    }
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
    let mut wanted = submission(file("app:2", &targets));
    wanted.idempotency = Some("once".to_owned());
    let submitted = plane.submit(&deployer("ada", &[]), &door(), wanted.clone()).await;
    let mut tasks: Option<Tasks> = None;
    if let Ok(submitted) = &submitted {
        tasks = Some(drive(&plane));
        tokio::select! {
            () = person(&plane, &world, submitted.pipeline, story, &failing) => {}
            () = failing.crashed().cancelled() => {}
        }
    }
    let crashed = failing.crashed().is_cancelled();
    if let Some(tasks) = tasks {
        tasks.drain(Duration::from_secs(60)).await.unwrap();
    }
    if crash.is_some_and(|(write, _)| write % 2 == 0) {
        // Its agents died as well: fresh ones over the same clusters, without a table of results.
        for (name, cluster) in &world.clusters {
            world.router.connect(world.key(name), cluster.clone());
        }
    }

    // Another process takes over: the lease has to end first.
    let plane = world.plane().with_holder("second");
    let calm = FailingStore::new(world.store.clone());
    let id = plane
        .submit(&deployer("ada", &[]), &door(), wanted)
        .await
        .unwrap()
        .pipeline;
    let _tasks = drive(&plane);
    person(&plane, &world, id, story, &calm).await;
    let pipeline = world.ended(id).await;
    let locks = world
        .store
        .records(&world.scope())
        .into_iter()
        .filter(|record| record.key.kind == "application.lock");
    assert_eq!(locks.count(), 0, "the application is free again");
    assert!(world.store.timers(&world.scope()).is_empty(), "no timer is left");
    let mut writes: Vec<(ObjectRef, String)> = Vec::new();
    for (cluster, skip) in world.clusters.values().zip(before) {
        writes.extend(cluster.writes().into_iter().skip(skip).map(|write| match write {
            Write::Acted {
                object, action, step, ..
            } => (object, format!("{action:?} at {step}")),
            Write::Applied { object, .. } => (object, "applied".to_owned()),
            Write::Deleted { object } => (object, "deleted".to_owned()),
        }));
    }
    writes.sort();
    let decisions = world
        .events(id)
        .await
        .into_iter()
        .filter_map(|event| match event.what {
            What::GateOpened { gate } => Some(format!("opened {gate} by {}", event.by.unwrap().actor.id)),
            What::CancelAsked => Some("cancelled".to_owned()),
            What::TargetEnded { target, end } => Some(format!("{target} {end:?}")),
            What::TargetFailed { target, cause, .. } => Some(format!("{target} {}", cause.code)),
            _ => None,
        })
        .collect();
    let ending = Ending {
        state: pipeline.state(),
        rolled_back: pipeline.ended.unwrap().rolled_back,
        writes,
        decisions,
    };
    (ending, crashed)
}

async fn crash_everywhere(way: Way, story: Story, state: State, fewest: u64) {
    let (undisturbed, _) = run(way, story, None).await;
    assert_eq!(undisturbed.state, state);
    let acted = |action: Action| {
        let what = format!("{action:?} at");
        let acts = undisturbed.writes.iter();
        acts.filter(|(_, write)| write.starts_with(&what)).count()
    };
    let promotes = way != Way::Rolling && story != Story::Cancelled;
    assert_eq!(acted(Action::Promote) > 0, promotes, "{undisturbed:#?}");
    // Two Rollouts in each of two clusters, of which the first succeeds where the second fails.
    let ends_old = match (way, story) {
        (Way::BlueGreen, Story::Succeeds) => 4,
        (Way::BlueGreen, Story::Fails) => 2,
        _ => 0,
    };
    assert_eq!(acted(Action::ShutDownOld), ends_old, "{undisturbed:#?}");
    for side in [Side::Before, Side::After] {
        let mut write = 1;
        loop {
            let (ending, crashed) = run(way, story, Some((write, side))).await;
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
async fn a_pipeline_that_succeeds_ends_the_same_wherever_it_crashes() {
    crash_everywhere(Way::Canary, Story::Succeeds, State::Succeeded, 25).await;
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_fails_ends_the_same_wherever_it_crashes() {
    crash_everywhere(Way::Canary, Story::Fails, State::Failed, 25).await;
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_is_cancelled_ends_the_same_wherever_it_crashes() {
    crash_everywhere(Way::Canary, Story::Cancelled, State::Cancelled, 10).await;
}

#[tokio::test(start_paused = true)]
async fn a_blue_green_pipeline_that_succeeds_ends_the_same_wherever_it_crashes() {
    crash_everywhere(Way::BlueGreen, Story::Succeeds, State::Succeeded, 25).await;
}

#[tokio::test(start_paused = true)]
async fn a_blue_green_pipeline_that_fails_ends_the_same_wherever_it_crashes() {
    crash_everywhere(Way::BlueGreen, Story::Fails, State::Failed, 25).await;
}

#[tokio::test(start_paused = true)]
async fn a_blue_green_pipeline_that_is_cancelled_before_its_redirect_ends_the_same_wherever_it_crashes() {
    crash_everywhere(Way::BlueGreen, Story::Cancelled, State::Cancelled, 10).await;
}

#[tokio::test(start_paused = true)]
async fn a_blue_green_pipeline_that_is_cancelled_after_its_redirect_ends_the_same_wherever_it_crashes() {
    crash_everywhere(Way::BlueGreen, Story::CancelledLate, State::Cancelled, 15).await;
}

#[tokio::test(start_paused = true)]
async fn a_rolling_pipeline_ends_the_same_wherever_it_crashes() {
    crash_everywhere(Way::Rolling, Story::Succeeds, State::Succeeded, 10).await;
}
