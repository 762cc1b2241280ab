//! A public key of an issuer, taken from its JWK only if it is what a signature key must be.

use std::fmt;

use aws_lc_rs::signature::{self, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;

use super::compact::is_key_id;
use super::policy::Algorithm;

/// The sizes of RSA moduli in bits that are taken.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// The smallest RSA exponent that is taken; it must also be odd and fit in 32 bits.
const MIN_EXPONENT: u64 = 65_537;

/// A key that signatures can be checked with, and the only algorithm it may be used for.
pub(super) struct VerificationKey {
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    key: DecodingKey,
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerificationKey")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The members of a JWK that matter, RFC 7517 and 7518; others are ignored.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

/// Members that only a private or a symmetric key has.
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

impl VerificationKey {
    /// Takes a key from its JWK; `None` for one that is not for checking signatures as we allow them.
    pub(super) fn import(jwk: &serde_json::Value, allowed: &[Algorithm]) -> Option<Self> {
        if PRIVATE_MEMBERS.iter().any(|member| jwk.get(member).is_some()) {
            return None;
        }
        let jwk = Jwk::deserialize(jwk).ok()?;
        let for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
            && jwk
                .key_ops
                .as_ref()
                .is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
        if !for_signatures || jwk.kid.as_deref().is_some_and(|kid| !is_key_id(kid)) {
            return None;
        }
        let (algorithm, names, key): (_, &[&str], _) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("EC", Some("P-256")) => (Algorithm::Es256, &["ES256"], p256_key(&jwk)?),
            ("OKP", Some("Ed25519")) => (Algorithm::EdDsa, &["EdDSA", "Ed25519"], ed25519_key(&jwk)?),
            ("RSA", None) => (Algorithm::Rs256, &["RS256"], rsa_key(&jwk)?),
            _ => return None,
        };
        let named = jwk.alg.as_deref().is_none_or(|alg| names.contains(&alg));
        (named && allowed.contains(&algorithm)).then_some(Self {
            id: jwk.kid,
            algorithm,
            key,
        })
    }

    /// Tells whether the signature (base64url) is this key's over the text.
    pub(super) fn signed(&self, text: &str, signature: &str) -> bool {
        let checked =
            jsonwebtoken::crypto::verify(signature, text.as_bytes(), &self.key, self.algorithm.primitive());
        matches!(checked, Ok(true))
    }
}

fn p256_key(jwk: &Jwk) -> Option<DecodingKey> {
    let (x, y) = (bytes(jwk.x.as_deref())?, bytes(jwk.y.as_deref())?);
    if x.len() != 32 || y.len() != 32 {
        return None;
    }
    let point = [&[4], &x[..], &y[..]].concat();
    ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, &point).ok()?;
    Some(DecodingKey::from_ec_der(&point))
}

fn ed25519_key(jwk: &Jwk) -> Option<DecodingKey> {
    let point: [u8; 32] = bytes(jwk.x.as_deref())?.try_into().ok()?;
    if has_small_order(point) {
        return None;
    }
    ParsedPublicKey::new(&signature::ED25519, point).ok()?;
    Some(DecodingKey::from_ed_der(&point))
}

fn rsa_key(jwk: &Jwk) -> Option<DecodingKey> {
    let (modulus, exponent) = (bytes(jwk.n.as_deref())?, bytes(jwk.e.as_deref())?);
    let significant = &modulus[modulus.iter().position(|byte| *byte != 0)?..];
    let bits = significant.len() * 8 - usize::try_from(significant[0].leading_zeros()).ok()?;
    let value = exponent.iter().try_fold(0_u64, |value, byte| {
        value.checked_mul(256)?.checked_add(u64::from(*byte))
    })?;
    let odd = significant.last().is_some_and(|byte| byte % 2 == 1) && value % 2 == 1;
    if !RSA_BITS.contains(&bits) || value < MIN_EXPONENT || value > u64::from(u32::MAX) || !odd {
        return None;
    }
    Some(DecodingKey::from_rsa_raw_components(significant, &exponent))
}

fn bytes(member: Option<&str>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(member?).ok()
}

/// Points of the curve with which signatures can be made without a private key, in every encoding.
fn has_small_order(mut point: [u8; 32]) -> bool {
    const ORDER_EIGHT: [[u8; 32]; 2] = [
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
            0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
            0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    // The highest bit is the sign of x and does not change the order.
    point[31] &= 0x7f;
    let near_zero = point[0] <= 1 && point[1..] == [0; 31];
    let near_prime = (0xec..=0xee).contains(&point[0]) && point[1..31] == [0xff; 30] && point[31] == 0x7f;
    near_zero || near_prime || ORDER_EIGHT.contains(&point)
}
