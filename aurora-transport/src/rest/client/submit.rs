//! What a client submits: the deploy file as it was written, and the manifests that it names.

use std::collections::BTreeMap;

use aurora_core::deploy_file::{FileText, Files, parse};
use aurora_core::id::PipelineId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::ClientError;

/// A deploy file and what goes with it.
#[derive(Clone, Debug)]
pub struct SubmitRequest {
    /// The deploy file's text, YAML or JSON, as it was written: problems then have its lines.
    pub text: String,
    /// The name of the deploy file, for problems.
    pub name: String,
    /// Texts of manifests by the path that the file names; those inside of the file need not be here.
    pub files: Files,
    /// Which commit and who pushed it.
    pub source_control: Option<Value>,
    /// Only these targets; all where there are none.
    pub targets: Vec<String>,
    /// The idempotency key: sent again with it, a submit has no second effect.
    pub key: String,
}

/// A deploy file that lies at a URL: the server reads it, and the manifests that it names beside it.
#[derive(Clone, Debug)]
pub struct LinkRequest {
    /// Where it lies.
    pub url: String,
    /// Goes to this account, whatever the file says.
    pub account: Option<String>,
    /// Only these targets; all where there are none.
    pub targets: Vec<String>,
    /// The idempotency key: sent again with it, a submit has no second effect.
    pub key: String,
}

impl LinkRequest {
    /// A deploy file at a URL, with a new idempotency key.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            account: None,
            targets: Vec::new(),
            key: Uuid::new_v4().to_string(),
        }
    }

    pub(super) fn body(&self) -> Value {
        let filters: Vec<Value> = filters(&self.targets).collect();
        json!({"account": self.account, "targetFilters": filters})
    }
}

/// A start by link was taken; warnings are texts there.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkAnswer {
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// What is worth knowing about what was submitted.
    pub warnings: Vec<String>,
}

fn filters(targets: &[String]) -> impl Iterator<Item = Value> {
    targets.iter().map(|name| json!({"includeTarget": name}))
}

impl SubmitRequest {
    /// A deploy file and its manifests, with a new idempotency key.
    pub fn new(text: impl Into<String>, name: impl Into<String>, files: Files) -> Self {
        Self {
            text: text.into(),
            name: name.into(),
            files,
            source_control: None,
            targets: Vec::new(),
            key: Uuid::new_v4().to_string(),
        }
    }

    /// The name as a header may carry it.
    pub(super) fn header_name(&self) -> Vec<u8> {
        let visible = self.name.chars().filter(|letter| !letter.is_control());
        let name: String = visible.take(60).collect();
        if name.is_empty() {
            return b"deploy file".to_vec();
        }
        name.into_bytes()
    }

    /// The media type and the body.
    pub(super) fn body(&self) -> Result<(&'static str, Bytes), ClientError> {
        let parts = self.parts()?;
        if let Ok(Value::Object(mut file)) = serde_json::from_str::<Value>(&self.text) {
            if parts.is_empty() {
                return Ok(("application/json", self.text.clone().into()));
            }
            file.extend(parts.into_iter().map(|(key, part)| (key.to_owned(), part)));
            return Ok(("application/json", Value::Object(file).to_string().into()));
        }
        // JSON is YAML: as new keys at its end the parts leave every line of the file where it is.
        let mut text = self.text.clone();
        for (key, part) in parts {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&format!("{key}: {part}\n"));
        }
        Ok(("application/yaml", text.into()))
    }

    fn parts(&self) -> Result<Vec<(&'static str, Value)>, ClientError> {
        let unreadable = |error: serde_json::Error| ClientError::Invalid {
            problem: error.to_string(),
        };
        let inside = parse(&self.text, &self.name)
            .map(|parsed| (parsed.files, parsed.source_control))
            .unwrap_or_default();
        let missing: BTreeMap<&String, &Vec<FileText>> = self
            .files
            .0
            .iter()
            .filter(|(path, _)| !inside.0.0.contains_key(*path))
            .collect();
        let mut parts = Vec::new();
        if !missing.is_empty() {
            if !inside.0.0.is_empty() {
                return Err(ClientError::Invalid {
                    problem: "the deploy file has some manifests in `files` and names others by path; put all of them into one of the two".to_owned(),
                });
            }
            parts.push(("files", serde_json::to_value(missing).map_err(unreadable)?));
        }
        if let (Some(source_control), None) = (&self.source_control, inside.1) {
            parts.push(("sourceControl", source_control.clone()));
        }
        if !self.targets.is_empty() {
            parts.push(("targetFilters", filters(&self.targets).collect()));
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use aurora_core::deploy_file::{manifests, parse_submit};

    use super::*;

    const FILE: &str = "# a comment\napplication: web\ntargets:\n  staging: {account: one, namespace: web, strategy: all}\nstrategies:\n  all: {canary: {steps: [{setWeight: {weight: 50}}]}}\nmanifests:\n  - path: web.yaml";

    fn files() -> Files {
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"a\\\"b\"}\n";
        let file = FileText {
            name: "web.yaml".to_owned(),
            text: text.to_owned(),
        };
        Files(BTreeMap::from([("web.yaml".to_owned(), vec![file])]))
    }

    #[test]
    fn manifests_travel_with_a_yaml_file_and_leave_its_lines_alone() {
        let submit = SubmitRequest::new(FILE, "deploy.yaml", files());
        let (media_type, body) = submit.body().unwrap();
        assert_eq!(media_type, "application/yaml");
        let parsed = parse_submit(std::str::from_utf8(&body).unwrap(), "deploy.yaml").unwrap();
        assert_eq!(parsed.files, files());
        assert_eq!(parsed.deploy.manifests[0].line, 8);
        manifests(&parsed.deploy, &parsed.files, "deploy.yaml").unwrap();
    }

    #[test]
    fn manifests_travel_with_a_json_file() {
        let json = serde_json::json!({
            "application": "web",
            "targets": {"staging": {"account": "one", "namespace": "web", "strategy": "all"}},
            "strategies": {"all": {"canary": {"steps": [{"setWeight": {"weight": 50}}]}}},
            "manifests": [{"path": "web.yaml"}],
        });
        let submit = SubmitRequest::new(json.to_string(), "deploy.json", files());
        let (media_type, body) = submit.body().unwrap();
        assert_eq!(media_type, "application/json");
        let parsed = parse_submit(std::str::from_utf8(&body).unwrap(), "deploy.json").unwrap();
        assert_eq!(parsed.files, files());
    }

    #[test]
    fn only_the_targets_that_are_named_are_wanted() {
        let mut submit = SubmitRequest::new(FILE, "deploy.yaml", files());
        submit.targets.push("staging".to_owned());
        let (_, body) = submit.body().unwrap();
        let parsed = parse_submit(std::str::from_utf8(&body).unwrap(), "deploy.yaml").unwrap();
        let only: Vec<String> = parsed.deploy.only.unwrap().into_iter().collect();
        assert_eq!(only, ["staging"]);
    }

    #[test]
    fn a_name_with_line_breaks_is_cut_to_what_a_header_carries() {
        let submit = SubmitRequest::new(FILE, "deploy\r\nX: y.yaml", Files::default());
        assert_eq!(submit.header_name(), b"deployX: y.yaml");
    }
}
