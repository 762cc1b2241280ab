//! Agent sessions and caller streams over gRPC and TLS.
//!
//! ```text
//!  Agent ── GrpcConnector ══ TLS ══ GrpcListener ──▶ Hub ◀── RoutingService ══ TLS ══ HubClient ── ControlPlane
//! ```
//!
//! | feature | gives |
//! |---|---|
//! | `grpc-client` | [`GrpcConnector`] and [`HubClient`], which dial out, their [`Trust`], and the codec of [`frame`]s |
//! | `grpc` | the other ends too: `GrpcListener`, `RoutingService`, and `serve` on one TLS listener |

#[cfg(feature = "grpc")]
mod authenticate;
mod bearer;
mod connector;
pub mod frame;
mod hub_client;
#[cfg(feature = "grpc")]
mod hub_service;
#[cfg(feature = "grpc")]
mod listener;
#[cfg(feature = "grpc")]
mod serve;
mod status;
#[cfg(feature = "grpc")]
mod tls;
mod trust;
mod wire;

pub use self::connector::{GrpcConnector, InvalidEndpoint};
pub use self::hub_client::HubClient;
#[cfg(feature = "grpc")]
pub use self::hub_service::RoutingService;
#[cfg(feature = "grpc")]
pub use self::listener::GrpcListener;
#[cfg(feature = "grpc")]
pub use self::serve::{PeerAddress, listen, serve};
#[cfg(feature = "grpc")]
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
