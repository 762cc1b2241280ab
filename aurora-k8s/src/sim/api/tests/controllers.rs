//! Field ownership as it is with the controllers running.

use aurora_core::tasks::Tasks;
use serde_json::{Value, json};

use super::{APPLY, Answer, JSON_PATCH, ROLLOUTS, SERVICES, api, apply, expect, get, patch, rollout};
use crate::sim::api::KubeApi;
use crate::sim::{Behaviour, Controllers};

fn run(api: &KubeApi) -> Tasks {
    let tasks = Tasks::new();
    let objects = api.objects().clone();
    tasks.spawn(|stop| Controllers::new(objects, Behaviour::default()).run(stop));
    tasks
}

async fn wait(api: &KubeApi, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let mut changed = api.objects().changed();
    loop {
        changed.borrow_and_update();
        let object = get(api, path).await.json();
        if holds(&object) {
            return object;
        }
        changed.changed().await.unwrap();
    }
}

async fn healthy(api: &KubeApi, name: &str) -> Value {
    wait(api, &format!("{ROLLOUTS}/{name}"), |object| {
        let generation = object["metadata"]["generation"].to_string();
        object["status"]["phase"] == "Healthy"
            && object["status"]["observedGeneration"] == generation.as_str()
    })
    .await
}

/// Without force, so that a field of another manager is a conflict.
async fn apply_gently(api: &KubeApi, body: &Value) -> Answer {
    let path = format!("{ROLLOUTS}/web?fieldManager=aurora-agent");
    patch(api, &path, APPLY, body).await
}

fn owned(object: &Value, manager: &str, subresource: Option<&str>) -> Option<Value> {
    let entries = object["metadata"]["managedFields"].as_array()?;
    entries
        .iter()
        .find(|entry| entry["manager"] == manager && entry["subresource"].as_str() == subresource)
        .map(|entry| entry["fieldsV1"].clone())
}

/// What the controller writes out in any case.
fn canonical(mut body: Value) -> Value {
    let container = &mut body["spec"]["template"]["spec"]["containers"][0];
    container["resources"] = json!({});
    container["ports"][0]["protocol"] = "TCP".into();
    body
}

#[tokio::test(start_paused = true)]
async fn the_controller_owns_nothing_in_a_canonical_spec() {
    let api = api();
    let _controllers = run(&api);
    let body = canonical(rollout("web", 2));
    expect(&apply(&api, ROLLOUTS, &body).await, 201);
    let live = healthy(&api, "web").await;
    assert_eq!(live["metadata"]["generation"], 1);
    assert_eq!(
        owned(&live, "rollouts-controller", None),
        Some(json!({"f:metadata": {"f:annotations": {".": {}, "f:rollout.argoproj.io/revision": {}}}}))
    );
    let status = owned(&live, "rollouts-controller", Some("status")).unwrap();
    assert!(status["f:status"].get("f:phase").is_some());
    let again = apply_gently(&api, &body).await;
    expect(&again, 200);
    assert_eq!(again.json(), live);
}

#[tokio::test(start_paused = true)]
async fn a_quantity_that_is_not_canonical_becomes_the_controllers() {
    let api = api();
    let _controllers = run(&api);
    let mut body = canonical(rollout("web", 2));
    body["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1000m"}});
    expect(&apply(&api, ROLLOUTS, &body).await, 201);
    let live = healthy(&api, "web").await;
    assert_eq!(live["metadata"]["generation"], 2);
    let refused = apply_gently(&api, &body).await;
    expect(&refused, 409);
    let cause = &refused.json()["details"]["causes"][0];
    assert_eq!(
        cause["field"],
        ".spec.template.spec.containers[name=\"web\"].resources.requests.cpu"
    );
    assert_eq!(
        cause["message"],
        "conflict with \"rollouts-controller\" using argoproj.io/v1alpha1"
    );
}

#[tokio::test(start_paused = true)]
async fn replicas_that_nobody_declares_are_the_controllers() {
    let api = api();
    let _controllers = run(&api);
    let mut body = canonical(rollout("web", 2));
    body["spec"].as_object_mut().unwrap().remove("replicas");
    expect(&apply(&api, ROLLOUTS, &body).await, 201);
    let live = healthy(&api, "web").await;
    assert_eq!(
        (&live["spec"]["replicas"], &live["metadata"]["generation"]),
        (&json!(1), &json!(2))
    );
    let owner = owned(&live, "rollouts-controller", None).unwrap();
    assert_eq!(owner["f:spec"], json!({"f:replicas": {}}));
    expect(&apply_gently(&api, &body).await, 200);
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_takes_the_replicas_with_its_first_change() {
    let api = api();
    let _controllers = run(&api);
    let body = canonical(rollout("web", 2));
    expect(&apply(&api, ROLLOUTS, &body).await, 201);
    healthy(&api, "web").await;
    let scaler = json!({
        "metadata": {"name": "web"},
        "spec": {
            "minReplicas": 3,
            "maxReplicas": 5,
            "scaleTargetRef": {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "web"},
        },
    });
    let scalers = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    expect(&apply(&api, scalers, &scaler).await, 201);
    let live = wait(&api, &format!("{ROLLOUTS}/web"), |object| {
        object["spec"]["replicas"] == 3
    })
    .await;
    let ours = owned(&live, "aurora-agent", None).unwrap();
    assert!(ours["f:spec"].get("f:replicas").is_none());
    let mut without = body;
    without["spec"].as_object_mut().unwrap().remove("replicas");
    let applied = apply(&api, ROLLOUTS, &without).await.json();
    assert_eq!(
        applied["spec"]["replicas"], 3,
        "leaving the count out leaves it to the autoscaler"
    );
}

#[tokio::test(start_paused = true)]
async fn init_containers_with_a_normalised_field_are_removed_by_a_json_patch_first() {
    let api = api();
    let _controllers = run(&api);
    let body = canonical(rollout("web", 2));
    let mut with = body.clone();
    with["spec"]["template"]["spec"]["initContainers"] =
        json!([{"name": "init", "image": "ok:1", "resources": {"requests": {"cpu": "1000m"}}}]);
    expect(&apply(&api, ROLLOUTS, &with).await, 201);
    healthy(&api, "web").await;
    let mut emptied = body.clone();
    emptied["spec"]["template"]["spec"]["initContainers"] = json!([]);
    for attempt in [&body, &emptied] {
        let refused = apply(&api, ROLLOUTS, attempt).await;
        expect(&refused, 422);
        let message = refused.message();
        assert!(
            message.contains("spec.template.spec.initContainers: Invalid value: \"null\"")
                && message.contains("must be of type array"),
            "{message}"
        );
    }
    let remove = json!([{"op": "remove", "path": "/spec/template/spec/initContainers"}]);
    expect(
        &patch(&api, &format!("{ROLLOUTS}/web"), JSON_PATCH, &remove).await,
        200,
    );
    let applied = apply(&api, ROLLOUTS, &body).await;
    expect(&applied, 200);
    assert!(
        applied.json()["spec"]["template"]["spec"]
            .get("initContainers")
            .is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn the_selector_of_a_canary_service_is_shared_with_the_controller() {
    let api = api();
    let _controllers = run(&api);
    let service = |name: &str| json!({"metadata": {"name": name}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    for name in ["web-stable", "web-canary"] {
        expect(&apply(&api, SERVICES, &service(name)).await, 201);
    }
    let mut body = canonical(rollout("web", 2));
    body["spec"]["strategy"]["canary"]["stableService"] = "web-stable".into();
    body["spec"]["strategy"]["canary"]["canaryService"] = "web-canary".into();
    expect(&apply(&api, ROLLOUTS, &body).await, 201);
    let rollout = healthy(&api, "web").await;
    let path = format!("{SERVICES}/web-stable");
    let hash = "rollouts-pod-template-hash";
    let live = get(&api, &path).await.json();
    assert_eq!(live["spec"]["selector"][hash], rollout["status"]["stableRS"]);
    assert_eq!(
        owned(&live, "rollouts-controller", None).unwrap()["f:spec"],
        json!({"f:selector": {}})
    );
    let mut carrying = service("web-stable");
    carrying["spec"]["selector"][hash] = live["spec"]["selector"][hash].clone();
    carrying["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
    let kept = apply(&api, SERVICES, &carrying).await;
    expect(&kept, 200);
    assert_eq!(kept.json()["spec"], live["spec"]);
    let wiped = apply(&api, SERVICES, &service("web-stable")).await.json();
    assert_eq!(
        wiped["spec"]["selector"],
        json!({"app": "web"}),
        "a bare apply wipes the key"
    );
}
