//! Traffic management: who routes the traffic of which targets.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::strategy::ServicePair;

use super::schema::{ISTIO, SERVICE_PAIR, SMI, TRAFFIC};
use super::tree::Kind;
use super::walk::{At, Walk};

/// Who routes the traffic of some targets.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Where it stands in the file, as an RFC 6901 pointer.
    pub pointer: String,
    /// For these targets; absent: for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<BTreeSet<String>>,
    /// Services of blue/green strategies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kubernetes: Vec<ServicePair>,
    /// TrafficSplit objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub smi: Vec<Smi>,
    /// Istio routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub istio: Vec<Istio>,
}

/// A split by SMI.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Smi {
    /// The Service that users reach.
    pub root_service: String,
    /// The Service of the new version; made as `<root>-canary` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_service: Option<String>,
    /// The TrafficSplit's name; the root Service's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_split: Option<String>,
}

/// A split by Istio.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Istio {
    /// The VirtualService whose weights move.
    pub virtual_service: String,
    /// Its route; needed where it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_route: Option<String>,
    /// The DestinationRule; the only one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_rule: Option<String>,
    /// The subset of the old version; the only one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_subset: Option<String>,
    /// The subset of the new version; made where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_subset: Option<String>,
}

impl Traffic {
    /// Whether it is about a target.
    pub fn is_for(&self, target: &str) -> bool {
        self.targets.as_ref().is_none_or(|only| only.contains(target))
    }
}

/// The file's traffic management; its form was checked.
pub(super) fn traffic(walk: &mut Walk<'_>, at: &At<'_>, names: &BTreeSet<&str>) -> Vec<Traffic> {
    let items = match &at.node.kind {
        Kind::List(_) => at.items(),
        _ => vec![at.clone()],
    };
    items.iter().map(|item| entry(walk, item, names)).collect()
}

fn entry(walk: &mut Walk<'_>, at: &At<'_>, names: &BTreeSet<&str>) -> Traffic {
    let list = |key: &str| at.get(&TRAFFIC, key).map(|at| at.items()).unwrap_or_default();
    let targets = at.get(&TRAFFIC, "targets").is_some().then(|| {
        let read = at.texts_of(&TRAFFIC, "targets");
        for (name, item) in &read {
            walk.known(item, "target", name, names);
        }
        read.into_iter().map(|(name, _)| name).collect()
    });
    if ["kubernetes", "smi", "istio"]
        .iter()
        .all(|key| list(key).is_empty())
    {
        walk.warn(
            at,
            "noEffect",
            "this entry says nothing about traffic",
            "give it `kubernetes`, `smi` or `istio`, or take it out",
        );
    }
    Traffic {
        pointer: at.pointer.clone(),
        targets,
        kubernetes: list("kubernetes")
            .iter()
            .filter_map(|item| pair(walk, item, &SERVICE_PAIR))
            .collect(),
        smi: list("smi")
            .iter()
            .filter_map(|item| {
                Some(Smi {
                    root_service: item.text_of(&SMI, "rootServiceName")?,
                    canary_service: item.text_of(&SMI, "canaryServiceName"),
                    traffic_split: item.text_of(&SMI, "trafficSplitName"),
                })
            })
            .collect(),
        istio: list("istio").iter().filter_map(istio).collect(),
    }
}

/// An active Service and its preview, wherever they may be named.
pub(super) fn pair(
    walk: &mut Walk<'_>,
    at: &At<'_>,
    object: &'static super::schema::Object,
) -> Option<ServicePair> {
    let preview = at.get(object, "previewService");
    let active = at.text_of(object, "activeService")?;
    if let Some(preview) = &preview
        && preview.node.text() == Some(&active)
    {
        let message = format!("`{active}` cannot be active and preview Service at once");
        walk.error(
            preview,
            "sameService",
            message,
            "make another Service for the preview",
        );
    }
    Some(ServicePair {
        active,
        preview: preview.and_then(|at| at.node.text().map(str::to_owned)),
    })
}

fn istio(at: &At<'_>) -> Option<Istio> {
    let below = |key: &str, inner: &str| {
        let (_, value) = at
            .get(&ISTIO, key)?
            .entries()
            .into_iter()
            .find(|(found, _)| *found == inner)?;
        value.node.text().map(str::to_owned)
    };
    Some(Istio {
        virtual_service: below("virtualService", "name")?,
        http_route: below("virtualService", "httpRouteName"),
        destination_rule: below("destinationRule", "name"),
        active_subset: below("destinationRule", "activeSubsetName"),
        canary_subset: below("destinationRule", "canarySubsetName"),
    })
}
