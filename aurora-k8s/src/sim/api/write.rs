//! Writes: create, update, the four kinds of patches, scale.

use std::sync::Arc;

use http::{HeaderMap, header};
use serde_json::{Map, Value, json};

use super::admission;
use super::error::ApiError;
use super::patches::{json_patch, strategic};
use super::request::{ObjectPath, PatchKind, Query, header_text};
use crate::sim::fields::{Manager, Ty, prune_unknown, record_update};
use crate::sim::patch::merge;
use crate::sim::{Objects, Resource};

/// How often a write that lost against another one is tried again before the client is told.
const ATTEMPTS: usize = 32;

/// One request to write an object.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    pub(crate) objects: &'a Objects,
    pub(crate) resource: &'a Resource,
    pub(crate) path: &'a ObjectPath,
    pub(crate) query: &'a Query,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// What a write left behind.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) code: u16,
    /// The answer to the client.
    pub(crate) object: Value,
    /// Versions of the object before and after; none where it is not there.
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    pub(crate) warnings: Vec<String>,
}

/// What is done with fields that the schema does not have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Unknown {
    Ignore,
    Refuse,
    Warn,
}

impl Write<'_> {
    /// `POST` to a collection.
    pub(crate) fn create(&self) -> Result<Written, ApiError> {
        let mut object = self.object()?;
        if !object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .is_empty()
        {
            return Err(ApiError::scripted(
                500,
                "resourceVersion should not be set on objects to be created",
                None,
            ));
        }
        let mut warnings = Vec::new();
        self.strict(&mut object, &mut warnings, |fields| {
            ApiError::bad_request(format!("strict decoding error: {fields}"))
        })?;
        let created = self.store_new(object, |object| {
            record_update(
                None,
                object,
                self.ty(),
                &self.updater(""),
                self.splits(),
                self.objects.now(),
            );
        })?;
        self.written(201, None, &created, warnings)
    }

    /// `PUT` of an object or of its status.
    pub(crate) fn update(&self) -> Result<Written, ApiError> {
        let mut object = self.object()?;
        let name = self.name();
        if object["metadata"]["name"] != name {
            let sent = object["metadata"]["name"].as_str().unwrap_or_default();
            return Err(ApiError::bad_request(format!(
                "the name of the object ({sent}) does not match the name on the URL ({name})"
            )));
        }
        let mut warnings = Vec::new();
        self.strict(&mut object, &mut warnings, |fields| {
            ApiError::bad_request(format!("strict decoding error: {fields}"))
        })?;
        // Without a version in the body a race is ours to repeat.
        self.repeat(|| {
            let live = self.live()?;
            let metadata = &object["metadata"];
            if let Some(uid) = metadata["uid"]
                .as_str()
                .filter(|uid| live["metadata"]["uid"] != *uid)
            {
                let held = live["metadata"]["uid"].as_str().unwrap_or_default();
                let reason =
                    format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {held}");
                return Err(ApiError::conflict(self.resource, name, &reason));
            }
            let expected = match metadata["resourceVersion"]
                .as_str()
                .filter(|text| !text.is_empty())
            {
                Some(text) => Some(self.version(text)?),
                None if admission::is_custom(self.resource) => {
                    let problem = "Invalid value: 0x0: must be specified for an update".to_owned();
                    let problems = [("metadata.resourceVersion".to_owned(), problem)];
                    return Err(ApiError::invalid(self.resource, name, &problems));
                }
                None => None,
            };
            if expected.is_some_and(|expected| version_of(&live) != Some(expected)) {
                return Err(ApiError::modified(self.resource, name));
            }
            let mut object = object.clone();
            admission::keep_assigned(self.resource, &live, &mut object);
            let stored = self.store(&live, object, |object| self.record(&live, object))?;
            self.written(200, Some(&live), &stored, warnings.clone())
        })
    }

    /// `PATCH` of an object or of its status.
    pub(crate) fn patch(&self) -> Result<Written, ApiError> {
        let kind = PatchKind::of(self.headers)?;
        if kind == PatchKind::Apply {
            return self.apply();
        }
        if kind == PatchKind::Strategic && admission::is_custom(self.resource) {
            return Err(ApiError::unsupported_media_type(
                "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            ));
        }
        let patch: Value = serde_json::from_slice(self.body)
            .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
        self.repeat(|| {
            let live = self.live()?;
            let mut next = self.patched(kind, &live, &patch, self.ty())?;
            let mut warnings = Vec::new();
            self.strict(&mut next, &mut warnings, |fields| {
                let problems = [(
                    "patch".to_owned(),
                    format!("Invalid value: strict decoding error: {fields}"),
                )];
                ApiError::invalid(self.resource, self.name(), &problems)
            })?;
            self.same_object(&live, &mut next)?;
            let stored = self.store(&live, next, |object| self.record(&live, object))?;
            self.written(200, Some(&live), &stored, warnings)
        })
    }

    /// `PUT` or `PATCH` of the scale.
    pub(crate) fn scale(&self, patch: bool) -> Result<Written, ApiError> {
        self.repeat(|| {
            let live = self.live()?;
            let held = scale_of(self.resource, &live);
            let next = if patch {
                let kind = match PatchKind::of(self.headers)? {
                    PatchKind::Apply => PatchKind::Merge,
                    other => other,
                };
                let body: Value = serde_json::from_slice(self.body)
                    .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
                self.patched(kind, &held, &body, Ty::of_kind("autoscaling", "Scale"))?
            } else {
                self.parsed()?
            };
            let sent = &next["metadata"]["resourceVersion"];
            if !sent.is_null() && *sent != live["metadata"]["resourceVersion"] {
                return Err(ApiError::modified(self.resource, self.name()));
            }
            let mut object = (*live).clone();
            let replicas = next["spec"]["replicas"].as_i64().unwrap_or(0);
            let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
                return Err(ApiError::rejected());
            };
            spec.insert("replicas".to_owned(), replicas.into());
            let stored = self.store_main(&live, object, |object| {
                let manager = self.updater("scale");
                record_update(
                    Some(&live),
                    object,
                    self.ty(),
                    &manager,
                    self.splits(),
                    self.objects.now(),
                );
            })?;
            let mut written = self.written(200, Some(&live), &stored, Vec::new())?;
            written.object = scale_of(self.resource, &written.object);
            Ok(written)
        })
    }

    fn patched(&self, kind: PatchKind, live: &Value, patch: &Value, ty: Ty) -> Result<Value, ApiError> {
        let next = match kind {
            PatchKind::Json => json_patch(live, patch).ok_or_else(ApiError::rejected)?,
            PatchKind::Strategic | PatchKind::Merge | PatchKind::Apply if !patch.is_object() => {
                return Err(ApiError::bad_request("the patch must be an object"));
            }
            PatchKind::Strategic => strategic(live, patch, ty),
            PatchKind::Merge | PatchKind::Apply => {
                let mut next = live.clone();
                merge(&mut next, patch);
                next
            }
        };
        // A patch can replace anything, but not make something else of an object.
        if next["metadata"].is_object() {
            Ok(next)
        } else {
            Err(ApiError::rejected())
        }
    }

    /// Holds a patched object to the identity of the live one.
    fn same_object(&self, live: &Value, next: &mut Value) -> Result<(), ApiError> {
        let (sent, held) = (next["metadata"].clone(), &live["metadata"]);
        if sent["resourceVersion"] != held["resourceVersion"] && !sent["resourceVersion"].is_null() {
            return Err(ApiError::modified(self.resource, self.name()));
        }
        let main = self.path.subresource.is_none();
        for field in ["uid", "name", "namespace"] {
            if sent[field] == held[field] {
                continue;
            }
            if main && !sent[field].is_null() {
                let problem = format!("Invalid value: {}: field is immutable", sent[field]);
                let problems = [(format!("metadata.{field}"), problem)];
                return Err(ApiError::invalid(self.resource, self.name(), &problems));
            }
            next["metadata"][field] = held[field].clone();
        }
        Ok(())
    }

    fn record(&self, live: &Value, object: &mut Value) {
        let manager = self.updater(self.path.subresource.as_deref().unwrap_or_default());
        record_update(
            Some(live),
            object,
            self.ty(),
            &manager,
            self.splits(),
            self.objects.now(),
        );
    }

    pub(super) fn store_new(
        &self,
        mut object: Value,
        record: impl FnOnce(&mut Value),
    ) -> Result<Arc<Value>, ApiError> {
        if self.splits()
            && let Some(map) = object.as_object_mut()
        {
            map.remove("status");
        }
        admission::default(self.resource, &mut object);
        admission::drop_nulls(self.resource, &mut object);
        admission::validate(self.resource, None, &object, self.ty())?;
        record(&mut object);
        Ok(self.objects.create(self.resource, object)?)
    }

    pub(super) fn store(
        &self,
        live: &Arc<Value>,
        next: Value,
        record: impl FnOnce(&mut Value),
    ) -> Result<Arc<Value>, ApiError> {
        match self.path.subresource.as_deref() {
            None => self.store_main(live, next, record),
            Some("status") => {
                let mut object = (**live).clone();
                object["status"] = next["status"].clone();
                // An apply has settled the owners already.
                object["metadata"]["managedFields"] = next["metadata"]["managedFields"].clone();
                admission::drop_nulls(self.resource, &mut object);
                admission::validate_status(self.resource, &object, self.ty())?;
                record(&mut object);
                if object["metadata"]["managedFields"].is_null()
                    && let Some(metadata) = object["metadata"].as_object_mut()
                {
                    metadata.remove("managedFields");
                }
                let expected = version_of(live);
                Ok(self.objects.update_status(
                    self.resource,
                    self.namespace(),
                    self.name(),
                    expected,
                    &object,
                )?)
            }
            Some(_) => Err(ApiError::no_such_subresource()),
        }
    }

    fn store_main(
        &self,
        live: &Arc<Value>,
        mut next: Value,
        record: impl FnOnce(&mut Value),
    ) -> Result<Arc<Value>, ApiError> {
        if self.splits()
            && let Some(map) = next.as_object_mut()
        {
            match live.get("status") {
                Some(status) => map.insert("status".to_owned(), status.clone()),
                None => map.remove("status"),
            };
        }
        admission::default(self.resource, &mut next);
        admission::drop_nulls(self.resource, &mut next);
        admission::validate(self.resource, Some(live), &next, self.ty())?;
        record(&mut next);
        let expected = version_of(live);
        Ok(self
            .objects
            .update(self.resource, self.namespace(), self.name(), expected, next)?)
    }

    /// Repeats what lost against another writer; a client that named a version is told instead.
    pub(super) fn repeat(
        &self,
        mut attempt: impl FnMut() -> Result<Written, ApiError>,
    ) -> Result<Written, ApiError> {
        let mut result = attempt();
        for _ in 1..ATTEMPTS {
            match &result {
                Err(error) if error.lost_a_race() => result = attempt(),
                _ => break,
            }
        }
        result
    }

    pub(super) fn written(
        &self,
        code: u16,
        live: Option<&Arc<Value>>,
        stored: &Arc<Value>,
        warnings: Vec<String>,
    ) -> Result<Written, ApiError> {
        let mut object = (**stored).clone();
        let before = live
            .and_then(|live| live["metadata"]["resourceVersion"].as_str())
            .map(str::to_owned);
        let mut after = object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        if self.query.is_dry_run()? {
            // Nothing was stored: the object keeps the version it has, a new one has none.
            after = before.clone();
            match &before {
                Some(version) => object["metadata"]["resourceVersion"] = version.as_str().into(),
                None => {
                    if let Some(metadata) = object["metadata"].as_object_mut() {
                        metadata.remove("resourceVersion");
                    }
                }
            }
        }
        Ok(Written {
            code,
            object,
            before,
            after,
            warnings,
        })
    }

    fn strict(
        &self,
        object: &mut Value,
        warnings: &mut Vec<String>,
        refuse: impl FnOnce(String) -> ApiError,
    ) -> Result<(), ApiError> {
        let unknown: Vec<String> = prune_unknown(object, self.ty())
            .into_iter()
            .map(|field| format!("unknown field \"{field}\""))
            .collect();
        match self.unknown()? {
            Unknown::Refuse if !unknown.is_empty() => return Err(refuse(unknown.join(", "))),
            Unknown::Warn => warnings.extend(unknown),
            Unknown::Ignore | Unknown::Refuse => {}
        }
        Ok(())
    }

    fn unknown(&self) -> Result<Unknown, ApiError> {
        match self.query.text("fieldValidation") {
            Some("Ignore") => Ok(Unknown::Ignore),
            Some("Strict") => Ok(Unknown::Refuse),
            Some("Warn") | None => Ok(Unknown::Warn),
            Some(other) => Err(ApiError::bad_request(format!(
                "fieldValidation: Unsupported value: \"{other}\": supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))),
        }
    }

    /// The body as an object of the kind and namespace of the path.
    pub(super) fn object(&self) -> Result<Value, ApiError> {
        let mut object = self.parsed()?;
        let wanted = self.resource.api_version();
        match object["apiVersion"].as_str() {
            Some(sent) if sent != wanted => {
                return Err(ApiError::bad_request(format!(
                    "the API version in the data ({sent}) does not match the expected API version ({wanted})"
                )));
            }
            _ => object["apiVersion"] = wanted.into(),
        }
        match object["kind"].as_str() {
            Some(sent) if sent != self.resource.kind => {
                return Err(ApiError::bad_request(format!(
                    "{sent} in version \"{}\" cannot be handled as a {}",
                    self.resource.version, self.resource.kind
                )));
            }
            _ => object["kind"] = self.resource.kind.as_ref().into(),
        }
        if object["metadata"].is_null() {
            object["metadata"] = Value::Object(Map::new());
        }
        if !object["metadata"].is_object() {
            return Err(ApiError::bad_request("metadata must be an object"));
        }
        if self.resource.namespaced {
            let namespace = self.namespace();
            match object["metadata"]["namespace"].as_str() {
                Some(sent) if sent != namespace => {
                    return Err(ApiError::bad_request(
                        "the namespace of the provided object does not match the namespace sent on the request",
                    ));
                }
                _ => object["metadata"]["namespace"] = namespace.into(),
            }
        }
        Ok(object)
    }

    fn parsed(&self) -> Result<Value, ApiError> {
        let kind = header_text(self.headers, header::CONTENT_TYPE);
        if kind.contains("protobuf") || kind.contains("cbor") {
            return Err(ApiError::unsupported_media_type(
                "application/json, application/yaml",
            ));
        }
        let body = serde_json::from_slice(self.body).or_else(|error| {
            if header_text(self.headers, header::CONTENT_TYPE).contains("yaml") {
                let text = std::str::from_utf8(self.body).unwrap_or_default();
                serde_saphyr::from_str(text).map_err(|error| error.to_string())
            } else {
                Err(error.to_string())
            }
        });
        match body {
            Ok(object @ Value::Object(_)) => Ok(object),
            Ok(_) => Err(ApiError::bad_request("the body of the request is not an object")),
            Err(error) => Err(ApiError::bad_request(format!("error decoding the body: {error}"))),
        }
    }

    fn live(&self) -> Result<Arc<Value>, ApiError> {
        self.objects
            .get(self.resource, self.namespace(), self.name())
            .ok_or_else(|| ApiError::not_found(self.resource, self.name()))
    }

    fn version(&self, text: &str) -> Result<u64, ApiError> {
        text.parse().map_err(|_| {
            let problem = format!("Invalid value: \"{text}\": must be a number");
            let problems = [("metadata.resourceVersion".to_owned(), problem)];
            ApiError::invalid(self.resource, self.name(), &problems)
        })
    }

    fn updater(&self, subresource: &str) -> Manager {
        let name = self.query.field_manager(self.headers);
        Manager::updater(&name, &self.resource.api_version(), subresource)
    }

    pub(super) fn ty(&self) -> Ty {
        Ty::of_kind(&self.resource.group, &self.resource.kind)
    }

    pub(super) fn splits(&self) -> bool {
        self.resource.has_status
    }

    pub(super) fn name(&self) -> &str {
        self.path.name.as_deref().unwrap_or_default()
    }

    pub(super) fn namespace(&self) -> &str {
        self.path.namespace.as_deref().unwrap_or_default()
    }
}

/// The scale of an object.
pub(crate) fn scale_of(resource: &Resource, object: &Value) -> Value {
    let rollout = resource.kind == "Rollout";
    let replicas = if rollout { "HPAReplicas" } else { "replicas" };
    let selector = if rollout {
        object["status"]["selector"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    } else {
        let labels = object["spec"]["selector"]["matchLabels"].as_object();
        let terms: Vec<String> = labels
            .into_iter()
            .flatten()
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
            .collect();
        terms.join(",")
    };
    let metadata: Map<String, Value> = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"]
        .into_iter()
        .filter_map(|field| Some((field.to_owned(), object["metadata"].get(field)?.clone())))
        .collect();
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": object["spec"]["replicas"].as_i64().unwrap_or(0)},
        "status": {"replicas": object["status"][replicas].as_i64().unwrap_or(0), "selector": selector},
    })
}

fn version_of(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}
