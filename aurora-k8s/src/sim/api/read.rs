//! Reads: one object, lists and their pages; deletions, which start from what a read finds.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::admission;
use super::error::ApiError;
use super::request::{Form, ObjectPath, Query};
use super::selector::Selector;
use super::table::{Include, partial, table};
use crate::sim::{Delete, Objects, Propagation, Resource, WatchKind};

/// One request to read or delete objects of a kind.
#[derive(Debug)]
pub(crate) struct Read<'a> {
    pub(crate) objects: &'a Objects,
    pub(crate) resource: &'a Resource,
    pub(crate) path: &'a ObjectPath,
    pub(crate) query: &'a Query,
    pub(crate) form: Form,
}

/// What a deletion left behind.
#[derive(Clone, Debug)]
pub(crate) struct Removed {
    pub(crate) answer: Value,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
}

/// Where the next page of a list begins.
#[derive(Debug)]
struct Page {
    version: u64,
    after: String,
}

impl Read<'_> {
    pub(crate) fn get(&self) -> Result<Value, ApiError> {
        let object = self.live()?;
        Ok(match self.form {
            Form::Objects => (*object).clone(),
            Form::Metadata => partial(&object),
            Form::Table => self.table(&[object], json!({}))?,
        })
    }

    pub(crate) fn list(&self) -> Result<Value, ApiError> {
        let selector = Selector::parse(self.query, &self.resource.kind)?;
        let page = self.query.text("continue").map(Page::decode).transpose()?;
        let (items, version) = self.items(page.as_ref())?;
        let mut items: Vec<Arc<Value>> = items.into_iter().filter(|item| selector.matches(item)).collect();
        if let Some(page) = &page {
            items.retain(|item| place(item) > page.after);
        }
        let mut metadata = json!({"resourceVersion": version.to_string()});
        let limit = self.query.number("limit")?.filter(|limit| *limit > 0);
        if let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok())
            && items.len() > limit
        {
            let remaining = items.len() - limit;
            items.truncate(limit);
            if let Some(last) = items.last() {
                metadata["continue"] = Page {
                    version,
                    after: place(last),
                }
                .encode()
                .into();
            }
            if selector.is_empty() {
                metadata["remainingItemCount"] = remaining.into();
            }
        }
        self.shown(&items, metadata)
    }

    pub(crate) fn delete(&self, options: &Value) -> Result<Removed, ApiError> {
        let how = self.how(options)?;
        let live = self.live()?;
        let name = self.name();
        if let Some(version) = how.resource_version
            && live["metadata"]["resourceVersion"].as_str() != Some(version.to_string().as_str())
        {
            let held = live["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            let reason = format!(
                "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {held}"
            );
            return Err(ApiError::conflict(self.resource, name, &reason));
        }
        let left = self.objects.delete(self.resource, self.namespace(), name, &how)?;
        let before = live["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        let stays = self.objects.get(self.resource, self.namespace(), name).is_some();
        let (answer, after) = if stays {
            (
                (*left).clone(),
                left["metadata"]["resourceVersion"].as_str().map(str::to_owned),
            )
        } else {
            (self.gone(&live), None)
        };
        let after = if self.query.is_dry_run()? {
            before.clone()
        } else {
            after
        };
        Ok(Removed {
            answer,
            before,
            after,
        })
    }

    /// Deletes everything that the selectors choose and answers it as a list.
    pub(crate) fn delete_collection(&self, options: &Value) -> Result<Value, ApiError> {
        let selector = Selector::parse(self.query, &self.resource.kind)?;
        let how = self.how(options)?;
        let (items, version) = self.items(None)?;
        let mut deleted = Vec::new();
        for item in items.into_iter().filter(|item| selector.matches(item)) {
            let metadata = &item["metadata"];
            let namespace = metadata["namespace"].as_str().unwrap_or_default();
            let name = metadata["name"].as_str().unwrap_or_default();
            // Somebody else may have been faster.
            if let Ok(left) = self.objects.delete(self.resource, namespace, name, &how) {
                deleted.push(left);
            }
        }
        self.shown(&deleted, json!({"resourceVersion": version.to_string()}))
    }

    fn shown(&self, items: &[Arc<Value>], metadata: Value) -> Result<Value, ApiError> {
        let typed = admission::is_custom(self.resource);
        Ok(match self.form {
            Form::Table => self.table(items, metadata)?,
            Form::Metadata => json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": items.iter().map(|item| partial(item)).collect::<Vec<Value>>(),
            }),
            Form::Objects => json!({
                "kind": format!("{}List", self.resource.kind),
                "apiVersion": self.resource.api_version(),
                "metadata": metadata,
                "items": items.iter().map(|item| list_item(item, typed)).collect::<Vec<Value>>(),
            }),
        })
    }

    fn table(&self, items: &[Arc<Value>], metadata: Value) -> Result<Value, ApiError> {
        let items: Vec<&Value> = items.iter().map(Arc::as_ref).collect();
        let include = Include::parse(self.query)?;
        Ok(table(
            self.resource,
            &items,
            metadata,
            include,
            self.objects.now(),
        ))
    }

    /// The objects of the path, as of now or as of the version that was asked for.
    fn items(&self, page: Option<&Page>) -> Result<(Vec<Arc<Value>>, u64), ApiError> {
        let list = self.objects.list(self.resource, self.path.namespace.as_deref());
        if let Some(page) = page {
            let items = self
                .rewound(list.items, page.version)
                .ok_or_else(ApiError::expired_continue)?;
            return Ok((items, page.version));
        }
        let Some(text) = self.query.text("resourceVersion").filter(|text| *text != "0") else {
            return Ok((list.items, list.resource_version));
        };
        let wanted: u64 = text.parse().map_err(|_| {
            ApiError::bad_request(format!(
                "resourceVersion: Invalid value: \"{text}\": must be a number"
            ))
        })?;
        if wanted > list.resource_version {
            return Err(ApiError::too_large_version(wanted, list.resource_version));
        }
        if self.query.text("resourceVersionMatch") == Some("Exact") {
            let items = self
                .rewound(list.items, wanted)
                .ok_or_else(ApiError::expired_continue)?;
            return Ok((items, wanted));
        }
        Ok((list.items, list.resource_version))
    }

    /// Undoes the writes after `version`; none when they are forgotten.
    fn rewound(&self, items: Vec<Arc<Value>>, version: u64) -> Option<Vec<Arc<Value>>> {
        let mut by_place: std::collections::BTreeMap<String, Arc<Value>> =
            items.into_iter().map(|item| (place(&item), item)).collect();
        for event in self.objects.events_since(version).ok()?.into_iter().rev() {
            let namespace = event.object["metadata"]["namespace"].as_str();
            let elsewhere = self.path.namespace.is_some() && namespace != self.path.namespace.as_deref();
            if event.resource.qualified() != self.resource.qualified() || elsewhere {
                continue;
            }
            match (event.kind, event.previous) {
                (WatchKind::Added, _) | (_, None) => by_place.remove(&place(&event.object)),
                (_, Some(previous)) => by_place.insert(place(&previous), previous),
            };
        }
        Some(by_place.into_values().collect())
    }

    fn how(&self, options: &Value) -> Result<Delete, ApiError> {
        let text = |field: &str| {
            options[field]
                .as_str()
                .or_else(|| self.query.text(field))
                .map(str::to_owned)
        };
        let propagation = match text("propagationPolicy").as_deref() {
            None if options["orphanDependents"] == true => Propagation::Orphan,
            None | Some("Background") => Propagation::Background,
            Some("Foreground") => Propagation::Foreground,
            Some("Orphan") => Propagation::Orphan,
            Some(other) => {
                return Err(ApiError::bad_request(format!(
                    "propagationPolicy: Unsupported value: \"{other}\": supported values: \"Foreground\", \
                     \"Background\", \"Orphan\""
                )));
            }
        };
        let preconditions = &options["preconditions"];
        let resource_version = preconditions["resourceVersion"]
            .as_str()
            .map(|text| {
                text.parse().map_err(|_| {
                    ApiError::bad_request(format!(
                        "preconditions.resourceVersion: Invalid value: \"{text}\""
                    ))
                })
            })
            .transpose()?;
        let grace = options["gracePeriodSeconds"].as_u64();
        Ok(Delete {
            uid: preconditions["uid"].as_str().map(str::to_owned),
            resource_version,
            propagation,
            grace_seconds: grace
                .map_or_else(|| self.query.number("gracePeriodSeconds"), |it| Ok(Some(it)))?,
        })
    }

    fn gone(&self, live: &Value) -> Value {
        let mut details = json!({
            "name": self.name(),
            "kind": self.resource.plural,
            "uid": live["metadata"]["uid"],
        });
        if !self.resource.group.is_empty() {
            details["group"] = self.resource.group.as_ref().into();
        }
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details,
        })
    }

    fn live(&self) -> Result<Arc<Value>, ApiError> {
        self.objects
            .get(self.resource, self.namespace(), self.name())
            .ok_or_else(|| ApiError::not_found(self.resource, self.name()))
    }

    fn name(&self) -> &str {
        self.path.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.path.namespace.as_deref().unwrap_or_default()
    }
}

impl Page {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}:{}", self.version, self.after))
    }

    fn decode(text: &str) -> Result<Self, ApiError> {
        let page = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| {
            let text = String::from_utf8(bytes).ok()?;
            let (version, after) = text.split_once(':')?;
            Some(Self {
                version: version.parse().ok()?,
                after: after.to_owned(),
            })
        });
        page.ok_or_else(|| ApiError::bad_request("continue key is not valid: it was not made by this server"))
    }
}

/// Namespace and name in the order of lists.
fn place(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    format!("{}\u{0}{}", text("namespace"), text("name"))
}

/// Lists of built-in kinds do not repeat the kind with each item.
fn list_item(item: &Value, typed: bool) -> Value {
    let mut item = item.clone();
    if !typed && let Some(map) = item.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
    item
}
