//! PodDisruptionBudgets: how many pods may be disrupted now.

use async_trait::async_trait;
use serde_json::json;

use crate::sim::{
    objects::{Objects, WatchEvent},
    resource::{POD_DISRUPTION_BUDGETS, PODS},
};

use super::{
    meta, pods,
    queue::{Next, ObjectKey, Reconciler},
};

/// The controller of PodDisruptionBudgets.
#[derive(Debug)]
pub(super) struct DisruptionBudgets;

#[async_trait]
impl Reconciler for DisruptionBudgets {
    fn wants(&self, objects: &Objects, event: &WatchEvent) -> Vec<ObjectKey> {
        if *event.resource == POD_DISRUPTION_BUDGETS {
            return vec![meta::key(&event.object)];
        }
        if *event.resource != PODS {
            return Vec::new();
        }
        let budgets = objects
            .list(&POD_DISRUPTION_BUDGETS, Some(meta::namespace(&event.object)))
            .items;
        let labels = &event.object["metadata"]["labels"];
        budgets
            .iter()
            .filter(|budget| meta::selects(&budget["spec"]["selector"], labels))
            .map(|budget| meta::key(budget))
            .collect()
    }

    async fn reconcile(&self, objects: &Objects, (namespace, name): &ObjectKey) -> Next {
        let Some(budget) = objects.get(&POD_DISRUPTION_BUDGETS, namespace, name) else {
            return Next::Done;
        };
        let all = objects.list(&PODS, Some(namespace)).items;
        let selector = &budget["spec"]["selector"];
        let covered = all
            .iter()
            .filter(|pod| meta::selects(selector, &pod["metadata"]["labels"]));
        let covered: Vec<_> = covered.filter(|pod| pods::is_active(pod)).collect();
        let expected = i64::try_from(covered.len()).unwrap_or(i64::MAX);
        let healthy = covered
            .iter()
            .filter(|pod| pods::ready_since(pod).is_some())
            .count();
        let healthy = i64::try_from(healthy).unwrap_or(i64::MAX);
        let share = |field: &str| meta::share(&budget["spec"][field], expected, true);
        let desired = match (share("minAvailable"), share("maxUnavailable")) {
            (Some(least), _) => least,
            (None, Some(most)) => (expected - most).max(0),
            (None, None) => 0,
        };
        let mut written = (*budget).clone();
        written["status"] = json!({
            "observedGeneration": budget["metadata"]["generation"],
            "expectedPods": expected,
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "disruptionsAllowed": (healthy - desired).max(0),
        });
        // A budget that vanished in between needs no status.
        let _written = objects.update_status(&POD_DISRUPTION_BUDGETS, namespace, name, None, &written);
        Next::Done
    }
}
