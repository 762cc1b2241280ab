//! One place in the queue of an application.

use aurora_core::control::SubmitError;
use aurora_core::deploy_file::{DeployFile, InProgress};
use aurora_core::pipeline::{ArmoryStatus, End, State};

use super::{approve, audit, end, holds, settled, version};
use crate::world::{deployer, door, reader, see, stands, submission, submit};

fn queued(image: &str) -> DeployFile {
    DeployFile {
        in_progress: InProgress::EnqueueOne,
        ..version(&["staging"], image)
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_waits_for_its_turn_and_begins_when_the_one_before_it_is_over() {
    let (world, plane, _tasks, _) = settled(&["staging"]).await;
    let running = submit(&plane, version(&["staging"], "app:2")).await;
    world.until(running, |p| stands(p, "staging/step/1")).await;
    let ada = deployer("ada", &[]);
    let taken = plane
        .submit(&ada, &door(), submission(queued("app:3")))
        .await
        .unwrap();
    assert_eq!(taken.behind, Some(running));
    let seen = see(&plane, taken.pipeline).await;
    assert_eq!(
        (seen.state, seen.status),
        (State::Queued, ArmoryStatus::NotStarted)
    );
    assert_eq!(
        (seen.blocked_by, seen.reason.as_deref()),
        (Some(running), Some("queued"))
    );
    assert_eq!(seen.waiting.len(), 1);
    assert_eq!((seen.waiting[0].kind.as_str(), seen.actions.len()), ("queue", 1));
    assert!(seen.waiting[0].reason.text.contains(&running.to_string()));
    let rows = plane.list(&reader(), &Default::default()).await.unwrap().rows;
    let row = rows.iter().find(|row| row.id == taken.pipeline).unwrap();
    assert_eq!((row.state, row.blocked_by), (State::Queued, Some(running)));
    // Whoever does not want to wait is refused, also while nobody but the queue is in the way.
    let busy = plane
        .submit(&ada, &door(), submission(version(&["staging"], "app:4")))
        .await
        .unwrap_err();
    assert!(
        matches!(busy, SubmitError::Busy { pipeline, .. } if pipeline == running),
        "{busy:?}"
    );

    approve(&plane, running, "staging/step/1").await;
    let ended = world.ended(running).await;
    let next = world.until(taken.pipeline, |p| stands(p, "staging/step/1")).await;
    assert!(next.targets["staging"].started_at.unwrap() >= ended.ended.unwrap().at);
    assert_eq!(
        next.targets["staging"].last_good.as_ref().unwrap().pipeline,
        running
    );
    assert_eq!(see(&plane, taken.pipeline).await.blocked_by, None);
    approve(&plane, taken.pipeline, "staging/step/1").await;
    assert_eq!(world.ended(taken.pipeline).await.state(), State::Succeeded);
    holds(&world, "staging", "app:3");
    nothing_is_left(&world);
}

#[tokio::test(start_paused = true)]
async fn a_newer_run_takes_the_place_of_the_one_that_waits() {
    let (world, plane, _tasks, _) = settled(&["staging"]).await;
    let running = submit(&plane, version(&["staging"], "app:2")).await;
    world.until(running, |p| stands(p, "staging/step/1")).await;
    let older = submit(&plane, queued("app:3")).await;
    let newer = submit(&plane, queued("app:4")).await;
    let replaced = world.ended(older).await;
    assert_eq!(
        (replaced.state(), replaced.reason_code()),
        (State::Cancelled, Some("superseded"))
    );
    assert_eq!(replaced.replaced_by, Some(newer));
    assert_eq!(end(&replaced, "staging"), End::NeverStarted);
    let seen = see(&plane, older).await;
    assert_eq!(
        (seen.replaced_by, seen.status),
        (Some(newer), ArmoryStatus::Cancelled)
    );
    assert_eq!(seen.stopping.unwrap().why, "superseded");
    assert_eq!(audit(&world, "superseded").len(), 1);
    approve(&plane, running, "staging/step/1").await;
    world.until(newer, |p| stands(p, "staging/step/1")).await;
    approve(&plane, newer, "staging/step/1").await;
    world.ended(newer).await;
    holds(&world, "staging", "app:4");
    nothing_is_left(&world);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_is_cancelled_and_the_one_before_it_keeps_the_application() {
    let (world, plane, _tasks, _) = settled(&["staging"]).await;
    let running = submit(&plane, version(&["staging"], "app:2")).await;
    world.until(running, |p| stands(p, "staging/step/1")).await;
    let waiting = submit(&plane, queued("app:3")).await;
    let ada = deployer("ada", &[]);
    plane.cancel(&ada, &door(), waiting, None).await.unwrap();
    let cancelled = world.ended(waiting).await;
    assert_eq!(
        (cancelled.state(), cancelled.reason_code()),
        (State::Cancelled, Some("cancelled"))
    );
    let busy = plane
        .submit(&ada, &door(), submission(version(&["staging"], "app:4")))
        .await
        .unwrap_err();
    assert!(
        matches!(busy, SubmitError::Busy { pipeline, .. } if pipeline == running),
        "{busy:?}"
    );
    let again = submit(&plane, queued("app:5")).await;
    plane.cancel(&ada, &door(), running, None).await.unwrap();
    world.ended(running).await;
    world.until(again, |p| stands(p, "staging/step/1")).await;
    plane.cancel(&ada, &door(), again, None).await.unwrap();
    world.ended(again).await;
    holds(&world, "staging", "app:1");
    nothing_is_left(&world);
}

#[tokio::test(start_paused = true)]
async fn without_a_run_before_it_nothing_waits() {
    let (world, plane, _tasks, _) = settled(&["staging"]).await;
    let taken = plane
        .submit(&deployer("ada", &[]), &door(), submission(queued("app:2")))
        .await
        .unwrap();
    assert_eq!(taken.behind, None);
    world.until(taken.pipeline, |p| stands(p, "staging/step/1")).await;
}

/// Somebody who does not wait may not slip in between the end of one run and the turn of the next.
#[tokio::test(start_paused = true)]
async fn nobody_slips_in_between_the_end_and_the_turn() {
    let (world, plane, tasks, _) = settled(&["staging"]).await;
    let running = submit(&plane, version(&["staging"], "app:2")).await;
    world.until(running, |p| stands(p, "staging/step/1")).await;
    let waiting = submit(&plane, queued("app:3")).await;
    tasks.drain(std::time::Duration::from_secs(60)).await.unwrap();
    // Nobody drives: the lock is free and the turn is not taken.
    let mut batch = aurora_core::port::store::Batch::new(world.scope());
    let lock = aurora_core::port::store::RecordKey::new("application.lock", "shop");
    batch.deletes.push(lock);
    aurora_core::port::store::Store::commit(&world.store, batch)
        .await
        .unwrap();
    let ada = deployer("ada", &[]);
    let busy = plane
        .submit(&ada, &door(), submission(version(&["staging"], "app:4")))
        .await
        .unwrap_err();
    assert!(
        matches!(busy, SubmitError::Busy { pipeline, .. } if pipeline == waiting),
        "{busy:?}"
    );
    // One who waits takes the place of the one that waited, and begins at once.
    let newer = plane
        .submit(&ada, &door(), submission(queued("app:5")))
        .await
        .unwrap();
    assert_eq!(newer.behind, None);
    assert_eq!(world.pipeline(waiting).await.replaced_by, Some(newer.pipeline));
}

fn nothing_is_left(world: &crate::world::World) {
    let kinds: Vec<String> = world
        .store
        .records(&world.scope())
        .into_iter()
        .map(|record| record.key.kind)
        .filter(|kind| kind.starts_with("application."))
        .collect();
    assert!(kinds.is_empty(), "{kinds:?}");
    assert!(world.store.timers(&world.scope()).is_empty(), "no timer is left");
}
