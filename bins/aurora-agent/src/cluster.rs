//! The cluster that the agent acts in: reached, or simulated in this process.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aurora_core::port::clock::{Clock as _, SystemClock};
use aurora_core::tasks::Tasks;
use aurora_k8s::sim::api::{KubeApi, SimServer};
use aurora_k8s::sim::{Behaviour, Controllers, Objects};
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use crate::config::Place;

/// How long a simulated cluster's open requests are waited for.
const GRACE: Duration = Duration::from_secs(5);

/// A client of a cluster, and the cluster itself where it is simulated.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    simulated: Option<(SimServer, Tasks)>,
}

impl Cluster {
    /// Reaches the cluster, or starts it.
    pub(crate) async fn of(place: &Place, name: &str) -> Result<Self> {
        let reached = |config| -> Result<Self> {
            Ok(Self {
                client: Client::try_from(config).context("the cluster's API cannot be called")?,
                simulated: None,
            })
        };
        match place {
            Place::InCluster => {
                reached(Config::incluster().context("this process does not run in a cluster")?)
            }
            Place::Kubeconfig { file, context } => {
                let unusable = || format!("{} cannot be used", file.display());
                let read = Kubeconfig::read_from(file).with_context(unusable)?;
                if !read.contexts.iter().any(|known| known.name == *context) {
                    let known: Vec<_> = read.contexts.iter().map(|known| known.name.as_str()).collect();
                    bail!(
                        "{} has no context `{context}`; it has {}",
                        file.display(),
                        known.join(", ")
                    );
                }
                let options = KubeConfigOptions {
                    context: Some(context.clone()),
                    ..KubeConfigOptions::default()
                };
                reached(
                    Config::from_custom_kubeconfig(read, &options)
                        .await
                        .with_context(unusable)?,
                )
            }
            Place::Simulated(directory) => {
                let objects = Objects::new(Arc::new(|| SystemClock.now()));
                let server = SimServer::start(KubeApi::new(objects.clone()), name, directory, None)
                    .await
                    .context("the simulated cluster does not start")?;
                let controllers = Tasks::new();
                controllers.spawn(|stop| Controllers::new(objects, Behaviour::default()).run(stop));
                tracing::info!(kubeconfig = %server.kubeconfig_path().display(), "cluster simulated");
                let client = Client::try_from(server.config().await?)?;
                Ok(Self {
                    client,
                    simulated: Some((server, controllers)),
                })
            }
        }
    }

    /// Stops what was simulated; its state stays.
    pub(crate) async fn stop(self) -> Result<()> {
        if let Some((server, controllers)) = self.simulated {
            controllers.drain(GRACE).await?;
            server.stop(GRACE).await?;
        }
        Ok(())
    }
}
