//! What handlers take from a request: parameters, bodies, paths and the door.

use aurora_core::control::Door;
use aurora_core::error::ErrorKind;
use aurora_core::id::PipelineId;
use aurora_core::principal::{Channel, ClientProduct};
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, Query};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::problem::Refusal;

/// The key under which a submit or an act is remembered.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Names the client program; older clients send it beside `User-Agent`.
const CLIENT: &str = "x-armory-client";
/// The most values of one parameter.
pub(super) const MAX_VALUES: usize = 64;
/// The longest value of a parameter, in characters.
pub(super) const MAX_VALUE: usize = 256;
/// The longest key, and the longest name of a client program.
const MAX_HEADER: usize = 255;

/// Query parameters, each taken by name; what nobody took is refused.
#[derive(Debug)]
pub(super) struct Params {
    given: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Query(given) = Query::from_request_parts(parts, state)
            .await
            .map_err(|_| Refusal::invalid("query.malformed", "", "the query string cannot be read"))?;
        Ok(Self {
            given,
            known: Vec::new(),
        })
    }
}

impl Params {
    /// A parameter that may stand once; its value is short and not empty.
    pub(super) fn one(&mut self, name: &'static str) -> Result<Option<String>, Refusal> {
        let mut all = self.raw(name);
        if all.len() > 1 {
            return Err(bad_parameter(name, "stands more than once"));
        }
        let Some(value) = all.pop() else {
            return Ok(None);
        };
        short(name, &value)?;
        Ok(Some(value))
    }

    /// A parameter of older clients, which may be empty.
    pub(super) fn lenient(&mut self, name: &'static str) -> Option<String> {
        self.raw(name).pop().filter(|value| !value.is_empty())
    }

    /// A parameter that may stand several times, or hold several values with commas between them.
    pub(super) fn many(&mut self, name: &'static str) -> Result<Vec<String>, Refusal> {
        let all = self.raw(name);
        let values = all.iter().flat_map(|value| value.split(','));
        let values: Vec<String> = values.map(str::to_owned).collect();
        if values.len() > MAX_VALUES {
            return Err(bad_parameter(name, &format!("has more than {MAX_VALUES} values")));
        }
        for value in &values {
            short(name, value)?;
        }
        Ok(values)
    }

    /// A version of a stream.
    pub(super) fn version(&mut self, name: &'static str) -> Result<Option<u64>, Refusal> {
        let version: Option<i64> = self.parsed(name, "a version")?;
        let version = version.map(u64::try_from).transpose();
        version.map_err(|_| bad_parameter(name, "is not a version"))
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, name: &'static str) -> Result<Option<bool>, Refusal> {
        self.parsed(name, "true or false")
    }

    /// A whole number between two.
    pub(super) fn within(
        &mut self,
        name: &'static str,
        from: usize,
        to: usize,
    ) -> Result<Option<usize>, Refusal> {
        let expected = format!("a number from {from} to {to}");
        let number: Option<usize> = self.parsed(name, &expected)?;
        match number {
            Some(number) if !(from..=to).contains(&number) => {
                Err(bad_parameter(name, &format!("is not {expected}")))
            }
            number => Ok(number),
        }
    }

    /// A parameter that is read by its type; `expected` says what would be right.
    pub(super) fn parsed<T: std::str::FromStr>(
        &mut self,
        name: &'static str,
        expected: &str,
    ) -> Result<Option<T>, Refusal> {
        match self.one(name)? {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(bad_parameter(name, &format!("is not {expected}"))),
            },
        }
    }

    /// Refuses parameters that are planned and not there yet.
    pub(super) fn not_yet(&self, later: &[&str]) -> Result<(), Refusal> {
        match self.given.iter().find(|(name, _)| later.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => Err(Refusal::not_yet(&format!("the parameter `{name}`"))),
        }
    }

    /// Refuses what nobody took: a mistyped filter must not show everything.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        match self.given.first() {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(64).collect();
                let known = match self.known.as_slice() {
                    [] => "there are none here".to_owned(),
                    known => format!("there are {}", known.join(", ")),
                };
                let detail = format!("there is no parameter `{name}`; {known}");
                Err(Refusal::invalid("parameter.unknown", "", detail))
            }
        }
    }

    fn raw(&mut self, name: &'static str) -> Vec<String> {
        self.known.push(name);
        let (taken, rest) = std::mem::take(&mut self.given)
            .into_iter()
            .partition(|(key, _)| key == name);
        self.given = rest;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }
}

fn short(name: &str, value: &str) -> Result<(), Refusal> {
    if value.is_empty() {
        return Err(bad_parameter(name, "is empty; leave it out instead"));
    }
    if value.chars().count() > MAX_VALUE {
        return Err(bad_parameter(
            name,
            &format!("has more than {MAX_VALUE} characters"),
        ));
    }
    Ok(())
}

/// A parameter whose value is wrong.
pub(super) fn bad_parameter(name: &str, why: &str) -> Refusal {
    Refusal::invalid("parameter.invalid", "", format!("the parameter `{name}` {why}"))
}

/// Reads a body of at most so many bytes.
pub(super) async fn body(body: Body, limit: usize) -> Result<Bytes, Refusal> {
    to_bytes(body, limit).await.map_err(|error| {
        let too_large = std::error::Error::source(&error)
            .is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
        if too_large {
            let detail = format!("the body has more than {limit} bytes");
            return Refusal::with_status(StatusCode::PAYLOAD_TOO_LARGE, "tooLarge", detail);
        }
        Refusal::with_status(
            StatusCode::BAD_REQUEST,
            "body.broken",
            "the body ended before its end",
        )
    })
}

/// The media type of a body, without its parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let text = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// A pipeline's id from a path; what is no id names no pipeline.
pub(super) fn pipeline_id(text: &str) -> Result<PipelineId, Refusal> {
    text.parse().map_err(|_| {
        let text: String = text.chars().take(64).collect();
        Refusal::new(
            ErrorKind::NotFound,
            "notFound",
            format!("there is no pipeline {text}"),
        )
    })
}

/// The door through which a request came: what its client says it is, and its idempotency key.
pub(super) fn door(headers: &HeaderMap) -> Result<Door, Refusal> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let client = text(CLIENT)
        .or_else(|| text(USER_AGENT.as_str()))
        .and_then(product);
    let channel = match client.as_ref().map(|client| client.product.as_str()) {
        Some("armory-cli" | "aurora-cli") => Channel::Cli,
        Some("aurora-console") => Channel::Console,
        Some("spinnaker") => Channel::Spinnaker,
        _ => Channel::Api,
    };
    let mut door = Door::new(channel);
    door.client = client;
    door.idempotency = idempotency_key(headers)?;
    Ok(door)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .filter(|key| (1..=MAX_HEADER).contains(&key.len()))
        .filter(|key| key.bytes().all(|byte| byte.is_ascii_graphic()))
        .map(|key| Some(key.to_owned()))
        .ok_or_else(|| {
            let detail = format!("the header Idempotency-Key has 1 to {MAX_HEADER} visible characters");
            Refusal::invalid("idempotencyKey.invalid", "", detail)
        })
}

/// `name/version`, the first word of a user agent.
fn product(text: &str) -> Option<ClientProduct> {
    let word = text.split_whitespace().next()?;
    let word: String = word.chars().take(MAX_HEADER).collect();
    let (product, version) = word.split_once('/').unwrap_or((word.as_str(), ""));
    Some(ClientProduct {
        product: product.to_owned(),
        version: version.to_owned(),
    })
}
