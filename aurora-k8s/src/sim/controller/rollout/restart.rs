//! Restarting the pods of a Rollout that are older than `spec.restartAt`.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use super::sync::Sync;
use crate::sim::controller::{meta, pods};

/// Looked at again after this time while pods have to wait for others to become available.
const AGAIN: Duration = Duration::from_secs(30);

/// Deletes old pods as far as the bounds allow, and notes when all have been restarted.
pub(super) fn reconcile(sync: &mut Sync<'_>) -> Option<Duration> {
    let wanted = sync.spec.restart_at.clone()?;
    if sync.before.restarted_at.as_ref() == Some(&wanted) {
        return None;
    }
    let at = meta::time(&Value::from(wanted))?;
    let now = sync.objects.now();
    if at > now {
        return Duration::try_from(at.duration_since(now)).ok();
    }
    let mut old: Vec<Arc<Value>> = Vec::new();
    for set in sync.all_sets() {
        let all = pods::of(sync.objects, &set.object);
        old.extend(all.into_iter().filter(|pod| {
            let created = meta::time(&pod["metadata"]["creationTimestamp"]);
            pods::is_active(pod) && created.is_some_and(|created| created < at)
        }));
    }
    if old.is_empty() {
        sync.set_restarted();
        return None;
    }
    let available: i64 = sync.all_sets().iter().map(|set| set.available).sum();
    let spare = available - (sync.spec.replicas - sync.spec.max_unavailable.max(1));
    let ready_old = usize::try_from(spare.max(0)).unwrap_or(0);
    pods::deletion_order(&mut old);
    for pod in old.iter().take(ready_old) {
        pods::delete(sync.objects, pod);
    }
    Some(AGAIN)
}
