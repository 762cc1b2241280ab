//! Starting by link: where the deploy file lies, and what of it is wanted.

use std::collections::BTreeSet;

use aurora_core::id::PipelineId;
use http::HeaderMap;
use http::header::HeaderName;
use serde::Deserialize;

use super::super::problem::Refusal;

/// Says where the deploy file of a start by link lies.
pub(in super::super) const CONFIG_LOCATION: HeaderName = HeaderName::from_static("x-armory-config-location");
/// Before the address of what an earlier run was started with.
const EARLIER: &str = "armory::";

/// Where the deploy file of a start by link lies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in super::super) enum Location {
    /// It is that of an earlier run.
    Earlier(PipelineId),
    /// At an address of its own.
    Elsewhere(String),
}

/// The body of a start by link.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Wanted {
    /// Goes to this account, whatever the file says.
    #[serde(default)]
    pub(in super::super) account: Option<String>,
    #[serde(default)]
    target_filters: Option<Vec<TargetFilter>>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TargetFilter {
    include_target: String,
}

impl Location {
    /// What the request's header says.
    pub(in super::super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let wrong = |detail: &str| Err(Refusal::invalid("configLocation.invalid", "", detail));
        let text = match headers.get(&CONFIG_LOCATION).map(|value| value.to_str()) {
            None => {
                return wrong("a start by link says in X-Armory-Config-Location where the deploy file lies");
            }
            Some(Err(_)) => return wrong("the header X-Armory-Config-Location holds what no address has"),
            Some(Ok(text)) => text.trim(),
        };
        let Some(address) = text.strip_prefix(EARLIER) else {
            return Ok(Self::Elsewhere(text.to_owned()));
        };
        // Which API it names has no say: an id means a run of the caller's own tenant here.
        let id = address
            .strip_suffix("/config")
            .and_then(|path| path.rsplit_once("/pipelines/"))
            .and_then(|(_, id)| id.parse().ok());
        match id {
            Some(id) => Ok(Self::Earlier(id)),
            None => wrong("what an earlier run was started with is armory::…/pipelines/ID/config"),
        }
    }
}

impl Wanted {
    /// Reads the body; without one everything is wanted.
    pub(in super::super) fn read(content: &[u8]) -> Result<Self, Refusal> {
        if content.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let mut wanted: Self = serde_json::from_slice(content).map_err(|error| {
            let detail = format!("the start by link cannot be read: {error}");
            Refusal::invalid("link.malformed", "", detail)
        })?;
        wanted.account = wanted.account.filter(|account| !account.is_empty());
        Ok(wanted)
    }

    /// The targets that are wanted; `None`: all.
    pub(in super::super) fn targets(&self) -> Option<BTreeSet<String>> {
        let filters = self
            .target_filters
            .as_deref()
            .filter(|filters| !filters.is_empty())?;
        Some(
            filters
                .iter()
                .map(|filter| filter.include_target.clone())
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const ID: &str = "01900000-0000-7000-8000-000000000000";

    fn location(text: &str) -> Result<Location, String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONFIG_LOCATION, HeaderValue::from_str(text).unwrap());
        Location::of(&headers).map_err(|refusal| format!("{refusal:?}"))
    }

    #[test]
    fn an_earlier_run_is_known_by_its_path() {
        let earlier = Location::Earlier(ID.parse().unwrap());
        for base in ["https://api.example.test", "http://127.0.0.1:8443", ""] {
            let text = format!("armory::{base}/pipelines/{ID}/config");
            assert_eq!(location(&text).unwrap(), earlier);
        }
        for wrong in [
            "armory::",
            "armory::https://a.test/pipelines/nine/config",
            "armory::/pipelines/x",
        ] {
            assert!(location(wrong).unwrap_err().contains("configLocation"), "{wrong}");
        }
        assert!(matches!(
            location("https://a.test/deploy.yaml"),
            Ok(Location::Elsewhere(_))
        ));
        assert!(Location::of(&HeaderMap::new()).is_err());
    }

    #[test]
    fn absent_filters_want_everything() {
        for body in ["", "{}", r#"{"targetFilters":null}"#, r#"{"targetFilters":[]}"#] {
            assert_eq!(Wanted::read(body.as_bytes()).unwrap().targets(), None, "{body}");
        }
        let body = br#"{"account":"a","targetFilters":[{"includeTarget":"prod"}]}"#;
        let wanted = Wanted::read(body).unwrap();
        assert_eq!(wanted.targets(), Some(BTreeSet::from(["prod".to_owned()])));
        assert!(Wanted::read(br#"{"targetFilters":[{"excludeTarget":"prod"}]}"#).is_err());
    }
}
