//! Pipelines that go well.

use aurora_core::command::{Action, Verb};
use aurora_core::pipeline::{RolledBack, State, What};
use aurora_core::port::clock::Clock as _;
use aurora_core::port::executor::memory::{PodFault, Write};
use aurora_core::port::store::Store as _;
use aurora_core::strategy::Span;

use crate::world::{
    World, approval, canary, deployer, door, drive, file, first_version, rollout, see, stands, submit,
    target, timed, yes,
};

#[tokio::test(start_paused = true)]
async fn a_canary_moves_from_gate_to_gate_over_two_clusters() {
    let world = World::new(&["staging", "prod"]);
    let plane = world.plane();
    let tasks = drive(&plane);
    let targets = [
        ("staging", target("staging", &[])),
        ("prod", target("prod", &["staging"])),
    ];
    first_version(&world, &plane, file("shop", "app:1", canary(), &targets)).await;

    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    for name in ["staging", "prod"] {
        let gate = format!("{name}/step/1");
        world.until(id, |p| stands(p, &gate)).await;
        let seen = see(&plane, id).await;
        assert_eq!(seen.state, State::WaitingForApproval);
        let target = seen.targets.iter().find(|t| t.name == name).unwrap();
        assert!(!target.first_deployment);
        assert_eq!((target.step, target.total), (1, 4));
        assert!(
            target.rollouts.iter().all(|r| r.weight_real == Some(25)),
            "{:#?}",
            target.rollouts
        );
        let approver = deployer("grace", &["Release-Manager"]);
        plane.approve(&approver, &door(), id, yes(&gate)).await.unwrap();
    }
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.state(), State::Succeeded);
    for account in ["staging", "prod"] {
        let cluster = world.cluster(account);
        for name in crate::world::DEPLOYMENTS {
            let acts: Vec<_> = cluster
                .writes()
                .into_iter()
                .filter_map(|write| match write {
                    Write::Acted {
                        object, action, step, ..
                    } if object == rollout(name) => Some((action, step)),
                    _ => None,
                })
                .collect();
            assert_eq!(
                acts,
                [(Action::Promote, 1), (Action::Promote, 3)],
                "{account} {name}"
            );
        }
    }
    tasks.drain(std::time::Duration::from_secs(30)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_first_deployment_does_not_exercise_its_strategy() {
    let world = World::new(&["staging"]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    let targets = [("staging", target("staging", &[]))];
    let id = first_version(&world, &plane, file("shop", "app:1", canary(), &targets)).await;
    let seen = see(&plane, id).await;
    assert!(seen.targets[0].first_deployment);
    assert!(
        seen.targets[0]
            .steps
            .iter()
            .all(|step| step.state == "notExercised"),
        "{:#?}",
        seen.targets[0].steps
    );
    assert!(
        world
            .cluster("staging")
            .writes()
            .iter()
            .all(|write| !matches!(write, Write::Acted { .. }))
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_first_deployment_over_old_objects_is_promoted_in_full() {
    let world = World::new(&["staging"]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    let targets = [("staging", target("staging", &[]))];
    world
        .cluster("staging")
        .break_image("app:1", PodFault::NeverReady);
    let mut never = file("shop", "app:1", canary(), &targets);
    never.timeout = Span::from_secs(60);
    let id = submit(&plane, never).await;
    let failed = world.ended(id).await;
    assert_eq!(
        (failed.state(), failed.ended.unwrap().rolled_back),
        (State::Failed, Some(RolledBack::No))
    );

    world.cluster("staging").heal_image("app:1");
    let id = first_version(&world, &plane, file("shop", "app:2", canary(), &targets)).await;
    assert!(see(&plane, id).await.targets[0].first_deployment);
    let full = world.cluster("staging").writes().into_iter().filter(|write| {
        matches!(
            write,
            Write::Acted {
                action: Action::PromoteFull,
                ..
            }
        )
    });
    assert_eq!(full.count(), 2, "one per Rollout");
}

#[tokio::test(start_paused = true)]
async fn what_did_not_change_asks_nobody() {
    let world = World::new(&["staging"]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    let targets = [("staging", target("staging", &[]))];
    first_version(&world, &plane, file("shop", "app:1", canary(), &targets)).await;
    let id = first_version(&world, &plane, file("shop", "app:1", canary(), &targets)).await;
    let gates = world
        .events(id)
        .await
        .into_iter()
        .filter(|event| matches!(event.what, What::GateNotExercised { .. }));
    assert_eq!(gates.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn gates_before_and_after_a_target_wait_side_by_side() {
    let world = World::new(&["staging"]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    let mut guarded = target("staging", &[]);
    guarded.before = vec![approval(&[], None), timed(30)];
    guarded.after = vec![timed(10), approval(&["qa"], None)];
    let id = submit(&plane, file("shop", "app:1", canary(), &[("staging", guarded)])).await;
    let standing = world.pipeline(id).await;
    assert!(stands(&standing, "staging/before/0") && stands(&standing, "staging/before/1"));
    assert_eq!(standing.state(), State::WaitingForApproval);
    plane
        .approve(&deployer("grace", &[]), &door(), id, yes("staging/before/0"))
        .await
        .unwrap();
    assert_eq!(world.pipeline(id).await.state(), State::Waiting);
    world.until(id, |p| stands(p, "staging/after/1")).await;
    assert!(
        world.clock.now()
            >= standing
                .submitted_at
                .checked_add(std::time::Duration::from_secs(30))
                .unwrap()
    );
    assert!(!world.pipeline(id).await.is_final());
    plane
        .approve(&deployer("grace", &["QA"]), &door(), id, yes("staging/after/1"))
        .await
        .unwrap();
    let ended = world.ended(id).await;
    assert_eq!(ended.state(), State::Succeeded);
    let opened = world
        .events(id)
        .await
        .into_iter()
        .filter(|event| matches!(event.what, What::GateOpened { .. }));
    assert_eq!(opened.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_target_without_workloads_is_applied_and_done() {
    let world = World::new(&["staging"]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    let mut only_config = file("shop", "app:1", canary(), &[("staging", target("staging", &[]))]);
    only_config.manifests[0].from = aurora_core::deploy_file::ManifestFrom::Inline(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: b}\n".to_owned(),
    );
    first_version(&world, &plane, only_config.clone()).await;
    first_version(&world, &plane, only_config).await;
}

#[tokio::test(start_paused = true)]
async fn another_control_plane_goes_on_when_one_stops() {
    let world = World::new(&["staging"]);
    let one = world.plane();
    let tasks = drive(&one);
    let targets = [("staging", target("staging", &[]))];
    first_version(&world, &one, file("shop", "app:1", canary(), &targets)).await;
    let id = submit(&one, file("shop", "app:2", canary(), &targets)).await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    tasks.drain(std::time::Duration::from_secs(30)).await.unwrap();
    assert!(
        world.store.leases(&world.scope()).is_empty(),
        "leases are given up"
    );

    let other = world.plane().with_holder("other");
    let _tasks = drive(&other);
    other
        .approve(
            &deployer("grace", &["release-manager"]),
            &door(),
            id,
            yes("staging/step/1"),
        )
        .await
        .unwrap();
    assert_eq!(world.ended(id).await.state(), State::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn an_act_repeated_with_its_key_has_one_effect_and_the_same_answer() {
    let world = World::new(&["staging"]);
    let plane = world.plane();
    let tasks = drive(&plane);
    let id = submit(
        &plane,
        file("shop", "app:1", canary(), &[("staging", target("staging", &[]))]),
    )
    .await;
    let canceller = deployer("grace", &[]);
    let door = door().with_idempotency("k-1");
    let comment = Some("wrong version".to_owned());
    let first = plane
        .cancel(&canceller, &door, id, comment.clone())
        .await
        .unwrap();
    let again = plane.cancel(&canceller, &door, id, comment).await.unwrap();
    assert_eq!((first.pipeline, first.version), (again.pipeline, again.version));
    let other = plane.cancel(&canceller, &door, id, None).await.unwrap_err();
    assert!(
        matches!(other, aurora_core::control::ControlError::KeyReused),
        "{other}"
    );
    plane
        .cancel(&canceller, &crate::world::door(), id, None)
        .await
        .unwrap_err();
    tasks.drain(std::time::Duration::from_secs(30)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_lease_gives_commands_a_higher_fence() {
    let world = World::new(&["staging"]);
    let one = world.plane();
    let tasks = drive(&one);
    let targets = [("staging", target("staging", &[]))];
    first_version(&world, &one, file("shop", "app:1", canary(), &targets)).await;
    let id = submit(&one, file("shop", "app:2", canary(), &targets)).await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    tasks.drain(std::time::Duration::from_secs(30)).await.unwrap();
    let before = world.router.sent().len();
    let other = world.plane().with_holder("other");
    let _tasks = drive(&other);
    other
        .approve(
            &deployer("grace", &["release-manager"]),
            &door(),
            id,
            yes("staging/step/1"),
        )
        .await
        .unwrap();
    world.ended(id).await;
    let fence = |command: &aurora_core::command::Command| match &command.verb {
        Verb::Act(act) => Some(act.stamp.fence),
        Verb::Apply(apply) | Verb::Finish(apply) => Some(apply.stamp.fence),
        _ => None,
    };
    let sent: Vec<_> = world
        .router
        .sent()
        .into_iter()
        .map(|(_, command)| command)
        .collect();
    let highest = sent[..before].iter().filter_map(fence).max().unwrap();
    let later: Vec<_> = sent[before..].iter().filter_map(fence).collect();
    assert!(
        !later.is_empty() && later.iter().all(|fence| *fence > highest),
        "{highest} {later:?}"
    );
    assert!(
        sent.iter()
            .all(|command| command.pipeline.is_some() && command.initiator == "ada")
    );
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_lost_its_lease_writes_and_sends_nothing_more() {
    let world = World::new(&["staging"]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    let targets = [("staging", target("staging", &[]))];
    first_version(&world, &plane, file("shop", "app:1", canary(), &targets)).await;
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    world.until(id, |p| stands(p, "staging/step/1")).await;

    // The lease ends without the replica noticing (its process was frozen, say), and another takes it.
    world.clock.jump(jiff::SignedDuration::from_secs(60));
    let name = format!("pipeline/{id}");
    let hour = std::time::Duration::from_secs(3600);
    let thief = world
        .store
        .acquire_lease(&world.scope(), &name, "thief", hour)
        .await
        .unwrap();
    let (version, sent) = (world.pipeline(id).await.version, world.router.sent().len());
    for name in crate::world::DEPLOYMENTS {
        world
            .cluster("staging")
            .act_by_hand(&rollout(name), Action::Promote);
    }
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    assert_eq!(
        (world.pipeline(id).await.version, world.router.sent().len()),
        (version, sent)
    );
    world.store.release_lease(&thief).await.unwrap();
    assert_eq!(world.ended(id).await.state(), State::Succeeded);
}
