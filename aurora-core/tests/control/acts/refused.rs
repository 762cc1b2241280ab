//! The failing cases of each act, in one table: unknown, other tenant, too late, twice, not allowed.

use std::sync::Arc;

use aurora_core::authz::{Deploy, Grant};
use aurora_core::control::{ControlError, ControlPlane, Door, Recorded, Redeploy, TargetAct};
use aurora_core::error::ErrorKind;
use aurora_core::id::PipelineId;
use aurora_core::strategy::Step;
use aurora_core::tenant::Tenant;

use super::{deployed, of, settled, to, version};
use crate::world::{World, deployer, door, file, principal, stands, submit, target, timed, yes};

const ACTS: [&str; 7] = [
    "approve", "cancel", "redeploy", "reject", "retry", "rollback", "skip",
];

/// Any act, with what it takes in a run of one target.
async fn act(
    plane: &ControlPlane,
    grant: &Grant<Deploy>,
    door: &Door,
    id: PipelineId,
    name: &str,
    gate: &str,
) -> Result<Recorded, ControlError> {
    let target = gate.split('/').next().unwrap();
    match name {
        "approve" => plane.approve(grant, door, id, yes(gate)).await,
        "cancel" => plane.cancel(grant, door, id, None).await,
        "redeploy" => plane.redeploy(grant, door, id, Redeploy::default()).await,
        "reject" => plane.reject(grant, door, id, yes(gate)).await,
        "retry" => plane.retry(grant, door, id, of(target)).await,
        "rollback" => plane.roll_back(grant, door, id, of(target)).await,
        "skip" => plane.skip(grant, door, id, yes(gate)).await,
        other => panic!("{other}"),
    }
}

fn foreigner() -> Grant<Deploy> {
    let mut foreign = (*principal("mallory", &[], &["manage:deploy"])).clone();
    foreign.tenant = Some(Tenant::new("acme", "other").unwrap());
    Arc::new(foreign).authorize().unwrap()
}

/// A run of version 2 that stands at a gate that waits for a person, and then at a timer of two hours.
async fn standing(world: &World, plane: &ControlPlane) -> PipelineId {
    let steps = vec![
        Step::SetWeight(25),
        Step::Pause(crate::world::approval(&["release-manager"], None)),
        Step::Pause(timed(7200)),
    ];
    let id = submit(
        plane,
        file("shop", "app:2", steps, &[("staging", target("staging", &[]))]),
    )
    .await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    id
}

#[tokio::test(start_paused = true)]
async fn what_is_unknown_or_of_another_tenant_is_not_found_by_any_act() {
    let (world, plane, _tasks, _) = settled(&["staging"]).await;
    let id = standing(&world, &plane).await;
    let before = world.store.events(&world.scope()).len();
    let nowhere = PipelineId::at(jiff::Timestamp::UNIX_EPOCH, [9; 10]);
    let ada = deployer("ada", &["release-manager"]);
    for name in ACTS {
        let unknown = act(&plane, &ada, &door(), nowhere, name, "staging/step/1")
            .await
            .unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::NotFound, "{name}: {unknown:?}");
        let foreign = act(&plane, &foreigner(), &door(), id, name, "staging/step/1")
            .await
            .unwrap_err();
        assert_eq!(foreign.kind(), ErrorKind::NotFound, "{name}: {foreign:?}");
        assert_eq!(
            unknown.to_string().replace(&nowhere.to_string(), ""),
            foreign.to_string().replace(&id.to_string(), "")
        );
    }
    for name in ["approve", "reject", "skip"] {
        let gate = act(&plane, &ada, &door(), id, name, "staging/step/7")
            .await
            .unwrap_err();
        assert_eq!(gate.kind(), ErrorKind::NotFound, "{name}: {gate:?}");
    }
    for name in ["retry", "rollback"] {
        let target = act(&plane, &ada, &door(), id, name, "moon/step/1")
            .await
            .unwrap_err();
        assert_eq!(target.kind(), ErrorKind::NotFound, "{name}: {target:?}");
    }
    assert_eq!(
        world.store.events(&world.scope()).len(),
        before,
        "nothing was stored"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_scope_or_role_does_not_allow_is_refused_and_remembered() {
    let (world, plane, _tasks, _) = settled(&["staging"]).await;
    let id = standing(&world, &plane).await;
    // Without the scope there is no grant, so no act can even be asked for.
    assert!(
        principal("reader", &[], &["read:pipelines"])
            .authorize::<Deploy>()
            .is_err()
    );
    let before = world.store.events(&world.scope()).len();
    for name in ["approve", "reject"] {
        let refused = act(
            &plane,
            &deployer("eve", &["intern"]),
            &door(),
            id,
            name,
            "staging/step/1",
        )
        .await
        .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{name}");
        let lines = super::audit(&world, name);
        assert!(
            lines.len() == 1 && lines[0].contains("\"denied\"") && lines[0].contains("\"eve\""),
            "{lines:#?}"
        );
    }
    assert_eq!(world.store.events(&world.scope()).len(), before);
}

#[tokio::test(start_paused = true)]
async fn what_comes_too_late_or_twice_is_a_conflict_with_the_reason() {
    let (world, plane, _tasks, _) = settled(&["staging"]).await;
    let id = standing(&world, &plane).await;
    let grace = deployer("grace", &["release-manager"]);
    let conflict = |refused: ControlError, words: &str| {
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused:?}");
        assert!(refused.to_string().contains(words), "{refused}");
    };
    let on = |name: &'static str, gate: &'static str| {
        let (plane, grace) = (plane.clone(), grace.clone());
        async move { act(&plane, &grace, &door(), id, name, gate).await }
    };
    conflict(on("skip", "staging/step/2").await.unwrap_err(), "not reached yet");
    conflict(on("retry", "staging/step/1").await.unwrap_err(), "has not ended");
    on("approve", "staging/step/1").await.unwrap();
    conflict(on("approve", "staging/step/1").await.unwrap_err(), "grace opened");
    conflict(on("reject", "staging/step/1").await.unwrap_err(), "grace opened");
    world.until(id, |p| stands(p, "staging/step/2")).await;
    conflict(
        on("approve", "staging/step/2").await.unwrap_err(),
        "a timer opens it",
    );
    let mut stale = yes("staging/step/2");
    stale.expect = Some("staging/step/2:sha256:0".to_owned());
    conflict(
        plane.skip(&grace, &door(), id, stale).await.unwrap_err(),
        "changed since you looked",
    );
    on("skip", "staging/step/2").await.unwrap();
    conflict(on("skip", "staging/step/2").await.unwrap_err(), "grace opened");
    world.ended(id).await;
    for name in ["approve", "reject", "skip"] {
        conflict(
            on(name, "staging/step/2").await.unwrap_err(),
            if name == "skip" { "grace opened" } else { "over" },
        );
    }
    conflict(on("cancel", "staging/step/1").await.unwrap_err(), "is over");
    conflict(on("retry", "staging/step/1").await.unwrap_err(), "has succeeded");
    on("rollback", "staging/step/1").await.unwrap();
    conflict(
        on("rollback", "staging/step/1").await.unwrap_err(),
        "is being deployed by pipeline",
    );
    conflict(
        on("redeploy", "staging/step/1").await.unwrap_err(),
        "is being deployed by pipeline",
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_being_ended_takes_no_other_act() {
    let (world, plane, tasks, _) = settled(&["staging"]).await;
    let id = standing(&world, &plane).await;
    tasks.drain(std::time::Duration::from_secs(60)).await.unwrap();
    let grace = deployer("grace", &["release-manager"]);
    plane.cancel(&grace, &door(), id, None).await.unwrap();
    for name in ["approve", "cancel", "reject", "retry", "rollback", "skip"] {
        let refused = act(&plane, &grace, &door(), id, name, "staging/step/1")
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{name}: {refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_to_go_back_to_must_have_succeeded_in_the_same_place() {
    let (world, plane, _tasks, first) = settled(&["staging"]).await;
    let other_place = {
        let mut elsewhere = target("staging", &[]);
        elsewhere.namespace = Some("blog".to_owned());
        deployed_first(
            &world,
            &plane,
            file("shop", "app:1", Vec::new(), &[("staging", elsewhere)]),
        )
        .await
    };
    let other_application = {
        let mut elsewhere = target("staging", &[]);
        elsewhere.namespace = Some("other".to_owned());
        deployed_first(
            &world,
            &plane,
            file("other", "app:1", Vec::new(), &[("staging", elsewhere)]),
        )
        .await
    };
    world
        .cluster("staging")
        .break_image("app:9", aurora_core::port::executor::memory::PodFault::Crash);
    let failed = submit(&plane, version(&["staging"], "app:9")).await;
    world.ended(failed).await;
    let live = deployed(&world, &plane, version(&["staging"], "app:2")).await;
    let nowhere = PipelineId::at(jiff::Timestamp::UNIX_EPOCH, [9; 10]);
    let running = |plane: &ControlPlane| {
        let plane = plane.clone();
        async move { submit(&plane, version(&["staging"], "app:3")).await }
    };
    let ada = deployer("ada", &[]);
    let table = [
        (nowhere, ErrorKind::NotFound, "there is no pipeline"),
        (other_place, ErrorKind::Conflict, "no target in namespace"),
        (other_application, ErrorKind::Conflict, "it deployed `other`"),
        (failed, ErrorKind::Conflict, "did not succeed: it is failed"),
        (live, ErrorKind::Conflict, "already"),
    ];
    for (run, kind, words) in table {
        let refused = plane
            .roll_back(&ada, &door(), live, to("staging", run))
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), kind, "{refused:?}");
        assert!(refused.to_string().contains(words), "{refused}");
    }
    let id = running(&plane).await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    for (run, kind, words) in &table[..4] {
        let refused = plane
            .roll_back(&ada, &door(), id, to("staging", *run))
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), *kind, "{refused:?}");
        assert!(refused.to_string().contains(words), "{refused}");
    }
    let own = plane
        .roll_back(&ada, &door(), id, to("staging", id))
        .await
        .unwrap_err();
    assert!(own.to_string().contains("did not succeed"), "{own}");
    let retry = TargetAct {
        to: Some(first),
        ..of("staging")
    };
    let wrong = plane.retry(&ada, &door(), id, retry).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Invalid);
}

async fn deployed_first(
    world: &World,
    plane: &ControlPlane,
    file: aurora_core::deploy_file::DeployFile,
) -> PipelineId {
    crate::world::first_version(world, plane, file).await
}
