//! Whatever a client sends, it gets an answer.

use http::{Method, header};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    APPLY, CONFIG_MAPS, DEPLOYMENTS, JSON_PATCH, MERGE, PODS, ROLLOUTS, SERVICES, STRATEGIC, api, deployment,
    expect, post, request, rollout, send,
};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// Objects of our kinds in which any part may be replaced by something else.
fn body() -> impl Strategy<Value = Value> {
    let part = prop_oneof![
        Just(Value::Null),
        Just(json!("text")),
        Just(json!(-1)),
        Just(json!(1.5)),
        Just(json!([])),
        Just(json!([null, 1, "a", {"name": "web"}, {}])),
        Just(json!({})),
        Just(json!({"web": {"a": null}})),
        Just(json!([{}])),
    ];
    let whole = prop_oneof![
        Just(rollout("web", 1)),
        Just(deployment("web")),
        Just(json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}})),
        Just(json!({"metadata": {"name": "web"}, "data": {"a": "b"}, "stringData": {"c": "d"}})),
        Just(json!({"metadata": {"name": "web", "managedFields": [{}]}, "status": {"conditions": []}})),
        Just(json!([{"op": "replace", "path": "", "value": 1}])),
        Just(json!([{"op": "replace", "path": "/metadata", "value": "x"}])),
        Just(json!([{"op": "remove", "path": "/spec"}, {"op": "add", "path": "/spec/replicas", "value": 1}])),
    ];
    (whole, proptest::collection::vec((0..40_usize, part), 0..3)).prop_map(|(mut whole, changes)| {
        for (at, part) in changes {
            let places = pointers(&whole);
            if let Some(held) = whole.pointer_mut(&places[at % places.len()]) {
                *held = part;
            }
        }
        whole
    })
}

/// The places of a value.
fn pointers(value: &Value) -> Vec<String> {
    let mut out = vec![String::new()];
    match value {
        Value::Object(map) => {
            for (name, below) in map {
                let name = name.replace('~', "~0").replace('/', "~1");
                out.extend(pointers(below).into_iter().map(|rest| format!("/{name}{rest}")));
            }
        }
        Value::Array(list) => {
            for (at, below) in list.iter().enumerate() {
                out.extend(pointers(below).into_iter().map(|rest| format!("/{at}{rest}")));
            }
        }
        _ => {}
    }
    out
}

fn path() -> impl Strategy<Value = String> {
    let collection = proptest::sample::select(vec![
        ROLLOUTS,
        DEPLOYMENTS,
        SERVICES,
        CONFIG_MAPS,
        PODS,
        SECRETS,
        "/api/v1/namespaces",
        "/apis/argoproj.io/v1alpha1/namespaces/default/analysisruns",
    ]);
    let below = proptest::sample::select(vec![
        "",
        "/web",
        "/web/status",
        "/web/scale",
        "/web/log",
        "/web/x/y",
        "/%",
    ]);
    let query = proptest::sample::select(vec![
        "",
        "?fieldManager=m&force=true",
        "?fieldManager=m&dryRun=All",
        "?dryRun=None",
        "?limit=1&continue=x",
        "?watch&timeoutSeconds=1&resourceVersion=18446744073709551615",
        "?labelSelector=(((&fieldSelector=,=",
        "?fieldValidation=Strict",
        "?gracePeriodSeconds=x&propagationPolicy=",
        "?tailLines=0&previous",
    ]);
    (collection, below, query).prop_map(|(collection, below, query)| format!("{collection}{below}{query}"))
}

fn method() -> impl Strategy<Value = Method> {
    proptest::sample::select(vec![
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::PATCH,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ])
}

fn kind() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        APPLY,
        MERGE,
        JSON_PATCH,
        STRATEGIC,
        "application/json",
        "text/html",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_request_is_answered(
        requests in proptest::collection::vec((method(), path(), kind(), body(), any::<bool>()), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let api = api();
            expect(&post(&api, ROLLOUTS, &rollout("web", 1)).await, 201);
            expect(&post(&api, DEPLOYMENTS, &deployment("web")).await, 201);
            for (method, path, kind, body, table) in requests {
                let mut asked = request(method, &path, kind, &body.to_string());
                if table {
                    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io".parse().unwrap();
                    asked.headers_mut().insert(header::ACCEPT, accept);
                }
                let answer = send(&api, asked).await;
                assert!((200..600).contains(&answer.code), "{path}: {}", answer.code);
                if answer.code >= 400 && answer.code != 404 {
                    assert_eq!(answer.json()["kind"], "Status", "{path}: {}", answer.text);
                }
            }
        });
    }
}
