//! What a person can do about a wait, and why not.

use super::{ActionView, DeniedView, Field, MAX_COMMENT, Viewer};
use crate::pipeline::Pipeline;
use crate::pipeline::deployment::Deployment;
use crate::pipeline::gate::{Gate, GateRef, Place};
use crate::strategy::Step;

/// Opening or refusing a gate, as an action.
pub(super) fn gate_action(
    pipeline: &Pipeline,
    target: &Deployment,
    gate: &Gate,
    at: &GateRef,
    viewer: &Viewer,
    yes: bool,
) -> ActionView {
    let (id, severity) = if yes {
        ("approve", "firm")
    } else {
        ("reject", "destructive")
    };
    let label = if yes {
        format!("Approve: {}", next_in_words(target, gate))
    } else {
        "Reject: end the pipeline and roll back".to_owned()
    };
    let denied = match gate_denial(viewer, gate) {
        Some(denied) => Some(denied),
        None => stopping_denial(pipeline),
    };
    ActionView {
        id: id.to_owned(),
        label,
        method: "POST".to_owned(),
        href: format!("/pipelines/{}/actions/{id}", pipeline.id),
        gate: Some(at.to_string()),
        expect: pipeline.gate_expect(at),
        severity: severity.to_owned(),
        fields: vec![comment_field()],
        allowed: denied.is_none(),
        denied,
        cli: format!("aurora deploy {id} {} --gate {at}", pipeline.id),
    }
}

fn comment_field() -> Field {
    Field {
        name: "comment".to_owned(),
        required: false,
        max: MAX_COMMENT,
    }
}

fn gate_denial(viewer: &Viewer, gate: &Gate) -> Option<DeniedView> {
    if !viewer.may_deploy {
        return Some(scope_denial());
    }
    viewer.approver.basis(gate).err().map(|needs| DeniedView {
        code: "role.missing".to_owned(),
        needs,
    })
}

fn scope_denial() -> DeniedView {
    DeniedView {
        code: "scope.missing".to_owned(),
        needs: vec!["manage:deploy".to_owned()],
    }
}

fn stopping_denial(pipeline: &Pipeline) -> Option<DeniedView> {
    pipeline.stopping.as_ref().map(|_| DeniedView {
        code: "pipeline.stopping".to_owned(),
        needs: Vec::new(),
    })
}

fn next_in_words(target: &Deployment, gate: &Gate) -> String {
    let name = &target.name;
    let step = match gate.place {
        Place::Before(_) => return format!("start target `{name}`"),
        Place::After(_) => return format!("target `{name}` is good"),
        Place::Redirect(_) => return beside(target, gate, "send all traffic of", "to the new version"),
        Place::ShutDown(_) => return beside(target, gate, "shut the old version of", "down"),
        Place::Step(step) => step,
    };
    let steps = target.strategy.as_ref().map(|s| s.steps()).unwrap_or_default();
    let weight = steps.iter().skip(step + 1).find_map(|next| match next {
        Step::SetWeight(weight) => Some(*weight),
        Step::Pause(_) => None,
    });
    format!("send {} % of `{name}` to the new version", weight.unwrap_or(100))
}

/// What follows once a gate and those that stand beside it are open.
fn beside(target: &Deployment, gate: &Gate, does: &str, to: &str) -> String {
    let others = target
        .standing_gates()
        .filter(|(place, _)| *place != gate.place)
        .count();
    let name = &target.name;
    match others {
        0 => format!("{does} `{name}` {to}"),
        1 => format!("{does} `{name}` {to}, once the other gate is open too"),
        _ => format!("{does} `{name}` {to}, once the {others} other gates are open too"),
    }
}

/// Ending the pipeline, as an action.
pub(in crate::pipeline) fn cancel_action(pipeline: &Pipeline, viewer: &Viewer) -> ActionView {
    let denied = if viewer.may_deploy {
        stopping_denial(pipeline)
    } else {
        Some(scope_denial())
    };
    ActionView {
        id: "cancel".to_owned(),
        label: "Cancel: end the pipeline and roll back what is running".to_owned(),
        method: "POST".to_owned(),
        href: format!("/pipelines/{}/actions/cancel", pipeline.id),
        gate: None,
        expect: None,
        severity: "destructive".to_owned(),
        fields: vec![comment_field()],
        allowed: denied.is_none(),
        denied,
        cli: format!("aurora deploy cancel {}", pipeline.id),
    }
}
