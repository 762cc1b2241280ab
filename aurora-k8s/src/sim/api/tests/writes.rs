//! Writes and their preconditions.

use http::{Method, header};
use serde_json::{Value, json};

use super::{
    APPLY, CONFIG_MAPS, DEPLOYMENTS, JSON_PATCH, MERGE, PODS, ROLLOUTS, SERVICES, api, apply, config_map,
    delete, deployment, expect, get, patch, post, request, rollout, send,
};
use crate::sim::api::{KubeApi, PodLogs};

#[tokio::test]
async fn the_same_apply_moves_neither_version_nor_generation() {
    let api = api();
    for (collection, body) in [
        (ROLLOUTS, rollout("web", 2)),
        (DEPLOYMENTS, deployment("web")),
        (CONFIG_MAPS, config_map("web", "1")),
        (
            SERVICES,
            json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}),
        ),
    ] {
        let first = apply(&api, collection, &body).await;
        expect(&first, 201);
        let again = apply(&api, collection, &body).await;
        expect(&again, 200);
        assert_eq!(first.json(), again.json(), "{collection}");
    }
    let changes = api
        .requests()
        .into_iter()
        .filter(|request| request.changed)
        .count();
    assert_eq!(changes, 4, "the second applies are logged as changing nothing");
}

#[tokio::test]
async fn generation_grows_with_the_spec_and_not_with_metadata() {
    let api = api();
    expect(&apply(&api, ROLLOUTS, &rollout("web", 2)).await, 201);
    let mut body = rollout("web", 2);
    body["metadata"]["annotations"] = json!({"aurora.dev/plan": "1.2"});
    let annotated = apply(&api, ROLLOUTS, &body).await.json();
    assert_eq!(annotated["metadata"]["generation"], 1);
    body["spec"]["replicas"] = 3.into();
    assert_eq!(
        apply(&api, ROLLOUTS, &body).await.json()["metadata"]["generation"],
        2
    );
}

#[tokio::test]
async fn a_dry_run_shows_the_result_and_keeps_nothing() {
    let api = api();
    let path = format!("{ROLLOUTS}/web?fieldManager=m&force=true&dryRun=All");
    let version = api.objects().resource_version();
    let new = patch(&api, &path, APPLY, &rollout("web", 2)).await;
    expect(&new, 201);
    let metadata = &new.json()["metadata"];
    assert!(metadata.get("resourceVersion").is_none());
    assert!(metadata["uid"].is_string());
    assert_eq!(metadata["generation"], 1);
    expect(&get(&api, &format!("{ROLLOUTS}/web")).await, 404);
    let live = apply(&api, ROLLOUTS, &rollout("web", 2)).await;
    let changed = patch(&api, &path, APPLY, &rollout("web", 3)).await.json();
    assert_eq!(changed["metadata"]["generation"], 2);
    assert_eq!(changed["metadata"]["resourceVersion"], live.version().as_str());
    assert_eq!(changed["spec"]["replicas"], 3);
    expect(
        &delete(&api, &format!("{ROLLOUTS}/web?dryRun=All"), &json!({})).await,
        200,
    );
    let after = get(&api, &format!("{ROLLOUTS}/web")).await;
    assert_eq!(after.json(), live.json());
    assert_eq!(api.objects().resource_version(), version + 1);
    assert_eq!(api.requests().iter().filter(|request| request.changed).count(), 1);
}

#[tokio::test]
async fn a_rollout_gets_only_the_default_of_its_definition_and_a_deployment_all_of_its_own() {
    let api = api();
    let held = apply(&api, ROLLOUTS, &rollout("web", 2)).await.json();
    let mut wanted = rollout("web", 2)["spec"].clone();
    wanted["template"]["spec"]["containers"][0]["ports"][0]["protocol"] = "TCP".into();
    assert_eq!(held["spec"], wanted);
    let held = apply(&api, DEPLOYMENTS, &deployment("web")).await.json();
    assert_eq!(held["spec"]["replicas"], 1);
    assert_eq!(held["spec"]["strategy"]["rollingUpdate"]["maxSurge"], "25%");
    let pod = &held["spec"]["template"]["spec"];
    assert_eq!(pod["terminationGracePeriodSeconds"], 30);
    assert_eq!(pod["containers"][0]["imagePullPolicy"], "IfNotPresent");
    let owners = &held["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert!(
        owners.get("f:replicas").is_none(),
        "defaults belong to nobody after an apply"
    );
}

#[tokio::test]
async fn a_status_cannot_be_created_and_status_patches_move_no_generation() {
    let api = api();
    let mut body = rollout("web", 1);
    body["status"] = json!({"phase": "Healthy"});
    let created = apply(&api, ROLLOUTS, &body).await.json();
    assert!(created.get("status").is_none());
    let path = format!("{ROLLOUTS}/web/status?fieldManager=kubectl-argo-rollouts");
    let patched = patch(&api, &path, MERGE, &json!({"status": {"promoteFull": true}}))
        .await
        .json();
    assert_eq!(patched["status"], json!({"promoteFull": true}));
    assert_eq!(patched["metadata"]["generation"], 1);
    let owner = patched["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone();
    assert_eq!(owner["manager"], "kubectl-argo-rollouts");
    assert_eq!(owner["subresource"], "status");
    let cleared = patch(&api, &path, MERGE, &json!({"status": {"promoteFull": null}}))
        .await
        .json();
    assert_eq!(cleared["status"], json!({}));
}

#[tokio::test]
async fn the_scale_reads_and_writes_replicas_under_its_own_manager() {
    let api = api();
    expect(&apply(&api, ROLLOUTS, &rollout("web", 2)).await, 201);
    let path = format!("{ROLLOUTS}/web/scale");
    let scale = get(&api, &path).await.json();
    assert_eq!(
        (&scale["kind"], &scale["spec"]["replicas"]),
        (&json!("Scale"), &json!(2))
    );
    let scaled = patch(&api, &path, MERGE, &json!({"spec": {"replicas": 5}})).await;
    expect(&scaled, 200);
    assert_eq!(scaled.json()["spec"]["replicas"], 5);
    let live = get(&api, &format!("{ROLLOUTS}/web")).await.json();
    assert_eq!(live["spec"]["replicas"], 5);
    assert_eq!(live["metadata"]["generation"], 2);
    let owners = live["metadata"]["managedFields"].as_array().unwrap();
    let scaler = owners
        .iter()
        .find(|owner| owner["subresource"] == "scale")
        .unwrap();
    assert_eq!(scaler["manager"], "tester");
    assert_eq!(scaler["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    assert!(owners[0]["fieldsV1"]["f:spec"].get("f:replicas").is_none());
}

#[tokio::test]
async fn json_patches_replace_a_template_under_a_test_of_the_version() {
    let api = api();
    let live = apply(&api, ROLLOUTS, &rollout("web", 1)).await;
    let mut template = rollout("web", 1)["spec"]["template"].clone();
    template["spec"]["containers"][0]["image"] = "ok:2".into();
    let body = json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": live.version()},
        {"op": "replace", "path": "/spec/template", "value": template},
    ]);
    let path = format!("{ROLLOUTS}/web");
    let answer = patch(&api, &path, JSON_PATCH, &body).await;
    expect(&answer, 200);
    assert_eq!(
        answer.json()["spec"]["template"]["spec"]["containers"][0]["image"],
        "ok:2"
    );
    expect(&patch(&api, &path, JSON_PATCH, &body).await, 422);
}

#[tokio::test]
async fn a_replaced_service_keeps_the_address_that_the_cluster_gave_it() {
    let api = api();
    let body = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    let created = post(&api, SERVICES, &body).await.json();
    let address = created["spec"]["clusterIP"].clone();
    assert!(address.is_string());
    assert_eq!(
        created["spec"]["ports"],
        json!([{"port": 80, "protocol": "TCP", "targetPort": 80}])
    );
    let replaced = super::put(&api, &format!("{SERVICES}/web"), &body).await;
    expect(&replaced, 200);
    assert_eq!(replaced.json()["spec"]["clusterIP"], address);
}

#[tokio::test]
async fn secrets_store_texts_as_data() {
    let api = api();
    let body = json!({"metadata": {"name": "s"}, "stringData": {"a": "1"}});
    let created = post(&api, "/api/v1/namespaces/default/secrets", &body)
        .await
        .json();
    assert_eq!(created["data"], json!({"a": "MQ=="}));
    assert_eq!(created["type"], "Opaque");
    assert!(created.get("stringData").is_none());
}

#[tokio::test]
async fn apply_takes_yaml() {
    let api = api();
    let body = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  a: '1'\n";
    let path = format!("{CONFIG_MAPS}/a?fieldManager=kubectl");
    let answer = send(&api, request(Method::PATCH, &path, APPLY, body)).await;
    expect(&answer, 201);
    assert_eq!(answer.json()["data"], json!({"a": "1"}));
}

fn running_pod(restarts: u64, state: Value) -> Value {
    json!({"phase": "Running", "containerStatuses": [
        {"name": "web", "ready": false, "restartCount": restarts, "state": state,
         "image": "crash:1",
         "lastState": if restarts == 0 { json!({}) } else { json!({"terminated": {"exitCode": 3, "finishedAt": "2026-01-01T00:00:00Z"}}) }},
    ]})
}

async fn pod(api: &KubeApi, status: &Value) {
    let body =
        json!({"metadata": {"name": "web-1"}, "spec": {"containers": [{"name": "web", "image": "crash:1"}]}});
    let _exists_already = post(api, PODS, &body).await;
    expect(
        &patch(
            api,
            &format!("{PODS}/web-1/status"),
            MERGE,
            &json!({"status": status}),
        )
        .await,
        200,
    );
}

#[tokio::test]
async fn logs_tell_how_the_previous_run_ended() {
    let api = api();
    let path = format!("{PODS}/web-1/log");
    pod(
        &api,
        &running_pod(0, json!({"waiting": {"reason": "ImagePullBackOff"}})),
    )
    .await;
    let answer = get(&api, &path).await;
    expect(&answer, 400);
    assert_eq!(
        answer.message(),
        "container \"web\" in pod \"web-1\" is waiting to start: ImagePullBackOff"
    );
    let answer = get(&api, &format!("{path}?previous=true")).await;
    assert_eq!(
        answer.message(),
        "previous terminated container \"web\" in pod \"web-1\" not found"
    );
    pod(
        &api,
        &running_pod(2, json!({"waiting": {"reason": "CrashLoopBackOff"}})),
    )
    .await;
    let answer = get(&api, &format!("{path}?previous=true&tailLines=2")).await;
    expect(&answer, 200);
    assert_eq!(answer.text.lines().count(), 2);
    assert!(answer.text.ends_with("exit code 3\n"), "{}", answer.text);
    assert_eq!(answer.headers[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    expect(&get(&api, &format!("{path}?container=other")).await, 400);
    let scripted = api.with_pod_logs(PodLogs::new(|pod, request| {
        Some(format!(
            "{} {} {}\n",
            pod["metadata"]["name"], request.container, request.previous
        ))
    }));
    assert_eq!(get(&scripted, &path).await.text, "\"web-1\" web false\n");
}

#[tokio::test]
async fn many_writers_lose_no_update() {
    let api = api();
    expect(&apply(&api, CONFIG_MAPS, &config_map("a", "1")).await, 201);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..16 {
        let api = api.clone();
        writers.spawn(async move {
            let body = json!({"data": {(format!("w{writer}")): "1"}});
            patch(&api, &format!("{CONFIG_MAPS}/a"), MERGE, &body).await.code
        });
    }
    while let Some(code) = writers.join_next().await {
        assert_eq!(code.unwrap(), 200);
    }
    let held = get(&api, &format!("{CONFIG_MAPS}/a")).await.json();
    assert_eq!(held["data"].as_object().unwrap().len(), 17);
}

#[tokio::test]
async fn custom_kinds_are_served_once_they_are_defined() {
    let api = api();
    let things = "/apis/example.dev/v1/namespaces/default/things";
    let thing = json!({"metadata": {"name": "a"}, "spec": {"free": {"a": 1}}});
    expect(&apply(&api, things, &thing).await, 404);
    let definition = json!({
        "metadata": {"name": "things.example.dev"},
        "spec": {
            "group": "example.dev",
            "scope": "Namespaced",
            "names": {"kind": "Thing", "plural": "things"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}}}],
        },
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    expect(&post(&api, definitions, &definition).await, 201);
    expect(&apply(&api, things, &thing).await, 201);
    let answer = apply(
        &api,
        things,
        &json!({"metadata": {"name": "a"}, "spec": {"other": []}}),
    )
    .await;
    assert_eq!(
        answer.json()["spec"],
        json!({"other": []}),
        "what was applied and is not any more goes"
    );
}
