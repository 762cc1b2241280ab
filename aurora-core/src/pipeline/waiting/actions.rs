//! What a person can do about a pipeline, and why not.

use super::{ActionView, DeniedView, Field, MAX_COMMENT, Viewer};
use crate::pipeline::decide::{Refused, again};
use crate::pipeline::deployment::{Deployment, Phase};
use crate::pipeline::event::End;
use crate::pipeline::gate::{Gate, GateRef, Place};
use crate::pipeline::impact::next_weight;
use crate::pipeline::{Pipeline, to_retry};

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
    let denied = gate_denial(viewer, gate).or_else(|| stopping_denial(pipeline));
    of_gate(pipeline, id, severity, label, at, denied)
}

/// Opening a timed gate before its time, as an action.
pub(super) fn skip_action(
    pipeline: &Pipeline,
    target: &Deployment,
    gate: &Gate,
    at: &GateRef,
    viewer: &Viewer,
) -> ActionView {
    let label = format!("Skip the wait: {}", next_in_words(target, gate));
    let denied = scope_denial(viewer).or_else(|| stopping_denial(pipeline));
    of_gate(pipeline, "skip", "firm", label, at, denied)
}

fn of_gate(
    pipeline: &Pipeline,
    id: &str,
    severity: &str,
    label: String,
    at: &GateRef,
    denied: Option<DeniedView>,
) -> ActionView {
    ActionView {
        gate: Some(at.to_string()),
        expect: pipeline.gate_expect(at),
        cli: format!("aurora deploy {id} {} --gate {at}", pipeline.id),
        ..action(pipeline, id, severity, label, denied)
    }
}

fn action(
    pipeline: &Pipeline,
    id: &str,
    severity: &str,
    label: String,
    denied: Option<DeniedView>,
) -> ActionView {
    ActionView {
        id: id.to_owned(),
        label,
        method: "POST".to_owned(),
        href: format!("/pipelines/{}/actions/{id}", pipeline.id),
        gate: None,
        target: None,
        expect: None,
        severity: severity.to_owned(),
        fields: vec![field("comment", MAX_COMMENT)],
        allowed: denied.is_none(),
        denied,
        cli: format!("aurora deploy {id} {}", pipeline.id),
    }
}

fn of_target(action: ActionView, target: &Deployment) -> ActionView {
    ActionView {
        cli: format!("{} --target {}", action.cli, target.name),
        target: Some(target.name.clone()),
        ..action
    }
}

fn field(name: &str, max: usize) -> Field {
    Field {
        name: name.to_owned(),
        required: false,
        max,
    }
}

fn gate_denial(viewer: &Viewer, gate: &Gate) -> Option<DeniedView> {
    scope_denial(viewer).or_else(|| {
        viewer.approver.basis(gate).err().map(|needs| DeniedView {
            code: "role.missing".to_owned(),
            text: format!("that needs the role {}", needs.join(" or ")),
            needs,
        })
    })
}

fn scope_denial(viewer: &Viewer) -> Option<DeniedView> {
    (!viewer.may_deploy).then(|| DeniedView {
        code: "scope.missing".to_owned(),
        needs: vec!["manage:deploy".to_owned()],
        text: "that needs the scope manage:deploy".to_owned(),
    })
}

fn refusal(refused: &Refused) -> DeniedView {
    DeniedView {
        code: refused.code().to_owned(),
        needs: Vec::new(),
        text: refused.to_string(),
    }
}

fn stopping_denial(pipeline: &Pipeline) -> Option<DeniedView> {
    pipeline.stopping.as_ref().map(|_| refusal(&Refused::Stopping))
}

fn next_in_words(target: &Deployment, gate: &Gate) -> String {
    let name = &target.name;
    match gate.place {
        Place::Before(_) => return format!("start target `{name}`"),
        Place::After(_) => return format!("target `{name}` is good"),
        Place::Redirect(_) => return beside(target, gate, "send all traffic of", "to the new version"),
        Place::ShutDown(_) => return beside(target, gate, "shut the old version of", "down"),
        Place::Step(_) => {}
    }
    let weight = next_weight(target, gate);
    format!("send {weight} % of `{name}` to the new version")
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
    let denied = scope_denial(viewer).or_else(|| stopping_denial(pipeline));
    let label = if pipeline.is_queued() {
        "Cancel: take it out of the queue"
    } else {
        "Cancel: end the pipeline and roll back what is running"
    };
    action(pipeline, "cancel", "destructive", label.to_owned(), denied)
}

/// What can be done about targets and about the run as a whole, besides its gates.
pub(in crate::pipeline) fn run_actions(pipeline: &Pipeline, viewer: &Viewer) -> Vec<ActionView> {
    let mut actions = Vec::new();
    if pipeline.parked.is_some() || pipeline.is_queued() {
        return actions;
    }
    for target in pipeline.targets.values() {
        actions.extend(retry_action(pipeline, target, viewer));
        actions.extend(roll_back_action(pipeline, target, viewer));
    }
    if pipeline.is_final() {
        let label = "Redeploy: deploy its deploy file again, rendered anew".to_owned();
        let mut redeploy = action(pipeline, "redeploy", "firm", label, scope_denial(viewer));
        redeploy.fields.push(field("targets", MAX_COMMENT));
        actions.push(redeploy);
    }
    actions
}

fn retry_action(pipeline: &Pipeline, target: &Deployment, viewer: &Viewer) -> Option<ActionView> {
    if !target.is_over() || target.ended_as(End::Succeeded) {
        return None;
    }
    let possible = if pipeline.is_final() {
        to_retry(pipeline, Some(&target.name)).map(|_| ())
    } else {
        again::may_retry(pipeline, target)
    };
    let denied = scope_denial(viewer)
        .or_else(|| stopping_denial(pipeline).filter(|_| !pipeline.is_final()))
        .or_else(|| possible.err().as_ref().map(refusal));
    let label = format!("Retry: deploy the same plan to `{}` once more", target.name);
    let action = action(pipeline, "retry", "firm", label, denied);
    Some(of_target(action, target))
}

fn roll_back_action(pipeline: &Pipeline, target: &Deployment, viewer: &Viewer) -> Option<ActionView> {
    let touched = match target.phase {
        Phase::Waiting | Phase::Before => false,
        Phase::Running(_) | Phase::After => true,
        Phase::Ended { end, .. } => end != End::NeverStarted,
    };
    if !touched {
        return None;
    }
    let denied = scope_denial(viewer)
        .or_else(|| stopping_denial(pipeline).filter(|_| !pipeline.is_final()))
        .or_else(|| {
            let possible = again::may_roll_back(pipeline, target, false);
            possible.err().as_ref().map(refusal)
        });
    let to = match &target.last_good {
        Some(good) => format!("the version of pipeline {}", good.pipeline),
        None => "an earlier version".to_owned(),
    };
    let label = format!("Roll back: `{}` goes back to {to}", target.name);
    let mut action = action(pipeline, "rollback", "destructive", label, denied);
    action.fields.push(field("toRun", 36));
    Some(of_target(action, target))
}
