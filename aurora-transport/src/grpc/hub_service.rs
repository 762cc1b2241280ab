//! Serving callers: many commands on one stream, each with updates of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use aurora_core::account::{AgentKey, AgentName};
use aurora_core::command::{Command, Update, Verb};
use aurora_core::error::{ErrorChain, ErrorKind};
use aurora_core::hub::MAX_BLOB_BYTES;
use aurora_core::port::clock::Clock;
use aurora_core::port::router::{CommandRouter, Order, RouteError, Updates};
use aurora_core::port::token::TokenVerifier;
use aurora_core::principal::Principal;
use aurora_core::tasks::Tasks;
use aurora_core::tenant::Tenant;
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::authenticate::authenticate;
use super::proto::hub as pb;
use super::proto::hub::hub_routing_server::{HubRouting, HubRoutingServer};
use super::status::status;
use super::wire::{BadField, digest};

/// Frames that wait for a caller's connection; when full, updates wait in their mailboxes, the latest winning.
const OUT_CAPACITY: usize = 64;

/// Calls that one stream may have under way.
const MAX_CALLS: usize = 4096;

/// Bodies of one call have at most so many bytes.
const MAX_CALL_BLOBS: usize = 2 * MAX_BLOB_BYTES;

/// Bodies of all calls of a stream that are not placed yet have at most so many bytes.
const MAX_STREAM_BLOBS: usize = 8 * MAX_BLOB_BYTES;

/// Lets callers in other processes use a router of this one.
#[derive(Clone)]
pub struct RoutingService {
    inner: Arc<Inner>,
}

struct Inner {
    router: Arc<dyn CommandRouter>,
    verifier: Arc<dyn TokenVerifier>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    stop: CancellationToken,
}

impl fmt::Debug for RoutingService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutingService")
            .field("router", &self.inner.router)
            .finish_non_exhaustive()
    }
}

impl RoutingService {
    /// Serves a router to services whose token has the scope `route:commands`.
    pub fn new(router: impl CommandRouter, verifier: impl TokenVerifier, clock: impl Clock) -> Self {
        Self {
            inner: Arc::new(Inner {
                router: Arc::new(router),
                verifier: Arc::new(verifier),
                clock: Arc::new(clock),
                tasks: Tasks::new(),
                stop: CancellationToken::new(),
            }),
        }
    }

    /// When `stop` is cancelled, new calls are refused and each stream ends with its last call.
    ///
    /// Without it streams last as long as their connections.
    #[must_use]
    pub fn with_stop(self, stop: CancellationToken) -> Self {
        Self {
            inner: Arc::new(Inner {
                router: Arc::clone(&self.inner.router),
                verifier: Arc::clone(&self.inner.verifier),
                clock: Arc::clone(&self.inner.clock),
                tasks: self.inner.tasks.clone(),
                stop,
            }),
        }
    }

    /// The service, to be served beside others on one port.
    pub fn routes(&self) -> Routes {
        Routes::new(HubRoutingServer::new(self.clone()))
    }

    /// Adds the service to others.
    pub fn add_to(&self, routes: Routes) -> Routes {
        routes.add_service(HubRoutingServer::new(self.clone()))
    }

    async fn caller(&self, metadata: &tonic::metadata::MetadataMap) -> Result<Arc<Principal>, Status> {
        let principal = authenticate(metadata, &*self.inner.verifier, self.inner.clock.now()).await?;
        principal
            .authorize_routing()
            .map_err(|denied| status(ErrorKind::Denied, denied.to_string()))?;
        Ok(principal)
    }
}

#[async_trait]
impl HubRouting for RoutingService {
    type RouteStream = Pin<Box<dyn Stream<Item = Result<pb::RouterFrame, Status>> + Send>>;

    async fn route(
        &self,
        request: Request<Streaming<pb::CallerFrame>>,
    ) -> Result<Response<Self::RouteStream>, Status> {
        let principal = self.caller(request.metadata()).await?;
        let (out, frames) = mpsc::channel(OUT_CAPACITY);
        let caller = Caller {
            inner: Arc::clone(&self.inner),
            principal,
            out,
            blobs: BTreeMap::new(),
            calls: BTreeMap::new(),
            updates: SelectAll::new(),
        };
        let stream = request.into_inner();
        self.inner.tasks.spawn(|stop| async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = caller.run(stream) => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(frames).map(Ok))))
    }

    async fn list_agents(
        &self,
        request: Request<pb::ListAgentsRequest>,
    ) -> Result<Response<pb::ListAgentsResponse>, Status> {
        self.caller(request.metadata()).await?;
        let wanted = request.into_inner();
        let tenant = Tenant::new(wanted.organization, wanted.environment)
            .map_err(|error| status(ErrorKind::Invalid, error.to_string()))?;
        let agents = self.inner.router.agents(&tenant).await;
        let agents = agents.map_err(|error| status(error.kind(), ErrorChain(&error).to_string()))?;
        let agents = agents
            .iter()
            .map(serde_json::to_vec)
            .collect::<Result<_, _>>()
            .map_err(|error| status(ErrorKind::Internal, error.to_string()))?;
        Ok(Response::new(pb::ListAgentsResponse { agents }))
    }
}

/// One caller's stream.
struct Caller {
    inner: Arc<Inner>,
    principal: Arc<Principal>,
    out: mpsc::Sender<pb::RouterFrame>,
    /// Bodies that arrived, or are arriving, for calls that are not placed yet.
    blobs: BTreeMap<u64, Arriving>,
    calls: BTreeMap<u64, CancellationToken>,
    updates: SelectAll<BoxStream<'static, (u64, Option<Update>)>>,
}

#[derive(Default)]
struct Arriving {
    whole: Vec<Bytes>,
    piece: BytesMut,
    bytes: usize,
}

impl Caller {
    async fn run(mut self, mut stream: Streaming<pb::CallerFrame>) {
        let stop = self.inner.stop.clone();
        loop {
            if stop.is_cancelled() && self.calls.is_empty() && self.blobs.is_empty() {
                return;
            }
            tokio::select! {
                () = self.out.closed() => return,
                () = stop.cancelled(), if !stop.is_cancelled() => {}
                frame = stream.message() => match frame {
                    Ok(Some(frame)) => if self.take(frame).await.is_err() { return },
                    Ok(None) | Err(_) => return,
                },
                Some((call, update)) = self.updates.next(), if !self.updates.is_empty() => {
                    let sent = match update {
                        Some(update) => self.send(call, pb::router_frame::Kind::Update(update.into())).await,
                        None => { self.calls.remove(&call); Ok(()) }
                    };
                    if sent.is_err() { return }
                }
            }
        }
    }

    /// Takes a frame in; an error means that the caller is gone.
    async fn take(&mut self, frame: pb::CallerFrame) -> Result<(), ()> {
        use pb::caller_frame::Kind;
        let call = frame.call;
        let done = match frame.kind {
            Some(Kind::Blob(piece)) => self.blob(call, piece),
            Some(Kind::Route(route)) => match self.place(call, route).await {
                Ok(updates) => {
                    self.follow(call, updates);
                    return self
                        .send(call, pb::router_frame::Kind::Placed(pb::Placed {}))
                        .await;
                }
                Err(refused) => Err(refused),
            },
            Some(Kind::Cancel(_)) => {
                self.blobs.remove(&call);
                if let Some(cancel) = self.calls.get(&call) {
                    cancel.cancel();
                }
                Ok(())
            }
            None if frame.skippable => Ok(()),
            None => Err(refused(
                pb::Refusal::Invalid,
                "the frame's kind is unknown to this version",
            )),
        };
        match done {
            Ok(()) => Ok(()),
            Err(refused) => {
                self.blobs.remove(&call);
                self.send(call, pb::router_frame::Kind::Refused(refused)).await
            }
        }
    }

    fn blob(&mut self, call: u64, piece: pb::BlobPiece) -> Result<(), pb::Refused> {
        let waiting: usize = self.blobs.values().map(|arriving| arriving.bytes).sum();
        if self.blobs.len() >= MAX_CALLS || waiting + piece.data.len() > MAX_STREAM_BLOBS {
            return Err(refused(
                pb::Refusal::Exhausted,
                "too many calls are being prepared",
            ));
        }
        let arriving = self.blobs.entry(call).or_default();
        arriving.bytes += piece.data.len();
        if arriving.bytes > MAX_CALL_BLOBS || arriving.piece.len() + piece.data.len() > MAX_BLOB_BYTES {
            return Err(refused(pb::Refusal::Invalid, "the bodies are too large"));
        }
        arriving.piece.extend_from_slice(&piece.data);
        if piece.last {
            let body = std::mem::take(&mut arriving.piece).freeze();
            let named = digest(&piece.digest, "blob.digest").map_err(bad)?;
            if aurora_core::digest::Digest::of(&body) != named {
                return Err(refused(
                    pb::Refusal::Invalid,
                    "a body has another digest than it was sent under",
                ));
            }
            arriving.whole.push(body);
        }
        Ok(())
    }

    async fn place(&mut self, call: u64, route: pb::RouteCommand) -> Result<Updates, pb::Refused> {
        if self.inner.stop.is_cancelled() {
            return Err(refused(pb::Refusal::Unavailable, "the hub stops"));
        }
        if self.inner.clock.now() >= self.principal.expires_at {
            return Err(refused(
                pb::Refusal::Denied,
                "the token of this stream has ended; open another one",
            ));
        }
        if self.calls.len() >= MAX_CALLS || self.calls.contains_key(&call) {
            return Err(refused(
                pb::Refusal::Exhausted,
                "too many calls, or a number twice",
            ));
        }
        let tenant = Tenant::new(route.organization, route.environment)
            .map_err(|error| refused(pb::Refusal::Invalid, error.to_string()))?;
        let name =
            AgentName::new(route.agent).map_err(|error| refused(pb::Refusal::Invalid, error.to_string()))?;
        let command: Command = route
            .command
            .ok_or(BadField::new("command", "is missing"))
            .and_then(TryInto::try_into)
            .map_err(bad)?;
        check(&command, &tenant)?;
        let mut order = Order::new(command);
        for body in self.blobs.remove(&call).unwrap_or_default().whole {
            order = order.with_blob(body);
        }
        let key = AgentKey::new(tenant, name);
        self.inner
            .router
            .route(&key, order)
            .await
            .map_err(|error| refusal(&error))
    }

    fn follow(&mut self, call: u64, updates: Updates) {
        let cancel = CancellationToken::new();
        let tagged = updates
            .take_until(cancel.clone().cancelled_owned())
            .map(move |update| (call, Some(update)))
            .chain(futures::stream::once(async move { (call, None) }));
        self.calls.insert(call, cancel);
        self.updates.push(tagged.boxed());
    }

    async fn send(&mut self, call: u64, kind: pb::router_frame::Kind) -> Result<(), ()> {
        let frame = pb::RouterFrame {
            call,
            skippable: false,
            kind: Some(kind),
        };
        self.out.send(frame).await.map_err(|_| ())
    }
}

/// A command says for whom it is and whose it is.
fn check(command: &Command, tenant: &Tenant) -> Result<(), pb::Refused> {
    if command.initiator.is_empty() {
        return Err(refused(pb::Refusal::Invalid, "the command names no initiator"));
    }
    let set = match &command.verb {
        Verb::Act(act) => Some(&act.set),
        Verb::Apply(apply) | Verb::Finish(apply) => Some(&apply.set),
        Verb::Delete { set, .. } => Some(set),
        Verb::Observe(observe) => Some(&observe.set),
        Verb::Get { .. } | Verb::Ping { .. } => None,
    };
    match set {
        Some(set) if set.tenant != tenant.to_string() => Err(refused(
            pb::Refusal::Denied,
            "the command's applied set is another tenant's than the agent's",
        )),
        _ => Ok(()),
    }
}

fn refused(reason: pb::Refusal, message: impl Into<String>) -> pb::Refused {
    pb::Refused {
        reason: reason.into(),
        message: message.into(),
    }
}

fn bad(field: BadField) -> pb::Refused {
    refused(pb::Refusal::Invalid, field.to_string())
}

fn refusal(error: &RouteError) -> pb::Refused {
    let reason = match error {
        RouteError::Denied { .. } => pb::Refusal::Denied,
        RouteError::Exhausted { .. } => pb::Refusal::Exhausted,
        RouteError::Invalid { .. } => pb::Refusal::Invalid,
        RouteError::NotFound { .. } => pb::Refusal::NotFound,
        RouteError::Offline { .. } => pb::Refusal::Offline,
        _ => pb::Refusal::Unavailable,
    };
    refused(reason, ErrorChain(error).to_string())
}
