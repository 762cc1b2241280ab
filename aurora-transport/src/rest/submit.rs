//! Submitting a deploy file.

use aurora_core::authz::{Deploy, Grant};
use aurora_core::control::Submission;
use aurora_core::deploy_file::{MAX_DEPLOY_FILE_BYTES, MAX_SUBMIT_BYTES, Problem, manifests, parse_submit};
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::{HeaderName, LOCATION};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::Api;
use super::answer::with_type;
use super::authenticate::Granted;
use super::compat::{Location, Wanted};
use super::problem::Refusal;
use super::request::{Params, body, door, media_type};
use super::wire::SubmitAnswer;

/// The media type of the older product's clients.
const START: &str = "application/vnd.start.kubernetes.pipeline.v2+json";
/// The same for a deploy file that lies elsewhere.
const START_BY_LINK: &str = "application/vnd.start.kubernetes.pipeline.v2.link+json";
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
    let _place = api.inner.submits.acquire().await;
    let content = body(content, MAX_SUBMIT_BYTES).await?;
    let mut submission = read(content, &name).await?;
    submission.source = door.client.clone();
    submission.idempotency = door.idempotency.clone();
    let submitted = api.inner.plane.submit(&grant, &door, submission).await?;
    let answer = SubmitAnswer {
        pipeline_id: submitted.pipeline,
        warnings: submitted.warnings,
    };
    let media_type = HeaderValue::from_static(answer_type);
    let mut response = if answer_type == START {
        // The older product's clients print warnings and know no structure in them.
        let warnings: Vec<String> = answer.warnings.iter().map(ToString::to_string).collect();
        let texts = json!({"pipelineId": answer.pipeline_id, "warnings": warnings});
        with_type(StatusCode::ACCEPTED, media_type, &texts)
    } else {
        with_type(StatusCode::ACCEPTED, media_type, &answer)
    };
    if let Ok(location) = HeaderValue::try_from(format!("/pipelines/{}", answer.pipeline_id)) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
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
    let _ = (api, grant, wanted, door);
    match location {
        Location::Earlier(_) => Err(Refusal::not_yet("starting an earlier run again by link")),
        Location::Elsewhere(_) => Err(Refusal::not_yet("a deploy file by link")),
    }
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

/// Reads a submit on a thread that may be busy for long: 16 MiB of YAML take more than a moment.
async fn read(content: Bytes, name: &str) -> Result<Submission, Refusal> {
    let name = name.to_owned();
    let read = tokio::task::spawn_blocking(move || read_now(content, &name)).await;
    match read {
        Ok(read) => read.map_err(Refusal::from),
        Err(error) => Err(Refusal::broken(aurora_core::error::ErrorKind::Internal, &error)),
    }
}

fn read_now(content: Bytes, name: &str) -> Result<Submission, Vec<Problem>> {
    let text = std::str::from_utf8(&content).map_err(|_| {
        let problem = Problem::error("encoding", "", "the deploy file is not UTF-8 text");
        vec![problem.at(name, 0, 0)]
    })?;
    let parsed = parse_submit(text, name)?;
    // Written out again it has neither the manifests that came along nor what a client spent on them.
    let own = serde_json::to_vec(&parsed.deploy).map_or(0, |own| own.len());
    if own > MAX_DEPLOY_FILE_BYTES {
        let message = format!(
            "the deploy file without its manifests has {own} bytes; at most {MAX_DEPLOY_FILE_BYTES} are read"
        );
        return Err(vec![Problem::error("tooLarge", "", message).at(name, 0, 0)]);
    }
    let mut of_targets = manifests(&parsed.deploy, &parsed.files, name);
    if let Err(problems) = &mut of_targets {
        problems.extend(parsed.warnings.iter().cloned());
    }
    let mut submission = Submission::new(parsed.deploy, of_targets?);
    submission.warnings = parsed.warnings;
    submission.source_control = parsed.source_control;
    submission.config = Some(content);
    Ok(submission)
}
