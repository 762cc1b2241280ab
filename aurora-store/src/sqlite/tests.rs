//! Tests of the file: the laws, who may open it, and how it grows older.

use std::sync::Arc;

use aurora_core::error::ErrorKind;
use aurora_core::port::clock::{Clock, SystemClock};
use aurora_core::port::store::{Append, Batch, RecordKey, Scope, SharedStore, Store};
use futures::future::join_all;
use jiff::Timestamp;
use rusqlite::Connection;

use super::schema::{MIGRATIONS, Migration, migrate};
use super::threads::Writer;
use super::{OpenError, SqliteStore};

mod laws {
    use super::*;

    aurora_core::store_laws!({
        let dir = Arc::new(tempfile::tempdir().unwrap());
        move |clock| {
            let dir = Arc::clone(&dir);
            async move {
                let path = dir.path().join("store.sqlite");
                Arc::new(SqliteStore::open(path, clock).await.unwrap()) as SharedStore
            }
        }
    });
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

#[tokio::test]
async fn a_second_opener_is_refused_and_told_who_has_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.sqlite");
    let first = SqliteStore::open(&path, clock()).await.unwrap();
    let error = SqliteStore::open(&path, clock()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let text = error.to_string();
    assert!(
        text.contains(&format!("process {}", std::process::id())),
        "{text}"
    );

    let clone = first.clone();
    drop(first);
    SqliteStore::open(&path, clock()).await.unwrap_err();
    drop(clone);
    SqliteStore::open(&path, clock()).await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("store.sqlite"), clock())
        .await
        .unwrap();
    store.commit(put("one")).await.unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
        files += 1;
    }
    assert_eq!(files, 4, "the file, its log, its index and its lock");
}

#[tokio::test]
async fn a_file_of_another_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("other.sqlite");
    Connection::open(&database)
        .unwrap()
        .execute_batch("CREATE TABLE theirs (a)")
        .unwrap();
    let error = SqliteStore::open(&database, clock()).await.unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");

    let text = dir.path().join("notes.txt");
    std::fs::write(&text, "these are notes and no database at all").unwrap();
    let error = SqliteStore::open(&text, clock()).await.unwrap_err();
    assert!(matches!(error, OpenError::Unusable { .. }), "{error}");
    assert_eq!(
        std::fs::read_to_string(&text).unwrap(),
        "these are notes and no database at all"
    );
}

#[tokio::test]
async fn a_directory_that_is_absent_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = SqliteStore::open(dir.path().join("absent").join("store.sqlite"), clock())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("absent"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_newer_file_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.sqlite");
    drop(SqliteStore::open(&path, clock()).await.unwrap());
    let future = Connection::open(&path).unwrap();
    future
        .execute("INSERT INTO migration VALUES (99, 'from the future', 0)", [])
        .unwrap();
    drop(future);
    let error = SqliteStore::open(&path, clock()).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
    let versions: i64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM migration", [], |row| row.get(0))
        .unwrap();
    assert_eq!(versions, MIGRATIONS.len() as i64 + 1);
}

#[test]
fn migrations_are_taken_once_in_order_and_a_failed_one_changes_nothing() {
    let step = |name, sql| Migration { name, sql };
    let steps = [
        step("one", "CREATE TABLE one (a INTEGER)"),
        step("two", "CREATE TABLE two (a INTEGER); INSERT INTO two VALUES (1);"),
        step(
            "three",
            "INSERT INTO two VALUES (2); INSERT INTO absent VALUES (1);",
        ),
    ];
    let mut sql = Connection::open_in_memory().unwrap();
    let path = std::path::Path::new("memory");
    let now = Timestamp::UNIX_EPOCH;
    for taken in [1, 2, 2] {
        migrate(&mut sql, path, &steps[..taken], now).unwrap();
    }
    let error = migrate(&mut sql, path, &steps, now).unwrap_err();
    assert!(error.to_string().contains("three"), "{error}");
    let rows: i64 = sql
        .query_row("SELECT count(*) FROM two", [], |row| row.get(0))
        .unwrap();
    assert_eq!(
        rows, 1,
        "the second step ran twice or the third one left something"
    );
    let version: i64 = sql
        .query_row("SELECT max(version) FROM migration", [], |row| row.get(0))
        .unwrap();
    assert_eq!(version, 2);
}

#[tokio::test]
async fn writes_that_wait_together_share_a_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("store.sqlite"), clock())
        .await
        .unwrap();
    let written = store.written();
    let writes = (0..200).map(|i| store.commit(put(&format!("{i}"))));
    for result in join_all(writes).await {
        result.unwrap();
    }
    // The count moves once per transaction.
    let transactions = *written.borrow();
    assert!(transactions < 150, "{transactions} transactions for 200 writes");
}

#[tokio::test]
async fn a_write_whose_caller_went_away_stands_or_is_absent_but_never_half() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("store.sqlite"), clock())
        .await
        .unwrap();
    for i in 0..20 {
        let mut batch = put(&format!("{i}"));
        batch.appends.push(Append {
            stream: format!("{i}"),
            expected: 0,
            events: vec!["e".into()],
        });
        let write = store.commit(batch);
        futures::pin_mut!(write);
        let _ = futures::poll!(write.as_mut());
    }
    store.commit(put("last")).await.unwrap();
    for i in 0..20 {
        let key = RecordKey::new("thing", format!("{i}"));
        let record = store.get(&Scope::Global, &key).await.unwrap();
        let events = store
            .read_stream(&Scope::Global, &format!("{i}"), 0, 9)
            .await
            .unwrap();
        assert_eq!(record.is_some(), events.len() == 1);
    }
}

#[tokio::test]
async fn a_damaged_file_is_corrupt_and_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.sqlite");
    let store = SqliteStore::open(&path, clock()).await.unwrap();
    for i in 0..50 {
        let mut batch = put(&format!("{i}"));
        batch.puts[0].1 = vec![7; 10_000].into();
        store.commit(batch).await.unwrap();
    }
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    // Everything after the schema's own page.
    bytes[8_192..].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let error = match SqliteStore::open(&path, clock()).await {
        Err(error) => error.kind(),
        Ok(store) => store
            .get(&Scope::Global, &RecordKey::new("thing", "7"))
            .await
            .unwrap_err()
            .kind(),
    };
    assert!(
        matches!(error, ErrorKind::Internal | ErrorKind::Unavailable),
        "{error:?}"
    );
}

fn put(id: &str) -> Batch {
    let mut batch = Batch::new(Scope::Global);
    batch.puts.push((RecordKey::new("thing", id), "x".into()));
    batch
}

#[tokio::test]
async fn a_write_that_breaks_its_group_harms_only_itself() {
    let sql = Connection::open_in_memory().unwrap();
    sql.execute_batch("CREATE TABLE kept (number INTEGER PRIMARY KEY)")
        .unwrap();
    let written = Arc::new(tokio::sync::watch::Sender::new(0));
    let writer = Writer::start(sql, clock(), written).unwrap();

    // One that keeps the writer busy, so that what is sent meanwhile forms one group.
    let (begun, begins) = std::sync::mpsc::channel::<()>();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let busy = writer.write(move |_, _| {
        let _ = begun.send(());
        let _ = held.lock().unwrap().recv();
        Ok(Ok(()))
    });
    futures::pin_mut!(busy);
    assert!(futures::poll!(busy.as_mut()).is_pending());
    begins.recv().unwrap();
    let insert = |number: i64, breaks: bool| {
        writer.write(move |sql, _| {
            sql.execute("INSERT INTO kept VALUES (?1)", [number])?;
            if breaks {
                sql.execute("INSERT INTO absent VALUES (1)", [])?;
            }
            Ok(Ok(number))
        })
    };
    let group = join_all([insert(1, false), insert(2, true), insert(3, false)]);
    futures::pin_mut!(group);
    assert!(futures::poll!(group.as_mut()).is_pending());
    drop(release);
    busy.await.unwrap();

    let results = group.await;
    assert_eq!(results[0].as_ref().unwrap(), &1);
    assert_eq!(results[2].as_ref().unwrap(), &3);
    let error = results[1].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let kept = writer.write(|sql, _| {
        let mut numbers = sql.prepare("SELECT number FROM kept ORDER BY number")?;
        let numbers: Vec<i64> = numbers
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        Ok(Ok(numbers))
    });
    let kept = kept.await.unwrap();
    assert_eq!(
        kept,
        [1, 3],
        "what was refused left something, or took others with it"
    );
}
