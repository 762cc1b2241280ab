//! `POST /v1/graphql`: where a pipeline stands in its application's queue.

use std::collections::BTreeMap;

use aurora_core::authz::{Grant, ReadPipelines};
use aurora_core::id::PipelineId;
use aurora_core::pipeline::{PipelineView, State as PipelineState};
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json as value};

use super::super::Api;
use super::super::answer::json;
use super::super::authenticate::Granted;
use super::super::problem::Refusal;
use super::super::request::{Params, body, media_type};
use super::query::{ApplicationField, Field, Id, Query};

/// A query and its one variable are short.
const MAX_BODY: usize = 16 * 1024;

/// A GraphQL request; what it names beyond the query and its variables has no effect.
#[derive(Deserialize)]
struct Asked {
    query: String,
    #[serde(default)]
    variables: Option<BTreeMap<String, Value>>,
}

/// `POST /v1/graphql`
///
/// As with GraphQL everywhere, a query that cannot be answered is a 200 whose body has `errors`; a
/// missing token or scope is a problem as on every other path.
pub(in super::super) async fn queue(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    params: Params,
    request: Request,
) -> Result<Response, Refusal> {
    params.finish()?;
    let (parts, content) = request.into_parts();
    if !matches!(media_type(&parts.headers).as_str(), "application/json" | "") {
        return Err(Refusal::with_status(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "mediaType.unknown",
            "a GraphQL request is application/json",
        ));
    }
    let content = body(content, MAX_BODY).await?;
    let asked: Asked = serde_json::from_slice(&content).map_err(|error| {
        let detail = format!("the GraphQL request cannot be read: {error}");
        Refusal::invalid("graphql.malformed", "", detail)
    })?;
    let query = match Query::read(&asked.query) {
        Ok(query) => query,
        Err(error) => return Ok(refused("graphql.unsupported", &error.to_string())),
    };
    let id = match &query.id {
        Id::Literal(text) => Some(text.as_str()),
        Id::Variable(name) => asked
            .variables
            .as_ref()
            .and_then(|variables| variables.get(name))
            .and_then(Value::as_str),
    };
    let Some(id) = id.and_then(|text| text.parse::<PipelineId>().ok()) else {
        return Ok(refused("graphql.badId", "the id of a pipeline is a UUID"));
    };
    let pipeline = match view(&api, &grant, id).await? {
        None => Value::Null,
        Some(view) => picture(&api, &grant, &view, &query.fields).await?,
    };
    Ok(json(
        StatusCode::OK,
        &value!({"data": {"pipelineById": pipeline}}),
    ))
}

/// What is not there and what is somebody else's are both nothing.
async fn view(
    api: &Api,
    grant: &Grant<ReadPipelines>,
    id: PipelineId,
) -> Result<Option<PipelineView>, Refusal> {
    match api.inner.plane.view(grant, id).await {
        Ok(document) => Ok(Some(document.body)),
        Err(aurora_core::control::ControlError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The fields that were asked for; the depth of the query bounds how many pipelines that reads.
async fn picture(
    api: &Api,
    grant: &Grant<ReadPipelines>,
    pipeline: &PipelineView,
    fields: &[Field],
) -> Result<Value, Refusal> {
    let mut picture = Map::new();
    for field in fields {
        let (name, content) = match field {
            Field::Application(fields) => ("application", application(&pipeline.application, fields)),
            Field::BlockedBy(fields) => (
                "blockedByPipeline",
                Box::pin(other(api, grant, pipeline.blocked_by, fields)).await?,
            ),
            Field::Id => ("id", value!(pipeline.id)),
            Field::ReplacedBy(fields) => (
                "replacedByPipeline",
                Box::pin(other(api, grant, pipeline.replaced_by, fields)).await?,
            ),
            Field::Status => ("status", status(pipeline)),
            Field::TypeName => ("__typename", value!("Pipeline")),
        };
        picture.insert(name.to_owned(), content);
    }
    Ok(Value::Object(picture))
}

async fn other(
    api: &Api,
    grant: &Grant<ReadPipelines>,
    id: Option<PipelineId>,
    fields: &[Field],
) -> Result<Value, Refusal> {
    let Some(id) = id else {
        return Ok(Value::Null);
    };
    match view(api, grant, id).await? {
        Some(view) => picture(api, grant, &view, fields).await,
        None => Ok(Value::Null),
    }
}

fn application(name: &str, fields: &[ApplicationField]) -> Value {
    let fields = fields.iter().map(|field| match field {
        ApplicationField::Name => ("name".to_owned(), value!(name)),
        ApplicationField::TypeName => ("__typename".to_owned(), value!("Application")),
    });
    Value::Object(fields.collect())
}

/// In the queue's own words: a run that waits for its turn is not merely not started.
fn status(pipeline: &PipelineView) -> Value {
    if pipeline.state == PipelineState::Queued {
        return value!("QUEUED");
    }
    value!(pipeline.status)
}

fn refused(code: &str, message: &str) -> Response {
    let error = value!({"message": message, "extensions": {"code": code}});
    json(StatusCode::OK, &value!({"errors": [error]}))
}
