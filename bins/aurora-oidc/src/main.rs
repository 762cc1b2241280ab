//! The token issuer as a process of its own.

mod config;
mod new_secret;

use std::process::ExitCode;

use anyhow::Result;
use aurora_auth::issue::TokenIssuer;
use aurora_bin::http_server::HttpServer;
use aurora_bin::process::{self, Process};

use self::config::OidcConfig;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("new-secret") {
        return new_secret::print(arguments.next().as_deref());
    }
    process::main(&config::SPEC, OidcConfig::read, serve)
}

async fn serve(config: OidcConfig, process: Process) -> Result<()> {
    let clock = process::clock();
    let store = config.store.open(clock.clone()).await?;
    let tls = config.tls.server_config(clock.now())?;
    let issuer = TokenIssuer::with_schedule(
        config.issuer,
        config.audience,
        &config.clients,
        store,
        clock,
        config.schedule,
    )?;
    issuer.prepare().await?;
    let server = HttpServer::bind(config.listen, tls).await?;
    // It listens already: who reads the address may ask whether it is ready.
    process.health.ready();
    process.announce("oidc", &server.url())?;
    server.serve(issuer.router(), process.stop, process.grace).await?;
    Ok(())
}
