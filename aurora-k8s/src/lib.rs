//! placeholder
pub mod argo;
#[cfg(feature = "execute")]
pub mod execute;
