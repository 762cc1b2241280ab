//! Deploying once more what did not succeed.

use aurora_core::command::Action;
use aurora_core::control::{ControlError, Decision, SubmitError, TargetAct};
use aurora_core::manifest::ObjectRef;
use aurora_core::pipeline::{End, OriginKind, State, What};
use aurora_core::port::executor::memory::{PodFault, Write};

use super::{approve, audit, end, held, holds, of, settled, version};
use crate::world::{World, canary, deployer, door, file, see, stands, submit, target};

#[tokio::test(start_paused = true)]
async fn a_failed_target_begins_again_in_place_and_what_depends_on_it_waits_again() {
    let (world, plane, _tasks, _) = settled(&["eu", "us", "prod"]).await;
    world.cluster("us").break_image("app:2", PodFault::Crash);
    let targets = [
        ("eu", target("eu", &[])),
        ("us", target("us", &[])),
        ("prod", target("prod", &["us"])),
    ];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    // `eu` stands at its gate, so the run goes on while `us` has failed.
    world
        .until(id, |p| {
            stands(p, "eu/step/1") && p.targets["us"].is_over() && p.targets["prod"].is_over()
        })
        .await;
    holds(&world, "us", "app:1");
    let seen = see(&plane, id).await;
    let offered = |id: &str, target: &str| {
        let mine = |a: &&aurora_core::pipeline::ActionView| a.id == id && a.target.as_deref() == Some(target);
        seen.actions.iter().find(mine).cloned()
    };
    assert!(offered("retry", "eu").is_none(), "it has not failed");
    let of_us = offered("retry", "us").unwrap();
    assert_eq!(of_us.cli, format!("aurora deploy retry {id} --target us"));
    let of_prod = offered("retry", "prod").unwrap().denied.unwrap();
    assert_eq!(of_prod.code, "scope.missing", "a reader may do nothing");

    world.cluster("us").heal_image("app:2");
    let ada = deployer("ada", &[]);
    let prod = plane.retry(&ada, &door(), id, of("prod")).await.unwrap_err();
    assert!(prod.to_string().contains("depends on `us`"), "{prod}");
    let eu = plane.retry(&ada, &door(), id, of("eu")).await.unwrap_err();
    assert!(eu.to_string().contains("has not ended"), "{eu}");

    let act = TargetAct {
        comment: Some("the node was bad".to_owned()),
        ..of("us")
    };
    let keyed = door().with_idempotency("retry-1");
    let recorded = plane.retry(&ada, &keyed, id, act.clone()).await.unwrap();
    assert_eq!(recorded.pipeline, id, "in place");
    assert_eq!(plane.retry(&ada, &keyed, id, act).await.unwrap(), recorded);
    let twice = plane.retry(&ada, &door(), id, of("us")).await.unwrap_err();
    assert!(twice.to_string().contains("has not ended"), "{twice}");

    let anew = world.until(id, |p| stands(p, "us/step/1")).await;
    let late = Decision {
        gate: "us/step/1".parse().unwrap(),
        expect: Some(format!("us/step/1:{}", anew.targets["us"].plan)),
        comment: None,
    };
    let late = plane.approve(&ada, &door(), id, late).await.unwrap_err();
    assert!(late.to_string().contains("changed since you looked"), "{late}");
    approve(&plane, id, "us/step/1").await;
    world.until(id, |p| stands(p, "prod/step/1")).await;
    approve(&plane, id, "prod/step/1").await;
    approve(&plane, id, "eu/step/1").await;
    let pipeline = world.ended(id).await;
    assert_eq!(
        (pipeline.state(), pipeline.reason_code()),
        (State::Succeeded, None)
    );
    for account in ["eu", "us", "prod"] {
        holds(&world, account, "app:2");
    }
    assert_eq!(
        (pipeline.targets["us"].retried, pipeline.targets["eu"].retried),
        (1, 0)
    );
    assert!(
        !pipeline.targets["us"].evidence.is_empty(),
        "what was captured stays"
    );
    let lines = audit(&world, "targetRetried");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("the node was bad")));
}

#[tokio::test(start_paused = true)]
async fn of_a_run_that_is_over_a_new_run_of_the_same_plans_is_made() {
    let (world, plane, _tasks, _) = settled(&["eu", "us", "prod"]).await;
    world.cluster("us").break_image("app:2", PodFault::Crash);
    let targets = [
        ("eu", target("eu", &[])),
        ("us", target("us", &["eu"])),
        ("prod", target("prod", &["us"])),
    ];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    world.until(id, |p| stands(p, "eu/step/1")).await;
    approve(&plane, id, "eu/step/1").await;
    let failed = world.ended(id).await;
    assert_eq!(
        (end(&failed, "us"), end(&failed, "prod")),
        (End::RolledBack, End::NeverStarted)
    );

    let ada = deployer("ada", &[]);
    let succeeded = plane.retry(&ada, &door(), id, of("eu")).await.unwrap_err();
    assert!(succeeded.to_string().contains("has succeeded"), "{succeeded}");
    let prod = plane.retry(&ada, &door(), id, of("prod")).await.unwrap_err();
    assert!(prod.to_string().contains("retry that one"), "{prod}");

    world.cluster("us").heal_image("app:2");
    let keyed = door().with_idempotency("retry-1");
    let recorded = plane.retry(&ada, &keyed, id, TargetAct::default()).await.unwrap();
    assert_ne!(recorded.pipeline, id);
    let again = plane.retry(&ada, &keyed, id, TargetAct::default()).await.unwrap();
    assert_eq!(again, recorded);
    let busy = plane
        .retry(&ada, &door(), id, TargetAct::default())
        .await
        .unwrap_err();
    assert!(
        matches!(&busy, ControlError::NotTaken(SubmitError::Busy { pipeline, .. }) if *pipeline == recorded.pipeline),
        "{busy:?}"
    );
    let new = world.until(recorded.pipeline, |p| stands(p, "us/step/1")).await;
    let origin = new.origin.unwrap();
    assert_eq!((origin.kind, origin.of), (OriginKind::Retry, id));
    let names: Vec<&str> = new.targets.keys().map(String::as_str).collect();
    assert_eq!(names, ["prod", "us"], "`eu` had succeeded");
    for name in ["prod", "us"] {
        assert_eq!(
            new.targets[name].plan, failed.targets[name].plan,
            "not rendered anew"
        );
    }
    approve(&plane, recorded.pipeline, "us/step/1").await;
    world.until(recorded.pipeline, |p| stands(p, "prod/step/1")).await;
    approve(&plane, recorded.pipeline, "prod/step/1").await;
    assert_eq!(world.ended(recorded.pipeline).await.state(), State::Succeeded);
    holds(&world, "prod", "app:2");

    let late = plane
        .retry(&ada, &door(), id, TargetAct::default())
        .await
        .unwrap_err();
    assert!(late.to_string().contains("redeploy this one"), "{late}");
    let nothing = plane
        .retry(&ada, &door(), recorded.pipeline, TargetAct::default())
        .await
        .unwrap_err();
    assert!(
        nothing.to_string().contains("every target has succeeded"),
        "{nothing}"
    );
}

/// Where going back failed too, the Rollouts stand aborted: the same template has to be taken up once more.
#[tokio::test(start_paused = true)]
async fn a_target_that_stands_aborted_is_retried() {
    let (world, plane, _tasks, _) = settled(&["staging"]).await;
    let id = submit(&plane, version(&["staging"], "app:2")).await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    // Somebody made the ConfigMap anew, so nothing can be applied: going back ends in an abort.
    let config = ObjectRef::new("", "ConfigMap", "shop", "shop-config");
    let body = world.cluster("staging").object(&config).unwrap();
    world.cluster("staging").delete_by_hand(&config);
    world.cluster("staging").put_by_hand(body);
    let ada = deployer("ada", &[]);
    plane.roll_back(&ada, &door(), id, of("staging")).await.unwrap();
    let failed = world.ended(id).await;
    assert_eq!(end(&failed, "staging"), End::RollbackFailed);
    let aborts = |world: &World| {
        let acted = |wanted| {
            let writes = world.cluster("staging").writes().into_iter();
            writes
                .filter(|write| matches!(write, Write::Acted { action, .. } if *action == wanted))
                .count()
        };
        (acted(Action::Abort), acted(Action::Retry))
    };
    assert_eq!(aborts(&world), (2, 0));

    world.cluster("staging").delete_by_hand(&config);
    let again = plane
        .retry(&ada, &door(), id, of("staging"))
        .await
        .unwrap()
        .pipeline;
    let run = world.until(again, |p| stands(p, "staging/step/1")).await;
    assert_eq!(aborts(&world), (2, 2), "taken back once each");
    assert!(
        run.targets["staging"].external.is_empty(),
        "nobody else did that: {:#?}",
        run.targets["staging"].external
    );
    approve(&plane, again, "staging/step/1").await;
    assert_eq!(world.ended(again).await.state(), State::Succeeded);
    holds(&world, "staging", "app:2");

    // What failed to go back is over and done with: something else runs there now.
    let gone = plane
        .roll_back(&ada, &door(), id, of("staging"))
        .await
        .unwrap_err();
    assert!(
        gone.to_string().contains("not what runs there any more"),
        "{gone}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_target_of_several_that_failed_is_retried_alone() {
    let (world, plane, _tasks, _) = settled(&["eu", "us"]).await;
    for account in ["eu", "us"] {
        world.cluster(account).break_image("app:2", PodFault::Crash);
    }
    let id = submit(&plane, version(&["eu", "us"], "app:2")).await;
    world.ended(id).await;
    world.cluster("us").heal_image("app:2");
    let recorded = plane
        .retry(&deployer("ada", &[]), &door(), id, of("us"))
        .await
        .unwrap();
    world.until(recorded.pipeline, |p| stands(p, "us/step/1")).await;
    approve(&plane, recorded.pipeline, "us/step/1").await;
    assert_eq!(world.ended(recorded.pipeline).await.state(), State::Succeeded);
    assert_eq!(held(&world, "eu").0, "app:1");
    let first = world.events(recorded.pipeline).await.remove(0);
    assert!(matches!(first.what, What::Submitted(submitted) if submitted.targets.len() == 1));
}
