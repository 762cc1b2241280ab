//! Watches through a real client.

use http::{Method, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{CONFIG_MAPS, MERGE, api, apply, config_map, delete, expect, get, patch, request};
use crate::sim::api::{ApiBody, KubeApi};

async fn open(api: &KubeApi, path: &str, accept: &str) -> ApiBody {
    let mut asked = request(Method::GET, path, "application/json", "");
    asked
        .headers_mut()
        .insert(header::ACCEPT, accept.parse().unwrap());
    let response = api.clone().oneshot(asked).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body()
}

async fn next(body: &mut ApiBody) -> Option<Value> {
    let frame = body.frame().await?.unwrap();
    Some(serde_json::from_slice(frame.data_ref().unwrap()).unwrap())
}

async fn rest(mut body: ApiBody) -> Vec<Value> {
    let mut events = Vec::new();
    while let Some(event) = next(&mut body).await {
        events.push(event);
    }
    events
}

/// Type, name and value of each event.
fn told(events: &[Value]) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    events
        .iter()
        .map(|event| {
            let object = &event["object"];
            (
                text(&event["type"]),
                text(&object["metadata"]["name"]),
                text(&object["data"]["a"]),
            )
        })
        .collect()
}

fn triple(kind: &str, name: &str, value: &str) -> (String, String, String) {
    (kind.to_owned(), name.to_owned(), value.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_from_its_version_and_ends_with_its_timeout() {
    let api = api();
    let version = apply(&api, CONFIG_MAPS, &config_map("a", "1")).await.version();
    expect(&apply(&api, CONFIG_MAPS, &config_map("a", "2")).await, 200);
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={version}&timeoutSeconds=5");
    let watch = open(&api, &path, "application/json").await;
    expect(&apply(&api, CONFIG_MAPS, &config_map("b", "1")).await, 201);
    expect(&delete(&api, &format!("{CONFIG_MAPS}/a"), &json!({})).await, 200);
    expect(
        &apply(
            &api,
            "/api/v1/namespaces/kube-system/configmaps",
            &config_map("c", "1"),
        )
        .await,
        201,
    );
    let started = tokio::time::Instant::now();
    let events = rest(watch).await;
    assert_eq!(
        told(&events),
        [
            triple("MODIFIED", "a", "2"),
            triple("ADDED", "b", "1"),
            triple("DELETED", "a", "2")
        ]
    );
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn without_a_version_what_is_there_comes_first() {
    let api = api();
    expect(&apply(&api, CONFIG_MAPS, &config_map("a", "1")).await, 201);
    for version in ["", "&resourceVersion=0"] {
        let watch = open(
            &api,
            &format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1{version}"),
            "*/*",
        )
        .await;
        assert_eq!(told(&rest(watch).await), [triple("ADDED", "a", "1")]);
    }
    let single = format!("{CONFIG_MAPS}/b?watch=true&timeoutSeconds=1");
    assert_eq!(rest(open(&api, &single, "*/*").await).await, Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn an_object_that_comes_to_match_is_added_and_one_that_ceases_to_is_deleted() {
    let api = api();
    let version = apply(&api, CONFIG_MAPS, &config_map("a", "1")).await.version();
    let path =
        format!("{CONFIG_MAPS}?watch=true&labelSelector=on%3Dyes&timeoutSeconds=1&resourceVersion={version}");
    let watch = open(&api, &path, "*/*").await;
    let object = format!("{CONFIG_MAPS}/a");
    let label = |on: Value, value: &str| json!({"metadata": {"labels": {"on": on}}, "data": {"a": value}});
    for (on, value) in [
        (json!("yes"), "2"),
        (json!("yes"), "3"),
        (json!("no"), "4"),
        (json!(null), "5"),
    ] {
        expect(&patch(&api, &object, MERGE, &label(on, value)).await, 200);
    }
    expect(&patch(&api, &object, MERGE, &label(json!("yes"), "6")).await, 200);
    expect(&delete(&api, &object, &json!({})).await, 200);
    let events = rest(watch).await;
    assert_eq!(
        told(&events),
        [
            triple("ADDED", "a", "2"),
            triple("MODIFIED", "a", "3"),
            triple("DELETED", "a", "3"),
            triple("ADDED", "a", "6"),
            triple("DELETED", "a", "6"),
        ]
    );
    let versions: Vec<u64> = events
        .iter()
        .map(|event| {
            event["object"]["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert!(versions.is_sorted(), "{versions:?}");
}

#[tokio::test(start_paused = true)]
async fn an_expired_version_is_an_error_event_in_a_good_answer() {
    let api = api();
    let version = apply(&api, CONFIG_MAPS, &config_map("a", "1")).await.version();
    let mut watch = open(
        &api,
        &format!("{CONFIG_MAPS}?watch=true&resourceVersion={version}"),
        "*/*",
    )
    .await;
    expect(&apply(&api, CONFIG_MAPS, &config_map("a", "2")).await, 200);
    assert_eq!(next(&mut watch).await.unwrap()["type"], "MODIFIED");
    api.restart();
    assert_eq!(
        next(&mut watch).await,
        None,
        "a restart ends watches without a word"
    );
    let events = rest(
        open(
            &api,
            &format!("{CONFIG_MAPS}?watch=true&resourceVersion={version}"),
            "*/*",
        )
        .await,
    )
    .await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["type"], "ERROR");
    assert_eq!(events[0]["object"]["code"], 410);
    assert_eq!(events[0]["object"]["reason"], "Expired");
    let message = events[0]["object"]["message"].as_str().unwrap();
    assert!(
        message.starts_with(&format!("too old resource version: {version} (")),
        "{message}"
    );
    let list = get(&api, CONFIG_MAPS).await.json();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={version}&timeoutSeconds=1");
    assert_eq!(rest(open(&api, &path, "*/*").await).await, Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn a_future_version_is_silent_and_nonsense_is_a_server_error() {
    let api = api();
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion=99999&timeoutSeconds=1");
    assert_eq!(rest(open(&api, &path, "*/*").await).await, Vec::<Value>::new());
    expect(
        &get(&api, &format!("{CONFIG_MAPS}?watch=true&resourceVersion=abc")).await,
        500,
    );
}

#[tokio::test(start_paused = true)]
async fn bookmarks_carry_the_version_of_writes_that_the_watch_does_not_show() {
    let api = api();
    let path =
        format!("{CONFIG_MAPS}?watch=true&allowWatchBookmarks=true&timeoutSeconds=90&resourceVersion=");
    let watch = open(
        &api,
        &format!("{path}{}", api.objects().resource_version()),
        "*/*",
    )
    .await;
    expect(
        &apply(
            &api,
            "/api/v1/namespaces/kube-system/configmaps",
            &config_map("c", "1"),
        )
        .await,
        201,
    );
    let events = rest(watch).await;
    assert_eq!(events.len(), 2, "one in a minute, and one before the end");
    for event in events {
        assert_eq!(event["type"], "BOOKMARK");
        assert_eq!(event["object"]["kind"], "ConfigMap");
        assert_eq!(
            event["object"]["metadata"]["resourceVersion"],
            api.objects().resource_version().to_string().as_str()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_ends_its_initial_events_with_a_marked_bookmark() {
    let api = api();
    expect(&apply(&api, CONFIG_MAPS, &config_map("a", "1")).await, 201);
    let path = format!(
        "{CONFIG_MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true\
         &timeoutSeconds=1"
    );
    let events = rest(open(&api, &path, "*/*").await).await;
    assert_eq!(told(&events[..1]), [triple("ADDED", "a", "1")]);
    assert_eq!(
        events[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
}

#[tokio::test(start_paused = true)]
async fn watches_come_as_tables_too() {
    let api = api();
    expect(&apply(&api, CONFIG_MAPS, &config_map("a", "1")).await, 201);
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let watch = open(
        &api,
        &format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1"),
        accept,
    )
    .await;
    let events = rest(watch).await;
    assert_eq!(events[0]["object"]["kind"], "Table");
    assert_eq!(
        events[0]["object"]["rows"][0]["cells"].as_array().unwrap()[..2],
        [json!("a"), json!(1)]
    );
}
