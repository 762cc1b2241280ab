//! Submitting a deploy file.

use aurora_core::authz::{Deploy, Grant};
use aurora_core::control::{Door, Redeploy};
use aurora_core::deploy_file::{MAX_SUBMIT_BYTES, Overrides, Problem};
use aurora_core::id::PipelineId;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{HeaderName, LOCATION};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::answer::with_type;
use super::authenticate::Granted;
use super::compat::{Location, Wanted};
use super::problem::Refusal;
use super::reading::Placed;
use super::request::{Params, body, door, media_type};
use super::wire::SubmitAnswer;
use super::{Api, reading};

/// The media type of the older product's clients.
const START: &str = "application/vnd.start.kubernetes.pipeline.v2+json";
/// The same for a deploy file that lies elsewhere.
pub(super) const START_BY_LINK: &str = "application/vnd.start.kubernetes.pipeline.v2.link+json";
/// The name of the deploy file where the client calls it; stands in problems.
pub const FILE_NAME: HeaderName = HeaderName::from_static("x-aurora-file-name");
const MAX_FILE_NAME: usize = 256;
/// The names of some targets.
const MAX_LINK_BODY: usize = 64 * 1024;

/// `POST /pipelines/kubernetes`
pub(super) async fn submit(
    State(api): State<Api>,
    Granted(grant): Granted<Deploy>,
    params: Params,
    request: Request,
) -> Result<Response, Refusal> {
    params.finish()?;
    let (parts, content) = request.into_parts();
    let answer_type = match media_type(&parts.headers).as_str() {
        START => START,
        "application/json" | "application/yaml" | "application/x-yaml" | "text/yaml" => "application/json",
        START_BY_LINK => return by_link(&api, &grant, parts, content).await,
        other => {
            let detail = format!(
                "a deploy file is application/json, application/yaml or {START}, not `{}`",
                other.chars().take(128).collect::<String>()
            );
            return Err(Refusal::with_status(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "mediaType.unknown",
                detail,
            ));
        }
    };
    let door = door(&parts.headers)?;
    let name = file_name(&parts.headers)?;
    // Waiting for a place, a client waits with its body, and the request's own time runs.
    let place = reading::permit(&api.inner.submits).await?;
    let content = body(content, MAX_SUBMIT_BYTES).await?;
    let submission = reading::submitted(&api, place, content, &name).await?;
    start(&api, &grant, &door, submission, answer_type).await
}

/// Submits, and answers in the media type that was asked for.
async fn start(
    api: &Api,
    grant: &Grant<Deploy>,
    door: &Door,
    (mut submission, _place): Placed<'_>,
    answer_type: &'static str,
) -> Result<Response, Refusal> {
    submission.source = door.client.clone();
    submission.idempotency = door.idempotency.clone();
    let submitted = api.inner.plane.submit(grant, door, submission).await?;
    Ok(taken(submitted.pipeline, &submitted.warnings, answer_type))
}

/// What an earlier run was started with, or what lies somewhere else.
async fn by_link(
    api: &Api,
    grant: &Grant<Deploy>,
    parts: http::request::Parts,
    content: axum::body::Body,
) -> Result<Response, Refusal> {
    let location = Location::of(&parts.headers)?;
    let wanted = Wanted::read(&body(content, MAX_LINK_BODY).await?)?;
    let door = door(&parts.headers)?;
    let of = match location {
        Location::Earlier(id) => id,
        Location::Elsewhere(url) => {
            let overrides = Overrides {
                account: wanted.account.clone(),
                only: wanted.targets().map(|names| names.into_iter().collect()),
            };
            let submission = reading::linked(api, &url, overrides).await?;
            return start(api, grant, &door, submission, START).await;
        }
    };
    if wanted.account.is_some() {
        let detail =
            "an earlier run goes to its own accounts again; submit its deploy file to go to another one";
        return Err(Refusal::invalid("account.fixed", "/account", detail));
    }
    let redeploy = Redeploy {
        targets: wanted.targets(),
        ..Redeploy::default()
    };
    let _place = reading::permit(&api.inner.submits).await?;
    let recorded = api.inner.plane.redeploy(grant, &door, of, redeploy).await?;
    Ok(taken(recorded.pipeline, &[], START))
}

/// The answer to a start, with the media type that was asked for.
fn taken(pipeline: PipelineId, warnings: &[Problem], media_type: &'static str) -> Response {
    let content_type = HeaderValue::from_static(media_type);
    let mut response = if media_type == START {
        // The older product's clients print warnings and know no structure in them.
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        let texts = json!({"pipelineId": pipeline, "warnings": warnings});
        with_type(StatusCode::ACCEPTED, content_type, &texts)
    } else {
        let answer = SubmitAnswer {
            pipeline_id: pipeline,
            warnings: warnings.to_vec(),
        };
        with_type(StatusCode::ACCEPTED, content_type, &answer)
    };
    if let Ok(location) = HeaderValue::try_from(format!("/pipelines/{pipeline}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn file_name(headers: &http::HeaderMap) -> Result<String, Refusal> {
    let Some(value) = headers.get(&FILE_NAME) else {
        return Ok("deploy file".to_owned());
    };
    let name = std::str::from_utf8(value.as_bytes()).ok();
    name.filter(|name| (1..=MAX_FILE_NAME).contains(&name.len()))
        .map(str::to_owned)
        .ok_or_else(|| {
            let detail = format!("the header X-Aurora-File-Name has 1 to {MAX_FILE_NAME} bytes of text");
            Refusal::invalid("fileName.invalid", "", detail)
        })
}
