//! Namespaces under deletion: their content goes, then they do.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use crate::sim::{
    objects::{Delete, Objects, WatchEvent},
    resource::NAMESPACES,
};

use super::{
    meta,
    queue::{Next, ObjectKey, Reconciler},
    write,
};

/// A namespace is left alone this long after its deletion, as by the real controller.
const GRACE: Duration = Duration::from_secs(6);
/// How often the remaining content is looked at.
const AGAIN: Duration = Duration::from_millis(200);

/// The controller of namespaces.
#[derive(Debug)]
pub(super) struct Namespaces;

#[async_trait]
impl Reconciler for Namespaces {
    fn wants(&self, _objects: &Objects, event: &WatchEvent) -> Vec<ObjectKey> {
        if *event.resource == NAMESPACES {
            vec![meta::key(&event.object)]
        } else {
            Vec::new()
        }
    }

    async fn reconcile(&self, objects: &Objects, (_, name): &ObjectKey) -> Next {
        let Some(namespace) = objects.get(&NAMESPACES, "", name) else {
            return Next::Done;
        };
        let Some(deleted) = meta::time(&namespace["metadata"]["deletionTimestamp"]) else {
            return Next::Done;
        };
        let passed = Duration::try_from(objects.now().duration_since(deleted)).unwrap_or_default();
        if let Some(left) = GRACE.checked_sub(passed).filter(|left| !left.is_zero()) {
            return Next::After(left);
        }
        let (everything, _) = objects.everything();
        let content: Vec<&WatchEvent> = everything
            .iter()
            .filter(|event| meta::namespace(&event.object) == name.as_str())
            .collect();
        for event in content.iter().filter(|event| !meta::is_deleting(&event.object)) {
            // Gone already is as good.
            let _deleted = objects.delete(
                &event.resource,
                name,
                meta::name(&event.object),
                &Delete::default(),
            );
        }
        let (now, remaining) = (objects.now(), content.len());
        let held = content
            .iter()
            .any(|event| event.object["metadata"]["finalizers"][0].is_string());
        let _told = write::edit_status(objects, &NAMESPACES, "", name, |status| {
            let conditions = &mut status["conditions"];
            let (value, reason, message) = if remaining == 0 {
                (
                    "False",
                    "ContentRemoved",
                    "All content successfully removed".to_owned(),
                )
            } else {
                (
                    "True",
                    "SomeResourcesRemain",
                    format!("{remaining} objects remain"),
                )
            };
            meta::set_condition(
                conditions,
                "NamespaceContentRemaining",
                value,
                reason,
                &message,
                now,
            );
            let (value, reason, message) = if held {
                (
                    "True",
                    "SomeFinalizersRemain",
                    "Some content has finalizers remaining",
                )
            } else {
                (
                    "False",
                    "ContentHasNoFinalizers",
                    "All content-preserving finalizers finished",
                )
            };
            meta::set_condition(
                conditions,
                "NamespaceFinalizersRemaining",
                value,
                reason,
                message,
                now,
            );
        });
        if remaining > 0 {
            return Next::After(AGAIN);
        }
        let _gone = write::edit(objects, &NAMESPACES, "", name, |namespace| {
            namespace["spec"]["finalizers"] = json!([]);
        });
        Next::Done
    }
}
