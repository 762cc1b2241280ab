//! What was seen of each Rollout while it was followed: weights and pod counts, a point per change.

use std::collections::BTreeMap;

use aurora_core::pipeline::PipelineView;
use aurora_core::progress::PodCounts;
use serde::Serialize;

/// Points of every Rollout, by target and Rollout.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct History(BTreeMap<String, BTreeMap<String, Vec<Point>>>);

/// One change of a Rollout.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Point {
    step: Option<usize>,
    weight_wanted: Option<u8>,
    weight_real: Option<u8>,
    pods: PodCounts,
}

impl History {
    /// Adds what a view shows, where it differs from the last point.
    pub(crate) fn add(&mut self, view: &PipelineView) {
        for target in &view.targets {
            let of_target = self.0.entry(target.name.clone()).or_default();
            for rollout in &target.rollouts {
                let point = Point {
                    step: rollout.step_index,
                    weight_wanted: rollout.weight_wanted,
                    weight_real: rollout.weight_real,
                    pods: rollout.pods,
                };
                let points = of_target.entry(rollout.object.name.clone()).or_default();
                if points.last() != Some(&point) {
                    points.push(point);
                }
            }
        }
    }
}

impl History {
    /// Per Rollout of a target the real weights that were seen, in order.
    pub(crate) fn summary(&self, target: &str) -> String {
        let mut text = String::new();
        for (rollout, points) in self.0.get(target).into_iter().flatten() {
            let mut weights: Vec<String> = points
                .iter()
                .filter_map(|p| p.weight_real)
                .map(|w| format!("{w} %"))
                .collect();
            weights.dedup();
            if !weights.is_empty() {
                text.push_str(&format!("    {rollout}: {}\n", weights.join(" → ")));
            }
        }
        text
    }
}
