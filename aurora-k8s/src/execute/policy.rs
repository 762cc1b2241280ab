//! What an agent's operator allows in the cluster; a command that goes beyond fails alone.

use std::collections::BTreeSet;

use aurora_core::command::FailureDetail;
use aurora_core::manifest::ObjectRef;
use aurora_core::plan::Plan;
use aurora_core::port::executor::ExecutorError;

use super::kinds::Resource;

/// What commands may touch.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AgentPolicy {
    namespaces: Option<BTreeSet<String>>,
    cluster_kinds: bool,
    namespace_creation: bool,
}

impl AgentPolicy {
    /// All namespaces, but neither cluster-scoped kinds nor new namespaces: the default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only these namespaces.
    #[must_use]
    pub fn with_namespaces(mut self, namespaces: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.namespaces = Some(namespaces.into_iter().map(Into::into).collect());
        self
    }

    /// Cluster-scoped kinds too, such as CRDs and ClusterRoles.
    #[must_use]
    pub const fn with_cluster_kinds(mut self) -> Self {
        self.cluster_kinds = true;
        self
    }

    /// The target's own namespace may be created by a plan.
    #[must_use]
    pub const fn with_namespace_creation(mut self) -> Self {
        self.namespace_creation = true;
        self
    }

    /// The namespaces, if they are limited.
    pub(crate) const fn namespaces(&self) -> Option<&BTreeSet<String>> {
        self.namespaces.as_ref()
    }

    /// Tells whether a namespace may be touched; an empty one is the whole cluster's.
    pub(crate) fn allows(&self, namespace: &str) -> bool {
        self.namespaces
            .as_ref()
            .is_none_or(|allowed| allowed.contains(namespace))
    }

    /// Refuses what may not be touched.
    pub(crate) fn check(&self, verb: &str, object: &ObjectRef) -> Result<(), ExecutorError> {
        let namespace = if object.kind == "Namespace" && object.group.is_empty() {
            &object.name
        } else {
            &object.namespace
        };
        if namespace.is_empty() && !self.cluster_kinds && verb != "get" {
            return Err(forbidden(
                verb,
                object,
                "it is cluster-scoped: start the agent with --allow-cluster-kinds",
            ));
        }
        if !namespace.is_empty() && !self.allows(namespace) {
            return Err(forbidden(
                verb,
                object,
                "its policy does not name this namespace: see --namespaces",
            ));
        }
        Ok(())
    }

    /// Refuses a plan that goes beyond, with every object that does.
    pub(crate) fn check_plan(&self, plan: &Plan, resources: &[Resource]) -> Result<(), ExecutorError> {
        let place = ObjectRef::new("", "Namespace", "", &plan.namespace);
        self.check("patch", &place)?;
        let problems = plan
            .objects
            .iter()
            .zip(resources)
            .filter_map(|(planned, resource)| {
                let object = planned.object();
                let message = self.problem_with(&object, plan, resource)?;
                Some(FailureDetail { object, message })
            });
        let objects: Vec<_> = problems.collect();
        if objects.is_empty() {
            return Ok(());
        }
        Err(ExecutorError::Rejected { objects })
    }

    fn problem_with(&self, object: &ObjectRef, plan: &Plan, resource: &Resource) -> Option<String> {
        if object.kind == "Namespace" && object.group.is_empty() {
            if object.name != plan.namespace {
                return Some(format!(
                    "only the target's own namespace {} can be part of its plan",
                    plan.namespace
                ));
            }
            return (!self.namespace_creation).then(|| {
                "the agent may not create namespaces: start it with --allow-namespace-creation or leave it out".to_owned()
            });
        }
        if resource.namespaced {
            return (object.namespace != plan.namespace).then(|| {
                format!(
                    "it is in namespace {:?}, but the target's is {}",
                    object.namespace, plan.namespace
                )
            });
        }
        (!self.cluster_kinds).then(|| {
            "it is cluster-scoped: start the agent with --allow-cluster-kinds or leave it out".to_owned()
        })
    }
}

fn forbidden(verb: &str, object: &ObjectRef, why: &str) -> ExecutorError {
    ExecutorError::Forbidden {
        verb: verb.to_owned(),
        object: object.clone(),
        source: why.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_namespaces_are_touched() {
        let policy = AgentPolicy::new().with_namespaces(["shop"]);
        let in_namespace = |namespace: &str| ObjectRef::new("", "ConfigMap", namespace, "x");
        assert!(policy.check("patch", &in_namespace("shop")).is_ok());
        let refused = policy
            .check("patch", &in_namespace("kube-system"))
            .expect_err("it is not named");
        assert!(refused.to_failure().message.contains("--namespaces"));
        assert!(
            AgentPolicy::new()
                .check("patch", &in_namespace("kube-system"))
                .is_ok()
        );
    }

    #[test]
    fn cluster_scoped_kinds_need_permission() {
        let object = ObjectRef::new("rbac.authorization.k8s.io", "ClusterRole", "", "x");
        assert!(AgentPolicy::new().check("delete", &object).is_err());
        assert!(
            AgentPolicy::new()
                .with_cluster_kinds()
                .check("delete", &object)
                .is_ok()
        );
    }
}
