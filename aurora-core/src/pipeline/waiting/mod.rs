//! Why a pipeline waits, since when, what time does about it, and what a person can do: as data.

mod actions;
mod find;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::decide::Approver;
use crate::principal::Actor;

pub(super) use actions::{cancel_action, run_actions};
pub(super) use find::waiting;

/// One thing that is waited for.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Waiting {
    /// Stable while it is the same wait.
    pub id: String,
    /// `approval`, `timer`, `queue`, `dependency`, `agent`, `apply`, `progress`, `finish`, `start`, `operator`.
    pub kind: String,
    /// What it is about.
    pub subject: Subject,
    /// Since when.
    pub since: Timestamp,
    /// When time ends it; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What happens then: `open`, `rollback`, `fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_then: Option<String>,
    /// The reason.
    pub reason: Reason,
    /// What stands in the way.
    #[serde(default)]
    pub blockers: Vec<Blocker>,
    /// Approvals given of those needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<Need>,
    /// What can be done about it.
    #[serde(default)]
    pub actions: Vec<ActionView>,
}

/// What a wait is about.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Subject {
    /// The target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The step of the file, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// The gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
}

/// A reason for programs and for people.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reason {
    /// Stable.
    pub code: String,
    /// What the text is made of.
    #[serde(default)]
    pub args: Value,
    /// In words.
    pub text: String,
}

/// Something that stands in the way.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Blocker {
    /// `target`, `agent`, `workload`, `person`, `pipeline`.
    pub kind: String,
    /// In words.
    pub text: String,
}

/// The approvals that a gate needs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Need {
    /// All of these.
    pub rules: Vec<Rule>,
}

/// So many approvals by holders of any one of these roles.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rule {
    /// Any one of them; empty: everyone who may deploy.
    pub roles: Vec<String>,
    /// How many.
    pub count: u32,
    /// Those given.
    pub given: Vec<Given>,
}

/// One approval.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Given {
    /// Who.
    pub actor: Actor,
    /// When.
    pub at: Timestamp,
    /// Their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Something that a person can do.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ActionView {
    /// `approve`, `reject`, `skip`, `cancel`, `retry`, `rollback`, `redeploy`.
    pub id: String,
    /// In words.
    pub label: String,
    /// The HTTP method.
    pub method: String,
    /// The path below the API's root.
    pub href: String,
    /// The gate it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// The target it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What to present with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// `normal`, `firm` or `destructive`.
    pub severity: String,
    /// What may be filled in.
    pub fields: Vec<Field>,
    /// Whether the one who looks may do it.
    pub allowed: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<DeniedView>,
    /// The command line.
    pub cli: String,
}

/// Something to fill in.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Field {
    /// Its name in the body.
    pub name: String,
    /// Whether it must be there.
    pub required: bool,
    /// At most so many characters.
    pub max: usize,
}

/// Why an action is not allowed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeniedView {
    /// Stable.
    pub code: String,
    /// Any one of these would do.
    pub needs: Vec<String>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// The longest comment.
pub(crate) const MAX_COMMENT: usize = 2000;

/// Who looks: what is offered to them depends on it.
#[derive(Clone, Debug, Default)]
pub struct Viewer {
    /// What they may decide.
    pub approver: Approver,
    /// Whether they may deploy at all.
    pub may_deploy: bool,
}
