//! What is still to do, and when to look again, read off the state alone.

use std::time::Duration;

use jiff::Timestamp;

use super::decide::rules;
use super::deployment::{Deployment, Phase, Run, Stage};
use super::event::AskedAct;
use super::{Pipeline, later};
use crate::command::Direction;
use crate::digest::Digest;
use crate::id::CommandId;
use crate::progress::Standing;

/// One thing that is still to do for one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// The target.
    pub target: String,
    /// What.
    pub kind: EffectKind,
}

/// What can be outstanding.
#[derive(Clone, Debug, PartialEq)]
pub enum EffectKind {
    /// Find out when the agent can be reached again.
    AwaitAgent,
    /// Look up the last plan that succeeded and begin.
    Begin,
    /// A command whose answer is not stored yet.
    Command {
        /// Its id: the same for as long as it is outstanding.
        id: CommandId,
        /// The version of the event that asked for it.
        asked: u64,
        /// Its place among those that the event asked for.
        ordinal: u32,
        /// What is asked.
        order: Asked,
    },
    /// Follow the workloads.
    Observe {
        /// The version of the event that the observation goes back to: levels must carry it.
        tag: u64,
        /// Of which plan.
        plan: Digest,
        /// Which way it was applied.
        direction: Direction,
    },
    /// Begin once no other run holds the application; it is about no target.
    TakeTurn,
}

/// What a command asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// One act on one object.
    Act(AskedAct),
    /// Make the cluster hold a plan.
    Apply {
        /// Which.
        plan: Digest,
        /// Which way.
        direction: Direction,
    },
    /// Finish a plan that is done.
    Finish {
        /// Which.
        plan: Digest,
        /// Which way it was applied.
        direction: Direction,
    },
}

/// Everything that is still to do.
pub fn outstanding(pipeline: &Pipeline) -> Vec<Effect> {
    if pipeline.is_final() || pipeline.parked.is_some() {
        return Vec::new();
    }
    if pipeline.is_queued() {
        let (target, kind) = (String::new(), EffectKind::TakeTurn);
        return vec![Effect { target, kind }];
    }
    let mut effects = Vec::new();
    for target in pipeline.targets.values() {
        let kinds = match &target.phase {
            Phase::Waiting | Phase::Before if rules::may_begin(pipeline, target) => vec![EffectKind::Begin],
            Phase::Running(_) if target.away.is_some() => vec![EffectKind::AwaitAgent],
            Phase::Running(run) => of_run(pipeline, run),
            _ => Vec::new(),
        };
        effects.extend(kinds.into_iter().map(|kind| Effect {
            target: target.name.clone(),
            kind,
        }));
    }
    effects
}

fn of_run(pipeline: &Pipeline, run: &Run) -> Vec<EffectKind> {
    let (plan, direction) = (run.plan, run.direction);
    let command = |asked, ordinal, order| EffectKind::Command {
        id: CommandId::derive(pipeline.id, asked, ordinal),
        asked,
        ordinal,
        order,
    };
    let mut kinds = Vec::new();
    match run.stage {
        Stage::Applying => kinds.push(command(run.asked, 0, Asked::Apply { plan, direction })),
        Stage::Aborting | Stage::Moving => kinds.extend(
            run.acts
                .iter()
                .filter(|act| act.answer.is_none())
                .map(|act| command(act.asked, act.ordinal, Asked::Act(act.act.clone()))),
        ),
        Stage::Finishing => kinds.push(command(run.finish_asked, 0, Asked::Finish { plan, direction })),
    }
    if run.has_workloads() && (run.stage != Stage::Applying || run.accepted) {
        kinds.push(EffectKind::Observe {
            tag: run.tag,
            plan,
            direction,
        });
    }
    kinds
}

/// When time alone can change something next, after `now`: what is due by then was decided on.
pub fn next_wake(pipeline: &Pipeline, now: Timestamp) -> Option<Timestamp> {
    if pipeline.is_final() || pipeline.parked.is_some() {
        return None;
    }
    pipeline
        .targets
        .values()
        .flat_map(|target| target_wakes(pipeline, target))
        .filter(|at| *at > now)
        .min()
}

fn target_wakes(pipeline: &Pipeline, target: &Deployment) -> Vec<Timestamp> {
    let mut wakes: Vec<Timestamp> = target
        .standing_gates()
        .filter_map(|(_, gate)| gate.until())
        .collect();
    let Some(run) = target.run() else {
        return wakes;
    };
    if rules::own_pauses(target, run).next().is_none() {
        wakes.extend(run.clock.map(|from| later(from, pipeline.timeout.as_duration())));
    }
    let grace = |since: Timestamp, grace: Duration| later(since, grace);
    for seen in target.levels.values() {
        wakes.extend(
            seen.unpullable_since
                .map(|since| grace(since, rules::UNPULLABLE_FOR)),
        );
        match seen.level.standing {
            Standing::Aborted => wakes.extend(rules::aborted_before(run, seen)),
            Standing::Degraded | Standing::Invalid => wakes.push(grace(seen.since, rules::BAD_FOR)),
            Standing::ChangedElsewhere { .. } | Standing::Missing => {
                wakes.extend(run.reapplied.map(|at| grace(at, rules::BETWEEN_APPLIES)));
            }
            Standing::AtPause { .. } | Standing::Moving => {
                wakes.extend(rules::ask_again_at(run, &seen.level));
            }
            _ => {}
        }
    }
    wakes
}
