//! Objects as rows for people, as kubectl asks for them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::ApiError;
use super::request::Query;
use crate::sim::Resource;

/// How much of an object comes with its row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Include {
    Metadata,
    Nothing,
    Object,
}

impl Include {
    pub(crate) fn parse(query: &Query) -> Result<Self, ApiError> {
        match query.text("includeObject") {
            None | Some("Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::Nothing),
            Some("Object") => Ok(Self::Object),
            Some(other) => Err(ApiError::bad_request(format!(
                "unrecognized includeObject value: \"{other}\""
            ))),
        }
    }
}

/// A column: name, type, and whether only `-o wide` shows it.
type Column = (&'static str, &'static str, bool);

const NAME: Column = ("Name", "string", false);
const AGE: Column = ("Age", "string", false);

/// Makes a `Table` of the objects.
pub(crate) fn table(
    resource: &Resource,
    items: &[&Value],
    list_metadata: Value,
    include: Include,
    now: Timestamp,
) -> Value {
    let columns: Vec<Value> = columns(resource)
        .iter()
        .map(|(name, kind, wide)| {
            json!({
                "name": name,
                "type": kind,
                "format": if *name == "Name" { "name" } else { "" },
                "description": "",
                "priority": i32::from(*wide),
            })
        })
        .collect();
    let rows: Vec<Value> = items
        .iter()
        .map(|object| {
            let mut row = json!({"cells": cells(resource, object, now)});
            match include {
                Include::Metadata => row["object"] = partial(object),
                Include::Object => row["object"] = (*object).clone(),
                Include::Nothing => {}
            }
            row
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

/// The metadata of an object alone.
pub(crate) fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

fn columns(resource: &Resource) -> Vec<Column> {
    let narrow = |name| (name, "string", false);
    let number = |name| (name, "integer", false);
    let wide = |name| (name, "string", true);
    match (resource.group.as_ref(), resource.kind.as_ref()) {
        ("", "Pod") => vec![
            NAME,
            narrow("Ready"),
            narrow("Status"),
            narrow("Restarts"),
            AGE,
            wide("IP"),
            wide("Node"),
            wide("Nominated Node"),
            wide("Readiness Gates"),
        ],
        ("", "Service") => vec![
            NAME,
            narrow("Type"),
            narrow("Cluster-IP"),
            narrow("External-IP"),
            narrow("Port(s)"),
            AGE,
            wide("Selector"),
        ],
        ("", "ConfigMap") => vec![NAME, number("Data"), AGE],
        ("", "Secret") => vec![NAME, narrow("Type"), number("Data"), AGE],
        ("", "Namespace") => vec![NAME, narrow("Status"), AGE],
        ("", "Event") => vec![
            narrow("Last Seen"),
            narrow("Type"),
            narrow("Reason"),
            narrow("Object"),
            wide("Source"),
            narrow("Message"),
            wide("Count"),
            wide("Name"),
        ],
        ("apps", "Deployment") => vec![
            NAME,
            narrow("Ready"),
            number("Up-to-date"),
            number("Available"),
            AGE,
            wide("Containers"),
            wide("Images"),
            wide("Selector"),
        ],
        ("apps", "ReplicaSet") => vec![
            NAME,
            number("Desired"),
            number("Current"),
            number("Ready"),
            AGE,
            wide("Containers"),
            wide("Images"),
            wide("Selector"),
        ],
        ("apps", "StatefulSet") => vec![NAME, narrow("Ready"), AGE, wide("Containers"), wide("Images")],
        ("argoproj.io", "Rollout") => {
            vec![
                NAME,
                number("Desired"),
                number("Current"),
                number("Up-to-date"),
                number("Available"),
                AGE,
            ]
        }
        ("argoproj.io", "AnalysisRun" | "Experiment") => vec![NAME, narrow("Status"), AGE],
        ("autoscaling", "HorizontalPodAutoscaler") => {
            vec![
                NAME,
                narrow("Reference"),
                number("MinPods"),
                number("MaxPods"),
                number("Replicas"),
                AGE,
            ]
        }
        _ => vec![NAME, AGE],
    }
}

fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    let name = &object["metadata"]["name"];
    let age = json!(since(&object["metadata"]["creationTimestamp"], now));
    let (spec, status) = (&object["spec"], &object["status"]);
    let size = |field: &str| json!(object[field].as_object().map_or(0, serde_json::Map::len));
    let count = |value: &Value| json!(value.as_i64().unwrap_or(0));
    match (resource.group.as_ref(), resource.kind.as_ref()) {
        ("", "Pod") => {
            let (ready, total, restarts) = containers_ready(object);
            vec![
                name.clone(),
                json!(format!("{ready}/{total}")),
                json!(pod_state(object)),
                json!(restarts.to_string()),
                age,
                or_none(&status["podIP"]),
                or_none(&spec["nodeName"]),
                json!("<none>"),
                json!("<none>"),
            ]
        }
        ("", "Service") => vec![
            name.clone(),
            spec["type"].clone(),
            or_none(&spec["clusterIP"]),
            or_none(&spec["externalName"]),
            json!(ports(spec)),
            age,
            json!(labels(&spec["selector"])),
        ],
        ("", "ConfigMap") => vec![name.clone(), size("data"), age],
        ("", "Secret") => vec![name.clone(), object["type"].clone(), size("data"), age],
        ("", "Namespace") => vec![name.clone(), status["phase"].clone(), age],
        ("", "Event") => {
            let about = &object["involvedObject"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let last = [
                &object["lastTimestamp"],
                &object["eventTime"],
                &object["metadata"]["creationTimestamp"],
            ];
            let last = last.into_iter().find(|it| it.is_string()).unwrap_or(&Value::Null);
            vec![
                json!(since(last, now)),
                object["type"].clone(),
                object["reason"].clone(),
                json!(format!(
                    "{}/{}",
                    text(&about["kind"]).to_lowercase(),
                    text(&about["name"])
                )),
                object["source"]["component"].clone(),
                json!(text(&object["message"]).trim()),
                json!(object["count"].as_i64().unwrap_or(1).to_string()),
                name.clone(),
            ]
        }
        ("apps", "Deployment") => vec![
            name.clone(),
            json!(format!(
                "{}/{}",
                count(&status["readyReplicas"]),
                count(&spec["replicas"])
            )),
            count(&status["updatedReplicas"]),
            count(&status["availableReplicas"]),
            age,
            json!(containers(object, "name")),
            json!(containers(object, "image")),
            json!(labels(&spec["selector"]["matchLabels"])),
        ],
        ("apps", "ReplicaSet") => vec![
            name.clone(),
            count(&spec["replicas"]),
            count(&status["replicas"]),
            count(&status["readyReplicas"]),
            age,
            json!(containers(object, "name")),
            json!(containers(object, "image")),
            json!(labels(&spec["selector"]["matchLabels"])),
        ],
        ("apps", "StatefulSet") => vec![
            name.clone(),
            json!(format!(
                "{}/{}",
                count(&status["readyReplicas"]),
                count(&spec["replicas"])
            )),
            age,
            json!(containers(object, "name")),
            json!(containers(object, "image")),
        ],
        ("argoproj.io", "Rollout") => vec![
            name.clone(),
            spec["replicas"].clone(),
            status["replicas"].clone(),
            status["updatedReplicas"].clone(),
            status["availableReplicas"].clone(),
            age,
        ],
        ("argoproj.io", "AnalysisRun" | "Experiment") => vec![name.clone(), status["phase"].clone(), age],
        ("autoscaling", "HorizontalPodAutoscaler") => {
            let target = &spec["scaleTargetRef"];
            let text = |field: &str| target[field].as_str().unwrap_or_default();
            vec![
                name.clone(),
                json!(format!("{}/{}", text("kind"), text("name"))),
                spec["minReplicas"].clone(),
                spec["maxReplicas"].clone(),
                count(&status["currentReplicas"]),
                age,
            ]
        }
        _ => vec![name.clone(), age],
    }
}

fn or_none(value: &Value) -> Value {
    match value.as_str() {
        Some(text) if !text.is_empty() => value.clone(),
        _ => json!("<none>"),
    }
}

fn containers_ready(pod: &Value) -> (usize, usize, u64) {
    let total = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    let statuses = pod["status"]["containerStatuses"].as_array();
    let statuses: Vec<&Value> = statuses.into_iter().flatten().collect();
    let ready = statuses.iter().filter(|it| it["ready"] == true).count();
    let restarts = statuses.iter().filter_map(|it| it["restartCount"].as_u64()).sum();
    (ready, total, restarts)
}

fn pod_state(pod: &Value) -> String {
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return "Terminating".to_owned();
    }
    let statuses = pod["status"]["containerStatuses"].as_array();
    let reason = statuses.into_iter().flatten().find_map(|container| {
        let state = &container["state"];
        state["waiting"]["reason"]
            .as_str()
            .or(state["terminated"]["reason"].as_str())
    });
    reason
        .or(pod["status"]["reason"].as_str())
        .or(pod["status"]["phase"].as_str())
        .unwrap_or("Unknown")
        .to_owned()
}

fn ports(spec: &Value) -> String {
    let shown: Vec<String> = spec["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| {
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            match port["nodePort"].as_u64() {
                Some(node) => format!("{}:{node}/{protocol}", port["port"]),
                None => format!("{}/{protocol}", port["port"]),
            }
        })
        .collect();
    if shown.is_empty() {
        "<none>".to_owned()
    } else {
        shown.join(",")
    }
}

fn labels(labels: &Value) -> String {
    let shown: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    if shown.is_empty() {
        "<none>".to_owned()
    } else {
        shown.join(",")
    }
}

fn containers(object: &Value, field: &str) -> String {
    let containers = object["spec"]["template"]["spec"]["containers"].as_array();
    let shown: Vec<&str> = containers
        .into_iter()
        .flatten()
        .filter_map(|container| container[field].as_str())
        .collect();
    shown.join(",")
}

/// A span of time the way kubectl shows ages: the two largest units, less where it does not matter.
fn since(time: &Value, now: Timestamp) -> String {
    let Some(time) = time.as_str().and_then(|text| text.parse::<Timestamp>().ok()) else {
        return "<unknown>".to_owned();
    };
    let seconds = (now.as_second() - time.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |large: i64, unit: &str, small: i64, of: &str| {
        if small == 0 {
            format!("{large}{unit}")
        } else {
            format!("{large}{unit}{small}{of}")
        }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::resource;

    #[test]
    fn ages_are_as_kubectl_shows_them() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        for (time, wanted) in [
            ("2026-01-10T00:00:05Z", "0s"),
            ("2026-01-09T23:58:30Z", "90s"),
            ("2026-01-09T23:55:30Z", "4m30s"),
            ("2026-01-09T23:00:00Z", "60m"),
            ("2026-01-09T20:00:00Z", "4h"),
            ("2026-01-07T22:00:00Z", "2d2h"),
            ("2025-01-10T00:00:00Z", "365d"),
            ("nonsense", "<unknown>"),
        ] {
            assert_eq!(since(&json!(time), now), wanted, "{time}");
        }
    }

    #[test]
    fn every_row_has_a_cell_for_each_column() {
        let now = Timestamp::UNIX_EPOCH;
        for resource in resource::RESOURCES {
            let object = json!({"metadata": {"name": "a"}});
            let table = table(resource, &[&object], json!({}), Include::Metadata, now);
            assert_eq!(
                table["columnDefinitions"].as_array().unwrap().len(),
                table["rows"][0]["cells"].as_array().unwrap().len(),
                "{resource}"
            );
        }
    }

    #[test]
    fn a_crashing_pod_shows_its_reason_and_restarts() {
        let pod = json!({
            "metadata": {"name": "web-1", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "web"}]},
            "status": {"phase": "Running", "containerStatuses": [
                {"ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
            ]},
        });
        let table = table(
            &resource::PODS,
            &[&pod],
            json!({}),
            Include::Nothing,
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(
            table["rows"][0]["cells"].as_array().unwrap()[..5],
            [
                json!("web-1"),
                json!("0/1"),
                json!("CrashLoopBackOff"),
                json!("3"),
                json!("0s")
            ]
        );
        assert!(table["rows"][0].get("object").is_none());
    }
}
