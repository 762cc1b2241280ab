//! Agents in this process: beside a simulated cluster, a kubeconfig's or the one this process runs in.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use aurora_auth::token_source::ClientCredentials;
use aurora_core::account::AgentName;
use aurora_core::agent::{Agent, AgentHealth, AgentState};
use aurora_k8s::execute::{AgentPolicy, KubeExecutor};
use aurora_transport::grpc::{GrpcConnector, Trust};
use aurora_transport::http::{ReqwestCaller, Roots};
use tokio_util::sync::CancellationToken;

use crate::cli::{AgentRunArgs, Output};
use crate::context::{self, Context};
use crate::{online, print};
use aurora_bin::cluster::{Cluster, client_inside, client_of};
use aurora_bin::exit::Exit;

/// An agent that is ready to run.
pub(crate) fn agent(
    name: AgentName,
    context: &Context,
    client: kube::Client,
    policy: AgentPolicy,
) -> Result<Agent> {
    let executor = KubeExecutor::new(client).with_policy(policy);
    let roots = if context.certificate_authority.is_empty() {
        Roots::System
    } else {
        Roots::Only(context.certificate_authority.clone().into())
    };
    let http = ReqwestCaller::new(online::anywhere()?, roots)?;
    let endpoint = format!("{}/oauth/token", context.issuer);
    let tokens = ClientCredentials::new(Arc::new(http), endpoint, &context.client_id, context.secret())?;
    let connector = GrpcConnector::new(&context.server, Trust::pem(context.certificate_authority.clone()))?;
    Ok(Agent::new(name, connector, tokens, executor)
        .with_software(concat!("aurora/", env!("CARGO_PKG_VERSION"))))
}

/// `aurora agent run`.
pub(crate) async fn run(args: &AgentRunArgs, output: Output, stop: CancellationToken) -> Result<Exit> {
    let name = args.name.clone();
    let mut credentials = match &args.credentials {
        Some(path) => Context::read(Some(path))?,
        None => {
            let path = context::default_state_dir()?.join("agent.json");
            Context::read(Some(&path))
                .context("there are no agent credentials: start `aurora up`, or give --credentials")?
        }
    };
    if let Some(hub) = &args.hub {
        credentials.server.clone_from(hub);
    }
    let mut policy = AgentPolicy::new();
    if !args.namespaces.is_empty() {
        policy = policy.with_namespaces(&args.namespaces);
    }
    if args.allow_cluster_kinds {
        policy = policy.with_cluster_kinds();
    }
    if args.allow_namespace_creation {
        policy = policy.with_namespace_creation();
    }
    let mut cluster = None;
    let client = match (&args.kubeconfig, &args.context) {
        (Some(kubeconfig), Some(context)) => client_of(kubeconfig, context).await?,
        _ if args.in_cluster => client_inside()?,
        _ if args.simulate => {
            let directory = context::default_state_dir()?.join("clusters").join(name.as_str());
            let started = Cluster::start(name.as_str(), &directory, None).await?;
            let client = started.client().await?;
            policy = policy.with_namespace_creation();
            print::note(&format!(
                "simulated cluster: kubectl --kubeconfig {}",
                started.kubeconfig().display()
            ));
            cluster = Some(started);
            client
        }
        _ => bail!("say where to act: --kubeconfig FILE --context NAME, --in-cluster or --simulate"),
    };
    let agent = agent(name.clone(), &credentials, client, policy)?;
    let mut health = agent.status();
    if output == Output::Text {
        print::note(&format!("agent `{name}` dials {}", credentials.server));
    }
    let told = stop.clone();
    let tell = async move {
        let mut said = String::new();
        while health.changed().await.is_ok() {
            let now = health.borrow_and_update().clone();
            let words = words(&now, name.as_str());
            if words != said {
                print::note(&format!("agent `{name}` {words}"));
                said = words;
            }
        }
    };
    tokio::select! {
        biased;
        ended = agent.run(stop) => ended?,
        () = tell => told.cancelled().await,
    }
    if let Some(cluster) = cluster {
        cluster.stop().await?;
    }
    Ok(Exit::Succeeded)
}

/// What the agent is doing, and what to do about it.
fn words(health: &AgentHealth, name: &str) -> String {
    let problem = health
        .last_problem
        .as_deref()
        .map(|problem| format!(": {problem}"))
        .unwrap_or_default();
    match health.state {
        AgentState::Connected { .. } => "is connected".to_owned(),
        AgentState::Connecting => format!("is connecting{problem}"),
        AgentState::Refused => {
            format!("is refused{problem}\n  for `aurora up`: start it with --allow-agent {name}")
        }
        AgentState::Stopped => "has stopped".to_owned(),
    }
}
