//! The document: complete, up to date, and what the API really answers.

use std::collections::BTreeSet;
use std::path::Path;

use http::StatusCode;
use serde_json::Value;

use super::World;
use crate::rest::Api;

/// Where the document is committed.
const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

fn document() -> Value {
    serde_json::from_str(&Api::openapi()).unwrap()
}

/// The method and the path of everything in the document.
fn documented() -> BTreeSet<(String, String)> {
    let document = document();
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(|method| (method.to_uppercase(), path.clone()))
        })
        .collect()
}

#[test]
fn every_route_is_in_the_document_and_nothing_else() {
    let routes: BTreeSet<(String, String)> = Api::paths()
        .into_iter()
        .map(|(method, path)| (method.to_string(), path.to_owned()))
        .collect();
    assert_eq!(
        documented(),
        routes,
        "give a new route its lines in rest/openapi, and take out those of one that is gone"
    );
}

#[test]
fn the_committed_document_is_the_one_that_is_served() {
    let made = Api::openapi();
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    if committed != made {
        // The next run finds it; the change shows in the review.
        std::fs::write(Path::new(COMMITTED), &made).unwrap();
        panic!("openapi.json was out of date and is written anew: look at it and commit it");
    }
}

#[test]
fn every_operation_has_a_name_of_its_own_refusals_and_security() {
    let document = document();
    let mut names = BTreeSet::new();
    for (method, path) in documented() {
        let operation = &document["paths"][&path][method.to_lowercase()];
        let at = format!("{method} {path}");
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name.to_owned()), "{at}: `{name}` is used twice");
        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses.keys().any(|status| status.starts_with('2')) || responses.contains_key("501"),
            "{at} answers nothing"
        );
        for (status, response) in responses {
            if status.starts_with('4') || status.starts_with('5') {
                let name = response["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
                let response = &document["components"]["responses"][name];
                let content = &response["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(content, "#/components/schemas/ProblemBody", "{at} {status}");
            }
        }
        if path != "/openapi.json" {
            assert_eq!(
                operation["security"][0]["bearer"],
                Value::Array(Vec::new()),
                "{at}"
            );
            for status in ["401", "429", "500", "503"] {
                assert!(responses.contains_key(status), "{at} may be {status}");
            }
        }
        let params = operation["parameters"].as_array().cloned().unwrap_or_default();
        for part in path.split('/').filter_map(|part| part.strip_prefix('{')) {
            let part = part.trim_end_matches('}');
            let known = params
                .iter()
                .any(|param| param["in"] == "path" && param["name"] == part);
            assert!(known, "{at} does not describe `{part}`");
        }
    }
    let written: Vec<&str> = ["submit", "act"]
        .into_iter()
        .filter(|name| names.contains(*name))
        .collect();
    assert_eq!(written, ["submit", "act"]);
    let text = Api::openapi();
    for needed in [
        "Idempotency-Key",
        "Last-Event-ID",
        "text/event-stream",
        "Retry-After",
        "\"bearer\"",
    ] {
        assert!(text.contains(needed), "{needed}");
    }
}

#[test]
fn every_schema_that_is_named_is_there() {
    let document = document();
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_document_is_open_and_nothing_else_is() {
    let world = World::new().await;
    let request = super::request("GET", "/openapi.json", None, &[], axum::body::Body::empty());
    let answer = world.send(request).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json(), document());
    assert_eq!(answer.header("content-type"), "application/json");
}
