//! A router without a hub: each agent is an executor in this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{AgentStatus, CommandRouter, InstanceStatus, Order, RouteError, Updates};
use crate::account::AgentKey;
use crate::agent::dispatch::{Dispatcher, Job, Limits};
use crate::agent::perform::PlanSource;
use crate::command::{Command, Failure, Outcome, Update};
use crate::digest::Digest;
use crate::entropy::Entropy;
use crate::error::{ErrorChain, ErrorKind};
use crate::hub::mailbox::Mailbox;
use crate::id::{InstanceId, SessionId};
use crate::plan::Plan;
use crate::port::clock::Clock;
use crate::port::executor::ClusterExecutor;
use crate::tenant::Tenant;

/// Routes to executors in this process with an agent's own dispatch: lanes, stored results, deadlines.
///
/// Clones share everything. [`InMemoryRouter::disconnect`] loses what is under way as a hub would;
/// [`InMemoryRouter::connect`] of the same agent again starts with an empty table of results, as a
/// fresh agent over the same cluster does.
#[derive(Clone, Debug)]
pub struct InMemoryRouter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    entropy: Entropy,
    plans: Arc<SentPlans>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    agents: BTreeMap<AgentKey, Seat>,
    sent: Vec<(AgentKey, Command)>,
}

#[derive(Debug)]
struct Seat {
    dispatcher: Dispatcher,
    link: CancellationToken,
    session: SessionId,
    epoch: u64,
    since: Timestamp,
}

/// Every body that was ever sent.
#[derive(Debug, Default)]
struct SentPlans {
    bodies: Mutex<BTreeMap<Digest, Bytes>>,
}

impl InMemoryRouter {
    /// Knows no agent yet.
    pub fn new(clock: impl Clock) -> Self {
        Self {
            inner: Arc::new(Inner {
                clock: Arc::new(clock),
                entropy: Entropy::seeded(0),
                plans: Arc::default(),
                state: Mutex::default(),
            }),
        }
    }

    /// Connects an agent over a cluster, in the place of an earlier one of that name.
    pub fn connect(&self, key: AgentKey, executor: impl ClusterExecutor) {
        let now = self.inner.clock.now();
        let plans: Arc<SentPlans> = Arc::clone(&self.inner.plans);
        let mut state = self.state();
        let epoch = state.agents.get(&key).map_or(1, |seat| {
            seat.link.cancel();
            seat.epoch + 1
        });
        let seat = Seat {
            dispatcher: Dispatcher::new(Arc::new(executor), plans, Limits::default()),
            link: CancellationToken::new(),
            session: SessionId::at(now, self.inner.entropy.ten_bytes()),
            epoch,
            since: now,
        };
        state.agents.insert(key, seat);
    }

    /// Loses an agent: it stays known, commands under way end as lost (the cluster may still act on them).
    pub fn disconnect(&self, key: &AgentKey) {
        if let Some(seat) = self.state().agents.get(key) {
            seat.link.cancel();
        }
    }

    /// Brings a lost agent back with the table of results that it had.
    pub fn reconnect(&self, key: &AgentKey) {
        let now = self.inner.clock.now();
        if let Some(seat) = self.state().agents.get_mut(key) {
            seat.link = CancellationToken::new();
            seat.session = SessionId::at(now, self.inner.entropy.ten_bytes());
            seat.epoch += 1;
            seat.since = now;
        }
    }

    /// Every command that was sent, in order, repeats too.
    pub fn sent(&self) -> Vec<(AgentKey, Command)> {
        self.state().sent.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl CommandRouter for InMemoryRouter {
    async fn route(&self, to: &AgentKey, order: Order) -> Result<Updates, RouteError> {
        let mut state = self.state();
        let Some(seat) = state.agents.get(to) else {
            return Err(RouteError::NotFound { agent: to.clone() });
        };
        if seat.link.is_cancelled() {
            return Err(RouteError::Offline { agent: to.clone() });
        }
        let (dispatcher, link) = (seat.dispatcher.clone(), seat.link.clone());
        state.sent.push((to.clone(), order.command.clone()));
        drop(state);
        self.inner.plans.offer(order.blobs);
        let reader = Reader {
            job: dispatcher.submit(order.command),
            link,
            ended: false,
        };
        Ok(Box::pin(futures::stream::unfold(reader, Reader::next)))
    }

    async fn agents(&self, tenant: &Tenant) -> Result<Vec<AgentStatus>, RouteError> {
        let now = self.inner.clock.now();
        let state = self.state();
        let ours = state.agents.iter().filter(|(key, _)| key.tenant == *tenant);
        Ok(ours.map(|(key, seat)| seat.status(key, now)).collect())
    }
}

impl Seat {
    fn status(&self, key: &AgentKey, now: Timestamp) -> AgentStatus {
        let instance = InstanceStatus {
            instance: InstanceId::from_uuid(*self.session.as_uuid()),
            session: self.session,
            epoch: self.epoch,
            software: "in memory".into(),
            features: Vec::new(),
            since: self.since,
            last_heartbeat: now,
            address: "in process".into(),
            client: key.name.to_string(),
            clock_offset_ms: 0,
            in_flight: u32::try_from(self.dispatcher.in_hand()).unwrap_or(u32::MAX),
        };
        let online = !self.link.is_cancelled();
        AgentStatus {
            name: key.name.clone(),
            declared_replicas: 1,
            instances: online.then_some(instance).into_iter().collect(),
            last_seen: if online { now } else { self.since },
            inventory: None,
        }
    }
}

/// Reads a job's news; dropping it before the outcome cancels the command.
struct Reader {
    job: Job,
    link: CancellationToken,
    ended: bool,
}

impl Reader {
    async fn next(mut self) -> Option<(Update, Self)> {
        if self.ended {
            return None;
        }
        let mailbox: Arc<Mailbox> = Arc::clone(self.job.mailbox());
        let update = tokio::select! {
            biased;
            update = mailbox.next(u64::MAX) => update?,
            () = self.link.cancelled() => Update::Finished(Outcome::AgentLost { dispatched: true }),
        };
        self.ended = matches!(update, Update::Finished(_));
        Some((update, self))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Over a lost link no cancel can be sent: what runs goes on.
        if !self.ended && !self.link.is_cancelled() {
            self.job.cancel();
        }
    }
}

impl SentPlans {
    fn offer(&self, bodies: BTreeMap<Digest, Bytes>) {
        self.bodies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(bodies);
    }
}

#[async_trait]
impl PlanSource for SentPlans {
    async fn plan(&self, digest: Digest) -> Result<Arc<Plan>, Failure> {
        let body = self
            .bodies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&digest)
            .cloned();
        let body = body.ok_or_else(|| {
            Failure::new(
                ErrorKind::NotFound,
                "planNotOffered",
                format!("the plan {digest} was not sent with the command; send it as a blob of the order"),
            )
        })?;
        Plan::from_bytes(&body).map(Arc::new).map_err(|error| {
            Failure::new(
                ErrorKind::Invalid,
                "planUnreadable",
                ErrorChain(&error).to_string(),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::AgentName;
    use crate::port::clock::InMemoryClock;
    use crate::port::router::laws::{ProbeExecutor, RouterUnderTest};

    async fn in_memory(probe: ProbeExecutor) -> RouterUnderTest {
        let router = InMemoryRouter::new(InMemoryClock::starting_at(Timestamp::UNIX_EPOCH));
        let tenant = Tenant::new("acme", "main").unwrap();
        let agent = AgentKey::new(tenant, AgentName::new("staging").unwrap());
        router.connect(agent.clone(), probe);
        let (losing, lost) = (router.clone(), agent.clone());
        RouterUnderTest {
            router: Arc::new(router),
            agent,
            lose: Box::new(move || losing.disconnect(&lost)),
            keep: Vec::new(),
        }
    }

    crate::router_laws!(in_memory);
}
