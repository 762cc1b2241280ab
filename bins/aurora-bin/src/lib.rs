//! What the Aurora binaries share: configuration, telemetry, signals, exit codes, TLS, serving.
//!
//! A binary lists its settings in a [`Spec`](settings::Spec), reads them into a plain struct, and hands
//! both to [`process::main`] together with the future that serves. That parses flags, environment
//! (`AURORA_*`) and file, says every mistake at once (exit 64), starts telemetry and the health listener,
//! turns signals into a cancelled token, drains, and gives the exit code.
//!
//! ```no_run
//! use std::net::SocketAddr;
//! use std::process::ExitCode;
//!
//! use aurora_bin::process;
//! use aurora_bin::settings::{InvalidConfig, Setting, Settings, Spec};
//!
//! static SPEC: Spec = Spec {
//!     name: "aurora-example",
//!     about: "Shows how a binary is put together",
//!     health: "127.0.0.1:9089",
//!     settings: &[Setting::text("listen", "ADDRESS", "Where to serve").or("127.0.0.1:8449")],
//! };
//!
//! struct ExampleConfig {
//!     listen: SocketAddr,
//! }
//!
//! fn read(mut settings: Settings) -> Result<ExampleConfig, InvalidConfig> {
//!     let listen = settings.parsed("listen");
//!     settings.finish(|| Some(ExampleConfig { listen: listen? }))
//! }
//!
//! fn main() -> ExitCode {
//!     process::main(&SPEC, read, async |config, process| {
//!         let server = aurora_bin::http_server::HttpServer::bind(config.listen, None).await?;
//!         process.announce("api", &server.url())?;
//!         process.health.ready();
//!         server.serve(axum::Router::new(), process.stop.clone(), process.grace).await?;
//!         Ok(())
//!     })
//! }
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`settings`] | one table of settings, read from flags, environment, file and defaults |
//! | [`process`] | the course of a process, from its arguments to its exit code |
//! | [`exit`] | the exit codes |
//! | [`fetch`] | from where deploy files and manifests by URL are read |
//! | [`signals`] | the signals that end a process |
//! | `cluster` | a cluster that is reached or simulated (feature `cluster`) |
//! | [`telemetry`] | logs as text or JSON, metrics |
//! | [`figures`] | what hub, control plane and agent count, as metrics |
//! | [`health`] | `/livez`, `/readyz`, `/metrics` |
//! | [`http_server`] | a router served over TCP or TLS until it is told to stop |
//! | [`rebuilt`] | what is built anew when its files change |
//! | `store` | a sealed store in a file, opened from settings (feature `store`) |
//! | [`tls`] | certificates from files, or a certificate authority of its own |
//! | [`identity`] | what verifies and gets tokens, built from settings |

#[cfg(feature = "cluster")]
pub mod cluster;
pub mod exit;
pub mod fetch;
pub mod figures;
pub mod health;
pub mod http_server;
pub mod identity;
pub mod process;
pub mod rebuilt;
pub mod settings;
pub mod signals;
#[cfg(feature = "store")]
pub mod store;
pub mod telemetry;
pub mod tls;
