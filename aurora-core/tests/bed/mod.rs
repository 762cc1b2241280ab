//! A hub and agents in one process, in virtual time, with a way to cut them apart.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "each test binary includes this file and uses its own part of it; a test reports by panicking"
)]

use std::time::Duration;

use aurora_core::account::{AgentKey, AgentName};
use aurora_core::agent::{Agent, AgentHealth, AgentState};
use aurora_core::entropy::Entropy;
use aurora_core::hub::Hub;
use aurora_core::port::clock::InMemoryClock;
use aurora_core::port::router::laws::ProbeExecutor;
use aurora_core::port::router::{AgentStatus, CommandRouter as _};
use aurora_core::port::token::memory::InMemoryTokens;
use aurora_core::port::transport::InMemoryTransport;
use aurora_core::port::transport::faults::{Fault, FaultyConnector};
use aurora_core::principal::{Principal, PrincipalKind};
use aurora_core::tasks::Tasks;
use aurora_core::tenant::Tenant;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a token lives unless a test says otherwise.
pub const TOKEN_LIFE: Duration = Duration::from_secs(900);

/// The heartbeat of hubs here: the default.
pub const HEARTBEAT: Duration = Duration::from_secs(20);

pub struct Bed {
    pub clock: InMemoryClock,
    pub tokens: InMemoryTokens,
    pub transport: InMemoryTransport,
    pub hub: Hub,
    pub stop_hub: CancellationToken,
    pub tasks: Tasks,
}

pub struct Running {
    pub probe: ProbeExecutor,
    pub wire: FaultyConnector<InMemoryTransport>,
    pub health: watch::Receiver<AgentHealth>,
    pub stop: CancellationToken,
}

impl Bed {
    pub fn new() -> Self {
        Self::with(|hub| hub)
    }

    pub fn with(options: impl FnOnce(Hub) -> Hub) -> Self {
        let clock = InMemoryClock::starting_at("2026-03-01T12:00:00Z".parse().unwrap());
        let tokens = InMemoryTokens::new();
        let transport = InMemoryTransport::new(tokens.clone(), clock.clone());
        let hub = Hub::new(clock.clone())
            .with_verifier(tokens.clone())
            .with_entropy(Entropy::seeded(1))
            .with_drain(Duration::ZERO, Duration::from_secs(30));
        let bed = Self {
            hub: options(hub),
            clock,
            tokens,
            transport,
            stop_hub: CancellationToken::new(),
            tasks: Tasks::new(),
        };
        bed.start_hub();
        bed
    }

    /// Runs the hub (again).
    pub fn start_hub(&self) {
        self.transport.reopen();
        self.transport.offer(self.hub.clone());
        let (hub, transport, stop) = (self.hub.clone(), self.transport.clone(), self.stop_hub.clone());
        self.tasks.spawn(|_| async move {
            hub.run(transport.clone(), stop)
                .await
                .expect("the hub drains in time");
        });
    }

    /// Starts an agent over a probe, through a wire that can be cut.
    pub fn agent(&self, name: &str) -> Running {
        self.agent_with(name, ProbeExecutor::default(), |agent| agent)
    }

    pub fn agent_with(
        &self,
        name: &str,
        probe: ProbeExecutor,
        options: impl FnOnce(Agent) -> Agent,
    ) -> Running {
        let wire = FaultyConnector::new(self.transport.clone(), |_| Fault::None);
        let source = self.tokens.source_for(self.machine(&[name]), TOKEN_LIFE);
        let agent = Agent::new(AgentName::new(name).unwrap(), wire.clone(), source, probe.clone())
            .with_clock(self.clock.clone())
            .with_entropy(Entropy::seeded(2));
        let agent = options(agent);
        let health = agent.status();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        self.tasks.spawn(|_| async move {
            agent.run(stopped).await.expect("the agent stops in time");
        });
        Running {
            probe,
            wire,
            health,
            stop,
        }
    }

    /// A machine credential of the tenant that may claim these names.
    pub fn machine(&self, agents: &[&str]) -> Principal {
        Principal {
            kind: PrincipalKind::Machine,
            id: "agents-of-acme".into(),
            display: "agents of acme".into(),
            tenant: Some(tenant()),
            scopes: ["connect:agentHub".to_owned()].into(),
            roles: Default::default(),
            agents: agents.iter().map(|name| AgentName::new(*name).unwrap()).collect(),
            expires_at: Timestamp::MAX,
        }
    }

    /// What the hub says of one agent.
    pub async fn status(&self, name: &str) -> Option<AgentStatus> {
        let all = self.hub.agents(&tenant()).await.unwrap();
        all.into_iter().find(|status| status.name.as_str() == name)
    }

    pub async fn epoch(&self, name: &str) -> Option<u64> {
        Some(self.status(name).await?.instances.first()?.epoch)
    }
}

impl Running {
    pub async fn connected(&mut self) -> (aurora_core::id::SessionId, u64) {
        let health = self
            .health
            .wait_for(|health| matches!(health.state, AgentState::Connected { .. }))
            .await
            .expect("the agent runs");
        match health.state {
            AgentState::Connected { session, epoch } => (session, epoch),
            _ => unreachable!("waited for it"),
        }
    }

    /// Waits for a session with a later epoch.
    pub async fn connected_after(&mut self, earlier: u64) -> u64 {
        let health = self
            .health
            .wait_for(|health| matches!(health.state, AgentState::Connected { epoch, .. } if epoch > earlier))
            .await
            .expect("the agent runs");
        match health.state {
            AgentState::Connected { epoch, .. } => epoch,
            _ => unreachable!("waited for it"),
        }
    }
}

pub fn tenant() -> Tenant {
    Tenant::new("acme", "main").unwrap()
}

pub fn key(name: &str) -> AgentKey {
    AgentKey::new(tenant(), AgentName::new(name).unwrap())
}

/// Polls a question until it is answered with yes; virtual time goes on between the questions.
pub async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    for _ in 0..100_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never held");
}
