//! Makes tokens and keys of every sort, good and bad, without the code that is tested.
#![allow(dead_code, reason = "each test program uses another part")]

use std::sync::{Arc, LazyLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use aurora_auth::verify::{HttpKeys, JwtVerifier, VerifyPolicy};
use aurora_core::port::http::memory::{Reply, ScriptedHttp};
use aurora_core::port::token::{TokenError, TokenVerifier as _};
use aurora_core::principal::Principal;
use aurora_core::secret::Secret;

pub(crate) const ISSUER: &str = "https://issuer.example";
pub(crate) const AUDIENCE: &str = "aurora";
pub(crate) const JWKS: &str = "https://issuer.example/oauth/jwks";

/// A private key of one of the three algorithms.
pub(crate) enum Signer {
    EdDsa(Ed25519KeyPair),
    Es256(EcdsaKeyPair),
    Rs256(&'static RsaKeyPair),
}

/// Slow to make, so made once.
static RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

impl Signer {
    pub(crate) fn ed25519() -> Self {
        Self::EdDsa(Ed25519KeyPair::generate().unwrap())
    }

    pub(crate) fn es256() -> Self {
        Self::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn rs256() -> Self {
        Self::Rs256(&RSA)
    }

    pub(crate) fn alg(&self) -> &'static str {
        match self {
            Self::EdDsa(_) => "EdDSA",
            Self::Es256(_) => "ES256",
            Self::Rs256(_) => "RS256",
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::EdDsa(key) => key.sign(message).as_ref().to_vec(),
            Self::Es256(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .unwrap();
                signature
            }
        }
    }

    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let (mut jwk, alg) = match self {
            Self::EdDsa(key) => (
                json!({"kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key().as_ref())}),
                "EdDSA",
            ),
            Self::Es256(key) => {
                let point = key.public_key().as_ref();
                let (x, y) = (b64(&point[1..33]), b64(&point[33..]));
                (json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}), "ES256")
            }
            Self::Rs256(key) => (
                json!({"kty": "RSA", "n": b64(modulus(key)), "e": "AQAB"}),
                "RS256",
            ),
        };
        jwk["kid"] = kid.into();
        jwk["alg"] = alg.into();
        jwk["use"] = "sig".into();
        jwk
    }
}

/// The modulus of a 2048-bit key from its DER: two headers, a zero byte, then 256 bytes.
fn modulus(key: &RsaKeyPair) -> &[u8] {
    &key.public_key().as_ref()[9..265]
}

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The time of all tests; a whole second.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

pub(crate) fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

/// Good claims, issued now, for ten minutes.
pub(crate) fn claims() -> Value {
    let issued = now().as_second();
    json!({
        "iss": ISSUER, "sub": "ci-runner", "aud": AUDIENCE,
        "exp": issued + 600, "iat": issued, "nbf": issued, "jti": "j-1", "client_id": "ci-runner",
        "scope": "manage:deploy connect:agentHub", "org": "acme", "env": "main", "kind": "machine",
        "roles": ["Deployer"], "agents": ["prod-eu"], "name": "CI runner",
    })
}

/// Good claims with one changed.
pub(crate) fn claims_with(name: &str, value: Value) -> Value {
    let mut all = claims();
    all[name] = value;
    all
}

/// Good claims with one left out.
pub(crate) fn claims_without(name: &str) -> Value {
    let mut all = claims();
    all.as_object_mut().unwrap().remove(name);
    all
}

pub(crate) fn header(signer: &Signer, kid: &str) -> Value {
    json!({"alg": signer.alg(), "typ": "at+jwt", "kid": kid})
}

/// Signs any header and payload text.
pub(crate) fn raw(header: &str, payload: &str, signer: &Signer) -> String {
    let signed = format!("{}.{}", b64(header), b64(payload));
    let signature = signer.sign(signed.as_bytes());
    format!("{signed}.{}", b64(signature))
}

pub(crate) fn token(header: &Value, claims: &Value, signer: &Signer) -> String {
    raw(&header.to_string(), &claims.to_string(), signer)
}

/// An issuer with one ES256 key `k1`, and a verifier that trusts it.
pub(crate) struct World {
    pub(crate) http: ScriptedHttp,
    pub(crate) signer: Signer,
    pub(crate) verifier: JwtVerifier,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(Signer::es256())
    }

    pub(crate) fn of(signer: Signer) -> Self {
        let http = ScriptedHttp::new();
        publish(&http, &[signer.jwk("k1")]);
        let verifier = JwtVerifier::new(policy(), keys(&http));
        Self {
            http,
            signer,
            verifier,
        }
    }

    /// A good header with this key's algorithm.
    pub(crate) fn header(&self) -> Value {
        header(&self.signer, "k1")
    }

    pub(crate) fn good(&self) -> String {
        token(&self.header(), &claims(), &self.signer)
    }

    pub(crate) async fn verify(&self, token: &str) -> Result<Arc<Principal>, TokenError> {
        self.verifier.verify(&Secret::new(token), now()).await
    }

    pub(crate) async fn reason(&self, token: &str) -> &'static str {
        reason(self.verify(token).await)
    }

    /// The reason for which these claims are refused under a good header.
    pub(crate) async fn reason_of(&self, claims: &Value) -> &'static str {
        self.reason(&token(&self.header(), claims, &self.signer)).await
    }

    pub(crate) fn fetches(&self) -> usize {
        self.http.calls().len()
    }
}

pub(crate) fn policy() -> VerifyPolicy {
    VerifyPolicy::new(ISSUER, AUDIENCE).unwrap()
}

pub(crate) fn keys(http: &ScriptedHttp) -> Arc<HttpKeys> {
    Arc::new(HttpKeys::at(Arc::new(http.clone()), JWKS).unwrap())
}

pub(crate) fn publish(http: &ScriptedHttp, jwks: &[Value]) {
    http.on(JWKS, jwks_reply(jwks));
}

pub(crate) fn jwks_reply(jwks: &[Value]) -> Reply {
    Reply::json(200, json!({ "keys": jwks }).to_string()).with_header("cache-control", "public, max-age=300")
}

/// `accepted`, `unavailable`, or the reason of the refusal.
pub(crate) fn reason(verified: Result<Arc<Principal>, TokenError>) -> &'static str {
    match verified {
        Ok(_) => "accepted",
        Err(TokenError::Unauthenticated { reason }) => reason,
        Err(_) => "unavailable",
    }
}
