//! Workloads without steps, and autoscalers that join and leave, on the simulated cluster.

#![expect(
    clippy::unwrap_used,
    reason = "a test reports by panicking when the cluster does something else"
)]

#[path = "executor/cluster.rs"]
#[expect(dead_code, reason = "only a part of it is needed here")]
mod cluster;
#[path = "executor/shop.rs"]
#[expect(dead_code, reason = "only a part of it is needed here")]
mod shop;

use serde_json::{Value, json};

use aurora_core::command::{Action, Direction};
use aurora_core::manifest::ObjectRef;
use aurora_core::plan::Plan;
use aurora_core::progress::Standing;
use aurora_k8s::sim::resource::{REPLICA_SETS, ROLLOUTS};

use self::cluster::Cluster;
use self::shop::{
    act, apply, deployed, finish, plan, rollout, rollout_body, until, until_at, until_done, web,
};

fn workload(kind: &str, image: &str) -> Value {
    let mut body = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "db", "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "db"}}, "template": shop::template("db", image)},
    });
    match kind {
        "StatefulSet" => {
            body["spec"]["replicas"] = json!(2);
            body["spec"]["serviceName"] = json!("db");
        }
        "Job" => {
            body["apiVersion"] = json!("batch/v1");
            let spec = body["spec"].as_object_mut().unwrap();
            spec.remove("selector");
            body["spec"]["backoffLimit"] = json!(1);
            body["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
            body["spec"]["template"] = shop::with_digest(body["spec"]["template"].clone());
        }
        _ => {}
    }
    body
}

/// A plan whose end waits for this workload.
fn awaiting(kind: &str, image: &str) -> (Plan, ObjectRef) {
    let body = workload(kind, image);
    let object = ObjectRef::of(&body);
    let mut plan = plan([body]);
    plan.steps.workloads = vec![object.clone()];
    (plan, object)
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_workload_is_moving_until_it_is_done() {
    for kind in ["StatefulSet", "DaemonSet", "Deployment", "Job"] {
        let cluster = Cluster::start().await;
        let (plan, object) = awaiting(kind, "db:slow");
        apply(&cluster, &plan, 1).await.unwrap();
        until(&cluster, &plan, &object, |seen| seen.standing == Standing::Moving).await;
        let done = until(&cluster, &plan, &object, |seen| seen.standing == Standing::Done).await;
        assert!(done.failing.is_empty(), "{kind}: {done:?}");
        assert_eq!(done.pods.new_available, done.pods.desired, "{kind}: {done:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_gives_up_is_degraded_with_its_reason_and_what_its_pods_said() {
    let cluster = Cluster::start().await;
    let (plan, object) = awaiting("Job", "db:crash");
    apply(&cluster, &plan, 1).await.unwrap();
    let failed = until(&cluster, &plan, &object, |seen| {
        assert_ne!(seen.standing, Standing::Done);
        seen.standing == Standing::Degraded && !seen.failing.is_empty()
    })
    .await;
    assert!(
        failed.message.contains("backoff limit") && failed.message.contains("BackoffLimitExceeded"),
        "{}",
        failed.message
    );
    let pod = &failed.failing[0];
    assert_eq!(pod.exit_code, Some(1));
    assert!(!pod.log.is_empty(), "{pod:?}");
}

#[tokio::test(start_paused = true)]
async fn attempts_that_a_job_has_left_are_not_held_against_it() {
    let cluster = Cluster::start().await;
    let mut body = workload("Job", "db:crash");
    body["spec"]["backoffLimit"] = json!(1000);
    body["spec"]["template"]["spec"]["restartPolicy"] = json!("OnFailure");
    body["spec"]["template"] = shop::with_digest(body["spec"]["template"].clone());
    let object = ObjectRef::of(&body);
    let mut plan = plan([body]);
    plan.steps.workloads = vec![object.clone()];
    apply(&cluster, &plan, 1).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    let seen = until(&cluster, &plan, &object, |_| true).await;
    assert_eq!(seen.standing, Standing::Moving);
    assert!(seen.failing.is_empty(), "{:?}", seen.failing);
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_stateful_set_that_crash_are_evidence() {
    let cluster = Cluster::start().await;
    let (plan, object) = awaiting("StatefulSet", "db:crash");
    apply(&cluster, &plan, 1).await.unwrap();
    let seen = until(&cluster, &plan, &object, |seen| {
        seen.failing.iter().any(|pod| pod.restarts >= 3)
    })
    .await;
    assert_eq!(seen.standing, Standing::Moving);
    assert_eq!(seen.failing[0].container, "db");
}

#[tokio::test(start_paused = true)]
async fn a_cron_job_holds_no_stage_and_is_not_followed() {
    let cluster = Cluster::start().await;
    let cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly", "namespace": "shop"},
        "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "x", "image": "x:crash"}],
        }}}}},
    });
    let both = plan([cron.clone(), rollout_body("web", "shop:1")]);
    deployed(&cluster, &both).await;
    assert!(cluster.get(&ObjectRef::of(&cron)).await.is_some());
    finish(&cluster, &both, 1, Direction::Forward).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_asks_nobody_and_keeps_its_bounds() {
    let cluster = Cluster::start().await;
    let rolling = |image: &str| {
        let mut body = rollout_body("web", image);
        body["spec"]["strategy"] = json!({"canary": {"maxSurge": "25%", "maxUnavailable": 0}});
        plan([body])
    };
    deployed(&cluster, &rolling("shop:1")).await;
    let before = cluster.objects.resource_version();
    let second = rolling("shop:2");
    apply(&cluster, &second, 2).await.unwrap();
    let done = until(&cluster, &second, &rollout("web"), |seen| {
        assert!(!matches!(seen.standing, Standing::AtPause { .. }), "{seen:?}");
        seen.standing == Standing::Done
    })
    .await;
    assert_eq!((done.pods.new_available, done.step), (4, None));
    assert_eq!(lowest(&cluster, before), (4, 4));
}

fn autoscaler(least: u32) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "minReplicas": least, "maxReplicas": 10,
            "scaleTargetRef": {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "web"},
        },
    })
}

fn scaled(image: &str) -> Plan {
    let mut body = rollout_body("web", image);
    body["spec"].as_object_mut().unwrap().remove("replicas");
    plan([body, autoscaler(6)])
}

/// The fewest pods wanted and the fewest available in any state that the cluster was in since a version.
fn lowest(cluster: &Cluster, since: u64) -> (u64, u64) {
    let events = cluster.objects.events_since(since).unwrap();
    let number = |object: &Value, place: &str| object.pointer(place).and_then(Value::as_u64).unwrap_or(0);
    let wanted = events
        .iter()
        .filter(|event| *event.resource == ROLLOUTS)
        .map(|event| number(&event.object, "/spec/replicas"));
    // ReplicaSets change one at a time: what all of them have is known after each change.
    let mut available = std::collections::BTreeMap::new();
    for set in cluster.objects.list(&REPLICA_SETS, Some("shop")).items {
        let name = set["metadata"]["name"].to_string();
        let first = events.iter().find(|event| {
            *event.resource == REPLICA_SETS && event.object["metadata"]["name"] == set["metadata"]["name"]
        });
        let before = first.map_or(Some(&set), |event| event.previous.as_ref());
        let count = before.map_or(0, |set| number(set, "/status/availableReplicas"));
        available.insert(name, count);
    }
    let mut fewest: u64 = available.values().sum();
    for event in events.iter().filter(|event| *event.resource == REPLICA_SETS) {
        let count = number(&event.object, "/status/availableReplicas");
        available.insert(event.object["metadata"]["name"].to_string(), count);
        fewest = fewest.min(available.values().sum());
    }
    (wanted.min().unwrap_or(0), fewest)
}

async fn promoted(cluster: &Cluster, plan: &Plan, version: u64, desired: u32) {
    until_at(cluster, plan, "web", 1).await;
    act(cluster, Action::PromoteFull, "web", None, version)
        .await
        .unwrap();
    until(cluster, plan, &rollout("web"), |seen| {
        seen.standing == Standing::Done && seen.pods.desired == desired
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn in_no_state_are_there_fewer_pods_while_an_autoscaler_joins_and_then_leaves() {
    let cluster = Cluster::start().await;
    deployed(&cluster, &web("shop:1")).await;
    let before = cluster.objects.resource_version();
    let joined = scaled("shop:2");
    apply(&cluster, &joined, 2).await.unwrap();
    promoted(&cluster, &joined, 3, 6).await;
    finish(&cluster, &joined, 4, Direction::Forward).await.unwrap();
    // A canary of four pods may have one of them under way.
    assert_eq!(lowest(&cluster, before), (4, 3));

    let before = cluster.objects.resource_version();
    let left = web("shop:3");
    apply(&cluster, &left, 5).await.unwrap();
    promoted(&cluster, &left, 6, 6).await;
    assert_eq!(lowest(&cluster, before), (6, 5), "until done it has what it had");
    finish(&cluster, &left, 7, Direction::Forward).await.unwrap();
    until(&cluster, &left, &rollout("web"), |seen| {
        seen.standing == Standing::Done && seen.pods.new == 4
    })
    .await;
    assert_eq!(lowest(&cluster, before), (4, 4), "then what it declares");
}

#[tokio::test(start_paused = true)]
async fn in_no_state_are_there_fewer_pods_while_an_autoscaler_leaves_and_then_joins() {
    let cluster = Cluster::start().await;
    let first = scaled("shop:1");
    apply(&cluster, &first, 1).await.unwrap();
    until(&cluster, &first, &rollout("web"), |seen| {
        seen.standing == Standing::Done && seen.pods.desired == 6
    })
    .await;
    finish(&cluster, &first, 1, Direction::Forward).await.unwrap();
    let before = cluster.objects.resource_version();
    let left = web("shop:2");
    apply(&cluster, &left, 2).await.unwrap();
    promoted(&cluster, &left, 3, 6).await;
    assert_eq!(lowest(&cluster, before), (6, 5));
    finish(&cluster, &left, 4, Direction::Forward).await.unwrap();
    until_done(&cluster, &left, "web").await;

    let before = cluster.objects.resource_version();
    let joined = scaled("shop:3");
    apply(&cluster, &joined, 5).await.unwrap();
    promoted(&cluster, &joined, 6, 6).await;
    assert_eq!(lowest(&cluster, before), (4, 3));
}
