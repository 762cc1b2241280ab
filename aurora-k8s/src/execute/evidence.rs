//! Pods that fail, and what can be told of them before a roll-back removes them.

use jiff::Timestamp;
use serde_json::Value;

use aurora_core::progress::FailingPod;

/// Waiting reasons that say that the image cannot be had.
const UNPULLABLE: [&str; 5] = [
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
];

/// Other waiting reasons that do not go away by waiting.
const BROKEN: [&str; 5] = [
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "PostStartHookError",
    "RunContainerError",
];

/// From this many restarts on a pod is told of even in the moments in which it runs.
const TELLING_RESTARTS: u32 = 3;

/// Lines of a container's log that are kept, and characters of each.
pub(crate) const LOG_LINES: usize = 20;
const LOG_WIDTH: usize = 300;

/// Characters of a message that are kept.
const MESSAGE: usize = 500;

/// Which end of which container a log belongs to.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct LogKey {
    pub(crate) pod: String,
    pub(crate) container: String,
    pub(crate) restarts: u32,
}

impl LogKey {
    /// The log that belongs to a failure, if a container has ended there.
    pub(crate) fn of(failing: &FailingPod) -> Option<Self> {
        failing.exit_code.map(|_| Self {
            pod: failing.pod.clone(),
            container: failing.container.clone(),
            restarts: failing.restarts,
        })
    }
}

/// The failing ones among pods of the new revision, by name.
pub(crate) fn failing<'p>(pods: impl IntoIterator<Item = &'p Value>, now: Timestamp) -> Vec<FailingPod> {
    let leaving = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_string();
    let mut found: Vec<_> = pods
        .into_iter()
        .filter(|pod| !leaving(pod))
        .filter_map(|pod| failure_of(pod, now))
        .collect();
    found.sort_by(|a, b| a.pod.cmp(&b.pod));
    found
}

fn failure_of(pod: &Value, now: Timestamp) -> Option<FailingPod> {
    let statuses = ["initContainerStatuses", "containerStatuses"];
    let containers = statuses
        .iter()
        .filter_map(|field| pod["status"][field].as_array())
        .flatten();
    containers
        .into_iter()
        .find_map(|container| container_failure(pod, container, now))
        .or_else(|| unschedulable(pod, now))
}

fn container_failure(pod: &Value, container: &Value, now: Timestamp) -> Option<FailingPod> {
    let restarts = container["restartCount"]
        .as_u64()
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or(0);
    let waiting = &container["state"]["waiting"];
    let reason = waiting["reason"].as_str().unwrap_or_default();
    let ended = [
        &container["state"]["terminated"],
        &container["lastState"]["terminated"],
    ];
    let ended = ended
        .into_iter()
        .find(|end| end["exitCode"].as_i64().is_some_and(|code| code != 0));
    let unpullable = UNPULLABLE.contains(&reason);
    let shaky = container["ready"] != true || restarts >= TELLING_RESTARTS;
    let (reason, message) = if unpullable || BROKEN.contains(&reason) {
        (reason, waiting["message"].as_str())
    } else if let Some(end) = ended.filter(|_| shaky) {
        (end["reason"].as_str().unwrap_or("Error"), end["message"].as_str())
    } else {
        return None;
    };
    let exit_code = ended
        .and_then(|end| end["exitCode"].as_i64())
        .and_then(|code| i32::try_from(code).ok());
    let told = message.or_else(|| ended?["message"].as_str()).unwrap_or_default();
    let since = ended
        .and_then(|end| time(&end["finishedAt"]))
        .filter(|_| !unpullable);
    Some(FailingPod {
        pod: name(pod),
        container: container["name"].as_str().unwrap_or_default().to_owned(),
        reason: reason.to_owned(),
        restarts,
        exit_code,
        message: cut(told, MESSAGE),
        log: Vec::new(),
        since: since.or_else(|| started(pod)).unwrap_or(now),
        unpullable,
    })
}

fn unschedulable(pod: &Value, now: Timestamp) -> Option<FailingPod> {
    let conditions = pod["status"]["conditions"].as_array()?;
    let condition = conditions.iter().find(|condition| {
        condition["type"] == "PodScheduled"
            && condition["status"] == "False"
            && condition["reason"] == "Unschedulable"
    })?;
    Some(FailingPod {
        pod: name(pod),
        container: String::new(),
        reason: "Unschedulable".to_owned(),
        restarts: 0,
        exit_code: None,
        message: cut(condition["message"].as_str().unwrap_or_default(), MESSAGE),
        log: Vec::new(),
        since: time(&condition["lastTransitionTime"])
            .or_else(|| started(pod))
            .unwrap_or(now),
        unpullable: false,
    })
}

fn name(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

fn started(pod: &Value) -> Option<Timestamp> {
    time(&pod["status"]["startTime"]).or_else(|| time(&pod["metadata"]["creationTimestamp"]))
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// The last lines of a log, each cut to what is kept.
pub(crate) fn last_lines(log: &str) -> Vec<String> {
    let lines: Vec<_> = log.lines().collect();
    let first = lines.len().saturating_sub(LOG_LINES);
    lines[first..].iter().map(|line| cut(line, LOG_WIDTH)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: Value) -> Value {
        json!({"metadata": {"name": "web-1", "creationTimestamp": "2026-01-01T00:00:00Z"}, "status": status})
    }

    fn of(container: Value) -> Vec<FailingPod> {
        failing(
            [&pod(json!({"containerStatuses": [container]}))],
            Timestamp::UNIX_EPOCH,
        )
    }

    #[test]
    fn a_crash_loop_has_exit_code_restarts_and_time() {
        let found = of(json!({
            "name": "web", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T00:01:00Z"}},
        }));
        assert_eq!(found.len(), 1);
        let told = &found[0];
        assert_eq!(
            (told.reason.as_str(), told.exit_code, told.restarts),
            ("CrashLoopBackOff", Some(137), 3)
        );
        assert_eq!(told.since.to_string(), "2026-01-01T00:01:00Z");
        assert!(!told.unpullable);
    }

    #[test]
    fn what_cannot_be_pulled_is_told_since_the_pod_began() {
        for reason in ["ErrImagePull", "ImagePullBackOff"] {
            let found =
                of(json!({"name": "web", "restartCount": 0, "state": {"waiting": {"reason": reason}}}));
            assert!(found[0].unpullable, "{reason}");
            assert_eq!(found[0].since.to_string(), "2026-01-01T00:00:00Z");
        }
    }

    #[test]
    fn missing_configuration_and_no_place_are_failures_too() {
        let found = of(json!({"name": "web", "state": {"waiting": {
            "reason": "CreateContainerConfigError", "message": "configmap \"x\" not found"}}}));
        assert_eq!(found[0].message, "configmap \"x\" not found");
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"});
        let found = failing([&pod(json!({"conditions": [condition]}))], Timestamp::UNIX_EPOCH);
        assert_eq!(
            (found[0].reason.as_str(), found[0].message.as_str()),
            ("Unschedulable", "0/3 nodes")
        );
    }

    #[test]
    fn starting_running_recovered_and_leaving_pods_do_not_fail() {
        assert!(of(json!({"name": "web", "state": {"waiting": {"reason": "ContainerCreating"}}})).is_empty());
        assert!(of(json!({"name": "web", "ready": true, "state": {"running": {}}})).is_empty());
        let recovered = json!({"name": "web", "ready": true, "restartCount": 1, "state": {"running": {}},
            "lastState": {"terminated": {"exitCode": 1}}});
        assert!(of(recovered.clone()).is_empty());
        let mut shaky = recovered.clone();
        shaky["restartCount"] = json!(3);
        assert_eq!(
            of(shaky).len(),
            1,
            "three restarts are told of even while it runs"
        );
        let mut leaving = pod(
            json!({"containerStatuses": [{"name": "web", "ready": false, "restartCount": 9,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
        );
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(failing([&leaving], Timestamp::UNIX_EPOCH).is_empty());
    }

    #[test]
    fn a_log_is_cut_to_its_last_lines() {
        let log: String = (0..30)
            .map(|line| format!("{line} {}\n", "x".repeat(400)))
            .collect();
        let lines = last_lines(&log);
        assert_eq!(lines.len(), LOG_LINES);
        assert!(lines[0].starts_with("10 ") && lines.iter().all(|line| line.chars().count() == LOG_WIDTH));
    }
}
