//! What two plans differ in: images, replicas, keys of configuration, and each field of each object.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::history::no_target;
use super::plans::{no_plan, texts};
use super::redact::Redactor;
use super::{ControlError, ControlPlane};
use crate::authz::{Grant, ReadPipelines};
use crate::digest::Digest;
use crate::id::PipelineId;
use crate::manifest::ObjectRef;
use crate::plan::Plan;
use crate::port::store::{Scope, StoreError};

/// Fields shown of one object.
const MAX_FIELDS: usize = 100;

/// Objects shown of one diff.
const MAX_OBJECTS: usize = 500;

/// Characters shown of one value.
const MAX_VALUE: usize = 512;

/// The annotation with which the renderer says which name an object had before it got one by its content.
const VERSION_OF: &str = "aurora.dev/version-of";

/// One side of a diff.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlanRef {
    /// What is in the cluster now.
    Live,
    /// A plan by its digest.
    Plan(Digest),
    /// The plan of a target of a run.
    Run(PipelineId, String),
}

/// The text names no plan.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("write `run:PIPELINE/TARGET` or `plan:DIGEST`")]
pub struct InvalidPlanRef;

impl FromStr for PlanRef {
    type Err = InvalidPlanRef;

    fn from_str(text: &str) -> Result<Self, InvalidPlanRef> {
        if text == "live" {
            return Ok(Self::Live);
        }
        if let Some(digest) = text.strip_prefix("plan:") {
            return digest.parse().map(Self::Plan).map_err(|_| InvalidPlanRef);
        }
        let run = text.strip_prefix("run:").ok_or(InvalidPlanRef)?;
        let (id, target) = run.split_once('/').ok_or(InvalidPlanRef)?;
        if target.is_empty() {
            return Err(InvalidPlanRef);
        }
        let id = id.parse().map_err(|_| InvalidPlanRef)?;
        Ok(Self::Run(id, target.to_owned()))
    }
}

impl fmt::Display for PlanRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => f.write_str("live"),
            Self::Plan(digest) => write!(f, "plan:{digest}"),
            Self::Run(id, target) => write!(f, "run:{id}/{target}"),
        }
    }
}

/// What two plans differ in.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlanDiff {
    /// The plan that is compared from.
    pub from: Digest,
    /// The plan that is compared to.
    pub to: Digest,
    /// At a glance.
    pub summary: DiffSummary,
    /// Objects that differ.
    pub objects: Vec<ObjectDiff>,
    /// Whether there are more objects, or more fields of one, than are shown.
    pub truncated: bool,
}

/// A diff at a glance.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiffSummary {
    /// Images that change.
    pub images: Vec<ImageChange>,
    /// Replicas that change.
    pub replicas: Vec<ReplicasChange>,
    /// Keys of ConfigMaps and Secrets that change, `KIND/NAME/KEY`.
    pub config_keys: Vec<String>,
    /// Objects that come.
    pub added: usize,
    /// Objects that go.
    pub removed: usize,
    /// Objects that change.
    pub changed: usize,
}

/// An image that changes; one side is absent where its container is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImageChange {
    /// The object.
    pub object: ObjectRef,
    /// The container.
    pub container: String,
    /// Before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// After.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// Replicas that change.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplicasChange {
    /// The object.
    pub object: ObjectRef,
    /// Before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// After.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

/// One object that differs.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ObjectDiff {
    /// Which object; where its name changes with its content, the new one.
    pub object: ObjectRef,
    /// What happens to it.
    pub change: Change,
    /// Its fields that differ.
    pub fields: Vec<FieldDiff>,
}

/// What happens to an object.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Change {
    /// It comes.
    Added,
    /// It changes.
    Changed,
    /// It goes.
    Removed,
}

/// One field that differs.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldDiff {
    /// RFC 6901 pointer into the object.
    pub pointer: String,
    /// Before; absent where it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// After; absent where it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

impl ControlPlane {
    /// What two plans of this tenant differ in.
    ///
    /// # Errors
    /// [`ControlError`]; `NotFound` where one of them is not there, `Unsupported` for [`PlanRef::Live`].
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    pub async fn diff(
        &self,
        grant: &Grant<ReadPipelines>,
        from: &PlanRef,
        to: &PlanRef,
    ) -> Result<PlanDiff, ControlError> {
        let scope = Scope::from(grant.tenant());
        let from = self.digest_of(grant, from).await?;
        let to = self.digest_of(grant, to).await?;
        let before = self.stored_plan(&scope, from).await?;
        let after = self.stored_plan(&scope, to).await?;
        let redactor = Redactor::of(self.inner.store.as_ref(), &scope).await?;
        Ok(compare((from, &before), (to, &after), &redactor))
    }

    async fn digest_of(&self, grant: &Grant<ReadPipelines>, plan: &PlanRef) -> Result<Digest, ControlError> {
        match plan {
            PlanRef::Live => Err(ControlError::Unsupported {
                what: "a comparison with what is in the cluster now (`live`)".to_owned(),
            }),
            PlanRef::Plan(digest) => {
                // A blob of the tenant that is no plan, such as a deploy file, is not one here either.
                let scope = Scope::from(grant.tenant());
                match self.stored_plan(&scope, *digest).await {
                    Err(ControlError::Store {
                        source: StoreError::Corrupt { .. },
                    }) => Err(no_plan(*digest)),
                    Err(error) => Err(error),
                    Ok(_) => Ok(*digest),
                }
            }
            PlanRef::Run(id, target) => {
                let pipeline = self.pipeline(grant, *id).await?.body;
                let of = pipeline.targets.get(target);
                Ok(of.ok_or_else(|| no_target(*id, target))?.plan)
            }
        }
    }
}

/// What makes two objects the same one: names that follow from content do not count.
type Identity = (String, String, String, String);

fn identity(object: &ObjectRef, body: &Value) -> Identity {
    let base = body
        .pointer("/metadata/annotations")
        .and_then(|all| all.get(VERSION_OF));
    let name = base.and_then(Value::as_str).unwrap_or(&object.name);
    (
        object.group.clone(),
        object.kind.clone(),
        object.namespace.clone(),
        name.to_owned(),
    )
}

/// What two plans differ in, secrets redacted.
pub(super) fn compare(from: (Digest, &Plan), to: (Digest, &Plan), redactor: &Redactor) -> PlanDiff {
    let sides = |plan: &Plan| -> BTreeMap<Identity, (ObjectRef, Value)> {
        texts(plan, redactor)
            .map(|text| (identity(&text.object, &text.body), (text.object, text.body)))
            .collect()
    };
    let (before, after) = (sides(from.1), sides(to.1));
    let mut summary = DiffSummary::default();
    let mut objects = Vec::new();
    let mut truncated = false;
    let all: BTreeSet<&Identity> = before.keys().chain(after.keys()).collect();
    for identity in all {
        let (old, new) = (before.get(identity), after.get(identity));
        let Some((object, _)) = new.or(old) else {
            continue;
        };
        let bodies = (old.map(|(_, body)| body), new.map(|(_, body)| body));
        let change = match bodies {
            (Some(old), Some(new)) if old == new => continue,
            (Some(_), Some(_)) => Change::Changed,
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
        };
        match change {
            Change::Added => summary.added += 1,
            Change::Changed => summary.changed += 1,
            Change::Removed => summary.removed += 1,
        }
        glance(object, &identity.3, bodies, &mut summary);
        let mut fields = Vec::new();
        if let (Some(old), Some(new)) = bodies {
            walk(old, new, &mut String::new(), &mut fields);
        }
        truncated |= fields.len() > MAX_FIELDS || objects.len() == MAX_OBJECTS;
        fields.truncate(MAX_FIELDS);
        if objects.len() < MAX_OBJECTS {
            objects.push(ObjectDiff {
                object: object.clone(),
                change,
                fields,
            });
        }
    }
    PlanDiff {
        from: from.0,
        to: to.0,
        summary,
        objects,
        truncated,
    }
}

fn glance(
    object: &ObjectRef,
    base: &str,
    (old, new): (Option<&Value>, Option<&Value>),
    summary: &mut DiffSummary,
) {
    let (was, is) = (images(old), images(new));
    let containers: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    for container in containers {
        let (from, to) = (was.get(container), is.get(container));
        if from != to {
            summary.images.push(ImageChange {
                object: object.clone(),
                container: container.clone(),
                from: from.cloned(),
                to: to.cloned(),
            });
        }
    }
    let replicas = |body: Option<&Value>| body.and_then(|body| body.pointer("/spec/replicas")?.as_u64());
    let (from, to) = (replicas(old), replicas(new));
    if from != to && old.is_some() && new.is_some() {
        summary.replicas.push(ReplicasChange {
            object: object.clone(),
            from,
            to,
        });
    }
    if object.group.is_empty() && matches!(object.kind.as_str(), "ConfigMap" | "Secret") {
        for field in ["data", "binaryData", "stringData"] {
            let (old, new) = (old.map(|body| &body[field]), new.map(|body| &body[field]));
            let keys = |side: Option<&Value>| -> BTreeSet<String> {
                let map = side.and_then(Value::as_object);
                map.map(|map| map.keys().cloned().collect()).unwrap_or_default()
            };
            for key in keys(old).union(&keys(new)) {
                if old.and_then(|side| side.get(key)) != new.and_then(|side| side.get(key)) {
                    summary.config_keys.push(format!("{}/{base}/{key}", object.kind));
                }
            }
        }
    }
}

/// The images of an object's pods by container.
pub(super) fn images(body: Option<&Value>) -> BTreeMap<String, String> {
    let mut images = BTreeMap::new();
    let Some(body) = body else {
        return images;
    };
    for template in [
        "/spec/template/spec",
        "/spec/jobTemplate/spec/template/spec",
        "/spec",
    ] {
        let Some(pod) = body.pointer(template) else {
            continue;
        };
        for list in ["initContainers", "containers"] {
            for container in pod[list].as_array().into_iter().flatten() {
                if let (Some(name), Some(image)) = (container["name"].as_str(), container["image"].as_str()) {
                    images.insert(name.to_owned(), image.to_owned());
                }
            }
        }
    }
    images
}

/// Collects the fields in which two values differ, at most one more than are shown.
fn walk(old: &Value, new: &Value, pointer: &mut String, fields: &mut Vec<FieldDiff>) {
    if old == new || fields.len() > MAX_FIELDS {
        return;
    }
    let mut child = |key: &str, old: Option<&Value>, new: Option<&Value>, fields: &mut Vec<FieldDiff>| {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
        match (old, new) {
            (Some(old), Some(new)) => walk(old, new, pointer, fields),
            (old, new) => fields.push(FieldDiff {
                pointer: pointer.clone(),
                from: old.map(shown),
                to: new.map(shown),
            }),
        }
        pointer.truncate(length);
    };
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                child(key, old.get(key), new.get(key), fields);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for index in 0..old.len().max(new.len()) {
                child(&index.to_string(), old.get(index), new.get(index), fields);
            }
        }
        _ => fields.push(FieldDiff {
            pointer: pointer.clone(),
            from: Some(shown(old)),
            to: Some(shown(new)),
        }),
    }
}

/// A value, cut where it is a long text, and its size where it is a large structure.
fn shown(value: &Value) -> Value {
    match value {
        Value::String(text) if text.chars().count() > MAX_VALUE => {
            let cut: String = text.chars().take(MAX_VALUE).collect();
            Value::String(format!("{cut}…"))
        }
        Value::Array(_) | Value::Object(_) => {
            let text = value.to_string();
            if text.len() > 4 * MAX_VALUE {
                return Value::String(format!("… {} bytes", text.len()));
            }
            value.clone()
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_of_a_side_reads_back() {
        let run = "run:01900000-0000-7000-8000-000000000000/staging";
        let plan = format!("plan:{}", Digest::of(b"x"));
        for text in [run, plan.as_str(), "live"] {
            assert_eq!(text.parse::<PlanRef>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "run:",
            "run:x/staging",
            "run:01900000-0000-7000-8000-000000000000/",
            "plan:1",
        ] {
            assert_eq!(text.parse::<PlanRef>(), Err(InvalidPlanRef), "{text}");
        }
    }

    #[test]
    fn only_the_fields_that_differ_are_told() {
        let old = json!({"spec": {"replicas": 2, "list": [1, 2], "same": {"a": 1}}});
        let new = json!({"spec": {"replicas": 3, "list": [1, 5, 6], "same": {"a": 1}, "a/b": true}});
        let mut fields = Vec::new();
        walk(&old, &new, &mut String::new(), &mut fields);
        let pointers: Vec<&str> = fields.iter().map(|field| field.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            ["/spec/a~1b", "/spec/list/1", "/spec/list/2", "/spec/replicas"]
        );
        assert_eq!(fields[0].from, None);
        assert_eq!(fields[3].to, Some(json!(3)));
    }
}
