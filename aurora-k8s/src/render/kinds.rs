//! What the renderer knows of each kind: its scope, its place in a plan, where its pods are described.

use aurora_core::manifest::ObjectRef;

use crate::argo;

/// Where pods are described in a kind that has them.
pub(super) fn pod_template(object: &ObjectRef) -> Option<&'static str> {
    match (object.group.as_str(), object.kind.as_str()) {
        ("apps", "DaemonSet" | "Deployment" | "StatefulSet") | ("batch", "Job") => Some("/spec/template"),
        ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template"),
        ("", "PodTemplate") => Some("/template"),
        _ if is_rollout(object) => Some("/spec/template"),
        _ => None,
    }
}

/// Whether an object is a Rollout of Argo Rollouts.
pub(super) fn is_rollout(object: &ObjectRef) -> bool {
    object.group == argo::GROUP && object.kind == argo::ROLLOUT
}

/// Whether an object is a Deployment.
pub(super) fn is_deployment(object: &ObjectRef) -> bool {
    object.group == "apps" && object.kind == "Deployment"
}

/// Whether the pods of an object run until somebody ends them.
pub(super) fn runs_for_ever(object: &ObjectRef) -> bool {
    let apps = matches!(object.kind.as_str(), "DaemonSet" | "Deployment" | "StatefulSet");
    (object.group == "apps" && apps) || is_rollout(object)
}

/// Whether an object's readiness counts for a deployment, besides that of Rollouts.
pub(super) fn is_counted(object: &ObjectRef) -> bool {
    let apps = matches!(object.kind.as_str(), "DaemonSet" | "Deployment" | "StatefulSet");
    (object.group == "apps" && apps) || (object.group == "batch" && object.kind == "Job")
}

/// Whether an object is a `ConfigMap` or a Secret.
pub(super) fn is_configuration(object: &ObjectRef) -> bool {
    object.group.is_empty() && matches!(object.kind.as_str(), "ConfigMap" | "Secret")
}

/// Whether a kind is known to live outside namespaces.
pub(super) fn is_cluster_scoped(object: &ObjectRef) -> bool {
    let kind = object.kind.as_str();
    match object.group.as_str() {
        "" => matches!(kind, "Namespace" | "Node" | "PersistentVolume"),
        "admissionregistration.k8s.io"
        | "apiregistration.k8s.io"
        | "certificates.k8s.io"
        | "flowcontrol.apiserver.k8s.io"
        | "node.k8s.io"
        | "scheduling.k8s.io" => true,
        "apiextensions.k8s.io" => kind == "CustomResourceDefinition",
        "rbac.authorization.k8s.io" => matches!(kind, "ClusterRole" | "ClusterRoleBinding"),
        "storage.k8s.io" => kind != "CSIStorageCapacity",
        "networking.k8s.io" => matches!(kind, "IngressClass" | "IPAddress" | "ServiceCIDR"),
        "gateway.networking.k8s.io" => kind == "GatewayClass",
        "policy" => kind == "PodSecurityPolicy",
        "resource.k8s.io" => matches!(kind, "DeviceClass" | "ResourceSlice"),
        "cert-manager.io" => kind == "ClusterIssuer",
        "external-secrets.io" => matches!(kind, "ClusterExternalSecret" | "ClusterSecretStore"),
        "argoproj.io" => kind == argo::CLUSTER_ANALYSIS_TEMPLATE,
        _ => false,
    }
}

/// Whether a group belongs to Kubernetes itself; all others are custom resources.
pub(super) fn is_built_in(group: &str) -> bool {
    !group.contains('.') || group.ends_with(".k8s.io") && group != "gateway.networking.k8s.io"
}

/// The place of an object in a plan: in the order in which people think of it.
pub(super) fn rank(object: &ObjectRef) -> u8 {
    match (object.group.as_str(), object.kind.as_str()) {
        ("", "Namespace") => 0,
        ("apiextensions.k8s.io", _) => 1,
        ("", "ServiceAccount") => 2,
        ("rbac.authorization.k8s.io", _) => 3,
        ("", "ConfigMap") => 4,
        ("", "Secret") => 5,
        ("", "PersistentVolumeClaim") => 6,
        ("", "Service") => 7,
        ("apps", _) | ("batch", "Job") => 9,
        ("autoscaling", "HorizontalPodAutoscaler") => 11,
        ("policy", "PodDisruptionBudget") => 12,
        ("batch", "CronJob") => 13,
        _ if is_rollout(object) => 10,
        _ => 8,
    }
}

/// The group and version that took the place of one that clusters no longer serve.
pub(super) fn successor(api_version: &str, kind: &str) -> Option<&'static str> {
    match (api_version, kind) {
        (
            "extensions/v1beta1" | "apps/v1beta1" | "apps/v1beta2",
            "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet",
        ) => Some("apps/v1"),
        (
            "extensions/v1beta1" | "networking.k8s.io/v1beta1",
            "Ingress" | "IngressClass" | "NetworkPolicy",
        ) => Some("networking.k8s.io/v1"),
        ("batch/v1beta1" | "batch/v2alpha1", "CronJob") => Some("batch/v1"),
        ("policy/v1beta1", "PodDisruptionBudget") => Some("policy/v1"),
        ("autoscaling/v2beta1" | "autoscaling/v2beta2", "HorizontalPodAutoscaler") => Some("autoscaling/v2"),
        ("rbac.authorization.k8s.io/v1beta1", _) => Some("rbac.authorization.k8s.io/v1"),
        ("apiextensions.k8s.io/v1beta1", _) => Some("apiextensions.k8s.io/v1"),
        _ => None,
    }
}

/// The group of kinds that are often written with another.
pub(super) fn home(kind: &str) -> Option<&'static str> {
    match kind {
        "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet" => Some("apps"),
        "CronJob" | "Job" => Some("batch"),
        _ => None,
    }
}
