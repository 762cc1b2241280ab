//! What the simulated API server answers when it refuses: Kubernetes `Status` objects with the real reasons.

use serde_json::{Map, Value, json};

use crate::sim::{Expired, ObjectError, Resource};

/// A refused request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    code: u16,
    reason: &'static str,
    message: String,
    details: Map<String, Value>,
    plain: bool,
    race: bool,
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: Map::new(),
            plain: false,
            race: false,
        }
    }

    /// What a path answers that no handler was installed for.
    pub(crate) fn unknown_path() -> Self {
        Self {
            plain: true,
            ..Self::new(404, "NotFound", "404 page not found")
        }
    }

    /// A subresource that the kind does not have.
    pub(crate) fn no_such_subresource() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    pub(crate) fn not_found(resource: &Resource, name: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("{} \"{name}\" not found", resource.qualified()),
        )
        .about(resource, name)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    pub(crate) fn modified(resource: &Resource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub(crate) fn conflict(resource: &Resource, name: &str, reason: &str) -> Self {
        let text = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {reason}",
            resource.qualified()
        );
        Self::new(409, "Conflict", text).about(resource, name)
    }

    /// A server-side apply that touches fields of others: (owner, field) each.
    pub(crate) fn apply_conflict(conflicts: &[(String, String)]) -> Self {
        let message = match conflicts {
            [(manager, field)] => format!("Apply failed with 1 conflict: conflict with {manager}: {field}"),
            many => {
                let mut lines = Vec::new();
                let mut last = None;
                for (manager, field) in many {
                    if last != Some(manager) {
                        lines.push(format!("conflicts with {manager}:"));
                        last = Some(manager);
                    }
                    lines.push(format!("- {field}"));
                }
                format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
            }
        };
        let causes: Vec<Value> = conflicts
            .iter()
            .map(|(manager, field)| {
                json!({
                    "reason": "FieldManagerConflict",
                    "message": format!("conflict with {manager}"),
                    "field": field,
                })
            })
            .collect();
        Self::new(409, "Conflict", message).with("causes", causes.into())
    }

    /// A refused apply body; the real server answers 500 whatever the validation mode.
    pub(crate) fn untyped(namespace: &str, name: &str, resource: &Resource, problem: &str) -> Self {
        let object = if namespace.is_empty() {
            name.to_owned()
        } else {
            format!("{namespace}/{name}")
        };
        let message = format!(
            "failed to create typed patch object ({object}; {}, Kind={}): {problem}",
            resource.api_version(),
            resource.kind
        );
        Self::new(500, "", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {message}"),
        )
        .with("causes", json!([{"message": message}]))
    }

    /// An object with fields that cannot stay as they are: (field, problem) each.
    pub(crate) fn invalid(resource: &Resource, name: &str, problems: &[(String, String)]) -> Self {
        let kind = if resource.group.is_empty() {
            resource.kind.to_string()
        } else {
            format!("{}.{}", resource.kind, resource.group)
        };
        let texts: Vec<String> = problems
            .iter()
            .map(|(field, problem)| format!("{field}: {problem}"))
            .collect();
        let text = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let causes: Vec<Value> = problems
            .iter()
            .map(|(field, problem)| json!({"reason": cause_of(problem), "message": problem, "field": field}))
            .collect();
        let mut error = Self::new(422, "Invalid", format!("{kind} \"{name}\" is invalid: {text}"))
            .with("name", name.into())
            .with("kind", resource.kind.as_ref().into())
            .with("causes", causes.into());
        if !resource.group.is_empty() {
            error = error.with("group", resource.group.as_ref().into());
        }
        error
    }

    /// A patch that cannot be carried out; the real server says no more than this.
    pub(crate) fn rejected() -> Self {
        Self::new(
            422,
            "Invalid",
            "the server rejected our request due to an error in our request",
        )
    }

    /// An apply without the name of its manager.
    pub(crate) fn no_field_manager() -> Self {
        let problem = "Required value: is required for apply patch";
        Self::new(
            422,
            "Invalid",
            format!("PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: {problem}"),
        )
        .with("kind", "PatchOptions".into())
        .with("group", "meta.k8s.io".into())
        .with(
            "causes",
            json!([{"reason": "FieldValueRequired", "message": problem, "field": "fieldManager"}]),
        )
    }

    pub(crate) fn unsupported_media_type(accepted: &str) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {accepted}"
            ),
        )
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("limit is {limit}"))
    }

    /// A list at a version that is still to come.
    pub(crate) fn too_large_version(wanted: u64, current: u64) -> Self {
        Self::new(
            504,
            "Timeout",
            format!("Too large resource version: {wanted}, current: {current}"),
        )
        .with("retryAfterSeconds", 1.into())
        .with(
            "causes",
            json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]),
        )
    }

    pub(crate) fn expired(expired: &Expired) -> Self {
        Self::new(410, "Expired", expired.to_string())
    }

    /// A page of a list whose version is forgotten.
    pub(crate) fn expired_continue() -> Self {
        Self::new(
            410,
            "Expired",
            "The provided continue parameter is too old to display a consistent list result. You must start a \
             new list without the continue parameter.",
        )
    }

    /// Any status that a test wants to see.
    pub(crate) fn scripted(code: u16, message: &str, retry_after: Option<u64>) -> Self {
        let reason = match code {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            409 => "Conflict",
            410 => "Expired",
            422 => "Invalid",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "",
        };
        let error = Self::new(code, reason, message);
        match retry_after {
            Some(seconds) => error.with("retryAfterSeconds", seconds.into()),
            None => error,
        }
    }

    pub(crate) fn code(&self) -> u16 {
        self.code
    }

    /// Tells whether the same write would succeed if it were tried again.
    pub(crate) fn lost_a_race(&self) -> bool {
        self.race
    }

    /// Tells that the answer is plain text, not a `Status`.
    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Seconds for the `Retry-After` header.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.details.get("retryAfterSeconds").and_then(Value::as_u64)
    }

    /// The `Status` object.
    pub(crate) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if !self.details.is_empty() {
            status["details"] = Value::Object(self.details.clone());
        }
        status
    }

    fn with(mut self, field: &str, value: Value) -> Self {
        self.details.insert(field.to_owned(), value);
        self
    }

    fn about(self, resource: &Resource, name: &str) -> Self {
        self.about_qualified(&resource.qualified(), name)
    }

    /// `qualified` is a plural with its group, as in `rollouts.argoproj.io`.
    fn about_qualified(self, qualified: &str, name: &str) -> Self {
        let (plural, group) = qualified.split_once('.').unwrap_or((qualified, ""));
        let error = self.with("name", name.into()).with("kind", plural.into());
        if group.is_empty() {
            error
        } else {
            error.with("group", group.into())
        }
    }
}

impl From<ObjectError> for ApiError {
    fn from(error: ObjectError) -> Self {
        let message = error.to_string();
        match error {
            ObjectError::AlreadyExists { resource, name } => {
                Self::new(409, "AlreadyExists", message).about_qualified(&resource, &name)
            }
            // The storage was changed between a read and a write of ours: preconditions of clients are
            // checked before.
            ObjectError::Conflict { resource, name, .. } => Self {
                race: true,
                ..Self::new(409, "Conflict", message).about_qualified(&resource, &name)
            },
            ObjectError::Invalid {
                kind,
                group,
                name,
                field,
                reason,
            } => {
                let qualified = if group.is_empty() {
                    kind.clone()
                } else {
                    format!("{kind}.{group}")
                };
                let causes = json!([{"reason": cause_of(&reason), "message": reason, "field": field}]);
                Self::new(
                    422,
                    "Invalid",
                    format!("{qualified} \"{name}\" is invalid: {field}: {reason}"),
                )
                .about_qualified(&qualified, &name)
                .with("causes", causes)
            }
            ObjectError::NamespaceTerminating {
                resource,
                name,
                namespace,
            } => {
                let causes = json!([{
                    "reason": "NamespaceTerminating",
                    "message": format!("namespace {namespace} is being terminated"),
                    "field": "metadata.namespace",
                }]);
                Self::new(403, "Forbidden", message)
                    .about_qualified(&resource, &name)
                    .with("causes", causes)
            }
            ObjectError::NotFound { resource, name } => {
                Self::new(404, "NotFound", message).about_qualified(&resource, &name)
            }
        }
    }
}

fn cause_of(problem: &str) -> &'static str {
    match problem.split(':').next().unwrap_or_default() {
        "Required value" => "FieldValueRequired",
        "Duplicate value" => "FieldValueDuplicate",
        "Forbidden" => "FieldValueForbidden",
        "Unsupported value" => "FieldValueNotSupported",
        _ => "FieldValueInvalid",
    }
}
