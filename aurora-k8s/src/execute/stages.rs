//! The order in which the objects of a plan are applied.

use aurora_core::manifest::ObjectRef;

/// When an object is applied; earlier ones first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Stage {
    Namespace,
    Definitions,
    Access,
    Configuration,
    Volumes,
    Services,
    Others,
    Workloads,
    Rollouts,
    Followers,
}

impl Stage {
    pub(crate) const ALL: [Self; 10] = [
        Self::Namespace,
        Self::Definitions,
        Self::Access,
        Self::Configuration,
        Self::Volumes,
        Self::Services,
        Self::Others,
        Self::Workloads,
        Self::Rollouts,
        Self::Followers,
    ];

    /// The stage of an object.
    pub(crate) fn of(object: &ObjectRef) -> Self {
        match (object.group.as_str(), object.kind.as_str()) {
            ("", "Namespace") => Self::Namespace,
            ("apiextensions.k8s.io", "CustomResourceDefinition") => Self::Definitions,
            ("", "ServiceAccount") | ("rbac.authorization.k8s.io", _) => Self::Access,
            ("", "ConfigMap" | "Secret") => Self::Configuration,
            ("", "PersistentVolume" | "PersistentVolumeClaim") => Self::Volumes,
            ("", "Service") => Self::Services,
            ("argoproj.io", "Rollout") => Self::Rollouts,
            ("apps", _) | ("batch", "Job") | ("", "Pod" | "ReplicationController") => Self::Workloads,
            ("autoscaling", _) | ("policy", "PodDisruptionBudget") | ("batch", "CronJob") => Self::Followers,
            _ => Self::Others,
        }
    }

    /// What people read while it is under way.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Definitions => "custom resource definitions",
            Self::Access => "service accounts and roles",
            Self::Configuration => "configuration",
            Self::Volumes => "volumes",
            Self::Services => "services",
            Self::Others => "other objects",
            Self::Workloads => "workloads without steps",
            Self::Rollouts => "rollouts",
            Self::Followers => "autoscalers, disruption budgets and cron jobs",
        }
    }
}

/// Tells whether the kind runs pods of its own: such objects are never taken over from somebody else.
pub(crate) fn runs_pods(object: &ObjectRef) -> bool {
    matches!(Stage::of(object), Stage::Rollouts | Stage::Workloads)
}

/// Tells whether an object is an autoscaler of other objects' replicas.
pub(crate) fn is_autoscaler(object: &ObjectRef) -> bool {
    object.group == "autoscaling" && object.kind == "HorizontalPodAutoscaler"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_need_comes_first() {
        let order = [
            ("", "Namespace"),
            ("apiextensions.k8s.io", "CustomResourceDefinition"),
            ("rbac.authorization.k8s.io", "RoleBinding"),
            ("", "Secret"),
            ("", "PersistentVolumeClaim"),
            ("", "Service"),
            ("argoproj.io", "AnalysisTemplate"),
            ("apps", "StatefulSet"),
            ("argoproj.io", "Rollout"),
            ("autoscaling", "HorizontalPodAutoscaler"),
        ];
        let stages = order.map(|(group, kind)| Stage::of(&ObjectRef::new(group, kind, "shop", "x")));
        assert_eq!(stages, Stage::ALL);
        assert!(Stage::ALL.is_sorted());
    }
}
