//! Laws of leases: one holder at a time, and a fence that only grows.

use futures::future::join_all;

use super::{MINUTE, StoreBench, name, ours, putting, take};
use crate::error::ErrorKind;
use crate::port::store::StoreError;

/// A batch under a lease is written only while that very lease is held.
pub async fn a_batch_needs_its_lease_held(bench: &StoreBench) {
    let store = bench.open().await;
    let lease = take(&store, "run", "one").await.unwrap();
    let under = |lease: &crate::port::store::Lease| {
        let mut batch = putting("one", "1");
        batch.lease = Some(lease.clone());
        batch
    };
    store.commit(under(&lease)).await.unwrap();

    bench.jump(61);
    let error = store.commit(under(&lease)).await.unwrap_err();
    assert!(
        matches!(error, StoreError::LeaseLost { .. }),
        "after its end: {error}"
    );

    let taken = take(&store, "run", "two").await.unwrap();
    let error = store.commit(under(&lease)).await.unwrap_err();
    assert!(
        matches!(error, StoreError::LeaseLost { .. }),
        "after it was taken: {error}"
    );
    store.commit(under(&taken)).await.unwrap();

    let mut forged = taken.clone();
    forged.holder = "one".to_owned();
    store.commit(under(&forged)).await.unwrap_err();
    let mut prolonged = lease.clone();
    prolonged.until = taken.until;
    store.commit(under(&prolonged)).await.unwrap_err();

    store.release_lease(&taken).await.unwrap();
    let error = store.commit(under(&taken)).await.unwrap_err();
    assert!(
        matches!(error, StoreError::LeaseLost { .. }),
        "after it was given up: {error}"
    );
}

/// A fence is higher than every earlier one of the scope, also after the store was opened again.
pub async fn a_fence_grows_after_a_reopen(bench: &StoreBench) {
    let store = bench.open().await;
    let first = take(&store, "run", "one").await.unwrap();
    store.release_lease(&first).await.unwrap();
    drop(store);
    bench.jump(-3_600);
    let store = bench.open().await;
    let second = take(&store, "run", "one").await.unwrap();
    assert!(
        second.fence > first.fence,
        "{} then {}",
        first.fence,
        second.fence
    );
}

/// A fence grows over all leases of a scope, whoever takes which.
pub async fn a_fence_grows_over_all_leases_of_a_scope(bench: &StoreBench) {
    let store = bench.open().await;
    let mut last = 0;
    for (lease, holder) in [
        ("a", "one"),
        ("b", "two"),
        ("c", "one"),
        ("a", "one"),
        ("b", "two"),
    ] {
        let fence = take(&store, lease, holder).await.unwrap().fence;
        assert!(fence > last, "{last} then {fence}");
        last = fence;
    }
    let mut crowd: Vec<u64> = join_all((0..8).map(|i| {
        let (store, lease) = (store.clone(), format!("crowd-{i}"));
        async move { take(&store, &lease, "one").await.unwrap().fence }
    }))
    .await;
    crowd.sort_unstable();
    assert!(crowd[0] > last);
    assert!(
        crowd.windows(2).all(|pair| pair[0] < pair[1]),
        "a fence was given twice"
    );
}

/// A fence grows when the clock goes back.
pub async fn a_fence_grows_when_the_clock_goes_back(bench: &StoreBench) {
    let store = bench.open().await;
    let first = take(&store, "a", "one").await.unwrap();
    bench.jump(-3_600);
    let second = take(&store, "b", "one").await.unwrap();
    assert!(
        second.fence > first.fence,
        "{} then {}",
        first.fence,
        second.fence
    );
}

/// A fence is at least the store's time in µs, so that it also grows after an old copy was restored.
pub async fn a_fence_is_at_least_the_time(bench: &StoreBench) {
    let store = bench.open().await;
    for _ in 0..2 {
        let now = u64::try_from(bench.now().as_microsecond()).unwrap();
        let lease = take(&store, "run", "one").await.unwrap();
        assert!(lease.fence >= now, "{} at {now}", lease.fence);
        bench.jump(10);
    }
}

/// A lease ends by itself; then anybody may take it.
pub async fn a_lease_can_be_taken_after_its_end(bench: &StoreBench) {
    let store = bench.open().await;
    let first = take(&store, "run", "one").await.unwrap();
    assert!(first.until >= bench.now() + MINUTE - std::time::Duration::from_secs(30));
    bench.jump(30);
    assert!(take(&store, "run", "two").await.is_err(), "taken before its end");
    bench.jump(31);
    let second = take(&store, "run", "two").await.unwrap();
    assert_eq!(second.holder, "two");
}

/// While somebody holds a lease nobody else gets it, and hears who holds it and until when.
pub async fn a_lease_has_one_holder(bench: &StoreBench) {
    let store = bench.open().await;
    let holders = (0..8).map(|i| {
        let store = store.clone();
        async move { take(&store, "run", &format!("holder-{i}")).await }
    });
    let (held, refused): (Vec<_>, Vec<_>) = join_all(holders).await.into_iter().partition(Result::is_ok);
    assert_eq!(held.len(), 1);
    let lease = held.into_iter().next().unwrap().unwrap();
    for error in refused.into_iter().map(Result::unwrap_err) {
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let StoreError::Held { name, holder, until } = error else {
            panic!("not Held: {error}");
        };
        assert_eq!(
            (name, holder, until),
            (lease.name.clone(), lease.holder.clone(), lease.until)
        );
    }
    take(&store, "other", "somebody").await.unwrap();
}

/// A lease that ended, was taken or was given up cannot be renewed.
pub async fn a_lost_lease_cannot_be_renewed(bench: &StoreBench) {
    let store = bench.open().await;
    let lease = take(&store, "run", "one").await.unwrap();
    bench.jump(61);
    for state in ["ended", "taken"] {
        let error = store.renew_lease(&lease, MINUTE).await.unwrap_err();
        assert!(matches!(error, StoreError::LeaseLost { .. }), "{state}: {error}");
        let _ = take(&store, "run", "two").await;
    }
    let lease = take(&store, "other", "one").await.unwrap();
    store.release_lease(&lease).await.unwrap();
    let error = store.renew_lease(&lease, MINUTE).await.unwrap_err();
    assert!(matches!(error, StoreError::LeaseLost { .. }), "given up: {error}");
}

/// A lease that was given up is free at once.
pub async fn a_released_lease_is_free(bench: &StoreBench) {
    let store = bench.open().await;
    let lease = take(&store, "run", "one").await.unwrap();
    store.release_lease(&lease).await.unwrap();
    take(&store, "run", "two").await.unwrap();
}

/// Renewing a lease prolongs it and keeps its fence.
pub async fn a_renewed_lease_keeps_its_fence(bench: &StoreBench) {
    let store = bench.open().await;
    let lease = take(&store, "run", "one").await.unwrap();
    bench.jump(50);
    let renewed = store.renew_lease(&lease, MINUTE).await.unwrap();
    assert_eq!(renewed.fence, lease.fence);
    assert!(renewed.until > lease.until);
    bench.jump(50);
    assert!(take(&store, "run", "two").await.is_err(), "it was not prolonged");
    let mut batch = putting("one", "1");
    batch.lease = Some(lease);
    store.commit(batch).await.unwrap();
}

/// Taking a lease again, by the same holder, gives a new fence and ends the older one.
pub async fn taking_a_lease_again_ends_the_older_fence(bench: &StoreBench) {
    let store = bench.open().await;
    let older = take(&store, "run", "one").await.unwrap();
    let newer = take(&store, "run", "one").await.unwrap();
    assert!(newer.fence > older.fence);
    assert!(store.renew_lease(&older, MINUTE).await.is_err());
    let mut batch = putting("one", "1");
    batch.lease = Some(older);
    assert!(store.commit(batch).await.is_err(), "an older fence still writes");
    store.renew_lease(&newer, MINUTE).await.unwrap();
}

/// Giving up a lease that is lost is fine and leaves its new holder alone.
pub async fn releasing_a_lost_lease_harms_nobody(bench: &StoreBench) {
    let store = bench.open().await;
    let lost = take(&store, "run", "one").await.unwrap();
    bench.jump(61);
    let held = take(&store, "run", "two").await.unwrap();
    store.release_lease(&lost).await.unwrap();
    store.renew_lease(&held, MINUTE).await.unwrap();
    let mut unknown = lost;
    unknown.name = name("never taken");
    unknown.scope = ours();
    store.release_lease(&unknown).await.unwrap();
}
