//! Replicas under an autoscaler: whose they are, and what an apply sends while that changes.

use serde_json::{Value, json};

use super::api::MANAGER;

/// The replicas to send for a Rollout that declares none because an autoscaler owns them.
///
/// As long as our last apply owns the field, leaving it out would reset it to 1, so the live count
/// is sent; once the autoscaler owns it, nothing is.
pub(crate) fn replicas_to_keep(live: Option<&Value>) -> Option<u64> {
    let live = live?;
    let entries = live["metadata"]["managedFields"].as_array()?;
    let ours = entries.iter().filter(|entry| {
        entry["manager"] == MANAGER && entry["operation"] == "Apply" && entry.get("subresource").is_none()
    });
    let owns = |entry: &Value| entry.pointer("/fieldsV1/f:spec/f:replicas").is_some();
    let mut ours = ours.into_iter();
    if !ours.any(owns) {
        return None;
    }
    live["spec"]["replicas"].as_u64()
}

/// Sets what an apply sends as replicas.
///
/// `leaving`: an autoscaler of this Rollout leaves with the plan, so the live count stays until the
/// plan is done.
pub(crate) fn set_replicas(body: &mut Value, live: Option<&Value>, leaving: bool) {
    let declares = body["spec"].get("replicas").is_some();
    let count = match (declares, leaving) {
        (true, true) => live.and_then(|live| live["spec"]["replicas"].as_u64()),
        (true, false) => None,
        (false, _) => replicas_to_keep(live),
    };
    if let Some(count) = count {
        body["spec"]["replicas"] = json!(count);
    }
}

/// The Rollout that an autoscaler scales.
pub(crate) fn scaled_by(body: &Value) -> Option<&str> {
    let target = &body["spec"]["scaleTargetRef"];
    (target["kind"] == "Rollout")
        .then(|| target["name"].as_str())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(owner: &str) -> Value {
        json!({
            "metadata": {"managedFields": [
                {"manager": owner, "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                {"manager": MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}},
            ]},
            "spec": {"replicas": 6},
        })
    }

    #[test]
    fn joining_sends_the_live_count_while_it_is_ours() {
        let mut body = json!({"spec": {}});
        set_replicas(&mut body, Some(&live(MANAGER)), false);
        assert_eq!(body["spec"]["replicas"], 6);
        let mut body = json!({"spec": {}});
        set_replicas(&mut body, Some(&live("kube-controller-manager")), false);
        assert_eq!(body["spec"].get("replicas"), None);
    }

    #[test]
    fn leaving_keeps_the_live_count_until_done() {
        let mut body = json!({"spec": {"replicas": 4}});
        set_replicas(&mut body, Some(&live(MANAGER)), true);
        assert_eq!(body["spec"]["replicas"], 6);
        let mut body = json!({"spec": {"replicas": 4}});
        set_replicas(&mut body, Some(&live(MANAGER)), false);
        assert_eq!(body["spec"]["replicas"], 4);
    }
}
