//! Client secrets: made here with 256 bits of randomness, shown once, kept only as hashes.

use std::fmt;
use std::str::FromStr;

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash;
use aurora_core::digest::Digest;
use aurora_core::secret::Secret;
use serde::{Deserialize, Serialize};

/// What every secret made here begins with, so that secret scanners find one that leaked.
pub const SECRET_PREFIX: &str = "aur_cs_";

/// A hash of a client secret: `sha256:…` for secrets made here, `$argon2id$…` for those that people chose.
///
/// A secret of 256 random bits cannot be guessed, so a fast hash protects it; a chosen one can, so it needs
/// a slow one.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretHash(Kind);

#[derive(Clone)]
enum Kind {
    Fast(Digest),
    Slow(String),
}

/// The text is no hash of a secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a secret hash is written sha256: and 64 hexadecimal digits, or $argon2id$…")]
pub struct InvalidSecretHash;

/// A secret that was just made, and the hash to keep.
#[derive(Clone, Debug)]
pub struct NewSecret {
    /// To be shown once.
    pub secret: Secret,
    /// To be kept.
    pub hash: SecretHash,
}

/// The machine gives no randomness.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the machine gives no random bytes")]
pub struct NoRandomness;

/// Makes a secret for a client: `aur_cs_<client>_<64 hexadecimal digits>`.
///
/// ```
/// let made = aurora_auth::issue::new_secret("ci")?;
/// assert!(made.secret.expose().starts_with("aur_cs_ci_"));
/// assert!(made.hash.matches(made.secret.expose()));
/// # Ok::<(), aurora_auth::issue::NoRandomness>(())
/// ```
///
/// # Errors
/// [`NoRandomness`] when the machine gives none.
pub fn new_secret(client_id: &str) -> Result<NewSecret, NoRandomness> {
    let mut random = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| NoRandomness)?;
    // Hashing makes the hexadecimal text; the randomness stays whole.
    let text = Digest::of(&random).short(64);
    let secret = Secret::new(format!("{SECRET_PREFIX}{client_id}_{text}"));
    let hash = hash_secret(&secret);
    Ok(NewSecret { secret, hash })
}

/// The hash to keep of a secret that was made by [`new_secret`] or is as random.
pub fn hash_secret(secret: &Secret) -> SecretHash {
    SecretHash(Kind::Fast(Digest::of(secret.expose().as_bytes())))
}

impl SecretHash {
    /// Tells whether a secret is the one; the time does not tell how much of it is right.
    pub fn matches(&self, secret: &str) -> bool {
        match &self.0 {
            Kind::Fast(digest) => {
                let presented = Digest::of(secret.as_bytes());
                aws_lc_rs::constant_time::verify_slices_are_equal(digest.as_bytes(), presented.as_bytes())
                    .is_ok()
            }
            Kind::Slow(phc) => PasswordHash::new(phc).is_ok_and(|hash| {
                Argon2::default()
                    .verify_password(secret.as_bytes(), &hash)
                    .is_ok()
            }),
        }
    }

    /// Tells whether checking takes long enough to keep it off the threads that serve.
    pub(super) const fn is_slow(&self) -> bool {
        matches!(self.0, Kind::Slow(_))
    }

    /// A hash that no secret has, for clients that do not exist.
    pub(super) fn of_nobody() -> Self {
        Self(Kind::Fast(Digest::of(b"")))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(redacted)")
    }
}

impl From<SecretHash> for String {
    fn from(hash: SecretHash) -> Self {
        match hash.0 {
            Kind::Fast(digest) => digest.to_string(),
            Kind::Slow(phc) => phc,
        }
    }
}

impl FromStr for SecretHash {
    type Err = InvalidSecretHash;

    fn from_str(text: &str) -> Result<Self, InvalidSecretHash> {
        if text.starts_with("$argon2id$") {
            let hash = PasswordHash::new(text).map_err(|_| InvalidSecretHash)?;
            hash.hash.ok_or(InvalidSecretHash)?;
            return Ok(Self(Kind::Slow(text.to_owned())));
        }
        let digest = text.parse().map_err(|_| InvalidSecretHash)?;
        Ok(Self(Kind::Fast(digest)))
    }
}

impl TryFrom<String> for SecretHash {
    type Error = InvalidSecretHash;

    fn try_from(text: String) -> Result<Self, InvalidSecretHash> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_secrets_are_alike_and_each_matches_only_its_hash() {
        let (one, two) = (new_secret("ci").unwrap(), new_secret("ci").unwrap());
        assert!(!one.secret.equals(two.secret.expose()));
        assert!(one.hash.matches(one.secret.expose()));
        assert!(!one.hash.matches(two.secret.expose()));
        assert_eq!(one.secret.expose().len(), "aur_cs_ci_".len() + 64);
    }

    #[test]
    fn a_cut_prolonged_or_flipped_secret_does_not_match() {
        let made = new_secret("ci").unwrap();
        let text = made.secret.expose();
        for end in 0..text.len() {
            assert!(!made.hash.matches(&text[..end]));
        }
        assert!(!made.hash.matches(&format!("{text}0")));
        for position in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[position] ^= 1;
            assert!(!made.hash.matches(&String::from_utf8(bytes).unwrap()));
        }
    }

    #[test]
    fn chosen_secrets_are_checked_by_their_slow_hash() {
        use argon2::password_hash::PasswordHasher as _;

        let cheap = Argon2::new(
            argon2::Algorithm::Argon2id,
            argon2::Version::V0x13,
            argon2::Params::new(16, 1, 1, None).unwrap(),
        );
        let phc = cheap
            .hash_password_with_salt(b"correct horse", b"0123456789abcdef")
            .unwrap()
            .to_string();
        let hash: SecretHash = phc.parse().unwrap();
        assert!(hash.is_slow() && hash.matches("correct horse") && !hash.matches("correct hors"));
    }

    #[test]
    fn what_is_no_hash_is_refused_and_none_is_shown() {
        for bad in [
            "",
            "hunter2",
            "sha256:",
            "sha256:zz",
            "$argon2id$",
            "$argon2i$v=19$m=16,t=1,p=1$a$b",
            "md5:00",
        ] {
            assert_eq!(bad.parse::<SecretHash>().err(), Some(InvalidSecretHash), "{bad}");
        }
        let made = new_secret("ci").unwrap();
        let text = String::from(made.hash.clone());
        assert!(text.parse::<SecretHash>().is_ok());
        let shown = format!("{made:?}");
        assert!(
            !shown.contains(&text) && !shown.contains(made.secret.expose()),
            "{shown}"
        );
    }
}
