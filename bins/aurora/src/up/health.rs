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
    url: String,
    tasks: Tasks,
}

impl HealthServer {
    /// Serves; not ready yet.
    pub(crate) async fn start(listen: SocketAddr) -> Result<Self> {
        let health = Health::new();
        let server = HttpServer::bind(listen, None).await?;
        let url = server.url();
        let router = health.router(install_metrics()?);
        let tasks = Tasks::new();
        tasks.spawn(|stop| async move {
            let _ = server.serve(router, stop, GRACE).await;
        });
        Ok(Self { health, url, tasks })
    }

    /// Where it is served.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What the process knows of its health.
    pub(crate) const fn health(&self) -> &Health {
        &self.health
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
