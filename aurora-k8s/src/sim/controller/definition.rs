//! CustomResourceDefinitions: established as soon as they are made.

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::sim::{
    objects::{Objects, WatchEvent},
    resource::CUSTOM_RESOURCE_DEFINITIONS,
};

use super::{
    meta,
    queue::{Next, ObjectKey, Reconciler},
    write,
};

/// The controller of CustomResourceDefinitions.
#[derive(Debug)]
pub(super) struct Definitions;

#[async_trait]
impl Reconciler for Definitions {
    fn wants(&self, _objects: &Objects, event: &WatchEvent) -> Vec<ObjectKey> {
        meta::own_or_controller(event, &CUSTOM_RESOURCE_DEFINITIONS)
    }

    async fn reconcile(&self, objects: &Objects, (namespace, name): &ObjectKey) -> Next {
        let Some(definition) = objects.get(&CUSTOM_RESOURCE_DEFINITIONS, namespace, name) else {
            return Next::Done;
        };
        let now = objects.now();
        let stored: Vec<&Value> = definition["spec"]["versions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|version| version["storage"] == true)
            .map(|version| &version["name"])
            .collect();
        let (names, stored) = (definition["spec"]["names"].clone(), json!(stored));
        // A definition that vanished in between needs no status.
        let _established =
            write::edit_status(objects, &CUSTOM_RESOURCE_DEFINITIONS, namespace, name, |status| {
                if !status.is_object() {
                    *status = json!({});
                }
                status["acceptedNames"] = names.clone();
                status["storedVersions"] = stored.clone();
                let conditions = &mut status["conditions"];
                meta::set_condition(
                    conditions,
                    "NamesAccepted",
                    "True",
                    "NoConflicts",
                    "no conflicts found",
                    now,
                );
                let message = "the initial names have been accepted";
                meta::set_condition(
                    conditions,
                    "Established",
                    "True",
                    "InitialNamesAccepted",
                    message,
                    now,
                );
            });
        Next::Done
    }
}
