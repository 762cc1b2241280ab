//! The Kubernetes API of the simulated cluster: a tower service, and a TLS server around it.
//!
//! [`KubeApi`] answers HTTP requests over [`Objects`] without a socket, so a real `kube::Client` can stand on
//! it. It knows discovery, lists, watches, the four kinds of patches with field ownership, dry runs, tables
//! for kubectl, and the error bodies of the real server.

mod admission;
mod apply;
mod discovery;
mod error;
mod faults;
mod logs;
mod patches;
mod read;
mod request;
mod requests;
mod selector;
mod server;
mod table;
#[cfg(test)]
mod tests;
mod watch;
mod write;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use http::{HeaderValue, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Body, Frame};
use serde_json::{Value, json};
use tower::{BoxError, Service};

use self::error::ApiError;
use self::faults::Effect;
use self::read::Read;
use self::request::{Form, ObjectPath, Query, Target};
use self::requests::RequestLog;
use self::watch::Watch;
use self::write::{Write, Written};
use super::{Objects, Resource};

pub use self::faults::{Fault, Faults, Matching};
pub use self::logs::{LogRequest, PodLogs};
pub use self::requests::Request;
pub use self::server::{ServerError, SimServer};

/// Bodies of answers; a watch's goes on until the watch ends.
pub type ApiBody = UnsyncBoxBody<Bytes, Infallible>;

/// The largest request body that is read, as in the real server.
const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// Answers the Kubernetes API over the objects of a simulated cluster; clones are the same server.
///
/// ```no_run
/// # fn example(objects: aurora_k8s::sim::Objects) {
/// let api = aurora_k8s::sim::api::KubeApi::new(objects);
/// let client = kube::Client::new(api.clone(), "default");
/// # drop(client);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct KubeApi {
    objects: Objects,
    faults: Faults,
    log: RequestLog,
    pod_logs: PodLogs,
    restarts: Arc<tokio::sync::watch::Sender<u64>>,
}

/// The connection broke: what a client sees of some faults.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Dropped;

impl fmt::Display for Dropped {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the simulated connection broke")
    }
}

impl std::error::Error for Dropped {}

/// An answer before it is HTTP.
#[derive(Debug)]
struct Outcome {
    code: u16,
    content: Content,
    before: Option<String>,
    after: Option<String>,
    warnings: Vec<String>,
}

#[derive(Debug)]
enum Content {
    Discovery(Value),
    Json(Value),
    Text(String),
    Watch(Box<Watch>),
}

impl Outcome {
    const fn ok(content: Content) -> Self {
        Self {
            code: 200,
            content,
            before: None,
            after: None,
            warnings: Vec::new(),
        }
    }
}

impl From<Written> for Outcome {
    fn from(written: Written) -> Self {
        Self {
            code: written.code,
            content: Content::Json(written.object),
            before: written.before,
            after: written.after,
            warnings: written.warnings,
        }
    }
}

impl From<&ApiError> for Outcome {
    fn from(error: &ApiError) -> Self {
        let content = if error.is_plain() {
            Content::Text(format!("{}\n", error.message()))
        } else {
            Content::Json(error.status())
        };
        Self {
            code: error.code(),
            ..Self::ok(content)
        }
    }
}

impl KubeApi {
    /// Serves these objects, which others may write at the same time.
    #[must_use]
    pub fn new(objects: Objects) -> Self {
        Self {
            objects,
            faults: Faults::default(),
            log: RequestLog::default(),
            pod_logs: PodLogs::default(),
            restarts: Arc::new(tokio::sync::watch::channel(0).0),
        }
    }

    /// Takes the output of containers from here; the default only names the image and how it ended.
    #[must_use]
    pub fn with_pod_logs(mut self, pod_logs: PodLogs) -> Self {
        self.pod_logs = pod_logs;
        self
    }

    /// The objects behind the API.
    #[must_use]
    pub const fn objects(&self) -> &Objects {
        &self.objects
    }

    /// What went wrong on purpose, and how to make it.
    #[must_use]
    pub const fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The requests so far, oldest first (the last hundred thousand).
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.log.all()
    }

    /// How many requests were answered or lost so far, as a level to wait on before reading
    /// [`KubeApi::requests`]. A watch counts when it opens.
    #[must_use]
    pub fn answered(&self) -> tokio::sync::watch::Receiver<usize> {
        self.log.answered()
    }

    /// Behaves like a restarted API server: every watch ends, every older `resourceVersion` is expired, hanging
    /// requests lose their connection.
    pub fn restart(&self) {
        self.objects.compact();
        self.end_watches();
    }

    /// Ends every watch; hanging requests lose their connection.
    pub(crate) fn end_watches(&self) {
        self.restarts.send_modify(|count| *count += 1);
    }

    async fn respond<B>(self, request: http::Request<B>) -> Result<Response<ApiBody>, BoxError>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query_text = parts.uri.query().unwrap_or_default().to_owned();
        let query = Query::parse(&query_text);
        let target = Target::parse(&path);
        let verb = request::verb(&parts.method, target.as_ref().ok(), &query);
        let fault = self.faults.take(verb, &path);
        let mut record = Request {
            time: String::new(),
            verb: verb.to_owned(),
            path,
            query: query_text,
            user_agent: request::header_text(&parts.headers, header::USER_AGENT),
            code: None,
            before: None,
            after: None,
            changed: false,
        };
        let answered = match &fault {
            Some(Effect::DropBefore) => None,
            Some(Effect::Hang) => {
                let mut restarted = self.restarts.subscribe();
                // Nobody is left to restart the server when this fails.
                let _restarted = restarted.changed().await;
                None
            }
            Some(Effect::Answer(error)) => Some(Err(error.clone())),
            Some(Effect::DropAfter) | None => Some(match read_body(body).await? {
                Ok(bytes) => target.and_then(|target| self.route(&parts, &target, &query, verb, &bytes)),
                Err(error) => Err(error),
            }),
        };
        let mut response = None;
        if let Some(result) = answered {
            let retry_after = result.as_ref().err().and_then(ApiError::retry_after);
            let outcome = result.unwrap_or_else(|error| Outcome::from(&error));
            record.before.clone_from(&outcome.before);
            record.after.clone_from(&outcome.after);
            record.changed = outcome.before != outcome.after;
            if !matches!(fault, Some(Effect::DropAfter)) {
                record.code = Some(outcome.code);
                response = Some(encode(outcome, retry_after)?);
            }
        }
        record.time = self.objects.now().to_string();
        self.log.push(record);
        response.ok_or_else(|| Dropped.into())
    }

    fn route(
        &self,
        parts: &http::request::Parts,
        target: &Target,
        query: &Query,
        verb: &str,
        body: &[u8],
    ) -> Result<Outcome, ApiError> {
        if let Target::Objects(path) = target {
            return self.objects_at(parts, path, query, verb, body);
        }
        if parts.method != http::Method::GET {
            return Err(ApiError::method_not_allowed());
        }
        let aggregated = request::wants_aggregated_discovery(&parts.headers);
        Ok(Outcome::ok(match target {
            Target::Groups { group } => {
                let root = group.as_deref().is_none_or(str::is_empty);
                let groups = discovery::groups(&self.objects, group.as_deref(), aggregated && root)?;
                if aggregated && root {
                    Content::Discovery(groups)
                } else {
                    Content::Json(groups)
                }
            }
            Target::Health => Content::Text("ok".to_owned()),
            Target::OpenApi { of: None } => Content::Json(discovery::open_api_index(&self.objects)),
            Target::OpenApi {
                of: Some((group, version)),
            } => Content::Json(discovery::open_api(&self.objects, group, version)?),
            Target::Resources { group, version } => {
                Content::Json(discovery::resources(&self.objects, group, version)?)
            }
            Target::Version => Content::Json(discovery::version()),
            Target::Objects(_) => return Err(ApiError::unknown_path()),
        }))
    }

    fn objects_at(
        &self,
        parts: &http::request::Parts,
        path: &ObjectPath,
        query: &Query,
        verb: &str,
        body: &[u8],
    ) -> Result<Outcome, ApiError> {
        if path.group == "authorization.k8s.io" && path.plural == "selfsubjectaccessreviews" {
            return access_review(verb, body);
        }
        let resource = self
            .objects
            .resource(&path.group, &path.version, &path.plural)
            .ok_or_else(ApiError::unknown_path)?;
        if path.namespace.is_some() && !resource.namespaced
            || path.name.is_some() && path.namespace.is_none() && resource.namespaced
        {
            return Err(ApiError::unknown_path());
        }
        let objects = if query.is_dry_run()? {
            self.objects.fork()
        } else {
            self.objects.clone()
        };
        let write = Write {
            objects: &objects,
            resource: &resource,
            path,
            query,
            headers: &parts.headers,
            body,
        };
        let form = request::form(&parts.headers);
        let read = Read {
            objects: &objects,
            resource: &resource,
            path,
            query,
            form,
        };
        match (path.subresource.as_deref(), verb) {
            (None, "watch") => {
                let restarted = self.restarts.subscribe();
                let watch = Watch::open(&self.objects, restarted, Arc::clone(&resource), path, query, form)?;
                Ok(Outcome::ok(Content::Watch(Box::new(watch))))
            }
            (None, "list") => read.list().map(|list| Outcome::ok(Content::Json(list))),
            (None, "get") => read.get().map(|object| Outcome::ok(Content::Json(object))),
            (None, "create") if path.name.is_none() && (path.namespace.is_some() || !resource.namespaced) => {
                write.create().map(Outcome::from)
            }
            (None, "update") if path.name.is_some() => write.update().map(Outcome::from),
            (None, "patch") if path.name.is_some() => write.patch().map(Outcome::from),
            (None, "delete") => {
                let removed = read.delete(&options(body)?)?;
                let (before, after) = (removed.before, removed.after);
                Ok(Outcome {
                    before,
                    after,
                    ..Outcome::ok(Content::Json(removed.answer))
                })
            }
            (None, "deletecollection") => read
                .delete_collection(&options(body)?)
                .map(|list| Outcome::ok(Content::Json(list))),
            (Some("status"), _) if resource.has_status => match verb {
                "get" => read.get().map(|object| Outcome::ok(Content::Json(object))),
                "update" => write.update().map(Outcome::from),
                "patch" => write.patch().map(Outcome::from),
                _ => Err(ApiError::method_not_allowed()),
            },
            (Some("scale"), _) if resource.has_scale => match verb {
                "get" => {
                    let read = Read {
                        form: Form::Objects,
                        ..read
                    };
                    let scale = write::scale_of(&resource, &read.get()?);
                    Ok(Outcome::ok(Content::Json(scale)))
                }
                "update" => write.scale(false).map(Outcome::from),
                "patch" => write.scale(true).map(Outcome::from),
                _ => Err(ApiError::method_not_allowed()),
            },
            (Some("log"), "get") if is_pod(&resource) => {
                let read = Read {
                    form: Form::Objects,
                    ..read
                };
                let text = self.pod_logs.read(&read.get()?, query)?;
                Ok(Outcome::ok(Content::Text(text)))
            }
            (Some(_), _) => Err(ApiError::no_such_subresource()),
            (None, _) => Err(ApiError::method_not_allowed()),
        }
    }
}

impl<B> Service<http::Request<B>> for KubeApi
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<ApiBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<ApiBody>, BoxError>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        self.clone().respond(request).boxed()
    }
}

fn is_pod(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.kind == "Pod"
}

fn access_review(verb: &str, body: &[u8]) -> Result<Outcome, ApiError> {
    if verb != "create" {
        return Err(ApiError::method_not_allowed());
    }
    let mut review: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("error decoding the body: {error}")))?;
    if !review.is_object() {
        return Err(ApiError::bad_request("the body of the request is not an object"));
    }
    review["status"] = json!({"allowed": true, "reason": "everything is allowed in a simulated cluster"});
    Ok(Outcome {
        code: 201,
        ..Outcome::ok(Content::Json(review))
    })
}

/// `DeleteOptions`; an empty body has none.
fn options(body: &[u8]) -> Result<Value, ApiError> {
    if body.is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("error decoding the delete options: {error}")))
}

async fn read_body<B>(body: B) -> Result<Result<Bytes, ApiError>, BoxError>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(collected) => Ok(Ok(collected.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Ok(Err(ApiError::too_large(BODY_LIMIT))),
        Err(error) => Err(error),
    }
}

fn encode(outcome: Outcome, retry_after: Option<u64>) -> Result<Response<ApiBody>, BoxError> {
    const JSON: &str = "application/json";
    let (kind, body) = match outcome.content {
        Content::Discovery(value) => (
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            whole(value.to_string()),
        ),
        Content::Json(value) => (JSON, whole(value.to_string())),
        Content::Text(text) => ("text/plain; charset=utf-8", whole(text)),
        Content::Watch(watch) => {
            let frames = watch.lines().map(|line| Ok::<_, Infallible>(Frame::data(line)));
            (JSON, StreamBody::new(frames).boxed_unsync())
        }
    };
    let mut response = Response::builder()
        .status(outcome.code)
        .header(header::CONTENT_TYPE, kind)
        .body(body)?;
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    for warning in outcome.warnings {
        let text = format!("299 - \"{}\"", warning.replace('\\', "\\\\").replace('"', "\\\""));
        response
            .headers_mut()
            .append(header::WARNING, HeaderValue::try_from(text)?);
    }
    Ok(response)
}

fn whole(text: String) -> ApiBody {
    Full::new(Bytes::from(text)).boxed_unsync()
}
