//! A pipeline as a tree of lines: targets, Rollouts, steps, weights, pods, what it waits for and what would end that.

use std::fmt::Write as _;

use aurora_core::pipeline::{
    GateView, Origin, OriginKind, PipelineView, RolloutView, State, StepView, TargetView,
};
use aurora_core::principal::Channel;
use aurora_core::progress::Standing;
use jiff::Timestamp;

/// How much of a pipeline is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Detail {
    /// Every target with all its steps.
    All,
    /// Only the targets that something happens to, so that what it waits for stays on the screen.
    Live,
}

/// The whole pipeline, for `deploy status` and the end of a watch.
pub(crate) fn tree(view: &PipelineView) -> String {
    tree_with(view, Detail::All)
}

/// A picture that fits a terminal of this width; command lines stay whole, so that they can be copied.
pub(crate) fn live(view: &PipelineView, width: Option<usize>) -> String {
    let text = tree_with(view, Detail::Live);
    let fit = |line: &str| {
        if line.contains(": aurora ") {
            line.to_owned()
        } else {
            crate::print::cut(line, width)
        }
    };
    let lines: Vec<String> = text.lines().map(fit).collect();
    lines.join("\n")
}

/// A pipeline with so much detail.
fn tree_with(view: &PipelineView, detail: Detail) -> String {
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
    if let Some(origin) = &view.origin {
        line(&mut text, 1, &origin_words(origin));
    }
    if let Some(newer) = &view.replaced_by {
        line(&mut text, 1, &format!("replaced by pipeline {newer}"));
    }
    for target in in_order(view) {
        let quiet = matches!(
            target.state,
            State::NotStarted | State::Succeeded | State::Cancelled
        );
        target_lines(&mut text, view, target, detail == Detail::All || !quiet);
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
    // After a run that did not succeed one wants to know what can be done about it.
    if matches!(view.state, State::Failed | State::Cancelled) {
        for action in view.actions.iter().filter(|action| action.allowed) {
            line(&mut text, 1, &format!("{}: {}", action.id, action.cli));
        }
    }
    text
}

/// What an earlier run has to do with this one.
fn origin_words(origin: &Origin) -> String {
    let what = match origin.kind {
        OriginKind::Redeploy => "deploys again what was deployed by",
        OriginKind::Retry => "tries again what did not succeed in",
        OriginKind::RollBack => "goes back to the version of",
    };
    format!("{what} pipeline {}", origin.of)
}

/// Targets in the order in which they may run, by name where that is the same.
pub(crate) fn in_order(view: &PipelineView) -> Vec<&TargetView> {
    let mut targets: Vec<_> = view.targets.iter().collect();
    targets.sort_by(|one, other| (one.wave, &one.name).cmp(&(other.wave, &other.name)));
    targets
}

/// Why a target failed: what happened, and each object that is concerned.
pub(crate) fn error_lines(target: &TargetView) -> Vec<String> {
    let Some(error) = &target.error else {
        return Vec::new();
    };
    let details = error.details.iter().map(|detail| format!("  {detail}"));
    std::iter::once(error.message.clone()).chain(details).collect()
}

fn target_lines(text: &mut String, view: &PipelineView, target: &TargetView, all: bool) {
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
    if !all {
        return;
    }
    for gate in &target.before {
        line(text, 2, &gate_words("before", gate));
    }
    for step in &target.steps {
        line(text, 2, &step_words(step));
    }
    for rollout in &target.rollouts {
        line(text, 2, &rollout_words(target, rollout));
    }
    for gate in &target.after {
        line(text, 2, &gate_words("after", gate));
    }
    for words in error_lines(target) {
        line(text, 2, &format!("! {words}"));
    }
}

/// What a pipeline's state is called for people.
pub(crate) fn state_words(view: &PipelineView) -> String {
    let mut words = match view.state {
        State::Cancelled => "CANCELLED",
        State::Failed => "FAILED",
        State::NotStarted => "not started",
        State::Parked => "PARKED",
        State::Queued => "queued",
        State::RollingBack => "rolling back",
        State::Running => "running",
        State::Succeeded => "SUCCEEDED",
        State::Waiting => "waiting",
        State::WaitingForApproval => "waiting for approval",
    }
    .to_owned();
    match view.reason.as_deref() {
        Some("approval.expired") => words.push_str(" because nobody approved in time"),
        Some("approval.rejected") => words.push_str(" because somebody rejected it"),
        Some("superseded") => words.push_str(" because a newer run took its place in the queue"),
        Some("target.takenBack") => words.push_str(" because somebody rolled it back"),
        _ => {}
    }
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
        (State::NotStarted, _) | (_, "neverStarted") => "not started".to_owned(),
        (_, "rolledBack") => "rolled back to the version before".to_owned(),
        (_, "rollbackFailed") => "rolling back failed".to_owned(),
        (_, "before") => "waiting to start".to_owned(),
        (_, "after") => "deployed, waiting".to_owned(),
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

/// One workload: weights wanted and real, pods of both versions.
pub(crate) fn rollout_words(target: &TargetView, rollout: &RolloutView) -> String {
    let mut words = format!(
        "{} {}: {}",
        rollout.object.kind,
        rollout.object.name,
        standing_words(&rollout.standing)
    );
    let pods = rollout.pods;
    let total = (pods.new + pods.old, pods.new_available + pods.old_available);
    if matches!(rollout.standing, Standing::NotObserved | Standing::Missing) {
        if total.0 > 0 {
            let _ = write!(words, ", pods {}/{}", total.1, total.0);
        }
        return words;
    }
    if target.rolling_back || target.phase == "rolledBack" {
        let _ = write!(
            words,
            ", pods of the version before {}/{}, others {}/{}",
            pods.new_available, pods.new, pods.old_available, pods.old
        );
        return words;
    }
    if let (Some(wanted), Some(real)) = (rollout.weight_wanted, rollout.weight_real) {
        let _ = write!(words, ", weight {real} % ({wanted} % asked)");
    }
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
        Standing::AtPause { ready: true, .. } => "at the gate".to_owned(),
        Standing::AtPause { .. } => "at the gate, pods not ready yet".to_owned(),
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
    let word = match gate.state.as_str() {
        "open" if by.via == Channel::System => return None,
        "open" if gate.kind == "timer" => "skipped",
        "open" => "approved",
        other => other,
    };
    let comment = gate
        .comment
        .as_deref()
        .filter(|text| !text.is_empty())
        .map(|text| format!(": {text}"));
    Some(format!(
        " ({word} by {}{})",
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
        State::Queued => "○",
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

#[cfg(test)]
mod tests;
