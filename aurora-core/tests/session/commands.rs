//! Commands over sessions that break, slow readers, repeats and limits.

use std::time::Duration;

use aurora_core::command::{Acted, Outcome, Reply, Update, Verb};
use aurora_core::error::ErrorKind;
use aurora_core::port::router::laws::{ProbeExecutor, act, command, outcome, ping, probe_level, sample_plan};
use aurora_core::port::router::{CommandRouter as _, Order, RouteError};
use aurora_core::port::transport::{BlobOffer as _, Connector as _};
use aurora_core::session::{FromAgent, FromHub};
use bytes::Bytes;
use futures::StreamExt as _;

use crate::bed::{Bed, HEARTBEAT, key, until};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_repeat_after_a_cut_gets_the_first_deliverys_result() {
    let bed = Bed::new();
    let mut agent = bed.agent("staging");
    let (_, epoch) = agent.connected().await;
    agent.probe.hold();
    let first = bed
        .hub
        .route(&key("staging"), Order::new(act(1, 10 * MINUTE)))
        .await
        .unwrap();
    agent.probe.until(|seen| seen.running == 1).await;
    agent.wire.cut();
    assert_eq!(outcome(first).await, Outcome::AgentLost { dispatched: true });
    agent.connected_after(epoch).await;
    assert_eq!(
        agent.probe.seen().running,
        1,
        "a lost link does not stop a mutation"
    );
    let second = bed
        .hub
        .route(&key("staging"), Order::new(act(1, 10 * MINUTE)))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    agent.probe.release();
    assert_eq!(outcome(second).await, Outcome::Ok(Reply::Acted(Acted::Done)));
    assert_eq!(agent.probe.seen().mutations, 1);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_at_another_hub_is_answered_from_the_agents_table() {
    let bed = Bed::new();
    let mut agent = bed.agent("staging");
    let (_, epoch) = agent.connected().await;
    let done = Outcome::Ok(Reply::Acted(Acted::Done));
    let first = bed
        .hub
        .route(&key("staging"), Order::new(act(1, MINUTE)))
        .await
        .unwrap();
    assert_eq!(outcome(first).await, done);
    // A hub without memory takes over.
    bed.stop_hub.cancel();
    until(|| async { bed.status("staging").await.unwrap().instances.is_empty() }).await;
    let fresh = aurora_core::hub::Hub::new(bed.clock.clone()).with_verifier(bed.tokens.clone());
    let (hub, transport) = (fresh.clone(), bed.transport.clone());
    bed.tasks.spawn(|stop| async move {
        let _ = hub.run(transport, stop).await;
    });
    agent.connected_after(epoch).await;
    let again = fresh
        .route(&key("staging"), Order::new(act(1, MINUTE)))
        .await
        .unwrap();
    assert_eq!(outcome(again).await, done);
    assert_eq!(agent.probe.seen().mutations, 1);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_never_reached_the_agent_is_told_as_not_dispatched() {
    let bed = Bed::new();
    let token = bed.tokens.issue(bed.machine(&["staging"]));
    let mut link = bed.transport.connect(&token.secret).await.unwrap();
    link.tx.send(FromAgent::Hello(hello())).await.unwrap();
    assert!(matches!(link.rx.recv().await, Some(FromHub::Welcome(_))));
    // Nobody reads: the link fills up and the rest waits at the hub.
    let mut pending = Vec::new();
    for number in 0..100 {
        pending.push(
            bed.hub
                .route(&key("staging"), Order::new(ping(number)))
                .await
                .unwrap(),
        );
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(link);
    let mut outcomes = Vec::new();
    for updates in pending {
        outcomes.push(outcome(updates).await);
    }
    assert_eq!(outcomes[0], Outcome::AgentLost { dispatched: true });
    assert_eq!(outcomes[99], Outcome::AgentLost { dispatched: false });
}

#[tokio::test(start_paused = true)]
async fn a_link_that_takes_nothing_is_given_up_after_ten_seconds() {
    let bed = Bed::new();
    let token = bed.tokens.issue(bed.machine(&["staging"]));
    let mut link = bed.transport.connect(&token.secret).await.unwrap();
    link.tx.send(FromAgent::Hello(hello())).await.unwrap();
    assert!(matches!(link.rx.recv().await, Some(FromHub::Welcome(_))));
    let mut pending = Vec::new();
    for number in 0..100 {
        pending.push(
            bed.hub
                .route(&key("staging"), Order::new(ping(number)))
                .await
                .unwrap(),
        );
    }
    let started = tokio::time::Instant::now();
    assert_eq!(
        outcome(pending.pop().unwrap()).await,
        Outcome::AgentLost { dispatched: false }
    );
    assert_eq!(started.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn too_many_commands_in_flight_are_refused_at_once() {
    let bed = Bed::with(|hub| hub.with_in_flight(3));
    let mut agent = bed.agent("staging");
    agent.connected().await;
    agent.probe.hold();
    let mut pending = Vec::new();
    for version in 1..=3 {
        pending.push(
            bed.hub
                .route(&key("staging"), Order::new(act(version, MINUTE)))
                .await
                .unwrap(),
        );
    }
    let refused = bed
        .hub
        .route(&key("staging"), Order::new(act(4, MINUTE)))
        .await
        .err()
        .unwrap();
    assert_eq!(refused.kind(), ErrorKind::Exhausted);
    agent.probe.release();
    for updates in pending {
        outcome(updates).await;
    }
    let after = bed
        .hub
        .route(&key("staging"), Order::new(act(4, MINUTE)))
        .await
        .unwrap();
    assert_eq!(outcome(after).await, Outcome::Ok(Reply::Acted(Acted::Done)));
}

#[tokio::test(start_paused = true)]
async fn a_command_without_time_or_with_too_much_is_invalid() {
    let bed = Bed::new();
    let mut agent = bed.agent("staging");
    agent.connected().await;
    for deadline in [Duration::ZERO, Duration::from_secs(24 * 3600)] {
        let refused = bed
            .hub
            .route(&key("staging"), Order::new(act(1, deadline)))
            .await
            .err()
            .unwrap();
        assert!(matches!(refused, RouteError::Invalid { .. }), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_pings_pass_a_mutation_that_stands() {
    let bed = Bed::new();
    let mut agent = bed.agent("staging");
    agent.connected().await;
    agent.probe.hold();
    let _stands = bed
        .hub
        .route(&key("staging"), Order::new(act(1, 10 * MINUTE)))
        .await
        .unwrap();
    agent.probe.until(|seen| seen.running == 1).await;
    let started = tokio::time::Instant::now();
    for number in 0..1000 {
        let answered = bed
            .hub
            .route(&key("staging"), Order::new(ping(number)))
            .await
            .unwrap();
        assert_eq!(outcome(answered).await, Outcome::Ok(Reply::Pong(vec![1])));
    }
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_cancels_leave_nothing_in_hand() {
    let bed = Bed::new();
    let mut agent = bed.agent("staging");
    agent.connected().await;
    agent.probe.hold();
    for version in 1..=1000 {
        let updates = bed
            .hub
            .route(&key("staging"), Order::new(act(version, 10 * MINUTE)))
            .await
            .unwrap();
        drop(updates);
        tokio::task::yield_now().await;
    }
    until(|| async { bed.status("staging").await.unwrap().instances[0].in_flight == 0 }).await;
    agent.probe.until(|seen| seen.running == 0).await;
    assert_eq!(agent.probe.seen().mutations, 0);
}

#[tokio::test(start_paused = true)]
async fn an_observe_that_is_read_late_gives_the_latest_level() {
    let bed = Bed::with(|hub| hub.with_credit(1024));
    let mut agent = bed.agent("staging");
    agent.connected().await;
    let plan = sample_plan(1);
    let verb = Verb::Observe(aurora_core::command::Observe {
        set: aurora_core::command::AppliedSetKey {
            tenant: "acme/main".into(),
            application: "shop".into(),
            namespace: "web".into(),
        },
        plan: plan.digest(),
        direction: aurora_core::command::Direction::Forward,
    });
    let order = Order::new(command(1, 10 * MINUTE, verb)).with_blob(Bytes::from(plan.to_bytes()));
    let mut updates = bed.hub.route(&key("staging"), order).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut levels = 0;
    loop {
        match updates.next().await.unwrap() {
            Update::Progress(seen) if seen == [probe_level(999)] => break,
            Update::Progress(_) => levels += 1,
            Update::Accepted => {}
            other => panic!("a level was expected, not {other:?}"),
        }
    }
    assert!(
        levels < 20,
        "{levels} stale levels were kept for a reader that was away"
    );
}

#[tokio::test(start_paused = true)]
async fn a_result_that_was_lost_on_the_way_is_told_as_a_lost_agent() {
    let bed = Bed::new();
    let token = bed.tokens.issue(bed.machine(&["staging"]));
    let mut link = bed.transport.connect(&token.secret).await.unwrap();
    link.tx.send(FromAgent::Hello(hello())).await.unwrap();
    let updates = bed.hub.route(&key("staging"), Order::new(ping(1))).await;
    let updates = match updates {
        Ok(updates) => updates,
        Err(_) => {
            assert!(matches!(link.rx.recv().await, Some(FromHub::Welcome(_))));
            bed.hub.route(&key("staging"), Order::new(ping(1))).await.unwrap()
        }
    };
    // The agent forgets the command: its heartbeats do not name it.
    let beats = async {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            let _ = link.tx.send(FromAgent::Heartbeat(vec![])).await;
            while link.rx.try_recv().is_ok() {}
        }
    };
    tokio::select! {
        ended = outcome(updates) => assert_eq!(ended, Outcome::AgentLost { dispatched: true }),
        () = beats => {}
    }
}

#[tokio::test(start_paused = true)]
async fn blobs_are_offered_only_while_a_command_names_them_and_only_to_its_agent() {
    let bed = Bed::new();
    let mut agent = bed.agent("staging");
    agent.connected().await;
    agent.probe.hold();
    let body = Bytes::from_static(b"a body");
    let digest = aurora_core::digest::Digest::of(&body);
    let order = Order::new(act(1, MINUTE)).with_blob(body.clone());
    let updates = bed.hub.route(&key("staging"), order).await.unwrap();
    assert_eq!(bed.hub.offered(&bed.machine(&["staging"]), digest), Some(body));
    assert_eq!(bed.hub.offered(&bed.machine(&["prod"]), digest), None);
    let mut elsewhere = bed.machine(&["staging"]);
    elsewhere.tenant = aurora_core::tenant::Tenant::new("other", "main").ok();
    assert_eq!(bed.hub.offered(&elsewhere, digest), None);
    agent.probe.release();
    outcome(updates).await;
    assert_eq!(bed.hub.offered(&bed.machine(&["staging"]), digest), None);
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_is_not_offered_fails_the_command_and_can_be_sent_again_with_it() {
    let bed = Bed::new();
    let probe = ProbeExecutor::default();
    let mut agent = bed.agent_with("staging", probe.clone(), |agent| agent);
    agent.connected().await;
    let plan = sample_plan(3);
    let apply = aurora_core::command::Apply {
        set: aurora_core::command::AppliedSetKey {
            tenant: "acme/main".into(),
            application: "shop".into(),
            namespace: "web".into(),
        },
        target: "web".into(),
        plan: plan.digest(),
        stamp: aurora_core::command::Stamp { fence: 1, version: 1 },
        direction: aurora_core::command::Direction::Forward,
    };
    let order = Order::new(command(1, MINUTE, Verb::Apply(apply)));
    match outcome(bed.hub.route(&key("staging"), order.clone()).await.unwrap()).await {
        Outcome::Failed(failure) => assert_eq!(failure.code, "planNotOffered"),
        other => panic!("without its plan an apply fails: {other:?}"),
    }
    let order = order.with_blob(Bytes::from(plan.to_bytes()));
    match outcome(bed.hub.route(&key("staging"), order).await.unwrap()).await {
        Outcome::Ok(Reply::Applied(applied)) => assert_eq!(applied.changed, 3),
        other => panic!("with its plan it works: {other:?}"),
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
