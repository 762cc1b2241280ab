//! Tests of the Rollouts controller that no recording covers.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{NS, beside, cluster, condition, get, rollout, seconds, template, update};
use crate::sim::{
    controller::Behaviour,
    objects::Delete,
    resource::{DAEMON_SETS, DEPLOYMENTS, JOBS, PODS, REPLICA_SETS, ROLLOUTS, SERVICES, STATEFUL_SETS},
};

const HASH: &str = "rollouts-pod-template-hash";

#[tokio::test(start_paused = true)]
async fn rollout_without_a_controller_has_no_status_until_one_starts() {
    let objects = cluster();
    let behaviour = Behaviour::default();
    behaviour.stop_rollouts();
    beside(&objects, &behaviour, async {
        objects.create(&ROLLOUTS, rollout(2, "ok:1")).unwrap();
        seconds(30).await;
        assert_eq!(get(&objects, &ROLLOUTS, "web").get("status"), None);
        behaviour.start_rollouts();
        seconds(2).await;
        assert_eq!(get(&objects, &ROLLOUTS, "web")["status"]["phase"], "Healthy");
        behaviour.stop_rollouts();
        update(
            &objects,
            &ROLLOUTS,
            "web",
            &json!({"spec": {"template": template("ok:2")}}),
        );
        seconds(30).await;
        let frozen = get(&objects, &ROLLOUTS, "web");
        assert_eq!(frozen["status"]["observedGeneration"], "1");
        assert_eq!(frozen["metadata"]["generation"], 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn rollout_that_is_not_simulated_says_so() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        let strategies = [
            json!({"blueGreen": {"activeService": "web", "prePromotionAnalysis": {"templates": [{"templateName": "t"}]}}}),
            json!({"canary": {"trafficRouting": {"nginx": {"stableIngress": "web"}}}}),
            json!({"canary": {"steps": [{"analysis": {"templates": [{"templateName": "t"}]}}]}}),
        ];
        for strategy in strategies {
            let mut rollout = rollout(1, "ok:1");
            rollout["spec"]["strategy"] = strategy;
            objects.create(&ROLLOUTS, rollout).unwrap();
            seconds(2).await;
            let held = get(&objects, &ROLLOUTS, "web");
            let message = held["status"]["message"].as_str().unwrap();
            assert!(
                message.contains("the simulated controller does not run it"),
                "{message}"
            );
            assert_eq!(held["status"]["phase"], "Degraded");
            assert_eq!(condition(&held, "InvalidSpec")["status"], "True");
            assert!(objects.list(&REPLICA_SETS, Some(NS)).items.is_empty());
            objects.delete(&ROLLOUTS, NS, "web", &Delete::default()).unwrap();
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn spec_that_is_not_canonical_is_written_back_once() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        let mut rollout = rollout(1, "ok:1");
        rollout["spec"]["minReadySeconds"] = json!(0);
        rollout["spec"]["template"]["spec"]["containers"][0]["resources"] =
            json!({"requests": {"cpu": "1000m"}});
        rollout["spec"].as_object_mut().unwrap().remove("replicas");
        let sent = objects.create(&ROLLOUTS, rollout).unwrap();
        seconds(3).await;
        let held = get(&objects, &ROLLOUTS, "web");
        assert_eq!(held["spec"]["replicas"], 1);
        assert_eq!(
            held["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"],
            "1"
        );
        assert_eq!(held["spec"].get("minReadySeconds"), None);
        assert_eq!(held["metadata"]["generation"], 3, "defaulted, then rewritten");
        assert_eq!(held["status"]["observedGeneration"], "3");
        // The same sent again is a new generation, but no new revision.
        let mut again = (*sent).clone();
        again["metadata"] = held["metadata"].clone();
        again["spec"]["replicas"] = json!(1);
        objects.update(&ROLLOUTS, NS, "web", None, again).unwrap();
        seconds(3).await;
        let held = get(&objects, &ROLLOUTS, "web");
        assert_eq!(held["metadata"]["generation"], 4);
        assert_eq!(held["status"]["observedGeneration"], "4");
        assert_eq!(objects.list(&REPLICA_SETS, Some(NS)).items.len(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn cluster_that_is_restored_goes_on_where_it_stood() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        objects.create(&ROLLOUTS, rollout(2, "ok:1")).unwrap();
        seconds(2).await;
        update(
            &objects,
            &ROLLOUTS,
            "web",
            &json!({"spec": {"template": template("ok:2")}}),
        );
        seconds(3).await;
    })
    .await;
    let restored = cluster();
    restored.restore(&objects.snapshot()).unwrap();
    beside(&restored, &Behaviour::default(), async {
        seconds(5).await;
        let mut held = get(&restored, &ROLLOUTS, "web");
        assert_eq!(held["status"]["message"], "CanaryPauseStep");
        held["status"].as_object_mut().unwrap().remove("pauseConditions");
        restored.update_status(&ROLLOUTS, NS, "web", None, &held).unwrap();
        seconds(5).await;
        let done = get(&restored, &ROLLOUTS, "web");
        assert_eq!(done["status"]["phase"], "Healthy");
        assert_eq!(done["status"]["stableRS"], done["status"]["currentPodHash"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn old_replica_sets_beyond_the_limit_are_removed() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        let mut rollout = rollout(1, "ok:1");
        rollout["spec"]["revisionHistoryLimit"] = json!(1);
        rollout["spec"]["strategy"] = json!({"canary": {}});
        objects.create(&ROLLOUTS, rollout).unwrap();
        seconds(2).await;
        for image in ["ok:2", "ok:3", "ok:4"] {
            update(
                &objects,
                &ROLLOUTS,
                "web",
                &json!({"spec": {"template": template(image)}}),
            );
            seconds(4).await;
        }
        assert_eq!(get(&objects, &ROLLOUTS, "web")["status"]["phase"], "Healthy");
        let sets = objects.list(&REPLICA_SETS, Some(NS)).items;
        let revision = |set: &Value| set["metadata"]["annotations"]["rollout.argoproj.io/revision"].clone();
        let mut revisions: Vec<_> = sets.iter().map(|set| revision(set).to_string()).collect();
        revisions.sort();
        assert_eq!(revisions, ["\"3\"", "\"4\""]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn hostile_objects_do_not_stop_the_controllers() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        let huge = i64::MAX;
        let mut hostile = rollout(1, "ok:1");
        hostile["metadata"]["name"] = json!("hostile");
        hostile["spec"]["progressDeadlineSeconds"] = json!(huge);
        hostile["spec"]["minReadySeconds"] = json!(huge - 1);
        hostile["spec"]["restartAt"] = json!("9999-12-30T23:59:59Z");
        hostile["spec"]["strategy"]["canary"] = json!({
            "maxSurge": "9223372036854775807%", "maxUnavailable": huge,
            "steps": [{"setWeight": 100}, {"pause": {"duration": huge}}],
        });
        objects.create(&ROLLOUTS, hostile).unwrap();
        let mut deployment = rollout(1, "badpull:1");
        deployment["metadata"]["name"] = json!("late");
        deployment["spec"]["progressDeadlineSeconds"] = json!(huge);
        deployment["spec"]["strategy"] =
            json!({"rollingUpdate": {"maxSurge": huge, "maxUnavailable": "9223372036854775807%"}});
        objects.create(&DEPLOYMENTS, deployment).unwrap();
        let shapeless = json!({
            "metadata": {"name": "shapeless", "namespace": NS, "annotations": "none"},
            "spec": {"replicas": "two", "selector": [], "template": {"metadata": {"labels": 7}, "spec": "none"},
                "volumeClaimTemplates": [{"metadata": 1}], "strategy": {"canary": {"steps": [null, 1]}}},
        });
        for kind in [&DEPLOYMENTS, &STATEFUL_SETS, &DAEMON_SETS, &JOBS, &ROLLOUTS, &REPLICA_SETS] {
            objects.create(kind, shapeless.clone()).unwrap();
        }
        seconds(2).await;
        update(
            &objects,
            &ROLLOUTS,
            "hostile",
            &json!({"spec": {"template": template("ok:2")}}),
        );
        let mut status = get(&objects, &ROLLOUTS, "hostile");
        status["status"] = json!({"currentStepIndex": huge, "pauseConditions": "none", "replicas": -1});
        objects
            .update_status(&ROLLOUTS, NS, "hostile", None, &status)
            .unwrap();
        objects.create(&ROLLOUTS, rollout(2, "ok:1")).unwrap();
        seconds(5).await;
        assert_eq!(get(&objects, &ROLLOUTS, "web")["status"]["phase"], "Healthy");
        let held = get(&objects, &ROLLOUTS, "hostile");
        assert_eq!(
            held["status"]["observedGeneration"],
            held["metadata"]["generation"].to_string()
        );
        let grace = Delete {
            grace_seconds: Some(u64::MAX),
            ..Delete::default()
        };
        let pod = objects.list(&PODS, Some(NS)).items[0].clone();
        objects
            .delete(&PODS, NS, pod["metadata"]["name"].as_str().unwrap(), &grace)
            .unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn full_promotion_asked_for_before_the_revision_is_observed_is_lost() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        objects.create(&ROLLOUTS, rollout(2, "ok:1")).unwrap();
        seconds(2).await;
        for (round, early) in [0, 1, 5, 9, 20].into_iter().enumerate() {
            let image = format!("ok:{}", round + 2);
            update(
                &objects,
                &ROLLOUTS,
                "web",
                &json!({"spec": {"template": template(&image)}}),
            );
            sleep(Duration::from_millis(early)).await;
            let mut held = get(&objects, &ROLLOUTS, "web");
            assert_ne!(
                held["status"]["observedGeneration"],
                held["metadata"]["generation"].to_string()
            );
            held["status"]["promoteFull"] = json!(true);
            objects.update_status(&ROLLOUTS, NS, "web", None, &held).unwrap();
            seconds(3).await;
            let held = get(&objects, &ROLLOUTS, "web");
            assert_eq!(held["status"]["message"], "CanaryPauseStep", "after {early} ms");
            assert_eq!(held["status"].get("promoteFull"), None);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn services_are_pointed_at_pods_once_all_of_them_are_available() {
    let objects = cluster();
    beside(&objects, &Behaviour::default(), async {
        for name in ["web-stable", "web-canary"] {
            let service =
                json!({"metadata": {"name": name, "namespace": NS}, "spec": {"selector": {"app": "web"}}});
            objects.create(&SERVICES, service).unwrap();
        }
        let hash_of = |name: &str| {
            get(&objects, &SERVICES, name)["spec"]["selector"]
                .get(HASH)
                .cloned()
        };
        let mut rollout = rollout(2, "slow:1");
        rollout["spec"]["strategy"]["canary"]["stableService"] = json!("web-stable");
        rollout["spec"]["strategy"]["canary"]["canaryService"] = json!("web-canary");
        objects.create(&ROLLOUTS, rollout).unwrap();
        seconds(3).await;
        assert_eq!(hash_of("web-stable"), None, "no pod is available yet");
        seconds(3).await;
        let first = get(&objects, &ROLLOUTS, "web")["status"]["stableRS"].clone();
        assert_eq!(hash_of("web-stable"), Some(first.clone()));
        update(
            &objects,
            &ROLLOUTS,
            "web",
            &json!({"spec": {"template": template("slow:2")}}),
        );
        seconds(3).await;
        assert_eq!(hash_of("web-canary"), Some(first.clone()));
        seconds(3).await;
        assert_eq!(
            hash_of("web-canary"),
            Some(get(&objects, &ROLLOUTS, "web")["status"]["currentPodHash"].clone())
        );
        assert_eq!(hash_of("web-stable"), Some(first.clone()));
        // A wrong hash is repaired at once.
        update(
            &objects,
            &SERVICES,
            "web-stable",
            &json!({"spec": {"selector": {HASH: "wrong"}}}),
        );
        sleep(Duration::from_millis(100)).await;
        assert_eq!(hash_of("web-stable"), Some(first));
    })
    .await;
}
