//! Sealing and opening: AES-256-GCM under keys that are used once.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::{hmac, rand};

/// A key has so many bytes.
pub(super) const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const SALT_BYTES: usize = 16;
const TAG_BYTES: usize = 16;

/// The first byte of what was sealed: how it was sealed. A new way gets a new number.
const FORMAT: u8 = 1;

/// What a sealed value is bound to: opening it as anything else fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// What sort of thing: an event, a record, a blob, a data key.
    pub(super) sort: &'a str,
    /// The scope.
    pub(super) scope: &'a str,
    /// Its name: a stream, or kind and id.
    pub(super) name: [&'a str; 2],
    /// Its version, where it was known when it was sealed.
    pub(super) version: Option<u64>,
}

/// A secret key; it never shows itself.
#[derive(Clone)]
pub(super) struct Key([u8; KEY_BYTES]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(redacted)")
    }
}

/// Why something cannot be sealed or opened; says nothing of the key or the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum CryptoError {
    /// It was sealed elsewhere, under another key, or changed since.
    #[error("it was changed, or belongs to another place or key")]
    NotAuthentic,
    /// There is no randomness.
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// It is shorter than anything that was sealed, or sealed in a way that this program does not know.
    #[error("it was not sealed in a way that this program knows")]
    UnknownFormat,
}

/// What stands before the ciphertext.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    /// Which key sealed it.
    pub(super) key: u64,
    /// Whether its version was known.
    pub(super) is_versioned: bool,
}

const HEADER_BYTES: usize = 1 + 8 + 1 + SALT_BYTES + NONCE_BYTES;

impl Header {
    /// Reads the header of a sealed value.
    pub(super) fn read(sealed: &[u8]) -> Result<Self, CryptoError> {
        if sealed.len() < HEADER_BYTES + TAG_BYTES || sealed[0] != FORMAT || sealed[9] > 1 {
            return Err(CryptoError::UnknownFormat);
        }
        let mut key = [0; 8];
        key.copy_from_slice(&sealed[1..9]);
        Ok(Self {
            key: u64::from_be_bytes(key),
            is_versioned: sealed[9] == 1,
        })
    }
}

impl Key {
    pub(super) const fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) fn generate() -> Result<Self, CryptoError> {
        random().map(Self)
    }

    pub(super) const fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Seals a value for a place; `number` tells which key this is.
    pub(super) fn seal(&self, number: u64, place: Place<'_>, value: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let (salt, nonce): ([u8; SALT_BYTES], [u8; NONCE_BYTES]) = (random()?, random()?);
        let mut sealed = Vec::with_capacity(HEADER_BYTES + value.len() + TAG_BYTES);
        sealed.push(FORMAT);
        sealed.extend_from_slice(&number.to_be_bytes());
        sealed.push(u8::from(place.version.is_some()));
        sealed.extend_from_slice(&salt);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(value);
        let bound = bound(&sealed[..10], place);
        let tag = self
            .once(&salt)
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(bound),
                &mut sealed[HEADER_BYTES..],
            )
            .map_err(|_| CryptoError::NotAuthentic)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what was sealed for a place.
    pub(super) fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Header::read(sealed)?;
        let (head, body) = sealed.split_at(HEADER_BYTES);
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&head[10 + SALT_BYTES..]);
        let mut body = body.to_vec();
        let length = self
            .once(&head[10..10 + SALT_BYTES])
            .open_in_place(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(bound(&head[..10], place)),
                &mut body,
            )
            .map_err(|_| CryptoError::NotAuthentic)?
            .len();
        body.truncate(length);
        Ok(body)
    }

    /// A name for a body that only who has the key can guess.
    pub(super) fn index(&self, body_digest: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut context = hmac::Context::with_key(&key);
        context.update(b"aurora/sealed/blob/v1");
        context.update(body_digest);
        hex(context.sign().as_ref())
    }

    /// A number that names this key and tells nothing of it.
    pub(super) fn fingerprint(&self) -> u64 {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let tag = hmac::sign(&key, b"aurora/sealed/fingerprint/v1");
        let mut first = [0; 8];
        first.copy_from_slice(&tag.as_ref()[..8]);
        u64::from_be_bytes(first)
    }

    /// A key for one value: with 28 random bytes in salt and nonce, one data key never wears out.
    fn once(&self, salt: &[u8]) -> LessSafeKey {
        let extracted = Salt::new(HKDF_SHA256, salt).extract(&self.0);
        let unbound = extracted
            .expand(&[b"aurora/sealed/value/v1"], &AES_256_GCM)
            .map(UnboundKey::from)
            .expect("32 bytes are less than HKDF can give");
        LessSafeKey::new(unbound)
    }
}

/// What is authenticated beside the value; lengths keep neighbours apart.
fn bound(head: &[u8], place: Place<'_>) -> Vec<u8> {
    let mut bound = b"aurora/sealed/v1".to_vec();
    bound.extend_from_slice(head);
    for part in [place.sort, place.scope, place.name[0], place.name[1]] {
        bound.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bound.extend_from_slice(part.as_bytes());
    }
    bound.extend_from_slice(&place.version.unwrap_or(0).to_be_bytes());
    bound
}

fn random<const N: usize>() -> Result<[u8; N], CryptoError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| CryptoError::NoRandomness)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACE: Place<'static> = Place {
        sort: "record",
        scope: "acme/main",
        name: ["kind", "id"],
        version: Some(3),
    };

    fn key() -> Key {
        Key::new([7; KEY_BYTES])
    }

    #[test]
    fn a_value_opens_only_in_its_place_and_with_its_key() {
        let sealed = key().seal(1, PLACE, b"secret").unwrap();
        assert_eq!(key().open(PLACE, &sealed).unwrap(), b"secret");
        let elsewhere = [
            Place {
                sort: "event",
                ..PLACE
            },
            Place {
                scope: "acme/main-2",
                ..PLACE
            },
            Place {
                name: ["kind", "i"],
                ..PLACE
            },
            Place {
                name: ["kindi", "d"],
                ..PLACE
            },
            Place {
                version: Some(4),
                ..PLACE
            },
            Place {
                version: None,
                ..PLACE
            },
        ];
        for place in elsewhere {
            assert_eq!(
                key().open(place, &sealed),
                Err(CryptoError::NotAuthentic),
                "{place:?}"
            );
        }
        let other = Key::new([8; KEY_BYTES]);
        assert_eq!(other.open(PLACE, &sealed), Err(CryptoError::NotAuthentic));
    }

    #[test]
    fn one_value_is_never_sealed_twice_to_the_same_bytes() {
        let (one, two) = (
            key().seal(1, PLACE, b"same").unwrap(),
            key().seal(1, PLACE, b"same").unwrap(),
        );
        assert_ne!(one[10..], two[10..]);
    }

    #[test]
    fn the_first_landed_format_opens_for_ever() {
        let sealed = include_bytes!("golden/v1.sealed");
        assert_eq!(key().open(PLACE, sealed).unwrap(), b"the first format");
    }

    #[test]
    fn a_key_shows_nothing() {
        assert_eq!(format!("{:?}", key()), "Key(redacted)");
    }

    proptest! {
        #[test]
        fn every_flipped_bit_is_noticed(value in proptest::collection::vec(any::<u8>(), 0..40), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut sealed = key().seal(1, PLACE, &value).unwrap();
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(key().open(PLACE, &sealed).is_err());
        }

        #[test]
        fn what_was_never_sealed_is_refused(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(key().open(PLACE, &noise).is_err());
        }
    }
}
