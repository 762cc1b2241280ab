//! Jobs: pods that run to their end.

use async_trait::async_trait;
use serde_json::json;

use crate::sim::{
    objects::{Objects, WatchEvent, seconds},
    resource::JOBS,
};

use super::{
    meta, pods,
    queue::{Next, ObjectKey, Reconciler},
};

/// The controller of Jobs.
#[derive(Debug)]
pub(super) struct Jobs;

#[async_trait]
impl Reconciler for Jobs {
    fn wants(&self, _objects: &Objects, event: &WatchEvent) -> Vec<ObjectKey> {
        meta::own_or_controller(event, &JOBS)
    }

    async fn reconcile(&self, objects: &Objects, (namespace, name): &ObjectKey) -> Next {
        let Some(job) = objects.get(&JOBS, namespace, name) else {
            return Next::Done;
        };
        let over = ["Complete", "Failed"]
            .iter()
            .any(|kind| meta::condition(&job["status"]["conditions"], kind).is_some());
        if meta::is_deleting(&job) || over {
            return Next::Done;
        }
        let completions = meta::int(&job, "/spec/completions").unwrap_or(1);
        let parallelism = meta::int(&job, "/spec/parallelism").unwrap_or(1);
        let held = pods::of(objects, &job);
        let phase = |wanted: &str| {
            let count = held.iter().filter(|pod| pod["status"]["phase"] == wanted).count();
            i64::try_from(count).unwrap_or(i64::MAX)
        };
        let (succeeded, failed) = (phase("Succeeded"), phase("Failed"));
        let mut active = i64::try_from(held.iter().filter(|pod| pods::is_active(pod)).count()).unwrap_or(0);
        let spent = failed > meta::int(&job, "/spec/backoffLimit").unwrap_or(6);
        if job["spec"]["suspend"] != true && !spent {
            let missing = (completions - succeeded).min(parallelism) - active;
            for _ in 0..missing {
                if pods::create(objects, &job, &job["spec"]["template"], &format!("{name}-")).is_ok() {
                    active += 1;
                }
            }
        }
        let now = objects.now();
        let mut status = job["status"].clone();
        if !status.is_object() {
            status = json!({"startTime": seconds(now)});
        }
        for (field, count) in [
            ("active", active),
            ("succeeded", succeeded),
            ("failed", failed),
            ("ready", 0),
        ] {
            status[field] = count.into();
        }
        if succeeded >= completions {
            meta::set_condition(
                &mut status["conditions"],
                "Complete",
                "True",
                "CompletionsReached",
                "",
                now,
            );
            status["completionTime"] = seconds(now).into();
        } else if spent {
            let message = "Job has reached the specified backoff limit";
            meta::set_condition(
                &mut status["conditions"],
                "Failed",
                "True",
                "BackoffLimitExceeded",
                message,
                now,
            );
        }
        let mut written = (*job).clone();
        written["status"] = status;
        // A Job that vanished in between needs no status.
        let _written = objects.update_status(&JOBS, namespace, name, None, &written);
        Next::Done
    }
}
