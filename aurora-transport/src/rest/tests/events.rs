//! Event streams: resumed at every frame, ended for every reason.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures::StreamExt;
use http::StatusCode;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{EVERYTHING, World, file, gated, ours, request, theirs};
use crate::rest::Api;

const START: &str = "t1.0000000000000000";

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Frame {
    pub(super) event: String,
    pub(super) id: Option<String>,
    pub(super) data: Value,
}

/// A stream as a client reads it.
pub(super) struct Stream {
    body: BodyDataStream,
    text: String,
}

impl Stream {
    pub(super) async fn open(api: &Api, token: &str, path: &str, last: Option<&str>) -> Self {
        let headers: Vec<(&str, &str)> = last.map(|id| ("last-event-id", id)).into_iter().collect();
        let request = request("GET", path, Some(token), &headers, Body::empty());
        let response = api.router().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Self {
            body: response.into_body().into_data_stream(),
            text: String::new(),
        }
    }

    /// The next frame; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let frame = parsed(frame);
                self.text = rest.to_owned();
                return Some(frame);
            }
            let chunk = self.body.next().await?.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// All frames to the goodbye, beats aside.
    pub(super) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            if frame.event != "beat" {
                frames.push(frame);
            }
        }
        frames
    }
}

fn parsed(text: &str) -> Frame {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .map(str::to_owned)
    };
    Frame {
        event: field("event").unwrap(),
        id: field("id"),
        data: serde_json::from_str(&field("data").unwrap()).unwrap(),
    }
}

fn told(frames: &[Frame]) -> Vec<(String, u64)> {
    frames
        .iter()
        .filter(|frame| frame.data["version"].is_u64())
        .map(|frame| (frame.event.clone(), frame.data["version"].as_u64().unwrap()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_stream_resumed_after_any_frame_misses_nothing_and_repeats_nothing() {
    let world = World::new().await;
    let ada = world.ada();
    // Another pipeline's events lie between this one's.
    let noise = world.submit(&gated("noise")).await;
    let id = world.submit(&file("shop", "app:1")).await;
    world.until(&id, "SUCCEEDED").await;
    world.until(&noise, "AWAITING_APPROVAL").await;
    for path in [
        format!("/pipelines/{id}/events"),
        format!("/pipelines/{id}/events?topic=timeline"),
        format!("/pipelines/{id}/events?topic=pipelines"),
    ] {
        let whole = Stream::open(&world.api, &ada, &path, Some(START))
            .await
            .rest()
            .await;
        assert_eq!(whole[0].event, "hello");
        assert_eq!(whole.last().unwrap().event, "bye");
        assert_eq!(whole.last().unwrap().data["reason"], "ended");
        let all = told(&whole);
        assert!(all.len() > 5, "{all:?}");
        for cut in 0..whole.len() - 1 {
            let last = whole[cut]
                .id
                .clone()
                .expect("every frame but beat and bye has an id");
            let rest = Stream::open(&world.api, &ada, &path, Some(&last))
                .await
                .rest()
                .await;
            let joined: Vec<_> = [told(&whole[..=cut]), told(&rest)].concat();
            assert_eq!(joined, all, "{path} after {last}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_where_a_document_ends() {
    let world = World::new().await;
    let ada = world.ada();
    let id = world.waiting().await;
    let view = world.get(&ada, &format!("/pipelines/{id}/view")).await.json();
    let cursor = view["asOf"]["cursor"].as_str().unwrap();
    let path = format!("/pipelines/{id}/events?cursor={cursor}");
    let mut stream = Stream::open(&world.api, &ada, &path, None).await;
    assert_eq!(stream.next().await.unwrap().event, "hello");
    world
        .post(&ada, &format!("/pipelines/{id}/actions/approve"), &json!({}))
        .await;
    let rest = stream.rest().await;
    let versions: Vec<u64> = told(&rest).into_iter().map(|(_, version)| version).collect();
    let first = view["version"].as_u64().unwrap() + 1;
    let last = *versions.last().unwrap();
    let mut expected: Vec<u64> = (first..=last).flat_map(|version| [version, version]).collect();
    expected.sort_unstable();
    assert_eq!(versions, expected);
    let row = &rest
        .iter()
        .rev()
        .find(|frame| frame.event == "pipeline.changed")
        .unwrap()
        .data["row"];
    assert_eq!(row["status"], "SUCCEEDED");
}

#[tokio::test(start_paused = true)]
async fn the_tenants_stream_has_all_its_pipelines_and_none_of_others() {
    let world = World::new().await;
    let mallory = world.token(&theirs(), "Mallory", EVERYTHING, &[]);
    let mut ours = Stream::open(&world.api, &world.ada(), "/events", None).await;
    let mut theirs = Stream::open(&world.api, &mallory, "/events", None).await;
    assert_eq!(ours.next().await.unwrap().event, "hello");
    assert_eq!(theirs.next().await.unwrap().event, "hello");
    let one = world.submit(&gated("one")).await;
    let two = world.submit(&gated("two")).await;
    let mut subjects = Vec::new();
    while !(subjects.contains(&one) && subjects.contains(&two)) {
        let frame = ours.next().await.unwrap();
        subjects.extend(frame.data["subject"].as_str().map(str::to_owned));
    }
    for _ in 0..3 {
        assert_eq!(theirs.next().await.unwrap().event, "beat");
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_beats() {
    let world = World::new().await;
    let mut stream = Stream::open(&world.api, &world.ada(), "/events", None).await;
    let hello = stream.next().await.unwrap();
    assert_eq!(hello.data["beatSeconds"], 10);
    let started = tokio::time::Instant::now();
    for _ in 0..3 {
        let beat = stream.next().await.unwrap();
        assert_eq!((beat.event.as_str(), beat.id), ("beat", None));
        assert!(beat.data["cursor"].is_string() && beat.data["now"].is_string());
    }
    assert_eq!(started.elapsed(), Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_draining_server_says_goodbye_and_when_to_come_back() {
    let stop = CancellationToken::new();
    let world = World::with(|api| api.with_stop(stop.clone())).await;
    let mut stream = Stream::open(&world.api, &world.ada(), "/events", None).await;
    stream.next().await.unwrap();
    stop.cancel();
    let bye = stream.next().await.unwrap();
    assert_eq!(
        (bye.event.as_str(), &bye.data["reason"]),
        ("bye", &json!("drain"))
    );
    assert!(bye.data["retryAfterMs"].as_u64().unwrap() <= 3_000);
    assert_eq!(stream.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_token() {
    let world = World::new().await;
    let mut stream = Stream::open(&world.api, &world.ada(), "/events", None).await;
    let started = tokio::time::Instant::now();
    let frames = stream.rest().await;
    assert_eq!(frames.last().unwrap().data["reason"], "expired");
    assert_eq!(started.elapsed(), Duration::from_secs(3600));
}

#[tokio::test(start_paused = true)]
async fn a_cursor_ahead_of_everything_asks_for_a_fresh_start() {
    let world = World::new().await;
    let ada = world.ada();
    let id = world.waiting().await;
    let future = "t1.00000000ffffffff";
    let mut stream = Stream::open(&world.api, &ada, &format!("/pipelines/{id}/events"), Some(future)).await;
    assert_eq!(stream.next().await.unwrap().event, "hello");
    let resync = stream.next().await.unwrap();
    assert_eq!(
        (resync.event.as_str(), &resync.data["reason"]),
        ("resync", &json!("cursorUnknown"))
    );
    world
        .post(&ada, &format!("/pipelines/{id}/actions/cancel"), &json!({}))
        .await;
    assert_eq!(stream.next().await.unwrap().data["entry"]["kind"], "cancelAsked");

    let path = format!("/pipelines/{id}/events?cursor=nonsense");
    assert_eq!(
        world.get(&ada, &path).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
}

#[tokio::test(start_paused = true)]
async fn one_principal_has_so_many_streams_and_gets_them_back() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let world = World::new().await;
    let ada = world.ada();
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(Stream::open(&world.api, &ada, "/events", None).await);
    }
    assert!(recorder.handle().render().contains("aurora_api_event_streams 16"));
    let refused = world.get(&ada, "/events").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers.contains_key("retry-after"));
    let grace = world.token(&ours(), "Grace", EVERYTHING, &[]);
    drop(Stream::open(&world.api, &grace, "/events", None).await);
    streams.pop();
    drop(Stream::open(&world.api, &ada, "/events", None).await);
}
