//! Tests of the object store.
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Delete, ObjectError, Objects, Propagation, WatchKind, version_of};
use crate::sim::resource::{CONFIG_MAPS, CUSTOM_RESOURCE_DEFINITIONS, DEPLOYMENTS, NAMESPACES, PODS};

fn objects() -> Objects {
    Objects::new(Arc::new(|| "2026-01-01T00:00:00.5Z".parse().unwrap()))
}

fn deployment() -> Value {
    json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": 2}, "status": {"replicas": 9}})
}

#[test]
fn creation_assigns_identity_and_drops_the_status() {
    let objects = objects();
    let made = objects.create(&DEPLOYMENTS, deployment()).unwrap();
    assert_eq!(made["apiVersion"], "apps/v1");
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z");
    assert!(made["metadata"]["uid"].is_string());
    assert_eq!(made.get("status"), None);
    let again = objects.create(&DEPLOYMENTS, deployment()).unwrap_err();
    assert!(matches!(again, ObjectError::AlreadyExists { .. }), "{again}");
}

#[test]
fn generation_moves_with_the_spec_only_and_a_no_op_moves_nothing() {
    let objects = objects();
    let made = objects.create(&DEPLOYMENTS, deployment()).unwrap();
    let mut next = (*made).clone();
    next["metadata"]["labels"] = json!({"a": "b"});
    let labelled = objects
        .update(&DEPLOYMENTS, "default", "web", None, next.clone())
        .unwrap();
    assert_eq!(labelled["metadata"]["generation"], 1);
    assert!(version_of(&labelled) > version_of(&made));
    let same = objects
        .update(&DEPLOYMENTS, "default", "web", None, next.clone())
        .unwrap();
    assert_eq!(version_of(&same), version_of(&labelled));
    next["spec"]["replicas"] = json!(3);
    let scaled = objects
        .update(&DEPLOYMENTS, "default", "web", None, next.clone())
        .unwrap();
    assert_eq!(scaled["metadata"]["generation"], 2);
    next["status"] = json!({"replicas": 3});
    let status = objects
        .update_status(&DEPLOYMENTS, "default", "web", None, &next)
        .unwrap();
    assert_eq!(status["metadata"]["generation"], 2);
    assert_eq!(status["status"]["replicas"], 3);
    next["status"] = json!({"replicas": 7});
    next["spec"]["replicas"] = json!(4);
    let kept = objects
        .update(&DEPLOYMENTS, "default", "web", None, next)
        .unwrap();
    assert_eq!(kept["status"]["replicas"], 3);
}

#[test]
fn stale_version_is_a_conflict() {
    let objects = objects();
    let made = objects.create(&DEPLOYMENTS, deployment()).unwrap();
    let mut next = (*made).clone();
    next["spec"]["replicas"] = json!(3);
    objects
        .update(
            &DEPLOYMENTS,
            "default",
            "web",
            Some(version_of(&made)),
            next.clone(),
        )
        .unwrap();
    let stale = objects
        .update(&DEPLOYMENTS, "default", "web", Some(version_of(&made)), next)
        .unwrap_err();
    assert!(matches!(stale, ObjectError::Conflict { .. }), "{stale}");
}

#[test]
fn finalizers_hold_an_object_until_they_are_removed() {
    let objects = objects();
    let mut value = deployment();
    value["metadata"]["finalizers"] = json!(["example.com/hold"]);
    objects.create(&DEPLOYMENTS, value).unwrap();
    let deleting = objects
        .delete(&DEPLOYMENTS, "default", "web", &Delete::default())
        .unwrap();
    assert!(deleting["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(deleting["metadata"]["generation"], 2);
    let mut next = (*deleting).clone();
    next["metadata"]["finalizers"] = json!([]);
    objects
        .update(&DEPLOYMENTS, "default", "web", None, next)
        .unwrap();
    assert_eq!(objects.get(&DEPLOYMENTS, "default", "web"), None);
    let foreground = Delete {
        propagation: Propagation::Foreground,
        ..Delete::default()
    };
    objects.create(&DEPLOYMENTS, deployment()).unwrap();
    let held = objects
        .delete(&DEPLOYMENTS, "default", "web", &foreground)
        .unwrap();
    assert_eq!(held["metadata"]["finalizers"], json!(["foregroundDeletion"]));
}

#[test]
fn wrong_uid_does_not_delete() {
    let objects = objects();
    objects.create(&DEPLOYMENTS, deployment()).unwrap();
    let other = Delete {
        uid: Some("other".into()),
        ..Delete::default()
    };
    let refused = objects
        .delete(&DEPLOYMENTS, "default", "web", &other)
        .unwrap_err();
    assert!(matches!(refused, ObjectError::Conflict { .. }), "{refused}");
    assert!(objects.get(&DEPLOYMENTS, "default", "web").is_some());
}

#[test]
fn terminating_namespace_takes_nothing_new() {
    let objects = objects();
    objects
        .create(&NAMESPACES, json!({"metadata": {"name": "team"}}))
        .unwrap();
    objects
        .delete(&NAMESPACES, "", "team", &Delete::default())
        .unwrap();
    let held = objects.get(&NAMESPACES, "", "team").unwrap();
    assert_eq!(held["status"]["phase"], "Terminating");
    let refused = objects
        .create(
            &CONFIG_MAPS,
            json!({"metadata": {"name": "a", "namespace": "team"}}),
        )
        .unwrap_err();
    assert!(
        matches!(refused, ObjectError::NamespaceTerminating { .. }),
        "{refused}"
    );
    let missing = objects
        .create(
            &CONFIG_MAPS,
            json!({"metadata": {"name": "a", "namespace": "nope"}}),
        )
        .unwrap_err();
    assert_eq!(missing.to_string(), "namespaces \"nope\" not found");
}

#[test]
fn pod_on_a_node_waits_for_its_kubelet() {
    let objects = objects();
    let pod =
        |name: &str| json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"nodeName": "n"}});
    objects.create(&PODS, pod("a")).unwrap();
    let stopping = objects.delete(&PODS, "default", "a", &Delete::default()).unwrap();
    assert_eq!(stopping["metadata"]["deletionGracePeriodSeconds"], 30);
    let now = Delete {
        grace_seconds: Some(0),
        ..Delete::default()
    };
    objects.delete(&PODS, "default", "a", &now).unwrap();
    assert_eq!(objects.get(&PODS, "default", "a"), None);
}

#[test]
fn history_tells_what_happened_and_expires() {
    let objects = objects();
    let start = objects.resource_version();
    objects.create(&DEPLOYMENTS, deployment()).unwrap();
    objects
        .delete(&DEPLOYMENTS, "default", "web", &Delete::default())
        .unwrap();
    let kinds: Vec<_> = objects
        .events_since(start)
        .unwrap()
        .iter()
        .map(|event| event.kind)
        .collect();
    assert_eq!(kinds, [WatchKind::Added, WatchKind::Deleted]);
    let last = objects.resource_version();
    objects.compact();
    assert!(objects.events_since(last).is_err());
    assert!(
        objects
            .events_since(objects.resource_version())
            .unwrap()
            .is_empty()
    );
}

#[test]
fn history_is_bounded() {
    let objects = objects();
    let start = objects.resource_version();
    let made = objects
        .create(
            &CONFIG_MAPS,
            json!({"metadata": {"name": "a", "namespace": "default"}}),
        )
        .unwrap();
    for round in 0..super::HISTORY_LIMIT {
        let mut next = (*made).clone();
        next["data"] = json!({"round": round.to_string()});
        objects.update(&CONFIG_MAPS, "default", "a", None, next).unwrap();
    }
    assert!(objects.events_since(start).is_err());
    assert_eq!(
        objects.events_since(version_of(&made)).unwrap().len(),
        super::HISTORY_LIMIT
    );
}

#[test]
fn definitions_add_kinds_and_snapshots_keep_them() {
    let objects = objects();
    let definition = json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{"name": "v1", "served": true, "subresources": {"status": {}}}]},
    });
    objects.create(&CUSTOM_RESOURCE_DEFINITIONS, definition).unwrap();
    let widgets = objects.resource("example.com", "v1", "widgets").unwrap();
    assert!(widgets.has_status && widgets.namespaced);
    objects
        .create(
            &widgets,
            json!({"metadata": {"generateName": "w-", "namespace": "default"}}),
        )
        .unwrap();
    let snapshot = objects.snapshot();
    let other = self::objects();
    other.restore(&snapshot).unwrap();
    assert_eq!(
        other.list(&widgets, None).items,
        objects.list(&widgets, None).items
    );
    assert!(other.resource("example.com", "v1", "widgets").is_some());
    assert!(other.resource_version() > objects.resource_version());
    assert!(other.restore(&json!({"format": 2})).is_err());
    objects
        .delete(
            &CUSTOM_RESOURCE_DEFINITIONS,
            "",
            "widgets.example.com",
            &Delete::default(),
        )
        .unwrap();
    assert!(objects.resource("example.com", "v1", "widgets").is_none());
}

#[test]
fn fork_is_not_seen_by_the_original() {
    let objects = objects();
    let before = objects.resource_version();
    objects.fork().create(&DEPLOYMENTS, deployment()).unwrap();
    assert_eq!(objects.resource_version(), before);
    assert_eq!(objects.get(&DEPLOYMENTS, "default", "web"), None);
}
