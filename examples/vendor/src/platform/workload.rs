//! How far a workload is: the supervisor starts what is declared at once, and some programs crash.

use aurora_core::digest::Digest;
use aurora_core::manifest::ObjectRef;
use aurora_core::plan::Plan;
use aurora_core::progress::{FailingPod, PodCounts, Progress, Standing};
use jiff::Timestamp;
use serde_json::Value;

use super::state::Held;

/// Kinds that run something; they are never taken over from somebody else.
pub(super) fn runs(object: &ObjectRef) -> bool {
    matches!(
        object.kind.as_str(),
        "Deployment" | "Rollout" | "StatefulSet" | "DaemonSet" | "Job"
    )
}

/// The workloads of a plan that are followed.
pub(super) fn followed(plan: &Plan) -> Vec<ObjectRef> {
    let mut followed: Vec<_> = plan.objects.iter().map(|planned| planned.object()).collect();
    followed.retain(|object| object.kind == "Rollout" || plan.steps.workloads.contains(object));
    followed.sort();
    followed
}

/// The present level of a workload of a plan; `ours` tells whether the applied set lists what is there.
pub(super) fn level(object: &ObjectRef, held: Option<&Held>, plan: &Plan, ours: bool) -> Progress {
    let now = Timestamp::now();
    let mut level = Progress {
        object: object.clone(),
        standing: Standing::Missing,
        revision: String::new(),
        stable: String::new(),
        step: None,
        weight: None,
        pods: PodCounts::default(),
        expect: None,
        message: String::new(),
        failing: Vec::new(),
        observed_at: now,
    };
    let Some(held) = held else { return level };
    let template = &held.body["spec"]["template"];
    let wanted = u32::try_from(held.body["spec"]["replicas"].as_u64().unwrap_or(1)).unwrap_or(u32::MAX);
    // Levels that say the same must be equal: a time that moves by itself would be news at each look.
    let failing = crashing(object, template, held.written_at);
    let running = if failing.is_some() { 0 } else { wanted };
    level.revision = Digest::of_json(template).short(10);
    level.pods = PodCounts {
        desired: wanted,
        new: wanted,
        new_available: running,
        old: 0,
        old_available: 0,
    };
    level.standing = Standing::Done;
    if failing.is_some() {
        level.standing = Standing::Degraded;
    } else {
        level.stable.clone_from(&level.revision);
    }
    level.failing = failing.into_iter().collect();
    let planned = plan.objects.iter().find(|planned| planned.object() == *object);
    if !ours || planned.is_some_and(|planned| planned.body["spec"]["template"] != *template) {
        level.standing = Standing::ChangedElsewhere {
            by: format!("it was written by {}", held.written_by),
        };
    }
    level
}

/// A program whose image is tagged `crash` ends with exit code 1, again and again.
fn crashing(object: &ObjectRef, template: &Value, since: Timestamp) -> Option<FailingPod> {
    let containers = template["spec"]["containers"].as_array()?;
    let crashes = |container: &&Value| {
        container["image"]
            .as_str()
            .is_some_and(|image| image.ends_with(":crash"))
    };
    let container = containers.iter().find(crashes)?;
    Some(FailingPod {
        pod: format!("{}-0", object.name),
        container: container["name"].as_str().unwrap_or_default().to_owned(),
        reason: "CrashLoopBackOff".to_owned(),
        restarts: 3,
        exit_code: Some(1),
        message: "the supervisor gave it up".to_owned(),
        log: vec!["fatal: this program crashes".to_owned()],
        since,
        unpullable: false,
    })
}
