//! What the renderer makes of golden inputs, deployed in two revisions on the simulated cluster.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "executor/cluster.rs"]
#[expect(dead_code, reason = "each test binary needs a part of it")]
mod cluster;
#[path = "executor/deployed.rs"]
#[allow(dead_code, reason = "each test binary needs a part of it")]
mod deployed;
mod yaml;

use std::sync::Arc;

use serde_json::{Value, json};

use aurora_core::command::Direction;
use aurora_core::manifest::{Manifest, ObjectRef};
use aurora_core::plan::Plan;
use aurora_core::progress::{Progress, Standing};
use aurora_core::strategy::{BlueGreen, Pause, Portion, Rolling, ServicePair, Span, Strategy};

use self::cluster::Cluster;
use self::deployed::{Deployed, at_gate_or_done};

async fn deployed(strategy: Strategy, services: Vec<ServicePair>) -> Deployed {
    Deployed {
        cluster: Cluster::start().await,
        application: "shop".to_owned(),
        namespace: Some("shop".to_owned()),
        strategy: Some(strategy),
        services,
        direction: Direction::Forward,
    }
}

/// The manifests, with the data of one `ConfigMap` changed and nothing else.
fn with_settings(input: &str, data: Value) -> Vec<Manifest> {
    let mut manifests = yaml::manifests("input.yaml", input);
    let changed = manifests
        .iter_mut()
        .find(|manifest| manifest.body["kind"] == "ConfigMap");
    let body: &mut Value = Arc::make_mut(&mut changed.unwrap().body);
    body["data"] = data;
    manifests
}

fn done(progress: &Progress) -> bool {
    progress.standing == Standing::Done
}

fn rollout(name: &str) -> ObjectRef {
    ObjectRef::new("argoproj.io", "Rollout", "shop", name)
}

impl Deployed {
    async fn selected(&self, service: &str) -> String {
        let service = ObjectRef::new("", "Service", "shop", service);
        let service = self.cluster.get(&service).await.unwrap();
        let selector = &service["spec"]["selector"]["rollouts-pod-template-hash"];
        selector.as_str().unwrap_or_default().to_owned()
    }

    async fn status(&self, name: &str, field: &str) -> String {
        let rollout = self.cluster.get(&rollout(name)).await.unwrap();
        rollout["status"][field].as_str().unwrap_or_default().to_owned()
    }

    /// The names of versioned configuration that is on the cluster.
    async fn versions(&self) -> Vec<String> {
        let held = self.cluster.list("", "ConfigMap").await;
        let named = held.iter().filter_map(|body| body["metadata"]["name"].as_str());
        named
            .filter(|name| name.starts_with("settings-"))
            .map(str::to_owned)
            .collect()
    }

    /// The controller writes a Rollout back that is not in canonical form, which raises its generation.
    async fn assert_untouched(&self, plan: &Plan) {
        for planned in &plan.objects {
            let object = planned.object();
            if object.kind != "Rollout" || planned.body["spec"].get("replicas").is_none() {
                continue;
            }
            let live = self.cluster.get(&object).await.unwrap();
            assert_eq!(
                live["metadata"]["generation"], 1,
                "{object} was rewritten: {live:#}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_configuration_alone_moves_by_blue_green_and_goes_back_with_its_configuration() {
    let input = include_str!("golden/blue-green/input.yaml");
    let pairs = vec![
        ServicePair {
            active: "web".to_owned(),
            preview: Some("web-preview".to_owned()),
        },
        ServicePair {
            active: "api".to_owned(),
            preview: None,
        },
    ];
    let gates = BlueGreen {
        redirect_after: Vec::new(),
        shut_down_after: vec![Pause::Timed(Span::from_secs(3600))],
    };
    let mut deployed = deployed(Strategy::BlueGreen(gates), pairs).await;

    let first = deployed.render(with_settings(input, json!({"greeting": "hello"})));
    deployed.apply(&first, 1).await.unwrap();
    deployed.until(&first, done).await;
    deployed.finish(&first, 1).await;
    deployed.assert_untouched(&first).await;
    let old = deployed.status("web", "stableRS").await;
    let old_settings = deployed.versions().await;
    assert_eq!(old_settings.len(), 1);

    let second = deployed.render(with_settings(input, json!({"greeting": "good day"})));
    deployed.apply(&second, 2).await.unwrap();
    let levels = deployed.until(&second, at_gate_or_done(0)).await;
    let new = deployed.status("web", "currentPodHash").await;
    assert_ne!(new, old, "other configuration is another revision");
    assert_eq!(deployed.selected("web").await, old, "nobody is redirected yet");
    assert_eq!(deployed.selected("web-preview").await, new);
    assert_eq!(deployed.selected("web-metrics").await, "", "it stays plain");

    assert_eq!(deployed.promote(&second, &levels, 3).await, 1);
    deployed.until(&second, done).await;
    assert_eq!(deployed.selected("web").await, new);
    deployed.finish(&second, 4).await;
    assert_eq!(
        deployed.versions().await.len(),
        2,
        "the old version is kept, and so is what it reads"
    );

    deployed.direction = Direction::Back;
    deployed.apply(&first, 5).await.unwrap();
    let levels = deployed.until(&first, at_gate_or_done(0)).await;
    deployed.promote(&first, &levels, 6).await;
    deployed.until(&first, done).await;
    deployed.finish(&first, 7).await;
    assert_eq!(deployed.selected("web").await, old);
    let body = deployed.cluster.get(&rollout("web")).await.unwrap();
    let read = &body["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"];
    assert_eq!(read, &json!(old_settings[0]));
    // Longer than the controller's own delay is waited for, shorter than that of the plan.
    deployed.until(&first, |progress| progress.pods.old == 0).await;
    deployed.finish(&first, 8).await;
    assert_eq!(
        deployed.versions().await,
        old_settings,
        "what failed is not kept for gates that nobody is asked at, and neither is what it reads"
    );
    let declared = &body["spec"]["strategy"]["blueGreen"]["scaleDownDelaySeconds"];
    assert_eq!(declared, 3660, "and the next version is kept as declared");
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_goes_through_without_a_stop() {
    let input = include_str!("golden/rolling/input.yaml");
    let shares = Rolling {
        max_surge: Some(Portion::Count(2)),
        max_unavailable: None,
    };
    let deployed = deployed(Strategy::Rolling(shares), Vec::new()).await;
    let first = deployed.render(yaml::manifests("input.yaml", input));
    deployed.apply(&first, 1).await.unwrap();
    deployed.until(&first, done).await;
    deployed.finish(&first, 1).await;
    deployed.assert_untouched(&first).await;
    let old = deployed.status("web", "stableRS").await;

    let next = input.replace("web:2", "web:3").replace("api:2", "api:3");
    let second = deployed.render(yaml::manifests("input.yaml", &next));
    deployed.apply(&second, 2).await.unwrap();
    deployed.until(&second, done).await;
    assert_ne!(deployed.status("web", "stableRS").await, old);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_deployment_is_done_when_it_is_ready() {
    let input = include_str!("golden/without-deployments/input.yaml");
    let deployed = deployed(Strategy::Rolling(Rolling::default()), Vec::new()).await;
    let plan = deployed.render(yaml::manifests("input.yaml", input));
    deployed.apply(&plan, 1).await.unwrap();
    let levels = deployed.until(&plan, done).await;
    let mut kinds: Vec<&str> = levels.iter().map(|level| level.object.kind.as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["DaemonSet", "Job", "StatefulSet"]);
    deployed.finish(&plan, 1).await;
}
