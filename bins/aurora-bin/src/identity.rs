//! What verifies tokens and what gets them, built from settings that several binaries have.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use aurora_auth::token_source::ClientCredentials;
use aurora_auth::verify::{HttpKeys, JwtVerifier, VerifyPolicy};
use aurora_core::port::http::{HttpAnswer, HttpCall, HttpCaller, HttpError};
use aurora_core::port::token::{Token, TokenError, TokenSource};
use aurora_core::secret::Secret;
use aurora_transport::grpc::Trust;
use aurora_transport::http::{EgressRules, ReqwestCaller, Roots};
use jiff::Timestamp;

use crate::process::Process;
use crate::rebuilt::Rebuilt;
use crate::settings::{Setting, Settings};

/// So many verified tokens are remembered, each for up to a minute.
const REMEMBERED_TOKENS: usize = 10_000;

/// The audience of all access tokens, unless configured otherwise.
pub const AUDIENCE: &str = "aurora";

/// Where systems keep the authorities that they trust, in one file.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// Which issuer is trusted, and how it is reached.
pub const ISSUER_SETTINGS: [Setting; 3] = [
    Setting::text("issuer", "URL", "The token issuer's public origin"),
    Setting::text("audience", "NAME", "The audience of access tokens").or(AUDIENCE),
    Setting::text(
        "caFile",
        "FILE",
        "Certificate authorities to trust instead of the system's, PEM",
    ),
];

/// With which credential a binary gets tokens for itself.
pub const CLIENT_SETTINGS: [Setting; 3] = [
    Setting::text("clientId", "ID", "The client id to get tokens with"),
    Setting::secret("clientSecret", "The client's secret"),
    Setting::text(
        "clientSecretFile",
        "FILE",
        "A file with the client's secret in its first line",
    ),
];

/// Which issuer is trusted.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// Its public origin.
    pub issuer: String,
    /// The audience of its tokens.
    pub audience: String,
    /// A file with certificate authorities, PEM; read again when it changes.
    pub ca_file: Option<PathBuf>,
    policy: VerifyPolicy,
}

/// A client credential.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The client id.
    pub id: String,
    /// Its secret.
    pub secret: ClientSecret,
}

/// A secret, or the file that holds it.
#[derive(Clone, Debug)]
pub enum ClientSecret {
    /// In the first line of this file, which is read again when it changes.
    File(PathBuf),
    /// The secret itself.
    Given(Secret),
}

impl IssuerConfig {
    /// Reads the [`ISSUER_SETTINGS`].
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let issuer = settings.required("issuer");
        let audience = settings.required("audience");
        let ca_file = settings.text("caFile").map(PathBuf::from);
        if let Some(pem) = settings.file_of("caFile")
            && let Err(error) = ReqwestCaller::new(EgressRules::public_only(), Roots::Only(pem.into()))
        {
            settings.problem("caFile", &aurora_core::error::ErrorChain(&error).to_string());
        }
        let (issuer, audience) = (issuer?, audience?);
        match VerifyPolicy::new(&issuer, &audience) {
            Ok(policy) => Some(Self {
                issuer,
                audience,
                ca_file,
                policy,
            }),
            Err(error) => {
                settings.problem("issuer", &error.to_string());
                None
            }
        }
    }

    /// What makes calls to the issuer.
    ///
    /// # Errors
    /// When the authorities are no certificates.
    pub fn caller(&self) -> Result<Arc<dyn HttpCaller>> {
        let rules = EgressRules::public_only().with_private();
        let rebuilt = Rebuilt::new(self.ca_file.clone(), move |texts| {
            let roots = match texts.first() {
                Some(pem) => Roots::Only(pem.clone().into()),
                None => Roots::System,
            };
            ReqwestCaller::new(rules.clone(), roots).context("calls to the issuer cannot be made")
        });
        Ok(Arc::new(Caller(rebuilt?)))
    }

    /// Which authorities connections to a hub trust: those of the file, or the system's bundle.
    pub fn trust(&self) -> Trust {
        match &self.ca_file {
            Some(path) => Trust::file(path),
            None => Trust::provided(|| {
                SYSTEM_BUNDLES
                    .iter()
                    .find_map(|path| std::fs::read(path).ok())
                    .ok_or_else(|| "this machine has no bundle of certificate authorities; set caFile".into())
            }),
        }
    }

    /// What verifies the issuer's tokens; its keys are kept fresh for as long as the process runs.
    ///
    /// # Errors
    /// When the authorities are no certificates.
    pub fn verifier(&self, process: &Process) -> Result<Arc<JwtVerifier>> {
        let keys = HttpKeys::of_issuer(self.caller()?, &self.issuer)?;
        let verifier = JwtVerifier::new(self.policy.clone(), Arc::new(keys)).with_memory(REMEMBERED_TOKENS);
        let verifier = Arc::new(verifier);
        let kept = Arc::clone(&verifier);
        process.tasks.spawn(|stop| async move {
            let _ = stop.run_until_cancelled(kept.keep_fresh()).await;
        });
        Ok(verifier)
    }

    /// What gets tokens from the issuer.
    ///
    /// # Errors
    /// When the authorities are no certificates.
    pub fn source(&self, client: &ClientConfig) -> Result<Arc<dyn TokenSource>> {
        let (http, id) = (self.caller()?, client.id.clone());
        let endpoint = format!("{}/oauth/token", self.issuer);
        let (files, given) = match &client.secret {
            ClientSecret::File(path) => (Some(path.clone()), None),
            ClientSecret::Given(secret) => (None, Some(secret.clone())),
        };
        let rebuilt = Rebuilt::new(files, move |texts| {
            let read = || Secret::new(first_line(texts.first().map_or("", String::as_str)));
            let secret = given.clone().unwrap_or_else(read);
            Ok(ClientCredentials::new(Arc::clone(&http), &endpoint, &id, secret)?)
        });
        Ok(Arc::new(Source(rebuilt?)))
    }
}

/// Makes each call with the authorities that the file holds by then.
#[derive(Debug)]
struct Caller(Rebuilt<ReqwestCaller>);

#[async_trait]
impl HttpCaller for Caller {
    async fn call(&self, call: HttpCall) -> Result<HttpAnswer, HttpError> {
        self.0.current().call(call).await
    }
}

/// Gets tokens with the secret that the file holds by then.
#[derive(Debug)]
struct Source(Rebuilt<ClientCredentials>);

#[async_trait]
impl TokenSource for Source {
    async fn token(&self, now: Timestamp) -> Result<Token, TokenError> {
        self.0.current().token(now).await
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim()
}

impl ClientConfig {
    /// Reads the [`CLIENT_SETTINGS`].
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let id = settings.required("clientId");
        let secret = match (settings.text("clientSecret"), settings.text("clientSecretFile")) {
            (Some(_), Some(_)) => {
                settings.problem("clientSecret", "give either this or clientSecretFile, not both");
                None
            }
            (Some(text), None) => Some(ClientSecret::Given(Secret::new(text))),
            (None, Some(path)) => settings
                .file_of("clientSecretFile")
                .map(|_| ClientSecret::File(path.into())),
            (None, None) => {
                settings.problem(
                    "clientSecret",
                    "is missing; set it by AURORA_CLIENT_SECRET or --client-secret-file",
                );
                None
            }
        };
        Some(Self {
            id: id?,
            secret: secret?,
        })
    }
}
