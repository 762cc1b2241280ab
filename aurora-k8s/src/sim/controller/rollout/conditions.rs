//! The conditions of a Rollout's status, with Argo's reasons and texts.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::sim::objects::{later, seconds};

use super::{
    super::meta,
    pause::Pausing,
    spec::{Spec, Step},
    status::Status,
};

pub(super) const PAUSED_MESSAGE: &str = "Rollout is paused";
pub(super) const RESUMED_MESSAGE: &str = "Rollout is resumed";
pub(super) const RETRY_MESSAGE: &str = "Retrying Rollout after abort";

/// Sets a condition unless it has this status and reason already; says whether it changed.
pub(super) fn set(
    status: &mut Status,
    now: Timestamp,
    kind: &str,
    value: &str,
    reason: &str,
    message: &str,
) -> bool {
    let held = status.condition(kind).cloned();
    if held
        .as_ref()
        .is_some_and(|held| held["status"] == value && held["reason"] == reason)
    {
        return false;
    }
    let since = held
        .filter(|held| held["status"] == value)
        .map(|held| held["lastTransitionTime"].clone());
    remove(status, kind);
    let condition = json!({
        "type": kind, "status": value, "reason": reason, "message": message,
        "lastUpdateTime": seconds(now),
        "lastTransitionTime": since.unwrap_or_else(|| seconds(now).into()),
    });
    match status.conditions.as_array_mut() {
        Some(list) => list.push(condition),
        None => status.conditions = json!([condition]),
    }
    true
}

/// Takes a condition away.
pub(super) fn remove(status: &mut Status, kind: &str) {
    if let Some(list) = status.conditions.as_array_mut() {
        list.retain(|condition| condition["type"] != kind);
    }
}

/// What follows for the caller from the conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// `Completed` became false: an update began.
    pub(super) update_started: bool,
    /// The condition of an abort was set; what is told about it.
    pub(super) aborted: Vec<String>,
}

/// Everything that the conditions are computed from.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) spec: &'a Spec,
    pub(super) before: &'a Status,
    pub(super) generation: i64,
    pub(super) revision: i64,
    /// Name of the ReplicaSet that is rolled out.
    pub(super) new_name: &'a str,
    /// `ReplicaFailure` of a ReplicaSet, if one cannot make its pods.
    pub(super) failure: Option<Value>,
    /// Whether users find enough pods; none where all pods count.
    pub(super) available: Option<bool>,
    pub(super) now: Timestamp,
}

/// Computes all conditions but those of pausing; may decide on an abort.
pub(super) fn calculate(facts: &Facts<'_>, status: &mut Status, pausing: &mut Pausing) -> Findings {
    let Facts {
        spec, before, now, ..
    } = *facts;
    let mut findings = Findings::default();
    let is_paused = !before.pause_conditions.is_empty() || spec.paused;
    let is_aborted = pausing.is_aborted(before);
    let healthy = is_healthy(facts, status);
    let was_healthy = before.condition_is("Healthy", "True");
    if !is_paused && healthy {
        set(
            status,
            now,
            "Healthy",
            "True",
            "RolloutHealthy",
            "Rollout is healthy",
        );
    } else if before.condition("Healthy").is_some() {
        set(
            status,
            now,
            "Healthy",
            "False",
            "RolloutHealthy",
            "Rollout is not healthy",
        );
    }
    let complete = !status.stable_rs.is_empty() && status.stable_rs == status.current_pod_hash;
    let completed = if complete { "True" } else { "False" };
    let changed = set(
        status,
        now,
        "Completed",
        completed,
        "RolloutCompleted",
        "RolloutCompleted",
    );
    findings.update_started = changed && !complete;
    if is_aborted {
        let message = format!("Rollout aborted update to revision {}", facts.revision);
        if set(status, now, "Progressing", "False", "RolloutAborted", &message) {
            findings.aborted.push(message);
        }
    }
    let became_unhealthy = !is_paused && was_healthy && !healthy && complete;
    let progressing = before.condition("Progressing");
    let settled = status.replicas == status.available_replicas
        && progressing.is_some_and(|it| it["reason"] == "NewReplicaSetAvailable" && it["status"] != "False");
    if (!settled || became_unhealthy) && !is_aborted {
        progress(facts, status, pausing, healthy, became_unhealthy, &mut findings);
    }
    if facts
        .available
        .unwrap_or(status.available_replicas >= spec.replicas)
    {
        set(
            status,
            now,
            "Available",
            "True",
            "AvailableReason",
            "Rollout has minimum availability",
        );
        replace_message(status, "Available", "Rollout has minimum availability");
    } else {
        set(
            status,
            now,
            "Available",
            "False",
            "AvailableReason",
            "Rollout does not have minimum availability",
        );
    }
    match &facts.failure {
        Some(failure) => {
            let text = |field: &str| failure[field].as_str().unwrap_or_default().to_owned();
            set(
                status,
                now,
                "ReplicaFailure",
                "True",
                &text("reason"),
                &text("message"),
            );
        }
        None => remove(status, "ReplicaFailure"),
    }
    findings
}

fn replace_message(status: &mut Status, kind: &str, message: &str) {
    for held in status.conditions.as_array_mut().into_iter().flatten() {
        if held["type"] == kind {
            held["message"] = message.into();
        }
    }
}

fn progress(
    facts: &Facts<'_>,
    status: &mut Status,
    pausing: &mut Pausing,
    healthy: bool,
    became_unhealthy: bool,
    findings: &mut Findings,
) {
    let Facts {
        spec,
        before,
        now,
        new_name,
        ..
    } = *facts;
    if healthy {
        let message = format!("ReplicaSet \"{new_name}\" has successfully progressed.");
        set(
            status,
            now,
            "Progressing",
            "True",
            "NewReplicaSetAvailable",
            &message,
        );
    } else if is_progressing(before, status) || became_unhealthy {
        let (reason, message) = if became_unhealthy {
            (
                "ReplicaSetNotAvailable",
                "Rollout does not have minimum availability".to_owned(),
            )
        } else {
            (
                "ReplicaSetUpdated",
                format!("ReplicaSet \"{new_name}\" is progressing."),
            )
        };
        // Set anew each time, so that its time says when progress was last seen.
        let held = before
            .condition("Progressing")
            .filter(|held| held["status"] == "True")
            .cloned();
        remove(status, "Progressing");
        set(status, now, "Progressing", "True", reason, &message);
        if let (Some(held), Some(list)) = (held, status.conditions.as_array_mut())
            && let Some(last) = list.last_mut()
        {
            last["lastTransitionTime"] = held["lastTransitionTime"].clone();
        }
    } else if !in_indefinite_step(spec, before) && is_timed_out(spec, status, now) {
        let message = format!("ReplicaSet \"{new_name}\" has timed out progressing.");
        if before.reason_of("Progressing") == "ProgressDeadlineExceeded" {
            return;
        }
        if spec.progress_deadline_abort {
            pausing.add_abort = true;
            findings.aborted.push(message.clone());
            let message = format!("Rollout aborted update to revision {}: {message}", facts.revision);
            set(status, now, "Progressing", "False", "RolloutAborted", &message);
            findings.aborted.push(message);
        } else {
            set(
                status,
                now,
                "Progressing",
                "False",
                "ProgressDeadlineExceeded",
                &message,
            );
        }
    }
}

/// Whether the strategy is through and all pods are there; looks at the generation observed before.
fn is_healthy(facts: &Facts<'_>, status: &Status) -> bool {
    let spec = facts.spec;
    let steps_done = spec
        .step_count()
        .is_none_or(|count| status.current_step_index == Some(count));
    let stable = !status.stable_rs.is_empty() && status.stable_rs == status.current_pod_hash;
    let selected = |field: &str| status.selector(field) == status.current_pod_hash;
    let strategy_done = match &spec.blue_green {
        Some(blue_green) => {
            selected("activeSelector") && (!blue_green.has_preview() || selected("previewSelector"))
        }
        None => status.replicas == spec.replicas,
    };
    steps_done
        && stable
        && strategy_done
        && status.updated_replicas == spec.replicas
        && status.available_replicas == spec.replicas
        && facts.before.observed_generation == facts.generation.to_string()
}

fn is_progressing(before: &Status, after: &Status) -> bool {
    before.current_pod_hash != after.current_pod_hash
        || before.current_step_hash != after.current_step_hash
        || before.current_step_index != after.current_step_index
        || before.stable_rs != after.stable_rs
        || before.selector("activeSelector") != after.selector("activeSelector")
        || before.selector("previewSelector") != after.selector("previewSelector")
        || before.updated_replicas != after.updated_replicas
        || after.replicas - after.updated_replicas < before.replicas - before.updated_replicas
        || after.ready_replicas > before.ready_replicas
        || after.available_replicas > before.available_replicas
}

fn in_indefinite_step(spec: &Spec, before: &Status) -> bool {
    matches!(spec.step(before.step_index()), Some(Step::Pause(_)))
}

fn is_timed_out(spec: &Spec, status: &Status, now: Timestamp) -> bool {
    let reason = status.reason_of("Progressing");
    if reason == "ProgressDeadlineExceeded" {
        return true;
    }
    if matches!(
        reason,
        "NewReplicaSetAvailable" | "RolloutAborted" | "RolloutPaused"
    ) {
        return false;
    }
    deadline(spec, status).is_some_and(|deadline| now > deadline)
}

/// When the progress deadline runs out, counted from the last progress seen.
pub(super) fn deadline(spec: &Spec, status: &Status) -> Option<Timestamp> {
    let updated = meta::time(&status.condition("Progressing")?["lastUpdateTime"])?;
    let seconds = u64::try_from(spec.progress_deadline_seconds).unwrap_or(0);
    Some(later(updated, seconds))
}
