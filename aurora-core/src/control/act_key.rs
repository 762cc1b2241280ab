//! Keys that clients choose so that a repeated act has no second effect.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::feed::Cursor;
use super::{ControlError, ControlPlane, Door, Recorded, journal};
use crate::authz::{Deploy, Grant};
use crate::digest::Digest;
use crate::id::PipelineId;
use crate::pipeline::{GateRef, What, decode};
use crate::port::store::{Batch, Precondition, RecordKey, Scope, Store, StoreError};

/// A key and what it was given for.
pub(super) struct ActKey {
    record: RecordKey,
    act: Digest,
}

#[derive(Deserialize, Serialize)]
struct UsedKey {
    pipeline: PipelineId,
    act: Digest,
    version: u64,
}

impl ActKey {
    /// The key of an act, where its door has one; `act` tells it from every other one.
    pub(super) fn of(grant: &Grant<Deploy>, door: &Door, act: &Value) -> Option<Self> {
        let key = door.idempotency.as_ref()?;
        // Two principals may use the same key for different things.
        let named = Digest::of(format!("{}\n{key}", grant.principal().id).as_bytes());
        Some(Self {
            record: RecordKey::new("idempotency", format!("act/{named}")),
            act: Digest::of_json(act),
        })
    }

    /// The answer that was given to this key before.
    pub(super) async fn answered(
        &self,
        store: &dyn Store,
        scope: &Scope,
    ) -> Result<Option<Recorded>, ControlError> {
        let Some(used) = self.used(store, scope).await? else {
            return Ok(None);
        };
        if used.act != self.act {
            return Err(ControlError::KeyReused);
        }
        let stream = journal::name(used.pipeline);
        let events = store
            .read_stream(scope, &stream, used.version.saturating_sub(1), 1)
            .await?;
        let feed = events.first().map_or(0, |event| event.feed);
        Ok(Some(Recorded {
            pipeline: used.pipeline,
            version: used.version,
            cursor: Cursor::at(feed),
        }))
    }

    async fn used(&self, store: &dyn Store, scope: &Scope) -> Result<Option<UsedKey>, ControlError> {
        let Some(record) = store.get(scope, &self.record).await? else {
            return Ok(None);
        };
        let used = serde_json::from_slice(&record.value).map_err(|source| StoreError::Corrupt {
            what: format!("record `{}`", self.record.kind),
            source: source.into(),
        })?;
        Ok(Some(used))
    }

    /// Has the batch that records the act remember the key.
    pub(super) fn remember(&self, batch: &mut Batch, pipeline: PipelineId, version: u64) {
        let used = UsedKey {
            pipeline,
            act: self.act,
            version,
        };
        let used = serde_json::to_vec(&used).unwrap_or_default();
        batch
            .preconditions
            .push(Precondition::Absent(self.record.clone()));
        batch.puts.push((self.record.clone(), used.into()));
    }
}

impl ControlPlane {
    /// The gate that was decided about under the door's key before, if it was one of this pipeline.
    ///
    /// A repeat that does not name its gate means the one that the first request meant, which may be gone by now.
    ///
    /// # Errors
    /// [`ControlError`].
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    pub async fn gate_of_key(
        &self,
        grant: &Grant<Deploy>,
        door: &Door,
        id: PipelineId,
    ) -> Result<Option<GateRef>, ControlError> {
        let (store, scope) = (self.inner.store.as_ref(), Scope::from(grant.tenant()));
        let Some(key) = ActKey::of(grant, door, &Value::Null) else {
            return Ok(None);
        };
        let Some(used) = key.used(store, &scope).await?.filter(|used| used.pipeline == id) else {
            return Ok(None);
        };
        let stream = journal::name(id);
        let before = used.version.saturating_sub(1);
        let events = store.read_stream(&scope, &stream, before, 1).await?;
        let event = events.first().and_then(|event| decode(&event.value).ok());
        Ok(match event.map(|event| event.what) {
            Some(What::GateOpened { gate } | What::GateRejected { gate } | What::GateSkipped { gate }) => {
                Some(gate)
            }
            _ => None,
        })
    }
}
