//! A router in another process: many commands on one stream to a hub, opened anew when it breaks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aurora_core::account::AgentKey;
use aurora_core::command::{Outcome, Update};
use aurora_core::digest::Digest;
use aurora_core::error::{BoxError, ErrorKind};
use aurora_core::hub::mailbox::Mailbox;
use aurora_core::port::clock::Clock;
use aurora_core::port::router::{AgentStatus, CommandRouter, Order, RouteError, Updates};
use aurora_core::port::token::TokenSource;
use aurora_core::tasks::Tasks;
use aurora_core::tenant::Tenant;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::bearer::with_token;
use super::connector::{InvalidEndpoint, dial, endpoint};
use super::proto::agent as agent_pb;
use super::proto::hub as pb;
use super::proto::hub::hub_routing_client::HubRoutingClient;
use super::status::kind;
use super::trust::Trust;
use super::wire::bad_command;

/// Frames that wait for the connection; a caller waits when it is full.
const OUT_CAPACITY: usize = 64;

/// A piece of a body.
const PIECE: usize = 32 * 1024;

/// An open stream takes no new calls for this long before its token ends.
const RENEW_BEFORE: Duration = Duration::from_secs(60);

/// The hub places or refuses a command within this time.
const PLACED_WITHIN: Duration = Duration::from_secs(15);

/// The largest list of agents.
const MAX_LIST: usize = 64 * 1024 * 1024;

/// Routes commands through a hub in another process; clones share the stream.
#[derive(Clone)]
pub struct HubClient {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Endpoint,
    trust: Trust,
    tokens: Arc<dyn TokenSource>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    /// Held while a stream is opened, so that many callers open one.
    stream: tokio::sync::Mutex<Option<Arc<Open>>>,
}

/// An open stream.
struct Open {
    channel: Channel,
    out: mpsc::Sender<pb::CallerFrame>,
    calls: Mutex<BTreeMap<u64, Call>>,
    next: AtomicU64,
    broken: AtomicBool,
    /// From then on new calls go over another stream; a token that ends sooner is used once.
    renew_at: Timestamp,
}

struct Call {
    placed: Option<oneshot::Sender<Result<(), pb::Refused>>>,
    mailbox: Arc<Mailbox>,
}

impl fmt::Debug for HubClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubClient")
            .field("hub", self.inner.endpoint.uri())
            .finish_non_exhaustive()
    }
}

impl HubClient {
    /// Routes through the hub at `https://host:port`, with tokens that have the scope `route:commands`.
    ///
    /// # Errors
    /// [`InvalidEndpoint`] for anything but an https address without a path.
    pub fn new(
        address: &str,
        trust: Trust,
        tokens: impl TokenSource,
        clock: impl Clock,
    ) -> Result<Self, InvalidEndpoint> {
        Ok(Self {
            inner: Arc::new(Inner {
                endpoint: endpoint(address)?,
                trust,
                tokens: Arc::new(tokens),
                clock: Arc::new(clock),
                tasks: Tasks::new(),
                stream: tokio::sync::Mutex::new(None),
            }),
        })
    }

    /// The open stream, or a new one.
    async fn open(&self) -> Result<Arc<Open>, RouteError> {
        let inner = &self.inner;
        let mut held = inner.stream.lock().await;
        let now = inner.clock.now();
        if let Some(open) = &*held
            && !open.broken.load(Ordering::Relaxed)
            && now < open.renew_at
        {
            return Ok(Arc::clone(open));
        }
        let token = inner
            .tokens
            .token(now)
            .await
            .map_err(|error| match error.kind() {
                ErrorKind::Unauthenticated => RouteError::Denied { source: error.into() },
                _ => unavailable(error.into()),
            })?;
        let channel = dial(&inner.endpoint, &inner.trust).await.map_err(unavailable)?;
        let (out, frames) = mpsc::channel(OUT_CAPACITY);
        let request = with_token(ReceiverStream::new(frames), &token.secret).map_err(refusal)?;
        let answers = HubRoutingClient::new(channel.clone())
            .route(request)
            .await
            .map_err(refusal)?;
        let renew_at = token
            .expires_at
            .checked_sub(RENEW_BEFORE)
            .unwrap_or(token.expires_at);
        let open = Arc::new(Open {
            channel,
            out,
            calls: Mutex::default(),
            next: AtomicU64::new(1),
            broken: AtomicBool::new(false),
            renew_at,
        });
        let reading = Arc::clone(&open);
        inner.tasks.spawn(|stop| async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = reading.read(answers.into_inner()) => {}
            }
            reading.end();
        });
        *held = Some(Arc::clone(&open));
        Ok(open)
    }
}

#[async_trait]
impl CommandRouter for HubClient {
    async fn route(&self, to: &AgentKey, order: Order) -> Result<Updates, RouteError> {
        let open = self.open().await?;
        let call = open.next.fetch_add(1, Ordering::Relaxed);
        let (placed, answer) = oneshot::channel();
        let mailbox = Arc::new(Mailbox::default());
        let waiting = Call {
            placed: Some(placed),
            mailbox: Arc::clone(&mailbox),
        };
        open.calls().insert(call, waiting);
        // From here on dropping the future, or the stream, tells the hub.
        let mut reader = Reader {
            open,
            tasks: self.inner.tasks.clone(),
            call,
            mailbox,
            ended: false,
        };
        reader.open.check()?;
        for (digest, body) in order.blobs {
            push(&reader.open, call, digest, body).await?;
        }
        let route = pb::RouteCommand {
            organization: to.tenant.organization.to_string(),
            environment: to.tenant.environment.to_string(),
            agent: to.name.to_string(),
            command: Some(order.command.into()),
        };
        reader
            .open
            .send(call, pb::caller_frame::Kind::Route(route))
            .await?;
        match tokio::time::timeout(PLACED_WITHIN, answer).await {
            Ok(Ok(Ok(()))) => Ok(Box::pin(futures::stream::unfold(reader, Reader::next))),
            Ok(Ok(Err(refused))) => {
                reader.ended = true;
                Err(route_error(&refused, to))
            }
            Ok(Err(_broken)) => Err(unavailable("the stream to the hub broke".into())),
            Err(_elapsed) => Err(unavailable("the hub did not answer in time".into())),
        }
    }

    async fn agents(&self, tenant: &Tenant) -> Result<Vec<AgentStatus>, RouteError> {
        let open = self.open().await?;
        let token = self.inner.tokens.token(self.inner.clock.now()).await;
        let token = token.map_err(|error| unavailable(error.into()))?;
        let wanted = pb::ListAgentsRequest {
            organization: tenant.organization.to_string(),
            environment: tenant.environment.to_string(),
        };
        let request = with_token(wanted, &token.secret).map_err(refusal)?;
        let mut client = HubRoutingClient::new(open.channel.clone()).max_decoding_message_size(MAX_LIST);
        let listed = client.list_agents(request).await.map_err(refusal)?.into_inner();
        let read = |body: &Vec<u8>| serde_json::from_slice(body);
        let agents: Result<Vec<AgentStatus>, _> = listed.agents.iter().map(read).collect();
        agents.map_err(|error| unavailable(error.into()))
    }
}

/// Sends a body in pieces.
async fn push(open: &Open, call: u64, digest: Digest, mut body: Bytes) -> Result<(), RouteError> {
    loop {
        let data = body.split_to(PIECE.min(body.len()));
        let last = body.is_empty();
        let piece = pb::BlobPiece {
            digest: Bytes::copy_from_slice(digest.as_bytes()),
            data,
            last,
        };
        open.send(call, pb::caller_frame::Kind::Blob(piece)).await?;
        if last {
            return Ok(());
        }
    }
}

impl Open {
    async fn send(&self, call: u64, kind: pb::caller_frame::Kind) -> Result<(), RouteError> {
        let frame = pb::CallerFrame {
            call,
            skippable: false,
            kind: Some(kind),
        };
        self.out
            .send(frame)
            .await
            .map_err(|_| unavailable("the stream to the hub broke".into()))
    }

    fn check(&self) -> Result<(), RouteError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(unavailable("the stream to the hub broke".into()));
        }
        Ok(())
    }

    /// Passes updates to their readers; no reader can hold it up.
    async fn read(&self, mut answers: Streaming<pb::RouterFrame>) {
        while let Ok(Some(frame)) = answers.message().await {
            let call = frame.call;
            match frame.kind {
                Some(pb::router_frame::Kind::Placed(_)) => self.answer(call, Ok(())),
                Some(pb::router_frame::Kind::Refused(refused)) => {
                    self.answer(call, Err(refused));
                    self.calls().remove(&call);
                }
                Some(pb::router_frame::Kind::Update(update)) => self.pass(call, update_of(update)),
                None if frame.skippable => {}
                None => return,
            }
        }
    }

    fn answer(&self, call: u64, answer: Result<(), pb::Refused>) {
        let placed = self.calls().get_mut(&call).and_then(|call| call.placed.take());
        if let Some(placed) = placed {
            // Whoever does not wait any more has cancelled.
            let _ = placed.send(answer);
        }
    }

    fn pass(&self, call: u64, update: Update) {
        let last = matches!(update, Update::Finished(_));
        let mut calls = self.calls();
        if let Some(held) = calls.get(&call) {
            held.mailbox.post(update);
        }
        if last {
            calls.remove(&call);
        }
    }

    /// The stream is over: whatever was under way is lost.
    fn end(&self) {
        self.broken.store(true, Ordering::Relaxed);
        let calls = std::mem::take(&mut *self.calls());
        for call in calls.into_values() {
            call.mailbox
                .post(Update::Finished(Outcome::AgentLost { dispatched: true }));
        }
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<u64, Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads one command's updates; dropping it before the outcome tells the hub.
struct Reader {
    open: Arc<Open>,
    tasks: Tasks,
    call: u64,
    mailbox: Arc<Mailbox>,
    ended: bool,
}

impl Reader {
    async fn next(mut self) -> Option<(Update, Self)> {
        let update = self.mailbox.next(u64::MAX).await;
        self.ended = !matches!(update, Some(ref update) if !matches!(update, Update::Finished(_)));
        Some((update?, self))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.open.calls().remove(&self.call);
        if self.ended {
            return;
        }
        let frame = pb::CallerFrame {
            call: self.call,
            skippable: false,
            kind: Some(pb::caller_frame::Kind::Cancel(pb::CancelCall {})),
        };
        if let Err(mpsc::error::TrySendError::Full(frame)) = self.open.out.try_send(frame) {
            // Outside of a runtime the stream is about to end anyway.
            if tokio::runtime::Handle::try_current().is_ok() {
                let out = self.open.out.clone();
                self.tasks.spawn(|_stop| async move {
                    let _ = out.send(frame).await;
                });
            }
        }
    }
}

/// The wire's update as the domain's, or the failure that stands for it.
fn update_of(wire: agent_pb::Update) -> Update {
    Update::try_from(wire).unwrap_or_else(bad_command)
}

fn unavailable(source: BoxError) -> RouteError {
    RouteError::Unavailable { source }
}

fn refusal(status: Status) -> RouteError {
    match kind(status.code()) {
        ErrorKind::Denied | ErrorKind::Unauthenticated => RouteError::Denied {
            source: status.message().to_owned().into(),
        },
        _ => unavailable(status.into()),
    }
}

fn route_error(refused: &pb::Refused, to: &AgentKey) -> RouteError {
    let agent = to.clone();
    match refused.reason() {
        pb::Refusal::Denied => RouteError::Denied {
            source: refused.message.clone().into(),
        },
        pb::Refusal::Exhausted => RouteError::Exhausted { agent },
        pb::Refusal::Invalid => RouteError::Invalid {
            problem: refused.message.clone(),
        },
        pb::Refusal::NotFound => RouteError::NotFound { agent },
        pb::Refusal::Offline => RouteError::Offline { agent },
        pb::Refusal::Unavailable | pb::Refusal::Unspecified => unavailable(refused.message.clone().into()),
    }
}
