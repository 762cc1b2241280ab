//! The kinds that the simulated cluster serves: a fixed table, and what a CustomResourceDefinition adds.

use std::{borrow::Cow, fmt};

use serde_json::Value;

/// One served kind: how it is addressed and which subresources it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// Served version.
    pub version: Cow<'static, str>,
    /// Kind as it stands in manifests.
    pub kind: Cow<'static, str>,
    /// Plural name, as it stands in paths.
    pub plural: Cow<'static, str>,
    /// Singular name.
    pub singular: Cow<'static, str>,
    /// Short names that kubectl accepts.
    pub short_names: Cow<'static, [Cow<'static, str>]>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether there is a `status` subresource, so that writes of the object keep the status.
    pub has_status: bool,
    /// Whether there is a `scale` subresource.
    pub has_scale: bool,
}

impl Resource {
    const fn new(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
        singular: &'static str,
        short_names: &'static [Cow<'static, str>],
    ) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            kind: Cow::Borrowed(kind),
            plural: Cow::Borrowed(plural),
            singular: Cow::Borrowed(singular),
            short_names: Cow::Borrowed(short_names),
            namespaced: true,
            has_status: false,
            has_scale: false,
        }
    }

    const fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }

    const fn status(mut self) -> Self {
        self.has_status = true;
        self
    }

    const fn scale(mut self) -> Self {
        self.has_scale = true;
        self
    }

    /// `apiVersion` of its objects: `v1`, `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Name with the group, as error messages show it: `pods`, `deployments.apps`.
    #[must_use]
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_string()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// Whether `metadata.generation` is kept for this kind.
    #[must_use]
    pub fn counts_generations(&self) -> bool {
        match self.group.as_ref() {
            "" => self.plural == "pods",
            "autoscaling" | "rbac.authorization.k8s.io" | "coordination.k8s.io" | "storage.k8s.io" => false,
            _ => true,
        }
    }

    /// The kinds that a CustomResourceDefinition adds, one for each served version. A definition without the
    /// fields that matter adds none.
    #[must_use]
    pub fn of_definition(definition: &Value) -> Vec<Self> {
        let text = |path: &str| {
            definition
                .pointer(path)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let (Some(group), Some(kind), Some(plural)) = (
            text("/spec/group"),
            text("/spec/names/kind"),
            text("/spec/names/plural"),
        ) else {
            return Vec::new();
        };
        let singular = text("/spec/names/singular").unwrap_or_else(|| kind.to_lowercase());
        let short_names: Vec<Cow<'static, str>> = definition
            .pointer("/spec/names/shortNames")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str().map(|name| Cow::Owned(name.to_owned())))
            .collect();
        let namespaced = text("/spec/scope").as_deref() != Some("Cluster");
        let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
        versions
            .into_iter()
            .flatten()
            .filter(|version| version["served"].as_bool() == Some(true))
            .filter_map(|version| {
                Some(Self {
                    group: Cow::Owned(group.clone()),
                    version: Cow::Owned(version["name"].as_str()?.to_owned()),
                    kind: Cow::Owned(kind.clone()),
                    plural: Cow::Owned(plural.clone()),
                    singular: Cow::Owned(singular.clone()),
                    short_names: Cow::Owned(short_names.clone()),
                    namespaced,
                    has_status: version.pointer("/subresources/status").is_some(),
                    has_scale: version.pointer("/subresources/scale").is_some(),
                })
            })
            .collect()
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.qualified())
    }
}

macro_rules! short {
    ($($name:literal),*) => { &[$(Cow::Borrowed($name)),*] };
}

macro_rules! resources {
    ($($(#[$doc:meta])* $name:ident = $resource:expr;)*) => {
        $($(#[$doc])* pub static $name: Resource = $resource;)*
        /// All kinds that are served without a CustomResourceDefinition.
        pub static RESOURCES: &[&Resource] = &[$(&$name),*];
    };
}

const CORE: &str = "";
const APPS: &str = "apps";
const RBAC: &str = "rbac.authorization.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const ARGO: &str = "argoproj.io";

resources! {
    /// Namespaces.
    NAMESPACES = Resource::new(CORE, "v1", "Namespace", "namespaces", "namespace", short!["ns"]).cluster().status();
    /// Pods.
    PODS = Resource::new(CORE, "v1", "Pod", "pods", "pod", short!["po"]).status();
    /// Services.
    SERVICES = Resource::new(CORE, "v1", "Service", "services", "service", short!["svc"]).status();
    /// Endpoints.
    ENDPOINTS = Resource::new(CORE, "v1", "Endpoints", "endpoints", "endpoints", short!["ep"]);
    /// ConfigMaps.
    CONFIG_MAPS = Resource::new(CORE, "v1", "ConfigMap", "configmaps", "configmap", short!["cm"]);
    /// Secrets.
    SECRETS = Resource::new(CORE, "v1", "Secret", "secrets", "secret", short![]);
    /// ServiceAccounts.
    SERVICE_ACCOUNTS =
        Resource::new(CORE, "v1", "ServiceAccount", "serviceaccounts", "serviceaccount", short!["sa"]);
    /// PersistentVolumeClaims.
    PERSISTENT_VOLUME_CLAIMS = Resource::new(
        CORE, "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "persistentvolumeclaim", short!["pvc"],
    ).status();
    /// PersistentVolumes.
    PERSISTENT_VOLUMES =
        Resource::new(CORE, "v1", "PersistentVolume", "persistentvolumes", "persistentvolume", short!["pv"])
            .cluster().status();
    /// Events.
    EVENTS = Resource::new(CORE, "v1", "Event", "events", "event", short!["ev"]);
    /// Nodes.
    NODES = Resource::new(CORE, "v1", "Node", "nodes", "node", short!["no"]).cluster().status();
    /// ResourceQuotas.
    RESOURCE_QUOTAS =
        Resource::new(CORE, "v1", "ResourceQuota", "resourcequotas", "resourcequota", short!["quota"]).status();
    /// LimitRanges.
    LIMIT_RANGES = Resource::new(CORE, "v1", "LimitRange", "limitranges", "limitrange", short!["limits"]);
    /// Deployments.
    DEPLOYMENTS =
        Resource::new(APPS, "v1", "Deployment", "deployments", "deployment", short!["deploy"]).status().scale();
    /// ReplicaSets.
    REPLICA_SETS =
        Resource::new(APPS, "v1", "ReplicaSet", "replicasets", "replicaset", short!["rs"]).status().scale();
    /// StatefulSets.
    STATEFUL_SETS =
        Resource::new(APPS, "v1", "StatefulSet", "statefulsets", "statefulset", short!["sts"]).status().scale();
    /// DaemonSets.
    DAEMON_SETS = Resource::new(APPS, "v1", "DaemonSet", "daemonsets", "daemonset", short!["ds"]).status();
    /// Jobs.
    JOBS = Resource::new("batch", "v1", "Job", "jobs", "job", short![]).status();
    /// CronJobs.
    CRON_JOBS = Resource::new("batch", "v1", "CronJob", "cronjobs", "cronjob", short!["cj"]).status();
    /// HorizontalPodAutoscalers.
    HORIZONTAL_POD_AUTOSCALERS = Resource::new(
        "autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "horizontalpodautoscaler",
        short!["hpa"],
    ).status();
    /// PodDisruptionBudgets.
    POD_DISRUPTION_BUDGETS = Resource::new(
        "policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "poddisruptionbudget", short!["pdb"],
    ).status();
    /// Ingresses.
    INGRESSES = Resource::new(NETWORKING, "v1", "Ingress", "ingresses", "ingress", short!["ing"]).status();
    /// IngressClasses.
    INGRESS_CLASSES =
        Resource::new(NETWORKING, "v1", "IngressClass", "ingressclasses", "ingressclass", short![]).cluster();
    /// NetworkPolicies.
    NETWORK_POLICIES =
        Resource::new(NETWORKING, "v1", "NetworkPolicy", "networkpolicies", "networkpolicy", short!["netpol"]);
    /// Roles.
    ROLES = Resource::new(RBAC, "v1", "Role", "roles", "role", short![]);
    /// RoleBindings.
    ROLE_BINDINGS = Resource::new(RBAC, "v1", "RoleBinding", "rolebindings", "rolebinding", short![]);
    /// ClusterRoles.
    CLUSTER_ROLES = Resource::new(RBAC, "v1", "ClusterRole", "clusterroles", "clusterrole", short![]).cluster();
    /// ClusterRoleBindings.
    CLUSTER_ROLE_BINDINGS =
        Resource::new(RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", "clusterrolebinding", short![])
            .cluster();
    /// PriorityClasses.
    PRIORITY_CLASSES = Resource::new(
        "scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "priorityclass", short!["pc"],
    ).cluster();
    /// StorageClasses.
    STORAGE_CLASSES =
        Resource::new("storage.k8s.io", "v1", "StorageClass", "storageclasses", "storageclass", short!["sc"])
            .cluster();
    /// CustomResourceDefinitions.
    CUSTOM_RESOURCE_DEFINITIONS = Resource::new(
        "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions",
        "customresourcedefinition", short!["crd", "crds"],
    ).cluster().status();
    /// Leases.
    LEASES = Resource::new("coordination.k8s.io", "v1", "Lease", "leases", "lease", short![]);
    /// Argo Rollouts.
    ROLLOUTS = Resource::new(ARGO, "v1alpha1", "Rollout", "rollouts", "rollout", short!["ro"]).status().scale();
    /// Argo AnalysisTemplates.
    ANALYSIS_TEMPLATES = Resource::new(
        ARGO, "v1alpha1", "AnalysisTemplate", "analysistemplates", "analysistemplate", short!["at"],
    );
    /// Argo ClusterAnalysisTemplates.
    CLUSTER_ANALYSIS_TEMPLATES = Resource::new(
        ARGO, "v1alpha1", "ClusterAnalysisTemplate", "clusteranalysistemplates", "clusteranalysistemplate",
        short!["cat"],
    ).cluster();
    /// Argo AnalysisRuns.
    ANALYSIS_RUNS =
        Resource::new(ARGO, "v1alpha1", "AnalysisRun", "analysisruns", "analysisrun", short!["ar"]);
    /// Argo Experiments.
    EXPERIMENTS =
        Resource::new(ARGO, "v1alpha1", "Experiment", "experiments", "experiment", short!["exp"]);
}
