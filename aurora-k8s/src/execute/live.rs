//! What the cluster holds: whose an object is, and whether it already is as declared.

use serde_json::Value;

use aurora_core::manifest::ObjectRef;

use super::api::MANAGER;
use super::applied_set::{AppliedSet, Entry};

/// An object's uid.
pub(crate) fn uid(live: &Value) -> &str {
    live["metadata"]["uid"].as_str().unwrap_or_default()
}

/// An object's resourceVersion.
pub(crate) fn version(live: &Value) -> &str {
    live["metadata"]["resourceVersion"].as_str().unwrap_or_default()
}

/// Listed with the live uid, or listed without one while our applies own fields of it.
pub(crate) fn is_ours(entry: Option<&Entry>, live: &Value) -> bool {
    entry.is_some_and(|entry| entry.uid == uid(live) || (entry.uid.is_empty() && was_applied_by_us(live)))
}

fn was_applied_by_us(live: &Value) -> bool {
    let entries = live["metadata"]["managedFields"].as_array();
    entries.is_some_and(|entries| {
        entries
            .iter()
            .any(|entry| entry["manager"] == MANAGER && entry["operation"] == "Apply")
    })
}

/// Who wrote to an object, for people.
pub(crate) fn writers(live: &Value) -> String {
    let entries = live["metadata"]["managedFields"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut names: Vec<_> = entries
        .iter()
        .filter_map(|entry| entry["manager"].as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        "somebody else".to_owned()
    } else {
        names.join(", ")
    }
}

/// Tells whether everything declared is there; defaults and other people's additions do no harm.
pub(crate) fn covers(live: &Value, declared: &Value) -> bool {
    match (live, declared) {
        (_, Value::Null | Value::Bool(false)) if live.is_null() => true,
        (_, Value::Array(items)) if items.is_empty() && live.is_null() => true,
        (_, Value::String(text)) if text.is_empty() && live.is_null() => true,
        (_, Value::Number(number)) if number.as_f64() == Some(0.0) && live.is_null() => true,
        (Value::Object(live), Value::Object(declared)) => declared.iter().all(|(key, declared)| {
            // What is sent as text is kept as data.
            key == "stringData" || covers(live.get(key).unwrap_or(&Value::Null), declared)
        }),
        (_, Value::Object(declared)) if live.is_null() => declared.is_empty(),
        (Value::Array(live), Value::Array(declared)) => {
            live.len() == declared.len()
                && live
                    .iter()
                    .zip(declared)
                    .all(|(live, declared)| covers(live, declared))
        }
        _ => live == declared,
    }
}

/// What is found in a namespace that the pods of a plan would be mixed up with.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    pub(crate) deployments: Vec<Value>,
    pub(crate) rollouts: Vec<Value>,
    pub(crate) replica_sets: Vec<Value>,
    pub(crate) pods: Vec<Value>,
}

impl Neighbours {
    /// Workloads of somebody else whose pods a selector of ours matches, each at its root.
    ///
    /// What has an owner that makes such objects is judged by that owner; if the owner is gone, the
    /// garbage collector is about to take it.
    pub(crate) fn matched_by(
        &self,
        selector: &Value,
        set: Option<&AppliedSet>,
        namespace: &str,
    ) -> Vec<ObjectRef> {
        let mut found = Vec::new();
        let roots = self.deployments.iter().map(|root| ("apps", "Deployment", root));
        for (group, kind, root) in
            roots.chain(self.rollouts.iter().map(|root| ("argoproj.io", "Rollout", root)))
        {
            let object = named(group, kind, namespace, root);
            let labels = &root["spec"]["template"]["metadata"]["labels"];
            if matches(selector, labels) && !is_ours(set.and_then(|set| set.entry(&object)), root) {
                found.push(object);
            }
        }
        for replica_set in &self.replica_sets {
            let labels = &replica_set["spec"]["template"]["metadata"]["labels"];
            let judged = is_owned_by_kind(replica_set, &["Deployment", "Rollout"]);
            if matches(selector, labels)
                && !judged
                && !is_leaving(replica_set)
                && !is_listed(replica_set, set)
            {
                found.push(named("apps", "ReplicaSet", namespace, replica_set));
            }
        }
        for pod in &self.pods {
            let judged = is_owned_by_kind(pod, &["ReplicaSet"]);
            if matches(selector, &pod["metadata"]["labels"])
                && !judged
                && !is_leaving(pod)
                && !is_listed(pod, set)
            {
                found.push(named("", "Pod", namespace, pod));
            }
        }
        found
    }
}

fn named(group: &str, kind: &str, namespace: &str, object: &Value) -> ObjectRef {
    ObjectRef::new(
        group,
        kind,
        namespace,
        object["metadata"]["name"].as_str().unwrap_or_default(),
    )
}

fn is_leaving(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

fn controller_of(object: &Value) -> Option<&Value> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners
        .iter()
        .find(|owner| owner["controller"] == true)
        .or_else(|| owners.first())
}

fn is_owned_by_kind(object: &Value, kinds: &[&str]) -> bool {
    let kind = controller_of(object).and_then(|owner| owner["kind"].as_str());
    kind.is_some_and(|kind| kinds.contains(&kind))
}

/// The owner is one of our objects, perhaps one that was just deleted and is not collected yet.
fn is_listed(object: &Value, set: Option<&AppliedSet>) -> bool {
    let (Some(owner), Some(set)) = (controller_of(object), set) else {
        return false;
    };
    set.entries.iter().any(|entry| {
        let same_name =
            owner["kind"] == entry.object.kind.as_str() && owner["name"] == entry.object.name.as_str();
        same_name && (entry.uid.is_empty() || owner["uid"] == entry.uid.as_str())
    })
}

/// `matchLabels` of a selector are all among some labels; a selector without any matches nothing here.
fn matches(selector: &Value, labels: &Value) -> bool {
    let wanted = selector["matchLabels"].as_object();
    wanted.is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(key, value)| labels[key] == *value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(uid: &str) -> Entry {
        Entry {
            object: ObjectRef::new("", "Service", "shop", "web"),
            api_version: "v1".to_owned(),
            uid: uid.to_owned(),
            digest: String::new(),
            changed: false,
            scales: String::new(),
        }
    }

    fn live(uid: &str, manager: &str) -> Value {
        json!({"metadata": {"uid": uid, "managedFields": [{"manager": manager, "operation": "Apply"}]}})
    }

    #[test]
    fn ours_is_what_is_listed_with_its_uid_or_was_created_and_not_yet_listed() {
        assert!(is_ours(Some(&entry("u1")), &live("u1", "kubectl")));
        assert!(
            !is_ours(Some(&entry("u1")), &live("u2", MANAGER)),
            "created again by somebody else"
        );
        assert!(
            is_ours(Some(&entry("")), &live("u2", MANAGER)),
            "created before the uid could be listed"
        );
        assert!(!is_ours(Some(&entry("")), &live("u2", "kubectl")));
        assert!(!is_ours(None, &live("u2", MANAGER)));
    }

    #[test]
    fn neighbours_with_matching_pods_are_found_at_their_root() {
        let labels = json!({"app": "web"});
        let template = json!({"template": {"metadata": {"labels": labels}}});
        let owned = |kind: &str, name: &str, uid: &str| json!([{"kind": kind, "name": name, "uid": uid, "controller": true}]);
        let neighbours = Neighbours {
            deployments: vec![json!({"metadata": {"name": "old", "uid": "d"}, "spec": template})],
            rollouts: Vec::new(),
            replica_sets: vec![
                json!({"metadata": {"name": "old-1", "uid": "r", "ownerReferences": owned("Deployment", "old", "d")}, "spec": template}),
                json!({"metadata": {"name": "orphan", "uid": "o"}, "spec": template}),
            ],
            pods: vec![
                json!({"metadata": {"name": "old-1-a", "labels": labels, "ownerReferences": owned("ReplicaSet", "old-1", "r")}}),
                json!({"metadata": {"name": "bare", "labels": labels}}),
                json!({"metadata": {"name": "other", "labels": {"app": "db"}}}),
            ],
        };
        let selector = json!({"matchLabels": {"app": "web"}});
        let found = neighbours.matched_by(&selector, None, "shop");
        let names: Vec<_> = found.iter().map(|object| object.name.as_str()).collect();
        assert_eq!(names, ["old", "orphan", "bare"]);
    }

    #[test]
    fn defaults_do_not_count_as_changes() {
        let declared =
            json!({"spec": {"ports": [{"port": 80}], "paused": false, "selector": {"app": "web"}}});
        let live = json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}], "selector": {"app": "web", "x": "y"}}});
        assert!(covers(&live, &declared));
        let other = json!({"spec": {"ports": [{"port": 81}], "selector": {"app": "web"}}});
        assert!(!covers(&other, &declared));
    }
}
