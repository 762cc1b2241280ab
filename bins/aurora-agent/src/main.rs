//! The agent as a process of its own.

mod cluster;
mod config;

use std::process::ExitCode;

use anyhow::Result;
use aurora_bin::figures::publish_agent;
use aurora_bin::health::Health;
use aurora_bin::process::{self, Process};
use aurora_core::agent::{Agent, AgentHealth, AgentState};
use aurora_core::port::clock::SystemClock;
use aurora_k8s::execute::KubeExecutor;
use tokio::sync::watch;

use self::cluster::Cluster;
use self::config::AgentConfig;

fn main() -> ExitCode {
    process::main(&config::SPEC, AgentConfig::read, serve)
}

async fn serve(config: AgentConfig, process: Process) -> Result<()> {
    let tokens = config.issuer.source(&config.client)?;
    let cluster = Cluster::of(&config.place, config.name.as_str()).await?;
    let executor = KubeExecutor::new(cluster.client.clone()).with_policy(config.policy);
    let agent = Agent::new(config.name, config.connector, tokens, executor)
        .with_replicas(config.replicas)
        .with_grace(process.grace);
    let (status, health) = (agent.status(), process.health.clone());
    health.missing("hub", Some("not connected yet".into()));
    publish_agent(&process.health, agent.status(), SystemClock);
    process.health.ready();
    process.tasks.spawn(|stop| async move {
        let _ = stop.run_until_cancelled(follow(status, health)).await;
    });
    agent.run(process.stop).await?;
    cluster.stop().await
}

/// Keeps `/readyz` true: an agent without a session gets no work.
async fn follow(mut status: watch::Receiver<AgentHealth>, health: Health) {
    loop {
        let now = status.borrow_and_update().clone();
        let why = now.last_problem.unwrap_or_else(|| "no reason known".into());
        health.missing(
            "hub",
            match now.state {
                AgentState::Connected { .. } => None,
                AgentState::Connecting => Some(format!("not connected ({why})")),
                AgentState::Refused => Some(format!("the credential is refused ({why})")),
                AgentState::Stopped => Some("stopped".into()),
            },
        );
        match now.state {
            AgentState::Connected { session, .. } => tracing::info!(session.id = %session, "connected"),
            AgentState::Refused => tracing::error!("the credential is refused"),
            AgentState::Connecting | AgentState::Stopped => {}
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}
