//! Commands and verbs.

use std::time::Duration;

use aurora_core::command::{Act, Action, AppliedSetKey, Apply, Command, Direction, Observe, Stamp, Verb};
use aurora_core::hub::MAX_PING_BYTES;
use aurora_core::progress::ExpectToken;

use super::{BadField, NAME, digest, id, millis, needed, pb, present, text};

/// The longest deadline that is taken.
const MAX_DEADLINE_MS: u64 = 24 * 3600 * 1000;

impl From<Command> for pb::Command {
    fn from(command: Command) -> Self {
        Self {
            id: command.id.to_string(),
            pipeline: command.pipeline.map(|id| id.to_string()).unwrap_or_default(),
            initiator: command.initiator,
            deadline_ms: millis(command.deadline).max(1),
            trace_parent: command.trace_parent.unwrap_or_default(),
            fence: 0,
            verb: Some(command.verb.into()),
        }
    }
}

impl TryFrom<pb::Command> for Command {
    type Error = BadField;

    fn try_from(wire: pb::Command) -> Result<Self, BadField> {
        if wire.deadline_ms == 0 {
            return Err(BadField::new("command.deadline_ms", "is 0"));
        }
        if wire.deadline_ms > MAX_DEADLINE_MS {
            return Err(BadField::new("command.deadline_ms", "is more than a day"));
        }
        let pipeline = match wire.pipeline.as_str() {
            "" => None,
            text => Some(id(text, "command.pipeline")?),
        };
        let trace_parent = text(wire.trace_parent, 128, "command.trace_parent")?;
        Ok(Self {
            id: id(&wire.id, "command.id")?,
            pipeline,
            initiator: text(wire.initiator, 512, "command.initiator")?,
            deadline: Duration::from_millis(wire.deadline_ms),
            trace_parent: (!trace_parent.is_empty()).then_some(trace_parent),
            verb: present(wire.verb, "command.verb")?.try_into()?,
        })
    }
}

impl From<Verb> for pb::command::Verb {
    fn from(verb: Verb) -> Self {
        match verb {
            Verb::Act(act) => Self::Act(act.into()),
            Verb::Apply(apply) => Self::Apply(apply.into()),
            Verb::Delete { set, object } => Self::Delete(pb::Delete {
                set: Some(set.into()),
                object: Some(object.into()),
            }),
            Verb::Finish(apply) => Self::Finish(apply.into()),
            Verb::Get { object } => Self::Get(pb::Get {
                object: Some(object.into()),
            }),
            Verb::Observe(observe) => Self::Observe(pb::Observe {
                set: Some(observe.set.into()),
                plan: observe.plan.as_bytes().to_vec(),
                direction: pb::Direction::from(observe.direction).into(),
                cursor: Vec::new(),
            }),
            Verb::Ping { payload } => Self::Ping(pb::Ping { payload }),
        }
    }
}

impl TryFrom<pb::command::Verb> for Verb {
    type Error = BadField;

    fn try_from(wire: pb::command::Verb) -> Result<Self, BadField> {
        use pb::command::Verb as Wire;
        Ok(match wire {
            Wire::Act(act) => Self::Act(act.try_into()?),
            Wire::Apply(apply) => Self::Apply(apply.try_into()?),
            Wire::Delete(delete) => Self::Delete {
                set: present(delete.set, "delete.set")?.try_into()?,
                object: present(delete.object, "delete.object")?.try_into()?,
            },
            Wire::Finish(apply) => Self::Finish(apply.try_into()?),
            Wire::Get(get) => Self::Get {
                object: present(get.object, "get.object")?.try_into()?,
            },
            Wire::Observe(observe) => Self::Observe(Observe {
                direction: direction(observe.direction())?,
                set: present(observe.set, "observe.set")?.try_into()?,
                plan: digest(&observe.plan, "observe.plan")?,
            }),
            Wire::Ping(ping) if ping.payload.len() > MAX_PING_BYTES => {
                return Err(BadField::new("ping.payload", "is too long"));
            }
            Wire::Ping(ping) => Self::Ping {
                payload: ping.payload,
            },
        })
    }
}

impl From<Apply> for pb::Apply {
    fn from(apply: Apply) -> Self {
        Self {
            set: Some(apply.set.into()),
            target: apply.target,
            plan: apply.plan.as_bytes().to_vec(),
            stamp: Some(apply.stamp.into()),
            direction: pb::Direction::from(apply.direction).into(),
        }
    }
}

impl TryFrom<pb::Apply> for Apply {
    type Error = BadField;

    fn try_from(wire: pb::Apply) -> Result<Self, BadField> {
        Ok(Self {
            direction: direction(wire.direction())?,
            set: present(wire.set, "apply.set")?.try_into()?,
            target: text(wire.target, NAME, "apply.target")?,
            plan: digest(&wire.plan, "apply.plan")?,
            stamp: present(wire.stamp, "apply.stamp")?.into(),
        })
    }
}

impl From<Act> for pb::Act {
    fn from(act: Act) -> Self {
        Self {
            set: Some(act.set.into()),
            object: Some(act.object.into()),
            action: pb::Action::from(act.action).into(),
            expect: act
                .expect
                .map(|token| token.as_str().to_owned())
                .unwrap_or_default(),
            stamp: Some(act.stamp.into()),
        }
    }
}

impl TryFrom<pb::Act> for Act {
    type Error = BadField;

    fn try_from(wire: pb::Act) -> Result<Self, BadField> {
        Ok(Self {
            action: action(wire.action())?,
            set: present(wire.set, "act.set")?.try_into()?,
            object: present(wire.object, "act.object")?.try_into()?,
            expect: expect(wire.expect, "act.expect")?,
            stamp: present(wire.stamp, "act.stamp")?.into(),
        })
    }
}

/// An expect token; empty text is none.
pub(super) fn expect(text: String, field: &'static str) -> Result<Option<ExpectToken>, BadField> {
    if text.is_empty() {
        return Ok(None);
    }
    match ExpectToken::new(text) {
        Some(token) => Ok(Some(token)),
        None => Err(BadField::new(field, "is too long")),
    }
}

impl From<AppliedSetKey> for pb::AppliedSetKey {
    fn from(key: AppliedSetKey) -> Self {
        Self {
            tenant: key.tenant,
            application: key.application,
            namespace: key.namespace,
        }
    }
}

impl TryFrom<pb::AppliedSetKey> for AppliedSetKey {
    type Error = BadField;

    fn try_from(wire: pb::AppliedSetKey) -> Result<Self, BadField> {
        Ok(Self {
            tenant: needed(wire.tenant, 127, "set.tenant")?,
            application: needed(wire.application, NAME, "set.application")?,
            namespace: text(wire.namespace, NAME, "set.namespace")?,
        })
    }
}

impl From<Stamp> for pb::Stamp {
    fn from(stamp: Stamp) -> Self {
        Self {
            fence: stamp.fence,
            version: stamp.version,
        }
    }
}

impl From<pb::Stamp> for Stamp {
    fn from(wire: pb::Stamp) -> Self {
        Self {
            fence: wire.fence,
            version: wire.version,
        }
    }
}

impl From<Direction> for pb::Direction {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Back => Self::Back,
            Direction::Forward => Self::Forward,
        }
    }
}

fn direction(wire: pb::Direction) -> Result<Direction, BadField> {
    match wire {
        pb::Direction::Back => Ok(Direction::Back),
        pb::Direction::Forward => Ok(Direction::Forward),
        pb::Direction::Unspecified => Err(BadField::new("direction", "is unknown to this version")),
    }
}

impl From<Action> for pb::Action {
    fn from(action: Action) -> Self {
        match action {
            Action::Abort => Self::Abort,
            Action::Pause => Self::Pause,
            Action::Promote => Self::Promote,
            Action::PromoteFull => Self::PromoteFull,
            Action::Resume => Self::Resume,
            Action::Retry => Self::Retry,
            Action::ShutDownOld => Self::ShutDownOld,
            Action::Skip => Self::Skip,
        }
    }
}

fn action(wire: pb::Action) -> Result<Action, BadField> {
    Ok(match wire {
        pb::Action::Abort => Action::Abort,
        pb::Action::Pause => Action::Pause,
        pb::Action::Promote => Action::Promote,
        pb::Action::PromoteFull => Action::PromoteFull,
        pb::Action::Resume => Action::Resume,
        pb::Action::Retry => Action::Retry,
        pb::Action::ShutDownOld => Action::ShutDownOld,
        pb::Action::Skip => Action::Skip,
        pb::Action::Unspecified => return Err(BadField::new("act.action", "is unknown to this version")),
    })
}
