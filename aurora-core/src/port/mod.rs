//! The ports: traits that adapters implement, each with an in-memory fake and its laws.

pub mod clock;
pub mod executor;
pub mod http;
pub mod renderer;
pub mod router;
pub mod store;
pub mod token;
pub mod transport;
