//! The API as clients see it.

mod clients;
mod controllers;
mod discovery;
mod errors;
mod hostile;
mod kubectl;
mod lists;
mod watches;
mod writes;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use jiff::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::KubeApi;
use crate::sim::Objects;
use crate::sim::objects::tokio_clock;

pub(super) const APPLY: &str = "application/apply-patch+yaml";
pub(super) const MERGE: &str = "application/merge-patch+json";
pub(super) const JSON_PATCH: &str = "application/json-patch+json";
pub(super) const STRATEGIC: &str = "application/strategic-merge-patch+json";

pub(super) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(super) const SERVICES: &str = "/api/v1/namespaces/default/services";
pub(super) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(super) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
pub(super) const ROLLOUTS: &str = "/apis/argoproj.io/v1alpha1/namespaces/default/rollouts";

/// An answer that was read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The message of a `Status`.
    pub(super) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn version(&self) -> String {
        self.json()["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

pub(super) fn api() -> KubeApi {
    KubeApi::new(Objects::new(tokio_clock(
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap(),
    )))
}

pub(super) async fn send(api: &KubeApi, request: http::Request<Full<Bytes>>) -> Answer {
    let response = api.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        code: parts.status.as_u16(),
        headers: parts.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

pub(super) fn request(method: Method, path: &str, kind: &str, body: &str) -> http::Request<Full<Bytes>> {
    http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, kind)
        .header(http::header::USER_AGENT, "tester/1.0 (linux)")
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap()
}

pub(super) async fn get(api: &KubeApi, path: &str) -> Answer {
    send(api, request(Method::GET, path, "application/json", "")).await
}

pub(super) async fn post(api: &KubeApi, path: &str, body: &Value) -> Answer {
    send(
        api,
        request(Method::POST, path, "application/json", &body.to_string()),
    )
    .await
}

pub(super) async fn put(api: &KubeApi, path: &str, body: &Value) -> Answer {
    send(
        api,
        request(Method::PUT, path, "application/json", &body.to_string()),
    )
    .await
}

pub(super) async fn patch(api: &KubeApi, path: &str, kind: &str, body: &Value) -> Answer {
    send(api, request(Method::PATCH, path, kind, &body.to_string())).await
}

pub(super) async fn delete(api: &KubeApi, path: &str, body: &Value) -> Answer {
    send(
        api,
        request(Method::DELETE, path, "application/json", &body.to_string()),
    )
    .await
}

/// A forced apply of our manager.
pub(super) async fn apply(api: &KubeApi, collection: &str, body: &Value) -> Answer {
    let name = body["metadata"]["name"].as_str().unwrap();
    let path = format!("{collection}/{name}?fieldManager=aurora-agent&force=true");
    patch(api, &path, APPLY, body).await
}

pub(super) fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": value}})
}

pub(super) fn rollout(name: &str, replicas: i64) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"canary": {"steps": [{"setWeight": 20}, {"pause": {}}]}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "web", "image": "ok:1", "ports": [{"containerPort": 80}]}]},
            },
        },
    })
}

pub(super) fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "web", "image": "ok:1", "ports": [{"containerPort": 80}]}]},
            },
        },
    })
}

#[track_caller]
pub(super) fn expect(answer: &Answer, code: u16) {
    assert_eq!(answer.code, code, "{}", answer.text);
    if code >= 400 {
        assert!(StatusCode::from_u16(code).is_ok());
    }
}
