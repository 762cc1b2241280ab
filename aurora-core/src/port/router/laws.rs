//! What every command router must do, as tests that an implementer runs with [`router_laws!`](crate::router_laws).
#![expect(clippy::unwrap_used, reason = "a law reports by panicking")]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;

pub use super::probe::{PANIC_AT, ProbeExecutor, Seen, probe_level};
use super::{CommandRouter, Order, RouteError, Updates};
use crate::account::{AgentKey, AgentName};
use crate::command::{
    Act, Acted, Action, AppliedSetKey, Apply, Command, Direction, Observe, Outcome, Reply, Stamp, Update,
    Verb,
};
use crate::error::ErrorKind;
use crate::id::CommandId;
use crate::manifest::{ObjectRef, Origin};
use crate::plan::{Plan, PlannedObject, StepMap};
use crate::tenant::Tenant;

/// A router with one connected agent over the probe that it was set up with.
pub struct RouterUnderTest {
    /// The router.
    pub router: Arc<dyn CommandRouter>,
    /// The agent that is connected.
    pub agent: AgentKey,
    /// Cuts the agent off.
    pub lose: Box<dyn Fn() + Send + Sync>,
    /// What must live as long as the test: tasks, servers.
    pub keep: Vec<Box<dyn std::any::Any + Send>>,
}

impl fmt::Debug for RouterUnderTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterUnderTest")
            .field("router", &self.router)
            .finish_non_exhaustive()
    }
}

/// Makes a test of each law; `setup` is an `async fn(ProbeExecutor) -> RouterUnderTest`.
///
/// Tests run in paused time, or in real time after `real_time,` for adapters that reach a socket.
#[macro_export]
macro_rules! router_laws {
    (real_time, $setup:path) => {
        $crate::router_laws!(@all [tokio::test(flavor = "multi_thread", worker_threads = 2)] $setup);
    };
    ($setup:path) => {
        $crate::router_laws!(@all [tokio::test(start_paused = true)] $setup);
    };
    (@all [$test:meta] $setup:path) => {
        $crate::router_laws!(@each [$test] $setup;
            every_command_ends_in_exactly_one_outcome
            an_unknown_agent_and_another_tenants_are_not_found
            a_lost_agent_ends_its_commands_before_the_deadline
            a_repeated_command_id_acts_once
            a_repeat_while_the_first_is_under_way_acts_once
            dropping_the_updates_cancels_the_command
            a_command_ends_at_its_deadline
            mutations_of_one_set_keep_their_order
            a_plan_reaches_the_executor_by_its_digest
            an_observe_begins_with_a_level_and_ends_by_itself
            an_unread_observe_delays_nobody
            a_panic_fails_one_command
            agents_are_listed_for_their_own_tenant
        );
    };
    (@each [$test:meta] $setup:path; $($law:ident)*) => {
        $(
            #[$test]
            async fn $law() {
                let probe = $crate::port::router::laws::ProbeExecutor::default();
                let under_test = $setup(probe.clone()).await;
                $crate::port::router::laws::$law(&under_test, &probe).await;
            }
        )*
    };
}

const LONG: Duration = Duration::from_secs(600);

/// Each command gives updates that end right after one outcome.
pub async fn every_command_ends_in_exactly_one_outcome(under_test: &RouterUnderTest, _probe: &ProbeExecutor) {
    for (number, payload) in [vec![], vec![1, 2, 3], vec![7; 16 * 1024]]
        .into_iter()
        .enumerate()
    {
        let command = command(
            number as u64,
            LONG,
            Verb::Ping {
                payload: payload.clone(),
            },
        );
        let all: Vec<Update> = send(under_test, command).await.collect().await;
        let outcomes = all
            .iter()
            .filter(|update| matches!(update, Update::Finished(_)))
            .count();
        assert_eq!(outcomes, 1, "a command has exactly one outcome: {all:?}");
        assert_eq!(
            all.last(),
            Some(&Update::Finished(Outcome::Ok(Reply::Pong(payload)))),
            "a ping gives its payload back"
        );
    }
}

/// Nobody learns whether another tenant has an agent.
pub async fn an_unknown_agent_and_another_tenants_are_not_found(
    under_test: &RouterUnderTest,
    _probe: &ProbeExecutor,
) {
    let elsewhere = AgentKey::new(
        Tenant::new("other", "main").unwrap(),
        under_test.agent.name.clone(),
    );
    let nobody = AgentKey::new(under_test.agent.tenant.clone(), AgentName::new("nobody").unwrap());
    for key in [elsewhere, nobody] {
        let refused = under_test
            .router
            .route(&key, Order::new(ping(1)))
            .await
            .err()
            .expect("an agent that the tenant does not have cannot be reached");
        assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
        assert!(matches!(refused, RouteError::NotFound { agent } if agent == key));
    }
}

/// When the agent is lost, its commands end at once, and later ones are refused as unavailable.
pub async fn a_lost_agent_ends_its_commands_before_the_deadline(
    under_test: &RouterUnderTest,
    probe: &ProbeExecutor,
) {
    probe.hold();
    let updates = send(under_test, act(1, LONG)).await;
    probe.until(|seen| seen.running == 1).await;
    (under_test.lose)();
    let started = tokio::time::Instant::now();
    assert_eq!(
        outcome(updates).await,
        Outcome::AgentLost { dispatched: true },
        "the caller is told that the command may have reached the agent"
    );
    assert!(
        started.elapsed() < LONG / 2,
        "losing an agent is told before the deadline"
    );
    let refused = under_test
        .router
        .route(&under_test.agent, Order::new(ping(2)))
        .await;
    let refused = refused.err().expect("a lost agent cannot be reached");
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
}

/// A command that was done is not done again: a repeat of its id is answered with what came of it.
pub async fn a_repeated_command_id_acts_once(under_test: &RouterUnderTest, probe: &ProbeExecutor) {
    for _ in 0..3 {
        let outcome = outcome(send(under_test, act(1, LONG)).await).await;
        assert_eq!(outcome, Outcome::Ok(Reply::Acted(Acted::Done)));
    }
    assert_eq!(probe.seen().mutations, 1, "three deliveries of one id act once");
}

/// A repeat that comes while the first is under way gets the first one's outcome.
pub async fn a_repeat_while_the_first_is_under_way_acts_once(
    under_test: &RouterUnderTest,
    probe: &ProbeExecutor,
) {
    probe.hold();
    let first = send(under_test, act(1, LONG)).await;
    probe.until(|seen| seen.running == 1).await;
    let second = send(under_test, act(1, LONG)).await;
    probe.release();
    let done = Outcome::Ok(Reply::Acted(Acted::Done));
    assert_eq!(outcome(first).await, done);
    assert_eq!(outcome(second).await, done);
    assert_eq!(probe.seen().mutations, 1, "two deliveries of one id act once");
}

/// A caller that goes away takes its command along.
pub async fn dropping_the_updates_cancels_the_command(under_test: &RouterUnderTest, probe: &ProbeExecutor) {
    probe.hold();
    let updates = send(under_test, act(1, LONG)).await;
    probe.until(|seen| seen.running == 1).await;
    let started = tokio::time::Instant::now();
    drop(updates);
    probe.until(|seen| seen.running == 0).await;
    assert!(started.elapsed() < LONG / 2, "a cancel is not the deadline");
    assert_eq!(probe.seen().dropped, 1);
    probe.release();
    let again = outcome(send(under_test, act(1, LONG)).await).await;
    assert_eq!(
        again,
        Outcome::Ok(Reply::Acted(Acted::Done)),
        "what was cancelled can be sent again under the same id"
    );
}

/// Whatever the agent does, the caller has an outcome when the time is over.
pub async fn a_command_ends_at_its_deadline(under_test: &RouterUnderTest, probe: &ProbeExecutor) {
    probe.hold();
    let updates = send(under_test, act(1, Duration::from_millis(300))).await;
    let started = tokio::time::Instant::now();
    assert_eq!(outcome(updates).await, Outcome::DeadlineExceeded);
    assert!(started.elapsed() < LONG / 10, "the deadline was 300 ms");
    probe.until(|seen| seen.running == 0).await;
    assert_eq!(probe.seen().mutations, 0, "what ran out of time does not go on");
}

/// Mutations of one applied set take effect in the order in which they were sent.
pub async fn mutations_of_one_set_keep_their_order(under_test: &RouterUnderTest, probe: &ProbeExecutor) {
    probe.hold();
    let mut pending = Vec::new();
    for version in 1..=8 {
        pending.push(send(under_test, act(version, LONG)).await);
    }
    probe.until(|seen| seen.running == 1).await;
    probe.release();
    for updates in pending {
        assert_eq!(outcome(updates).await, Outcome::Ok(Reply::Acted(Acted::Done)));
    }
    assert_eq!(probe.seen().order, (1..=8).collect::<Vec<_>>());
}

/// An apply names its plan by digest and the executor gets the very plan.
pub async fn a_plan_reaches_the_executor_by_its_digest(under_test: &RouterUnderTest, probe: &ProbeExecutor) {
    let plan = sample_plan(300);
    let apply = Apply {
        set: set(),
        target: "web".into(),
        plan: plan.digest(),
        stamp: Stamp { fence: 1, version: 1 },
        direction: Direction::Forward,
    };
    let order = Order::new(command(1, LONG, Verb::Apply(apply))).with_blob(Bytes::from(plan.to_bytes()));
    let updates = under_test.router.route(&under_test.agent, order).await.unwrap();
    match outcome(updates).await {
        Outcome::Ok(Reply::Applied(applied)) => assert_eq!(applied.changed, 300),
        other => panic!("an apply whose plan was sent along succeeds: {other:?}"),
    }
    assert_eq!(probe.seen().mutations, 1);
}

/// An observe gives levels, and its stream ends with `Observed` when its time is over.
pub async fn an_observe_begins_with_a_level_and_ends_by_itself(
    under_test: &RouterUnderTest,
    probe: &ProbeExecutor,
) {
    let updates = observe(under_test, 1, Duration::from_secs(2)).await;
    let all: Vec<Update> = updates.collect().await;
    let levels: Vec<_> = all
        .iter()
        .filter(|update| matches!(update, Update::Progress(_)))
        .collect();
    assert_eq!(
        levels.last(),
        Some(&&Update::Progress(vec![probe_level(999)])),
        "the latest level arrives"
    );
    assert_eq!(all.last(), Some(&Update::Finished(Outcome::Ok(Reply::Observed))));
    probe.until(|seen| seen.running == 0).await;
}

/// A reader that does not read holds up no other command of the same agent.
pub async fn an_unread_observe_delays_nobody(under_test: &RouterUnderTest, _probe: &ProbeExecutor) {
    let mut unread = Vec::new();
    for number in 1..=20 {
        unread.push(observe(under_test, number, LONG).await);
    }
    for number in 100..150 {
        let answered = tokio::time::timeout(
            Duration::from_secs(10),
            outcome(send(under_test, ping(number)).await),
        );
        assert_eq!(answered.await, Ok(Outcome::Ok(Reply::Pong(vec![1]))));
    }
    drop(unread);
}

/// A command that breaks the executor fails; the agent goes on.
pub async fn a_panic_fails_one_command(under_test: &RouterUnderTest, _probe: &ProbeExecutor) {
    match outcome(send(under_test, act(PANIC_AT, LONG)).await).await {
        Outcome::Failed(failure) => assert_eq!(failure.kind, ErrorKind::Internal),
        other => panic!("a panic is a failure of the command: {other:?}"),
    }
    let after = outcome(send(under_test, act(1, LONG)).await).await;
    assert_eq!(after, Outcome::Ok(Reply::Acted(Acted::Done)));
}

/// A tenant sees its own agents and nobody else's.
pub async fn agents_are_listed_for_their_own_tenant(under_test: &RouterUnderTest, _probe: &ProbeExecutor) {
    let key = &under_test.agent;
    let ours = under_test.router.agents(&key.tenant).await.unwrap();
    assert_eq!(
        ours.iter().map(|agent| &agent.name).collect::<Vec<_>>(),
        [&key.name]
    );
    assert_eq!(ours[0].instances.len(), 1);
    let elsewhere = Tenant::new("other", "main").unwrap();
    assert!(under_test.router.agents(&elsewhere).await.unwrap().is_empty());
}

/// A ping with an id of its own.
pub fn ping(number: u64) -> Command {
    command(number, LONG, Verb::Ping { payload: vec![1] })
}

/// A promote whose stamp has this version.
pub fn act(version: u64, deadline: Duration) -> Command {
    let act = Act {
        set: set(),
        object: ObjectRef::new("argoproj.io", "Rollout", "web", "probe"),
        action: Action::Promote,
        expect: None,
        stamp: Stamp { fence: 1, version },
    };
    command(version, deadline, Verb::Act(act))
}

/// A command whose id follows from a number and its verb.
pub fn command(number: u64, deadline: Duration, verb: Verb) -> Command {
    let mut entropy = [0; 10];
    entropy[..8].copy_from_slice(&number.to_be_bytes());
    entropy[8] = verb.name().len() as u8;
    entropy[9] = verb.name().as_bytes()[0];
    Command {
        id: CommandId::at(jiff::Timestamp::UNIX_EPOCH, entropy),
        pipeline: None,
        initiator: "the laws".into(),
        deadline,
        trace_parent: None,
        verb,
    }
}

/// A plan of so many objects.
pub fn sample_plan(objects: usize) -> Plan {
    let object = |number: usize| PlannedObject {
        body: serde_json::json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": format!("c{number}"), "namespace": "web" },
            "data": { "text": "x".repeat(200) },
        }),
        origin: Origin::default(),
        adopt: false,
    };
    Plan {
        version: Plan::VERSION,
        application: "shop".into(),
        target: "web".into(),
        namespace: "web".into(),
        objects: (0..objects).map(object).collect(),
        steps: StepMap::default(),
        notes: Vec::new(),
    }
}

fn set() -> AppliedSetKey {
    AppliedSetKey {
        tenant: "acme/main".into(),
        application: "shop".into(),
        namespace: "web".into(),
    }
}

async fn observe(under_test: &RouterUnderTest, number: u64, deadline: Duration) -> Updates {
    let plan = sample_plan(1);
    let verb = Verb::Observe(Observe {
        set: set(),
        plan: plan.digest(),
        direction: Direction::Forward,
    });
    let order = Order::new(command(number, deadline, verb)).with_blob(Bytes::from(plan.to_bytes()));
    under_test.router.route(&under_test.agent, order).await.unwrap()
}

async fn send(under_test: &RouterUnderTest, command: Command) -> Updates {
    under_test
        .router
        .route(&under_test.agent, Order::new(command))
        .await
        .unwrap()
}

/// Reads updates to their end and gives the outcome.
pub async fn outcome(mut updates: Updates) -> Outcome {
    let mut last = None;
    while let Some(update) = updates.next().await {
        assert!(
            !matches!(last, Some(Update::Finished(_))),
            "nothing follows an outcome"
        );
        last = Some(update);
    }
    match last {
        Some(Update::Finished(outcome)) => outcome,
        other => panic!("updates end with an outcome, not with {other:?}"),
    }
}
