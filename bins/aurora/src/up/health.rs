//! Health and metrics of `aurora up`, on a listener of their own.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use aurora_bin::health::Health;
use aurora_bin::http_server::HttpServer;
use aurora_bin::telemetry::install_metrics;
use aurora_core::tasks::Tasks;

/// How long requests for health are waited for at the end.
const GRACE: Duration = Duration::from_secs(1);

/// `/livez`, `/readyz` and `/metrics` while the process runs.
#[derive(Debug)]
pub(crate) struct HealthServer {
    health: Health,
    tasks: Tasks,
}

impl HealthServer {
    /// Serves; not ready yet.
    pub(crate) async fn start(listen: SocketAddr) -> Result<Self> {
        let health = Health::new();
        let server = HttpServer::bind(listen, None).await?;
        let router = health.router(install_metrics()?);
        let tasks = Tasks::new();
        tasks.spawn(|stop| async move {
            let _ = server.serve(router, stop, GRACE).await;
        });
        Ok(Self { health, tasks })
    }

    /// Everything else serves now.
    pub(crate) fn ready(&self) {
        self.health.ready();
    }

    /// The process was told to stop.
    pub(crate) fn draining(&self) {
        self.health.draining();
    }

    /// Stops serving.
    pub(crate) async fn stop(self) -> Result<()> {
        Ok(self.tasks.drain(GRACE * 2).await?)
    }
}
