//! Whole pipelines that move by blue/green, roll, or hold no Deployment at all.

use std::time::Duration;

use aurora_core::command::{Action, Direction};
use aurora_core::control::ControlPlane;
use aurora_core::deploy_file::{DeployFile, ManifestFrom};
use aurora_core::id::PipelineId;
use aurora_core::manifest::ObjectRef;
use aurora_core::pipeline::{ExternalDeed, RolledBack, State, What};
use aurora_core::port::executor::memory::{PodFault, Write};
use aurora_core::strategy::{BlueGreen, Pause, Portion, Rolling, Strategy};
use serde_json::json;

use crate::world::{
    DEPLOYMENTS, World, approval, blue_green, deployer, door, drive, file_of, first_version, rollout, see,
    stands, submit, target, timed, yes,
};

const PROD: &str = "prod";

fn version(image: &str, strategy: Strategy) -> DeployFile {
    file_of("shop", image, strategy, &[(PROD, target(PROD, &[]))])
}

fn gated(redirect_after: Vec<Pause>, shut_down_after: Vec<Pause>) -> Strategy {
    Strategy::BlueGreen(BlueGreen {
        redirect_after,
        shut_down_after,
    })
}

/// Acts on Rollouts that took effect, in order; those of one kind are asked together and have no order.
fn acts(world: &World) -> Vec<(Action, String)> {
    let mut acts: Vec<(Action, String)> = world
        .cluster(PROD)
        .writes()
        .into_iter()
        .filter_map(|write| match write {
            Write::Acted { object, action, .. } => Some((action, object.name)),
            Write::Applied { .. } | Write::Deleted { .. } => None,
        })
        .collect();
    for together in acts.chunk_by_mut(|one, other| one.0 == other.0) {
        together.sort_by(|one, other| one.1.cmp(&other.1));
    }
    acts
}

fn each(action: Action) -> Vec<(Action, String)> {
    DEPLOYMENTS.map(|name| (action, name.to_owned())).to_vec()
}

/// The image that each Rollout declares in the end.
fn images(world: &World) -> Vec<String> {
    DEPLOYMENTS
        .map(|name| {
            let body = world.cluster(PROD).object(&rollout(name)).unwrap();
            let image = &body["spec"]["template"]["spec"]["containers"][0]["image"];
            image.as_str().unwrap().to_owned()
        })
        .to_vec()
}

async fn approve(plane: &ControlPlane, id: PipelineId, gate: &str) {
    let grace = deployer("grace", &["release-manager"]);
    plane.approve(&grace, &door(), id, yes(gate)).await.unwrap();
}

async fn decisions(world: &World, id: PipelineId) -> Vec<What> {
    world
        .events(id)
        .await
        .into_iter()
        .map(|event| event.what)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_blue_green_target_redirects_after_all_its_gates_and_shuts_down_after_all_others() {
    let world = World::new(&[PROD]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    first_version(&world, &plane, version("app:1", blue_green())).await;
    assert_eq!(acts(&world), [], "a first deployment needs no act here");
    let id = submit(&plane, version("app:2", blue_green())).await;

    world.until(id, |p| stands(p, "prod/redirect/1")).await;
    let seen = see(&plane, id).await;
    let prod = &seen.targets[0];
    assert_eq!(
        (prod.strategy.as_str(), prod.step, prod.total),
        ("blueGreen", 1, 7)
    );
    for rollout in &prod.rollouts {
        assert_eq!(rollout.weight_real, Some(0), "nothing is redirected yet");
        assert_eq!((rollout.pods.new_available, rollout.pods.old_available), (4, 4));
    }
    // The timer is through after a minute; the person is not.
    let waiting =
        |p: &aurora_core::pipeline::Pipeline| stands(p, "prod/redirect/0") && !stands(p, "prod/redirect/1");
    world.until(id, waiting).await;
    assert_eq!(acts(&world), []);
    approve(&plane, id, "prod/redirect/0").await;

    world.until(id, |p| stands(p, "prod/shutdown/1")).await;
    assert_eq!(acts(&world), each(Action::Promote));
    let seen = see(&plane, id).await;
    for rollout in &seen.targets[0].rollouts {
        assert_eq!(rollout.weight_real, Some(100));
        assert_eq!(rollout.pods.old_available, 4, "the old version is kept");
    }
    approve(&plane, id, "prod/shutdown/1").await;
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.state(), State::Succeeded);
    assert_eq!(
        acts(&world),
        [each(Action::Promote), each(Action::ShutDownOld)].concat()
    );
    let seen = see(&plane, id).await;
    assert!(
        seen.targets[0].steps.iter().all(|step| step.state == "done"),
        "{:#?}",
        seen.targets[0].steps
    );
}

#[tokio::test(start_paused = true)]
async fn without_gates_it_redirects_at_once_and_the_old_version_goes_by_its_delay() {
    let world = World::new(&[PROD]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    let strategy = || gated(Vec::new(), Vec::new());
    first_version(&world, &plane, version("app:1", strategy())).await;
    let id = submit(&plane, version("app:2", strategy())).await;
    assert_eq!(world.ended(id).await.state(), State::Succeeded);
    assert_eq!(acts(&world), each(Action::Promote));
}

/// Where a pipeline is ended, and whether a full promotion has to bring the old version back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ended {
    BeforeTheRedirect,
    WithinTheDelay,
    AfterTheDelay,
}

#[tokio::test(start_paused = true)]
async fn there_are_three_ways_back_and_each_ends_with_the_old_version_live() {
    for ended in [
        Ended::BeforeTheRedirect,
        Ended::WithinTheDelay,
        Ended::AfterTheDelay,
    ] {
        let world = World::new(&[PROD]);
        let plane = world.plane();
        let _tasks = drive(&plane);
        let strategy = || gated(vec![approval(&[], None)], Vec::new());
        first_version(&world, &plane, version("app:1", strategy())).await;
        let mut file = match ended {
            Ended::WithinTheDelay => version(
                "app:2",
                gated(vec![approval(&[], None)], vec![approval(&[], None)]),
            ),
            _ => version("app:2", strategy()),
        };
        file.targets.get_mut(PROD).unwrap().after = vec![approval(&[], None)];
        let id = submit(&plane, file).await;
        world.until(id, |p| stands(p, "prod/redirect/0")).await;
        let gate = match ended {
            Ended::BeforeTheRedirect => "prod/redirect/0",
            Ended::WithinTheDelay => "prod/shutdown/0",
            Ended::AfterTheDelay => "prod/after/0",
        };
        if ended != Ended::BeforeTheRedirect {
            approve(&plane, id, "prod/redirect/0").await;
            world.until(id, |p| stands(p, gate)).await;
        }
        if ended == Ended::AfterTheDelay {
            tokio::time::sleep(Duration::from_secs(31)).await;
            world.cluster(PROD).settle();
        }
        let before = acts(&world).len();
        plane
            .reject(&deployer("grace", &[]), &door(), id, yes(gate))
            .await
            .unwrap();
        let pipeline = world.ended(id).await;
        assert_eq!(pipeline.state(), State::Cancelled, "{ended:?}");
        assert_eq!(
            pipeline.ended.unwrap().rolled_back,
            Some(RolledBack::Yes),
            "{ended:?}"
        );
        assert_eq!(images(&world), ["app:1", "app:1"], "{ended:?}");
        let back = acts(&world).split_off(before);
        match ended {
            // Live again by the apply alone: a promotion finds nothing to do, or is not asked for.
            Ended::BeforeTheRedirect | Ended::WithinTheDelay => assert_eq!(back, [], "{ended:?}"),
            Ended::AfterTheDelay => assert_eq!(back, each(Action::PromoteFull), "{ended:?}"),
        }
        let seen = see(&plane, id).await;
        for rollout in &seen.targets[0].rollouts {
            assert_eq!(rollout.revision, rollout.stable, "{ended:?}");
            assert_eq!(rollout.weight_real, Some(100), "{ended:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_rollout_that_crashes_before_the_redirect_takes_all_of_them_back() {
    let world = World::new(&[PROD]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    first_version(&world, &plane, version("app:1", blue_green())).await;
    world.cluster(PROD).break_image("app:2", PodFault::Crash);
    let id = submit(&plane, version("app:2", blue_green())).await;
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.state(), State::Failed);
    assert_eq!(pipeline.ended.unwrap().rolled_back, Some(RolledBack::Yes));
    assert!(!pipeline.targets[PROD].evidence.is_empty());
    assert_eq!(images(&world), ["app:1", "app:1"]);
    let events = decisions(&world, id).await;
    assert!(
        !events.iter().any(|what| matches!(what, What::GateReached { .. })),
        "no gate was reached"
    );
    assert!(!acts(&world).iter().any(|(action, _)| *action == Action::Promote));
}

#[tokio::test(start_paused = true)]
async fn a_first_deployment_is_live_at_once_and_says_that_no_gate_was_exercised() {
    let world = World::new(&[PROD]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    let id = first_version(&world, &plane, version("app:1", blue_green())).await;
    let seen = see(&plane, id).await;
    assert!(seen.targets[0].first_deployment);
    let gates = seen.targets[0].steps.iter().filter_map(|step| step.gate.as_ref());
    let states: Vec<&str> = gates.map(|gate| gate.state.as_str()).collect();
    assert_eq!(states, ["notExercised"; 4]);
}

#[tokio::test(start_paused = true)]
async fn somebody_who_promotes_with_kubectl_passes_the_gates_and_is_named_external() {
    let world = World::new(&[PROD]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    first_version(&world, &plane, version("app:1", blue_green())).await;
    let strategy = gated(
        vec![approval(&["release-manager"], None)],
        vec![approval(&[], None)],
    );
    let id = submit(&plane, version("app:2", strategy)).await;
    world.until(id, |p| stands(p, "prod/redirect/0")).await;
    for name in DEPLOYMENTS {
        world.cluster(PROD).act_by_hand(&rollout(name), Action::Promote);
    }
    world.until(id, |p| stands(p, "prod/shutdown/0")).await;
    for name in DEPLOYMENTS {
        world
            .cluster(PROD)
            .act_by_hand(&rollout(name), Action::ShutDownOld);
    }
    let shown = |deed: ExternalDeed, events: &[What]| {
        let deeds = events.iter();
        deeds
            .filter(|what| matches!(what, What::ExternalSeen { deed: seen, .. } if *seen == deed))
            .count()
    };
    // Counts of pods are stored a moment later.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let events = decisions(&world, id).await;
    assert_eq!(shown(ExternalDeed::Promoted, &events), 2, "{events:#?}");
    assert_eq!(shown(ExternalDeed::ShutDown, &events), 2, "{events:#?}");
    assert!(
        events
            .iter()
            .any(|what| matches!(what, What::GatePassed { gate } if gate.to_string() == "prod/redirect/0"))
    );
    let seen = see(&plane, id).await;
    let blockers = seen.waiting.iter().flat_map(|wait| &wait.blockers);
    assert!(
        blockers.clone().any(|b| b.text.contains("no pods any more")),
        "{:#?}",
        seen.waiting
    );
    approve(&plane, id, "prod/shutdown/0").await;
    assert_eq!(world.ended(id).await.state(), State::Succeeded);
    assert_eq!(acts(&world), [], "nothing was left to do");
}

#[tokio::test(start_paused = true)]
async fn somebody_who_aborts_with_kubectl_fails_the_target() {
    let world = World::new(&[PROD]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    first_version(&world, &plane, version("app:1", blue_green())).await;
    let id = submit(&plane, version("app:2", blue_green())).await;
    world.until(id, |p| stands(p, "prod/redirect/0")).await;
    world.cluster(PROD).act_by_hand(&rollout("worker"), Action::Abort);
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.state(), State::Failed);
    assert_eq!(pipeline.targets[PROD].failed.as_ref().unwrap().code, "aborted");
    assert_eq!(images(&world), ["app:1", "app:1"]);
}

#[tokio::test(start_paused = true)]
async fn a_yes_that_nobody_gives_before_the_old_version_goes_takes_the_target_back() {
    let world = World::new(&[PROD]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    let strategy = || gated(Vec::new(), vec![approval(&["release-manager"], Some(600))]);
    first_version(&world, &plane, version("app:1", strategy())).await;
    let id = submit(&plane, version("app:2", strategy())).await;
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.state(), State::Cancelled);
    assert_eq!(pipeline.reason_code(), Some("approval.expired"));
    assert_eq!(images(&world), ["app:1", "app:1"]);
    assert!(
        !acts(&world)
            .iter()
            .any(|(action, _)| *action == Action::ShutDownOld)
    );
}

#[tokio::test(start_paused = true)]
async fn a_deployment_opted_out_moves_beside_them_and_holds_the_end() {
    let world = World::new(&[PROD]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    let strategy = || gated(vec![timed(10)], Vec::new());
    let database = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "database", "annotations": {"aurora.dev/strategy": "none"}},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "db", "image": "db:IMAGE"}]}}},
    });
    let with = |mut file: DeployFile, image: &str| {
        let text = database.to_string().replace("db:IMAGE", image);
        let ManifestFrom::Inline(inline) = &mut file.manifests[0].from else {
            panic!("the manifests of tests are inline");
        };
        inline.push_str(&format!("---\n{text}\n"));
        file
    };
    first_version(&world, &plane, with(version("app:1", strategy()), "db:1")).await;
    world.cluster(PROD).break_image("db:2", PodFault::NeverReady);
    let id = submit(&plane, with(version("app:2", strategy()), "db:2")).await;
    world.until(id, |p| stands(p, "prod/redirect/0")).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        acts(&world),
        each(Action::Promote),
        "the gate asks only what stands at it"
    );
    assert_eq!(see(&plane, id).await.targets[0].phase, "moving");
    world.cluster(PROD).heal_image("db:2");
    assert_eq!(world.ended(id).await.state(), State::Succeeded);

    world.cluster(PROD).break_image("db:3", PodFault::Crash);
    let id = submit(&plane, with(version("app:3", strategy()), "db:3")).await;
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.state(), State::Failed, "they fail together");
    assert_eq!(images(&world), ["app:2", "app:2"]);
    assert_eq!(pipeline.targets[PROD].evidence[0].object.name, "database");
}

#[tokio::test(start_paused = true)]
async fn a_rolling_target_needs_nobody_and_goes_back_when_its_pods_crash() {
    let world = World::new(&[PROD]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    let strategy = || {
        Strategy::Rolling(Rolling {
            max_surge: Some(Portion::Count(1)),
            max_unavailable: None,
        })
    };
    first_version(&world, &plane, version("app:1", strategy())).await;
    let id = submit(&plane, version("app:2", strategy())).await;
    assert_eq!(world.ended(id).await.state(), State::Succeeded);
    assert_eq!(acts(&world), []);
    world.cluster(PROD).break_image("app:3", PodFault::Crash);
    let id = submit(&plane, version("app:3", strategy())).await;
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.ended.unwrap().rolled_back, Some(RolledBack::Yes));
    assert_eq!(images(&world), ["app:2", "app:2"]);
}

#[tokio::test(start_paused = true)]
async fn a_target_without_a_deployment_is_done_when_its_workloads_are_ready() {
    let world = World::new(&[PROD]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    let stateful = |image: &str| {
        let body = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "data"},
            "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "db", "image": image}]}}},
        });
        let cron =
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"}, "spec": {}});
        let mut file = version(image, blue_green());
        file.manifests[0].from = ManifestFrom::Inline(format!("{body}\n---\n{cron}\n"));
        file.targets.get_mut(PROD).unwrap().strategy = None;
        file
    };
    first_version(&world, &plane, stateful("db:1")).await;
    let data = ObjectRef::new("apps", "StatefulSet", "shop", "data");
    world.cluster(PROD).break_image("db:2", PodFault::Crash);
    let id = submit(&plane, stateful("db:2")).await;
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.state(), State::Failed);
    assert_eq!(pipeline.targets[PROD].evidence[0].object, data);
    assert_eq!(pipeline.ended.unwrap().rolled_back, Some(RolledBack::Yes));
    let started = decisions(&world, id)
        .await
        .into_iter()
        .any(|what| matches!(what, What::RollbackStarted { .. }));
    assert!(
        started
            && pipeline.targets[PROD]
                .run()
                .is_none_or(|run| run.direction == Direction::Back)
    );
    let body = world.cluster(PROD).object(&data).unwrap();
    assert_eq!(body["spec"]["template"]["spec"]["containers"][0]["image"], "db:1");
}
