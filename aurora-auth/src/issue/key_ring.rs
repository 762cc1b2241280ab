//! The signing keys of an issuer and when each is published, used and withdrawn.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::EncodingKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// When keys come and go.
///
/// A key is published before it signs, so that every verifier has it by then, and stays published after the
/// next one took over, until everything it signed has ended.
#[derive(Clone, Copy, Debug)]
pub struct KeySchedule {
    /// How long a key signs.
    pub rotate_every: Duration,
    /// How long before that it is published: longer than verifiers keep keys.
    pub publish_before: Duration,
    /// How long after that it stays: longer than a token lives and verifiers keep keys.
    pub keep_after: Duration,
}

impl Default for KeySchedule {
    /// A week, two hours, three hours: verifiers keep keys and tokens live for an hour at most.
    fn default() -> Self {
        Self {
            rotate_every: Duration::from_secs(7 * 24 * 3600),
            publish_before: Duration::from_secs(2 * 3600),
            keep_after: Duration::from_secs(3 * 3600),
        }
    }
}

/// One signing key.
pub(super) struct SigningKey {
    pub(super) id: String,
    pub(super) signs_from: Timestamp,
    pkcs8: Vec<u8>,
    public: PublicPoint,
    pub(super) encoding: EncodingKey,
}

struct PublicPoint {
    x: String,
    y: String,
}

/// The keys in the order in which they sign.
#[derive(Debug, Default)]
pub(super) struct KeyRing {
    keys: Vec<std::sync::Arc<SigningKey>>,
}

/// The keys as they are stored, version 1.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored {
    v: u32,
    keys: Vec<StoredKey>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredKey {
    alg: String,
    pkcs8: String,
    signs_from: Timestamp,
}

/// Keys cannot be made, or what is stored are none.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum KeyRingError {
    #[error("a signing key cannot be made")]
    Generate,
    #[error("the stored signing keys cannot be read; their version may be newer than this program")]
    Stored,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.id)
            .field("signs_from", &self.signs_from)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    fn generate(signs_from: Timestamp) -> Result<Self, KeyRingError> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| KeyRingError::Generate)?;
        Self::from_pkcs8(pkcs8.as_ref(), signs_from).ok_or(KeyRingError::Generate)
    }

    fn from_pkcs8(pkcs8: &[u8], signs_from: Timestamp) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).ok()?;
        // An uncompressed point: one tag byte, then x and y of 32 bytes each.
        let point = pair.public_key().as_ref();
        let (x, y) = point.get(1..)?.split_at_checked(32)?;
        let public = PublicPoint {
            x: URL_SAFE_NO_PAD.encode(x),
            y: URL_SAFE_NO_PAD.encode(y),
        };
        Some(Self {
            id: public.thumbprint(),
            signs_from,
            pkcs8: pkcs8.to_vec(),
            encoding: EncodingKey::from_ec_der(pkcs8),
            public,
        })
    }

    fn jwk(&self) -> serde_json::Value {
        serde_json::json!({
            "alg": "ES256",
            "crv": "P-256",
            "kid": self.id,
            "kty": "EC",
            "use": "sig",
            "x": self.public.x,
            "y": self.public.y,
        })
    }
}

impl PublicPoint {
    /// The thumbprint of RFC 7638: the same key always has the same id.
    fn thumbprint(&self) -> String {
        let canonical = format!(
            r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#,
            self.x, self.y
        );
        URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))
    }
}

impl KeyRing {
    pub(super) fn decode(stored: &[u8]) -> Result<Self, KeyRingError> {
        let stored: Stored = serde_json::from_slice(stored).map_err(|_| KeyRingError::Stored)?;
        if stored.v != 1 {
            return Err(KeyRingError::Stored);
        }
        let mut keys = Vec::new();
        for key in stored.keys {
            let pkcs8 = STANDARD.decode(&key.pkcs8).map_err(|_| KeyRingError::Stored)?;
            let read = SigningKey::from_pkcs8(&pkcs8, key.signs_from).filter(|_| key.alg == "ES256");
            keys.push(read.ok_or(KeyRingError::Stored)?.into());
        }
        Ok(Self { keys })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let stored = Stored {
            v: 1,
            keys: self
                .keys
                .iter()
                .map(|key| StoredKey {
                    alg: "ES256".into(),
                    pkcs8: STANDARD.encode(&key.pkcs8),
                    signs_from: key.signs_from,
                })
                .collect(),
        };
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// The key that signs at a time: the last whose turn has come, or the first of all.
    pub(super) fn signing(&self, now: Timestamp) -> Option<&SigningKey> {
        let turn_has_come = self.keys.iter().rev().find(|key| key.signs_from <= now);
        turn_has_come.or(self.keys.first()).map(|key| &**key)
    }

    /// The document of public keys.
    pub(super) fn published(&self) -> serde_json::Value {
        serde_json::json!({ "keys": self.keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() })
    }

    /// The ring as it should be at a time; `None` where it is so already.
    pub(super) fn rotated(
        &self,
        schedule: KeySchedule,
        now: Timestamp,
    ) -> Result<Option<Self>, KeyRingError> {
        let mut keys = self.keys.clone();
        let is_over = |successor: &SigningKey| after(successor.signs_from, schedule.keep_after) <= now;
        while keys.get(1).is_some_and(|successor| is_over(successor)) {
            keys.remove(0);
        }
        let made = match keys.last() {
            None => Some(SigningKey::generate(now)?),
            Some(newest) => {
                let turn = after(newest.signs_from, schedule.rotate_every);
                let due = turn.checked_sub(schedule.publish_before).unwrap_or(now);
                if due <= now {
                    // A turn that was missed while nobody asked is made up for, but published first.
                    Some(SigningKey::generate(
                        turn.max(after(now, schedule.publish_before)),
                    )?)
                } else {
                    None
                }
            }
        };
        if made.is_none() && keys.len() == self.keys.len() {
            return Ok(None);
        }
        keys.extend(made.map(Into::into));
        Ok(Some(Self { keys }))
    }

    /// The ring without a key, with a new one in its place if it was the one that signs.
    pub(super) fn without(&self, id: &str, now: Timestamp) -> Result<Option<Self>, KeyRingError> {
        let mut keys: Vec<_> = self.keys.iter().filter(|key| key.id != id).cloned().collect();
        if keys.len() == self.keys.len() {
            return Ok(None);
        }
        if self.signing(now).is_some_and(|signing| signing.id == id) {
            keys.push(SigningKey::generate(now)?.into());
            keys.sort_by_key(|key| key.signs_from);
        }
        Ok(Some(Self { keys }))
    }

    #[cfg(test)]
    fn ids(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.id.clone()).collect()
    }
}

fn after(at: Timestamp, span: Duration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * HOUR).unwrap()
    }

    fn schedule() -> KeySchedule {
        KeySchedule {
            rotate_every: Duration::from_secs(24 * 3600),
            publish_before: Duration::from_secs(2 * 3600),
            keep_after: Duration::from_secs(3 * 3600),
        }
    }

    fn rotate(ring: &KeyRing, hours: i64) -> Option<KeyRing> {
        ring.rotated(schedule(), at(hours)).unwrap()
    }

    #[test]
    fn the_next_key_is_published_before_it_signs_and_the_last_one_stays_until_its_tokens_ended() {
        let ring = rotate(&KeyRing::default(), 0).unwrap();
        let first = ring.ids()[0].clone();
        assert_eq!(ring.signing(at(0)).unwrap().id, first);
        assert!(rotate(&ring, 21).is_none());

        let ring = rotate(&ring, 22).unwrap();
        let second = ring.ids()[1].clone();
        assert_eq!(ring.ids(), [first.clone(), second.clone()]);
        assert_eq!(ring.signing(at(22)).unwrap().id, first);
        assert_eq!(ring.signing(at(23)).unwrap().id, first);
        assert_eq!(ring.signing(at(24)).unwrap().id, second);

        assert!(rotate(&ring, 26).is_none(), "the old key stays");
        let ring = rotate(&ring, 27).unwrap();
        assert_eq!(ring.ids(), [second]);
    }

    #[test]
    fn a_missed_rotation_still_publishes_before_it_signs() {
        let ring = rotate(&KeyRing::default(), 0).unwrap();
        let first = ring.ids()[0].clone();
        let ring = rotate(&ring, 500).unwrap();
        assert_eq!(ring.signing(at(501)).unwrap().id, first);
        assert_eq!(ring.signing(at(502)).unwrap().id, ring.ids()[1]);
    }

    #[test]
    fn a_clock_that_goes_back_still_signs_with_a_published_key() {
        let ring = rotate(&KeyRing::default(), 0).unwrap();
        assert_eq!(ring.signing(at(-100)).unwrap().id, ring.ids()[0]);
        assert!(rotate(&ring, -100).is_none());
    }

    #[test]
    fn a_withdrawn_key_is_gone_at_once_and_another_signs() {
        let ring = rotate(&KeyRing::default(), 0).unwrap();
        let first = ring.ids()[0].clone();
        let ring = ring.without(&first, at(1)).unwrap().unwrap();
        assert_ne!(ring.signing(at(1)).unwrap().id, first);
        assert_eq!(ring.ids().len(), 1);
        assert!(ring.without("unknown", at(1)).unwrap().is_none());
    }

    #[test]
    fn a_ring_reads_back_and_publishes_no_private_member() {
        let ring = rotate(&rotate(&KeyRing::default(), 0).unwrap(), 22).unwrap();
        let read = KeyRing::decode(&ring.encode()).unwrap();
        assert_eq!(read.ids(), ring.ids());
        assert_eq!(read.published(), ring.published());
        for jwk in ring.published()["keys"].as_array().unwrap() {
            let members: Vec<_> = jwk.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
        }
        for bad in [
            "",
            "{}",
            r#"{"v":2,"keys":[]}"#,
            r#"{"v":1,"keys":[{"alg":"ES256","pkcs8":"AA==","signsFrom":"2026-01-01T00:00:00Z"}]}"#,
        ] {
            assert_eq!(
                KeyRing::decode(bad.as_bytes()).err(),
                Some(KeyRingError::Stored),
                "{bad}"
            );
        }
        let shown = format!("{ring:?}");
        assert!(!shown.contains("pkcs8"), "{shown}");
    }

    /// The form in which version 1 stores keys; it must be readable for ever.
    const STORED_V1: &str = r#"{"v":1,"keys":[{"alg":"ES256","pkcs8":"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgGlF+cEVdkc2ho/kcKc9kI114uj+2he1dP2q3TDqo3MChRANCAATxfb2vkC+/roPc+nZHoB5CE80ij6zJ+oAw9y9YYOXnObMpRK2hna+M/iddJDprgQ5bCpqlTraxPRPESBKQgbmL","signsFrom":"2027-01-15T08:00:00Z"}]}"#;

    #[test]
    fn keys_that_version_1_stored_are_read_and_written_alike() {
        let ring = KeyRing::decode(STORED_V1.as_bytes()).unwrap();
        assert_eq!(ring.signing(at(0)).unwrap().signs_from, at(0));
        assert_eq!(
            ring.published()["keys"][0]["x"],
            "8X29r5Avv66D3Pp2R6AeQhPNIo-syfqAMPcvWGDl5zk"
        );
        assert_eq!(String::from_utf8(ring.encode()).unwrap(), STORED_V1);
    }

    #[test]
    fn the_id_of_a_key_is_its_thumbprint() {
        let point = PublicPoint {
            x: "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4".into(),
            y: "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM".into(),
        };
        assert_eq!(point.thumbprint(), "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s");
    }
}
