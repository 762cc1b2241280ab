//! How an issuer's keys are fetched, kept, replaced and refused; in virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::{advance, sleep};

use aurora_auth::verify::{HttpKeys, JwtVerifier, KeySource, KeysUnavailable, PublishedKeys};
use aurora_core::port::http::memory::{Reply, ScriptedHttp};
use aurora_core::port::http::{HttpAnswer, HttpCall, HttpCaller, HttpError};
use aurora_core::port::token::TokenVerifier as _;
use aurora_core::secret::Secret;

use crate::forge::*;

mockall::mock! {
    #[derive(Debug)]
    Http {}

    #[async_trait]
    impl HttpCaller for Http {
        async fn call(&self, call: HttpCall) -> Result<HttpAnswer, HttpError>;
    }
}

/// Keys that take a while, and a count of how often they were asked for.
#[derive(Debug)]
struct SlowKeys {
    jwks: Value,
    asked: AtomicUsize,
}

#[async_trait]
impl KeySource for SlowKeys {
    async fn fetch(&self) -> Result<PublishedKeys, KeysUnavailable> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_secs(1)).await;
        Ok(PublishedKeys {
            document: json!({ "keys": [self.jwks] }).to_string().into(),
            max_age: None,
        })
    }
}

#[tokio::test]
async fn a_malformed_token_never_causes_a_fetch() {
    let mut http = MockHttp::new();
    http.expect_call().never();
    let keys = HttpKeys::at(Arc::new(http), JWKS).unwrap();
    let verifier = JwtVerifier::new(policy(), Arc::new(keys));
    for bad in ["", "a.b.c", "e30.e30.AAAA", "a.b.c.d.e"] {
        assert!(verifier.verify(&Secret::new(bad), now()).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn many_at_once_cause_one_fetch() {
    let signer = Signer::es256();
    let source = Arc::new(SlowKeys {
        jwks: signer.jwk("k1"),
        asked: AtomicUsize::new(0),
    });
    let verifier = JwtVerifier::new(policy(), Arc::clone(&source) as Arc<dyn KeySource>);
    let good = Secret::new(token(&header(&signer, "k1"), &claims(), &signer));
    let verified = join_all((0..100).map(|_| verifier.verify(&good, now()))).await;
    assert!(verified.iter().all(Result::is_ok));
    assert_eq!(source.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_does_not_take_the_others_keys_away() {
    let signer = Signer::es256();
    let source = Arc::new(SlowKeys {
        jwks: signer.jwk("k1"),
        asked: AtomicUsize::new(0),
    });
    let verifier = JwtVerifier::new(policy(), Arc::clone(&source) as Arc<dyn KeySource>);
    let good = Secret::new(token(&header(&signer, "k1"), &claims(), &signer));
    let impatient = tokio::time::timeout(Duration::from_millis(500), verifier.verify(&good, now()));
    let (gave_up, patient) = tokio::join!(impatient, verifier.verify(&good, now()));
    assert!(gave_up.is_err());
    assert!(patient.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_id_causes_at_most_one_fetch_in_thirty_seconds() {
    let world = World::new();
    assert_eq!(world.reason(&world.good()).await, "accepted");
    assert_eq!(world.fetches(), 1);
    let strange = |number: usize| {
        token(
            &header(&world.signer, &format!("k-{number}")),
            &claims(),
            &world.signer,
        )
    };
    for number in 0..200 {
        assert_eq!(world.reason(&strange(number)).await, "unknown key");
    }
    assert_eq!(world.fetches(), 1, "the keys were fetched a moment ago");
    advance(Duration::from_secs(30)).await;
    for number in 0..200 {
        assert_eq!(world.reason(&strange(number)).await, "unknown key");
    }
    assert_eq!(world.fetches(), 2);
    advance(Duration::from_secs(30)).await;
    assert_eq!(world.reason(&strange(0)).await, "unknown key");
    assert_eq!(world.fetches(), 2, "this one is known to be absent");
    assert_eq!(world.reason(&world.good()).await, "accepted");
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_when_its_first_token_arrives() {
    let world = World::new();
    assert_eq!(world.reason(&world.good()).await, "accepted");
    let next = Signer::ed25519();
    publish(&world.http, &[world.signer.jwk("k1"), next.jwk("k2")]);
    let signed = token(&header(&next, "k2"), &claims(), &next);
    assert_eq!(world.reason(&signed).await, "unknown key", "asked a moment ago");
    advance(Duration::from_secs(30)).await;
    assert_eq!(world.reason(&signed).await, "accepted");
    assert_eq!(world.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn keys_are_kept_for_their_age_within_a_minute_and_an_hour() {
    for (header, kept) in [
        ("max-age=300", 300),
        ("max-age=1", 60),
        ("max-age=999999", 3600),
        ("no-store", 60),
        ("", 300),
    ] {
        let world = World::new();
        let reply = Reply::json(200, json!({ "keys": [world.signer.jwk("k1")] }).to_string());
        world.http.on(JWKS, reply.with_header("cache-control", header));
        let good = world.good();
        assert_eq!(world.reason(&good).await, "accepted");
        advance(Duration::from_secs(kept - 1)).await;
        assert_eq!(world.reason(&good).await, "accepted");
        assert_eq!(world.fetches(), 1, "{header}");
        advance(Duration::from_secs(1)).await;
        assert_eq!(world.reason(&good).await, "accepted");
        assert_eq!(world.fetches(), 2, "{header}");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_renewed_in_the_background_before_they_age() {
    let world = World::new();
    let verifier = &world.verifier;
    let fresh = tokio::time::timeout(Duration::from_millis(1), verifier.keep_fresh()).await;
    assert!(fresh.is_err(), "keeping fresh does not end");
    assert_eq!(world.fetches(), 1, "the first fetch is at once");
    let kept = tokio::time::timeout(Duration::from_secs(209), verifier.keep_fresh()).await;
    assert!(kept.is_err());
    assert_eq!(world.fetches(), 1, "not before 70 % of the age");
    let kept = tokio::time::timeout(Duration::from_secs(32), verifier.keep_fresh()).await;
    assert!(kept.is_err());
    assert_eq!(world.fetches(), 2, "and by 80 % of it");
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_key_ends_with_the_next_fetch_also_for_remembered_tokens() {
    let mut world = World::new();
    world.verifier = world.verifier.with_memory(16);
    let good = world.good();
    assert_eq!(world.reason(&good).await, "accepted");
    publish(&world.http, &[Signer::es256().jwk("k2")]);
    advance(Duration::from_secs(300)).await;
    let strange = token(&header(&world.signer, "k3"), &claims(), &world.signer);
    assert_eq!(world.reason(&strange).await, "unknown key");
    assert_eq!(world.reason(&good).await, "unknown key");
}

#[tokio::test(start_paused = true)]
async fn without_the_issuer_the_last_keys_serve_for_a_day_and_then_nothing_is_accepted() {
    let world = World::new();
    let good = world.good();
    assert_eq!(world.reason(&good).await, "accepted");
    for broken in [
        Reply::Unreachable,
        Reply::json(500, "{}"),
        Reply::json(200, "[]"),
        Reply::status(200, "{\"keys\":[]}"),
    ] {
        world.http.on(JWKS, broken);
        advance(Duration::from_secs(3600)).await;
        assert_eq!(
            world.reason(&good).await,
            "accepted",
            "an error does not wipe the keys"
        );
    }
    advance(Duration::from_secs(20 * 3600)).await;
    assert_eq!(world.reason(&good).await, "unavailable");
    publish(&world.http, &[world.signer.jwk("k1")]);
    advance(Duration::from_secs(10)).await;
    assert_eq!(world.reason(&good).await, "accepted");
}

#[tokio::test(start_paused = true)]
async fn a_cold_start_without_the_issuer_is_unavailable_and_not_a_refusal() {
    let world = World::new();
    world.http.on(JWKS, Reply::status(503, ""));
    for _ in 0..50 {
        assert_eq!(world.reason(&world.good()).await, "unavailable");
    }
    assert_eq!(world.fetches(), 1, "failures are not repeated at once");
    publish(&world.http, &[world.signer.jwk("k1")]);
    advance(Duration::from_secs(1)).await;
    assert_eq!(world.reason(&world.good()).await, "accepted");
}

#[tokio::test(start_paused = true)]
async fn a_silent_issuer_costs_three_seconds_and_no_more() {
    let world = World::new();
    world.http.on(JWKS, Reply::Silence);
    let started = tokio::time::Instant::now();
    assert_eq!(world.reason(&world.good()).await, "unavailable");
    assert_eq!(started.elapsed(), Duration::from_secs(3));
}

#[tokio::test]
async fn an_answer_that_is_no_key_set_is_not_taken() {
    let world = World::new();
    let body = json!({ "keys": [world.signer.jwk("k1")] }).to_string();
    let many: Vec<_> = (0..65)
        .map(|number| world.signer.jwk(&format!("k{number}")))
        .collect();
    for (what, reply) in [
        (
            "a page",
            Reply::status(200, body.clone()).with_header("content-type", "text/html"),
        ),
        ("no type", Reply::status(200, body.clone())),
        ("a failure", Reply::json(404, body.clone())),
        ("a redirect", Reply::redirect(302, "https://evil.example/jwks")),
        ("no JSON", Reply::json(200, "keys")),
        ("no keys", Reply::json(200, "{}")),
        ("65 keys", Reply::json(200, json!({ "keys": many }).to_string())),
        (
            "two alike",
            Reply::json(
                200,
                json!({ "keys": [world.signer.jwk("k1"), Signer::es256().jwk("k1")] }).to_string(),
            ),
        ),
        (
            "256 KiB and more",
            Reply::json(200, format!("{}{body}", " ".repeat(256 * 1024))),
        ),
    ] {
        let world = World::of(Signer::es256());
        world.http.on(JWKS, reply);
        assert_eq!(world.reason(&world.good()).await, "unavailable", "{what}");
        assert!(world.http.calls().iter().all(|call| call.url == JWKS), "{what}");
    }
}

#[tokio::test]
async fn one_unusable_key_does_not_discard_the_set() {
    let world = World::new();
    let good = world.signer.jwk("k1");
    let with = |name: &str, value: Value| {
        let mut jwk = world.signer.jwk("odd");
        jwk[name] = value;
        jwk
    };
    publish(
        &world.http,
        &[
            json!({"kty": "quantum", "kid": "odd"}),
            json!({"kty": "oct", "kid": "odd", "k": "AAAA"}),
            json!("no key"),
            json!({}),
            with("d", json!("AAAA")),
            with("use", json!("enc")),
            with("key_ops", json!(["encrypt"])),
            with("alg", json!("ES384")),
            with("alg", json!("HS256")),
            with("crv", json!("P-521")),
            with("x", json!("AAAA")),
            with("kid", json!("../odd")),
            good,
        ],
    );
    assert_eq!(world.reason(&world.good()).await, "accepted");
    let odd = token(&header(&world.signer, "odd"), &claims(), &world.signer);
    assert_eq!(world.reason(&odd).await, "unknown key");
}

#[tokio::test]
async fn a_token_without_key_id_is_taken_only_where_there_is_one_key() {
    let signer = Signer::es256();
    let mut nameless = header(&signer, "k1");
    nameless.as_object_mut().unwrap().remove("kid");
    let signed = token(&nameless, &claims(), &signer);
    for (jwks, verdict) in [
        (vec![signer.jwk("k1")], "accepted"),
        (vec![signer.jwk("k1"), Signer::es256().jwk("k2")], "unknown key"),
        (vec![], "unknown key"),
    ] {
        let http = ScriptedHttp::new();
        publish(&http, &jwks);
        let verifier = JwtVerifier::new(policy(), keys(&http));
        assert_eq!(
            reason(verifier.verify(&Secret::new(&signed), now()).await),
            verdict
        );
    }
}

#[tokio::test]
async fn weak_keys_are_not_imported() {
    let rsa = Signer::rs256();
    let with = |name: &str, value: String| {
        let mut jwk = rsa.jwk("k1");
        jwk[name] = json!(value);
        jwk
    };
    let mut odd = vec![0xff_u8; 128];
    odd[127] = 1;
    let mut huge = vec![0xff_u8; 513];
    huge[512] = 1;
    let mut even = vec![0xff_u8; 256];
    even[255] = 0xfe;
    for (what, jwk) in [
        ("1024 bits", with("n", b64(odd))),
        ("4104 bits", with("n", b64(huge))),
        ("an even modulus", with("n", b64(even))),
        ("exponent 1", with("e", b64([1]))),
        ("exponent 3", with("e", b64([3]))),
        ("an even exponent", with("e", b64([1, 0, 0]))),
        ("an endless exponent", with("e", b64([1; 40]))),
        ("no exponent", with("e", String::new())),
    ] {
        let http = ScriptedHttp::new();
        publish(&http, &[jwk]);
        let verifier = JwtVerifier::new(policy(), keys(&http));
        let signed = token(&header(&rsa, "k1"), &claims(), &rsa);
        assert_eq!(
            reason(verifier.verify(&Secret::new(signed), now()).await),
            "unknown key",
            "{what}"
        );
    }
}

#[tokio::test]
async fn points_of_small_order_are_not_imported() {
    let mut points = vec![[0_u8; 32]; 2];
    points[1][0] = 1;
    for first in [0xec_u8, 0xed, 0xee] {
        let mut point = [0xff; 32];
        point[0] = first;
        point[31] = 0x7f;
        points.push(point);
    }
    points.push([
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ]);
    points.push([
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ]);
    for sign in [0, 0x80] {
        for point in &points {
            let mut point = *point;
            point[31] |= sign;
            let http = ScriptedHttp::new();
            publish(
                &http,
                &[json!({"kty": "OKP", "crv": "Ed25519", "x": b64(point), "kid": "k1", "alg": "EdDSA"})],
            );
            let verifier = JwtVerifier::new(policy(), keys(&http));
            let head = b64(json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k1"}).to_string());
            // R the identity, S zero: valid for every message under such a key.
            let mut signature = [0_u8; 64];
            signature[0] = 1;
            let forged = format!("{head}.{}.{}", b64(claims().to_string()), b64(signature));
            assert_eq!(
                reason(verifier.verify(&Secret::new(forged), now()).await),
                "unknown key",
                "{point:02x?}"
            );
        }
    }
}

#[tokio::test]
async fn metadata_must_name_its_issuer_and_keep_its_origin() {
    const METADATA: &str = "https://issuer.example/.well-known/openid-configuration";
    for (metadata, verdict) in [
        (json!({"issuer": ISSUER, "jwks_uri": JWKS}), "accepted"),
        (
            json!({"issuer": "https://evil.example", "jwks_uri": JWKS}),
            "unavailable",
        ),
        (
            json!({"issuer": ISSUER, "jwks_uri": "https://evil.example/jwks"}),
            "unavailable",
        ),
        (
            json!({"issuer": ISSUER, "jwks_uri": "http://issuer.example/oauth/jwks"}),
            "unavailable",
        ),
        (json!({"issuer": ISSUER}), "unavailable"),
    ] {
        let world = World::new();
        world.http.on(METADATA, Reply::json(200, metadata.to_string()));
        publish(&world.http, &[world.signer.jwk("k1")]);
        let keys = HttpKeys::of_issuer(Arc::new(world.http.clone()), ISSUER).unwrap();
        let verifier = JwtVerifier::new(policy(), Arc::new(keys));
        let verified = verifier.verify(&Secret::new(world.good()), now()).await;
        assert_eq!(reason(verified), verdict, "{metadata}");
        assert!(world.http.calls().iter().all(|call| !call.url.contains("evil")));
    }
}
