//! What a token must be, claim by claim and byte by byte.

use proptest::prelude::*;
use serde_json::{Value, json};

use aurora_core::port::token::TokenVerifier as _;
use aurora_core::principal::PrincipalKind;
use aurora_core::secret::Secret;

use crate::forge::*;

#[tokio::test]
async fn each_algorithm_is_accepted_with_its_own_key() {
    for signer in [Signer::es256(), Signer::rs256(), Signer::ed25519()] {
        let world = World::of(signer);
        let principal = world.verify(&world.good()).await.unwrap();
        assert_eq!(principal.id, "ci-runner");
        assert_eq!(principal.kind, PrincipalKind::Machine);
        assert_eq!(
            principal.tenant.as_ref().map(ToString::to_string),
            Some("acme/main".into())
        );
    }
}

#[tokio::test]
async fn a_claim_of_another_json_type_is_refused_never_taken_for_absent() {
    let world = World::new();
    assert_eq!(world.reason_of(&claims()).await, "accepted");
    let strings = [
        "iss",
        "sub",
        "jti",
        "client_id",
        "scope",
        "org",
        "env",
        "kind",
        "name",
    ];
    let numbers = ["exp", "iat", "nbf"];
    let lists = ["roles", "agents"];
    let values = [
        json!(null),
        json!(true),
        json!(42),
        json!(1.5),
        json!("text"),
        json!(["a"]),
        json!({"a": 1}),
    ];
    for (names, fits) in [(&strings[..], 4..5), (&numbers[..], 2..3), (&lists[..], 5..6)] {
        for name in names {
            for (index, value) in values.iter().enumerate() {
                if !fits.contains(&index) {
                    let reason = world.reason_of(&claims_with(name, value.clone())).await;
                    assert_eq!(reason, "claims", "{name} = {value}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_claim_that_must_be_there_is_missed() {
    let world = World::new();
    for name in ["iss", "sub", "aud", "exp", "iat", "jti", "client_id", "kind"] {
        assert_eq!(world.reason_of(&claims_without(name)).await, "claims", "{name}");
    }
    for name in ["nbf", "scope", "roles", "agents", "name"] {
        assert_eq!(world.reason_of(&claims_without(name)).await, "accepted", "{name}");
    }
}

#[tokio::test]
async fn issuer_and_audience_are_compared_byte_by_byte() {
    let world = World::new();
    for issuer in [
        json!("https://evil.example"),
        json!("https://issuer.example/"),
        json!("HTTPS://issuer.example"),
        json!("https://issuer.example:443"),
        json!(" https://issuer.example"),
        json!(""),
    ] {
        assert_eq!(
            world.reason_of(&claims_with("iss", issuer.clone())).await,
            "issuer",
            "{issuer}"
        );
    }
    for issuer in [
        json!(["https://evil.example", ISSUER]),
        json!([ISSUER]),
        json!({}),
    ] {
        assert_eq!(
            world.reason_of(&claims_with("iss", issuer.clone())).await,
            "claims",
            "{issuer}"
        );
    }
    for (audience, verdict) in [
        (json!("aurora"), "accepted"),
        (json!(["aurora"]), "accepted"),
        (json!(["other", "aurora"]), "accepted"),
        (json!("Aurora"), "audience"),
        (json!("aurora "), "audience"),
        (json!([]), "audience"),
        (json!(["other"]), "audience"),
        (json!(null), "claims"),
        (json!(123), "claims"),
        (json!([1, "aurora"]), "claims"),
        (json!({"aurora": 1}), "claims"),
    ] {
        assert_eq!(
            world.reason_of(&claims_with("aud", audience.clone())).await,
            verdict,
            "{audience}"
        );
    }
}

#[tokio::test]
async fn times_are_held_to_thirty_seconds_of_leeway_on_both_sides() {
    let world = World::new();
    let second = now().as_second();
    for (name, value, verdict) in [
        ("exp", second + 600, "accepted"),
        ("exp", second - 29, "claims"),
        ("nbf", second + 30, "accepted"),
        ("nbf", second + 31, "not yet valid"),
        ("iat", second + 30, "accepted"),
        ("iat", second + 31, "issued in the future"),
        ("iat", second + 3600, "issued in the future"),
        ("exp", second + 3600, "accepted"),
        ("exp", second + 3601, "lives too long"),
        ("exp", second + 315_360_000, "lives too long"),
        ("exp", i64::MAX, "claims"),
        ("exp", -1, "expired"),
        ("nbf", i64::MIN, "claims"),
        ("iat", second - 3601, "lives too long"),
    ] {
        let reason = world.reason_of(&claims_with(name, json!(value))).await;
        assert_eq!(reason, verdict, "{name} = now + {}", value.wrapping_sub(second));
    }
    for odd in [
        json!(u64::MAX),
        json!(1e300),
        json!("1800000600"),
        json!(1_800_000_600.5),
    ] {
        assert_eq!(
            world.reason_of(&claims_with("exp", odd.clone())).await,
            "claims",
            "{odd}"
        );
    }
    let good = Secret::new(world.good());
    for (seconds, verdict) in [
        (629, "accepted"),
        (630, "expired"),
        (-30, "accepted"),
        (-31, "issued in the future"),
    ] {
        let verified = world.verifier.verify(&good, later(seconds)).await;
        assert_eq!(reason(verified), verdict, "{seconds} s later");
    }
}

#[tokio::test]
async fn who_somebody_is_must_fit_together() {
    let world = World::new();
    let service = |changes: Value| {
        let mut all = claims();
        for name in ["org", "env", "roles", "agents", "name"] {
            all.as_object_mut().unwrap().remove(name);
        }
        all["kind"] = json!("service");
        all["scope"] = json!("route:commands");
        for (name, value) in changes.as_object().unwrap() {
            all[name] = value.clone();
        }
        all
    };
    assert_eq!(world.reason_of(&service(json!({}))).await, "accepted");
    for (what, bad) in [
        (
            "a service with a tenant",
            service(json!({"org": "acme", "env": "main"})),
        ),
        ("a service with agents", service(json!({"agents": ["a"]}))),
        ("half a tenant", claims_without("env")),
        ("the other half", claims_without("org")),
        ("a machine without a tenant", service(json!({"kind": "machine"}))),
        ("a person with agents", claims_with("kind", json!("user"))),
        ("an unknown kind", claims_with("kind", json!("root"))),
        ("a tenant that is no name", claims_with("org", json!("Acme Corp"))),
        ("a tenant that is a path", claims_with("env", json!("../main"))),
        ("an agent that is no name", claims_with("agents", json!(["-x"]))),
        ("an empty subject", claims_with("sub", json!(""))),
        ("a subject with a line break", claims_with("sub", json!("a\nb"))),
        ("an endless subject", claims_with("sub", json!("x".repeat(257)))),
        ("two spaces between scopes", claims_with("scope", json!("a  b"))),
        ("a tab between scopes", claims_with("scope", json!("a\tb"))),
    ] {
        assert_eq!(world.reason_of(&bad).await, "claims", "{what}");
    }
    let person = claims_with("kind", json!("user"));
    let mut person = person;
    person.as_object_mut().unwrap().remove("agents");
    assert_eq!(world.reason_of(&person).await, "accepted");
}

#[tokio::test]
async fn a_member_that_is_there_twice_is_refused() {
    let world = World::new();
    let payload = claims().to_string();
    for name in [
        "iss", "aud", "exp", "sub", "org", "env", "roles", "agents", "kind", "scope",
    ] {
        let twice = payload.replacen('{', &format!(r#"{{"{name}":{},"#, claims()[name]), 1);
        let token = raw(&world.header().to_string(), &twice, &world.signer);
        assert_eq!(world.reason(&token).await, "claims", "{name}");
    }
    for name in ["alg", "kid", "typ"] {
        let header = world.header();
        let twice = header
            .to_string()
            .replacen('{', &format!(r#"{{"{name}":{},"#, header[name]), 1);
        let token = raw(&twice, &payload, &world.signer);
        assert_eq!(world.reason(&token).await, "header", "{name}");
    }
}

#[tokio::test]
async fn a_header_has_three_members_and_no_more() {
    let world = World::new();
    for (name, value) in [
        ("crit", json!(["foo"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("jku", json!("https://evil.example/jwks")),
        ("jwk", Signer::es256().jwk("k1")),
        ("x5u", json!("https://evil.example/cert")),
        ("x5c", json!(["AAAA"])),
        ("enc", json!("A256GCM")),
        ("anything", json!(1)),
    ] {
        let mut header = world.header();
        header[name] = value.clone();
        let token = token(&header, &claims(), &world.signer);
        assert_eq!(world.reason(&token).await, "header", "{name} = {value}");
    }
}

#[tokio::test]
async fn the_type_is_that_of_an_access_token() {
    let world = World::new();
    for (typ, verdict) in [
        (json!("at+jwt"), "accepted"),
        (json!("AT+JWT"), "accepted"),
        (json!("application/at+jwt"), "accepted"),
        (json!("JWT"), "type"),
        (json!("logout+jwt"), "type"),
        (json!("dpop+jwt"), "type"),
        (json!("client-authentication+jwt"), "type"),
        (json!("at+jwt "), "type"),
        (json!(""), "type"),
        (json!(null), "header"),
        (json!(["at+jwt"]), "header"),
    ] {
        let mut header = world.header();
        header["typ"] = typ.clone();
        assert_eq!(
            world.reason(&token(&header, &claims(), &world.signer)).await,
            verdict,
            "{typ}"
        );
    }
    let mut header = world.header();
    header.as_object_mut().unwrap().remove("typ");
    assert_eq!(
        world.reason(&token(&header, &claims(), &world.signer)).await,
        "header"
    );
}

#[tokio::test]
async fn a_key_id_names_a_key_and_nothing_else() {
    let world = World::new();
    for kid in [
        "../../dev/null",
        "",
        "a b",
        "k1\0",
        "k1'--",
        "https://evil.example",
        &"k".repeat(65),
    ] {
        let token = token(&header(&world.signer, kid), &claims(), &world.signer);
        assert_eq!(world.reason(&token).await, "header", "{kid:?}");
    }
    let mut header = world.header();
    header["kid"] = json!(null);
    assert_eq!(
        world.reason(&token(&header, &claims(), &world.signer)).await,
        "header"
    );
}

#[tokio::test]
async fn the_compact_form_is_taken_strictly() {
    let world = World::new();
    let good = world.good();
    let parts: Vec<_> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    for (what, bad) in [
        ("nothing", String::new()),
        ("one part", header.to_owned()),
        ("two parts", format!("{header}.{payload}")),
        ("four parts", format!("{good}.{signature}")),
        ("no signature", format!("{header}.{payload}.")),
        ("no payload", format!("{header}..{signature}")),
        ("padding", format!("{good}=")),
        ("a line break", format!("{good}\n")),
        ("a space before", format!(" {good}")),
        ("standard base64", good.replace('_', "/").replace('-', "+") + "+/"),
        ("a word before", format!("Bearer {good}")),
        ("letters beyond ASCII", format!("{header}.{payload}.é")),
    ] {
        let reason = world.reason(&bad).await;
        assert!(
            ["format", "signature", "header"].contains(&reason),
            "{what}: {reason}"
        );
    }
}

#[tokio::test]
async fn a_signature_with_spare_bits_is_refused() {
    let world = World::new();
    let good = world.good();
    // 64 bytes leave four unused bits in the last of 86 letters.
    let last = good.chars().last().unwrap();
    for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        .chars()
        .filter(|c| *c != last)
    {
        let changed = format!("{}{other}", &good[..good.len() - 1]);
        assert_eq!(world.reason(&changed).await, "signature", "{other}");
    }
}

#[tokio::test]
async fn a_huge_token_is_refused_before_it_is_decoded() {
    let world = World::new();
    let payload = "A".repeat(64 * 1024 * 1024);
    assert_eq!(world.reason(&format!("e30.{payload}.AAAA")).await, "too large");
    let header = b64(format!(
        r#"{{"alg":"ES256","typ":"at+jwt","kid":"{}"}}"#,
        "k".repeat(1000)
    ));
    assert_eq!(world.reason(&format!("{header}.e30.AAAA")).await, "too large");
    assert_eq!(world.fetches(), 0);
}

#[tokio::test]
async fn deep_nesting_is_refused_or_passed_over() {
    let world = World::new();
    let deep = "[".repeat(2000) + &"]".repeat(2000);
    for (name, verdict) in [("roles", "claims"), ("unknown", "accepted")] {
        let payload = claims_without(name).to_string();
        let payload = payload.replacen('{', &format!(r#"{{"{name}":{deep},"#), 1);
        let token = raw(&world.header().to_string(), &payload, &world.signer);
        assert_eq!(world.reason(&token).await, verdict, "{name}");
    }
}

#[tokio::test]
async fn tokens_of_other_purposes_are_refused_each_by_type_and_by_audience() {
    let world = World::new();
    let purposes = [
        "at+jwt",
        "JWT",
        "logout+jwt",
        "client-authentication+jwt",
        "dpop+jwt",
    ];
    let audiences = [
        AUDIENCE,
        "some-client",
        "some-client/logout",
        ISSUER,
        "https://api.example/path",
    ];
    for typ in purposes {
        for audience in audiences {
            let mut header = world.header();
            header["typ"] = json!(typ);
            let token = token(&header, &claims_with("aud", json!(audience)), &world.signer);
            let accepted = world.verify(&token).await.is_ok();
            assert_eq!(
                accepted,
                typ == "at+jwt" && audience == AUDIENCE,
                "{typ} for {audience}"
            );
        }
    }
}

#[tokio::test]
async fn neither_verifier_nor_error_shows_a_token() {
    let world = World::new();
    let good = world.good();
    let (header, _, signature) = {
        let mut parts = good.split('.');
        (
            parts.next().unwrap(),
            parts.next().unwrap(),
            parts.next().unwrap(),
        )
    };
    let error = world.verify(&format!("{good}x")).await.unwrap_err();
    world.verify(&good).await.unwrap();
    let shown = format!("{error} {error:?} {:?} {:?}", world.verifier, Secret::new(&good));
    assert!(!shown.contains(header) && !shown.contains(signature), "{shown}");
}

#[tokio::test]
async fn a_remembered_token_is_still_held_to_its_end_and_to_the_keys() {
    let mut world = World::new();
    world.verifier = world.verifier.with_memory(16);
    let good = Secret::new(world.good());
    for _ in 0..3 {
        assert!(world.verifier.verify(&good, now()).await.is_ok());
    }
    assert_eq!(reason(world.verifier.verify(&good, later(700)).await), "expired");
    assert!(world.verifier.verify(&good, now()).await.is_ok());
    for position in [0, 60, 200] {
        let mut changed = good.expose().as_bytes().to_vec();
        changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
        let changed = Secret::new(String::from_utf8(changed).unwrap());
        assert!(world.verifier.verify(&changed, now()).await.is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_byte_flipped_is_refused(position in any::<prop::sample::Index>(), bit in 0..7_u32) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let mut bytes = world.good().into_bytes();
            let index = position.index(bytes.len());
            bytes[index] ^= 1 << bit;
            let flipped = String::from_utf8(bytes).unwrap();
            prop_assert!(world.verify(&flipped).await.is_err(), "byte {}", index);
            Ok(())
        })?;
    }

    #[test]
    fn no_text_is_a_panic(text in ".{0,200}", header in "[ -~]{0,80}", payload in "[ -~]{0,80}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            for token in [text.clone(), raw(&header, &payload, &world.signer)] {
                prop_assert!(world.verify(&token).await.is_err());
            }
            Ok(())
        })?;
    }
}
