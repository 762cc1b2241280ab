//! The hub's side: authenticates sessions and hands them to the hub, and serves blobs.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use aurora_core::port::clock::Clock;
use aurora_core::port::token::TokenVerifier;
use aurora_core::port::transport::{BlobOffer, Incoming, LINK_CAPACITY, Link, Listener};
use aurora_core::session::{FromAgent, FromHub, MAX_ENVELOPE_BYTES};
use aurora_core::tasks::Tasks;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::authenticate::authenticate;
use super::proto::agent as pb;
use super::proto::agent::agent_hub_server::{AgentHub, AgentHubServer};
use super::serve::PeerAddress;
use super::wire::{self, bad_command, digest, from_agent_frame, hub_frame};

/// Sessions that wait to be accepted; one more is told to come back later.
const ACCEPT_CAPACITY: usize = 256;

/// A piece of a body.
const CHUNK: usize = 32 * 1024;

/// Accepts sessions over gRPC; clones are one listener.
#[derive(Clone)]
pub struct GrpcListener {
    inner: Arc<Inner>,
}

struct Inner {
    verifier: Arc<dyn TokenVerifier>,
    clock: Arc<dyn Clock>,
    offer: Arc<dyn BlobOffer>,
    arrived: mpsc::Sender<Incoming>,
    waiting: Mutex<mpsc::Receiver<Incoming>>,
    closed: AtomicBool,
    close: CancellationToken,
    tasks: Tasks,
}

impl fmt::Debug for GrpcListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcListener").finish_non_exhaustive()
    }
}

impl GrpcListener {
    /// Verifies with `verifier`, and offers the bodies of `offer`: the hub that accepts from here.
    pub fn new(verifier: impl TokenVerifier, clock: impl Clock, offer: impl BlobOffer) -> Self {
        let (arrived, waiting) = mpsc::channel(ACCEPT_CAPACITY);
        Self {
            inner: Arc::new(Inner {
                verifier: Arc::new(verifier),
                clock: Arc::new(clock),
                offer: Arc::new(offer),
                arrived,
                waiting: Mutex::new(waiting),
                closed: AtomicBool::new(false),
                close: CancellationToken::new(),
                tasks: Tasks::new(),
            }),
        }
    }

    /// The service, to be served beside others on one port.
    pub fn routes(&self) -> Routes {
        let service = AgentHubServer::new(Service {
            inner: Arc::clone(&self.inner),
        })
        .max_decoding_message_size(MAX_ENVELOPE_BYTES)
        .max_encoding_message_size(MAX_ENVELOPE_BYTES);
        Routes::new(service)
    }

    /// Accepts no more sessions; those that are open stay.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::Relaxed);
        self.inner.close.cancel();
    }
}

#[async_trait]
impl Listener for GrpcListener {
    async fn accept(&self) -> Option<Incoming> {
        let mut waiting = self.inner.waiting.lock().await;
        tokio::select! {
            biased;
            () = self.inner.close.cancelled() => None,
            incoming = waiting.recv() => incoming,
        }
    }
}

struct Service {
    inner: Arc<Inner>,
}

type BoxedFrames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[async_trait]
impl AgentHub for Service {
    type SessionStream = BoxedFrames<pb::HubFrame>;
    type FetchBlobStream = BoxedFrames<pb::BlobChunk>;

    async fn session(
        &self,
        request: Request<Streaming<pb::AgentFrame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let inner = &self.inner;
        let now = inner.clock.now();
        let principal = authenticate(request.metadata(), &*inner.verifier, now).await?;
        if inner.closed.load(Ordering::Relaxed) {
            return Err(Status::unavailable("the hub stops"));
        }
        let address = request
            .extensions()
            .get::<PeerAddress>()
            .map_or_else(|| "unknown".to_owned(), |peer| peer.0.to_string());
        let (tx, outgoing) = mpsc::channel::<FromHub>(LINK_CAPACITY);
        let (into_hub, rx) = mpsc::channel::<FromAgent>(LINK_CAPACITY);
        let incoming = Incoming {
            principal,
            address,
            link: Link { tx, rx },
        };
        inner
            .arrived
            .try_send(incoming)
            .map_err(|_| Status::resource_exhausted("too many sessions are being opened"))?;
        let epoch = Arc::new(AtomicU64::new(0));
        let over = CancellationToken::new();
        let stamp = Arc::clone(&epoch);
        let frames = ReceiverStream::new(outgoing)
            .map(move |frame| {
                if let FromHub::Welcome(welcome) = &frame {
                    stamp.store(welcome.epoch, Ordering::Relaxed);
                }
                Ok(hub_frame(frame, stamp.load(Ordering::Relaxed)))
            })
            .take_until(over.clone().cancelled_owned());
        let stream = request.into_inner();
        inner.tasks.spawn(|stop| async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = pump(stream, into_hub, epoch) => {}
            }
            // The hub's last frames, its goodbye among them, go out; then the stream ends with the link.
            drop(over);
        });
        Ok(Response::new(Box::pin(frames)))
    }

    async fn fetch_blob(
        &self,
        request: Request<pb::FetchBlobRequest>,
    ) -> Result<Response<Self::FetchBlobStream>, Status> {
        let inner = &self.inner;
        let principal = authenticate(request.metadata(), &*inner.verifier, inner.clock.now()).await?;
        let wanted = request.into_inner();
        let name =
            digest(&wanted.digest, "digest").map_err(|bad| Status::invalid_argument(bad.to_string()))?;
        let body = inner
            .offer
            .offered(&principal, name)
            .ok_or_else(|| Status::not_found("no command in hand names this body"))?;
        let offset = usize::try_from(wanted.offset).unwrap_or(usize::MAX);
        if offset > body.len() {
            return Err(Status::invalid_argument("the offset is beyond the end"));
        }
        Ok(Response::new(Box::pin(pieces(body, offset))))
    }
}

fn pieces(body: Bytes, offset: usize) -> impl Stream<Item = Result<pb::BlobChunk, Status>> + Send {
    let total = body.len() as u64;
    futures::stream::unfold(body.slice(offset..), move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        let data = rest.split_to(CHUNK.min(rest.len()));
        Some((Ok(pb::BlobChunk { data, total }), rest))
    })
}

/// Passes the agent's frames on until either side is done.
async fn pump(mut stream: Streaming<pb::AgentFrame>, tx: mpsc::Sender<FromAgent>, epoch: Arc<AtomicU64>) {
    loop {
        let frame = tokio::select! {
            biased;
            () = tx.closed() => return,
            frame = stream.message() => frame,
        };
        let wire = match frame {
            Ok(Some(wire)) => wire,
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(code = ?status.code(), message = status.message(), "session broke");
                return;
            }
        };
        if wire.epoch != epoch.load(Ordering::Relaxed) {
            tracing::debug!(wire.epoch, "frame of another epoch dropped");
            continue;
        }
        let frame = match from_agent_frame(wire) {
            Ok(wire::Incoming::Frame(frame)) => frame,
            Ok(wire::Incoming::Skipped) => continue,
            Ok(wire::Incoming::Failed(request, bad)) => FromAgent::Update {
                request,
                update: bad_command(bad),
            },
            Err(bad) => {
                tracing::warn!(error = %bad, "an agent broke the protocol");
                return;
            }
        };
        if tx.send(frame).await.is_err() {
            return;
        }
    }
}
