//! Services that a Rollout's controller points at pods: an apply must carry what it put there.

use serde_json::{Value, json};

use crate::argo::POD_TEMPLATE_HASH;

/// What a Service is to a Rollout.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    /// It must point at the revision that serves.
    Serving,
    /// It must point at the revision that is being rolled out.
    Trying,
}

/// Where the strategy of a Rollout names a Service.
const REFERENCES: [(&str, Role); 4] = [
    ("/spec/strategy/canary/stableService", Role::Serving),
    ("/spec/strategy/canary/canaryService", Role::Trying),
    ("/spec/strategy/blueGreen/activeService", Role::Serving),
    ("/spec/strategy/blueGreen/previewService", Role::Trying),
];

/// The selector's hash that an apply of a Service must carry, given the live one and all live Rollouts.
///
/// Without it a forced apply wipes what the controller wrote, and for a blue/green Rollout the next
/// reconcile then promotes without a gate.
pub(crate) fn hash_to_carry(name: &str, live: Option<&Value>, rollouts: &[Value]) -> Option<String> {
    let (rollout, role) = rollouts
        .iter()
        .find_map(|rollout| Some((rollout, role_in(rollout, name)?)))?;
    let present = live.and_then(selected_hash);
    let status = match role {
        Role::Serving => "/status/stableRS",
        Role::Trying => "/status/currentPodHash",
    };
    let text = present.or_else(|| rollout.pointer(status)?.as_str())?;
    (!text.is_empty()).then(|| text.to_owned())
}

fn role_in(rollout: &Value, service: &str) -> Option<Role> {
    let names = |pointer: &str| rollout.pointer(pointer).and_then(Value::as_str) == Some(service);
    REFERENCES
        .iter()
        .find(|(pointer, _)| names(pointer))
        .map(|(_, role)| *role)
}

/// The hash that a Service selects now.
pub(crate) fn selected_hash(service: &Value) -> Option<&str> {
    service["spec"]["selector"][POD_TEMPLATE_HASH].as_str()
}

/// Adds a hash to the selector of a Service that is going to be applied.
pub(crate) fn carry(body: &mut Value, hash: String) {
    if body["spec"]["selector"].is_object() {
        body["spec"]["selector"][POD_TEMPLATE_HASH] = json!(hash);
    }
}

/// The active Service that a Rollout is going to have, and the hash that it must select before the apply.
pub(crate) fn active_of<'v>(body: &'v Value, live: &'v Value) -> Option<(&'v str, &'v str)> {
    let service = body.pointer("/spec/strategy/blueGreen/activeService")?.as_str()?;
    let stable = live
        .pointer("/status/stableRS")?
        .as_str()
        .filter(|hash| !hash.is_empty())?;
    Some((service, stable))
}

/// Whether the strategy of a Rollout names a Service.
pub(crate) fn is_named_by(rollout: &Value, service: &str) -> bool {
    role_in(rollout, service).is_some()
}

/// The live Rollouts, and each as the plan is going to declare it: a Service that only the new strategy names
/// has to select the stable revision before that strategy is there.
pub(crate) fn with_planned<'v>(live: &'v [Value], planned: impl Iterator<Item = &'v Value>) -> Vec<Value> {
    let mut rollouts = live.to_vec();
    for body in planned {
        let name = &body["metadata"]["name"];
        if let Some(live) = live.iter().find(|live| live["metadata"]["name"] == *name) {
            rollouts.push(json!({"spec": {"strategy": body["spec"]["strategy"]}, "status": live["status"]}));
        }
    }
    rollouts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(strategy: Value) -> Value {
        json!({"spec": {"strategy": strategy}, "status": {"stableRS": "old", "currentPodHash": "new"}})
    }

    fn selecting(hash: Option<&str>) -> Value {
        let mut service = json!({"spec": {"selector": {"app": "web"}}});
        if let Some(hash) = hash {
            carry(&mut service, hash.to_owned());
        }
        service
    }

    #[test]
    fn the_live_hash_is_carried_and_a_lost_one_is_filled_in() {
        let blue_green = [rollout(
            json!({"blueGreen": {"activeService": "web", "previewService": "preview"}}),
        )];
        let canary = [rollout(
            json!({"canary": {"stableService": "web", "canaryService": "preview"}}),
        )];
        for rollouts in [&blue_green, &canary] {
            let live = selecting(Some("live"));
            assert_eq!(
                hash_to_carry("web", Some(&live), rollouts).as_deref(),
                Some("live")
            );
            let bare = selecting(None);
            assert_eq!(
                hash_to_carry("web", Some(&bare), rollouts).as_deref(),
                Some("old")
            );
            assert_eq!(
                hash_to_carry("preview", Some(&bare), rollouts).as_deref(),
                Some("new")
            );
            assert_eq!(hash_to_carry("web", None, rollouts).as_deref(), Some("old"));
        }
    }

    #[test]
    fn a_service_that_only_the_planned_strategy_names_gets_the_stable_hash() {
        let mut live = rollout(json!({"canary": {}}));
        live["metadata"]["name"] = json!("shop");
        let mut planned = rollout(json!({"blueGreen": {"activeService": "web"}}));
        planned["metadata"]["name"] = json!("shop");
        let both = with_planned(std::slice::from_ref(&live), [&planned].into_iter());
        let bare = selecting(None);
        assert_eq!(hash_to_carry("web", Some(&bare), &both).as_deref(), Some("old"));
        assert_eq!(active_of(&planned, &live), Some(("web", "old")));
        assert_eq!(active_of(&live, &live), None);
    }

    #[test]
    fn a_service_that_no_rollout_names_stays_plain() {
        let rollouts = [rollout(json!({"canary": {"steps": []}}))];
        let live = selecting(Some("left over"));
        assert_eq!(hash_to_carry("web", Some(&live), &rollouts), None);
        assert_eq!(hash_to_carry("web", Some(&live), &[]), None);
    }
}
