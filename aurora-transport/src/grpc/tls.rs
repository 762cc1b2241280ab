//! A server's certificate, which can be changed while it serves.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aurora_core::error::{BoxError, ErrorKind};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A server's TLS configuration; clones share the certificate.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<rustls::ServerConfig>,
    current: Arc<Current>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

/// A certificate or key that cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("the server's {part} cannot be used")]
pub struct TlsError {
    /// `certificate`, `key` or `configuration`.
    pub part: &'static str,
    /// Why.
    pub source: BoxError,
}

impl TlsError {
    /// What can be done about it.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }

    fn of(part: &'static str) -> impl FnOnce(BoxError) -> Self {
        move |source| Self { part, source }
    }
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl ServerTls {
    /// Serves a certificate chain, the server's own first, with its key; both in PEM.
    ///
    /// # Errors
    /// [`TlsError`] when they cannot be read or do not belong together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let provider = provider();
        let current = Arc::new(Current(RwLock::new(certified(chain, key, &provider)?)));
        let resolver = Arc::clone(&current);
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::of("configuration")(error.into()))?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // With an EC key a full handshake costs no more than a resumed one, and no ticket keys are to be kept.
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            current,
        })
    }

    /// Serves another certificate from the next handshake on; connections that are open stay.
    ///
    /// # Errors
    /// [`TlsError`] as for [`ServerTls::from_pem`]; the old certificate is then served on.
    pub fn reload(&self, chain: &[u8], key: &[u8]) -> Result<(), TlsError> {
        let next = certified(chain, key, &provider())?;
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    pub(super) fn config(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn certified(chain: &[u8], key: &[u8], provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::of("certificate")(error.into()))?;
    if chain.is_empty() {
        return Err(TlsError::of("certificate")(
            "the PEM text has no certificate".into(),
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::of("key")(error.into()))?;
    let certified = CertifiedKey::from_der(chain, key, provider);
    certified
        .map(Arc::new)
        .map_err(|error| TlsError::of("key")(error.into()))
}
