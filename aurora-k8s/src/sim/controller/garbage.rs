//! Garbage collection: what is owned goes after, with or without its owner, as its deletion said.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use serde_json::Value;

use crate::sim::objects::{Delete, Objects, WatchEvent, WatchKind};

use super::{
    meta,
    queue::{Next, ObjectKey, Reconciler},
    write,
};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// The garbage collector; its keys are UIDs of owners.
#[derive(Debug)]
pub(super) struct Garbage;

#[async_trait]
impl Reconciler for Garbage {
    fn latency(&self) -> Duration {
        Duration::from_millis(40)
    }

    fn wants(&self, _objects: &Objects, event: &WatchEvent) -> Vec<ObjectKey> {
        let mut keys = Vec::new();
        if event.kind == WatchKind::Deleted || meta::is_deleting(&event.object) {
            keys.push((String::new(), meta::uid(&event.object).to_owned()));
        }
        if event.kind != WatchKind::Modified {
            keys.extend(owners(&event.object).map(|uid| (String::new(), uid.to_owned())));
        }
        keys
    }

    async fn reconcile(&self, objects: &Objects, (_, owner): &ObjectKey) -> Next {
        let (everything, _) = objects.everything();
        let held = everything.iter().find(|event| meta::uid(&event.object) == owner);
        let owned = everything
            .iter()
            .filter(|event| owners(&event.object).any(|uid| uid == owner));
        let Some(held) = held else {
            let uids: BTreeSet<&str> = everything.iter().map(|event| meta::uid(&event.object)).collect();
            for dependent in owned {
                if owners(&dependent.object).any(|uid| uids.contains(uid)) {
                    drop_reference(objects, dependent, owner);
                } else {
                    delete(objects, dependent);
                }
            }
            return Next::Done;
        };
        if !meta::is_deleting(&held.object) {
            return Next::Done;
        }
        let owned: Vec<&WatchEvent> = owned.collect();
        if has_finalizer(&held.object, FOREGROUND) {
            for dependent in &owned {
                delete(objects, dependent);
            }
            if owned.is_empty() {
                drop_finalizer(objects, held, FOREGROUND);
            }
        } else if has_finalizer(&held.object, ORPHAN) {
            for dependent in &owned {
                drop_reference(objects, dependent, owner);
            }
            drop_finalizer(objects, held, ORPHAN);
        }
        Next::Done
    }
}

fn owners(object: &Value) -> impl Iterator<Item = &str> {
    let references = object["metadata"]["ownerReferences"].as_array();
    references
        .into_iter()
        .flatten()
        .filter_map(|reference| reference["uid"].as_str())
}

fn has_finalizer(object: &Value, name: &str) -> bool {
    object["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|names| names.iter().any(|it| it == name))
}

fn delete(objects: &Objects, event: &WatchEvent) {
    let object = &event.object;
    if meta::is_deleting(object) {
        return;
    }
    let how = Delete {
        uid: Some(meta::uid(object).to_owned()),
        ..Delete::default()
    };
    // Gone already is as good.
    let _deleted = objects.delete(&event.resource, meta::namespace(object), meta::name(object), &how);
}

fn drop_reference(objects: &Objects, event: &WatchEvent, owner: &str) {
    let (namespace, name) = meta::key(&event.object);
    let _dropped = write::edit(objects, &event.resource, &namespace, &name, |object| {
        if let Some(references) = object["metadata"]["ownerReferences"].as_array_mut() {
            references.retain(|reference| reference["uid"] != owner);
        }
    });
}

fn drop_finalizer(objects: &Objects, event: &WatchEvent, finalizer: &str) {
    let (namespace, name) = meta::key(&event.object);
    let _dropped = write::edit(objects, &event.resource, &namespace, &name, |object| {
        if let Some(names) = object["metadata"]["finalizers"].as_array_mut() {
            names.retain(|name| name != finalizer);
        }
    });
}
