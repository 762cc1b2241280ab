//! Reading requests: paths, query parameters, media types.

use std::collections::BTreeMap;

use http::{HeaderMap, Method, header};

use super::error::ApiError;

/// What a path leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// `/api`, `/apis`, `/apis/G`.
    Groups { group: Option<String> },
    /// `/healthz` and its like.
    Health,
    /// Objects of a kind.
    Objects(ObjectPath),
    /// `/openapi/v3`, `/openapi/v3/apis/G/V`.
    OpenApi { of: Option<(String, String)> },
    /// `/api/v1`, `/apis/G/V`.
    Resources { group: String, version: String },
    /// `/version`.
    Version,
}

/// A path to objects.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct ObjectPath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) plural: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

impl Target {
    pub(crate) fn parse(path: &str) -> Result<Self, ApiError> {
        let segments: Vec<String> = path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| decode(segment, false))
            .collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments.as_slice() {
            ["api"] => Ok(Self::Groups {
                group: Some(String::new()),
            }),
            ["apis"] => Ok(Self::Groups { group: None }),
            ["apis", group] => Ok(Self::Groups {
                group: Some((*group).to_owned()),
            }),
            ["version"] => Ok(Self::Version),
            ["healthz" | "livez" | "readyz", ..] => Ok(Self::Health),
            ["openapi", "v3"] => Ok(Self::OpenApi { of: None }),
            ["openapi", "v3", "api", version] => Ok(Self::OpenApi {
                of: Some((String::new(), (*version).to_owned())),
            }),
            ["openapi", "v3", "apis", group, version] => Ok(Self::OpenApi {
                of: Some(((*group).to_owned(), (*version).to_owned())),
            }),
            ["api", version] => Ok(Self::Resources {
                group: String::new(),
                version: (*version).to_owned(),
            }),
            ["apis", group, version] => Ok(Self::Resources {
                group: (*group).to_owned(),
                version: (*version).to_owned(),
            }),
            ["api", version, rest @ ..] => ObjectPath::parse("", version, rest),
            ["apis", group, version, rest @ ..] => ObjectPath::parse(group, version, rest),
            _ => Err(ApiError::unknown_path()),
        }
    }
}

impl ObjectPath {
    fn parse(group: &str, version: &str, rest: &[&str]) -> Result<Target, ApiError> {
        let (namespace, rest) = match rest {
            ["namespaces", namespace, plural, below @ ..]
                if !(group.is_empty() && matches!(*plural, "status" | "finalize")) =>
            {
                (Some((*namespace).to_owned()), [&[*plural], below].concat())
            }
            _ => (None, rest.to_vec()),
        };
        let (plural, name, subresource) = match rest.as_slice() {
            [plural] => (plural, None, None),
            [plural, name] => (plural, Some(name), None),
            [plural, name, subresource] => (plural, Some(name), Some(subresource)),
            _ => return Err(ApiError::unknown_path()),
        };
        Ok(Target::Objects(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            namespace,
            plural: (*plural).to_owned(),
            name: name.map(|name| (*name).to_owned()),
            subresource: subresource.map(|name| (*name).to_owned()),
        }))
    }
}

/// The query parameters of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pairs: BTreeMap<String, String>,
}

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        let pairs = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(name, true), decode(value, true))
            })
            .collect();
        Self { pairs }
    }

    /// The parameter, unless it is absent or empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.pairs
            .get(name)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }

    /// Present, and anything but `false` and `0`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.pairs
            .get(name)
            .is_some_and(|value| !matches!(value.as_str(), "false" | "0"))
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        self.text(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    ApiError::bad_request(format!("{name}: Invalid value: \"{text}\": must be a number"))
                })
            })
            .transpose()
    }

    /// Nothing is to be kept; any other value than `All` is refused.
    pub(crate) fn is_dry_run(&self) -> Result<bool, ApiError> {
        match self.text("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(ApiError::bad_request(format!(
                "dryRun: Unsupported value: \"{other}\": supported values: \"All\""
            ))),
        }
    }

    /// The manager of this write: the parameter, or what the client calls itself.
    pub(crate) fn field_manager(&self, headers: &HeaderMap) -> String {
        if let Some(name) = self.text("fieldManager") {
            return name.to_owned();
        }
        let agent = header_text(headers, header::USER_AGENT);
        let name = agent.split('/').next().unwrap_or_default();
        if name.is_empty() {
            "unknown".to_owned()
        } else {
            name.chars().take(128).collect()
        }
    }
}

/// How the answer to a read is to look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// The objects.
    Objects,
    /// Only their metadata.
    Metadata,
    /// Rows for people.
    Table,
}

/// Reads the `Accept` header: the first form that we have wins.
pub(crate) fn form(headers: &HeaderMap) -> Form {
    let accept = header_text(headers, header::ACCEPT);
    for offer in accept.split(',') {
        let parameter = |name: &str| {
            offer
                .split(';')
                .filter_map(|it| it.trim().split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_owned())
        };
        match parameter("as").as_deref() {
            Some("Table") if parameter("v").as_deref() == Some("v1") => return Form::Table,
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => return Form::Metadata,
            Some(_) => {}
            None if offer.trim().starts_with("application/json") || offer.trim() == "*/*" => {
                return Form::Objects;
            }
            None => {}
        }
    }
    Form::Objects
}

/// Tells whether the client asks for aggregated discovery.
pub(crate) fn wants_aggregated_discovery(headers: &HeaderMap) -> bool {
    let accept = header_text(headers, header::ACCEPT);
    accept.split(',').any(|offer| {
        offer.contains("as=APIGroupDiscoveryList") && offer.contains("v=v2") && !offer.contains("v2beta1")
    })
}

pub(crate) fn header_text(headers: &HeaderMap, name: header::HeaderName) -> String {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

/// The kinds of patches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PatchKind {
    Apply,
    Json,
    Merge,
    Strategic,
}

impl PatchKind {
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let text = header_text(headers, header::CONTENT_TYPE);
        match text.split(';').next().unwrap_or_default().trim() {
            "application/apply-patch+yaml" => Ok(Self::Apply),
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            _ => Err(ApiError::unsupported_media_type(
                "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            )),
        }
    }
}

/// The verb that the request log and faults call a request by.
pub(crate) fn verb(method: &Method, target: Option<&Target>, query: &Query) -> &'static str {
    let one = matches!(target, Some(Target::Objects(path)) if path.name.is_some());
    let objects = matches!(target, Some(Target::Objects(_)));
    match method.as_str() {
        "GET" if objects && query.flag("watch") => "watch",
        "GET" if objects && !one => "list",
        "GET" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if one => "delete",
        "DELETE" => "deletecollection",
        _ => "other",
    }
}

/// Percent-decoding; in queries a plus is a space.
fn decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match hex {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if plus && bytes[at] == b'+' {
                    b' '
                } else {
                    bytes[at]
                });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(path: &str) -> ObjectPath {
        match Target::parse(path).unwrap() {
            Target::Objects(path) => path,
            other => panic!("{path} is {other:?}"),
        }
    }

    #[test]
    fn paths_name_group_namespace_object_and_subresource() {
        let status = objects("/apis/argoproj.io/v1alpha1/namespaces/prod/rollouts/web/status");
        assert_eq!(status.group, "argoproj.io");
        assert_eq!(status.namespace.as_deref(), Some("prod"));
        assert_eq!(status.name.as_deref(), Some("web"));
        assert_eq!(status.subresource.as_deref(), Some("status"));
        let all = objects("/api/v1/pods");
        assert_eq!((all.namespace, all.name), (None, None));
        let namespace = objects("/api/v1/namespaces/prod");
        assert_eq!(
            (namespace.plural.as_str(), namespace.name.as_deref()),
            ("namespaces", Some("prod"))
        );
        let finalize = objects("/api/v1/namespaces/prod/finalize");
        assert_eq!(finalize.subresource.as_deref(), Some("finalize"));
        assert_eq!(Target::parse("/nothing"), Err(ApiError::unknown_path()));
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("labelSelector=app%3Dweb%2Ctier+in+%28a%29&watch=1&limit=5");
        assert_eq!(query.text("labelSelector"), Some("app=web,tier in (a)"));
        assert!(query.flag("watch"));
        assert_eq!(query.number("limit"), Ok(Some(5)));
        assert!(Query::parse("limit=x").number("limit").is_err());
        assert!(Query::parse("dryRun=Some").is_dry_run().is_err());
    }

    #[test]
    fn a_cut_percent_sign_is_left_as_it_is() {
        assert_eq!(decode("a%2", true), "a%2");
        assert_eq!(decode("%ä%41", true), "%äA");
    }
}
