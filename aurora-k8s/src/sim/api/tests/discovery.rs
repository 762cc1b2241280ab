//! Discovery as clients read it.

use http::{Method, header};
use serde_json::{Value, json};

use super::{api, expect, get, post, request, send};

#[tokio::test]
async fn groups_versions_and_resources_are_listed() {
    let api = api();
    assert_eq!(get(&api, "/api").await.json()["versions"], json!(["v1"]));
    let groups = get(&api, "/apis").await.json();
    let names: Vec<&str> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    for wanted in [
        "apps",
        "argoproj.io",
        "authorization.k8s.io",
        "apiextensions.k8s.io",
    ] {
        assert!(names.contains(&wanted), "{names:?}");
    }
    assert_eq!(
        get(&api, "/apis/apps").await.json()["preferredVersion"]["groupVersion"],
        "apps/v1"
    );
    let list = get(&api, "/apis/argoproj.io/v1alpha1").await.json();
    let resources = list["resources"].as_array().unwrap();
    let find = |name: &str| resources.iter().find(|it| it["name"] == name).cloned().unwrap();
    assert_eq!(find("rollouts")["shortNames"], json!(["ro"]));
    assert_eq!(
        find("rollouts/status")["verbs"],
        json!(["get", "patch", "update"])
    );
    assert_eq!(find("rollouts/scale")["kind"], "Scale");
    expect(&get(&api, "/apis/nothing.dev").await, 404);
    expect(&get(&api, "/apis/nothing.dev/v1").await, 404);
}

#[tokio::test]
async fn aggregated_discovery_is_one_document_with_its_own_media_type() {
    let api = api();
    let kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let accept = format!(
        "{kind},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
    );
    for (path, group) in [("/api", ""), ("/apis", "argoproj.io")] {
        let mut asked = request(Method::GET, path, "application/json", "");
        asked
            .headers_mut()
            .insert(header::ACCEPT, accept.parse().unwrap());
        let answer = send(&api, asked).await;
        assert_eq!(answer.headers[header::CONTENT_TYPE], kind);
        let list = answer.json();
        assert_eq!(list["kind"], "APIGroupDiscoveryList");
        let items = list["items"].as_array().unwrap();
        let found: Option<&Value> = items.iter().find(|it| it["metadata"]["name"] == group);
        assert!(
            found.unwrap()["versions"][0]["resources"]
                .as_array()
                .is_some_and(|it| !it.is_empty())
        );
    }
}

#[tokio::test]
async fn health_version_and_access_reviews_are_answered() {
    let api = api();
    for path in ["/healthz", "/livez", "/readyz", "/readyz/ping"] {
        assert_eq!(get(&api, path).await.text, "ok");
    }
    assert_eq!(get(&api, "/version").await.json()["gitVersion"], "v1.34.5");
    let index = get(&api, "/openapi/v3").await.json();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap()
        .to_owned();
    let document = get(&api, &url).await.json();
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    expect(&get(&api, "/openapi/v3/apis/nothing.dev/v1").await, 404);
    let review = json!({
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "spec": {"resourceAttributes": {"verb": "patch", "group": "argoproj.io", "resource": "rollouts"}},
    });
    let answer = post(
        &api,
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        &review,
    )
    .await;
    expect(&answer, 201);
    assert_eq!(answer.json()["status"]["allowed"], true);
    expect(&post(&api, "/version", &json!({})).await, 405);
}
