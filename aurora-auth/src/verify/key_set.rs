//! The keys of an issuer as they were published at one moment.

use std::sync::Arc;

use serde::Deserialize;

use super::key::VerificationKey;
use super::policy::Algorithm;

/// The most keys that a set may hold, usable or not.
const MAX_KEYS: usize = 64;

/// The usable keys of one document; a set is only ever replaced as a whole.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Arc<VerificationKey>>,
}

/// The document is not a set that can be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum InvalidKeySet {
    #[error("two keys have the same id")]
    AmbiguousId,
    #[error("the document is not a JSON Web Key Set")]
    NotAKeySet,
    #[error("the set has more than {MAX_KEYS} keys")]
    TooManyKeys,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Reads a document; keys that are unknown, private or weak are left out.
    pub(super) fn parse(document: &[u8], allowed: &[Algorithm]) -> Result<Self, InvalidKeySet> {
        let Document { keys: published } =
            serde_json::from_slice(document).map_err(|_| InvalidKeySet::NotAKeySet)?;
        if published.len() > MAX_KEYS {
            return Err(InvalidKeySet::TooManyKeys);
        }
        let mut keys: Vec<Arc<VerificationKey>> = Vec::new();
        for jwk in &published {
            let Some(key) = VerificationKey::import(jwk, allowed) else {
                continue;
            };
            if key.id.is_some() && keys.iter().any(|other| other.id == key.id) {
                return Err(InvalidKeySet::AmbiguousId);
            }
            keys.push(Arc::new(key));
        }
        Ok(Self { keys })
    }

    /// The key of an id; without an id the only key there is.
    pub(super) fn find(&self, id: Option<&str>) -> Option<Arc<VerificationKey>> {
        match (id, self.keys.as_slice()) {
            (Some(_), keys) => keys.iter().find(|key| key.id.as_deref() == id).cloned(),
            (None, [only]) => Some(Arc::clone(only)),
            (None, _) => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}
