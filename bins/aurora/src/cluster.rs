//! A simulated cluster: its API over TLS, its controllers, and its state in a directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aurora_core::port::clock::{Clock as _, SystemClock};
use aurora_core::tasks::Tasks;
use aurora_k8s::sim::api::{KubeApi, SimServer};
use aurora_k8s::sim::{Behaviour, Controllers, Objects};

/// How long open requests are waited for at the end.
const GRACE: Duration = Duration::from_secs(5);

/// A simulated cluster that runs in this process.
#[derive(Debug)]
pub(crate) struct Cluster {
    server: SimServer,
    controllers: Tasks,
}

impl Cluster {
    /// Brings back the cluster of a directory, or starts a new one there.
    pub(crate) async fn start(name: &str, directory: &Path, listen: Option<SocketAddr>) -> Result<Self> {
        let objects = Objects::new(Arc::new(|| SystemClock.now()));
        let server = SimServer::start(KubeApi::new(objects.clone()), name, directory, listen)
            .await
            .with_context(|| format!("the simulated cluster `{name}` does not start"))?;
        let controllers = Tasks::new();
        controllers.spawn(|stop| Controllers::new(objects, Behaviour::default()).run(stop));
        Ok(Self { server, controllers })
    }

    /// Where its API listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The file with its kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.server.kubeconfig_path()
    }

    /// A client of its API.
    pub(crate) async fn client(&self) -> Result<kube::Client> {
        Ok(kube::Client::try_from(self.server.config().await?)?)
    }

    /// Stops it; its state stays.
    pub(crate) async fn stop(self) -> Result<()> {
        self.controllers.drain(GRACE).await?;
        Ok(self.server.stop(GRACE).await?)
    }
}
