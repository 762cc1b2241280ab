//! Which certificate authorities a client trusts, asked anew for each connection.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use aurora_core::error::BoxError;
use tonic::transport::{Certificate, ClientTlsConfig};

/// Gives the CA bundle, in PEM, each time a connection is made, so that a new CA needs no restart.
#[derive(Clone)]
pub struct Trust {
    bundle: Arc<dyn Fn() -> Result<Vec<u8>, BoxError> + Send + Sync>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

impl Trust {
    /// A bundle that never changes.
    pub fn pem(bundle: impl Into<Vec<u8>>) -> Self {
        let bundle = bundle.into();
        Self::provided(move || Ok(bundle.clone()))
    }

    /// A file that is read for each connection.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::provided(move || {
            std::fs::read(&path)
                .map_err(|error| format!("the CA bundle {} cannot be read: {error}", path.display()).into())
        })
    }

    /// A bundle from elsewhere; it must not take long.
    pub fn provided(bundle: impl Fn() -> Result<Vec<u8>, BoxError> + Send + Sync + 'static) -> Self {
        Self {
            bundle: Arc::new(bundle),
        }
    }

    /// The client configuration of now.
    pub(super) fn config(&self) -> Result<ClientTlsConfig, BoxError> {
        let bundle = (self.bundle)()?;
        Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(bundle)))
    }
}
