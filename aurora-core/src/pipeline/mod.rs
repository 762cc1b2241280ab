//! The run of one deploy file over all its targets: its state, its events, and the pure functions between them.
//!
//! [`decide`] says what happened, [`evolve`] folds it into the state, [`outstanding`] reads off what is
//! still to do, [`next_wake`] when to look again. Nothing here waits, reads a clock or performs an effect.
//!
//! What the rules leave open is decided here:
//! - One target that fails does not stop the others: those that are under way go on to their own end, those
//!   that depend on it never start, and the pipeline fails once nothing runs.
//! - A target at a gate after its deployment has not succeeded yet: a refused or expired gate there takes it
//!   back like any other.
//! - Pruning that fails for good fails the target: what left the plan would otherwise stay unseen.
//! - Somebody's promote in the cluster counts: the gate is passed, the timeline says by whom it was not opened.
//!   Somebody's abort is a failure. Somebody's change is undone, at most every 30 s.
//! - A blue/green target has no gate of its own between its Rollouts: those before the redirect stand side by side
//!   once all Rollouts are there, and the last one to open moves all of them. Without gates they still move together.
//! - What no Rollout moved for has no old version: the gates before its end ask nobody.
//! - An old version that is gone early, by hand or by its delay, is shown; its gates still ask, because whoever says
//!   yes there says it of the new version. An agent that may not end an old version leaves it to its delay.
//! - A Rollout that a user wrote has pauses which the file does not know: a person ends them in the cluster,
//!   and no timeout counts meanwhile.
//! - A target whose agent never took its plan in hand is ended without going back: nothing of it was sent.
//! - Only a timed gate is skipped. One that waits for a person is approved, by administrators too, so that the log
//!   never says that nobody was asked. A decision after a gate's time is too late, also before anybody noticed.
//! - A target that a person took back leaves its pipeline cancelled, unless something failed besides.
//! - A retry in place makes the target as it was submitted, with fresh gates; what was captured of its failures stays.
//! - Going back as a run of its own ([`SubmittedTarget::back`]) is a run like any other, but in full and without
//!   gates: where the earlier plan fails now, the target returns to the one that it left.
//! - A queued pipeline asks nobody and does nothing until its turn, and takes a new lease then: while it waited, the
//!   run before it may have sent commands with a higher fence.

mod decide;
mod deployment;
mod event;
mod evolve;
mod gate;
mod impact;
mod outstanding;
mod rerun;
mod status;
mod stored;
mod timeline;
mod view;
mod waiting;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::deploy_file::Problem;
use crate::digest::Digest;
use crate::id::PipelineId;
use crate::principal::{Actor, ClientProduct};
use crate::strategy::Span;

pub use decide::{Approver, Heard, Input, Person, Refused, decide};
pub use deployment::{ActState, Away, Deployment, External, Phase, Run, SeenLevel, Stage};
pub use event::{
    Answer, AskedAct, Cause, Deed, End, Event, Evidence, ExternalDeed, LastGood, Origin, OriginKind,
    RolledBack, Submitted, SubmittedTarget, What,
};
pub use evolve::evolve;
pub use gate::{Gate, GateRef, GateState, InvalidGate, Place};
pub use impact::{Change, Dependant, Impact, Undo, Version, impact, impact_of_run};
pub use outstanding::{Asked, Effect, EffectKind, next_wake, outstanding};
pub use rerun::{back_to, retry_of, to_retry};
pub use status::{ArmoryStatus, State};
pub use stored::{UnreadableEvent, decode, encode};
pub use timeline::{TimelineEntry, timeline_entry};
pub(crate) use view::evidence_views;
pub use view::{
    ChangeRow, EvidenceView, ExternalView, GateView, PipelineView, RolloutView, StepView, StoppingView,
    Summary, TargetRow, TargetView, summary, view,
};
pub use waiting::{
    ActionView, Blocker, DeniedView, Field, Given, Need, Reason, Rule, Subject, Viewer, Waiting,
};

/// The state of one pipeline: what its events add up to.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Which one.
    pub id: PipelineId,
    /// The version of its last event.
    pub version: u64,
    /// When its last event happened.
    pub changed_at: Timestamp,
    /// The application: key of the run lock and of history.
    pub application: String,
    /// For people.
    pub description: String,
    /// Run-wide variables.
    pub context: BTreeMap<String, String>,
    /// Which commit and who pushed it, as the submitter said.
    pub source_control: Option<Value>,
    /// The program that submitted it.
    pub source: Option<ClientProduct>,
    /// Who submitted it.
    pub actor: Actor,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// The stored deploy file.
    pub file: Digest,
    /// From an apply or an opened gate to the next gate or the end.
    pub timeout: Span,
    /// One part per target, by name.
    pub targets: BTreeMap<String, Deployment>,
    /// What the submit warned of.
    pub warnings: Vec<Problem>,
    /// The earlier run that it comes from.
    pub origin: Option<Origin>,
    /// It waits for its turn behind this run.
    pub behind: Option<PipelineId>,
    /// The newer run that took its place in the queue.
    pub replaced_by: Option<PipelineId>,
    /// Why it is being ended early, once it is.
    pub stopping: Option<Stopping>,
    /// How it ended, once it has.
    pub ended: Option<Ended>,
    /// Why it cannot be read any further.
    pub parked: Option<Parked>,
    /// From which version on events were stored under which lease, or under none.
    pub fences: BTreeMap<u64, Option<u64>>,
}

/// Why a pipeline is being ended before its work is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Stopping {
    /// The reason.
    pub why: StopReason,
    /// Since when.
    pub since: Timestamp,
    /// Who, with what comment; nobody where time ran out.
    pub by: Option<Deed>,
    /// The gate it is about.
    pub gate: Option<GateRef>,
}

/// What ends a pipeline early.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StopReason {
    /// A person cancelled it.
    Cancelled,
    /// Nobody approved in time.
    Expired,
    /// A person said no.
    Rejected,
    /// A newer run took its place in the queue.
    Superseded,
}

/// How a pipeline ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// In which final state.
    pub state: State,
    /// Whether what it had changed was taken back.
    pub rolled_back: Option<RolledBack>,
}

/// Where and why reading stopped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parked {
    /// The version of the event that cannot be read.
    pub version: u64,
    /// Why, for an operator.
    pub message: String,
}

impl Pipeline {
    /// A pipeline of which nothing is known yet.
    pub fn new(id: PipelineId) -> Self {
        Self {
            id,
            version: 0,
            changed_at: Timestamp::UNIX_EPOCH,
            application: String::new(),
            description: String::new(),
            context: BTreeMap::new(),
            source_control: None,
            source: None,
            actor: Actor::system("unknown"),
            submitted_at: Timestamp::UNIX_EPOCH,
            file: Digest::of(b""),
            timeout: Span::from_secs(0),
            targets: BTreeMap::new(),
            warnings: Vec::new(),
            origin: None,
            behind: None,
            replaced_by: None,
            stopping: None,
            ended: None,
            parked: None,
            fences: BTreeMap::new(),
        }
    }

    /// The fence of the lease under which the event of this version was stored, if it was under one.
    pub fn fence_at(&self, version: u64) -> Option<u64> {
        let (_, fence) = self.fences.range(..=version).next_back()?;
        *fence
    }

    /// Folds stored events, in order, onto this state.
    ///
    /// An event that cannot be read, or that does not fit, parks the pipeline: what follows is not read.
    #[must_use]
    pub fn fold<'a>(self, events: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut pipeline = self;
        for bytes in events {
            if pipeline.parked.is_some() {
                break;
            }
            pipeline = match decode(bytes) {
                Ok(event) => evolve(pipeline, &event),
                Err(error) => {
                    let version = pipeline.version + 1;
                    pipeline.parked = Some(Parked {
                        version,
                        message: format!("event {version} cannot be read: {error}"),
                    });
                    pipeline
                }
            };
        }
        pipeline
    }

    /// Whether nothing will happen any more.
    pub const fn is_final(&self) -> bool {
        self.ended.is_some()
    }

    /// Whether it waits for its turn behind another run of its application.
    pub const fn is_queued(&self) -> bool {
        self.behind.is_some() && self.ended.is_none()
    }

    /// A gate of this pipeline.
    pub fn gate(&self, gate: &GateRef) -> Option<&Gate> {
        self.targets.get(&gate.target)?.gate(gate.place)
    }

    /// Whether all that a target depends on has succeeded.
    pub(crate) fn dependencies_succeeded(&self, target: &Deployment) -> bool {
        target
            .depends_on
            .iter()
            .all(|name| self.targets.get(name).is_some_and(|t| t.ended_as(End::Succeeded)))
    }

    /// The first dependency that ended without success.
    pub(crate) fn failed_dependency<'a>(&'a self, target: &'a Deployment) -> Option<&'a str> {
        let failed = |name: &&String| {
            self.targets
                .get(*name)
                .is_none_or(|t| matches!(t.phase, Phase::Ended { end, .. } if end != End::Succeeded))
        };
        target.depends_on.iter().find(failed).map(String::as_str)
    }
}

/// A moment later than another; the end of time where there is none.
pub(crate) fn later(at: Timestamp, by: std::time::Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
