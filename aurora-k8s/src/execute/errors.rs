//! What an API server answers when it does not do what was asked, and what that means.

use std::time::Duration;

use serde_json::Value;

use aurora_core::command::FailureDetail;
use aurora_core::manifest::ObjectRef;
use aurora_core::port::executor::ExecutorError;

/// A request that was not carried out.
#[derive(Clone, Debug, Default, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Problem {
    /// The HTTP status; 0 when there was no answer.
    pub(crate) status: u16,
    /// The machine-readable reason of a Kubernetes `Status`; empty when the answer was none.
    pub(crate) reason: String,
    /// The server's words.
    pub(crate) message: String,
    /// Fields or reasons that the server names.
    pub(crate) causes: Vec<Cause>,
    /// The kind that the `Status` is about, as a plural.
    pub(crate) about: String,
    /// How long the server wants us to wait.
    pub(crate) retry_after: Option<Duration>,
    /// The answer was no Kubernetes `Status`: the path itself is unknown.
    pub(crate) untyped: bool,
}

/// One cause in a Kubernetes `Status`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Cause {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) field: String,
}

/// What can be done about a problem.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Class {
    /// Somebody was faster: read again.
    Conflict,
    /// We may not.
    Forbidden,
    /// There is no such object.
    NotFound,
    /// Neither group nor resource is served: its CRD is missing.
    NoSuchKind,
    /// The namespace is missing.
    NoNamespace,
    /// The request is wrong and stays wrong.
    Permanent,
    /// Later it may work.
    Transient,
}

impl Problem {
    /// No answer came.
    pub(crate) fn unanswered(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            ..Self::default()
        }
    }

    /// Reads an answer that is not a success.
    pub(crate) fn from_answer(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let parsed = serde_json::from_slice::<Value>(body)
            .ok()
            .filter(|value| value["kind"] == "Status");
        let Some(answer) = parsed else {
            let text: String = String::from_utf8_lossy(body).trim().chars().take(300).collect();
            return Self {
                status,
                message: if text.is_empty() {
                    format!("HTTP {status}")
                } else {
                    text
                },
                retry_after,
                untyped: true,
                ..Self::default()
            };
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let causes = answer["details"]["causes"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let seconds = answer["details"]["retryAfterSeconds"].as_u64();
        Self {
            status,
            reason: text(&answer["reason"]),
            message: text(&answer["message"]),
            causes: causes
                .iter()
                .map(|cause| Cause {
                    reason: text(&cause["reason"]),
                    message: text(&cause["message"]),
                    field: text(&cause["field"]),
                })
                .collect(),
            about: text(&answer["details"]["kind"]),
            retry_after: retry_after.or(seconds.map(Duration::from_secs)),
            untyped: false,
        }
    }

    /// Sorts the problem by what can be done about it.
    pub(crate) fn class(&self) -> Class {
        let terminating = || {
            self.causes
                .iter()
                .any(|cause| cause.reason == "NamespaceTerminating")
        };
        match self.status {
            0 | 401 | 408 | 429 | 502..=504 => Class::Transient,
            403 if terminating() || self.message.contains("because it is being terminated") => {
                Class::Transient
            }
            403 => Class::Forbidden,
            404 if self.untyped => Class::NoSuchKind,
            404 if self.about == "namespaces" => Class::NoNamespace,
            404 if self.message.contains("could not find the requested resource") => Class::NoSuchKind,
            404 => Class::NotFound,
            409 => Class::Conflict,
            // Unknown fields and duplicate list keys of an apply: no later attempt is better.
            500 if self.message.contains("failed to create typed patch object") => Class::Permanent,
            500..=599 => Class::Transient,
            _ => Class::Permanent,
        }
    }

    pub(crate) fn is_conflict(&self) -> bool {
        self.class() == Class::Conflict
    }

    /// The problem as the port tells it.
    pub(crate) fn into_error(self, verb: &str, object: &ObjectRef) -> ExecutorError {
        match self.class() {
            Class::Conflict => ExecutorError::Contended {
                object: object.clone(),
            },
            Class::Forbidden => ExecutorError::Forbidden {
                verb: verb.to_owned(),
                object: object.clone(),
                source: self.words(object).into(),
            },
            Class::NoSuchKind => rejected(object, no_such_kind(object)),
            Class::NoNamespace => {
                let namespace = &object.namespace;
                rejected(
                    object,
                    format!("namespace {namespace} does not exist: create it first"),
                )
            }
            Class::NotFound => rejected(object, format!("{object} is not on the cluster")),
            Class::Permanent => rejected(object, self.words(object)),
            Class::Transient => ExecutorError::Unavailable { source: self.into() },
        }
    }

    /// The server's words; of a Secret only its fields, since the words may quote its values.
    fn words(&self, object: &ObjectRef) -> String {
        if object.kind == "Secret" {
            let fields: Vec<_> = self.causes.iter().map(|cause| cause.field.as_str()).collect();
            return format!("{} ({}) in {}", self.reason, self.status, fields.join(", "));
        }
        self.message.clone()
    }
}

/// One object that is not accepted, and why.
pub(crate) fn rejected(object: &ObjectRef, message: impl Into<String>) -> ExecutorError {
    ExecutorError::Rejected {
        objects: vec![FailureDetail {
            object: object.clone(),
            message: message.into(),
        }],
    }
}

/// What to say when a kind is not served.
pub(crate) fn no_such_kind(object: &ObjectRef) -> String {
    format!(
        "no such kind {} in group {:?}: is its CRD installed?",
        object.kind, object.group
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(code: u16, reason: &str, message: &str, details: Value) -> Problem {
        let body =
            json!({"kind": "Status", "code": code, "reason": reason, "message": message, "details": details});
        Problem::from_answer(code, None, body.to_string().as_bytes())
    }

    #[test]
    fn answers_are_sorted_by_what_can_be_done() {
        let webhook = "Internal error occurred: failed calling webhook \"x\": connection refused";
        let typed =
            "failed to create typed patch object (a/b; v1, Kind=X): .spec.x: field not declared in schema";
        let terminating = json!({"causes": [{"reason": "NamespaceTerminating", "message": "", "field": ""}]});
        let table = [
            (
                status(400, "BadRequest", "strict decoding error", json!({})),
                Class::Permanent,
            ),
            (status(401, "Unauthorized", "", json!({})), Class::Transient),
            (
                status(403, "Forbidden", "cannot patch", json!({})),
                Class::Forbidden,
            ),
            (status(403, "Forbidden", "", terminating), Class::Transient),
            (
                status(
                    404,
                    "NotFound",
                    "rollouts \"x\" not found",
                    json!({"kind": "rollouts"}),
                ),
                Class::NotFound,
            ),
            (
                status(404, "NotFound", "namespaces \"x\"", json!({"kind": "namespaces"})),
                Class::NoNamespace,
            ),
            (
                Problem::from_answer(404, None, b"404 page not found\n"),
                Class::NoSuchKind,
            ),
            (
                status(409, "Conflict", "the object has been modified", json!({})),
                Class::Conflict,
            ),
            (
                status(413, "RequestEntityTooLarge", "", json!({})),
                Class::Permanent,
            ),
            (
                status(415, "UnsupportedMediaType", "", json!({})),
                Class::Permanent,
            ),
            (
                status(422, "Invalid", "field is immutable", json!({})),
                Class::Permanent,
            ),
            (status(429, "TooManyRequests", "", json!({})), Class::Transient),
            (status(500, "InternalError", webhook, json!({})), Class::Transient),
            (status(500, "", typed, json!({})), Class::Permanent),
            (status(503, "ServiceUnavailable", "", json!({})), Class::Transient),
            (status(504, "Timeout", "", json!({})), Class::Transient),
            (Problem::unanswered("connection refused"), Class::Transient),
        ];
        for (problem, class) in table {
            assert_eq!(problem.class(), class, "{problem:?}");
        }
    }

    #[test]
    fn the_wish_to_wait_is_read_from_header_or_body() {
        let body = status(429, "TooManyRequests", "", json!({"retryAfterSeconds": 7}));
        assert_eq!(body.retry_after, Some(Duration::from_secs(7)));
        let header = Problem::from_answer(503, Some(Duration::from_secs(5)), b"");
        assert_eq!(header.retry_after, Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_problem_with_a_secret_does_not_quote_it() {
        let object = ObjectRef::new("", "Secret", "shop", "token");
        let causes =
            json!({"causes": [{"reason": "FieldValueInvalid", "message": "hunter2", "field": "data.key"}]});
        let problem = status(422, "Invalid", "Secret \"token\" is invalid: hunter2", causes);
        let failure = problem.into_error("patch", &object).to_failure();
        assert!(!format!("{failure:?}").contains("hunter2"));
        assert!(failure.details[0].message.contains("data.key"));
    }

    #[test]
    fn an_unserved_kind_is_named_with_what_to_do() {
        let object = ObjectRef::new("networking.istio.io", "VirtualService", "shop", "web");
        let failure = Problem::from_answer(404, None, b"404 page not found")
            .into_error("patch", &object)
            .to_failure();
        assert!(failure.details[0].message.contains("is its CRD installed?"));
        assert_eq!(failure.details[0].object, object);
    }
}
