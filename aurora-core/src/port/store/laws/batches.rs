//! Laws of batches: whole or not at all, fenced by tenant, kept for good.

use futures::future::join_all;

use super::{
    ALL, MINUTE, StoreBench, append, appending, batch, key, name, ours, putting, text, theirs, values,
    visible,
};
use crate::error::ErrorKind;
use crate::port::store::limits::{MAX_BLOB_BYTES, MAX_NAME_BYTES, MAX_VALUE_BYTES, SEALING_BYTES};
use crate::port::store::{Batch, Precondition, RecordKey, Scan, Scope};

/// A batch that is refused changes nothing: no stream, record, timer or feed number.
pub async fn a_batch_is_all_or_nothing(bench: &StoreBench) {
    let store = bench.open().await;
    let mut first = appending("run", 0, &["a"]);
    first.puts.push((key("kept"), text("1")));
    first.timers.push((name("early"), Some(bench.now())));
    store.commit(first).await.unwrap();
    let stale = store
        .acquire_lease(&ours(), &name("run"), "one", MINUTE)
        .await
        .unwrap();
    store.release_lease(&stale).await.unwrap();
    let before = visible(&store).await;

    let full = || {
        let mut batch = appending("other", 0, &["x", "y"]);
        batch.appends.push(append("run", 1, &["b"]));
        batch.puts.push((key("kept"), text("2")));
        batch.puts.push((key("new"), text("1")));
        batch.deletes.push(key("gone"));
        batch.timers.push((name("early"), None));
        batch.timers.push((name("late"), Some(bench.now())));
        batch
    };
    let mut stale_stream = full();
    stale_stream.appends.push(append("third", 7, &["z"]));
    let mut stale_record = full();
    stale_record
        .preconditions
        .push(Precondition::Version(key("kept"), 9));
    let mut not_absent = full();
    not_absent.preconditions.push(Precondition::Absent(key("kept")));
    let mut unheld = full();
    unheld.lease = Some(stale);
    let mut invalid = full();
    invalid.puts.push((key(""), text("")));
    for refused in [stale_stream, stale_record, not_absent, unheld, invalid] {
        store.commit(refused).await.unwrap_err();
        assert_eq!(
            visible(&store).await,
            before,
            "a refused batch left something behind"
        );
    }
    store.commit(full()).await.unwrap();
}

/// A batch writes all its events, records and timers, and tells the feed number after it.
pub async fn a_batch_writes_every_part(bench: &StoreBench) {
    let store = bench.open().await;
    store.commit(putting("old", "1")).await.unwrap();
    let mut batch = appending("one", 0, &["a", "b"]);
    batch.appends.push(append("two", 0, &["c"]));
    batch.puts.push((key("new"), text("1")));
    batch.deletes.push(key("old"));
    batch.timers.push((name("now"), Some(bench.now())));
    let committed = store.commit(batch).await.unwrap();

    assert_eq!(committed.feed, 3);
    assert_eq!(store.feed_head(&ours()).await.unwrap(), 3);
    let one = store.read_stream(&ours(), &name("one"), 0, ALL).await.unwrap();
    let two = store.read_stream(&ours(), &name("two"), 0, ALL).await.unwrap();
    assert_eq!((values(&one), values(&two)), (vec!["a", "b"], vec!["c"]));
    assert_eq!(one[0].at, committed.at);
    assert!(store.get(&ours(), &key("new")).await.unwrap().is_some());
    assert!(store.get(&ours(), &key("old")).await.unwrap().is_none());
    assert_eq!(store.due_timers(ALL).await.unwrap().len(), 1);
}

/// A batch that writes one thing twice, or under another scope's lease, is `Invalid`.
pub async fn a_contradicting_batch_is_invalid(bench: &StoreBench) {
    let store = bench.open().await;
    let mut streams = appending("run", 0, &["a"]);
    streams.appends.push(append("run", 1, &["b"]));
    let mut records = putting("one", "1");
    records.puts.push((key("one"), text("2")));
    let mut put_and_delete = putting("one", "1");
    put_and_delete.deletes.push(key("one"));
    let mut timers = batch();
    timers.timers.push((name("t"), Some(bench.now())));
    timers.timers.push((name("t"), None));
    let mut lease = putting("one", "1");
    lease.lease = Some(
        store
            .acquire_lease(&theirs(), &name("run"), "one", MINUTE)
            .await
            .unwrap(),
    );
    for contradiction in [streams, records, put_and_delete, timers, lease] {
        let error = store.commit(contradiction).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}

/// Of many writers that all expect the same version, exactly one succeeds.
pub async fn a_crowded_race_has_one_winner(bench: &StoreBench) {
    let store = bench.open().await;
    for round in 0..4 {
        let writers = (0..8).map(|writer| {
            let mut batch = appending("run", round, &[&format!("by {writer}")]);
            batch.preconditions.push(match round {
                0 => Precondition::Absent(key("run")),
                version => Precondition::Version(key("run"), version),
            });
            batch.puts.push((key("run"), text("x")));
            store.commit(batch)
        });
        let results = join_all(writers).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        for error in results.into_iter().filter_map(Result::err) {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        }
    }
    let events = store.read_stream(&ours(), &name("run"), 0, ALL).await.unwrap();
    assert_eq!(events.len(), 4);
}

/// A value or blob over its limit is `Invalid`; one at the limit is kept.
pub async fn a_large_value_is_invalid(bench: &StoreBench) {
    let store = bench.open().await;
    for (size, fits) in [
        (MAX_VALUE_BYTES, true),
        (MAX_VALUE_BYTES + SEALING_BYTES + 1, false),
    ] {
        let mut record = batch();
        record.puts.push((key("large"), vec![7; size].into()));
        let mut event = batch();
        event.appends.push(append("large", 0, &[]));
        event.appends[0].events.push(vec![7; size].into());
        for large in [record, event] {
            let result = store.commit(large).await;
            assert_eq!(result.is_ok(), fits, "{size} bytes: {result:?}");
            let kind = result.err().map_or(ErrorKind::Invalid, |error| error.kind());
            assert_eq!(kind, ErrorKind::Invalid);
        }
    }
    let error = store
        .put_blob(&ours(), vec![7; MAX_BLOB_BYTES + SEALING_BYTES + 1].into())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// A name has 1 to 512 bytes of text, whatever it names.
pub async fn a_name_has_1_to_512_bytes(bench: &StoreBench) {
    let store = bench.open().await;
    // Two bytes a letter: bytes count, not letters.
    let longest = "ä".repeat(MAX_NAME_BYTES / 2);
    for (text_of_name, good) in [
        (longest.clone(), true),
        (format!("{longest}a"), false),
        (String::new(), false),
    ] {
        let mut batches = vec![batch(), batch(), batch(), batch(), batch()];
        batches[0].appends.push(append(&text_of_name, 0, &["a"]));
        batches[1].puts.push((key(&text_of_name), text("a")));
        let kind = RecordKey::new(text_of_name.clone(), "id");
        batches[2].puts.push((kind, text("a")));
        batches[3].timers.push((text_of_name.clone(), Some(bench.now())));
        batches[4]
            .deletes
            .push(RecordKey::new("other", text_of_name.clone()));
        let expected = (!good).then_some(ErrorKind::Invalid);
        for batch in batches {
            let refused = store.commit(batch).await.err().map(|error| error.kind());
            assert_eq!(refused, expected, "{text_of_name}");
        }
        let lease = store.acquire_lease(&ours(), &text_of_name, "one", MINUTE).await;
        assert_eq!(lease.err().map(|error| error.kind()), expected);
    }
    let read = store.read_stream(&ours(), &longest, 0, ALL).await.unwrap();
    assert_eq!(read.len(), 1);
}

/// `written` changes with every batch.
pub async fn a_reader_is_woken_by_a_write(bench: &StoreBench) {
    let store = bench.open().await;
    let mut written = store.written();
    written.mark_unchanged();
    store.commit(appending("run", 0, &["a"])).await.unwrap();
    assert!(written.has_changed().unwrap(), "no wake-up after an append");
    written.mark_unchanged();
    store.commit(putting("one", "1")).await.unwrap();
    assert!(written.has_changed().unwrap(), "no wake-up after a put");
}

/// Another tenant sees nothing of what a tenant has, and cannot change it.
pub async fn another_tenant_sees_nothing(bench: &StoreBench) {
    let store = bench.open().await;
    sees_nothing(bench, &store, theirs()).await;
}

/// The global scope is no tenant's, and no tenant's data is in it.
pub async fn the_global_scope_is_no_tenants(bench: &StoreBench) {
    let store = bench.open().await;
    sees_nothing(bench, &store, Scope::Global).await;
}

async fn sees_nothing(bench: &StoreBench, store: &super::SharedStore, other: Scope) {
    let mut batch = appending("run", 0, &["ours"]);
    batch.puts.push((key("one"), text("ours")));
    batch.timers.push((name("timer"), Some(bench.now())));
    store.commit(batch).await.unwrap();
    let digest = store.put_blob(&ours(), text("ours")).await.unwrap();
    let held = super::take(store, "run", "one").await.unwrap();

    let scan = Scan {
        kind: name("thing"),
        prefix: String::new(),
        after: None,
        reverse: false,
        limit: ALL,
    };
    assert_eq!(store.read_stream(&other, &name("run"), 0, ALL).await.unwrap(), []);
    assert_eq!(store.read_feed(&other, 0, ALL).await.unwrap(), []);
    assert_eq!(store.feed_head(&other).await.unwrap(), 0);
    assert_eq!(store.get(&other, &key("one")).await.unwrap(), None);
    assert_eq!(store.scan(&other, scan).await.unwrap(), []);
    assert_eq!(store.get_blob(&other, &digest).await.unwrap(), None);

    let mut foreign = Batch::new(other.clone());
    foreign.appends.push(append("run", 0, &["theirs"]));
    foreign.puts.push((key("one"), text("theirs")));
    foreign.timers.push((name("timer"), None));
    let committed = store.commit(foreign).await.unwrap();
    assert_eq!(committed.feed, 1, "each scope counts its own feed");
    let mut foreign = Batch::new(other.clone());
    foreign.deletes.push(key("one"));
    store.commit(foreign).await.unwrap();
    store
        .acquire_lease(&other, &name("run"), "two", MINUTE)
        .await
        .unwrap();

    let run = store.read_stream(&ours(), &name("run"), 0, ALL).await.unwrap();
    assert_eq!(values(&run), ["ours"]);
    let record = store.get(&ours(), &key("one")).await.unwrap().unwrap();
    assert_eq!((record.version, record.value), (1, text("ours")));
    let due = store.due_timers(ALL).await.unwrap();
    assert_eq!(due.len(), 1, "another scope removed a timer");
    assert_eq!(due[0].scope, ours());
    store.renew_lease(&held, MINUTE).await.unwrap();
}

/// What was acknowledged is there after the store was closed and opened again.
pub async fn what_was_acknowledged_survives_a_reopen(bench: &StoreBench) {
    let store = bench.open().await;
    let mut batch = appending("run", 0, &["a", "b"]);
    batch.puts.push((key("one"), text("1")));
    batch.puts.push((key("two"), text("1")));
    batch.timers.push((name("timer"), Some(bench.now())));
    store.commit(batch).await.unwrap();
    let mut batch = putting("one", "2");
    batch.deletes.push(key("two"));
    store.commit(batch).await.unwrap();
    let digest = store.put_blob(&ours(), text("body")).await.unwrap();
    let held = super::take(&store, "run", "one").await.unwrap();
    let before = visible(&store).await;
    drop(store);

    let store = bench.open().await;
    assert_eq!(visible(&store).await, before);
    let body = store.get_blob(&ours(), &digest).await.unwrap();
    assert_eq!(body, Some(text("body")));
    let refused = super::take(&store, "run", "two").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "the lease was forgotten");
    store.renew_lease(&held, MINUTE).await.unwrap();
    let committed = store.commit(appending("run", 2, &["c"])).await.unwrap();
    assert_eq!(committed.feed, 3);
}
