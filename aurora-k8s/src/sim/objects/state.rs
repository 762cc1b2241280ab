//! What is behind the lock of the object store: the objects, their counters and their history.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    error::ObjectError,
    history::{History, WatchEvent, WatchKind},
    rules::is_deleting,
    version_of,
};
use crate::sim::resource::{self, RESOURCES, Resource};

#[derive(Clone)]
pub(super) struct State {
    pub(super) version: u64,
    pub(super) named: u64,
    pub(super) objects: BTreeMap<Key, Arc<Value>>,
    pub(super) dynamic: Vec<Arc<Resource>>,
    pub(super) history: History,
}

/// Group and plural, so that all versions of a kind share their objects; then namespace, then name.
pub(super) type Key = (String, String, String);

impl State {
    pub(super) fn live(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        expected: Option<u64>,
    ) -> Result<(Key, Arc<Value>), ObjectError> {
        let key = key(resource, namespace, name);
        let Some(live) = self.objects.get(&key).cloned() else {
            return Err(ObjectError::NotFound {
                resource: resource.qualified(),
                name: name.to_owned(),
            });
        };
        if expected.is_some_and(|expected| version_of(&live) != expected) {
            return Err(ObjectError::Conflict {
                resource: resource.qualified(),
                name: name.to_owned(),
                reason: "the object has been modified; please apply your changes to the latest version and try again"
                    .to_owned(),
            });
        }
        Ok((key, live))
    }

    pub(super) fn namespace_for(&self, resource: &Resource, value: &Value) -> Result<String, ObjectError> {
        if !resource.namespaced {
            return Ok(String::new());
        }
        let name = value["metadata"]["name"].as_str().unwrap_or_default();
        let Some(namespace) = value["metadata"]["namespace"]
            .as_str()
            .filter(|it| !it.is_empty())
        else {
            return Err(ObjectError::invalid(
                resource,
                name,
                "metadata.namespace",
                "Required value",
            ));
        };
        let Some(home) = self.objects.get(&key(&resource::NAMESPACES, "", namespace)) else {
            return Err(ObjectError::NotFound {
                resource: "namespaces".into(),
                name: namespace.to_owned(),
            });
        };
        if is_deleting(home) {
            return Err(ObjectError::NamespaceTerminating {
                resource: resource.qualified(),
                name: name.to_owned(),
                namespace: namespace.to_owned(),
            });
        }
        Ok(namespace.to_owned())
    }

    pub(super) fn name_for(&mut self, resource: &Resource, value: &Value) -> Result<String, ObjectError> {
        if let Some(name) = value["metadata"]["name"].as_str().filter(|name| !name.is_empty()) {
            return Ok(name.to_owned());
        }
        let Some(prefix) = value["metadata"]["generateName"]
            .as_str()
            .filter(|name| !name.is_empty())
        else {
            return Err(ObjectError::invalid(
                resource,
                "",
                "metadata.name",
                "Required value: name or generateName is required",
            ));
        };
        self.named += 1;
        Ok(format!("{prefix}{}", suffix(self.named)))
    }

    pub(super) fn put(
        &mut self,
        resource: &Resource,
        key: Key,
        mut value: Value,
        kind: WatchKind,
    ) -> Arc<Value> {
        self.version += 1;
        value["metadata"]["resourceVersion"] = self.version.to_string().into();
        let stored = Arc::new(value);
        let previous = self.objects.insert(key, Arc::clone(&stored));
        self.record(resource, kind, &stored, previous);
        stored
    }

    pub(super) fn remove(&mut self, resource: &Resource, key: &Key, mut value: Value) -> Arc<Value> {
        self.version += 1;
        value["metadata"]["resourceVersion"] = self.version.to_string().into();
        let removed = Arc::new(value);
        let previous = self.objects.remove(key);
        self.record(resource, WatchKind::Deleted, &removed, previous);
        removed
    }

    pub(super) fn record(
        &mut self,
        resource: &Resource,
        kind: WatchKind,
        object: &Arc<Value>,
        previous: Option<Arc<Value>>,
    ) {
        if resource == &resource::CUSTOM_RESOURCE_DEFINITIONS {
            self.rebuild_dynamic();
        }
        self.history.push(WatchEvent {
            rv: self.version,
            kind,
            resource: Arc::new(resource.clone()),
            object: Arc::clone(object),
            previous,
        });
    }

    pub(super) fn rebuild_dynamic(&mut self) {
        let definitions = resource::CUSTOM_RESOURCE_DEFINITIONS.qualified();
        self.dynamic = self
            .objects
            .iter()
            .filter(|((kind, _, _), _)| *kind == definitions)
            .flat_map(|(_, definition)| Resource::of_definition(definition))
            .filter(|added| {
                !RESOURCES
                    .iter()
                    .any(|fixed| fixed.group == added.group && fixed.plural == added.plural)
            })
            .map(Arc::new)
            .collect();
    }
}

pub(super) fn key(resource: &Resource, namespace: &str, name: &str) -> Key {
    let namespace = if resource.namespaced { namespace } else { "" };
    (resource.qualified(), namespace.to_owned(), name.to_owned())
}

/// Five letters of the alphabet that Kubernetes takes for generated names, spread by a hash.
fn suffix(number: u64) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let digest = Sha256::digest(number.to_be_bytes());
    digest
        .iter()
        .take(5)
        .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]))
        .collect()
}
