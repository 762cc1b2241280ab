//! What follows from an input: pure, and complete, so that everything that follows is one batch of events.

pub(super) mod again;
mod blue_green;
mod heard;
mod person;
pub(super) mod rules;
mod running;

use jiff::Timestamp;

use super::deployment::{Deployment, Phase};
use super::event::{Deed, End, Event, LastGood, RolledBack, What};
use super::evolve::evolve_in_place;
use super::gate::{GateRef, GateState, Place, timer_deed};
use super::status::State;
use super::{Pipeline, StopReason};
use crate::id::PipelineId;

pub use heard::Heard;
pub use person::{Approver, Person, Refused};

/// What a pipeline is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A person says yes.
    Approve {
        /// To which gate.
        gate: GateRef,
        /// What they saw: the gate's `expect`; absent: whatever is there.
        expect: Option<String>,
        /// Who, and what they may do.
        person: Person,
    },
    /// A person ends the pipeline.
    Cancel {
        /// Who.
        person: Person,
    },
    /// The runner learnt something.
    Heard(Heard),
    /// A person says no.
    Reject {
        /// To which gate.
        gate: GateRef,
        /// What they saw: the gate's `expect`; absent: whatever is there.
        expect: Option<String>,
        /// Who, and what they may do.
        person: Person,
    },
    /// A person has a target that is over begin once more.
    Retry {
        /// Which; absent: every target that did not succeed.
        target: Option<String>,
        /// Who.
        person: Person,
    },
    /// A person takes a target back.
    RollBack {
        /// Which; absent: the only one.
        target: Option<String>,
        /// Where to; absent: to the last plan that had succeeded when the target began.
        to: Option<LastGood>,
        /// Who.
        person: Person,
    },
    /// A person opens a timed gate before its time.
    Skip {
        /// Which gate.
        gate: GateRef,
        /// What they saw: the gate's `expect`; absent: whatever is there.
        expect: Option<String>,
        /// Who.
        person: Person,
    },
    /// A newer run takes the place of this one in the queue.
    Supersede {
        /// The newer run.
        by: PipelineId,
        /// Who submitted it.
        deed: Deed,
    },
    /// Time has passed.
    Tick,
    /// The application is free: a run that waited for it begins.
    Turn,
}

/// Everything that follows from an input, in order.
///
/// # Errors
/// [`Refused`] when a person asks for something that cannot be done now; what the runner heard is never
/// refused: what is out of date has no consequence.
pub fn decide(pipeline: &Pipeline, input: Input, now: Timestamp) -> Result<Vec<Event>, Refused> {
    let mut draft = Draft {
        pipeline: pipeline.clone(),
        now,
        events: Vec::new(),
    };
    match input {
        Input::Approve { gate, expect, person } => {
            person::approve(&mut draft, &gate, expect.as_deref(), &person)?
        }
        Input::Reject { gate, expect, person } => {
            person::reject(&mut draft, &gate, expect.as_deref(), &person)?
        }
        Input::Cancel { person } => person::cancel(&mut draft, &person)?,
        Input::Heard(heard) => heard::hear(&mut draft, heard),
        Input::Retry { target, person } => again::retry(&mut draft, target.as_deref(), &person)?,
        Input::RollBack { target, to, person } => {
            again::roll_back(&mut draft, target.as_deref(), to, &person)?
        }
        Input::Skip { gate, expect, person } => person::skip(&mut draft, &gate, expect.as_deref(), &person)?,
        Input::Supersede { by, deed } => again::supersede(&mut draft, by, deed)?,
        Input::Tick => {}
        Input::Turn if draft.pipeline.is_queued() => draft.push(What::Dequeued.into()),
        Input::Turn => {}
    }
    settle(&mut draft);
    Ok(draft.events)
}

/// Events under way, and the state that they add up to.
struct Draft {
    pipeline: Pipeline,
    now: Timestamp,
    events: Vec<Event>,
}

impl Draft {
    fn push(&mut self, consequence: Consequence) {
        let event = Event {
            at: self.now,
            by: consequence.by,
            fence: None,
            what: consequence.what,
        };
        evolve_in_place(&mut self.pipeline, &event);
        self.events.push(event);
    }

    fn extend(&mut self, consequences: Vec<Consequence>) {
        for consequence in consequences {
            self.push(consequence);
        }
    }
}

/// One event that follows, and whose deed it is.
struct Consequence {
    what: What,
    by: Option<Deed>,
}

impl From<What> for Consequence {
    fn from(what: What) -> Self {
        Self { what, by: None }
    }
}

impl What {
    fn by(self, deed: Deed) -> Consequence {
        Consequence {
            what: self,
            by: Some(deed),
        }
    }
}

/// Draws conclusions until there are none; each one changes the state, so this ends.
fn settle(draft: &mut Draft) {
    if draft.pipeline.parked.is_some() || draft.pipeline.is_final() {
        return;
    }
    let names: Vec<String> = draft.pipeline.targets.keys().cloned().collect();
    loop {
        let before = draft.events.len();
        for name in &names {
            let next = {
                let pipeline = &draft.pipeline;
                let target = &pipeline.targets[name];
                of_target(pipeline, target, draft.now)
            };
            draft.extend(next);
        }
        if draft.events.len() == before {
            break;
        }
    }
    if let Some(end) = ending(&draft.pipeline) {
        draft.push(end.into());
    }
}

/// What follows for one target now; once it is folded, more may follow.
fn of_target(pipeline: &Pipeline, target: &Deployment, now: Timestamp) -> Vec<Consequence> {
    let name = || target.name.clone();
    let ended = |end| vec![What::TargetEnded { target: name(), end }.into()];
    match &target.phase {
        Phase::Waiting | Phase::Before if pipeline.stopping.is_some() => ended(End::NeverStarted),
        Phase::Waiting if pipeline.is_queued() => Vec::new(),
        // What had succeeded may have been taken back by a person since.
        Phase::Waiting | Phase::Before if pipeline.failed_dependency(target).is_some() => {
            ended(End::NeverStarted)
        }
        Phase::Waiting if pipeline.dependencies_succeeded(target) => {
            reach_side_gates(target, |place| matches!(place, Place::Before(_)))
        }
        Phase::Waiting => Vec::new(),
        Phase::Before => side_gates(target, now),
        Phase::Running(run) => running::next(pipeline, target, run, now),
        Phase::After if pipeline.stopping.is_some() => running::give_up(target),
        Phase::After => {
            let is_after = |place| matches!(place, Place::After(_));
            let reached = reach_side_gates(target, is_after);
            if !reached.is_empty() {
                return reached;
            }
            if target.gates_where(is_after).all(super::gate::Gate::is_behind) {
                return ended(End::Succeeded);
            }
            side_gates(target, now)
        }
        Phase::Ended { .. } => Vec::new(),
    }
}

/// Gates beside each other are all reached at once.
fn reach_side_gates(target: &Deployment, wanted: impl Fn(Place) -> bool) -> Vec<Consequence> {
    target
        .gates_where(wanted)
        .filter(|gate| gate.state == GateState::Ahead)
        .map(|gate| {
            let gate = GateRef::new(&target.name, gate.place);
            What::GateReached { gate }.into()
        })
        .collect()
}

/// Gates that time opens or shuts.
fn side_gates(target: &Deployment, now: Timestamp) -> Vec<Consequence> {
    let due = |gate: &super::gate::Gate| gate.until().is_some_and(|until| until <= now);
    let step = |place| matches!(place, Place::Step(_));
    target
        .standing_gates()
        .filter(|(place, gate)| !step(*place) && due(gate))
        .map(|(place, gate)| {
            let at = GateRef::new(&target.name, place);
            if gate.wants_approval() {
                What::GateExpired { gate: at }.into()
            } else {
                What::GateOpened { gate: at }.by(timer_deed())
            }
        })
        .collect()
}

/// The pipeline is over once all its targets are.
fn ending(pipeline: &Pipeline) -> Option<What> {
    if pipeline.targets.values().any(|target| !target.is_over()) {
        return None;
    }
    let has = |end: End| pipeline.targets.values().any(|target| target.ended_as(end));
    let mut targets = pipeline.targets.values();
    let state = match pipeline.stopping.as_ref().map(|stopping| stopping.why) {
        Some(StopReason::Cancelled | StopReason::Expired | StopReason::Rejected | StopReason::Superseded) => {
            State::Cancelled
        }
        None if targets.clone().all(|t| t.ended_as(End::Succeeded)) => State::Succeeded,
        None if targets.clone().any(|t| t.failed.is_some()) => State::Failed,
        // Nothing failed: a person took back what is missing.
        None if targets.any(|t| t.taken_back.is_some()) => State::Cancelled,
        None => State::Failed,
    };
    let rolled_back = if has(End::RollbackFailed) {
        Some(RolledBack::Failed)
    } else if has(End::Failed) || has(End::LeftAsIs) {
        Some(RolledBack::No)
    } else if has(End::RolledBack) {
        Some(RolledBack::Yes)
    } else {
        None
    };
    Some(What::PipelineEnded { state, rolled_back })
}
