//! The compact form of a token, taken apart strictly and before anything is believed.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::refusal::Refusal;

/// The largest token in bytes, checked before anything is decoded.
pub(super) const MAX_TOKEN: usize = 8 * 1024;

/// The largest encoded header in bytes.
const MAX_HEADER: usize = 1024;

/// A token that is well formed; nothing in it is true yet.
pub(super) struct Unverified<'a> {
    pub(super) header: Header,
    pub(super) signed: &'a str,
    pub(super) signature: &'a str,
    payload: &'a str,
}

/// The only three members that a header may have: what we never issue is not tolerated either.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) typ: String,
    #[serde(default, deserialize_with = "super::present")]
    pub(super) kid: Option<String>,
}

impl fmt::Debug for Unverified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unverified").finish_non_exhaustive()
    }
}

impl<'a> Unverified<'a> {
    /// Takes three parts of strict base64url apart and reads the header.
    pub(super) fn parse(token: &'a str) -> Result<Self, Refusal> {
        if token.len() > MAX_TOKEN {
            return Err(Refusal::TooLarge);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::Format);
        };
        if header.len() > MAX_HEADER {
            return Err(Refusal::TooLarge);
        }
        if payload.is_empty() || signature.is_empty() {
            return Err(Refusal::Format);
        }
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| Refusal::Format)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| Refusal::Header)?;
        if header.kid.as_deref().is_some_and(|kid| !is_key_id(kid)) {
            return Err(Refusal::Header);
        }
        let signed = &token[..token.len() - signature.len() - 1];
        Ok(Self {
            header,
            signed,
            signature,
            payload,
        })
    }

    /// The type is that of an access token, RFC 9068.
    pub(super) fn is_access_token(&self) -> bool {
        let typ = self.header.typ.to_ascii_lowercase();
        typ.strip_prefix("application/").unwrap_or(&typ) == "at+jwt"
    }

    /// The payload's bytes.
    pub(super) fn payload(&self) -> Result<Vec<u8>, Refusal> {
        URL_SAFE_NO_PAD.decode(self.payload).map_err(|_| Refusal::Format)
    }
}

/// A key id names a key and nothing else: no path, no query.
pub(super) fn is_key_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}
