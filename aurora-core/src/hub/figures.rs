//! Numbers about a hub, for whoever publishes them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Hub;
use super::registry::Registry;
use crate::command::Outcome;
use crate::port::router::RouteError;
use crate::session::CloseReason;

/// What a hub has now, and what it has counted since it was made.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct HubFigures {
    /// Sessions that are open.
    pub sessions: usize,
    /// Commands that have no outcome yet.
    pub in_flight: usize,
    /// Sessions that were opened.
    pub opened: u64,
    /// Of these, sessions of agents that had one before.
    pub reconnects: u64,
    /// Hellos that were refused, by reason.
    pub refused_sessions: BTreeMap<&'static str, u64>,
    /// Commands that found no way, by reason.
    pub refused_commands: BTreeMap<&'static str, u64>,
    /// Commands that ended, by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
}

/// Why hellos are refused, as [`HubFigures::refused_sessions`] has them.
pub const SESSION_REFUSALS: [&str; 5] = ["conflict", "denied", "drained", "protocol", "version"];

/// Why commands find no way, as [`HubFigures::refused_commands`] has them.
pub const COMMAND_REFUSALS: [&str; 4] = ["exhausted", "invalid", "offline", "unknownAgent"];

/// How commands end, as [`HubFigures::outcomes`] has them.
pub const OUTCOMES: [&str; 5] = ["agentLost", "cancelled", "deadline", "failed", "ok"];

/// What a hub counts; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    counted: Arc<Mutex<Counted>>,
}

#[derive(Clone, Debug, Default)]
struct Counted {
    opened: u64,
    reconnects: u64,
    refused_sessions: BTreeMap<&'static str, u64>,
    refused_commands: BTreeMap<&'static str, u64>,
    outcomes: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(super) fn opened(&self, again: bool) {
        let mut counted = self.lock();
        counted.opened += 1;
        counted.reconnects += u64::from(again);
    }

    pub(super) fn session_refused(&self, reason: CloseReason) {
        let name = match reason {
            CloseReason::Conflict => "conflict",
            CloseReason::Denied => "denied",
            CloseReason::Drained => "drained",
            CloseReason::Version => "version",
            CloseReason::Expired | CloseReason::Protocol | CloseReason::Silent | CloseReason::Superseded => {
                "protocol"
            }
        };
        *self.lock().refused_sessions.entry(name).or_default() += 1;
    }

    pub(super) fn command_refused(&self, error: &RouteError) {
        let name = match error {
            RouteError::Exhausted { .. } => "exhausted",
            RouteError::Offline { .. } => "offline",
            RouteError::NotFound { .. } => "unknownAgent",
            _ => "invalid",
        };
        *self.lock().refused_commands.entry(name).or_default() += 1;
    }

    pub(super) fn ended(&self, outcome: &Outcome) {
        *self.lock().outcomes.entry(outcome.name()).or_default() += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// What it has now, and what it has counted.
    pub fn figures(&self) -> HubFigures {
        let (sessions, in_flight) = count(&self.inner.registry());
        let counted = self.inner.tally().lock().clone();
        HubFigures {
            sessions,
            in_flight,
            opened: counted.opened,
            reconnects: counted.reconnects,
            refused_sessions: counted.refused_sessions,
            refused_commands: counted.refused_commands,
            outcomes: counted.outcomes,
        }
    }
}

fn count(registry: &Registry) -> (usize, usize) {
    registry
        .sessions()
        .fold((0, 0), |(sessions, in_flight), session| {
            (sessions + 1, in_flight + session.in_flight())
        })
}
