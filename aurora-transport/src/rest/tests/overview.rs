//! Plans, diffs, histories, approvals, applications and the audit log.

use http::StatusCode;
use serde_json::{Value, json};

use super::{EVERYTHING, World, file, gated, ours};

/// The same with a Secret beside it.
fn with_secret(application: &str, image: &str, password: &str) -> Value {
    let mut body = gated(application);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "password"},
        "stringData": {"password": password},
    });
    let texts = file(application, image)["files"]["manifests/app.yaml"].clone();
    let mut texts = texts.as_array().unwrap().clone();
    texts.push(json!(secret.to_string()));
    body["files"]["manifests/app.yaml"] = Value::Array(texts);
    body
}

async fn approve(world: &World, id: &str) {
    let path = format!("/pipelines/{id}/actions/approve");
    let answer = world.post(&world.ada(), &path, &json!({})).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_names_its_objects_and_never_a_secret() {
    let world = World::new().await;
    let ada = world.ada();
    let id = world.submit(&with_secret("shop", "app:1", "hunter2")).await;
    let path = format!("/pipelines/{id}/targets/staging/plan");
    let plan = world.get(&ada, &path).await.json();
    let objects = plan["objects"].as_array().unwrap();
    assert_eq!(objects.len(), 2, "{plan}");
    let secret = objects
        .iter()
        .find(|object| object["object"]["kind"] == "Secret")
        .unwrap();
    assert_eq!(secret["source"]["file"], "manifests/app.yaml[1]");
    let digest = secret["digest"].as_str().unwrap();
    let text = world.get(&ada, &format!("{path}/objects/{digest}")).await;
    assert_eq!(text.status, StatusCode::OK);
    let tag = text.json()["body"]["stringData"]["password"].clone();
    assert_eq!(tag["redacted"], true);
    assert!(!text.json().to_string().contains("hunter2"));
    let none = world
        .get(&ada, &format!("{path}/objects/sha256:{}", "0".repeat(64)))
        .await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    let none = world
        .get(&ada, &format!("/pipelines/{id}/targets/moon/plan"))
        .await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn a_diff_shows_images_fields_and_that_a_secret_changed() {
    let world = World::new().await;
    let ada = world.ada();
    let first = world.submit(&with_secret("shop", "app:1", "hunter2")).await;
    approve(&world, &first).await;
    world.until(&first, "SUCCEEDED").await;
    let second = world.submit(&with_secret("shop", "app:2", "hunter3")).await;
    let path = format!("/diff?from=run:{first}/staging&to=run:{second}/staging");
    let diff = world.get(&ada, &path).await.json();
    assert_eq!(diff["summary"]["images"][0]["from"], "app:1");
    assert_eq!(diff["summary"]["images"][0]["to"], "app:2");
    assert_eq!(diff["summary"]["configKeys"], json!(["Secret/password/password"]));
    assert_eq!(diff["summary"]["changed"], 2);
    assert!(!diff.to_string().contains("hunter"), "{diff}");
    let (from, to) = (diff["from"].as_str().unwrap(), diff["to"].as_str().unwrap());
    let same = world
        .get(&ada, &format!("/diff?from=plan:{from}&to=plan:{to}"))
        .await
        .json();
    assert_eq!(same["objects"], diff["objects"]);
    for (query, status) in [
        (format!("from=plan:{from}&to=live"), StatusCode::NOT_IMPLEMENTED),
        (format!("from=plan:{from}"), StatusCode::UNPROCESSABLE_ENTITY),
        (
            format!("from=run:{first}/moon&to=plan:{to}"),
            StatusCode::NOT_FOUND,
        ),
    ] {
        let answer = world.get(&ada, &format!("/diff?{query}")).await;
        assert_eq!(answer.status, status, "{query}");
        answer.problem();
    }
}

#[tokio::test(start_paused = true)]
async fn the_inbox_shows_what_waits_for_whom_and_what_was_decided() {
    let world = World::new().await;
    let (ada, first) = (world.ada(), world.waiting().await);
    let inbox = world.get(&ada, "/approvals?needs=me").await.json();
    let wait = &inbox["pending"][0];
    assert_eq!(wait["pipeline"], first.as_str());
    assert_eq!(wait["youCan"], true);
    assert_eq!(wait["gate"], "staging/before/0");
    assert!(wait["planDigest"].as_str().unwrap().starts_with("sha256:"));
    assert!(wait["changes"].is_null(), "nothing succeeded there before");
    let me = world.get(&ada, "/me").await.json();
    assert_eq!(me["tenants"][0]["needs"], 1);

    let bob = world.token(&ours(), "Bob", EVERYTHING, &[]);
    assert_eq!(
        world.get(&bob, "/approvals?needs=me").await.json()["pending"],
        json!([])
    );
    assert_eq!(world.get(&bob, "/me").await.json()["tenants"][0]["needs"], 0);
    let all = world.get(&bob, "/approvals").await.json();
    assert_eq!(all["pending"][0]["youCan"], false);
    assert_eq!(
        all["pending"][0]["youCannot"]["needs"],
        json!(["release-manager"])
    );
    assert_eq!(
        world.get(&bob, "/pipelines?needs=me").await.json()["rows"],
        json!([])
    );

    approve(&world, &first).await;
    world.until(&first, "SUCCEEDED").await;
    let second = world
        .submit(&{
            let mut body = gated("shop");
            body["files"] = file("shop", "app:2")["files"].clone();
            body
        })
        .await;
    world.until(&second, "AWAITING_APPROVAL").await;
    let inbox = world.get(&ada, "/approvals").await.json();
    assert_eq!(inbox["pending"].as_array().unwrap().len(), 1);
    assert_eq!(inbox["pending"][0]["changes"]["images"][0]["to"], "app:2");
    let decided = world.get(&ada, "/approvals?state=decided").await.json();
    assert_eq!(decided["decided"][0]["action"], "gateOpened");
    assert_eq!(decided["decided"][0]["subject"]["gate"], "staging/before/0");
    assert_eq!(decided["decided"][0]["actor"]["display"], "Ada");
    let hers = world.get(&bob, "/approvals?state=decided&needs=me").await.json();
    assert_eq!(hers["decided"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn what_runs_where_has_the_current_run_and_the_last_good_one() {
    let world = World::new().await;
    let ada = world.ada();
    let good = world.submit(&file("shop", "app:1")).await;
    world.until(&good, "SUCCEEDED").await;
    let current = world
        .submit(&{
            let mut body = gated("shop");
            body["files"] = file("shop", "app:2")["files"].clone();
            body
        })
        .await;
    for application in ["attic", "cellar"] {
        world.submit(&gated(application)).await;
    }
    let shop = world.get(&ada, "/applications/shop").await.json();
    let cell = &shop["cells"][0];
    assert_eq!(
        (&cell["account"], &cell["namespace"]),
        (&json!("staging-agent"), &json!("shop"))
    );
    assert_eq!(cell["current"]["run"], current.as_str());
    assert_eq!(cell["lastGood"]["run"], good.as_str());
    assert!(cell["lastGood"]["since"].is_string());
    assert_eq!(cell["images"][0]["image"], "app:1");
    assert_eq!(shop["lock"], current.as_str());

    let names = |answer: &Value| -> Vec<String> {
        let all = answer["applications"].as_array().unwrap().iter();
        all.map(|of| of["application"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = world.get(&ada, "/applications?limit=2").await.json();
    assert_eq!(names(&first), ["attic", "cellar"]);
    let next = first["page"]["next"].as_str().unwrap();
    let second = world
        .get(&ada, &format!("/applications?limit=2&cursor={next}"))
        .await
        .json();
    assert_eq!(names(&second), ["shop"]);
    let prev = second["page"]["prev"].as_str().unwrap();
    let back = world
        .get(&ada, &format!("/applications?limit=2&cursor={prev}"))
        .await
        .json();
    assert_eq!(names(&back), names(&first));
    assert!(second["page"]["next"].is_null() && first["page"]["prev"].is_null());
    let unknown = world.get(&ada, "/applications/moon").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn the_audit_log_is_filtered_and_paged_in_both_directions() {
    let world = World::new().await;
    let auditor = world.token(&ours(), "Eve", &["read:audit"], &[]);
    let bob = world.token(&ours(), "Bob", EVERYTHING, &[]);
    let id = world.waiting().await;
    let refused = world
        .post(&bob, &format!("/pipelines/{id}/actions/approve"), &json!({}))
        .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    approve(&world, &id).await;
    world.until(&id, "SUCCEEDED").await;
    for application in ["a", "b", "c"] {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        world.submit(&gated(application)).await;
    }
    let actions = |answer: &Value| -> Vec<String> {
        let entries = answer["entries"].as_array().unwrap().iter();
        entries
            .map(|entry| format!("{} {}", entry["action"].as_str().unwrap(), entry["at"]))
            .collect()
    };
    let all = world.get(&auditor, "/audit").await.json();
    assert_eq!(all["entries"].as_array().unwrap().len(), 6, "{all}");
    let denied = world.get(&auditor, "/audit?result=denied").await.json();
    assert_eq!(denied["entries"].as_array().unwrap().len(), 1);
    assert_eq!(denied["entries"][0]["actor"]["display"], "Bob");
    let of_one = world
        .get(&auditor, &format!("/audit?object=pipeline/{id}&actor=Ada"))
        .await
        .json();
    assert_eq!(of_one["entries"].as_array().unwrap().len(), 2);
    assert_eq!(of_one["entries"][0]["action"], "gateOpened");

    let mut pages = vec![world.get(&auditor, "/audit?limit=2").await.json()];
    while let Some(next) = pages.last().unwrap()["page"]["next"].as_str() {
        let next = world
            .get(&auditor, &format!("/audit?limit=2&cursor={next}"))
            .await
            .json();
        pages.push(next);
    }
    let joined: Vec<String> = pages.iter().flat_map(&actions).collect();
    assert_eq!(joined, actions(&all));
    let prev = pages[2]["page"]["prev"].as_str().unwrap();
    let back = world
        .get(&auditor, &format!("/audit?limit=2&cursor={prev}"))
        .await
        .json();
    assert_eq!(actions(&back), actions(&pages[1]));
    assert_eq!(
        world.get(&world.ada(), "/audit").await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test(start_paused = true)]
async fn a_history_has_points_five_seconds_apart_that_end_where_the_target_ended() {
    let world = World::new().await;
    let ada = world.ada();
    let first = world.submit(&file("shop", "app:1")).await;
    world.until(&first, "SUCCEEDED").await;
    let id = world.submit(&file("shop", "app:2")).await;
    world.until(&id, "SUCCEEDED").await;
    let path = format!("/pipelines/{id}/targets/staging/history");
    let mut history = world.get(&ada, &path).await.json();
    // The last points are written just after the last event.
    while history["points"]
        .as_array()
        .unwrap()
        .last()
        .is_none_or(|last| last["phase"] != "done")
    {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        history = world.get(&ada, &path).await.json();
    }
    let points = history["points"].as_array().unwrap();
    assert_eq!(points.len(), history["recorded"].as_u64().unwrap() as usize);
    let weights: Vec<u64> = points
        .iter()
        .filter_map(|point| point["wanted"].as_u64())
        .collect();
    assert!(weights.contains(&50), "{history:#}");
    let times: Vec<jiff::Timestamp> = points
        .iter()
        .map(|point| point["at"].as_str().unwrap().parse().unwrap())
        .collect();
    let inner = &times[..times.len() - 1];
    assert!(
        inner
            .windows(2)
            .all(|pair| pair[1].duration_since(pair[0]).as_secs() >= 5),
        "{times:?}"
    );
    let thin = world.get(&ada, &format!("{path}?points=2")).await.json();
    assert!(thin["points"].as_array().unwrap().len() <= 2);
    assert_eq!(thin["recorded"], history["recorded"]);
}

#[tokio::test(start_paused = true)]
async fn old_paths_say_what_to_use_instead_and_others_do_not() {
    let world = World::new().await;
    let ada = world.ada();
    let old = world.get(&ada, "/identity/connected-agents").await;
    assert_eq!(old.header("deprecation"), "@1795478400");
    assert_eq!(old.header("sunset"), "Fri, 24 Nov 2028 00:00:00 GMT");
    assert_eq!(old.header("link"), "</agents>; rel=\"successor-version\"");
    assert!(
        !world
            .get(&ada, "/agents")
            .await
            .headers
            .contains_key("deprecation")
    );
}

#[tokio::test(start_paused = true)]
async fn who_asks_too_often_hears_when_to_come_back_and_others_are_served() {
    let rate = crate::rest::RequestRate {
        per_second: 1.0,
        burst: 3,
    };
    let world = World::with(|api| api.with_rate(rate)).await;
    let (ada, bob) = (world.ada(), world.token(&ours(), "Bob", EVERYTHING, &[]));
    let router = world.api.router();
    let ask = async |token: &str| {
        let request = super::request("GET", "/agents", Some(token), &[], axum::body::Body::empty());
        tower::ServiceExt::oneshot(router.clone(), request).await.unwrap()
    };
    for _ in 0..3 {
        assert_eq!(ask(&ada).await.status(), StatusCode::OK);
    }
    let refused = ask(&ada).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(ask(&bob).await.status(), StatusCode::OK);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(ask(&ada).await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn what_the_framework_refuses_is_a_problem_too() {
    let world = World::new().await;
    let ada = world.ada();
    let answer = world.get(&ada, "/pipelines/%FF").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    answer.problem();
    let answer = world.post(&ada, "/agents", &json!({})).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.header("allow"), "GET,HEAD");
}
