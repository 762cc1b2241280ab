//! The REST API and the pipeline engine as a process of its own.

mod config;

use std::process::ExitCode;

use anyhow::Result;
use aurora_bin::figures::publish_engine;
use aurora_bin::http_server::HttpServer;
use aurora_bin::process::{self, Process};
use aurora_core::control::ControlPlane;
use aurora_core::port::clock::{Clock as _, SystemClock};
use aurora_k8s::render::ArgoRenderer;
use aurora_transport::grpc::HubClient;
use aurora_transport::rest::Api;

use self::config::ApiConfig;

fn main() -> ExitCode {
    process::main(&config::SPEC, ApiConfig::read, serve)
}

async fn serve(config: ApiConfig, process: Process) -> Result<()> {
    let clock = SystemClock;
    let verifier = config.issuer.verifier(&process)?;
    let tokens = config.issuer.source(&config.client)?;
    let hub = HubClient::new(&config.hub, config.issuer.trust(), tokens, clock)?;
    let tls = config.tls.server_config(clock.now())?;
    let store = config.store.open(process::clock()).await?;
    // The store file's lock keeps a second process out, so the same name may take its leases over at once.
    let control = ControlPlane::new(store, hub, ArgoRenderer, clock)
        .with_holder("api")
        .with_grace(process.grace);
    let api = Api::new(control.clone(), verifier, clock)
        .with_http(config.fetch.caller()?)
        .with_stop(process.stop.clone());

    let server = HttpServer::bind(config.listen, tls).await?;
    // It listens already: who reads the address may ask whether it is ready.
    publish_engine(&process.health, control.clone());
    process.health.ready();
    process.announce("api", &server.url())?;
    let (driven, served) = tokio::join!(
        control.run(process.stop.clone()),
        server.serve(api.router(), process.stop.clone(), process.grace),
    );
    driven?;
    served?;
    Ok(())
}
