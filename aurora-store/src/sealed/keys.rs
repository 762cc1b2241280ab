//! Master keys, and the data keys of each scope that they wrap.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aurora_core::error::{BoxError, ErrorKind};
use aurora_core::port::store::{Batch, Precondition, Record, RecordKey, Scan, Scope, Store, StoreError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::crypto::{CryptoError, Header, KEY_BYTES, Key, Place};
use super::{RESERVED, corrupt};

const KEYS: &str = "sealed.key";
const SCOPES: &str = "sealed.scope";
/// A page of keys or scopes; there are few of either.
const PAGE: usize = 500;

/// Wraps data keys; comes from a file, the environment or a key service, and is never stored.
#[derive(Clone, Debug)]
pub struct MasterKey(Key);

/// A text is not a master key, or none can be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MasterKeyError {
    /// The text is something else.
    #[error("a master key is 32 bytes in base64: make one with `openssl rand -base64 32`")]
    Malformed,
    /// There is no randomness.
    #[error("the system gives no random bytes to make a master key of")]
    NoRandomness,
}

impl MasterKey {
    /// Takes the bytes of a key.
    pub const fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Key::new(bytes))
    }

    /// Reads a key from base64; white space around it is fine.
    ///
    /// # Errors
    /// `Malformed` when it is not 32 bytes in base64.
    pub fn from_base64(text: &str) -> Result<Self, MasterKeyError> {
        let bytes = STANDARD
            .decode(text.trim())
            .map_err(|_| MasterKeyError::Malformed)?;
        let bytes = bytes.try_into().map_err(|_| MasterKeyError::Malformed)?;
        Ok(Self::from_bytes(bytes))
    }

    /// Makes a new key.
    ///
    /// # Errors
    /// `NoRandomness` when the system has none.
    pub fn generate() -> Result<Self, MasterKeyError> {
        Key::generate()
            .map(Self)
            .map_err(|_| MasterKeyError::NoRandomness)
    }

    /// The key as base64, to be kept where only its owner can read it.
    pub fn expose_base64(&self) -> String {
        STANDARD.encode(self.0.expose())
    }
}

impl MasterKeyError {
    /// What can be done about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Malformed => ErrorKind::Invalid,
            Self::NoRandomness => ErrorKind::Internal,
        }
    }
}

/// The master key in use, and older ones that still open what they wrapped.
#[derive(Clone, Debug)]
pub struct MasterKeys {
    current: MasterKey,
    older: Vec<MasterKey>,
}

impl MasterKeys {
    /// One key.
    pub const fn new(current: MasterKey) -> Self {
        Self {
            current,
            older: Vec::new(),
        }
    }

    /// Also opens what an older key wrapped, until [`rewrap`](super::SealedStore::rewrap) is through.
    #[must_use]
    pub fn with_older(mut self, key: MasterKey) -> Self {
        self.older.push(key);
        self
    }

    fn wrap(&self, scope: &Scope, number: u64, key: &Key) -> Result<Vec<u8>, CryptoError> {
        let name = key_id(number);
        let master = &self.current.0;
        master.seal(master.fingerprint(), place(&scope.as_text(), &name), key.expose())
    }

    fn unwrap(&self, scope: &Scope, number: u64, wrapped: &[u8]) -> Result<Key, BoxError> {
        let fingerprint = Header::read(wrapped)?.key;
        let master = std::iter::once(&self.current)
            .chain(&self.older)
            .find(|master| master.0.fingerprint() == fingerprint)
            .ok_or(UnknownMaster)?;
        let name = key_id(number);
        let bytes = master.0.open(place(&scope.as_text(), &name), wrapped)?;
        let bytes = bytes.try_into().map_err(|_| CryptoError::UnknownFormat)?;
        Ok(Key::new(bytes))
    }

    fn is_current(&self, wrapped: &[u8]) -> bool {
        Header::read(wrapped).is_ok_and(|header| header.key == self.current.0.fingerprint())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no master key that was given wrapped it: give the one that did as an older key")]
struct UnknownMaster;

/// The data keys of one scope; the highest number seals.
#[derive(Clone, Debug, Default)]
pub(super) struct ScopeKeys(Arc<BTreeMap<u64, Key>>);

impl ScopeKeys {
    pub(super) fn newest(&self) -> Option<(u64, &Key)> {
        self.0.last_key_value().map(|(number, key)| (*number, key))
    }

    pub(super) fn first(&self) -> Option<&Key> {
        self.0.first_key_value().map(|(_, key)| key)
    }

    pub(super) fn number(&self, number: u64) -> Option<&Key> {
        self.0.get(&number)
    }
}

/// All data keys that were needed so far.
pub(super) struct KeyRing {
    masters: MasterKeys,
    known: Mutex<BTreeMap<Scope, ScopeKeys>>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").finish_non_exhaustive()
    }
}

impl KeyRing {
    pub(super) fn new(masters: MasterKeys) -> Self {
        Self {
            masters,
            known: Mutex::default(),
        }
    }

    /// Keys to seal with: the scope's first one is made now if there is none.
    pub(super) async fn for_sealing<S: Store>(
        &self,
        store: &S,
        scope: &Scope,
    ) -> Result<ScopeKeys, StoreError> {
        let known = self.known(scope);
        if known.newest().is_some() {
            return Ok(known);
        }
        let stored = self.load(store, scope).await?;
        if stored.newest().is_some() {
            return Ok(stored);
        }
        self.add(store, scope, 1).await
    }

    /// Keys to open with what key `number` sealed; they are read again when it is not known here.
    pub(super) async fn for_opening<S: Store>(
        &self,
        store: &S,
        scope: &Scope,
        number: u64,
    ) -> Result<ScopeKeys, StoreError> {
        let known = self.known(scope);
        if known.number(number).is_some() {
            return Ok(known);
        }
        self.load(store, scope).await
    }

    /// Makes the next data key of a scope: from now on it seals.
    pub(super) async fn rotate<S: Store>(&self, store: &S, scope: &Scope) -> Result<u64, StoreError> {
        let newest = self
            .load(store, scope)
            .await?
            .newest()
            .map_or(0, |(number, _)| number);
        self.add(store, scope, newest + 1).await?;
        Ok(newest + 1)
    }

    /// Wraps every data key with the current master key that was wrapped with an older one.
    pub(super) async fn rewrap<S: Store>(&self, store: &S) -> Result<usize, StoreError> {
        let mut rewrapped = 0;
        for entry in all(store, &Scope::Global, SCOPES).await? {
            let scope = scope_of(&entry.key.id)?;
            for record in all(store, &scope, KEYS).await? {
                if self.masters.is_current(&record.value) {
                    continue;
                }
                let (number, key) = self.read(&scope, &record)?;
                let wrapped = self.masters.wrap(&scope, number, &key).map_err(sealing)?;
                let mut batch = Batch::new(scope.clone());
                let holds = Precondition::Version(record.key.clone(), record.version);
                batch.preconditions.push(holds);
                batch.puts.push((record.key, wrapped.into()));
                store.commit(batch).await?;
                rewrapped += 1;
            }
        }
        Ok(rewrapped)
    }

    async fn add<S: Store>(&self, store: &S, scope: &Scope, number: u64) -> Result<ScopeKeys, StoreError> {
        // The list of scopes comes first: a scope with keys that `rewrap` does not find would be lost with
        // the old master key.
        let listed = RecordKey::new(SCOPES, scope.as_text());
        if store.get(&Scope::Global, &listed).await?.is_none() {
            let mut batch = Batch::new(Scope::Global);
            batch.puts.push((listed, Vec::new().into()));
            store.commit(batch).await?;
        }
        let key = Key::generate().map_err(sealing)?;
        let wrapped = self.masters.wrap(scope, number, &key).map_err(sealing)?;
        let record = RecordKey::new(KEYS, key_id(number));
        let mut batch = Batch::new(scope.clone());
        batch.preconditions.push(Precondition::Absent(record.clone()));
        batch.puts.push((record, wrapped.into()));
        match store.commit(batch).await {
            // Somebody else made it first: theirs is the key.
            Ok(_) | Err(StoreError::Conflict { .. }) => self.load(store, scope).await,
            Err(error) => Err(error),
        }
    }

    async fn load<S: Store>(&self, store: &S, scope: &Scope) -> Result<ScopeKeys, StoreError> {
        let mut keys = BTreeMap::new();
        for record in all(store, scope, KEYS).await? {
            let (number, key) = self.read(scope, &record)?;
            keys.insert(number, key);
        }
        let keys = ScopeKeys(Arc::new(keys));
        if keys.newest().is_some() {
            self.lock().insert(scope.clone(), keys.clone());
        }
        Ok(keys)
    }

    fn read(&self, scope: &Scope, record: &Record) -> Result<(u64, Key), StoreError> {
        let what = || format!("the data key `{}` of `{}`", record.key.id, scope.as_text());
        let number = record
            .key
            .id
            .parse()
            .map_err(|error: std::num::ParseIntError| corrupt(what(), error))?;
        let key = self.masters.unwrap(scope, number, &record.value);
        Ok((number, key.map_err(|error| corrupt(what(), error))?))
    }

    fn known(&self, scope: &Scope) -> ScopeKeys {
        self.lock().get(scope).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Scope, ScopeKeys>> {
        // Nothing that may panic runs while it is held.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn all<S: Store>(store: &S, scope: &Scope, kind: &str) -> Result<Vec<Record>, StoreError> {
    debug_assert!(kind.starts_with(RESERVED));
    let mut found: Vec<Record> = Vec::new();
    loop {
        let scan = Scan {
            kind: kind.to_owned(),
            prefix: String::new(),
            after: found.last().map(|record| record.key.id.clone()),
            reverse: false,
            limit: PAGE,
        };
        let page = store.scan(scope, scan).await?;
        let is_last = page.len() < PAGE;
        found.extend(page);
        if is_last {
            return Ok(found);
        }
    }
}

fn place<'a>(scope: &'a str, name: &'a str) -> Place<'a> {
    Place {
        sort: "data key",
        scope,
        name: [name, ""],
        version: None,
    }
}

fn key_id(number: u64) -> String {
    format!("{number:08}")
}

fn scope_of(text: &str) -> Result<Scope, StoreError> {
    if text == Scope::Global.as_text() {
        return Ok(Scope::Global);
    }
    text.parse()
        .map(Scope::Tenant)
        .map_err(|error: aurora_core::tenant::InvalidName| corrupt(format!("the scope `{text}`"), error))
}

pub(super) fn sealing(error: CryptoError) -> StoreError {
    StoreError::Unavailable { source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_key_reads_back_and_shows_nothing() {
        let key = MasterKey::generate().unwrap();
        let text = key.expose_base64();
        let read = MasterKey::from_base64(&format!(" {text}\n")).unwrap();
        assert_eq!(read.expose_base64(), text);
        assert!(!format!("{:?}", MasterKeys::new(read)).contains(&text[..8]));
        for bad in ["", "short", &text[..40], "!!!!"] {
            assert_eq!(
                MasterKey::from_base64(bad).unwrap_err(),
                MasterKeyError::Malformed
            );
        }
    }
}
