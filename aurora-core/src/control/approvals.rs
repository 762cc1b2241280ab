//! The inbox: gates that wait for a person, and what people decided.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::audit_query::{AuditEntry, AuditQuery};
use super::diff::{DiffSummary, compare};
use super::list::PipelineQuery;
use super::queries::AsOf;
use super::redact::Redactor;
use super::{ControlError, ControlPlane};
use crate::authz::{Grant, ReadPipelines};
use crate::digest::Digest;
use crate::id::PipelineId;
use crate::pipeline::{ActionView, DeniedView, Need, PipelineView, Waiting};
use crate::port::store::Scope;
use crate::principal::Actor;

/// Runs looked at for one page where nothing is said: each is read whole.
const DEFAULT_RUNS: usize = 20;

/// The most runs looked at for one page.
const MAX_RUNS: usize = 50;

/// Decisions as the audit log calls them.
const DECISIONS: [&str; 2] = ["gateOpened", "gateRejected"];

/// A gate that waits for a person.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApprovalView {
    /// The pipeline.
    pub pipeline: PipelineId,
    /// The version of its last event.
    pub version: u64,
    /// Its application.
    pub application: String,
    /// For people.
    pub description: String,
    /// Who submitted it.
    pub submitted_by: Actor,
    /// The target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The step of the file, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// The gate.
    pub gate: String,
    /// In words.
    pub text: String,
    /// Since when it waits.
    pub since: Timestamp,
    /// When time ends it; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What happens then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_expiry: Option<String>,
    /// Approvals given of those needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<Need>,
    /// Whether the one who asks may decide.
    pub you_can: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub you_cannot: Option<DeniedView>,
    /// The plan that is decided about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_digest: Option<Digest>,
    /// What changes against the last plan that succeeded there; absent at a first deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<DiffSummary>,
    /// What can be done, with what to present.
    pub actions: Vec<ActionView>,
}

/// A page of gates that wait, those of the newest runs first.
#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalPage {
    /// As of when.
    pub as_of: AsOf,
    /// The gates.
    pub pending: Vec<ApprovalView>,
    /// The page after it.
    pub next: Option<String>,
    /// The page before it.
    pub prev: Option<String>,
}

/// A page of decisions, the newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct DecidedPage {
    /// The decisions.
    pub decided: Vec<AuditEntry>,
    /// The page after it.
    pub next: Option<String>,
    /// The page before it.
    pub prev: Option<String>,
}

impl ControlPlane {
    /// Gates that wait for a person; with `mine` only those that the one who asks may decide.
    ///
    /// `limit` counts runs; each may have several gates.
    ///
    /// # Errors
    /// [`ControlError`]; `Invalid` for a page that is none.
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    pub async fn approvals(
        &self,
        grant: &Grant<ReadPipelines>,
        mine: bool,
        limit: Option<usize>,
        page: Option<String>,
    ) -> Result<ApprovalPage, ControlError> {
        let query = PipelineQuery {
            needs: Some(if mine { "me" } else { "approval" }.to_owned()),
            limit: Some(limit.unwrap_or(DEFAULT_RUNS).clamp(1, MAX_RUNS)),
            page,
            ..PipelineQuery::default()
        };
        let list = self.list(grant, &query).await?;
        let mut pending = Vec::new();
        for row in &list.rows {
            let view = self.view(grant, row.id).await?.body;
            let waits = view.waiting.iter().filter(|wait| wait.kind == "approval");
            for wait in waits {
                let mut approval = approval(&view, wait);
                if mine && !approval.you_can {
                    continue;
                }
                approval.changes = self.changes(grant, &view, &approval).await?;
                pending.push(approval);
            }
        }
        Ok(ApprovalPage {
            as_of: list.as_of,
            pending,
            next: list.next,
            prev: list.prev,
        })
    }

    /// What people decided about gates, the newest first; with `mine` only what the one who asks decided.
    ///
    /// # Errors
    /// [`ControlError`]; `Invalid` for a page that is none.
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    pub async fn decided(
        &self,
        grant: &Grant<ReadPipelines>,
        mine: bool,
        limit: Option<usize>,
        page: Option<String>,
    ) -> Result<DecidedPage, ControlError> {
        let query = AuditQuery {
            actor: mine.then(|| grant.principal().id.clone()),
            actions: DECISIONS.map(str::to_owned).to_vec(),
            result: Some("done".to_owned()),
            limit,
            page,
            ..AuditQuery::default()
        };
        let page = self.audit_lines(&Scope::from(grant.tenant()), &query).await?;
        Ok(DecidedPage {
            decided: page.entries,
            next: page.next,
            prev: page.prev,
        })
    }

    /// How many pipelines wait for the one who asks.
    ///
    /// # Errors
    /// [`ControlError`].
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    pub async fn needs_me(&self, grant: &Grant<ReadPipelines>) -> Result<usize, ControlError> {
        let query = PipelineQuery {
            needs: Some("me".to_owned()),
            ..PipelineQuery::default()
        };
        let filter = query.filter(grant.principal());
        let kept = self.inner.summaries.of(grant.tenant());
        let mut kept = kept.lock().await;
        kept.refresh(&self.inner, &Scope::from(grant.tenant())).await?;
        Ok(kept.rows.values().filter(|row| filter.lets_through(row)).count())
    }

    async fn changes(
        &self,
        grant: &Grant<ReadPipelines>,
        view: &PipelineView,
        approval: &ApprovalView,
    ) -> Result<Option<DiffSummary>, ControlError> {
        let target = view
            .targets
            .iter()
            .find(|target| Some(&target.name) == approval.target.as_ref());
        let Some(target) = target else {
            return Ok(None);
        };
        let scope = Scope::from(grant.tenant());
        // A target that has not begun does not know its last plan yet.
        let last = match &target.last_good {
            Some(last) => Some(last.plan),
            None => self
                .last_good(&scope, &view.application, &target.account, &target.namespace)
                .await?
                .map(|last| last.plan),
        };
        let Some(last) = last else {
            return Ok(None);
        };
        let before = self.stored_plan(&scope, last).await?;
        let after = self.stored_plan(&scope, target.plan).await?;
        let redactor = Redactor::of(self.inner.store.as_ref(), &scope).await?;
        let diff = compare((last, &before), (target.plan, &after), &redactor);
        Ok(Some(diff.summary))
    }
}

fn approval(view: &PipelineView, wait: &Waiting) -> ApprovalView {
    let target = wait.subject.target.clone();
    let of = view.targets.iter().find(|of| Some(&of.name) == target.as_ref());
    let approve = wait.actions.iter().find(|action| action.id == "approve");
    ApprovalView {
        pipeline: view.id,
        version: view.version,
        application: view.application.clone(),
        description: view.description.clone(),
        submitted_by: view.actor.clone(),
        step: wait.subject.step,
        gate: wait.subject.gate.clone().unwrap_or_default(),
        text: wait.reason.text.clone(),
        since: wait.since,
        expires_at: wait.until,
        on_expiry: wait.until_then.clone(),
        need: wait.need.clone(),
        you_can: approve.is_some_and(|action| action.allowed),
        you_cannot: approve.and_then(|action| action.denied.clone()),
        plan_digest: of.map(|target| target.plan),
        changes: None,
        actions: wait.actions.clone(),
        target,
    }
}
