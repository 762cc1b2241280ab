//! Laws of finishing, rolling back and deleting: only what is ours, and only what nothing needs.

use serde_json::json;

use super::fixture::{
    ClusterFixture, act, apply, apply_towards, at_the_first_pause, deployed, finish, release, rollout,
    service, set, settings, settings_body, until, until_done, until_settled,
};
use crate::command::{Action, Direction};
use crate::port::executor::ExecutorError;
use crate::progress::Standing;

/// Finishing deletes what left the plan, and nothing that was never in one.
pub async fn finish_prunes_what_left_the_plan(fixture: &dyn ClusterFixture) {
    fixture.create_by_hand(settings_body("of-somebody-else")).await;
    let mut first = release("v1");
    let mut extra = first.objects[0].clone();
    extra.body = settings_body("extra");
    first.objects.push(extra);
    deployed(fixture, &first).await;
    let plan = release("v1");
    apply(fixture, &plan, 2).await.unwrap();
    assert!(
        fixture.object(&settings("extra")).await.is_some(),
        "an apply prunes nothing"
    );
    let finished = finish(fixture, &plan, 2, Direction::Forward).await.unwrap();
    assert_eq!(finished.pruned, [settings("extra")]);
    assert!(fixture.object(&settings("extra")).await.is_none());
    for object in [rollout(), service(), settings("v1"), settings("of-somebody-else")] {
        assert!(fixture.object(&object).await.is_some(), "{object} must stay");
    }
    let again = finish(fixture, &plan, 2, Direction::Forward).await.unwrap();
    assert!(again.pruned.is_empty(), "finishing again finds nothing to do");
}

/// Configuration that pods, present or to come, name is kept and the answer says so.
pub async fn finish_keeps_configuration_that_pods_may_need(fixture: &dyn ClusterFixture) {
    let (plan, _seen) = at_the_first_pause(fixture).await;
    let finished = finish(fixture, &plan, 2, Direction::Forward).await.unwrap();
    assert!(finished.pruned.is_empty(), "{finished:?}");
    assert_eq!(finished.kept.len(), 1, "{finished:?}");
    assert!(
        finished.kept.contains_key(&settings("v1").to_string()),
        "{finished:?}"
    );
    assert!(fixture.object(&settings("v1")).await.is_some());
}

/// A finish older than the last accepted plan prunes nothing.
pub async fn an_older_finish_is_superseded(fixture: &dyn ClusterFixture) {
    deployed(fixture, &release("v1")).await;
    let plan = release("v2");
    apply(fixture, &plan, 2).await.unwrap();
    until_settled(fixture, &plan).await;
    let refused = finish(fixture, &release("v1"), 1, Direction::Forward)
        .await
        .unwrap_err();
    assert!(matches!(refused, ExecutorError::Superseded { .. }), "{refused}");
    assert!(fixture.object(&settings("v2")).await.is_some());
}

/// Rolling back brings the old pods and their configuration back, without taking old pods away first.
pub async fn rolling_back_brings_the_configuration_back(fixture: &dyn ClusterFixture) {
    let (_failed, _seen) = at_the_first_pause(fixture).await;
    let good = release("v1");
    apply_towards(fixture, &good, 3, Direction::Back).await.unwrap();
    let held = |body: serde_json::Value| body["spec"]["strategy"]["canary"]["maxUnavailable"].clone();
    assert_eq!(
        held(fixture.object(&rollout()).await.unwrap()),
        json!(0),
        "nothing old goes first"
    );
    let seen = until(fixture, &good, Direction::Back, |seen| {
        seen.standing == Standing::Done || (seen.expect.is_some() && seen.revision != seen.stable)
    })
    .await;
    if seen.standing != Standing::Done {
        act(fixture, Action::PromoteFull, seen.expect.as_ref(), 4)
            .await
            .unwrap();
    }
    until(fixture, &good, Direction::Back, |seen| {
        seen.standing == Standing::Done
    })
    .await;
    let finished = finish(fixture, &good, 5, Direction::Back).await.unwrap();
    assert_eq!(
        finished.pruned,
        [settings("v2")],
        "what only the failed plan had goes"
    );
    assert_eq!(
        held(fixture.object(&rollout()).await.unwrap()),
        json!("25%"),
        "as declared again"
    );
    assert!(fixture.object(&settings("v1")).await.is_some());
    let done = until_done(fixture, &good).await;
    assert_eq!((done.pods.new_available, done.pods.old), (4, 0));
}

/// Deleting an object of ours twice is fine.
pub async fn deleting_twice_is_fine(fixture: &dyn ClusterFixture) {
    deployed(fixture, &release("v1")).await;
    for _ in 0..2 {
        fixture.executor().delete(&set(), &service()).await.unwrap();
        assert!(fixture.object(&service()).await.is_none());
    }
}

/// An object of somebody else is not deleted, whatever it is called.
pub async fn a_foreign_object_is_not_deleted(fixture: &dyn ClusterFixture) {
    deployed(fixture, &release("v1")).await;
    fixture.create_by_hand(settings_body("of-somebody-else")).await;
    fixture.delete_by_hand(&settings("v1")).await;
    fixture.create_by_hand(settings_body("v1")).await;
    for object in [settings("of-somebody-else"), settings("v1")] {
        let refused = fixture.executor().delete(&set(), &object).await.unwrap_err();
        assert!(matches!(refused, ExecutorError::Foreign { .. }), "{refused}");
        assert!(fixture.object(&object).await.is_some(), "{object} must stay");
    }
}
