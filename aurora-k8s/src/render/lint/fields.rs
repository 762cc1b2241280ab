//! Fields that the schema of Rollouts declares: an apply with any other is refused as a whole.

use super::Lint;
use crate::render::node::Node;

pub(super) const ROLLOUT: &[&str] = &[
    "analysis",
    "minReadySeconds",
    "paused",
    "progressDeadlineAbort",
    "progressDeadlineSeconds",
    "replicas",
    "restartAt",
    "revisionHistoryLimit",
    "rollbackWindow",
    "selector",
    "strategy",
    "template",
    "workloadRef",
];

pub(super) const STRATEGY: &[&str] = &["blueGreen", "canary"];

pub(super) const CANARY: &[&str] = &[
    "abortScaleDownDelaySeconds",
    "analysis",
    "antiAffinity",
    "canaryMetadata",
    "canaryService",
    "dynamicStableScale",
    "maxSurge",
    "maxUnavailable",
    "minPodsPerReplicaSet",
    "pingPong",
    "replicaProgressThreshold",
    "scaleDownDelayRevisionLimit",
    "scaleDownDelaySeconds",
    "stableMetadata",
    "stableService",
    "steps",
    "trafficRouting",
];

pub(super) const BLUE_GREEN: &[&str] = &[
    "abortScaleDownDelaySeconds",
    "activeMetadata",
    "activeService",
    "antiAffinity",
    "autoPromotionEnabled",
    "autoPromotionSeconds",
    "maxUnavailable",
    "postPromotionAnalysis",
    "prePromotionAnalysis",
    "previewMetadata",
    "previewReplicaCount",
    "previewService",
    "scaleDownDelayRevisionLimit",
    "scaleDownDelaySeconds",
];

pub(super) const STEP: &[&str] = &[
    "analysis",
    "experiment",
    "pause",
    "plugin",
    "setCanaryScale",
    "setHeaderRoute",
    "setMirrorRoute",
    "setWeight",
];

pub(super) const PAUSE: &[&str] = &["duration"];

pub(super) const CANARY_SCALE: &[&str] = &["matchTrafficWeight", "replicas", "weight"];

pub(super) const HEADER_ROUTE: &[&str] = &["match", "name"];

pub(super) const MIRROR_ROUTE: &[&str] = &["match", "name", "percentage"];

pub(super) const ANALYSIS: &[&str] = &[
    "analysisRunMetadata",
    "args",
    "dryRun",
    "measurementRetention",
    "startingStep",
    "templates",
];

pub(super) const EXPERIMENT: &[&str] = &[
    "analyses",
    "analysisRunMetadata",
    "dryRun",
    "duration",
    "measurementRetention",
    "scaleDownDelaySeconds",
    "templates",
];

pub(super) const EXPERIMENT_TEMPLATE: &[&str] = &[
    "metadata", "name", "replicas", "selector", "service", "specRef", "weight",
];

pub(super) const ROUTERS: &[&str] = &[
    "alb",
    "ambassador",
    "apisix",
    "appMesh",
    "istio",
    "nginx",
    "plugins",
    "smi",
    "traefik",
];

pub(super) const POD_TEMPLATE: &[&str] = &["metadata", "spec"];

pub(super) const POD: &[&str] = &[
    "activeDeadlineSeconds",
    "affinity",
    "automountServiceAccountToken",
    "containers",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "ephemeralContainers",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostUsers",
    "hostname",
    "hostnameOverride",
    "imagePullSecrets",
    "initContainers",
    "nodeName",
    "nodeSelector",
    "os",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "resourceClaims",
    "resources",
    "restartPolicy",
    "runtimeClassName",
    "schedulerName",
    "schedulingGates",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "subdomain",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
];

pub(super) const CONTAINER: &[&str] = &[
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resizePolicy",
    "resources",
    "restartPolicy",
    "restartPolicyRules",
    "securityContext",
    "startupProbe",
    "stdin",
    "stdinOnce",
    "targetContainerName",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "volumeDevices",
    "volumeMounts",
    "workingDir",
];

/// Refuses fields that are not declared, with the nearest one that is.
pub(super) fn check(node: &Node<'_>, known: &[&str], lint: &mut Lint<'_>) {
    if !node.value.is_null() && !node.value.is_object() {
        lint.error("badType", node, "is not a map of fields", "");
    }
    for (key, field) in node.entries() {
        if known.contains(&key) {
            continue;
        }
        let near = known.iter().min_by_key(|candidate| distance(key, candidate));
        let hint = match near.filter(|near| distance(key, near) <= 2 || near.eq_ignore_ascii_case(key)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", known.join(", ")),
        };
        lint.error(
            "unknownKey",
            &field,
            "is not a field that a Rollout has there",
            &hint,
        );
    }
}

/// How many letters must be put in, taken out, exchanged or swapped with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().take(64).collect(), other.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for i in 0..one.len() {
        let mut next = vec![i + 1];
        for j in 0..other.len() {
            let exchanged = row[j] + usize::from(one[i] != other[j]);
            let mut best = exchanged.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && one[i] == other[j - 1] && one[i - 1] == other[j] {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = row;
        row = next;
    }
    row[other.len()]
}
