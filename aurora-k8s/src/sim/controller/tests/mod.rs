//! Tests of the controllers beside the replayed recordings, in virtual time.

mod rollouts;
mod storms;

use std::{future::Future, time::Duration};

use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Behaviour, Controllers, pod_log};
use crate::sim::{
    objects::{Delete, Objects, Propagation, tokio_clock},
    patch,
    resource::{
        CONFIG_MAPS, CUSTOM_RESOURCE_DEFINITIONS, DAEMON_SETS, DEPLOYMENTS, ENDPOINTS,
        HORIZONTAL_POD_AUTOSCALERS, JOBS, NAMESPACES, PERSISTENT_VOLUME_CLAIMS, POD_DISRUPTION_BUDGETS, PODS,
        REPLICA_SETS, Resource, SERVICES, STATEFUL_SETS,
    },
};

const NS: &str = "default";

fn cluster() -> Objects {
    Objects::new(tokio_clock("2026-01-01T00:00:00Z".parse().unwrap()))
}

/// Runs the controllers beside a test.
async fn beside<T>(objects: &Objects, behaviour: &Behaviour, test: impl Future<Output = T>) -> T {
    let controllers = Controllers::new(objects.clone(), behaviour.clone()).run(CancellationToken::new());
    tokio::select! {
        biased;
        outcome = test => outcome,
        () = controllers => panic!("the controllers stopped"),
    }
}

async fn seconds(count: u64) {
    sleep(Duration::from_secs(count)).await;
}

fn get(objects: &Objects, kind: &Resource, name: &str) -> Value {
    (*objects
        .get(kind, NS, name)
        .unwrap_or_else(|| panic!("{kind} {name} is gone")))
    .clone()
}

fn pods(objects: &Objects) -> Vec<Value> {
    objects
        .list(&PODS, Some(NS))
        .items
        .iter()
        .map(|pod| (**pod).clone())
        .collect()
}

fn update(objects: &Objects, kind: &Resource, name: &str, change: &Value) {
    let mut next = get(objects, kind, name);
    patch::merge(&mut next, change);
    objects.update(kind, NS, name, None, next).unwrap();
}

fn named(name: &str, body: Value) -> Value {
    let mut object = body;
    object["metadata"]["name"] = name.into();
    object["metadata"]["namespace"] = NS.into();
    object
}

fn template(image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "image": image}]},
    })
}

fn workload(name: &str, replicas: i64, image: &str) -> Value {
    named(
        name,
        json!({"spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template(image),
        }}),
    )
}

fn rollout(replicas: i64, image: &str) -> Value {
    let mut rollout = workload("web", replicas, image);
    rollout["spec"]["strategy"] = json!({"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}});
    rollout
}

fn condition(object: &Value, kind: &str) -> Value {
    super::meta::condition(&object["status"]["conditions"], kind)
        .cloned()
        .unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn deployment_rolls_over_and_never_falls_below_its_bounds() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        objects.create(&DEPLOYMENTS, workload("web", 4, "ok:1")).unwrap();
        seconds(3).await;
        assert_eq!(
            get(&objects, &DEPLOYMENTS, "web")["status"]["availableReplicas"],
            4
        );
        update(
            &objects,
            &DEPLOYMENTS,
            "web",
            &json!({"spec": {"template": template("ok:2")}}),
        );
        let mut lowest = 4;
        for _ in 0..100 {
            sleep(Duration::from_millis(50)).await;
            let ready = pods(&objects)
                .iter()
                .filter(|pod| super::pods::ready_since(pod).is_some())
                .count();
            lowest = lowest.min(ready);
        }
        let done = get(&objects, &DEPLOYMENTS, "web");
        assert_eq!(
            condition(&done, "Progressing")["reason"],
            "NewReplicaSetAvailable"
        );
        assert_eq!(done["status"]["updatedReplicas"], 4);
        assert_eq!(
            done["status"]["observedGeneration"],
            done["metadata"]["generation"]
        );
        assert_eq!(
            done["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
            "2"
        );
        assert!(
            pods(&objects)
                .iter()
                .all(|pod| pod["spec"]["containers"][0]["image"] == "ok:2")
        );
        assert!(lowest >= 3, "{lowest} of 4 were ready");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn deployment_that_does_not_come_up_exceeds_its_deadline() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        let mut deployment = workload("web", 1, "badpull:1");
        deployment["spec"]["progressDeadlineSeconds"] = json!(10);
        objects.create(&DEPLOYMENTS, deployment).unwrap();
        seconds(20).await;
        let failed = get(&objects, &DEPLOYMENTS, "web");
        assert_eq!(
            condition(&failed, "Progressing")["reason"],
            "ProgressDeadlineExceeded"
        );
        assert_eq!(condition(&failed, "Available")["status"], "False");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn stateful_set_makes_numbered_pods_with_bound_claims_in_order() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        let mut set = workload("db", 2, "ok:1");
        set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {}}]);
        objects.create(&STATEFUL_SETS, set).unwrap();
        sleep(Duration::from_millis(300)).await;
        assert_eq!(pods(&objects).len(), 1, "the second pod waits for the first");
        seconds(3).await;
        let names: Vec<_> = pods(&objects)
            .iter()
            .map(|pod| pod["metadata"]["name"].clone())
            .collect();
        assert_eq!(names, ["db-0", "db-1"]);
        assert_eq!(
            get(&objects, &PERSISTENT_VOLUME_CLAIMS, "data-db-1")["status"]["phase"],
            "Bound"
        );
        update(
            &objects,
            &STATEFUL_SETS,
            "db",
            &json!({"spec": {"template": template("ok:2")}}),
        );
        seconds(5).await;
        let done = get(&objects, &STATEFUL_SETS, "db");
        assert_eq!(done["status"]["updatedReplicas"], 2);
        assert_eq!(
            done["status"]["currentRevision"],
            done["status"]["updateRevision"]
        );
        update(&objects, &STATEFUL_SETS, "db", &json!({"spec": {"replicas": 1}}));
        seconds(2).await;
        assert_eq!(pods(&objects).len(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn daemon_set_has_one_pod_of_its_present_template() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        objects
            .create(&DAEMON_SETS, workload("agent", 1, "ok:1"))
            .unwrap();
        seconds(2).await;
        assert_eq!(get(&objects, &DAEMON_SETS, "agent")["status"]["numberReady"], 1);
        update(
            &objects,
            &DAEMON_SETS,
            "agent",
            &json!({"spec": {"template": template("ok:2")}}),
        );
        seconds(3).await;
        assert_eq!(
            get(&objects, &DAEMON_SETS, "agent")["status"]["updatedNumberScheduled"],
            1
        );
        assert_eq!(pods(&objects)[0]["spec"]["containers"][0]["image"], "ok:2");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn job_completes_and_a_crashing_one_fails() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        for (name, image) in [("good", "ok:1"), ("bad", "crash:1")] {
            let mut job = named(
                name,
                json!({"spec": {"backoffLimit": 1, "template": template(image)}}),
            );
            job["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
            objects.create(&JOBS, job).unwrap();
        }
        sleep(Duration::from_millis(1200)).await;
        assert_eq!(
            condition(&get(&objects, &JOBS, "good"), "Complete")["status"],
            "True"
        );
        seconds(5).await;
        let failed = get(&objects, &JOBS, "bad");
        assert_eq!(condition(&failed, "Failed")["reason"], "BackoffLimitExceeded");
        assert_eq!(failed["status"]["failed"], 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn autoscaler_keeps_its_target_between_the_bounds() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        objects.create(&DEPLOYMENTS, workload("web", 1, "ok:1")).unwrap();
        let scaler = named(
            "web",
            json!({"spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": 3, "maxReplicas": 5,
            }}),
        );
        objects.create(&HORIZONTAL_POD_AUTOSCALERS, scaler).unwrap();
        seconds(16).await;
        assert_eq!(get(&objects, &DEPLOYMENTS, "web")["spec"]["replicas"], 3);
        update(&objects, &DEPLOYMENTS, "web", &json!({"spec": {"replicas": 9}}));
        seconds(16).await;
        assert_eq!(get(&objects, &DEPLOYMENTS, "web")["spec"]["replicas"], 5);
        let scaler = get(&objects, &HORIZONTAL_POD_AUTOSCALERS, "web");
        assert_eq!(condition(&scaler, "AbleToScale")["status"], "True");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_and_disruption_budgets_count_ready_pods() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        let service = named(
            "web",
            json!({"spec": {
                "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
            }}),
        );
        let service = objects.create(&SERVICES, service).unwrap();
        assert!(service["spec"]["clusterIP"].is_string());
        let budget = named(
            "web",
            json!({"spec": {
                "minAvailable": 1, "selector": {"matchLabels": {"app": "web"}},
            }}),
        );
        objects.create(&POD_DISRUPTION_BUDGETS, budget).unwrap();
        objects.create(&DEPLOYMENTS, workload("web", 2, "ok:1")).unwrap();
        objects
            .create(&DEPLOYMENTS, workload("stuck", 1, "neverready:1"))
            .unwrap();
        seconds(3).await;
        let subset = get(&objects, &ENDPOINTS, "web")["subsets"][0].clone();
        assert_eq!(subset["addresses"].as_array().unwrap().len(), 2);
        assert_eq!(subset["notReadyAddresses"].as_array().unwrap().len(), 1);
        assert_eq!(subset["ports"][0]["port"], 8080);
        let budget = get(&objects, &POD_DISRUPTION_BUDGETS, "web");
        assert_eq!(budget["status"]["disruptionsAllowed"], 1);
        assert_eq!(budget["status"]["expectedPods"], 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn definition_is_established() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        let definition = json!({
            "metadata": {"name": "widgets.example.com"},
            "spec": {"group": "example.com", "names": {"kind": "Widget", "plural": "widgets"},
                "versions": [{"name": "v1", "served": true, "storage": true}]},
        });
        objects.create(&CUSTOM_RESOURCE_DEFINITIONS, definition).unwrap();
        seconds(1).await;
        let held = get(&objects, &CUSTOM_RESOURCE_DEFINITIONS, "widgets.example.com");
        assert_eq!(condition(&held, "Established")["status"], "True");
        assert_eq!(held["status"]["storedVersions"], json!(["v1"]));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_owned_goes_as_the_deletion_says() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        let left = || objects.list(&REPLICA_SETS, Some(NS)).items.len() + pods(&objects).len();
        for propagation in [
            Propagation::Background,
            Propagation::Foreground,
            Propagation::Orphan,
        ] {
            objects.create(&DEPLOYMENTS, workload("web", 2, "ok:1")).unwrap();
            seconds(2).await;
            assert_eq!(left(), 3, "{propagation:?}");
            objects
                .delete(
                    &DEPLOYMENTS,
                    NS,
                    "web",
                    &Delete {
                        propagation,
                        ..Delete::default()
                    },
                )
                .unwrap();
            let held = objects.get(&DEPLOYMENTS, NS, "web").is_some();
            assert_eq!(held, propagation != Propagation::Background, "{propagation:?}");
            seconds(3).await;
            assert!(objects.get(&DEPLOYMENTS, NS, "web").is_none(), "{propagation:?}");
            assert_eq!(
                left(),
                if propagation == Propagation::Orphan { 3 } else { 0 },
                "{propagation:?}"
            );
        }
        let orphan = &objects.list(&REPLICA_SETS, Some(NS)).items[0];
        assert_eq!(orphan["metadata"]["ownerReferences"], json!([]));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn deleted_namespace_empties_and_goes() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        objects
            .create(&NAMESPACES, json!({"metadata": {"name": "team"}}))
            .unwrap();
        let mut deployment = workload("web", 2, "ok:1");
        deployment["metadata"]["namespace"] = json!("team");
        objects.create(&DEPLOYMENTS, deployment).unwrap();
        seconds(2).await;
        objects
            .delete(&NAMESPACES, "", "team", &Delete::default())
            .unwrap();
        seconds(3).await;
        assert!(
            objects.get(&DEPLOYMENTS, "team", "web").is_some(),
            "content stays for some seconds"
        );
        seconds(7).await;
        assert!(objects.get(&NAMESPACES, "", "team").is_none());
        let everything = objects.resources();
        let left: usize = everything
            .iter()
            .map(|kind| objects.list(kind, Some("team")).items.len())
            .sum();
        let elsewhere: usize = everything
            .iter()
            .filter(|it| !it.namespaced)
            .map(|it| objects.list(it, None).items.len())
            .sum();
        assert_eq!(left, elsewhere, "nothing namespaced is left");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn pods_behave_as_their_image_or_annotation_says() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        for name in ["ok", "slow", "neverready", "badpull", "crash"] {
            let image = if name == "crash" {
                "ok:1".to_owned()
            } else {
                format!("{name}:1")
            };
            let mut pod = named(
                name,
                json!({"spec": {"containers": [{"name": "main", "image": image}]}}),
            );
            if name == "crash" {
                pod["metadata"]["annotations"] = json!({"sim.aurora.dev/behaviour": "crash"});
            }
            objects.create(&PODS, pod).unwrap();
        }
        let is_ready = |name: &str| super::pods::ready_since(&get(&objects, &PODS, name)).is_some();
        let status = |name: &str| get(&objects, &PODS, name)["status"]["containerStatuses"][0].clone();
        seconds(1).await;
        assert!(is_ready("ok") && !is_ready("slow"));
        assert!(
            pod_log(&get(&objects, &PODS, "ok"), None, false)
                .unwrap()
                .contains("listening")
        );
        seconds(4).await;
        assert!(is_ready("slow"));
        let crashed = get(&objects, &PODS, "crash");
        assert_eq!(status("crash")["lastState"]["terminated"]["exitCode"], 1);
        let restarts = status("crash")["restartCount"].as_i64().unwrap();
        assert!(restarts >= 3, "{restarts} restarts");
        assert!(pod_log(&crashed, Some("main"), true).unwrap().contains("fatal"));
        assert_eq!(pod_log(&crashed, Some("other"), true), None);
        seconds(60).await;
        assert!(status("crash")["restartCount"].as_i64().unwrap() > restarts);
        assert_eq!(
            status("badpull")["state"]["waiting"]["reason"],
            "ImagePullBackOff"
        );
        assert_eq!(get(&objects, &PODS, "badpull")["status"]["phase"], "Pending");
        assert!(!is_ready("neverready") && status("neverready")["state"]["running"].is_object());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn pod_waits_for_the_configuration_that_it_names() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        let mut pod = named("web", json!({"spec": template("ok:1")["spec"]}));
        pod["spec"]["containers"][0]["envFrom"] =
            json!([{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "extra", "optional": true}}]);
        objects.create(&PODS, pod).unwrap();
        seconds(2).await;
        let waiting = get(&objects, &PODS, "web")["status"]["containerStatuses"][0]["state"]["waiting"].clone();
        assert_eq!(waiting["reason"], "CreateContainerConfigError");
        assert_eq!(waiting["message"], "configmap \"settings\" not found");
        objects.create(&CONFIG_MAPS, named("settings", json!({}))).unwrap();
        seconds(2).await;
        assert!(super::pods::ready_since(&get(&objects, &PODS, "web")).is_some());
    })
    .await;
}
