//! What every transport must do, as tests that an implementer runs with [`transport_laws!`](crate::transport_laws).
#![expect(clippy::unwrap_used, reason = "a law reports by panicking")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{BlobOffer, Connector, Incoming, Link, Listener, TransportError};
use crate::command::{Outcome, Reply, Update};
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::id::RequestId;
use crate::principal::Principal;
use crate::secret::Secret;
use crate::session::{FromAgent, FromHub, Welcome};

/// Both ends of a transport, and tokens to try.
#[derive(Debug)]
pub struct TransportUnderTest {
    /// The agent's side.
    pub connector: Arc<dyn Connector>,
    /// The hub's side; it must offer [`LawBlobs`].
    pub listener: Arc<dyn Listener>,
    /// A token that is accepted.
    pub good: Secret,
    /// A token that is refused.
    pub refused: Secret,
    /// What must live as long as the test: tasks, servers.
    pub keep: Vec<Box<dyn KeepAlive>>,
}

/// Anything that a test holds on to.
pub trait KeepAlive: std::any::Any + std::fmt::Debug + Send {}

impl<T: std::any::Any + std::fmt::Debug + Send> KeepAlive for T {}

/// Offers one body to everybody.
#[derive(Clone, Copy, Debug)]
pub struct LawBlobs;

impl LawBlobs {
    /// The one body.
    pub fn body() -> Bytes {
        let bytes: Vec<u8> = (0..3 * 1024 * 1024 + 17).map(|n: u32| (n % 251) as u8).collect();
        Bytes::from(bytes)
    }
}

impl BlobOffer for LawBlobs {
    fn offered(&self, _principal: &Principal, digest: Digest) -> Option<Bytes> {
        let body = Self::body();
        (Digest::of(&body) == digest).then_some(body)
    }
}

/// Makes a test of each law; `setup` is an `async fn() -> TransportUnderTest`.
///
/// Tests run in paused time, or in real time after `real_time,` for adapters that reach a socket.
#[macro_export]
macro_rules! transport_laws {
    (real_time, $setup:path) => {
        $crate::transport_laws!(@all [tokio::test(flavor = "multi_thread", worker_threads = 2)] $setup);
    };
    ($setup:path) => {
        $crate::transport_laws!(@all [tokio::test(start_paused = true)] $setup);
    };
    (@all [$test:meta] $setup:path) => {
        $crate::transport_laws!(@each [$test] $setup;
            frames_keep_their_order_both_ways
            dropping_the_agents_end_closes_the_hubs
            dropping_the_hubs_end_closes_the_agents
            a_full_link_makes_the_sender_wait_and_loses_nothing
            a_refused_token_is_unauthenticated_and_opens_nothing
            a_blob_is_fetched_whole
            a_blob_that_is_not_offered_is_not_found
        );
    };
    (@each [$test:meta] $setup:path; $($law:ident)*) => {
        $(
            #[$test]
            async fn $law() {
                let under_test = $setup().await;
                $crate::port::transport::laws::$law(&under_test).await;
            }
        )*
    };
}

/// How long a law waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Frames arrive in the order in which they were sent, in both directions.
pub async fn frames_keep_their_order_both_ways(under_test: &TransportUnderTest) {
    let (agent, hub) = open(under_test).await;
    let (
        Link {
            tx: up,
            rx: mut down_seen,
        },
        Link {
            tx: down,
            rx: mut up_seen,
        },
    ) = (agent, hub);
    let send = async {
        for number in 0..500 {
            up.send(heartbeat(number)).await.expect("the hub reads");
            down.send(FromHub::Cancel(request(number)))
                .await
                .expect("the agent reads");
        }
    };
    let receive = async {
        for number in 0..500 {
            match patient(up_seen.recv()).await {
                Some(FromAgent::Heartbeat(ids)) => assert_eq!(ids, [request(number)], "order to the hub"),
                other => panic!("heartbeat {number} was expected, not {other:?}"),
            }
            match patient(down_seen.recv()).await {
                Some(FromHub::Cancel(id)) => assert_eq!(id, request(number), "order to the agent"),
                other => panic!("cancel {number} was expected, not {other:?}"),
            }
        }
    };
    tokio::join!(send, receive);
}

/// When the agent drops its end, the hub's receiver ends.
pub async fn dropping_the_agents_end_closes_the_hubs(under_test: &TransportUnderTest) {
    let (agent, mut hub) = open(under_test).await;
    agent.tx.send(heartbeat(1)).await.unwrap();
    drop(agent);
    assert!(matches!(
        patient(hub.rx.recv()).await,
        Some(FromAgent::Heartbeat(_)) | None
    ));
    while patient(hub.rx.recv()).await.is_some() {}
    patient(hub.tx.closed()).await;
}

/// When the hub drops its end, the agent's receiver ends.
pub async fn dropping_the_hubs_end_closes_the_agents(under_test: &TransportUnderTest) {
    let (mut agent, hub) = open(under_test).await;
    hub.tx.send(FromHub::Heartbeat).await.unwrap();
    drop(hub);
    let mut seen = 0;
    while patient(agent.rx.recv()).await.is_some() {
        seen += 1;
    }
    assert!(seen <= 1);
    patient(agent.tx.closed()).await;
}

/// While the other side does not read, a sender comes to wait; what was sent arrives later.
pub async fn a_full_link_makes_the_sender_wait_and_loses_nothing(under_test: &TransportUnderTest) {
    let (agent, mut hub) = open(under_test).await;
    let mut sent = 0_u64;
    // 64 KiB each: anything that takes 64 MiB unread has no bound.
    while let Ok(taken) = tokio::time::timeout(Duration::from_millis(300), agent.tx.send(bulky(sent))).await {
        taken.expect("the hub is there");
        sent += 1;
        assert!(sent < 1024, "an unread link must make the sender wait");
    }
    for number in 0..sent {
        match patient(hub.rx.recv()).await {
            Some(FromAgent::Update { request: id, .. }) => assert_eq!(id, request(number)),
            other => panic!("update {number} was expected, not {other:?}"),
        }
    }
    patient(agent.tx.send(heartbeat(1)))
        .await
        .expect("the link works on");
    assert!(matches!(
        patient(hub.rx.recv()).await,
        Some(FromAgent::Heartbeat(_))
    ));
}

/// A token that the hub does not accept is an error that no retry mends, and the hub sees no session.
pub async fn a_refused_token_is_unauthenticated_and_opens_nothing(under_test: &TransportUnderTest) {
    let refused = patient(under_test.connector.connect(&under_test.refused)).await;
    let error = refused.expect_err("a refused token opens no session");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    let digest = Digest::of(&LawBlobs::body());
    let error = patient(under_test.connector.fetch(&under_test.refused, digest))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    let (agent, _hub) = open(under_test).await;
    drop(agent);
}

/// A body larger than any frame arrives whole.
pub async fn a_blob_is_fetched_whole(under_test: &TransportUnderTest) {
    let body = LawBlobs::body();
    let fetched = patient(under_test.connector.fetch(&under_test.good, Digest::of(&body)))
        .await
        .unwrap();
    assert!(fetched == body, "{} of {} bytes", fetched.len(), body.len());
}

/// What the hub does not offer is not found.
pub async fn a_blob_that_is_not_offered_is_not_found(under_test: &TransportUnderTest) {
    let digest = Digest::of(b"nobody has this");
    let error = patient(under_test.connector.fetch(&under_test.good, digest))
        .await
        .unwrap_err();
    assert!(
        matches!(error, TransportError::NotFound { digest: named } if named == digest),
        "{error:?}"
    );
}

async fn open(under_test: &TransportUnderTest) -> (super::AgentLink, super::HubLink) {
    let connecting = under_test.connector.connect(&under_test.good);
    let (agent, incoming) = patient(async { tokio::join!(connecting, under_test.listener.accept()) }).await;
    let agent = agent.unwrap();
    let Incoming { principal, link, .. } = incoming.expect("the listener is open");
    assert!(!principal.id.is_empty());
    // A session's first frames are fixed, so an adapter may hold later ones to them.
    let mut agent = agent;
    let mut hub = link;
    agent.tx.send(FromAgent::Hello(hello())).await.unwrap();
    assert!(matches!(patient(hub.rx.recv()).await, Some(FromAgent::Hello(said)) if said == hello()));
    hub.tx.send(FromHub::Welcome(welcome())).await.unwrap();
    assert!(matches!(patient(agent.rx.recv()).await, Some(FromHub::Welcome(said)) if said == welcome()));
    (agent, hub)
}

async fn patient<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("this must happen in time")
}

fn request(number: u64) -> RequestId {
    let mut entropy = [0; 10];
    entropy[2..].copy_from_slice(&number.to_be_bytes());
    RequestId::at(jiff::Timestamp::UNIX_EPOCH, entropy)
}

fn heartbeat(number: u64) -> FromAgent {
    FromAgent::Heartbeat(vec![request(number)])
}

fn bulky(number: u64) -> FromAgent {
    FromAgent::Update {
        request: request(number),
        update: Update::Finished(Outcome::Ok(Reply::Pong(vec![7; 64 * 1024]))),
    }
}

fn hello() -> crate::session::Hello {
    crate::session::Hello {
        agent: crate::account::AgentName::new("staging").unwrap(),
        instance: crate::id::InstanceId::at(jiff::Timestamp::UNIX_EPOCH, [3; 10]),
        replicas: 1,
        versions: (
            crate::session::PROTOCOL_VERSION,
            crate::session::OLDEST_PROTOCOL_VERSION,
        ),
        features: vec!["observe".into()],
        software: "laws".into(),
        labels: [("platform".to_owned(), "none".to_owned())].into(),
        now: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn welcome() -> Welcome {
    Welcome {
        session: crate::id::SessionId::at(jiff::Timestamp::UNIX_EPOCH, [4; 10]),
        epoch: 7,
        version: crate::session::PROTOCOL_VERSION,
        features: vec![],
        heartbeat: Duration::from_secs(20),
        expires_at: jiff::Timestamp::from_second(3600).unwrap(),
        credit: 65_536,
    }
}
