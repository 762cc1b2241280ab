//! Where things are in a pod's spec: containers, quantities, references to configuration.

use serde_json::{Map, Value};

use super::node::Node;

/// The lists of containers, in the order in which they start.
pub(super) const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// All containers of a pod.
pub(super) fn containers<'a>(spec: &Node<'a>) -> Vec<Node<'a>> {
    CONTAINERS
        .iter()
        .flat_map(|key| spec.field(key).items())
        .collect()
}

/// Every quantity of a pod.
pub(super) fn quantities<'a>(spec: &Node<'a>) -> Vec<Node<'a>> {
    let mut found: Vec<Node<'a>> = Vec::new();
    let mut resources = |node: &Node<'a>| {
        for kind in ["limits", "requests"] {
            found.extend(node.field(kind).entries().into_iter().map(|(_, value)| value));
        }
    };
    resources(&spec.field("resources"));
    for container in containers(spec) {
        resources(&container.field("resources"));
    }
    for volume in spec.field("volumes").items() {
        resources(&volume.path(&["ephemeral", "volumeClaimTemplate", "spec", "resources"]));
    }
    for volume in spec.field("volumes").items() {
        found.extend(volume.field("emptyDir").get("sizeLimit"));
    }
    found.extend(
        spec.field("overhead")
            .entries()
            .into_iter()
            .map(|(_, value)| value),
    );
    found.extend(
        resource_fields(spec)
            .iter()
            .filter_map(|node| node.get("divisor")),
    );
    found
}

/// References to a container's own resources: in environment variables and downward volumes.
fn resource_fields<'a>(spec: &Node<'a>) -> Vec<Node<'a>> {
    let variables = containers(spec).into_iter().flat_map(|container| {
        let variables = container.field("env").items();
        variables
            .into_iter()
            .map(|variable| variable.path(&["valueFrom", "resourceFieldRef"]))
    });
    let volumes = spec.field("volumes").items();
    let files = volumes.iter().flat_map(|volume| {
        let mut items = volume.path(&["downwardAPI", "items"]).items();
        for source in volume.path(&["projected", "sources"]).items() {
            items.extend(source.path(&["downwardAPI", "items"]).items());
        }
        items.into_iter().map(|item| item.field("resourceFieldRef"))
    });
    variables
        .chain(files)
        .filter(|node| node.value.is_object())
        .collect()
}

/// Changes every quantity of a pod.
pub(super) fn each_quantity(spec: &mut Value, change: &mut dyn FnMut(&mut Value)) {
    let pointers: Vec<String> = quantities(&Node::root(spec))
        .into_iter()
        .map(|node| node.pointer)
        .collect();
    for pointer in pointers {
        if let Some(value) = spec.pointer_mut(&pointer) {
            change(value);
        }
    }
}

/// Changes every reference to a container's own resources.
pub(super) fn each_resource_field(spec: &mut Value, change: &mut dyn FnMut(&mut Map<String, Value>)) {
    let pointers: Vec<String> = resource_fields(&Node::root(spec))
        .into_iter()
        .map(|node| node.pointer)
        .collect();
    for pointer in pointers {
        if let Some(reference) = spec.pointer_mut(&pointer).and_then(Value::as_object_mut) {
            change(reference);
        }
    }
}

/// Kinds of volumes whose driver logs in with a Secret that `secretRef` names.
const DRIVERS_WITH_SECRETS: [&str; 7] = [
    "cephfs",
    "cinder",
    "flexVolume",
    "iscsi",
    "rbd",
    "scaleIO",
    "storageos",
];

/// A place in a pod's spec that names a `ConfigMap` or Secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Reference {
    /// `ConfigMap` or `Secret`.
    pub(super) kind: &'static str,
    /// The name.
    pub(super) name: String,
    /// Where in the pod's spec the name stands.
    pub(super) pointer: String,
    /// The pod starts without it, too.
    pub(super) optional: bool,
}

/// Every `ConfigMap` and Secret that a pod names.
pub(super) fn references(spec: &Node<'_>) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut take = |kind: &'static str, holder: &Node<'_>, key: &str| {
        if let Some(name) = holder.name(key) {
            found.push(Reference {
                kind,
                name: name.to_owned(),
                pointer: holder.pointer_of(key),
                optional: holder.is_set("optional"),
            });
        }
    };
    for volume in spec.field("volumes").items() {
        take("ConfigMap", &volume.field("configMap"), "name");
        take("Secret", &volume.field("secret"), "secretName");
        take("Secret", &volume.field("azureFile"), "secretName");
        take("Secret", &volume.path(&["csi", "nodePublishSecretRef"]), "name");
        for driver in DRIVERS_WITH_SECRETS {
            take("Secret", &volume.path(&[driver, "secretRef"]), "name");
        }
        for source in volume.path(&["projected", "sources"]).items() {
            take("ConfigMap", &source.field("configMap"), "name");
            take("Secret", &source.field("secret"), "name");
        }
    }
    for container in containers(spec) {
        for variable in container.field("env").items() {
            take(
                "ConfigMap",
                &variable.path(&["valueFrom", "configMapKeyRef"]),
                "name",
            );
            take("Secret", &variable.path(&["valueFrom", "secretKeyRef"]), "name");
        }
        for source in container.field("envFrom").items() {
            take("ConfigMap", &source.field("configMapRef"), "name");
            take("Secret", &source.field("secretRef"), "name");
        }
    }
    for secret in spec.field("imagePullSecrets").items() {
        take("Secret", &secret, "name");
    }
    found
}
