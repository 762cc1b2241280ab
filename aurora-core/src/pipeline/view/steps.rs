//! Building the steps of a target's strategy as readers see them, and counting those that are behind.

use std::cmp::Ordering;

use super::StepView;
use super::target::{gate_view, is_ours};
use crate::pipeline::Pipeline;
use crate::pipeline::decide::rules::{self, Reached};
use crate::pipeline::deployment::{Deployment, Phase, Run, Stage};
use crate::pipeline::event::End;
use crate::pipeline::gate::{Gate, GateState, Place};
use crate::plan::MappedStep;
use crate::progress::Standing;
use crate::strategy::{Pause, Portion, Rolling, Step, Strategy};

/// What a strategy is called.
pub(super) const fn strategy_name(strategy: Option<&Strategy>) -> &'static str {
    match strategy {
        Some(Strategy::BlueGreen(_)) => "blueGreen",
        Some(Strategy::Canary(_)) => "canary",
        Some(Strategy::Rolling(_)) => "rolling",
        None => "none",
    }
}

/// How many steps there are.
pub(super) fn total(target: &Deployment) -> usize {
    match &target.strategy {
        Some(Strategy::BlueGreen(_)) => parts(target).len(),
        Some(Strategy::Canary(canary)) => canary.steps.len(),
        Some(Strategy::Rolling(_)) => 1,
        None => 0,
    }
}

/// How many steps all workloads have behind them.
pub(super) fn behind(target: &Deployment) -> usize {
    let total = total(target);
    if is_deployed(target) {
        return total;
    }
    let Some(run) = target.run().filter(|run| !run.undo) else {
        return 0;
    };
    match &target.strategy {
        Some(Strategy::BlueGreen(_)) if !goes_straight(target) => parts(target)
            .iter()
            .take_while(|part| matches!(part_state(target, part), "done" | "notExercised"))
            .count(),
        Some(Strategy::Canary(_)) => canary_behind(target, total),
        // Nothing in between can be told apart.
        Some(Strategy::BlueGreen(_) | Strategy::Rolling(_)) if is_moved(target, run) => total,
        Some(Strategy::BlueGreen(_) | Strategy::Rolling(_)) | None => 0,
    }
}

/// The steps of a target.
pub(super) fn views(pipeline: &Pipeline, target: &Deployment) -> Vec<StepView> {
    match &target.strategy {
        Some(Strategy::BlueGreen(_)) => blue_green(pipeline, target),
        Some(Strategy::Canary(canary)) => self::canary(pipeline, target, &canary.steps),
        Some(Strategy::Rolling(rolling)) => vec![self::rolling(target, rolling)],
        None => Vec::new(),
    }
}

/// First deployments, and plans that a person takes a target back to, are promoted in full.
const fn goes_straight(target: &Deployment) -> bool {
    target.is_first() || target.back
}

fn is_deployed(target: &Deployment) -> bool {
    target.ended_as(End::Succeeded) || matches!(target.phase, Phase::After)
}

/// Whether the new version is all there is, or is to be.
fn is_moved(target: &Deployment, run: &Run) -> bool {
    run.stage == Stage::Finishing || (run.stage == Stage::Moving && run.is_done(target))
}

fn canary_behind(target: &Deployment, total: usize) -> usize {
    target
        .steps
        .rollouts
        .keys()
        .map(|name| match target.rollout(name) {
            None => 0,
            // Its steps and weights are still those of the plan before.
            Some(seen) if !is_ours(&seen.level.standing) => 0,
            Some(seen) if seen.level.standing == Standing::Done => total,
            Some(seen) => {
                let own = seen.level.step.map_or(0, |step| step.index);
                let behind = |step: &&MappedStep| step.index.get(name).is_none_or(|index| *index < own);
                target.steps.steps.iter().take_while(behind).count()
            }
        })
        .min()
        .unwrap_or(0)
        .min(total)
}

fn canary(pipeline: &Pipeline, target: &Deployment, steps: &[Step]) -> Vec<StepView> {
    let behind = behind(target);
    let mut weight = 0;
    let mut views = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let (kind, text) = match step {
            Step::SetWeight(to) => {
                weight = *to;
                ("setWeight", format!("send {to} % to the new version"))
            }
            Step::Pause(pause) => ("pause", pause_in_words(pause)),
        };
        let gate = target.gate(Place::Step(index));
        let state = match index.cmp(&behind) {
            _ if goes_straight(target) || gate.is_some_and(is_not_exercised) => "notExercised",
            Ordering::Less => "done",
            Ordering::Equal if target.run().is_some() => "current",
            _ => "ahead",
        };
        views.push(StepView {
            index,
            kind: kind.to_owned(),
            text,
            weight,
            state: state.to_owned(),
            gate: gate.map(|gate| gate_view(pipeline, target, gate)),
        });
    }
    views
}

fn is_not_exercised(gate: &Gate) -> bool {
    matches!(gate.state, GateState::NotExercised { .. })
}

fn pause_in_words(pause: &Pause) -> String {
    match pause {
        Pause::Timed(span) => format!("wait {span}"),
        Pause::Approval(approval) if approval.roles.is_empty() => "wait for an approval".to_owned(),
        Pause::Approval(approval) => format!("wait for an approval by {}", approval.roles.join(" or ")),
    }
}

/// One of the things that a blue/green target goes through.
enum Part<'a> {
    Deploy,
    Gate(&'a Gate),
    Redirect,
    ShutDown,
}

fn parts(target: &Deployment) -> Vec<Part<'_>> {
    let gates = |wanted: fn(Place) -> bool| target.gates_where(wanted).map(Part::Gate);
    let mut parts = vec![Part::Deploy];
    parts.extend(gates(is_redirect));
    parts.push(Part::Redirect);
    parts.extend(gates(is_shut_down));
    parts.push(Part::ShutDown);
    parts
}

const fn is_redirect(place: Place) -> bool {
    matches!(place, Place::Redirect(_))
}

const fn is_shut_down(place: Place) -> bool {
    matches!(place, Place::ShutDown(_))
}

fn blue_green(pipeline: &Pipeline, target: &Deployment) -> Vec<StepView> {
    let asks = target.gates_where(is_shut_down).next().is_some();
    let mut weight = 0;
    let view = |(index, part): (usize, &Part<'_>)| {
        let (kind, text) = match part {
            Part::Deploy => ("deploy", "start the new version beside the old one".to_owned()),
            Part::Gate(gate) => ("pause", pause_in_words(&gate.pause)),
            Part::Redirect => {
                weight = 100;
                ("redirect", "send all traffic to the new version".to_owned())
            }
            Part::ShutDown if asks => ("shutDown", "shut the old version down".to_owned()),
            Part::ShutDown => ("shutDown", "let the old version go after its delay".to_owned()),
        };
        StepView {
            index,
            kind: kind.to_owned(),
            text,
            weight,
            state: part_state(target, part).to_owned(),
            gate: match part {
                Part::Gate(gate) => Some(gate_view(pipeline, target, gate)),
                _ => None,
            },
        }
    };
    parts(target).iter().enumerate().map(view).collect()
}

fn part_state(target: &Deployment, part: &Part<'_>) -> &'static str {
    if goes_straight(target) {
        return "notExercised";
    }
    if let Part::Gate(gate) = part {
        return match gate.state {
            GateState::NotExercised { .. } => "notExercised",
            GateState::Standing { .. } => "current",
            _ if gate.is_behind() => "done",
            _ => "ahead",
        };
    }
    if is_deployed(target) {
        return "done";
    }
    let Some(run) = target.run().filter(|run| !run.undo) else {
        return "ahead";
    };
    let places = || {
        rules::blue_green(target)
            .map(|(_, seen)| seen.map_or(Reached::No, |seen| rules::redirected(&seen.level)))
    };
    let opened = |wanted: fn(Place) -> bool| target.gates_where(wanted).all(Gate::is_behind);
    let reached = target
        .gates_where(is_redirect)
        .any(|gate| gate.state != GateState::Ahead);
    let deployed = reached || rules::is_redirecting(run) || places().all(|place| place != Reached::No);
    let redirected = opened(is_redirect) && deployed && places().all(|place| place == Reached::Beyond);
    let done = match part {
        Part::Deploy => deployed,
        Part::Redirect => redirected,
        Part::Gate(_) | Part::ShutDown => false,
    };
    let current = match part {
        Part::Deploy => true,
        Part::Redirect => deployed && opened(is_redirect),
        Part::Gate(_) | Part::ShutDown => redirected && opened(is_shut_down) && is_moved(target, run),
    };
    match (done, current) {
        (true, _) => "done",
        (false, true) => "current",
        (false, false) => "ahead",
    }
}

fn rolling(target: &Deployment, rolling: &Rolling) -> StepView {
    let portion = |portion: &Portion| match portion {
        Portion::Count(count) => count.to_string(),
        Portion::Percent(percent) => format!("{percent} %"),
    };
    let more = rolling
        .max_surge
        .as_ref()
        .map(|surge| format!("at most {} more", portion(surge)));
    let fewer = rolling
        .max_unavailable
        .as_ref()
        .map(|fewer| format!("at most {} fewer", portion(fewer)));
    let bounds: Vec<String> = [more, fewer].into_iter().flatten().collect();
    let bounds = if bounds.is_empty() {
        String::new()
    } else {
        format!(", {}", bounds.join(" and "))
    };
    let state = if goes_straight(target) {
        "notExercised"
    } else if behind(target) > 0 {
        "done"
    } else if target.run().is_some_and(|run| !run.undo) {
        "current"
    } else {
        "ahead"
    };
    StepView {
        index: 0,
        kind: "roll".to_owned(),
        text: format!("replace pods as they become available{bounds}"),
        weight: 100,
        state: state.to_owned(),
        gate: None,
    }
}
