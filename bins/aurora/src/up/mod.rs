//! `aurora up`: everything in one process, with its state in a directory.

mod health;
mod services;
mod state;

use std::time::Duration;

use anyhow::{Context as _, Result};
use aurora_core::account::AgentName;
use aurora_core::tasks::Tasks;
use aurora_k8s::execute::AgentPolicy;
use aurora_transport::http::EgressRules;
use tokio_util::sync::CancellationToken;

use health::HealthServer;
pub(crate) use services::Services;

use crate::cli::{Output, UpArgs};
use crate::{agent, context, print};
use aurora_bin::cluster::{Cluster, client_of};
use aurora_bin::exit::Exit;

/// How long agents may finish what they have in hand.
const GRACE: Duration = Duration::from_secs(15);

/// Agents of this process and their simulated clusters.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    clusters: Vec<(AgentName, Cluster)>,
    tasks: Tasks,
}

impl Fleet {
    /// Starts a simulated cluster and its agent.
    pub(crate) async fn simulate(&mut self, services: &Services, name: &AgentName) -> Result<&Cluster> {
        let directory = services.path("clusters").join(name.as_str());
        let cluster = Cluster::start(name.as_str(), &directory, None).await?;
        let policy = AgentPolicy::new().with_namespace_creation();
        self.run(agent::agent(
            name.clone(),
            &services.agent_context(),
            cluster.client().await?,
            policy,
        )?);
        self.clusters.push((name.clone(), cluster));
        let (_, cluster) = self.clusters.last().context("it was just pushed")?;
        Ok(cluster)
    }

    /// Runs an agent.
    pub(crate) fn run(&self, agent: aurora_core::agent::Agent) {
        self.tasks.spawn(|stop| async move {
            let _ = agent.run(stop).await;
        });
    }

    /// The simulated clusters by agent.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = (&AgentName, &Cluster)> {
        self.clusters.iter().map(|(name, cluster)| (name, cluster))
    }

    /// Stops agents, then clusters.
    pub(crate) async fn stop(self) -> Result<()> {
        self.tasks.drain(GRACE).await?;
        for (_, cluster) in self.clusters {
            cluster.stop().await?;
        }
        Ok(())
    }
}

/// Runs until told to stop.
pub(crate) async fn run(args: &UpArgs, output: Output, stop: CancellationToken) -> Result<Exit> {
    let directory = match &args.state_dir {
        Some(directory) => directory.clone(),
        None => context::default_state_dir()?,
    };
    let (simulated, real, more) = (&args.simulate, &args.agent, &args.allow_agent);
    if args.kubeconfig.len() != real.len() || args.context.len() != real.len() {
        let problem = "--kubeconfig, --context and --agent go together: as many of each";
        return print::failure(output, "usage", problem, Exit::Usage);
    }
    let known: Vec<AgentName> = simulated.iter().chain(real).chain(more).cloned().collect();
    let health = HealthServer::start(args.health_listen).await?;
    let reach = args
        .fetch_allow
        .iter()
        .copied()
        .fold(EgressRules::public_only(), EgressRules::with_allowed);
    let services = Services::start(&directory, args.listen, &known, reach).await?;
    let context_file = match &args.context_out {
        Some(path) => path.clone(),
        None if args.state_dir.is_some() => directory.join("context.json"),
        None => context::default_path()?,
    };
    services.cli_context().write(&context_file)?;
    services.agent_context().write(&directory.join("agent.json"))?;
    let mut fleet = Fleet::default();
    for name in simulated {
        fleet.simulate(&services, name).await?;
    }
    for ((name, kubeconfig), context) in real.iter().zip(&args.kubeconfig).zip(&args.context) {
        let client = client_of(kubeconfig, context).await?;
        let policy = AgentPolicy::new().with_namespace_creation();
        fleet.run(agent::agent(
            name.clone(),
            &services.agent_context(),
            client,
            policy,
        )?);
    }
    services.publish(health.health());
    health.ready();
    announce(&services, &fleet, output, &context_file, health.url())?;
    stop.cancelled().await;
    health.draining();
    if output == Output::Text {
        print::note("stopping: finishing what is in hand");
    }
    fleet.stop().await?;
    services.stop().await?;
    health.stop().await?;
    Ok(Exit::Succeeded)
}

fn announce(
    services: &Services,
    fleet: &Fleet,
    output: Output,
    context: &std::path::Path,
    health: &str,
) -> Result<()> {
    if output != Output::Text {
        let clusters: Vec<_> = fleet
            .clusters()
            .map(|(name, cluster)| serde_json::json!({"account": name, "kubeconfig": cluster.kubeconfig()}))
            .collect();
        return print::event(
            output,
            &serde_json::json!({
                "type": "up", "url": services.url(), "context": context, "clusters": clusters, "health": health,
            }),
        );
    }
    let mut text = format!("aurora listens on {}\n", services.url());
    for (name, cluster) in fleet.clusters() {
        text.push_str(&format!(
            "  simulated cluster {name}: kubectl --kubeconfig {}\n",
            cluster.kubeconfig().display()
        ));
    }
    text.push_str(&format!(
        "  in another terminal:\n    export AURORA_CONTEXT_FILE={}\n    aurora agent list\n    aurora deploy start -f DEPLOY_FILE --watch\n",
        context.display(),
    ));
    print::write(&text)
}
