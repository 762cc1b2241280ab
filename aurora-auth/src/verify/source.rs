//! Where an issuer's keys come from: its published document over HTTP, or anything that gives one.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aurora_core::error::BoxError;
use aurora_core::port::http::{HttpAnswer, HttpCall, HttpCaller};
use bytes::Bytes;
use serde::Deserialize;

use crate::url::{InvalidUrl, checked, origin};

/// Gives the keys that an issuer publishes.
#[async_trait]
pub trait KeySource: Debug + Send + Sync + 'static {
    /// Fetches the present document.
    ///
    /// # Errors
    /// [`KeysUnavailable`] when there is none to be had now.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    async fn fetch(&self) -> Result<PublishedKeys, KeysUnavailable>;
}

/// A JSON Web Key Set as it was published.
#[derive(Clone, Debug)]
pub struct PublishedKeys {
    /// The document.
    pub document: Bytes,
    /// How long it may be used without asking again, if the issuer says so.
    pub max_age: Option<Duration>,
}

/// The keys cannot be had now.
#[derive(Debug, thiserror::Error)]
#[error("the issuer's keys cannot be had from {origin}: {problem}")]
pub struct KeysUnavailable {
    /// Where they were asked for.
    pub origin: String,
    /// What is wrong.
    pub problem: String,
    /// Why, if there is more to say.
    #[source]
    pub source: Option<BoxError>,
}

/// Fetches keys over HTTP, without redirects, in at most 3 s and 256 KiB.
#[derive(Clone, Debug)]
pub struct HttpKeys {
    http: Arc<dyn HttpCaller>,
    location: Location,
    found: Arc<Mutex<Option<String>>>,
}

#[derive(Clone, Debug)]
enum Location {
    Document(String),
    Issuer(String),
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl HttpKeys {
    /// Keys published at this URL.
    ///
    /// # Errors
    /// [`InvalidUrl`] when it is not an https URL (http only for this machine itself).
    pub fn at(http: Arc<dyn HttpCaller>, jwks_uri: impl Into<String>) -> Result<Self, InvalidUrl> {
        let location = jwks_uri.into();
        checked(&location)?;
        Ok(Self {
            http,
            location: Location::Document(location),
            found: Arc::default(),
        })
    }

    /// Keys of an issuer, found through its metadata: the document must name just this issuer and lie
    /// on its origin.
    ///
    /// # Errors
    /// [`InvalidUrl`] when the issuer is not an https URL (http only for this machine itself).
    pub fn of_issuer(http: Arc<dyn HttpCaller>, issuer: impl Into<String>) -> Result<Self, InvalidUrl> {
        let issuer = issuer.into();
        checked(&issuer)?;
        Ok(Self {
            http,
            location: Location::Issuer(issuer),
            found: Arc::default(),
        })
    }

    /// The document's URL; metadata is read once and remembered.
    async fn locate(&self) -> Result<String, KeysUnavailable> {
        let issuer = match &self.location {
            Location::Document(url) => return Ok(url.clone()),
            Location::Issuer(issuer) => issuer,
        };
        let known = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(url) = known {
            return Ok(url);
        }
        let url = format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        );
        let answer = self.get_json(&url).await?;
        let metadata: Metadata = serde_json::from_slice(&answer.body)
            .map_err(|_| unavailable(&url, "its metadata has no issuer and jwks_uri"))?;
        if metadata.issuer != *issuer {
            return Err(unavailable(&url, "its metadata names another issuer"));
        }
        let ours = checked(issuer).map_err(|_| unavailable(&url, "the issuer is not a URL"))?;
        let same = checked(&metadata.jwks_uri).is_ok_and(|keys| origin(&keys) == origin(&ours));
        if !same {
            return Err(unavailable(&url, "its keys lie on another origin"));
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        *found = Some(metadata.jwks_uri.clone());
        Ok(metadata.jwks_uri)
    }

    async fn get_json(&self, url: &str) -> Result<HttpAnswer, KeysUnavailable> {
        let call = HttpCall::fetch(url).with_header("accept", "application/json, application/jwk-set+json");
        let answer = self.http.call(call).await.map_err(|error| KeysUnavailable {
            source: Some(error.into()),
            ..unavailable(url, "it cannot be reached")
        })?;
        if answer.status != 200 {
            return Err(unavailable(
                url,
                &format!("it answers with status {}", answer.status),
            ));
        }
        let media_type = answer
            .header("content-type")
            .and_then(|value| value.split(';').next())
            .map(|value| value.trim().to_ascii_lowercase());
        match media_type.as_deref() {
            Some("application/json" | "application/jwk-set+json") => Ok(answer),
            _ => Err(unavailable(url, "it answers with something else than JSON")),
        }
    }
}

#[async_trait]
impl KeySource for HttpKeys {
    async fn fetch(&self) -> Result<PublishedKeys, KeysUnavailable> {
        let url = self.locate().await?;
        let answer = self.get_json(&url).await?;
        Ok(PublishedKeys {
            max_age: answer.header("cache-control").and_then(max_age),
            document: answer.body,
        })
    }
}

/// How long a `Cache-Control` value lets an answer be used; what must not be kept ages at once.
fn max_age(value: &str) -> Option<Duration> {
    let mut age = None;
    for directive in value.split(',').map(str::trim) {
        if directive.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("no-cache") {
            return Some(Duration::ZERO);
        }
        if let Some((name, seconds)) = directive.split_once('=')
            && name.eq_ignore_ascii_case("max-age")
        {
            age = seconds.trim_matches('"').parse().ok().map(Duration::from_secs);
        }
    }
    age
}

fn unavailable(url: &str, problem: &str) -> KeysUnavailable {
    let origin = checked(url).map_or_else(
        |_| "an unknown place".to_owned(),
        |uri| {
            let (scheme, authority) = origin(&uri);
            format!(
                "{}://{}",
                scheme.unwrap_or_default(),
                authority.unwrap_or_default()
            )
        },
    );
    KeysUnavailable {
        origin,
        problem: problem.into(),
        source: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_an_answer_is_read_from_its_header() {
        assert_eq!(max_age("public, max-age=300"), Some(Duration::from_secs(300)));
        assert_eq!(max_age("MAX-AGE=\"60\""), Some(Duration::from_secs(60)));
        assert_eq!(max_age("no-store, max-age=300"), Some(Duration::ZERO));
        for silent in ["", "public", "max-age=x", "max-age=-1"] {
            assert_eq!(max_age(silent), None, "{silent}");
        }
    }
}
