//! Every law of the HTTP port is seen to fail on a double that breaks just what it asks.

use std::time::Duration;

use async_trait::async_trait;

use aurora_core::port::http::laws::{self, HttpFixture, Served, Site};
use aurora_core::port::http::memory::{Reply, ScriptedHttp};
use aurora_core::port::http::{HttpAnswer, HttpCall, HttpCaller, HttpError};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    AllowsEverything,
    CarriesCredentialsAnywhere,
    CutsLargeAnswers,
    DropsHeaders,
    FollowsForEver,
    IgnoresTheTimeout,
    LosesTheMethod,
    NeverFollows,
    TakesFailuresForErrors,
    TakesOtherUrls,
    TrustsRedirects,
}

/// An honest double, but for one fault; two worlds show which of them was reached.
#[derive(Debug)]
struct Broken {
    http: ScriptedHttp,
    lawless: ScriptedHttp,
    fault: Fault,
}

impl Broken {
    fn new(fault: Fault) -> Self {
        Self {
            http: ScriptedHttp::new(),
            lawless: ScriptedHttp::new(),
            fault,
        }
    }

    /// Follows redirects by itself, without the checks of the honest double.
    async fn follow(&self, mut call: HttpCall) -> Result<HttpAnswer, HttpError> {
        let mut left = match self.fault {
            Fault::FollowsForEver => 1000,
            _ => call.max_redirects,
        };
        let world = if self.fault == Fault::TrustsRedirects {
            &self.lawless
        } else {
            &self.http
        };
        call.max_redirects = 0;
        loop {
            let answer = world.call(call.clone()).await?;
            match answer.header("location") {
                Some(location) if left > 0 => call.url = location.to_owned(),
                _ => return Ok(answer),
            }
            left -= 1;
        }
    }
}

#[async_trait]
impl HttpCaller for Broken {
    async fn call(&self, mut call: HttpCall) -> Result<HttpAnswer, HttpError> {
        match self.fault {
            Fault::AllowsEverything => self.lawless.call(call).await,
            Fault::CarriesCredentialsAnywhere | Fault::FollowsForEver | Fault::TrustsRedirects => {
                self.follow(call).await
            }
            Fault::CutsLargeAnswers => {
                let limit = std::mem::replace(&mut call.max_answer, usize::MAX);
                let mut answer = self.http.call(call).await?;
                answer.body.truncate(limit);
                Ok(answer)
            }
            Fault::DropsHeaders => {
                call.headers.clear();
                self.http.call(call).await
            }
            Fault::IgnoresTheTimeout => {
                call.timeout = Duration::from_secs(3600);
                self.http.call(call).await
            }
            Fault::LosesTheMethod => {
                call.method = "GET".into();
                self.http.call(call).await
            }
            Fault::NeverFollows => {
                call.max_redirects = 0;
                self.http.call(call).await
            }
            Fault::TakesFailuresForErrors => {
                let answer = self.http.call(call).await?;
                if answer.status >= 400 {
                    return Err(HttpError::Unreachable {
                        destination: "home.example".into(),
                        source: "not a success".into(),
                    });
                }
                Ok(answer)
            }
            Fault::TakesOtherUrls => match self.http.call(call).await {
                Err(HttpError::Invalid { .. }) => Ok(HttpAnswer {
                    status: 200,
                    headers: Vec::new(),
                    body: "root:x:0:0".into(),
                }),
                other => other,
            },
        }
    }
}

#[async_trait]
impl HttpFixture for Broken {
    fn caller(&self) -> &dyn HttpCaller {
        self
    }

    async fn serve(&self, site: Site, path: &str, served: Served) -> String {
        let host = match site {
            Site::Home => "home.example",
            Site::Away => "away.example",
            Site::Refused => "169.254.169.254",
        };
        let url = format!("http://{host}{path}");
        let reply = match served {
            Served::Answer {
                status,
                headers,
                body,
            } => headers
                .into_iter()
                .fold(Reply::status(status, body), |reply, (name, value)| {
                    reply.with_header(&name, value)
                }),
            Served::Silence => Reply::Silence,
        };
        self.http.forbid("169.254.169.254");
        self.http.on(url.clone(), reply.clone());
        self.lawless.on(url.clone(), reply);
        url
    }

    async fn received(&self) -> Vec<HttpCall> {
        let mut all = self.http.calls();
        all.extend(self.lawless.calls());
        all
    }
}

macro_rules! laws_bite {
    ($($test:ident: $law:ident on $fault:ident: $says:literal),+ $(,)?) => {$(
        #[tokio::test(start_paused = true)]
        #[should_panic(expected = $says)]
        async fn $test() {
            laws::$law(&Broken::new(Fault::$fault)).await;
        }
    )+};
}

laws_bite! {
    a_failure_that_is_no_answer_is_caught: an_answer_of_any_status_is_an_answer on TakesFailuresForErrors:
        "not a success",
    a_lost_method_is_caught: a_call_reaches_the_other_side_as_given on LosesTheMethod:
        "the method must arrive",
    lost_headers_are_caught: a_call_reaches_the_other_side_as_given on DropsHeaders:
        "the header content-type must arrive",
    a_cut_answer_is_caught: an_answer_above_the_limit_is_an_error on CutsLargeAnswers:
        "an answer above the limit must be an error",
    a_call_without_end_is_caught: a_call_ends_when_its_time_is_up on IgnoresTheTimeout:
        "must end when its time is up",
    an_open_door_is_caught: a_refused_destination_hears_nothing on AllowsEverything:
        "must be Forbidden",
    a_trusted_redirect_is_caught: a_redirect_cannot_reach_a_refused_destination on TrustsRedirects:
        "a redirect to a refused destination must be Forbidden",
    not_following_is_caught: redirects_are_followed_as_far_as_allowed on NeverFollows:
        "1 redirects must be followed",
    following_too_far_is_caught: a_circle_of_redirects_ends on FollowsForEver:
        "three redirects are four calls",
    credentials_that_leave_are_caught: credentials_stay_within_one_origin on CarriesCredentialsAnywhere:
        "credentials must stay within one origin",
    a_file_read_as_a_url_is_caught: a_url_of_another_kind_is_no_call on TakesOtherUrls:
        "such a URL must be Invalid",
}
