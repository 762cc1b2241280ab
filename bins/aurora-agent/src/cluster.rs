//! The cluster that the agent acts in: reached, or simulated in this process.

use anyhow::Result;
use aurora_bin::cluster::{Cluster as Simulated, client_inside, client_of};
use kube::Client;

use crate::config::Place;

/// A client of a cluster, and the cluster itself where it is simulated.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    simulated: Option<Simulated>,
}

impl Cluster {
    /// Reaches the cluster, or starts it.
    pub(crate) async fn of(place: &Place, name: &str) -> Result<Self> {
        let reached = |client| Self {
            client,
            simulated: None,
        };
        match place {
            Place::InCluster => Ok(reached(client_inside()?)),
            Place::Kubeconfig { file, context } => Ok(reached(client_of(file, context).await?)),
            Place::Simulated(directory) => {
                let cluster = Simulated::start(name, directory, None).await?;
                tracing::info!(kubeconfig = %cluster.kubeconfig().display(), "cluster simulated");
                Ok(Self {
                    client: cluster.client().await?,
                    simulated: Some(cluster),
                })
            }
        }
    }

    /// Stops what was simulated; its state stays.
    pub(crate) async fn stop(self) -> Result<()> {
        match self.simulated {
            Some(cluster) => cluster.stop().await,
            None => Ok(()),
        }
    }
}
