//! A plan: the rendered objects of one target, and how steps of the file map to steps of each Rollout.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::{Digest, canonical_json};
use crate::manifest::{ObjectRef, Origin};

/// Label of every object of a plan: the application.
pub const APPLICATION_LABEL: &str = "aurora.dev/application";
/// Label of every object of a plan: the target.
pub const TARGET_LABEL: &str = "aurora.dev/target";
/// Annotation that an executor puts on each object it applies: `<fence>.<version>` of the plan.
pub const PLAN_ANNOTATION: &str = "aurora.dev/plan";
/// The one annotation of ours in a pod template: the digest of its own content without it.
pub const TEMPLATE_DIGEST_ANNOTATION: &str = "aurora.dev/template-digest";
/// Annotation of a manifest: `"true"` allows taking over an object of somebody else.
pub const ADOPT_ANNOTATION: &str = "aurora.dev/adopt";
/// Annotation of a Deployment: `none` keeps it a Deployment, moved by its own rolling update.
pub const STRATEGY_ANNOTATION: &str = "aurora.dev/strategy";
/// Annotation of a ConfigMap or Secret: `"false"` keeps its name as it is.
pub const VERSIONED_ANNOTATION: &str = "aurora.dev/versioned";

/// What an agent applies: all objects of one target, in no particular order.
///
/// The executor sorts them into stages. Serialised in canonical JSON it is the blob whose digest a
/// command names and a person approves.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The format's version; 1.
    pub version: u32,
    /// The application: with the namespace it names the applied set.
    pub application: String,
    /// The target's name in the deploy file.
    pub target: String,
    /// Where all namespaced objects go.
    pub namespace: String,
    /// The objects.
    pub objects: Vec<PlannedObject>,
    /// How steps of the file map to each Rollout.
    pub steps: StepMap,
    /// What people should know: overridden namespaces, opted-out Deployments, objects that will be adopted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One object of a plan.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedObject {
    /// The object as it is to be applied, complete and in canonical form.
    pub body: Value,
    /// Where it came from.
    pub origin: Origin,
    /// An annotation in the manifest allows taking over an object of somebody else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopt: bool,
}

impl PlannedObject {
    /// The object's name.
    pub fn object(&self) -> ObjectRef {
        ObjectRef::of(&self.body)
    }
}

/// Which step of which Rollout a gate of the file is.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StepMap {
    /// Steps of the file: for the i-th, what it is and where the Rollouts have it.
    pub steps: Vec<MappedStep>,
    /// Rollouts of the plan and how many steps each has.
    pub rollouts: BTreeMap<String, usize>,
    /// Those of the Rollouts that move by blue/green; they have no steps.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub blue_green: BTreeSet<String>,
    /// The workloads whose readiness counts, besides Rollouts: opted-out Deployments, StatefulSets, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<ObjectRef>,
}

/// One step of the file and its index in every Rollout.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MappedStep {
    /// Rollout name to index in its step list.
    pub index: BTreeMap<String, usize>,
    /// Whether every Rollout stops here until it is promoted.
    pub gate: bool,
    /// The weight that holds at this step.
    pub weight: u8,
}

/// The bytes are not a plan.
#[derive(Debug, thiserror::Error)]
#[error("the plan cannot be read")]
pub struct UnreadablePlan {
    /// Why.
    pub source: serde_json::Error,
}

impl Plan {
    /// The current version of the format.
    pub const VERSION: u32 = 1;

    /// The plan as the bytes that its digest names.
    pub fn to_bytes(&self) -> Vec<u8> {
        let value = serde_json::to_value(self).unwrap_or(Value::Null);
        canonical_json(&value).into_bytes()
    }

    /// Reads a plan back.
    ///
    /// # Errors
    /// [`UnreadablePlan`] when the bytes are not a plan of a known version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, UnreadablePlan> {
        use serde::de::Error as _;
        let plan: Self = serde_json::from_slice(bytes).map_err(|source| UnreadablePlan { source })?;
        if plan.version != Self::VERSION {
            let source = serde_json::Error::custom(format!("version {} is not known", plan.version));
            return Err(UnreadablePlan { source });
        }
        Ok(plan)
    }

    /// The digest of [`Plan::to_bytes`].
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }
}
