//! The document that describes the API: built from the types and the routes, served and committed.

mod acting;
mod compat;
mod doc;
mod fleet;
mod following;
mod reading;
mod schema;

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method};
use utoipa::openapi::path::PathItem;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, HttpMethod, InfoBuilder, License, OpenApi, OpenApiBuilder, PathsBuilder, RefOr,
};

use doc::Doc;
use schema::Components;

/// Where it is served.
pub(super) const PATH: &str = "/openapi.json";

/// What the document says of every route.
pub(super) fn docs() -> Vec<Doc> {
    [
        acting::docs(),
        compat::docs(),
        reading::docs(),
        following::docs(),
        fleet::docs(),
        vec![own()],
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn own() -> Doc {
    Doc::get(PATH, "openapi", "api", "This document.")
        .open()
        .gives_raw(
            http::StatusCode::OK,
            "An OpenAPI 3.1 document.",
            vec![("application/json", RefOr::T(schema::object().into()))],
        )
}

/// `GET /openapi.json`
pub(super) async fn serve() -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        // It changes only with the program.
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    // Anybody may ask, so it costs nothing: it is made once, and every answer shares it.
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(text()));
    (headers, TEXT.clone()).into_response()
}

/// The document as text, the same every time.
pub(super) fn text() -> String {
    // It is made of texts, numbers and maps with text keys.
    let mut text = document().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

fn document() -> OpenApi {
    let mut components = Components::default();
    let mut paths = PathsBuilder::new();
    // One operation after the other: a path may have several.
    for doc in docs() {
        let (path, method) = (doc.path, method(&doc.method));
        let operation = doc.build(&mut components);
        paths = paths.path(path, PathItem::new(method, operation));
    }
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(
            "An access token of the issuer that the server trusts; it carries a tenant and scopes.",
        ))
        .build();
    let components = ComponentsBuilder::new()
        .schemas_from_iter(components.schemas)
        .responses_from_iter(components.responses)
        .security_scheme(doc::BEARER, SecurityScheme::Http(bearer))
        .build();
    let info = InfoBuilder::new()
        .title("Aurora")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Progressive delivery to many clusters. Failed requests answer problem bodies (RFC 9457). Cursors are \
             opaque: take them as they came. What is read has `asOf`; an event stream opened with its cursor goes on \
             from there without gap or repeat. Unknown query parameters are refused.",
        ))
        .license(Some(License::new("Apache-2.0")));
    OpenApiBuilder::new()
        .info(info.build())
        .paths(paths.build())
        .components(Some(components))
        .build()
}

fn method(method: &Method) -> HttpMethod {
    match method.as_str() {
        "DELETE" => HttpMethod::Delete,
        "PATCH" => HttpMethod::Patch,
        "POST" => HttpMethod::Post,
        "PUT" => HttpMethod::Put,
        _ => HttpMethod::Get,
    }
}
