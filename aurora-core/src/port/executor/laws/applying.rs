//! Laws of applying: nothing twice, nothing older, nothing of somebody else.

use futures::future::{self, Either};
use serde_json::json;
use tokio::sync::mpsc;

use super::fixture::{
    ClusterFixture, apply, deployed, finish, order, plan_of, release, rollout, rollout_body, service,
    service_body, settings, settings_body, until, until_done, until_settled,
};
use crate::command::Direction;
use crate::error::ErrorKind;
use crate::port::executor::ExecutorError;
use crate::progress::Standing;

/// Applying what the cluster holds changes nothing, whoever applies it.
pub async fn applying_again_changes_nothing(fixture: &dyn ClusterFixture) {
    let plan = release("v1");
    deployed(fixture, &plan).await;
    let objects = [rollout(), service(), settings("v1")];
    let before = future::join_all(objects.iter().map(|object| fixture.identity(object))).await;
    let again = apply(fixture, &plan, 2).await.unwrap();
    assert_eq!(
        (again.changed, again.unchanged),
        (0, 3),
        "applying again must change nothing"
    );
    let after = future::join_all(objects.iter().map(|object| fixture.identity(object))).await;
    assert_eq!(before, after, "applying again must leave every object as it was");
}

/// The same apply delivered again, also to a fresh executor, gives the same answer.
pub async fn the_same_delivery_again_answers_the_same(fixture: &dyn ClusterFixture) {
    let plan = release("v1");
    let first = apply(fixture, &plan, 1).await.unwrap();
    assert_eq!((first.changed, first.unchanged), (3, 0), "everything was new");
    let second = apply(fixture, &plan, 1).await.unwrap();
    assert_eq!(
        (second.changed, second.unchanged),
        (first.changed, first.unchanged),
        "an answer that was lost must be given again"
    );
}

/// An apply older than the last accepted one is refused and changes nothing.
pub async fn an_older_apply_is_superseded(fixture: &dyn ClusterFixture) {
    deployed(fixture, &release("v1")).await;
    let newer = release("v2");
    apply(fixture, &newer, 5).await.unwrap();
    until_settled(fixture, &newer).await;
    let before = fixture.identity(&rollout()).await;
    let refused = apply(fixture, &release("v3"), 4).await.unwrap_err();
    assert!(matches!(refused, ExecutorError::Superseded { .. }), "{refused}");
    assert_eq!(
        fixture.identity(&rollout()).await,
        before,
        "a refused apply must change nothing"
    );
    assert!(
        fixture.object(&settings("v3")).await.is_none(),
        "a refused apply must create nothing"
    );
}

/// A stamp stands for one plan.
pub async fn the_same_stamp_with_another_plan_is_refused(fixture: &dyn ClusterFixture) {
    deployed(fixture, &release("v1")).await;
    let before = fixture.identity(&rollout()).await;
    let refused = apply(fixture, &release("v2"), 1).await.unwrap_err();
    assert!(
        matches!(refused.kind(), ErrorKind::Conflict | ErrorKind::Invalid),
        "{refused}"
    );
    assert_eq!(fixture.identity(&rollout()).await, before);
    assert!(fixture.object(&settings("v2")).await.is_none());
}

/// An apply that was cut off is completed by the same apply to a fresh executor.
pub async fn an_interrupted_apply_goes_on(fixture: &dyn ClusterFixture) {
    let plan = release("v1");
    let (stages, mut heard) = mpsc::channel(1);
    let order = order(&plan, 1, Direction::Forward);
    let executor = fixture.executor();
    let applying = executor.apply(&order, &plan, &stages);
    match future::select(Box::pin(heard.recv()), applying).await {
        Either::Left(_) => {}
        Either::Right(_) => panic!("an apply must say what it does before it is done"),
    }
    let applied = apply(fixture, &plan, 1).await.unwrap();
    assert_eq!(applied.changed + applied.unchanged, 3);
    until_done(fixture, &plan).await;
    for object in [service(), settings("v1")] {
        assert!(fixture.object(&object).await.is_some(), "{object} must be there");
    }
}

/// All objects of somebody else are named at once, before anything is written.
pub async fn foreign_objects_are_named_together_and_nothing_is_written(fixture: &dyn ClusterFixture) {
    fixture.create_by_hand(service_body()).await;
    fixture.create_by_hand(settings_body("v1")).await;
    let before = fixture.identity(&service()).await;
    let refused = apply(fixture, &release("v1"), 1).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let ExecutorError::Foreign { objects } = refused else {
        panic!("{refused}");
    };
    let mut named: Vec<_> = objects.iter().map(|detail| &detail.object).collect();
    named.sort();
    assert_eq!(named, [&settings("v1"), &service()], "all of them at once");
    assert!(
        objects
            .iter()
            .all(|detail| detail.message.contains("aurora.dev/adopt")),
        "with the way out"
    );
    assert!(
        fixture.object(&rollout()).await.is_none(),
        "nothing may be written"
    );
    assert_eq!(fixture.identity(&service()).await, before);
}

/// An object of somebody else is taken over where the plan allows it.
pub async fn a_foreign_object_can_be_adopted(fixture: &dyn ClusterFixture) {
    fixture.create_by_hand(service_body()).await;
    let uid = fixture.identity(&service()).await.unwrap().0;
    let mut plan = release("v1");
    plan.objects[1].adopt = true;
    deployed(fixture, &plan).await;
    assert_eq!(
        fixture.identity(&service()).await.unwrap().0,
        uid,
        "adopted, not replaced"
    );
    let without = plan_of(vec![
        settings_body("v1"),
        rollout_body("v1", "example.com/shop:v1"),
    ]);
    apply(fixture, &without, 2).await.unwrap();
    let finished = finish(fixture, &without, 2, Direction::Forward).await.unwrap();
    assert_eq!(finished.pruned, [service()], "what was adopted is ours");
}

/// What runs pods for somebody else is refused even where the plan would adopt it.
pub async fn a_foreign_workload_is_never_taken_over(fixture: &dyn ClusterFixture) {
    fixture
        .create_by_hand(rollout_body("v0", "example.com/shop:v0"))
        .await;
    let uid = fixture.identity(&rollout()).await.unwrap().0;
    let mut plan = release("v1");
    plan.objects[2].adopt = true;
    let refused = apply(fixture, &plan, 1).await.unwrap_err();
    let ExecutorError::Foreign { objects } = refused else {
        panic!("{refused}");
    };
    assert!(
        objects.iter().any(|detail| detail.object == rollout()),
        "{objects:?}"
    );
    assert_eq!(fixture.identity(&rollout()).await.unwrap().0, uid);
    assert!(
        fixture.object(&service()).await.is_none(),
        "nothing may be written"
    );
}

/// A name in the applied set is not enough: an object with another uid is somebody else's.
pub async fn an_object_created_again_by_somebody_else_is_foreign(fixture: &dyn ClusterFixture) {
    let plan = release("v1");
    deployed(fixture, &plan).await;
    fixture.delete_by_hand(&service()).await;
    fixture.create_by_hand(service_body()).await;
    let refused = apply(fixture, &plan, 2).await.unwrap_err();
    let ExecutorError::Foreign { objects } = refused else {
        panic!("{refused}");
    };
    assert_eq!(objects.len(), 1);
    assert_eq!(objects[0].object, service());
}

/// What somebody deleted comes back with the same apply.
pub async fn what_was_deleted_by_hand_is_created_again(fixture: &dyn ClusterFixture) {
    let plan = release("v1");
    deployed(fixture, &plan).await;
    fixture.delete_by_hand(&service()).await;
    apply(fixture, &plan, 1).await.unwrap();
    assert!(
        fixture.object(&service()).await.is_some(),
        "the same apply must create it again"
    );
    apply(fixture, &plan, 2).await.unwrap();
}

/// A pod template that somebody else changed is reported, and the same apply brings it back.
pub async fn a_change_by_somebody_else_is_seen_and_healed(fixture: &dyn ClusterFixture) {
    let plan = release("v1");
    deployed(fixture, &plan).await;
    let declared = fixture.object(&rollout()).await.unwrap()["spec"]["template"].clone();
    let foreign = json!({"spec": {"template": {"metadata": {"annotations": {"note": "changed by hand"}}}}});
    fixture.patch_by_hand(&rollout(), foreign).await;
    until(fixture, &plan, Direction::Forward, |seen| {
        matches!(seen.standing, Standing::ChangedElsewhere { .. })
    })
    .await;
    apply(fixture, &plan, 1).await.unwrap();
    assert_eq!(
        fixture.object(&rollout()).await.unwrap()["spec"]["template"],
        declared
    );
    until_done(fixture, &plan).await;
}
