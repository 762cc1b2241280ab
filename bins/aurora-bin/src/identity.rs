//! What verifies tokens and what gets them, built from settings that several binaries have.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use aurora_auth::token_source::ClientCredentials;
use aurora_auth::verify::{HttpKeys, JwtVerifier, VerifyPolicy};
use aurora_core::port::http::HttpCaller;
use aurora_core::secret::Secret;
use aurora_transport::http::{EgressRules, Network, ReqwestCaller, Roots};

use crate::process::Process;
use crate::settings::{Setting, Settings};

/// So many verified tokens are remembered, each for up to a minute.
const REMEMBERED_TOKENS: usize = 10_000;

/// The audience of all access tokens, unless configured otherwise.
pub const AUDIENCE: &str = "aurora";

/// Which issuer is trusted, and how it is reached.
pub const ISSUER_SETTINGS: [Setting; 4] = [
    Setting::text("issuer", "URL", "The token issuer's public origin"),
    Setting::text("audience", "NAME", "The audience of access tokens").or(AUDIENCE),
    Setting::text(
        "caFile",
        "FILE",
        "Certificate authorities to trust instead of the system's, PEM",
    ),
    Setting::list(
        "egress.allow",
        "NETWORKS",
        "Private networks that calls to the issuer may reach, besides this machine",
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
    /// Certificate authorities, PEM.
    pub authorities: Option<String>,
    /// Networks that may be reached.
    pub networks: Vec<Network>,
    policy: VerifyPolicy,
}

/// A client credential.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The client id.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
}

impl IssuerConfig {
    /// Reads the [`ISSUER_SETTINGS`].
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let issuer = settings.required("issuer");
        let audience = settings.required("audience");
        let authorities = settings.file_of("caFile");
        let mut networks = Vec::new();
        for text in settings.list("egress.allow") {
            match text.parse() {
                Ok(network) => networks.push(network),
                Err(error) => settings.problem("egress.allow", &format!("{error}")),
            }
        }
        let (issuer, audience) = (issuer?, audience?);
        match VerifyPolicy::new(&issuer, &audience) {
            Ok(policy) => Some(Self {
                issuer,
                audience,
                authorities,
                networks,
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
        let rules = self
            .networks
            .iter()
            .fold(EgressRules::public_only().with_loopback(), |rules, network| {
                rules.with_allowed(*network)
            });
        let roots = match &self.authorities {
            Some(pem) => Roots::Only(pem.clone().into()),
            None => Roots::System,
        };
        let caller = ReqwestCaller::new(rules, roots).context("calls to the issuer cannot be made")?;
        Ok(Arc::new(caller))
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
    pub fn source(&self, client: &ClientConfig) -> Result<Arc<ClientCredentials>> {
        let endpoint = format!("{}/oauth/token", self.issuer);
        let source = ClientCredentials::new(self.caller()?, endpoint, &client.id, client.secret.clone())?;
        Ok(Arc::new(source))
    }
}

impl ClientConfig {
    /// Reads the [`CLIENT_SETTINGS`].
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let id = settings.required("clientId");
        let named = settings
            .text("clientSecret")
            .or_else(|| settings.text("clientSecretFile"));
        if named.is_none() {
            settings.problem(
                "clientSecret",
                "is missing; set it by AURORA_CLIENT_SECRET or --client-secret-file",
            );
        }
        let secret = settings.secret("clientSecret", "clientSecretFile");
        Some(Self {
            id: id?,
            secret: secret?,
        })
    }
}
