//! Which path serves a kind: well-known kinds by heart, all others by discovery.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use aurora_core::manifest::ObjectRef;

use super::api::Api;
use super::errors::{Class, Problem};

/// Where objects of one kind are served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Resource {
    /// `v1`, `apps/v1`, …
    pub(crate) api_version: String,
    pub(crate) plural: String,
    pub(crate) namespaced: bool,
}

impl Resource {
    /// The path of all objects in a namespace, or of all objects when it is empty.
    pub(crate) fn collection(&self, namespace: &str) -> String {
        let root = if self.api_version.contains('/') {
            "apis"
        } else {
            "api"
        };
        let (version, plural) = (&self.api_version, &self.plural);
        if self.namespaced && !namespace.is_empty() {
            return format!("/{root}/{version}/namespaces/{namespace}/{plural}");
        }
        format!("/{root}/{version}/{plural}")
    }

    /// The path of one object.
    pub(crate) fn path(&self, object: &ObjectRef) -> String {
        format!("{}/{}", self.collection(&object.namespace), object.name)
    }
}

/// Kinds that every cluster serves: group, version, kind, plural, whether they live in namespaces.
const WELL_KNOWN: [(&str, &str, &str, &str, bool); 28] = [
    ("", "v1", "ConfigMap", "configmaps", true),
    ("", "v1", "LimitRange", "limitranges", true),
    ("", "v1", "Namespace", "namespaces", false),
    ("", "v1", "PersistentVolume", "persistentvolumes", false),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    ("", "v1", "Pod", "pods", true),
    ("", "v1", "ResourceQuota", "resourcequotas", true),
    ("", "v1", "Secret", "secrets", true),
    ("", "v1", "Service", "services", true),
    ("", "v1", "ServiceAccount", "serviceaccounts", true),
    (
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        false,
    ),
    ("apps", "v1", "DaemonSet", "daemonsets", true),
    ("apps", "v1", "Deployment", "deployments", true),
    ("apps", "v1", "ReplicaSet", "replicasets", true),
    ("apps", "v1", "StatefulSet", "statefulsets", true),
    (
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        true,
    ),
    ("batch", "v1", "CronJob", "cronjobs", true),
    ("batch", "v1", "Job", "jobs", true),
    ("networking.k8s.io", "v1", "Ingress", "ingresses", true),
    ("networking.k8s.io", "v1", "IngressClass", "ingressclasses", false),
    (
        "networking.k8s.io",
        "v1",
        "NetworkPolicy",
        "networkpolicies",
        true,
    ),
    (
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        true,
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "ClusterRole",
        "clusterroles",
        false,
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        false,
    ),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles", true),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "RoleBinding",
        "rolebindings",
        true,
    ),
    (
        "scheduling.k8s.io",
        "v1",
        "PriorityClass",
        "priorityclasses",
        false,
    ),
    ("storage.k8s.io", "v1", "StorageClass", "storageclasses", false),
];

/// A well-known kind's resource.
pub(crate) fn well_known(group: &str, kind: &str) -> Option<Resource> {
    let known = |row: &&(&str, &str, &str, &str, bool)| row.0 == group && row.2 == kind;
    WELL_KNOWN
        .iter()
        .find(known)
        .map(|&(group, version, _, plural, namespaced)| Resource {
            api_version: joined(group, version),
            plural: plural.to_owned(),
            namespaced,
        })
}

/// Rollouts, once discovery has found that they are served.
pub(crate) fn rollouts() -> Resource {
    argo("rollouts")
}

fn argo(plural: &str) -> Resource {
    Resource {
        api_version: "argoproj.io/v1alpha1".to_owned(),
        plural: plural.to_owned(),
        namespaced: true,
    }
}

fn joined(group: &str, version: &str) -> String {
    if group.is_empty() {
        return version.to_owned();
    }
    format!("{group}/{version}")
}

/// What discovery told; shared by all commands of an executor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kinds {
    /// By apiVersion and kind. Only what was found is kept: a missing CRD may be installed any time.
    found: Arc<Mutex<BTreeMap<(String, String), Resource>>>,
}

impl Kinds {
    /// Where a kind of an apiVersion is served.
    pub(crate) async fn of_version(
        &self,
        api: &Api,
        api_version: &str,
        kind: &str,
    ) -> Result<Resource, Problem> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        if let Some(known) = well_known(group, kind).filter(|known| known.api_version == api_version) {
            return Ok(known);
        }
        let key = (api_version.to_owned(), kind.to_owned());
        if let Some(found) = self
            .found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
        {
            return Ok(found.clone());
        }
        let root = if group.is_empty() { "api" } else { "apis" };
        let list = api.get(&format!("/{root}/{api_version}")).await?;
        let rows = list["resources"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let row = rows
            .iter()
            .find(|row| row["kind"] == kind && row["name"].as_str().is_some_and(|name| !name.contains('/')));
        let Some(row) = row else {
            return Err(unserved(api_version, kind));
        };
        let resource = Resource {
            api_version: api_version.to_owned(),
            plural: row["name"].as_str().unwrap_or_default().to_owned(),
            namespaced: row["namespaced"] == true,
        };
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, resource.clone());
        Ok(resource)
    }

    /// Where the kind of a name without version is served: in the version that the server prefers.
    pub(crate) async fn of_object(&self, api: &Api, object: &ObjectRef) -> Result<Resource, Problem> {
        if let Some(known) = well_known(&object.group, &object.kind) {
            return Ok(known);
        }
        if object.group == "argoproj.io" {
            return self.of_version(api, "argoproj.io/v1alpha1", &object.kind).await;
        }
        let group: Value = api.get(&format!("/apis/{}", object.group)).await?;
        let preferred = group["preferredVersion"]["groupVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        self.of_version(api, &preferred, &object.kind).await
    }

    /// Where an object of a plan is served.
    pub(crate) async fn of_body(&self, api: &Api, body: &Value) -> Result<Resource, Problem> {
        let text = |name: &str| body[name].as_str().unwrap_or_default();
        self.of_version(api, text("apiVersion"), text("kind")).await
    }
}

fn unserved(api_version: &str, kind: &str) -> Problem {
    Problem {
        status: 404,
        message: format!("{api_version} does not serve {kind}"),
        untyped: true,
        ..Problem::default()
    }
}

/// Tells whether a problem says that the kind is not served.
pub(crate) fn is_unserved(problem: &Problem) -> bool {
    problem.class() == Class::NoSuchKind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_group_and_scope() {
        let path = |group: &str, kind: &str, namespace: &str| {
            let resource = well_known(group, kind).expect("it is well known");
            resource.path(&ObjectRef::new(group, kind, namespace, "x"))
        };
        assert_eq!(
            path("", "ConfigMap", "shop"),
            "/api/v1/namespaces/shop/configmaps/x"
        );
        assert_eq!(
            path("apps", "Deployment", "shop"),
            "/apis/apps/v1/namespaces/shop/deployments/x"
        );
        assert_eq!(path("", "Namespace", ""), "/api/v1/namespaces/x");
        assert_eq!(
            well_known("", "Pod").expect("pods are").collection(""),
            "/api/v1/pods"
        );
    }
}
