//! The agent hub as a process of its own.

mod config;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use aurora_bin::figures::publish_hub;
use aurora_bin::http_server::HttpServer;
use aurora_bin::process::{self, Process};
use aurora_core::hub::Hub;
use aurora_core::port::clock::{Clock as _, SystemClock};
use aurora_transport::grpc::{GrpcListener, RoutingService};
use tokio_util::sync::CancellationToken;

use self::config::HubConfig;

/// Once no command is under way, connections have this long to end by themselves.
const CLOSING: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    process::main(&config::SPEC, HubConfig::read, serve)
}

async fn serve(config: HubConfig, process: Process) -> Result<()> {
    let clock = SystemClock;
    let verifier = config.issuer.verifier(&process)?;
    let tls = config.tls.server_config(clock.now())?;
    let hub = Hub::new(clock)
        .with_verifier(Arc::clone(&verifier))
        .with_drain(config.drain_spread, process.grace);
    let sessions = GrpcListener::new(Arc::clone(&verifier), clock, hub.clone());
    let callers = RoutingService::new(hub.clone(), verifier, clock).with_stop(process.stop.clone());

    let for_agents = HttpServer::bind(config.agents, tls.clone()).await?;
    let for_callers = HttpServer::bind(config.callers, tls).await?;
    // Both listen already: who reads an address may ask whether the hub is ready.
    publish_hub(&process.health, hub.clone());
    process.health.ready();
    process.announce("agents", &for_agents.url())?;
    process.announce("callers", &for_callers.url())?;

    // Connections close only after the hub has said goodbye on them and its commands have ended.
    let close = CancellationToken::new();
    let agent_routes = sessions.routes().into_axum_router();
    let caller_routes = callers.routes().into_axum_router();
    let routing = async {
        let ended = hub.run(sessions, process.stop.clone()).await;
        close.cancel();
        ended
    };
    let (routed, _, _) = tokio::join!(
        routing,
        for_agents.serve(agent_routes, close.clone(), CLOSING),
        for_callers.serve(caller_routes, close.clone(), CLOSING),
    );
    // A caller's stream stays open without commands: cutting it off loses nothing.
    routed?;
    Ok(())
}
