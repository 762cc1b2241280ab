//! Which agents there are and which sessions serve them: admission, the epoch fence, and choosing a session.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::account::AgentKey;
use crate::authz::{ConnectAgent, Grant};
use crate::hub::calls::Results;
use crate::hub::figures::Tally;
use crate::hub::inventory::InventoryView;
use crate::hub::mailbox::Mailbox;
use crate::hub::session::{Opened, Session};
use crate::id::{InstanceId, RequestId, SessionId};
use crate::port::router::{AgentStatus, Order, RouteError};
use crate::session::{CloseReason, Hello, Inventory, OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION};
use crate::tenant::Tenant;

/// How long an agent that is not connected stays listed.
const FORGET_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

/// The most agents that are remembered; the one unseen for longest goes first.
const MAX_AGENTS: usize = 50_000;

/// An instance that is refused because another one serves may try again after this.
const CONFLICT_RETRY: Duration = Duration::from_secs(10);

/// An instance whose credential or version is refused may try again after this.
const REFUSED_RETRY: Duration = Duration::from_secs(30);

/// All agents of all tenants.
#[derive(Debug, Default)]
pub(super) struct Registry {
    agents: BTreeMap<AgentKey, Entry>,
    tally: Tally,
}

#[derive(Debug)]
struct Entry {
    sessions: BTreeMap<InstanceId, Arc<Session>>,
    declared: u32,
    last_seen: Timestamp,
    epoch: u64,
    inventory: InventoryView,
    results: Arc<Mutex<Results>>,
}

/// A session that is admitted, and what it replaced.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) session: Arc<Session>,
    pub(super) version: u32,
    pub(super) replaced: Option<Arc<Session>>,
    /// The agent had a session before.
    pub(super) again: bool,
}

/// Where a command went.
#[derive(Debug)]
pub(super) enum Placed {
    /// To a session, under this id.
    Sent(Arc<Session>, RequestId),
    /// Nowhere: its result was kept, and is in the mailbox.
    Stored,
}

impl Registry {
    /// Lets a session in, in the place of an older one of the same instance, or says why not.
    pub(super) fn admit(
        &mut self,
        grant: &Grant<ConnectAgent>,
        hello: Hello,
        address: String,
        id: SessionId,
        ours: &[String],
        now: Timestamp,
    ) -> Result<Admitted, (CloseReason, Duration)> {
        if !grant.principal().agents.contains(&hello.agent) {
            return Err((CloseReason::Denied, REFUSED_RETRY));
        }
        let (newest, oldest) = hello.versions;
        let version = newest.min(PROTOCOL_VERSION);
        if version < oldest.max(OLDEST_PROTOCOL_VERSION) {
            return Err((CloseReason::Version, REFUSED_RETRY));
        }
        let key = AgentKey::new(grant.tenant().clone(), hello.agent.clone());
        if !self.agents.contains_key(&key) {
            self.make_room(now);
        }
        let entry = self.agents.entry(key.clone()).or_insert_with(|| Entry::new(now));
        let others = entry
            .sessions
            .keys()
            .filter(|instance| **instance != hello.instance)
            .count();
        if others >= hello.replicas.max(1) as usize {
            return Err((CloseReason::Conflict, CONFLICT_RETRY));
        }
        // Also grows over a restart of the hub, whose memory starts empty.
        let again = entry.epoch > 0;
        let micros = u64::try_from(now.as_microsecond()).unwrap_or(0);
        entry.epoch = micros.max(entry.epoch + 1);
        entry.declared = hello.replicas.max(1);
        entry.last_seen = now;
        let features = hello.features.iter().filter(|theirs| ours.contains(theirs));
        let session = Arc::new(Session::new(Opened {
            key,
            id,
            epoch: entry.epoch,
            features: features.cloned().collect(),
            client: grant.principal().id.clone(),
            address,
            since: now,
            results: Arc::clone(&entry.results),
            tally: self.tally.clone(),
            hello,
        }));
        let replaced = entry
            .sessions
            .insert(session.hello.instance, Arc::clone(&session));
        Ok(Admitted {
            session,
            version,
            replaced,
            again,
        })
    }

    /// Takes a session out that is over, unless a newer one has its place.
    pub(super) fn remove(&mut self, session: &Arc<Session>) {
        let Some(entry) = self.agents.get_mut(&session.key) else {
            return;
        };
        entry.last_seen = entry.last_seen.max(session.last_heard());
        let instance = session.hello.instance;
        if entry
            .sessions
            .get(&instance)
            .is_some_and(|held| Arc::ptr_eq(held, session))
        {
            entry.sessions.remove(&instance);
        }
    }

    /// Finds a command's way: the stored result, the same mutation in flight, or the session with least to do.
    pub(super) fn place(
        &self,
        to: &AgentKey,
        mut order: Order,
        mailbox: &Arc<Mailbox>,
        cap: usize,
    ) -> Result<Placed, RouteError> {
        let entry = self
            .agents
            .get(to)
            .ok_or_else(|| RouteError::NotFound { agent: to.clone() })?;
        if order.command.verb.is_mutation() {
            let stored = entry
                .results
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .of(order.command.id, Instant::now());
            if let Some(outcome) = stored {
                mailbox.post(crate::command::Update::Finished(outcome));
                return Ok(Placed::Stored);
            }
            for session in entry.sessions.values() {
                let attached = session.calls().attach(order.command.id, mailbox);
                if let Some(request) = attached {
                    return Ok(Placed::Sent(Arc::clone(session), request));
                }
            }
        }
        let mut open: Vec<_> = entry
            .sessions
            .values()
            .filter(|session| !session.is_draining())
            .map(|session| (session.in_flight(), session))
            .collect();
        open.sort_by_key(|(load, session)| (*load, session.epoch));
        if open.is_empty() {
            return Err(RouteError::Offline { agent: to.clone() });
        }
        if open.first().is_some_and(|(load, _)| *load >= cap) {
            return Err(RouteError::Exhausted { agent: to.clone() });
        }
        for (_, session) in open {
            match session.send(order, mailbox) {
                Ok(request) => return Ok(Placed::Sent(Arc::clone(session), request)),
                Err(back) => order = *back,
            }
        }
        Err(RouteError::Offline { agent: to.clone() })
    }

    /// Takes an agent's inventory in; an error asks for all of it again.
    pub(super) fn inventory(
        &mut self,
        from: &Session,
        news: Inventory,
        now: Timestamp,
    ) -> Result<(), String> {
        let Some(entry) = self.agents.get_mut(&from.key) else {
            return Ok(());
        };
        let Entry {
            sessions, inventory, ..
        } = entry;
        let is_live = |epoch| sessions.values().any(|session| session.epoch == epoch);
        inventory.take(from.epoch, is_live, news, now)
    }

    /// The agents of one tenant.
    pub(super) fn statuses(&self, tenant: &Tenant) -> Vec<AgentStatus> {
        let ours = self.agents.iter().filter(|(key, _)| key.tenant == *tenant);
        ours.map(|(key, entry)| entry.status(key)).collect()
    }

    /// The sessions of an agent.
    pub(super) fn sessions_of(&self, key: &AgentKey) -> Vec<Arc<Session>> {
        let entry = self.agents.get(key);
        entry.map_or_else(Vec::new, |entry| entry.sessions.values().cloned().collect())
    }

    /// What the hub counts.
    pub(super) fn tally(&self) -> Tally {
        self.tally.clone()
    }

    /// All sessions of all agents.
    pub(super) fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.agents.values().flat_map(|entry| entry.sessions.values())
    }

    fn make_room(&mut self, now: Timestamp) {
        let old = |entry: &Entry| {
            let age = now.duration_since(entry.last_seen);
            entry.sessions.is_empty() && age > FORGET_AFTER.try_into().unwrap_or(jiff::SignedDuration::MAX)
        };
        self.agents.retain(|_, entry| !old(entry));
        if self.agents.len() < MAX_AGENTS {
            return;
        }
        let oldest = self
            .agents
            .iter()
            .filter(|(_, entry)| entry.sessions.is_empty())
            .min_by_key(|(_, entry)| entry.last_seen)
            .map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            self.agents.remove(&key);
        }
    }
}

impl Entry {
    fn new(now: Timestamp) -> Self {
        Self {
            sessions: BTreeMap::new(),
            declared: 1,
            last_seen: now,
            epoch: 0,
            inventory: InventoryView::default(),
            results: Arc::default(),
        }
    }

    fn status(&self, key: &AgentKey) -> AgentStatus {
        let heard = self.sessions.values().map(|session| session.last_heard());
        AgentStatus {
            name: key.name.clone(),
            declared_replicas: self.declared,
            instances: self.sessions.values().map(|session| session.status()).collect(),
            last_seen: heard.fold(self.last_seen, Ord::max),
            inventory: self.inventory.status(),
        }
    }
}
