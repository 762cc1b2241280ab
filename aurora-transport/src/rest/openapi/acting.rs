//! What is submitted and decided.

use aurora_core::authz::Deploy;
use http::StatusCode;
use serde_json::json;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};

use super::doc::Doc;
use super::schema;
use crate::rest::wire::{ActAnswer, ActRequest, SubmitAnswer};

const JSON: &str = "application/json";
const START: &str = "application/vnd.start.kubernetes.pipeline.v2+json";

pub(super) fn docs() -> Vec<Doc> {
    vec![
        submit("/pipelines", "submit", "Submits a deploy file."),
        submit(
            "/pipelines/kubernetes",
            "submitKubernetes",
            "Submits a deploy file, as clients of the older product do.",
        ),
        act(),
    ]
}

fn submit(path: &'static str, id: &'static str, summary: &'static str) -> Doc {
    let file = || RefOr::T(deploy_file());
    let contents = vec![(JSON, file()), (START, file()), ("application/yaml", file())];
    let body = "The deploy file, with the files that its manifests name in `files`: each a list of texts.";
    Doc::post(path, id, "pipelines", summary)
        .needs::<Deploy>()
        .idempotent()
        .header(
            "X-Aurora-File-Name",
            schema::file_name(),
            "What the client calls the deploy file; stands in problems.",
        )
        .takes(body, contents)
        .may(StatusCode::CONFLICT)
        .may(StatusCode::NOT_IMPLEMENTED)
        .gives_as::<SubmitAnswer>(StatusCode::ACCEPTED, &[JSON], "It is stored and under way.")
        .also(StatusCode::ACCEPTED, START, old_answer())
}

/// The schema of the deploy file itself is `aurora schema`; here is what every one has.
fn deploy_file() -> Schema {
    ObjectBuilder::new()
        .property("version", schema::one_of(&["v1"]))
        .property("kind", schema::one_of(&["kubernetes"]))
        .property("application", schema::text())
        .property("description", schema::text())
        .property("context", schema::texts())
        .property("targets", schema::object())
        .property("strategies", schema::object())
        .property("manifests", schema::list(schema::object()))
        .property("files", schema::object())
        .required("version")
        .required("kind")
        .required("application")
        .required("targets")
        .required("manifests")
        .examples([example()])
        .build()
        .into()
}

/// A deploy file that a server with an account `staging` takes.
fn example() -> serde_json::Value {
    let manifest = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "example"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "example"}},
            "template": {
                "metadata": {"labels": {"app": "example"}},
                "spec": {"containers": [{"name": "app", "image": "example:1"}]},
            },
        },
    });
    json!({
        "version": "v1",
        "kind": "kubernetes",
        "application": "example",
        "targets": {"staging": {"account": "staging", "namespace": "example", "strategy": "slowly"}},
        "strategies": {"slowly": {"canary": {"steps": [
            {"setWeight": {"weight": 50}},
            {"pause": {"untilApproved": true}},
        ]}}},
        "manifests": [{"path": "manifests/app.yaml"}],
        "files": {"manifests/app.yaml": [manifest.to_string()]},
    })
}

fn old_answer() -> RefOr<Schema> {
    RefOr::T(
        ObjectBuilder::new()
            .property("pipelineId", schema::uuid())
            .property("warnings", schema::list(schema::text()))
            .required("pipelineId")
            .required("warnings")
            .schema_type(Type::Object)
            .build()
            .into(),
    )
}

fn act() -> Doc {
    let summary =
        "Decides, or ends the pipeline; a view's `actions` say what can be done and what to present.";
    let mut doc = Doc::post("/pipelines/{id}/actions/{action}", "act", "pipelines", summary)
        .needs::<Deploy>()
        .idempotent();
    let body = doc.reference::<ActRequest>();
    doc.takes("What the person saw and says.", vec![(JSON, body)])
        .may(StatusCode::CONFLICT)
        .may(StatusCode::NOT_IMPLEMENTED)
        .gives_as::<ActAnswer>(
            StatusCode::ACCEPTED,
            &[JSON],
            "It is recorded; what follows is on its way.",
        )
}
