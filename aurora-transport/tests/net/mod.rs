//! A hub on loopback TLS with certificates of the test's own.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "each test binary includes this file and uses its own part of it; a test reports by panicking"
)]

use std::net::SocketAddr;
use std::time::Duration;

use aurora_core::account::{AgentKey, AgentName};
use aurora_core::hub::Hub;
use aurora_core::port::clock::SystemClock;
use aurora_core::port::token::memory::InMemoryTokens;
use aurora_core::principal::{Principal, PrincipalKind};
use aurora_core::tasks::Tasks;
use aurora_core::tenant::Tenant;
use aurora_transport::grpc::{GrpcListener, RoutingService, ServerTls, listen, serve};
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_util::sync::CancellationToken;

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server's certificate for loopback, and its key.
    pub fn server(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let cert = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        (cert.pem(), key.serialize_pem())
    }
}

/// A hub that serves agents and callers on one port.
pub struct Net {
    pub authority: Authority,
    pub tls: ServerTls,
    pub tokens: InMemoryTokens,
    pub hub: Hub,
    pub address: SocketAddr,
    pub tasks: Tasks,
    /// Stops the server, so that every connection breaks.
    pub stop: CancellationToken,
}

impl Net {
    pub fn start(options: impl FnOnce(Hub) -> Hub) -> Self {
        let tokens = InMemoryTokens::new();
        let hub = options(Hub::new(SystemClock).with_verifier(tokens.clone()));
        let listener = GrpcListener::new(tokens.clone(), SystemClock, hub.clone());
        let stop = CancellationToken::new();
        let callers = RoutingService::new(hub.clone(), tokens.clone(), SystemClock).with_stop(stop.clone());
        let routes = callers.add_to(listener.routes()).into_axum_router();
        let net = Self::serving(tokens, hub, routes, stop);
        let (hub, stop) = (net.hub.clone(), net.stop.clone());
        net.tasks.spawn(|_| async move {
            let _ = hub.run(listener, stop).await;
        });
        net
    }

    pub fn serving(tokens: InMemoryTokens, hub: Hub, routes: axum::Router, stop: CancellationToken) -> Self {
        let authority = Authority::new("first");
        let (cert, key) = authority.server();
        let tls = ServerTls::from_pem(cert.as_bytes(), key.as_bytes()).unwrap();
        let socket = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let tasks = Tasks::new();
        let (serving, stopped) = (tls.clone(), stop.clone());
        tasks.spawn(|_| async move {
            let _ = serve(socket, serving, routes, stopped, Duration::from_secs(5)).await;
        });
        Self {
            authority,
            tls,
            tokens,
            hub,
            address,
            tasks,
            stop,
        }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

pub fn tenant() -> Tenant {
    Tenant::new("acme", "main").unwrap()
}

pub fn key(name: &str) -> AgentKey {
    AgentKey::new(tenant(), AgentName::new(name).unwrap())
}

/// A machine credential that may claim these names.
pub fn machine(agents: &[&str]) -> Principal {
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

/// The credential of one of Aurora's own parts.
pub fn service() -> Principal {
    Principal {
        kind: PrincipalKind::Service,
        id: "control-plane".into(),
        display: "control plane".into(),
        tenant: None,
        scopes: ["route:commands".to_owned()].into(),
        roles: Default::default(),
        agents: Default::default(),
        expires_at: Timestamp::MAX,
    }
}
