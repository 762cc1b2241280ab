//! A hub in a program of your own, for agents that dial in over gRPC and TLS.
//!
//! Its routes are an `axum::Router`, so they can live beside yours on one listener.

#![expect(clippy::print_stdout, reason = "examples say what happens")]

use std::time::Duration;

use aurora_core::agent::{Agent, AgentState};
use aurora_core::command::{Command, Outcome, Update, Verb};
use aurora_core::error::BoxError;
use aurora_core::hub::Hub;
use aurora_core::id::CommandId;
use aurora_core::port::clock::{Clock as _, SystemClock};
use aurora_core::port::executor::memory::InMemoryCluster;
use aurora_core::port::router::{CommandRouter as _, Order};
use aurora_core::port::token::memory::InMemoryTokens;
use aurora_core::tasks::Tasks;
use aurora_examples::{agent, machine, tenant};
use aurora_transport::grpc::{GrpcConnector, GrpcListener, ServerTls, Trust, listen, serve};
use futures::StreamExt as _;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Your certificate, and whatever verifies your agents' tokens (`JwtVerifier` for real ones).
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let (tokens, tasks) = (InMemoryTokens::new(), Tasks::new());

    // The hub: sessions come from a listener, whose routes any server can serve.
    let hub = Hub::new(SystemClock)
        .with_verifier(tokens.clone())
        .with_drain(Duration::ZERO, Duration::ZERO);
    let sessions = GrpcListener::new(tokens.clone(), SystemClock, hub.clone());
    let routes = sessions.routes().into_axum_router();
    let socket = listen("127.0.0.1:0".parse()?)?;
    let url = format!("https://localhost:{}", socket.local_addr()?.port());
    let tls = ServerTls::from_pem(certificate.as_bytes(), key.as_bytes())?;
    tasks.spawn(|stop| async move {
        let _ = serve(socket, tls, routes, stop, Duration::from_secs(1)).await;
    });
    let accepting = hub.clone();
    tasks.spawn(|stop| async move {
        let _ = accepting.run(sessions, stop).await;
    });
    println!("hub listens on {url}");

    // An agent; usually it is another program, far away: see `embed_agent`.
    let key = agent("edge")?;
    let source = tokens.source_for(machine("edge")?, Duration::from_secs(600));
    let connector = GrpcConnector::new(&url, Trust::pem(certificate))?;
    let edge = Agent::new(key.name.clone(), connector, source, InMemoryCluster::default());
    let mut status = edge.status();
    tasks.spawn(|stop| async move {
        let _ = edge.run(stop).await;
    });
    status
        .wait_for(|health| matches!(health.state, AgentState::Connected { .. }))
        .await?;
    for agent in hub.agents(&tenant()?).await? {
        println!("agent {} has {} session(s)", agent.name, agent.instances.len());
    }

    // Every command has a deadline and exactly one outcome.
    let command = Command {
        // The caller names it: sent again with the same id, a command acts once.
        id: CommandId::at(SystemClock.now(), [7; 10]),
        pipeline: None,
        initiator: "example".to_owned(),
        deadline: Duration::from_secs(5),
        trace_parent: None,
        verb: Verb::Ping {
            payload: b"hello".to_vec(),
        },
    };
    let mut updates = hub.route(&key, Order::new(command)).await?;
    while let Some(update) = updates.next().await {
        if let Update::Finished(Outcome::Ok(reply)) = update {
            println!("the agent answers {reply:?}");
        }
    }
    Ok(tasks.drain(Duration::from_secs(10)).await?)
}
