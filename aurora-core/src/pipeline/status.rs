//! The states of a pipeline and of its targets, and what Armory's API calls them.

use serde::{Deserialize, Serialize};

use super::deployment::{Deployment, Phase, Stage};
use super::event::End;
use super::{Pipeline, StopReason};
use crate::command::Direction;

/// Where a pipeline or a target stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum State {
    /// Ended by a person, or because an approval was refused or expired.
    Cancelled,
    /// It failed.
    Failed,
    /// Nothing of it has begun.
    NotStarted,
    /// It cannot be read and needs an operator.
    Parked,
    /// Another run holds the application; this one is next.
    Queued,
    /// Going back to the last plan that succeeded.
    RollingBack,
    /// Something is on its way.
    Running,
    /// The new version is live.
    Succeeded,
    /// Waits for a timer or an agent.
    Waiting,
    /// Waits for a person.
    WaitingForApproval,
}

/// The same in the words of Armory's API.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ArmoryStatus {
    /// Waits for a person.
    AwaitingApproval,
    /// Ended by a person.
    Cancelled,
    /// It failed.
    Failed,
    /// Nothing has begun.
    NotStarted,
    /// Waits for a timer or an agent.
    Paused,
    /// On its way, forward or back.
    Running,
    /// The new version is live.
    Succeeded,
    /// It cannot be read.
    Unknown,
}

impl State {
    /// What Armory's API calls it.
    pub const fn armory(self) -> ArmoryStatus {
        match self {
            Self::Cancelled => ArmoryStatus::Cancelled,
            Self::Failed => ArmoryStatus::Failed,
            Self::NotStarted | Self::Queued => ArmoryStatus::NotStarted,
            Self::Parked => ArmoryStatus::Unknown,
            Self::RollingBack | Self::Running => ArmoryStatus::Running,
            Self::Succeeded => ArmoryStatus::Succeeded,
            Self::Waiting => ArmoryStatus::Paused,
            Self::WaitingForApproval => ArmoryStatus::AwaitingApproval,
        }
    }

    /// Whether nothing will happen any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Cancelled | Self::Failed | Self::Succeeded)
    }

    /// The word for it in the domain, as it is serialised.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::NotStarted => "notStarted",
            Self::Parked => "parked",
            Self::Queued => "queued",
            Self::RollingBack => "rollingBack",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Waiting => "waiting",
            Self::WaitingForApproval => "waitingForApproval",
        }
    }
}

impl Pipeline {
    /// Where the pipeline stands; of several targets the one that most needs a look counts.
    pub fn state(&self) -> State {
        if self.parked.is_some() {
            return State::Parked;
        }
        if let Some(ended) = &self.ended {
            return ended.state;
        }
        if self.is_queued() {
            return State::Queued;
        }
        let has = |state: State| self.targets.values().any(|t| self.target_state(t) == state);
        for state in [
            State::RollingBack,
            State::WaitingForApproval,
            State::Running,
            State::Waiting,
        ] {
            if has(state) {
                return state;
            }
        }
        State::Running
    }

    /// Where one target stands.
    pub fn target_state(&self, target: &Deployment) -> State {
        match &target.phase {
            Phase::Waiting if self.is_queued() => State::NotStarted,
            Phase::Waiting | Phase::Before => match target.standing_gates().next() {
                Some(_) => waiting_at(target),
                None if self.dependencies_succeeded(target) => State::Running,
                None => State::NotStarted,
            },
            Phase::Running(run) if run.direction == Direction::Back => State::RollingBack,
            Phase::Running(_) if target.away.is_some() => State::Waiting,
            Phase::Running(run) if run.stage == Stage::Moving && target.standing_gates().next().is_some() => {
                waiting_at(target)
            }
            Phase::Running(_) => State::Running,
            Phase::After if target.standing_gates().next().is_some() => waiting_at(target),
            Phase::After => State::Running,
            Phase::Ended { end, .. } => self.ended_state(target, *end),
        }
    }

    fn ended_state(&self, target: &Deployment, end: End) -> State {
        match end {
            End::Succeeded => State::Succeeded,
            End::NeverStarted if self.stopping.is_none() => State::NotStarted,
            End::NeverStarted | End::LeftAsIs => State::Cancelled,
            _ if target.failed.is_some() => State::Failed,
            _ => State::Cancelled,
        }
    }

    /// A stable word for why it stands there, beyond the state.
    pub fn reason_code(&self) -> Option<&'static str> {
        match self.stopping.as_ref().map(|s| s.why) {
            Some(StopReason::Cancelled) => Some("cancelled"),
            Some(StopReason::Expired) => Some("approval.expired"),
            Some(StopReason::Rejected) => Some("approval.rejected"),
            Some(StopReason::Superseded) => Some("superseded"),
            None if self.parked.is_some() => Some("parked"),
            None if self.targets.values().any(|t| t.failed.is_some()) => Some("target.failed"),
            None if self.targets.values().any(|t| t.taken_back.is_some()) => Some("target.takenBack"),
            None if self.is_queued() => Some("queued"),
            None => None,
        }
    }
}

fn waiting_at(target: &Deployment) -> State {
    if target.standing_gates().any(|(_, gate)| gate.wants_approval()) {
        State::WaitingForApproval
    } else {
        State::Waiting
    }
}
