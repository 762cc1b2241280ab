//! What the real controller was seen to need of an executor, one test each, on the simulated cluster.

#[path = "executor/cluster.rs"]
#[expect(dead_code, reason = "each test binary needs a part of it")]
mod cluster;
#[path = "executor/shop.rs"]
#[expect(dead_code, reason = "each test binary needs a part of it")]
mod shop;

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use aurora_core::command::{Acted, Action, Direction, Observe};
use aurora_core::port::executor::{ClusterExecutor as _, ExecutorError};
use aurora_core::progress::Standing;
use aurora_k8s::sim::api::{Fault, Matching};

use self::cluster::Cluster;
use self::shop::{
    act, apply, at_first_gate, core, deployed, now, order, plan, rollout, rollout_body, service_body, set,
    until, until_at, until_done, web, words,
};

/// A canary with Services of its own, as the controller manages them.
fn with_services(image: &str) -> aurora_core::plan::Plan {
    let mut body = rollout_body("web", image);
    body["spec"]["strategy"]["canary"]["stableService"] = json!("web-stable");
    body["spec"]["strategy"]["canary"]["canaryService"] = json!("web-canary");
    plan([
        service_body("web-stable", "web"),
        service_body("web-canary", "web"),
        body,
    ])
}

async fn hash_in(cluster: &Cluster, service: &str) -> Value {
    let body = cluster
        .get(&core("Service", service))
        .await
        .expect("the service is there");
    body["spec"]["selector"]["rollouts-pod-template-hash"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_service_applied_again_keeps_the_hash_that_the_controller_wrote() {
    let cluster = Cluster::start().await;
    deployed(&cluster, &with_services("shop:1")).await;
    let second = with_services("shop:2");
    apply(&cluster, &second, 2).await.unwrap();
    let seen = until_at(&cluster, &second, "web", 1).await;
    assert_eq!(hash_in(&cluster, "web-stable").await, seen.stable.as_str());
    assert_eq!(hash_in(&cluster, "web-canary").await, seen.revision.as_str());
    apply(&cluster, &second, 3).await.unwrap();
    assert_eq!(hash_in(&cluster, "web-stable").await, seen.stable.as_str());
    assert_eq!(hash_in(&cluster, "web-canary").await, seen.revision.as_str());
    let wiped = cluster.api.requests().into_iter().filter(|request| {
        request.changed && request.path.contains("/services/") && request.query.contains("aurora-agent")
    });
    assert!(wiped.count() >= 2, "the services were applied, not left out");
}

#[tokio::test(start_paused = true)]
async fn a_hash_that_somebody_removed_is_filled_in() {
    let cluster = Cluster::start().await;
    deployed(&cluster, &with_services("shop:1")).await;
    let second = with_services("shop:2");
    apply(&cluster, &second, 2).await.unwrap();
    let seen = until_at(&cluster, &second, "web", 1).await;
    cluster.behaviour.stop_rollouts();
    for service in ["web-stable", "web-canary"] {
        let patch = json!({"spec": {"selector": {"rollouts-pod-template-hash": null}}});
        cluster.patch(&core("Service", service), patch).await;
        assert_eq!(hash_in(&cluster, service).await, Value::Null);
    }
    apply(&cluster, &second, 2).await.unwrap();
    assert_eq!(hash_in(&cluster, "web-stable").await, seen.stable.as_str());
    assert_eq!(hash_in(&cluster, "web-canary").await, seen.revision.as_str());
}

fn blue_green(image: &str) -> aurora_core::plan::Plan {
    let mut body = rollout_body("web", image);
    body["spec"]["strategy"] =
        json!({"blueGreen": {"activeService": "web-active", "autoPromotionEnabled": false}});
    plan([service_body("web-active", "web"), body])
}

#[tokio::test(start_paused = true)]
async fn a_blue_green_rollout_is_applied_only_while_its_active_service_selects_the_stable_hash() {
    let cluster = Cluster::start().await;
    cluster.behaviour.stop_rollouts();
    let first = blue_green("shop:1");
    let executor = cluster.kube_executor();
    let (stages, _heard) = mpsc::channel(8);
    let order_of_first = order(&first, 1, Direction::Forward);
    // Nobody takes it up: what follows is played by hand.
    let applying = executor.apply(&order_of_first, &first, &stages);
    assert!(
        tokio::time::timeout(Duration::from_secs(5), applying)
            .await
            .is_err()
    );
    let status = json!({"status": {
        "observedGeneration": "1", "phase": "Healthy", "currentPodHash": "aaa", "stableRS": "aaa",
    }});
    cluster.patch_status(&rollout("web"), status).await;
    // The active Service is bare, as after a forced apply: the next one must fill the hash in first.
    let second = blue_green("shop:2");
    let order_of_second = order(&second, 2, Direction::Forward);
    let applying = executor.apply(&order_of_second, &second, &stages);
    assert!(
        tokio::time::timeout(Duration::from_secs(5), applying)
            .await
            .is_err()
    );
    assert_eq!(hash_in(&cluster, "web-active").await, "aaa");
    let changes = cluster.changes();
    let of = |part: &str| {
        changes
            .iter()
            .rposition(|(_, path)| path.ends_with(part))
            .expect("it was applied")
    };
    assert!(
        of("services/web-active") < of("rollouts/web"),
        "first the service, then the rollout"
    );
    // Another hash than the stable one is not overwritten, and the Rollout is left alone.
    cluster
        .patch(
            &core("Service", "web-active"),
            json!({"spec": {"selector": {"rollouts-pod-template-hash": "zzz"}}}),
        )
        .await;
    let third = blue_green("shop:3");
    let refused = apply(&cluster, &third, 3).await.unwrap_err();
    assert!(words(&refused).contains("without a gate"), "{}", words(&refused));
    let live = cluster.get(&rollout("web")).await.unwrap();
    assert_eq!(
        live["spec"]["template"]["spec"]["containers"][0]["image"],
        "shop:2"
    );
}

#[tokio::test(start_paused = true)]
async fn a_skip_stops_at_the_pause_that_follows() {
    let cluster = Cluster::start().await;
    deployed(&cluster, &web("shop:1")).await;
    let mut body = rollout_body("web", "shop:2");
    body["spec"]["strategy"]["canary"]["steps"] =
        json!([{"setWeight": 25}, {"pause": {}}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]);
    let second = plan([body]);
    apply(&cluster, &second, 2).await.unwrap();
    let seen = until_at(&cluster, &second, "web", 1).await;
    let expect = seen.expect.as_ref();
    assert_eq!(
        act(&cluster, Action::Skip, "web", expect, 3).await.unwrap(),
        Acted::Done
    );
    until_at(&cluster, &second, "web", 2).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        act(&cluster, Action::Skip, "web", expect, 3).await.unwrap(),
        Acted::Unchanged
    );
    until_at(&cluster, &second, "web", 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_promote_of_an_inconclusive_pause_goes_on_instead_of_running_the_analysis_again() {
    let cluster = Cluster::start().await;
    let (second, _) = at_first_gate(&cluster).await;
    cluster.behaviour.stop_rollouts();
    let start = "2026-01-01T00:10:00Z";
    let pause = json!([{"reason": "InconclusiveAnalysisRun", "startTime": start}]);
    cluster
        .patch_status(&rollout("web"), json!({"status": {"pauseConditions": pause}}))
        .await;
    let seen = now(&cluster, &second, "web").await;
    assert!(
        matches!(
            seen.standing,
            Standing::AtPause {
                inconclusive: true,
                ..
            }
        ),
        "{seen:?}"
    );
    assert_eq!(
        act(&cluster, Action::Promote, "web", seen.expect.as_ref(), 3)
            .await
            .unwrap(),
        Acted::Done
    );
    let status = cluster.get(&rollout("web")).await.unwrap()["status"].clone();
    assert_eq!(
        (&status["pauseConditions"], &status["controllerPause"]),
        (&Value::Null, &json!(false))
    );
    assert_eq!(status["currentStepIndex"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_promote_whose_answer_was_lost_opens_one_gate() {
    let cluster = Cluster::start().await;
    let (second, seen) = at_first_gate(&cluster).await;
    let status = Matching::any()
        .with_verb("patch")
        .with_path("rollouts/web/status");
    cluster.api.faults().inject(Fault::dropped_after(), 1, status);
    let acted = act(&cluster, Action::Promote, "web", seen.expect.as_ref(), 3)
        .await
        .unwrap();
    assert_eq!(acted, Acted::Unchanged, "the first attempt had its effect");
    assert_eq!(cluster.api.faults().outstanding(), 0);
    until_at(&cluster, &second, "web", 3).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    until_at(&cluster, &second, "web", 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_promote_that_met_another_writer_looks_again() {
    let cluster = Cluster::start().await;
    let (second, seen) = at_first_gate(&cluster).await;
    let status = Matching::any()
        .with_verb("patch")
        .with_path("rollouts/web/status");
    cluster
        .api
        .faults()
        .inject(Fault::status(409, "the object has been modified"), 2, status);
    let acted = act(&cluster, Action::Promote, "web", seen.expect.as_ref(), 3)
        .await
        .unwrap();
    assert_eq!(acted, Acted::Done);
    until_at(&cluster, &second, "web", 3).await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_wins_over_a_full_promotion_under_way() {
    let cluster = Cluster::start().await;
    deployed(&cluster, &web("shop:1")).await;
    let second = web("shop:2-slow");
    apply(&cluster, &second, 2).await.unwrap();
    let seen = until_at(&cluster, &second, "web", 1).await;
    assert_eq!(
        act(&cluster, Action::PromoteFull, "web", seen.expect.as_ref(), 3)
            .await
            .unwrap(),
        Acted::Done
    );
    until(&cluster, &second, &rollout("web"), |seen| {
        seen.step.is_some_and(|step| step.index == 4)
    })
    .await;
    assert_eq!(
        act(&cluster, Action::Abort, "web", seen.expect.as_ref(), 3)
            .await
            .unwrap(),
        Acted::Done
    );
    let aborted = until(&cluster, &second, &rollout("web"), |seen| {
        seen.standing == Standing::Aborted && seen.pods.new == 0
    })
    .await;
    assert_eq!(aborted.pods.old_available, 4);
}

#[tokio::test(start_paused = true)]
async fn a_full_promotion_right_after_an_apply_is_not_lost() {
    let cluster = Cluster::start().await;
    deployed(&cluster, &web("shop:1")).await;
    let second = web("shop:2");
    apply(&cluster, &second, 2).await.unwrap();
    assert_eq!(
        act(&cluster, Action::PromoteFull, "web", None, 2).await.unwrap(),
        Acted::Done
    );
    until_done(&cluster, &second, "web").await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_to_a_revision_that_was_not_taken_up() {
    let cluster = Cluster::start().await;
    deployed(&cluster, &web("shop:1")).await;
    cluster.behaviour.stop_rollouts();
    let second = web("shop:2");
    let executor = cluster.kube_executor();
    let (stages, _heard) = mpsc::channel(8);
    let order = order(&second, 2, Direction::Forward);
    let applying = executor.apply(&order, &second, &stages);
    assert!(
        tokio::time::timeout(Duration::from_secs(5), applying)
            .await
            .is_err()
    );
    assert_eq!(
        now(&cluster, &second, "web").await.standing,
        Standing::NotObserved
    );
    for action in [Action::Abort, Action::PromoteFull] {
        let refused = act(&cluster, action, "web", None, 2).await.unwrap_err();
        assert!(
            matches!(refused, ExecutorError::WrongGate { .. }),
            "{action:?}: {refused}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_field_is_refused_at_once() {
    let cluster = Cluster::start().await;
    let mut body = rollout_body("web", "shop:1");
    body["spec"]["strategy"]["canary"]["steps"] = json!([{"setWieght": 25}]);
    let began = Instant::now();
    let refused = apply(&cluster, &plan([body]), 1).await.unwrap_err();
    assert!(matches!(refused, ExecutorError::Rejected { .. }), "{refused}");
    assert!(
        words(&refused).contains("Rollout shop/web") && words(&refused).contains("setWieght"),
        "{}",
        words(&refused)
    );
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "a mistake is not tried again"
    );
}

#[tokio::test(start_paused = true)]
async fn kinds_that_are_not_served_are_named_together_before_anything_is_written() {
    let cluster = Cluster::start().await;
    let istio = |kind: &str| json!({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": "web", "namespace": "shop"}});
    let bodies = [
        istio("VirtualService"),
        istio("DestinationRule"),
        service_body("web", "web"),
        rollout_body("web", "shop:1"),
    ];
    let refused = apply(&cluster, &plan(bodies), 1).await.unwrap_err();
    let words = words(&refused);
    for kind in ["VirtualService", "DestinationRule"] {
        assert!(words.contains(&format!("no such kind {kind}")), "{words}");
    }
    assert!(words.contains("is its CRD installed?"), "{words}");
    assert_eq!(cluster.changes(), []);
}

#[tokio::test(start_paused = true)]
async fn a_generation_that_the_controller_raised_itself_is_observed() {
    let cluster = Cluster::start().await;
    let mut body = rollout_body("web", "shop:1");
    // The controller fills replicas in, and so writes the object itself.
    body["spec"].as_object_mut().unwrap().remove("replicas");
    let plan = plan([body]);
    apply(&cluster, &plan, 1).await.unwrap();
    let done = until_done(&cluster, &plan, "web").await;
    assert_eq!(done.pods.desired, 1);
    let live = cluster.get(&rollout("web")).await.unwrap();
    assert_eq!(live["metadata"]["generation"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_pause_whose_pods_never_came_up_is_not_ready() {
    let cluster = Cluster::start().await;
    let release = |image: &str| {
        let mut body = rollout_body("web", image);
        body["spec"]["replicas"] = json!(3);
        let steps = json!([{"setWeight": 20}, {"pause": {}}]);
        body["spec"]["strategy"] = json!({"canary": {"maxUnavailable": 0, "steps": steps}});
        plan([body])
    };
    deployed(&cluster, &release("shop:1")).await;
    let second = release("shop:2-badpull");
    apply(&cluster, &second, 2).await.unwrap();
    until(&cluster, &second, &rollout("web"), |seen| seen.pods.new == 1).await;
    // The controller takes the pods of the former canary for those of the new one.
    let third = release("shop:3-neverready");
    apply(&cluster, &third, 3).await.unwrap();
    let seen = until(&cluster, &third, &rollout("web"), |seen| {
        matches!(seen.standing, Standing::AtPause { .. })
    })
    .await;
    assert!(
        matches!(
            seen.standing,
            Standing::AtPause {
                index: 1,
                ready: false,
                ..
            }
        ),
        "{seen:?}"
    );
    assert_eq!(seen.pods.new_available, 0);
    assert_eq!(
        act(&cluster, Action::Promote, "web", seen.expect.as_ref(), 4)
            .await
            .unwrap(),
        Acted::WaitForPods
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_first_deployment_that_never_came_up_the_next_one_has_gates() {
    let cluster = Cluster::start().await;
    let first = web("shop:1-neverready");
    apply(&cluster, &first, 1).await.unwrap();
    let seen = until(&cluster, &first, &rollout("web"), |seen| {
        !seen.stable.is_empty() && seen.pods.new == 4
    })
    .await;
    assert_eq!((seen.standing, seen.pods.new_available), (Standing::Moving, 0));
    assert_eq!(
        act(&cluster, Action::Abort, "web", None, 2).await.unwrap(),
        Acted::NothingToAbort
    );
    let second = web("shop:2");
    apply(&cluster, &second, 2).await.unwrap();
    until_at(&cluster, &second, "web", 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_api_server_is_given_the_time_it_asks_for() {
    let cluster = Cluster::start().await;
    let patches = Matching::any().with_verb("patch").with_path("rollouts/web");
    cluster
        .api
        .faults()
        .inject(Fault::too_many_requests(7), 2, patches.clone());
    cluster
        .api
        .faults()
        .inject(Fault::webhook_failure("validate.example.com"), 2, patches.clone());
    cluster.api.faults().inject(Fault::unavailable(), 1, patches);
    let began = Instant::now();
    apply(&cluster, &web("shop:1"), 1).await.unwrap();
    assert!(
        began.elapsed() >= Duration::from_secs(14),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(cluster.api.faults().outstanding(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_is_asked_again() {
    let cluster = Cluster::start().await;
    let patches = Matching::any().with_verb("patch").with_path("rollouts/web");
    cluster.api.faults().inject(Fault::hanging(), 1, patches);
    apply(&cluster, &web("shop:1"), 1).await.unwrap();
    until_done(&cluster, &web("shop:1"), "web").await;
}

#[tokio::test(start_paused = true)]
async fn lost_answers_to_writes_do_no_harm() {
    let cluster = Cluster::start().await;
    let bodies = || {
        [
            shop::config_body("settings"),
            service_body("web", "web"),
            rollout_body("web", "shop:1"),
        ]
    };
    for verb in ["create", "patch"] {
        cluster
            .api
            .faults()
            .inject(Fault::dropped_after(), 3, Matching::any().with_verb(verb));
    }
    let applied = apply(&cluster, &plan(bodies()), 1).await.unwrap();
    assert_eq!((applied.changed, applied.unchanged), (3, 0));
    until_done(&cluster, &plan(bodies()), "web").await;
}

#[tokio::test(start_paused = true)]
async fn observing_goes_on_over_a_restart_of_the_api_server() {
    let cluster = Cluster::start().await;
    let (second, seen) = at_first_gate(&cluster).await;
    let observe = Observe {
        set: set(),
        plan: second.digest(),
        direction: Direction::Forward,
    };
    let mut levels = cluster.kube_executor().observe(&observe, &second).await.unwrap();
    levels.next().await.unwrap().unwrap();
    cluster.api.restart();
    let quiet = tokio::time::timeout(Duration::from_secs(30), levels.next()).await;
    assert!(quiet.is_err(), "the same level is not told twice: {quiet:?}");
    act(&cluster, Action::Promote, "web", seen.expect.as_ref(), 3)
        .await
        .unwrap();
    let reached = async {
        loop {
            let news = levels.next().await.unwrap().unwrap();
            if matches!(news[0].standing, Standing::AtPause { index: 3, .. }) {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached)
        .await
        .expect("it must be seen");
}

#[tokio::test(start_paused = true)]
async fn without_a_controller_it_is_said_so_after_a_minute() {
    let cluster = Cluster::start().await;
    cluster.behaviour.stop_rollouts();
    let first = web("shop:1");
    let executor = cluster.kube_executor();
    let (stages, mut heard) = mpsc::channel(64);
    let order = order(&first, 1, Direction::Forward);
    let applying = executor.apply(&order, &first, &stages);
    tokio::pin!(applying);
    assert!(
        tokio::time::timeout(Duration::from_secs(50), &mut applying)
            .await
            .is_err()
    );
    while let Ok((_, _, doing)) = heard.try_recv() {
        assert!(!doing.contains("no controller seems"), "too early: {doing}");
    }
    assert!(
        tokio::time::timeout(Duration::from_secs(20), &mut applying)
            .await
            .is_err()
    );
    let mut said = Vec::new();
    while let Ok((_, _, doing)) = heard.try_recv() {
        said.push(doing);
    }
    let suspicion = "no controller seems to be watching Rollout web since 2026-01-01T00:00:0";
    assert!(said.iter().any(|doing| doing.starts_with(suspicion)), "{said:?}");
    cluster.behaviour.start_rollouts();
    tokio::time::timeout(Duration::from_secs(30), applying)
        .await
        .expect("it must go on")
        .unwrap();
    until_done(&cluster, &first, "web").await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_reference_is_invalid_until_it_appears() {
    let cluster = Cluster::start().await;
    let mut body = rollout_body("web", "shop:1");
    body["spec"]["strategy"]["canary"]["stableService"] = json!("elsewhere");
    let first = plan([body]);
    apply(&cluster, &first, 1).await.unwrap();
    let seen = until(&cluster, &first, &rollout("web"), |seen| {
        seen.standing == Standing::Invalid
    })
    .await;
    assert!(seen.message.contains("elsewhere"), "{}", seen.message);
    cluster.create(service_body("elsewhere", "web")).await;
    until_done(&cluster, &first, "web").await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_cannot_start_are_evidence_with_their_reason() {
    let cluster = Cluster::start().await;
    deployed(&cluster, &web("shop:1")).await;
    let unpullable = web("shop:2-badpull");
    apply(&cluster, &unpullable, 2).await.unwrap();
    let seen = until(&cluster, &unpullable, &rollout("web"), |seen| {
        !seen.failing.is_empty()
    })
    .await;
    assert!(seen.failing[0].unpullable, "{:?}", seen.failing);
    assert!(seen.failing[0].reason.contains("Pull"), "{:?}", seen.failing);
    let unconfigured = plan([shop::configured(rollout_body("web", "shop:3"), "nowhere")]);
    apply(&cluster, &unconfigured, 3).await.unwrap();
    let seen = until(&cluster, &unconfigured, &rollout("web"), |seen| {
        !seen.failing.is_empty()
    })
    .await;
    assert_eq!(seen.failing[0].reason, "CreateContainerConfigError");
    assert!(seen.failing[0].message.contains("nowhere"), "{:?}", seen.failing);
}

#[tokio::test(start_paused = true)]
async fn what_a_person_does_with_the_plugin_is_seen_and_counts() {
    let cluster = Cluster::start().await;
    let (second, seen) = at_first_gate(&cluster).await;
    cluster
        .patch_status(&rollout("web"), json!({"status": {"pauseConditions": null}}))
        .await;
    until_at(&cluster, &second, "web", 3).await;
    let late = act(&cluster, Action::Promote, "web", seen.expect.as_ref(), 3)
        .await
        .unwrap();
    assert_eq!(late, Acted::Unchanged, "the gate was opened by somebody else");
    cluster
        .patch_status(&rollout("web"), json!({"status": {"abort": true}}))
        .await;
    until(&cluster, &second, &rollout("web"), |seen| {
        seen.standing == Standing::Aborted
    })
    .await;
}
