//! Forms and Basic credentials of token requests, read strictly.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The parameters of a form: each at most once; empty ones count as absent.
pub(super) type Form = BTreeMap<String, String>;

/// Reads a form.
pub(super) fn parse_form(body: &[u8]) -> Result<Form, &'static str> {
    let text = std::str::from_utf8(body).map_err(|_| "the body is not a form")?;
    let mut form = Form::new();
    let mut seen = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = form_decoded(name).ok_or("the body is not a form")?;
        let value = form_decoded(value).ok_or("the body is not a form")?;
        if seen.contains(&name) {
            return Err("a parameter is there twice");
        }
        seen.push(name.clone());
        if !value.is_empty() {
            form.insert(name, value);
        }
    }
    Ok(form)
}

/// Client id and secret of an `Authorization: Basic` value; both are form-encoded inside, RFC 6749 2.3.1.
pub(super) fn parse_basic(value: &str) -> Option<(String, String)> {
    let (scheme, credentials) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some((form_decoded(id)?, form_decoded(secret)?))
}

fn form_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::token_source::form_encoded;

    #[test]
    fn a_parameter_is_there_once_or_not_at_all() {
        let form = parse_form(b"grant_type=client_credentials&scope=a+b%3Ac&empty=&bare").unwrap();
        assert_eq!(form.get("scope").map(String::as_str), Some("a b:c"));
        assert_eq!(form.len(), 2);
        assert!(parse_form(b"a=1&a=2").is_err());
        assert!(parse_form(b"a=1&%61=2").is_err());
        assert!(parse_form(b"a=&a=2").is_err());
        for bad in [&b"a=%"[..], b"a=%4", b"a=%zz", b"a=%ff", b"\xff=1"] {
            assert!(parse_form(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn basic_credentials_are_form_encoded_inside() {
        let value = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert_eq!(
            parse_basic(&value("ci:s%2Bc+ret")),
            Some(("ci".into(), "s+c ret".into()))
        );
        assert_eq!(parse_basic(&value("ci:a:b")), Some(("ci".into(), "a:b".into())));
        for bad in [
            "",
            "Basic",
            "Basic !",
            "Bearer abc",
            &value("no colon"),
            &value("a:%"),
        ] {
            assert_eq!(parse_basic(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_a_client_encodes_is_what_the_issuer_reads(text in ".*") {
            prop_assert_eq!(form_decoded(&form_encoded(&text)), Some(text));
        }

        #[test]
        fn no_body_is_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_form(&body);
            let _ = parse_basic(&String::from_utf8_lossy(&body));
        }
    }
}
