//! The state of a cluster as one JSON value, so that it survives a process.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{
    Objects, RestoreError,
    history::History,
    state::{Key, key},
    version_of,
};

/// Format of snapshots; another one is refused.
const FORMAT: u64 = 1;

impl Objects {
    /// Everything that has to survive a process: the objects and the counters, not the history.
    #[must_use]
    pub fn snapshot(&self) -> Value {
        let state = self.lock();
        let objects: Vec<&Value> = state.objects.values().map(Arc::as_ref).collect();
        json!({
            "format": FORMAT,
            "resourceVersion": state.version,
            "named": state.named,
            "objects": objects,
        })
    }

    /// Takes the state of a snapshot in place of its own. As after a restart of an API server, every older
    /// version is expired.
    ///
    /// # Errors
    /// [`RestoreError`] when it is not a snapshot of this format; the state is then left as it was.
    pub fn restore(&self, snapshot: &Value) -> Result<(), RestoreError> {
        let wrong = |place: String, problem: &str| RestoreError {
            place,
            problem: problem.to_owned(),
        };
        if snapshot["format"] != FORMAT {
            return Err(wrong(
                "/format".into(),
                "is not 1: it was written by another version",
            ));
        }
        let number = |field: &str| {
            snapshot[field]
                .as_u64()
                .ok_or_else(|| wrong(format!("/{field}"), "is not a number"))
        };
        let (version, named) = (number("resourceVersion")?, number("named")?);
        let Some(values) = snapshot["objects"].as_array() else {
            return Err(wrong("/objects".into(), "is not a list"));
        };
        let scratch = Self::new(Arc::clone(&self.clock));
        {
            let mut state = scratch.lock();
            state.objects = definitions_of(values);
            state.rebuild_dynamic();
        }
        let mut objects = BTreeMap::new();
        for (index, value) in values.iter().enumerate() {
            let text = |field: &str| value[field].as_str().unwrap_or_default();
            let Some(resource) = scratch.resource_of_kind(text("apiVersion"), text("kind")) else {
                return Err(wrong(
                    format!("/objects/{index}"),
                    "is of a kind that is not served",
                ));
            };
            let metadata = &value["metadata"];
            let Some(name) = metadata["name"].as_str() else {
                return Err(wrong(format!("/objects/{index}/metadata/name"), "is missing"));
            };
            let namespace = metadata["namespace"].as_str().unwrap_or_default();
            objects.insert(key(&resource, namespace, name), Arc::new(value.clone()));
        }
        let newest = objects
            .values()
            .map(|object| version_of(object))
            .max()
            .unwrap_or(0);
        let mut state = self.lock();
        state.version = version.max(newest).max(state.version) + 1;
        state.named = named;
        state.objects = objects;
        state.rebuild_dynamic();
        state.history = History::starting_at(state.version);
        self.announce(state);
        Ok(())
    }
}

fn definitions_of(values: &[Value]) -> BTreeMap<Key, Arc<Value>> {
    let kind = &crate::sim::resource::CUSTOM_RESOURCE_DEFINITIONS;
    let definitions = values.iter().filter(|value| value["kind"] == kind.kind.as_ref());
    definitions
        .filter_map(|value| {
            Some((
                key(kind, "", value["metadata"]["name"].as_str()?),
                Arc::new(value.clone()),
            ))
        })
        .collect()
}
