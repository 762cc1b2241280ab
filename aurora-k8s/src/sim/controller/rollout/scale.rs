//! Scaling the ReplicaSets towards the weight of the present step, one at a time.

use crate::sim::objects::ObjectError;

use super::{
    counts,
    revision::{self, ReplicaSet},
    sync::Sync,
};

/// Scales the first ReplicaSet that has not the count it may have now: stable, then new, then the others.
/// Says whether any was scaled.
pub(super) fn reconcile(sync: &Sync<'_>) -> Result<bool, ObjectError> {
    if sync.spec.paused {
        return Ok(false);
    }
    let (new_count, stable_count) = next_counts(sync);
    if let Some(stable) = distinct_stable(sync)
        && scale(sync, stable, stable_count)?
    {
        return Ok(true);
    }
    if let Some(new) = &sync.new
        && scale(sync, new, new_count)?
    {
        return Ok(true);
    }
    scale_down_others(sync)
}

/// Whether new and stable ReplicaSet have the counts of the present weight and all new pods are available.
/// Stable pods that are not available hold nothing up, those that still have to go do.
pub(super) fn is_at_weight(sync: &Sync<'_>) -> bool {
    let (new_count, stable_count) = next_counts(sync);
    sync.new
        .as_ref()
        .is_some_and(|new| new.wanted == new_count && new.available == new_count)
        && sync
            .stable
            .as_ref()
            .is_some_and(|it| it.wanted == stable_count && it.available <= stable_count)
        && sync.others.iter().all(|set| set.available == 0)
}

fn next_counts(sync: &Sync<'_>) -> (i64, i64) {
    counts::next_counts(
        &sync.spec,
        &sync.before,
        sync.new.as_ref(),
        sync.stable.as_ref(),
        &sync.others,
    )
}

fn distinct_stable<'a>(sync: &'a Sync<'_>) -> Option<&'a ReplicaSet> {
    sync.stable
        .as_ref()
        .filter(|stable| sync.new.as_ref().is_none_or(|new| new.name != stable.name))
}

fn scale(sync: &Sync<'_>, set: &ReplicaSet, count: i64) -> Result<bool, ObjectError> {
    revision::scale(sync.objects, &sync.rollout, set, count, sync.spec.replicas)
}

/// First the pods that are not available anyway, then as many as the bounds allow.
fn scale_down_others(sync: &Sync<'_>) -> Result<bool, ObjectError> {
    let mut scaled = false;
    let available: i64 = sync.all_sets().iter().map(|set| set.available).sum();
    let mut spare = available - (sync.spec.replicas - sync.spec.max_unavailable);
    for set in sync.others.iter().filter(|set| set.wanted > 0) {
        let healthy = set.available.min(set.wanted);
        let goes = spare.clamp(0, healthy);
        spare -= goes;
        scaled |= scale(sync, set, healthy - goes)?;
    }
    Ok(scaled)
}
