//! What the token issuer is told.

use std::net::SocketAddr;

use aurora_auth::issue::{ClientConfig, KeySchedule, TokenIssuer};
use aurora_bin::identity::AUDIENCE;
use aurora_bin::settings::{InvalidConfig, Setting, Settings, Spec};
use aurora_bin::store::{self, StoreConfig};
use aurora_bin::tls::{self, TlsConfig};

/// The issuer's settings.
pub(crate) static SPEC: Spec = Spec {
    name: "aurora-oidc",
    about: "Issues Aurora's access tokens; `aurora-oidc new-secret ID` makes a client secret and its hash",
    health: "127.0.0.1:9082",
    settings: &[
        Setting::text("listen", "ADDRESS", "Where to serve").or("127.0.0.1:8446"),
        Setting::text(
            "issuer",
            "URL",
            "The public origin under which it is reached, without a path",
        ),
        Setting::text("audience", "NAME", "The audience of its tokens").or(AUDIENCE),
        Setting::structure(
            "clients",
            "A list of clients: id, secretHash, kind (machine or service), tenant, scopes, roles, agents, \
             ttlSeconds, name, previousSecretHash, disabled, expiresAt",
        ),
        Setting::text("keys.rotateEvery", "TIME", "How long a signing key signs").or("168h"),
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

/// The issuer's configuration.
#[derive(Debug)]
pub(crate) struct OidcConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) clients: Vec<ClientConfig>,
    pub(crate) schedule: KeySchedule,
    pub(crate) tls: TlsConfig,
    pub(crate) store: StoreConfig,
}

impl OidcConfig {
    /// Reads the settings.
    pub(crate) fn read(mut settings: Settings) -> Result<Self, InvalidConfig> {
        let listen = settings.parsed("listen");
        let issuer = settings.required("issuer");
        let audience = settings.required("audience");
        let clients = read_clients(&mut settings);
        let schedule = settings.time("keys.rotateEvery").map(|rotate_every| KeySchedule {
            rotate_every,
            ..KeySchedule::default()
        });
        if let (Some(issuer), Some(audience), Some(clients), Some(schedule)) =
            (&issuer, &audience, &clients, schedule)
            && let Err(invalid) = TokenIssuer::check(issuer, audience, clients, schedule)
        {
            for problem in invalid.problems {
                settings.note(problem);
            }
        }
        let tls = TlsConfig::read(&mut settings);
        let store = StoreConfig::read(&mut settings);
        settings.finish(|| {
            Some(Self {
                listen: listen?,
                issuer: issuer?,
                audience: audience?,
                clients: clients?,
                schedule: schedule?,
                tls: tls?,
                store: store?,
            })
        })
    }
}

/// Reads each client by itself, so that one that is wrong does not hide what is wrong with the next.
fn read_clients(settings: &mut Settings) -> Option<Vec<ClientConfig>> {
    let Some(items) = settings.structure::<Vec<serde_json::Value>>("clients") else {
        settings.problem(
            "clients",
            "a list with at least one client is needed, in the file",
        );
        return None;
    };
    let mut clients = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let name = item.get("id").and_then(|id| id.as_str()).map(str::to_owned);
        match serde_json::from_value(item) {
            Ok(client) => clients.push(client),
            Err(error) => {
                let which = name.unwrap_or_else(|| format!("number {}", index + 1));
                settings.problem("clients", &format!("client `{which}`: {error}"));
            }
        }
    }
    Some(clients)
}
