//! Webhooks: HTTP calls that steps of a deploy file make.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::account::AccountName;

use super::schema::{Object, WEBHOOK};
use super::tree::Kind;
use super::variables::modern;
use super::walk::{At, Walk};

/// An HTTP call that steps make by its name.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// What steps call it; no two of a file have the same name.
    pub name: String,
    /// The HTTP method, upper case.
    pub method: String,
    /// Where it goes, with variables.
    pub uri_template: String,
    /// Who calls it.
    pub network: Network,
    /// Headers in order: name, and value with variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The body, with variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_template: Option<String>,
    /// How often connecting is tried again.
    #[serde(default)]
    pub retries: u64,
    /// Whether a good status is enough; else the call's answer comes later, as a callback.
    #[serde(default)]
    pub no_callback: bool,
}

/// From where a webhook is called.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Network {
    /// From the control plane.
    Direct,
    /// Through an agent: this one, or else that of the step's target.
    Agent(Option<AccountName>),
}

/// A step that calls a webhook.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RunWebhook {
    /// The webhook's name.
    pub name: String,
    /// Variables of this call, beside those of the run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
}

/// The file's webhooks; their form was checked.
pub(super) fn webhooks(walk: &mut Walk<'_>, at: &At<'_>) -> Vec<Webhook> {
    let mut all: Vec<Webhook> = Vec::new();
    let mut names = BTreeSet::new();
    for item in at.items() {
        let Some(read) = webhook(walk, &item) else {
            continue;
        };
        if !names.insert(read.name.clone()) {
            let message = format!("there are two webhooks named `{}`", read.name);
            walk.error(
                &item,
                "sameName",
                message,
                "steps call them by name: give each its own",
            );
        }
        all.push(read);
    }
    all
}

fn webhook(walk: &mut Walk<'_>, at: &At<'_>) -> Option<Webhook> {
    let text = |key: &str| at.text_of(&WEBHOOK, key);
    let get = |key: &str| at.get(&WEBHOOK, key);
    let body = get("bodyTemplate").and_then(|body| plain_text(&body, "inline"));
    let method = text("method").map_or_else(
        || {
            let method = if body.is_some() { "POST" } else { "GET" };
            let message = format!("the webhook names no method; it is called by {method}");
            walk.warn(at, "noMethod", message, &format!("write `method: {method}`"));
            method.to_owned()
        },
        |method| method.to_uppercase(),
    );
    let headers = get("headers").map(|at| at.items()).unwrap_or_default();
    let network = match text("networkMode").as_deref() {
        Some("remoteNetworkAgent") => {
            Network::Agent(text("agentIdentifier").and_then(|name| AccountName::new(name).ok()))
        }
        _ => Network::Direct,
    };
    Some(Webhook {
        name: text("name")?,
        method,
        uri_template: modern(&text("uriTemplate")?),
        network,
        headers: headers
            .iter()
            .filter_map(|header| Some((plain_text(header, "key")?, modern(&plain_text(header, "value")?))))
            .collect(),
        body_template: body.as_deref().map(modern),
        retries: get("retryCount").and_then(|at| at.node.whole()).unwrap_or(0),
        no_callback: get("disableCallback")
            .and_then(|at| at.node.boolean())
            .unwrap_or(false),
    })
}

/// The text under a key of a map that has no older spellings.
fn plain_text(at: &At<'_>, key: &str) -> Option<String> {
    let (_, value) = at.entries().into_iter().find(|(found, _)| *found == key)?;
    value.node.text().map(str::to_owned)
}

/// A context: a map, or in older files a list of maps.
pub(super) fn context(at: &At<'_>, object: &Object) -> BTreeMap<String, String> {
    let Some(at) = at.get(object, "context") else {
        return BTreeMap::new();
    };
    let maps = match &at.node.kind {
        Kind::List(_) => at.items(),
        _ => vec![at],
    };
    let entries = maps.iter().flat_map(At::entries);
    entries
        .filter_map(|(key, value)| Some((key.to_owned(), value.node.text()?.to_owned())))
        .collect()
}
