//! A transport of your own between hub and agent: frames over plain TCP instead of gRPC.
//!
//! The transport is `vendor/src/transport.rs`; the frames' codec is `aurora_transport::grpc::frame`.
//! `transport_laws!` holds it to the contract.

#![expect(clippy::print_stdout, reason = "examples say what happens")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aurora_core::agent::{Agent, AgentState};
use aurora_core::control::ControlPlane;
use aurora_core::error::BoxError;
use aurora_core::hub::Hub;
use aurora_core::port::clock::SystemClock;
use aurora_core::port::executor::memory::InMemoryCluster;
use aurora_core::port::renderer::InMemoryRenderer;
use aurora_core::port::store::memory::InMemoryStore;
use aurora_core::port::token::memory::InMemoryTokens;
use aurora_core::tasks::Tasks;
use aurora_examples::transport::{TcpConnector, TcpSessions};
use aurora_examples::{agent, deploy, deploy_file, machine};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (tokens, tasks) = (InMemoryTokens::new(), Tasks::new());

    // The hub's side: it listens, verifies tokens, and offers the bodies of plans.
    let hub = Hub::new(SystemClock)
        .with_verifier(tokens.clone())
        .with_drain(Duration::ZERO, Duration::ZERO);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let sessions = TcpSessions::bind(any, tokens.clone(), SystemClock, hub.clone()).await?;
    let address = sessions.address();
    println!("hub listens on {address}");
    let accepting = hub.clone();
    tasks.spawn(|stop| async move {
        let _ = accepting.run(sessions, stop).await;
    });

    // The agent's side: it dials out.
    let source = tokens.source_for(machine("edge")?, Duration::from_secs(600));
    let agent = Agent::new(
        agent("edge")?.name,
        TcpConnector::new(address),
        source,
        InMemoryCluster::default(),
    );
    let mut status = agent.status();
    tasks.spawn(|stop| async move {
        let _ = agent.run(stop).await;
    });
    status
        .wait_for(|health| matches!(health.state, AgentState::Connected { .. }))
        .await?;
    println!("agent connected");

    // The hub is a router of commands: a control plane over it deploys through the transport.
    let store = Arc::new(InMemoryStore::new(Arc::new(SystemClock)));
    let plane = ControlPlane::new(store, hub, InMemoryRenderer, SystemClock);
    let running = plane.clone();
    tasks.spawn(|stop| async move {
        let _ = running.run(stop).await;
    });
    for image in ["shop:1", "shop:2"] {
        println!("deploying {image}");
        deploy(&plane, &deploy_file("edge", image)).await?;
    }
    Ok(tasks.drain(Duration::from_secs(10)).await?)
}
