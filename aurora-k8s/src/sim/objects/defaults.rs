//! The defaults of the API server that controllers rely on.

use serde_json::{Value, json};

use crate::sim::resource::{self, Resource};

/// Fills in what the API server would, at creation; `serial` numbers cluster addresses.
pub(super) fn fill(resource: &Resource, value: &mut Value, serial: u64) {
    if resource == &resource::NAMESPACES {
        fill_namespace(value);
    } else if resource == &resource::PODS {
        value["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
    } else if resource == &resource::SERVICES {
        fill_service(value, serial);
    } else if resource == &resource::DEPLOYMENTS
        || resource == &resource::STATEFUL_SETS
        || resource == &resource::REPLICA_SETS
    {
        default(value, "/spec", "replicas", json!(1));
    } else if resource == &resource::JOBS {
        default(value, "/spec", "completions", json!(1));
        default(value, "/spec", "parallelism", json!(1));
        default(value, "/spec", "backoffLimit", json!(6));
    } else if resource == &resource::PERSISTENT_VOLUME_CLAIMS {
        value["status"] = json!({"phase": "Pending"});
    }
}

fn fill_namespace(value: &mut Value) {
    let name = value["metadata"]["name"].clone();
    value["spec"] = json!({"finalizers": ["kubernetes"]});
    value["status"] = json!({"phase": "Active"});
    if let Some(metadata) = value["metadata"].as_object_mut()
        && let Some(labels) = metadata
            .entry("labels")
            .or_insert_with(|| json!({}))
            .as_object_mut()
    {
        labels.insert("kubernetes.io/metadata.name".into(), name);
    }
}

fn fill_service(value: &mut Value, serial: u64) {
    if !value["spec"].is_object() {
        value["spec"] = json!({});
    }
    default(value, "/spec", "type", json!("ClusterIP"));
    if value["spec"]["type"] != "ExternalName" {
        // 10.0.0.1 and 10.0.0.2 are never given away, as in a real cluster.
        let address = format!(
            "10.{}.{}.{}",
            serial / 64_000 % 256,
            serial / 250 % 256,
            serial % 250 + 3
        );
        default(value, "/spec", "clusterIP", json!(address));
        let address = value["spec"]["clusterIP"].clone();
        default(value, "/spec", "clusterIPs", json!([address]));
    }
    default(value, "/spec", "sessionAffinity", json!("None"));
    for port in value["spec"]["ports"].as_array_mut().into_iter().flatten() {
        default(port, "", "protocol", json!("TCP"));
        let number = port["port"].clone();
        default(port, "", "targetPort", number);
    }
    value["status"] = json!({"loadBalancer": {}});
}

fn default(value: &mut Value, place: &str, field: &str, fallback: Value) {
    if let Some(members) = value.pointer_mut(place).and_then(Value::as_object_mut) {
        members.entry(field).or_insert(fallback);
    }
}
