//! A Rollout's status as the controller keeps it, and the phase that follows from it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{super::meta, spec::Spec};

/// Why and since when a Rollout pauses.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PauseCondition {
    pub(super) reason: String,
    pub(super) start_time: String,
}

/// The status; what is zero is left out when written.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    #[serde(rename = "HPAReplicas", skip_serializing_if = "is_zero")]
    pub(super) hpa_replicas: i64,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) abort: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) aborted_at: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) available_replicas: i64,
    pub(super) blue_green: Map<String, Value>,
    pub(super) canary: Map<String, Value>,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(super) conditions: Value,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) controller_pause: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) current_pod_hash: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) current_step_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) current_step_index: Option<i64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) observed_generation: String,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub(super) pause_conditions: Vec<PauseCondition>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) phase: String,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) promote_full: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) ready_replicas: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) replicas: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) restarted_at: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) selector: String,
    #[serde(rename = "stableRS", skip_serializing_if = "String::is_empty")]
    pub(super) stable_rs: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) updated_replicas: i64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands the field by reference"
)]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands the field by reference"
)]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<PauseCondition>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Why a pause step pauses.
pub(super) const CANARY_PAUSE: &str = "CanaryPauseStep";
/// Why a blue/green Rollout pauses before its redirect.
pub(super) const BLUE_GREEN_PAUSE: &str = "BlueGreenPause";

impl Status {
    /// Reads the status of an object; an unreadable one counts as none.
    pub(super) fn of(rollout: &Value) -> Self {
        let Some(members) = rollout["status"].as_object() else {
            return Self::default();
        };
        // A null member means the same as an absent one.
        let given: Map<String, Value> = members
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        serde_json::from_value(Value::Object(given)).unwrap_or_default()
    }

    /// The merge patch that leads from `before` to this status, as a controller computes it: fields that are
    /// zero in both are not mentioned, whatever the live object holds.
    pub(super) fn patch_from(&self, before: &Self) -> Value {
        let (from, to) = (json!(before), json!(self));
        let mut patch = Map::new();
        let empty = Map::new();
        let (from, to) = (
            from.as_object().unwrap_or(&empty),
            to.as_object().unwrap_or(&empty),
        );
        for (name, value) in to {
            if from.get(name) != Some(value) {
                patch.insert(name.clone(), change(from.get(name), value));
            }
        }
        for name in from.keys().filter(|name| !to.contains_key(*name)) {
            patch.insert(name.clone(), Value::Null);
        }
        Value::Object(patch)
    }

    /// The condition of a type.
    pub(super) fn condition(&self, kind: &str) -> Option<&Value> {
        meta::condition(&self.conditions, kind)
    }

    /// Status and reason of a condition.
    pub(super) fn condition_is(&self, kind: &str, status: &str) -> bool {
        self.condition(kind).is_some_and(|held| held["status"] == status)
    }

    /// Reason of a condition; empty when it is not there.
    pub(super) fn reason_of(&self, kind: &str) -> &str {
        self.condition(kind)
            .and_then(|held| held["reason"].as_str())
            .unwrap_or_default()
    }

    /// The index of the step being executed; 0 before it was ever set.
    pub(super) fn step_index(&self) -> i64 {
        self.current_step_index.unwrap_or(0)
    }

    /// A hash that the blue/green part of the status holds; empty when it holds none.
    pub(super) fn selector(&self, field: &str) -> &str {
        self.blue_green
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Whether a paused preview of fewer pods was allowed to grow.
    pub(super) fn may_scale_up_preview(&self) -> bool {
        self.blue_green.get("scaleUpPreviewCheckPoint") == Some(&Value::Bool(true))
    }

    /// The pause condition with a reason.
    pub(super) fn pause(&self, reason: &str) -> Option<&PauseCondition> {
        self.pause_conditions
            .iter()
            .find(|condition| condition.reason == reason)
    }

    /// The pause condition of canary pause steps.
    pub(super) fn canary_pause(&self) -> Option<&PauseCondition> {
        self.pause(CANARY_PAUSE)
    }

    /// Whether the pods have not all been restarted yet.
    fn is_restarting(&self, spec: &Spec) -> bool {
        spec.restart_at.is_some() && self.restarted_at != spec.restart_at
    }

    /// Phase and message; the first rule that holds decides.
    pub(super) fn phase(&self, spec: &Spec) -> (&'static str, String) {
        let because = |kind: &str| {
            let held = self.condition(kind);
            let text = |field: &str| held.and_then(|it| it[field].as_str()).unwrap_or_default();
            format!("{}: {}", text("reason"), text("message"))
        };
        let progressing = |message: &str| ("Progressing", message.to_owned());
        if self.condition_is("InvalidSpec", "True") {
            return ("Degraded", because("InvalidSpec"));
        }
        if matches!(
            self.reason_of("Progressing"),
            "RolloutAborted" | "ProgressDeadlineExceeded"
        ) {
            return ("Degraded", because("Progressing"));
        }
        if spec.paused {
            return ("Paused", "manually paused".to_owned());
        }
        if let Some(first) = self.pause_conditions.first() {
            return ("Paused", first.reason.clone());
        }
        if self.is_restarting(spec) {
            return progressing("rollout is restarting");
        }
        if self.updated_replicas < spec.replicas {
            return progressing("more replicas need to be updated");
        }
        if self.available_replicas < self.updated_replicas {
            return progressing("updated replicas are still becoming available");
        }
        if spec.blue_green.is_some() {
            let active = self.selector("activeSelector");
            if active.is_empty() || active != self.current_pod_hash {
                return progressing("active service cutover pending");
            }
            if self.stable_rs.is_empty() || self.stable_rs != self.current_pod_hash {
                return progressing("waiting for analysis to complete");
            }
            return ("Healthy", String::new());
        }
        if self.replicas > self.updated_replicas {
            return progressing("old replicas are pending termination");
        }
        if self.stable_rs.is_empty() || self.stable_rs != self.current_pod_hash {
            return progressing("waiting for all steps to complete");
        }
        ("Healthy", String::new())
    }
}

/// What a merge patch has to say to lead from one value to another.
fn change(from: Option<&Value>, to: &Value) -> Value {
    let (Some(Value::Object(from)), Value::Object(to)) = (from, to) else {
        return to.clone();
    };
    let gone = from.keys().filter(|name| !to.contains_key(*name));
    let mut patch: Map<String, Value> = gone.map(|name| (name.clone(), Value::Null)).collect();
    patch.extend(to.iter().map(|(name, value)| (name.clone(), value.clone())));
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Status;

    #[test]
    fn patch_says_nothing_of_what_is_zero_on_both_sides() {
        let before = Status::of(&json!({"status": {"abort": false, "promoteFull": true, "replicas": 3}}));
        let after = Status {
            promote_full: false,
            replicas: 4,
            ..before.clone()
        };
        assert_eq!(
            after.patch_from(&before),
            json!({"promoteFull": null, "replicas": 4})
        );
    }
}
