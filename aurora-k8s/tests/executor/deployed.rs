//! An application on a simulated cluster: rendered, applied, observed, promoted.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::mpsc;

use aurora_core::command::{Act, Acted, Action, AppliedSetKey, Apply, Direction, Observe, Stamp};
use aurora_core::manifest::{Manifest, ObjectRef};
use aurora_core::plan::Plan;
use aurora_core::port::executor::{ClusterExecutor as _, ExecutorError};
use aurora_core::port::renderer::{ManifestRenderer as _, RenderRequest};
use aurora_core::progress::{Progress, Standing};
use aurora_core::strategy::{ServicePair, Strategy};
use aurora_core::tenant::Tenant;
use aurora_k8s::render::ArgoRenderer;

use super::cluster::Cluster;

/// How long, in virtual time, anything may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// One application on one cluster.
#[derive(Debug)]
pub(crate) struct Deployed {
    pub(crate) cluster: Cluster,
    pub(crate) application: String,
    pub(crate) namespace: Option<String>,
    pub(crate) strategy: Option<Strategy>,
    pub(crate) services: Vec<ServicePair>,
    pub(crate) direction: Direction,
}

impl Deployed {
    /// The plan of some manifests.
    pub(crate) fn render(&self, manifests: Vec<Manifest>) -> Plan {
        let request = RenderRequest {
            services: self.services.clone(),
            tenant: Tenant::new("acme", "dev").unwrap(),
            application: self.application.clone(),
            target: "staging".to_owned(),
            namespace: self.namespace.clone(),
            strategy: self.strategy.clone(),
            manifests,
        };
        match ArgoRenderer.render(&request) {
            Ok(plan) => plan,
            Err(error) => panic!("{}: {:#?}", self.application, error.problems),
        }
    }

    fn set(&self, plan: &Plan) -> AppliedSetKey {
        AppliedSetKey {
            tenant: "acme/dev".to_owned(),
            application: self.application.clone(),
            namespace: plan.namespace.clone(),
        }
    }

    fn order(&self, plan: &Plan, version: u64) -> Apply {
        Apply {
            set: self.set(plan),
            target: "staging".to_owned(),
            plan: plan.digest(),
            stamp: Stamp { fence: 1, version },
            direction: self.direction,
        }
    }

    /// Applies a plan.
    pub(crate) async fn apply(&self, plan: &Plan, version: u64) -> Result<(), ExecutorError> {
        let (stages, mut heard) = mpsc::channel(1024);
        let (order, executor) = (self.order(plan, version), self.cluster.kube_executor());
        let applying = executor.apply(&order, plan, &stages);
        let Ok(applied) = tokio::time::timeout(PATIENCE, applying).await else {
            let mut last = String::new();
            while let Ok((_, _, doing)) = heard.try_recv() {
                last = doing;
            }
            panic!("{} hangs: {last}", self.application);
        };
        applied.map(|_| ())
    }

    /// Finishes a plan.
    pub(crate) async fn finish(&self, plan: &Plan, version: u64) {
        let (stages, _heard) = mpsc::channel(1);
        let (order, executor) = (self.order(plan, version), self.cluster.kube_executor());
        let finishing = executor.finish(&order, plan, &stages);
        tokio::time::timeout(PATIENCE, finishing)
            .await
            .expect("a finish must end")
            .unwrap();
    }

    /// Observes until every workload is as wanted.
    pub(crate) async fn until(&self, plan: &Plan, wanted: impl Fn(&Progress) -> bool) -> Vec<Progress> {
        let observe = Observe {
            set: self.set(plan),
            plan: plan.digest(),
            direction: self.direction,
        };
        let mut levels = self
            .cluster
            .kube_executor()
            .observe(&observe, plan)
            .await
            .unwrap();
        let mut seen: BTreeMap<ObjectRef, Progress> = BTreeMap::new();
        let all = tokio::time::timeout(PATIENCE, async {
            loop {
                for progress in levels.next().await.unwrap().unwrap() {
                    seen.insert(progress.object.clone(), progress);
                }
                if seen.values().all(&wanted) {
                    break;
                }
            }
        });
        if all.await.is_err() {
            let late: Vec<_> = seen.values().filter(|progress| !wanted(progress)).collect();
            panic!("{}: {late:#?}", self.application);
        }
        seen.into_values().collect()
    }

    /// Opens the gate at which all Rollouts stand; on the way back they are promoted in full.
    pub(crate) async fn promote(&self, plan: &Plan, levels: &[Progress], version: u64) -> usize {
        let action = match self.direction {
            Direction::Back => Action::PromoteFull,
            Direction::Forward => Action::Promote,
        };
        let mut promoted = 0;
        for level in levels
            .iter()
            .filter(|level| matches!(level.standing, Standing::AtPause { .. }))
        {
            let act = Act {
                set: self.set(plan),
                object: level.object.clone(),
                action,
                expect: level.expect.clone(),
                stamp: Stamp { fence: 1, version },
            };
            assert_eq!(
                self.cluster.kube_executor().act(&act).await.unwrap(),
                Acted::Done,
                "{}",
                level.object
            );
            promoted += 1;
        }
        promoted
    }
}

/// Stands at a step of its own list, or has nothing left to do.
pub(crate) fn at_gate_or_done(gate: usize) -> impl Fn(&Progress) -> bool {
    move |progress| match &progress.standing {
        Standing::Done => true,
        Standing::AtPause { index, ready, .. } => *index == gate && *ready,
        _ => false,
    }
}
