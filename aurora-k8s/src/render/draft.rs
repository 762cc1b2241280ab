//! An object on its way from a manifest to a plan.

use aurora_core::manifest::{ObjectRef, Origin};
use aurora_core::plan::PlannedObject;
use serde_json::{Map, Value, json};

use super::node;
use super::report::Place;

/// An object and what has been found out about it.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) body: Value,
    pub(super) place: Place,
    pub(super) adopt: bool,
}

impl Draft {
    pub(super) fn object(&self) -> ObjectRef {
        ObjectRef::of(&self.body)
    }

    /// What a pointer names in the object.
    pub(super) fn at(&self, pointer: &str) -> Option<&Value> {
        node::at(&self.body, pointer)
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.place.origin
    }

    /// An annotation of the object itself.
    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.body.get("metadata")?.get("annotations")?.get(name)?.as_str()
    }

    /// The object's metadata, made where it is absent.
    pub(super) fn metadata(&mut self) -> &mut Map<String, Value> {
        map_at(&mut self.body, &["metadata"])
    }

    pub(super) fn into_planned(self) -> PlannedObject {
        PlannedObject {
            origin: self.place.origin,
            adopt: self.adopt,
            body: self.body,
        }
    }
}

/// The object some levels down; whatever is absent or no object is made one.
pub(super) fn map_at<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
    let mut value = value;
    for key in path {
        if !value.is_object() {
            *value = json!({});
        }
        value = &mut value[*key];
    }
    if !value.is_object() {
        *value = json!({});
    }
    value
        .as_object_mut()
        .expect("it is an object or was just made one")
}
