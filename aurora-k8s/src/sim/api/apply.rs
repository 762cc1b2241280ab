//! Server-side apply over HTTP: preconditions of the body, creation, merging.

use std::sync::Arc;

use serde_json::Value;

use super::error::ApiError;
use super::write::{Write, Written};
use crate::sim::fields::{ApplyError, Manager, apply};

impl Write<'_> {
    /// `PATCH` with the whole wanted object.
    pub(super) fn apply(&self) -> Result<Written, ApiError> {
        let Some(manager) = self.query.text("fieldManager") else {
            return Err(ApiError::no_field_manager());
        };
        let subresource = self.path.subresource.as_deref().unwrap_or_default();
        let manager = Manager::applier(manager, &self.resource.api_version(), subresource);
        let mut config = self.object()?;
        let (name, metadata) = (self.name(), &config["metadata"]);
        if metadata.get("managedFields").is_some_and(|it| !it.is_null()) {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        match metadata["name"].as_str() {
            Some(sent) if sent != name => {
                return Err(ApiError::bad_request(format!(
                    "the name of the object ({sent}) does not match the name on the URL ({name})"
                )));
            }
            Some(_) => {}
            None => config["metadata"]["name"] = name.into(),
        }
        let force = self.query.flag("force");
        self.repeat(|| match self.objects.get(self.resource, self.namespace(), name) {
            None if subresource.is_empty() => self.apply_new(&config, &manager, force),
            None => Err(ApiError::not_found(self.resource, name)),
            Some(live) => self.apply_over(&live, &config, &manager, force),
        })
    }

    fn apply_new(&self, config: &Value, manager: &Manager, force: bool) -> Result<Written, ApiError> {
        let metadata = &config["metadata"];
        if let Some(uid) = metadata["uid"].as_str().filter(|uid| !uid.is_empty()) {
            let reason = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(ApiError::conflict(self.resource, self.name(), &reason));
        }
        if metadata["resourceVersion"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
        {
            return Err(ApiError::modified(self.resource, self.name()));
        }
        let applied = self.applied(None, config, manager, force)?;
        let created = self.store_new(applied, |_| {})?;
        self.written(201, None, &created, Vec::new())
    }

    fn apply_over(
        &self,
        live: &Arc<Value>,
        config: &Value,
        manager: &Manager,
        force: bool,
    ) -> Result<Written, ApiError> {
        let (sent, held) = (&config["metadata"], &live["metadata"]);
        if let Some(uid) = sent["uid"].as_str().filter(|uid| held["uid"] != *uid) {
            let problem = format!("Invalid value: \"{uid}\": field is immutable");
            let problems = [("metadata.uid".to_owned(), problem)];
            return Err(ApiError::invalid(self.resource, self.name(), &problems));
        }
        let version = sent["resourceVersion"].as_str().filter(|text| !text.is_empty());
        if version.is_some_and(|version| held["resourceVersion"] != version) {
            return Err(ApiError::modified(self.resource, self.name()));
        }
        let next = self.applied(Some(live), config, manager, force)?;
        let stored = self.store(live, next, |_| {})?;
        self.written(200, Some(live), &stored, Vec::new())
    }

    fn applied(
        &self,
        live: Option<&Value>,
        config: &Value,
        manager: &Manager,
        force: bool,
    ) -> Result<Value, ApiError> {
        apply(
            live,
            config,
            self.ty(),
            manager,
            self.splits(),
            force,
            self.objects.now(),
        )
        .map_err(|error| match error {
            ApplyError::Untyped(problem) => {
                ApiError::untyped(self.namespace(), self.name(), self.resource, &problem)
            }
            ApplyError::Conflicts(conflicts) => {
                let conflicts: Vec<(String, String)> =
                    conflicts.into_iter().map(|it| (it.manager, it.field)).collect();
                ApiError::apply_conflict(&conflicts)
            }
        })
    }
}
