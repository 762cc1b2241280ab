//! How a client gets and keeps its token.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;

use aurora_auth::token_source::ClientCredentials;
use aurora_core::error::ErrorChain;
use aurora_core::error::ErrorKind;
use aurora_core::port::http::memory::{Reply, ScriptedHttp};
use aurora_core::port::token::TokenSource as _;
use aurora_core::secret::Secret;

use crate::forge::{later, now};

const ENDPOINT: &str = "https://issuer.example/oauth/token";

fn source(http: &ScriptedHttp) -> ClientCredentials {
    ClientCredentials::new(Arc::new(http.clone()), ENDPOINT, "ci", Secret::new("hunter+2")).unwrap()
}

fn token(text: &str) -> Reply {
    Reply::json(
        200,
        json!({"access_token": text, "token_type": "bearer", "expires_in": 600}).to_string(),
    )
}

#[tokio::test]
async fn a_request_carries_the_credential_encoded_in_its_header() {
    let http = ScriptedHttp::new();
    http.on(ENDPOINT, token("t1"));
    source(&http)
        .with_scope("manage:deploy a&b")
        .token(now())
        .await
        .unwrap();
    let call = &http.calls()[0];
    assert_eq!(call.method, "POST");
    assert_eq!(
        call.body,
        "grant_type=client_credentials&scope=manage%3Adeploy+a%26b"
    );
    let authorization = call.headers.iter().find(|(name, _)| name == "authorization");
    // ci:hunter%2B2
    assert_eq!(
        authorization.map(|(_, value)| value.as_str()),
        Some("Basic Y2k6aHVudGVyJTJCMg==")
    );
}

#[tokio::test]
async fn a_token_is_renewed_when_three_quarters_of_its_life_are_over() {
    let http = ScriptedHttp::new();
    http.play(ENDPOINT, [token("t1"), token("t2")]);
    let source = source(&http);
    for (seconds, expected, calls) in [(0, "t1", 1), (449, "t1", 1), (450, "t2", 2), (899, "t2", 2)] {
        let held = source.token(later(seconds)).await.unwrap();
        assert_eq!(held.secret.expose(), expected, "{seconds}");
        assert_eq!(http.calls().len(), calls, "{seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_at_once_ask_once() {
    let http = ScriptedHttp::new();
    http.play(ENDPOINT, [Reply::Silence, token("t1")]);
    let source = source(&http);
    // The first request is never answered: nobody else may ask meanwhile.
    let asked = join_all((0..50).map(|_| source.token(now())));
    let at_once = tokio::time::timeout(Duration::from_secs(9), asked).await;
    assert!(at_once.is_err());
    assert_eq!(http.calls().len(), 1);
    let held = join_all((0..50).map(|_| source.token(now()))).await;
    assert!(
        held.iter()
            .all(|token| token.as_ref().is_ok_and(|token| token.secret.equals("t1")))
    );
    assert_eq!(http.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn while_one_renews_the_others_go_on_with_the_token_they_have() {
    let http = ScriptedHttp::new();
    http.play(ENDPOINT, [token("t1"), Reply::Silence]);
    let source = source(&http);
    source.token(now()).await.unwrap();
    let slow = source.token(later(500));
    let quick = async {
        tokio::task::yield_now().await;
        tokio::time::timeout(Duration::from_secs(1), source.token(later(500))).await
    };
    let (slow, quick) = tokio::join!(slow, quick);
    assert!(quick.unwrap().unwrap().secret.equals("t1"));
    assert!(
        slow.unwrap().secret.equals("t1"),
        "the issuer did not answer in time"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_is_not_repeated_at_once() {
    let http = ScriptedHttp::new();
    http.play(ENDPOINT, [token("t1"), Reply::status(503, "")]);
    let source = source(&http);
    source.token(now()).await.unwrap();
    for _ in 0..20 {
        assert!(source.token(later(500)).await.is_ok());
    }
    assert_eq!(http.calls().len(), 2);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(source.token(later(505)).await.is_ok());
    assert_eq!(http.calls().len(), 3);
    assert_eq!(
        source.token(later(600)).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
}

#[tokio::test]
async fn what_the_issuer_says_is_told_apart() {
    for (reply, kind) in [
        (
            Reply::json(401, r#"{"error":"invalid_client"}"#),
            ErrorKind::Unauthenticated,
        ),
        (Reply::status(401, "no"), ErrorKind::Unauthenticated),
        (
            Reply::json(400, r#"{"error":"invalid_client"}"#),
            ErrorKind::Unauthenticated,
        ),
        (
            Reply::json(400, r#"{"error":"invalid_scope"}"#),
            ErrorKind::Unauthenticated,
        ),
        (
            Reply::json(400, r#"{"error":"unauthorized_client"}"#),
            ErrorKind::Unauthenticated,
        ),
        (
            Reply::json(429, r#"{"error":"invalid_client"}"#),
            ErrorKind::Unavailable,
        ),
        (Reply::status(503, ""), ErrorKind::Unavailable),
        (
            Reply::redirect(302, "https://evil.example/token"),
            ErrorKind::Unavailable,
        ),
        (Reply::Unreachable, ErrorKind::Unavailable),
        (Reply::json(200, "{}"), ErrorKind::Unavailable),
        (
            Reply::json(200, r#"{"access_token":"","token_type":"Bearer","expires_in":1}"#),
            ErrorKind::Unavailable,
        ),
        (
            Reply::json(
                200,
                r#"{"access_token":"a\nb","token_type":"Bearer","expires_in":1}"#,
            ),
            ErrorKind::Unavailable,
        ),
        (
            Reply::json(200, r#"{"access_token":"a","token_type":"mac","expires_in":1}"#),
            ErrorKind::Unavailable,
        ),
        (
            Reply::json(
                200,
                r#"{"access_token":"a","token_type":"Bearer","expires_in":0}"#,
            ),
            ErrorKind::Unavailable,
        ),
        (Reply::status(200, vec![b' '; 65 * 1024]), ErrorKind::Unavailable),
    ] {
        let http = ScriptedHttp::new();
        http.on(ENDPOINT, reply.clone());
        let error = source(&http).token(now()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{reply:?}");
        assert!(http.calls().iter().all(|call| call.url == ENDPOINT), "{reply:?}");
    }
}

#[tokio::test]
async fn neither_source_nor_error_shows_a_secret() {
    let http = ScriptedHttp::new();
    http.on(
        ENDPOINT,
        Reply::json(200, r#"{"access_token":"hunter+2 leaked","token_type":7}"#),
    );
    let source = source(&http);
    let error = source.token(now()).await.unwrap_err();
    http.on(ENDPOINT, token("hunter+2"));
    source.token(now()).await.unwrap();
    let shown = format!("{source:?} {error:?} {}", ErrorChain(&error));
    assert!(!shown.contains("hunter"), "{shown}");
}

#[test]
fn an_endpoint_without_tls_is_refused() {
    let http: Arc<ScriptedHttp> = Arc::default();
    for (url, fits) in [
        ("https://issuer.example/oauth/token", true),
        ("http://127.0.0.1:8446/oauth/token", true),
        ("http://issuer.example/oauth/token", false),
        ("issuer.example", false),
    ] {
        let built = ClientCredentials::new(http.clone(), url, "ci", Secret::new("s"));
        assert_eq!(built.is_ok(), fits, "{url}");
    }
}
