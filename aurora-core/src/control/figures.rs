//! Numbers about the pipelines that a control plane drives, for whoever publishes them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::ControlPlane;
use crate::command::Outcome;
use crate::id::PipelineId;
use crate::pipeline::State;
use crate::tenant::Tenant;

/// What a control plane drives now, and what it has counted since it was made.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct EngineFigures {
    /// Pipelines that this replica drives, by state.
    pub driven: BTreeMap<State, usize>,
    /// For how long the oldest effect of each kind has been under way.
    pub oldest: BTreeMap<&'static str, Duration>,
    /// Commands that came to an outcome, by verb and outcome.
    pub commands: BTreeMap<(&'static str, &'static str), u64>,
    /// Pipelines that ended here, by state.
    pub ended: BTreeMap<State, u64>,
}

/// The kinds of effects, as [`EngineFigures::oldest`] has them.
pub const EFFECTS: [&str; 7] = [
    "act",
    "apply",
    "awaitAgent",
    "begin",
    "finish",
    "observe",
    "takeTurn",
];

/// What a control plane counts; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    counted: Arc<Mutex<Counted>>,
}

#[derive(Debug, Default)]
struct Counted {
    driven: BTreeMap<(Tenant, PipelineId), State>,
    effects: BTreeMap<u64, (&'static str, Instant)>,
    serial: u64,
    commands: BTreeMap<(&'static str, &'static str), u64>,
    ended: BTreeMap<State, u64>,
}

impl Tally {
    /// A pipeline that is driven stands so; the guard forgets it.
    pub(super) fn drives(&self, tenant: &Tenant, id: PipelineId) -> Driving {
        let key = (tenant.clone(), id);
        Driving {
            tally: self.clone(),
            key,
        }
    }

    /// An effect is under way until the guard is dropped.
    pub(super) fn effect(&self, kind: &'static str) -> UnderWay {
        let mut counted = self.lock();
        counted.serial += 1;
        let number = counted.serial;
        counted.effects.insert(number, (kind, Instant::now()));
        UnderWay {
            tally: self.clone(),
            number,
        }
    }

    /// A command came to an outcome.
    pub(super) fn command(&self, verb: &'static str, outcome: &Outcome) {
        let mut counted = self.lock();
        *counted.commands.entry((verb, outcome.name())).or_default() += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pipeline that is driven, for as long as it lives.
#[derive(Debug)]
pub(super) struct Driving {
    tally: Tally,
    key: (Tenant, PipelineId),
}

impl Driving {
    /// Where it stands now.
    pub(super) fn stands(&self, state: State) {
        let mut counted = self.tally.lock();
        let before = counted.driven.insert(self.key.clone(), state);
        if state.is_final() && before != Some(state) {
            *counted.ended.entry(state).or_default() += 1;
        }
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        self.tally.lock().driven.remove(&self.key);
    }
}

/// An effect that is under way, for as long as it lives.
#[derive(Debug)]
pub(super) struct UnderWay {
    tally: Tally,
    number: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.tally.lock().effects.remove(&self.number);
    }
}

impl ControlPlane {
    /// What it drives now, and what it has counted.
    pub fn figures(&self) -> EngineFigures {
        let counted = self.inner.tally.lock();
        let (mut driven, mut oldest) = (BTreeMap::new(), BTreeMap::new());
        for state in counted.driven.values() {
            *driven.entry(*state).or_default() += 1;
        }
        for (kind, since) in counted.effects.values() {
            let age: &mut Duration = oldest.entry(*kind).or_default();
            *age = (*age).max(since.elapsed());
        }
        EngineFigures {
            driven,
            oldest,
            commands: counted.commands.clone(),
            ended: counted.ended.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_is_counted_and_forgotten() {
        let tally = Tally::default();
        let tenant = Tenant::new("acme", "main").unwrap();
        let id = PipelineId::at(jiff::Timestamp::UNIX_EPOCH, [1; 10]);
        let driving = tally.drives(&tenant, id);
        driving.stands(State::Running);
        let effect = tally.effect("apply");
        tokio::time::advance(Duration::from_secs(3)).await;
        let _younger = tally.effect("apply");
        tally.command("apply", &Outcome::Cancelled);
        {
            let counted = tally.lock();
            assert_eq!(
                counted.driven.values().copied().collect::<Vec<_>>(),
                [State::Running]
            );
            assert_eq!(counted.effects.len(), 2);
            assert_eq!(counted.commands[&("apply", "cancelled")], 1);
        }
        driving.stands(State::Succeeded);
        driving.stands(State::Succeeded);
        drop((driving, effect));
        let counted = tally.lock();
        assert!(counted.driven.is_empty());
        assert_eq!(counted.effects.len(), 1);
        assert_eq!(counted.ended[&State::Succeeded], 1, "it ended once");
    }
}
