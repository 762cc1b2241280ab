//! placeholder
pub mod argo;
#[cfg(feature = "execute")]
pub mod execute;
#[cfg(feature = "sim")]
pub mod sim;
