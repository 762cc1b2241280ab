//! Numbers about requests, for whichever recorder the process has installed.

use std::time::Duration;

use http::{Method, StatusCode};
use metrics::{counter, gauge, histogram};

/// A request was answered; `route` is the pattern of the path, never the path itself: ids would make
/// endless series.
pub(super) fn answered(method: &Method, route: &str, status: StatusCode, took: Duration) {
    let labels = [
        ("method", name(method).to_owned()),
        ("route", route.to_owned()),
        ("status", status.as_str().to_owned()),
    ];
    counter!("aurora_api_requests_total", &labels).increment(1);
    histogram!("aurora_api_request_seconds", &labels[..2]).record(took);
}

/// The methods that there are; a client may invent others, and each would be a series of its own.
fn name(method: &Method) -> &str {
    match *method {
        Method::DELETE
        | Method::GET
        | Method::HEAD
        | Method::OPTIONS
        | Method::PATCH
        | Method::POST
        | Method::PUT => method.as_str(),
        _ => "other",
    }
}

/// So many event streams are open.
pub(super) fn streams(open: usize) {
    gauge!("aurora_api_event_streams").set(u32::try_from(open).unwrap_or(u32::MAX));
}
