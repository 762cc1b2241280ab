//! Paths that are kept for older clients, and the headers that name what to use instead.

use axum::response::Response;
use http::header::LINK;
use http::{HeaderName, HeaderValue};

const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// Since when there is something better (RFC 9745): the first version that has both, 2026-11-24.
const SINCE: &str = "@1795478400";
/// Not before this they go (RFC 8594): two years later.
const UNTIL: &str = "Fri, 24 Nov 2028 00:00:00 GMT";

/// Each such path, and its successor.
const PATHS: [(&str, &str); 2] = [
    ("/deploy-engine/deployments/{id}", "/deployments/{id}"),
    ("/identity/connected-agents", "/agents"),
];

/// What to use instead of a path; `None` where it is the one to use.
pub(super) fn successor(path: &str) -> Option<&'static str> {
    let found = PATHS.iter().find(|(old, _)| *old == path);
    found.map(|(_, successor)| *successor)
}

/// Says in an answer that its path has a successor.
pub(super) fn say(mut response: Response, successor: &'static str) -> Response {
    let headers = response.headers_mut();
    headers.insert(DEPRECATION, HeaderValue::from_static(SINCE));
    headers.insert(SUNSET, HeaderValue::from_static(UNTIL));
    // A path with a part to fill in is no address that a client could follow.
    if successor.contains('{') {
        return response;
    }
    if let Ok(link) = HeaderValue::try_from(format!("<{successor}>; rel=\"successor-version\"")) {
        headers.append(LINK, link);
    }
    response
}
