//! Gates: where a deployment waits for a person or a timer.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::Deed;
use crate::principal::Actor;
use crate::strategy::Pause;

/// Where in a deployment a gate is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Place {
    /// Before the target starts: the i-th of those that wait side by side.
    Before(usize),
    /// The i-th step of the strategy, from 0.
    Step(usize),
    /// Before traffic goes to the new version of a blue/green move: the i-th of those side by side.
    Redirect(usize),
    /// Before the old version of a blue/green move is shut down: the i-th of those side by side.
    ShutDown(usize),
    /// After the target is deployed.
    After(usize),
}

impl Place {
    /// Whether it is on the way of a strategy, so that the timeout stands still while a gate stands there.
    pub const fn is_of_strategy(self) -> bool {
        match self {
            Self::Step(_) | Self::Redirect(_) | Self::ShutDown(_) => true,
            Self::Before(_) | Self::After(_) => false,
        }
    }
}

/// Names a gate of a pipeline; written `target/step/3`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct GateRef {
    /// The target.
    pub target: String,
    /// Where in it.
    pub place: Place,
}

/// The text does not name a gate.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{text}` is not a gate; a gate is written target/step/3, or with before, redirect, shutdown or after for step"
)]
pub struct InvalidGate {
    /// What was given, cut to 128 characters.
    pub text: String,
}

impl GateRef {
    /// Names a gate.
    pub fn new(target: impl Into<String>, place: Place) -> Self {
        Self {
            target: target.into(),
            place,
        }
    }
}

impl fmt::Display for GateRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, index) = match self.place {
            Place::Before(index) => ("before", index),
            Place::Step(index) => ("step", index),
            Place::Redirect(index) => ("redirect", index),
            Place::ShutDown(index) => ("shutdown", index),
            Place::After(index) => ("after", index),
        };
        write!(f, "{}/{kind}/{index}", self.target)
    }
}

impl From<GateRef> for String {
    fn from(gate: GateRef) -> Self {
        gate.to_string()
    }
}

impl FromStr for GateRef {
    type Err = InvalidGate;

    fn from_str(text: &str) -> Result<Self, InvalidGate> {
        let invalid = || InvalidGate {
            text: text.chars().take(128).collect(),
        };
        // From the right: a target's name may hold a slash.
        let mut parts = text.rsplitn(3, '/');
        let index = parts.next().and_then(|i| i.parse().ok()).ok_or_else(invalid)?;
        let kind = parts.next().ok_or_else(invalid)?;
        let target = parts.next().filter(|t| !t.is_empty()).ok_or_else(invalid)?;
        let place = match kind {
            "before" => Place::Before(index),
            "step" => Place::Step(index),
            "redirect" => Place::Redirect(index),
            "shutdown" => Place::ShutDown(index),
            "after" => Place::After(index),
            _ => return Err(invalid()),
        };
        Ok(Self::new(target, place))
    }
}

impl TryFrom<String> for GateRef {
    type Error = InvalidGate;

    fn try_from(text: String) -> Result<Self, InvalidGate> {
        text.parse()
    }
}

/// One gate and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// Where in its deployment.
    pub place: Place,
    /// What it waits for.
    pub pause: Pause,
    /// Where it stands.
    pub state: GateState,
}

/// Where a gate stands.
#[derive(Clone, Debug, PartialEq)]
pub enum GateState {
    /// Not reached yet.
    Ahead,
    /// Nobody is asked any more, because its target goes back or is over.
    Dropped {
        /// Since when.
        at: Timestamp,
    },
    /// Nobody approved in time.
    Expired {
        /// When.
        at: Timestamp,
    },
    /// No Rollout stood at it, so nobody was asked.
    NotExercised {
        /// When that was clear.
        at: Timestamp,
    },
    /// Opened.
    Open {
        /// When.
        at: Timestamp,
        /// By whom, with what comment.
        by: Deed,
    },
    /// Somebody moved the Rollouts past it in the cluster.
    Passed {
        /// When that was seen.
        at: Timestamp,
    },
    /// A person said no.
    Rejected {
        /// When.
        at: Timestamp,
        /// Who, with what comment.
        by: Deed,
    },
    /// Reached, and waiting.
    Standing {
        /// Since when.
        since: Timestamp,
    },
}

impl Gate {
    /// A gate that is not reached yet.
    pub const fn ahead(place: Place, pause: Pause) -> Self {
        Self {
            place,
            pause,
            state: GateState::Ahead,
        }
    }

    /// Since when it waits, if it does.
    pub const fn standing_since(&self) -> Option<Timestamp> {
        match self.state {
            GateState::Standing { since } => Some(since),
            _ => None,
        }
    }

    /// Whether what it guards may go on.
    pub const fn is_behind(&self) -> bool {
        matches!(
            self.state,
            GateState::Open { .. } | GateState::Passed { .. } | GateState::NotExercised { .. }
        )
    }

    /// When time opens it (a timer) or shuts it for good (an expiry), if it stands and has a limit.
    pub fn until(&self) -> Option<Timestamp> {
        let since = self.standing_since()?;
        let span = match &self.pause {
            Pause::Timed(span) => Some(*span),
            Pause::Approval(approval) => approval.expires_after,
        };
        span.map(|span| super::later(since, span.as_duration()))
    }

    /// Who opened or refused it.
    pub fn decided_by(&self) -> Option<(&Deed, Timestamp)> {
        match &self.state {
            GateState::Open { at, by } | GateState::Rejected { at, by } => Some((by, *at)),
            _ => None,
        }
    }

    /// Whether it waits for a person.
    pub const fn wants_approval(&self) -> bool {
        matches!(self.pause, Pause::Approval(_))
    }
}

/// Aurora's own deed when a timer opens a gate.
pub(super) fn timer_deed() -> Deed {
    Deed {
        actor: Actor::system("timer"),
        comment: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_read_back_from_their_text() {
        for place in [
            Place::Before(0),
            Place::Step(12),
            Place::Redirect(1),
            Place::ShutDown(2),
            Place::After(3),
        ] {
            let gate = GateRef::new("eu/prod", place);
            assert_eq!(gate.to_string().parse(), Ok(gate));
        }
        for text in ["", "prod", "prod/step", "/step/1", "prod/stop/1", "prod/step/x"] {
            assert!(text.parse::<GateRef>().is_err(), "{text}");
        }
    }
}
