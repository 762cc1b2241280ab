//! What every HTTP caller must do.
#![expect(clippy::unwrap_used, reason = "a law reports by panicking")]

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{HttpCall, HttpCaller, HttpError};
use crate::error::ErrorKind;

/// A caller under test, and an other side that answers it.
#[async_trait]
pub trait HttpFixture: Debug + Send + Sync {
    /// The caller.
    fn caller(&self) -> &dyn HttpCaller;

    /// Serves a path of a site from now on; gives its URL.
    async fn serve(&self, site: Site, path: &str, served: Served) -> String;

    /// What reached any site, in order.
    async fn received(&self) -> Vec<HttpCall>;
}

/// Where something is served; the three are different origins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Site {
    /// A destination that the rules allow.
    Home,
    /// Another one that they allow.
    Away,
    /// One that they refuse, though it would answer.
    Refused,
}

/// What a site does with a call.
#[derive(Clone, Debug)]
pub enum Served {
    /// Answers.
    Answer {
        /// The status code.
        status: u16,
        /// Names and values.
        headers: Vec<(String, String)>,
        /// The body.
        body: Bytes,
    },
    /// Takes the call and never answers.
    Silence,
}

impl Served {
    /// An answer with a body.
    pub fn answer(status: u16, body: impl Into<Bytes>) -> Self {
        Self::Answer {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// A redirect to an absolute URL.
    pub fn redirect(status: u16, to: &str) -> Self {
        Self::Answer {
            status,
            headers: vec![("Location".into(), to.into())],
            body: Bytes::new(),
        }
    }
}

fn following(url: String, max_redirects: u32) -> HttpCall {
    HttpCall {
        max_redirects,
        ..HttpCall::fetch(url)
    }
}

fn assert_kind<T: Debug>(result: Result<T, HttpError>, kind: ErrorKind, what: &str) {
    match result {
        Ok(answer) => panic!("{what}, and there was an answer: {answer:?}"),
        Err(error) => assert_eq!(error.kind(), kind, "{what}: {error:?}"),
    }
}

/// An answer of any status is an answer, with header names in lower case and its whole body.
pub async fn an_answer_of_any_status_is_an_answer(fixture: &dyn HttpFixture) {
    for status in [200, 302, 404, 500] {
        let served = Served::Answer {
            status,
            headers: vec![("X-Aurora".into(), "Some Value".into())],
            body: "the whole body".into(),
        };
        let url = fixture.serve(Site::Home, &format!("/{status}"), served).await;
        let answer = fixture.caller().call(HttpCall::fetch(url)).await.unwrap();
        assert_eq!(answer.status, status, "the status must come back");
        assert_eq!(
            answer.header("x-aurora"),
            Some("Some Value"),
            "headers must come back"
        );
        assert_eq!(answer.body, "the whole body", "the body must come back whole");
    }
}

/// Method, headers and body reach the other side as they were given.
pub async fn a_call_reaches_the_other_side_as_given(fixture: &dyn HttpFixture) {
    let url = fixture.serve(Site::Home, "/hook", Served::answer(204, "")).await;
    let call = HttpCall::post(url, "application/x-test", "the body").with_header("x-aurora", "kept");
    fixture.caller().call(call).await.unwrap();
    let received = fixture.received().await;
    let [seen] = &received[..] else {
        panic!("one call must reach the other side, not {}", received.len());
    };
    assert_eq!(seen.method, "POST", "the method must arrive");
    assert_eq!(seen.body, "the body", "the body must arrive");
    for (name, value) in [("content-type", "application/x-test"), ("x-aurora", "kept")] {
        assert!(
            seen.headers
                .iter()
                .any(|(key, held)| key.eq_ignore_ascii_case(name) && held == value),
            "the header {name} must arrive"
        );
    }
}

/// An answer of exactly the limit is read; one byte more is an error that names the limit.
pub async fn an_answer_above_the_limit_is_an_error(fixture: &dyn HttpFixture) {
    const LIMIT: usize = 1000;
    for (size, fits) in [(LIMIT, true), (LIMIT + 1, false), (LIMIT * 100, false)] {
        let path = format!("/{size}");
        let url = fixture
            .serve(Site::Home, &path, Served::answer(200, vec![b'x'; size]))
            .await;
        let call = HttpCall {
            max_answer: LIMIT,
            ..HttpCall::fetch(url)
        };
        match fixture.caller().call(call).await {
            Ok(answer) => assert!(
                fits && answer.body.len() == size,
                "an answer above the limit must be an error"
            ),
            Err(HttpError::TooLarge { limit: LIMIT }) => {
                assert!(!fits, "an answer of the limit must be read")
            }
            Err(other) => panic!("too large must be TooLarge, not {other:?}"),
        }
    }
}

/// A call that nobody answers ends when its time is up.
pub async fn a_call_ends_when_its_time_is_up(fixture: &dyn HttpFixture) {
    let url = fixture.serve(Site::Home, "/silent", Served::Silence).await;
    let call = HttpCall {
        timeout: Duration::from_millis(200),
        ..HttpCall::fetch(url)
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), fixture.caller().call(call)).await;
    let Ok(ended) = ended else {
        panic!("a call must end when its time is up");
    };
    assert_kind(ended, ErrorKind::Deadline, "silence must be a missed deadline");
}

/// A destination that the rules refuse hears nothing.
pub async fn a_refused_destination_hears_nothing(fixture: &dyn HttpFixture) {
    let url = fixture
        .serve(Site::Refused, "/latest/meta-data", Served::answer(200, "keys"))
        .await;
    let answer = fixture.caller().call(HttpCall::fetch(url)).await;
    assert_kind(
        answer,
        ErrorKind::Denied,
        "a refused destination must be Forbidden",
    );
    assert!(
        fixture.received().await.is_empty(),
        "a refused destination must hear nothing"
    );
}

/// A redirect to a destination that the rules refuse is not followed there.
pub async fn a_redirect_cannot_reach_a_refused_destination(fixture: &dyn HttpFixture) {
    let refused = fixture
        .serve(Site::Refused, "/latest/meta-data", Served::answer(200, "keys"))
        .await;
    let away = fixture
        .serve(Site::Away, "/hop", Served::redirect(302, &refused))
        .await;
    let home = fixture
        .serve(Site::Home, "/start", Served::redirect(307, &away))
        .await;
    let answer = fixture.caller().call(following(home, 5)).await;
    assert_kind(
        answer,
        ErrorKind::Denied,
        "a redirect to a refused destination must be Forbidden",
    );
    let heard = fixture.received().await;
    assert!(
        heard.iter().all(|call| !call.url.ends_with("/latest/meta-data")),
        "a refused destination must hear nothing after a redirect"
    );
}

/// As many redirects are followed as are allowed; the next one is the answer.
pub async fn redirects_are_followed_as_far_as_allowed(fixture: &dyn HttpFixture) {
    let end = fixture
        .serve(Site::Home, "/end", Served::answer(200, "arrived"))
        .await;
    let second = fixture
        .serve(Site::Home, "/second", Served::redirect(302, &end))
        .await;
    let first = fixture
        .serve(Site::Home, "/first", Served::redirect(301, &second))
        .await;
    for (allowed, status) in [(0, 301), (1, 302), (2, 200), (9, 200)] {
        let answer = fixture
            .caller()
            .call(following(first.clone(), allowed))
            .await
            .unwrap();
        assert_eq!(answer.status, status, "{allowed} redirects must be followed");
    }
}

/// A redirect that goes round ends.
pub async fn a_circle_of_redirects_ends(fixture: &dyn HttpFixture) {
    let url = fixture.serve(Site::Home, "/round", Served::answer(200, "")).await;
    let again = fixture
        .serve(Site::Home, "/round", Served::redirect(302, &url))
        .await;
    let answer = fixture.caller().call(following(again, 3)).await.unwrap();
    assert_eq!(answer.status, 302, "a circle must end with the redirect itself");
    assert_eq!(
        fixture.received().await.len(),
        4,
        "three redirects are four calls"
    );
}

/// Credentials stay within one origin when a redirect leaves it.
pub async fn credentials_stay_within_one_origin(fixture: &dyn HttpFixture) {
    let away = fixture.serve(Site::Away, "/away", Served::answer(200, "")).await;
    let home = fixture
        .serve(Site::Home, "/home", Served::redirect(302, &away))
        .await;
    let start = fixture
        .serve(Site::Home, "/start", Served::redirect(302, &home))
        .await;
    let call = following(start, 5).with_header("Authorization", "Bearer hunter2");
    fixture.caller().call(call).await.unwrap();
    let carried: Vec<_> = fixture
        .received()
        .await
        .iter()
        .map(|call| {
            call.headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        })
        .collect();
    assert_eq!(
        carried,
        [true, true, false],
        "credentials must stay within one origin"
    );
}

/// What is not an absolute http or https URL, or carries a user, is no call.
pub async fn a_url_of_another_kind_is_no_call(fixture: &dyn HttpFixture) {
    for url in [
        "",
        "/relative",
        "file:///etc/passwd",
        "ftp://home.example/",
        "http://",
        "https://user:password@home.example/",
    ] {
        let answer = fixture.caller().call(HttpCall::fetch(url)).await;
        assert_kind(answer, ErrorKind::Invalid, "such a URL must be Invalid");
    }
}

/// Makes a test of each law of [`HttpCaller`]; the argument is a future of a [`HttpFixture`].
#[macro_export]
macro_rules! http_laws {
    ($fixture:expr) => {
        $crate::http_laws! { @tests $fixture;
            an_answer_of_any_status_is_an_answer,
            a_call_reaches_the_other_side_as_given,
            an_answer_above_the_limit_is_an_error,
            a_call_ends_when_its_time_is_up,
            a_refused_destination_hears_nothing,
            a_redirect_cannot_reach_a_refused_destination,
            redirects_are_followed_as_far_as_allowed,
            a_circle_of_redirects_ends,
            credentials_stay_within_one_origin,
            a_url_of_another_kind_is_no_call,
        }
    };
    (@tests $fixture:expr; $($law:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $law() {
            $crate::port::http::laws::$law(&$fixture.await).await;
        }
    )+};
}
