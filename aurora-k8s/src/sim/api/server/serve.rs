//! Connections of the TLS server: who may ask, and when a write may be answered.

use std::sync::Arc;
use std::task::{Context, Poll};

use aurora_core::secret::Secret;
use aurora_core::tasks::Tasks;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Response, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::{BoxError, Service};

use super::Stored;
use crate::sim::api::error::ApiError;
use crate::sim::api::{ApiBody, KubeApi, Outcome, encode};

/// Accepts connections until `stop`, then lets the open ones finish.
pub(super) async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    guarded: Guarded,
    tasks: Tasks,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _peer)) => {
                let (tls, guarded, owner) = (tls.clone(), guarded.clone(), tasks.clone());
                tasks.spawn(|stop| connection(stream, tls, guarded, owner, stop));
            }
            Err(error) => {
                // Out of file handles, mostly: connections that end give some back.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    tls: TlsAcceptor,
    guarded: Guarded,
    tasks: Tasks,
    stop: CancellationToken,
) {
    // Watch events are small and must not wait for more.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection stays without TCP_NODELAY");
    }
    let handshake = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        handshake = tls.accept(stream) => handshake,
    };
    let stream = match handshake {
        Ok(stream) => TokioIo::new(stream),
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake failed");
            return;
        }
    };
    let builder = auto::Builder::new(Spawn(tasks));
    let mut serving = std::pin::pin!(builder.serve_connection(stream, TowerToHyperService::new(guarded)));
    let served = tokio::select! {
        biased;
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
        served = &mut serving => served,
    };
    if let Err(error) = served {
        tracing::debug!(error = %error, "a connection ended early");
    }
}

/// Runs the streams of a connection as tasks of the server.
#[derive(Clone, Debug)]
struct Spawn(Tasks);

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(|_stop| future);
    }
}

/// The API behind a bearer token; what a write changed is on disk before the client hears of it.
#[derive(Clone, Debug)]
pub(super) struct Guarded {
    api: KubeApi,
    token: Arc<Secret>,
    durable: watch::Receiver<Stored>,
}

impl Guarded {
    pub(super) fn new(api: KubeApi, token: Secret, durable: watch::Receiver<Stored>) -> Self {
        Self {
            api,
            token: Arc::new(token),
            durable,
        }
    }

    fn knows(&self, authorization: Option<&HeaderValue>) -> bool {
        authorization
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.strip_prefix("Bearer "))
            .is_some_and(|token| self.token.equals(token))
    }

    async fn respond(mut self, request: http::Request<Incoming>) -> Result<Response<ApiBody>, BoxError> {
        let open = matches!(
            request.uri().path(),
            "/healthz" | "/livez" | "/readyz" | "/version"
        );
        if !open && !self.knows(request.headers().get(header::AUTHORIZATION)) {
            return encode(Outcome::from(&ApiError::unauthorized()), None);
        }
        let writes = request.method() != Method::GET;
        let response = self.api.call(request).await?;
        if writes && response.status().is_success() {
            let wanted = self.api.objects().resource_version();
            let durable = self
                .durable
                .wait_for(|seen| seen.as_ref().map_or(true, |version| *version >= wanted))
                .await
                .map(|seen| seen.clone());
            if !matches!(durable, Ok(Ok(_))) {
                let error = ApiError::internal("the state of the simulated cluster cannot be stored");
                return encode(Outcome::from(&error), None);
            }
        }
        Ok(response)
    }
}

impl Service<http::Request<Incoming>> for Guarded {
    type Response = Response<ApiBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<ApiBody>, BoxError>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Incoming>) -> Self::Future {
        self.clone().respond(request).boxed()
    }
}
