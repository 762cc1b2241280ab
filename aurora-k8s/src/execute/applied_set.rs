//! The applied set: the ConfigMap that says which objects are ours, and from which plan.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use aurora_core::command::{AppliedSetKey, Apply, Stamp};
use aurora_core::digest::Digest;
use aurora_core::manifest::ObjectRef;
use aurora_core::plan::{APPLICATION_LABEL, TARGET_LABEL};
use aurora_core::port::executor::ExecutorError;

use super::api::{Api, Patch};
use super::errors::{Problem, rejected};
use super::kinds;

/// The label by which applied sets are listed for people.
pub(crate) const LABEL: &str = "aurora.dev/applied-set";

/// The one key in the ConfigMap's data.
const DATA: &str = "appliedSet";

/// What the ConfigMap says.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AppliedSet {
    /// The format's version; 1.
    pub(crate) version: u32,
    pub(crate) tenant: String,
    pub(crate) application: String,
    pub(crate) target: String,
    /// The last accepted command.
    pub(crate) stamp: Stamp,
    /// Its plan.
    pub(crate) digest: Digest,
    /// The apply that brought the plan; a finish moves only `stamp` on.
    #[serde(default)]
    pub(crate) applied: Stamp,
    pub(crate) entries: Vec<Entry>,
}

/// One object of ours.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    #[serde(flatten)]
    pub(crate) object: ObjectRef,
    pub(crate) api_version: String,
    /// The live uid; empty as long as it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) uid: String,
    /// The digest of what was applied last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) digest: String,
    /// The present stamp changed it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) changed: bool,
    /// The Rollout whose replicas an autoscaler of ours sets.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) scales: String,
}

/// An applied set and the version of its ConfigMap, for compare-and-set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) set: AppliedSet,
    version: String,
}

impl AppliedSet {
    /// A set without objects, for the first plan.
    pub(crate) fn new(apply: &Apply) -> Self {
        Self {
            version: 1,
            tenant: apply.set.tenant.clone(),
            application: apply.set.application.clone(),
            target: apply.target.clone(),
            stamp: apply.stamp,
            digest: apply.plan,
            applied: apply.stamp,
            entries: Vec::new(),
        }
    }

    pub(crate) fn entry(&self, object: &ObjectRef) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.object == *object)
    }

    /// Writes down the uids of objects that were created.
    pub(crate) fn learn(&mut self, uids: &BTreeMap<ObjectRef, String>) -> bool {
        let mut learned = false;
        for entry in &mut self.entries {
            if let Some(uid) = uids.get(&entry.object).filter(|uid| **uid != entry.uid) {
                entry.uid.clone_from(uid);
                learned = true;
            }
        }
        learned
    }

    /// A command may go on only while no newer one was accepted.
    pub(crate) fn fence(&self, stamp: Stamp) -> Result<(), ExecutorError> {
        if self.stamp > stamp {
            return Err(ExecutorError::Superseded {
                accepted: self.stamp.to_string(),
            });
        }
        Ok(())
    }

    /// A stamp stands for one plan: the same one with another is refused.
    pub(crate) fn accepts(&self, apply: &Apply) -> Result<(), ExecutorError> {
        self.fence(apply.stamp)?;
        if self.stamp == apply.stamp && self.digest != apply.plan {
            let message = format!(
                "stamp {} was accepted with plan {}, not {}: a new decision needs a new stamp",
                apply.stamp, self.digest, apply.plan
            );
            return Err(rejected(&object(&apply.set), message));
        }
        Ok(())
    }
}

/// The ConfigMap's name.
pub(crate) fn object(key: &AppliedSetKey) -> ObjectRef {
    ObjectRef::new(
        "",
        "ConfigMap",
        &key.namespace,
        format!("aurora-{}", key.application),
    )
}

fn path(key: &AppliedSetKey) -> String {
    let resource = kinds::well_known("", "ConfigMap");
    resource
        .map(|resource| resource.path(&object(key)))
        .unwrap_or_default()
}

/// Reads an applied set from its ConfigMap.
pub(crate) fn from_config_map(body: &Value) -> Option<AppliedSet> {
    let text = body["data"][DATA].as_str()?;
    serde_json::from_str::<AppliedSet>(text)
        .ok()
        .filter(|set| set.version == 1)
}

/// Reads the set; none when there is none yet.
///
/// A ConfigMap of that name which is no applied set, or another tenant's, is refused.
pub(crate) async fn read(api: &Api, key: &AppliedSetKey) -> Result<Option<Stored>, ExecutorError> {
    let object = object(key);
    let body = api
        .find(&path(key))
        .await
        .map_err(|problem| problem.into_error("get", &object))?;
    let Some(body) = body else {
        return Ok(None);
    };
    let Some(set) = from_config_map(&body) else {
        let message = format!(
            "{object} is in the way: it is no applied set that this agent can read; rename or delete it"
        );
        return Err(rejected(&object, message));
    };
    if set.tenant != key.tenant || set.application != key.application {
        let message = format!(
            "{object} belongs to application {} of tenant {}: use another namespace",
            set.application, set.tenant
        );
        return Err(rejected(&object, message));
    }
    let version = body["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    Ok(Some(Stored { set, version }))
}

/// Writes the set if nobody else did since `before` was read; a conflict means: read again.
pub(crate) async fn write(
    api: &Api,
    key: &AppliedSetKey,
    before: Option<&Stored>,
    set: AppliedSet,
) -> Result<Stored, Problem> {
    let mut set = set;
    set.entries.sort_by(|a, b| a.object.cmp(&b.object));
    let text = serde_json::to_string(&set).map_err(|error| Problem::unanswered(error.to_string()))?;
    let labels = json!({LABEL: "true", APPLICATION_LABEL: set.application, TARGET_LABEL: set.target});
    let body = match before {
        Some(before) => {
            let patch = json!({
                "metadata": {"resourceVersion": before.version, "labels": labels}, "data": {DATA: text},
            });
            api.patch(&path(key), Patch::Merge, &patch).await?
        }
        None => {
            let object = object(key);
            let body = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": object.name, "namespace": object.namespace, "labels": labels},
                "data": {DATA: text},
            });
            let resource = kinds::well_known("", "ConfigMap");
            let collection = resource
                .map(|resource| resource.collection(&key.namespace))
                .unwrap_or_default();
            api.create(&collection, &body).await?
        }
    };
    let version = body["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    Ok(Stored { set, version })
}
