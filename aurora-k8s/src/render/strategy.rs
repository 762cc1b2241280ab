//! What a strategy of the file is in a Rollout.

use aurora_core::strategy::{Canary, Pause, Portion, Rolling, ServicePair, Step};
use serde_json::{Value, json};

use crate::argo;

/// Seconds that the old version of a blue/green Rollout stays after the redirect where no gate holds it:
/// what the controller itself would take. Nodes need a while to forget its endpoints.
const DELAY: u64 = 30;

/// How much longer than a timed gate the old version stays, should nobody shut it down.
const AFTER_A_TIMER: u64 = 60;

/// The same for a yes that can expire: a roll-back then wants the old version as it is.
const AFTER_AN_EXPIRY: u64 = 60 * 60;

/// The same for a yes that never expires: a year.
const FOR_EVER: u64 = 365 * 24 * 60 * 60;

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
pub(super) fn blue_green(services: &ServicePair, shut_down_after: &[Pause]) -> Value {
    let mut rendered = json!({
        "activeService": services.active,
        "autoPromotionEnabled": false,
        "scaleDownDelaySeconds": scale_down_delay(shut_down_after),
    });
    if let Some(preview) = &services.preview {
        rendered["previewService"] = json!(preview);
    }
    json!({"blueGreen": rendered})
}

/// How long the controller keeps the old version after the redirect.
///
/// Where gates hold it, the control plane ends the delay when they are open; the delay only has to be
/// longer than they can stand. So a version that nobody shuts down goes at last, too.
fn scale_down_delay(gates: &[Pause]) -> u64 {
    let stands = |gate: &Pause| match gate {
        Pause::Timed(span) => span.as_secs().saturating_add(AFTER_A_TIMER),
        Pause::Approval(approval) => approval.expires_after.map_or(FOR_EVER, |span| {
            span.as_secs().saturating_add(AFTER_AN_EXPIRY)
        }),
    };
    let longest = gates.iter().map(stands).max().unwrap_or(DELAY);
    // The field is a 32-bit number.
    longest.min(u64::from(i32::MAX.unsigned_abs()))
}

fn step(step: &Step) -> Value {
    match step {
        Step::Pause(_) => json!({"pause": {}}),
        Step::SetWeight(weight) => json!({"setWeight": weight}),
    }
}
