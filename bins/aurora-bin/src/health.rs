//! Whether the process lives and may be sent work, and its metrics, over HTTP.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;

/// What is known about the process's health; clones share it.
///
/// A process is ready once it was said to be, while it is not draining, and while nothing is
/// [missing](Health::missing).
#[derive(Clone, Debug, Default)]
pub struct Health {
    state: Arc<Mutex<Known>>,
    collectors: Arc<Mutex<Vec<Collector>>>,
}

/// Brings metrics up to date before they are read.
#[derive(Clone)]
struct Collector(Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

#[derive(Debug, Default)]
struct Known {
    started: bool,
    draining: bool,
    missing: BTreeMap<String, String>,
}

impl Health {
    /// Nothing is ready yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The process serves.
    pub fn ready(&self) {
        self.lock().started = true;
    }

    /// The process was told to stop: no new work, please.
    pub fn draining(&self) {
        self.lock().draining = true;
    }

    /// Something that is needed is not there, and why; `None` once it is there again.
    pub fn missing(&self, what: &str, why: Option<String>) {
        let mut known = self.lock();
        match why {
            Some(why) => known.missing.insert(what.to_owned(), why),
            None => known.missing.remove(what),
        };
    }

    /// Why the process is not ready; empty where it is.
    pub fn reasons(&self) -> Vec<String> {
        let known = self.lock();
        let starting = (!known.started).then(|| "it is starting".to_owned());
        let draining = known.draining.then(|| "it is draining".to_owned());
        let missing = known.missing.iter().map(|(what, why)| format!("{what}: {why}"));
        starting.into_iter().chain(draining).chain(missing).collect()
    }

    /// Has this run each time before metrics are read: for levels that nobody else keeps up to date.
    pub fn before_metrics(&self, collect: impl Fn() + Send + Sync + 'static) {
        let mut collectors = self.collectors.lock().unwrap_or_else(PoisonError::into_inner);
        collectors.push(Collector(Arc::new(collect)));
    }

    fn collect(&self) {
        let collectors = self
            .collectors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for collector in collectors {
            (collector.0)();
        }
    }

    /// The routes `/livez`, `/readyz` and `/metrics`.
    pub fn router(&self, metrics: PrometheusHandle) -> Router {
        let health = self.clone();
        Router::new()
            .route("/livez", get(async || "alive\n"))
            .route("/readyz", get(readyz))
            .with_state(self.clone())
            .route(
                "/metrics",
                get(async move || {
                    health.collect();
                    metrics.run_upkeep();
                    metrics.render()
                }),
            )
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn readyz(State(health): State<Health>) -> (StatusCode, String) {
    let reasons = health.reasons();
    if reasons.is_empty() {
        return (StatusCode::OK, "ready\n".into());
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!("not ready: {}\n", reasons.join("; ")),
    )
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tower::ServiceExt as _;

    use super::*;

    async fn get_of(health: &Health, path: &str) -> (u16, String) {
        let router = health.router(PrometheusBuilder::new().build_recorder().handle());
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 4096).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_process_is_ready_between_its_start_and_its_drain_while_nothing_is_missing() {
        let health = Health::new();
        assert_eq!(get_of(&health, "/readyz").await.0, 503);
        assert_eq!(get_of(&health, "/livez").await.0, 200);
        health.ready();
        assert_eq!(get_of(&health, "/readyz").await.0, 200);
        health.missing("store", Some("the disk is full".into()));
        let (status, body) = get_of(&health, "/readyz").await;
        assert_eq!(
            (status, body.as_str()),
            (503, "not ready: store: the disk is full\n")
        );
        health.missing("store", None);
        assert_eq!(get_of(&health, "/readyz").await.0, 200);
        health.draining();
        assert_eq!(get_of(&health, "/readyz").await.0, 503);
        assert_eq!(get_of(&health, "/metrics").await.0, 200);
    }
}
