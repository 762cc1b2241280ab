//! The deploy file: what a user writes, valid by construction.

mod analysis;
mod check;
mod document;
mod fetch;
mod fields;
mod json_schema;
mod later;
mod manifests;
mod parse;
mod schema;
mod steps;
mod suggest;
mod targets;
mod traffic;
mod tree;
mod variables;
mod walk;
mod webhooks;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::account::AccountName;
use crate::strategy::{Pause, ServicePair, Span, Strategy};

pub use analysis::{Analysis, AnalysisStep, Lookback, Query, Roll};
pub use document::{Document, Overrides};
pub use fetch::{FETCH_TIMEOUT, fetch_deploy_file, fetch_manifests, is_url};
pub use fields::{FieldInfo, fields};
pub use json_schema::json_schema;
pub use later::{ExposeServices, Later, LaterStep, Owner};
pub use manifests::{MAX_MANIFEST_BYTES, manifests, read_manifests};
pub use parse::{MAX_DEPLOY_FILE_BYTES, MAX_SUBMIT_BYTES, Parsed, parse, parse_linked, parse_submit};
pub use schema::Fate;
pub use traffic::{Istio, Smi, Traffic};
pub use webhooks::{Network, RunWebhook, Webhook};

/// A deploy file that passed every check; [`not_yet`](DeployFile::not_yet) says which of its parts cannot run yet.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeployFile {
    /// The key of the run lock and of history.
    pub application: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Run-wide variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
    /// Targets by name; `dependsOn` has no cycle and names only targets of this map.
    pub targets: BTreeMap<String, TargetSpec>,
    /// Strategies by name.
    pub strategies: BTreeMap<String, Strategy>,
    /// Manifests, in the order of the file.
    pub manifests: Vec<ManifestSource>,
    /// From an apply or an opened gate to the next gate or the end; 30 minutes unless said.
    pub timeout: Span,
    /// What becomes of it while another run of the application is under way.
    #[serde(default)]
    pub in_progress: InProgress,
    /// Only these targets are deployed; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<BTreeSet<String>>,
    /// HTTP calls that steps make, in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<Webhook>,
    /// Queries that steps ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
    /// Who routes the traffic of which targets, in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<Traffic>,
    /// Steps that this version cannot run; strategies and constraints hold only the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub later: Vec<LaterStep>,
    /// Whether the Deployment is to be made again after the run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_deployment: bool,
}

/// What becomes of a submit while another run of its application is under way.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum InProgress {
    /// It waits behind it; one that waits already is replaced.
    EnqueueOne,
    /// It is refused.
    #[default]
    Reject,
}

/// One place the application goes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetSpec {
    /// The agent that serves it.
    pub account: AccountName,
    /// Overrides the manifests' namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A key of `strategies`; absent only where the manifests hold no Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// The Services of a blue/green move; empty: found by their selectors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServicePair>,
    /// Targets that must have succeeded first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// Gates that all must open before the target starts; they wait side by side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Pause>,
    /// Gates that all must open after the target is deployed, before dependants start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Pause>,
}

/// Where manifests come from and for which targets they are.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestSource {
    /// A path as written, or the inline text.
    pub from: ManifestFrom,
    /// Only for these targets; absent: for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<String>>,
    /// The line of the entry in the deploy file, from 1.
    pub line: usize,
}

/// A path or a text.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ManifestFrom {
    /// Manifest text in the deploy file itself.
    Inline(String),
    /// A file or directory, relative to the deploy file, or a URL; its texts come in [`Files`].
    Path(String),
}

/// Manifest texts by the path that the deploy file names: a directory has several, in order of name.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Files(pub BTreeMap<String, Vec<FileText>>);

/// One file's text and its own name, for places in errors.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FileText {
    /// The file's name as people know it.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// Something wrong, or worth knowing, about what a user wrote.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// An error blocks; a warning does not.
    pub severity: Severity,
    /// Stable, for programs: `unknownKey`, `notYet`, `missing`, …
    pub code: String,
    /// RFC 6901 pointer into the document it is about.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What to do; empty where the message says it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// The file, where it is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// From 1; 0 where it is not known.
    #[serde(default)]
    pub line: usize,
    /// From 1; 0 where it is not known.
    #[serde(default)]
    pub column: usize,
}

/// Whether a problem blocks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Severity {
    /// It blocks.
    Error,
    /// It does not.
    Warning,
}

impl Problem {
    /// An error at a place of the document.
    pub fn error(code: &str, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: code.to_owned(),
            pointer: pointer.into(),
            message: message.into(),
            hint: String::new(),
            file: String::new(),
            line: 0,
            column: 0,
        }
    }

    /// A warning at a place of the document.
    pub fn warning(code: &str, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, pointer, message)
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Adds where it is.
    #[must_use]
    pub fn at(mut self, file: impl Into<String>, line: usize, column: usize) -> Self {
        self.file = file.into();
        self.line = line;
        self.column = column;
        self
    }

    /// Whether it blocks.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
        }
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        } else if !self.file.is_empty() {
            f.write_str(" ")?;
        }
        write!(f, "{}", self.message)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}
