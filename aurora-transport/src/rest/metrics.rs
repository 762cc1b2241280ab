//! Numbers about requests, in Prometheus' text form.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Counts requests; clones count together. Whoever serves `/metrics` renders it.
#[derive(Clone)]
pub struct RequestMetrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        Self {
            handle: recorder.handle(),
            recorder: Arc::new(recorder),
        }
    }
}

impl fmt::Debug for RequestMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestMetrics").finish_non_exhaustive()
    }
}

impl RequestMetrics {
    /// The numbers so far, in Prometheus' text form.
    pub fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }

    /// `route` is the pattern of the path, never the path itself: ids would make endless series.
    pub(super) fn answered(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let labels = [
            ("method", method.as_str().to_owned()),
            ("route", route.to_owned()),
            ("status", status.as_str().to_owned()),
        ];
        metrics::with_local_recorder(&*self.recorder, || {
            counter!("aurora_api_requests_total", &labels).increment(1);
            histogram!("aurora_api_request_seconds", &labels[..2]).record(took);
        });
    }

    pub(super) fn streams(&self, open: usize) {
        let open = u32::try_from(open).unwrap_or(u32::MAX);
        metrics::with_local_recorder(&*self.recorder, || {
            gauge!("aurora_api_event_streams").set(open);
        });
    }
}
