//! Problem bodies (RFC 9457) and the one table from kinds of errors to HTTP status codes.

use aurora_core::authz::Denied;
use aurora_core::control::{ControlError, SubmitError};
use aurora_core::deploy_file::Problem;
use aurora_core::error::{ErrorChain, ErrorKind};
use aurora_core::id::PipelineId;
use aurora_core::pipeline::{PipelineView, Refused};
use aurora_core::principal::Actor;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// The media type of every problem body.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What every failed request answers.
///
/// It is an RFC 9457 problem that also has the members of the older product's error body.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct ProblemBody {
    /// A stable name of the sort of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The sort of problem in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong here and what to do about it.
    pub detail: String,
    /// A stable code for programs: that of the first error.
    pub code: String,
    /// Names this very answer in the server's log.
    pub error_id: String,
    /// Each thing that is wrong.
    pub errors: Vec<Problem>,
    /// The pipeline that stands in the way, or that it is about.
    #[serde(rename = "pipelineId", default, skip_serializing_if = "Option::is_none")]
    pub pipeline_id: Option<PipelineId>,
    /// Who was faster.
    #[serde(rename = "decidedBy", default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<Actor>,
    /// Any one of these scopes or roles would do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// The pipeline as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<Box<PipelineView>>,
}

/// A request that failed, on its way to the client.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    body: Box<ProblemBody>,
    header: Option<(http::HeaderName, HeaderValue)>,
}

/// The HTTP status of a kind of error: the only place where one is chosen.
pub(super) const fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Cancelled | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Deadline => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Denied => StatusCode::FORBIDDEN,
        ErrorKind::Exhausted => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
    }
}

/// Seconds after which what is transient may be tried again.
const RETRY_AFTER_SECONDS: &str = "2";

impl Refusal {
    /// A refusal of a kind; `detail` says what is wrong and what to do.
    pub(super) fn new(kind: ErrorKind, code: &str, detail: impl Into<String>) -> Self {
        Self::with_status(status(kind), code, detail)
    }

    /// A refusal whose status is HTTP's own matter: a method, a media type, a size.
    pub(super) fn with_status(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let transient = matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        );
        Self {
            status,
            header: transient.then(|| (RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS))),
            body: Box::new(ProblemBody {
                kind: format!("urn:aurora:problem:{code}"),
                title: title(status).to_owned(),
                status: status.as_u16(),
                code: code.to_owned(),
                error_id: Uuid::new_v4().to_string(),
                errors: vec![Problem::error(code, "", detail.clone())],
                detail,
                pipeline_id: None,
                decided_by: None,
                needs: Vec::new(),
                view: None,
            }),
        }
    }

    /// An input that is wrong at one place of it.
    pub(super) fn invalid(code: &str, pointer: &str, detail: impl Into<String>) -> Self {
        let mut refusal = Self::new(ErrorKind::Invalid, code, detail);
        refusal.body.errors[0].pointer = pointer.to_owned();
        refusal
    }

    /// Something that this version does not have yet.
    pub(super) fn not_yet(what: &str) -> Self {
        Self::new(
            ErrorKind::Unsupported,
            "notYet",
            format!("{what} is not in this version of Aurora yet"),
        )
    }

    /// A token is missing or not accepted.
    pub(super) fn unauthenticated(presented: bool) -> Self {
        let (code, detail, challenge) = if presented {
            (
                "token.invalid",
                "the token is not accepted; get a new one from the issuer",
                "Bearer realm=\"aurora\", error=\"invalid_token\"",
            )
        } else {
            (
                "token.missing",
                "send a token as `Authorization: Bearer …`",
                "Bearer realm=\"aurora\"",
            )
        };
        let mut refusal = Self::new(ErrorKind::Unauthenticated, code, detail);
        refusal.header = Some((WWW_AUTHENTICATE, HeaderValue::from_static(challenge)));
        refusal
    }

    /// Something broke here: the log has the cause under the body's `error_id`.
    pub(super) fn broken(kind: ErrorKind, error: &(dyn std::error::Error + 'static)) -> Self {
        let detail = match kind {
            ErrorKind::Unavailable => "it cannot be done just now; try again soon",
            _ => "something broke; its error_id finds it in the server's log",
        };
        let code = match kind {
            ErrorKind::Unavailable => "unavailable",
            _ => "internal",
        };
        let refusal = Self::new(kind, code, detail);
        tracing::error!(error.id = refusal.body.error_id, error = %ErrorChain(error), "request failed");
        refusal
    }

    /// Says which scopes or roles would do.
    pub(super) fn needing(mut self, needs: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.body.needs = needs.into_iter().map(Into::into).collect();
        self
    }

    /// Carries a header instead of the one that its status would have.
    pub(super) fn with_header(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    /// Names the pipeline that it is about.
    pub(super) fn about(mut self, pipeline: PipelineId) -> Self {
        self.body.pipeline_id.get_or_insert(pipeline);
        self
    }

    /// Shows the pipeline as it is now, so that the client need not ask.
    pub(super) fn showing(mut self, view: PipelineView) -> Self {
        // Where another pipeline stands in the way, that is the one to name.
        self.body.pipeline_id.get_or_insert(view.id);
        self.body.view = Some(Box::new(view));
        self
    }

    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let mut refusal =
            Self::new(ErrorKind::Denied, "scope.missing", denied.to_string()).needing(denied.needs.clone());
        // The scopes are constants of visible ASCII.
        let challenge = format!(
            "Bearer realm=\"aurora\", error=\"insufficient_scope\", scope=\"{}\"",
            denied.needs.first().copied().unwrap_or_default()
        );
        refusal.header = HeaderValue::try_from(challenge)
            .ok()
            .map(|challenge| (WWW_AUTHENTICATE, challenge));
        refusal
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::NotTaken(error) => error.into(),
            ControlError::Refused(refused) => refused.into(),
            ControlError::Invalid { problem } => Self::new(ErrorKind::Invalid, "invalid", problem),
            ControlError::KeyReused => {
                Self::new(ErrorKind::Invalid, "idempotencyKey.reused", error.to_string())
            }
            ControlError::NotFound { .. } => Self::new(ErrorKind::NotFound, "notFound", error.to_string()),
            ControlError::Unsupported { .. } => {
                Self::new(ErrorKind::Unsupported, "notYet", error.to_string())
            }
            ControlError::Contended { .. } => Self::new(error.kind(), "contended", error.to_string()),
            _ => Self::broken(hidden(error.kind()), &error),
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let mut refusal = Self::new(refused.kind(), refused.code(), refused.to_string());
        match refused {
            Refused::AlreadyDecided { by, .. } => refusal.body.decided_by = Some(*by),
            Refused::Denied { needs, .. } => refusal.body.needs = needs,
            _ => {}
        }
        refusal
    }
}

impl From<SubmitError> for Refusal {
    fn from(error: SubmitError) -> Self {
        let detail = error.to_string();
        match error {
            SubmitError::AccountUnknown { accounts } => {
                let mut refusal = Self::new(ErrorKind::Invalid, "account.unknown", detail);
                let problem = |(target, account): (String, String)| {
                    Problem::error(
                        "account.unknown",
                        format!("/targets/{}/account", escaped(&target)),
                        format!("no agent named `{account}` was ever seen"),
                    )
                    .with_hint("`aurora agent list` shows those that were; start the agent first")
                };
                refusal.body.errors = accounts.into_iter().map(problem).collect();
                refusal
            }
            SubmitError::Busy { pipeline, .. } => {
                Self::new(ErrorKind::Conflict, "application.busy", detail).about(pipeline)
            }
            // Another body under the same key is a mistake in the request and stays one.
            SubmitError::KeyReused { pipeline } => {
                Self::new(ErrorKind::Invalid, "idempotencyKey.reused", detail).about(pipeline)
            }
            SubmitError::Invalid { problems } => problems.into(),
            _ => Self::broken(hidden(error.kind()), &error),
        }
    }
}

impl From<Vec<Problem>> for Refusal {
    fn from(problems: Vec<Problem>) -> Self {
        let count = problems.iter().filter(|problem| problem.is_error()).count();
        let detail = format!("the deploy file cannot be deployed: {count} problem(s)");
        let code = problems
            .iter()
            .find(|problem| problem.is_error())
            .map_or("invalid", |problem| problem.code.as_str());
        let mut refusal = Self::new(ErrorKind::Invalid, code, detail);
        refusal.body.errors = problems;
        refusal
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        // It holds texts, numbers and maps with text keys.
        let body = serde_json::to_vec(&self.body).unwrap_or_default();
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON)),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        let mut response = (self.status, headers, body).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// What a dependency's failure is to the client: it may try again, or it may not; more is not theirs.
const fn hidden(kind: ErrorKind) -> ErrorKind {
    if kind.is_transient() {
        ErrorKind::Unavailable
    } else {
        ErrorKind::Internal
    }
}

/// A key as part of a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn title(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Problem")
}
