//! Pipelines that go wrong: failing, rolling back, ending early, agents that are away, hands in the cluster.

use std::time::Duration;

use aurora_core::command::Action;
use aurora_core::control::ControlPlane;
use aurora_core::id::PipelineId;
use aurora_core::pipeline::{End, ExternalDeed, Pipeline, RolledBack, State, StopReason, What};
use aurora_core::port::executor::memory::PodFault;
use aurora_core::strategy::{Span, Step};
use aurora_core::tasks::Tasks;
use serde_json::json;

use crate::world::{
    World, approval, canary, deployer, door, drive, file, first_version, rollout, see, stands, submit,
    target, yes,
};

/// A world in which version 1 of the application runs.
async fn settled(accounts: &[&str]) -> (World, ControlPlane, Tasks) {
    let world = World::new(accounts);
    let plane = world.plane();
    let tasks = drive(&plane);
    let targets: Vec<_> = accounts.iter().map(|name| (*name, target(name, &[]))).collect();
    first_version(&world, &plane, file("shop", "app:1", canary(), &targets)).await;
    (world, plane, tasks)
}

fn image_of(world: &World, account: &str, name: &str) -> String {
    let object = world.cluster(account).object(&rollout(name)).unwrap();
    object["spec"]["template"]["spec"]["containers"][0]["image"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn is_back(world: &World, account: &str) {
    for name in crate::world::DEPLOYMENTS {
        assert_eq!(image_of(world, account, name), "app:1", "{account} {name}");
    }
}

fn end(pipeline: &Pipeline, target: &str) -> End {
    match pipeline.targets[target].phase {
        aurora_core::pipeline::Phase::Ended { end, .. } => end,
        ref other => panic!("{target} has not ended: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_looping_version_is_taken_back_and_the_pod_is_named() {
    let (world, plane, _tasks) = settled(&["staging"]).await;
    world.cluster("staging").break_image("app:2", PodFault::Crash);
    let targets = [("staging", target("staging", &[]))];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.state(), State::Failed);
    assert_eq!(pipeline.ended.unwrap().rolled_back, Some(RolledBack::Yes));
    is_back(&world, "staging");
    let seen = see(&plane, id).await;
    let error = seen.targets[0].error.as_ref().unwrap();
    assert_eq!(error.code, "failingPod");
    assert!(
        error.message.contains("exit code 1") && error.message.contains("restart"),
        "{}",
        error.message
    );
    assert!(!seen.evidence.is_empty() && !seen.evidence[0].evidence.pod.pod.is_empty());
    let old = world.cluster("staging").writes().iter().any(|write| {
        matches!(
            write,
            aurora_core::port::executor::memory::Write::Acted {
                action: Action::Abort,
                ..
            }
        )
    });
    assert!(!old, "there is no abort before going back");
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_pulled_fails_after_a_minute() {
    let (world, plane, _tasks) = settled(&["staging"]).await;
    world
        .cluster("staging")
        .break_image("app:2", PodFault::Unpullable);
    let targets = [("staging", target("staging", &[]))];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    let pipeline = world.ended(id).await;
    let after = pipeline.targets["staging"]
        .failed_at
        .unwrap()
        .duration_since(pipeline.submitted_at);
    assert!((59..62).contains(&after.as_secs()), "{after:?}");
    assert_eq!(pipeline.ended.unwrap().rolled_back, Some(RolledBack::Yes));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_does_not_reach_its_gate_in_time_is_taken_back() {
    let (world, plane, _tasks) = settled(&["staging"]).await;
    world
        .cluster("staging")
        .break_image("app:2", PodFault::NeverReady);
    let targets = [("staging", target("staging", &[]))];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    let pipeline = world.ended(id).await;
    let failed = pipeline.targets["staging"].failed.as_ref().unwrap();
    assert_eq!(failed.code, "timeout");
    assert!(
        failed.details.iter().any(|line| line.contains("new pods")),
        "{failed:#?}"
    );
    let after = pipeline.targets["staging"]
        .failed_at
        .unwrap()
        .duration_since(pipeline.submitted_at);
    assert!((1799..1803).contains(&after.as_secs()), "{after:?}");
    is_back(&world, "staging");
}

#[tokio::test(start_paused = true)]
async fn a_gate_does_not_count_against_the_timeout() {
    let (world, plane, _tasks) = settled(&["staging"]).await;
    let targets = [("staging", target("staging", &[]))];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    tokio::time::sleep(Duration::from_secs(7200)).await;
    let approver = deployer("grace", &["release-manager"]);
    plane
        .approve(&approver, &door(), id, yes("staging/step/1"))
        .await
        .unwrap();
    assert_eq!(world.ended(id).await.state(), State::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn going_back_can_fail_too() {
    let (world, plane, _tasks) = settled(&["staging"]).await;
    world.cluster("staging").break_image("app:2", PodFault::Crash);
    world.cluster("staging").stall(&rollout("worker"));
    let targets = [("staging", target("staging", &[]))];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.state(), State::Failed);
    assert_eq!(pipeline.ended.unwrap().rolled_back, Some(RolledBack::Failed));
    let failed = pipeline.targets["staging"].failed.as_ref().unwrap();
    assert_ne!(
        failed.details,
        Vec::<String>::new(),
        "why going back failed is said: {failed:#?}"
    );
}

async fn at_the_first_gate(plane: &ControlPlane, world: &World, steps: Vec<Step>) -> PipelineId {
    let targets = [
        ("a", target("a", &[])),
        ("b", target("b", &[])),
        ("c", target("a", &["b"])),
    ];
    let mut targets = targets.to_vec();
    targets[2].1.namespace = Some("other".to_owned());
    let id = submit(plane, file("shop", "app:2", steps, &targets)).await;
    world
        .until(id, |p| stands(p, "a/step/1") && stands(p, "b/step/1"))
        .await;
    id
}

#[tokio::test(start_paused = true)]
async fn cancelling_takes_back_what_runs_and_starts_nothing_more() {
    let (world, plane, _tasks) = settled(&["a", "b"]).await;
    let id = at_the_first_gate(&plane, &world, canary()).await;
    let comment = Some("wrong branch".to_owned());
    plane
        .cancel(&deployer("ada", &[]), &door(), id, comment)
        .await
        .unwrap();
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.state(), State::Cancelled);
    assert_eq!(pipeline.ended.unwrap().rolled_back, Some(RolledBack::Yes));
    assert_eq!(end(&pipeline, "a"), End::RolledBack);
    assert_eq!(end(&pipeline, "b"), End::RolledBack);
    assert_eq!(end(&pipeline, "c"), End::NeverStarted);
    is_back(&world, "a");
    is_back(&world, "b");
    let stopping = see(&plane, id).await.stopping.unwrap();
    assert_eq!(
        (stopping.why.as_str(), stopping.comment.as_deref()),
        ("cancelled", Some("wrong branch"))
    );
    let again = plane
        .cancel(&deployer("ada", &[]), &door(), id, None)
        .await
        .unwrap_err();
    assert!(again.to_string().contains("over"), "{again}");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_gate_ends_the_pipeline() {
    let (world, plane, _tasks) = settled(&["a", "b"]).await;
    let id = at_the_first_gate(&plane, &world, canary()).await;
    let approver = deployer("grace", &["release-manager"]);
    plane
        .reject(&approver, &door(), id, yes("a/step/1"))
        .await
        .unwrap();
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.state(), State::Cancelled);
    assert_eq!(pipeline.stopping.as_ref().unwrap().why, StopReason::Rejected);
    is_back(&world, "a");
    is_back(&world, "b");
}

#[tokio::test(start_paused = true)]
async fn an_expired_approval_ends_the_pipeline() {
    let (world, plane, _tasks) = settled(&["a", "b"]).await;
    let steps = vec![Step::SetWeight(25), Step::Pause(approval(&[], Some(600)))];
    let id = at_the_first_gate(&plane, &world, steps).await;
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.state(), State::Cancelled);
    assert_eq!(pipeline.stopping.as_ref().unwrap().why, StopReason::Expired);
    is_back(&world, "a");
}

#[tokio::test(start_paused = true)]
async fn one_target_that_fails_lets_others_finish_and_dependants_wait_for_ever() {
    let (world, plane, _tasks) = settled(&["a", "b"]).await;
    world.cluster("a").break_image("app:2", PodFault::Crash);
    let targets = [
        ("a", target("a", &[])),
        ("b", target("b", &[])),
        ("after-a", target("b", &["a"])),
    ];
    let mut targets = targets.to_vec();
    targets[2].1.namespace = Some("other".to_owned());
    let steps = vec![Step::SetWeight(25), Step::Pause(crate::world::timed(300))];
    let id = submit(&plane, file("shop", "app:2", steps, &targets)).await;
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.state(), State::Failed);
    assert_eq!(end(&pipeline, "a"), End::RolledBack);
    assert_eq!(end(&pipeline, "b"), End::Succeeded);
    assert_eq!(end(&pipeline, "after-a"), End::NeverStarted);
    assert_eq!(image_of(&world, "b", "shop"), "app:2");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_away_is_waited_for_without_a_timeout() {
    let (world, plane, _tasks) = settled(&["staging"]).await;
    world.router.disconnect(&world.key("staging"));
    let targets = [("staging", target("staging", &[]))];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    world.until(id, |p| p.targets["staging"].away.is_some()).await;
    let seen = see(&plane, id).await;
    assert_eq!(seen.state, State::Waiting);
    assert_eq!(seen.waiting[0].kind, "agent");
    assert_eq!(seen.waiting[0].until, None);
    tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
    world.router.reconnect(&world.key("staging"));
    world.until(id, |p| stands(p, "staging/step/1")).await;
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_whose_agent_never_came_is_cancelled_at_once() {
    let (world, plane, _tasks) = settled(&["staging"]).await;
    world.router.disconnect(&world.key("staging"));
    let targets = [("staging", target("staging", &[]))];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    world.until(id, |p| p.targets["staging"].away.is_some()).await;
    plane
        .cancel(&deployer("ada", &[]), &door(), id, None)
        .await
        .unwrap();
    let pipeline = world.pipeline(id).await;
    assert_eq!(
        (pipeline.state(), end(&pipeline, "staging")),
        (State::Cancelled, End::NeverStarted)
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_lost_in_the_middle_is_waited_for_and_acts_once() {
    let (world, plane, _tasks) = settled(&["staging"]).await;
    let targets = [("staging", target("staging", &[]))];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    world.router.disconnect(&world.key("staging"));
    world.until(id, |p| p.targets["staging"].away.is_some()).await;
    let approver = deployer("grace", &["release-manager"]);
    plane
        .approve(&approver, &door(), id, yes("staging/step/1"))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let fresh = world.cluster("staging").clone();
    world.router.connect(world.key("staging"), fresh);
    assert_eq!(world.ended(id).await.state(), State::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_promote_by_hand_is_seen_and_goes_on() {
    let (world, plane, _tasks) = settled(&["staging"]).await;
    let targets = [("staging", target("staging", &[]))];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    for name in crate::world::DEPLOYMENTS {
        world
            .cluster("staging")
            .act_by_hand(&rollout(name), Action::Promote);
    }
    assert_eq!(world.ended(id).await.state(), State::Succeeded);
    let events = world.events(id).await;
    let promoted = events.iter().filter(|e| {
        matches!(
            &e.what,
            What::ExternalSeen {
                deed: ExternalDeed::Promoted,
                ..
            }
        )
    });
    assert_eq!(promoted.count(), 2);
    assert!(events.iter().any(|e| matches!(e.what, What::GatePassed { .. })));
}

#[tokio::test(start_paused = true)]
async fn an_abort_by_hand_fails_the_target() {
    let (world, plane, _tasks) = settled(&["staging"]).await;
    let targets = [("staging", target("staging", &[]))];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    world
        .cluster("staging")
        .act_by_hand(&rollout("shop"), Action::Abort);
    let pipeline = world.ended(id).await;
    assert_eq!(
        pipeline.targets["staging"].failed.as_ref().unwrap().code,
        "aborted"
    );
    assert_eq!(pipeline.ended.unwrap().rolled_back, Some(RolledBack::Yes));
    is_back(&world, "staging");
}

#[tokio::test(start_paused = true)]
async fn a_change_by_hand_is_healed() {
    let (world, plane, _tasks) = settled(&["staging"]).await;
    let targets = [("staging", target("staging", &[]))];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    world.cluster("staging").edit_by_hand(&rollout("shop"), |body| {
        body["spec"]["template"]["spec"]["containers"][0]["image"] = json!("app:evil");
    });
    world
        .until(id, |p| {
            p.targets["staging"]
                .run()
                .is_some_and(|run| run.reapplied.is_some())
                && stands(p, "staging/step/1")
        })
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(image_of(&world, "staging", "shop"), "app:2");
    let approver = deployer("grace", &["release-manager"]);
    plane
        .approve(&approver, &door(), id, yes("staging/step/1"))
        .await
        .unwrap();
    assert_eq!(world.ended(id).await.state(), State::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_pause_by_hand_is_said_and_waited_out() {
    let (world, plane, _tasks) = settled(&["staging"]).await;
    let targets = [("staging", target("staging", &[]))];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    world
        .cluster("staging")
        .act_by_hand(&rollout("shop"), Action::Pause);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let seen = see(&plane, id).await;
    assert!(
        seen.waiting[0]
            .blockers
            .iter()
            .any(|b| b.text.contains("paused by hand")),
        "{:#?}",
        seen.waiting
    );
    let approver = deployer("grace", &["release-manager"]);
    plane
        .approve(&approver, &door(), id, yes("staging/step/1"))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!world.pipeline(id).await.is_final());
    world
        .cluster("staging")
        .act_by_hand(&rollout("shop"), Action::Resume);
    assert_eq!(world.ended(id).await.state(), State::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn objects_of_somebody_else_fail_the_target_by_name() {
    let world = World::new(&["staging"]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    world.cluster("staging").put_by_hand(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shop-config", "namespace": "shop"}, "data": {},
    }));
    let mut short = file("shop", "app:1", canary(), &[("staging", target("staging", &[]))]);
    short.timeout = Span::from_secs(60);
    let id = submit(&plane, short).await;
    let pipeline = world.ended(id).await;
    let failed = pipeline.targets["staging"].failed.as_ref().unwrap();
    assert_eq!(failed.code, "foreignObject");
    assert!(failed.details[0].contains("aurora.dev/adopt"), "{failed:#?}");
    assert_eq!(pipeline.ended.unwrap().rolled_back, Some(RolledBack::No));
}

/// What somebody does to the cluster with their own hands.
fn by_hand(world: &World, deed: ExternalDeed) {
    let (cluster, shop) = (world.cluster("staging"), rollout("shop"));
    match deed {
        ExternalDeed::Aborted => cluster.act_by_hand(&shop, Action::Abort),
        ExternalDeed::Changed => cluster.edit_by_hand(&shop, |body| {
            body["spec"]["template"]["spec"]["containers"][0]["image"] = json!("app:evil");
        }),
        ExternalDeed::Deleted => cluster.delete_by_hand(&shop),
        ExternalDeed::Paused => cluster.act_by_hand(&shop, Action::Pause),
        ExternalDeed::Promoted => {
            for name in crate::world::DEPLOYMENTS {
                cluster.act_by_hand(&rollout(name), Action::Promote);
            }
        }
        ExternalDeed::ShutDown => panic!("a canary has no older version that waits"),
    }
}

/// Each deed of others is on the timeline as theirs, and with its target.
#[tokio::test(start_paused = true)]
async fn what_others_do_in_the_cluster_is_shown_as_external() {
    for deed in [
        ExternalDeed::Aborted,
        ExternalDeed::Changed,
        ExternalDeed::Deleted,
        ExternalDeed::Paused,
        ExternalDeed::Promoted,
    ] {
        let (world, plane, _tasks) = settled(&["staging"]).await;
        let targets = [("staging", target("staging", &[]))];
        let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
        world.until(id, |p| stands(p, "staging/step/1")).await;
        by_hand(&world, deed);
        let is_it = |seen: &aurora_core::pipeline::External| seen.deed == deed;
        world
            .until(id, |p| p.targets["staging"].external.iter().any(is_it))
            .await;
        let seen = see(&plane, id).await;
        let shown = &seen.targets[0].external;
        assert!(
            shown
                .iter()
                .any(|seen| seen.deed == deed && seen.object.kind == "Rollout"),
            "{deed:?}: {shown:#?}"
        );
        let timeline = plane.timeline(&crate::world::reader(), id, 0, 500).await.unwrap();
        let line = timeline.entries.iter().find(|line| line.kind == "externalSeen");
        let line = line.unwrap_or_else(|| panic!("{deed:?} is on the timeline"));
        let actor = line.actor.as_ref().unwrap();
        assert_eq!(actor.via, aurora_core::principal::Channel::External, "{deed:?}");
        assert_eq!(line.phase, "seen");
    }
}
