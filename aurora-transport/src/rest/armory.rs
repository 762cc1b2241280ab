//! The status of a pipeline in the words of the older product, for its clients.

use std::collections::BTreeMap;

use aurora_core::pipeline::{ArmoryStatus, GateView, PipelineView, TargetView};
use aurora_core::principal::ClientProduct;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The answer to `GET /pipelines/{id}`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PipelineStatus {
    /// The pipeline.
    pub id: String,
    /// The application.
    pub application: String,
    /// For people.
    pub description: String,
    /// Where it stands.
    pub status: ArmoryStatus,
    /// When it was submitted.
    pub started_at_iso8601: Timestamp,
    /// When it ended.
    pub completed_at_iso8601: Option<Timestamp>,
    /// Who submitted it.
    pub initiated_by: String,
    /// With which program.
    pub source: ClientProduct,
    /// Run-wide variables.
    pub context: BTreeMap<String, String>,
    /// Which commit and who pushed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_control: Option<Value>,
    /// Its targets.
    pub environments: Vec<Environment>,
    /// Deployments and the constraints around them.
    pub steps: Vec<Step>,
}

/// A target.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct Environment {
    /// Its name.
    pub name: String,
    /// Where its objects go.
    pub namespace: String,
    /// The agent that serves it.
    pub account: String,
}

/// A deployment or a constraint.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its name among the steps.
    #[serde(rename = "ref")]
    pub name: String,
    /// Names of steps that come before it.
    pub depends_on: Vec<String>,
    /// `deployment` or `pause`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it stands.
    pub status: ArmoryStatus,
    /// The target that a constraint guards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint_for: Option<String>,
    /// The deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentStep>,
    /// The pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseStep>,
}

/// A target's deployment.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStep {
    /// Its name.
    pub id: String,
    /// The target.
    pub environment: String,
    /// How many steps are behind.
    pub step: usize,
    /// How many there are.
    pub total_steps: usize,
}

/// A pause.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PauseStep {
    /// How long, for a timed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
    /// The unit of the duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Whether it waits for a person.
    pub until_approved: bool,
}

impl PipelineStatus {
    /// The status that a view amounts to.
    pub(super) fn of(view: PipelineView) -> Self {
        let steps = view
            .targets
            .iter()
            .flat_map(|target| steps(&view, target))
            .collect();
        let environments = view.targets.iter().map(|target| Environment {
            name: target.name.clone(),
            namespace: target.namespace.clone(),
            account: target.account.clone(),
        });
        Self {
            id: view.id.to_string(),
            environments: environments.collect(),
            steps,
            application: view.application,
            description: view.description,
            status: view.status,
            started_at_iso8601: view.started_at,
            completed_at_iso8601: view.ended_at,
            initiated_by: view.actor.display,
            // Clients read both members without asking whether they are there.
            source: view.source.unwrap_or_else(|| ClientProduct {
                product: String::new(),
                version: String::new(),
            }),
            context: view.context,
            // Some clients send an empty one where there is none.
            source_control: view.source_control.filter(|said| match said {
                Value::Object(members) => !members.is_empty(),
                other => !other.is_null(),
            }),
        }
    }
}

fn steps(view: &PipelineView, target: &TargetView) -> Vec<Step> {
    let deployment = name(&target.name);
    let depends_on: Vec<String> = target
        .depends_on
        .iter()
        .flat_map(|on| last_of(view, on))
        .collect();
    let before: Vec<Step> = constraints(target, "before", &target.before, &depends_on);
    let guards = before.iter().map(|step| step.name.clone());
    let own = Step {
        name: deployment.clone(),
        depends_on: depends_on.iter().cloned().chain(guards).collect(),
        kind: "deployment".to_owned(),
        status: target.status,
        constraint_for: None,
        deployment: Some(DeploymentStep {
            id: format!("{}.{}", view.id, target.name),
            environment: target.name.clone(),
            step: target.step,
            total_steps: target.total,
        }),
        pause: None,
    };
    let after = constraints(target, "after", &target.after, std::slice::from_ref(&deployment));
    before.into_iter().chain([own]).chain(after).collect()
}

/// The steps that must be behind before a dependant of a target starts.
fn last_of(view: &PipelineView, target: &str) -> Vec<String> {
    let after = view
        .targets
        .iter()
        .find(|of| of.name == target)
        .map_or(0, |of| of.after.len());
    if after == 0 {
        return vec![name(target)];
    }
    (0..after)
        .map(|index| format!("{target}-after-{index}"))
        .collect()
}

fn constraints(target: &TargetView, place: &str, gates: &[GateView], depends_on: &[String]) -> Vec<Step> {
    let step = |(index, gate): (usize, &GateView)| Step {
        name: format!("{}-{place}-{index}", target.name),
        depends_on: depends_on.to_vec(),
        kind: "pause".to_owned(),
        status: gate_status(gate),
        constraint_for: Some(target.name.clone()),
        deployment: None,
        pause: Some(pause(gate)),
    };
    gates.iter().enumerate().map(step).collect()
}

pub(super) fn pause(gate: &GateView) -> PauseStep {
    let until_approved = gate.kind == "approval";
    let duration = gate.seconds.filter(|_| !until_approved);
    PauseStep {
        unit: duration.map(|_| "SECONDS".to_owned()),
        duration,
        until_approved,
    }
}

pub(super) fn gate_status(gate: &GateView) -> ArmoryStatus {
    match gate.state.as_str() {
        "standing" if gate.kind == "approval" => ArmoryStatus::AwaitingApproval,
        "standing" => ArmoryStatus::Paused,
        "notExercised" | "open" | "passed" => ArmoryStatus::Succeeded,
        "dropped" | "expired" | "rejected" => ArmoryStatus::Cancelled,
        _ => ArmoryStatus::NotStarted,
    }
}

fn name(target: &str) -> String {
    format!("{target}-deployment")
}
