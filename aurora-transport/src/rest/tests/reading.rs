//! Status, views, lists, timeline, evidence, agents and accounts.

use http::StatusCode;
use serde_json::{Value, json};

use super::{EVERYTHING, World, file, gated, ours};

#[tokio::test(start_paused = true)]
async fn the_status_has_every_member_that_older_clients_read() {
    let world = World::new().await;
    let id = world.waiting().await;
    let mut status = world.get(&world.ada(), &format!("/pipelines/{id}")).await.json();
    status["id"] = json!("[id]");
    status["steps"][1]["deployment"]["id"] = json!("[id].staging");
    insta::assert_snapshot!(serde_json::to_string_pretty(&status).unwrap(), @r#"
    {
      "application": "shop",
      "completedAtIso8601": null,
      "context": {
        "team": "lanterns"
      },
      "description": "shop with app:1",
      "environments": [
        {
          "account": "staging-agent",
          "name": "staging",
          "namespace": "shop"
        }
      ],
      "id": "[id]",
      "initiatedBy": "Ada",
      "source": {
        "product": "",
        "version": ""
      },
      "startedAtIso8601": "2026-11-24T08:00:00Z",
      "status": "AWAITING_APPROVAL",
      "steps": [
        {
          "constraintFor": "staging",
          "dependsOn": [],
          "pause": {
            "untilApproved": true
          },
          "ref": "staging-before-0",
          "status": "AWAITING_APPROVAL",
          "type": "pause"
        },
        {
          "dependsOn": [
            "staging-before-0"
          ],
          "deployment": {
            "environment": "staging",
            "id": "[id].staging",
            "step": 0,
            "totalSteps": 2
          },
          "ref": "staging-deployment",
          "status": "AWAITING_APPROVAL",
          "type": "deployment"
        }
      ]
    }
    "#);
}

#[tokio::test(start_paused = true)]
async fn a_view_says_why_it_waits_and_what_would_end_that() {
    let world = World::new().await;
    let id = world.waiting().await;
    let view = world
        .get(&world.ada(), &format!("/pipelines/{id}/view"))
        .await
        .json();
    assert!(view["asOf"]["cursor"].is_string() && view["now"].is_string());
    let wait = &view["waiting"][0];
    assert_eq!(wait["kind"], "approval");
    let approve = &wait["actions"][0];
    assert_eq!(approve["id"], "approve");
    assert_eq!(approve["allowed"], true);
    let href = approve["href"].as_str().unwrap();
    let body = json!({"gate": approve["gate"], "expect": approve["expect"], "comment": "fine"});
    let answer = world.post(&world.ada(), href, &body).await;
    assert_eq!(
        answer.status,
        StatusCode::ACCEPTED,
        "what a view offers works: {answer:?}"
    );

    let nobody = world.token(&ours(), "Bob", EVERYTHING, &[]);
    let id = {
        world.until(&id, "SUCCEEDED").await;
        world.waiting().await
    };
    let view = world.get(&nobody, &format!("/pipelines/{id}/view")).await.json();
    let approve = &view["waiting"][0]["actions"][0];
    assert_eq!(approve["allowed"], false);
    assert_eq!(approve["denied"]["needs"], json!(["release-manager"]));
}

#[tokio::test(start_paused = true)]
async fn one_target_can_be_looked_at() {
    let world = World::new().await;
    let id = world.waiting().await;
    let ada = world.ada();
    let target = world
        .get(&ada, &format!("/pipelines/{id}/targets/staging/view"))
        .await
        .json();
    assert_eq!(
        (&target["name"], &target["account"]),
        (&json!("staging"), &json!("staging-agent"))
    );
    assert!(target["asOf"]["cursor"].is_string() && target["now"].is_string());
    let absent = world
        .get(&ada, &format!("/pipelines/{id}/targets/moon/view"))
        .await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn a_list_is_filtered_counted_and_paged_in_both_directions() {
    let world = World::new().await;
    let ada = world.ada();
    let mut ids = Vec::new();
    for application in ["a", "b", "c", "d", "e"] {
        ids.push(world.submit(&gated(application)).await);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for id in &ids {
        world.until(id, "AWAITING_APPROVAL").await;
    }
    ids.reverse();
    let rows = |list: &Value| -> Vec<String> {
        let rows = list["rows"].as_array().unwrap().iter();
        rows.map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    let mut seen = Vec::new();
    let mut pages = vec![
        world
            .get(&ada, "/pipelines?limit=2&counts=status,application")
            .await
            .json(),
    ];
    assert_eq!(pages[0]["counts"]["status"], json!({"AWAITING_APPROVAL": 5}));
    assert_eq!(pages[0]["counts"]["application"]["c"], 1);
    assert_eq!(pages[0]["exact"], true);
    loop {
        let page = pages.last().unwrap();
        seen.extend(rows(page));
        let Some(next) = page["page"]["next"].as_str() else {
            break;
        };
        let next = world
            .get(&ada, &format!("/pipelines?limit=2&cursor={next}"))
            .await
            .json();
        pages.push(next);
    }
    assert_eq!(seen, ids);
    let back = pages[2]["page"]["prev"].as_str().unwrap();
    let back = world
        .get(&ada, &format!("/pipelines?limit=2&cursor={back}"))
        .await
        .json();
    assert_eq!(rows(&back), rows(&pages[1]));

    let one = world
        .get(
            &ada,
            "/pipelines?application=c&status=AWAITING_APPROVAL&needs=anyone",
        )
        .await;
    assert_eq!(rows(&one.json()), [ids[2].clone()]);
    let none = world.get(&ada, "/pipelines?status=SUCCEEDED,FAILED").await;
    assert_eq!(rows(&none.json()), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_parameter_that_is_unknown_or_wrong_is_refused() {
    let world = World::new().await;
    let ada = world.ada();
    let answer = world.get(&ada, "/pipelines?aplication=shop").await;
    insta::assert_snapshot!(answer.shape(), @r#"
    {
      "code": "parameter.unknown",
      "detail": "there is no parameter `aplication`; there are application, target, account, status, state, reason, actor, needs, source, commit, since, until, q, limit, cursor, counts, sort",
      "error_id": "[id]",
      "errors": [
        {
          "code": "parameter.unknown",
          "column": 0,
          "line": 0,
          "message": "there is no parameter `aplication`; there are application, target, account, status, state, reason, actor, needs, source, commit, since, until, q, limit, cursor, counts, sort",
          "pointer": "",
          "severity": "error"
        }
      ],
      "status": 422,
      "title": "Unprocessable Entity",
      "type": "urn:aurora:problem:parameter.unknown"
    }
    "#);
    for (query, status) in [
        ("status=DONE", StatusCode::UNPROCESSABLE_ENTITY),
        ("limit=many", StatusCode::UNPROCESSABLE_ENTITY),
        ("limit=1&limit=2", StatusCode::UNPROCESSABLE_ENTITY),
        ("cursor=x", StatusCode::UNPROCESSABLE_ENTITY),
        ("since=yesterday", StatusCode::UNPROCESSABLE_ENTITY),
        ("limit=0", StatusCode::UNPROCESSABLE_ENTITY),
        ("limit=201", StatusCode::UNPROCESSABLE_ENTITY),
        ("needs=money", StatusCode::UNPROCESSABLE_ENTITY),
        ("sort=application", StatusCode::UNPROCESSABLE_ENTITY),
        ("fields=id", StatusCode::NOT_IMPLEMENTED),
    ] {
        let answer = world.get(&ada, &format!("/pipelines?{query}")).await;
        assert_eq!(answer.status, status, "{query}");
        answer.problem();
    }
    for path in [
        "/agents?x=1",
        "/accounts?x=1",
        "/events?x=1",
        "/events?topic=weather",
    ] {
        let answer = world.get(&ada, path).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
    }
    let answer = world.get(&ada, "/events?topic=pipelines,agents").await;
    assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test(start_paused = true)]
async fn a_timeline_is_read_in_parts_and_filtered() {
    let world = World::new().await;
    let ada = world.ada();
    let id = world.submit(&file("shop", "app:1")).await;
    world.until(&id, "SUCCEEDED").await;
    let all = world.get(&ada, &format!("/pipelines/{id}/timeline")).await.json();
    let versions = |timeline: &Value| -> Vec<u64> {
        let entries = timeline["entries"].as_array().unwrap().iter();
        entries.map(|entry| entry["version"].as_u64().unwrap()).collect()
    };
    assert_eq!(all["entries"][0]["kind"], "submitted");
    assert_eq!(all["entries"][0]["actor"]["display"], "Ada");
    assert!(all["next"].is_null() && all["asOf"]["cursor"].is_string());
    let (mut seen, mut after) = (Vec::new(), 0);
    loop {
        let part = world
            .get(&ada, &format!("/pipelines/{id}/timeline?limit=2&after={after}"))
            .await
            .json();
        seen.extend(versions(&part));
        match part["next"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(seen, versions(&all));
    let kinds = world
        .get(
            &ada,
            &format!("/pipelines/{id}/timeline?kind=submitted,pipelineEnded"),
        )
        .await
        .json();
    assert_eq!(kinds["entries"].as_array().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn evidence_names_the_pod_and_keeps_its_name() {
    let world = World::new().await;
    let ada = world.ada();
    let id = world.submit(&file("shop", "app:broken")).await;
    world.until(&id, "FAILED").await;
    let all = world.get(&ada, &format!("/pipelines/{id}/evidence")).await.json();
    let first = all["evidence"][0].clone();
    assert_eq!(first["target"], "staging");
    let name = first["id"].as_str().unwrap();
    let one = world
        .get(&ada, &format!("/pipelines/{id}/evidence/{name}"))
        .await
        .json();
    assert_eq!(one["evidence"], json!([first]));
    let absent = world.get(&ada, &format!("/pipelines/{id}/evidence/0000")).await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn agents_and_accounts_are_those_of_the_tenant() {
    let world = World::new().await;
    let ada = world.ada();
    let agents = world.get(&ada, "/agents").await.json();
    assert_eq!(agents["agents"].as_array().unwrap().len(), 1);
    assert_eq!(agents["agents"][0]["name"], "staging-agent");
    assert!(agents["now"].is_string() && agents["asOf"]["at"].is_string());
    let agent = world.get(&ada, "/agents/staging-agent").await.json();
    assert_eq!(agent["name"], "staging-agent");
    assert_eq!(
        world.get(&ada, "/agents/other").await.status,
        StatusCode::NOT_FOUND
    );
    let accounts = world.get(&ada, "/accounts").await.json();
    assert_eq!(accounts["accounts"][0]["name"], "staging-agent");
    let connected = world
        .get(&ada, "/identity/connected-agents?agent-identifier=staging-agent")
        .await;
    let connected = connected.json();
    assert!(
        connected
            .as_array()
            .unwrap()
            .iter()
            .all(|agent| agent["agentIdentifier"] == "staging-agent")
    );
    let none = world
        .get(&ada, "/identity/connected-agents?agent-identifier=other")
        .await
        .json();
    assert_eq!(none, json!([]));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_id_names_no_pipeline() {
    let world = World::new().await;
    let answer = world.get(&world.ada(), "/pipelines/not-an-id").await;
    insta::assert_snapshot!(answer.shape(), @r#"
    {
      "code": "notFound",
      "detail": "there is no pipeline not-an-id",
      "error_id": "[id]",
      "errors": [
        {
          "code": "notFound",
          "column": 0,
          "line": 0,
          "message": "there is no pipeline not-an-id",
          "pointer": "",
          "severity": "error"
        }
      ],
      "status": 404,
      "title": "Not Found",
      "type": "urn:aurora:problem:notFound"
    }
    "#);
}
