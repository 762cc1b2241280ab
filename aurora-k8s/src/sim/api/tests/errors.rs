//! The shapes of errors.

use http::Method;
use serde_json::{Value, json};

use super::{
    APPLY, Answer, CONFIG_MAPS, DEPLOYMENTS, JSON_PATCH, MERGE, PODS, ROLLOUTS, SERVICES, STRATEGIC, api,
    apply, config_map, delete, deployment, expect, get, patch, post, put, request, rollout, send,
};

/// The shape that every refusal has, and the parts that callers branch on.
#[track_caller]
fn refused(answer: &Answer, code: u16, reason: &str, message: &str) {
    expect(answer, code);
    let status = answer.json();
    assert_eq!(status["kind"], "Status");
    assert_eq!(status["apiVersion"], "v1");
    assert_eq!(status["status"], "Failure");
    assert_eq!(status["code"], code);
    assert_eq!(status["reason"].as_str().unwrap_or_default(), reason);
    assert_eq!(status["message"], message);
}

fn field_of(answer: &Answer) -> Value {
    answer.json()["details"]["causes"][0]["field"].clone()
}

#[tokio::test]
async fn unknown_kinds_are_plain_text_and_unknown_objects_are_not() {
    let api = api();
    for path in [
        "/apis/nothing.dev/v1/namespaces/default/things",
        "/apis/argoproj.io/v1alpha1/nothings",
        "/nonsense",
    ] {
        let answer = get(&api, path).await;
        expect(&answer, 404);
        assert_eq!(answer.text, "404 page not found\n");
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    }
    let body = json!({"apiVersion": "nothing.dev/v1", "kind": "Thing", "metadata": {"name": "a"}});
    let answer = apply(&api, "/apis/nothing.dev/v1/namespaces/default/things", &body).await;
    assert_eq!((answer.code, answer.text.as_str()), (404, "404 page not found\n"));
    let answer = get(&api, &format!("{ROLLOUTS}/web")).await;
    refused(&answer, 404, "NotFound", "rollouts.argoproj.io \"web\" not found");
    assert_eq!(
        answer.json()["details"],
        json!({"name": "web", "group": "argoproj.io", "kind": "rollouts"})
    );
    let answer = get(&api, &format!("{PODS}/web/nonsense")).await;
    refused(
        &answer,
        404,
        "NotFound",
        "the server could not find the requested resource",
    );
}

#[tokio::test]
async fn a_missing_namespace_is_not_found_dry_or_not_and_a_terminating_one_is_forbidden() {
    let api = api();
    let collection = "/api/v1/namespaces/gone/configmaps";
    for suffix in ["", "&dryRun=All"] {
        let path = format!("{collection}/a?fieldManager=m{suffix}");
        let answer = patch(&api, &path, APPLY, &config_map("a", "1")).await;
        refused(&answer, 404, "NotFound", "namespaces \"gone\" not found");
        assert_eq!(answer.json()["details"]["kind"], "namespaces");
    }
    expect(
        &post(&api, "/api/v1/namespaces", &json!({"metadata": {"name": "gone"}})).await,
        201,
    );
    expect(&apply(&api, collection, &config_map("old", "1")).await, 201);
    expect(&delete(&api, "/api/v1/namespaces/gone", &json!({})).await, 200);
    let answer = apply(&api, collection, &config_map("new", "1")).await;
    refused(
        &answer,
        403,
        "Forbidden",
        "configmaps \"new\" is forbidden: unable to create new content in namespace gone because it is being terminated",
    );
    assert_eq!(
        answer.json()["details"]["causes"][0]["reason"],
        "NamespaceTerminating"
    );
    expect(&apply(&api, collection, &config_map("old", "2")).await, 200);
}

#[tokio::test]
async fn applies_are_refused_as_the_real_server_refuses_them() {
    let api = api();
    let path = format!("{ROLLOUTS}/web");
    let manager = format!("{path}?fieldManager=m");
    let answer = patch(&api, &path, APPLY, &rollout("web", 1)).await;
    refused(
        &answer,
        422,
        "Invalid",
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
    );
    let mut body = rollout("web", 1);
    body["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    refused(
        &patch(&api, &manager, APPLY, &body).await,
        400,
        "BadRequest",
        "metadata.managedFields must be nil",
    );
    let mut body = rollout("web", 1);
    body["metadata"]["uid"] = "u".into();
    refused(
        &patch(&api, &manager, APPLY, &body).await,
        409,
        "Conflict",
        "Operation cannot be fulfilled on rollouts.argoproj.io \"web\": uid mismatch: the provided object specified \
         uid u, and no existing object was found",
    );
    expect(&patch(&api, &manager, APPLY, &rollout("web", 1)).await, 201);
    let answer = patch(&api, &manager, APPLY, &body).await;
    refused(
        &answer,
        422,
        "Invalid",
        "Rollout.argoproj.io \"web\" is invalid: metadata.uid: Invalid value: \"u\": field is immutable",
    );
    assert_eq!(field_of(&answer), "metadata.uid");
    let mut body = rollout("web", 2);
    body["metadata"]["resourceVersion"] = "1".into();
    refused(
        &patch(&api, &manager, APPLY, &body).await,
        409,
        "Conflict",
        "Operation cannot be fulfilled on rollouts.argoproj.io \"web\": the object has been modified; please apply \
         your changes to the latest version and try again",
    );
    let mut body = rollout("web", 1);
    body["spec"]["strategy"]["canary"]["steps"] = json!([{"setWieght": 1}]);
    for mode in ["Strict", "Warn", "Ignore"] {
        let answer = patch(&api, &format!("{manager}&fieldValidation={mode}"), APPLY, &body).await;
        refused(
            &answer,
            500,
            "",
            "failed to create typed patch object (default/web; argoproj.io/v1alpha1, Kind=Rollout): \
             .spec.strategy.canary.steps[0].setWieght: field not declared in schema",
        );
    }
}

#[tokio::test]
async fn a_field_of_another_manager_is_a_conflict_with_causes() {
    let api = api();
    expect(&apply(&api, ROLLOUTS, &rollout("web", 1)).await, 201);
    let mut body = json!({"metadata": {"name": "web"}, "spec": {"replicas": 2}});
    let path = format!("{ROLLOUTS}/web?fieldManager=other");
    let answer = patch(&api, &path, APPLY, &body).await;
    let message = "Apply failed with 1 conflict: conflict with \"aurora-agent\": .spec.replicas";
    refused(&answer, 409, "Conflict", message);
    assert_eq!(
        answer.json()["details"]["causes"],
        json!([{
            "reason": "FieldManagerConflict",
            "message": "conflict with \"aurora-agent\"",
            "field": ".spec.replicas",
        }])
    );
    body["spec"]["template"] = json!({"spec": {"containers": [{"name": "web", "image": "ok:2"}]}});
    let answer = patch(&api, &path, APPLY, &body).await;
    assert_eq!(
        answer.message(),
        "Apply failed with 2 conflicts: conflicts with \"aurora-agent\":\n- .spec.replicas\n- \
         .spec.template.spec.containers[name=\"web\"].image"
    );
    expect(
        &patch(&api, &format!("{path}&force=true"), APPLY, &body).await,
        200,
    );
}

#[tokio::test]
async fn merge_patches_hold_to_version_and_uid_on_the_object_and_only_to_version_on_its_status() {
    let api = api();
    expect(&apply(&api, ROLLOUTS, &rollout("web", 1)).await, 201);
    let path = format!("{ROLLOUTS}/web");
    let modified = "Operation cannot be fulfilled on rollouts.argoproj.io \"web\": the object has been modified; \
                    please apply your changes to the latest version and try again";
    for path in [path.clone(), format!("{path}/status")] {
        let body = json!({"metadata": {"resourceVersion": "1"}, "status": {"abort": true}});
        refused(&patch(&api, &path, MERGE, &body).await, 409, "Conflict", modified);
    }
    let body = json!({"metadata": {"uid": "other"}, "spec": {"replicas": 5}, "status": {"abort": true}});
    let answer = patch(&api, &path, MERGE, &body).await;
    refused(
        &answer,
        422,
        "Invalid",
        "Rollout.argoproj.io \"web\" is invalid: metadata.uid: Invalid value: \"other\": field is immutable",
    );
    let answer = patch(&api, &format!("{path}/status"), MERGE, &body).await;
    expect(&answer, 200);
    assert_eq!(answer.json()["status"]["abort"], true);
    assert_eq!(
        answer.json()["spec"]["replicas"],
        1,
        "a spec sent to the status is ignored"
    );
    let answer = patch(&api, &path, MERGE, &json!({"status": {"abort": null}})).await;
    expect(&answer, 200);
    assert_eq!(
        answer.json()["status"]["abort"],
        true,
        "a status sent to the object is ignored"
    );
}

#[tokio::test]
async fn patches_that_cannot_be_done_say_little_and_strategic_ones_are_for_built_in_kinds() {
    let api = api();
    expect(&apply(&api, ROLLOUTS, &rollout("web", 1)).await, 201);
    let path = format!("{ROLLOUTS}/web");
    let test = json!([{"op": "test", "path": "/metadata/resourceVersion", "value": "0"}]);
    let answer = patch(&api, &path, JSON_PATCH, &test).await;
    refused(
        &answer,
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
    );
    let answer = patch(&api, &path, STRATEGIC, &json!({"spec": {"replicas": 2}})).await;
    expect(&answer, 415);
    assert_eq!(answer.json()["reason"], "UnsupportedMediaType");
    expect(&patch(&api, &path, "text/plain", &json!({})).await, 415);
    expect(&post(&api, DEPLOYMENTS, &deployment("web")).await, 201);
    let answer = patch(
        &api,
        &format!("{DEPLOYMENTS}/web"),
        STRATEGIC,
        &json!({"spec": {"replicas": 2}}),
    )
    .await;
    expect(&answer, 200);
    assert_eq!(answer.json()["spec"]["replicas"], 2);
}

#[tokio::test]
async fn unknown_fields_are_refused_when_strict_and_pruned_with_a_warning_otherwise() {
    let api = api();
    let mut body = rollout("web", 1);
    body["spec"]["strategy"]["canary"]["steps"] = json!([{"setWieght": 1}]);
    let unknown = "unknown field \"spec.strategy.canary.steps[0].setWieght\"";
    let answer = post(&api, &format!("{ROLLOUTS}?fieldValidation=Strict"), &body).await;
    refused(
        &answer,
        400,
        "BadRequest",
        &format!("strict decoding error: {unknown}"),
    );
    let answer = post(&api, ROLLOUTS, &body).await;
    expect(&answer, 201);
    assert_eq!(answer.json()["spec"]["strategy"]["canary"]["steps"], json!([{}]));
    assert_eq!(
        answer.headers["warning"],
        "299 - \"unknown field \\\"spec.strategy.canary.steps[0].setWieght\\\"\""
    );
    let wrong = json!({"spec": {"strategy": {"canary": {"steps": [{"setWieght": 1}]}}}});
    expect(
        &patch(
            &api,
            &format!("{ROLLOUTS}/web?fieldValidation=Strict"),
            MERGE,
            &wrong,
        )
        .await,
        422,
    );
    let answer = patch(
        &api,
        &format!("{ROLLOUTS}/web?fieldValidation=Ignore"),
        MERGE,
        &wrong,
    )
    .await;
    expect(&answer, 200);
    assert!(answer.headers.get("warning").is_none());
}

#[tokio::test]
async fn invalid_objects_name_the_field() {
    let api = api();
    expect(&apply(&api, ROLLOUTS, &rollout("web", 1)).await, 201);
    expect(&post(&api, DEPLOYMENTS, &deployment("web")).await, 201);
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    expect(&apply(&api, SERVICES, &service).await, 201);
    let mut frozen = config_map("frozen", "1");
    frozen["immutable"] = true.into();
    expect(&apply(&api, CONFIG_MAPS, &frozen).await, 201);
    let cases = [
        (
            format!("{ROLLOUTS}/web"),
            json!({"spec": {"replicas": -1}}),
            "spec.replicas",
            "should be a non-negative integer",
        ),
        (
            format!("{ROLLOUTS}/web"),
            json!({"spec": {"selector": {"matchLabels": {"app": "x"}}}}),
            "spec.selector",
            ".spec.selector is immutable",
        ),
        (
            format!("{ROLLOUTS}/web"),
            json!({"spec": {"strategy": {"blueGreen": {}}}}),
            "spec.strategy.blueGreen.activeService",
            "Required value",
        ),
        (
            format!("{ROLLOUTS}/web"),
            json!({"spec": {"strategy": {"canary": {"steps": [null]}}}}),
            "spec.strategy.canary.steps[0]",
            "must be of type object",
        ),
        (
            format!("{ROLLOUTS}/web"),
            json!({"spec": {"strategy": {"canary": {"steps": [{"setWeight": "10"}]}}}}),
            "spec.strategy.canary.steps[0].setWeight",
            "must be of type integer",
        ),
        (
            format!("{ROLLOUTS}/web"),
            json!({"spec": {"strategy": {"canary": {"steps": [{"experiment": {}}]}}}}),
            "spec.strategy.canary.steps[0].experiment.templates",
            "Required value",
        ),
        (
            format!("{ROLLOUTS}/web"),
            json!({"spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}}}),
            "spec.template.spec.containers[1]",
            "Duplicate value: {\"name\":\"a\"}",
        ),
        (
            format!("{DEPLOYMENTS}/web"),
            json!({"spec": {"selector": {"matchLabels": {"app": "x"}}}}),
            "spec.selector",
            "field is immutable",
        ),
        (
            format!("{SERVICES}/web"),
            json!({"spec": {"clusterIP": "10.9.9.9"}}),
            "spec.clusterIPs[0]",
            "may not change once set",
        ),
        (
            format!("{CONFIG_MAPS}/frozen"),
            json!({"data": {"a": "2"}}),
            "data",
            "field is immutable when `immutable` is set",
        ),
    ];
    for (path, body, field, text) in cases {
        let answer = patch(&api, &path, MERGE, &body).await;
        expect(&answer, 422);
        assert_eq!(answer.json()["reason"], "Invalid");
        assert_eq!(field_of(&answer), field, "{}", answer.text);
        assert!(answer.message().contains(text), "{}", answer.message());
    }
    let answer = post(&api, CONFIG_MAPS, &config_map("Not_A_Name", "1")).await;
    expect(&answer, 422);
    assert_eq!(field_of(&answer), "metadata.name");
}

#[tokio::test]
async fn deletions_hold_to_their_preconditions() {
    let api = api();
    let created = apply(&api, CONFIG_MAPS, &config_map("a", "1")).await;
    let uid = created.json()["metadata"]["uid"].as_str().unwrap().to_owned();
    let path = format!("{CONFIG_MAPS}/a");
    let answer = delete(&api, &path, &json!({"preconditions": {"uid": "other"}})).await;
    refused(
        &answer,
        409,
        "Conflict",
        &format!(
            "Operation cannot be fulfilled on configmaps \"a\": Precondition failed: UID in precondition: other, UID in \
             object meta: {uid}"
        ),
    );
    let answer = delete(&api, &path, &json!({"preconditions": {"resourceVersion": "1"}})).await;
    expect(&answer, 409);
    let answer = delete(&api, &path, &json!({"preconditions": {"uid": uid}})).await;
    expect(&answer, 200);
    assert_eq!(answer.json()["status"], "Success");
    assert_eq!(answer.json()["details"]["uid"], uid.as_str());
    refused(
        &delete(&api, &path, &json!({})).await,
        404,
        "NotFound",
        "configmaps \"a\" not found",
    );
    expect(
        &delete(&api, &path, &json!({"propagationPolicy": "Sideways"})).await,
        400,
    );
}

#[tokio::test]
async fn replacing_an_object_needs_its_version_where_the_kind_is_custom() {
    let api = api();
    let created = post(&api, ROLLOUTS, &rollout("web", 1)).await;
    expect(&created, 201);
    let path = format!("{ROLLOUTS}/web");
    let answer = put(&api, &path, &rollout("web", 2)).await;
    expect(&answer, 422);
    assert_eq!(field_of(&answer), "metadata.resourceVersion");
    let mut next = created.json();
    next["spec"]["replicas"] = 2.into();
    expect(&put(&api, &path, &next).await, 200);
    expect(&put(&api, &path, &next).await, 409);
    next["metadata"]["uid"] = "other".into();
    expect(&put(&api, &path, &next).await, 409);
    let other = put(&api, &path, &rollout("other", 1)).await;
    refused(
        &other,
        400,
        "BadRequest",
        "the name of the object (other) does not match the name on the URL (web)",
    );
    expect(&apply(&api, CONFIG_MAPS, &config_map("a", "1")).await, 201);
    expect(
        &put(&api, &format!("{CONFIG_MAPS}/a"), &config_map("a", "2")).await,
        200,
    );
}

#[tokio::test]
async fn creations_are_refused_where_something_is_in_the_way() {
    let api = api();
    expect(&post(&api, CONFIG_MAPS, &config_map("a", "1")).await, 201);
    let answer = post(&api, CONFIG_MAPS, &config_map("a", "1")).await;
    refused(&answer, 409, "AlreadyExists", "configmaps \"a\" already exists");
    let mut body = config_map("b", "1");
    body["metadata"]["namespace"] = "other".into();
    refused(
        &post(&api, CONFIG_MAPS, &body).await,
        400,
        "BadRequest",
        "the namespace of the provided object does not match the namespace sent on the request",
    );
    let mut body = config_map("b", "1");
    body["apiVersion"] = "v2".into();
    expect(&post(&api, CONFIG_MAPS, &body).await, 400);
    let mut body = config_map("b", "1");
    body["kind"] = "Secret".into();
    expect(&post(&api, CONFIG_MAPS, &body).await, 400);
    expect(
        &post(&api, "/api/v1/configmaps", &config_map("b", "1")).await,
        405,
    );
    expect(
        &send(&api, request(Method::POST, CONFIG_MAPS, "application/json", "{")).await,
        400,
    );
    expect(
        &send(&api, request(Method::POST, CONFIG_MAPS, "application/json", "[]")).await,
        400,
    );
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(4 * 1024 * 1024));
    let answer = send(
        &api,
        request(Method::POST, CONFIG_MAPS, "application/json", &large),
    )
    .await;
    expect(&answer, 413);
}
