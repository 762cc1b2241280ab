//! A timed gate opened before its time.

use aurora_core::command::Action;
use aurora_core::pipeline::{GateState, State};
use aurora_core::port::executor::memory::Write;
use aurora_core::strategy::Step;
use jiff::SignedDuration;

use super::{audit, settled, version};
use crate::world::{approval, deployer, door, file, see, stands, submit, target, timed, yes};

#[tokio::test(start_paused = true)]
async fn a_pause_is_skipped_and_the_rollouts_move_on_at_once() {
    let (world, plane, _tasks, _) = settled(&["staging"]).await;
    let mut long = version(&["staging"], "app:2");
    long.strategies = file(
        "shop",
        "app:2",
        vec![Step::SetWeight(25), Step::Pause(timed(7200))],
        &[],
    )
    .strategies;
    let id = submit(&plane, long).await;
    let before = world.until(id, |p| stands(p, "staging/step/1")).await;
    let seen = see(&plane, id).await;
    let skip = seen.waiting[0]
        .actions
        .iter()
        .find(|action| action.id == "skip")
        .unwrap();
    assert!(!skip.allowed, "a reader may not");
    assert_eq!(skip.cli, format!("aurora deploy skip {id} --gate staging/step/1"));

    let mut decision = yes("staging/step/1");
    decision.expect.clone_from(&skip.expect);
    let door = door().with_idempotency("skip-1");
    let ada = deployer("ada", &[]);
    let recorded = plane.skip(&ada, &door, id, decision.clone()).await.unwrap();
    let again = plane.skip(&ada, &door, id, decision.clone()).await.unwrap();
    assert_eq!(recorded, again, "the same key, the same answer");
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.state(), State::Succeeded);
    let took = pipeline.changed_at.duration_since(before.changed_at);
    assert!(took < SignedDuration::from_mins(5), "{took:?}");
    let gate = pipeline.gate(&"staging/step/1".parse().unwrap()).unwrap();
    let GateState::Open { by, .. } = &gate.state else {
        panic!("{gate:?}");
    };
    assert_eq!(
        (by.actor.id.as_str(), by.comment.as_deref()),
        ("ada", Some("looks good"))
    );
    let lines = audit(&world, "gateSkipped");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("\"ada\"") && lines[0].contains("before its time"));
    let promoted = world.cluster("staging").writes().into_iter().filter(|write| {
        matches!(
            write,
            Write::Acted {
                action: Action::Promote,
                step: 1,
                ..
            }
        )
    });
    assert_eq!(promoted.count(), 2, "one per Rollout");
}

#[tokio::test(start_paused = true)]
async fn gates_before_and_after_a_target_are_skipped_too() {
    let (world, plane, _tasks, _) = settled(&["staging"]).await;
    let mut spec = target("staging", &[]);
    spec.before = vec![timed(7200)];
    spec.after = vec![timed(7200)];
    let steps = vec![Step::SetWeight(25)];
    let id = submit(&plane, file("shop", "app:2", steps, &[("staging", spec)])).await;
    for gate in ["staging/before/0", "staging/after/0"] {
        world.until(id, |p| stands(p, gate)).await;
        plane
            .skip(&deployer("ada", &[]), &door(), id, yes(gate))
            .await
            .unwrap();
    }
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.state(), State::Succeeded);
    let took = pipeline.changed_at.duration_since(pipeline.submitted_at);
    assert!(took < SignedDuration::from_mins(10), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_person_is_not_skipped_by_anybody() {
    let (world, plane, _tasks, _) = settled(&["staging"]).await;
    let id = submit(&plane, version(&["staging"], "app:2")).await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    let root = crate::world::principal("root", &[], &["api:tenant:full"])
        .authorize()
        .unwrap();
    let refused = plane
        .skip(&root, &door(), id, yes("staging/step/1"))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("approve or reject it"), "{refused}");
    // Their way is to approve.
    plane
        .approve(&root, &door(), id, yes("staging/step/1"))
        .await
        .unwrap();
    world.ended(id).await;
}

#[tokio::test(start_paused = true)]
async fn an_approval_after_its_time_is_too_late_even_before_anybody_noticed() {
    let (world, plane, tasks, _) = settled(&["staging"]).await;
    let steps = vec![Step::SetWeight(25), Step::Pause(approval(&[], Some(60)))];
    let id = submit(
        &plane,
        file("shop", "app:2", steps, &[("staging", target("staging", &[]))]),
    )
    .await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    tasks.drain(std::time::Duration::from_secs(60)).await.unwrap();
    let ada = deployer("ada", &[]);
    world.clock.jump(SignedDuration::from_secs(61));
    let late = plane
        .approve(&ada, &door(), id, yes("staging/step/1"))
        .await
        .unwrap_err();
    assert!(late.to_string().contains("nobody decided in time"), "{late}");
    let late = plane
        .reject(&ada, &door(), id, yes("staging/step/1"))
        .await
        .unwrap_err();
    assert!(late.to_string().contains("nobody decided in time"), "{late}");
    let _tasks = crate::world::drive(&plane);
    let pipeline = world.ended(id).await;
    assert_eq!(
        (pipeline.state(), pipeline.reason_code()),
        (State::Cancelled, Some("approval.expired"))
    );
}

#[tokio::test(start_paused = true)]
async fn an_approval_in_time_wins_over_the_expiry() {
    let (world, plane, _tasks, _) = settled(&["staging"]).await;
    let steps = vec![Step::SetWeight(25), Step::Pause(approval(&[], Some(60)))];
    let id = submit(
        &plane,
        file("shop", "app:2", steps, &[("staging", target("staging", &[]))]),
    )
    .await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    tokio::time::sleep(std::time::Duration::from_secs(50)).await;
    plane
        .approve(&deployer("ada", &[]), &door(), id, yes("staging/step/1"))
        .await
        .unwrap();
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.state(), State::Succeeded);
    let lines = audit(&world, "gateOpened");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("\"ada\"") && line.contains("looks good")),
        "{lines:#?}"
    );
}
