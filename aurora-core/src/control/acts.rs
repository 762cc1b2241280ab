//! Decisions of people about a run that goes on: approve, reject, skip, cancel.

use serde_json::json;

use super::act_key::ActKey;
use super::feed::Cursor;
use super::{ControlError, ControlPlane, Door, actor, audit, journal};
use crate::authz::{Deploy, Grant};
use crate::id::PipelineId;
use crate::pipeline::{Approver, GateRef, Input, Person, Pipeline, Refused};
use crate::port::store::{Batch, Scope, StoreError};

/// How often a decision is decided anew because the pipeline changed meanwhile.
pub(super) const ATTEMPTS: usize = 20;

/// The longest comment, in characters.
const MAX_COMMENT: usize = 2000;

/// What somebody decides about a gate.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Which gate.
    pub gate: GateRef,
    /// What they saw: the gate's `expect`; absent: whatever is there.
    pub expect: Option<String>,
    /// Their words.
    pub comment: Option<String>,
}

/// A decision that is stored; what follows from it is on its way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recorded {
    /// The pipeline.
    pub pipeline: PipelineId,
    /// The version of the event that recorded it.
    pub version: u64,
    /// From where the event stream shows what follows.
    pub cursor: Cursor,
}

impl ControlPlane {
    /// Opens a gate.
    ///
    /// # Errors
    /// [`ControlError`]; `Refused` when the gate is not there to be opened, or not by them.
    ///
    /// # Cancel safety
    /// The decision may or may not be stored; a repeat says so.
    pub async fn approve(
        &self,
        grant: &Grant<Deploy>,
        door: &Door,
        id: PipelineId,
        decision: Decision,
    ) -> Result<Recorded, ControlError> {
        let person = person(grant, door, decision.comment)?;
        let (gate, expect) = (decision.gate, decision.expect);
        self.record(grant, door, id, Input::Approve { gate, expect, person })
            .await
    }

    /// Refuses a gate: the pipeline is ended, and what runs is rolled back.
    ///
    /// # Errors
    /// [`ControlError`], as for [`ControlPlane::approve`].
    ///
    /// # Cancel safety
    /// The decision may or may not be stored; a repeat says so.
    pub async fn reject(
        &self,
        grant: &Grant<Deploy>,
        door: &Door,
        id: PipelineId,
        decision: Decision,
    ) -> Result<Recorded, ControlError> {
        let person = person(grant, door, decision.comment)?;
        let (gate, expect) = (decision.gate, decision.expect);
        self.record(grant, door, id, Input::Reject { gate, expect, person })
            .await
    }

    /// Ends a pipeline: what runs is rolled back, what succeeded stays, what waits never starts.
    ///
    /// # Errors
    /// [`ControlError`]; `Refused` when it is over or being ended already.
    ///
    /// # Cancel safety
    /// The decision may or may not be stored; a repeat says so.
    pub async fn cancel(
        &self,
        grant: &Grant<Deploy>,
        door: &Door,
        id: PipelineId,
        comment: Option<String>,
    ) -> Result<Recorded, ControlError> {
        let person = person(grant, door, comment)?;
        self.record(grant, door, id, Input::Cancel { person }).await
    }

    /// Opens a timed gate before its time.
    ///
    /// A gate that waits for a person is refused to everybody: an administrator approves it, and is then on
    /// record as having done so.
    ///
    /// # Errors
    /// [`ControlError`]; `Refused` when the gate does not stand, or waits for a person.
    ///
    /// # Cancel safety
    /// The decision may or may not be stored; a repeat says so.
    pub async fn skip(
        &self,
        grant: &Grant<Deploy>,
        door: &Door,
        id: PipelineId,
        decision: Decision,
    ) -> Result<Recorded, ControlError> {
        let person = person(grant, door, decision.comment)?;
        let (gate, expect) = (decision.gate, decision.expect);
        self.record(grant, door, id, Input::Skip { gate, expect, person })
            .await
    }

    async fn record(
        &self,
        grant: &Grant<Deploy>,
        door: &Door,
        id: PipelineId,
        input: Input,
    ) -> Result<Recorded, ControlError> {
        let store = self.inner.store.as_ref();
        let scope = Scope::from(grant.tenant());
        let key = act_of(id, &input).and_then(|act| ActKey::of(grant, door, &act));
        for _ in 0..ATTEMPTS {
            if let Some(key) = &key
                && let Some(answer) = key.answered(store, &scope).await?
            {
                return Ok(answer);
            }
            let pipeline = journal::load(store, &scope, id)
                .await?
                .ok_or_else(|| not_found(id))?;
            if let Some(recorded) = self.record_once(&scope, &pipeline, &input, key.as_ref()).await? {
                return Ok(recorded);
            }
        }
        Err(ControlError::Contended { id: id.to_string() })
    }

    /// Decides and stores; `None`: the pipeline changed meanwhile.
    pub(super) async fn record_once(
        &self,
        scope: &Scope,
        pipeline: &Pipeline,
        input: &Input,
        key: Option<&ActKey>,
    ) -> Result<Option<Recorded>, ControlError> {
        let id = pipeline.id;
        let events = match crate::pipeline::decide(pipeline, input.clone(), self.inner.clock.now()) {
            Ok(events) => events,
            Err(refused) => {
                self.note_denied(scope, id, input, &refused).await?;
                return Err(refused.into());
            }
        };
        let (mut batch, _) = journal::batch(scope, None, pipeline, &events);
        if let Some(key) = key {
            key.remember(&mut batch, id, pipeline.version + 1);
        }
        let more = journal::events_of(&batch).saturating_sub(1);
        match self.inner.store.commit(batch).await {
            Ok(committed) => {
                tracing::info!(scope = scope.as_text(), pipeline.id = %id, "decision recorded");
                Ok(Some(Recorded {
                    pipeline: id,
                    version: pipeline.version + 1,
                    cursor: Cursor::at(committed.feed.saturating_sub(more)),
                }))
            }
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Who tried what they may not is on record too.
    async fn note_denied(
        &self,
        scope: &Scope,
        id: PipelineId,
        input: &Input,
        refused: &Refused,
    ) -> Result<(), ControlError> {
        let Some((action, person)) = who(input) else {
            return Ok(());
        };
        self.note_refused(scope, id, person, action, refused).await
    }

    /// Who was not let, and whose act came too late or made no sense.
    pub(super) async fn note_refused(
        &self,
        scope: &Scope,
        id: PipelineId,
        person: &Person,
        action: &str,
        refused: &Refused,
    ) -> Result<(), ControlError> {
        let result = match refused {
            Refused::Denied { .. } => "denied",
            _ => "refused",
        };
        let (now, unique) = (self.inner.clock.now(), self.inner.entropy.next_u64());
        let mut batch = Batch::new(scope.clone());
        let not_let = audit::NotLet {
            person,
            action,
            result,
            why: refused.to_string(),
        };
        batch.puts.extend(audit::not_let(id, &not_let, now, unique));
        self.inner.store.commit(batch).await?;
        Ok(())
    }
}

/// What a person does, by name, and who it is.
const fn who(input: &Input) -> Option<(&'static str, &Person)> {
    match input {
        Input::Approve { person, .. } => Some(("approve", person)),
        Input::Cancel { person } => Some(("cancel", person)),
        Input::Reject { person, .. } => Some(("reject", person)),
        Input::Retry { person, .. } => Some(("retry", person)),
        Input::RollBack { person, .. } => Some(("rollback", person)),
        Input::Skip { person, .. } => Some(("skip", person)),
        Input::Heard(_) | Input::Supersede { .. } | Input::Tick | Input::Turn => None,
    }
}

/// An act apart from every other one; a repeat of it is the same.
fn act_of(id: PipelineId, input: &Input) -> Option<serde_json::Value> {
    let (name, person) = who(input)?;
    let (gate, expect) = match input {
        Input::Approve { gate, expect, .. }
        | Input::Reject { gate, expect, .. }
        | Input::Skip { gate, expect, .. } => (Some(gate), expect.as_ref()),
        _ => (None, None),
    };
    Some(json!([name, id, gate, expect, person.comment]))
}

pub(super) fn person(
    grant: &Grant<Deploy>,
    door: &Door,
    comment: Option<String>,
) -> Result<Person, ControlError> {
    let comment = comment.filter(|comment| !comment.is_empty());
    if comment
        .as_ref()
        .is_some_and(|comment| comment.chars().count() > MAX_COMMENT)
    {
        return Err(ControlError::Invalid {
            problem: format!("the comment has more than {MAX_COMMENT} characters"),
        });
    }
    let mut actor = actor(grant, door);
    actor.basis = Some("deploy".to_owned());
    Ok(Person {
        actor,
        comment,
        approver: Approver::of(grant.principal()),
    })
}

pub(super) fn not_found(id: PipelineId) -> ControlError {
    ControlError::NotFound {
        what: format!("pipeline {id}"),
    }
}
