//! Opening, replacing, losing and draining sessions.

use std::time::Duration;

use aurora_core::agent::AgentState;
use aurora_core::port::router::laws::{ProbeExecutor, ping};
use aurora_core::port::router::{CommandRouter as _, Order};
use aurora_core::port::transport::{Connector as _, Link};
use aurora_core::session::{CloseReason, FromAgent, FromHub, Hello};
use tokio::time::Instant;

use crate::bed::{Bed, HEARTBEAT, TOKEN_LIFE, key, until};
use aurora_core::command::{Acted, Outcome, Reply};
use aurora_core::error::ErrorKind;
use aurora_core::id::InstanceId;
use aurora_core::port::router::laws::{act, outcome};
use jiff::Timestamp;

#[tokio::test(start_paused = true)]
async fn an_agent_connects_and_is_listed_with_what_it_said() {
    let bed = Bed::new();
    let mut agent = bed.agent_with("staging", ProbeExecutor::default(), |agent| {
        agent.with_software("probe/1").with_label("platform", "none")
    });
    let (session, epoch) = agent.connected().await;
    let status = bed.status("staging").await.unwrap();
    let instance = &status.instances[0];
    assert_eq!((instance.session, instance.epoch), (session, epoch));
    assert_eq!(instance.software, "probe/1");
    assert_eq!(instance.client, "agents-of-acme");
    assert_eq!(instance.clock_offset_ms, 0);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_the_credential_does_not_list_is_denied() {
    let bed = Bed::new();
    let source = bed.tokens.source_for(bed.machine(&["prod"]), TOKEN_LIFE);
    let (reason, _) = refused_hello(&bed, source, hello("staging", 1, 1)).await;
    assert_eq!(reason, CloseReason::Denied);
    assert!(bed.status("staging").await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_credential_without_the_scope_is_denied() {
    let bed = Bed::new();
    let mut principal = bed.machine(&["staging"]);
    principal.scopes.clear();
    let source = bed.tokens.source_for(principal, TOKEN_LIFE);
    let (reason, _) = refused_hello(&bed, source, hello("staging", 1, 1)).await;
    assert_eq!(reason, CloseReason::Denied);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_the_hub_does_not_speak_is_refused() {
    let bed = Bed::new();
    let source = bed.tokens.source_for(bed.machine(&["staging"]), TOKEN_LIFE);
    let mut newer = hello("staging", 1, 1);
    newer.versions = (9, 8);
    let (reason, _) = refused_hello(&bed, source, newer).await;
    assert_eq!(reason, CloseReason::Version);
}

#[tokio::test(start_paused = true)]
async fn a_session_without_a_hello_is_closed_after_five_seconds() {
    let bed = Bed::new();
    let token = bed.tokens.issue(bed.machine(&["staging"]));
    let mut link = bed.transport.connect(&token.secret).await.unwrap();
    let started = Instant::now();
    assert!(matches!(
        link.rx.recv().await,
        Some(FromHub::Goodbye {
            reason: CloseReason::Protocol,
            ..
        })
    ));
    assert_eq!(started.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn the_newest_session_of_an_instance_wins_at_once() {
    let bed = Bed::new();
    let mut old = open(&bed, hello("staging", 1, 1)).await;
    let old_epoch = bed.epoch("staging").await.unwrap();
    let in_flight = bed.hub.route(&key("staging"), Order::new(ping(1))).await.unwrap();
    let FromHub::Command { request, .. } = old.rx.recv().await.unwrap() else {
        panic!("a command was sent")
    };
    let mut new = open(&bed, hello("staging", 1, 1)).await;
    assert!(bed.epoch("staging").await.unwrap() > old_epoch);
    assert_eq!(outcome(in_flight).await, Outcome::AgentLost { dispatched: true });
    // The old session is told, and nothing that it says counts any more.
    let _ = old
        .tx
        .send(FromAgent::Update {
            request,
            update: aurora_core::command::Update::Finished(Outcome::Ok(Reply::Pong(vec![1]))),
        })
        .await;
    loop {
        match old.rx.recv().await {
            Some(FromHub::Goodbye { reason, .. }) => break assert_eq!(reason, CloseReason::Superseded),
            Some(_) => {}
            None => panic!("the old session is told why it ends"),
        }
    }
    let answered = bed.hub.route(&key("staging"), Order::new(ping(2))).await.unwrap();
    assert!(
        matches!(new.rx.recv().await, Some(FromHub::Command { .. })),
        "the new session gets commands"
    );
    drop(answered);
}

#[tokio::test(start_paused = true)]
async fn an_undeclared_second_instance_gets_a_conflict_and_the_first_serves_on() {
    let bed = Bed::new();
    let mut first = bed.agent("staging");
    let (session, _) = first.connected().await;
    let mut second = bed.agent_with("staging", ProbeExecutor::default(), |agent| {
        agent.with_entropy(aurora_core::entropy::Entropy::seeded(99))
    });
    let refused = second
        .health
        .wait_for(|health| health.last_problem.is_some())
        .await
        .unwrap()
        .clone();
    assert!(refused.last_problem.unwrap().contains("declare its replicas"));
    // Ten minutes of retries change nothing.
    tokio::time::sleep(Duration::from_secs(600)).await;
    let status = bed.status("staging").await.unwrap();
    assert_eq!(status.instances.len(), 1);
    assert_eq!(status.instances[0].session, session);
    // Once the first is gone the second takes over.
    first.stop.cancel();
    second.connected().await;
}

#[tokio::test(start_paused = true)]
async fn declared_replicas_share_the_work() {
    let bed = Bed::new();
    let (one, two) = (ProbeExecutor::default(), ProbeExecutor::default());
    let mut agents = Vec::new();
    for (seed, probe) in [(7, &one), (8, &two)] {
        probe.hold();
        let mut agent = bed.agent_with("staging", probe.clone(), |agent| {
            agent
                .with_replicas(2)
                .with_entropy(aurora_core::entropy::Entropy::seeded(seed))
        });
        agent.connected().await;
        agents.push(agent);
    }
    assert_eq!(bed.status("staging").await.unwrap().instances.len(), 2);
    let mut pending = Vec::new();
    for version in 1..=4 {
        let order = Order::new(act(version, Duration::from_secs(60)));
        pending.push(bed.hub.route(&key("staging"), order).await.unwrap());
    }
    one.until(|seen| seen.running == 1).await;
    two.until(|seen| seen.running == 1).await;
    one.release();
    two.release();
    for updates in pending {
        assert_eq!(outcome(updates).await, Outcome::Ok(Reply::Acted(Acted::Done)));
    }
    assert_eq!((one.seen().mutations, two.seen().mutations), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_silent_agent_is_lost_after_two_and_a_half_heartbeats() {
    let bed = Bed::new();
    let mut link = open(&bed, hello("staging", 1, 1)).await;
    let started = Instant::now();
    let mut heartbeats = 0;
    loop {
        match link.rx.recv().await {
            Some(FromHub::Heartbeat) => heartbeats += 1,
            Some(FromHub::Goodbye { reason, .. }) => break assert_eq!(reason, CloseReason::Silent),
            Some(other) => panic!("unexpected {other:?}"),
            None => panic!("the agent is told why the session ends"),
        }
    }
    assert_eq!(started.elapsed(), HEARTBEAT * 5 / 2);
    assert_eq!(heartbeats, 2);
    until(|| async { bed.status("staging").await.unwrap().instances.is_empty() }).await;
    let refused = bed
        .hub
        .route(&key("staging"), Order::new(ping(1)))
        .await
        .err()
        .unwrap();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn any_frame_is_a_sign_of_life() {
    let bed = Bed::new();
    let mut link = open(&bed, hello("staging", 1, 1)).await;
    for _ in 0..20 {
        tokio::time::sleep(HEARTBEAT * 2).await;
        link.tx
            .send(FromAgent::Inventory(aurora_core::session::Inventory::Begin {
                generation: 1,
            }))
            .await
            .unwrap();
        while let Ok(frame) = link.rx.try_recv() {
            assert!(matches!(frame, FromHub::Heartbeat));
        }
    }
    assert_eq!(bed.status("staging").await.unwrap().instances.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_lives_for_hours() {
    let bed = Bed::new();
    let mut agent = bed.agent("staging");
    let (session, _) = agent.connected().await;
    tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
    assert_eq!(agent.connected().await.0, session);
    let now = aurora_core::port::clock::Clock::now(&bed.clock);
    let age = agent.health.borrow().hub_frame_age(now).unwrap();
    assert!(age <= HEARTBEAT, "the hub was heard {age:?} ago");
}

#[tokio::test(start_paused = true)]
async fn a_cut_link_is_opened_again_with_a_later_epoch() {
    let bed = Bed::new();
    let mut agent = bed.agent("staging");
    let (_, mut epoch) = agent.connected().await;
    for _ in 0..10 {
        agent.wire.cut();
        epoch = agent.connected_after(epoch).await;
    }
    let answered = bed.hub.route(&key("staging"), Order::new(ping(1))).await.unwrap();
    assert_eq!(outcome(answered).await, Outcome::Ok(Reply::Pong(vec![1])));
}

#[tokio::test(start_paused = true)]
async fn attempts_spread_out_and_stay_below_a_minute_apart() {
    let bed = Bed::new();
    let mut agent = bed.agent("staging");
    let (_, epoch) = agent.connected().await;
    agent.wire.set_reachable(false);
    agent.wire.cut();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(matches!(agent.health.borrow().state, AgentState::Connecting));
    assert!(
        agent
            .health
            .borrow()
            .last_problem
            .as_deref()
            .unwrap()
            .contains("cannot be reached")
    );
    let back = Instant::now();
    agent.wire.set_reachable(true);
    agent.connected_after(epoch).await;
    assert!(back.elapsed() <= Duration::from_secs(61), "{:?}", back.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_stopping_hub_waits_for_commands_in_hand_and_says_goodbye() {
    let bed = Bed::new();
    let mut agent = bed.agent("staging");
    let (_, epoch) = agent.connected().await;
    agent.probe.hold();
    let updates = bed
        .hub
        .route(&key("staging"), Order::new(act(1, Duration::from_secs(60))))
        .await
        .unwrap();
    agent.probe.until(|seen| seen.running == 1).await;
    bed.stop_hub.cancel();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let refused = bed
        .hub
        .route(&key("staging"), Order::new(ping(1)))
        .await
        .err()
        .unwrap();
    assert_eq!(
        refused.kind(),
        ErrorKind::Unavailable,
        "a draining hub takes nothing new"
    );
    agent.probe.release();
    assert_eq!(outcome(updates).await, Outcome::Ok(Reply::Acted(Acted::Done)));
    // A hub that comes back gets its agent back.
    until(|| async { bed.status("staging").await.unwrap().instances.is_empty() }).await;
    let again = Bed {
        stop_hub: tokio_util::sync::CancellationToken::new(),
        ..bed
    };
    again.start_hub();
    agent.connected_after(epoch).await;
}

#[tokio::test(start_paused = true)]
async fn a_drained_agent_opens_the_next_session_before_it_leaves_the_first() {
    let first = Bed::new();
    let mut agent = first.agent("staging");
    let (_, epoch) = agent.connected().await;
    agent.probe.hold();
    let updates = first
        .hub
        .route(&key("staging"), Order::new(act(1, Duration::from_secs(60))))
        .await
        .unwrap();
    agent.probe.until(|seen| seen.running == 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Another hub behind the same address: what is accepted from now on is accepted by it.
    let second = aurora_core::hub::Hub::new(first.clock.clone()).with_verifier(first.tokens.clone());
    first.stop_hub.cancel();
    let (hub, transport) = (second.clone(), first.transport.clone());
    first.tasks.spawn(|stop| async move {
        let _ = hub.run(transport, stop).await;
    });
    agent.connected_after(epoch).await;
    let answered = second.route(&key("staging"), Order::new(ping(1))).await.unwrap();
    assert_eq!(
        outcome(answered).await,
        Outcome::Ok(Reply::Pong(vec![1])),
        "the new session serves"
    );
    agent.probe.release();
    assert_eq!(
        outcome(updates).await,
        Outcome::Ok(Reply::Acted(Acted::Done)),
        "the old one finished what it had in hand"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stopping_agent_finishes_its_mutations_and_no_task_is_left() {
    let bed = Bed::new();
    let mut agent = bed.agent("staging");
    agent.connected().await;
    agent.probe.hold();
    let updates = bed
        .hub
        .route(&key("staging"), Order::new(act(1, Duration::from_secs(60))))
        .await
        .unwrap();
    agent.probe.until(|seen| seen.running == 1).await;
    agent.stop.cancel();
    tokio::time::sleep(Duration::from_secs(5)).await;
    agent.probe.release();
    assert_eq!(outcome(updates).await, Outcome::Ok(Reply::Acted(Acted::Done)));
    agent
        .health
        .wait_for(|health| health.state == AgentState::Stopped)
        .await
        .unwrap();
    bed.stop_hub.cancel();
    bed.tasks.drain(Duration::from_secs(60)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_inventory_arrives_whole_and_changes_follow() {
    let bed = Bed::new();
    let probe = ProbeExecutor::default();
    let item = |name: &str| {
        let value = aurora_core::session::InventoryItem {
            kind: "namespace".into(),
            name: name.into(),
            facts: Default::default(),
        };
        (name.to_owned(), value)
    };
    probe.stock((0..200).map(|n| item(&format!("ns{n}"))).collect());
    let mut agent = bed.agent_with("staging", probe.clone(), |agent| agent);
    agent.connected().await;
    let count = || async {
        let held = bed.status("staging").await.unwrap().inventory;
        held.map(|held| (held.generation, held.items.len()))
    };
    until(|| async { count().await == Some((1, 200)) }).await;
    probe.stock((100..210).map(|n| item(&format!("ns{n}"))).collect());
    until(|| async { count().await == Some((1, 110)) }).await;
    assert!(
        bed.status("staging")
            .await
            .unwrap()
            .inventory
            .unwrap()
            .items
            .contains_key("ns209")
    );
}

/// Opens a session by hand.
async fn open(bed: &Bed, hello: Hello) -> Link<FromAgent, FromHub> {
    let token = bed.tokens.issue(bed.machine(&["staging"]));
    let mut link = bed.transport.connect(&token.secret).await.unwrap();
    link.tx.send(FromAgent::Hello(hello)).await.unwrap();
    match link.rx.recv().await {
        Some(FromHub::Welcome(_)) => link,
        other => panic!("a welcome was expected, not {other:?}"),
    }
}

async fn refused_hello(
    bed: &Bed,
    source: impl aurora_core::port::token::TokenSource,
    hello: Hello,
) -> (CloseReason, Duration) {
    let now = aurora_core::port::clock::Clock::now(&bed.clock);
    let token = source.token(now).await.unwrap();
    let mut link = bed.transport.connect(&token.secret).await.unwrap();
    link.tx.send(FromAgent::Hello(hello)).await.unwrap();
    match link.rx.recv().await {
        Some(FromHub::Goodbye { reason, retry_after }) => (reason, retry_after),
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

fn hello(name: &str, instance: u8, replicas: u32) -> Hello {
    Hello {
        agent: aurora_core::account::AgentName::new(name).unwrap(),
        instance: InstanceId::at(Timestamp::UNIX_EPOCH, [instance; 10]),
        replicas,
        versions: (1, 1),
        features: vec![],
        software: "by hand".into(),
        labels: Default::default(),
        now: "2026-03-01T12:00:00Z".parse().unwrap(),
    }
}
