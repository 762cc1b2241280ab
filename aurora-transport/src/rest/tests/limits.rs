//! Limits of size, time and number, request ids, metrics, and panics.

use std::time::Duration;

use axum::body::{Body, Bytes};
use http::StatusCode;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{World, file, gated, request};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

#[tokio::test(start_paused = true)]
async fn a_body_over_its_limit_is_refused() {
    let world = World::new().await;
    let ada = world.ada();
    let large = Body::from(vec![b' '; 16 * 1024 * 1024 + 1]);
    let answer = world
        .send(request("POST", "/pipelines/kubernetes", Some(&ada), &JSON, large))
        .await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.problem().code, "tooLarge");

    let id = world.waiting().await;
    let large = Body::from(vec![b' '; 64 * 1024 + 1]);
    let path = format!("/pipelines/{id}/actions/approve");
    let answer = world.send(request("POST", &path, Some(&ada), &JSON, large)).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn manifests_may_be_large_and_the_deploy_file_may_not() {
    let world = World::new().await;
    let comment = format!("# {}\n", "x".repeat(3 * 1024 * 1024));
    let mut body = gated("shop");
    let manifest = body["files"]["manifests/app.yaml"][0].as_str().unwrap();
    body["files"]["manifests/app.yaml"][0] = json!(format!("{comment}{manifest}"));
    world.submit(&body).await;

    let mut body = gated("other");
    body["description"] = json!("x".repeat(1024 * 1024));
    let answer = world.post(&world.ada(), "/pipelines/kubernetes", &body).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.problem().code, "tooLarge");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_given_up() {
    let world = World::new().await;
    let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
    let started = tokio::time::Instant::now();
    let answer = world
        .send(request(
            "POST",
            "/pipelines/kubernetes",
            Some(&world.ada()),
            &JSON,
            never,
        ))
        .await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.problem().code, "timeout");
    assert_eq!(started.elapsed(), Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_at_once_are_refused_and_not_queued() {
    let world = World::with(|api| api.with_requests(1)).await;
    let ada = world.ada();
    let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
    let router = world.api.router();
    let slow = router
        .clone()
        .oneshot(request("POST", "/pipelines/kubernetes", Some(&ada), &JSON, never));
    let mut slow = std::pin::pin!(slow);
    assert!(futures::poll!(slow.as_mut()).is_pending());
    let answer = router
        .clone()
        .oneshot(request("GET", "/agents", Some(&ada), &[], Body::empty()))
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
    slow.await.unwrap();
    let answer = router
        .oneshot(request("GET", "/agents", Some(&ada), &[], Body::empty()))
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "the place is free again");
}

#[tokio::test(start_paused = true)]
async fn every_answer_names_its_request() {
    let world = World::new().await;
    let answer = world.get(&world.ada(), "/agents").await;
    let made: uuid::Uuid = answer.header("x-request-id").parse().unwrap();
    assert_eq!(made.get_version_num(), 4);
    let given = [("x-request-id", "from-the-client")];
    let answer = world
        .send(request("GET", "/agents", None, &given, Body::empty()))
        .await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.header("x-request-id"), "from-the-client");
    let long = "x".repeat(129);
    let given = [("x-request-id", long.as_str())];
    let answer = world
        .send(request("GET", "/agents", None, &given, Body::empty()))
        .await;
    assert_ne!(answer.header("x-request-id"), long);
}

#[tokio::test(start_paused = true)]
async fn requests_are_counted_by_route_and_never_by_id() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let world = World::new().await;
    let id = world.submit(&file("shop", "app:1")).await;
    world.get(&world.ada(), &format!("/pipelines/{id}/view")).await;
    world.get(&world.ada(), "/pipelines/none/view").await;
    let text = recorder.handle().render();
    let line = |status: &str| {
        format!(
            "aurora_api_requests_total{{method=\"GET\",route=\"/pipelines/{{id}}/view\",status=\"{status}\"}} 1"
        )
    };
    assert!(text.contains(&line("200")), "{text}");
    assert!(text.contains(&line("404")), "{text}");
    assert!(text.contains("aurora_api_request_seconds"), "{text}");
    assert!(!text.contains(&id));
}

#[tokio::test(start_paused = true)]
async fn answers_are_kept_by_nobody() {
    let world = World::new().await;
    for path in ["/pipelines", "/agents", "/nothing"] {
        let answer = world.get(&world.ada(), path).await;
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
}

#[tokio::test]
async fn a_panic_is_a_problem_that_says_nothing_of_its_cause() {
    let response = crate::rest::layers::panicked(Box::new("the secret is hunter2"));
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = axum::body::to_bytes(response.into_body(), usize::MAX)
        .await
        .unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["code"], "internal");
    assert!(!body.to_string().contains("hunter2"));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_told_without_its_words() {
    use std::sync::Arc;

    use aurora_core::port::store::SharedStore;
    use aurora_core::port::store::failing::{FailingStore, Side};

    let world = World::new().await;
    let broken: SharedStore = Arc::new(FailingStore::new(world.store.clone()).with_crash(1, Side::Before));
    let router = aurora_core::port::router::InMemoryRouter::new(world.clock.clone());
    let renderer = aurora_core::port::renderer::InMemoryRenderer;
    let plane = aurora_core::control::ControlPlane::new(broken, router, renderer, world.clock.clone());
    let api = crate::rest::Api::new(plane, world.tokens.clone(), world.clock.clone());
    // The agent is known from here on.
    world.waiting().await;
    let body = Body::from(file("new", "app:1").to_string());
    let request = request("POST", "/pipelines/kubernetes", Some(&world.ada()), &JSON, body);
    let response = api.router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = axum::body::to_bytes(response.into_body(), usize::MAX)
        .await
        .unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["code"], "unavailable");
    assert!(
        !body.to_string().contains("crashed") && !body.to_string().contains("written"),
        "{body}"
    );
}
