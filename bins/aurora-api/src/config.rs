//! What the API is told.

use std::net::SocketAddr;

use aurora_bin::fetch::{self, FetchConfig};
use aurora_bin::identity::{CLIENT_SETTINGS, ClientConfig, ISSUER_SETTINGS, IssuerConfig};
use aurora_bin::settings::{InvalidConfig, Setting, Settings, Spec};
use aurora_bin::store::{self, StoreConfig};
use aurora_bin::tls::{self, TlsConfig};

/// The API's settings.
pub(crate) static SPEC: Spec = Spec {
    name: "aurora-api",
    about: "Serves the REST API and drives pipelines",
    health: "127.0.0.1:9081",
    settings: &[
        Setting::text("listen", "ADDRESS", "Where to serve").or("127.0.0.1:8445"),
        Setting::text(
            "hub",
            "URL",
            "The hub's address for callers, as in https://hub.example:8444",
        ),
        ISSUER_SETTINGS[0],
        ISSUER_SETTINGS[1],
        ISSUER_SETTINGS[2],
        CLIENT_SETTINGS[0],
        CLIENT_SETTINGS[1],
        CLIENT_SETTINGS[2],
        fetch::SETTING,
        tls::SETTINGS[0],
        tls::SETTINGS[1],
        tls::SETTINGS[2],
        tls::SETTINGS[3],
        tls::SETTINGS[4],
        store::SETTINGS[0],
        store::SETTINGS[1],
        store::SETTINGS[2],
        store::SETTINGS[3],
    ],
};

/// The API's configuration.
#[derive(Debug)]
pub(crate) struct ApiConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) hub: String,
    pub(crate) issuer: IssuerConfig,
    pub(crate) client: ClientConfig,
    pub(crate) tls: TlsConfig,
    pub(crate) store: StoreConfig,
    pub(crate) fetch: FetchConfig,
}

impl ApiConfig {
    /// Reads the settings.
    pub(crate) fn read(mut settings: Settings) -> Result<Self, InvalidConfig> {
        let listen = settings.parsed("listen");
        let hub = settings.required("hub");
        if hub.as_ref().is_some_and(|hub| !hub.starts_with("https://")) {
            settings.problem("hub", "is an https address, as in https://hub.example:8444");
        }
        let issuer = IssuerConfig::read(&mut settings);
        let client = ClientConfig::read(&mut settings);
        let tls = TlsConfig::read(&mut settings);
        let store = StoreConfig::read(&mut settings);
        let fetch = FetchConfig::read(&mut settings);
        settings.finish(|| {
            Some(Self {
                listen: listen?,
                hub: hub?,
                issuer: issuer?,
                client: client?,
                tls: tls?,
                store: store?,
                fetch: fetch?,
            })
        })
    }
}
