//! Approve, reject, cancel: what is recorded, what is refused, and that it happens once.

use http::StatusCode;
use serde_json::json;

use super::{DEPLOY, World, gated, ours};

#[tokio::test(start_paused = true)]
async fn an_approval_is_recorded_and_the_pipeline_goes_on() {
    let world = World::new().await;
    let id = world.waiting().await;
    let path = format!("/pipelines/{id}/actions/approve");
    let answer = world
        .post(&world.ada(), &path, &json!({"comment": "looks good"}))
        .await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["phase"], "recorded");
    let version = body["version"].as_u64().unwrap();
    assert_eq!(body["eventId"], format!("{id}:{version}"));
    assert!(body["asOf"]["cursor"].is_string());
    world.until(&id, "SUCCEEDED").await;
    let timeline = world
        .get(&world.ada(), &format!("/pipelines/{id}/timeline?kind=gateOpened"))
        .await
        .json();
    let entry = &timeline["entries"][0];
    assert_eq!(entry["version"], version);
    assert_eq!(entry["comment"], "looks good");
    assert_eq!(
        (&entry["actor"]["display"], &entry["actor"]["via"]),
        (&json!("Ada"), &json!("api"))
    );
}

#[tokio::test(start_paused = true)]
async fn who_is_slower_hears_who_was_faster_and_sees_the_pipeline() {
    let world = World::new().await;
    let id = world.waiting().await;
    let view = world
        .get(&world.ada(), &format!("/pipelines/{id}/view"))
        .await
        .json();
    let gate = view["waiting"][0]["subject"]["gate"].clone();
    let path = |action: &str| format!("/pipelines/{id}/actions/{action}");
    let body = json!({"gate": gate});
    let first = world.post(&world.ada(), &path("approve"), &body).await;
    assert_eq!(first.status, StatusCode::ACCEPTED);
    let grace = world.token(&ours(), "Grace", DEPLOY, &["release-manager"]);
    let second = world.post(&grace, &path("reject"), &body).await;
    assert_eq!(second.status, StatusCode::CONFLICT);
    let problem = second.problem();
    assert_eq!(problem.code, "gate.decided");
    assert_eq!(problem.decided_by.unwrap().display, "Ada");
    assert_eq!(problem.view.unwrap().id.to_string(), id);
}

#[tokio::test(start_paused = true)]
async fn only_a_holder_of_the_role_approves() {
    let world = World::new().await;
    let id = world.waiting().await;
    let bob = world.token(&ours(), "Bob", DEPLOY, &["developer"]);
    let answer = world
        .post(&bob, &format!("/pipelines/{id}/actions/approve"), &json!({}))
        .await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    insta::assert_snapshot!(answer.shape(), @r#"
    {
      "code": "role.missing",
      "detail": "gate `staging/before/0` needs the role release-manager",
      "error_id": "[id]",
      "errors": [
        {
          "code": "role.missing",
          "column": 0,
          "line": 0,
          "message": "gate `staging/before/0` needs the role release-manager",
          "pointer": "",
          "severity": "error"
        }
      ],
      "needs": [
        "release-manager"
      ],
      "status": 403,
      "title": "Forbidden",
      "type": "urn:aurora:problem:role.missing"
    }
    "#);
}

#[tokio::test(start_paused = true)]
async fn a_person_who_saw_something_else_is_told_to_look_again() {
    let world = World::new().await;
    let id = world.waiting().await;
    let path = format!("/pipelines/{id}/actions/approve");
    let stale = json!({"target": "staging", "expect": "staging/before/0:sha256:0000"});
    let answer = world.post(&world.ada(), &path, &stale).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    let problem = answer.problem();
    assert_eq!(problem.code, "gate.changed");
    let view = problem.view.unwrap();
    let expect = view.waiting[0].actions[0].expect.clone().unwrap();
    let answer = world.post(&world.ada(), &path, &json!({"expect": expect})).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_and_a_cancelled_pipeline_end() {
    for (action, body) in [
        ("reject", json!({"gate": "staging/before/0", "comment": "no"})),
        ("cancel", json!({"comment": "wrong version"})),
        ("cancel", json!({})),
    ] {
        let world = World::new().await;
        let id = world.waiting().await;
        let answer = world
            .post(&world.ada(), &format!("/pipelines/{id}/actions/{action}"), &body)
            .await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{action} {body}");
        world.until(&id, "CANCELLED").await;
        let again = world
            .post(
                &world.ada(),
                &format!("/pipelines/{id}/actions/cancel"),
                &json!({}),
            )
            .await;
        assert_eq!(again.status, StatusCode::CONFLICT);
        assert_eq!(again.problem().code, "pipeline.ended");
    }
}

#[tokio::test(start_paused = true)]
async fn an_act_repeated_with_its_key_answers_the_same_and_acts_once() {
    let world = World::new().await;
    let id = world.waiting().await;
    let path = format!("/pipelines/{id}/actions/approve");
    let key = [("idempotency-key", "approve-1")];
    let body = json!({"gate": "staging/before/0", "comment": "yes"});
    let first = world.post_with(&world.ada(), &path, &key, &body).await;
    assert_eq!(first.status, StatusCode::ACCEPTED);
    world.until(&id, "SUCCEEDED").await;
    let again = world.post_with(&world.ada(), &path, &key, &body).await;
    assert_eq!(again.status, StatusCode::ACCEPTED, "{again:?}");
    for member in ["eventId", "phase", "version", "pipelineId"] {
        assert_eq!(first.json()[member], again.json()[member], "{member}");
    }
    let other = json!({"gate": "staging/before/0", "comment": "another"});
    let other = world.post_with(&world.ada(), &path, &key, &other).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(other.problem().code, "idempotencyKey.reused");
    let opened = world
        .get(&world.ada(), &format!("/pipelines/{id}/timeline?kind=gateOpened"))
        .await
        .json();
    assert_eq!(opened["entries"].as_array().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn acts_that_come_later_are_said_to_and_unknown_ones_are_not_there() {
    let world = World::new().await;
    let id = world.waiting().await;
    for action in ["hold", "release", "override", "promote-full", "withdraw", "note"] {
        let answer = world
            .post(
                &world.ada(),
                &format!("/pipelines/{id}/actions/{action}"),
                &json!({}),
            )
            .await;
        assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED, "{action}");
        assert_eq!(answer.problem().code, "notYet");
    }
    let answer = world
        .post(
            &world.ada(),
            &format!("/pipelines/{id}/actions/explode"),
            &json!({}),
        )
        .await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.problem().code, "action.unknown");
}

#[tokio::test(start_paused = true)]
async fn an_act_that_is_no_act_is_refused() {
    let world = World::new().await;
    let id = world.waiting().await;
    for (action, body, code) in [
        ("approve", json!({"gat": "x"}), "act.malformed"),
        ("approve", json!([1]), "act.malformed"),
        ("approve", json!({"gate": "x"}), "gate.malformed"),
        (
            "approve",
            json!({"gate": "staging/before/0", "target": "prod"}),
            "gate.malformed",
        ),
        ("cancel", json!({"expect": "x"}), "act.malformed"),
        ("cancel", json!({"comment": "x".repeat(2001)}), "invalid"),
    ] {
        let answer = world
            .post(&world.ada(), &format!("/pipelines/{id}/actions/{action}"), &body)
            .await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{action} {body}");
        assert_eq!(answer.problem().code, code, "{action} {body}");
    }
    let gate = json!({"gate": "staging/step/7"});
    let answer = world
        .post(&world.ada(), &format!("/pipelines/{id}/actions/approve"), &gate)
        .await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn of_several_gates_one_must_be_named() {
    let world = World::new().await;
    let mut body = gated("shop");
    let pause = body["targets"]["staging"]["constraints"]["beforeDeployment"][0].clone();
    body["targets"]["staging"]["constraints"]["beforeDeployment"] = json!([pause, pause]);
    let id = world.submit(&body).await;
    world.until(&id, "AWAITING_APPROVAL").await;
    let path = format!("/pipelines/{id}/actions/approve");
    let answer = world.post(&world.ada(), &path, &json!({})).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let detail = answer.problem().detail;
    assert!(
        detail.contains("staging/before/0") && detail.contains("staging/before/1"),
        "{detail}"
    );
}
