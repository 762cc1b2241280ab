//! An agent in a program of your own: it dials a hub and acts through your executor.
//!
//! ```sh
//! cargo run -p aurora-examples --no-default-features --features agent --bin embed_agent -- \
//!     HUB_URL ISSUER_URL CA_FILE CLIENT_ID SECRET_FILE AGENT_NAME
//! ```
//! Built so, it contains no SQL, no token issuer and no server.

#![expect(clippy::print_stdout, reason = "examples say what happens")]

use std::sync::Arc;

use aurora_auth::token_source::ClientCredentials;
use aurora_core::account::AgentName;
use aurora_core::agent::{Agent, AgentState};
use aurora_core::error::BoxError;
use aurora_core::port::executor::memory::InMemoryCluster;
use aurora_core::secret::Secret;
use aurora_transport::grpc::{GrpcConnector, Trust};
use aurora_transport::http::{EgressRules, ReqwestCaller, Roots};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [hub, issuer, ca_file, client, secret_file, name] = &arguments[..] else {
        return Err("give HUB_URL ISSUER_URL CA_FILE CLIENT_ID SECRET_FILE AGENT_NAME".into());
    };
    let authority = std::fs::read(ca_file)?;
    let secret = Secret::new(std::fs::read_to_string(secret_file)?.trim());

    // Tokens: gets them from the issuer and renews them in time. Calls may go to private networks only
    // because this program says so.
    let rules = EgressRules::public_only().with_private().with_loopback();
    let http = ReqwestCaller::new(rules, Roots::Only(authority.clone().into()))?;
    let tokens = ClientCredentials::new(Arc::new(http), format!("{issuer}/oauth/token"), client, secret)?;

    // The way to the hub: one connection that this program opens. Nothing listens.
    let connector = GrpcConnector::new(hub, Trust::pem(authority))?;

    // Where it acts: `aurora_k8s::execute::KubeExecutor` for Kubernetes, or an executor of your own.
    let executor = InMemoryCluster::default();
    let agent = Agent::new(AgentName::new(name)?, connector, tokens, executor)
        .with_software(concat!("embed-agent/", env!("CARGO_PKG_VERSION")));

    // Its state is a level that can be watched; it reconnects by itself.
    let (mut status, stop) = (agent.status(), CancellationToken::new());
    let asked = stop.clone();
    let told = async move {
        let _ = tokio::signal::ctrl_c().await;
        println!("stopping: commands in hand are finished");
        asked.cancel();
    };
    let say = async move {
        while status.changed().await.is_ok() {
            let health = status.borrow_and_update().clone();
            match health.state {
                AgentState::Connected { session, .. } => println!("connected, session {session}"),
                AgentState::Connecting => println!("connecting {}", health.last_problem.unwrap_or_default()),
                AgentState::Refused => println!("the credential is refused"),
                AgentState::Stopped => return,
            }
        }
    };
    let (ended, (), ()) = tokio::join!(agent.run(stop), told, say);
    Ok(ended?)
}
