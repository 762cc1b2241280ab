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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Spec;

    static SPEC: Spec = Spec {
        name: "aurora-test",
        about: "Reads from addresses",
        health: "127.0.0.1:0",
        settings: &[SETTING],
    };

    fn read(networks: &str) -> Result<FetchConfig, String> {
        let arguments = Settings::arguments(&SPEC, ["aurora-test", "--fetch-allow", networks]).unwrap();
        let mut settings = Settings::gather(&SPEC, &arguments, |_| None);
        let config = FetchConfig::read(&mut settings);
        settings.finish(|| config).map_err(|error| error.to_string())
    }

    #[test]
    fn only_named_networks_are_opened_beside_the_public_internet() {
        let rules = read("10.1.0.0/16, 192.168.3.4").unwrap().rules;
        for (address, allowed) in [
            ("93.184.216.34", true),
            ("10.1.2.3", true),
            ("192.168.3.4", true),
            ("10.2.0.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
        ] {
            assert_eq!(rules.allow(address.parse().unwrap()), allowed, "{address}");
        }
        let mistakes = read("10.1.0.0/33,localhost").unwrap_err();
        assert!(
            mistakes.contains("10.1.0.0/33") && mistakes.contains("localhost"),
            "{mistakes}"
        );
    }
}
