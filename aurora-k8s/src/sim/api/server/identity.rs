//! What makes a simulated cluster the same one after a restart: its certificates, token and port.

use std::net::SocketAddr;

use aurora_core::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use uuid::Uuid;

use super::ServerError;

/// The credentials of a server and the port that it had; kept in a file of the state directory.
#[derive(Debug)]
pub(super) struct Identity {
    authority: String,
    certificate: String,
    key: Secret,
    pub(super) token: Secret,
    pub(super) port: Option<u16>,
    hosts: Vec<String>,
}

impl Identity {
    /// Makes certificates for loopback, and for `host` where the server is reached by another address.
    pub(super) fn generate(host: &str) -> Result<Self, ServerError> {
        let failed = |source: rcgen::Error| ServerError::Certificates {
            source: source.into(),
        };
        let mut authority = CertificateParams::default();
        authority
            .distinguished_name
            .push(DnType::CommonName, "simulated cluster");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate().map_err(failed)?;
        let authority_certificate = authority.self_signed(&authority_key).map_err(failed)?;
        let mut names = vec!["127.0.0.1".to_owned(), "::1".to_owned(), "localhost".to_owned()];
        if !names.iter().any(|name| name == host) {
            names.push(host.to_owned());
        }
        let mut server = CertificateParams::new(names.clone()).map_err(failed)?;
        server
            .distinguished_name
            .push(DnType::CommonName, "simulated cluster API");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed)?;
        let issuer = Issuer::new(authority, authority_key);
        let certificate = server.signed_by(&key, &issuer).map_err(failed)?;
        Ok(Self {
            authority: authority_certificate.pem(),
            certificate: certificate.pem(),
            key: Secret::new(key.serialize_pem()),
            token: Secret::new(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())),
            port: None,
            hosts: names,
        })
    }

    /// Reads what [`Identity::encode`] wrote; none where a part is missing.
    pub(super) fn decode(value: &Value) -> Option<Self> {
        let text = |field: &str| value[field].as_str().map(str::to_owned);
        Some(Self {
            authority: text("authority")?,
            certificate: text("certificate")?,
            key: Secret::new(text("key")?),
            token: Secret::new(text("token")?),
            port: value["port"].as_u64().and_then(|port| port.try_into().ok()),
            hosts: value["hosts"]
                .as_array()?
                .iter()
                .filter_map(|host| host.as_str().map(str::to_owned))
                .collect(),
        })
    }

    pub(super) fn encode(&self) -> Value {
        json!({
            "authority": self.authority,
            "certificate": self.certificate,
            "key": self.key.expose(),
            "token": self.token.expose(),
            "port": self.port,
            "hosts": self.hosts,
        })
    }

    /// Tells whether clients that reach the server under `host` can verify it.
    pub(super) fn covers(&self, host: &str) -> bool {
        self.hosts.iter().any(|covered| covered == host)
    }

    pub(super) fn tls(&self) -> Result<ServerConfig, ServerError> {
        let failed = |source| ServerError::Certificates { source };
        let certificate =
            CertificateDer::from_pem_slice(self.certificate.as_bytes()).map_err(|it| failed(it.into()))?;
        let key =
            PrivateKeyDer::from_pem_slice(self.key.expose().as_bytes()).map_err(|it| failed(it.into()))?;
        let mut config = ServerConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(vec![certificate], key)
            })
            .map_err(|it| failed(it.into()))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// A kubeconfig with one cluster, one user and one context, all of this name.
    pub(super) fn kubeconfig(&self, name: &str, address: SocketAddr) -> String {
        let authority = STANDARD.encode(&self.authority);
        let token = self.token.expose();
        format!(
            "apiVersion: v1\n\
             kind: Config\n\
             current-context: {name}\n\
             clusters:\n\
             - name: {name}\n  cluster:\n    server: https://{address}\n    certificate-authority-data: {authority}\n\
             users:\n\
             - name: {name}\n  user:\n    token: {token}\n\
             contexts:\n\
             - name: {name}\n  context:\n    cluster: {name}\n    user: {name}\n    namespace: default\n"
        )
    }
}
