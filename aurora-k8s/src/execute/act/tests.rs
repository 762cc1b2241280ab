//! Tables of live Rollouts, acts, and what is decided.

use serde_json::json;

use aurora_core::command::{AppliedSetKey, Stamp};
use aurora_core::progress::ExpectToken;

use super::*;

const START: &str = "2026-01-01T00:00:00Z";

/// At the pause of step 1, one available new pod.
fn live() -> Value {
    json!({
        "metadata": {"uid": "u1", "generation": 2},
        "spec": {"template": {"metadata": {"annotations": {"aurora.dev/template-digest": "d"}}},
            "strategy": {"canary": {"steps": [{"setWeight": 25}, {"pause": {}}, {"pause": {}}]}}},
        "status": {
            "observedGeneration": "2", "phase": "Paused", "currentPodHash": "new", "stableRS": "old",
            "currentStepIndex": 1, "controllerPause": true,
            "pauseConditions": [{"reason": "CanaryPauseStep", "startTime": START}],
        },
    })
}

fn set(available: u32) -> Value {
    json!({
        "metadata": {"labels": {"rollouts-pod-template-hash": "new"}, "ownerReferences": [{"uid": "u1"}]},
        "spec": {"replicas": 1, "template": {"metadata": {"annotations": {"aurora.dev/template-digest": "d"}}}},
        "status": {"availableReplicas": available},
    })
}

fn order(action: Action, expect: Option<&str>) -> Act {
    Act {
        set: AppliedSetKey {
            tenant: "t".to_owned(),
            application: "a".to_owned(),
            namespace: "shop".to_owned(),
        },
        object: ObjectRef::new("argoproj.io", "Rollout", "shop", "web"),
        action,
        expect: expect.map(|text| ExpectToken::new(text).expect("the text is short")),
        stamp: Stamp::default(),
    }
}

fn decided(action: Action, expect: &str, status: Value) -> Decision {
    decided_with(action, expect, status, 1)
}

fn decided_with(action: Action, expect: &str, status: Value, available: u32) -> Decision {
    let mut live = live();
    for (field, value) in status.as_object().expect("fields") {
        live["status"][field] = value.clone();
    }
    decide(&order(action, Some(expect)), &live, &[&set(available)]).expect("the act says what was seen")
}

fn here() -> String {
    format!("u1|new|1|{START}")
}

fn patch_of(decision: Decision) -> Value {
    match decision {
        Decision::Patch {
            of_status: true,
            body,
        } => body["status"].clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_plain_pause_is_ended_by_its_conditions_alone() {
    let patch = patch_of(decided(Action::Promote, &here(), json!({})));
    assert_eq!(patch, json!({"pauseConditions": null}));
}

#[test]
fn a_skip_and_an_inconclusive_promote_name_the_next_step_and_end_the_controllers_pause() {
    let next = json!({"pauseConditions": null, "controllerPause": false, "currentStepIndex": 2});
    assert_eq!(patch_of(decided(Action::Skip, &here(), json!({}))), next);
    let inconclusive =
        json!({"pauseConditions": [{"reason": "InconclusiveAnalysisRun", "startTime": START}]});
    assert_eq!(patch_of(decided(Action::Promote, &here(), inconclusive)), next);
}

#[test]
fn a_promote_that_had_its_effect_is_unchanged() {
    let table = [
        json!({"pauseConditions": null}),
        json!({"currentStepIndex": 2}),
        json!({"currentStepIndex": 3, "stableRS": "new"}),
        json!({"promoteFull": true, "pauseConditions": null, "controllerPause": null}),
    ];
    for status in table {
        assert_eq!(
            decided(Action::Promote, &here(), status.clone()),
            Decision::Answer(Acted::Unchanged),
            "{status}"
        );
    }
}

#[test]
fn another_place_is_refused() {
    let table = [
        (format!("u2|new|1|{START}"), json!({})),
        (format!("u1|older|1|{START}"), json!({})),
        (format!("u1|new|2|{START}"), json!({})),
        ("u1|new|1|2025-12-31T23:59:59Z".to_owned(), json!({})),
        (here(), json!({"abort": true})),
        (here(), json!({"pauseConditions": null, "controllerPause": null})),
        ("nonsense".to_owned(), json!({})),
    ];
    for (expect, status) in table {
        let decision = decided(Action::Promote, &expect, status.clone());
        assert!(
            matches!(decision, Decision::Refuse(_)),
            "{expect} {status}: {decision:?}"
        );
    }
}

#[test]
fn a_promote_waits_for_pods_and_for_the_controller() {
    let waits = Decision::Answer(Acted::WaitForPods);
    assert_eq!(decided_with(Action::Promote, &here(), json!({}), 0), waits);
    assert_eq!(
        decided(Action::Promote, &here(), json!({"observedGeneration": "1"})),
        waits
    );
}

#[test]
fn a_pause_by_hand_holds_promotions() {
    let mut live = live();
    live["spec"]["paused"] = json!(true);
    for action in [Action::Promote, Action::Skip, Action::PromoteFull] {
        let decision =
            decide(&order(action, Some(&here())), &live, &[&set(1)]).expect("it says what was seen");
        assert!(
            matches!(decision, Decision::Refuse(_)),
            "{action:?}: {decision:?}"
        );
    }
}

#[test]
fn an_abort_clears_a_full_promotion_and_needs_something_to_abort() {
    let patch = patch_of(decided(Action::Abort, &here(), json!({"promoteFull": true})));
    assert_eq!(patch, json!({"abort": true, "promoteFull": null}));
    let table = [
        (
            json!({"stableRS": "new"}),
            Decision::Answer(Acted::NothingToAbort),
        ),
        (json!({"abort": true}), Decision::Answer(Acted::Unchanged)),
    ];
    for (status, decision) in table {
        assert_eq!(decided(Action::Abort, &here(), status), decision);
    }
    let unobserved = decided(Action::Abort, &here(), json!({"observedGeneration": "1"}));
    assert!(matches!(unobserved, Decision::Refuse(_)));
}

#[test]
fn a_full_promotion_needs_our_observed_revision() {
    assert_eq!(
        patch_of(decided(Action::PromoteFull, &here(), json!({}))),
        json!({"promoteFull": true})
    );
    let unobserved = decided(Action::PromoteFull, &here(), json!({"observedGeneration": "1"}));
    assert!(matches!(unobserved, Decision::Refuse(_)));
    let mut other = set(1);
    other["spec"]["template"]["metadata"]["annotations"]["aurora.dev/template-digest"] = json!("e");
    let act = order(Action::PromoteFull, None);
    let decision = decide(&act, &live(), &[&other]).expect("it needs no token");
    assert!(matches!(decision, Decision::Refuse(_)));
}

#[test]
fn a_promote_without_a_token_is_refused() {
    let refused = decide(&order(Action::Promote, None), &live(), &[&set(1)]);
    assert!(matches!(refused, Err(ExecutorError::Rejected { .. })));
}

#[test]
fn a_blue_green_pause_has_no_index() {
    let status = json!({
        "currentStepIndex": null, "pauseConditions": [{"reason": "BlueGreenPause", "startTime": START}],
    });
    let patch = patch_of(decided(Action::Promote, &format!("u1|new|-|{START}"), status));
    assert_eq!(patch, json!({"pauseConditions": null}));
}

#[test]
fn a_redirect_that_is_under_way_is_not_ordered_again() {
    let mut live = live();
    live["spec"]["strategy"] = json!({"blueGreen": {"activeService": "web"}});
    let status = live["status"].as_object_mut().expect("it has a status");
    status.remove("currentStepIndex");
    status.remove("pauseConditions");
    let act = order(Action::Promote, Some(&format!("u1|new|-|{START}")));
    // Nothing says yet that the pause has ended: it is another one, or none.
    live["status"]["controllerPause"] = json!(false);
    let decision = decide(&act, &live, &[&set(1)]).expect("it says what was seen");
    assert!(matches!(decision, Decision::Refuse(_)), "{decision:?}");
    for (field, value) in [
        ("controllerPause", json!(true)),
        ("blueGreen", json!({"scaleUpPreviewCheckPoint": true})),
        ("blueGreen", json!({"activeSelector": "new"})),
        ("promoteFull", json!(true)),
        ("stableRS", json!("new")),
    ] {
        let mut live = live.clone();
        live["status"][field] = value;
        let decision = decide(&act, &live, &[&set(1)]).expect("it says what was seen");
        assert_eq!(decision, Decision::Answer(Acted::Unchanged), "{field}");
    }
}
