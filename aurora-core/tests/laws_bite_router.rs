//! Each law of routing is seen to fail on a router with the flaw that it is about.
#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aurora_core::account::{AgentKey, AgentName};
use aurora_core::command::{Outcome, Update};
use aurora_core::id::CommandId;
use aurora_core::port::clock::InMemoryClock;
use aurora_core::port::router::laws::{self, ProbeExecutor, RouterUnderTest};
use aurora_core::port::router::{AgentStatus, CommandRouter, InMemoryRouter, Order, RouteError, Updates};
use aurora_core::tenant::Tenant;
use futures::StreamExt as _;
use jiff::Timestamp;

/// What is wrong with a router.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flaw {
    /// Says the outcome twice.
    Echoes,
    /// Tells another tenant's agent apart from none.
    Gossips,
    /// Waits for a lost agent until the deadline.
    Hopes,
    /// Gives each delivery another id.
    Forgets,
    /// Lets a command run on when nobody reads.
    Detaches,
    /// Ignores deadlines.
    Patient,
    /// Sends mutations as they come free, the last one first.
    Shuffles,
    /// Loses the plan on the way.
    DropsBlobs,
    /// Loses progress.
    Mute,
    /// Takes one command after the other.
    Queues,
    /// Is down after a command broke.
    Brittle,
    /// Lists everybody's agents.
    ListsAll,
}

struct Flawed {
    inner: InMemoryRouter,
    flaw: Flaw,
    deliveries: std::sync::atomic::AtomicU64,
    busy: Arc<tokio::sync::Semaphore>,
    broken: std::sync::atomic::AtomicBool,
    keep: std::sync::Mutex<Vec<Updates>>,
}

impl std::fmt::Debug for Flawed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flawed")
            .field("flaw", &self.flaw)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl CommandRouter for Flawed {
    async fn route(&self, to: &AgentKey, mut order: Order) -> Result<Updates, RouteError> {
        use std::sync::atomic::Ordering::Relaxed;
        let number = self.deliveries.fetch_add(1, Relaxed);
        match self.flaw {
            Flaw::Gossips if to.tenant.organization.as_str() == "other" => {
                return Err(RouteError::Offline { agent: to.clone() });
            }
            Flaw::Forgets => {
                let mut entropy = [0xaa; 10];
                entropy[..8].copy_from_slice(&number.to_be_bytes());
                order.command.id = CommandId::at(Timestamp::UNIX_EPOCH, entropy);
            }
            Flaw::Patient => order.command.deadline = Duration::from_secs(3000),
            Flaw::DropsBlobs => order.blobs.clear(),
            Flaw::Brittle if self.broken.load(Relaxed) => {
                return Err(RouteError::Unavailable {
                    source: "broken".into(),
                });
            }
            Flaw::Shuffles => {
                if let aurora_core::command::Verb::Act(act) = &mut order.command.verb {
                    act.set.application = format!("app{number}");
                }
            }
            _ => {}
        }
        if self.flaw == Flaw::Brittle {
            self.broken.store(true, Relaxed);
        }
        let updates = self.inner.route(to, order.clone()).await?;
        Ok(match self.flaw {
            Flaw::Echoes => updates
                .flat_map(|update| {
                    let twice = if matches!(update, Update::Finished(_)) {
                        2
                    } else {
                        1
                    };
                    futures::stream::iter(vec![update; twice])
                })
                .boxed(),
            Flaw::Hopes => {
                let deadline = order.command.deadline;
                updates
                    .then(move |update| async move {
                        if matches!(update, Update::Finished(Outcome::AgentLost { .. })) {
                            tokio::time::sleep(deadline).await;
                        }
                        update
                    })
                    .boxed()
            }
            Flaw::Detaches => {
                // Somebody else keeps reading.
                let again = self.inner.route(to, order).await?;
                self.keep.lock().unwrap().push(again);
                updates
            }
            Flaw::Mute => updates
                .filter(|update| std::future::ready(!matches!(update, Update::Progress(_))))
                .boxed(),
            Flaw::Queues => {
                let permit = Arc::clone(&self.busy).acquire_owned().await.unwrap();
                updates
                    .map(move |update| {
                        let _held = &permit;
                        update
                    })
                    .boxed()
            }
            _ => updates,
        })
    }

    async fn agents(&self, tenant: &Tenant) -> Result<Vec<AgentStatus>, RouteError> {
        let whose = match self.flaw {
            Flaw::ListsAll => Tenant::new("acme", "main").unwrap(),
            _ => tenant.clone(),
        };
        self.inner.agents(&whose).await
    }
}

fn flawed(flaw: Flaw) -> (RouterUnderTest, ProbeExecutor) {
    let inner = InMemoryRouter::new(InMemoryClock::starting_at(Timestamp::UNIX_EPOCH));
    let agent = AgentKey::new(
        Tenant::new("acme", "main").unwrap(),
        AgentName::new("staging").unwrap(),
    );
    let probe = ProbeExecutor::default();
    inner.connect(agent.clone(), probe.clone());
    let (losing, lost) = (inner.clone(), agent.clone());
    let router = Flawed {
        inner,
        flaw,
        deliveries: 0.into(),
        busy: Arc::new(tokio::sync::Semaphore::new(1)),
        broken: false.into(),
        keep: Default::default(),
    };
    let under_test = RouterUnderTest {
        router: Arc::new(router),
        agent,
        lose: Box::new(move || losing.disconnect(&lost)),
        keep: Vec::new(),
    };
    (under_test, probe)
}

macro_rules! bites {
    ($($law:ident on $flaw:ident;)*) => {
        $(
            #[tokio::test(start_paused = true)]
            #[should_panic]
            async fn $law() {
                let (under_test, probe) = flawed(Flaw::$flaw);
                // A law that waits for what never comes has bitten too.
                let law = laws::$law(&under_test, &probe);
                tokio::time::timeout(Duration::from_secs(3600), law).await.expect("the law waits for ever");
            }
        )*
    };
}

bites! {
    every_command_ends_in_exactly_one_outcome on Echoes;
    an_unknown_agent_and_another_tenants_are_not_found on Gossips;
    a_lost_agent_ends_its_commands_before_the_deadline on Hopes;
    a_repeated_command_id_acts_once on Forgets;
    a_repeat_while_the_first_is_under_way_acts_once on Forgets;
    dropping_the_updates_cancels_the_command on Detaches;
    a_command_ends_at_its_deadline on Patient;
    mutations_of_one_set_keep_their_order on Shuffles;
    a_plan_reaches_the_executor_by_its_digest on DropsBlobs;
    an_observe_begins_with_a_level_and_ends_by_itself on Mute;
    an_unread_observe_delays_nobody on Queues;
    a_panic_fails_one_command on Brittle;
    agents_are_listed_for_their_own_tenant on ListsAll;
}
