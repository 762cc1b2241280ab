//! The agent's side: sessions and blobs over one TLS connection to a hub.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aurora_core::digest::Digest;
use aurora_core::error::{BoxError, ErrorKind};
use aurora_core::hub::MAX_BLOB_BYTES;
use aurora_core::port::transport::{AgentLink, Connector, LINK_CAPACITY, Link, TransportError};
use aurora_core::secret::Secret;
use aurora_core::session::{FromAgent, FromHub, MAX_ENVELOPE_BYTES};
use aurora_core::tasks::Tasks;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::bearer::with_token;
use super::proto::agent as pb;
use super::proto::agent::agent_hub_client::AgentHubClient;
use super::status::kind;
use super::trust::Trust;
use super::wire::{Incoming, agent_frame, bad_command, from_hub_frame};

/// A connection must be there within this time.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// HTTP/2 pings go out this often, so that a dead way is noticed below the session too.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Dials a hub; each session has a connection of its own, made with the CA bundle of that moment.
#[derive(Debug)]
pub struct GrpcConnector {
    endpoint: Endpoint,
    trust: Trust,
    tasks: Tasks,
    /// The connection of the newest session, for fetching blobs.
    channel: Mutex<Option<Channel>>,
}

/// The address of a hub, or the way to it, cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the hub's address `{address}` cannot be used: {problem}")]
pub struct InvalidEndpoint {
    /// What was given.
    pub address: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl InvalidEndpoint {
    /// What can be done about it.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl GrpcConnector {
    /// Dials `https://host:port`.
    ///
    /// # Errors
    /// [`InvalidEndpoint`] for anything but an https address without a path.
    pub fn new(address: &str, trust: Trust) -> Result<Self, InvalidEndpoint> {
        Ok(Self {
            endpoint: endpoint(address)?,
            trust,
            tasks: Tasks::new(),
            channel: Mutex::new(None),
        })
    }

    /// Goes through an HTTP proxy.
    ///
    /// # Errors
    /// Always, so far: sessions through a proxy are not built yet, and going around one that was asked for
    /// would be wrong.
    pub fn with_proxy(self, proxy: &str) -> Result<Self, InvalidEndpoint> {
        Err(InvalidEndpoint {
            address: self.endpoint.uri().to_string(),
            problem: format!(
                "sessions through a proxy are not supported yet; unset HTTPS_PROXY (`{proxy}`) or list the hub in NO_PROXY"
            ),
        })
    }

    async fn dial(&self) -> Result<Channel, TransportError> {
        dial(&self.endpoint, &self.trust)
            .await
            .map_err(|source| TransportError::Unreachable { source })
    }

    fn last_channel(&self) -> Option<Channel> {
        self.channel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Checks an address and sets what all connections have.
pub(super) fn endpoint(address: &str) -> Result<Endpoint, InvalidEndpoint> {
    let invalid = |problem: &str| InvalidEndpoint {
        address: address.to_owned(),
        problem: problem.to_owned(),
    };
    let endpoint =
        Endpoint::from_shared(address.to_owned()).map_err(|_| invalid("write https://host:port"))?;
    let uri = endpoint.uri();
    if uri.scheme_str() != Some("https") {
        return Err(invalid("only https is spoken; write https://host:port"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(invalid("it has a path; write https://host:port"));
    }
    Ok(endpoint
        .connect_timeout(CONNECT_WITHIN)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE / 2)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024))
}

/// Opens a connection with the CA bundle of now.
pub(super) async fn dial(endpoint: &Endpoint, trust: &Trust) -> Result<Channel, BoxError> {
    let configured = endpoint.clone().tls_config(trust.config()?)?;
    Ok(configured.connect().await?)
}

#[async_trait]
impl Connector for GrpcConnector {
    async fn connect(&self, token: &Secret) -> Result<AgentLink, TransportError> {
        let channel = self.dial().await?;
        let (out, outgoing) = mpsc::channel::<FromAgent>(LINK_CAPACITY);
        let (tx, rx) = mpsc::channel::<FromHub>(LINK_CAPACITY);
        let epoch = Arc::new(AtomicU64::new(0));
        let over = CancellationToken::new();
        let stamp = Arc::clone(&epoch);
        let frames = ReceiverStream::new(outgoing)
            .map(move |frame| agent_frame(frame, stamp.load(Ordering::Relaxed)))
            .take_until(over.clone().cancelled_owned());
        let request = with_token(frames, token).map_err(refusal)?;
        let mut client = client(channel.clone());
        let incoming = client.session(request).await.map_err(refusal)?.into_inner();
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = Some(channel);
        let back = out.downgrade();
        self.tasks.spawn(|stop| async move {
            let _over = over.drop_guard();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = pump(incoming, tx, back, epoch) => {}
            }
        });
        Ok(Link { tx: out, rx })
    }

    async fn fetch(&self, token: &Secret, digest: Digest) -> Result<Bytes, TransportError> {
        let channel = match self.last_channel() {
            Some(channel) => channel,
            None => self.dial().await?,
        };
        let message = pb::FetchBlobRequest {
            digest: digest.as_bytes().to_vec(),
            offset: 0,
        };
        let not_found = |status: Status| match status.code() {
            tonic::Code::NotFound => TransportError::NotFound { digest },
            _ => refusal(status),
        };
        let request = with_token(message, token).map_err(refusal)?;
        let mut chunks = client(channel)
            .fetch_blob(request)
            .await
            .map_err(not_found)?
            .into_inner();
        let mut body = BytesMut::new();
        while let Some(chunk) = chunks.message().await.map_err(not_found)? {
            if body.len() + chunk.data.len() > MAX_BLOB_BYTES {
                return Err(TransportError::Protocol {
                    problem: format!("a body of more than {MAX_BLOB_BYTES} bytes"),
                });
            }
            body.extend_from_slice(&chunk.data);
        }
        let body = body.freeze();
        if Digest::of(&body) != digest {
            return Err(TransportError::Protocol {
                problem: format!("the body of {digest} arrived with another digest"),
            });
        }
        Ok(body)
    }
}

fn client(channel: Channel) -> AgentHubClient<Channel> {
    AgentHubClient::new(channel)
        .max_decoding_message_size(MAX_ENVELOPE_BYTES)
        .max_encoding_message_size(MAX_ENVELOPE_BYTES)
}

/// Passes the hub's frames on until either side is done.
async fn pump(
    mut incoming: Streaming<pb::HubFrame>,
    tx: mpsc::Sender<FromHub>,
    back: mpsc::WeakSender<FromAgent>,
    epoch: Arc<AtomicU64>,
) {
    loop {
        let frame = tokio::select! {
            biased;
            () = tx.closed() => return,
            frame = incoming.message() => frame,
        };
        let wire = match frame {
            Ok(Some(wire)) => wire,
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(code = ?status.code(), message = status.message(), "session broke");
                return;
            }
        };
        match from_hub_frame(wire) {
            Ok(Incoming::Frame(frame)) => {
                if let FromHub::Welcome(welcome) = &frame {
                    epoch.store(welcome.epoch, Ordering::Relaxed);
                }
                if tx.send(frame).await.is_err() {
                    return;
                }
            }
            Ok(Incoming::Skipped) => {}
            Ok(Incoming::Failed(request, bad)) => {
                tracing::warn!(%request, error = %bad, "command cannot be read");
                let Some(back) = back.upgrade() else { return };
                let update = bad_command(bad);
                if back.send(FromAgent::Update { request, update }).await.is_err() {
                    return;
                }
            }
            Err(bad) => {
                tracing::warn!(error = %bad, "the hub broke the protocol");
                return;
            }
        }
    }
}

fn refusal(status: Status) -> TransportError {
    match kind(status.code()) {
        ErrorKind::Unauthenticated => TransportError::Unauthenticated {
            source: status.message().to_owned().into(),
        },
        ErrorKind::Exhausted => TransportError::Busy {
            retry_after: Duration::from_secs(1),
        },
        _ => TransportError::Unreachable {
            source: status.into(),
        },
    }
}
