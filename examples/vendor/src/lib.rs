//! What a vendor adds to Aurora: an executor for a platform of its own, and a transport of its own.
//!
//! Nothing here is private to Aurora: it builds from the published crates, and `tests/laws.rs` holds both
//! parts to the laws that Aurora's own adapters keep.
//!
//! ```text
//!  Hub ◀── TcpListenerOf ══ length-prefixed frames over TCP ══ TcpConnector ── Agent ── SupervisorExecutor ──▶ state.json
//! ```

pub mod platform;
pub mod transport;
