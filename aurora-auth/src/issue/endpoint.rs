//! The token endpoint's decisions: who asks, for what, and what they get.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aurora_core::error::ErrorChain;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, Header};
use tokio::sync::Semaphore;

use super::attempts::{Attempts, Who};
use super::client::Client;
use super::client_secret::SecretHash;
use super::form::{Form, parse_basic, parse_form};
use super::signing_keys::SigningKeys;
use crate::verify::{Audience, Claims, scopes_of};

/// So many slow secret hashes are checked at once; more attempts wait, so that they cannot take all cores.
const SLOW_CHECKS: usize = 2;

/// The largest token that any resource takes; a client that needs more has too many roles or agents.
const MAX_TOKEN: usize = 8 * 1024;

/// What the token endpoint knows.
#[derive(Debug)]
pub(super) struct TokenEndpoint {
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) clients: BTreeMap<String, Client>,
    pub(super) keys: Arc<SigningKeys>,
    attempts: Attempts,
    slow_checks: Semaphore,
}

/// A request as it came in.
#[derive(Debug)]
pub(super) struct TokenRequest<'a> {
    pub(super) query: Option<&'a str>,
    pub(super) media_type: Option<&'a str>,
    pub(super) authorization: Option<&'a str>,
    pub(super) body: &'a [u8],
    pub(super) address: Option<IpAddr>,
}

/// A token that was made.
pub(super) struct Issued {
    pub(super) access_token: String,
    pub(super) expires_in: Duration,
    pub(super) scope: String,
}

/// Why there is none, RFC 6749 5.2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TokenRefusal {
    InvalidClient,
    InvalidRequest(&'static str),
    InvalidScope(&'static str),
    InvalidTarget,
    MissingClient,
    ServerError,
    TooManyAttempts(Duration),
    UnsupportedGrantType,
}

/// What somebody presented as a client.
struct Presented {
    id: String,
    secret: String,
}

impl TokenEndpoint {
    pub(super) fn new(
        issuer: String,
        audience: String,
        clients: BTreeMap<String, Client>,
        keys: Arc<SigningKeys>,
    ) -> Self {
        Self {
            issuer,
            audience,
            clients,
            keys,
            attempts: Attempts::default(),
            slow_checks: Semaphore::new(SLOW_CHECKS),
        }
    }

    pub(super) async fn answer(
        &self,
        request: TokenRequest<'_>,
        now: Timestamp,
    ) -> Result<Issued, TokenRefusal> {
        if request.query.is_some_and(|query| !query.is_empty()) {
            return Err(TokenRefusal::InvalidRequest(
                "parameters go into the body, not into the URL",
            ));
        }
        let media_type = request.media_type.and_then(|value| value.split(';').next());
        if !media_type.is_some_and(|value| {
            value
                .trim()
                .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        }) {
            return Err(TokenRefusal::InvalidRequest(
                "the body must be application/x-www-form-urlencoded",
            ));
        }
        let form = parse_form(request.body).map_err(TokenRefusal::InvalidRequest)?;
        let presented = presented(request.authorization, &form)?;
        let client = self.authenticate(&presented, request.address, now).await?;
        match form.get("grant_type").map(String::as_str) {
            Some("client_credentials") => {}
            Some(_) => return Err(TokenRefusal::UnsupportedGrantType),
            None => return Err(TokenRefusal::InvalidRequest("grant_type is missing")),
        }
        self.check_target(client, &form)?;
        let scopes = granted_scopes(client, &form)?;
        self.issue(client, &scopes, now).await
    }

    async fn authenticate(
        &self,
        presented: &Presented,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<&Client, TokenRefusal> {
        let client = self.clients.get(&presented.id);
        let who = Who {
            client: client.map(|client| client.id.clone()),
            address,
        };
        if let Some(wait) = self.attempts.blocked_for(&who) {
            tracing::warn!(client = who.client, "token refused: too many failed attempts");
            return Err(TokenRefusal::TooManyAttempts(wait));
        }
        let nobody = [SecretHash::of_nobody()];
        let hashes = client.map_or(&nobody[..], |client| &client.secrets);
        let matches = self.matches(hashes, &presented.secret).await;
        match client.filter(|client| matches && client.is_enabled(now)) {
            Some(client) => {
                self.attempts.succeeded(&who);
                Ok(client)
            }
            None => {
                tracing::warn!(client = who.client, "token refused: client not recognised");
                self.attempts.failed(who);
                Err(TokenRefusal::InvalidClient)
            }
        }
    }

    /// Compares with every hash, so that the time does not tell which one it was.
    async fn matches(&self, hashes: &[SecretHash], secret: &str) -> bool {
        if !hashes.iter().any(SecretHash::is_slow) {
            return hashes
                .iter()
                .fold(false, |found, hash| hash.matches(secret) | found);
        }
        let Ok(_permit) = self.slow_checks.acquire().await else {
            return false;
        };
        let (hashes, secret) = (hashes.to_vec(), secret.to_owned());
        let checked = tokio::task::spawn_blocking(move || {
            hashes
                .iter()
                .fold(false, |found, hash| hash.matches(&secret) | found)
        });
        checked.await.unwrap_or(false)
    }

    /// There is one audience, and a client has one tenant: asking for others is refused, not ignored.
    fn check_target(&self, client: &Client, form: &Form) -> Result<(), TokenRefusal> {
        let other_audience = ["resource", "audience"]
            .iter()
            .filter_map(|name| form.get(*name))
            .any(|target| *target != self.audience);
        let own_tenant = client.tenant.as_ref().map(ToString::to_string);
        let other_tenant = form
            .get("tenant")
            .is_some_and(|tenant| own_tenant.as_ref() != Some(tenant));
        if other_audience || other_tenant {
            return Err(TokenRefusal::InvalidTarget);
        }
        Ok(())
    }

    async fn issue(
        &self,
        client: &Client,
        scopes: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<Issued, TokenRefusal> {
        let ring = self.keys.at(now).await.map_err(|error| {
            tracing::error!(error = %ErrorChain(&error), "no key to sign tokens with");
            TokenRefusal::ServerError
        })?;
        let key = ring.signing(now).ok_or(TokenRefusal::ServerError)?;
        let id = token_id().ok_or(TokenRefusal::ServerError)?;
        let issued_at = now.as_second();
        let ttl = i64::try_from(client.ttl.as_secs()).unwrap_or(0);
        let scope = scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: client.id.clone(),
            aud: Audience::One(self.audience.clone()),
            exp: issued_at + ttl,
            iat: issued_at,
            nbf: Some(issued_at),
            jti: id,
            client_id: client.id.clone(),
            scope: scope.clone(),
            org: client
                .tenant
                .as_ref()
                .map(|tenant| tenant.organization.to_string()),
            env: client
                .tenant
                .as_ref()
                .map(|tenant| tenant.environment.to_string()),
            kind: client.kind.into(),
            roles: client.roles.clone(),
            agents: client.agents.clone(),
            name: client.name.clone(),
        };
        let header = Header {
            typ: Some("at+jwt".into()),
            kid: Some(key.id.clone()),
            ..Header::new(Algorithm::ES256)
        };
        let signed = jsonwebtoken::encode(&header, &claims, &key.encoding);
        let access_token = signed
            .ok()
            .filter(|token| token.len() <= MAX_TOKEN)
            .ok_or_else(|| {
                tracing::error!(client = client.id, "a token cannot be made for this client");
                TokenRefusal::ServerError
            })?;
        tracing::info!(client = client.id, token.id = claims.jti, scope, "token issued");
        Ok(Issued {
            access_token,
            expires_in: client.ttl,
            scope,
        })
    }
}

/// Finds the one way in which a client presents itself.
fn presented(authorization: Option<&str>, form: &Form) -> Result<Presented, TokenRefusal> {
    let (id, secret) = (form.get("client_id"), form.get("client_secret"));
    match (authorization, secret) {
        (Some(_), Some(_)) => Err(TokenRefusal::InvalidRequest(
            "a client presents itself in one way only",
        )),
        (Some(value), None) => {
            let (basic_id, secret) = parse_basic(value).ok_or(TokenRefusal::MissingClient)?;
            if id.is_some_and(|id| *id != basic_id) {
                return Err(TokenRefusal::InvalidRequest(
                    "client_id and the credentials differ",
                ));
            }
            Ok(Presented { id: basic_id, secret })
        }
        (None, Some(secret)) => match id {
            Some(id) => Ok(Presented {
                id: id.clone(),
                secret: secret.clone(),
            }),
            None => Err(TokenRefusal::InvalidRequest("client_id is missing")),
        },
        (None, None) => Err(TokenRefusal::MissingClient),
    }
}

/// What is asked for, all or nothing; without asking, all that the client has.
fn granted_scopes(client: &Client, form: &Form) -> Result<BTreeSet<String>, TokenRefusal> {
    let Some(asked) = form.get("scope") else {
        return Ok(client.scopes.clone());
    };
    let asked = scopes_of(asked).ok_or(TokenRefusal::InvalidScope("scopes are separated by one space"))?;
    if !asked.is_subset(&client.scopes) {
        return Err(TokenRefusal::InvalidScope(
            "the client does not have all of these scopes",
        ));
    }
    Ok(asked)
}

fn token_id() -> Option<String> {
    let mut random = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut random).ok()?;
    Some(URL_SAFE_NO_PAD.encode(random))
}
