//! Which step of the file is which step of each Rollout.

use std::collections::{BTreeMap, BTreeSet};

use aurora_core::manifest::ObjectRef;
use aurora_core::plan::{MappedStep, StepMap};
use aurora_core::port::renderer::RenderRequest;
use aurora_core::strategy::{Step, Strategy};
use serde_json::Value;

use super::convert;
use super::draft::Draft;
use super::kinds;

/// Maps the steps of the file to the Rollouts that were made from Deployments.
///
/// A user's own Rollout is listed with its number of steps; no step of the file stands in it, and the
/// gates of a blue/green strategy are not its own.
/// Deployments whose pods a user's own Rollout takes over do not count.
pub(super) fn step_map(request: &RenderRequest, drafts: &[Draft], made: &BTreeSet<String>) -> StepMap {
    let (mut rollouts, mut blue_green) = (BTreeMap::new(), BTreeSet::new());
    let mut workloads = Vec::new();
    let taken_over = convert::taken_over(drafts);
    let is_taken_over =
        |object: &ObjectRef| kinds::is_deployment(object) && taken_over.contains(&object.name);
    for draft in drafts {
        let object = draft.object();
        if kinds::is_rollout(&object) {
            let steps = draft.at("/spec/strategy/canary/steps");
            let count = steps.and_then(Value::as_array).map_or(0, Vec::len);
            let is_made = made.contains(&object.name);
            if is_made && draft.at("/spec/strategy/blueGreen").is_some() {
                blue_green.insert(object.name.clone());
            }
            rollouts.insert(object.name, count);
        } else if kinds::is_counted(&object) && !is_taken_over(&object) {
            workloads.push(object);
        }
    }
    StepMap {
        steps: steps(request, made),
        rollouts,
        blue_green,
        workloads,
    }
}

fn steps(request: &RenderRequest, made: &BTreeSet<String>) -> Vec<MappedStep> {
    let Some(Strategy::Canary(canary)) = &request.strategy else {
        return Vec::new();
    };
    let mut weight = 0;
    let map = |(index, step): (usize, &Step)| {
        if let Step::SetWeight(next) = step {
            weight = *next;
        }
        MappedStep {
            index: made.iter().map(|name| (name.clone(), index)).collect(),
            gate: matches!(step, Step::Pause(_)),
            weight,
        }
    };
    canary.steps.iter().enumerate().map(map).collect()
}
