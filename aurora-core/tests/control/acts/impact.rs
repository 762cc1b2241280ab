//! What an act would do, told before it is done, and then done.

use aurora_core::control::Intent;
use aurora_core::pipeline::{End, Impact};
use aurora_core::port::executor::memory::PodFault;

use super::{approve, end, of, settled, version};
use crate::world::{World, canary, deployer, door, file, principal, stands, submit, target};

fn intent(action: &str) -> Intent {
    Intent {
        action: action.to_owned(),
        ..Intent::default()
    }
}

async fn asked(
    plane: &aurora_core::control::ControlPlane,
    id: aurora_core::id::PipelineId,
    intent: Intent,
) -> Impact {
    let grace = principal("grace", &["release-manager"], &["manage:deploy"])
        .authorize()
        .unwrap();
    plane.impact(&grace, id, &intent).await.unwrap().body
}

fn dependants(impact: &Impact) -> Vec<(&str, &str)> {
    impact
        .dependants
        .iter()
        .map(|d| (d.target.as_str(), d.then.as_str()))
        .collect()
}

async fn nothing_stored(world: &World, before: usize) {
    assert_eq!(
        world.store.events(&world.scope()).len(),
        before,
        "asking changes nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_told_of_a_run_that_goes_on_is_what_happens() {
    let (world, plane, _tasks, first) = settled(&["eu", "us", "prod"]).await;
    let targets = [
        ("eu", target("eu", &[])),
        ("us", target("us", &[])),
        ("prod", target("prod", &["eu"])),
    ];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    world
        .until(id, |p| stands(p, "eu/step/1") && stands(p, "us/step/1"))
        .await;
    let before = world.store.events(&world.scope()).len();

    let mut approve_eu = intent("approve");
    approve_eu.target = Some("eu".to_owned());
    let told = asked(&plane, id, approve_eu).await;
    assert!(told.allowed && !told.new_run, "{told:#?}");
    let change = &told.effects[0];
    assert_eq!((change.from.weight, change.to.weight), (Some(25), Some(50)));
    assert_eq!((change.from.run, change.to.run), (Some(id), Some(id)));
    assert_eq!(told.undo.unwrap().action, "rollback");

    let mut back = intent("rollback");
    back.target = Some("eu".to_owned());
    let told = asked(&plane, id, back).await;
    assert_eq!((told.effects.len(), told.effects[0].target.as_str()), (1, "eu"));
    let change = &told.effects[0];
    assert_eq!((change.from.run, change.from.weight), (Some(id), Some(25)));
    assert_eq!((change.to.run, change.to.weight), (Some(first), Some(100)));
    assert!(
        told.interrupts[0].contains("step 2 of target `eu`"),
        "{:?}",
        told.interrupts
    );
    assert_eq!(dependants(&told), [("prod", "neverStarts")]);

    let told = asked(&plane, id, intent("cancel")).await;
    let touched: Vec<&str> = told.effects.iter().map(|change| change.target.as_str()).collect();
    assert_eq!(touched, ["eu", "us"]);
    assert_eq!(dependants(&told), [("prod", "neverStarts")]);
    assert!(!told.irreversible.is_empty());
    nothing_stored(&world, before).await;

    let ada = deployer("ada", &[]);
    plane.roll_back(&ada, &door(), id, of("eu")).await.unwrap();
    approve(&plane, id, "us/step/1").await;
    let pipeline = world.ended(id).await;
    assert_eq!(
        (end(&pipeline, "eu"), end(&pipeline, "prod")),
        (End::RolledBack, End::NeverStarted)
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_may_not_act_is_told_so_and_what_it_would_do() {
    let (world, plane, _tasks, _) = settled(&["staging"]).await;
    let id = submit(&plane, version(&["staging"], "app:2")).await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    let intern = principal("eve", &["intern"], &["manage:deploy"])
        .authorize()
        .unwrap();
    let told = plane.impact(&intern, id, &intent("approve")).await.unwrap().body;
    let denied = told.denied.unwrap();
    assert!(!told.allowed && denied.code == "role.missing", "{denied:?}");
    assert_eq!(denied.needs, ["release-manager"]);
    assert_eq!(told.effects[0].to.weight, Some(50));
    let told = plane
        .impact(&crate::world::reader(), id, &intent("cancel"))
        .await
        .unwrap()
        .body;
    assert_eq!(
        (told.allowed, told.denied.unwrap().code.as_str()),
        (false, "scope.missing")
    );
    assert_eq!(told.effects.len(), 1);
    let mut skip = intent("skip");
    skip.gate = Some("staging/step/3".parse().unwrap());
    let told = asked(&plane, id, skip).await;
    assert_eq!(
        (told.allowed, told.denied.unwrap().code.as_str()),
        (false, "gate.notStanding")
    );
    let grace = principal("grace", &["release-manager"], &["manage:deploy"])
        .authorize()
        .unwrap();
    let wrong = plane.impact(&grace, id, &intent("dance")).await.unwrap_err();
    assert_eq!(wrong.kind(), aurora_core::error::ErrorKind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_over_tells_of_the_new_run() {
    let (world, plane, _tasks, first) = settled(&["eu", "us"]).await;
    world.cluster("us").break_image("app:2", PodFault::Crash);
    let targets = [("eu", target("eu", &[])), ("us", target("us", &["eu"]))];
    let second = deployed_until_failed(&world, &plane, file("shop", "app:2", canary(), &targets)).await;
    let before = world.store.events(&world.scope()).len();
    let told = asked(&plane, second, intent("retry")).await;
    assert!(told.allowed && told.new_run);
    let change = &told.effects[0];
    assert_eq!(
        (change.target.as_str(), change.from.run, change.to.run),
        ("us", Some(first), None)
    );
    assert_eq!(change.to.weight, Some(25));
    let mut back = intent("rollback");
    back.target = Some("eu".to_owned());
    let told = asked(&plane, second, back).await;
    let change = &told.effects[0];
    assert_eq!(
        (change.from.run, change.from.weight, change.to.weight),
        (Some(second), Some(100), Some(100))
    );
    assert!(change.text.contains("without gates"));
    let told = asked(&plane, second, intent("redeploy")).await;
    assert_eq!((told.effects.len(), told.effects[0].to.plan), (2, None));
    nothing_stored(&world, before).await;
}

async fn deployed_until_failed(
    world: &World,
    plane: &aurora_core::control::ControlPlane,
    file: aurora_core::deploy_file::DeployFile,
) -> aurora_core::id::PipelineId {
    let id = submit(plane, file).await;
    world.until(id, |p| stands(p, "eu/step/1")).await;
    approve(plane, id, "eu/step/1").await;
    world.ended(id).await;
    id
}
