//! Laws of blue/green: both versions run, the redirect and the end of the old one happen once, when asked for.
//!
//! They ask nothing of an executor that cannot move workloads by blue/green.

use super::blue_green_fixture::{
    act, apply, at_the_redirect, deployed, redirected, release, until, until_done,
};
use super::fixture::{ClusterFixture, apply_towards, finish, settings};
use crate::command::{Acted, Action, Direction};
use crate::port::executor::ExecutorError;
use crate::progress::{Progress, Standing, WeightSource};

fn cannot(fixture: &dyn ClusterFixture) -> bool {
    !fixture.executor().capabilities().blue_green
}

fn stands(seen: &Progress) -> bool {
    matches!(
        seen.standing,
        Standing::AtPause {
            index: 0,
            ready: true,
            inconclusive: false,
        }
    )
}

/// A second version comes up beside the first and waits there; the first deployment waits for nobody.
pub async fn a_blue_green_rollout_stops_before_its_redirect(fixture: &dyn ClusterFixture) {
    if cannot(fixture) {
        return;
    }
    let (_plan, seen) = at_the_redirect(fixture).await;
    assert!(stands(&seen), "{seen:?}");
    assert_ne!(seen.revision, seen.stable);
    let weight = seen.weight.unwrap();
    assert_eq!(
        (weight.wanted, weight.real),
        (0, 0),
        "all traffic goes to the old version"
    );
    assert_eq!(weight.source, WeightSource::Router);
    assert_eq!((seen.pods.new_available, seen.pods.old_available), (4, 4));
    assert_eq!(seen.step, None, "it has no steps of its own");
    assert!(seen.expect.is_some(), "what stands at a pause can be promoted");
}

/// A redirect delivered again, early or late and to a fresh executor, redirects nothing else.
pub async fn a_redirect_takes_effect_once(fixture: &dyn ClusterFixture) {
    if cannot(fixture) {
        return;
    }
    let (plan, seen) = at_the_redirect(fixture).await;
    let expect = seen.expect.as_ref();
    let promote = || act(fixture, Action::Promote, expect, 3);
    assert_eq!(promote().await.unwrap(), Acted::Done);
    assert_eq!(promote().await.unwrap(), Acted::Unchanged, "at once");
    let done = until_done(fixture, &plan).await;
    assert_eq!(done.weight.unwrap().real, 100);
    assert_eq!(done.stable, seen.revision);
    assert_eq!(promote().await.unwrap(), Acted::Unchanged, "late");
    let third = release("v3");
    apply(fixture, &third, 4, Direction::Forward).await;
    until(fixture, &third, Direction::Forward, stands).await;
    let refused = act(fixture, Action::Promote, expect, 5).await.unwrap_err();
    assert!(matches!(refused, ExecutorError::WrongGate { .. }), "{refused}");
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    let still = until(fixture, &third, Direction::Forward, |_| true).await;
    assert!(
        stands(&still),
        "a repeat must not redirect the next version: {still:?}"
    );
}

/// An abort leaves the old version live; a retry comes to the redirect anew.
pub async fn an_abort_before_the_redirect_leaves_the_old_version_live(fixture: &dyn ClusterFixture) {
    if cannot(fixture) {
        return;
    }
    let (plan, seen) = at_the_redirect(fixture).await;
    let abort = || act(fixture, Action::Abort, seen.expect.as_ref(), 3);
    assert_eq!(abort().await.unwrap(), Acted::Done);
    let aborted = until(fixture, &plan, Direction::Forward, |seen| {
        seen.standing == Standing::Aborted
    })
    .await;
    assert_eq!(abort().await.unwrap(), Acted::Unchanged);
    assert_eq!(aborted.pods.old_available, 4);
    assert_eq!(aborted.weight.unwrap().real, 0);
    assert_eq!(aborted.stable, seen.stable);
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(act(fixture, Action::Retry, None, 4).await.unwrap(), Acted::Done);
    let again = until(fixture, &plan, Direction::Forward, stands).await;
    assert_ne!(again.expect, seen.expect, "it is another pause");
    let refused = act(fixture, Action::Promote, seen.expect.as_ref(), 5)
        .await
        .unwrap_err();
    assert!(matches!(refused, ExecutorError::WrongGate { .. }), "{refused}");
}

/// A full promotion redirects once all pods are there, and is over when it is over.
pub async fn promote_full_redirects_once(fixture: &dyn ClusterFixture) {
    if cannot(fixture) {
        return;
    }
    let (plan, seen) = at_the_redirect(fixture).await;
    let full = || act(fixture, Action::PromoteFull, seen.expect.as_ref(), 3);
    assert_eq!(full().await.unwrap(), Acted::Done);
    let done = until_done(fixture, &plan).await;
    assert_eq!((done.stable, done.pods.new_available), (seen.revision.clone(), 4));
    assert_eq!(full().await.unwrap(), Acted::Unchanged);
}

/// After the redirect the old version runs on until it is shut down, once.
pub async fn the_old_version_is_shut_down_once(fixture: &dyn ClusterFixture) {
    if cannot(fixture) {
        return;
    }
    let (plan, seen) = at_the_redirect(fixture).await;
    let early = act(fixture, Action::ShutDownOld, seen.expect.as_ref(), 3)
        .await
        .unwrap_err();
    assert!(matches!(early, ExecutorError::WrongGate { .. }), "{early}");
    let done = redirected(fixture, &plan, &seen, 3).await;
    assert_eq!((done.pods.new_available, done.pods.old_available), (4, 4));
    let expect = done.expect.as_ref();
    assert!(
        expect.is_some(),
        "what keeps an old version can be told to let it go"
    );
    let shut_down = || act(fixture, Action::ShutDownOld, expect, 4);
    assert_eq!(shut_down().await.unwrap(), Acted::Done);
    let gone = until(fixture, &plan, Direction::Forward, |seen| {
        seen.standing == Standing::Done && seen.pods.old == 0
    })
    .await;
    assert_eq!(gone.pods.new_available, 4, "the new version serves on");
    assert_eq!(shut_down().await.unwrap(), Acted::Unchanged, "late");
    assert_eq!(gone.weight.unwrap().real, 100);
}

/// What was seen of one version does not shut down what the next one keeps.
pub async fn a_shut_down_on_another_revision_is_refused(fixture: &dyn ClusterFixture) {
    if cannot(fixture) {
        return;
    }
    let (plan, seen) = at_the_redirect(fixture).await;
    let second = redirected(fixture, &plan, &seen, 3).await;
    let third = release("v3");
    apply(fixture, &third, 4, Direction::Forward).await;
    let seen = until(fixture, &third, Direction::Forward, stands).await;
    redirected(fixture, &third, &seen, 5).await;
    let refused = act(fixture, Action::ShutDownOld, second.expect.as_ref(), 6)
        .await
        .unwrap_err();
    assert!(matches!(refused, ExecutorError::WrongGate { .. }), "{refused}");
    let still = until(fixture, &third, Direction::Forward, |_| true).await;
    assert!(still.pods.old_available >= 4, "nothing was shut down: {still:?}");
}

/// An ordinary plan with an older version stops before its redirect, even if that version still runs.
pub async fn an_older_version_brought_back_stops_before_its_redirect(fixture: &dyn ClusterFixture) {
    if cannot(fixture) {
        return;
    }
    let (plan, seen) = at_the_redirect(fixture).await;
    let second = redirected(fixture, &plan, &seen, 3).await;
    let older = release("v1");
    apply(fixture, &older, 4, Direction::Forward).await;
    let seen = until(fixture, &older, Direction::Forward, |seen| {
        stands(seen) || seen.standing == Standing::Done
    })
    .await;
    assert!(stands(&seen), "it went live without anybody's yes: {seen:?}");
    assert_eq!(seen.stable, second.revision);
    assert_eq!(seen.weight.unwrap().real, 0);
}

/// Rolling back to a version that still runs needs nobody, and takes no time.
pub async fn rolling_back_to_a_version_that_still_runs_needs_nobody(fixture: &dyn ClusterFixture) {
    if cannot(fixture) {
        return;
    }
    let (plan, seen) = at_the_redirect(fixture).await;
    redirected(fixture, &plan, &seen, 3).await;
    let good = release("v1");
    apply_towards(fixture, &good, 4, Direction::Back).await.unwrap();
    let back = until(fixture, &good, Direction::Back, |seen| {
        stands(seen) || seen.standing == Standing::Done
    })
    .await;
    assert_eq!(back.standing, Standing::Done, "it must not stop: {back:?}");
    assert_eq!(back.stable, seen.stable);
    assert_eq!(back.weight.unwrap().real, 100);
}

/// The old version's configuration stays as long as the old version runs, and can be pruned after that.
pub async fn configuration_of_the_old_version_stays_until_it_is_shut_down(fixture: &dyn ClusterFixture) {
    if cannot(fixture) {
        return;
    }
    let (plan, seen) = at_the_redirect(fixture).await;
    let done = redirected(fixture, &plan, &seen, 3).await;
    let finished = finish(fixture, &plan, 4, Direction::Forward).await.unwrap();
    assert!(
        finished.kept.contains_key(&settings("v1").to_string()),
        "{finished:?}"
    );
    assert!(fixture.object(&settings("v1")).await.is_some());
    act(fixture, Action::ShutDownOld, done.expect.as_ref(), 4)
        .await
        .unwrap();
    until(fixture, &plan, Direction::Forward, |seen| seen.pods.old == 0).await;
    let again = finish(fixture, &plan, 4, Direction::Forward).await.unwrap();
    assert_eq!(again.pruned, [settings("v1")], "{again:?}");
    assert!(fixture.object(&settings("v2")).await.is_some());
}

/// The first version of all goes live by itself.
pub async fn a_first_blue_green_version_goes_live_by_itself(fixture: &dyn ClusterFixture) {
    if cannot(fixture) {
        return;
    }
    let first = release("v1");
    deployed(fixture, &first).await;
    let seen = until_done(fixture, &first).await;
    assert_eq!((seen.pods.new_available, seen.pods.old), (4, 0));
    assert_eq!(seen.weight.unwrap().real, 100);
    assert_eq!(
        act(fixture, Action::Abort, None, 2).await.unwrap(),
        Acted::NothingToAbort
    );
}
