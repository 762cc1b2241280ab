//! What the API server does to an object between the request and the storage: defaults and validation.

use serde_json::{Value, json};

use super::error::ApiError;
use crate::sim::Resource;
use crate::sim::fields::{Ty, mistakes, nulls};

/// A field and what is wrong with it.
type Problem = (String, String);

/// Tells whether the kind is described by a CustomResourceDefinition in a real cluster.
pub(crate) fn is_custom(resource: &Resource) -> bool {
    resource.group.contains('.') && !resource.group.ends_with(".k8s.io")
}

/// Fills in the defaults that the kind has, as far as a client can notice them.
pub(crate) fn default(resource: &Resource, object: &mut Value) {
    let template = "/spec/template/spec";
    match (resource.group.as_ref(), resource.kind.as_ref()) {
        ("", "Pod") => pod_spec(object.pointer_mut("/spec")),
        ("", "Service") => service(object.pointer_mut("/spec")),
        ("", "Secret") => secret(object),
        ("apps", "Deployment") => {
            deployment(object.pointer_mut("/spec"));
            pod_spec(object.pointer_mut(template));
        }
        ("apps", "ReplicaSet" | "StatefulSet") => {
            absent(object.pointer_mut("/spec"), "replicas", json!(1));
            pod_spec(object.pointer_mut(template));
        }
        ("apps", "DaemonSet") | ("batch", "Job") => pod_spec(object.pointer_mut(template)),
        ("batch", "CronJob") => pod_spec(object.pointer_mut("/spec/jobTemplate/spec/template/spec")),
        // The CRD has no other default.
        ("argoproj.io", "Rollout") => containers(object.pointer_mut(template), port_protocols),
        _ => {}
    }
}

/// Takes nulls out of built-in kinds, as decoding into their types does, and out of all metadata.
pub(crate) fn drop_nulls(resource: &Resource, object: &mut Value) {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|_, below| !below.is_null());
                map.values_mut().for_each(walk);
            }
            Value::Array(list) => list.iter_mut().for_each(walk),
            _ => {}
        }
    }
    if is_custom(resource) {
        if let Some(metadata) = object.get_mut("metadata") {
            walk(metadata);
        }
    } else {
        walk(object);
    }
}

/// Checks an object that is about to be created, or to replace `live`.
pub(crate) fn validate(
    resource: &Resource,
    live: Option<&Value>,
    object: &Value,
    ty: Ty,
) -> Result<(), ApiError> {
    let mut problems = not_objects(object);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if live.is_none() && !name.is_empty() && !is_name(resource, name) {
        problems.push((
            "metadata.name".to_owned(),
            format!(
                "Invalid value: \"{name}\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
                 characters, '-' or '.', and must start and end with an alphanumeric character"
            ),
        ));
    }
    problems.extend(mistakes(object, ty));
    if is_custom(resource) {
        problems.extend(nulls(object, ty).into_iter().map(|(field, wanted)| {
            let problem =
                format!("Invalid value: \"null\": {field} in body must be of type {wanted}: \"null\"");
            (field, problem)
        }));
    }
    match (resource.group.as_ref(), resource.kind.as_ref()) {
        ("argoproj.io", "Rollout") => rollout(live, object, &mut problems),
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") => {
            workload(live, object, &mut problems)
        }
        ("", "Service") => cluster_address(live, object, &mut problems),
        ("", "ConfigMap" | "Secret") => immutable_data(live, object, &mut problems),
        _ => {}
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(resource, name, &problems))
    }
}

/// Checks an object whose status is about to be replaced.
pub(crate) fn validate_status(resource: &Resource, object: &Value, ty: Ty) -> Result<(), ApiError> {
    let mut problems = not_objects(object);
    problems.extend(
        mistakes(object, ty)
            .into_iter()
            .filter(|(field, _)| field.starts_with("status")),
    );
    if problems.is_empty() {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Err(ApiError::invalid(resource, name, &problems))
}

/// No kind has a `spec` or a `status` that is something else than an object.
fn not_objects(object: &Value) -> Vec<Problem> {
    ["spec", "status"]
        .into_iter()
        .filter_map(|field| {
            let value = object.get(field)?;
            (!value.is_object() && !value.is_null()).then(|| {
                let problem = format!("Invalid value: {value}: {field} in body must be of type object");
                (field.to_owned(), problem)
            })
        })
        .collect()
}

/// Keeps what the cluster assigned when a client replaces an object without repeating it.
pub(crate) fn keep_assigned(resource: &Resource, live: &Value, object: &mut Value) {
    if resource.group.is_empty() && resource.kind == "Service" && object["spec"]["type"] != "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = live["spec"].get(field) {
                absent(object.pointer_mut("/spec"), field, value.clone());
            }
        }
    }
}

fn absent(value: Option<&mut Value>, field: &str, fallback: Value) {
    if let Some(map) = value.and_then(Value::as_object_mut) {
        let held = map.entry(field).or_insert(Value::Null);
        if held.is_null() {
            *held = fallback;
        }
    }
}

fn deployment(mut spec: Option<&mut Value>) {
    for (field, fallback) in [
        ("progressDeadlineSeconds", json!(600)),
        ("replicas", json!(1)),
        ("revisionHistoryLimit", json!(10)),
        ("strategy", json!({})),
    ] {
        absent(spec.as_deref_mut(), field, fallback);
    }
    let Some(strategy) = spec.and_then(|spec| spec.get_mut("strategy")) else {
        return;
    };
    absent(Some(&mut *strategy), "type", json!("RollingUpdate"));
    if strategy["type"] == "RollingUpdate" {
        absent(Some(&mut *strategy), "rollingUpdate", json!({}));
        absent(strategy.get_mut("rollingUpdate"), "maxSurge", json!("25%"));
        absent(strategy.get_mut("rollingUpdate"), "maxUnavailable", json!("25%"));
    }
}

fn pod_spec(mut spec: Option<&mut Value>) {
    for (field, fallback) in [
        ("dnsPolicy", json!("ClusterFirst")),
        ("restartPolicy", json!("Always")),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
        ("terminationGracePeriodSeconds", json!(30)),
    ] {
        absent(spec.as_deref_mut(), field, fallback);
    }
    containers(spec, |container| {
        let image = container["image"].as_str().unwrap_or_default();
        let tag = image.rsplit('/').next().and_then(|last| last.split_once(':'));
        let latest = tag.is_none_or(|(_, tag)| tag == "latest") && !image.contains('@');
        let pull = if latest { "Always" } else { "IfNotPresent" };
        absent(Some(&mut *container), "imagePullPolicy", json!(pull));
        absent(Some(&mut *container), "resources", json!({}));
        absent(
            Some(&mut *container),
            "terminationMessagePath",
            json!("/dev/termination-log"),
        );
        absent(Some(&mut *container), "terminationMessagePolicy", json!("File"));
        port_protocols(container);
    });
}

fn containers(spec: Option<&mut Value>, mut each: impl FnMut(&mut Value)) {
    let Some(spec) = spec.and_then(Value::as_object_mut) else {
        return;
    };
    for list in ["initContainers", "containers"] {
        let items = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in items.into_iter().flatten().filter(|it| it.is_object()) {
            each(container);
        }
    }
}

fn port_protocols(container: &mut Value) {
    let ports = container.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten() {
        absent(Some(port), "protocol", json!("TCP"));
    }
}

fn service(mut spec: Option<&mut Value>) {
    absent(spec.as_deref_mut(), "type", json!("ClusterIP"));
    absent(spec.as_deref_mut(), "sessionAffinity", json!("None"));
    let external = spec.as_deref().is_some_and(|spec| spec["type"] == "ExternalName");
    if !external {
        absent(spec.as_deref_mut(), "internalTrafficPolicy", json!("Cluster"));
        absent(spec.as_deref_mut(), "ipFamilies", json!(["IPv4"]));
        absent(spec.as_deref_mut(), "ipFamilyPolicy", json!("SingleStack"));
    }
    let ports = spec
        .and_then(|spec| spec.get_mut("ports"))
        .and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter(|it| it.is_object()) {
        let number = port["port"].clone();
        absent(Some(&mut *port), "protocol", json!("TCP"));
        absent(Some(port), "targetPort", number);
    }
}

/// `stringData` is a convenience of writers: it is stored as `data`.
fn secret(object: &mut Value) {
    use base64::Engine as _;
    let Some(map) = object.as_object_mut() else {
        return;
    };
    map.entry("type").or_insert(json!("Opaque"));
    let Some(Value::Object(texts)) = map.remove("stringData") else {
        return;
    };
    let data = map.entry("data").or_insert(json!({}));
    let Some(data) = data.as_object_mut() else {
        return;
    };
    for (name, text) in texts {
        let text = text.as_str().unwrap_or_default();
        let text = base64::engine::general_purpose::STANDARD.encode(text);
        data.insert(name, text.into());
    }
}

fn is_name(resource: &Resource, name: &str) -> bool {
    // Names of roles may hold nearly anything.
    if resource.group == "rbac.authorization.k8s.io" {
        return !name.contains(['/', '%']);
    }
    name.len() <= 253
        && name
            .chars()
            .all(|at| at.is_ascii_lowercase() || at.is_ascii_digit() || matches!(at, '-' | '.'))
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.'])
}

fn negative(object: &Value, field: &str, problems: &mut Vec<Problem>, problem: &str) {
    if let Some(value) = object["spec"][field].as_i64().filter(|value| *value < 0) {
        problems.push((
            format!("spec.{field}"),
            format!("Invalid value: {value}: {problem}"),
        ));
    }
}

fn rollout(live: Option<&Value>, object: &Value, problems: &mut Vec<Problem>) {
    negative(object, "replicas", problems, "should be a non-negative integer");
    if let Some(live) = live
        && live["spec"].get("selector") != object["spec"].get("selector")
        && !live["spec"]["selector"].is_null()
    {
        problems.push((
            "spec.selector".to_owned(),
            "Invalid value: \"object\": .spec.selector is immutable".to_owned(),
        ));
    }
}

fn workload(live: Option<&Value>, object: &Value, problems: &mut Vec<Problem>) {
    negative(object, "replicas", problems, "must be greater than or equal to 0");
    let selector = &object["spec"]["selector"];
    if selector.is_null() {
        problems.push(("spec.selector".to_owned(), "Required value".to_owned()));
    } else if let Some(live) = live
        && live["spec"]["selector"] != *selector
    {
        problems.push((
            "spec.selector".to_owned(),
            format!("Invalid value: {selector}: field is immutable"),
        ));
    } else if let Some(wanted) = selector["matchLabels"].as_object() {
        let labels = &object["spec"]["template"]["metadata"]["labels"];
        if wanted.iter().any(|(name, value)| labels.get(name) != Some(value)) {
            problems.push((
                "spec.template.metadata.labels".to_owned(),
                format!("Invalid value: {labels}: `selector` does not match template `labels`"),
            ));
        }
    }
    let containers = object["spec"]["template"]["spec"]["containers"].as_array();
    if containers.is_some_and(Vec::is_empty) {
        problems.push((
            "spec.template.spec.containers".to_owned(),
            "Required value".to_owned(),
        ));
    }
}

fn cluster_address(live: Option<&Value>, object: &Value, problems: &mut Vec<Problem>) {
    let held = live.map_or(&Value::Null, |live| &live["spec"]["clusterIP"]);
    let wanted = &object["spec"]["clusterIP"];
    if !held.is_null() && held != wanted && object["spec"]["type"] != "ExternalName" {
        problems.push((
            "spec.clusterIPs[0]".to_owned(),
            format!("Invalid value: [{wanted}]: may not change once set"),
        ));
    }
}

fn immutable_data(live: Option<&Value>, object: &Value, problems: &mut Vec<Problem>) {
    let Some(live) = live.filter(|live| live["immutable"] == true) else {
        return;
    };
    for field in ["data", "binaryData"] {
        if live.get(field) != object.get(field) {
            let problem = "Forbidden: field is immutable when `immutable` is set";
            problems.push((field.to_owned(), problem.to_owned()));
        }
    }
    if object["immutable"] != true {
        let problem = "Forbidden: field is immutable when `immutable` is set";
        problems.push(("immutable".to_owned(), problem.to_owned()));
    }
}
