//! A process that is killed while it writes: what it was told is stored is there, whole, and in order.
#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]
#![expect(
    clippy::print_stdout,
    reason = "what was acknowledged is told to the parent on standard output"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use aurora_core::port::clock::SystemClock;
use aurora_core::port::store::{Append, Batch, RecordKey, Scope, Store};
use aurora_store::sealed::{MasterKey, MasterKeys, SealedStore};
use aurora_store::sqlite::SqliteStore;

/// How often the writer is killed, each time after other writes.
const KILLS: u64 = 12;
const STREAM: &str = "numbers";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    match arguments.as_slice() {
        [_, role, path] if role == "writer" => runtime.block_on(write_until_killed(Path::new(path))),
        // What a test runner is asked for by its flags is one test here.
        _ => runtime.block_on(every_acknowledged_write_survives_a_kill()),
    }
}

async fn open(path: &Path) -> SealedStore<SqliteStore> {
    let file = SqliteStore::open(path, Arc::new(SystemClock)).await.unwrap();
    SealedStore::new(file, MasterKeys::new(MasterKey::from_bytes([5; 32])))
}

/// Writes 1, 2, 3 …, each as an event and a record in one batch, and says each that was acknowledged.
async fn write_until_killed(path: &Path) {
    let store = open(path).await;
    let mut number = count(&store).await;
    loop {
        let mut batch = Batch::new(Scope::Global);
        let text = (number + 1).to_string();
        batch.appends.push(Append {
            stream: STREAM.to_owned(),
            expected: number,
            events: vec![text.clone().into()],
        });
        batch
            .puts
            .push((RecordKey::new("number", "last"), text.clone().into()));
        store.commit(batch).await.unwrap();
        number += 1;
        println!("{number}");
        std::io::stdout().flush().unwrap();
    }
}

async fn count(store: &dyn Store) -> u64 {
    let events = store
        .read_stream(&Scope::Global, &STREAM.to_owned(), 0, usize::MAX)
        .await
        .unwrap();
    for (index, event) in events.iter().enumerate() {
        let number = index as u64 + 1;
        assert_eq!((event.version, event.feed), (number, number), "a gap");
        assert_eq!(event.value, number.to_string(), "another value");
    }
    let last = store
        .get(&Scope::Global, &RecordKey::new("number", "last"))
        .await
        .unwrap();
    let recorded = last.map_or(0, |record| {
        std::str::from_utf8(&record.value).unwrap().parse().unwrap()
    });
    assert_eq!(recorded, events.len() as u64, "half of a batch was written");
    recorded
}

async fn every_acknowledged_write_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.sqlite");
    let mut stored = 0;
    for kill in 1..=KILLS {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .arg("writer")
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let mut acknowledged = stored;
        for _ in 0..kill * 7 {
            acknowledged = lines.next().unwrap().unwrap().parse().unwrap();
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        // What was said before the kill and not read yet counts as well; a last line may be cut.
        for line in lines.map_while(Result::ok) {
            acknowledged = acknowledged.max(line.parse().unwrap_or(0));
        }
        let store = open(&path).await;
        let found = count(&store).await;
        assert!(
            found >= acknowledged,
            "{acknowledged} were acknowledged and {found} are there"
        );
        assert!(found <= acknowledged + 1, "more was written than was asked for");
        assert!(found > stored);
        stored = found;
    }
    println!("every_acknowledged_write_survives_a_kill: {KILLS} kills, {stored} writes");
}
