//! Random acts on a Rollout, from fixed seeds: whatever happened, a full promotion ends healthy.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{NS, beside, cluster, get, pods, rollout, seconds, template, update};
use crate::sim::{
    controller::{self, Behaviour},
    objects::{Delete, Objects},
    resource::{PODS, REPLICA_SETS, ROLLOUTS},
};

/// A small generator, so that a seed is all that a failure needs to be seen again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn patch_status(objects: &Objects, patch: &Value) {
    let mut held = get(objects, &ROLLOUTS, "web");
    if held["status"].is_object() {
        crate::sim::patch::merge(&mut held["status"], patch);
        objects.update_status(&ROLLOUTS, NS, "web", None, &held).unwrap();
    }
}

fn act(objects: &Objects, behaviour: &Behaviour, dice: &mut Dice) -> String {
    let choice = dice.below(13);
    let spec = |patch: Value| update(objects, &ROLLOUTS, "web", &json!({"spec": patch}));
    let status = |patch: Value| patch_status(objects, &patch);
    match choice {
        0 | 1 => {
            let image = ["ok:1", "ok:2", "ok:3", "slow:4", "crash:5", "badpull:6"][dice.below(6) as usize];
            spec(json!({"template": template(image)}));
            return format!("apply {image}");
        }
        2 => {
            let steps = [
                json!([{"setWeight": 25}, {"pause": {}}, {"setWeight": 75}, {"pause": {"duration": 2}}]),
                json!([{"pause": {}}, {"pause": {}}]),
                json!(null),
            ];
            spec(json!({"strategy": {"canary": {"steps": steps[dice.below(3) as usize]}}}));
        }
        3 => spec(json!({"replicas": 1 + dice.below(5)})),
        4 => spec(json!({"paused": true})),
        5 => spec(json!({"paused": null})),
        6 => status(json!({"pauseConditions": null})),
        7 => status(json!({"abort": true})),
        8 => status(json!({"abort": false})),
        9 => status(json!({"promoteFull": true})),
        10 => status(
            json!({"pauseConditions": null, "controllerPause": false, "currentStepIndex": dice.below(5)}),
        ),
        11 => {
            if behaviour.has_rollouts() {
                behaviour.stop_rollouts()
            } else {
                behaviour.start_rollouts()
            }
        }
        _ => {
            if let Some(pod) = pods(objects).first() {
                let name = pod["metadata"]["name"].as_str().unwrap();
                objects.delete(&PODS, NS, name, &Delete::default()).unwrap();
            }
        }
    }
    choice.to_string()
}

async fn storm(seed: u64) {
    let objects = cluster();
    let behaviour = Behaviour::default();
    let mut dice = Dice(seed);
    let mut told = Vec::new();
    beside(&objects, &behaviour, async {
        objects.create(&ROLLOUTS, rollout(3, "ok:1")).unwrap();
        // With a stable version that is not available itself, a real controller may wait for ever too.
        seconds(2).await;
        for _ in 0..15 {
            told.push(act(&objects, &behaviour, &mut dice));
            sleep(Duration::from_millis(dice.below(2500))).await;
        }
        behaviour.start_rollouts();
        let end = json!({"spec": {"paused": null, "replicas": 4, "template": template("ok:last")}});
        update(&objects, &ROLLOUTS, "web", &end);
        seconds(2).await;
        patch_status(&objects, &json!({"abort": null, "promoteFull": true}));
        seconds(30).await;
    })
    .await;
    let held = get(&objects, &ROLLOUTS, "web");
    let status = &held["status"];
    let sets = objects.list(&REPLICA_SETS, Some(NS)).items;
    let place = format!("seed {seed}: {told:?}: {status}");
    assert_eq!(status["phase"], "Healthy", "{place}");
    assert_eq!(
        status["observedGeneration"],
        held["metadata"]["generation"].to_string(),
        "{place}"
    );
    assert_eq!(status["stableRS"], status["currentPodHash"], "{place}");
    assert_eq!(status.get("promoteFull"), None, "{place}");
    let wanted: i64 = sets
        .iter()
        .map(|set| set["spec"]["replicas"].as_i64().unwrap())
        .sum();
    assert_eq!(wanted, 4, "{place}");
    let ready = pods(&objects)
        .iter()
        .filter(|pod| controller::pods::ready_since(pod).is_some())
        .count();
    assert_eq!(ready, 4, "{place}");
}

#[tokio::test(start_paused = true)]
async fn whatever_happened_a_full_promotion_ends_healthy() {
    for seed in 1..=25 {
        storm(seed).await;
    }
}
