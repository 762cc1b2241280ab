//! The executor over a Kubernetes API: applies plans, follows Rollouts, acts on them.
//!
//! Its service account needs, in each namespace that it serves:
//!
//! | resources | verbs | for |
//! |---|---|---|
//! | every kind that plans contain | get create patch delete | applying and pruning |
//! | configmaps | get create patch delete | also the applied set |
//! | rollouts, replicasets, pods, deployments and every other followed workload | list watch | observing, and finding whose pods are in the way |
//! | rollouts/status | patch | promote, skip, abort, retry |
//! | replicasets | patch | ending the old version of a blue/green move before its time; without it that is refused |
//! | pods/log | get | evidence |
//! | namespaces (cluster-wide) and configmaps | list | the inventory; without it the inventory is shorter |

mod accept;
mod act;
mod api;
mod applied_set;
mod apply;
mod errors;
mod evidence;
mod finish;
mod follow;
mod hpa;
mod inventory;
mod kinds;
mod live;
mod observe;
mod policy;
mod readiness;
mod service;
mod shut_down;
mod stages;
mod wait;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use kube::Client;
use serde_json::{Value, json};

use aurora_core::command::{Act, Acted, Applied, AppliedSetKey, Apply, FailureDetail, Observe};
use aurora_core::manifest::ObjectRef;
use aurora_core::plan::Plan;
use aurora_core::port::clock::{Clock, SystemClock};
use aurora_core::port::executor::{Capabilities, ClusterExecutor, ExecutorError, Levels, StageSink};
use aurora_core::session::InventoryItem;

pub use self::policy::AgentPolicy;

use self::api::{Api, News};
use self::apply::Work;
use self::errors::{Class, rejected};
use self::kinds::Kinds;
use self::live::is_ours;

/// Acts on one Kubernetes cluster with Argo Rollouts.
///
/// It keeps nothing that matters: what is ours and how new it is stands in the cluster, in a ConfigMap
/// `aurora-<application>` per application and namespace.
///
/// ```no_run
/// use aurora_k8s::execute::{AgentPolicy, KubeExecutor};
///
/// # async fn example() -> Result<(), kube::Error> {
/// let client = kube::Client::try_default().await?;
/// let executor = KubeExecutor::new(client).with_policy(AgentPolicy::new().with_namespaces(["shop"]));
/// # drop(executor);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct KubeExecutor {
    api: Api,
    kinds: Kinds,
    policy: AgentPolicy,
    clock: Arc<dyn Clock>,
    /// One command per applied set at a time.
    turns: Turns,
}

type Turns = Arc<Mutex<BTreeMap<AppliedSetKey, Arc<tokio::sync::Mutex<()>>>>>;

impl std::fmt::Debug for KubeExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeExecutor")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl KubeExecutor {
    /// An executor with the rights of a client; the policy is [`AgentPolicy::new`].
    pub fn new(client: Client) -> Self {
        Self {
            api: Api::new(client),
            kinds: Kinds::default(),
            policy: AgentPolicy::new(),
            clock: Arc::new(SystemClock),
            turns: Arc::default(),
        }
    }

    /// Restricts what commands may touch.
    #[must_use]
    pub fn with_policy(mut self, policy: AgentPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Takes the times of what is seen from a clock; the machine's by default.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    fn turn(&self, key: &AppliedSetKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Sets that nobody works on are forgotten.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(key.clone()).or_default().clone()
    }

    async fn work<'a>(
        &'a self,
        apply: &'a Apply,
        plan: &'a Plan,
        stages: &StageSink,
    ) -> Result<Work<'a>, ExecutorError> {
        self.check_names(apply, plan)?;
        let news = News::new(stages, plan.objects.len());
        let api = self.api.telling(&news);
        let resources = accept::resources(&api, &self.kinds, plan).await?;
        self.policy.check_plan(plan, &resources)?;
        Ok(Work {
            api,
            kinds: &self.kinds,
            clock: self.clock.clone(),
            apply,
            plan,
            resources,
            news,
        })
    }

    /// The command and its plan must be about the same things.
    fn check_names(&self, apply: &Apply, plan: &Plan) -> Result<(), ExecutorError> {
        let set = applied_set::object(&apply.set);
        self.policy.check("patch", &set)?;
        if plan.namespace != apply.set.namespace || plan.application != apply.set.application {
            let message = format!(
                "the plan is for {}/{}, the command for {}/{}",
                plan.namespace, plan.application, apply.set.namespace, apply.set.application
            );
            return Err(rejected(&set, message));
        }
        Ok(())
    }
}

#[async_trait]
impl ClusterExecutor for KubeExecutor {
    fn capabilities(&self) -> Capabilities {
        Capabilities::none().with_steps().with_blue_green()
    }

    async fn apply(&self, apply: &Apply, plan: &Plan, stages: &StageSink) -> Result<Applied, ExecutorError> {
        let turn = self.turn(&apply.set);
        let _turn = turn.lock().await;
        self.work(apply, plan, stages).await?.run().await
    }

    async fn finish(&self, apply: &Apply, plan: &Plan, stages: &StageSink) -> Result<Applied, ExecutorError> {
        let work = self.work(apply, plan, stages).await?;
        let turn = self.turn(&apply.set);
        let finished = {
            let _turn = turn.lock().await;
            work.finish().await?
        };
        let again = async {
            if !work.until_old_versions_end(&finished).await? {
                return Ok(None);
            }
            let _turn = turn.lock().await;
            work.finish().await.map(Some)
        };
        let mut again = match again.await {
            Ok(Some(again)) => again,
            // What is left is for whoever finishes the newer plan.
            Ok(None) | Err(ExecutorError::Superseded { .. }) => return Ok(finished),
            Err(error) => return Err(error),
        };
        again.pruned.extend(finished.pruned);
        again.pruned.sort();
        Ok(again)
    }

    async fn observe(&self, observe: &Observe, plan: &Plan) -> Result<Levels, ExecutorError> {
        self.policy.check("get", &applied_set::object(&observe.set))?;
        observe::observe(&self.api, &self.kinds, plan, self.clock.clone()).await
    }

    async fn act(&self, act: &Act) -> Result<Acted, ExecutorError> {
        self.policy.check("patch", &act.object)?;
        act::act(&self.api, act, &*self.clock).await
    }

    async fn get(&self, object: &ObjectRef) -> Result<Option<Value>, ExecutorError> {
        self.policy.check("get", object)?;
        let failed = |problem: errors::Problem| problem.into_error("get", object);
        let resource = self.kinds.of_object(&self.api, object).await.map_err(failed)?;
        let found = self.api.find(&resource.path(object)).await.map_err(failed)?;
        Ok(found.map(redacted))
    }

    async fn delete(&self, set: &AppliedSetKey, object: &ObjectRef) -> Result<(), ExecutorError> {
        self.policy.check("delete", object)?;
        let turn = self.turn(set);
        let _turn = turn.lock().await;
        let failed = |problem: errors::Problem| problem.into_error("delete", object);
        let stored = applied_set::read(&self.api, set).await?;
        let entry = stored.as_ref().and_then(|stored| stored.set.entry(object));
        let resource = match entry {
            Some(entry) => {
                self.kinds
                    .of_version(&self.api, &entry.api_version, &object.kind)
                    .await
            }
            None => self.kinds.of_object(&self.api, object).await,
        };
        let resource = match resource {
            // Without the kind there is no object.
            Err(problem) if problem.class() == Class::NoSuchKind => return Ok(()),
            resource => resource.map_err(failed)?,
        };
        let path = resource.path(object);
        let Some(live) = self.api.find(&path).await.map_err(failed)? else {
            return Ok(());
        };
        if !is_ours(entry, &live) {
            let message = format!(
                "{object} is not in the applied set of {}: it is left alone",
                set.application
            );
            return Err(ExecutorError::Foreign {
                objects: vec![FailureDetail {
                    object: object.clone(),
                    message,
                }],
            });
        }
        self.api.delete(&path, live::uid(&live)).await.map_err(failed)
    }

    async fn inventory(&self) -> Result<Vec<(String, InventoryItem)>, ExecutorError> {
        inventory::inventory(&self.api, &self.policy).await
    }
}

/// The object without the values of a Secret, wherever they are repeated.
fn redacted(mut body: Value) -> Value {
    if body["kind"] == "Secret" {
        for field in ["data", "stringData"] {
            if let Some(entries) = body[field].as_object_mut() {
                entries
                    .values_mut()
                    .for_each(|value| *value = json!("(redacted)"));
            }
        }
        // kubectl's own copy of what it applied.
        if let Some(annotations) = body["metadata"]["annotations"].as_object_mut() {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_without_its_values() {
        let body = json!({
            "kind": "Secret", "data": {"key": "aHVudGVyMg=="}, "stringData": {"other": "hunter2"},
            "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{aHVudGVyMg==}"}},
        });
        let text = redacted(body).to_string();
        assert!(
            !text.contains("aHVudGVyMg==") && !text.contains("hunter2"),
            "{text}"
        );
        assert!(text.contains("\"key\""));
    }
}
