//! What is secret in an object, replaced by a tag: readers can tell equal from changed, and nothing else.

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::port::store::{Batch, Precondition, RecordKey, Scope, Store, StoreError};

/// The kind of the record that holds a tenant's key for tags.
const KIND: &str = "redaction.key";

/// The block that HMAC-SHA256 works on.
const BLOCK: usize = 64;

/// Characters of a tag: enough that two secrets of one tenant do not share one by chance.
const TAG: usize = 24;

/// What clients put the whole object into, secrets included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Replaces secrets by tags under a key of the tenant: a plain hash of a short secret could be guessed.
pub(super) struct Redactor {
    key: Bytes,
}

impl Redactor {
    /// With the tenant's key, which is made when it is first needed.
    pub(super) async fn of(store: &dyn Store, scope: &Scope) -> Result<Self, StoreError> {
        let key = RecordKey::new(KIND, "v1");
        loop {
            if let Some(record) = store.get(scope, &key).await? {
                return Ok(Self { key: record.value });
            }
            let made: Vec<u8> = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()]
                .iter()
                .flat_map(|part| *part.as_bytes())
                .collect();
            let mut batch = Batch::new(scope.clone());
            batch.preconditions.push(Precondition::Absent(key.clone()));
            batch.puts.push((key.clone(), made.into()));
            match store.commit(batch).await {
                // Somebody else made one: that is it then.
                Ok(_) | Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The object without its secrets.
    pub(super) fn redact(&self, mut body: Value) -> Value {
        let secret = body["kind"] == "Secret" && body["apiVersion"] == "v1";
        if !secret {
            return body;
        }
        for field in ["data", "stringData"] {
            let Some(values) = body.get_mut(field) else {
                continue;
            };
            match values {
                Value::Object(values) => {
                    for value in values.values_mut() {
                        *value = self.tagged(value);
                    }
                }
                other => *other = self.tagged(other),
            }
        }
        let annotation = body
            .get_mut("metadata")
            .and_then(|metadata| metadata.get_mut("annotations"))
            .and_then(|annotations| annotations.get_mut(LAST_APPLIED));
        if let Some(annotation) = annotation {
            *annotation = self.tagged(annotation);
        }
        body
    }

    fn tagged(&self, value: &Value) -> Value {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        json!({"redacted": true, "tag": self.tag(text.as_bytes())})
    }

    fn tag(&self, message: &[u8]) -> String {
        let mut key = [0_u8; BLOCK];
        for (place, byte) in key.iter_mut().zip(self.key.iter()) {
            *place = *byte;
        }
        let padded = |pad: u8| key.map(|byte| byte ^ pad);
        let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message);
        let outer = Sha256::new()
            .chain_update(padded(0x5c))
            .chain_update(inner.finalize());
        let mut text = String::new();
        for byte in outer.finalize() {
            text.push_str(&format!("{byte:02x}"));
        }
        text.truncate(TAG);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_those_of_hmac_sha256() {
        // RFC 4231, test case 2.
        let redactor = Redactor {
            key: Bytes::from_static(b"Jefe"),
        };
        assert_eq!(
            redactor.tag(b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426"
        );
    }

    #[test]
    fn no_value_of_a_secret_is_left_and_equal_ones_stay_equal() {
        let redactor = Redactor {
            key: Bytes::from_static(b"key"),
        };
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "db", "annotations": {LAST_APPLIED: "hunter2 again"}},
            "data": {"a": "aHVudGVyMg==", "b": "aHVudGVyMg==", "c": "b3RoZXI="},
            "stringData": {"d": "hunter2"},
        });
        let redacted = redactor.redact(secret);
        let text = redacted.to_string();
        for value in ["aHVudGVyMg==", "b3RoZXI=", "hunter2"] {
            assert!(!text.contains(value), "{text}");
        }
        assert_eq!(redacted["data"]["a"], redacted["data"]["b"]);
        assert_ne!(redacted["data"]["a"], redacted["data"]["c"]);
        let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "shown"}});
        assert_eq!(redactor.redact(config.clone()), config);
    }
}
