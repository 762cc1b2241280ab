//! Folding one event into the state.

use std::mem::discriminant;

use jiff::Timestamp;

use super::decide::rules;
use super::deployment::{ActState, Away, Deployment, External, Phase, Run, SeenLevel, Stage};
use super::event::{Deed, Event, Evidence, Submitted, What};
use super::gate::{GateRef, GateState, Place};
use super::{Ended, Parked, Pipeline, StopReason, Stopping};
use crate::command::{Action, Direction};
use crate::progress::{Progress, Standing};

/// So many deeds of others are kept in the state; the timeline has them all.
const MAX_EXTERNAL: usize = 20;

/// The state after an event. An event that does not fit parks the pipeline.
#[must_use]
pub fn evolve(mut pipeline: Pipeline, event: &Event) -> Pipeline {
    evolve_in_place(&mut pipeline, event);
    pipeline
}

/// As [`evolve`], without moving the state.
pub(super) fn evolve_in_place(pipeline: &mut Pipeline, event: &Event) {
    if pipeline.parked.is_some() {
        return;
    }
    let version = pipeline.version + 1;
    match fold(pipeline, version, event) {
        Ok(()) => {
            pipeline.version = version;
            pipeline.changed_at = event.at;
            if pipeline.fence_at(version) != event.fence {
                pipeline.fences.insert(version, event.fence);
            }
        }
        Err(message) => pipeline.parked = Some(Parked { version, message }),
    }
}

fn fold(pipeline: &mut Pipeline, version: u64, event: &Event) -> Result<(), String> {
    let at = event.at;
    if pipeline.version == 0 && !matches!(event.what, What::Submitted(_)) {
        return Err("the first event is not a submit".to_owned());
    }
    match &event.what {
        What::Submitted(submitted) => fold_submitted(pipeline, submitted, event),
        What::CancelAsked => stop(pipeline, event, StopReason::Cancelled, None),
        What::Dequeued => pipeline.behind = None,
        What::Superseded { by } => {
            pipeline.replaced_by = Some(*by);
            stop(pipeline, event, StopReason::Superseded, None);
        }
        What::GateExpired { gate } => {
            set_gate(pipeline, version, gate, GateState::Expired { at })?;
            stop(pipeline, event, StopReason::Expired, Some(gate));
        }
        What::GateRejected { gate } => {
            let by = event.by.clone().unwrap_or_else(super::gate::timer_deed);
            set_gate(pipeline, version, gate, GateState::Rejected { at, by })?;
            stop(pipeline, event, StopReason::Rejected, Some(gate));
        }
        What::GateNotExercised { gate } => set_gate(pipeline, version, gate, GateState::NotExercised { at })?,
        What::GateOpened { gate } | What::GateSkipped { gate } => {
            let by = event.by.clone().unwrap_or_else(super::gate::timer_deed);
            set_gate(pipeline, version, gate, GateState::Open { at, by })?;
            restart_clock(pipeline, gate, Some(at));
        }
        What::GatePassed { gate } => {
            set_gate(pipeline, version, gate, GateState::Passed { at })?;
            restart_clock(pipeline, gate, Some(at));
        }
        What::GateReached { gate } => {
            set_gate(pipeline, version, gate, GateState::Standing { since: at })?;
            restart_clock(pipeline, gate, None);
            if let (Place::Before(_), Some(target)) = (gate.place, pipeline.targets.get_mut(&gate.target)) {
                target.phase = Phase::Before;
            }
        }
        What::PipelineEnded { state, rolled_back } => {
            pipeline.ended = Some(Ended {
                at,
                state: *state,
                rolled_back: *rolled_back,
            });
        }
        what => {
            let name = what.target().unwrap_or_default();
            let target = pipeline.targets.get_mut(name).ok_or_else(|| {
                format!("event {version} names the target `{name}`, which is not one of this pipeline")
            })?;
            fold_target(target, version, event);
        }
    }
    Ok(())
}

fn fold_submitted(pipeline: &mut Pipeline, submitted: &Submitted, event: &Event) {
    pipeline.application.clone_from(&submitted.application);
    pipeline.description.clone_from(&submitted.description);
    pipeline.context.clone_from(&submitted.context);
    pipeline.source_control.clone_from(&submitted.source_control);
    pipeline.source.clone_from(&submitted.source);
    pipeline.file = submitted.file;
    pipeline.timeout = submitted.timeout;
    pipeline.warnings.clone_from(&submitted.warnings);
    pipeline.origin = submitted.origin;
    pipeline.behind = submitted.behind;
    pipeline.submitted_at = event.at;
    if let Some(by) = &event.by {
        pipeline.actor = by.actor.clone();
    }
    pipeline.targets = submitted
        .targets
        .iter()
        .map(|(name, target)| (name.clone(), Deployment::submitted(name, target)))
        .collect();
}

fn stop(pipeline: &mut Pipeline, event: &Event, why: StopReason, gate: Option<&GateRef>) {
    if pipeline.stopping.is_none() {
        pipeline.stopping = Some(Stopping {
            why,
            since: event.at,
            by: event.by.clone(),
            gate: gate.cloned(),
        });
    }
}

fn set_gate(pipeline: &mut Pipeline, version: u64, gate: &GateRef, state: GateState) -> Result<(), String> {
    let found = pipeline
        .targets
        .get_mut(&gate.target)
        .and_then(|target| target.gates.iter_mut().find(|g| g.place == gate.place))
        .ok_or_else(|| {
            format!("event {version} names the gate `{gate}`, which is not one of this pipeline")
        })?;
    found.state = state;
    Ok(())
}

/// A gate of the strategy stops the timeout's clock while it stands; once it and those beside it are behind, the clock
/// starts anew.
fn restart_clock(pipeline: &mut Pipeline, gate: &GateRef, clock: Option<Timestamp>) {
    let Some(target) = pipeline.targets.get_mut(&gate.target) else {
        return;
    };
    let stands = target
        .gates_where(Place::is_of_strategy)
        .any(|gate| gate.standing_since().is_some());
    if let Phase::Running(run) = &mut target.phase
        && gate.place.is_of_strategy()
    {
        run.clock = clock.filter(|_| !stands);
    }
}

fn fold_target(target: &mut Deployment, version: u64, event: &Event) {
    let at = event.at;
    match &event.what {
        What::TargetStarted { last_good, .. } => {
            target.started_at = Some(at);
            target.last_good.clone_from(last_good);
            target.phase = Phase::Running(new_run(target, version, at, false));
            if last_good.is_none() || target.back {
                for gate in &mut target.gates {
                    if gate.place.is_of_strategy() {
                        gate.state = GateState::NotExercised { at };
                    }
                }
            }
        }
        What::RollbackStarted { to, .. } => {
            target.back_to = to.clone().or_else(|| target.last_good.clone());
            target.phase = Phase::Running(new_run(target, version, at, true));
            target.taken_back.clone_from(&event.by);
            target.levels.clear();
            drop_gates(target, at);
        }
        What::TargetRetried { .. } => retried(target, event.by.clone()),
        What::ExternalSeen { object, deed, by, .. } => {
            target.external.push(External {
                at,
                object: object.clone(),
                deed: *deed,
                by: by.clone(),
            });
            let more = target.external.len().saturating_sub(MAX_EXTERNAL);
            target.external.drain(..more);
        }
        What::AgentAway { code, message, .. } => {
            if target.away.is_none() {
                target.away = Some(Away {
                    since: at,
                    code: code.clone(),
                    message: message.clone(),
                });
            }
            if let Phase::Running(run) = &mut target.phase
                && !run.accepted
                && !run.undo
            {
                run.clock = None;
            }
        }
        What::AgentReached { .. } => {
            target.away = None;
            start_clock(target, at);
        }
        What::CommandAccepted { asked, .. } => {
            target.away = None;
            start_clock(target, at);
            if let Phase::Running(run) = &mut target.phase {
                run.accepted |= run.asked == *asked;
            }
        }
        What::TargetFailed { cause, evidence, .. } => {
            match &mut target.failed {
                Some(first) => first.details.push(cause.message.clone()),
                None => {
                    target.failed = Some(cause.clone());
                    target.failed_at = Some(at);
                }
            }
            target.evidence.extend(evidence.iter().map(|evidence| Evidence {
                at: Some(at),
                ..evidence.clone()
            }));
        }
        What::TargetEnded { end, .. } => {
            target.phase = Phase::Ended { end: *end, at };
            target.away = None;
            drop_gates(target, at);
        }
        What::ProgressSeen { tag, levels, .. } => {
            if target.run().is_some_and(|run| run.tag == *tag) {
                let stood = at_own_pause(target);
                target.levels_at = Some(at);
                for level in levels {
                    let seen = seen(target.levels.get(&level.object), level, at);
                    target.levels.insert(level.object.clone(), seen);
                }
                if stood
                    && !at_own_pause(target)
                    && let Phase::Running(run) = &mut target.phase
                {
                    run.clock = run.clock.map(|_| at);
                }
            }
        }
        what => fold_run(target, version, at, what),
    }
}

fn fold_run(target: &mut Deployment, version: u64, at: Timestamp, what: &What) {
    if let (What::Finished { .. }, Some(false)) = (what, target.run().map(|run| run.undo)) {
        target.phase = Phase::After;
        return;
    }
    let Phase::Running(run) = &mut target.phase else {
        return;
    };
    match what {
        What::Applied { asked, .. } if run.asked == *asked => {
            run.stage = Stage::Moving;
            run.tag = version;
            run.since = at;
            target.levels.clear();
        }
        What::ApplyAsked { .. } => {
            run.stage = Stage::Applying;
            run.asked = version;
            run.tag = version;
            run.since = at;
            run.reapplied = Some(at);
            target.levels.clear();
        }
        What::FinishAsked { .. } => {
            run.stage = Stage::Finishing;
            run.finish_asked = version;
            run.since = at;
            run.clock = Some(at);
        }
        What::ActsAsked { acts, .. } => {
            let asked = (0_u32..).zip(acts).map(|(ordinal, act)| ActState {
                asked: version,
                ordinal,
                act: act.clone(),
                answer: None,
            });
            run.acts.extend(asked);
            // Nothing else asks for an abort.
            if acts.iter().any(|act| act.action == Action::Abort) {
                run.stage = Stage::Aborting;
                run.since = at;
                run.clock = Some(at);
            }
        }
        What::ActAnswered {
            asked,
            ordinal,
            answer,
            ..
        } => {
            let act = run
                .acts
                .iter_mut()
                .find(|act| act.asked == *asked && act.ordinal == *ordinal);
            if let Some(act) = act {
                act.answer = Some((answer.clone(), at));
            }
        }
        // Seen and shown, but nothing follows from them alone.
        _ => {}
    }
}

fn at_own_pause(target: &Deployment) -> bool {
    target
        .run()
        .is_some_and(|run| rules::own_pauses(target, run).next().is_some())
}

/// The target begins once more: as it was submitted, but for what was captured of its failures.
fn retried(target: &mut Deployment, by: Option<Deed>) {
    for gate in &mut target.gates {
        gate.state = GateState::Ahead;
    }
    target.phase = Phase::Waiting;
    target.started_at = None;
    target.last_good = None;
    target.back_to = None;
    target.taken_back = None;
    target.away = None;
    target.failed = None;
    target.levels.clear();
    target.levels_at = None;
    target.retried += 1;
    target.retried_by = by;
}

/// A plan that begins to be brought in: the target's own, or, to undo that, the one to go back to.
fn new_run(target: &Deployment, version: u64, at: Timestamp, undo: bool) -> Run {
    let back = target.back_to.as_ref().filter(|_| undo);
    Run {
        direction: if undo || target.back {
            Direction::Back
        } else {
            Direction::Forward
        },
        undo,
        plan: back.map_or(target.plan, |good| good.plan),
        steps: back.map_or_else(|| target.steps.clone(), |good| good.steps.clone()),
        stage: Stage::Applying,
        asked: version,
        tag: version,
        finish_asked: 0,
        accepted: false,
        clock: undo.then_some(at),
        since: at,
        reapplied: None,
        acts: Vec::new(),
    }
}

/// The timeout counts from when the agent could be reached, not from when the target was to start.
fn start_clock(target: &mut Deployment, at: Timestamp) {
    if let Phase::Running(run) = &mut target.phase
        && !run.accepted
        && run.clock.is_none()
    {
        run.clock = Some(at);
    }
}

fn drop_gates(target: &mut Deployment, at: Timestamp) {
    for gate in &mut target.gates {
        if matches!(gate.state, GateState::Standing { .. }) {
            gate.state = GateState::Dropped { at };
        }
    }
}

/// The same place, whatever its details.
fn same_place(one: &Standing, other: &Standing) -> bool {
    match (one, other) {
        (Standing::AtPause { index: one, .. }, Standing::AtPause { index: other, .. }) => one == other,
        _ => discriminant(one) == discriminant(other),
    }
}

fn seen(before: Option<&SeenLevel>, level: &Progress, at: Timestamp) -> SeenLevel {
    let unpullable = level.failing.iter().any(|pod| pod.unpullable);
    SeenLevel {
        since: before
            .filter(|seen| same_place(&seen.level.standing, &level.standing))
            .map_or(at, |seen| seen.since),
        from_start: before
            .is_none_or(|seen| seen.from_start && same_place(&seen.level.standing, &level.standing)),
        unpullable_since: unpullable.then(|| before.and_then(|seen| seen.unpullable_since).unwrap_or(at)),
        level: level.clone(),
    }
}
