//! A pipeline as a tree of lines: targets, Rollouts, steps, weights, pods, what it waits for and what would end that.

use std::fmt::Write as _;

use aurora_core::pipeline::{GateView, PipelineView, RolloutView, State, StepView, TargetView};
use aurora_core::progress::Standing;
use jiff::Timestamp;

/// The whole pipeline, for a terminal or `deploy status`.
pub(crate) fn tree(view: &PipelineView) -> String {
    let mut text = String::new();
    let ended = view.ended_at.unwrap_or(view.now);
    line(
        &mut text,
        0,
        &format!(
            "{} {}  {}  {}",
            mark(view.state),
            view.application,
            state_words(view),
            span(view.started_at, ended),
        ),
    );
    line(&mut text, 1, &format!("pipeline {}", view.id));
    for target in &view.targets {
        target_lines(&mut text, view, target);
    }
    for wait in &view.waiting {
        let place = wait
            .subject
            .target
            .as_deref()
            .map(|target| format!("{target}: "))
            .unwrap_or_default();
        let left = wait
            .until
            .map(|until| format!(" ({} left)", span(view.now, until)))
            .unwrap_or_default();
        line(&mut text, 1, &format!("… {place}{}{left}", wait.reason.text));
        for action in wait.actions.iter().filter(|action| action.allowed) {
            line(&mut text, 3, &format!("{}: {}", action.id, action.cli));
        }
    }
    for evidence in &view.evidence {
        let pod = &evidence.evidence.pod;
        let exit = pod
            .exit_code
            .map(|code| format!(", exit code {code}"))
            .unwrap_or_default();
        line(
            &mut text,
            1,
            &format!(
                "! {}: pod {} container {}: {} after {} restart(s){exit}",
                evidence.target, pod.pod, pod.container, pod.reason, pod.restarts,
            ),
        );
        for logged in pod.log.iter().rev().take(3).rev() {
            line(&mut text, 3, &format!("│ {logged}"));
        }
    }
    text
}

fn target_lines(text: &mut String, view: &PipelineView, target: &TargetView) {
    let from = target
        .started_at
        .map(|from| span(from, target.ended_at.unwrap_or(view.now)));
    let mut words = vec![target_words(target)];
    if target.first_deployment {
        words.push("first deployment, strategy not exercised".to_owned());
    }
    words.extend(from);
    line(
        text,
        1,
        &format!(
            "{} {} (account {}, namespace {})  {}",
            mark(target.state),
            target.name,
            target.account,
            target.namespace,
            words.join(", ")
        ),
    );
    for gate in &target.before {
        line(text, 2, &gate_words("before", gate));
    }
    for step in &target.steps {
        line(text, 2, &step_words(step));
    }
    for rollout in &target.rollouts {
        line(text, 2, &rollout_words(rollout));
    }
    for gate in &target.after {
        line(text, 2, &gate_words("after", gate));
    }
    if let Some(error) = &target.error {
        line(text, 2, &format!("! {}", error.message));
    }
}

/// What a pipeline's state is called for people.
pub(crate) fn state_words(view: &PipelineView) -> String {
    let mut words = match view.state {
        State::Cancelled => "CANCELLED",
        State::Failed => "FAILED",
        State::NotStarted => "not started",
        State::Parked => "PARKED",
        State::RollingBack => "rolling back",
        State::Running => "running",
        State::Succeeded => "SUCCEEDED",
        State::Waiting => "waiting",
        State::WaitingForApproval => "waiting for approval",
    }
    .to_owned();
    if let Some(rolled_back) = view.rolled_back {
        let _ = write!(words, " (rolled back: {})", serde_name(&rolled_back));
    }
    words
}

/// What a target is doing.
pub(crate) fn target_words(target: &TargetView) -> String {
    match (target.state, target.phase.as_str()) {
        (State::RollingBack, phase) => format!("rolling back, {phase}"),
        (State::Succeeded, _) => "succeeded".to_owned(),
        (State::NotStarted, _) => "not started".to_owned(),
        (_, "moving") if target.first_deployment => "moving".to_owned(),
        (_, "moving") => format!("step {} of {}", target.step, target.total),
        (_, phase) => phase.to_owned(),
    }
}

/// One step and how far it is.
pub(crate) fn step_words(step: &StepView) -> String {
    let sign = match step.state.as_str() {
        "done" => "✓",
        "current" => "▸",
        "notExercised" => "·",
        _ => " ",
    };
    let decided = step.gate.as_ref().and_then(decision).unwrap_or_default();
    format!("{sign} {}{decided}", step.text)
}

/// One Rollout: weights wanted and real, pods of both versions.
pub(crate) fn rollout_words(rollout: &RolloutView) -> String {
    let mut words = format!(
        "{} {}: {}",
        rollout.object.kind,
        rollout.object.name,
        standing_words(&rollout.standing)
    );
    if let (Some(wanted), Some(real)) = (rollout.weight_wanted, rollout.weight_real) {
        let _ = write!(words, ", weight {real} % of {wanted} %");
    }
    let pods = rollout.pods;
    let _ = write!(
        words,
        ", pods new {}/{} old {}/{}",
        pods.new_available, pods.new, pods.old_available, pods.old
    );
    words
}

fn standing_words(standing: &Standing) -> String {
    match standing {
        Standing::Aborted => "aborted".to_owned(),
        Standing::AtPause { index, ready, .. } if *ready => format!("paused at step {}", index + 1),
        Standing::AtPause { index, .. } => format!("paused at step {}, pods not ready yet", index + 1),
        Standing::ChangedElsewhere { by } => format!("changed by somebody else ({by})"),
        Standing::Degraded => "degraded".to_owned(),
        Standing::Done => "done".to_owned(),
        Standing::Invalid => "not accepted by the controller".to_owned(),
        Standing::Missing => "missing".to_owned(),
        Standing::Moving => "moving".to_owned(),
        Standing::NotObserved => "not taken up yet".to_owned(),
        Standing::PausedByHand => "paused by hand".to_owned(),
    }
}

fn gate_words(place: &str, gate: &GateView) -> String {
    let sign = match gate.state.as_str() {
        "open" | "passed" => "✓",
        "standing" => "▸",
        "rejected" | "expired" => "✗",
        _ => " ",
    };
    let what = match (gate.kind.as_str(), gate.seconds) {
        ("timer", Some(seconds)) => format!("wait {seconds} s"),
        _ if gate.roles.is_empty() => "wait for an approval".to_owned(),
        _ => format!("wait for an approval by {}", gate.roles.join(" or ")),
    };
    format!("{sign} {place}: {what}{}", decision(gate).unwrap_or_default())
}

fn decision(gate: &GateView) -> Option<String> {
    let by = gate.by.as_ref()?;
    let comment = gate
        .comment
        .as_deref()
        .filter(|text| !text.is_empty())
        .map(|text| format!(": {text}"));
    Some(format!(
        " ({} by {}{})",
        gate.state,
        by.display,
        comment.unwrap_or_default()
    ))
}

fn mark(state: State) -> &'static str {
    match state {
        State::Cancelled => "⊘",
        State::Failed => "✗",
        State::NotStarted => "○",
        State::Parked => "?",
        State::RollingBack => "↺",
        State::Running => "●",
        State::Succeeded => "✓",
        State::Waiting | State::WaitingForApproval => "◍",
    }
}

fn line(text: &mut String, depth: usize, words: &str) {
    text.push_str(&"  ".repeat(depth));
    text.push_str(words);
    text.push('\n');
}

/// The word that serde writes for a unit variant.
pub(crate) fn serde_name<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// A span of time in words, to the second.
fn span(from: Timestamp, until: Timestamp) -> String {
    let seconds = until.duration_since(from).as_secs().max(0);
    aurora_core::strategy::Span::from_secs(seconds.unsigned_abs()).to_string()
}
