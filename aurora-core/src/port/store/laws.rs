//! What every store must do, one law per sentence of the contract.

#![expect(clippy::unwrap_used, reason = "a law reports by panicking")]

mod batches;
mod leases;
mod records;
mod streams;
mod timers;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use super::{Append, Batch, Lease, Name, RecordKey, Scope, SharedStore, StoreError, StoredEvent};
use crate::port::clock::{Clock, InMemoryClock};
use crate::tenant::Tenant;

pub use batches::*;
pub use leases::*;
pub use records::*;
pub use streams::*;
pub use timers::*;

type Opener = Box<dyn Fn(Arc<dyn Clock>) -> BoxFuture<'static, SharedStore> + Send + Sync>;

/// One empty place where a store under test is opened, and opened again.
pub struct StoreBench {
    clock: InMemoryClock,
    open: Opener,
}

impl StoreBench {
    /// Opens stores by `open`: the first time over nothing, later over what is there.
    ///
    /// A law drops every earlier handle before it opens the store again.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new<F, Opening>(open: F) -> Self
    where
        F: Fn(Arc<dyn Clock>) -> Opening + Send + Sync + 'static,
        Opening: Future<Output = SharedStore> + Send + 'static,
    {
        Self {
            clock: InMemoryClock::starting_at(Timestamp::from_second(1_800_000_000).unwrap()),
            open: Box::new(move |clock| Box::pin(open(clock))),
        }
    }

    /// Opens the store.
    ///
    /// # Cancel safety
    /// As the opener's.
    pub async fn open(&self) -> SharedStore {
        (self.open)(Arc::new(self.clock.clone())).await
    }

    /// The store's time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Moves the store's time, forward or back.
    pub fn jump(&self, seconds: i64) {
        self.clock.jump(SignedDuration::from_secs(seconds));
    }
}

impl fmt::Debug for StoreBench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreBench")
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

/// Runs a law to its end on a runtime of its own.
///
/// # Panics
/// When the law does.
pub fn block_on(law: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().build().unwrap().block_on(law);
}

/// Makes a named test of each law for the store that an opener gives (see [`laws::StoreBench`]).
///
/// [`laws::StoreBench`]: crate::port::store::laws::StoreBench
#[macro_export]
macro_rules! store_laws {
    ($open:expr) => {
        $crate::each_store_law!([$crate::store_law_tests] $open);
    };
}

/// Makes the tests of [`store_laws!`](crate::store_laws).
#[doc(hidden)]
#[macro_export]
macro_rules! store_law_tests {
    (($open:expr) $($law:ident)*) => {$(
        #[test]
        fn $law() {
            $crate::port::store::laws::block_on(async {
                let bench = $crate::port::store::laws::StoreBench::new($open);
                $crate::port::store::laws::$law(&bench).await;
            });
        }
    )*};
}

/// Calls a macro with the names of all laws.
#[macro_export]
macro_rules! each_store_law {
    ([$($with:tt)+] $($arg:expr)?) => {
        $($with)+! {
            ($($arg)?)
            a_batch_is_all_or_nothing
            a_batch_writes_every_part
            a_contradicting_batch_is_invalid
            a_crowded_race_has_one_winner
            a_large_value_is_invalid
            a_name_has_1_to_512_bytes
            a_reader_is_woken_by_a_write
            another_tenant_sees_nothing
            the_global_scope_is_no_tenants
            what_was_acknowledged_survives_a_reopen
            a_batch_needs_its_lease_held
            a_fence_grows_after_a_reopen
            a_fence_grows_over_all_leases_of_a_scope
            a_fence_grows_when_the_clock_goes_back
            a_fence_is_at_least_the_time
            a_lease_can_be_taken_after_its_end
            a_lease_has_one_holder
            a_lost_lease_cannot_be_renewed
            a_released_lease_is_free
            a_renewed_lease_keeps_its_fence
            taking_a_lease_again_ends_the_older_fence
            releasing_a_lost_lease_harms_nobody
            a_deleted_record_is_gone
            a_prefix_is_taken_literally
            a_record_grows_by_one_with_each_write
            a_record_that_must_be_absent_is_a_conflict
            a_stale_record_version_is_a_conflict
            pages_of_records_cover_everything_once
            pages_of_records_in_reverse_cover_everything_once
            what_is_absent_is_none
            a_stale_stream_version_is_a_conflict
            an_append_of_nothing_checks_the_version
            events_count_from_one_and_carry_the_time
            no_reader_of_the_feed_misses_an_event
            pages_of_a_stream_cover_everything_once
            pages_of_the_feed_cover_everything_once
            the_feed_keeps_a_batch_together
            values_come_back_as_they_were
            a_blob_is_kept_under_its_digest
            a_timer_is_due_at_its_time
            due_timers_come_oldest_first
            a_timer_stays_until_it_is_removed
            a_timer_is_replaced_by_its_name
        }
    };
}

fn ours() -> Scope {
    Scope::Tenant(Tenant::new("acme", "main").unwrap())
}

fn theirs() -> Scope {
    // Close to the other on purpose: a store that cuts or joins names would mix them up.
    Scope::Tenant(Tenant::new("acme", "main-2").unwrap())
}

fn name(text: &str) -> Name {
    text.to_owned()
}

fn key(id: &str) -> RecordKey {
    RecordKey::new("thing", id)
}

fn batch() -> Batch {
    Batch::new(ours())
}

fn putting(id: &str, value: &str) -> Batch {
    let mut batch = batch();
    batch.puts.push((key(id), text(value)));
    batch
}

fn appending(stream: &str, expected: u64, events: &[&str]) -> Batch {
    let mut batch = batch();
    batch.appends.push(append(stream, expected, events));
    batch
}

fn append(stream: &str, expected: u64, events: &[&str]) -> Append {
    Append {
        stream: name(stream),
        expected,
        events: events.iter().map(|event| text(event)).collect(),
    }
}

fn text(value: &str) -> Bytes {
    Bytes::copy_from_slice(value.as_bytes())
}

fn values(events: &[StoredEvent]) -> Vec<&str> {
    events
        .iter()
        .map(|event| std::str::from_utf8(&event.value).unwrap())
        .collect()
}

const MINUTE: Duration = Duration::from_secs(60);
/// More than anything here writes.
const ALL: usize = 1_000;

async fn take(store: &SharedStore, lease: &str, holder: &str) -> Result<Lease, StoreError> {
    store.acquire_lease(&ours(), &name(lease), holder, MINUTE).await
}

/// Everything that readers can see of the first tenant, to compare before and after.
async fn visible(store: &SharedStore) -> String {
    let scan = super::Scan {
        kind: name("thing"),
        prefix: String::new(),
        after: None,
        reverse: false,
        limit: ALL,
    };
    format!(
        "{:?} {:?} {:?} {:?}",
        store.read_feed(&ours(), 0, ALL).await.unwrap(),
        store.feed_head(&ours()).await.unwrap(),
        store.scan(&ours(), scan).await.unwrap(),
        store.due_timers(ALL).await.unwrap(),
    )
}
