//! Durable pipeline steps per second on SQLite, beside the disk's own rate of durable writes.
//!
//! Many pipelines of one tenant run through a canary over in-memory clusters; every decision is an event that
//! is on disk before anything follows from it.

#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aurora_benches::fsync_rate;
use aurora_core::account::{AgentKey, AgentName};
use aurora_core::authz::{Deploy, ReadPipelines};
use aurora_core::control::{ControlPlane, Door, Submission};
use aurora_core::deploy_file::{manifests, parse};
use aurora_core::port::clock::SystemClock;
use aurora_core::port::executor::memory::InMemoryCluster;
use aurora_core::port::renderer::InMemoryRenderer;
use aurora_core::port::router::InMemoryRouter;
use aurora_core::port::store::{Scope, Store as _};
use aurora_core::principal::{Channel, Principal, PrincipalKind};
use aurora_core::tasks::Tasks;
use aurora_core::tenant::Tenant;
use aurora_store::sqlite::SqliteStore;
use clap::Parser;
use jiff::Timestamp;

/// Durable pipeline steps per second on SQLite, beside the disk's fsync rate.
#[derive(Debug, Parser)]
struct Args {
    /// How many pipelines run at once, each of an application of its own.
    #[arg(long, default_value_t = 32)]
    at_once: usize,
    /// How many pipelines each application runs, one after another.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let folder = tempfile::tempdir()?;
    let limit = fsync_rate(folder.path(), Duration::from_secs(2))?;
    let store = Arc::new(SqliteStore::open(folder.path().join("bench.sqlite"), Arc::new(SystemClock)).await?);
    let tenant = Tenant::new("bench", "main")?;
    let router = InMemoryRouter::new(SystemClock);
    router.connect(
        AgentKey::new(tenant.clone(), AgentName::new("cluster")?),
        InMemoryCluster::default(),
    );
    let control = ControlPlane::new(store.clone(), router, InMemoryRenderer, SystemClock);
    let tasks = Tasks::new();
    let running = control.clone();
    tasks.spawn(|stop| async move {
        let _ = running.run(stop).await;
    });

    let principal = principal(&tenant);
    let started = Instant::now();
    let runs = (0..args.at_once).map(|application| {
        let (control, principal, rounds) = (control.clone(), principal.clone(), args.rounds);
        async move {
            for round in 0..rounds {
                one_pipeline(&control, &principal, application, round).await?;
            }
            anyhow::Ok(())
        }
    });
    futures::future::try_join_all(runs).await?;
    let took = started.elapsed().as_secs_f64();
    let events = store.feed_head(&Scope::from(&tenant)).await?;
    let again = fsync_rate(folder.path(), Duration::from_secs(2))?;
    let limit = f64::midpoint(limit, again);

    let pipelines = args.at_once * args.rounds;
    #[expect(clippy::cast_precision_loss, reason = "counts of a measurement")]
    let (rate, per_pipeline) = (events as f64 / took, events as f64 / pipelines as f64);
    println!(
        "pipelines            {pipelines} ({} at once), {per_pipeline:.1} stored events each",
        args.at_once
    );
    println!("durable steps        {rate:.0} per second");
    println!("fsync of 4 KiB       {limit:.0} per second");
    println!(
        "ratio                {:.2} durable steps per fsync the disk can do",
        rate / limit
    );
    tasks.drain(Duration::from_secs(15)).await?;
    Ok(())
}

async fn one_pipeline(
    control: &ControlPlane,
    principal: &Arc<Principal>,
    application: usize,
    round: usize,
) -> Result<()> {
    let text = format!(
        "application: app-{application}
targets: {{t: {{account: cluster, namespace: ns-{application}, strategy: s}}}}
strategies: {{s: {{canary: {{steps: [{{setWeight: {{weight: 20}}}}, {{setWeight: {{weight: 60}}}}]}}}}}}
manifests:
- inline: |
    apiVersion: apps/v1
    kind: Deployment
    metadata: {{name: web}}
    spec: {{replicas: 3, template: {{spec: {{containers: [{{name: web, image: 'web:{round}'}}]}}}}}}
"
    );
    let told = |problems: Vec<aurora_core::deploy_file::Problem>| anyhow::anyhow!("{problems:?}");
    let parsed = parse(&text, "bench").map_err(told)?;
    let manifests: BTreeMap<_, _> = manifests(&parsed.deploy, &parsed.files, "bench").map_err(told)?;
    let deploy = principal.authorize::<Deploy>()?;
    let door = Door::new(Channel::Api);
    let submitted = control
        .submit(&deploy, &door, Submission::new(parsed.deploy, manifests))
        .await?;
    let read = principal.authorize::<ReadPipelines>()?;
    loop {
        let view = control.view(&read, submitted.pipeline).await?.body;
        if let Some(ended) = view.ended_at {
            anyhow::ensure!(
                view.state == aurora_core::pipeline::State::Succeeded,
                "a pipeline ended {:?} at {ended}",
                view.state
            );
            return Ok(());
        }
        let events = control
            .pipeline_events(&read, submitted.pipeline, control.feed_head(&read).await?)
            .await;
        let mut events = events.context("the pipeline's events")?;
        // A change that came between the view and the feed shows with the next look.
        let _ = tokio::time::timeout(Duration::from_millis(200), futures::StreamExt::next(&mut events)).await;
    }
}

fn principal(tenant: &Tenant) -> Arc<Principal> {
    Arc::new(Principal {
        kind: PrincipalKind::Machine,
        id: "bench".into(),
        display: "bench".into(),
        tenant: Some(tenant.clone()),
        scopes: ["manage:deploy".to_owned()].into(),
        roles: Default::default(),
        agents: Default::default(),
        expires_at: Timestamp::MAX,
    })
}
