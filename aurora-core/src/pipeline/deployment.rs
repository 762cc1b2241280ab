//! One target's part of a pipeline.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::event::{Answer, AskedAct, Cause, Deed, End, Evidence, ExternalDeed, LastGood, SubmittedTarget};
use super::gate::{Gate, GateState, Place};
use crate::account::AccountName;
use crate::command::Direction;
use crate::digest::Digest;
use crate::manifest::ObjectRef;
use crate::plan::StepMap;
use crate::progress::{Progress, Standing};
use crate::strategy::{Step, Strategy};

/// The state of one target's part.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// The target's name.
    pub name: String,
    /// The agent that serves it.
    pub account: AccountName,
    /// Where its objects go.
    pub namespace: String,
    /// Targets that must have succeeded first.
    pub depends_on: Vec<String>,
    /// How its Deployments move.
    pub strategy: Option<Strategy>,
    /// The rendered plan.
    pub plan: Digest,
    /// How steps of the file map to each Rollout.
    pub steps: StepMap,
    /// What the renderer noted for people.
    pub notes: Vec<String>,
    /// The plan is an earlier one: it is brought in in full and without gates.
    pub back: bool,
    /// All gates, in order of place.
    pub gates: Vec<Gate>,
    /// Where it stands.
    pub phase: Phase,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// The plan to go back to, known once it began.
    pub last_good: Option<LastGood>,
    /// The plan that it goes, or went, back to.
    pub back_to: Option<LastGood>,
    /// Who took it back, where that was a person.
    pub taken_back: Option<Deed>,
    /// How often a person had it begin once more.
    pub retried: u32,
    /// Who did that last.
    pub retried_by: Option<Deed>,
    /// What others did past Aurora, the last of it.
    pub external: Vec<External>,
    /// The agent cannot be reached.
    pub away: Option<Away>,
    /// Why it failed.
    pub failed: Option<Cause>,
    /// When it failed.
    pub failed_at: Option<Timestamp>,
    /// What was captured when it failed.
    pub evidence: Vec<Evidence>,
    /// The last levels of its workloads.
    pub levels: BTreeMap<ObjectRef, SeenLevel>,
    /// When levels were last stored.
    pub levels_at: Option<Timestamp>,
}

/// Where a target's part stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Its dependencies have not all succeeded, or it is about to begin.
    Waiting,
    /// At the gates before it.
    Before,
    /// A plan is being brought in.
    Running(Run),
    /// At the gates after it.
    After,
    /// Over.
    Ended {
        /// How.
        end: End,
        /// When.
        at: Timestamp,
    },
}

/// One plan being brought in, forward or back.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Which way, as the agent is told: an earlier plan is brought in as going back is.
    pub direction: Direction,
    /// It takes back what the target's own plan had changed; at its end the target has not succeeded.
    pub undo: bool,
    /// Which plan.
    pub plan: Digest,
    /// Its workloads and steps.
    pub steps: StepMap,
    /// How far.
    pub stage: Stage,
    /// The version of the event that asked for the apply.
    pub asked: u64,
    /// The version of the event that the present observation goes back to.
    pub tag: u64,
    /// The version of the event that asked for the finish.
    pub finish_asked: u64,
    /// The agent has taken the apply in hand.
    pub accepted: bool,
    /// From when the timeout counts; absent while it stands still.
    pub clock: Option<Timestamp>,
    /// Since when it is in this stage.
    pub since: Timestamp,
    /// When it was last applied again, and why.
    pub reapplied: Option<Timestamp>,
    /// Acts that were decided on.
    pub acts: Vec<ActState>,
}

/// How far a plan is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Going back cannot be applied: at least the traffic is sent back.
    Aborting,
    /// The agent makes the cluster hold it.
    Applying,
    /// Workloads move from gate to gate.
    Moving,
    /// The agent prunes what left the plan.
    Finishing,
}

/// One act that was decided on, and its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ActState {
    /// The version of the event that asked for it.
    pub asked: u64,
    /// Its place among the acts of that event.
    pub ordinal: u32,
    /// What to do.
    pub act: AskedAct,
    /// The answer and when it came.
    pub answer: Option<(Answer, Timestamp)>,
}

/// What somebody did in the cluster, past Aurora.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct External {
    /// When it was seen.
    pub at: Timestamp,
    /// To which object.
    pub object: ObjectRef,
    /// What.
    pub deed: ExternalDeed,
    /// What is known of who it was.
    pub by: String,
}

/// The agent cannot be reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Away {
    /// Since when.
    pub since: Timestamp,
    /// A stable code.
    pub code: String,
    /// Why, for people.
    pub message: String,
}

/// The last level of one workload.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenLevel {
    /// What the agent said.
    pub level: Progress,
    /// Since when it stands where it stands.
    pub since: Timestamp,
    /// It stands where it stood when this plan's move began.
    pub from_start: bool,
    /// Since when it has pods that cannot be pulled.
    pub unpullable_since: Option<Timestamp>,
}

impl Deployment {
    /// A target that has not begun.
    pub(super) fn submitted(name: &str, target: &SubmittedTarget) -> Self {
        let mut gates = Vec::new();
        gates.extend(
            target
                .before
                .iter()
                .enumerate()
                .map(|(i, pause)| Gate::ahead(Place::Before(i), pause.clone())),
        );
        gates.extend(
            target
                .strategy
                .iter()
                .flat_map(Strategy::steps)
                .enumerate()
                .filter_map(|(i, step)| match step {
                    Step::Pause(pause) => Some(Gate::ahead(Place::Step(i), pause.clone())),
                    Step::SetWeight(_) => None,
                }),
        );
        if let Some(Strategy::BlueGreen(moves)) = &target.strategy {
            let redirect = moves.redirect_after.iter().enumerate();
            gates.extend(redirect.map(|(i, pause)| Gate::ahead(Place::Redirect(i), pause.clone())));
            let shut_down = moves.shut_down_after.iter().enumerate();
            gates.extend(shut_down.map(|(i, pause)| Gate::ahead(Place::ShutDown(i), pause.clone())));
        }
        gates.extend(
            target
                .after
                .iter()
                .enumerate()
                .map(|(i, pause)| Gate::ahead(Place::After(i), pause.clone())),
        );
        Self {
            name: name.to_owned(),
            account: target.account.clone(),
            namespace: target.namespace.clone(),
            depends_on: target.depends_on.clone(),
            strategy: target.strategy.clone(),
            plan: target.plan,
            steps: target.steps.clone(),
            notes: target.notes.clone(),
            back: target.back,
            gates,
            phase: Phase::Waiting,
            started_at: None,
            last_good: None,
            back_to: None,
            taken_back: None,
            retried: 0,
            retried_by: None,
            external: Vec::new(),
            away: None,
            failed: None,
            failed_at: None,
            evidence: Vec::new(),
            levels: BTreeMap::new(),
            levels_at: None,
        }
    }

    /// A gate by its place.
    pub fn gate(&self, place: Place) -> Option<&Gate> {
        self.gates.iter().find(|gate| gate.place == place)
    }

    /// The plan being brought in, if one is.
    pub const fn run(&self) -> Option<&Run> {
        match &self.phase {
            Phase::Running(run) => Some(run),
            _ => None,
        }
    }

    /// Whether its part is over.
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    /// Whether it ended in this way.
    pub fn ended_as(&self, wanted: End) -> bool {
        matches!(self.phase, Phase::Ended { end, .. } if end == wanted)
    }

    /// Whether it began with no earlier plan to go back to.
    pub const fn is_first(&self) -> bool {
        self.started_at.is_some() && self.last_good.is_none()
    }

    /// Gates that are reached and wait.
    pub fn standing_gates(&self) -> impl Iterator<Item = (Place, &Gate)> {
        self.gates
            .iter()
            .filter(|gate| matches!(gate.state, GateState::Standing { .. }))
            .map(|gate| (gate.place, gate))
    }

    /// Gates before (or after) the deployment.
    pub(super) fn gates_where(&self, wanted: impl Fn(Place) -> bool) -> impl Iterator<Item = &Gate> {
        self.gates.iter().filter(move |gate| wanted(gate.place))
    }

    /// The level of a Rollout of the plan.
    pub(super) fn rollout(&self, name: &str) -> Option<&SeenLevel> {
        self.levels
            .iter()
            .find(|(object, _)| object.kind == "Rollout" && object.name == name)
            .map(|(_, seen)| seen)
    }
}

impl Run {
    /// Whether all workloads of the plan are done.
    pub(super) fn is_done(&self, target: &Deployment) -> bool {
        let done = |seen: &SeenLevel| seen.level.standing == Standing::Done;
        let rollouts = self
            .steps
            .rollouts
            .keys()
            .all(|name| target.rollout(name).is_some_and(done));
        let others = self
            .steps
            .workloads
            .iter()
            .all(|object| target.levels.get(object).is_some_and(done));
        rollouts && others
    }

    /// Whether the plan has anything that moves.
    pub(super) fn has_workloads(&self) -> bool {
        !self.steps.rollouts.is_empty() || !self.steps.workloads.is_empty()
    }

    /// The last act on an object.
    pub(super) fn last_act(&self, object: &ObjectRef) -> Option<&ActState> {
        self.acts.iter().rev().find(|state| state.act.object == *object)
    }
}

impl Strategy {
    /// The steps of the file, in order.
    pub fn steps(&self) -> &[Step] {
        match self {
            Self::Canary(canary) => &canary.steps,
            Self::BlueGreen(_) | Self::Rolling(_) => &[],
        }
    }
}
