//! What follows while a target's plan is being brought in: gates, failures, going back, the end.

use jiff::Timestamp;

use super::rules::{self, AskAgain, Reached};
use super::{Consequence, What, blue_green};
use crate::command::{Action, Direction};
use crate::manifest::ObjectRef;
use crate::pipeline::Pipeline;
use crate::pipeline::deployment::{Deployment, Run, Stage};
use crate::pipeline::event::{AskedAct, Cause, End};
use crate::pipeline::gate::{Gate, GateRef, GateState, Place, timer_deed};
use crate::progress::Standing;
use crate::strategy::Strategy;

/// What follows now for a target whose plan is being brought in.
pub(super) fn next(pipeline: &Pipeline, target: &Deployment, run: &Run, now: Timestamp) -> Vec<Consequence> {
    if !run.undo {
        if pipeline.stopping.is_some() {
            return give_up(target);
        }
        if let Some(cause) = rules::failure(pipeline, target, run, now) {
            return fail(target, run, cause);
        }
    } else if let Some(cause) = rules::timed_out(pipeline, target, run, now) {
        return fail(target, run, cause);
    }
    match run.stage {
        Stage::Applying | Stage::Finishing => return Vec::new(),
        Stage::Aborting if run.acts.iter().any(|act| act.answer.is_none()) => return Vec::new(),
        Stage::Aborting => {
            let (target, end) = (target.name.clone(), End::RollbackFailed);
            return vec![What::TargetEnded { target, end }.into()];
        }
        Stage::Moving => {}
    }
    let healing = heal(target, run, now);
    if !healing.is_empty() {
        return healing;
    }
    let retries = ask(target, "abortedBefore", rules::retries(target, run));
    if !retries.is_empty() {
        return retries;
    }
    let straight = run.direction == Direction::Back || target.is_first();
    let moving = match &target.strategy {
        _ if straight => promote_full(target, run, now),
        Some(Strategy::BlueGreen(_)) => blue_green::next(target, run, now),
        _ => gates(target, run, now),
    };
    if moving.is_empty() && run.is_done(target) {
        if !straight && let Some(before_the_end) = blue_green::shut_down(target, run) {
            return before_the_end;
        }
        let target = target.name.clone();
        return vec![What::FinishAsked { target }.into()];
    }
    moving
}

/// A failure is stored with what is known of it; then the target goes back if there is something to go back to.
pub(super) fn fail(target: &Deployment, run: &Run, cause: Cause) -> Vec<Consequence> {
    let failed = What::TargetFailed {
        target: target.name.clone(),
        cause,
        evidence: rules::evidence(target),
    };
    vec![failed.into(), after_failure(target, run.undo, End::Failed)]
}

/// Going back cannot be applied: the Rollouts of the plan that failed are aborted, so that traffic goes back.
pub(super) fn abort(target: &Deployment, run: &Run, cause: Cause) -> Vec<Consequence> {
    let failed = What::TargetFailed {
        target: target.name.clone(),
        cause,
        evidence: Vec::new(),
    };
    let acts: Vec<AskedAct> = target
        .steps
        .rollouts
        .keys()
        .filter(|name| run.steps.rollouts.contains_key(*name))
        .map(|name| AskedAct {
            object: ObjectRef::new("argoproj.io", "Rollout", &target.namespace, name),
            action: Action::Abort,
            expect: None,
        })
        .collect();
    let mut consequences = vec![failed.into()];
    let asked = ask(target, "rollbackNotPossible", acts);
    if asked.is_empty() {
        let (target, end) = (target.name.clone(), End::RollbackFailed);
        consequences.push(What::TargetEnded { target, end }.into());
    }
    consequences.extend(asked);
    consequences
}

/// The pipeline is being ended: back, if there is something to go back to.
pub(super) fn give_up(target: &Deployment) -> Vec<Consequence> {
    let untouched = target.away.is_some() && target.run().is_some_and(|run| !run.accepted);
    if untouched {
        let (target, end) = (target.name.clone(), End::NeverStarted);
        return vec![What::TargetEnded { target, end }.into()];
    }
    let undoing = target.run().is_some_and(|run| run.undo);
    vec![after_failure(target, undoing, End::LeftAsIs)]
}

fn after_failure(target: &Deployment, undoing: bool, nothing_to_go_back_to: End) -> Consequence {
    let name = target.name.clone();
    let end = match &target.last_good {
        _ if undoing => End::RollbackFailed,
        Some(_) => {
            let (target, to) = (name, None);
            return What::RollbackStarted { target, to }.into();
        }
        None => nothing_to_go_back_to,
    };
    What::TargetEnded { target: name, end }.into()
}

/// What the plan declares and somebody changed or deleted is applied again, with a pause between.
fn heal(target: &Deployment, run: &Run, now: Timestamp) -> Vec<Consequence> {
    if run
        .reapplied
        .is_some_and(|at| now < crate::pipeline::later(at, rules::BETWEEN_APPLIES))
    {
        return Vec::new();
    }
    let broken = target.levels.values().find(|seen| {
        matches!(
            seen.level.standing,
            Standing::ChangedElsewhere { .. } | Standing::Missing
        )
    });
    broken
        .map(|seen| What::ApplyAsked {
            target: target.name.clone(),
            why: rules::describe(&seen.level),
        })
        .map(Consequence::from)
        .into_iter()
        .collect()
}

fn promote_full(target: &Deployment, run: &Run, now: Timestamp) -> Vec<Consequence> {
    let why = match run.direction {
        Direction::Back => "rollback",
        Direction::Forward => "firstDeployment",
    };
    ask(target, why, rules::full_promotions(target, run, now))
}

pub(super) fn ask(target: &Deployment, why: &str, acts: Vec<AskedAct>) -> Vec<Consequence> {
    if acts.is_empty() {
        return Vec::new();
    }
    let asked = What::ActsAsked {
        target: target.name.clone(),
        why: why.to_owned(),
        acts,
    };
    vec![asked.into()]
}

/// The gates of the strategy, in order, up to the first that is shut.
fn gates(target: &Deployment, run: &Run, now: Timestamp) -> Vec<Consequence> {
    for gate in target.gates_where(|place| matches!(place, Place::Step(_))) {
        let Place::Step(step) = gate.place else {
            continue;
        };
        let at = GateRef::new(&target.name, gate.place);
        match &gate.state {
            GateState::Standing { .. } => return standing(target, gate, at, step, now),
            GateState::Ahead => {
                let places: Vec<Reached> = rules::gate_rollouts(target, step)
                    .map(|(_, index, seen)| {
                        seen.map_or(Reached::No, |seen| rules::reached(&seen.level, index))
                    })
                    .collect();
                if places.contains(&Reached::No) || !every_rollout_is_seen(target, run) {
                    return Vec::new();
                }
                if places.contains(&Reached::Stands) {
                    return vec![What::GateReached { gate: at }.into()];
                }
                return vec![What::GateNotExercised { gate: at }.into()];
            }
            GateState::Open { .. } | GateState::Passed { .. } | GateState::NotExercised { .. } => {
                let again = ask(target, "standsAgain", stand_again(target, run, step, now));
                if !again.is_empty() {
                    return again;
                }
            }
            GateState::Dropped { .. } | GateState::Expired { .. } | GateState::Rejected { .. } => {
                return Vec::new();
            }
        }
    }
    Vec::new()
}

/// Before the first levels of all Rollouts are there, nothing is known about any gate.
pub(super) fn every_rollout_is_seen(target: &Deployment, run: &Run) -> bool {
    run.steps
        .rollouts
        .keys()
        .all(|name| target.rollout(name).is_some())
}

fn standing(target: &Deployment, gate: &Gate, at: GateRef, step: usize, now: Timestamp) -> Vec<Consequence> {
    let mut seen = rules::gate_rollouts(target, step);
    if seen.all(|(_, index, seen)| seen.is_some_and(|s| rules::reached(&s.level, index) == Reached::Beyond)) {
        return vec![What::GatePassed { gate: at }.into()];
    }
    if gate.until().is_none_or(|until| until > now) {
        return Vec::new();
    }
    if gate.wants_approval() {
        return vec![What::GateExpired { gate: at }.into()];
    }
    let mut consequences = vec![What::GateOpened { gate: at }.by(timer_deed())];
    consequences.extend(open(target, step));
    consequences
}

/// The promotes that follow an opened gate: one per Rollout that stands at it.
pub(super) fn open(target: &Deployment, step: usize) -> Vec<Consequence> {
    let acts = rules::gate_rollouts(target, step)
        .filter_map(|(_, index, seen)| {
            let level = &seen?.level;
            let stands = matches!(level.standing, Standing::AtPause { index: at, .. } if at == index);
            // Without a token the act would be refused: it is asked once a level brings one.
            (stands && level.expect.is_some()).then(|| rules::promote(level))
        })
        .collect();
    ask(target, "gateOpened", acts)
}

/// Promotes for Rollouts that stand at a gate which is open already.
fn stand_again(target: &Deployment, run: &Run, step: usize, now: Timestamp) -> Vec<AskedAct> {
    rules::gate_rollouts(target, step)
        .filter_map(|(_, index, seen)| Some((index, &seen?.level)))
        .filter(|(index, level)| level.expect.is_some() && rules::reached(level, *index) == Reached::Stands)
        .filter(|(_, level)| match rules::ask_again(run, level) {
            AskAgain::Now => true,
            AskAgain::AfterAnswer => false,
            AskAgain::At(at) => at <= now,
        })
        .map(|(_, level)| rules::promote(level))
        .collect()
}
