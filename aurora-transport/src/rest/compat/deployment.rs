//! `GET /deployments/{id}`: one target's run, in the words of the older product.

use aurora_core::authz::ReadPipelines;
use aurora_core::error::ErrorKind;
use aurora_core::pipeline::{ArmoryStatus, PipelineView, StepView, TargetView};
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

use super::super::Api;
use super::super::answer::json;
use super::super::armory::{Environment, PauseStep, gate_status, pause};
use super::super::authenticate::Granted;
use super::super::problem::Refusal;
use super::super::request::{Params, pipeline_id};

/// One target's run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStatus {
    /// Its name: the pipeline's id, a full stop, and the target's name.
    pub id: String,
    /// The pipeline.
    pub parent_pipeline_id: String,
    /// The application.
    pub application: String,
    /// The target.
    pub environment: Environment,
    /// Where it stands.
    pub status: ArmoryStatus,
    /// When it began.
    pub started_at_iso8601: Option<Timestamp>,
    /// When it ended.
    pub completed_at_iso8601: Option<Timestamp>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How far it is.
    pub kubernetes: KubernetesStatus,
}

/// How far a target's strategy is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesStatus {
    /// `canary`, `blueGreen`, `rolling` or `none`.
    pub strategy: String,
    /// The strategy under its own name; absent where there is none.
    #[serde(flatten)]
    pub of_strategy: BTreeMap<String, StrategyStatus>,
    /// Its workloads.
    pub deployed_objects: Vec<DeployedObject>,
}

/// Where a strategy is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StrategyStatus {
    /// How many steps are behind.
    pub step: usize,
    /// How many there are.
    pub total_steps: usize,
    /// The weight that holds now.
    pub set_weight: u8,
    /// The steps, in order.
    pub steps: Vec<StrategyStep>,
}

/// One step.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StrategyStep {
    /// Its name among the steps: `canary-step-2`.
    #[serde(rename = "ref")]
    pub name: String,
    /// The step before it.
    pub depends_on: Vec<String>,
    /// What it does: `setWeight`, `pause`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it stands.
    pub status: ArmoryStatus,
    /// The deployment that it belongs to.
    pub deployment_key: String,
    /// The pause, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseStep>,
}

/// One workload.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeployedObject {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Where it stands.
    pub status: String,
}

/// `GET /deployments/{id}`
pub(in super::super) async fn deployment(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, Refusal> {
    params.finish()?;
    let unknown = || {
        let id: String = id.chars().take(128).collect();
        Refusal::new(
            ErrorKind::NotFound,
            "notFound",
            format!("there is no deployment {id}"),
        )
    };
    // A pipeline's id has no full stop; a target's name may have some.
    let (pipeline, target) = id.split_once('.').ok_or_else(unknown)?;
    let pipeline = pipeline_id(pipeline).map_err(|_| unknown())?;
    let view = match api.inner.plane.view(&grant, pipeline).await {
        Ok(view) => view.body,
        Err(aurora_core::control::ControlError::NotFound { .. }) => return Err(unknown()),
        Err(error) => return Err(error.into()),
    };
    let found = view.targets.iter().find(|found| found.name == target);
    let status = DeploymentStatus::of(&view, found.ok_or_else(unknown)?);
    Ok(json(StatusCode::OK, &status))
}

impl DeploymentStatus {
    fn of(view: &PipelineView, target: &TargetView) -> Self {
        let id = format!("{}.{}", view.id, target.name);
        let steps: Vec<StrategyStep> = target
            .steps
            .iter()
            .map(|step| strategy_step(&id, target, step))
            .collect();
        let weight = target
            .steps
            .iter()
            .rev()
            .find(|step| matches!(step.state.as_str(), "current" | "done"))
            .map_or(0, |step| step.weight);
        let strategy = StrategyStatus {
            step: target.step,
            total_steps: target.total,
            set_weight: if target.status == ArmoryStatus::Succeeded {
                100
            } else {
                weight
            },
            steps,
        };
        let of_strategy = (target.strategy != "none").then(|| (target.strategy.clone(), strategy));
        let objects = target.rollouts.iter().map(|rollout| DeployedObject {
            kind: rollout.object.kind.clone(),
            name: rollout.object.name.clone(),
            namespace: target.namespace.clone(),
            status: standing(&rollout.standing),
        });
        Self {
            parent_pipeline_id: view.id.to_string(),
            application: view.application.clone(),
            environment: Environment {
                name: target.name.clone(),
                namespace: target.namespace.clone(),
                account: target.account.clone(),
            },
            status: target.status,
            started_at_iso8601: target.started_at,
            completed_at_iso8601: target.ended_at,
            error: target.error.as_ref().map(|error| error.message.clone()),
            kubernetes: KubernetesStatus {
                strategy: target.strategy.clone(),
                of_strategy: of_strategy.into_iter().collect(),
                deployed_objects: objects.collect(),
            },
            id,
        }
    }
}

fn strategy_step(deployment: &str, target: &TargetView, step: &StepView) -> StrategyStep {
    let name = |index: usize| format!("{}-step-{index}", target.strategy);
    StrategyStep {
        name: name(step.index),
        depends_on: step.index.checked_sub(1).map(name).into_iter().collect(),
        kind: step.kind.clone(),
        status: step_status(target, step),
        deployment_key: deployment.to_owned(),
        pause: step.gate.as_ref().map(pause),
    }
}

fn step_status(target: &TargetView, step: &StepView) -> ArmoryStatus {
    match (step.state.as_str(), &step.gate) {
        ("done" | "notExercised", _) => ArmoryStatus::Succeeded,
        // The step at which a target failed or was ended is the one that says so.
        ("current", _) if target.state.is_final() => target.status,
        ("current", Some(gate)) if gate.state == "standing" => gate_status(gate),
        ("current", _) => ArmoryStatus::Running,
        _ => ArmoryStatus::NotStarted,
    }
}

/// The word for where a workload stands.
fn standing(standing: &aurora_core::progress::Standing) -> String {
    let word = serde_json::to_value(standing).ok();
    word.and_then(|word| word.get("is")?.as_str().map(str::to_owned))
        .unwrap_or_default()
}
