//! Fields of a pod that must be there, and those that have only a few values, as tables.

use serde_json::Value;

use super::Lint;
use crate::render::node::Node;

/// Where in a pod's spec, and what must be there: `*` are members of a list, `|` separates names.
const REQUIRED: &[(&str, &[&str])] = &[
    (
        "affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution/*",
        &["weight"],
    ),
    (
        "affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution/*/preference/matchExpressions|matchFields/*",
        &["key", "operator"],
    ),
    (
        "affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution",
        &["nodeSelectorTerms"],
    ),
    (
        "affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/*/matchExpressions|matchFields/*",
        &["key", "operator"],
    ),
    (
        "affinity/podAffinity|podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/*",
        &["weight"],
    ),
    (
        "affinity/podAffinity|podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/*/podAffinityTerm",
        &["topologyKey"],
    ),
    (
        "affinity/podAffinity|podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/*",
        &["topologyKey"],
    ),
    (
        "containers/*/env/*/valueFrom/configMapKeyRef|secretKeyRef",
        &["key", "name"],
    ),
    ("containers/*/env/*/valueFrom/fieldRef", &["fieldPath"]),
    ("containers/*/env/*/valueFrom/resourceFieldRef", &["resource"]),
    ("containers/*/envFrom/*/configMapRef|secretRef", &["name"]),
    ("containers/*/lifecycle/postStart|preStop/exec", &["command"]),
    (
        "containers/*/lifecycle/postStart|preStop/httpGet|tcpSocket",
        &["port"],
    ),
    (
        "containers/*/livenessProbe|readinessProbe|startupProbe/exec",
        &["command"],
    ),
    (
        "containers/*/livenessProbe|readinessProbe|startupProbe/grpc|httpGet|tcpSocket",
        &["port"],
    ),
    (
        "containers/*/livenessProbe|readinessProbe|startupProbe/httpGet/httpHeaders/*",
        &["name"],
    ),
    ("containers/*/resizePolicy/*", &["resourceName", "restartPolicy"]),
    ("containers/*/resources/claims/*", &["name"]),
    (
        "containers/*/securityContext/appArmorProfile|seccompProfile",
        &["type"],
    ),
    ("containers/*/volumeDevices/*", &["devicePath", "name"]),
    ("dnsConfig/options/*", &["name"]),
    ("hostAliases/*", &["ip"]),
    ("os", &["name"]),
    ("readinessGates/*", &["conditionType"]),
    ("resourceClaims/*", &["name"]),
    ("securityContext/appArmorProfile|seccompProfile", &["type"]),
    ("securityContext/sysctls/*", &["name"]),
    (
        "topologySpreadConstraints/*",
        &["maxSkew", "topologyKey", "whenUnsatisfiable"],
    ),
    ("volumes/*/configMap", &["name"]),
    ("volumes/*/configMap|secret/items/*", &["key", "path"]),
    ("volumes/*/csi", &["driver"]),
    ("volumes/*/csi/nodePublishSecretRef", &["name"]),
    ("volumes/*/downwardAPI/items/*", &["path"]),
    ("volumes/*/downwardAPI/items/*/fieldRef", &["fieldPath"]),
    (
        "volumes/*/downwardAPI/items/*/resourceFieldRef",
        &["containerName", "resource"],
    ),
    ("volumes/*/ephemeral", &["volumeClaimTemplate"]),
    ("volumes/*/ephemeral/volumeClaimTemplate", &["spec"]),
    (
        "volumes/*/ephemeral/volumeClaimTemplate/spec",
        &["accessModes", "resources"],
    ),
    (
        "volumes/*/ephemeral/volumeClaimTemplate/spec/resources",
        &["requests"],
    ),
    ("volumes/*/hostPath", &["path"]),
    ("volumes/*/nfs", &["path", "server"]),
    ("volumes/*/persistentVolumeClaim", &["claimName"]),
    ("volumes/*/projected/sources/*/configMap|secret", &["name"]),
    (
        "volumes/*/projected/sources/*/configMap|secret/items/*",
        &["key", "path"],
    ),
    ("volumes/*/projected/sources/*/downwardAPI/items/*", &["path"]),
    (
        "volumes/*/projected/sources/*/downwardAPI/items/*/fieldRef",
        &["fieldPath"],
    ),
    (
        "volumes/*/projected/sources/*/downwardAPI/items/*/resourceFieldRef",
        &["containerName", "resource"],
    ),
    ("volumes/*/projected/sources/*/serviceAccountToken", &["path"]),
    ("volumes/*/secret", &["secretName"]),
];

/// Where, which field, and the values it can have.
const CHOICES: &[(&str, &str, &[&str])] = &[
    (
        "",
        "dnsPolicy",
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    ),
    ("", "preemptionPolicy", &["Never", "PreemptLowerPriority"]),
    (
        "containers/*",
        "terminationMessagePolicy",
        &["FallbackToLogsOnError", "File"],
    ),
    (
        "containers/*/lifecycle/postStart|preStop/httpGet",
        "scheme",
        &["HTTP", "HTTPS"],
    ),
    (
        "containers/*/livenessProbe|readinessProbe|startupProbe/httpGet",
        "scheme",
        &["HTTP", "HTTPS"],
    ),
    (
        "containers/*/securityContext/appArmorProfile|seccompProfile",
        "type",
        &["Localhost", "RuntimeDefault", "Unconfined"],
    ),
    (
        "containers/*/volumeMounts/*",
        "mountPropagation",
        &["Bidirectional", "HostToContainer", "None"],
    ),
    ("os", "name", &["linux", "windows"]),
    (
        "securityContext",
        "fsGroupChangePolicy",
        &["Always", "OnRootMismatch"],
    ),
    (
        "securityContext/appArmorProfile|seccompProfile",
        "type",
        &["Localhost", "RuntimeDefault", "Unconfined"],
    ),
    (
        "tolerations/*",
        "effect",
        &["NoExecute", "NoSchedule", "PreferNoSchedule"],
    ),
    (
        "topologySpreadConstraints/*",
        "whenUnsatisfiable",
        &["DoNotSchedule", "ScheduleAnyway"],
    ),
];

/// Where, and the fields of which exactly one must be there.
const ONE_OF: &[(&str, &[&str])] = &[
    (
        "containers/*/lifecycle/postStart|preStop",
        &["exec", "httpGet", "sleep", "tcpSocket"],
    ),
    (
        "volumes/*/projected/sources/*",
        &[
            "clusterTrustBundle",
            "configMap",
            "downwardAPI",
            "podCertificate",
            "secret",
            "serviceAccountToken",
        ],
    ),
    ("volumes/*/downwardAPI/items/*", &["fieldRef", "resourceFieldRef"]),
    (
        "volumes/*/projected/sources/*/downwardAPI/items/*",
        &["fieldRef", "resourceFieldRef"],
    ),
];

/// Checks the tables against a pod's spec.
pub(super) fn check(spec: &Node<'_>, lint: &mut Lint<'_>) {
    for (pattern, keys) in REQUIRED {
        for (node, key) in product(&places(spec, pattern), keys) {
            if is_empty(node.value.get(key)) {
                lint.error("missing", &node.field(key), "is missing", "");
            }
        }
    }
    for (pattern, key, values) in CHOICES {
        for node in places(spec, pattern) {
            let Some(field) = node.get(key).filter(|field| !is_empty(Some(field.value))) else {
                continue;
            };
            if !field.value.as_str().is_some_and(|text| values.contains(&text)) {
                let what = format!("is {}, which is not known", field.value);
                lint.error("badValue", &field, what, &format!("one of {}", values.join(", ")));
            }
        }
    }
    for (pattern, keys) in ONE_OF {
        for node in places(spec, pattern) {
            if keys.iter().filter(|key| node.has(key)).count() != 1 {
                let what = format!("needs exactly one of {}", keys.join(", "));
                lint.error("notOne", &node, what, "");
            }
        }
    }
    for container in spec.field("initContainers").items() {
        if container.text("restartPolicy") == Some("Always") {
            continue;
        }
        for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if let Some(field) = container.get(key) {
                let what = "cannot be used for a container that ends before the others start";
                lint.error(
                    "excludes",
                    &field,
                    what,
                    "take it out, or set restartPolicy: Always",
                );
            }
        }
    }
    for toleration in spec.field("tolerations").items() {
        if toleration.has("tolerationSeconds") && toleration.text("effect") != Some("NoExecute") {
            let what = "has a meaning only with the effect NoExecute";
            lint.error(
                "excludes",
                &toleration.field("tolerationSeconds"),
                what,
                "take it out",
            );
        }
    }
}

fn product<'n, 'a>(
    nodes: &'n [Node<'a>],
    keys: &'n [&'n str],
) -> impl Iterator<Item = (&'n Node<'a>, &'n str)> {
    nodes
        .iter()
        .flat_map(|node| keys.iter().map(move |key| (node, *key)))
}

/// What counts as absent: the zero of each type.
fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Number(number)) => number.as_i64() == Some(0),
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::Bool(_)) => false,
    }
}

/// Every object that a pattern names; what is said of containers holds for those that start first, too.
fn places<'a>(spec: &Node<'a>, pattern: &str) -> Vec<Node<'a>> {
    let mut found = follow(spec, pattern);
    if let Some(rest) = pattern.strip_prefix("containers/")
        && spec.has("initContainers")
    {
        found.extend(follow(spec, &format!("initContainers/{rest}")));
    }
    found.retain(|node| node.value.is_object());
    found
}

fn follow<'a>(spec: &Node<'a>, pattern: &str) -> Vec<Node<'a>> {
    let segments = pattern.split('/').filter(|segment| !segment.is_empty());
    let mut found = vec![spec.clone()];
    for segment in segments {
        let step = |node: &Node<'a>| match segment {
            "*" => node.items(),
            names => names.split('|').filter_map(|name| node.get(name)).collect(),
        };
        found = found.iter().flat_map(step).collect();
        if found.is_empty() {
            break;
        }
    }
    found
}
