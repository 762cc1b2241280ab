//! What the laws leave open: moving by ticks, broken images, held workloads, the log of writes.

use futures::FutureExt as _;
use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::digest::Digest;
use crate::manifest::Origin;
use crate::plan::{PlannedObject, StepMap};
use crate::progress::{Progress, Standing};

fn web() -> ObjectRef {
    ObjectRef::new("argoproj.io", "Rollout", "shop", "web")
}

fn plan(image: &str) -> Plan {
    let body = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "replicas": 4,
            "strategy": {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}},
            "template": {"spec": {"containers": [{"name": "web", "image": image}]}},
        },
    });
    Plan {
        version: Plan::VERSION,
        application: "shop".to_owned(),
        target: "staging".to_owned(),
        namespace: "shop".to_owned(),
        objects: vec![PlannedObject {
            body,
            origin: Origin::default(),
            adopt: false,
        }],
        steps: StepMap::default(),
        notes: Vec::new(),
    }
}

fn order(plan: &Plan, version: u64) -> Apply {
    Apply {
        set: AppliedSetKey {
            tenant: "acme/dev".to_owned(),
            application: "shop".to_owned(),
            namespace: "shop".to_owned(),
        },
        target: "staging".to_owned(),
        plan: plan.digest(),
        stamp: Stamp { fence: 1, version },
        direction: Direction::Forward,
    }
}

async fn apply(cluster: &InMemoryCluster, plan: &Plan, version: u64) -> Applied {
    let (stages, _heard) = mpsc::channel(1);
    cluster.apply(&order(plan, version), plan, &stages).await.unwrap()
}

async fn seen(cluster: &InMemoryCluster, plan: &Plan) -> Progress {
    let observe = Observe {
        set: order(plan, 1).set,
        plan: plan.digest(),
        direction: Direction::Forward,
    };
    let mut levels = cluster.observe(&observe, plan).await.unwrap();
    levels.next().await.unwrap().unwrap().remove(0)
}

#[tokio::test]
async fn with_ticks_an_apply_waits_until_it_is_taken_up() {
    let cluster = InMemoryCluster::default().with_ticks();
    let plan = plan("web:1");
    let (stages, _heard) = mpsc::channel(1);
    let order = order(&plan, 1);
    let mut applying = cluster.apply(&order, &plan, &stages);
    for _ in 0..5 {
        tokio::task::yield_now().await;
        assert!((&mut applying).now_or_never().is_none(), "nothing takes it up");
    }
    assert_eq!(seen(&cluster, &plan).await.standing, Standing::NotObserved);
    assert!(cluster.tick());
    assert_eq!(applying.await.unwrap().changed, 1);
    assert_eq!(seen(&cluster, &plan).await.standing, Standing::Moving);
    cluster.settle();
    assert_eq!(seen(&cluster, &plan).await.standing, Standing::Done);
    assert!(!cluster.tick(), "what is settled does not move");
}

#[tokio::test]
async fn each_tick_is_one_move_that_can_be_seen() {
    let cluster = InMemoryCluster::default();
    apply(&cluster, &plan("web:1"), 1).await;
    let cluster = cluster.with_ticks();
    cluster.put_by_hand(plan("web:2").objects[0].body.clone());
    let second = plan("web:2");
    let mut pods = Vec::new();
    while cluster.tick() {
        let level = seen(&cluster, &second).await;
        pods.push((level.pods.new, level.pods.old));
    }
    pods.dedup();
    assert_eq!(pods, [(0, 4), (2, 4), (2, 2)], "surge first, then the old ones");
    assert!(matches!(
        seen(&cluster, &second).await.standing,
        Standing::AtPause {
            index: 1,
            ready: true,
            ..
        }
    ));
}

#[tokio::test]
async fn a_broken_image_holds_its_step_until_it_is_healed() {
    let cluster = InMemoryCluster::default();
    apply(&cluster, &plan("web:1"), 1).await;
    let second = plan("web:2");
    for (fault, reason) in [
        (PodFault::Crash, Some("CrashLoopBackOff")),
        (PodFault::Unpullable, Some("ImagePullBackOff")),
        (PodFault::NeverReady, None),
    ] {
        cluster.break_image("web:2", fault);
        apply(&cluster, &second, 2).await;
        let level = seen(&cluster, &second).await;
        assert_eq!(
            (&level.standing, level.pods.new_available),
            (&Standing::Moving, 0),
            "{fault:?}"
        );
        assert_eq!(level.failing.first().map(|pod| pod.reason.as_str()), reason);
    }
    cluster.heal_image("web:2");
    let level = seen(&cluster, &second).await;
    assert!(matches!(level.standing, Standing::AtPause { .. }) && level.failing.is_empty());
}

#[tokio::test]
async fn a_held_workload_and_a_stopped_controller_stand_still() {
    let cluster = InMemoryCluster::default();
    apply(&cluster, &plan("web:1"), 1).await;
    let second = plan("web:2");
    let body = second.objects[0].body.clone();
    cluster.stop_controller();
    cluster.put_by_hand(body);
    assert_eq!(seen(&cluster, &second).await.standing, Standing::NotObserved);
    cluster.stall(&web());
    cluster.start_controller();
    assert_eq!(seen(&cluster, &second).await.standing, Standing::NotObserved);
    cluster.release(&web());
    assert!(matches!(
        seen(&cluster, &second).await.standing,
        Standing::AtPause { .. }
    ));
}

#[tokio::test]
async fn writes_of_executors_are_logged_and_those_of_others_are_not() {
    let cluster = InMemoryCluster::default();
    apply(&cluster, &plan("web:1"), 1).await;
    apply(&cluster, &plan("web:1"), 2).await;
    apply(&cluster, &plan("web:2"), 3).await;
    cluster.act_by_hand(&web(), Action::Promote);
    let stamp = |version| Stamp { fence: 1, version };
    let applied = |version| Write::Applied {
        object: web(),
        stamp: stamp(version),
    };
    assert_eq!(cluster.writes(), [applied(1), applied(3)]);
    let done = seen(&cluster, &plan("web:2")).await;
    assert_eq!(done.standing, Standing::Done, "somebody promoted it");
    let template = &plan("web:2").objects[0].body["spec"]["template"];
    assert_eq!(done.stable, Digest::of_json(template).short(10));
}

fn blue_green(image: &str, delay: u32) -> Plan {
    let mut plan = plan(image);
    plan.objects[0].body["spec"]["strategy"] = json!({"blueGreen": {
        "activeService": "web", "autoPromotionEnabled": false, "scaleDownDelaySeconds": delay,
    }});
    plan
}

#[tokio::test(start_paused = true)]
async fn an_old_version_runs_until_its_delay_is_over_on_the_clusters_clock() {
    let clock = crate::port::clock::InMemoryClock::starting_at(epoch());
    let cluster = InMemoryCluster::default().with_clock(Arc::new(clock.clone()));
    apply(&cluster, &blue_green("web:1", 60), 1).await;
    let second = blue_green("web:2", 60);
    apply(&cluster, &second, 2).await;
    cluster.act_by_hand(&web(), Action::Promote);
    for (passed, old) in [(0, 4), (59, 4), (1, 0)] {
        clock.jump(jiff::SignedDuration::from_secs(passed));
        cluster.settle();
        let level = seen(&cluster, &second).await;
        assert_eq!(
            (&level.standing, level.pods.old),
            (&Standing::Done, old),
            "{passed} s later"
        );
    }
}

#[tokio::test]
async fn a_version_that_promotes_itself_waits_for_its_pods_and_nobody() {
    let cluster = InMemoryCluster::default();
    let automatic = |image: &str| {
        let mut plan = blue_green(image, 60);
        plan.objects[0].body["spec"]["strategy"]["blueGreen"]["autoPromotionEnabled"] = json!(true);
        plan
    };
    apply(&cluster, &automatic("web:1"), 1).await;
    cluster.break_image("web:2", PodFault::NeverReady);
    let second = automatic("web:2");
    apply(&cluster, &second, 2).await;
    let waiting = seen(&cluster, &second).await;
    assert_eq!(waiting.standing, Standing::Moving);
    assert_eq!((waiting.pods.old_available, waiting.weight.unwrap().real), (4, 0));
    cluster.heal_image("web:2");
    let done = seen(&cluster, &second).await;
    assert_eq!((done.standing, done.weight.unwrap().real), (Standing::Done, 100));
}
