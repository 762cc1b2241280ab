//! HorizontalPodAutoscalers without metrics: they keep their target between the bounds.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use crate::sim::{
    objects::{Objects, WatchEvent},
    resource::HORIZONTAL_POD_AUTOSCALERS,
};

use super::{
    meta,
    queue::{Next, ObjectKey, Reconciler},
    write,
};

/// How often a target is looked at, the first time included, as a real autoscaler does.
const PERIOD: Duration = Duration::from_secs(15);

/// The controller of HorizontalPodAutoscalers.
#[derive(Debug)]
pub(super) struct Autoscalers;

#[async_trait]
impl Reconciler for Autoscalers {
    fn latency(&self) -> Duration {
        PERIOD
    }

    fn wants(&self, _objects: &Objects, event: &WatchEvent) -> Vec<ObjectKey> {
        meta::own_or_controller(event, &HORIZONTAL_POD_AUTOSCALERS)
    }

    async fn reconcile(&self, objects: &Objects, (namespace, name): &ObjectKey) -> Next {
        let Some(scaler) = objects.get(&HORIZONTAL_POD_AUTOSCALERS, namespace, name) else {
            return Next::Done;
        };
        if meta::is_deleting(&scaler) {
            return Next::Done;
        }
        let reference = &scaler["spec"]["scaleTargetRef"];
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        let target = objects
            .resource_of_kind(text("apiVersion"), text("kind"))
            .filter(|resource| resource.has_scale)
            .and_then(|resource| Some((objects.get(&resource, namespace, text("name"))?, resource)));
        let now = objects.now();
        let mut status = scaler["status"].clone();
        if !status.is_object() {
            status = json!({});
        }
        if let Some((held, resource)) = target {
            let replicas = meta::int(&held, "/spec/replicas").unwrap_or(1);
            let least = meta::int(&scaler, "/spec/minReplicas").unwrap_or(1);
            let most = meta::int(&scaler, "/spec/maxReplicas")
                .unwrap_or(i64::MAX)
                .max(least);
            // A target scaled to nothing is left alone.
            let wanted = if replicas == 0 {
                0
            } else {
                replicas.clamp(least, most)
            };
            if wanted != replicas {
                let message =
                    format!("New size: {wanted}; reason: Current number of replicas is out of the bounds");
                write::event(
                    objects,
                    "horizontal-pod-autoscaler",
                    &scaler,
                    false,
                    "SuccessfulRescale",
                    &message,
                );
                // Tried again in the next period.
                let _scaled = write::scale(objects, &resource, namespace, text("name"), wanted);
            }
            status["currentReplicas"] = replicas.into();
            status["desiredReplicas"] = wanted.into();
            let message = "the HPA controller was able to get the target's current scale";
            meta::set_condition(
                &mut status["conditions"],
                "AbleToScale",
                "True",
                "SucceededGetScale",
                message,
                now,
            );
        } else {
            let message = "the HPA controller was unable to get the target's current scale";
            meta::set_condition(
                &mut status["conditions"],
                "AbleToScale",
                "False",
                "FailedGetScale",
                message,
                now,
            );
        }
        let mut written = (*scaler).clone();
        written["status"] = status;
        // One that vanished in between needs no status.
        let _written = objects.update_status(&HORIZONTAL_POD_AUTOSCALERS, namespace, name, None, &written);
        Next::After(PERIOD)
    }
}
