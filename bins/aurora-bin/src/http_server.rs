//! A router served over TCP or TLS: bound first, then served until it is told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aurora_core::tasks::{Stuck, Tasks};
use aurora_transport::grpc::{PeerAddress, listen};
use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// A client has this long for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// And this long to send the head of a request.
const HEAD: Duration = Duration::from_secs(10);

/// So many connections are served at once; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;

/// So many requests of one HTTP/2 connection are served at once.
const MAX_STREAMS: u32 = 256;

/// The head of a request has at most so many bytes.
const MAX_HEAD: u32 = 32 * 1024;

/// So many bytes of one request may be under way before they are read, and of all requests of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// HTTP/2 pings go out this often, and a peer that does not answer within half of it is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// After a failed accept, such as too many open files, the next one waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound listener that does not serve yet.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
}

impl HttpServer {
    /// Binds an address; port 0 takes any free one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Result<Self> {
        let listener = listen(address)
            .with_context(|| format!("{address} cannot be bound; is something else listening there?"))?;
        let address = listener.local_addr().context("the bound address is not known")?;
        Ok(Self {
            listener,
            address,
            tls,
        })
    }

    /// The bound address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Serves until `stop`, then lets requests in hand finish for `grace`.
    ///
    /// # Errors
    /// [`Stuck`] when some connections did not end within the grace period.
    ///
    /// # Cancel safety
    /// Dropping the future drops the listener and tells connections to end, without waiting for them.
    pub async fn serve(self, router: Router, stop: CancellationToken, grace: Duration) -> Result<(), Stuck> {
        let tasks = Tasks::new();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let acceptor = self.tls.map(TlsAcceptor::from);
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = accept(&self.listener, &places) => accepted,
            };
            let Some((socket, peer, place)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let (router, acceptor) = (router.clone(), acceptor.clone());
            tasks.spawn(|stop| async move {
                let _place = place;
                match acceptor {
                    None => converse(socket, peer, router, stop).await,
                    Some(acceptor) => {
                        let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(socket)).await;
                        match handshake {
                            Ok(Ok(stream)) => converse(stream, peer, router, stop).await,
                            Ok(Err(error)) => tracing::debug!(%peer, %error, "handshake failed"),
                            Err(_) => tracing::debug!(%peer, "handshake took too long"),
                        }
                    }
                }
            });
        }
        drop(self.listener);
        tasks.drain(grace).await
    }
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// The next connection, once there is a place for it; `None` where accepting failed.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<Accepted> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((socket, peer)) => {
            // Small answers should not wait for each other.
            let _ = socket.set_nodelay(true);
            Some((socket, peer, place))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection cannot be accepted");
            None
        }
    }
}

async fn converse<S>(stream: S, peer: SocketAddr, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = router.map_request(move |mut request: Request<_>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(PeerAddress(peer));
        request
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .keep_alive_timeout(KEEP_ALIVE / 2);
    let connection =
        builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use aurora_core::port::http::{HttpCall, HttpCaller as _};
    use aurora_transport::http::{EgressRules, ReqwestCaller, Roots};
    use axum::routing::get;
    use jiff::Timestamp;
    use tokio::sync::Notify;

    use super::*;
    use crate::tls::Authority;

    fn local() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[tokio::test]
    async fn a_request_in_hand_is_finished_and_a_new_one_refused() {
        let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (inside, out) = (Arc::clone(&entered), Arc::clone(&leave));
        let router = Router::new().route(
            "/slow",
            get(async move || {
                inside.notify_one();
                out.notified().await;
                "done"
            }),
        );
        let server = HttpServer::bind(local(), None).await.unwrap();
        let url = format!("{}/slow", server.url());
        let stop = CancellationToken::new();
        let caller = ReqwestCaller::new(EgressRules::public_only().with_loopback(), Roots::System).unwrap();
        let client = async {
            let answer = caller.call(HttpCall::fetch(&url));
            let conductor = async {
                entered.notified().await;
                stop.cancel();
                leave.notify_one();
            };
            tokio::join!(answer, conductor).0
        };
        let (served, answer) = tokio::join!(
            server.serve(router, stop.clone(), Duration::from_secs(10)),
            client
        );
        assert_eq!(served, Ok(()));
        assert_eq!(answer.unwrap().body, "done");
        assert!(caller.call(HttpCall::fetch(&url)).await.is_err());
    }

    #[tokio::test]
    async fn a_generated_certificate_is_trusted_by_its_authority_alone() {
        let now = Timestamp::now();
        let identity = Authority::generate(now).unwrap().server(&[], now).unwrap();
        let tls = identity.server_config(&["h2", "http/1.1"]).unwrap();
        let server = HttpServer::bind(local(), Some(tls)).await.unwrap();
        let router = Router::new().route(
            "/",
            get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.ip().to_string()),
        );
        let stop = CancellationToken::new();
        let url = server.url();
        let client = async {
            let rules = || EgressRules::public_only().with_loopback();
            let ours = Roots::Only(identity.authority.clone().unwrap().into());
            let trusting = ReqwestCaller::new(rules(), ours).unwrap();
            let strange = ReqwestCaller::new(rules(), Roots::System).unwrap();
            let answers = (
                trusting.call(HttpCall::fetch(&url)).await,
                strange.call(HttpCall::fetch(&url)).await,
            );
            stop.cancel();
            answers
        };
        let (served, (trusted, refused)) = tokio::join!(
            server.serve(router, stop.clone(), Duration::from_secs(10)),
            client
        );
        assert_eq!(served, Ok(()));
        assert_eq!(trusted.unwrap().body, "127.0.0.1");
        assert!(refused.is_err());
    }
}
