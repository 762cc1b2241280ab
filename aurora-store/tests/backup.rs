//! Copies of a store that is written to meanwhile: whole, of one moment, and safe to go on from.
#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aurora_core::error::ErrorKind;
use aurora_core::port::clock::{Clock, InMemoryClock, SystemClock};
use aurora_core::port::store::{Append, Batch, RecordKey, Scope, Store};
use aurora_core::tasks::Tasks;
use aurora_store::sealed::{MasterKey, MasterKeys, SealedStore};
use aurora_store::sqlite::{SqliteStore, back_up};
use jiff::{SignedDuration, Timestamp};

const STREAM: &str = "numbers";

async fn open(path: &Path, key: &MasterKey, clock: Arc<dyn Clock>) -> SealedStore<SqliteStore> {
    let file = SqliteStore::open(path, clock).await.unwrap();
    SealedStore::new(file, MasterKeys::new(key.clone()))
}

/// The n-th event of the stream, and a record that says n: in one batch.
fn number(n: u64) -> Batch {
    let mut batch = Batch::new(Scope::Global);
    batch.appends.push(Append {
        stream: STREAM.to_owned(),
        expected: n - 1,
        events: vec![n.to_string().into()],
    });
    batch
        .puts
        .push((RecordKey::new("last", "number"), n.to_string().into()));
    batch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_taken_while_writes_go_on_is_whole_and_of_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let (at, key) = (dir.path().join("store.sqlite"), MasterKey::generate().unwrap());
    let store = Arc::new(open(&at, &key, Arc::new(SystemClock)).await);
    for n in 1..=50 {
        store.commit(number(n)).await.unwrap();
    }
    let (tasks, writing) = (Tasks::new(), Arc::clone(&store));
    tasks.spawn(|stop| async move {
        let mut n = 50;
        while !stop.is_cancelled() {
            n += 1;
            writing.commit(number(n)).await.unwrap();
        }
    });
    for copy in 0..5 {
        let (from, to) = (at.clone(), dir.path().join(format!("copy-{copy}.sqlite")));
        let copied = to.clone();
        tokio::task::spawn_blocking(move || back_up(&from, &copied))
            .await
            .unwrap()
            .unwrap();
        let copy = open(&to, &key, Arc::new(SystemClock)).await;
        let events = copy
            .read_stream(&Scope::Global, &STREAM.to_owned(), 0, 100_000)
            .await
            .unwrap();
        let numbers: Vec<_> = events.iter().map(|event| event.value.clone()).collect();
        let expected: Vec<bytes::Bytes> = (1..=events.len()).map(|n| n.to_string().into()).collect();
        assert_eq!(numbers, expected, "nothing is missing in between");
        assert!(events.len() >= 50, "what was acknowledged before is there");
        let last = copy
            .get(&Scope::Global, &RecordKey::new("last", "number"))
            .await
            .unwrap();
        assert_eq!(
            last.unwrap().value,
            expected.last().unwrap(),
            "of the same moment"
        );
    }
    tasks.drain(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn a_place_that_is_taken_and_a_file_of_another_program_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (at, to) = (dir.path().join("store.sqlite"), dir.path().join("copy.sqlite"));
    let store = SqliteStore::open(&at, Arc::new(SystemClock)).await.unwrap();
    std::fs::write(&to, "precious").unwrap();
    assert_eq!(back_up(&at, &to).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "precious");
    #[cfg(unix)]
    {
        let link = dir.path().join("link.sqlite");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
        assert_eq!(back_up(&at, &link).unwrap_err().kind(), ErrorKind::Conflict);
        assert!(
            link.symlink_metadata().is_ok(),
            "a link that leads nowhere is somebody's too"
        );
    }
    drop(store);
    let other = dir.path().join("other.sqlite");
    std::fs::write(&other, "not a database, but long enough to be looked at as one").unwrap();
    let fresh = dir.path().join("fresh.sqlite");
    back_up(&other, &fresh).unwrap_err();
    assert!(!fresh.exists(), "a failed copy leaves nothing");
    let absent = back_up(&dir.path().join("absent.sqlite"), &fresh).unwrap_err();
    assert!(absent.to_string().contains("absent.sqlite"), "{absent}");
}

#[tokio::test]
async fn leases_of_an_old_copy_have_fences_above_all_that_came_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let start: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let clock = InMemoryClock::starting_at(start);
    let (at, key) = (dir.path().join("store.sqlite"), MasterKey::generate().unwrap());
    let store = open(&at, &key, Arc::new(clock.clone())).await;
    let (scope, ttl) = (Scope::Global, Duration::from_secs(1));
    let before = store
        .acquire_lease(&scope, &"run".to_owned(), "one", ttl)
        .await
        .unwrap();
    let copy = dir.path().join("copy.sqlite");
    back_up(&at, &copy).unwrap();
    // The original goes on for a day, then its disk is lost and the copy takes its place.
    let mut newest = before.fence;
    for hour in 0..24 {
        clock.jump(SignedDuration::from_hours(1));
        let name = format!("run-{hour}");
        let lease = store.acquire_lease(&scope, &name, "one", ttl).await.unwrap();
        assert!(lease.fence > newest);
        newest = lease.fence;
    }
    drop(store);
    clock.jump(SignedDuration::from_secs(2));
    let restored = open(&copy, &key, Arc::new(clock)).await;
    let after = restored
        .acquire_lease(&scope, &"run".to_owned(), "two", ttl)
        .await
        .unwrap();
    assert!(
        after.fence > newest,
        "{} is not above {newest}: commands of a restored store would be refused, or worse, taken",
        after.fence
    );
}
