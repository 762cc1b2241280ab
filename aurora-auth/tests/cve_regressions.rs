//! Faults that other verifiers and issuers had, each tried on ours.
#![expect(
    clippy::unwrap_used,
    reason = "what makes the inputs of a test fails it by panicking"
)]

mod forge;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::time::advance;

use aurora_auth::issue::{ClientConfig, TokenIssuer, new_secret};
use aurora_auth::verify::{Algorithm, JwtVerifier, VerifyPolicy};
use aurora_core::port::clock::InMemoryClock;
use aurora_core::port::http::memory::ScriptedHttp;
use aurora_core::port::http::{HttpCall, HttpCaller as _};
use aurora_core::port::store::memory::InMemoryStore;
use aurora_core::port::token::TokenVerifier as _;
use aurora_core::secret::Secret;

use self::forge::*;

/// CVE-2026-25537 (jsonwebtoken): a time of the wrong type counted as absent.
#[tokio::test]
async fn a_time_of_the_wrong_type_is_not_absent() {
    let world = World::new();
    for name in ["exp", "nbf", "iat"] {
        for value in [
            json!("x"),
            json!("1800000600"),
            json!(null),
            json!([]),
            json!({}),
            json!(true),
            json!(1e300),
        ] {
            assert_eq!(
                world.reason_of(&claims_with(name, value.clone())).await,
                "claims",
                "{name} = {value}"
            );
        }
    }
}

/// CVE-2026-22817, CVE-2026-34950, CVE-2023-48223, CVE-2026-44699: a public key used as an HMAC secret.
#[tokio::test]
async fn a_public_key_is_no_shared_secret() {
    for signer in [Signer::es256(), Signer::rs256(), Signer::ed25519()] {
        let mut jwk = signer.jwk("k1");
        let der = jwk["n"].as_str().or(jwk["x"].as_str()).unwrap().to_owned();
        let raw_bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(&der)
            .unwrap();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(&raw_bytes)
        );
        let secrets = [
            der.clone().into_bytes(),
            raw_bytes,
            format!(" {pem}").into_bytes(),
            pem.into_bytes(),
            jwk.to_string().into_bytes(),
            Vec::new(),
        ];
        // With the algorithm in the key, and without.
        for with_alg in [true, false] {
            if !with_alg {
                jwk.as_object_mut().unwrap().remove("alg");
            }
            let http = ScriptedHttp::new();
            publish(&http, std::slice::from_ref(&jwk));
            let verifier = JwtVerifier::new(policy(), keys(&http));
            for secret in &secrets {
                for alg in ["HS256", "hs256", signer.alg()] {
                    let head = b64(json!({"alg": alg, "typ": "at+jwt", "kid": "k1"}).to_string());
                    let signed = format!("{head}.{}", b64(claims().to_string()));
                    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                    let forged = format!("{signed}.{}", b64(hmac::sign(&key, signed.as_bytes())));
                    assert!(
                        verifier.verify(&Secret::new(forged), now()).await.is_err(),
                        "{alg}"
                    );
                }
            }
            let good = token(&header(&signer, "k1"), &claims(), &signer);
            assert!(verifier.verify(&Secret::new(good), now()).await.is_ok());
        }
    }
}

/// The same class: a token that names another algorithm than its key's.
#[tokio::test]
async fn the_algorithm_is_the_keys_and_never_the_tokens() {
    let world = World::new();
    for alg in ["RS256", "EdDSA", "ES384", "PS256", "HS256", "es256", "ES256 ", ""] {
        let mut header = world.header();
        header["alg"] = json!(alg);
        let token = token(&header, &claims(), &world.signer);
        assert_eq!(world.reason(&token).await, "algorithm", "{alg}");
    }
    let only_rsa = VerifyPolicy::new(ISSUER, AUDIENCE)
        .unwrap()
        .with_algorithms([Algorithm::Rs256]);
    let verifier = JwtVerifier::new(only_rsa, keys(&world.http));
    assert_eq!(
        reason(verifier.verify(&Secret::new(world.good()), now()).await),
        "unknown key"
    );
}

/// CVE-2026-29000 (pac4j): an encrypted token around an unsigned one was accepted.
#[tokio::test]
async fn an_encrypted_token_is_refused() {
    let world = World::new();
    let unsigned = format!("{}.{}.", b64(r#"{"alg":"none"}"#), b64(claims().to_string()));
    let head = b64(r#"{"alg":"RSA-OAEP","enc":"A256GCM","typ":"at+jwt","kid":"k1"}"#);
    let wrapped = format!("{head}.AAAA.AAAA.{}.AAAA", b64(unsigned));
    assert_eq!(world.reason(&wrapped).await, "format");
    assert_eq!(world.fetches(), 0);
}

/// CVE-2025-59420 (Authlib), CVE-2026-32597 (PyJWT): an unknown critical header was accepted.
#[tokio::test]
async fn a_critical_header_is_refused() {
    let world = World::new();
    for crit in [
        json!(["foo"]),
        json!([]),
        json!(["b64"]),
        json!(["exp"]),
        json!("foo"),
        json!(null),
    ] {
        let mut header = world.header();
        header["crit"] = crit.clone();
        header["foo"] = json!("bar");
        assert_eq!(
            world.reason(&token(&header, &claims(), &world.signer)).await,
            "header",
            "{crit}"
        );
    }
}

/// CVE-2026-27962 (Authlib): the key in the token's own header was used.
#[tokio::test]
async fn a_key_in_the_token_is_not_used() {
    let world = World::new();
    let attacker = Signer::es256();
    for (name, value) in [
        ("jwk", attacker.jwk("k1")),
        ("jku", json!("https://evil.example/jwks")),
    ] {
        let mut header = header(&attacker, "k1");
        header[name] = value;
        assert_eq!(
            world.reason(&token(&header, &claims(), &attacker)).await,
            "header"
        );
    }
    let forged = token(&header(&attacker, "k1"), &claims(), &attacker);
    assert_eq!(world.reason(&forged).await, "signature");
    assert!(world.http.calls().iter().all(|call| call.url == JWKS));
}

/// CVE-2026-28802 (Authlib): no algorithm and no signature was accepted.
#[tokio::test]
async fn no_algorithm_is_no_token() {
    let world = World::new();
    let good = world.good();
    let signature = good.rsplit('.').next().unwrap();
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let head = b64(json!({"alg": alg, "typ": "at+jwt", "kid": "k1"}).to_string());
        let payload = b64(claims().to_string());
        assert_eq!(
            world.reason(&format!("{head}.{payload}.")).await,
            "format",
            "{alg}"
        );
        assert_eq!(
            world.reason(&format!("{head}.{payload}.{signature}")).await,
            "algorithm",
            "{alg}"
        );
        assert_eq!(
            world.reason(&format!("{head}.{payload}.AA")).await,
            "algorithm",
            "{alg}"
        );
    }
}

/// The class of CVE-2022-21449: an ECDSA signature of zeros, and one in DER.
#[tokio::test]
async fn a_signature_of_another_form_is_refused() {
    let world = World::new();
    let good = world.good();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(signature)
        .unwrap();
    let integer = |half: &[u8]| {
        let mut value = vec![0];
        value.extend_from_slice(half);
        [&[2, u8::try_from(value.len()).unwrap()], &value[..]].concat()
    };
    let body = [integer(&bytes[..32]), integer(&bytes[32..])].concat();
    let der = [&[0x30, u8::try_from(body.len()).unwrap()], &body[..]].concat();
    for (what, other) in [
        ("zeros", vec![0; 64]),
        ("DER", der),
        ("one byte", vec![0]),
        ("twice", [bytes.clone(), bytes.clone()].concat()),
        ("halves swapped", [&bytes[32..], &bytes[..32]].concat()),
    ] {
        assert_eq!(
            world.reason(&format!("{signed}.{}", b64(other))).await,
            "signature",
            "{what}"
        );
    }
}

/// GHSA-fhv5-28vv-h8m8 (PyJWT): unknown key ids caused unlimited fetches, and an error wiped the keys.
#[tokio::test(start_paused = true)]
async fn ten_thousand_unknown_key_ids_cause_one_fetch_in_thirty_seconds() {
    let world = World::new();
    assert_eq!(world.reason(&world.good()).await, "accepted");
    advance(Duration::from_secs(30)).await;
    let tail = b64(claims().to_string());
    for number in 0..10_000 {
        let head = b64(json!({"alg": "ES256", "typ": "at+jwt", "kid": format!("k-{number}")}).to_string());
        assert_eq!(world.reason(&format!("{head}.{tail}.AAAA")).await, "unknown key");
    }
    assert_eq!(world.fetches(), 2);
    assert_eq!(world.reason(&world.good()).await, "accepted");
}

/// GHSA-675f-rq2r-jw82 (jwkset): a withdrawn key stayed in the cache.
#[tokio::test(start_paused = true)]
async fn a_withdrawn_key_does_not_stay() {
    let world = World::new();
    assert_eq!(world.reason(&world.good()).await, "accepted");
    publish(&world.http, &[Signer::es256().jwk("k2")]);
    advance(Duration::from_secs(300)).await;
    assert_eq!(world.reason(&world.good()).await, "unknown key");
}

/// CVE-2026-28513 (Pocket-ID): a wrong client or an ended credential alone was enough to be let in.
#[tokio::test]
async fn each_condition_alone_refuses_a_client() {
    let house = House::new();
    for (id, secret, status) in [
        ("ci", &house.secret, 200),
        ("ci", &house.other, 401),
        ("cd", &house.secret, 401),
        ("cd", &house.other, 200),
        ("ended", &house.secret, 401),
        ("off", &house.secret, 401),
    ] {
        assert_eq!(house.ask(id, secret).await, status, "{id}");
    }
}

/// CVE-2026-27840 (Zitadel): a cut opaque credential was good.
#[tokio::test]
async fn a_cut_prolonged_or_flipped_secret_is_refused() {
    let house = House::new();
    let text = house.secret.expose().to_owned();
    let mut changed = vec![
        text[..text.len() - 1].to_owned(),
        text[..1].to_owned(),
        format!("{text}0"),
        format!("{text} "),
        text.to_uppercase(),
        text.replace("aur_cs_", ""),
    ];
    for position in (0..text.len()).step_by(7) {
        let mut bytes = text.clone().into_bytes();
        bytes[position] ^= 1;
        changed.push(String::from_utf8(bytes).unwrap());
    }
    for secret in changed {
        // Each on an issuer of its own: the limit of attempts is another matter.
        let fresh = House::with(&house.secret, &house.other);
        assert_eq!(
            fresh.ask("ci", &Secret::new(secret.clone())).await,
            401,
            "{secret}"
        );
    }
}

/// CVE-2026-32131 (Zitadel): one tenant's credential reached another's data.
#[tokio::test]
async fn a_client_cannot_choose_its_tenant() {
    let house = House::new();
    for parameter in ["tenant=beta%2Fmain", "audience=beta", "resource=beta"] {
        let status = house
            .ask_for(
                "ci",
                &house.secret,
                &format!("grant_type=client_credentials&{parameter}"),
            )
            .await;
        assert_eq!(status, 400, "{parameter}");
    }
    for parameter in [
        "org=beta",
        "env=beta",
        "kind=service",
        "sub=api",
        "roles=Admin",
        "agents=other",
    ] {
        let body = format!("grant_type=client_credentials&{parameter}");
        let (status, token) = house.answer("ci", &house.secret, &body).await;
        assert_eq!(status, 200, "unknown parameters are ignored");
        let payload = token["access_token"]
            .as_str()
            .unwrap()
            .split('.')
            .nth(1)
            .unwrap()
            .to_owned();
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(payload)
            .unwrap();
        let claims: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(
            (&claims["org"], &claims["env"], &claims["kind"], &claims["sub"]),
            (&json!("acme"), &json!("main"), &json!("machine"), &json!("ci"))
        );
        assert!(claims.get("roles").is_none() && claims.get("agents").is_none());
    }
}

/// Two clients, each with a secret, one that ended and one that is off.
struct House {
    issuer: TokenIssuer,
    secret: Secret,
    other: Secret,
}

impl House {
    fn new() -> Self {
        Self::with(
            &new_secret("ci").unwrap().secret,
            &new_secret("cd").unwrap().secret,
        )
    }

    fn with(secret: &Secret, other: &Secret) -> Self {
        let clock = Arc::new(InMemoryClock::starting_at(now()));
        let store = Arc::new(InMemoryStore::new(clock.clone()));
        let client = |id: &str, secret: &Secret, tenant: &str, changes: Value| -> ClientConfig {
            let mut config = json!({
                "id": id, "kind": "machine", "tenant": tenant, "scopes": ["manage:deploy"],
                "secretHash": aurora_auth::issue::hash_secret(secret),
            });
            for (name, value) in changes.as_object().unwrap() {
                config[name] = value.clone();
            }
            serde_json::from_value(config).unwrap()
        };
        let clients = [
            client("ci", secret, "acme/main", json!({})),
            client("cd", other, "beta/main", json!({})),
            client("ended", secret, "acme/main", json!({"expiresAt": now()})),
            client("off", secret, "acme/main", json!({"disabled": true})),
        ];
        Self {
            issuer: TokenIssuer::new(ISSUER, AUDIENCE, &clients, store, clock).unwrap(),
            secret: secret.clone(),
            other: other.clone(),
        }
    }

    async fn ask(&self, id: &str, secret: &Secret) -> u16 {
        self.ask_for(id, secret, "grant_type=client_credentials").await
    }

    async fn ask_for(&self, id: &str, secret: &Secret, body: &str) -> u16 {
        self.answer(id, secret, body).await.0
    }

    async fn answer(&self, id: &str, secret: &Secret, body: &str) -> (u16, Value) {
        let pair = STANDARD.encode(format!("{id}:{}", secret.expose()));
        let call = HttpCall::post(
            self.issuer.token_endpoint(),
            "application/x-www-form-urlencoded",
            body.to_owned(),
        )
        .with_header("authorization", format!("Basic {pair}"));
        let answer = self.issuer.in_process().call(call).await.unwrap();
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }
}
