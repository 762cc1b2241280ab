//! Laws of records: versions, absence, and scans that miss nothing.

use super::{ALL, StoreBench, batch, key, name, ours, putting, text};
use crate::error::ErrorKind;
use crate::port::store::{Precondition, RecordKey, Scan, SharedStore};

/// A deleted record is gone; deleting what is absent is fine; written again it starts at 1.
pub async fn a_deleted_record_is_gone(bench: &StoreBench) {
    let store = bench.open().await;
    store.commit(putting("one", "1")).await.unwrap();
    store.commit(putting("one", "2")).await.unwrap();
    for _ in 0..2 {
        let mut batch = batch();
        batch.deletes.push(key("one"));
        store.commit(batch).await.unwrap();
        assert_eq!(store.get(&ours(), &key("one")).await.unwrap(), None);
        assert_eq!(ids(&store, scan("", None, false, ALL)).await, [""; 0]);
    }
    let mut batch = putting("one", "3");
    batch.preconditions.push(Precondition::Absent(key("one")));
    store.commit(batch).await.unwrap();
    let record = store.get(&ours(), &key("one")).await.unwrap().unwrap();
    assert_eq!(record.version, 1);
}

/// A prefix is the beginning of an id, letter by letter: no character in it means anything else.
pub async fn a_prefix_is_taken_literally(bench: &StoreBench) {
    let store = bench.open().await;
    let all = [
        "%",
        "%a",
        "A",
        "_",
        "a",
        "a%b",
        "a*",
        "a_b",
        "aab",
        "ab",
        "a\u{10ffff}",
        "a\u{10ffff}z",
        "b",
    ];
    for id in all {
        store.commit(putting(id, "1")).await.unwrap();
        let mut other = batch();
        other.puts.push((RecordKey::new("thing2", id), text("1")));
        other.puts.push((RecordKey::new("thin", id), text("1")));
        store.commit(other).await.unwrap();
    }
    for prefix in ["", "%", "_", "a", "a%", "a*", "a_", "A", "ab", "a\u{10ffff}", "c"] {
        let expected: Vec<_> = all.into_iter().filter(|id| id.starts_with(prefix)).collect();
        assert_eq!(
            sorted(ids(&store, scan(prefix, None, false, ALL)).await),
            sorted(expected),
            "{prefix}"
        );
    }
}

/// A record's version starts at 1 and grows by one with each write.
pub async fn a_record_grows_by_one_with_each_write(bench: &StoreBench) {
    let store = bench.open().await;
    for version in 1..=3 {
        store.commit(putting("one", &version.to_string())).await.unwrap();
        let record = store.get(&ours(), &key("one")).await.unwrap().unwrap();
        assert_eq!(record.version, version);
        assert_eq!(record.value, text(&version.to_string()));
        assert_eq!(record.key, key("one"));
    }
}

/// A batch that needs a record to be absent is a conflict when it is there.
pub async fn a_record_that_must_be_absent_is_a_conflict(bench: &StoreBench) {
    let store = bench.open().await;
    let create = || {
        let mut batch = putting("one", "1");
        batch.preconditions.push(Precondition::Absent(key("one")));
        batch
    };
    store.commit(create()).await.unwrap();
    let error = store.commit(create()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("one"), "it does not say what: {error}");
}

/// A batch that names an old version of a record is a conflict.
pub async fn a_stale_record_version_is_a_conflict(bench: &StoreBench) {
    let store = bench.open().await;
    store.commit(putting("one", "1")).await.unwrap();
    store.commit(putting("one", "2")).await.unwrap();
    for (version, good) in [(1, false), (3, false), (0, false), (2, true)] {
        let mut batch = putting("one", "3");
        batch
            .preconditions
            .push(Precondition::Version(key("one"), version));
        let result = store.commit(batch).await;
        assert_eq!(result.is_ok(), good, "version {version}");
        let kind = result.err().map_or(ErrorKind::Conflict, |error| error.kind());
        assert_eq!(kind, ErrorKind::Conflict);
    }
}

/// Pages of records, each after the last id of the one before, cover everything once and in order.
pub async fn pages_of_records_cover_everything_once(bench: &StoreBench) {
    pages(bench, false).await;
}

/// The same from the highest id down.
pub async fn pages_of_records_in_reverse_cover_everything_once(bench: &StoreBench) {
    pages(bench, true).await;
}

async fn pages(bench: &StoreBench, reverse: bool) {
    let store = bench.open().await;
    let mut expected: Vec<String> = (0..23).map(|i| format!("run-{}", i * 7 % 23)).collect();
    for id in &expected {
        store.commit(putting(id, "1")).await.unwrap();
    }
    store.commit(putting("a-before", "1")).await.unwrap();
    store.commit(putting("s-after", "1")).await.unwrap();
    expected.sort();
    if reverse {
        expected.reverse();
    }
    for size in [1, 4, 23, 24] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = ids(&store, scan("run-", after.take(), reverse, size)).await;
            assert!(page.len() <= size);
            after = page.last().cloned();
            let full = page.len() == size;
            seen.extend(page);
            assert!(seen.len() < ALL, "pages do not end");
            if !full {
                break;
            }
        }
        assert_eq!(seen, expected, "pages of {size}");
    }
    assert_eq!(ids(&store, scan("", None, reverse, 0)).await, [""; 0]);
}

/// What was never written is absent, and that is no error.
pub async fn what_is_absent_is_none(bench: &StoreBench) {
    let store = bench.open().await;
    let absent = crate::digest::Digest::of(b"absent");
    assert_eq!(store.get(&ours(), &key("one")).await.unwrap(), None);
    assert_eq!(store.get_blob(&ours(), &absent).await.unwrap(), None);
    assert_eq!(
        store.read_stream(&ours(), &name("run"), 0, ALL).await.unwrap(),
        []
    );
    assert_eq!(store.read_feed(&ours(), 0, ALL).await.unwrap(), []);
    assert_eq!(store.feed_head(&ours()).await.unwrap(), 0);
    assert_eq!(store.due_timers(ALL).await.unwrap(), []);
    assert_eq!(ids(&store, scan("", None, false, ALL)).await, [""; 0]);
}

fn scan(prefix: &str, after: Option<String>, reverse: bool, limit: usize) -> Scan {
    Scan {
        kind: name("thing"),
        prefix: prefix.to_owned(),
        after,
        reverse,
        limit,
    }
}

async fn ids(store: &SharedStore, scan: Scan) -> Vec<String> {
    let records = store.scan(&ours(), scan).await.unwrap();
    records.into_iter().map(|record| record.key.id).collect()
}

fn sorted<T: Ord>(mut ids: Vec<T>) -> Vec<T> {
    ids.sort();
    ids
}
