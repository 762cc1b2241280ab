//! How many pods the new and the stable ReplicaSet get: weights approximated by counts, within the bounds.

use super::{
    revision::ReplicaSet,
    spec::{Spec, Step},
    status::Status,
};

/// The weight that the new version has at the present step.
pub(super) fn weight(spec: &Spec, status: &Status) -> i64 {
    if status.promote_full || status.stable_rs.is_empty() || status.current_pod_hash == status.stable_rs {
        return 100;
    }
    if status.abort {
        return 0;
    }
    let index = status.step_index();
    if spec.step(index).is_none() {
        return 100;
    }
    let reached = usize::try_from(index).unwrap_or(0);
    let weights = spec
        .steps
        .iter()
        .take(reached + 1)
        .rev()
        .find_map(|step| match step {
            Step::SetWeight(weight) => Some(*weight),
            Step::Pause(_) => None,
        });
    weights.unwrap_or(0)
}

/// Counts of the new and the stable ReplicaSet that the next scaling may set, without a router.
pub(super) fn next_counts(
    spec: &Spec,
    status: &Status,
    new: Option<&ReplicaSet>,
    stable: Option<&ReplicaSet>,
    others: &[ReplicaSet],
) -> (i64, i64) {
    let stable = stable.filter(|stable| new.is_none_or(|new| new.name != stable.name));
    let (wanted_new, wanted_stable) = if stable.is_some() {
        approximate(spec.replicas, weight(spec, status), spec.max_surge)
    } else {
        (spec.replicas, 0)
    };
    let held = |set: Option<&ReplicaSet>| set.map_or(0, |set| set.wanted);
    let older: i64 = others.iter().map(|set| set.wanted).sum();
    let (mut new_count, mut stable_count) = (held(new), held(stable));
    let mut room = spec.replicas + spec.max_surge - (older + new_count + stable_count);
    if stable.is_some() && wanted_stable > stable_count && room > 0 {
        let grown = wanted_stable.min(stable_count + room);
        room -= grown - stable_count;
        stable_count = grown;
    }
    if new.is_some() && wanted_new > new_count && room > 0 {
        new_count = wanted_new.min(new_count + room);
    }
    if older > 0 {
        return (new_count, stable_count);
    }
    // While the new version grows its own pods count as they are available; while it shrinks, those of the
    // stable one do.
    let growing = new.is_none_or(|new| wanted_new >= new.wanted);
    let spare = new.map_or(0, |set| set.counted_for_scale_down(!growing))
        + stable.map_or(0, |set| set.counted_for_scale_down(growing))
        - (spec.replicas - spec.max_unavailable);
    if spare <= 0 {
        return (new_count, stable_count);
    }
    if !growing {
        new_count = shrink(held(new), wanted_new, spare, new_count);
    } else if stable.is_some() {
        stable_count = shrink(held(stable), wanted_stable, spare, stable_count);
    }
    (new_count, stable_count)
}

fn shrink(held: i64, wanted: i64, spare: i64, otherwise: i64) -> i64 {
    if held < wanted {
        otherwise
    } else {
        wanted.max(held - spare)
    }
}

/// The pair of counts that comes closest to the weight; one pod more than wanted is considered where a surge
/// is allowed. With two pods or more neither side is empty at a weight between 0 and 100.
fn approximate(replicas: i64, weight: i64, surge: i64) -> (i64, i64) {
    if replicas == 0 {
        return (0, 0);
    }
    let product = replicas * weight;
    let (ceil, floor) = ((product + 99).div_euclid(100), product.div_euclid(100));
    let tied = |total: i64| (total * weight).rem_euclid(100) == 50;
    let empty_allowed = weight == 100 || weight == 0 || (replicas == 1 && surge == 0);
    let mut options = Vec::new();
    if ceil < replicas || empty_allowed {
        options.push((ceil, replicas));
    }
    if !tied(replicas) && (floor != 0 || empty_allowed) {
        options.push((floor, replicas));
    }
    if surge > 0 {
        options.push((ceil, replicas + 1));
        if !tied(replicas + 1) && (floor != 0 || empty_allowed) {
            options.push((floor, replicas + 1));
        }
    }
    // Distances over both possible totals, so that they compare as whole numbers; the first of equals wins.
    let distance = |&(canary, total): &(i64, i64)| {
        let whole = i128::from(replicas) * i128::from(replicas + 1);
        (i128::from(canary) * 100 * (whole / i128::from(total)) - i128::from(weight) * whole).abs()
    };
    let best = options.iter().min_by_key(|option| distance(option));
    best.map_or((0, replicas), |(canary, total)| (*canary, total - canary))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::{approximate, next_counts};
    use crate::sim::controller::rollout::{revision::ReplicaSet, spec::Spec, status::Status};

    fn set(hash: &str, wanted: i64, available: i64) -> ReplicaSet {
        ReplicaSet::of(Arc::new(json!({
            "metadata": {"name": hash, "labels": {"rollouts-pod-template-hash": hash}},
            "spec": {"replicas": wanted},
            "status": {"replicas": wanted, "availableReplicas": available},
        })))
    }

    /// Four pods at 50 %, with one more and one fewer allowed.
    fn next(new: (i64, i64), stable: (i64, i64), others: &[ReplicaSet], abort: bool) -> (i64, i64) {
        let spec = Spec::of(
            &json!({"spec": {"replicas": 4, "strategy": {"canary": {"steps": [{"setWeight": 50}]}}}}),
        );
        let status = Status {
            abort,
            stable_rs: "stable".to_owned(),
            current_pod_hash: "new".to_owned(),
            current_step_index: Some(0),
            ..Status::default()
        };
        let (new, stable) = (set("new", new.0, new.1), set("stable", stable.0, stable.1));
        next_counts(&spec, &status, Some(&new), Some(&stable), others)
    }

    #[test]
    fn canary_grows_within_the_surge_and_the_stable_set_shrinks_as_far_as_pods_are_available() {
        assert_eq!(next((0, 0), (4, 4), &[], false), (1, 3));
        assert_eq!(next((1, 0), (3, 3), &[], false), (2, 3));
        assert_eq!(next((2, 1), (3, 3), &[], false), (2, 2));
        assert_eq!(next((2, 2), (3, 3), &[], false), (2, 2));
    }

    #[test]
    fn older_pods_go_before_any_other() {
        assert_eq!(next((0, 0), (3, 3), &[set("old", 2, 2)], false), (0, 3));
        assert_eq!(next((0, 0), (4, 4), &[set("old", 1, 1)], false), (0, 4));
    }

    #[test]
    fn abort_takes_pods_that_only_start_at_once() {
        assert_eq!(next((4, 2), (1, 1), &[], true), (2, 1));
        assert_eq!(next((2, 2), (2, 2), &[], true), (1, 3));
    }

    /// What a real controller was seen to settle at (replicas, weight, with a surge of 1, without).
    #[test]
    fn counts_are_those_of_the_real_controller() {
        let cases = [
            (10, 20, (2, 8), (2, 8)),
            (5, 20, (1, 4), (1, 4)),
            (4, 10, (1, 4), (1, 3)),
            (4, 25, (1, 3), (1, 3)),
            (3, 33, (1, 2), (1, 2)),
            (3, 10, (1, 3), (1, 2)),
            (3, 50, (2, 2), (2, 1)),
            (5, 50, (3, 3), (3, 2)),
            (7, 50, (4, 4), (4, 3)),
            (10, 50, (5, 5), (5, 5)),
            (2, 10, (1, 2), (1, 1)),
            (2, 50, (1, 1), (1, 1)),
            (1, 10, (1, 1), (0, 1)),
            (1, 50, (1, 1), (1, 0)),
            (10, 5, (1, 10), (1, 9)),
            (10, 85, (9, 2), (9, 1)),
            (10, 95, (10, 1), (0, 10)),
            (4, 0, (0, 4), (0, 4)),
            (4, 100, (4, 0), (4, 0)),
        ];
        for (replicas, weight, surged, plain) in cases {
            assert_eq!(
                approximate(replicas, weight, 1),
                surged,
                "{replicas} at {weight} % with a surge"
            );
            assert_eq!(
                approximate(replicas, weight, 0),
                plain,
                "{replicas} at {weight} % without"
            );
        }
    }
}
