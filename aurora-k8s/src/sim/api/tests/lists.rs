//! Lists and selectors.

use http::{Method, header};
use serde_json::{Value, json};

use super::{
    CONFIG_MAPS, PODS, ROLLOUTS, api, apply, config_map, delete, expect, get, post, request, rollout, send,
};

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn lists_filter_by_labels_fields_and_namespace() {
    let api = api();
    expect(
        &post(
            &api,
            "/api/v1/namespaces",
            &json!({"metadata": {"name": "other"}}),
        )
        .await,
        201,
    );
    for (namespace, name, tier) in [("default", "a", "x"), ("default", "b", "y"), ("other", "c", "x")] {
        let mut body = config_map(name, "1");
        body["metadata"]["labels"] = json!({"tier": tier});
        expect(
            &apply(&api, &format!("/api/v1/namespaces/{namespace}/configmaps"), &body).await,
            201,
        );
    }
    let cases: [(&str, &[&str]); 6] = [
        (CONFIG_MAPS, &["a", "b"]),
        ("/api/v1/configmaps", &["a", "b", "c"]),
        ("/api/v1/configmaps?labelSelector=tier%3Dx", &["a", "c"]),
        ("/api/v1/configmaps?labelSelector=tier+in+(x,y),tier!%3Dx", &["b"]),
        ("/api/v1/configmaps?fieldSelector=metadata.name%3Db", &["b"]),
        (
            "/api/v1/configmaps?fieldSelector=metadata.namespace%3Dother",
            &["c"],
        ),
    ];
    for (path, wanted) in cases {
        assert_eq!(names(&get(&api, path).await.json()), wanted, "{path}");
    }
    expect(
        &get(&api, "/api/v1/configmaps?fieldSelector=data.a%3D1").await,
        400,
    );
    let list = get(&api, CONFIG_MAPS).await.json();
    assert_eq!(list["kind"], "ConfigMapList");
    assert!(
        list["items"][0].get("kind").is_none(),
        "items of built-in lists do not repeat their kind"
    );
    expect(&apply(&api, ROLLOUTS, &rollout("web", 1)).await, 201);
    assert_eq!(get(&api, ROLLOUTS).await.json()["items"][0]["kind"], "Rollout");
}

#[tokio::test]
async fn pages_are_one_consistent_list_whatever_is_written_meanwhile() {
    let api = api();
    for name in ["a", "b", "c", "d", "e"] {
        expect(&apply(&api, CONFIG_MAPS, &config_map(name, "1")).await, 201);
    }
    let first = get(&api, &format!("{CONFIG_MAPS}?limit=2")).await.json();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    expect(&delete(&api, &format!("{CONFIG_MAPS}/c"), &json!({})).await, 200);
    expect(&apply(&api, CONFIG_MAPS, &config_map("bb", "1")).await, 201);
    expect(&apply(&api, CONFIG_MAPS, &config_map("d", "2")).await, 200);
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    let rest = get(&api, &format!("{CONFIG_MAPS}?limit=10&continue={token}"))
        .await
        .json();
    assert_eq!(names(&rest), ["c", "d", "e"]);
    assert_eq!(
        rest["items"][1]["data"]["a"], "1",
        "as it was when the list began"
    );
    assert_eq!(
        rest["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    assert!(rest["metadata"].get("continue").is_none());
    expect(&get(&api, &format!("{CONFIG_MAPS}?continue=nonsense")).await, 400);
    api.restart();
    let expired = get(&api, &format!("{CONFIG_MAPS}?continue={token}")).await;
    expect(&expired, 410);
    assert_eq!(expired.json()["reason"], "Expired");
}

#[tokio::test]
async fn lists_know_past_versions_and_refuse_future_ones() {
    let api = api();
    let version = apply(&api, CONFIG_MAPS, &config_map("a", "1")).await.version();
    expect(&apply(&api, CONFIG_MAPS, &config_map("a", "2")).await, 200);
    let exact = format!("{CONFIG_MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(get(&api, &exact).await.json()["items"][0]["data"]["a"], "1");
    let newer = get(&api, &format!("{CONFIG_MAPS}?resourceVersion={version}"))
        .await
        .json();
    assert_eq!(newer["items"][0]["data"]["a"], "2");
    let future = get(&api, &format!("{CONFIG_MAPS}?resourceVersion=99999")).await;
    expect(&future, 504);
    assert!(future.message().starts_with("Too large resource version: 99999"));
    assert_eq!(future.headers[header::RETRY_AFTER], "1");
}

#[tokio::test]
async fn deleting_a_collection_deletes_what_the_selector_chooses() {
    let api = api();
    for name in ["a", "b", "c"] {
        expect(&apply(&api, CONFIG_MAPS, &config_map(name, "1")).await, 201);
    }
    let deleted = delete(
        &api,
        &format!("{CONFIG_MAPS}?fieldSelector=metadata.name!%3Db"),
        &json!({}),
    )
    .await
    .json();
    assert_eq!(names(&deleted), ["a", "c"]);
    assert_eq!(names(&get(&api, CONFIG_MAPS).await.json()), ["b"]);
}

#[tokio::test]
async fn tables_and_bare_metadata_are_given_to_those_who_ask() {
    let api = api();
    expect(&apply(&api, ROLLOUTS, &rollout("web", 3)).await, 201);
    let with = |accept: &str| {
        let mut request = request(Method::GET, ROLLOUTS, "application/json", "");
        request
            .headers_mut()
            .insert(header::ACCEPT, accept.parse().unwrap());
        request
    };
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
    let table = send(&api, with(accept)).await.json();
    assert_eq!(table["kind"], "Table");
    let columns: Vec<&str> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        columns,
        ["Name", "Desired", "Current", "Up-to-date", "Available", "Age"]
    );
    assert_eq!(
        table["rows"][0]["cells"].as_array().unwrap()[..2],
        [json!("web"), json!(3)]
    );
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let bare = send(
        &api,
        with("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"),
    )
    .await
    .json();
    assert_eq!(bare["kind"], "PartialObjectMetadataList");
    assert!(bare["items"][0].get("spec").is_none());
}

#[tokio::test]
async fn pods_are_chosen_by_phase() {
    let api = api();
    for name in ["a", "b"] {
        let body =
            json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "web", "image": "ok:1"}]}});
        expect(&post(&api, PODS, &body).await, 201);
    }
    let running = json!({"status": {"phase": "Running"}});
    expect(
        &super::patch(&api, &format!("{PODS}/a/status"), super::MERGE, &running).await,
        200,
    );
    let chosen = get(&api, &format!("{PODS}?fieldSelector=status.phase%3DRunning"))
        .await
        .json();
    assert_eq!(names(&chosen), ["a"]);
}
