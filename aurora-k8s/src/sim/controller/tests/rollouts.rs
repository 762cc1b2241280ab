//! Tests of the Rollouts controller that no recording covers.

use serde_json::{Value, json};

use super::{NS, beside, cluster, condition, get, rollout, seconds, template, update};
use crate::sim::{
    controller::Behaviour,
    objects::Delete,
    resource::{REPLICA_SETS, ROLLOUTS},
};

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
            json!({"blueGreen": {"activeService": "web"}}),
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
