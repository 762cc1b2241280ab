//! The limit to compare with: a raw tonic bidirectional stream whose client sends back what it gets.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::stream::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::StreamingService;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::Service;

/// The stream's path.
const PATH: &str = "/aurora.bench.Echo/Stream";

/// Frames that wait on either side; a sender waits when it is full.
const CAPACITY: usize = 256;

/// A stream that a client opened: what is sent comes back.
#[derive(Debug)]
pub struct Opened {
    /// Frames to the client.
    pub tx: mpsc::Sender<Result<Bytes, Status>>,
    /// The same frames, back.
    pub rx: Streaming<Bytes>,
}

/// Serves the stream; each one that is opened is handed on.
#[derive(Clone, Debug)]
pub struct EchoServer {
    opened: mpsc::Sender<Opened>,
}

impl EchoServer {
    /// A server, and where opened streams arrive.
    pub fn new() -> (Self, mpsc::Receiver<Opened>) {
        let (opened, arrived) = mpsc::channel(CAPACITY);
        (Self { opened }, arrived)
    }
}

impl StreamingService<Bytes> for EchoServer {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Result<Bytes, Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (tx, frames) = mpsc::channel(CAPACITY);
        let opened = Opened {
            tx,
            rx: request.into_inner(),
        };
        ready(match self.opened.try_send(opened) {
            Ok(()) => Ok(Response::new(ReceiverStream::new(frames))),
            Err(_) => Err(Status::resource_exhausted("too many streams")),
        })
    }
}

impl Service<http::Request<Body>> for EchoServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Bytes, Bytes>::default());
            Ok(grpc.streaming(service, request).await)
        })
    }
}

impl tonic::server::NamedService for EchoServer {
    const NAME: &'static str = "aurora.bench.Echo";
}

/// Opens a stream and sends back whatever comes, until it ends.
///
/// # Errors
/// When the stream breaks.
pub async fn echo(channel: tonic::transport::Channel) -> Result<(), Status> {
    let (tx, frames) = mpsc::channel(CAPACITY);
    let frames: Pin<Box<dyn Stream<Item = Bytes> + Send>> = ReceiverStream::new(frames).boxed();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let path = http::uri::PathAndQuery::from_static(PATH);
    let codec = ProstCodec::<Bytes, Bytes>::default();
    let mut back = grpc
        .streaming(Request::new(frames), path, codec)
        .await?
        .into_inner();
    while let Some(frame) = back.message().await? {
        if tx.send(frame).await.is_err() {
            break;
        }
    }
    Ok(())
}
