//! Blue/green plans on the simulated cluster: lost Services, changed strategies, old versions and who may end them.

#![expect(
    clippy::unwrap_used,
    reason = "a test reports by panicking when the cluster does something else"
)]

#[path = "executor/cluster.rs"]
#[expect(dead_code, reason = "only a part of it is needed here")]
mod cluster;
#[path = "executor/shop.rs"]
#[expect(dead_code, reason = "only a part of it is needed here")]
mod shop;
mod yaml;

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};

use aurora_core::command::{Acted, Action, Direction, Observe};
use aurora_core::plan::Plan;
use aurora_core::port::executor::{ClusterExecutor as _, ExecutorError};
use aurora_core::port::renderer::{ManifestRenderer as _, RenderRequest};
use aurora_core::progress::{Progress, Standing};
use aurora_core::strategy::{BlueGreen, ServicePair, Strategy};
use aurora_core::tenant::Tenant;
use aurora_k8s::render::ArgoRenderer;
use aurora_k8s::sim::api::{Fault, Matching};

use self::cluster::Cluster;
use self::shop::{
    act, apply, config_body, configured, core, deployed, finish, now, plan, rollout, rollout_body,
    service_body, set, until, until_at, until_done, words,
};

const HASH: &str = "rollouts-pod-template-hash";

fn strategy(delay: u64) -> Value {
    json!({"blueGreen": {
        "activeService": "web-active", "previewService": "web-preview",
        "autoPromotionEnabled": false, "scaleDownDelaySeconds": delay,
    }})
}

/// A release with its configuration, both Services and a blue/green Rollout.
fn release_with(number: u32, delay: u64) -> Plan {
    let config = format!("config-{number}");
    let mut body = configured(rollout_body("web", &format!("shop:{number}")), &config);
    body["spec"]["strategy"] = strategy(delay);
    let mut plan = plan([
        config_body(&config),
        service_body("web-active", "web"),
        service_body("web-preview", "web"),
        body,
    ]);
    plan.steps.rollouts.insert("web".to_owned(), 0);
    plan.steps.blue_green.insert("web".to_owned());
    plan
}

fn release(number: u32) -> Plan {
    release_with(number, 7200)
}

async fn selects(cluster: &Cluster, service: &str) -> Value {
    let live = cluster.get(&core("Service", service)).await.unwrap();
    live["spec"]["selector"][HASH].clone()
}

/// The second release before its redirect.
async fn at_the_redirect(cluster: &Cluster, delay: u64) -> (Plan, Progress) {
    deployed(cluster, &release_with(1, delay)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let second = release_with(2, delay);
    apply(cluster, &second, 2).await.unwrap();
    let seen = until_at(cluster, &second, "web", 0).await;
    (second, seen)
}

async fn redirected(cluster: &Cluster, plan: &Plan, seen: &Progress) -> Progress {
    let acted = act(cluster, Action::Promote, "web", seen.expect.as_ref(), 3).await;
    assert_eq!(acted.unwrap(), Acted::Done);
    until_done(cluster, plan, "web").await
}

#[tokio::test(start_paused = true)]
async fn a_hash_that_somebody_took_off_the_active_service_costs_no_gate() {
    let cluster = Cluster::start().await;
    deployed(&cluster, &release(1)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    for service in ["web-active", "web-preview"] {
        let bare = json!({"spec": {"selector": {HASH: null}}});
        cluster.patch(&core("Service", service), bare).await;
    }
    let second = release(2);
    apply(&cluster, &second, 2).await.unwrap();
    let seen = until_at(&cluster, &second, "web", 0).await;
    assert_eq!(selects(&cluster, "web-active").await, seen.stable.as_str());
    assert_eq!(selects(&cluster, "web-preview").await, seen.revision.as_str());
}

#[tokio::test(start_paused = true)]
async fn deleted_services_come_back_with_their_hash_before_and_at_the_gate() {
    let cluster = Cluster::start().await;
    deployed(&cluster, &release(1)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    for service in ["web-active", "web-preview"] {
        cluster.delete(&core("Service", service)).await;
    }
    let second = release(2);
    apply(&cluster, &second, 2).await.unwrap();
    let seen = until_at(&cluster, &second, "web", 0).await;
    assert_eq!(selects(&cluster, "web-active").await, seen.stable.as_str());
    cluster.delete(&core("Service", "web-active")).await;
    apply(&cluster, &second, 2).await.unwrap();
    assert_eq!(selects(&cluster, "web-active").await, seen.stable.as_str());
    tokio::time::sleep(Duration::from_secs(30)).await;
    let still = now(&cluster, &second, "web").await;
    assert_eq!(still.standing, seen.standing, "the gate still stands");
    redirected(&cluster, &second, &still).await;
    assert_eq!(selects(&cluster, "web-active").await, seen.revision.as_str());
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_becomes_blue_green_stops_before_its_first_redirect() {
    let cluster = Cluster::start().await;
    let mut first = release(1);
    for planned in &mut first.objects {
        if planned.body["kind"] == "Rollout" {
            planned.body["spec"]["strategy"] = json!({"canary": {"steps": shop::two_gates()}});
        }
    }
    deployed(&cluster, &first).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        selects(&cluster, "web-active").await,
        Value::Null,
        "a canary leaves it alone"
    );
    let second = release(2);
    apply(&cluster, &second, 2).await.unwrap();
    let seen = until(&cluster, &second, &rollout("web"), |seen| {
        seen.standing == Standing::Done || matches!(seen.standing, Standing::AtPause { ready: true, .. })
    })
    .await;
    assert!(
        matches!(seen.standing, Standing::AtPause { index: 0, .. }),
        "it went live without anybody's yes: {seen:?}"
    );
    assert_eq!(selects(&cluster, "web-active").await, seen.stable.as_str());
}

#[tokio::test(start_paused = true)]
async fn services_of_what_is_blue_green_no_longer_select_all_pods_again() {
    let cluster = Cluster::start().await;
    deployed(&cluster, &release(1)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_ne!(selects(&cluster, "web-active").await, Value::Null);
    let mut second = release(2);
    for planned in &mut second.objects {
        if planned.body["kind"] == "Rollout" {
            planned.body["spec"]["strategy"] = json!({"canary": {"steps": shop::two_gates()}});
        }
    }
    apply(&cluster, &second, 2).await.unwrap();
    until_at(&cluster, &second, "web", 1).await;
    assert_eq!(selects(&cluster, "web-active").await, Value::Null);
    act(&cluster, Action::PromoteFull, "web", None, 3).await.unwrap();
    until_done(&cluster, &second, "web").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let endpoints = cluster.get(&core("Endpoint", "web-active")).await.unwrap();
    let ready = endpoints["subsets"][0]["addresses"].as_array().map(Vec::len);
    assert_eq!(ready, Some(4), "users find the new pods: {endpoints}");
}

#[tokio::test(start_paused = true)]
async fn an_old_version_that_may_not_be_patched_is_said_so_and_runs_on() {
    let cluster = Cluster::start().await;
    let (second, seen) = at_the_redirect(&cluster, 7200).await;
    let done = redirected(&cluster, &second, &seen).await;
    let patches = Matching::any().with_verb("patch").with_path("/replicasets/");
    cluster.api.faults().inject(
        Fault::status(403, "replicasets.apps is forbidden: cannot patch"),
        1,
        patches,
    );
    let refused = act(&cluster, Action::ShutDownOld, "web", done.expect.as_ref(), 4)
        .await
        .unwrap_err();
    assert!(matches!(refused, ExecutorError::Forbidden { .. }), "{refused}");
    let text = words(&refused);
    assert!(text.contains("patch") && text.contains("ReplicaSet"), "{text}");
    assert_eq!(now(&cluster, &second, "web").await.pods.old_available, 4);
    let again = act(&cluster, Action::ShutDownOld, "web", done.expect.as_ref(), 4).await;
    assert_eq!(again.unwrap(), Acted::Done);
}

#[tokio::test(start_paused = true)]
async fn what_is_redirected_stays_done_while_its_old_version_ends() {
    let cluster = Cluster::start().await;
    let (second, seen) = at_the_redirect(&cluster, 40).await;
    redirected(&cluster, &second, &seen).await;
    let observe = Observe {
        set: set(),
        plan: second.digest(),
        direction: Direction::Forward,
    };
    let mut levels = cluster.kube_executor().observe(&observe, &second).await.unwrap();
    loop {
        let news = levels.next().await.unwrap().unwrap();
        for level in news {
            assert_eq!(level.standing, Standing::Done, "{level:?}");
            assert_eq!(level.pods.new_available, 4);
            if level.pods.old == 0 {
                return;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn configuration_goes_with_the_last_scale_down_deadline() {
    let cluster = Cluster::start().await;
    let (second, seen) = at_the_redirect(&cluster, 20).await;
    redirected(&cluster, &second, &seen).await;
    let old = core("ConfigMap", "config-1");
    let began = tokio::time::Instant::now();
    let finished = finish(&cluster, &second, 4, Direction::Forward).await.unwrap();
    assert!(finished.kept.contains_key(&old.to_string()), "{finished:?}");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "a run is not kept from its end"
    );
    // Somebody who finishes when the delay is nearly over waits for it.
    tokio::time::sleep(Duration::from_millis(17_800)).await;
    assert_eq!(now(&cluster, &second, "web").await.pods.old_available, 4);
    let again = finish(&cluster, &second, 4, Direction::Forward).await.unwrap();
    assert_eq!(again.pruned, [old], "{again:?}");
    assert_eq!(now(&cluster, &second, "web").await.pods.old, 0);
    let live = cluster.get(&core("ConfigMap", "config-2")).await;
    assert!(live.is_some(), "the new version's configuration stays");
}

#[tokio::test(start_paused = true)]
async fn a_roll_back_is_not_held_up_by_a_finish_that_waits() {
    let cluster = Cluster::start().await;
    let (second, seen) = at_the_redirect(&cluster, 20).await;
    redirected(&cluster, &second, &seen).await;
    tokio::time::sleep(Duration::from_millis(17_800)).await;
    let executor = cluster.kube_executor();
    let first = release_with(1, 20);
    let (stages, _heard) = tokio::sync::mpsc::channel(8);
    let order = shop::order(&second, 4, Direction::Forward);
    let finishing = async { executor.finish(&order, &second, &stages).await.unwrap() };
    let rolling_back = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let began = tokio::time::Instant::now();
        shop::apply_with(&executor, &first, 5, Direction::Back)
            .await
            .unwrap();
        began.elapsed()
    };
    let (finished, took) = tokio::join!(finishing, rolling_back);
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    assert!(finished.pruned.is_empty(), "{finished:?}");
    until_done(&cluster, &first, "web").await;
    let config = cluster.get(&core("ConfigMap", "config-1")).await;
    assert!(config.is_some(), "what is live again has its configuration");
}

#[tokio::test(start_paused = true)]
async fn a_person_who_redirects_or_aborts_by_kubectl_is_seen_in_the_levels() {
    let cluster = Cluster::start().await;
    let (second, seen) = at_the_redirect(&cluster, 7200).await;
    let abort = json!({"status": {"abort": true}});
    cluster.patch_status(&rollout("web"), abort).await;
    let aborted = until(&cluster, &second, &rollout("web"), |seen| {
        seen.standing == Standing::Aborted
    })
    .await;
    assert_eq!(aborted.weight.unwrap().real, 0);
    let refused = act(&cluster, Action::Promote, "web", seen.expect.as_ref(), 3)
        .await
        .unwrap_err();
    assert!(matches!(refused, ExecutorError::WrongGate { .. }), "{refused}");
    let retry = json!({"status": {"abort": false}});
    cluster.patch_status(&rollout("web"), retry).await;
    let again = until_at(&cluster, &second, "web", 0).await;
    let promote = json!({"status": {"pauseConditions": null}});
    cluster.patch_status(&rollout("web"), promote).await;
    until_done(&cluster, &second, "web").await;
    let late = act(&cluster, Action::Promote, "web", again.expect.as_ref(), 3).await;
    assert_eq!(late.unwrap(), Acted::Unchanged, "somebody was faster");
}

/// Two Deployments and an autoscaler as a file has them, rendered to move by blue/green.
fn rendered(release: u32) -> Plan {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/blue-green/input.yaml");
    let text = std::fs::read_to_string(folder).unwrap();
    let text = text
        .replace("web:2", &format!("web:{release}"))
        .replace("api:7", &format!("api:{release}"))
        .replace("greeting: hello", &format!("greeting: hello {release}"));
    let pair = |active: &str, preview: Option<&str>| ServicePair {
        active: active.to_owned(),
        preview: preview.map(str::to_owned),
    };
    let request = RenderRequest {
        tenant: Tenant::new("acme", "production").unwrap(),
        application: "shop".to_owned(),
        target: "staging".to_owned(),
        namespace: Some("shop".to_owned()),
        strategy: Some(Strategy::BlueGreen(BlueGreen::default())),
        services: vec![pair("web", Some("web-preview")), pair("api", None)],
        manifests: yaml::manifests("input.yaml", &text),
    };
    ArgoRenderer.render(&request).unwrap()
}

#[tokio::test(start_paused = true)]
async fn rendered_deployments_go_all_the_way_with_an_autoscaler_beside_them() {
    let cluster = Cluster::start().await;
    let first = rendered(1);
    deployed(&cluster, &first).await;
    finish(&cluster, &first, 1, Direction::Forward).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let live = cluster.get(&rollout("api")).await.unwrap();
    assert_eq!(
        live["metadata"]["generation"], 1,
        "the controller finds it in its own form"
    );

    let second = rendered(2);
    let before = cluster.objects.resource_version();
    apply(&cluster, &second, 2).await.unwrap();
    let mut tokens = Vec::new();
    for name in ["web", "api"] {
        let seen = until_at(&cluster, &second, name, 0).await;
        assert_eq!(seen.pods.old_available, seen.pods.desired, "{seen:?}");
        tokens.push((name, seen.expect));
    }
    for (name, expect) in &tokens {
        let acted = act(&cluster, Action::Promote, name, expect.as_ref(), 3).await;
        assert_eq!(acted.unwrap(), Acted::Done, "{name}");
    }
    for (name, _) in &tokens {
        let done = until_done(&cluster, &second, name).await;
        let acted = act(&cluster, Action::ShutDownOld, name, done.expect.as_ref(), 4).await;
        assert_eq!(acted.unwrap(), Acted::Done, "{name}");
    }
    let finished = finish(&cluster, &second, 5, Direction::Forward).await.unwrap();
    assert_eq!(finished.pruned.len(), 1, "the old settings: {finished:?}");
    assert!(finished.kept.is_empty(), "{finished:?}");
    // Users found pods in every state that the cluster was in.
    for event in cluster.objects.events_since(before).unwrap() {
        let name = event.object["metadata"]["name"].as_str().unwrap_or_default();
        if *event.resource == aurora_k8s::sim::resource::ENDPOINTS && ["web", "api"].contains(&name) {
            let ready = event.object["subsets"][0]["addresses"]
                .as_array()
                .map_or(0, Vec::len);
            assert!(ready > 0, "{}", event.object);
        }
    }
}
