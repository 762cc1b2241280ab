//! Building the view of one target: its gates, steps and workloads.

use super::{ExternalView, GateView, RolloutView, TargetView, steps};
use crate::command::Direction;
use crate::pipeline::Pipeline;
use crate::pipeline::deployment::{Deployment, Phase, Stage};
use crate::pipeline::event::End;
use crate::pipeline::gate::{Gate, GateRef, GateState, Place};
use crate::progress::Standing;
use crate::strategy::Pause;

pub(super) fn target_view(pipeline: &Pipeline, target: &Deployment) -> TargetView {
    let state = pipeline.target_state(target);
    let gates = |wanted: fn(Place) -> bool| {
        target
            .gates_where(wanted)
            .map(|gate| gate_view(pipeline, target, gate))
            .collect()
    };
    let (end, ended_at) = match target.phase {
        Phase::Ended { end, at } => (Some(end), Some(at)),
        _ => (None, None),
    };
    TargetView {
        name: target.name.clone(),
        account: target.account.to_string(),
        namespace: target.namespace.clone(),
        wave: wave(pipeline, target, pipeline.targets.len()),
        depends_on: target.depends_on.clone(),
        status: state.armory(),
        state,
        phase: phase_name(&target.phase).to_owned(),
        rolling_back: target.run().is_some_and(|run| run.direction == Direction::Back),
        first_deployment: target.is_first(),
        strategy: steps::strategy_name(target.strategy.as_ref()).to_owned(),
        plan: target.plan,
        last_good: target.last_good.clone(),
        back_to: target.back_to.clone(),
        taken_back: target.taken_back.clone(),
        retried: target.retried,
        before: gates(|place| matches!(place, Place::Before(_))),
        after: gates(|place| matches!(place, Place::After(_))),
        steps: steps::views(pipeline, target),
        step: steps::behind(target),
        total: steps::total(target),
        rollouts: rollout_views(target),
        observed_at: target.levels.values().map(|seen| seen.level.observed_at).max(),
        freshness: if target.away.is_some() { "offline" } else { "live" }.to_owned(),
        started_at: target.started_at,
        ended_at,
        end,
        error: target.failed.clone(),
        notes: target.notes.clone(),
        external: target
            .external
            .iter()
            .map(|seen| ExternalView {
                at: seen.at,
                object: seen.object.clone(),
                deed: seen.deed,
                by: seen.by.clone(),
            })
            .collect(),
    }
}

const fn phase_name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::Before => "before",
        Phase::Running(run) => match run.stage {
            Stage::Aborting => "aborting",
            Stage::Applying => "applying",
            Stage::Moving => "moving",
            Stage::Finishing => "finishing",
        },
        Phase::After => "after",
        Phase::Ended { end, .. } => match end {
            End::Failed => "failed",
            End::LeftAsIs => "leftAsIs",
            End::NeverStarted => "neverStarted",
            End::RollbackFailed => "rollbackFailed",
            End::RolledBack => "rolledBack",
            End::Succeeded => "succeeded",
        },
    }
}

/// `depth` ends the walk should a stored graph have a cycle.
fn wave(pipeline: &Pipeline, target: &Deployment, depth: usize) -> usize {
    if depth == 0 {
        return 0;
    }
    target
        .depends_on
        .iter()
        .filter_map(|name| pipeline.targets.get(name))
        .map(|dependency| wave(pipeline, dependency, depth - 1) + 1)
        .max()
        .unwrap_or(0)
}

pub(super) fn gate_view(pipeline: &Pipeline, target: &Deployment, gate: &Gate) -> GateView {
    let at = GateRef::new(&target.name, gate.place);
    let (roles, span) = match &gate.pause {
        Pause::Timed(span) => (Vec::new(), Some(*span)),
        Pause::Approval(approval) => (approval.roles.clone(), approval.expires_after),
    };
    let (state, when) = match gate.state {
        GateState::Ahead => ("ahead", None),
        GateState::Dropped { at } => ("dropped", Some(at)),
        GateState::Expired { at } => ("expired", Some(at)),
        GateState::NotExercised { at } => ("notExercised", Some(at)),
        GateState::Open { at, .. } => ("open", Some(at)),
        GateState::Passed { at } => ("passed", Some(at)),
        GateState::Rejected { at, .. } => ("rejected", Some(at)),
        GateState::Standing { .. } => ("standing", None),
    };
    let by = gate.decided_by().map(|(by, _)| by);
    GateView {
        kind: if gate.wants_approval() {
            "approval"
        } else {
            "timer"
        }
        .to_owned(),
        state: state.to_owned(),
        roles,
        seconds: span.map(crate::strategy::Span::as_secs),
        since: gate.standing_since(),
        until: gate.until(),
        at: when,
        by: by.map(|by| by.actor.clone()),
        comment: by.and_then(|by| by.comment.clone()),
        expect: gate.standing_since().and_then(|_| pipeline.gate_expect(&at)),
        id: at.to_string(),
    }
}

/// Whether what a workload says is about the plan that is being brought in.
pub(super) const fn is_ours(standing: &Standing) -> bool {
    !matches!(
        standing,
        Standing::ChangedElsewhere { .. } | Standing::Invalid | Standing::Missing | Standing::NotObserved
    )
}

/// While the plan is being applied, what is not as declared has not had its turn yet.
fn standing_shown(target: &Deployment, standing: &Standing) -> Standing {
    let applying = target.run().is_some_and(|run| run.stage == Stage::Applying);
    match standing {
        Standing::ChangedElsewhere { .. } | Standing::Missing if applying => Standing::NotObserved,
        standing => standing.clone(),
    }
}

fn rollout_views(target: &Deployment) -> Vec<RolloutView> {
    target
        .levels
        .values()
        .map(|seen| {
            let level = &seen.level;
            let weight = level.weight.filter(|_| is_ours(&level.standing));
            let step = level.step.filter(|_| is_ours(&level.standing));
            RolloutView {
                object: level.object.clone(),
                revision: level.revision.clone(),
                stable: level.stable.clone(),
                standing: standing_shown(target, &level.standing),
                since: seen.since,
                step_index: step.map(|step| step.index),
                step_total: step.map(|step| step.total),
                weight_wanted: weight.map(|weight| weight.wanted),
                weight_real: weight.map(|weight| weight.real),
                weight_source: weight.map(|weight| weight.source),
                pods: level.pods,
                message: level.message.clone(),
                failing: level.failing.clone(),
            }
        })
        .collect()
}
