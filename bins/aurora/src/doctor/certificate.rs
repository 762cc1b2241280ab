//! The certificate that a server shows: whether it is trusted, and until when it is good.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::tls::TlsInfo;
use reqwest::{Certificate, Client, Url, redirect};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::context::Context;

/// How long the handshake and one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Until when the server's certificate is good, if the context's authority stands for it.
pub(super) async fn of(url: &Url, context: &Context) -> Result<Timestamp, String> {
    let mut builder = Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(ANSWER_WITHIN)
        .tls_info(true);
    if !context.certificate_authority.is_empty() {
        let authorities = Certificate::from_pem_bundle(context.certificate_authority.as_bytes())
            .map_err(|error| format!("the context's certificate authority cannot be read: {error}"))?;
        builder = builder.tls_certs_only(authorities);
    }
    let client = builder
        .build()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    // Any answer will do; even a refusal comes after the handshake.
    let answer = client.get(url.clone()).send().await.map_err(|error| {
        let error = error.without_url();
        let mut words = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            words = cause.to_string();
            source = cause.source();
        }
        words
    })?;
    let shown = answer.extensions().get::<TlsInfo>();
    let shown = shown.and_then(TlsInfo::peer_certificate);
    let shown = shown.ok_or("the server showed no certificate")?;
    let (_, certificate) = X509Certificate::from_der(shown).map_err(|_| "the certificate cannot be read")?;
    let until = certificate.validity().not_after.timestamp();
    Timestamp::from_second(until).map_err(|_| "the certificate's end is no time".to_owned())
}
