//! Pipelines that go well.

use aurora_core::command::Action;
use aurora_core::pipeline::State;
use aurora_core::port::executor::memory::Write;

use crate::world::{
    World, canary, deployer, door, drive, file, first_version, rollout, see, stands, submit, target, yes,
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
