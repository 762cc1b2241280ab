//! What an act would do, before it is done.

use std::collections::BTreeMap;

use super::feed::Cursor;
use super::{AsOf, ControlError, ControlPlane, Document, viewer};
use crate::authz::{Grant, ReadPipelines};
use crate::id::PipelineId;
use crate::pipeline::{
    Approver, DeniedView, GateRef, Impact, Input, LastGood, Person, Pipeline, Refused, Submitted,
    SubmittedTarget, impact, impact_of_run,
};
use crate::port::store::Scope;
use crate::principal::{Actor, Channel};

/// An act that somebody thinks of doing.
#[derive(Clone, Debug, Default)]
pub struct Intent {
    /// `approve`, `reject`, `skip`, `cancel`, `retry`, `rollback` or `redeploy`.
    pub action: String,
    /// The gate; absent: the only one that the act could mean.
    pub gate: Option<GateRef>,
    /// The target; absent: as for the act itself.
    pub target: Option<String>,
    /// For going back: the earlier run.
    pub to: Option<PipelineId>,
}

impl ControlPlane {
    /// What an act would do; nothing is stored. One who may not do it is told so, and what it would do.
    ///
    /// # Errors
    /// [`ControlError`]; `NotFound` where this tenant has no such run, `Invalid` for an unknown act. What the act
    /// itself would be refused for is not an error: the answer says that it is not allowed.
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    pub async fn impact(
        &self,
        grant: &Grant<ReadPipelines>,
        id: PipelineId,
        intent: &Intent,
    ) -> Result<Document<Impact>, ControlError> {
        let scope = Scope::from(grant.tenant());
        let before = self.inner.store.feed_head(&scope).await?;
        let as_of = AsOf {
            cursor: Cursor::at(before),
            at: self.inner.clock.now(),
        };
        let pipeline = self.known(&scope, id).await?;
        let viewer = viewer(grant.principal());
        let found = self
            .weigh(&scope, grant, &pipeline, intent, viewer.approver.clone())
            .await;
        let found = match found {
            // Whoever may not do it may know what it would do.
            Err(ControlError::Refused(refused @ Refused::Denied { .. })) => {
                let everything = Approver {
                    full: true,
                    ..Approver::default()
                };
                let shown = self.weigh(&scope, grant, &pipeline, intent, everything).await;
                shown.map(|impact| refuse(impact, &refused))
            }
            other => other,
        };
        let mut body = match found {
            Ok(impact) => impact,
            Err(ControlError::Refused(refused)) => {
                let impact = Impact {
                    action: intent.action.clone(),
                    ..Impact::default()
                };
                refuse(impact, &refused)
            }
            Err(error) => return Err(error),
        };
        if !viewer.may_deploy {
            body.allowed = false;
            body.denied = Some(DeniedView {
                code: "scope.missing".to_owned(),
                needs: vec!["manage:deploy".to_owned()],
                text: "that needs the scope manage:deploy".to_owned(),
            });
        }
        Ok(Document { as_of, body })
    }

    async fn weigh(
        &self,
        scope: &Scope,
        grant: &Grant<ReadPipelines>,
        pipeline: &Pipeline,
        intent: &Intent,
        approver: Approver,
    ) -> Result<Impact, ControlError> {
        let person = Person {
            actor: Actor::of(grant.principal(), Channel::Api, None),
            comment: None,
            approver,
        };
        let target = intent.target.clone();
        let input = match intent.action.as_str() {
            "approve" => Input::Approve {
                gate: gate(pipeline, intent, true)?,
                expect: None,
                person,
            },
            "reject" => Input::Reject {
                gate: gate(pipeline, intent, true)?,
                expect: None,
                person,
            },
            "skip" => Input::Skip {
                gate: gate(pipeline, intent, false)?,
                expect: None,
                person,
            },
            "cancel" => Input::Cancel { person },
            "retry" if pipeline.is_final() => {
                let run = self.retry_run(scope, pipeline, target.as_deref()).await?;
                return self.of_run(scope, pipeline, &intent.action, &run).await;
            }
            "retry" => Input::Retry { target, person },
            "rollback" if pipeline.is_final() => {
                let run = self
                    .roll_back_run(scope, pipeline, target.as_deref(), intent.to)
                    .await?;
                return self.of_run(scope, pipeline, &intent.action, &run).await;
            }
            "rollback" => Input::RollBack {
                to: self.named(scope, pipeline, target.as_deref(), intent.to).await?,
                target,
                person,
            },
            "redeploy" => {
                let run = self.submitted(scope, pipeline.id).await?;
                let mut impact = self.of_run(scope, pipeline, &intent.action, &run).await?;
                for change in &mut impact.effects {
                    // It is rendered anew, so its plan is not known yet.
                    change.to.plan = None;
                }
                return Ok(impact);
            }
            other => {
                let other: String = other.chars().take(64).collect();
                return Err(ControlError::Invalid {
                    problem: format!(
                        "there is no act `{other}`; there are approve, reject, skip, cancel, retry, rollback and redeploy"
                    ),
                });
            }
        };
        Ok(impact(pipeline, &intent.action, input, self.inner.clock.now())?)
    }

    async fn of_run(
        &self,
        scope: &Scope,
        pipeline: &Pipeline,
        action: &str,
        run: &Submitted,
    ) -> Result<Impact, ControlError> {
        let mut live: BTreeMap<(String, String), LastGood> = BTreeMap::new();
        for target in run.targets.values() {
            let place = (target.account.to_string(), target.namespace.clone());
            let good = self
                .live_at(scope, &pipeline.application, &place.0, &place.1)
                .await?;
            live.extend(good.map(|good| (place, good)));
        }
        let at = |target: &SubmittedTarget| {
            live.get(&(target.account.to_string(), target.namespace.clone()))
                .cloned()
        };
        Ok(impact_of_run(action, run, at))
    }
}

fn refuse(mut impact: Impact, refused: &Refused) -> Impact {
    let needs = match refused {
        Refused::Denied { needs, .. } => needs.clone(),
        _ => Vec::new(),
    };
    impact.allowed = false;
    impact.denied = Some(DeniedView {
        code: refused.code().to_owned(),
        needs,
        text: refused.to_string(),
    });
    impact
}

/// The gate that is meant: the one that is named, or the only one that waits for a person (or for time).
fn gate(pipeline: &Pipeline, intent: &Intent, approval: bool) -> Result<GateRef, ControlError> {
    if let Some(gate) = &intent.gate {
        return Ok(gate.clone());
    }
    let wanted = |name: &String| intent.target.as_ref().is_none_or(|target| target == name);
    let standing: Vec<GateRef> = pipeline
        .targets
        .values()
        .filter(|target| wanted(&target.name))
        .flat_map(|target| {
            target
                .standing_gates()
                .filter(|(_, gate)| gate.wants_approval() == approval)
                .map(|(place, _)| GateRef::new(&target.name, place))
        })
        .collect();
    match standing.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(ControlError::Invalid {
            problem: "no gate stands that could be meant; name one in `gate`".to_owned(),
        }),
        several => {
            let gates: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(ControlError::Invalid {
                problem: format!("several gates could be meant; name one of {}", gates.join(", ")),
            })
        }
    }
}
