//! Plans on the simulated cluster: races, foreign hands, autoscalers, rolling back, pruning, policies.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "executor/cluster.rs"]
#[expect(dead_code, reason = "each test binary needs a part of it")]
mod cluster;
#[path = "executor/shop.rs"]
mod shop;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use aurora_core::command::{Acted, Action, Direction};
use aurora_core::manifest::ObjectRef;
use aurora_core::plan::Plan;
use aurora_core::port::executor::{ClusterExecutor as _, ExecutorError};
use aurora_core::progress::Standing;
use aurora_k8s::execute::AgentPolicy;

use self::cluster::Cluster;
use self::shop::{
    act, apply, apply_with, at_first_gate, config_body, configured, core, deployed, finish, now, order, plan,
    roll_back, rollout, rollout_body, service_body, until, until_at, until_done, web, with_digest, words,
};

fn image_of(body: &Value) -> &Value {
    &body["spec"]["template"]["spec"]["containers"][0]["image"]
}

/// Web and api, each with a ConfigMap of its own, in one release.
fn pair(release: &str, api_image: &str) -> Plan {
    let (web, api) = (format!("web-{release}"), format!("api-{release}"));
    plan([
        config_body(&web),
        config_body(&api),
        configured(rollout_body("web", &format!("web:{release}")), &web),
        configured(rollout_body("api", api_image), &api),
    ])
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_stood_still_between_reading_and_writing_loses_to_the_newer_plan() {
    let cluster = Cluster::start().await;
    let first = web("shop:1");
    deployed(&cluster, &first).await;
    let second = web("shop:2");
    let (late, gate) = cluster.held_executor("rollouts/web");
    let late_apply = apply_with(&late, &second, 2, Direction::Forward);
    let newer = async {
        gate.reached().await;
        // Nothing of this plan differs from what is live, but the stamp on the object does.
        roll_back(&cluster, &first, 3).await.unwrap();
        gate.open();
    };
    let (refused, ()) = tokio::join!(late_apply, newer);
    let refused = refused.unwrap_err();
    assert!(matches!(refused, ExecutorError::Superseded { .. }), "{refused}");
    let live = cluster.get(&rollout("web")).await.unwrap();
    assert_eq!(image_of(&live), "shop:1", "the late write must not pass");
    assert_eq!(live["metadata"]["annotations"]["aurora.dev/plan"], "7.3");
}

#[tokio::test(start_paused = true)]
async fn what_an_older_executor_created_late_is_put_right_by_the_newer_plan() {
    let cluster = Cluster::start().await;
    let release = |data: &str| {
        let mut config = config_body("settings");
        config["data"]["release"] = json!(data);
        plan([config, rollout_body("web", "shop:1")])
    };
    let (older, newer) = (release("one"), release("two"));
    // Both see the ConfigMap absent; the older one writes last.
    let (late, gate) = cluster.held_executor("configmaps/settings");
    let late_apply = apply_with(&late, &older, 1, Direction::Forward);
    let newer_apply = async {
        gate.reached().await;
        apply(&cluster, &newer, 2).await.unwrap();
        gate.open();
    };
    let (refused, ()) = tokio::join!(late_apply, newer_apply);
    assert!(
        matches!(refused, Err(ExecutorError::Superseded { .. })),
        "{refused:?}"
    );
    let release =
        async || cluster.get(&core("ConfigMap", "settings")).await.unwrap()["data"]["release"].clone();
    assert_eq!(release().await, "one", "nothing held the older one back");
    until_done(&cluster, &newer, "web").await;
    finish(&cluster, &newer, 3, Direction::Forward).await.unwrap();
    assert_eq!(release().await, "two");
}

#[tokio::test(start_paused = true)]
async fn two_executors_with_the_same_apply_change_each_object_once() {
    let cluster = Cluster::start().await;
    let plan = pair("1", "api:1");
    let (one, other) = (cluster.kube_executor(), cluster.kube_executor());
    let (one, other) = tokio::join!(
        apply_with(&one, &plan, 1, Direction::Forward),
        apply_with(&other, &plan, 1, Direction::Forward),
    );
    assert_eq!(one.unwrap().changed, 4);
    assert_eq!(other.unwrap().changed, 4);
    for name in ["web", "api"] {
        until_done(&cluster, &plan, name).await;
        let live = cluster.get(&rollout(name)).await.unwrap();
        assert_eq!(live["status"]["stableRS"], live["status"]["currentPodHash"]);
        assert_eq!(
            live["metadata"]["annotations"]["rollout.argoproj.io/revision"],
            "1"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn fields_that_somebody_added_to_the_pod_template_go_with_the_next_plan() {
    let cluster = Cluster::start().await;
    deployed(&cluster, &web("shop:1")).await;
    let foreign = json!({"spec": {"template": {"spec": {"priorityClassName": "high"}}}});
    cluster.patch(&rollout("web"), foreign).await;
    let second = web("shop:2");
    apply(&cluster, &second, 2).await.unwrap();
    until_at(&cluster, &second, "web", 1).await;
    let live = cluster.get(&rollout("web")).await.unwrap();
    assert_eq!(live["spec"]["template"]["spec"].get("priorityClassName"), None);
    // Later, a field that leaves the plan leaves the cluster too.
    let mut third = rollout_body("web", "shop:3");
    third["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(7);
    third["spec"]["template"] = with_digest(third["spec"]["template"].clone());
    apply(&cluster, &plan([third]), 3).await.unwrap();
    let fourth = web("shop:4");
    apply(&cluster, &fourth, 4).await.unwrap();
    let live = cluster.get(&rollout("web")).await.unwrap();
    assert_eq!(
        live["spec"]["template"]["spec"].get("terminationGracePeriodSeconds"),
        None
    );
    assert_eq!(image_of(&live), "shop:4");
}

#[tokio::test(start_paused = true)]
async fn an_image_and_a_count_set_by_hand_come_back_with_the_same_apply() {
    let cluster = Cluster::start().await;
    let first = web("shop:1");
    deployed(&cluster, &first).await;
    let template = shop::template("web", "shop:by-hand");
    cluster
        .patch(
            &rollout("web"),
            json!({"spec": {"replicas": 1, "template": template}}),
        )
        .await;
    let seen = until(&cluster, &first, &rollout("web"), |seen| {
        matches!(seen.standing, Standing::ChangedElsewhere { .. })
    })
    .await;
    let Standing::ChangedElsewhere { by } = seen.standing else {
        unreachable!()
    };
    assert!(by.contains("kubectl-edit"), "{by}");
    apply(&cluster, &first, 1).await.unwrap();
    let done = until_done(&cluster, &first, "web").await;
    assert_eq!(done.pods.new_available, 4);
}

#[tokio::test(start_paused = true)]
async fn init_containers_with_quantities_that_the_controller_rewrote_can_be_removed() {
    let cluster = Cluster::start().await;
    let mut first = rollout_body("web", "shop:1");
    first["spec"]["template"]["spec"]["initContainers"] =
        json!([{"name": "prepare", "image": "prepare:1", "resources": {"requests": {"cpu": "1000m"}}}]);
    first["spec"]["template"] = with_digest(first["spec"]["template"].clone());
    apply(&cluster, &plan([first]), 1).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let live = cluster.get(&rollout("web")).await.unwrap();
    let init = &live["spec"]["template"]["spec"]["initContainers"][0];
    assert_eq!(
        init["resources"]["requests"]["cpu"], "1",
        "the controller rewrote it"
    );
    let second = web("shop:2");
    apply(&cluster, &second, 2).await.unwrap();
    until_at(&cluster, &second, "web", 1).await;
    let live = cluster.get(&rollout("web")).await.unwrap();
    assert_eq!(live["spec"]["template"]["spec"].get("initContainers"), None);
}

fn autoscaler(target: &str, least: u32) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": target, "namespace": "shop"},
        "spec": {
            "minReplicas": least, "maxReplicas": 10,
            "scaleTargetRef": {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": target},
        },
    })
}

/// A Rollout whose replicas belong to an autoscaler.
fn scaled(image: &str) -> Value {
    let mut body = rollout_body("web", image);
    body["spec"].as_object_mut().unwrap().remove("replicas");
    body
}

async fn replicas(cluster: &Cluster) -> u64 {
    cluster.get(&rollout("web")).await.unwrap()["spec"]["replicas"]
        .as_u64()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_joins_and_leaves_without_a_dip() {
    let cluster = Cluster::start().await;
    deployed(&cluster, &web("shop:1")).await;
    let joined = plan([scaled("shop:2"), autoscaler("web", 6)]);
    apply(&cluster, &joined, 2).await.unwrap();
    assert!(
        replicas(&cluster).await >= 4,
        "the live count is kept until the autoscaler has it"
    );
    until_at(&cluster, &joined, "web", 1).await;
    assert_eq!(
        act(&cluster, Action::PromoteFull, "web", None, 3).await.unwrap(),
        Acted::Done
    );
    until(&cluster, &joined, &rollout("web"), |seen| {
        seen.standing == Standing::Done && seen.pods.desired == 6
    })
    .await;
    // Applied again, what the autoscaler owns is left to it.
    apply(&cluster, &joined, 4).await.unwrap();
    assert_eq!(replicas(&cluster).await, 6);
    finish(&cluster, &joined, 4, Direction::Forward).await.unwrap();

    let left = web("shop:3");
    apply(&cluster, &left, 5).await.unwrap();
    let object = ObjectRef::new("autoscaling", "HorizontalPodAutoscaler", "shop", "web");
    assert!(
        cluster.get(&object).await.is_none(),
        "it goes before the rollouts are applied"
    );
    assert_eq!(
        replicas(&cluster).await,
        6,
        "the live count stays until the plan is done"
    );
    // The same apply again, as after a crash, knows of it too.
    apply(&cluster, &left, 5).await.unwrap();
    assert_eq!(replicas(&cluster).await, 6);
    until_at(&cluster, &left, "web", 1).await;
    act(&cluster, Action::PromoteFull, "web", None, 6).await.unwrap();
    until_done(&cluster, &left, "web").await;
    let finished = finish(&cluster, &left, 7, Direction::Forward).await.unwrap();
    assert_eq!(finished.pruned, [object]);
    assert_eq!(replicas(&cluster).await, 4, "then the declared count");
    until(&cluster, &left, &rollout("web"), |seen| {
        seen.standing == Standing::Done && seen.pods.new == 4
    })
    .await;
}

fn deployment(name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": app}},
            "template": shop::template(app, "db:1"),
        },
    })
}

#[tokio::test(start_paused = true)]
async fn a_deployment_of_somebody_else_with_the_same_pods_is_refused_with_the_way_out() {
    let cluster = Cluster::start().await;
    cluster.create(deployment("old-web", "web")).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let refused = apply(&cluster, &web("shop:1"), 1).await.unwrap_err();
    let ExecutorError::Foreign { objects } = &refused else {
        panic!("{refused}")
    };
    assert_eq!(objects.len(), 1, "only at its root: {objects:?}");
    assert_eq!(
        objects[0].object,
        ObjectRef::new("apps", "Deployment", "shop", "old-web")
    );
    assert!(
        objects[0]
            .message
            .contains("kubectl -n shop delete deployment old-web"),
        "{}",
        objects[0].message
    );
    assert_eq!(cluster.changes(), []);
    cluster.delete(&objects[0].object).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    deployed(&cluster, &web("shop:1")).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_somebody_deleted_comes_back_with_the_same_apply() {
    let cluster = Cluster::start().await;
    let first = web("shop:1");
    deployed(&cluster, &first).await;
    cluster.delete(&rollout("web")).await;
    let seen = now(&cluster, &first, "web").await;
    assert_eq!(seen.standing, Standing::Missing);
    apply(&cluster, &first, 1).await.unwrap();
    until_done(&cluster, &first, "web").await;
}

#[tokio::test(start_paused = true)]
async fn an_opted_out_deployment_counts_by_its_readiness() {
    let cluster = Cluster::start().await;
    let database = ObjectRef::new("apps", "Deployment", "shop", "db");
    let mut both = plan([deployment("db", "db"), rollout_body("web", "shop:1")]);
    both.steps.workloads = vec![database.clone()];
    apply(&cluster, &both, 1).await.unwrap();
    let done = until(&cluster, &both, &database, |seen| seen.standing == Standing::Done).await;
    assert_eq!(done.pods.new_available, 2);
    let mut crashing = deployment("db", "db");
    crashing["spec"]["template"] = shop::template("db", "db:crash");
    let mut second = plan([crashing, rollout_body("web", "shop:1")]);
    second.steps.workloads = vec![database.clone()];
    apply(&cluster, &second, 2).await.unwrap();
    let seen = until(&cluster, &second, &database, |seen| {
        seen.failing.iter().any(|pod| pod.restarts >= 3)
    })
    .await;
    assert_ne!(seen.standing, Standing::Done);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_was_opted_out_becomes_a_rollout_and_goes_when_that_is_done() {
    let cluster = Cluster::start().await;
    let mut out = plan([deployment("web", "web")]);
    let before = ObjectRef::new("apps", "Deployment", "shop", "web");
    out.steps.workloads = vec![before.clone()];
    apply(&cluster, &out, 1).await.unwrap();
    until(&cluster, &out, &before, |seen| seen.standing == Standing::Done).await;
    let back = web("shop:1");
    apply(&cluster, &back, 2).await.unwrap();
    until_done(&cluster, &back, "web").await;
    assert!(
        cluster.get(&before).await.is_some(),
        "both run until the new one is done"
    );
    let finished = finish(&cluster, &back, 2, Direction::Forward).await.unwrap();
    assert_eq!(finished.pruned, [before]);
    let pods = cluster.list("", "Pod").await;
    let staying = pods
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    assert_eq!(staying.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_failed_sibling_takes_all_back_with_their_configuration() {
    let cluster = Cluster::start().await;
    let good = pair("1", "api:1");
    deployed(&cluster, &good).await;
    let bad = pair("2", "api:2-crash");
    apply(&cluster, &bad, 2).await.unwrap();
    until_at(&cluster, &bad, "web", 1).await;
    until(&cluster, &bad, &rollout("api"), |seen| {
        seen.failing.iter().any(|pod| pod.restarts >= 3)
    })
    .await;
    roll_back(&cluster, &good, 3).await.unwrap();
    for name in ["web", "api"] {
        let held = cluster.get(&rollout(name)).await.unwrap();
        assert_eq!(held["spec"]["strategy"]["canary"]["maxUnavailable"], 0);
        let done = until_done(&cluster, &good, name).await;
        assert_eq!(done.pods.new_available, 4);
    }
    let finished = finish(&cluster, &good, 4, Direction::Back).await.unwrap();
    assert_eq!(
        finished.pruned,
        [core("ConfigMap", "api-2"), core("ConfigMap", "web-2")]
    );
    assert!(finished.kept.is_empty(), "{finished:?}");
    for name in ["web", "api"] {
        let live = cluster.get(&rollout(name)).await.unwrap();
        assert_eq!(live["spec"]["strategy"]["canary"]["maxUnavailable"], "25%");
        assert!(
            cluster
                .get(&core("ConfigMap", &format!("{name}-1")))
                .await
                .is_some()
        );
        until_done(&cluster, &good, name).await;
    }
}

#[tokio::test(start_paused = true)]
async fn siblings_that_were_done_are_promoted_full_on_the_way_back() {
    let cluster = Cluster::start().await;
    let good = pair("1", "api:1");
    deployed(&cluster, &good).await;
    let bad = pair("2", "api:2");
    apply(&cluster, &bad, 2).await.unwrap();
    until_at(&cluster, &bad, "web", 1).await;
    act(&cluster, Action::PromoteFull, "web", None, 3).await.unwrap();
    until_done(&cluster, &bad, "web").await;
    // Its configuration was pruned by a finish in between.
    until_at(&cluster, &bad, "api", 1).await;
    finish(&cluster, &bad, 4, Direction::Forward).await.unwrap();
    assert!(cluster.get(&core("ConfigMap", "web-1")).await.is_none());
    assert!(
        cluster.get(&core("ConfigMap", "api-1")).await.is_some(),
        "its pods still run"
    );
    roll_back(&cluster, &good, 5).await.unwrap();
    for name in ["web", "api"] {
        let seen = now(&cluster, &good, name).await;
        if seen.revision != seen.stable {
            act(&cluster, Action::PromoteFull, name, seen.expect.as_ref(), 6)
                .await
                .unwrap();
        }
        until_done(&cluster, &good, name).await;
    }
    assert!(cluster.get(&core("ConfigMap", "web-1")).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_leaves_takes_its_configuration_along_in_one_finish() {
    let cluster = Cluster::start().await;
    deployed(&cluster, &pair("1", "api:1")).await;
    let only_web = plan([
        config_body("web-1"),
        configured(rollout_body("web", "web:1"), "web-1"),
    ]);
    apply(&cluster, &only_web, 2).await.unwrap();
    assert!(
        cluster.get(&rollout("api")).await.is_some(),
        "an apply prunes nothing"
    );
    let finished = finish(&cluster, &only_web, 2, Direction::Forward).await.unwrap();
    assert_eq!(finished.pruned, [core("ConfigMap", "api-1"), rollout("api")]);
    assert!(finished.kept.is_empty(), "{finished:?}");
    let sets = cluster.list("apps", "ReplicaSet").await;
    assert!(
        sets.iter().all(|set| set["metadata"]["labels"]["app"] == "web"),
        "its ReplicaSets are gone"
    );
    until_done(&cluster, &only_web, "web").await;
}

#[tokio::test(start_paused = true)]
async fn data_is_never_pruned_and_the_answer_says_so() {
    let cluster = Cluster::start().await;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "shop"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    let mut kept = config_body("kept");
    kept["metadata"]["annotations"] = json!({"aurora.dev/prune": "false"});
    deployed(&cluster, &plan([claim, kept, rollout_body("web", "shop:1")])).await;
    apply(&cluster, &web("shop:1"), 2).await.unwrap();
    let finished = finish(&cluster, &web("shop:1"), 2, Direction::Forward)
        .await
        .unwrap();
    assert!(finished.pruned.is_empty(), "{finished:?}");
    let named: Vec<_> = finished.kept.keys().map(String::as_str).collect();
    assert_eq!(named, ["ConfigMap shop/kept", "PersistentVolumeClaim shop/data"]);
    assert!(
        cluster
            .get(&core("PersistentVolumeClaim", "data"))
            .await
            .is_some()
    );
}

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    })
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_comes_with_the_plan_is_used_once_it_is_established() {
    let mut cluster = Cluster::start().await;
    let widget = json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "shop"},
        "spec": {"size": 3},
    });
    let with_widget = plan([widget, definition(), rollout_body("web", "shop:1")]);
    let refused = apply(&cluster, &with_widget, 1).await.unwrap_err();
    assert!(
        words(&refused).contains("--allow-cluster-kinds"),
        "{}",
        words(&refused)
    );
    assert_eq!(cluster.changes(), []);
    cluster.policy = AgentPolicy::new().with_cluster_kinds();
    deployed(&cluster, &with_widget).await;
    let object = ObjectRef::new("example.com", "Widget", "shop", "w");
    let read = cluster
        .kube_executor()
        .get(&object)
        .await
        .unwrap()
        .expect("it was applied");
    assert_eq!(read["spec"]["size"], 3);
    // It leaves with the plan; its definition stays.
    apply(&cluster, &web("shop:1"), 2).await.unwrap();
    let finished = finish(&cluster, &web("shop:1"), 2, Direction::Forward)
        .await
        .unwrap();
    assert_eq!(finished.pruned, [object]);
    assert_eq!(
        finished.kept.keys().collect::<Vec<_>>(),
        ["CustomResourceDefinition widgets.example.com"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_namespace_is_made_only_where_that_is_allowed() {
    let mut cluster = Cluster::start().await;
    let mut first = web("shop:1");
    first.namespace = "new".to_owned();
    first.objects[0].body["metadata"]["namespace"] = json!("new");
    let mut order = order(&first, 1, Direction::Forward);
    order.set.namespace = "new".to_owned();
    let (stages, _heard) = mpsc::channel(8);
    let refused = cluster
        .kube_executor()
        .apply(&order, &first, &stages)
        .await
        .unwrap_err();
    assert!(
        words(&refused).contains("namespace new does not exist"),
        "{}",
        words(&refused)
    );

    let mut namespace = first.objects[0].clone();
    namespace.body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new"}});
    first.objects.push(namespace);
    order.plan = first.digest();
    let refused = cluster
        .kube_executor()
        .apply(&order, &first, &stages)
        .await
        .unwrap_err();
    assert!(
        words(&refused).contains("may not create namespaces"),
        "{}",
        words(&refused)
    );

    cluster.policy = AgentPolicy::new().with_namespace_creation();
    cluster
        .kube_executor()
        .apply(&order, &first, &stages)
        .await
        .unwrap();
    assert!(
        cluster
            .get(&ObjectRef::new("", "Namespace", "", "new"))
            .await
            .is_some()
    );
    assert!(
        cluster
            .get(&ObjectRef::new("argoproj.io", "Rollout", "new", "web"))
            .await
            .is_some()
    );
}

#[tokio::test(start_paused = true)]
async fn a_namespace_outside_of_the_policy_is_left_alone() {
    let mut cluster = Cluster::start().await;
    let (second, seen) = at_first_gate(&cluster).await;
    cluster.policy = AgentPolicy::new().with_namespaces(["elsewhere"]);
    let before = cluster.changes().len();
    let forbidden =
        |error: ExecutorError| assert!(matches!(error, ExecutorError::Forbidden { .. }), "{error}");
    forbidden(apply(&cluster, &second, 3).await.unwrap_err());
    forbidden(
        finish(&cluster, &second, 3, Direction::Forward)
            .await
            .unwrap_err(),
    );
    forbidden(
        act(&cluster, Action::Promote, "web", seen.expect.as_ref(), 3)
            .await
            .unwrap_err(),
    );
    let executor = cluster.kube_executor();
    forbidden(executor.get(&core("Secret", "x")).await.unwrap_err());
    forbidden(executor.delete(&shop::set(), &rollout("web")).await.unwrap_err());
    let items = executor.inventory().await.unwrap();
    let keys: Vec<_> = items.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["namespace/elsewhere"]);
    assert_eq!(cluster.changes().len(), before);
}

#[tokio::test(start_paused = true)]
async fn another_tenants_applied_set_is_not_touched() {
    let cluster = Cluster::start().await;
    deployed(&cluster, &web("shop:1")).await;
    let second = web("shop:2");
    let mut order = order(&second, 2, Direction::Forward);
    order.set.tenant = "other/production".to_owned();
    let (stages, _heard) = mpsc::channel(8);
    let refused = cluster
        .kube_executor()
        .apply(&order, &second, &stages)
        .await
        .unwrap_err();
    assert!(
        words(&refused).contains("belongs to application shop of tenant acme/production"),
        "{}",
        words(&refused)
    );
    assert_eq!(image_of(&cluster.get(&rollout("web")).await.unwrap()), "shop:1");
}

#[tokio::test(start_paused = true)]
async fn objects_carry_the_stamp_and_the_set_lists_their_uids() {
    let cluster = Cluster::start().await;
    deployed(
        &cluster,
        &plan([
            config_body("settings"),
            service_body("web", "web"),
            rollout_body("web", "shop:1"),
        ]),
    )
    .await;
    let set = cluster.get(&core("ConfigMap", "aurora-shop")).await.unwrap();
    let set: Value = serde_json::from_str(set["data"]["appliedSet"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&set["tenant"], &set["target"]),
        (&json!("acme/production"), &json!("staging"))
    );
    assert_eq!(set["stamp"], json!({"fence": 7, "version": 1}));
    for object in [
        core("ConfigMap", "settings"),
        core("Service", "web"),
        rollout("web"),
    ] {
        let live = cluster.get(&object).await.unwrap();
        assert_eq!(
            live["metadata"]["annotations"]["aurora.dev/plan"], "7.1",
            "{object}"
        );
        let entries = set["entries"].as_array().unwrap();
        let entry = entries
            .iter()
            .find(|entry| entry["kind"] == object.kind.as_str())
            .unwrap();
        assert_eq!(entry["uid"], live["metadata"]["uid"], "{object}");
    }
    let live = cluster.get(&rollout("web")).await.unwrap();
    let annotations = live["spec"]["template"]["metadata"]["annotations"]
        .as_object()
        .unwrap();
    assert_eq!(
        annotations.len(),
        1,
        "nothing of a run is in a pod template: {annotations:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn each_object_changes_once_per_plan_and_each_gate_once_however_often_orders_come() {
    let cluster = Cluster::start().await;
    let release = |image: &str| {
        plan([
            config_body("settings"),
            service_body("web", "web"),
            rollout_body("web", image),
        ])
    };
    deployed(&cluster, &release("shop:1")).await;
    finish(&cluster, &release("shop:1"), 1, Direction::Forward)
        .await
        .unwrap();
    let second = release("shop:2");
    for _ in 0..3 {
        apply(&cluster, &second, 2).await.unwrap();
    }
    for (gate, version) in [(1, 3), (3, 4)] {
        let seen = until_at(&cluster, &second, "web", gate).await;
        apply(&cluster, &second, 2).await.unwrap();
        for _ in 0..3 {
            act(&cluster, Action::Promote, "web", seen.expect.as_ref(), version)
                .await
                .unwrap();
        }
    }
    until_done(&cluster, &second, "web").await;
    for _ in 0..2 {
        finish(&cluster, &second, 5, Direction::Forward).await.unwrap();
    }
    let changes = cluster.changes();
    let count = |path: &str| {
        changes
            .iter()
            .filter(|(_, changed)| changed.ends_with(path))
            .count()
    };
    for object in ["configmaps/settings", "services/web", "rollouts/web"] {
        assert_eq!(count(object), 2, "{object}, once for each plan: {changes:?}");
    }
    assert_eq!(count("rollouts/web/status"), 2, "once for each gate: {changes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_being_deleted_takes_nothing_new() {
    let cluster = Cluster::start().await;
    deployed(&cluster, &web("shop:1")).await;
    let second = plan([config_body("new"), rollout_body("web", "shop:2")]);
    let namespace = ObjectRef::new("", "Namespace", "", "shop");
    let (refused, ()) = tokio::join!(apply(&cluster, &second, 2), cluster.delete(&namespace));
    let refused = refused.unwrap_err();
    assert!(
        words(&refused).contains("namespace shop does not exist"),
        "{}",
        words(&refused)
    );
}
