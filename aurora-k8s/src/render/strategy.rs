//! What a strategy of the file is in a Rollout.

use aurora_core::strategy::{BlueGreen, Canary, Portion, Rolling, ServicePair, Step};
use serde_json::{Value, json};

use crate::argo;

/// Steps by weight; every pause is a gate of the control plane, so it has no time of its own.
pub(super) fn canary(canary: &Canary, own: &Value) -> Value {
    let mut rendered = rolling(&Rolling::default(), own);
    if !canary.steps.is_empty() {
        rendered["canary"]["steps"] = canary.steps.iter().map(step).collect();
    }
    rendered
}

/// A canary without steps, which moves as a Deployment does; `own` is the Deployment's strategy.
pub(super) fn rolling(rolling: &Rolling, own: &Value) -> Value {
    let share = |wanted: Option<Portion>, key: &str| {
        let written = own.get("rollingUpdate").and_then(|shares| shares.get(key));
        match (wanted, written.filter(|value| !value.is_null())) {
            (Some(Portion::Count(count)), _) => json!(count),
            (Some(Portion::Percent(percent)), _) => json!(format!("{percent}%")),
            (None, Some(written)) => written.clone(),
            (None, None) => json!(argo::DEFAULT_ROLLING_SHARE),
        }
    };
    json!({"canary": {
        "maxSurge": share(rolling.max_surge, "maxSurge"),
        "maxUnavailable": share(rolling.max_unavailable, "maxUnavailable"),
    }})
}

/// Two versions side by side and a redirect. The Rollout always stops before it: the Rollouts of a
/// target move together, and the control plane lets them go when its gates are open.
pub(super) fn blue_green(blue_green: &BlueGreen, services: &ServicePair) -> Value {
    // The field is a 32-bit number.
    let delay = blue_green
        .keeps_old()
        .as_secs()
        .min(u64::from(i32::MAX.unsigned_abs()));
    let mut rendered = json!({
        "activeService": services.active,
        "autoPromotionEnabled": false,
        "scaleDownDelaySeconds": delay,
    });
    if let Some(preview) = &services.preview {
        rendered["previewService"] = json!(preview);
    }
    json!({"blueGreen": rendered})
}

fn step(step: &Step) -> Value {
    match step {
        Step::Pause(_) => json!({"pause": {}}),
        Step::SetWeight(weight) => json!({"setWeight": weight}),
    }
}
