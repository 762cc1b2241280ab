//! Laws of streams and of the feed: compare and set, order, nothing missed.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::future::join_all;

use super::{ALL, StoreBench, append, appending, batch, key, name, ours, values};
use crate::error::ErrorKind;
use crate::port::store::StoredEvent;

/// Appending to a stream that has another version than expected is a conflict.
pub async fn a_stale_stream_version_is_a_conflict(bench: &StoreBench) {
    let store = bench.open().await;
    store.commit(appending("run", 0, &["a", "b"])).await.unwrap();
    for (expected, good) in [(0, false), (1, false), (3, false), (2, true)] {
        let result = store.commit(appending("run", expected, &["c"])).await;
        assert_eq!(result.is_ok(), good, "expecting {expected}: {result:?}");
        if let Err(error) = result {
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert!(error.to_string().contains("run"), "it does not say what: {error}");
        }
    }
}

/// An append without events writes nothing and still needs the version.
pub async fn an_append_of_nothing_checks_the_version(bench: &StoreBench) {
    let store = bench.open().await;
    store.commit(appending("run", 0, &["a"])).await.unwrap();
    let error = store.commit(appending("run", 0, &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let committed = store.commit(appending("run", 1, &[])).await.unwrap();
    assert_eq!(committed.feed, 1);
    store.commit(appending("new", 0, &[])).await.unwrap();
}

/// Events of a stream count from 1 without a gap and carry the store's time.
pub async fn events_count_from_one_and_carry_the_time(bench: &StoreBench) {
    let store = bench.open().await;
    let before = bench.now();
    store.commit(appending("other", 0, &["x"])).await.unwrap();
    store.commit(appending("run", 0, &["a", "b"])).await.unwrap();
    bench.jump(100);
    let between = bench.now();
    let committed = store.commit(appending("run", 2, &["c"])).await.unwrap();
    let events = store.read_stream(&ours(), &name("run"), 0, ALL).await.unwrap();
    let versions: Vec<_> = events.iter().map(|event| event.version).collect();
    assert_eq!((versions, values(&events)), (vec![1, 2, 3], vec!["a", "b", "c"]));
    assert!(events.iter().all(|event| event.stream == "run"));
    assert!(events[0].at >= before && events[1].at < between && events[2].at >= between);
    assert_eq!(events[2].at, committed.at);
    assert_eq!(
        committed.at.subsec_nanosecond() % 1_000,
        0,
        "times are to the microsecond"
    );
}

/// Who follows the feed while others write sees every event, once and in its order.
pub async fn no_reader_of_the_feed_misses_an_event(bench: &StoreBench) {
    let store = bench.open().await;
    let done = AtomicBool::new(false);
    let writers = async {
        join_all((0..6).map(|writer| {
            let store = store.clone();
            async move {
                for version in 0..10 {
                    let stream = format!("run-{writer}");
                    store.commit(appending(&stream, version, &["e"])).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        }))
        .await;
        done.store(true, Ordering::SeqCst);
    };
    let reader = async {
        let mut seen: Vec<StoredEvent> = Vec::new();
        loop {
            let last = done.load(Ordering::SeqCst);
            let after = seen.last().map_or(0, |event| event.feed);
            let page = store.read_feed(&ours(), after, 7).await.unwrap();
            if page.is_empty() && last {
                return seen;
            }
            seen.extend(page);
            assert!(seen.len() < ALL, "the feed does not end");
            tokio::task::yield_now().await;
        }
    };
    let ((), seen) = futures::future::join(writers, reader).await;
    let all = store.read_feed(&ours(), 0, ALL).await.unwrap();
    assert_eq!(all.len(), 60);
    assert_eq!(seen, all, "a reader missed an event or saw one twice");
}

/// Pages of a stream, each after the last version of the one before, cover everything once.
pub async fn pages_of_a_stream_cover_everything_once(bench: &StoreBench) {
    let store = bench.open().await;
    let run = name("run");
    for version in 0..10 {
        store.commit(appending("run", version, &["e"])).await.unwrap();
        store.commit(appending("noise", version, &["n"])).await.unwrap();
    }
    for size in [1, 3, 10, 11] {
        let mut seen = Vec::new();
        loop {
            let after = seen.last().copied().unwrap_or(0);
            let page = store.read_stream(&ours(), &run, after, size).await.unwrap();
            assert!(page.len() <= size);
            seen.extend(page.iter().map(|event| event.version));
            assert!(seen.len() < ALL, "pages do not end");
            if page.len() < size {
                break;
            }
        }
        assert_eq!(seen, (1..=10).collect::<Vec<_>>(), "pages of {size}");
    }
}

/// Pages of the feed, each after the last number of the one before, cover everything once.
pub async fn pages_of_the_feed_cover_everything_once(bench: &StoreBench) {
    let store = bench.open().await;
    for version in 0..5 {
        store
            .commit(appending("a", version * 2, &["e", "e"]))
            .await
            .unwrap();
        store.commit(appending("b", version, &["e"])).await.unwrap();
    }
    let all = store.read_feed(&ours(), 0, ALL).await.unwrap();
    assert_eq!(all.len(), 15);
    for size in [1, 4, 15, 16] {
        let mut seen: Vec<StoredEvent> = Vec::new();
        loop {
            let after = seen.last().map_or(0, |event| event.feed);
            let page = store.read_feed(&ours(), after, size).await.unwrap();
            assert!(page.len() <= size);
            let full = page.len() == size;
            seen.extend(page);
            assert!(seen.len() < ALL, "pages do not end");
            if !full {
                break;
            }
        }
        assert_eq!(seen, all, "pages of {size}");
    }
}

/// The events of one batch follow each other in the feed, which grows from 1; records leave it alone.
pub async fn the_feed_keeps_a_batch_together(bench: &StoreBench) {
    let store = bench.open().await;
    let batches = (0..6).map(|i| {
        let mut batch = appending(&format!("a-{i}"), 0, &["1", "2"]);
        batch.appends.push(append(&format!("b-{i}"), 0, &["3"]));
        batch.puts.push((key("one"), Bytes::new()));
        store.commit(batch)
    });
    let ends: Vec<u64> = join_all(batches)
        .await
        .into_iter()
        .map(|committed| committed.unwrap().feed)
        .collect();
    store.commit(super::putting("one", "x")).await.unwrap();
    let feed = store.read_feed(&ours(), 0, ALL).await.unwrap();
    let numbers: Vec<_> = feed.iter().map(|event| event.feed).collect();
    assert!(
        numbers.windows(2).all(|pair| pair[0] < pair[1]),
        "the feed is not in order"
    );
    for chunk in feed.chunks(3) {
        let of = |event: &StoredEvent| event.stream.split('-').nth(1).map(str::to_owned);
        assert!(
            chunk.iter().all(|event| of(event) == of(&chunk[0])),
            "a batch was torn"
        );
        assert_eq!(values(chunk), ["1", "2", "3"]);
        assert!(
            ends.contains(&chunk[2].feed),
            "a batch ends at another number than it said"
        );
    }
    assert_eq!(store.feed_head(&ours()).await.unwrap(), *numbers.last().unwrap());
}

/// Values come back byte by byte: empty ones, zero bytes, and what is no text.
pub async fn values_come_back_as_they_were(bench: &StoreBench) {
    let store = bench.open().await;
    let odd = [
        Bytes::new(),
        Bytes::from_static(&[0, 0, 0]),
        Bytes::from_static(&[0xff, 0xfe, 0, b'\n', b'\'']),
        Bytes::from(vec![0xa5; 200_000]),
    ];
    let mut batch = batch();
    batch.appends.push(append("run", 0, &[]));
    batch.appends[0].events = odd.to_vec();
    for (id, value) in odd.iter().enumerate() {
        batch.puts.push((key(&id.to_string()), value.clone()));
    }
    store.commit(batch).await.unwrap();
    let events = store.read_stream(&ours(), &name("run"), 0, ALL).await.unwrap();
    assert!(
        events.iter().map(|event| &event.value).eq(&odd),
        "an event's value changed"
    );
    for (id, value) in odd.iter().enumerate() {
        let record = store.get(&ours(), &key(&id.to_string())).await.unwrap().unwrap();
        assert_eq!(record.value, value);
        let digest = store.put_blob(&ours(), value.clone()).await.unwrap();
        let body = store.get_blob(&ours(), &digest).await.unwrap().unwrap();
        assert_eq!(body, value);
    }
}
