//! Sessions and the tokens that they live on.

use std::time::Duration;

use aurora_core::agent::AgentState;
use aurora_core::port::router::laws::{outcome, ping};
use aurora_core::port::router::{CommandRouter as _, Order};
use aurora_core::port::token::memory::IssuerAnswers;
use aurora_core::port::transport::Connector as _;
use aurora_core::session::{CloseReason, FromAgent, FromHub};
use tokio::time::Instant;

use crate::bed::{Bed, TOKEN_LIFE, key};
use aurora_core::command::{Outcome, Reply};
use aurora_core::port::clock::Clock as _;

#[tokio::test(start_paused = true)]
async fn one_session_lives_through_many_tokens() {
    let bed = Bed::new();
    let mut agent = bed.agent("staging");
    let (session, _) = agent.connected().await;
    tokio::time::sleep(TOKEN_LIFE * 10).await;
    assert_eq!(
        agent.connected().await.0,
        session,
        "each new token prolonged the session"
    );
    assert!(bed.tokens.issued() >= 10);
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_token_and_half_a_minute() {
    let bed = Bed::new();
    let mut agent = bed.agent("staging");
    let (_, epoch) = agent.connected().await;
    bed.tokens.answer_with(IssuerAnswers::Nothing);
    let started = Instant::now();
    agent
        .health
        .wait_for(|health| matches!(health.state, AgentState::Connecting))
        .await
        .unwrap();
    let lived = started.elapsed();
    let most = TOKEN_LIFE + Duration::from_secs(31);
    assert!(lived >= TOKEN_LIFE && lived <= most, "it lived for {lived:?}");
    // With the issuer back a new session comes with a new token.
    bed.tokens.answer_with(IssuerAnswers::Tokens);
    agent.connected_after(epoch).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_refresh_is_drained_and_then_told_that_its_token_ended() {
    let bed = Bed::new();
    let mut principal = bed.machine(&["staging"]);
    principal.expires_at = bed.clock.now().checked_add(Duration::from_secs(60)).unwrap();
    let token = bed.tokens.issue(principal);
    let mut link = bed.transport.connect(&token.secret).await.unwrap();
    link.tx.send(FromAgent::Hello(hello())).await.unwrap();
    let started = Instant::now();
    let (mut drained, mut beat) = (None, tokio::time::interval(Duration::from_secs(10)));
    loop {
        tokio::select! {
            frame = link.rx.recv() => match frame {
                Some(FromHub::Drain { .. }) => drained = Some(started.elapsed()),
                Some(FromHub::Goodbye { reason, .. }) => break assert_eq!(reason, CloseReason::Expired),
                Some(_) => {}
                None => panic!("the agent is told why the session ends"),
            },
            _ = beat.tick() => {
                let _ = link.tx.send(FromAgent::Heartbeat(vec![])).await;
            }
        }
    }
    assert_eq!(drained, Some(Duration::from_secs(60)));
    assert_eq!(started.elapsed(), Duration::from_secs(90));
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_token_prolongs_nothing() {
    let bed = Bed::new();
    let mut principal = bed.machine(&["staging"]);
    principal.expires_at = bed.clock.now().checked_add(Duration::from_secs(30)).unwrap();
    let token = bed.tokens.issue(principal);
    let mut link = bed.transport.connect(&token.secret).await.unwrap();
    link.tx.send(FromAgent::Hello(hello())).await.unwrap();
    let mut other = bed.machine(&["staging"]);
    other.id = "somebody else".into();
    let other = bed.tokens.issue(other);
    link.tx.send(FromAgent::AuthRefresh(other.secret)).await.unwrap();
    let started = Instant::now();
    loop {
        match link.rx.recv().await {
            Some(FromHub::Drain { .. }) => break,
            Some(_) => {}
            None => panic!("the session is drained first"),
        }
    }
    assert_eq!(started.elapsed(), Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_not_tried_again_before_it_changes() {
    let bed = Bed::new();
    let mut agent = bed.agent("staging");
    let (_, epoch) = agent.connected().await;
    // The hub trusts an issuer that has not issued this token.
    let strict = bed.tokens.clone().with_issuer("https://another.example");
    let transport = aurora_core::port::transport::InMemoryTransport::new(strict, bed.clock.clone());
    let source = bed.tokens.source_for(bed.machine(&["staging"]), TOKEN_LIFE);
    let counted = Counted {
        inner: transport,
        attempts: Default::default(),
    };
    let attempts = counted.attempts.clone();
    let refused = aurora_core::agent::Agent::new(
        key("staging").name,
        counted,
        source,
        aurora_core::port::router::laws::ProbeExecutor::default(),
    )
    .with_clock(bed.clock.clone());
    let mut health = refused.status();
    let stop = tokio_util::sync::CancellationToken::new();
    let stopped = stop.clone();
    bed.tasks
        .spawn(|_| async move { refused.run(stopped).await.unwrap() });
    health
        .wait_for(|health| health.state == AgentState::Refused)
        .await
        .unwrap();
    tokio::time::sleep(TOKEN_LIFE / 2).await;
    assert_eq!(attempts.load(std::sync::atomic::Ordering::Relaxed), 1);
    tokio::time::sleep(TOKEN_LIFE).await;
    assert!(
        attempts.load(std::sync::atomic::Ordering::Relaxed) >= 2,
        "a new token is tried"
    );
    stop.cancel();
    // The other agent is not concerned.
    assert_eq!(agent.connected().await.1, epoch);
    let answered = bed.hub.route(&key("staging"), Order::new(ping(1))).await.unwrap();
    assert_eq!(outcome(answered).await, Outcome::Ok(Reply::Pong(vec![1])));
}

#[derive(Debug)]
struct Counted {
    inner: aurora_core::port::transport::InMemoryTransport,
    attempts: std::sync::Arc<std::sync::atomic::AtomicU32>,
}

#[async_trait::async_trait]
impl aurora_core::port::transport::Connector for Counted {
    async fn connect(
        &self,
        token: &aurora_core::secret::Secret,
    ) -> Result<aurora_core::port::transport::AgentLink, aurora_core::port::transport::TransportError> {
        self.attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.inner.connect(token).await
    }

    async fn fetch(
        &self,
        token: &aurora_core::secret::Secret,
        digest: aurora_core::digest::Digest,
    ) -> Result<bytes::Bytes, aurora_core::port::transport::TransportError> {
        self.inner.fetch(token, digest).await
    }
}

fn hello() -> aurora_core::session::Hello {
    aurora_core::session::Hello {
        agent: key("staging").name,
        instance: aurora_core::id::InstanceId::at(jiff::Timestamp::UNIX_EPOCH, [1; 10]),
        replicas: 1,
        versions: (1, 1),
        features: vec![],
        software: "by hand".into(),
        labels: Default::default(),
        now: jiff::Timestamp::UNIX_EPOCH,
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_token_ended_finishes_what_it_has_in_hand_beside_the_next_one() {
    let bed = Bed::new();
    let life = Duration::from_secs(60);
    let mut link = open_for(&bed, life).await;
    let updates = bed.hub.route(&key("staging"), Order::new(ping(1))).await.unwrap();
    let request = loop {
        match link.rx.recv().await {
            Some(FromHub::Command { request, .. }) => break request,
            Some(_) => {}
            None => panic!("the command is sent"),
        }
    };
    tokio::time::sleep(life / 2).await;
    link.tx.send(FromAgent::Heartbeat(vec![request])).await.unwrap();
    while !matches!(link.rx.recv().await, Some(FromHub::Drain { .. })) {}
    let _next = open_for(&bed, life).await;
    let update = aurora_core::command::Update::Finished(Outcome::Ok(Reply::Pong(vec![1])));
    link.tx.send(FromAgent::Update { request, update }).await.unwrap();
    assert_eq!(outcome(updates).await, Outcome::Ok(Reply::Pong(vec![1])));
}

async fn open_for(bed: &Bed, life: Duration) -> aurora_core::port::transport::AgentLink {
    let mut principal = bed.machine(&["staging"]);
    principal.expires_at = bed.clock.now().checked_add(life).unwrap();
    let token = bed.tokens.issue(principal);
    let mut link = bed.transport.connect(&token.secret).await.unwrap();
    link.tx.send(FromAgent::Hello(hello())).await.unwrap();
    assert!(matches!(link.rx.recv().await, Some(FromHub::Welcome(_))));
    link
}
