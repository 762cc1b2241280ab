//! What people do about runs: skip, retry, roll back, redeploy, queue; and who is refused, and why.

mod back;
mod crash;
mod impact;
mod queue;
mod race;
mod refused;
mod retry;
mod skip;

use aurora_core::control::{ControlPlane, TargetAct};
use aurora_core::id::PipelineId;
use aurora_core::pipeline::{End, Phase, Pipeline};
use aurora_core::tasks::Tasks;

use crate::world::{World, canary, deployer, door, drive, file, first_version, stands, submit, target, yes};

/// A world in which version 1 of the application runs.
async fn settled(accounts: &[&str]) -> (World, ControlPlane, Tasks, PipelineId) {
    let world = World::new(accounts);
    let plane = world.plane();
    let tasks = drive(&plane);
    let id = first_version(&world, &plane, version(accounts, "app:1")).await;
    (world, plane, tasks, id)
}

/// A version of the application for targets that depend on none.
fn version(accounts: &[&str], image: &str) -> aurora_core::deploy_file::DeployFile {
    let targets: Vec<_> = accounts.iter().map(|name| (*name, target(name, &[]))).collect();
    file("shop", image, canary(), &targets)
}

/// Submits a version and lets everything that waits for a person go on, until it is over.
async fn deployed(
    world: &World,
    plane: &ControlPlane,
    file: aurora_core::deploy_file::DeployFile,
) -> PipelineId {
    let accounts: Vec<String> = file.targets.keys().cloned().collect();
    let id = submit(plane, file).await;
    for name in accounts {
        let gate = format!("{name}/step/1");
        world.until(id, |p| stands(p, &gate) || p.is_final()).await;
        approve(plane, id, &gate).await;
    }
    world.ended(id).await;
    id
}

async fn approve(plane: &ControlPlane, id: PipelineId, gate: &str) {
    let grace = deployer("grace", &["release-manager"]);
    plane.approve(&grace, &door(), id, yes(gate)).await.unwrap();
}

fn of(target: &str) -> TargetAct {
    TargetAct {
        target: Some(target.to_owned()),
        ..TargetAct::default()
    }
}

fn to(target: &str, to: PipelineId) -> TargetAct {
    TargetAct {
        to: Some(to),
        comment: Some("it was better".to_owned()),
        ..of(target)
    }
}

fn end(pipeline: &Pipeline, target: &str) -> End {
    match pipeline.targets[target].phase {
        Phase::Ended { end, .. } => end,
        ref other => panic!("{target} has not ended: {other:?}"),
    }
}

/// The image that a cluster holds, and the configuration that came with it.
fn held(world: &World, account: &str) -> (String, String) {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let cluster = world.cluster(account);
    let rollout = cluster.object(&crate::world::rollout("shop")).unwrap();
    let config = cluster
        .objects()
        .into_iter()
        .find(|object| object["kind"] == "ConfigMap" && object["data"]["image"].is_string())
        .unwrap();
    (
        text(&rollout["spec"]["template"]["spec"]["containers"][0]["image"]),
        text(&config["data"]["image"]),
    )
}

fn holds(world: &World, account: &str, image: &str) {
    assert_eq!(
        held(world, account),
        (image.to_owned(), image.to_owned()),
        "{account}"
    );
}

/// The audit lines of an act, by result.
fn audit(world: &World, action: &str) -> Vec<String> {
    let wanted = format!("\"action\":\"{action}\"");
    world
        .store
        .records(&world.scope())
        .into_iter()
        .filter(|record| record.key.kind == "audit")
        .map(|record| String::from_utf8(record.value.to_vec()).unwrap())
        .filter(|line| line.contains(&wanted))
        .collect()
}
