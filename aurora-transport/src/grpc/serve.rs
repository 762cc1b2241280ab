//! Serving gRPC and REST on one TLS listener.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aurora_core::tasks::{Stuck, Tasks};
use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::tls::ServerTls;

/// Connections that wait in the kernel: a reconnecting fleet comes all at once.
const BACKLOG: u32 = 4096;

/// Handshakes at a time; more wait, which costs no memory for keys.
const HANDSHAKES: usize = 64;

/// A handshake must be done within this time.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// HTTP/2 pings go out this often, and a peer that does not answer within half of it is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

/// Binds an address with a backlog for many agents.
///
/// # Errors
/// When the address cannot be bound.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves routes over TLS until `stop` is cancelled, then lets requests end for at most `grace`.
///
/// Each request carries its [`PeerAddress`] as an extension.
///
/// # Errors
/// [`Stuck`] when connections did not end in time.
///
/// # Cancel safety
/// Dropping the future ends all connections.
pub async fn serve(
    listener: TcpListener,
    tls: ServerTls,
    routes: Router,
    stop: CancellationToken,
    grace: Duration,
) -> Result<(), Stuck> {
    let tasks = Tasks::new();
    let abort = CancellationToken::new();
    let _whatever_happens = abort.clone().drop_guard();
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let acceptor = TlsAcceptor::from(tls.config());
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: they come back as connections end.
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let connection = Connection {
            acceptor: acceptor.clone(),
            handshakes: Arc::clone(&handshakes),
            routes: routes.clone(),
            executor: OwnedTasks {
                tasks: tasks.clone(),
                abort: abort.clone(),
            },
        };
        let abort = abort.clone();
        tasks.spawn(|stop| async move {
            tokio::select! {
                biased;
                () = abort.cancelled() => {}
                () = connection.serve(stream, peer, stop) => {}
            }
        });
    }
    drop(listener);
    let in_time = tasks.drain(grace).await;
    if in_time.is_err() {
        abort.cancel();
        // What was aborted only has to be dropped.
        let _ = tasks.drain(Duration::from_secs(1)).await;
    }
    in_time
}

struct Connection {
    acceptor: TlsAcceptor,
    handshakes: Arc<Semaphore>,
    routes: Router,
    executor: OwnedTasks,
}

impl Connection {
    async fn serve(self, stream: TcpStream, peer: SocketAddr, stop: CancellationToken) {
        // Small frames must not wait for more.
        let _ = stream.set_nodelay(true);
        let handshake = async {
            let _permit = self.handshakes.acquire().await.ok()?;
            tokio::time::timeout(HANDSHAKE_WITHIN, self.acceptor.accept(stream))
                .await
                .ok()?
                .ok()
        };
        let Some(stream) = handshake.await else {
            tracing::debug!(%peer, "no TLS handshake");
            return;
        };
        let mut builder = Builder::new(self.executor);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(10));
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE / 2)
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .max_concurrent_streams(256)
            .max_header_list_size(32 * 1024)
            .max_send_buf_size(128 * 1024);
        let service = TowerToHyperService::new(self.routes.layer(Extension(PeerAddress(peer))));
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, error, "connection ended");
        }
    }
}

/// Runs a connection's own tasks where they have an owner and end with it.
#[derive(Clone)]
struct OwnedTasks {
    tasks: Tasks,
    abort: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for OwnedTasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        let abort = self.abort.clone();
        self.tasks.spawn(|_stop| async move {
            tokio::select! {
                biased;
                () = abort.cancelled() => {}
                _done = future => {}
            }
        });
    }
}
