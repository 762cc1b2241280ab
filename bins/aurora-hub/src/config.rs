//! What the hub is told.

use std::net::SocketAddr;
use std::time::Duration;

use aurora_bin::identity::{ISSUER_SETTINGS, IssuerConfig};
use aurora_bin::settings::{InvalidConfig, Setting, Settings, Spec};
use aurora_bin::tls::{self, TlsConfig};

/// The hub's settings.
pub(crate) static SPEC: Spec = Spec {
    name: "aurora-hub",
    about: "Accepts agents that dial in, and routes commands to them",
    health: "127.0.0.1:9080",
    settings: &[
        Setting::text("listen", "ADDRESS", "Where agents connect").or("127.0.0.1:8443"),
        Setting::text("callers.listen", "ADDRESS", "Where the API connects").or("127.0.0.1:8444"),
        Setting::text(
            "drainSpread",
            "TIME",
            "Over which time agents are sent elsewhere when told to stop",
        )
        .or("5s"),
        ISSUER_SETTINGS[0],
        ISSUER_SETTINGS[1],
        ISSUER_SETTINGS[2],
        tls::SETTINGS[0],
        tls::SETTINGS[1],
        tls::SETTINGS[2],
        tls::SETTINGS[3],
        tls::SETTINGS[4],
    ],
};

/// The hub's configuration.
#[derive(Debug)]
pub(crate) struct HubConfig {
    pub(crate) agents: SocketAddr,
    pub(crate) callers: SocketAddr,
    pub(crate) drain_spread: Duration,
    pub(crate) issuer: IssuerConfig,
    pub(crate) tls: TlsConfig,
}

impl HubConfig {
    /// Reads the settings.
    pub(crate) fn read(mut settings: Settings) -> Result<Self, InvalidConfig> {
        let agents = settings.parsed("listen");
        let callers = settings.parsed("callers.listen");
        let drain_spread = settings.time("drainSpread");
        let issuer = IssuerConfig::read(&mut settings);
        let tls = TlsConfig::read(&mut settings);
        settings.finish(|| {
            Some(Self {
                agents: agents?,
                callers: callers?,
                drain_spread: drain_spread?,
                issuer: issuer?,
                tls: tls?,
            })
        })
    }
}
