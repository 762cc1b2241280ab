//! Signing keys kept in a store, so that a restart keeps them and replicas share them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aurora_core::error::{BoxError, ErrorChain};
use aurora_core::port::store::{Batch, Precondition, Record, RecordKey, Scope, SharedStore, StoreError};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::key_ring::{KeyRing, KeySchedule};

/// The stored keys are read again after this long: another replica may have rotated them.
const READ_EVERY: Duration = Duration::from_secs(30);

/// How often a rotation that collided with another replica's is tried again.
const MAX_COLLISIONS: u32 = 8;

/// The keys cannot be had or kept.
#[derive(Debug, thiserror::Error)]
#[error("the signing keys cannot be used")]
pub struct KeysError {
    /// Why.
    pub source: BoxError,
}

/// Reads, rotates and remembers the keys; the store seals them.
pub(super) struct SigningKeys {
    store: SharedStore,
    schedule: KeySchedule,
    held: Mutex<Option<Held>>,
    /// One caller reads or rotates; the others wait for what it finds.
    turn: Semaphore,
}

#[derive(Clone, Debug)]
struct Held {
    ring: Arc<KeyRing>,
    read_at: Instant,
}

impl fmt::Debug for SigningKeys {
    /// Shows no store: one in memory would show what it holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys")
            .field("schedule", &self.schedule)
            .finish_non_exhaustive()
    }
}

impl SigningKeys {
    pub(super) fn new(store: SharedStore, schedule: KeySchedule) -> Self {
        Self {
            store,
            schedule,
            held: Mutex::default(),
            turn: Semaphore::new(1),
        }
    }

    /// The keys as they should be at `now`; made, rotated and stored where they are not.
    pub(super) async fn at(&self, now: Timestamp) -> Result<Arc<KeyRing>, KeysError> {
        if let Some(ring) = self.recent(now)? {
            return Ok(ring);
        }
        let _turn = self.turn.acquire().await.map_err(failed)?;
        if let Some(ring) = self.recent(now)? {
            return Ok(ring);
        }
        match self
            .update(|ring| ring.rotated(self.schedule, now).map_err(failed))
            .await
        {
            Ok(ring) => Ok(ring),
            Err(error) => {
                // A store that is away for a while does not stop tokens: the last keys still sign.
                let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
                match held {
                    Some(held) if held.ring.signing(now).is_some() => {
                        tracing::warn!(error = %ErrorChain(&error), "signing keys not read again");
                        Ok(held.ring)
                    }
                    _ => Err(error),
                }
            }
        }
    }

    /// Withdraws a key at once, for one that leaked; tells whether there was such a key.
    pub(super) async fn withdraw(&self, id: &str, now: Timestamp) -> Result<bool, KeysError> {
        let _turn = self.turn.acquire().await.map_err(failed)?;
        let mut found = false;
        self.update(|ring| {
            let without = ring.without(id, now).map_err(failed)?;
            found = without.is_some();
            Ok(without)
        })
        .await?;
        Ok(found)
    }

    fn recent(&self, now: Timestamp) -> Result<Option<Arc<KeyRing>>, KeysError> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(held) = held.filter(|held| held.read_at.elapsed() < READ_EVERY) else {
            return Ok(None);
        };
        let stands = held.ring.rotated(self.schedule, now).map_err(failed)?.is_none();
        Ok(stands.then_some(held.ring))
    }

    /// Reads the stored keys, changes them, and writes them if nobody else did meanwhile.
    async fn update(
        &self,
        mut change: impl FnMut(&KeyRing) -> Result<Option<KeyRing>, KeysError>,
    ) -> Result<Arc<KeyRing>, KeysError> {
        let key = RecordKey::new("oidc.keys", "signing");
        for _ in 0..MAX_COLLISIONS {
            let stored = self.store.get(&Scope::Global, &key).await.map_err(failed)?;
            let ring = match &stored {
                Some(record) => KeyRing::decode(&record.value).map_err(failed)?,
                None => KeyRing::default(),
            };
            let Some(changed) = change(&ring)? else {
                return Ok(self.hold(ring));
            };
            match self.store.commit(batch(&key, stored.as_ref(), &changed)).await {
                Ok(_) => return Ok(self.hold(changed)),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed("other replicas keep changing them"))
    }

    fn hold(&self, ring: KeyRing) -> Arc<KeyRing> {
        let ring = Arc::new(ring);
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Held {
            ring: Arc::clone(&ring),
            read_at: Instant::now(),
        });
        ring
    }
}

fn batch(key: &RecordKey, stored: Option<&Record>, ring: &KeyRing) -> Batch {
    let mut batch = Batch::new(Scope::Global);
    batch.preconditions.push(match stored {
        Some(record) => Precondition::Version(key.clone(), record.version),
        None => Precondition::Absent(key.clone()),
    });
    batch.puts.push((key.clone(), ring.encode().into()));
    batch
}

fn failed(source: impl Into<BoxError>) -> KeysError {
    KeysError {
        source: source.into(),
    }
}
