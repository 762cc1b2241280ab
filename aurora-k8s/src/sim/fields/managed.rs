//! `metadata.managedFields`: who owns which fields of an object.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::set::FieldSet;

/// How an owner wrote its fields.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Operation {
    /// Server-side apply.
    Apply,
    /// Any other write.
    Update,
}

/// Whose fields an entry of `managedFields` lists.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Manager {
    pub(crate) operation: Operation,
    pub(crate) name: String,
    /// Part of the identity for updates only.
    pub(crate) api_version: String,
    /// Empty for writes of the object itself.
    pub(crate) subresource: String,
}

impl Manager {
    pub(crate) fn applier(name: &str, api_version: &str, subresource: &str) -> Self {
        Self {
            operation: Operation::Apply,
            name: name.to_owned(),
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }

    pub(crate) fn updater(name: &str, api_version: &str, subresource: &str) -> Self {
        Self {
            operation: Operation::Update,
            ..Self::applier(name, api_version, subresource)
        }
    }
}

impl fmt::Display for Manager {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", Value::from(self.name.as_str()))?;
        if !self.subresource.is_empty() {
            write!(
                out,
                " with subresource {}",
                Value::from(self.subresource.as_str())
            )?;
        }
        if self.operation == Operation::Update {
            write!(out, " using {}", self.api_version)?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Owned {
    pub(crate) fields: FieldSet,
    pub(crate) time: String,
}

/// All owners of one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Managers {
    owners: BTreeMap<Manager, Owned>,
}

impl Managers {
    /// Reads the entries of an object; what cannot be read is left out.
    pub(crate) fn of(object: &Value) -> Self {
        let entries = object["metadata"]["managedFields"].as_array();
        let mut owners = BTreeMap::new();
        for entry in entries.into_iter().flatten() {
            let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
            let operation = match entry["operation"].as_str() {
                Some("Apply") => Operation::Apply,
                Some("Update") => Operation::Update,
                _ => continue,
            };
            let manager = Manager {
                operation,
                name: text("manager"),
                api_version: text("apiVersion"),
                subresource: text("subresource"),
            };
            let owned = Owned {
                fields: FieldSet::decode(&entry["fieldsV1"]),
                time: text("time"),
            };
            owners.insert(manager, owned);
        }
        Self { owners }
    }

    /// Writes the entries into an object; without any owner the field is absent.
    pub(crate) fn write_to(&self, object: &mut Value) {
        let mut entries: Vec<(&Manager, &Owned)> = self.owners.iter().collect();
        entries.sort_by_key(|(manager, owned)| (manager.operation, owned.time.clone()));
        let entries: Vec<Value> = entries
            .into_iter()
            .map(|(manager, owned)| {
                let mut entry = json!({
                    "apiVersion": manager.api_version,
                    "fieldsType": "FieldsV1",
                    "fieldsV1": owned.fields.encode(),
                    "manager": manager.name,
                    "operation": format!("{:?}", manager.operation),
                    "time": owned.time,
                });
                if !manager.subresource.is_empty() {
                    entry["subresource"] = manager.subresource.clone().into();
                }
                entry
            })
            .collect();
        if entries.is_empty() {
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("managedFields");
            }
        } else {
            object["metadata"]["managedFields"] = entries.into();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    pub(crate) fn owners(&self) -> impl Iterator<Item = (&Manager, &Owned)> {
        self.owners.iter()
    }

    /// The entry of `manager`; an applier is the same under every apiVersion.
    pub(crate) fn owned_by(&self, manager: &Manager) -> Option<(&Manager, &Owned)> {
        self.owners.iter().find(|(held, _)| same(held, manager))
    }

    /// Gives `manager` exactly these fields; the time moves only when they change.
    pub(crate) fn set(&mut self, manager: Manager, fields: FieldSet, now: Timestamp) {
        let held = self
            .owned_by(&manager)
            .map(|(held, owned)| (held.clone(), owned.clone()));
        let mut time = seconds(now);
        if let Some((held, owned)) = held {
            if owned.fields == fields && held == manager {
                time = owned.time;
            }
            self.owners.remove(&held);
        }
        if !fields.is_empty() {
            self.owners.insert(manager, Owned { fields, time });
        }
    }

    /// Changes the fields of everybody but `manager`; owners without fields are dropped.
    pub(crate) fn change_others(&mut self, manager: &Manager, change: impl Fn(&FieldSet) -> FieldSet) {
        for (held, owned) in &mut self.owners {
            if !same(held, manager) {
                owned.fields = change(&owned.fields);
            }
        }
        self.owners.retain(|_, owned| !owned.fields.is_empty());
    }
}

fn same(left: &Manager, right: &Manager) -> bool {
    left.name == right.name
        && left.operation == right.operation
        && left.subresource == right.subresource
        && (left.operation == Operation::Apply || left.api_version == right.api_version)
}

fn seconds(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}
