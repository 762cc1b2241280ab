//! The form that an object takes when a Go controller reads it and writes it back: zero values vanish,
//! quantities are normalised.

use serde_json::Value;

/// Members whose zero value is kept, because Go holds them by pointer or without `omitempty`.
const KEPT: &[&str] = &[
    "replicas",
    "setWeight",
    "defaultMode",
    "revisionHistoryLimit",
    "terminationGracePeriodSeconds",
    "runAsUser",
    "runAsGroup",
    "runAsNonRoot",
    "fsGroup",
    "privileged",
    "readOnlyRootFilesystem",
    "allowPrivilegeEscalation",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "optional",
    "mode",
    "progressDeadlineSeconds",
    "scaleDownDelaySeconds",
    "abortScaleDownDelaySeconds",
    "autoPromotionEnabled",
    "previewReplicaCount",
    "scaleDownDelayRevisionLimit",
    "hostUsers",
    "shareProcessNamespace",
    "priority",
    "tolerationSeconds",
    "maxSurge",
    "maxUnavailable",
    "duration",
    "port",
    "weight",
    "service",
];

/// Members whose content is the user's own map and is left alone.
const MAPS: &[&str] = &["annotations", "labels", "matchLabels", "nodeSelector"];

/// Members that stay although they are empty objects, because Go holds them by pointer or as structs.
const KEPT_EMPTY: &[&str] = &[
    "resources",
    "emptyDir",
    "securityContext",
    "pause",
    "activeMetadata",
    "blueGreen",
    "canaryMetadata",
    "previewMetadata",
    "stableMetadata",
    "metadata",
    "strategy",
    "canary",
    "podAntiAffinity",
    "podAffinity",
    "selector",
    "lifecycle",
    "affinity",
    "spec",
];

/// Rewrites a Rollout's `spec`.
pub(super) fn rollout_spec(spec: &mut Value) {
    let Some(members) = spec.as_object_mut() else {
        return;
    };
    if let Some(held) = members.get_mut("template") {
        template(held);
    }
    if let Some(strategy) = members.get_mut("strategy") {
        prune(strategy);
    }
    members.retain(|name, value| KEPT.contains(&name.as_str()) || !is_zero(value));
}

/// Rewrites a pod template.
pub(super) fn template(template: &mut Value) {
    let containers = ["/spec/containers", "/spec/initContainers"];
    for place in containers {
        for container in template
            .pointer_mut(place)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Some(held) = container.get_mut("resources") {
                resources(held);
            }
        }
    }
    for volume in template
        .pointer_mut("/spec/volumes")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(limit) = volume.pointer_mut("/emptyDir/sizeLimit") {
            normalise(limit);
        }
    }
    prune(template);
}

fn resources(resources: &mut Value) {
    let mut invalid = false;
    for list in ["limits", "requests"] {
        let quantities = resources.get_mut(list).and_then(Value::as_object_mut);
        for (_, quantity) in quantities.into_iter().flatten() {
            invalid |= !normalise(quantity);
        }
    }
    if invalid {
        *resources = Value::Object(serde_json::Map::new());
    }
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                if !MAPS.contains(&name.as_str()) {
                    prune(member);
                }
            }
            members.retain(|name, member| {
                let kept = KEPT.contains(&name.as_str()) && !member.is_null();
                let kept_empty = KEPT_EMPTY.contains(&name.as_str()) && member.is_object();
                kept || kept_empty || !is_zero(member)
            });
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

/// Writes a quantity as Kubernetes would; `false` when it is none.
fn normalise(quantity: &mut Value) -> bool {
    let text = match &*quantity {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return false,
    };
    let Some(canonical) = canonical_quantity(&text) else {
        return false;
    };
    *quantity = canonical.into();
    true
}

const BINARY: &[(&str, i128)] = &[
    ("Ei", 1 << 60),
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
];
const DECIMAL: &[(&str, i128)] = &[
    ("E", 1_000_000_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];

/// The canonical form: the largest suffix of the same base with which the number is whole.
fn canonical_quantity(text: &str) -> Option<String> {
    let split = text
        .find(|it: char| it.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let factor = match suffix {
        "" => 1_000,
        "m" => 1,
        _ => 1_000 * BINARY.iter().chain(DECIMAL).find(|(name, _)| *name == suffix)?.1,
    };
    let milli = in_milli(number, factor)?;
    if milli % 1_000 != 0 {
        return Some(format!("{milli}m"));
    }
    let whole = milli / 1_000;
    let binary = suffix.ends_with('i');
    let table = if binary { BINARY } else { DECIMAL };
    let unit = table.iter().find(|(_, size)| whole != 0 && whole % size == 0);
    Some(unit.map_or_else(
        || whole.to_string(),
        |(name, size)| format!("{}{name}", whole / size),
    ))
}

fn in_milli(number: &str, factor: i128) -> Option<i128> {
    let (negative, digits) = number
        .strip_prefix('-')
        .map_or((false, number), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 12 || whole.len() > 18 {
        return None;
    }
    let mut scaled: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse::<u64>().ok()?.into()
    };
    scaled = scaled.checked_mul(factor)?;
    let mut unit = factor;
    let mut rest = 0;
    for digit in fraction.chars() {
        let digit = i128::from(digit.to_digit(10)?);
        rest += digit * unit % 10;
        scaled += digit * unit / 10;
        unit /= 10;
    }
    // A part smaller than a thousandth is rounded up.
    scaled += i128::from(rest > 0 && unit == 0);
    Some(if negative { -scaled } else { scaled })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{canonical_quantity, rollout_spec};

    #[test]
    fn quantities_take_the_form_seen_in_a_real_cluster() {
        let cases = [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1", "1"),
            ("1024Mi", "1Gi"),
            ("0.5Gi", "512Mi"),
            ("1073741824", "1073741824"),
            ("500m", "500m"),
            ("0", "0"),
            ("1Gi", "1Gi"),
            ("64Mi", "64Mi"),
            ("2000k", "2M"),
            ("1.5", "1500m"),
        ];
        for (sent, held) in cases {
            assert_eq!(canonical_quantity(sent).as_deref(), Some(held), "{sent}");
        }
        assert_eq!(canonical_quantity("abc"), None);
        assert_eq!(canonical_quantity(""), None);
    }

    #[test]
    fn zero_values_go_and_pointers_stay() {
        let mut spec = json!({
            "replicas": 0, "minReadySeconds": 0, "paused": false, "progressDeadlineAbort": false,
            "template": {
                "metadata": {"labels": {"app": "web"}, "annotations": {}},
                "spec": {"hostNetwork": false, "securityContext": {}, "containers": [{
                    "name": "web", "image": "ok:1", "env": [], "command": [],
                    "resources": {"requests": {"cpu": "1000m"}, "limits": {"cpu": "2"}},
                }]},
            },
            "strategy": {"canary": {"maxSurge": "25%", "steps": [{"setWeight": 0}, {"pause": {}}]}},
        });
        rollout_spec(&mut spec);
        assert_eq!(
            spec,
            json!({
                "replicas": 0,
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"securityContext": {}, "containers": [{
                        "name": "web", "image": "ok:1",
                        "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}},
                    }]},
                },
                "strategy": {"canary": {"maxSurge": "25%", "steps": [{"setWeight": 0}, {"pause": {}}]}},
            })
        );
    }

    #[test]
    fn canonical_spec_stays_as_it_is() {
        let spec = json!({
            "replicas": 2, "selector": {"matchLabels": {"app": ""}},
            "template": {
                "metadata": {"labels": {"app": ""}, "annotations": {"empty": ""}},
                "spec": {"containers": [{"name": "web", "image": "ok:1"}], "volumes": [{"name": "v", "emptyDir": {}}]},
            },
            "strategy": {"canary": {"steps": [{"pause": {"duration": "60s"}}]}},
        });
        let mut rewritten = spec.clone();
        rollout_spec(&mut rewritten);
        assert_eq!(rewritten, spec);
    }

    #[test]
    fn invalid_quantity_empties_the_resources() {
        let mut spec = json!({"template": {"spec": {"containers": [
            {"name": "web", "resources": {"requests": {"cpu": "abc", "memory": "1Gi"}}},
        ]}}});
        rollout_spec(&mut spec);
        assert_eq!(spec["template"]["spec"]["containers"][0]["resources"], json!({}));
    }

    #[cfg(feature = "render")]
    #[test]
    fn a_rendered_rollout_stays_as_it_is() {
        use aurora_core::manifest::{Manifest, Origin};
        use aurora_core::port::renderer::{ManifestRenderer as _, laws};

        let mut request = laws::sample();
        request.manifests.push(Manifest::new(
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "full"},
                "spec": {
                    "replicas": 0, "minReadySeconds": 0, "paused": false, "revisionHistoryLimit": 0,
                    "selector": {"matchLabels": {"app": "full"}},
                    "strategy": {"rollingUpdate": {"maxUnavailable": 0}},
                    "template": {
                        "metadata": {"labels": {"app": "full"}, "annotations": {}},
                        "spec": {
                            "hostNetwork": false, "nodeSelector": {}, "terminationGracePeriodSeconds": 0,
                            "automountServiceAccountToken": false, "securityContext": {}, "serviceAccountName": "",
                            "containers": [{
                                "name": "full", "image": "ok:1", "command": [], "env": [{"name": "A", "value": ""}],
                                "ports": [{"containerPort": 80, "hostPort": 0}],
                                "livenessProbe": {"tcpSocket": {"port": 80}, "initialDelaySeconds": 0},
                                "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": 0.5}},
                                "securityContext": {"privileged": false, "runAsUser": 0},
                                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp", "readOnly": false}],
                            }],
                            "initContainers": [{"name": "init", "image": "ok:1"}],
                            "tolerations": [{"key": "a", "value": "", "effect": "NoExecute", "tolerationSeconds": 0}],
                            "volumes": [{"name": "tmp", "emptyDir": {"medium": "", "sizeLimit": "0.5Gi"}}],
                        },
                    },
                },
            }),
            Origin::default(),
        ));
        let plan = crate::render::ArgoRenderer.render(&request).unwrap();
        let rollouts = plan
            .objects
            .iter()
            .filter(|planned| planned.object().kind == "Rollout");
        let specs: Vec<_> = rollouts.map(|planned| planned.body["spec"].clone()).collect();
        assert_eq!(specs.len(), 3);
        for spec in specs {
            let mut written_back = spec.clone();
            rollout_spec(&mut written_back);
            assert_eq!(written_back, spec);
        }
    }
}
