//! Taking a target back, in a run that goes on or of one that is over, and deploying an old run again.

use std::collections::{BTreeMap, BTreeSet};

use aurora_core::command::Action;
use aurora_core::control::{Redeploy, TargetAct};
use aurora_core::pipeline::{End, OriginKind, Phase, RolledBack, State, What};
use aurora_core::port::executor::memory::{PodFault, Write};

use super::{approve, audit, deployed, end, holds, of, settled, to, version};
use crate::world::{canary, deployer, door, file, see, stands, submit, target};

#[tokio::test(start_paused = true)]
async fn a_running_target_goes_back_because_a_person_says_so() {
    let (world, plane, _tasks, first) = settled(&["eu", "us", "prod"]).await;
    let targets = [
        ("eu", target("eu", &[])),
        ("us", target("us", &[])),
        ("prod", target("prod", &["us"])),
    ];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    world
        .until(id, |p| stands(p, "eu/step/1") && stands(p, "us/step/1"))
        .await;
    let ada = deployer("ada", &[]);
    let waits = plane.roll_back(&ada, &door(), id, of("prod")).await.unwrap_err();
    assert!(waits.to_string().contains("has not started"), "{waits}");
    let which = plane
        .roll_back(&ada, &door(), id, TargetAct::default())
        .await
        .unwrap_err();
    assert!(which.to_string().contains("name the target"), "{which}");

    let act = TargetAct {
        comment: Some("too slow".to_owned()),
        ..of("us")
    };
    let keyed = door().with_idempotency("back-1");
    let recorded = plane.roll_back(&ada, &keyed, id, act.clone()).await.unwrap();
    assert_eq!(recorded.pipeline, id, "in place");
    assert_eq!(plane.roll_back(&ada, &keyed, id, act).await.unwrap(), recorded);
    let twice = plane.roll_back(&ada, &door(), id, of("us")).await.unwrap_err();
    assert!(twice.to_string().contains("going back already"), "{twice}");
    world.until(id, |p| p.targets["prod"].is_over()).await;
    holds(&world, "us", "app:1");
    assert!(!world.pipeline(id).await.is_final(), "`eu` goes on");
    approve(&plane, id, "eu/step/1").await;
    let pipeline = world.ended(id).await;
    assert_eq!(
        (pipeline.state(), pipeline.reason_code()),
        (State::Cancelled, Some("target.takenBack"))
    );
    assert_eq!(pipeline.ended.unwrap().rolled_back, Some(RolledBack::Yes));
    assert_eq!(end(&pipeline, "us"), End::RolledBack);
    assert_eq!(end(&pipeline, "prod"), End::NeverStarted);
    assert_eq!(pipeline.targets["us"].back_to.as_ref().unwrap().pipeline, first);
    holds(&world, "eu", "app:2");
    let lines = audit(&world, "rollbackStarted");
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].contains("too slow") && lines[0].contains("\"ada\""),
        "{lines:#?}"
    );
    let aborted = world.cluster("us").writes().into_iter().any(|write| {
        matches!(
            write,
            Write::Acted {
                action: Action::Abort,
                ..
            }
        )
    });
    assert!(!aborted, "there is no abort before going back");
}

#[tokio::test(start_paused = true)]
async fn a_running_target_goes_back_to_an_earlier_run() {
    let (world, plane, _tasks, first) = settled(&["staging"]).await;
    let second = deployed(&world, &plane, version(&["staging"], "app:2")).await;
    let third = submit(&plane, version(&["staging"], "app:3")).await;
    world.until(third, |p| stands(p, "staging/step/1")).await;
    let ada = deployer("ada", &[]);
    plane
        .roll_back(&ada, &door(), third, to("staging", first))
        .await
        .unwrap();
    let pipeline = world.ended(third).await;
    assert_eq!(pipeline.state(), State::Cancelled);
    holds(&world, "staging", "app:1");

    // What runs there now is what the next failure goes back to.
    world.cluster("staging").break_image("app:4", PodFault::Crash);
    let fourth = submit(&plane, version(&["staging"], "app:4")).await;
    let failed = world.ended(fourth).await;
    assert_eq!(
        failed.targets["staging"].last_good.as_ref().unwrap().pipeline,
        first
    );
    holds(&world, "staging", "app:1");
    let gone = plane
        .roll_back(&ada, &door(), second, of("staging"))
        .await
        .unwrap_err();
    assert!(
        gone.to_string().contains("not what runs there any more"),
        "{gone}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_target_that_succeeded_goes_back_while_its_run_goes_on() {
    let (world, plane, _tasks, first) = settled(&["eu", "prod"]).await;
    let targets = [("eu", target("eu", &[])), ("prod", target("prod", &["eu"]))];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    world.until(id, |p| stands(p, "eu/step/1")).await;
    approve(&plane, id, "eu/step/1").await;
    world.until(id, |p| stands(p, "prod/step/1")).await;
    holds(&world, "eu", "app:2");
    let ada = deployer("ada", &[]);
    plane.roll_back(&ada, &door(), id, of("eu")).await.unwrap();
    world.until(id, |p| p.targets["eu"].is_over()).await;
    holds(&world, "eu", "app:1");
    assert!(matches!(
        world.pipeline(id).await.targets["prod"].phase,
        Phase::Running(_)
    ));
    let already = plane.roll_back(&ada, &door(), id, of("eu")).await.unwrap_err();
    assert!(already.to_string().contains("is back already"), "{already}");
    approve(&plane, id, "prod/step/1").await;
    let pipeline = world.ended(id).await;
    assert_eq!(
        (end(&pipeline, "eu"), end(&pipeline, "prod")),
        (End::RolledBack, End::Succeeded)
    );
    // The record of what runs there has followed.
    let next = deployed(&world, &plane, version(&["eu"], "app:3")).await;
    let next = world.pipeline(next).await;
    assert_eq!(next.targets["eu"].last_good.as_ref().unwrap().pipeline, first);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_over_is_rolled_back_by_a_new_one_in_full_and_without_gates() {
    let (world, plane, _tasks, first) = settled(&["staging"]).await;
    let second = deployed(&world, &plane, version(&["staging"], "app:2")).await;
    let third = deployed(&world, &plane, version(&["staging"], "app:3")).await;
    let ada = deployer("ada", &[]);
    let seen = see(&plane, third).await;
    let offered: Vec<&str> = seen.actions.iter().map(|action| action.id.as_str()).collect();
    assert_eq!(offered, ["rollback", "redeploy"]);
    assert!(
        seen.actions[0].label.contains(&second.to_string()),
        "{}",
        seen.actions[0].label
    );

    let back = plane
        .roll_back(&ada, &door(), third, of("staging"))
        .await
        .unwrap()
        .pipeline;
    let pipeline = world.ended(back).await;
    assert_eq!(pipeline.state(), State::Succeeded);
    let origin = pipeline.origin.unwrap();
    assert_eq!((origin.kind, origin.of), (OriginKind::RollBack, second));
    holds(&world, "staging", "app:2");
    let asked: Vec<Action> = world
        .events(back)
        .await
        .into_iter()
        .filter_map(|event| match event.what {
            What::ActsAsked { acts, .. } => Some(acts),
            _ => None,
        })
        .flatten()
        .map(|act| act.action)
        .collect();
    assert!(
        asked.iter().all(|action| *action == Action::PromoteFull),
        "{asked:?}"
    );
    let gates = &pipeline.targets["staging"].gates;
    assert!(
        gates.iter().all(|gate| gate.decided_by().is_none()),
        "nobody was asked: {gates:#?}"
    );

    let same = plane
        .roll_back(&ada, &door(), back, to("staging", second))
        .await
        .unwrap_err();
    assert!(same.to_string().contains("already"), "{same}");
    let further = plane
        .roll_back(&ada, &door(), back, to("staging", first))
        .await
        .unwrap()
        .pipeline;
    assert_eq!(world.ended(further).await.state(), State::Succeeded);
    holds(&world, "staging", "app:1");
    // What it went back to is what the next failure goes back to.
    world.cluster("staging").break_image("app:4", PodFault::Crash);
    let fourth = submit(&plane, version(&["staging"], "app:4")).await;
    let failed = world.ended(fourth).await;
    assert_eq!(
        failed.targets["staging"].last_good.as_ref().unwrap().pipeline,
        further
    );
    holds(&world, "staging", "app:1");
    let lines = audit(&world, "submitted");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("it was better") && line.contains("back to the plan of pipeline"))
    );
}

#[tokio::test(start_paused = true)]
async fn going_back_to_a_plan_that_fails_ends_where_it_began() {
    let (world, plane, _tasks, first) = settled(&["staging"]).await;
    let second = deployed(&world, &plane, version(&["staging"], "app:2")).await;
    world.cluster("staging").break_image("app:1", PodFault::Crash);
    let ada = deployer("ada", &[]);
    let back = plane
        .roll_back(&ada, &door(), second, to("staging", first))
        .await
        .unwrap()
        .pipeline;
    let pipeline = world.ended(back).await;
    assert_eq!(pipeline.state(), State::Failed);
    assert_eq!(end(&pipeline, "staging"), End::RolledBack);
    holds(&world, "staging", "app:2");
    // What runs there has not changed, so the same can be asked again.
    world.cluster("staging").heal_image("app:1");
    let again = plane
        .retry(&ada, &door(), back, of("staging"))
        .await
        .unwrap()
        .pipeline;
    assert_eq!(world.ended(again).await.state(), State::Succeeded);
    holds(&world, "staging", "app:1");
}

#[tokio::test(start_paused = true)]
async fn a_first_deployment_has_nothing_to_go_back_to() {
    let (_world, plane, _tasks, first) = settled(&["staging"]).await;
    let refused = plane
        .roll_back(&deployer("ada", &[]), &door(), first, of("staging"))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("no earlier plan"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn an_old_run_is_deployed_again_in_part_and_with_other_variables() {
    let (world, plane, _tasks, first) = settled(&["eu", "prod"]).await;
    let targets = [("eu", target("eu", &[])), ("prod", target("prod", &["eu"]))];
    let mut second = file("shop", "app:2", canary(), &targets);
    second.context = BTreeMap::from([("stage".to_owned(), "all".to_owned())]);
    let second = deployed(&world, &plane, second).await;
    let ada = deployer("ada", &[]);
    let unknown = Redeploy {
        targets: Some(BTreeSet::from(["moon".to_owned()])),
        ..Redeploy::default()
    };
    let refused = plane.redeploy(&ada, &door(), second, unknown).await.unwrap_err();
    let aurora_core::control::ControlError::NotTaken(aurora_core::control::SubmitError::Invalid { problems }) =
        refused
    else {
        panic!("{refused:?}");
    };
    assert!(problems[0].to_string().contains("`moon`") && problems[0].to_string().contains("`prod`"));

    // Back to version 1 on both, then version 2 on `prod` alone: `eu`, on which it depends, counts as done.
    let one = plane
        .redeploy(&ada, &door(), first, Redeploy::default())
        .await
        .unwrap()
        .pipeline;
    for name in ["eu", "prod"] {
        let gate = format!("{name}/step/1");
        world.until(one, |p| stands(p, &gate)).await;
        approve(&plane, one, &gate).await;
    }
    world.ended(one).await;
    holds(&world, "prod", "app:1");
    let wanted = Redeploy {
        targets: Some(BTreeSet::from(["prod".to_owned()])),
        context: BTreeMap::from([("why".to_owned(), "hotfix".to_owned())]),
        comment: Some("only there".to_owned()),
    };
    let keyed = door().with_idempotency("again-1");
    let two = plane
        .redeploy(&ada, &keyed, second, wanted.clone())
        .await
        .unwrap();
    assert_eq!(
        plane
            .redeploy(&ada, &keyed, second, wanted)
            .await
            .unwrap()
            .pipeline,
        two.pipeline
    );
    let pipeline = world.until(two.pipeline, |p| stands(p, "prod/step/1")).await;
    assert_eq!(pipeline.targets.len(), 1);
    assert_eq!(pipeline.origin.unwrap().kind, OriginKind::Redeploy);
    assert_eq!(
        pipeline.context,
        BTreeMap::from([
            ("stage".to_owned(), "all".to_owned()),
            ("why".to_owned(), "hotfix".to_owned())
        ])
    );
    approve(&plane, two.pipeline, "prod/step/1").await;
    assert_eq!(world.ended(two.pipeline).await.state(), State::Succeeded);
    holds(&world, "prod", "app:2");
    holds(&world, "eu", "app:1");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_names_targets_deploys_only_those() {
    let (world, plane, _tasks, _) = settled(&["eu", "prod"]).await;
    let targets = [("eu", target("eu", &[])), ("prod", target("prod", &["eu"]))];
    let mut part = file("shop", "app:2", canary(), &targets);
    part.only = Some(BTreeSet::from(["prod".to_owned()]));
    let ada = deployer("ada", &[]);
    let mut unknown = crate::world::submission(part.clone());
    unknown.only = Some(BTreeSet::from(["moon".to_owned()]));
    let refused = plane.submit(&ada, &door(), unknown).await.unwrap_err();
    assert_eq!(refused.kind(), aurora_core::error::ErrorKind::Invalid);
    let mut none = crate::world::submission(part.clone());
    none.only = Some(BTreeSet::new());
    let refused = plane.submit(&ada, &door(), none).await.unwrap_err();
    assert_eq!(refused.kind(), aurora_core::error::ErrorKind::Invalid);

    let id = submit(&plane, part).await;
    let pipeline = world.until(id, |p| stands(p, "prod/step/1")).await;
    assert_eq!(
        pipeline.targets.len(),
        1,
        "`eu`, on which it depends, counts as done"
    );
    approve(&plane, id, "prod/step/1").await;
    assert_eq!(world.ended(id).await.state(), State::Succeeded);
    holds(&world, "eu", "app:1");
    holds(&world, "prod", "app:2");
    // Deployed again, it is the same part.
    let again = plane
        .redeploy(&ada, &door(), id, Redeploy::default())
        .await
        .unwrap();
    let again = world.pipeline(again.pipeline).await;
    assert_eq!(again.targets.keys().collect::<Vec<_>>(), ["prod"]);
}

#[tokio::test(start_paused = true)]
async fn going_back_is_cancelled_like_any_run_and_fails_as_soon() {
    let (world, plane, _tasks, first) = settled(&["staging"]).await;
    let second = deployed(&world, &plane, version(&["staging"], "app:2")).await;
    let ada = deployer("ada", &[]);
    world
        .cluster("staging")
        .break_image("app:1", PodFault::NeverReady);
    let back = plane
        .roll_back(&ada, &door(), second, to("staging", first))
        .await
        .unwrap()
        .pipeline;
    world
        .until(back, |p| p.targets["staging"].levels.values().count() > 0)
        .await;
    assert_eq!(see(&plane, back).await.state, State::RollingBack);
    plane.cancel(&ada, &door(), back, None).await.unwrap();
    let pipeline = world.ended(back).await;
    assert_eq!(
        (pipeline.state(), end(&pipeline, "staging")),
        (State::Cancelled, End::RolledBack)
    );
    holds(&world, "staging", "app:2");

    world.cluster("staging").break_image("app:1", PodFault::Crash);
    let again = plane
        .roll_back(&ada, &door(), second, to("staging", first))
        .await
        .unwrap()
        .pipeline;
    let pipeline = world.ended(again).await;
    let failed = pipeline.targets["staging"].failed.as_ref().unwrap();
    assert_eq!(failed.code, "failingPod", "not only when its time is over");
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_start_never_does_once_its_dependency_is_taken_back() {
    let (world, plane, _tasks, _) = settled(&["eu", "prod"]).await;
    let mut last = target("prod", &["eu"]);
    last.before = vec![crate::world::approval(&[], None)];
    let targets = [("eu", target("eu", &[])), ("prod", last)];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    world.until(id, |p| stands(p, "eu/step/1")).await;
    approve(&plane, id, "eu/step/1").await;
    world.until(id, |p| stands(p, "prod/before/0")).await;
    let ada = deployer("ada", &[]);
    plane.roll_back(&ada, &door(), id, of("eu")).await.unwrap();
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.state(), State::Cancelled);
    assert_eq!(
        (end(&pipeline, "eu"), end(&pipeline, "prod")),
        (End::RolledBack, End::NeverStarted)
    );
    holds(&world, "prod", "app:1");
}
