//! Submitting: what is taken, what is refused and where it says the mistake is.

use axum::body::Body;
use http::StatusCode;
use serde_json::{Value, json};

use super::{DEPLOY, World, file, gated, ours, request};

const START: &str = "application/vnd.start.kubernetes.pipeline.v2+json";

#[tokio::test(start_paused = true)]
async fn the_older_products_client_is_served_as_it_was() {
    let world = World::new().await;
    let mut body = file("shop", "app:1");
    body["targetFilters"] = Value::Null;
    body["strategies"]["slowly"]["canary"]["steps"][0] = json!({"setWeight": 50});
    body["sourceControl"] = json!({"commit": "abc"});
    body["files"][""] = Value::Null;
    let headers = [
        ("content-type", START),
        ("accept", START),
        ("x-armory-client", "armory-cli/v1.20.0"),
    ];
    let text = Body::from(body.to_string());
    let answer = world
        .send(request(
            "POST",
            "/pipelines/kubernetes",
            Some(&world.ada()),
            &headers,
            text,
        ))
        .await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    assert_eq!(answer.header("content-type"), START);
    let id = answer.json()["pipelineId"].as_str().unwrap().to_owned();
    let warnings = answer.json()["warnings"].clone();
    assert!(warnings[0].as_str().unwrap().contains("short form"), "{warnings}");
    assert_eq!(answer.header("location"), format!("/pipelines/{id}"));

    world.until(&id, "SUCCEEDED").await;
    let status = world.get(&world.ada(), &format!("/pipelines/{id}")).await.json();
    assert_eq!(
        status["source"],
        json!({"product": "armory-cli", "version": "v1.20.0"})
    );
    assert_eq!(status["sourceControl"], json!({"commit": "abc"}));
    let view = world
        .get(&world.ada(), &format!("/pipelines/{id}/view"))
        .await
        .json();
    assert_eq!(view["actor"]["via"], "cli");
}

#[tokio::test(start_paused = true)]
async fn a_warning_has_its_place_and_its_hint() {
    let world = World::new().await;
    let mut body = file("shop", "app:1");
    body["strategies"]["slowly"]["canary"]["steps"][0] = json!({"setWeight": 50});
    let answer = world.post(&world.ada(), "/pipelines/kubernetes", &body).await;
    let warning = answer.json()["warnings"][0].clone();
    assert_eq!(warning["severity"], "warning");
    assert_eq!(warning["pointer"], "/strategies/slowly/canary/steps/0/setWeight");
    assert!(warning["line"].as_u64().unwrap() > 0 && warning["hint"].is_string());
}

#[tokio::test(start_paused = true)]
async fn a_yaml_file_is_taken_and_its_mistakes_have_their_lines() {
    let world = World::new().await;
    let yaml = "application: shop\ntarget:\n  staging: {account: staging-agent}\n";
    let headers = [
        ("content-type", "application/yaml; charset=utf-8"),
        ("x-aurora-file-name", "deploy.yaml"),
    ];
    let answer = world
        .send(request(
            "POST",
            "/pipelines/kubernetes",
            Some(&world.ada()),
            &headers,
            Body::from(yaml),
        ))
        .await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let problem = answer.problem();
    let unknown = problem
        .errors
        .iter()
        .find(|error| error.pointer == "/target")
        .unwrap();
    assert_eq!((unknown.line, unknown.column), (2, 1));
    assert_eq!(unknown.file, "deploy.yaml");
    assert!(unknown.hint.contains("targets"), "{unknown:?}");
    assert!(problem.errors.len() > 1, "all problems are said at once");
}

#[tokio::test(start_paused = true)]
async fn an_account_that_was_never_seen_is_named() {
    let world = World::new().await;
    let mut body = file("shop", "app:1");
    body["targets"]["staging"]["account"] = json!("nobody");
    let answer = world.post(&world.ada(), "/pipelines/kubernetes", &body).await;
    insta::assert_snapshot!(answer.shape(), @r#"
    {
      "code": "account.unknown",
      "detail": "target `staging`: no agent named `nobody` was ever seen; connect the agent, or name one that `aurora agent list` shows",
      "error_id": "[id]",
      "errors": [
        {
          "code": "account.unknown",
          "column": 0,
          "hint": "`aurora agent list` shows those that were; start the agent first",
          "line": 0,
          "message": "no agent named `nobody` was ever seen",
          "pointer": "/targets/staging/account",
          "severity": "error"
        }
      ],
      "status": 422,
      "title": "Unprocessable Entity",
      "type": "urn:aurora:problem:account.unknown"
    }
    "#);
}

#[tokio::test(start_paused = true)]
async fn a_second_run_of_an_application_is_told_which_one_is_in_the_way() {
    let world = World::new().await;
    let first = world.waiting().await;
    let answer = world
        .post(&world.ada(), "/pipelines", &file("shop", "app:2"))
        .await;
    assert_eq!(answer.problem().pipeline_id.unwrap().to_string(), first);
    insta::assert_snapshot!(answer.shape().replace(&first, "[pipeline]"), @r#"
    {
      "code": "application.busy",
      "detail": "application `shop` is being deployed by pipeline [pipeline]; wait for its end or cancel it",
      "error_id": "[id]",
      "errors": [
        {
          "code": "application.busy",
          "column": 0,
          "line": 0,
          "message": "application `shop` is being deployed by pipeline [pipeline]; wait for its end or cancel it",
          "pointer": "",
          "severity": "error"
        }
      ],
      "pipelineId": "[pipeline]",
      "status": 409,
      "title": "Conflict",
      "type": "urn:aurora:problem:application.busy"
    }
    "#);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_key_gives_the_same_pipeline_and_never_another_one() {
    let world = World::new().await;
    let key = [("idempotency-key", "deploy-7")];
    let first = world
        .post_with(&world.ada(), "/pipelines/kubernetes", &key, &gated("shop"))
        .await;
    let again = world
        .post_with(&world.ada(), "/pipelines/kubernetes", &key, &gated("shop"))
        .await;
    assert_eq!(first.status, StatusCode::ACCEPTED);
    assert_eq!((again.status, again.json()), (first.status, first.json()));

    let other = world
        .post_with(&world.ada(), "/pipelines/kubernetes", &key, &gated("other"))
        .await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(other.problem().code, "idempotencyKey.reused");
    let somebody = world.token(&ours(), "Grace", DEPLOY, &[]);
    let theirs = world
        .post_with(&somebody, "/pipelines/kubernetes", &key, &gated("other"))
        .await;
    assert_eq!(
        theirs.status,
        StatusCode::ACCEPTED,
        "keys are each principal's own"
    );
    let list = world.get(&world.ada(), "/pipelines").await.json();
    assert_eq!(list["rows"].as_array().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_a_submit_is_refused_by_its_sort() {
    let world = World::new().await;
    let ada = world.ada();
    for (media_type, body, status, code) in [
        (
            "text/plain",
            "application: shop",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "mediaType.unknown",
        ),
        (
            "application/vnd.start.kubernetes.pipeline.v2.link+json",
            "{}",
            StatusCode::UNPROCESSABLE_ENTITY,
            "configLocation.invalid",
        ),
        ("application/json", "", StatusCode::UNPROCESSABLE_ENTITY, "empty"),
        ("application/yaml", "\u{0}", StatusCode::UNPROCESSABLE_ENTITY, ""),
    ] {
        let headers = [("content-type", media_type)];
        let answer = world
            .send(request(
                "POST",
                "/pipelines/kubernetes",
                Some(&ada),
                &headers,
                Body::from(body),
            ))
            .await;
        assert_eq!(answer.status, status, "{media_type} {body:?}");
        let problem = answer.problem();
        assert!(code.is_empty() || problem.code == code, "{problem:?}");
    }
    let headers = [("content-type", "application/json")];
    let not_text = Body::from(&b"{\"application\": \"\xff\"}"[..]);
    let answer = world
        .send(request(
            "POST",
            "/pipelines/kubernetes",
            Some(&ada),
            &headers,
            not_text,
        ))
        .await;
    assert_eq!(answer.problem().code, "encoding");
    let answer = world
        .post_with(
            &ada,
            "/pipelines/kubernetes",
            &[("idempotency-key", "")],
            &gated("shop"),
        )
        .await;
    assert_eq!(answer.problem().code, "idempotencyKey.invalid");
}
