//! Laws of acting: each act once, at the place it was meant for, or not at all.

use super::fixture::{
    ClusterFixture, act, apply, at_the_first_pause, deployed, release, rollout, until, until_at, until_done,
};
use crate::command::{Acted, Action, Direction};
use crate::error::ErrorKind;
use crate::port::executor::ExecutorError;
use crate::progress::Standing;

/// A promote delivered again, early or late and to a fresh executor, opens no second gate.
pub async fn a_promote_takes_effect_once(fixture: &dyn ClusterFixture) {
    let (plan, seen) = at_the_first_pause(fixture).await;
    let expect = seen.expect.as_ref();
    assert_eq!(
        act(fixture, Action::Promote, expect, 3).await.unwrap(),
        Acted::Done
    );
    assert_eq!(
        act(fixture, Action::Promote, expect, 3).await.unwrap(),
        Acted::Unchanged,
        "at once"
    );
    until_at(fixture, &plan, 3).await;
    assert_eq!(
        act(fixture, Action::Promote, expect, 3).await.unwrap(),
        Acted::Unchanged,
        "late"
    );
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    let still = until(fixture, &plan, Direction::Forward, |_| true).await;
    assert!(
        matches!(still.standing, Standing::AtPause { index: 3, .. }),
        "a repeat must not open the next gate: {still:?}"
    );
    assert_eq!(still.weight.unwrap().wanted, 50);
    let next = still.expect.as_ref();
    assert_eq!(act(fixture, Action::Promote, next, 4).await.unwrap(), Acted::Done);
    until_done(fixture, &plan).await;
    assert_eq!(
        act(fixture, Action::Promote, next, 4).await.unwrap(),
        Acted::Unchanged,
        "after the end"
    );
}

/// A promote that does not say what was seen could open any gate.
pub async fn a_promote_without_what_was_seen_is_refused(fixture: &dyn ClusterFixture) {
    let (plan, _seen) = at_the_first_pause(fixture).await;
    let refused = act(fixture, Action::Promote, None, 3).await.unwrap_err();
    assert!(
        matches!(refused.kind(), ErrorKind::Invalid | ErrorKind::Conflict),
        "{refused}"
    );
    let still = until(fixture, &plan, Direction::Forward, |_| true).await;
    assert!(matches!(still.standing, Standing::AtPause { index: 1, .. }));
}

/// What was seen of one revision does not move another.
pub async fn an_act_on_another_revision_is_refused(fixture: &dyn ClusterFixture) {
    let (_plan, seen) = at_the_first_pause(fixture).await;
    let other = release("v3");
    apply(fixture, &other, 3).await.unwrap();
    until_at(fixture, &other, 1).await;
    for action in [Action::Promote, Action::Skip, Action::PromoteFull, Action::Abort] {
        let refused = act(fixture, action, seen.expect.as_ref(), 4).await.unwrap_err();
        assert!(
            matches!(refused, ExecutorError::WrongGate { .. }),
            "{action:?}: {refused}"
        );
    }
    let still = until(fixture, &other, Direction::Forward, |_| true).await;
    assert!(matches!(still.standing, Standing::AtPause { index: 1, .. }));
}

/// An act that was decided before the present plan was accepted is refused.
pub async fn an_act_older_than_the_plan_is_superseded(fixture: &dyn ClusterFixture) {
    let (plan, seen) = at_the_first_pause(fixture).await;
    for action in [Action::Promote, Action::Abort, Action::PromoteFull] {
        let refused = act(fixture, action, seen.expect.as_ref(), 1).await.unwrap_err();
        assert!(
            matches!(refused, ExecutorError::Superseded { .. }),
            "{action:?}: {refused}"
        );
    }
    let still = until(fixture, &plan, Direction::Forward, |_| true).await;
    assert!(matches!(still.standing, Standing::AtPause { index: 1, .. }));
}

/// An abort sends everything back, once.
pub async fn an_abort_takes_effect_once(fixture: &dyn ClusterFixture) {
    let (plan, seen) = at_the_first_pause(fixture).await;
    assert_eq!(
        act(fixture, Action::Abort, seen.expect.as_ref(), 3)
            .await
            .unwrap(),
        Acted::Done
    );
    let aborted = until(fixture, &plan, Direction::Forward, |seen| {
        seen.standing == Standing::Aborted && seen.pods.new == 0 && seen.pods.old_available == 4
    })
    .await;
    assert_eq!(aborted.weight.unwrap().wanted, 0);
    assert_eq!(aborted.stable, seen.stable);
    assert_eq!(
        act(fixture, Action::Abort, seen.expect.as_ref(), 3)
            .await
            .unwrap(),
        Acted::Unchanged
    );
    let refused = act(fixture, Action::Promote, seen.expect.as_ref(), 3).await;
    assert!(
        !matches!(refused, Ok(Acted::Done)),
        "what was aborted stands at no gate: {refused:?}"
    );
}

/// A revision that is stable cannot be aborted.
pub async fn nothing_is_aborted_when_all_is_done(fixture: &dyn ClusterFixture) {
    let plan = release("v1");
    deployed(fixture, &plan).await;
    let before = fixture.identity(&rollout()).await;
    assert_eq!(
        act(fixture, Action::Abort, None, 2).await.unwrap(),
        Acted::NothingToAbort
    );
    assert_eq!(fixture.identity(&rollout()).await, before);
    until_done(fixture, &plan).await;
}

/// A full promotion passes all gates, and is over when it is over.
pub async fn promote_full_goes_to_the_end_once(fixture: &dyn ClusterFixture) {
    let (plan, seen) = at_the_first_pause(fixture).await;
    let expect = seen.expect.as_ref();
    assert_eq!(
        act(fixture, Action::PromoteFull, expect, 3).await.unwrap(),
        Acted::Done
    );
    let done = until_done(fixture, &plan).await;
    assert_eq!(done.pods.new_available, 4);
    assert_eq!(
        act(fixture, Action::PromoteFull, expect, 3).await.unwrap(),
        Acted::Unchanged
    );
}

/// After an abort a retry begins at the first step, and what was seen before counts no more.
pub async fn a_retry_begins_anew(fixture: &dyn ClusterFixture) {
    let (plan, seen) = at_the_first_pause(fixture).await;
    assert_eq!(
        act(fixture, Action::Retry, None, 3).await.unwrap(),
        Acted::Unchanged,
        "nothing was aborted"
    );
    act(fixture, Action::Abort, seen.expect.as_ref(), 3)
        .await
        .unwrap();
    until(fixture, &plan, Direction::Forward, |seen| {
        seen.standing == Standing::Aborted && seen.pods.new == 0
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(act(fixture, Action::Retry, None, 4).await.unwrap(), Acted::Done);
    let again = until_at(fixture, &plan, 1).await;
    assert_ne!(again.expect, seen.expect, "it is another pause");
    let refused = act(fixture, Action::Promote, seen.expect.as_ref(), 5)
        .await
        .unwrap_err();
    assert!(matches!(refused, ExecutorError::WrongGate { .. }), "{refused}");
}

/// What was paused by hand is not promoted; resumed, it stands at the same gate with the same token.
pub async fn a_pause_by_hand_ends_by_hand(fixture: &dyn ClusterFixture) {
    let (plan, seen) = at_the_first_pause(fixture).await;
    assert_eq!(act(fixture, Action::Pause, None, 3).await.unwrap(), Acted::Done);
    assert_eq!(
        act(fixture, Action::Pause, None, 3).await.unwrap(),
        Acted::Unchanged
    );
    until(fixture, &plan, Direction::Forward, |seen| {
        seen.standing == Standing::PausedByHand
    })
    .await;
    let refused = act(fixture, Action::Promote, seen.expect.as_ref(), 3)
        .await
        .unwrap_err();
    assert!(matches!(refused, ExecutorError::WrongGate { .. }), "{refused}");
    assert_eq!(act(fixture, Action::Resume, None, 3).await.unwrap(), Acted::Done);
    let again = until_at(fixture, &plan, 1).await;
    assert_eq!(again.expect, seen.expect, "it is the same pause");
    assert_eq!(
        act(fixture, Action::Promote, again.expect.as_ref(), 3)
            .await
            .unwrap(),
        Acted::Done
    );
    until_at(fixture, &plan, 3).await;
}

/// Whoever leaves the laws of steps out has no steps.
pub async fn a_platform_without_steps_says_so(fixture: &dyn ClusterFixture) {
    assert!(
        !fixture.executor().capabilities().steps,
        "a platform with steps must keep their laws: leave out `without_steps`"
    );
}

/// Where nothing moves in steps, an act that would move something is refused as such and changes nothing.
pub async fn an_act_on_steps_is_unsupported(fixture: &dyn ClusterFixture) {
    let plan = release("v1");
    deployed(fixture, &plan).await;
    let before = fixture.identity(&rollout()).await;
    for action in [Action::Promote, Action::PromoteFull, Action::Skip, Action::Retry] {
        let refused = act(fixture, action, None, 2).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{action:?}: {refused}");
    }
    assert_eq!(fixture.identity(&rollout()).await, before);
}
