//! Sessions between hub and agents, in virtual time over the in-memory transport.
#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

mod bed;

#[path = "session/commands.rs"]
mod commands;
#[path = "session/lifecycle.rs"]
mod lifecycle;
#[path = "session/tokens.rs"]
mod tokens;

use aurora_core::port::router::laws::{ProbeExecutor, RouterUnderTest};
use std::sync::Arc;

/// The laws of routing on a hub with a real agent.
mod laws {
    use super::*;

    async fn hub_with_an_agent(probe: ProbeExecutor) -> RouterUnderTest {
        let bed = bed::Bed::new();
        let mut agent = bed.agent_with("staging", probe, |agent| agent);
        agent.connected().await;
        let wire = agent.wire.clone();
        RouterUnderTest {
            router: Arc::new(bed.hub.clone()),
            agent: bed::key("staging"),
            lose: Box::new(move || {
                wire.set_reachable(false);
                wire.cut();
            }),
            keep: vec![Box::new(bed)],
        }
    }

    aurora_core::router_laws!(hub_with_an_agent);
}
