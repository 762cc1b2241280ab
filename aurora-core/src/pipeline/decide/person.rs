//! What follows from what people ask for, and when they are refused.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::running;
use super::{Draft, What};
use crate::error::ErrorKind;
use crate::id::PipelineId;
use crate::pipeline::Pipeline;
use crate::pipeline::event::Deed;
use crate::pipeline::gate::{Gate, GateRef, GateState, Place};
use crate::principal::{Actor, Principal};
use crate::strategy::Pause;

/// Somebody who asks for something.
#[derive(Clone, Debug, PartialEq)]
pub struct Person {
    /// Who, and through which door.
    pub actor: Actor,
    /// Their words.
    pub comment: Option<String>,
    /// What they may decide.
    pub approver: Approver,
}

impl Person {
    /// What they do, as it is remembered.
    pub fn deed(&self) -> Deed {
        Deed {
            actor: self.actor.clone(),
            comment: self.comment.clone(),
        }
    }
}

/// What somebody may decide.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Approver {
    /// The roles they hold.
    pub roles: BTreeSet<String>,
    /// They administer the tenant or the organization, so they may open every gate.
    pub full: bool,
}

impl Approver {
    /// What a principal may decide.
    pub fn of(principal: &Principal) -> Self {
        Self {
            roles: principal.roles.clone(),
            full: ["api:organization:full", "api:tenant:full"]
                .iter()
                .any(|scope| principal.has_scope(scope)),
        }
    }

    /// The role or rule that lets them decide about a gate, if one does.
    ///
    /// # Errors
    /// The roles any one of which would do.
    pub fn basis(&self, gate: &Gate) -> Result<String, Vec<String>> {
        let Pause::Approval(approval) = &gate.pause else {
            return Ok("deploy".to_owned());
        };
        if approval.roles.is_empty() {
            return Ok("deploy".to_owned());
        }
        let holds = |wanted: &&String| self.roles.iter().any(|held| held.eq_ignore_ascii_case(wanted));
        match approval.roles.iter().find(holds) {
            Some(role) => Ok(format!("role {role}")),
            None if self.full => Ok("administrator".to_owned()),
            None => Err(approval.roles.clone()),
        }
    }
}

/// Why somebody cannot have what they ask for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Somebody was faster.
    #[error("{by} {how} gate `{gate}` at {at}")]
    AlreadyDecided {
        /// Which gate.
        gate: GateRef,
        /// Who decided.
        by: Box<Actor>,
        /// What they did, in words: opened, rejected.
        how: &'static str,
        /// When.
        at: Timestamp,
    },
    /// The gate is not the one that the person saw.
    #[error("gate `{gate}` changed since you looked: it now is `{expect}`; look again and decide anew")]
    Changed {
        /// Which gate.
        gate: GateRef,
        /// What would be right now.
        expect: String,
    },
    /// They may not.
    #[error("gate `{gate}` needs the role {}", needs.join(" or "))]
    Denied {
        /// Which gate.
        gate: GateRef,
        /// Any one of these roles would do.
        needs: Vec<String>,
    },
    /// It is over.
    #[error("the pipeline is over: {state}")]
    Ended {
        /// Its final state.
        state: &'static str,
    },
    /// Several targets could be meant.
    #[error("name the target: it is one of {}", targets.join(", "))]
    Ambiguous {
        /// Those that could be meant.
        targets: Vec<String>,
    },
    /// There is no such gate.
    #[error("there is no gate `{gate}`; the status lists the gates of each target")]
    NoSuchGate {
        /// What was named.
        gate: GateRef,
    },
    /// There is no such target.
    #[error("there is no target `{target}` in this pipeline; the status lists them")]
    NoSuchTarget {
        /// What was named.
        target: String,
    },
    /// Nothing of the pipeline wants to be tried again.
    #[error("there is nothing to try again: {why}")]
    NothingToRetry {
        /// Why not.
        why: &'static str,
    },
    /// Only a timed gate can be opened before its time.
    #[error("gate `{gate}` waits for a person and cannot be skipped; approve or reject it")]
    NotSkippable {
        /// Which gate.
        gate: GateRef,
    },
    /// The gate is open by itself, behind, or not reached.
    #[error("gate `{gate}` does not wait for anybody: {why}")]
    NotStanding {
        /// Which gate.
        gate: GateRef,
        /// Why not.
        why: &'static str,
    },
    /// It cannot be read.
    #[error("the pipeline cannot be read: {message}")]
    Parked {
        /// Why.
        message: String,
    },
    /// It waits for its turn: nothing of it has begun.
    #[error("the pipeline is queued and nothing of it has begun; cancel it to take it out of the queue")]
    Queued,
    /// It is being ended already.
    #[error("the pipeline is being ended already")]
    Stopping,
    /// The target does not stand where that could be done.
    #[error("target `{target}` {why}")]
    TargetNotReady {
        /// Which target.
        target: String,
        /// Why not, and what could be done instead.
        why: String,
    },
    /// The run that was named is none to whose plan the target could go back.
    #[error("pipeline {to} is none to go back to: {why}")]
    Unsuitable {
        /// Which run.
        to: PipelineId,
        /// Why not.
        why: String,
    },
}

impl Refused {
    /// What can be done about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Ambiguous { .. } => ErrorKind::Invalid,
            Self::NoSuchGate { .. } | Self::NoSuchTarget { .. } => ErrorKind::NotFound,
            Self::Parked { .. } => ErrorKind::Internal,
            Self::AlreadyDecided { .. }
            | Self::Changed { .. }
            | Self::Ended { .. }
            | Self::NotSkippable { .. }
            | Self::NotStanding { .. }
            | Self::NothingToRetry { .. }
            | Self::Queued
            | Self::Stopping
            | Self::TargetNotReady { .. }
            | Self::Unsuitable { .. } => ErrorKind::Conflict,
        }
    }

    /// A stable code for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::AlreadyDecided { .. } => "gate.decided",
            Self::Ambiguous { .. } => "target.ambiguous",
            Self::Changed { .. } => "gate.changed",
            Self::Denied { .. } => "role.missing",
            Self::Ended { .. } => "pipeline.ended",
            Self::NoSuchGate { .. } => "gate.unknown",
            Self::NoSuchTarget { .. } => "target.unknown",
            Self::NotSkippable { .. } => "gate.notSkippable",
            Self::NotStanding { .. } => "gate.notStanding",
            Self::NothingToRetry { .. } => "retry.nothing",
            Self::Parked { .. } => "pipeline.parked",
            Self::Queued => "pipeline.queued",
            Self::Stopping => "pipeline.stopping",
            Self::TargetNotReady { .. } => "target.notReady",
            Self::Unsuitable { .. } => "rollback.unsuitable",
        }
    }
}

impl Pipeline {
    /// What somebody who looks at a gate now sees, to be presented with their decision.
    pub fn gate_expect(&self, gate: &GateRef) -> Option<String> {
        let target = self.targets.get(&gate.target)?;
        target.gate(gate.place)?;
        // A target that is tried again stands at its gates anew, with the same plan.
        let round = match target.retried {
            0 => String::new(),
            times => format!("#{times}"),
        };
        Some(format!("{gate}:{}{round}", target.plan))
    }
}

pub(super) fn approve(
    draft: &mut Draft,
    gate: &GateRef,
    expect: Option<&str>,
    person: &Person,
) -> Result<(), Refused> {
    let deed = may_decide(draft, gate, expect, person, false)?;
    draft.push(What::GateOpened { gate: gate.clone() }.by(deed));
    go_on(draft, gate);
    Ok(())
}

/// A timed gate is opened before its time; one that waits for a person is theirs to approve, also for administrators.
pub(super) fn skip(
    draft: &mut Draft,
    gate: &GateRef,
    expect: Option<&str>,
    person: &Person,
) -> Result<(), Refused> {
    let deed = may_decide(draft, gate, expect, person, true)?;
    draft.push(What::GateSkipped { gate: gate.clone() }.by(deed));
    go_on(draft, gate);
    Ok(())
}

/// The Rollouts that stand at a gate which was just opened are moved on.
fn go_on(draft: &mut Draft, gate: &GateRef) {
    if let Place::Step(step) = gate.place {
        let acts = draft
            .pipeline
            .targets
            .get(&gate.target)
            .map(|target| running::open(target, step))
            .unwrap_or_default();
        draft.extend(acts);
    }
}

pub(super) fn reject(
    draft: &mut Draft,
    gate: &GateRef,
    expect: Option<&str>,
    person: &Person,
) -> Result<(), Refused> {
    let deed = may_decide(draft, gate, expect, person, false)?;
    draft.push(What::GateRejected { gate: gate.clone() }.by(deed));
    Ok(())
}

pub(super) fn cancel(draft: &mut Draft, person: &Person) -> Result<(), Refused> {
    is_under_way(&draft.pipeline)?;
    draft.push(What::CancelAsked.by(person.deed()));
    Ok(())
}

pub(super) fn is_under_way(pipeline: &Pipeline) -> Result<(), Refused> {
    if let Some(parked) = &pipeline.parked {
        let message = parked.message.clone();
        return Err(Refused::Parked { message });
    }
    if let Some(ended) = &pipeline.ended {
        let state = ended.state.name();
        return Err(Refused::Ended { state });
    }
    match pipeline.stopping {
        Some(_) => Err(Refused::Stopping),
        None => Ok(()),
    }
}

/// Whether somebody may decide about a gate now: open or refuse one that waits for a person, or (`early`) open a
/// timed one before its time.
fn may_decide(
    draft: &Draft,
    at: &GateRef,
    expect: Option<&str>,
    person: &Person,
    early: bool,
) -> Result<Deed, Refused> {
    let pipeline = &draft.pipeline;
    let no_such = || Refused::NoSuchGate { gate: at.clone() };
    let gate = pipeline.gate(at).ok_or_else(no_such)?;
    // Who was faster says more than that it is over.
    if let Some((by, when)) = gate.decided_by().filter(|_| early || gate.wants_approval()) {
        let opened = matches!(gate.state, GateState::Open { .. });
        return Err(Refused::AlreadyDecided {
            gate: at.clone(),
            by: Box::new(by.actor.clone()),
            how: if opened { "opened" } else { "rejected" },
            at: when,
        });
    }
    is_under_way(pipeline)?;
    let not_standing = |why| {
        Err(Refused::NotStanding {
            gate: at.clone(),
            why,
        })
    };
    match gate.state {
        GateState::Standing { .. } if early && gate.wants_approval() => {
            return Err(Refused::NotSkippable { gate: at.clone() });
        }
        GateState::Standing { .. } if early => {}
        // The timer is due and only not written down yet: whoever comes after it is too late.
        GateState::Standing { .. } if gate.until().is_some_and(|until| until <= draft.now) => {
            return not_standing("nobody decided in time");
        }
        GateState::Standing { .. } if gate.wants_approval() => {}
        GateState::Standing { .. } => {
            return not_standing("a timer opens it; skip it to have it open now");
        }
        GateState::Ahead => return not_standing("it is not reached yet"),
        _ => return not_standing("it is behind"),
    }
    let now = pipeline.gate_expect(at).ok_or_else(no_such)?;
    if expect.is_some_and(|expect| expect != now) {
        return Err(Refused::Changed {
            gate: at.clone(),
            expect: now,
        });
    }
    let basis = person.approver.basis(gate).map_err(|needs| Refused::Denied {
        gate: at.clone(),
        needs,
    })?;
    let mut deed = person.deed();
    deed.actor.basis = Some(basis);
    Ok(deed)
}
