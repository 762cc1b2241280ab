//! What a deploy file may say and this version cannot run: kept whole, refused by name where a run uses it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::strategy::Span;

use super::analysis::AnalysisStep;
use super::webhooks::RunWebhook;
use super::{DeployFile, Problem, TargetSpec};

/// A step of the file that this version cannot run, and where it stands.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LaterStep {
    /// Where it stands in the file, as an RFC 6901 pointer.
    pub pointer: String,
    /// What uses it.
    pub owner: Owner,
    /// What it would do.
    pub step: Later,
}

/// What a step belongs to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Owner {
    /// A strategy, by name.
    Strategy(String),
    /// A target's constraints, by its name.
    Target(String),
}

/// What such a step would do.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Later {
    /// Ask metrics and judge them.
    Analysis(AnalysisStep),
    /// Give Services a preview address for a while.
    ExposeServices(ExposeServices),
    /// Call a webhook and wait for its answer.
    RunWebhook(RunWebhook),
}

/// A step that gives Services a preview address for a while.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExposeServices {
    /// Services of the target's namespace.
    pub services: Vec<String>,
    /// How long the address works.
    pub ttl: Span,
}

impl Later {
    const fn name(&self) -> &'static str {
        match self {
            Self::Analysis(_) => "an `analysis` step",
            Self::ExposeServices(_) => "an `exposeServices` step",
            Self::RunWebhook(_) => "a `runWebhook` step",
        }
    }
}

impl DeployFile {
    /// Whether a target runs: all do unless the file filters them.
    pub fn runs(&self, target: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(target))
    }

    /// What this version cannot run although a target of this run uses it: errors with the code `notYet`.
    ///
    /// What the file only defines, such as a webhook that no step calls or the steps of a strategy that no
    /// target names, hinders nothing.
    pub fn not_yet(&self) -> Vec<Problem> {
        let running = || self.targets.iter().filter(|(name, _)| self.runs(name));
        let mut problems = Vec::new();
        for step in &self.later {
            let user = running().find(|(name, target)| uses(&step.owner, name, target));
            if let Some((target, _)) = user {
                problems.push(not_yet(&step.pointer, step.step.name(), Some(target)));
            }
        }
        for entry in &self.traffic {
            let Some((target, _)) = running().find(|(name, _)| entry.is_for(name)) else {
                continue;
            };
            for (key, is_there) in [("smi", !entry.smi.is_empty()), ("istio", !entry.istio.is_empty())] {
                if is_there {
                    let what = format!("traffic management by `{key}`");
                    problems.push(not_yet(&format!("{}/{key}", entry.pointer), &what, Some(target)));
                }
            }
        }
        if self.keep_deployment {
            let pointer = "/deploymentConfig/keepDeploymentObject";
            problems.push(not_yet(pointer, "`keepDeploymentObject: true`", None));
        }
        problems
    }

    /// Services that some step exposes.
    pub(super) fn exposed(later: &[LaterStep]) -> BTreeSet<String> {
        let services = later.iter().filter_map(|step| match &step.step {
            Later::ExposeServices(step) => Some(&step.services),
            Later::Analysis(_) | Later::RunWebhook(_) => None,
        });
        services.flatten().cloned().collect()
    }
}

fn uses(owner: &Owner, name: &str, target: &TargetSpec) -> bool {
    match owner {
        Owner::Strategy(strategy) => target.strategy.as_ref() == Some(strategy),
        Owner::Target(owner) => owner == name,
    }
}

fn not_yet(pointer: &str, what: &str, target: Option<&String>) -> Problem {
    let user = target
        .map(|target| format!(" (target `{target}` uses it)"))
        .unwrap_or_default();
    let message =
        format!("{what} is part of the deploy file, but this version of Aurora cannot run it yet{user}");
    Problem::error("notYet", pointer, message).with_hint("take it out to deploy with this version")
}
