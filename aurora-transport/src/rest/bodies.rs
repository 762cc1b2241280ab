//! Bodies of answers about plans, histories, approvals, applications and the audit log.

use aurora_core::control::{
    ApplicationView, ApprovalView, AsOf, AuditEntry, History, ObjectText, PlanDiff, PlanView,
};
use aurora_core::pipeline::Impact;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::wire::{Page, ReadAt};

/// The history of a target's weights and pods.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryAnswer {
    /// The control plane's time.
    pub now: Timestamp,
    /// As of when.
    pub as_of: AsOf,
    /// The history.
    #[serde(flatten)]
    pub history: History,
}

/// The rendered plan of a target.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanAnswer {
    /// The control plane's time.
    pub now: Timestamp,
    /// As of when.
    pub as_of: AsOf,
    /// The plan.
    #[serde(flatten)]
    pub plan: PlanView,
}

/// One object of a plan.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectAnswer {
    /// The control plane's time.
    pub now: Timestamp,
    /// As of when.
    pub as_of: AsOf,
    /// The object.
    #[serde(flatten)]
    pub text: ObjectText,
}

/// What two plans differ in.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiffAnswer {
    /// The control plane's time.
    pub now: Timestamp,
    /// As of when; plans never change.
    pub as_of: ReadAt,
    /// The difference.
    #[serde(flatten)]
    pub diff: PlanDiff,
}

/// What an act would do.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImpactAnswer {
    /// The control plane's time.
    pub now: Timestamp,
    /// As of when.
    pub as_of: AsOf,
    /// What it would do.
    #[serde(flatten)]
    pub impact: Impact,
}

/// Gates that wait for a person, or what people decided.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalsAnswer {
    /// The control plane's time.
    pub now: Timestamp,
    /// As of when.
    pub as_of: AsOf,
    /// Gates that wait; empty where decisions were asked for.
    pub pending: Vec<ApprovalView>,
    /// Decisions, the newest first; empty where gates that wait were asked for.
    pub decided: Vec<AuditEntry>,
    /// The pages beside this one.
    pub page: Page,
}

/// Applications and where they run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationsAnswer {
    /// The control plane's time.
    pub now: Timestamp,
    /// As of when.
    pub as_of: AsOf,
    /// The applications, by name.
    pub applications: Vec<ApplicationView>,
    /// The pages beside this one.
    pub page: Page,
}

/// One application and what it runs where.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationAnswer {
    /// The control plane's time.
    pub now: Timestamp,
    /// As of when.
    pub as_of: AsOf,
    /// The application.
    #[serde(flatten)]
    pub application: ApplicationView,
}

/// Lines of the audit log, the newest first.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditAnswer {
    /// The control plane's time.
    pub now: Timestamp,
    /// As of when.
    pub as_of: ReadAt,
    /// The lines.
    pub entries: Vec<AuditEntry>,
    /// The pages beside this one; an empty page may have one after it.
    pub page: Page,
}
