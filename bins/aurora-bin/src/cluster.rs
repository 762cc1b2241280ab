//! Clusters that an agent acts in: reached through a kubeconfig, or simulated in this process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aurora_core::port::clock::{Clock as _, SystemClock};
use aurora_core::tasks::Tasks;
use aurora_k8s::sim::api::{KubeApi, SimServer};
use aurora_k8s::sim::{Behaviour, Controllers, Objects};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

/// How long open requests are waited for at the end.
const GRACE: Duration = Duration::from_secs(5);

/// A simulated cluster that runs in this process: its API over TLS, its controllers, its state in a directory.
#[derive(Debug)]
pub struct Cluster {
    server: SimServer,
    controllers: Tasks,
}

impl Cluster {
    /// Brings back the cluster of a directory, or starts a new one there.
    ///
    /// # Errors
    /// When the directory cannot be used, or the address.
    pub async fn start(name: &str, directory: &Path, listen: Option<SocketAddr>) -> Result<Self> {
        let objects = Objects::new(Arc::new(|| SystemClock.now()));
        let server = SimServer::start(KubeApi::new(objects.clone()), name, directory, listen)
            .await
            .with_context(|| format!("the simulated cluster `{name}` does not start"))?;
        let controllers = Tasks::new();
        controllers.spawn(|stop| Controllers::new(objects, Behaviour::default()).run(stop));
        Ok(Self { server, controllers })
    }

    /// Where its API listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The file with its kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.server.kubeconfig_path()
    }

    /// A client of its API.
    ///
    /// # Errors
    /// When its kubeconfig cannot be used.
    pub async fn client(&self) -> Result<kube::Client> {
        Ok(kube::Client::try_from(self.server.config().await?)?)
    }

    /// Stops it; its state stays.
    ///
    /// # Errors
    /// When something of it does not end.
    pub async fn stop(self) -> Result<()> {
        self.controllers.drain(GRACE).await?;
        Ok(self.server.stop(GRACE).await?)
    }
}

/// A client for one context of a kubeconfig; the current one is never taken by itself.
///
/// # Errors
/// When the file cannot be used, or has no such context.
pub async fn client_of(kubeconfig: &Path, context: &str) -> Result<kube::Client> {
    let unusable = || format!("{} cannot be used", kubeconfig.display());
    let file = Kubeconfig::read_from(kubeconfig).with_context(unusable)?;
    if !file.contexts.iter().any(|known| known.name == context) {
        let known: Vec<&str> = file.contexts.iter().map(|known| known.name.as_str()).collect();
        bail!(
            "{} has no context `{context}`; it has {}",
            kubeconfig.display(),
            known.join(", ")
        );
    }
    let options = KubeConfigOptions {
        context: Some(context.to_owned()),
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(file, &options)
        .await
        .with_context(unusable)?;
    Ok(kube::Client::try_from(config)?)
}

/// A client for the cluster that this process runs in, as its service account.
///
/// # Errors
/// When it runs in none.
pub fn client_inside() -> Result<kube::Client> {
    let config = Config::incluster().context("this process does not run in a cluster")?;
    kube::Client::try_from(config).context("the cluster's API cannot be called")
}
