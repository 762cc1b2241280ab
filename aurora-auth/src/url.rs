//! The few things that this crate asks of a URL.

use http::Uri;

/// The URL is not one that tokens or keys may travel over.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{url}` {problem}")]
pub struct InvalidUrl {
    /// What was given, without a query, cut to 200 characters.
    pub url: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// Checks that a URL is absolute, uses https (or http to this machine itself), and carries no user,
/// query or fragment.
pub(crate) fn checked(text: &str) -> Result<Uri, InvalidUrl> {
    let invalid = |problem| InvalidUrl {
        url: text
            .split(['?', '#'])
            .next()
            .unwrap_or_default()
            .chars()
            .take(200)
            .collect(),
        problem,
    };
    if text.contains('#') {
        return Err(invalid("has a fragment"));
    }
    let uri: Uri = text
        .parse()
        .map_err(|_| invalid("is not an absolute URL; write https://host"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(invalid("is not an absolute URL; write https://host"));
    };
    if authority.as_str().contains('@') {
        return Err(invalid("carries a user"));
    }
    if uri.query().is_some() {
        return Err(invalid("has a query"));
    }
    let local = matches!(authority.host(), "localhost" | "127.0.0.1" | "[::1]");
    match scheme {
        "https" => Ok(uri),
        "http" if local => Ok(uri),
        _ => Err(invalid(
            "does not use https, which only this machine itself may do without",
        )),
    }
}

/// Scheme, host and port as written.
pub(crate) fn origin(uri: &Uri) -> (Option<&str>, Option<&str>) {
    (
        uri.scheme_str(),
        uri.authority().map(http::uri::Authority::as_str),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_this_machine_are_taken() {
        for good in [
            "https://issuer.example",
            "https://issuer.example:8446/oauth/jwks",
            "http://127.0.0.1:8446",
            "http://localhost:8446/",
            "http://[::1]:1/",
        ] {
            assert!(checked(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "issuer.example",
            "/oauth/jwks",
            "http://issuer.example",
            "http://127.0.0.1.evil.example",
            "ftp://127.0.0.1",
            "https://user:hunter2@issuer.example",
            "https://issuer.example?a=b",
            "https://issuer.example#a",
        ] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
