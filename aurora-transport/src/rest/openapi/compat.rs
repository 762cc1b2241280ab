//! What clients of the older product ask for beside pipelines.

use aurora_core::authz::{Deploy, ManageTenant, ReadPipelines};
use http::{Method, StatusCode};
use serde_json::json;
use utoipa::openapi::schema::ObjectBuilder;
use utoipa::openapi::{RefOr, Schema};

use super::doc::Doc;
use super::schema;
use crate::rest::compat::{DeploymentStatus, Me, Role, TenantEntry};

const JSON: &str = "application/json";
const TENANT: &str = "tenant";
const OLD: &str = "older clients";

pub(super) fn docs() -> Vec<Doc> {
    let about = "What was submitted, as it came; whoever may deploy it again may read it.";
    let config = Doc::get("/pipelines/{id}/config", "pipelineConfig", OLD, about)
        .needs::<Deploy>()
        .gives_raw(
            StatusCode::OK,
            "The deploy file with its files.",
            vec![
                (JSON, RefOr::T(schema::object().into())),
                ("application/yaml", RefOr::T(utoipa::openapi::schema::empty())),
            ],
        );
    let deployment = |path, id| {
        Doc::get(
            path,
            id,
            OLD,
            "The run of one target; its id is `PIPELINE.TARGET`.",
        )
        .needs::<ReadPipelines>()
        .gives::<DeploymentStatus>("The run.")
    };
    vec![
        config,
        deployment("/deployments/{id}", "deployment"),
        deployment("/deploy-engine/deployments/{id}", "deploymentByItsOldPath"),
        queue(),
        me(),
        environments(),
        roles(),
        credentials(),
        later(Method::POST, "/environments", "createEnvironment"),
        later(Method::POST, "/roles", "createRole"),
        later(Method::PUT, "/roles/{id}", "changeRole"),
        later(Method::DELETE, "/roles/{id}", "deleteRole"),
        later(Method::POST, "/credentials", "createCredential"),
        later(Method::DELETE, "/credentials/{id}", "deleteCredential"),
        later(Method::GET, "/credentials/{id}/roles", "listCredentialRoles"),
        later(Method::PUT, "/credentials/{id}/roles", "changeCredentialRoles"),
    ]
}

fn me() -> Doc {
    Doc::get(
        "/me",
        "me",
        TENANT,
        "Who one is, what one may do, and how much waits for one.",
    )
    .gives::<Me>("That.")
}

fn environments() -> Doc {
    let mut doc = Doc::get(
        "/environments",
        "listEnvironments",
        OLD,
        "Environments that the token opens.",
    );
    let list = schema::list(doc.reference::<TenantEntry>());
    doc.gives_raw(StatusCode::OK, "The environments.", vec![(JSON, RefOr::T(list))])
}

fn roles() -> Doc {
    let mut doc = Doc::get(
        "/roles",
        "listRoles",
        OLD,
        "Names of roles that credentials of the tenant hold.",
    )
    .needs::<ManageTenant>()
    .query("envId", schema::text(), "Only of this environment.")
    .query(
        "principalType",
        schema::text(),
        "Taken and without effect: there are machines only.",
    );
    let list = schema::list(doc.reference::<Role>());
    doc.gives_raw(StatusCode::OK, "The roles.", vec![(JSON, RefOr::T(list))])
}

fn credentials() -> Doc {
    Doc::get(
        "/credentials",
        "listCredentials",
        OLD,
        "Credentials of the tenant, without their secrets.",
    )
    .needs::<ManageTenant>()
    .may(StatusCode::NOT_IMPLEMENTED)
    .gives_raw(
        StatusCode::OK,
        "The credentials.",
        vec![(JSON, RefOr::T(schema::list(schema::object())))],
    )
}

fn queue() -> Doc {
    let about = "Where a pipeline stands in its application's queue: the query `pipelineById`.";
    let asked: Schema = ObjectBuilder::new()
        .property("query", schema::text())
        .property("variables", schema::object_or_null())
        .required("query")
        .examples([json!({
            "query": "query ($id: uuid!) { pipelineById(id: $id) { id status application { name } } }",
            "variables": {"id": "01900000-0000-7000-8000-000000000000"},
        })])
        .build()
        .into();
    Doc::post("/v1/graphql", "queue", OLD, about)
        .needs::<ReadPipelines>()
        .takes("A GraphQL request.", vec![(JSON, RefOr::T(asked))])
        .gives_raw(
            StatusCode::OK,
            "`data`, or `errors` where the query cannot be answered.",
            vec![(JSON, RefOr::T(schema::object().into()))],
        )
}

fn later(method: Method, path: &'static str, id: &'static str) -> Doc {
    Doc::new(method, path, id, OLD, "Refused by name: not in this version.")
        .needs::<ManageTenant>()
        .may(StatusCode::NOT_IMPLEMENTED)
}
