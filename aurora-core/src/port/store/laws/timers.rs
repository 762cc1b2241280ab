//! Laws of timers and blobs.

use super::{ALL, StoreBench, batch, name, ours, text, theirs};
use crate::digest::Digest;
use crate::port::store::{Batch, Scope, SharedStore};

/// A blob is kept under the SHA-256 digest of its bytes; keeping it again is fine.
pub async fn a_blob_is_kept_under_its_digest(bench: &StoreBench) {
    let store = bench.open().await;
    let body = text("a plan");
    for _ in 0..2 {
        let digest = store.put_blob(&ours(), body.clone()).await.unwrap();
        assert_eq!(digest, Digest::of(&body));
        let read = store.get_blob(&ours(), &digest).await.unwrap();
        assert_eq!(read.as_ref(), Some(&body));
    }
}

/// A timer is due from its time on, not before.
pub async fn a_timer_is_due_at_its_time(bench: &StoreBench) {
    let store = bench.open().await;
    let at = bench.now() + super::MINUTE;
    set(bench, &store, ours(), "gate", 60).await;
    assert_eq!(store.due_timers(ALL).await.unwrap(), []);
    bench.jump(30);
    assert_eq!(store.due_timers(ALL).await.unwrap(), []);
    bench.jump(31);
    let due = store.due_timers(ALL).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].scope.clone(), due[0].name.as_str()), (ours(), "gate"));
    assert!(due[0].at >= at && due[0].at <= bench.now());
}

/// Due timers of all scopes come oldest first, and at most as many as asked for.
pub async fn due_timers_come_oldest_first(bench: &StoreBench) {
    let store = bench.open().await;
    for (scope, timer, seconds) in [
        (ours(), "b", 20),
        (theirs(), "a", 10),
        (Scope::Global, "d", 40),
        (ours(), "c", 30),
        (ours(), "not yet", 3_600),
    ] {
        set(bench, &store, scope, timer, seconds).await;
    }
    bench.jump(100);
    let names = |due: Vec<crate::port::store::DueTimer>| -> Vec<String> {
        due.into_iter().map(|timer| timer.name).collect()
    };
    assert_eq!(names(store.due_timers(ALL).await.unwrap()), ["a", "b", "c", "d"]);
    assert_eq!(names(store.due_timers(2).await.unwrap()), ["a", "b"]);
}

/// A timer stays due until a batch removes it.
pub async fn a_timer_stays_until_it_is_removed(bench: &StoreBench) {
    let store = bench.open().await;
    set(bench, &store, ours(), "gate", 0).await;
    bench.jump(1);
    for _ in 0..2 {
        assert_eq!(store.due_timers(ALL).await.unwrap().len(), 1);
    }
    for _ in 0..2 {
        let mut batch = batch();
        batch.timers.push((name("gate"), None));
        store.commit(batch).await.unwrap();
        assert_eq!(store.due_timers(ALL).await.unwrap(), []);
    }
}

/// Setting a timer of the same name replaces it.
pub async fn a_timer_is_replaced_by_its_name(bench: &StoreBench) {
    let store = bench.open().await;
    set(bench, &store, ours(), "gate", 0).await;
    set(bench, &store, ours(), "gate", 60).await;
    bench.jump(1);
    assert_eq!(store.due_timers(ALL).await.unwrap(), []);
    bench.jump(60);
    assert_eq!(store.due_timers(ALL).await.unwrap().len(), 1);
}

async fn set(bench: &StoreBench, store: &SharedStore, scope: Scope, timer: &str, seconds: u64) {
    let mut batch = Batch::new(scope);
    let at = bench.now() + std::time::Duration::from_secs(seconds);
    batch.timers.push((name(timer), Some(at)));
    store.commit(batch).await.unwrap();
}
