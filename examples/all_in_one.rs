//! Everything in one program: control plane, hub, agent, durable store, and a simulated cluster.
//!
//! These are the parts that `aurora up --simulate` runs; here they are put together by hand.

#![expect(clippy::print_stdout, reason = "examples say what happens")]

use std::sync::Arc;
use std::time::Duration;

use aurora_core::agent::Agent;
use aurora_core::control::ControlPlane;
use aurora_core::error::BoxError;
use aurora_core::hub::Hub;
use aurora_core::port::clock::{Clock as _, SystemClock};
use aurora_core::port::token::memory::InMemoryTokens;
use aurora_core::port::transport::InMemoryTransport;
use aurora_core::tasks::Tasks;
use aurora_examples::{agent, deploy, deploy_file, machine};
use aurora_k8s::execute::{AgentPolicy, KubeExecutor};
use aurora_k8s::render::ArgoRenderer;
use aurora_k8s::sim::api::KubeApi;
use aurora_k8s::sim::{Behaviour, Controllers, Objects};
use aurora_store::sealed::{MasterKey, MasterKeys, SealedStore};
use aurora_store::sqlite::SqliteStore;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let tasks = Tasks::new();

    // A cluster: a Kubernetes API with Argo Rollouts' controller, in memory. `kube` cannot tell.
    let objects = Objects::new(Arc::new(|| SystemClock.now()));
    let controllers = Controllers::new(objects.clone(), Behaviour::default());
    tasks.spawn(|stop| controllers.run(stop));
    let client = kube::Client::new(KubeApi::new(objects.clone()), "default");
    let policy = AgentPolicy::new().with_namespace_creation();

    // Hub and agent, over a transport in this process; `embed_hub` has them over gRPC.
    let tokens = InMemoryTokens::new();
    let transport = InMemoryTransport::new(tokens.clone(), SystemClock);
    let hub = Hub::new(SystemClock)
        .with_verifier(tokens.clone())
        .with_drain(Duration::ZERO, Duration::ZERO);
    transport.offer(hub.clone());
    let (accepting, listener) = (hub.clone(), transport.clone());
    tasks.spawn(|stop| async move {
        let _ = accepting.run(listener, stop).await;
    });
    let source = tokens.source_for(machine("edge")?, Duration::from_secs(600));
    let edge = Agent::new(
        agent("edge")?.name,
        transport,
        source,
        KubeExecutor::new(client).with_policy(policy),
    );
    tasks.spawn(|stop| async move {
        let _ = edge.run(stop).await;
    });

    // What is stored is sealed before it reaches the file.
    let folder = tempfile::tempdir()?;
    let file = SqliteStore::open(folder.path().join("pipelines.sqlite"), Arc::new(SystemClock)).await?;
    let store = SealedStore::new(file, MasterKeys::new(MasterKey::generate()?));
    let plane = ControlPlane::new(Arc::new(store), hub, ArgoRenderer, SystemClock);
    let running = plane.clone();
    tasks.spawn(|stop| async move {
        let _ = running.run(stop).await;
    });

    for image in ["registry.example.test/shop:1", "registry.example.test/shop:2"] {
        println!("deploying {image}");
        deploy(&plane, &deploy_file("edge", image)).await?;
    }
    let rollouts = objects
        .resource("argoproj.io", "v1alpha1", "rollouts")
        .ok_or("the controller's kind")?;
    let shop = objects.get(&rollouts, "shop", "shop").ok_or("it was deployed")?;
    println!("the rollout is {}", shop["status"]["phase"]);
    Ok(tasks.drain(Duration::from_secs(20)).await?)
}
