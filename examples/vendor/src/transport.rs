//! A transport of one's own: sessions as length-prefixed frames over plain TCP.
//!
//! A session is what a [`Link`] says: frames in order, a bound, an end. This one opens with a greeting
//! (what is wanted, and the token), gets a byte as the answer, and then carries frames both ways. Use it
//! as a pattern for whatever carries bytes where you are; put TLS under it, since a token is a secret.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aurora_core::digest::Digest;
use aurora_core::error::ErrorKind;
use aurora_core::hub::MAX_BLOB_BYTES;
use aurora_core::port::clock::Clock;
use aurora_core::port::token::TokenVerifier;
use aurora_core::port::transport::{
    AgentLink, BlobOffer, Connector, HubLink, Incoming, Link, Listener, TransportError, link,
};
use aurora_core::secret::Secret;
use aurora_core::session::{FromAgent, FromHub, MAX_ENVELOPE_BYTES};
use aurora_core::tasks::Tasks;
use aurora_transport::grpc::frame::{
    Decoded, decode_from_agent, decode_from_hub, encode_from_agent, encode_from_hub,
};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};

/// A greeting must be there within this time.
const GREETING_WITHIN: Duration = Duration::from_secs(10);

/// Sessions that wait to be accepted; when it is full, greetings wait for their answer.
const WAITING: usize = 64;

/// The longest token.
const MAX_TOKEN: usize = 16 * 1024;

/// What a greeting asks for.
const SESSION: u8 = b'S';
const BLOB: u8 = b'B';

/// What a greeting is answered with.
const WELCOME: u8 = 0;
const REFUSED: u8 = 1;
const NOT_FOUND: u8 = 2;
const LATER: u8 = 3;

/// Dials a [`TcpSessions`].
#[derive(Debug)]
pub struct TcpConnector {
    address: SocketAddr,
    tasks: Tasks,
}

impl TcpConnector {
    /// Dials this address.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            tasks: Tasks::new(),
        }
    }

    async fn greet(&self, what: u8, token: &Secret) -> Result<TcpStream, TransportError> {
        let greeted = async {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            stream.write_u8(what).await?;
            write_frame(&mut stream, token.expose().as_bytes()).await?;
            io::Result::Ok(stream)
        };
        greeted.await.map_err(unreachable)
    }
}

fn unreachable(error: io::Error) -> TransportError {
    TransportError::Unreachable { source: error.into() }
}

fn answered(answer: u8, digest: Option<Digest>) -> Result<(), TransportError> {
    match (answer, digest) {
        (WELCOME, _) => Ok(()),
        (REFUSED, _) => Err(TransportError::Unauthenticated {
            source: "the token is not accepted".into(),
        }),
        (NOT_FOUND, Some(digest)) => Err(TransportError::NotFound { digest }),
        (LATER, _) => Err(TransportError::Busy {
            retry_after: Duration::from_secs(1),
        }),
        (other, _) => Err(TransportError::Protocol {
            problem: format!("answer {other}"),
        }),
    }
}

#[async_trait]
impl Connector for TcpConnector {
    async fn connect(&self, token: &Secret) -> Result<AgentLink, TransportError> {
        let mut stream = self.greet(SESSION, token).await?;
        answered(stream.read_u8().await.map_err(unreachable)?, None)?;
        let (near, far) = link();
        let back = near.tx.downgrade();
        self.tasks.spawn(|_| agents_side(stream, far, back));
        Ok(near)
    }

    async fn fetch(&self, token: &Secret, digest: Digest) -> Result<Bytes, TransportError> {
        let mut stream = self.greet(BLOB, token).await?;
        stream.write_all(digest.as_bytes()).await.map_err(unreachable)?;
        answered(stream.read_u8().await.map_err(unreachable)?, Some(digest))?;
        let body = read_frame(&mut stream, MAX_BLOB_BYTES)
            .await
            .map_err(unreachable)?;
        let body = body.unwrap_or_default();
        if Digest::of(&body) != digest {
            return Err(TransportError::Protocol {
                problem: format!("the body of {digest} arrived with another digest"),
            });
        }
        Ok(body)
    }
}

/// Accepts sessions over TCP.
#[derive(Debug)]
pub struct TcpSessions {
    address: SocketAddr,
    arrived: Mutex<mpsc::Receiver<Incoming>>,
    /// Ends the listening and all sessions when it is dropped.
    _tasks: Tasks,
}

#[derive(Debug)]
struct Gate {
    verifier: Arc<dyn TokenVerifier>,
    clock: Arc<dyn Clock>,
    offer: Arc<dyn BlobOffer>,
    arrived: mpsc::Sender<Incoming>,
}

impl TcpSessions {
    /// Listens; `offer` is the hub, which has the bodies that agents fetch.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(
        address: SocketAddr,
        verifier: impl TokenVerifier,
        clock: impl Clock,
        offer: impl BlobOffer,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (tx, rx) = mpsc::channel(WAITING);
        let gate = Arc::new(Gate {
            verifier: Arc::new(verifier),
            clock: Arc::new(clock),
            offer: Arc::new(offer),
            arrived: tx,
        });
        let tasks = Tasks::new();
        let sessions = Tasks::stopped_by(&tasks.stop_token());
        tasks.spawn(|stop| async move {
            let listening = async {
                while let Ok((stream, peer)) = listener.accept().await {
                    let gate = Arc::clone(&gate);
                    sessions.spawn(|stop| async move {
                        stop.run_until_cancelled(gate.serve(stream, peer)).await;
                    });
                }
            };
            stop.run_until_cancelled(listening).await;
        });
        Ok(Self {
            address,
            arrived: Mutex::new(rx),
            _tasks: tasks,
        })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

#[async_trait]
impl Listener for TcpSessions {
    async fn accept(&self) -> Option<Incoming> {
        self.arrived.lock().await.recv().await
    }
}

impl Gate {
    /// A connection that breaks needs no answer.
    async fn serve(&self, mut stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let greeting = tokio::time::timeout(GREETING_WITHIN, read_greeting(&mut stream)).await;
        let Ok(Ok((what, token, digest))) = greeting else {
            return;
        };
        let principal = match self.verifier.verify(&token, self.clock.now()).await {
            Ok(principal) => principal,
            Err(error) => {
                let refused = error.kind() == ErrorKind::Unauthenticated;
                let _ = stream.write_u8(if refused { REFUSED } else { LATER }).await;
                return;
            }
        };
        if what == BLOB {
            let _ = match self.offer.offered(&principal, digest) {
                Some(body) if stream.write_u8(WELCOME).await.is_ok() => write_frame(&mut stream, &body).await,
                Some(_) => Ok(()),
                None => stream.write_u8(NOT_FOUND).await,
            };
            return;
        }
        if stream.write_u8(WELCOME).await.is_err() {
            return;
        }
        let (near, far) = link();
        let address = peer.to_string();
        let incoming = Incoming {
            principal,
            address,
            link: near,
        };
        if self.arrived.send(incoming).await.is_ok() {
            hubs_side(stream, far).await;
        }
    }
}

async fn read_greeting(stream: &mut TcpStream) -> io::Result<(u8, Secret, Digest)> {
    let what = stream.read_u8().await?;
    let token = read_frame(stream, MAX_TOKEN).await?.unwrap_or_default();
    let token = String::from_utf8(token.to_vec()).map_err(io::Error::other)?;
    let mut digest = [0; 32];
    if what == BLOB {
        stream.read_exact(&mut digest).await?;
    }
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let digest = format!("sha256:{hex}").parse().map_err(io::Error::other)?;
    Ok((what, Secret::new(token), digest))
}

/// What is to be done with bytes that came.
enum Read<T> {
    /// Pass this on.
    Frame(T),
    /// Nothing.
    Nothing,
    /// Answer with this; the session goes on.
    Answer(FromAgent),
    /// End the session.
    End,
}

/// Passes frames between the socket and the agent's link, until either ends.
async fn agents_side(stream: TcpStream, link: HubLink, back: mpsc::WeakSender<FromAgent>) {
    let epoch = Arc::new(AtomicU64::new(0));
    let (from, to) = stream.into_split();
    let Link { tx, rx } = link;
    let stamp = Arc::clone(&epoch);
    let up = send(to, rx, move |frame| {
        encode_from_agent(frame, stamp.load(Ordering::Relaxed))
    });
    let read = move |bytes| match decode_from_hub(bytes) {
        Ok(Decoded::Frame(frame)) => {
            if let FromHub::Welcome(welcome) = &frame {
                epoch.store(welcome.epoch, Ordering::Relaxed);
            }
            Read::Frame(frame)
        }
        Ok(Decoded::Skipped) => Read::Nothing,
        // A command that cannot be read is answered.
        Ok(Decoded::Failed(request, update)) => Read::Answer(FromAgent::Update { request, update }),
        Err(_) => Read::End,
    };
    tokio::select! {
        () = up => {}
        () = receive(from, tx, Some(back), read) => {}
    }
}

/// Passes frames between the socket and the hub's link, until either ends.
async fn hubs_side(stream: TcpStream, link: AgentLink) {
    let epoch = Arc::new(AtomicU64::new(0));
    let (from, to) = stream.into_split();
    let Link { tx, rx } = link;
    let down = send(to, rx, move |frame: FromHub| {
        if let FromHub::Welcome(welcome) = &frame {
            epoch.store(welcome.epoch, Ordering::Relaxed);
        }
        encode_from_hub(frame, epoch.load(Ordering::Relaxed))
    });
    let read = |bytes| match decode_from_agent(bytes) {
        Ok(Decoded::Frame(frame)) => Read::Frame(frame),
        Ok(Decoded::Skipped) => Read::Nothing,
        Ok(Decoded::Failed(request, update)) => Read::Frame(FromAgent::Update { request, update }),
        Err(_) => Read::End,
    };
    tokio::select! {
        () = down => {}
        () = receive(from, tx, None, read) => {}
    }
}

/// Sends frames until there are no more or the socket breaks.
async fn send<T>(
    mut to: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<T>,
    encode: impl Fn(T) -> Bytes,
) {
    while let Some(frame) = frames.recv().await {
        if write_frame(&mut to, &encode(frame)).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// Receives frames until the other side ends, a frame is none, or nobody listens.
async fn receive<T>(
    mut from: impl AsyncRead + Unpin,
    tx: mpsc::Sender<T>,
    back: Option<mpsc::WeakSender<FromAgent>>,
    read: impl Fn(Bytes) -> Read<T>,
) {
    loop {
        let frame = tokio::select! {
            biased;
            () = tx.closed() => return,
            frame = read_frame(&mut from, MAX_ENVELOPE_BYTES) => frame,
        };
        let Ok(Some(bytes)) = frame else { return };
        let passed = match read(bytes) {
            Read::Frame(frame) => tx.send(frame).await.is_ok(),
            Read::Nothing => true,
            Read::Answer(frame) => match back.as_ref().and_then(mpsc::WeakSender::upgrade) {
                Some(back) => back.send(frame).await.is_ok(),
                None => false,
            },
            Read::End => false,
        };
        if !passed {
            return;
        }
    }
}

async fn write_frame(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_u32(length).await?;
    to.write_all(bytes).await
}

/// The next frame; `None` where the other side has ended between two of them.
async fn read_frame(from: &mut (impl AsyncRead + Unpin), max: usize) -> io::Result<Option<Bytes>> {
    let length = match from.read_u32().await {
        Ok(length) => usize::try_from(length).map_err(io::Error::other)?,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > max {
        return Err(io::Error::other(format!(
            "a frame of {length} bytes; at most {max} are taken"
        )));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok(Some(bytes.into()))
}
