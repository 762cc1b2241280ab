//! Agent sessions and caller streams over gRPC and TLS.

mod bearer;
mod connector;
mod hub_client;
mod hub_service;
mod listener;
mod serve;
mod status;
mod tls;
mod trust;
mod wire;

pub use self::connector::{GrpcConnector, InvalidEndpoint};
pub use self::hub_client::HubClient;
pub use self::hub_service::RoutingService;
pub use self::listener::GrpcListener;
pub use self::serve::{PeerAddress, listen, serve};
pub use self::tls::{ServerTls, TlsError};
pub use self::trust::Trust;

/// The generated code of the protocol.
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    missing_docs,
    unnameable_types,
    unreachable_pub,
    unused_qualifications,
    clippy::missing_errors_doc,
    clippy::wildcard_imports,
    reason = "written by the protocol compiler"
)]
mod proto {
    pub(crate) mod aurora {
        pub(crate) mod agent {
            pub(crate) mod v1 {
                include!("generated/aurora.agent.v1.rs");
            }
        }

        pub(crate) mod hub {
            pub(crate) mod v1 {
                include!("generated/aurora.hub.v1.rs");
            }
        }
    }

    pub(crate) use self::aurora::agent::v1 as agent;
    pub(crate) use self::aurora::hub::v1 as hub;
}
