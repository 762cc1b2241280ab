//! From where a server reads manifests by URL and deploy files by link.

use anyhow::Result;
use aurora_transport::http::{EgressRules, Network, ReqwestCaller, Roots};

use crate::settings::{Setting, Settings};

/// The setting that opens networks beside the public internet.
pub const SETTING: Setting = Setting::list(
    "fetch.allow",
    "NETWORKS",
    "Networks beside the public internet that manifests by URL and deploy files by link are read from",
);

/// From where is read.
#[derive(Clone, Debug)]
pub struct FetchConfig {
    rules: EgressRules,
}

impl FetchConfig {
    /// Reads the setting.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let mut rules = EgressRules::public_only();
        let mut good = true;
        for text in settings.list(SETTING.key) {
            match text.parse::<Network>() {
                Ok(network) => rules = rules.with_allowed(network),
                Err(error) => {
                    settings.problem(SETTING.key, &error.to_string());
                    good = false;
                }
            }
        }
        good.then_some(Self { rules })
    }

    /// What makes the calls.
    ///
    /// # Errors
    /// When outgoing TLS cannot be set up.
    pub fn caller(&self) -> Result<ReqwestCaller> {
        Ok(ReqwestCaller::new(self.rules.clone(), Roots::System)?)
    }
}
