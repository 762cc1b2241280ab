//! Analysis: queries to metric providers, and steps that judge their answers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::strategy::Span;

use super::schema::{ANALYSIS, QUERY};
use super::variables::modern;
use super::walk::{At, Walk};

/// Queries that analysis steps ask, and whom.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    /// Who is asked where neither step nor query say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_provider: Option<String>,
    /// In the order of the file; no two have the same name.
    pub queries: Vec<Query>,
}

/// A question to a metric provider; at least one limit is set.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Query {
    /// What steps call it.
    pub name: String,
    /// The question, with variables.
    pub template: String,
    /// A higher average fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_limit: Option<f64>,
    /// A lower average fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_limit: Option<f64>,
    /// Who is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

/// A step that asks queries several times and judges their averages.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisStep {
    /// Who is asked, before what query and file say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Variables of these queries, beside those of the run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
    /// The length of one sample.
    pub interval: Span,
    /// How often each query is asked.
    pub runs: u64,
    /// What happens when it fails.
    pub roll_back: Roll,
    /// What happens when it passes.
    pub roll_forward: Roll,
    /// How far a sample reaches back.
    pub lookback: Lookback,
    /// Whether the first failed judgment ends it.
    #[serde(default)]
    pub abort_on_failed_judgment: bool,
    /// Names of queries; all must pass.
    pub queries: Vec<String>,
}

/// Who goes on after a judgment.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Roll {
    /// The control plane.
    #[default]
    Automatic,
    /// A person.
    Manual,
}

/// How far a sample reaches back.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Lookback {
    /// To the start of the step.
    Growing,
    /// Over the last interval.
    Sliding,
    /// The file does not say.
    #[default]
    Unset,
}

impl Analysis {
    /// The query of a name.
    pub fn query(&self, name: &str) -> Option<&Query> {
        self.queries.iter().find(|query| query.name == name)
    }
}

/// The file's queries; their form was checked.
pub(super) fn analysis(walk: &mut Walk<'_>, at: &At<'_>) -> Analysis {
    let items = at
        .get(&ANALYSIS, "queries")
        .map(|at| at.items())
        .unwrap_or_default();
    let mut queries: Vec<Query> = Vec::new();
    let mut names = BTreeSet::new();
    for item in items {
        let Some(query) = query(walk, &item) else { continue };
        if !names.insert(query.name.clone()) {
            let message = format!("there are two queries named `{}`", query.name);
            walk.error(
                &item,
                "sameName",
                message,
                "steps ask them by name: give each its own",
            );
        }
        queries.push(query);
    }
    Analysis {
        default_provider: at.text_of(&ANALYSIS, "defaultMetricProviderName"),
        queries,
    }
}

fn query(walk: &mut Walk<'_>, at: &At<'_>) -> Option<Query> {
    let limit = |key: &str| at.get(&QUERY, key).and_then(|at| at.node.number());
    let (upper, lower) = (limit("upperLimit"), limit("lowerLimit"));
    if let (Some(upper), Some(lower)) = (upper, lower)
        && upper < lower
    {
        let message = format!("no value is above {lower} and below {upper}");
        walk.error(
            at,
            "emptyRange",
            message,
            "the lower limit is at most the upper one",
        );
    }
    Some(Query {
        name: at.text_of(&QUERY, "name")?,
        template: modern(&at.text_of(&QUERY, "queryTemplate")?),
        upper_limit: upper,
        lower_limit: lower,
        provider: at.text_of(&QUERY, "metricProviderName"),
    })
}
