//! Sessions and caller streams over real loopback TLS.
#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

mod net;

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use aurora_core::account::AgentName;
use aurora_core::agent::{Agent, AgentState};
use aurora_core::command::{Acted, Outcome, Reply};
use aurora_core::error::ErrorKind;
use aurora_core::hub::Hub;
use aurora_core::port::clock::{Clock as _, SystemClock};
use aurora_core::port::router::laws::{ProbeExecutor, RouterUnderTest, act, outcome, ping};
use aurora_core::port::router::{CommandRouter as _, Order};
use aurora_core::port::token::memory::InMemoryTokens;
use aurora_core::port::transport::Connector as _;
use aurora_core::port::transport::faults::{Fault, FaultyConnector};
use aurora_core::port::transport::laws::{LawBlobs, TransportUnderTest};
use aurora_core::secret::Secret;
use aurora_transport::grpc::{GrpcConnector, GrpcListener, HubClient, Trust};
use tokio_util::sync::CancellationToken;

use net::{Authority, Net, key, machine, service, tenant};

const MINUTE: Duration = Duration::from_secs(60);

mod transport {
    use super::*;

    async fn over_grpc() -> TransportUnderTest {
        let tokens = InMemoryTokens::new();
        let listener = GrpcListener::new(tokens.clone(), SystemClock, LawBlobs);
        let routes = listener.routes().into_axum_router();
        let net = Net::serving(
            tokens.clone(),
            Hub::new(SystemClock),
            routes,
            CancellationToken::new(),
        );
        let connector = GrpcConnector::new(&net.url(), Trust::pem(net.authority.pem())).unwrap();
        TransportUnderTest {
            connector: Arc::new(connector),
            listener: Arc::new(listener),
            good: tokens.issue(machine(&["staging"])).secret,
            refused: Secret::new("nobody issued this"),
            keep: vec![Box::new(net.tasks.clone())],
        }
    }

    aurora_core::transport_laws!(real_time, over_grpc);
}

mod router {
    use super::*;

    async fn through_a_hub_client(probe: ProbeExecutor) -> RouterUnderTest {
        let net = Net::start(|hub| hub);
        let connector = GrpcConnector::new(&net.url(), Trust::pem(net.authority.pem())).unwrap();
        let wire = FaultyConnector::new(connector, |_| Fault::None);
        let source = net.tokens.source_for(machine(&["staging"]), 10 * MINUTE);
        let agent = Agent::new(AgentName::new("staging").unwrap(), wire.clone(), source, probe);
        let mut health = agent.status();
        net.tasks.spawn(|stop| async move {
            let _ = agent.run(stop).await;
        });
        let connected = health.wait_for(|health| matches!(health.state, AgentState::Connected { .. }));
        tokio::time::timeout(MINUTE, connected).await.unwrap().unwrap();
        let router = client(&net);
        RouterUnderTest {
            router: Arc::new(router),
            agent: key("staging"),
            lose: Box::new(move || {
                wire.set_reachable(false);
                wire.cut();
            }),
            keep: vec![Box::new(net)],
        }
    }

    aurora_core::router_laws!(real_time, through_a_hub_client);
}

fn client(net: &Net) -> HubClient {
    let source = net.tokens.source_for(service(), 10 * MINUTE);
    HubClient::new(&net.url(), Trust::pem(net.authority.pem()), source, SystemClock).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_agent_lives_through_three_token_lifetimes_and_a_change_of_the_ca() {
    let net = Net::start(|hub| hub.with_heartbeat(Duration::from_millis(200)));
    let bundle = Arc::new(Mutex::new(net.authority.pem()));
    let provided = Arc::clone(&bundle);
    let trust = Trust::provided(move || Ok(provided.lock().unwrap().clone().into_bytes()));
    let wire = FaultyConnector::new(GrpcConnector::new(&net.url(), trust).unwrap(), |_| Fault::None);
    let source = net
        .tokens
        .source_for(machine(&["staging"]), Duration::from_secs(2));
    let probe = ProbeExecutor::default();
    let agent = Agent::new(
        AgentName::new("staging").unwrap(),
        wire.clone(),
        source,
        probe.clone(),
    );
    let mut health = agent.status();
    net.tasks.spawn(|stop| async move {
        let _ = agent.run(stop).await;
    });
    let first = epoch(&mut health, 0).await;
    // The level to wait for: the issuer's fourth token is in use and the session is still the first.
    let started = SystemClock.now();
    tokio::time::timeout(MINUTE, async {
        while net.tokens.issued() < 4 {
            health.changed().await.unwrap();
        }
    })
    .await
    .unwrap();
    assert!(SystemClock.now().duration_since(started) >= jiff::SignedDuration::from_secs(4));
    assert_eq!(
        epoch(&mut health, 0).await,
        first,
        "one session lived through three tokens"
    );

    // The hub changes to another CA; the agent's bundle has both for a while, then only the new one.
    let next = Authority::new("second");
    let both = format!("{}{}", net.authority.pem(), next.pem());
    *bundle.lock().unwrap() = both;
    let (cert, server_key) = next.server();
    net.tls.reload(cert.as_bytes(), server_key.as_bytes()).unwrap();
    wire.cut();
    let second = epoch(&mut health, first).await;
    *bundle.lock().unwrap() = next.pem();
    wire.cut();
    epoch(&mut health, second).await;
    let answered = net
        .hub
        .route(&key("staging"), Order::new(act(1, MINUTE)))
        .await
        .unwrap();
    assert_eq!(outcome(answered).await, Outcome::Ok(Reply::Acted(Acted::Done)));

    // An agent that trusts only the old CA stays outside.
    let old = GrpcConnector::new(&net.url(), Trust::pem(net.authority.pem())).unwrap();
    let token = net.tokens.issue(machine(&["staging"])).secret;
    assert_eq!(
        old.connect(&token).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
}

async fn epoch(
    health: &mut tokio::sync::watch::Receiver<aurora_core::agent::AgentHealth>,
    after: u64,
) -> u64 {
    let connected = health
        .wait_for(|health| matches!(health.state, AgentState::Connected { epoch, .. } if epoch > after));
    match tokio::time::timeout(MINUTE, connected)
        .await
        .unwrap()
        .unwrap()
        .state
    {
        AgentState::Connected { epoch, .. } => epoch,
        _ => unreachable!("waited for it"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_without_the_scope_routes_nothing() {
    let net = Net::start(|hub| hub);
    let mut stranger = service();
    stranger.scopes.clear();
    for principal in [stranger, machine(&["staging"])] {
        let source = net.tokens.source_for(principal, 10 * MINUTE);
        let trust = Trust::pem(net.authority.pem());
        let router = HubClient::new(&net.url(), trust, source, SystemClock).unwrap();
        let refused = router
            .route(&key("staging"), Order::new(ping(1)))
            .await
            .err()
            .unwrap();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
        let refused = router.agents(&tenant()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
    }
    // The same with the right token is only a missing agent.
    let missing = client(&net)
        .route(&key("staging"), Order::new(ping(1)))
        .await
        .err()
        .unwrap();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_for_another_tenants_applied_set_is_denied() {
    let net = Net::start(|hub| hub);
    let mut foreign = act(1, MINUTE);
    if let aurora_core::command::Verb::Act(act) = &mut foreign.verb {
        act.set.tenant = "other/main".into();
    }
    let refused = client(&net)
        .route(&key("staging"), Order::new(foreign))
        .await
        .err()
        .unwrap();
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
    let mut nobodys = act(1, MINUTE);
    nobodys.initiator.clear();
    let refused = client(&net)
        .route(&key("staging"), Order::new(nobodys))
        .await
        .err()
        .unwrap();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_hub_went_away_says_so() {
    let net = Net::start(|hub| hub.with_drain(Duration::ZERO, Duration::from_millis(100)));
    let router = client(&net);
    assert!(router.agents(&tenant()).await.unwrap().is_empty());
    net.stop.cancel();
    net.tasks.drain(MINUTE).await.unwrap();
    let refused = router
        .route(&key("staging"), Order::new(ping(1)))
        .await
        .err()
        .unwrap();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
}

#[test]
fn addresses_that_are_not_plain_https_are_refused() {
    for address in [
        "http://hub:8443",
        "https://hub:8443/path",
        "hub:8443",
        "not an address",
    ] {
        let refused = GrpcConnector::new(address, Trust::pem("")).err();
        assert!(refused.is_some(), "{address} was taken");
    }
    let connector = GrpcConnector::new("https://hub:8443", Trust::pem("")).unwrap();
    let refused = connector.with_proxy("http://proxy:3128").unwrap_err();
    assert!(refused.to_string().contains("NO_PROXY"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_leaves_no_task() {
    let net = Net::start(|hub| hub.with_drain(Duration::ZERO, Duration::from_secs(1)));
    let connector = GrpcConnector::new(&net.url(), Trust::pem(net.authority.pem())).unwrap();
    let source = net.tokens.source_for(machine(&["staging"]), 10 * MINUTE);
    let agent = Agent::new(
        AgentName::new("staging").unwrap(),
        connector,
        source,
        ProbeExecutor::default(),
    );
    let mut health = agent.status();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let agents = aurora_core::tasks::Tasks::new();
    agents.spawn(|_| async move { agent.run(stopped).await.unwrap() });
    epoch(&mut health, 0).await;
    stop.cancel();
    agents.drain(MINUTE).await.unwrap();
    net.stop.cancel();
    net.tasks.drain(MINUTE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_asked_for_before_anything_else() {
    let net = Net::start(|hub| hub);
    let connector = GrpcConnector::new(&net.url(), Trust::pem(net.authority.pem())).unwrap();
    for token in ["", "not a token", "new\nline"] {
        let refused = connector.connect(&Secret::new(token)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unauthenticated, "{refused:?}");
    }
    // The right credential for another name opens a stream, and is then told that it is denied.
    let token = net.tokens.issue(machine(&["prod"])).secret;
    let mut link = connector.connect(&token).await.unwrap();
    let hello = aurora_core::session::Hello {
        agent: key("staging").name,
        instance: aurora_core::id::InstanceId::at(jiff::Timestamp::UNIX_EPOCH, [1; 10]),
        replicas: 1,
        versions: (1, 1),
        features: vec![],
        software: "by hand".into(),
        labels: Default::default(),
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    link.tx
        .send(aurora_core::session::FromAgent::Hello(hello))
        .await
        .unwrap();
    match link.rx.recv().await {
        Some(aurora_core::session::FromHub::Goodbye { reason, .. }) => {
            assert_eq!(reason, aurora_core::session::CloseReason::Denied);
        }
        other => panic!("a goodbye was expected, not {other:?}"),
    }
    assert!(link.rx.recv().await.is_none());
}
