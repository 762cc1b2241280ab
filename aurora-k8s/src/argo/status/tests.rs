//! Tables of live Rollouts and where they stand.

use serde_json::json;

use super::*;

fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}, "annotations": {"aurora.dev/template-digest": "d2"}},
        "spec": {"containers": [{"name": "web", "image": "web:2"}]},
    })
}

fn rendered() -> Value {
    json!({"spec": {"replicas": 4, "template": template()}})
}

/// At the first pause: 1 of 4 pods is new and available.
fn live() -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "generation": 3},
        "spec": {"replicas": 4, "template": template(), "strategy": {"canary": {"steps": [
            {"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {"duration": "3s"}},
        ]}}},
        "status": {
            "observedGeneration": "3", "phase": "Paused", "message": "CanaryPauseStep",
            "currentPodHash": "new", "stableRS": "old", "currentStepIndex": 1, "controllerPause": true,
            "pauseConditions": [{"reason": "CanaryPauseStep", "startTime": "2026-01-01T00:00:00Z"}],
            "replicas": 4, "updatedReplicas": 1, "readyReplicas": 4, "availableReplicas": 4,
            "conditions": [{"type": "Progressing", "status": "Unknown", "reason": "RolloutPaused"}],
        },
    })
}

fn set(hash: &str, digest: &str, wanted: u32, available: u32) -> Value {
    json!({
        "metadata": {"labels": {POD_TEMPLATE_HASH: hash}, "generation": 1, "ownerReferences": [{"uid": "u1"}]},
        "spec": {"replicas": wanted, "template": {"metadata": {"annotations": {"aurora.dev/template-digest": digest}}}},
        "status": {"replicas": wanted, "availableReplicas": available, "observedGeneration": 1},
    })
}

fn seen(live: &Value, sets: &[Value]) -> Progress {
    let object = ObjectRef::new("argoproj.io", "Rollout", "shop", "web");
    let sets: Vec<_> = sets.iter().collect();
    progress(&Seen {
        object: &object,
        rendered: &rendered(),
        live: Some(live),
        replica_sets: &sets,
        now: Timestamp::UNIX_EPOCH,
    })
}

fn sets() -> [Value; 2] {
    [set("new", "d2", 1, 1), set("old", "d1", 3, 3)]
}

#[test]
fn a_pause_with_available_pods_can_be_promoted() {
    let progress = seen(&live(), &sets());
    let gate = Standing::AtPause {
        index: 1,
        ready: true,
        inconclusive: false,
    };
    assert_eq!(progress.standing, gate);
    let weight = progress.weight.expect("a rollout has a weight");
    assert_eq!(
        (weight.wanted, weight.real, weight.source),
        (25, 25, WeightSource::Pods)
    );
    assert_eq!(
        progress.pods,
        PodCounts {
            desired: 4,
            new: 1,
            new_available: 1,
            old: 3,
            old_available: 3
        }
    );
    let token = progress.expect.expect("it can be promoted");
    let place = Place {
        uid: "u1",
        hash: "new",
        index: Some(1),
        start: "2026-01-01T00:00:00Z",
    };
    assert_eq!(Place::from_token(&token), Some(place));
}

#[test]
fn a_pause_without_available_pods_is_not_ready() {
    let progress = seen(&live(), &[set("new", "d2", 1, 0), set("old", "d1", 3, 3)]);
    assert!(matches!(
        progress.standing,
        Standing::AtPause { ready: false, .. }
    ));
    let mut behind = set("new", "d2", 1, 1);
    behind["metadata"]["generation"] = json!(2);
    let progress = seen(&live(), &[behind]);
    assert!(matches!(
        progress.standing,
        Standing::AtPause { ready: false, .. }
    ));
}

#[test]
fn old_status_under_a_new_generation_counts_for_nothing() {
    let mut body = live();
    body["status"]["phase"] = json!("Healthy");
    body["metadata"]["generation"] = json!(4);
    let progress = seen(&body, &sets());
    assert_eq!(progress.standing, Standing::NotObserved);
    assert_eq!(progress.expect, None, "nothing may be done before it is observed");
}

#[test]
fn the_generation_is_compared_as_the_number_in_a_string() {
    for (observed, is_observed) in [
        (json!("3"), true),
        (json!("03x"), false),
        (json!("5f6d"), false),
        (json!(null), false),
    ] {
        let mut body = live();
        body["status"]["observedGeneration"] = observed.clone();
        let standing = seen(&body, &sets()).standing;
        assert_eq!(standing != Standing::NotObserved, is_observed, "{observed}");
    }
}

#[test]
fn a_replica_set_of_another_template_is_not_our_revision() {
    let progress = seen(&live(), &[set("new", "d1", 1, 1)]);
    assert_eq!(progress.standing, Standing::NotObserved);
    assert_eq!(seen(&live(), &[]).standing, Standing::NotObserved);
    let mut body = live();
    body["status"]["conditions"] =
        json!([{"type": "Progressing", "reason": "ReplicaSetCreateError", "message": "forbidden"}]);
    let progress = seen(&body, &sets());
    assert_eq!(
        (progress.standing, progress.message.as_str()),
        (Standing::NotObserved, "forbidden")
    );
}

#[test]
fn a_foreign_field_in_the_template_is_changed_elsewhere() {
    let mut body = live();
    body["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "X", "value": "1"}]);
    body["metadata"]["managedFields"] = json!([{
        "manager": "kubectl-edit", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:template": {}}},
    }]);
    let progress = seen(&body, &sets());
    let by = "spec.template.spec.containers[0].env, written by kubectl-edit".to_owned();
    assert_eq!(progress.standing, Standing::ChangedElsewhere { by });
    assert_eq!(progress.expect, None);
}

#[test]
fn each_state_of_the_controller_has_one_standing() {
    let healthy = json!({
        "phase": "Healthy", "stableRS": "new", "currentStepIndex": 4, "pauseConditions": null,
        "updatedReplicas": 4, "controllerPause": null,
    });
    let aborted = json!({"abort": true, "phase": "Degraded", "pauseConditions": null, "currentStepIndex": 0});
    let asked = json!({"abort": true});
    let late = json!({"phase": "Degraded", "pauseConditions": null,
        "conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]});
    let invalid = json!({"phase": "Degraded", "conditions": [{"type": "InvalidSpec", "status": "True"}]});
    let resuming = json!({"pauseConditions": null});
    let inconclusive = json!({"pauseConditions": [{"reason": "InconclusiveAnalysisRun", "startTime": "t"}]});
    let timed = json!({"currentStepIndex": 3});
    let table = [
        (healthy, Standing::Done),
        (aborted, Standing::Aborted),
        (asked, Standing::Moving),
        (late, Standing::Degraded),
        (invalid, Standing::Invalid),
        (resuming, Standing::Moving),
        (
            inconclusive,
            Standing::AtPause {
                index: 1,
                ready: true,
                inconclusive: true,
            },
        ),
        (timed, Standing::Moving),
    ];
    for (patch, standing) in table {
        let mut body = live();
        for (field, value) in patch.as_object().expect("a table row is an object") {
            body["status"][field] = value.clone();
        }
        let sets = [set("new", "d2", 4, 4), set("old", "d1", 0, 0)];
        assert_eq!(seen(&body, &sets).standing, standing, "{patch}");
    }
    let mut by_hand = live();
    by_hand["spec"]["paused"] = json!(true);
    assert_eq!(seen(&by_hand, &sets()).standing, Standing::PausedByHand);
}

#[test]
fn done_waits_for_old_pods_unless_they_have_a_deadline() {
    let mut body = live();
    for (field, value) in [
        ("phase", json!("Healthy")),
        ("stableRS", json!("new")),
        ("pauseConditions", json!(null)),
        ("updatedReplicas", json!(4)),
    ] {
        body["status"][field] = value;
    }
    let mut old = set("old", "d1", 4, 4);
    let new = set("new", "d2", 4, 4);
    assert_eq!(
        seen(&body, &[new.clone(), old.clone()]).standing,
        Standing::Moving
    );
    old["metadata"]["annotations"][SCALE_DOWN_DEADLINE] = json!("2026-01-01T00:00:30Z");
    assert_eq!(seen(&body, &[new.clone(), old]).standing, Standing::Done);
    body["status"]["availableReplicas"] = json!(3);
    assert_eq!(
        seen(&body, &[new]).standing,
        Standing::Moving,
        "all pods must be available"
    );
}

#[test]
fn the_routers_own_weight_is_the_real_one() {
    let mut body = live();
    body["status"]["canary"]["weights"]["canary"]["weight"] = json!(20);
    let weight = seen(&body, &sets()).weight.expect("a rollout has a weight");
    assert_eq!(
        (weight.wanted, weight.real, weight.source),
        (25, 20, WeightSource::Router)
    );
}

/// Before its redirect: 4 old pods serve, 4 new ones are shown.
fn blue_green() -> Value {
    let mut live = live();
    live["spec"]["strategy"] = json!({"blueGreen": {"activeService": "web"}});
    live["status"] = json!({
        "observedGeneration": "3", "phase": "Paused", "message": "BlueGreenPause", "controllerPause": true,
        // Left over from a canary of the same name.
        "currentStepIndex": 4,
        "currentPodHash": "new", "stableRS": "old", "blueGreen": {"activeSelector": "old"},
        "pauseConditions": [{"reason": "BlueGreenPause", "startTime": "2026-01-01T00:00:00Z"}],
        "replicas": 8, "updatedReplicas": 4, "readyReplicas": 4, "availableReplicas": 4,
    });
    live
}

#[test]
fn a_blue_green_rollout_stands_before_its_redirect_with_all_or_no_traffic() {
    let old = || set("old", "d1", 4, 4);
    let at = |ready: bool| Standing::AtPause {
        index: 0,
        ready,
        inconclusive: false,
    };
    let before = seen(&blue_green(), &[set("new", "d2", 4, 4), old()]);
    assert_eq!(before.standing, at(true));
    assert_eq!(before.step, None);
    let weight = before.weight.expect("a rollout has a weight");
    assert_eq!(
        (weight.wanted, weight.real, weight.source),
        (0, 0, WeightSource::Router)
    );
    for preview in [set("new", "d2", 4, 3), set("new", "d2", 0, 0)] {
        assert_eq!(
            seen(&blue_green(), &[preview, old()]).standing,
            at(false),
            "its pods are not there"
        );
    }
    let mut redirecting = blue_green();
    redirecting["status"]["pauseConditions"] = Value::Null;
    redirecting["status"]["phase"] = json!("Progressing");
    let moving = seen(&redirecting, &[set("new", "d2", 4, 4), old()]);
    assert_eq!(moving.standing, Standing::Moving);
    let weight = moving.weight.expect("a rollout has a weight");
    assert_eq!((weight.wanted, weight.real), (100, 0));
}

#[test]
fn a_redirected_rollout_is_done_while_its_old_version_is_kept_and_ends() {
    let mut live = blue_green();
    live["status"] = json!({
        "observedGeneration": "3", "phase": "Healthy", "currentPodHash": "new", "stableRS": "new",
        "blueGreen": {"activeSelector": "new"}, "replicas": 8, "updatedReplicas": 4, "readyReplicas": 4,
        "availableReplicas": 4,
    });
    let new = set("new", "d2", 4, 4);
    let mut kept = set("old", "d1", 4, 4);
    assert_eq!(
        seen(&live, &[new.clone(), kept.clone()]).standing,
        Standing::Moving,
        "nothing says yet how long it is kept"
    );
    kept["metadata"]["annotations"][SCALE_DOWN_DEADLINE] = json!("2026-01-01T01:00:00Z");
    let done = seen(&live, &[new.clone(), kept]);
    assert_eq!(done.standing, Standing::Done);
    assert_eq!((done.pods.old, done.pods.old_available), (4, 4));
    assert!(done.expect.is_some(), "it can be told to let the old version go");
    let mut ending = set("old", "d1", 0, 0);
    ending["status"]["replicas"] = json!(4);
    let after = seen(&live, &[new.clone(), ending]);
    assert_eq!((after.standing, after.expect), (Standing::Done, None));
    live["status"]["blueGreen"] = json!({"activeSelector": "old"});
    assert_eq!(
        seen(&live, &[new]).standing,
        Standing::Moving,
        "its Service selects another version"
    );
}
