//! Rendered plans as readers see them: which objects, from where in the user's files, and each object's text.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::history::no_target;
use super::queries::Document;
use super::redact::Redactor;
use super::{ControlError, ControlPlane};
use crate::authz::{Grant, ReadPipelines};
use crate::digest::Digest;
use crate::id::PipelineId;
use crate::manifest::{ObjectRef, Origin};
use crate::plan::Plan;
use crate::port::store::{Scope, StoreError};

/// The plan of one target.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlanView {
    /// The plan: the same digest is what a person approves.
    pub digest: Digest,
    /// The application.
    pub application: String,
    /// The target.
    pub target: String,
    /// Where its objects go.
    pub namespace: String,
    /// Its objects, in the order of the plan.
    pub objects: Vec<PlanObject>,
    /// What the renderer noted for people.
    pub warnings: Vec<String>,
}

/// One object of a plan.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlanObject {
    /// Which object.
    pub object: ObjectRef,
    /// Names its text, secrets redacted.
    pub digest: Digest,
    /// Where it was written.
    pub source: Origin,
}

/// The text of one object.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ObjectText {
    /// Which object.
    pub object: ObjectRef,
    /// Names its text.
    pub digest: Digest,
    /// Where it was written.
    pub source: Origin,
    /// The object; values of Secrets are `{redacted, tag}`.
    pub body: Value,
}

impl ControlPlane {
    /// The plan of a target.
    ///
    /// # Errors
    /// [`ControlError`]; `NotFound` where there is no such pipeline, target or plan.
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    pub async fn plan(
        &self,
        grant: &Grant<ReadPipelines>,
        id: PipelineId,
        target: &str,
    ) -> Result<Document<PlanView>, ControlError> {
        let Document { as_of, body } = self.pipeline(grant, id).await?;
        let of = body.targets.get(target).ok_or_else(|| no_target(id, target))?;
        let scope = Scope::from(grant.tenant());
        let plan = self.stored_plan(&scope, of.plan).await?;
        let redactor = Redactor::of(self.inner.store.as_ref(), &scope).await?;
        let objects = texts(&plan, &redactor)
            .map(|text| PlanObject {
                object: text.object,
                digest: text.digest,
                source: text.source,
            })
            .collect();
        let body = PlanView {
            digest: of.plan,
            application: plan.application.clone(),
            target: target.to_owned(),
            namespace: plan.namespace.clone(),
            objects,
            warnings: plan.notes.clone(),
        };
        Ok(Document { as_of, body })
    }

    /// The text of one object of a target's plan, by its digest.
    ///
    /// # Errors
    /// [`ControlError`]; `NotFound` where there is no such pipeline, target, plan or object.
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    pub async fn plan_object(
        &self,
        grant: &Grant<ReadPipelines>,
        id: PipelineId,
        target: &str,
        digest: Digest,
    ) -> Result<Document<ObjectText>, ControlError> {
        let Document { as_of, body } = self.pipeline(grant, id).await?;
        let of = body.targets.get(target).ok_or_else(|| no_target(id, target))?;
        let scope = Scope::from(grant.tenant());
        let plan = self.stored_plan(&scope, of.plan).await?;
        let redactor = Redactor::of(self.inner.store.as_ref(), &scope).await?;
        let text = texts(&plan, &redactor).find(|text| text.digest == digest);
        let body = text.ok_or_else(|| ControlError::NotFound {
            what: format!("object {digest} in the plan of that target"),
        })?;
        Ok(Document { as_of, body })
    }

    /// Reads a plan that was rendered for a run of this tenant.
    pub(super) async fn stored_plan(&self, scope: &Scope, digest: Digest) -> Result<Plan, ControlError> {
        let body = self.inner.store.get_blob(scope, &digest).await?;
        let body = body.ok_or_else(|| no_plan(digest))?;
        Plan::from_bytes(&body).map_err(|error| {
            StoreError::Corrupt {
                what: format!("plan {digest}"),
                source: error.into(),
            }
            .into()
        })
    }
}

/// There is no such plan.
pub(super) fn no_plan(digest: Digest) -> ControlError {
    ControlError::NotFound {
        what: format!("plan {digest}"),
    }
}

/// The objects of a plan without their secrets.
pub(super) fn texts<'a>(plan: &'a Plan, redactor: &'a Redactor) -> impl Iterator<Item = ObjectText> + 'a {
    plan.objects.iter().map(|planned| {
        let body = redactor.redact(planned.body.clone());
        ObjectText {
            object: planned.object(),
            digest: Digest::of_json(&body),
            source: planned.origin.clone(),
            body,
        }
    })
}
