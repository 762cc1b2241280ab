//! Tokens for a client credential, asked for once, kept, and renewed before they end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aurora_core::port::http::{HttpAnswer, HttpCall, HttpCaller};
use aurora_core::port::token::{Token, TokenError, TokenSource};
use aurora_core::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::url::{InvalidUrl, checked};

/// A token is renewed when so much of its life is over, in percent.
const RENEW_AFTER_PERCENT: i64 = 75;

/// The issuer has this long to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// While the present token is good, a failed renewal is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The largest answer of a token endpoint that is read.
const MAX_ANSWER: usize = 64 * 1024;

/// The longest life that an issuer is believed about.
const MAX_LIFE: SignedDuration = SignedDuration::from_hours(24);

/// Gets tokens by the OAuth 2.0 client credentials grant.
///
/// One token is asked for at a time and kept until three quarters of its life are over; while the issuer
/// is away the last one serves until its end.
#[derive(Debug)]
pub struct ClientCredentials {
    http: Arc<dyn HttpCaller>,
    endpoint: String,
    client_id: String,
    client_secret: Secret,
    scope: Option<String>,
    state: Mutex<State>,
    /// One caller asks the issuer; the others wait, or go on with the token they have.
    turn: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    next_try: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Held {
    token: Token,
    renew_at: Timestamp,
}

/// What a token endpoint answers on success, RFC 6749 5.1.
#[derive(Deserialize)]
struct Success {
    access_token: String,
    token_type: String,
    expires_in: i64,
}

/// And on failure, RFC 6749 5.2.
#[derive(Deserialize)]
struct Failure {
    error: String,
}

impl ClientCredentials {
    /// A source for this client at this token endpoint.
    ///
    /// # Errors
    /// [`InvalidUrl`] when the endpoint is not an https URL (http only for this machine itself).
    pub fn new(
        http: Arc<dyn HttpCaller>,
        endpoint: impl Into<String>,
        client_id: impl Into<String>,
        client_secret: Secret,
    ) -> Result<Self, InvalidUrl> {
        let endpoint = endpoint.into();
        checked(&endpoint)?;
        Ok(Self {
            http,
            endpoint,
            client_id: client_id.into(),
            client_secret,
            scope: None,
            state: Mutex::default(),
            turn: Semaphore::new(1),
        })
    }

    /// Asks for these scopes; by default for all that the client has.
    #[must_use]
    pub fn with_scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// The token that is held, if it does not have to be renewed yet.
    fn fresh(&self, now: Timestamp) -> Option<Token> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let held = state.held.as_ref()?;
        let waiting = state.next_try.is_some_and(|at| Instant::now() < at);
        let fresh = now < held.renew_at || (waiting && now < held.token.expires_at);
        fresh.then(|| held.token.clone())
    }

    /// The token that is held, if it has not ended.
    fn good(&self, now: Timestamp) -> Option<Token> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let held = state.held.as_ref()?;
        (now < held.token.expires_at).then(|| held.token.clone())
    }

    async fn ask(&self, now: Timestamp) -> Result<Held, TokenError> {
        let mut form = String::from("grant_type=client_credentials");
        if let Some(scope) = &self.scope {
            form.push_str("&scope=");
            form.push_str(&form_encoded(scope));
        }
        let pair = format!(
            "{}:{}",
            form_encoded(&self.client_id),
            form_encoded(self.client_secret.expose())
        );
        let call = HttpCall {
            timeout: TIMEOUT,
            max_answer: MAX_ANSWER,
            ..HttpCall::post(
                &self.endpoint,
                "application/x-www-form-urlencoded",
                Bytes::from(form),
            )
        }
        .with_header("accept", "application/json")
        .with_header("authorization", format!("Basic {}", STANDARD.encode(pair)));
        let answer = self
            .http
            .call(call)
            .await
            .map_err(|error| TokenError::Unavailable { source: error.into() })?;
        read_answer(&answer, now)
    }
}

#[async_trait]
impl TokenSource for ClientCredentials {
    async fn token(&self, now: Timestamp) -> Result<Token, TokenError> {
        if let Some(token) = self.fresh(now) {
            return Ok(token);
        }
        let turn = match (self.turn.try_acquire(), self.good(now)) {
            (Ok(turn), _) => Ok(turn),
            // Somebody renews already, and the present token is good: no need to wait.
            (Err(_), Some(token)) => return Ok(token),
            (Err(_), None) => self.turn.acquire().await,
        };
        let _turn = turn.map_err(|error| TokenError::Unavailable { source: error.into() })?;
        if let Some(token) = self.fresh(now) {
            return Ok(token);
        }
        let asked = self.ask(now).await;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match asked {
            Ok(held) => {
                let token = held.token.clone();
                *state = State {
                    held: Some(held),
                    next_try: None,
                };
                Ok(token)
            }
            Err(TokenError::Unavailable { source }) => {
                state.next_try = Some(Instant::now() + RETRY_AFTER);
                match state.held.as_ref().filter(|held| now < held.token.expires_at) {
                    Some(held) => {
                        tracing::warn!(
                            error = %aurora_core::error::ErrorChain(source.as_ref()),
                            "token not renewed, the present one is still good"
                        );
                        Ok(held.token.clone())
                    }
                    None => Err(TokenError::Unavailable { source }),
                }
            }
            Err(refused) => Err(refused),
        }
    }
}

fn read_answer(answer: &HttpAnswer, now: Timestamp) -> Result<Held, TokenError> {
    let unavailable = |problem: String| TokenError::Unavailable {
        source: problem.into(),
    };
    if answer.status != 200 {
        let code = serde_json::from_slice::<Failure>(&answer.body).map(|failure| failure.error);
        let refused = match (answer.status, code.as_deref()) {
            (_, Ok("invalid_client")) if answer.status != 429 => {
                "the issuer does not know this client or secret"
            }
            (400, Ok("unauthorized_client")) => "the client may not use this grant",
            (400, Ok("invalid_scope")) => "the client does not have these scopes",
            (401, _) => "the issuer refuses the credential",
            _ => {
                return Err(unavailable(format!(
                    "the token endpoint answers with status {}",
                    answer.status
                )));
            }
        };
        return Err(TokenError::Unauthenticated { reason: refused });
    }
    // What the answer holds must not become part of an error: it may be a token.
    let success: Success = serde_json::from_slice(&answer.body)
        .map_err(|_| unavailable("the token endpoint does not answer with a token".into()))?;
    let usable = !success.access_token.is_empty()
        && success.access_token.bytes().all(|b| b.is_ascii_graphic())
        && success.token_type.eq_ignore_ascii_case("bearer")
        && success.expires_in > 0;
    if !usable {
        return Err(unavailable(
            "the token endpoint does not answer with a bearer token that lives".into(),
        ));
    }
    let life = SignedDuration::from_secs(success.expires_in).min(MAX_LIFE);
    let renew_after = SignedDuration::from_millis(life.as_secs() * 10 * RENEW_AFTER_PERCENT);
    let after = |span| now.checked_add(span).unwrap_or(Timestamp::MAX);
    Ok(Held {
        token: Token {
            secret: Secret::new(success.access_token),
            expires_at: after(life),
        },
        renew_at: after(renew_after),
    })
}

/// Encodes a text as a value of `application/x-www-form-urlencoded`.
pub(crate) fn form_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut out, byte| {
            match byte {
                b' ' => out.push('+'),
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
                    out.push(char::from(byte))
                }
                _ => {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "%{byte:02X}");
                }
            }
            out
        })
}
