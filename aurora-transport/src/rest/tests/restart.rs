//! A client that folds a page and a stream, while pipelines run and the server is stopped and started in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aurora_core::control::ControlPlane;
use aurora_core::port::renderer::InMemoryRenderer;
use aurora_core::port::router::InMemoryRouter;
use aurora_core::port::store::memory::InMemoryStore;
use aurora_core::tasks::Tasks;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::events::Stream;
use super::{World, file, gated};
use crate::rest::Api;

/// One life of the server over a store that outlives it.
struct Life {
    api: Api,
    tasks: Tasks,
    stop: CancellationToken,
}

impl Life {
    fn begin(world: &World, store: &InMemoryStore, router: &InMemoryRouter) -> Self {
        let plane = ControlPlane::new(
            Arc::new(store.clone()),
            router.clone(),
            InMemoryRenderer,
            world.clock.clone(),
        )
        // One process at a time: the next one goes on at once.
        .with_holder("the only one");
        let (tasks, runner, stop) = (Tasks::new(), plane.clone(), CancellationToken::new());
        tasks.spawn(|stop| async move {
            runner.run(stop).await.unwrap();
        });
        let api = Api::new(plane, world.tokens.clone(), world.clock.clone()).with_stop(stop.clone());
        Self { api, tasks, stop }
    }

    /// Ends it as a server ends: streams say goodbye, the runner lets go of its leases.
    async fn end(self) {
        self.stop.cancel();
        self.tasks.drain(Duration::from_secs(60)).await.unwrap();
    }
}

/// What a client knows: rows by id, and counts by status that it keeps itself.
#[derive(Debug, Default, PartialEq)]
struct Known {
    rows: BTreeMap<String, Value>,
    counts: BTreeMap<String, i64>,
    /// Of each pipeline, the versions of the lines that it was told.
    lines: BTreeMap<String, Vec<u64>>,
    /// Of each pipeline, the version that the page had.
    page: BTreeMap<String, u64>,
}

impl Known {
    fn of_page(list: &Value) -> Self {
        let mut known = Self::default();
        for row in list["rows"].as_array().unwrap() {
            let id = row["id"].as_str().unwrap().to_owned();
            known.page.insert(id.clone(), row["version"].as_u64().unwrap());
            known.rows.insert(id, row.clone());
        }
        for (status, count) in list["counts"]["status"].as_object().unwrap() {
            known.counts.insert(status.clone(), count.as_i64().unwrap());
        }
        known
    }

    fn hear(&mut self, event: &str, data: &Value) {
        let id = data["subject"].as_str().unwrap_or_default().to_owned();
        match event {
            "timeline.appended" => {
                let version = data["version"].as_u64().unwrap();
                self.lines.entry(id).or_default().push(version);
            }
            "pipeline.changed" => {
                if let Some(before) = data["before"]["status"].as_str() {
                    *self.counts.entry(before.to_owned()).or_default() -= 1;
                }
                let status = data["row"]["status"].as_str().unwrap().to_owned();
                *self.counts.entry(status).or_default() += 1;
                self.rows.insert(id, data["row"].clone());
            }
            _ => {}
        }
    }

    /// No line is missing and none came twice.
    fn check_lines(&self) {
        for (id, versions) in &self.lines {
            let first = self.page.get(id).map_or(1, |version| version + 1);
            let expected: Vec<u64> = (first..).take(versions.len()).collect();
            assert_eq!(versions, &expected, "{id}");
        }
    }
}

async fn list(life: &Life, token: &str, query: &str) -> Value {
    let path = format!("/pipelines?limit=200&counts=status{query}");
    let request = super::request("GET", &path, Some(token), &[], axum::body::Body::empty());
    let answer = tower::ServiceExt::oneshot(life.api.router(), request)
        .await
        .unwrap();
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX)
        .await
        .unwrap();
    serde_json::from_slice(&body).unwrap()
}

async fn submit(life: &Life, token: &str, body: &Value) {
    let headers = [("content-type", "application/json")];
    let body = axum::body::Body::from(body.to_string());
    let request = super::request("POST", "/pipelines", Some(token), &headers, body);
    let answer = tower::ServiceExt::oneshot(life.api.router(), request)
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
}

/// A file whose target is its own place, so that all of them can run at the same time.
fn own_place(application: &str, waits: bool) -> Value {
    let mut body = if waits {
        gated(application)
    } else {
        file(application, "app:1")
    };
    body["targets"]["staging"]["namespace"] = json!(application);
    body
}

#[tokio::test(start_paused = true)]
async fn a_feed_survives_restarts_of_the_server_under_load_without_gap_or_repeat() {
    let world = World::new().await;
    let (store, router) = (
        InMemoryStore::new(Arc::new(world.clock.clone())),
        world.router.clone(),
    );
    let token = world.ada();
    let mut life = Life::begin(&world, &store, &router);
    for number in 0..5 {
        submit(
            &life,
            &token,
            &own_place(&format!("before-{number}"), number % 2 == 0),
        )
        .await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let page = list(&life, &token, "").await;
    let mut known = Known::of_page(&page);
    let mut waiting = Known::of_page(&list(&life, &token, "&needs=anyone").await);
    let mut place = page["asOf"]["cursor"].as_str().unwrap().to_owned();
    let mut filtered_place = place.clone();
    let mut drains = 0;
    for round in 0..4 {
        let mut stream = Stream::open(&life.api, &token, "/events", Some(&place)).await;
        let mut filtered = Stream::open(
            &life.api,
            &token,
            "/events?topic=pipelines&needs=anyone",
            Some(&filtered_place),
        )
        .await;
        for number in 0..4 {
            submit(
                &life,
                &token,
                &own_place(&format!("r{round}-{number}"), number == 0),
            )
            .await;
        }
        // It is stopped in the middle: after so many frames, whatever they are.
        for _ in 0..(7 + 5 * round) {
            let frame = stream.next().await.unwrap();
            known.hear(&frame.event, &frame.data);
            place = frame.id.unwrap_or(place);
        }
        life.end().await;
        // What the dead server had still in hand is not heard: the line is cut, not closed.
        drop(stream);
        for frame in filtered.rest().await {
            hear_filtered(&mut waiting, &frame.event, &frame.data);
            drains += usize::from(frame.event == "bye" && frame.data["reason"] == "drain");
            filtered_place = frame.id.unwrap_or(filtered_place);
        }
        life = Life::begin(&world, &store, &router);
    }
    // Until nothing but gates is waited for.
    loop {
        let now = list(&life, &token, "").await;
        let open =
            |row: &Value| !matches!(row["status"].as_str().unwrap(), "SUCCEEDED" | "AWAITING_APPROVAL");
        if now["rows"].as_array().unwrap().len() == 21 && !now["rows"].as_array().unwrap().iter().any(open) {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for (known, path, place) in [
        (&mut known, "/events?follow=false", &place),
        (
            &mut waiting,
            "/events?topic=pipelines&needs=anyone&follow=false",
            &filtered_place,
        ),
    ] {
        let mut stream = Stream::open(&life.api, &token, path, Some(place)).await;
        for frame in stream.rest().await {
            if path.contains("needs") {
                hear_filtered(known, &frame.event, &frame.data);
            } else {
                known.hear(&frame.event, &frame.data);
            }
        }
    }
    assert_eq!(drains, 4, "each end says goodbye");
    known.check_lines();
    let last = list(&life, &token, "").await;
    let truth = Known::of_page(&last);
    assert_eq!(known.rows, truth.rows, "page and stream add up to what there is");
    known.counts.retain(|_, count| *count != 0);
    assert_eq!(known.counts, truth.counts, "counts moved by one each time");
    let truth = Known::of_page(&list(&life, &token, "&needs=anyone").await);
    assert_eq!(waiting.rows, truth.rows, "a filtered list is as live");
    life.end().await;
}

/// Keeps the rows of a filtered list by what the server says they are to it.
fn hear_filtered(known: &mut Known, event: &str, data: &Value) {
    if event != "pipeline.changed" {
        return;
    }
    let id = data["subject"].as_str().unwrap().to_owned();
    let had = known.rows.contains_key(&id);
    match data["match"].as_str().unwrap() {
        "entered" => {
            assert!(!had, "it enters once: {data}");
            known.rows.insert(id, data["row"].clone());
        }
        "changed" => {
            assert!(had, "only what is there changes: {data}");
            known.rows.insert(id, data["row"].clone());
        }
        "left" => {
            assert!(had, "only what is there leaves: {data}");
            known.rows.remove(&id);
        }
        other => panic!("{other}"),
    }
}
