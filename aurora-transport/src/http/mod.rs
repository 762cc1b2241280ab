//! Outgoing HTTP calls through reqwest: rules on destinations, limits on size and time.

mod egress;

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Client, Url, redirect};

use aurora_core::error::BoxError;
use aurora_core::port::http::{HttpAnswer, HttpCall, HttpCaller, HttpError, after_redirect};

pub use self::egress::{EgressRules, InvalidNetwork, Network};

/// The longest that opening a connection may take; the call's own limit holds as well.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an unused connection is kept: short, so that a changed name is looked up again.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// Headers that the connection owns: a call that sets them could speak for another host, or smuggle.
const OWNED_HEADERS: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-connection",
];

/// Makes outgoing calls within its [`EgressRules`].
///
/// A name is resolved once per connection, every address it resolves to is checked, and the connection
/// goes to a checked address: a name that changes its mind in between changes nothing. Redirects are
/// followed by hand, each checked like the first destination. No proxy is taken from the environment.
#[derive(Clone)]
pub struct ReqwestCaller {
    client: Client,
    rules: Arc<EgressRules>,
}

/// Which certificate authorities are trusted.
#[derive(Clone, Debug, Default)]
pub enum Roots {
    /// The machine's own.
    #[default]
    System,
    /// The machine's own and those of this PEM text.
    SystemAnd(Bytes),
    /// Only those of this PEM text.
    Only(Bytes),
}

/// The caller cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallerError {
    /// The text has no certificate in PEM form, or a broken one.
    #[error("the certificate authorities are not certificates in PEM form")]
    Certificates {
        /// Why.
        source: BoxError,
    },
    /// TLS cannot be set up.
    #[error("outgoing TLS cannot be set up")]
    Tls {
        /// Why.
        source: BoxError,
    },
}

/// Looks a name up; the port is not its business.
type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

impl fmt::Debug for ReqwestCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestCaller")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl ReqwestCaller {
    /// Builds a caller.
    ///
    /// # Errors
    /// [`CallerError`] when the roots cannot be read.
    pub fn new(rules: EgressRules, roots: Roots) -> Result<Self, CallerError> {
        Self::with_lookup(rules, roots, Arc::new(|host| Box::pin(system_lookup(host))))
    }

    fn with_lookup(rules: EgressRules, roots: Roots, lookup: Lookup) -> Result<Self, CallerError> {
        let rules = Arc::new(rules);
        let resolver = Arc::new(CheckedResolver {
            rules: Arc::clone(&rules),
            lookup,
        });
        let plain = || {
            Client::builder()
                .user_agent(concat!("aurora/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .referer(false)
                .no_proxy()
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(POOL_IDLE)
                .dns_resolver(Arc::clone(&resolver))
        };
        let built = match roots {
            // A machine without any authority can still call http, and says so on the first https call.
            Roots::System => plain()
                .build()
                .or_else(|_| plain().tls_certs_only(Vec::new()).build()),
            Roots::SystemAnd(pem) => plain().tls_certs_merge(certificates(&pem)?).build(),
            Roots::Only(pem) => plain().tls_certs_only(certificates(&pem)?).build(),
        };
        let client = built.map_err(|error| CallerError::Tls { source: error.into() })?;
        Ok(Self { client, rules })
    }

    async fn follow(&self, mut call: HttpCall) -> Result<HttpAnswer, HttpError> {
        loop {
            let url = self.checked(&call.url)?;
            let answer = self.once(&call, url.clone()).await?;
            let location = answer.header("location").filter(|_| call.max_redirects > 0);
            let Some(target) = location.and_then(|location| url.join(location).ok()) else {
                return Ok(answer);
            };
            let same_origin = target.origin() == url.origin();
            match after_redirect(&call, answer.status, target.into(), same_origin) {
                Some(next) => call = next,
                None => return Ok(answer),
            }
        }
    }

    /// Checks scheme and host; an address in place of a name does not pass through the resolver.
    fn checked(&self, text: &str) -> Result<Url, HttpError> {
        let url = Url::parse(text).map_err(|_| invalid("the URL is not an absolute http or https one"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("the URL is not an absolute http or https one"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("a URL must not carry a user; use a header"));
        }
        let host = url.host_str().ok_or_else(|| invalid("the URL has no host"))?;
        if !self.rules.allow_scheme(url.scheme()) {
            return Err(HttpError::Forbidden {
                destination: format!("{host} over {}", url.scheme()),
            });
        }
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        if literal
            .parse()
            .is_ok_and(|address: IpAddr| !self.rules.allow(address))
        {
            return Err(HttpError::Forbidden {
                destination: host.to_owned(),
            });
        }
        Ok(url)
    }

    async fn once(&self, call: &HttpCall, url: Url) -> Result<HttpAnswer, HttpError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let method = call
            .method
            .parse::<reqwest::Method>()
            .map_err(|_| invalid("the method is not one"))?;
        let mut request = self.client.request(method, url).body(call.body.clone());
        for (name, value) in &call.headers {
            if OWNED_HEADERS.iter().any(|owned| name.eq_ignore_ascii_case(owned)) {
                return Err(invalid(&format!("the header {name} cannot be set")));
            }
            request = request.header(name, value);
        }
        let request = request.build().map_err(|_| invalid("a header is not one"))?;
        let mut response = self
            .client
            .execute(request)
            .await
            .map_err(|error| not_answered(host.clone(), error))?;
        let too_large = HttpError::TooLarge {
            limit: call.max_answer,
        };
        let limit = u64::try_from(call.max_answer).unwrap_or(u64::MAX);
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(too_large);
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| not_answered(host.clone(), error))?
        {
            if body.len() + chunk.len() > call.max_answer {
                return Err(too_large);
            }
            body.extend_from_slice(&chunk);
        }
        let headers = response
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect();
        Ok(HttpAnswer {
            status: response.status().as_u16(),
            headers,
            body: body.freeze(),
        })
    }
}

#[async_trait]
impl HttpCaller for ReqwestCaller {
    async fn call(&self, call: HttpCall) -> Result<HttpAnswer, HttpError> {
        let timeout = call.timeout;
        tokio::time::timeout(timeout, self.follow(call))
            .await
            .unwrap_or(Err(HttpError::TimedOut { timeout }))
    }
}

/// Resolves names to addresses that the rules allow; the connection uses just these.
struct CheckedResolver {
    rules: Arc<EgressRules>,
    lookup: Lookup,
}

/// A name resolved to an address that the rules refuse.
#[derive(Debug, thiserror::Error)]
#[error("`{host}` is at an address that the rules refuse")]
struct RefusedAddress {
    host: String,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let found = (self.lookup)(host.clone());
        let rules = Arc::clone(&self.rules);
        Box::pin(async move {
            let addresses = found.await?;
            // One refused address refuses the name: an honest one has no reason to point both ways.
            if addresses.iter().any(|address| !rules.allow(*address)) {
                return Err(BoxError::from(RefusedAddress { host }));
            }
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

async fn system_lookup(host: String) -> io::Result<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((host, 0)).await?;
    Ok(found.map(|address| address.ip()).collect())
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, CallerError> {
    let read = Certificate::from_pem_bundle(pem)
        .map_err(|error| CallerError::Certificates { source: error.into() })?;
    if read.is_empty() {
        return Err(CallerError::Certificates {
            source: "there is none in it".into(),
        });
    }
    Ok(read)
}

fn invalid(problem: &str) -> HttpError {
    HttpError::Invalid {
        problem: problem.into(),
    }
}

/// Tells a refused address from one that cannot be reached; the URL stays out of the error.
fn not_answered(host: String, error: reqwest::Error) -> HttpError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        if let Some(refused) = current.downcast_ref::<RefusedAddress>() {
            return HttpError::Forbidden {
                destination: refused.host.clone(),
            };
        }
        cause = current.source();
    }
    HttpError::Unreachable {
        destination: host,
        source: error.without_url().into(),
    }
}

#[cfg(test)]
mod tests;
