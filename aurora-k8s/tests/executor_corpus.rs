//! Every application of the corpus, rendered and deployed in two revisions on the simulated cluster.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "executor/cluster.rs"]
#[expect(dead_code, reason = "each test binary needs a part of it")]
mod cluster;
mod yaml;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use aurora_core::command::{Act, Acted, Action, AppliedSetKey, Apply, Direction, Observe, Stamp};
use aurora_core::manifest::{Manifest, ObjectRef};
use aurora_core::plan::Plan;
use aurora_core::port::executor::{ClusterExecutor as _, ExecutorError};
use aurora_core::port::renderer::{ManifestRenderer as _, RenderRequest};
use aurora_core::progress::{Progress, Standing};
use aurora_core::strategy::{Approval, Canary, Pause, Step, Strategy};
use aurora_core::tenant::Tenant;
use aurora_k8s::execute::AgentPolicy;
use aurora_k8s::render::ArgoRenderer;

use self::cluster::Cluster;

/// How long, in virtual time, anything may take.
const PATIENCE: Duration = Duration::from_secs(900);

fn manifests(folder: &Path) -> Vec<Manifest> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    let mut found = Vec::new();
    for path in entries {
        if path.is_dir() {
            found.extend(manifests(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let file = path.display().to_string();
            found.extend(yaml::manifests(&file, &fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// The next release: the same with another label on every Deployment's pods.
fn next_release(manifests: &[Manifest]) -> Vec<Manifest> {
    let change = |manifest: &Manifest| {
        let mut manifest = manifest.clone();
        if manifest.body["kind"] == "Deployment" {
            let body: &mut Value = Arc::make_mut(&mut manifest.body);
            body["spec"]["template"]["metadata"]["labels"]["release"] = json!("two");
        }
        manifest
    };
    manifests.iter().map(change).collect()
}

/// One application on one cluster.
struct Deployed {
    cluster: Cluster,
    application: String,
    namespace: Option<String>,
}

impl Deployed {
    fn render(&self, manifests: Vec<Manifest>) -> Plan {
        let gate = || Step::Pause(Pause::Approval(Approval::default()));
        let request = RenderRequest {
            services: Vec::new(),
            tenant: Tenant::new("acme", "dev").unwrap(),
            application: self.application.clone(),
            target: "staging".to_owned(),
            namespace: self.namespace.clone(),
            strategy: Some(Strategy::Canary(Canary {
                steps: vec![Step::SetWeight(25), gate(), Step::SetWeight(50), gate()],
            })),
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
            direction: Direction::Forward,
        }
    }

    async fn apply(&self, plan: &Plan, version: u64) -> Result<(), ExecutorError> {
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

    async fn finish(&self, plan: &Plan, version: u64) {
        let (stages, _heard) = mpsc::channel(1);
        let (order, executor) = (self.order(plan, version), self.cluster.kube_executor());
        let finishing = executor.finish(&order, plan, &stages);
        tokio::time::timeout(PATIENCE, finishing)
            .await
            .expect("a finish must end")
            .unwrap();
    }

    /// Observes until every workload is as wanted.
    async fn until(&self, plan: &Plan, wanted: impl Fn(&Progress) -> bool) -> Vec<Progress> {
        let observe = Observe {
            set: self.set(plan),
            plan: plan.digest(),
            direction: Direction::Forward,
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

    /// Opens the gate at which all Rollouts stand.
    async fn promote(&self, plan: &Plan, levels: &[Progress], version: u64) -> usize {
        let mut promoted = 0;
        for level in levels
            .iter()
            .filter(|level| matches!(level.standing, Standing::AtPause { .. }))
        {
            let act = Act {
                set: self.set(plan),
                object: level.object.clone(),
                action: Action::Promote,
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

fn at_gate_or_done(gate: usize) -> impl Fn(&Progress) -> bool {
    move |progress| match &progress.standing {
        Standing::Done => true,
        Standing::AtPause { index, ready, .. } => *index == gate && *ready,
        _ => false,
    }
}

/// Deploys an application twice, the second time from gate to gate.
///
/// `unserved`: kinds that the cluster does not have. `beside`: objects that somebody else makes.
async fn deploys(
    application: &str,
    namespace: Option<&str>,
    rollouts: usize,
    unserved: &[&str],
    beside: Vec<Value>,
) {
    let corpus = std::env::var_os("AURORA_CORPUS").expect("AURORA_CORPUS names the folder of the corpus");
    let mut cluster = Cluster::start().await;
    cluster.policy = AgentPolicy::new().with_cluster_kinds().with_namespace_creation();
    if let Some(name) = namespace {
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        cluster.create(body).await;
    }
    for mut body in beside {
        body["metadata"]["namespace"] = json!(namespace);
        cluster.create(body).await;
    }
    let deployed = Deployed {
        cluster,
        application: application.to_owned(),
        namespace: namespace.map(str::to_owned),
    };
    let mut manifests = manifests(&PathBuf::from(corpus).join(application));
    if !unserved.is_empty() {
        let refused = deployed
            .apply(&deployed.render(manifests.clone()), 1)
            .await
            .unwrap_err()
            .to_failure();
        for kind in unserved {
            let named = refused
                .details
                .iter()
                .any(|detail| detail.message.contains(&format!("no such kind {kind}")));
            assert!(named, "{kind}: {refused:?}");
        }
        manifests.retain(|manifest| !unserved.iter().any(|kind| manifest.body["kind"] == *kind));
    }
    let first = deployed.render(manifests.clone());
    deployed.apply(&first, 2).await.unwrap();
    let levels = deployed
        .until(&first, |progress| progress.standing == Standing::Done)
        .await;
    assert!(levels.len() >= rollouts);
    deployed.finish(&first, 2).await;

    let second = deployed.render(next_release(&manifests));
    deployed.apply(&second, 3).await.unwrap();
    for gate in [1, 3] {
        let levels = deployed.until(&second, at_gate_or_done(gate)).await;
        let promoted = deployed.promote(&second, &levels, 4).await;
        assert_eq!(promoted, rollouts, "{application} at {gate}");
    }
    deployed
        .until(&second, |progress| progress.standing == Standing::Done)
        .await;
    deployed.finish(&second, 5).await;

    // Nothing moves when the same is applied again.
    let before = deployed.until(&second, |_| true).await;
    deployed.apply(&second, 6).await.unwrap();
    let after = deployed.until(&second, |_| true).await;
    for (before, after) in before.iter().zip(&after) {
        assert!(before.says_the_same(after), "{before:#?}\n{after:#?}");
    }
}

#[tokio::test(start_paused = true)]
#[ignore = "needs AURORA_CORPUS"]
async fn online_boutique_is_deployed_twice_without_its_istio_objects() {
    deploys(
        "online-boutique",
        Some("boutique"),
        12,
        &["Gateway", "VirtualService", "ServiceEntry"],
        Vec::new(),
    )
    .await;
}

#[tokio::test(start_paused = true)]
#[ignore = "needs AURORA_CORPUS"]
async fn podinfo_is_deployed_twice() {
    // Its kustomization generates this one.
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "redis-config"},
        "data": {"redis.conf": "maxmemory 64mb"},
    });
    deploys("podinfo", Some("podinfo"), 4, &[], vec![config]).await;
}

#[tokio::test(start_paused = true)]
#[ignore = "needs AURORA_CORPUS"]
async fn sock_shop_is_deployed_twice() {
    deploys("sock-shop", None, 14, &[], Vec::new()).await;
}
