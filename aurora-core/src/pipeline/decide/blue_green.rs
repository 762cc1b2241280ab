//! What follows for a target that moves by blue/green: gates before the redirect, the redirect, gates before the end
//! of the old version, its end.
//!
//! Gates of one place stand side by side: all of them are reached at once, and only when the last one is behind do
//! the Rollouts move, together. A gate before the end of the old version never opens because its pods are gone:
//! whoever is asked there is asked about the new version as well.

use jiff::Timestamp;

use super::rules::{self, AskAgain, Reached};
use super::running::{ask, every_rollout_is_seen};
use super::{Consequence, What, reach_side_gates, side_gates};
use crate::command::Action;
use crate::pipeline::deployment::{Deployment, Run};
use crate::pipeline::event::AskedAct;
use crate::pipeline::gate::{Gate, GateRef, GateState, Place};
use crate::progress::{Progress, Standing};

/// Up to the redirect; and what time does to gates that stand behind it.
pub(super) fn next(target: &Deployment, run: &Run, now: Timestamp) -> Vec<Consequence> {
    let moving = redirect(target, run, now);
    let stands = |gate: &Gate| matches!(gate.state, GateState::Standing { .. });
    if moving.is_empty() && target.gates_where(is_shut_down).any(stands) {
        return side_gates(target, now);
    }
    moving
}

/// Between the last move and the end: gates, then the end of the old version. `None`: nothing stands in the way.
pub(super) fn shut_down(target: &Deployment, run: &Run) -> Option<Vec<Consequence>> {
    let gates: Vec<&Gate> = target.gates_where(is_shut_down).collect();
    if gates.iter().any(|gate| gate.state == GateState::Ahead) {
        return Some(if is_exercised(target, run) {
            reach_side_gates(target, is_shut_down)
        } else {
            not_exercised(target, is_shut_down)
        });
    }
    if !gates.iter().all(|gate| gate.is_behind()) {
        return Some(Vec::new());
    }
    let asks = |gate: &&Gate| !matches!(gate.state, GateState::NotExercised { .. });
    if !gates.iter().any(asks) {
        return None;
    }
    let asked = ask(target, "shutDown", shut_downs(target, run));
    let under_way =
        |state: &crate::pipeline::ActState| state.act.action == Action::ShutDownOld && state.answer.is_none();
    (!asked.is_empty() || run.acts.iter().any(under_way)).then_some(asked)
}

const fn is_redirect(place: Place) -> bool {
    matches!(place, Place::Redirect(_))
}

const fn is_shut_down(place: Place) -> bool {
    matches!(place, Place::ShutDown(_))
}

fn redirect(target: &Deployment, run: &Run, now: Timestamp) -> Vec<Consequence> {
    let places: Vec<Reached> = rules::blue_green(target)
        .map(|(_, seen)| seen.map_or(Reached::No, |seen| rules::redirected(&seen.level)))
        .collect();
    let all_there = !places.contains(&Reached::No) && every_rollout_is_seen(target, run);
    let gates: Vec<&Gate> = target.gates_where(is_redirect).collect();
    if gates.iter().any(|gate| gate.state == GateState::Ahead) {
        return match all_there {
            true if places.contains(&Reached::Stands) => reach_side_gates(target, is_redirect),
            true => not_exercised(target, is_redirect),
            false => Vec::new(),
        };
    }
    let standing = |gate: &&&Gate| matches!(gate.state, GateState::Standing { .. });
    if gates.iter().any(|gate| standing(&gate)) {
        if places.iter().all(|place| *place == Reached::Beyond) {
            let passed = |gate: &&Gate| {
                let gate = GateRef::new(&target.name, gate.place);
                What::GatePassed { gate }.into()
            };
            return gates.iter().filter(standing).map(passed).collect();
        }
        return side_gates(target, now);
    }
    if !gates.iter().all(|gate| gate.is_behind()) {
        return Vec::new();
    }
    // Without a gate nothing else tells that all of them had been there.
    if gates.is_empty() && !rules::is_redirecting(run) && !all_there {
        return Vec::new();
    }
    promote(target, run, now)
}

/// Promotes for Rollouts that stand before their redirect, while nothing holds them there.
fn promote(target: &Deployment, run: &Run, now: Timestamp) -> Vec<Consequence> {
    let levels: Vec<&Progress> = rules::blue_green(target)
        .filter_map(|(_, seen)| Some(&seen?.level))
        .filter(|level| level.expect.is_some() && rules::redirected(level) == Reached::Stands)
        .filter(|level| match rules::ask_again(run, level) {
            AskAgain::Now => true,
            AskAgain::AfterAnswer => false,
            AskAgain::At(at) => at <= now,
        })
        .collect();
    let again = levels.iter().any(|level| run.last_act(&level.object).is_some());
    let why = if again { "standsAgain" } else { "redirect" };
    ask(target, why, levels.into_iter().map(rules::promote).collect())
}

/// Whether anything moved in this run, so that there is an old version to speak of.
fn is_exercised(target: &Deployment, run: &Run) -> bool {
    let moved = |gate: &Gate| matches!(gate.state, GateState::Open { .. } | GateState::Passed { .. });
    rules::is_redirecting(run)
        || target.gates_where(is_redirect).any(moved)
        || rules::blue_green(target).any(|(_, seen)| seen.is_some_and(|seen| seen.level.pods.old > 0))
}

fn not_exercised(target: &Deployment, wanted: impl Fn(Place) -> bool) -> Vec<Consequence> {
    target
        .gates_where(wanted)
        .filter(|gate| gate.state == GateState::Ahead)
        .map(|gate| {
            let gate = GateRef::new(&target.name, gate.place);
            What::GateNotExercised { gate }.into()
        })
        .collect()
}

/// One act per Rollout that has an old version, never a second one.
fn shut_downs(target: &Deployment, run: &Run) -> Vec<AskedAct> {
    let done = |action: Action, level: &Progress| {
        run.acts
            .iter()
            .any(|state| state.act.action == action && state.act.object == level.object)
    };
    rules::blue_green(target)
        .filter_map(|(_, seen)| Some(&seen?.level))
        .filter(|level| level.standing == Standing::Done)
        .filter(|level| level.pods.old > 0 || done(Action::Promote, level))
        .filter(|level| !done(Action::ShutDownOld, level))
        .map(|level| AskedAct {
            object: level.object.clone(),
            action: Action::ShutDownOld,
            expect: level.expect.clone(),
        })
        .collect()
}
