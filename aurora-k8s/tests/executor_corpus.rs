//! Every application of the corpus, rendered and deployed in two revisions on the simulated cluster.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "executor/cluster.rs"]
#[expect(dead_code, reason = "each test binary needs a part of it")]
mod cluster;
#[path = "executor/deployed.rs"]
#[allow(dead_code, reason = "each test binary needs a part of it")]
mod deployed;
mod yaml;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use aurora_core::command::Direction;
use aurora_core::manifest::Manifest;
use aurora_core::progress::Standing;
use aurora_core::strategy::{Approval, Canary, Pause, Step, Strategy};
use aurora_k8s::execute::AgentPolicy;

use self::cluster::Cluster;
use self::deployed::{Deployed, at_gate_or_done};

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

fn gate() -> Step {
    Step::Pause(Pause::Approval(Approval::default()))
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
        strategy: Some(Strategy::Canary(Canary {
            steps: vec![Step::SetWeight(25), gate(), Step::SetWeight(50), gate()],
        })),
        services: Vec::new(),
        direction: Direction::Forward,
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
