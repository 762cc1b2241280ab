//! Tests of sealing: the laws over every store, and what somebody with the file can read or change.

use std::path::Path;
use std::sync::Arc;

use aurora_core::error::{ErrorChain, ErrorKind};
use aurora_core::port::clock::{Clock, SystemClock};
use aurora_core::port::store::failing::{FailingStore, Side};
use aurora_core::port::store::memory::InMemoryStore;
use aurora_core::port::store::{Append, Batch, Precondition, RecordKey, Scan, Scope, Store, StoreError};
use aurora_core::tenant::Tenant;
use bytes::Bytes;
use rusqlite::Connection;

use super::{MasterKey, MasterKeys, SealedStore};
use crate::sqlite::SqliteStore;

mod laws_in_memory {
    use std::sync::OnceLock;

    use aurora_core::port::store::SharedStore;

    use super::*;

    aurora_core::store_laws!({
        let kept = Arc::new(OnceLock::new());
        move |clock| {
            let store = kept.get_or_init(|| InMemoryStore::new(clock)).clone();
            async move { Arc::new(SealedStore::new(store, masters())) as SharedStore }
        }
    });
}

mod laws_in_a_file {
    use aurora_core::port::store::SharedStore;

    use super::*;

    aurora_core::store_laws!({
        let dir = Arc::new(tempfile::tempdir().unwrap());
        move |clock| {
            let dir = Arc::clone(&dir);
            async move {
                let path = dir.path().join("store.sqlite");
                let file = SqliteStore::open(path, clock).await.unwrap();
                Arc::new(SealedStore::new(file, masters())) as SharedStore
            }
        }
    });
}

const CANARY: &str = "canary-7f3a-a-text-that-nobody-else-writes";

#[tokio::test]
async fn no_value_stands_in_the_file_or_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let file = open(dir.path()).await;
    let sealed = SealedStore::new(file.clone(), masters());
    write_everything(&sealed, &ours(), CANARY).await;
    assert!(
        !is_on_disk(dir.path(), CANARY),
        "a sealed value can be read on the disk"
    );
    drop(sealed);
    drop(file);
    assert!(
        !is_on_disk(dir.path(), CANARY),
        "a sealed value can be read on the disk after closing"
    );

    // The same without sealing is seen, so the search can find what is there.
    let file = open(dir.path()).await;
    write_everything(&file, &theirs(), CANARY).await;
    assert!(is_on_disk(dir.path(), CANARY));
}

#[tokio::test]
async fn a_value_moved_to_another_place_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sealed = SealedStore::new(open(dir.path()).await, masters());
    for scope in [ours(), theirs()] {
        write_everything(&sealed, &scope, "value").await;
    }
    for (what, swap) in [
        (
            "records of two tenants",
            "UPDATE record SET value = (SELECT value FROM record AS other WHERE other.scope <> record.scope
             AND other.kind = 'thing' AND other.id = 'a') WHERE kind = 'thing' AND id = 'a'",
        ),
        (
            "records of one tenant",
            "UPDATE record SET value = (SELECT value FROM record AS other WHERE other.scope = record.scope
             AND other.kind = 'thing' AND other.id = 'b') WHERE kind = 'thing' AND id = 'a'",
        ),
        (
            "events of two tenants",
            "UPDATE event SET value = (SELECT value FROM event AS other WHERE other.scope <> event.scope
             AND other.version = event.version AND other.stream = event.stream)",
        ),
        (
            "events of one stream",
            "UPDATE event SET value = (SELECT value FROM event AS other WHERE other.scope = event.scope
             AND other.version = 3 - event.version AND other.stream = event.stream)",
        ),
        (
            "the version of a record",
            "UPDATE record SET version = version + 1 WHERE kind = 'thing'",
        ),
        (
            "data keys of two tenants",
            "UPDATE record SET value = (SELECT value FROM record AS other WHERE other.scope <> record.scope
             AND other.kind = 'sealed.key') WHERE kind = 'sealed.key'",
        ),
    ] {
        let place = tempfile::tempdir().unwrap();
        copy(dir.path(), place.path());
        let swapped = Connection::open(place.path().join("store.sqlite"))
            .unwrap()
            .execute(swap, [])
            .unwrap();
        assert!(swapped > 0, "{what}: nothing was swapped");
        let store = SealedStore::new(open(place.path()).await, masters());
        let record = store
            .get(&ours(), &RecordKey::new("thing", "a"))
            .await
            .map(|_| ());
        let events = store
            .read_stream(&ours(), &"run".to_owned(), 0, 9)
            .await
            .map(|_| ());
        let error = record.and(events).expect_err(what);
        assert!(matches!(error, StoreError::Corrupt { .. }), "{what}: {error}");
    }
}

#[tokio::test]
async fn every_flipped_byte_of_a_stored_value_is_noticed() {
    let memory = InMemoryStore::new(clock());
    let sealed = SealedStore::new(memory.clone(), masters());
    write_everything(&sealed, &ours(), "v").await;
    let key = RecordKey::new("thing", "a");
    let whole = memory.get(&ours(), &key).await.unwrap().unwrap().value;
    for at in 0..whole.len() {
        let mut broken = whole.to_vec();
        broken[at] ^= 0x10;
        let store = InMemoryStore::new(clock());
        for record in memory.records(&ours()) {
            let value = if record.key == key {
                Bytes::from(broken.clone())
            } else {
                record.value
            };
            let mut batch = Batch::new(ours());
            batch.puts.push((record.key, value));
            store.commit(batch).await.unwrap();
        }
        let error = SealedStore::new(store, masters())
            .get(&ours(), &key)
            .await
            .unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "byte {at}: {error}");
    }
}

#[tokio::test]
async fn a_blob_whose_body_was_exchanged_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sealed = SealedStore::new(open(dir.path()).await, masters());
    let one = sealed.put_blob(&ours(), "one".into()).await.unwrap();
    let two = sealed.put_blob(&ours(), "two".into()).await.unwrap();
    drop(sealed);
    Connection::open(dir.path().join("store.sqlite"))
        .unwrap()
        .execute(
            "UPDATE blob SET body = (SELECT body FROM blob AS other WHERE other.rowid = 2) WHERE rowid = 1",
            [],
        )
        .unwrap();
    let sealed = SealedStore::new(open(dir.path()).await, masters());
    let error = sealed.get_blob(&ours(), &one).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert_eq!(sealed.get_blob(&ours(), &two).await.unwrap().unwrap(), "two");
}

#[tokio::test]
async fn a_blob_can_be_kept_again_after_a_crash_at_any_write() {
    for write in 1..=4 {
        for side in [Side::Before, Side::After] {
            let memory = InMemoryStore::new(clock());
            let failing = FailingStore::new(memory.clone()).with_crash(write, side);
            let crashing = SealedStore::new(failing, masters());
            let error = crashing.put_blob(&ours(), "body".into()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "write {write} {side:?}");

            let restarted = SealedStore::new(memory, masters());
            let digest = aurora_core::digest::Digest::of(b"body");
            let found = restarted.get_blob(&ours(), &digest).await.unwrap();
            assert_eq!(found.is_some(), (write, side) == (4, Side::After));
            assert_eq!(restarted.put_blob(&ours(), "body".into()).await.unwrap(), digest);
            let found = restarted.get_blob(&ours(), &digest).await.unwrap();
            assert_eq!(found.unwrap(), "body", "write {write} {side:?}");
        }
    }
}

#[tokio::test]
async fn another_master_key_opens_nothing_and_the_error_says_what_to_do() {
    let memory = InMemoryStore::new(clock());
    write_everything(&SealedStore::new(memory.clone(), masters()), &ours(), "v").await;
    let other = SealedStore::new(memory, MasterKeys::new(MasterKey::from_bytes([2; 32])));
    let error = other
        .get(&ours(), &RecordKey::new("thing", "a"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(
        ErrorChain(&error)
            .to_string()
            .contains("give the one that did as an older key"),
        "{error:?}"
    );
    other
        .commit(put(ours(), "c", "v"))
        .await
        .expect_err("a second first key was made");
}

#[tokio::test]
async fn data_keys_rotate_while_others_read_and_write() {
    let memory = InMemoryStore::new(clock());
    let one = SealedStore::new(memory.clone(), masters());
    let two = SealedStore::new(memory.clone(), masters());
    write_everything(&one, &ours(), "old").await;
    two.commit(put(ours(), "by two", "old")).await.unwrap();
    assert_eq!(one.rotate(&ours()).await.unwrap(), 2);
    one.commit(put(ours(), "after", "new")).await.unwrap();
    two.commit(put(ours(), "still by two", "old key")).await.unwrap();
    for store in [&one, &two, &SealedStore::new(memory.clone(), masters())] {
        for id in ["a", "by two", "after", "still by two"] {
            store
                .get(&ours(), &RecordKey::new("thing", id))
                .await
                .unwrap()
                .unwrap();
        }
        assert_eq!(store.read_feed(&ours(), 0, 9).await.unwrap().len(), 2);
        let body = store
            .get_blob(&ours(), &aurora_core::digest::Digest::of(b"old"))
            .await;
        assert_eq!(body.unwrap().unwrap(), "old");
    }
    let stored = |id: &str| {
        let records = memory.records(&ours());
        let found = records.into_iter().find(|record| record.key.id == id);
        found.unwrap().value[1..9].to_vec()
    };
    assert_ne!(stored("a"), stored("after"), "the new key is not used");
}

#[tokio::test]
async fn after_rewrapping_the_older_master_key_is_not_needed() {
    let memory = InMemoryStore::new(clock());
    let old = SealedStore::new(memory.clone(), masters());
    for scope in [ours(), theirs(), Scope::Global] {
        write_everything(&old, &scope, "v").await;
    }
    old.rotate(&ours()).await.unwrap();
    let new_key = || MasterKey::from_bytes([9; 32]);
    let both = SealedStore::new(memory.clone(), MasterKeys::new(new_key()).with_older(old_key()));
    assert_eq!(both.rewrap().await.unwrap(), 4);
    assert_eq!(both.rewrap().await.unwrap(), 0);
    let new = SealedStore::new(memory, MasterKeys::new(new_key()));
    for scope in [ours(), theirs(), Scope::Global] {
        new.get(&scope, &RecordKey::new("thing", "a"))
            .await
            .unwrap()
            .unwrap();
    }
    // A replica that was not restarted yet still has the keys in hand.
    old.get(&ours(), &RecordKey::new("thing", "a"))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn two_that_start_at_once_agree_on_the_first_key() {
    let memory = InMemoryStore::new(clock());
    let stores: Vec<_> = (0..4)
        .map(|_| SealedStore::new(memory.clone(), masters()))
        .collect();
    let writes = stores
        .iter()
        .enumerate()
        .map(|(i, store)| store.commit(put(ours(), &format!("{i}"), "v")));
    for result in futures::future::join_all(writes).await {
        result.unwrap();
    }
    let keys = memory
        .records(&ours())
        .into_iter()
        .filter(|record| record.key.kind == "sealed.key");
    assert_eq!(keys.count(), 1);
    for store in &stores {
        let scan = Scan {
            kind: "thing".to_owned(),
            prefix: String::new(),
            after: None,
            reverse: false,
            limit: 9,
        };
        assert_eq!(store.scan(&ours(), scan).await.unwrap().len(), 4);
    }
}

#[tokio::test]
async fn the_sealings_own_records_are_out_of_reach() {
    let store = SealedStore::new(InMemoryStore::new(clock()), masters());
    write_everything(&store, &ours(), "v").await;
    let key = RecordKey::new("sealed.key", "00000001");
    let error = store.get(&ours(), &key).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let mut delete = Batch::new(ours());
    delete.deletes.push(key);
    assert_eq!(store.commit(delete).await.unwrap_err().kind(), ErrorKind::Invalid);
}

/// The file of the first landed version opens for ever: its values were written by `write_everything`.
#[tokio::test]
async fn a_file_of_the_first_version_still_opens() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1.sqlite");
    std::fs::copy(fixture, dir.path().join("store.sqlite")).unwrap();
    let file = open(dir.path()).await;
    let sealed = SealedStore::new(file.clone(), masters());
    for (scope, store) in [(ours(), &sealed as &dyn Store), (theirs(), &file as &dyn Store)] {
        let record = store
            .get(&scope, &RecordKey::new("thing", "a"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((record.version, record.value), (1, "first version".into()));
        let events = store.read_stream(&scope, &"run".to_owned(), 0, 9).await.unwrap();
        assert!(events.iter().all(|event| event.value == "first version"));
        assert_eq!(events.len(), 2);
        let digest = aurora_core::digest::Digest::of(b"first version");
        assert_eq!(
            store.get_blob(&scope, &digest).await.unwrap().unwrap(),
            "first version"
        );
        store.commit(put(scope, "new", "v")).await.unwrap();
    }
    assert_eq!(file.due_timers(9).await.unwrap().len(), 2);
}

async fn write_everything(store: &dyn Store, scope: &Scope, value: &str) {
    let mut batch = Batch::new(scope.clone());
    for id in ["a", "b"] {
        let key = RecordKey::new("thing", id);
        batch.preconditions.push(Precondition::Absent(key.clone()));
        batch.puts.push((key, Bytes::copy_from_slice(value.as_bytes())));
    }
    batch.appends.push(Append {
        stream: "run".to_owned(),
        expected: 0,
        events: vec![Bytes::copy_from_slice(value.as_bytes()); 2],
    });
    batch
        .timers
        .push(("timer".to_owned(), Some(jiff::Timestamp::UNIX_EPOCH)));
    store.commit(batch).await.unwrap();
    store
        .put_blob(scope, Bytes::copy_from_slice(value.as_bytes()))
        .await
        .unwrap();
}

fn put(scope: Scope, id: &str, value: &str) -> Batch {
    let mut batch = Batch::new(scope);
    batch.puts.push((
        RecordKey::new("thing", id),
        Bytes::copy_from_slice(value.as_bytes()),
    ));
    batch
}

async fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(dir.join("store.sqlite"), clock())
        .await
        .unwrap()
}

fn is_on_disk(dir: &Path, text: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

/// The file as a crash would leave it, log and all.
fn copy(from: &Path, to: &Path) {
    for file in ["store.sqlite", "store.sqlite-wal"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn old_key() -> MasterKey {
    MasterKey::from_bytes([1; 32])
}

fn masters() -> MasterKeys {
    MasterKeys::new(old_key())
}

fn ours() -> Scope {
    Scope::Tenant(Tenant::new("acme", "main").unwrap())
}

fn theirs() -> Scope {
    Scope::Tenant(Tenant::new("globex", "main").unwrap())
}
