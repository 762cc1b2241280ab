//! The threads of a store: one that writes, with group commit, and a few that read.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use aurora_core::port::clock::Clock;
use aurora_core::port::store::StoreError;
use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};

use super::rows::failed;
use super::writing::Written;

/// How many writes share one transaction, and so one fsync. More would let one wait for too many others.
const MAX_GROUP: usize = 128;
/// Writes that wait for the writer; when it is full, writers wait for a place.
const WRITE_QUEUE: usize = 256;
/// Reads that wait for a reader; when it is full, readers wait for a place.
const READ_QUEUE: usize = 256;

/// Hands work to the writing thread.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Box<dyn Write>>>,
    thread: Option<JoinHandle<()>>,
}

/// One write: may run again when the group that it was in failed for another's sake.
trait Write: Send {
    fn run(&mut self, sql: &Connection, now: Timestamp) -> rusqlite::Result<()>;
    /// Whether it changed something that readers wait for.
    fn has_written(&self) -> bool;
    fn finish(self: Box<Self>, failure: Option<StoreError>);
}

struct Job<T, F> {
    work: F,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Write for Job<T, F>
where
    T: Send,
    F: Fn(&Connection, Timestamp) -> Written<T> + Send,
{
    fn run(&mut self, sql: &Connection, now: Timestamp) -> rusqlite::Result<()> {
        self.result = Some((self.work)(sql, now)?);
        Ok(())
    }

    fn has_written(&self) -> bool {
        matches!(self.result, Some(Ok(_)))
    }

    fn finish(self: Box<Self>, failure: Option<StoreError>) {
        let result = match failure {
            Some(failure) => Err(failure),
            None => self.result.unwrap_or_else(|| Err(closed())),
        };
        // Who waited may have gone away: the write stands.
        let _ = self.reply.send(result);
    }
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        clock: Arc<dyn Clock>,
        written: Arc<watch::Sender<u64>>,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(WRITE_QUEUE);
        let thread = Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write_until_closed(connection, queue, &*clock, &written))?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Runs a write and waits until it is durable.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection, Timestamp) -> Written<T> + Send + 'static,
    {
        let (reply, result) = oneshot::channel();
        let job = Job {
            work,
            result: None,
            reply,
        };
        let jobs = self.jobs.as_ref().ok_or_else(closed)?;
        jobs.send(Box::new(job)).await.map_err(|_| closed())?;
        result.await.map_err(|_| closed())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        join(self.thread.take());
    }
}

fn write_until_closed(
    mut connection: Connection,
    mut queue: mpsc::Receiver<Box<dyn Write>>,
    clock: &dyn Clock,
    written: &watch::Sender<u64>,
) {
    let mut group: Vec<Box<dyn Write>> = Vec::new();
    while let Some(first) = queue.blocking_recv() {
        group.push(first);
        while group.len() < MAX_GROUP
            && let Ok(next) = queue.try_recv()
        {
            group.push(next);
        }
        match transact(&mut connection, &mut group, clock) {
            Ok(()) => answer(&mut group, written),
            // One of them may have spoilt it for the others: each by itself then.
            Err(error) => {
                tracing::warn!(%error, writes = group.len(), "group of writes failed");
                for job in group.drain(..) {
                    alone(&mut connection, job, clock, written);
                }
            }
        }
    }
}

fn alone(connection: &mut Connection, job: Box<dyn Write>, clock: &dyn Clock, written: &watch::Sender<u64>) {
    let mut single = vec![job];
    match transact(connection, &mut single, clock) {
        Ok(()) => answer(&mut single, written),
        Err(error) => {
            tracing::error!(%error, "write failed");
            if let Some(job) = single.pop() {
                job.finish(Some(failed(error)));
            }
        }
    }
}

fn transact(
    connection: &mut Connection,
    group: &mut [Box<dyn Write>],
    clock: &dyn Clock,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for job in group {
        job.run(&transaction, clock.now())?;
    }
    transaction.commit()
}

fn answer(group: &mut Vec<Box<dyn Write>>, written: &watch::Sender<u64>) {
    if group.iter().any(|job| job.has_written()) {
        written.send_modify(|count| *count += 1);
    }
    for job in group.drain(..) {
        job.finish(None);
    }
}

/// Hands work to the reading threads.
#[derive(Debug)]
pub(super) struct Readers {
    jobs: Option<mpsc::Sender<Read>>,
    threads: Vec<JoinHandle<()>>,
}

type Read = Box<dyn FnOnce(&Connection) + Send>;

impl Readers {
    pub(super) fn start(connections: Vec<Connection>) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Read>(READ_QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        let mut readers = Self {
            jobs: Some(jobs),
            threads: Vec::new(),
        };
        for connection in connections {
            let queue = Arc::clone(&queue);
            let thread = Builder::new().name("store-reader".to_owned());
            readers.threads.push(thread.spawn(move || {
                loop {
                    // One of them waits for the next read, the others for the lock.
                    let next = queue
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .blocking_recv();
                    let Some(read) = next else { return };
                    read(&connection);
                }
            })?);
        }
        Ok(readers)
    }

    /// Runs a read on the next free thread.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, result) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(closed)?;
        let read: Read = Box::new(move |sql| {
            // Who waited may have gone away.
            let _ = reply.send(work(sql).map_err(failed));
        });
        jobs.send(read).await.map_err(|_| closed())?;
        result.await.map_err(|_| closed())?
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            join(Some(thread));
        }
    }
}

fn join(thread: Option<JoinHandle<()>>) {
    if let Some(thread) = thread
        && thread.join().is_err()
    {
        tracing::error!("a thread of the store panicked");
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable {
        source: "the store is closed".into(),
    }
}
