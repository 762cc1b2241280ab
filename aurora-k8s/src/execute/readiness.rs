//! Workloads without steps: when a Deployment, StatefulSet, DaemonSet or Job has what it declares.

use jiff::Timestamp;
use serde_json::Value;

use aurora_core::manifest::ObjectRef;
use aurora_core::progress::{FailingPod, PodCounts, Progress, Standing};

use super::live::covers;
use crate::argo::status::NOT_TAKEN_UP;
use crate::argo::template;

/// The present state of a workload without steps; failing pods are added by who watches pods.
pub(crate) fn progress(
    object: &ObjectRef,
    rendered: &Value,
    live: Option<&Value>,
    now: Timestamp,
) -> Progress {
    let mut progress = Progress {
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
    let Some(live) = live else {
        return progress;
    };
    progress.revision = template::digest_of(&live["spec"]["template"])
        .unwrap_or_default()
        .to_owned();
    progress.pods = pods(object, live);
    (progress.standing, progress.message) = standing(object, rendered, live);
    progress
}

fn number(value: &Value, or: u32) -> u32 {
    value
        .as_u64()
        .map_or(or, |n| u32::try_from(n).unwrap_or(u32::MAX))
}

fn pods(object: &ObjectRef, live: &Value) -> PodCounts {
    let (spec, status) = (&live["spec"], &live["status"]);
    let of = |field: &str| number(&status[field], 0);
    let (desired, all, new, available) = match object.kind.as_str() {
        "DaemonSet" => {
            let fields = [
                "desiredNumberScheduled",
                "currentNumberScheduled",
                "updatedNumberScheduled",
                "numberAvailable",
            ];
            let [desired, all, new, available] = fields.map(of);
            (desired, all, new, available)
        }
        "Job" => {
            let wanted = number(&spec["completions"], number(&spec["parallelism"], 1));
            let all = of("active") + of("succeeded");
            (wanted, all, all, of("succeeded"))
        }
        "StatefulSet" => {
            let available = number(&status["availableReplicas"], of("readyReplicas"));
            (
                number(&spec["replicas"], 1),
                of("replicas"),
                of("updatedReplicas"),
                available,
            )
        }
        _ => (
            number(&spec["replicas"], 1),
            of("replicas"),
            of("updatedReplicas"),
            of("availableReplicas"),
        ),
    };
    let old = all.saturating_sub(new);
    // The status tells only how many are available in all; old ones are counted first.
    let old_available = old.min(available);
    PodCounts {
        desired,
        new,
        new_available: available - old_available,
        old,
        old_available,
    }
}

fn condition<'l>(live: &'l Value, kind: &str) -> Option<&'l Value> {
    let conditions = live["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

fn is_true(live: &Value, kind: &str) -> bool {
    condition(live, kind).is_some_and(|condition| condition["status"] == "True")
}

fn words(live: &Value, kind: &str) -> String {
    let words = condition(live, kind).and_then(|condition| condition["message"].as_str());
    words.unwrap_or_default().to_owned()
}

fn standing(object: &ObjectRef, rendered: &Value, live: &Value) -> (Standing, String) {
    let (spec, status) = (&live["spec"], &live["status"]);
    let job = object.kind == "Job";
    if !job && status["observedGeneration"].as_i64() < live["metadata"]["generation"].as_i64() {
        return (Standing::NotObserved, NOT_TAKEN_UP.to_owned());
    }
    if !covers(&spec["template"], &rendered["spec"]["template"]) {
        let writer = template::writer_of_template(live, super::api::MANAGER);
        let by = writer.map_or_else(
            || "spec.template".to_owned(),
            |writer| format!("spec.template, written by {writer}"),
        );
        return (
            Standing::ChangedElsewhere { by },
            "spec.template is not what the plan declares".to_owned(),
        );
    }
    if spec["paused"] == true {
        return (Standing::PausedByHand, String::new());
    }
    if job && spec["suspend"] == true {
        return if rendered["spec"]["suspend"] == true {
            (Standing::Done, "it is declared suspended".to_owned())
        } else {
            (Standing::PausedByHand, "it was suspended by hand".to_owned())
        };
    }
    let failed = match object.kind.as_str() {
        "Job" => is_true(live, "Failed").then(|| failure_of_job(live)),
        _ => condition(live, "Progressing")
            .filter(|condition| condition["reason"] == "ProgressDeadlineExceeded")
            .map(|_| words(live, "Progressing")),
    };
    if let Some(message) = failed {
        return (Standing::Degraded, message);
    }
    let counts = pods(object, live);
    let done = match object.kind.as_str() {
        "Job" => is_true(live, "Complete"),
        "DaemonSet" => {
            let ready = number(&status["numberReady"], 0);
            [counts.new, counts.new + counts.old, counts.new_available, ready]
                .iter()
                .all(|n| *n == counts.desired)
        }
        "StatefulSet" => stateful_is_done(live, counts),
        _ => counts.new == counts.desired && counts.old == 0 && counts.new_available == counts.desired,
    };
    (
        if done { Standing::Done } else { Standing::Moving },
        String::new(),
    )
}

/// Why a Job gave up, in the platform's words.
fn failure_of_job(live: &Value) -> String {
    let reason = condition(live, "Failed").and_then(|condition| condition["reason"].as_str());
    let failed = number(&live["status"]["failed"], 0);
    format!(
        "the Job failed after {failed} failed pod(s): {} ({})",
        words(live, "Failed"),
        reason.unwrap_or("no reason given")
    )
}

/// Whether what fails in a pod of a workload counts against it.
///
/// A Job tries again by itself as often as it declares: until it gives up, only what no attempt can cure does.
pub(crate) fn counts(object: &ObjectRef, standing: &Standing, pod: &FailingPod) -> bool {
    let is_hopeless = pod.unpullable || (pod.exit_code.is_none() && pod.restarts == 0);
    object.kind != "Job" || *standing == Standing::Degraded || is_hopeless
}

fn stateful_is_done(live: &Value, counts: PodCounts) -> bool {
    let (spec, status) = (&live["spec"], &live["status"]);
    if number(&status["readyReplicas"], 0) != counts.desired {
        return false;
    }
    if spec["updateStrategy"]["type"] == "OnDelete" {
        return true;
    }
    let partition = number(&spec["updateStrategy"]["rollingUpdate"]["partition"], 0);
    if partition > 0 {
        return counts.new >= counts.desired.saturating_sub(partition);
    }
    status["currentRevision"] == status["updateRevision"] && counts.new == counts.desired
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn standing_of(kind: &str, live: Value) -> Standing {
        let object = ObjectRef::new("apps", kind, "shop", "x");
        let rendered = json!({"spec": {"template": {"spec": {"containers": [{"image": "x:2"}]}}}});
        let mut live = live;
        live["metadata"]["generation"] = json!(2);
        if live["spec"].get("template").is_none() {
            // The server adds defaults to what was rendered.
            live["spec"]["template"] =
                json!({"spec": {"containers": [{"image": "x:2", "imagePullPolicy": "Always"}]}});
        }
        progress(&object, &rendered, Some(&live), Timestamp::UNIX_EPOCH).standing
    }

    #[test]
    fn each_kind_is_done_when_all_its_pods_are_new_and_available() {
        let table = [
            (
                "Deployment",
                json!({"spec": {"replicas": 2}, "status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}}),
            ),
            (
                "StatefulSet",
                json!({"spec": {"replicas": 2}, "status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "currentRevision": "a", "updateRevision": "a"}}),
            ),
            (
                "DaemonSet",
                json!({"spec": {}, "status": {"observedGeneration": 2, "desiredNumberScheduled": 2, "currentNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2, "numberReady": 2}}),
            ),
            (
                "Job",
                json!({"spec": {}, "status": {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}}),
            ),
        ];
        for (kind, live) in table {
            assert_eq!(standing_of(kind, live.clone()), Standing::Done, "{kind}");
            let mut behind = live.clone();
            behind["status"]["observedGeneration"] = json!(1);
            behind["status"]["conditions"] = json!([]);
            let expected = if kind == "Job" {
                Standing::Moving
            } else {
                Standing::NotObserved
            };
            assert_eq!(standing_of(kind, behind), expected, "{kind}");
            let mut changed = live.clone();
            changed["spec"]["template"] = json!({"spec": {"containers": [{"image": "x:9"}]}});
            assert!(
                matches!(standing_of(kind, changed), Standing::ChangedElsewhere { .. }),
                "{kind}"
            );
        }
    }

    #[test]
    fn old_or_missing_pods_mean_that_it_moves() {
        let surplus = json!({"spec": {"replicas": 2}, "status": {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 3}});
        assert_eq!(standing_of("Deployment", surplus), Standing::Moving);
        let revision = json!({"spec": {"replicas": 2}, "status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "currentRevision": "a", "updateRevision": "b"}});
        assert_eq!(standing_of("StatefulSet", revision.clone()), Standing::Moving);
        let mut by_hand = revision;
        by_hand["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
        assert_eq!(standing_of("StatefulSet", by_hand), Standing::Done);
    }

    #[test]
    fn what_gave_up_is_degraded() {
        let late = json!({"spec": {}, "status": {"observedGeneration": 2, "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]}});
        assert_eq!(standing_of("Deployment", late), Standing::Degraded);
        let failed = json!({"spec": {}, "status": {"conditions": [{"type": "Failed", "status": "True"}]}});
        assert_eq!(standing_of("Job", failed), Standing::Degraded);
    }

    #[test]
    fn a_job_that_is_suspended_runs_when_it_is_resumed_or_was_never_meant_to() {
        let by_hand = json!({"spec": {"suspend": true}, "status": {}});
        assert_eq!(standing_of("Job", by_hand.clone()), Standing::PausedByHand);
        let object = ObjectRef::new("batch", "Job", "shop", "x");
        let declared = json!({"spec": {"suspend": true}});
        let seen = progress(&object, &declared, Some(&by_hand), Timestamp::UNIX_EPOCH);
        assert_eq!(seen.standing, Standing::Done);
    }

    #[test]
    fn pods_that_a_job_tries_again_do_not_count_until_it_gives_up() {
        let pod = |unpullable: bool| FailingPod {
            pod: "migrate-1".to_owned(),
            container: "migrate".to_owned(),
            reason: "Error".to_owned(),
            restarts: 4,
            exit_code: (!unpullable).then_some(1),
            message: String::new(),
            log: Vec::new(),
            since: Timestamp::UNIX_EPOCH,
            unpullable,
        };
        let job = ObjectRef::new("batch", "Job", "shop", "migrate");
        let set = ObjectRef::new("apps", "StatefulSet", "shop", "db");
        assert!(!counts(&job, &Standing::Moving, &pod(false)));
        assert!(counts(&job, &Standing::Moving, &pod(true)));
        assert!(counts(&job, &Standing::Degraded, &pod(false)));
        assert!(counts(&set, &Standing::Moving, &pod(false)));
    }
}
