//! Every law of a store is seen to fail on a store that is broken in just that way.

#![expect(clippy::unwrap_used, reason = "a double in a test reports by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use jiff::Timestamp;
use tokio::sync::watch;

use aurora_core::digest::Digest;
use aurora_core::port::clock::Clock;
use aurora_core::port::store::laws::{self, StoreBench};
use aurora_core::port::store::limits::{MAX_NAME_BYTES, MAX_VALUE_BYTES};
use aurora_core::port::store::memory::InMemoryStore;
use aurora_core::port::store::{
    Batch, Committed, DueTimer, Lease, Name, Precondition, Record, RecordKey, Scan, Scope, SharedStore,
    Store, StoreError, StoredEvent,
};
use aurora_core::tenant::Tenant;

/// How a store is broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Defect {
    AcquiresWhatIsHeld,
    AppendsPastStaleVersions,
    BlobsUnderOtherDigests,
    CountsEventsFromZero,
    DeletesNothing,
    DropsTimersWhenRead,
    FailsOnAbsence,
    FencesFromTheClockAlone,
    FencesPerLease,
    FencesWithoutTheClock,
    ForgetsEverything,
    ForgetsFences,
    IgnoresAbsence,
    IgnoresEmptyAppends,
    IgnoresLeasesOfBatches,
    IgnoresPreconditions,
    KeepsLeasesForEver,
    KeepsOldTimers,
    KeepsReleasedLeases,
    LosesZeroBytes,
    MixesGlobal,
    MixesTenants,
    NewFenceOnRenewal,
    OmitsTimers,
    PrefixAnywhere,
    PutsBeforeItChecks,
    ReadsTheFeedLate,
    ReleasesWhateverIsHeld,
    RenewsWhatIsLost,
    RepeatsInFeedPages,
    RepeatsInPages,
    RepeatsInStreamPages,
    RetakesTheOldFence,
    SkipsInReverse,
    SleepsThroughWrites,
    StaysAtVersionOne,
    TakesLargeValues,
    TakesLongNames,
    TakesOneThingTwice,
    TearsBatchesInTheFeed,
    TimersTooEarly,
    UnsortedTimers,
}

fn defect_for(law: &str) -> Defect {
    match law {
        "a_batch_is_all_or_nothing" => Defect::PutsBeforeItChecks,
        "a_batch_writes_every_part" => Defect::OmitsTimers,
        "a_contradicting_batch_is_invalid" => Defect::TakesOneThingTwice,
        "a_crowded_race_has_one_winner" => Defect::IgnoresPreconditions,
        "a_large_value_is_invalid" => Defect::TakesLargeValues,
        "a_name_has_1_to_512_bytes" => Defect::TakesLongNames,
        "a_reader_is_woken_by_a_write" => Defect::SleepsThroughWrites,
        "another_tenant_sees_nothing" => Defect::MixesTenants,
        "the_global_scope_is_no_tenants" => Defect::MixesGlobal,
        "what_was_acknowledged_survives_a_reopen" => Defect::ForgetsEverything,
        "a_batch_needs_its_lease_held" => Defect::IgnoresLeasesOfBatches,
        "a_fence_grows_after_a_reopen" => Defect::ForgetsFences,
        "a_fence_grows_over_all_leases_of_a_scope" => Defect::FencesPerLease,
        "a_fence_grows_when_the_clock_goes_back" => Defect::FencesFromTheClockAlone,
        "a_fence_is_at_least_the_time" => Defect::FencesWithoutTheClock,
        "a_lease_can_be_taken_after_its_end" => Defect::KeepsLeasesForEver,
        "a_lease_has_one_holder" => Defect::AcquiresWhatIsHeld,
        "a_lost_lease_cannot_be_renewed" => Defect::RenewsWhatIsLost,
        "a_released_lease_is_free" => Defect::KeepsReleasedLeases,
        "a_renewed_lease_keeps_its_fence" => Defect::NewFenceOnRenewal,
        "taking_a_lease_again_ends_the_older_fence" => Defect::RetakesTheOldFence,
        "releasing_a_lost_lease_harms_nobody" => Defect::ReleasesWhateverIsHeld,
        "a_deleted_record_is_gone" => Defect::DeletesNothing,
        "a_prefix_is_taken_literally" => Defect::PrefixAnywhere,
        "a_record_grows_by_one_with_each_write" => Defect::StaysAtVersionOne,
        "a_record_that_must_be_absent_is_a_conflict" => Defect::IgnoresAbsence,
        "a_stale_record_version_is_a_conflict" => Defect::IgnoresPreconditions,
        "pages_of_records_cover_everything_once" => Defect::RepeatsInPages,
        "pages_of_records_in_reverse_cover_everything_once" => Defect::SkipsInReverse,
        "what_is_absent_is_none" => Defect::FailsOnAbsence,
        "a_stale_stream_version_is_a_conflict" => Defect::AppendsPastStaleVersions,
        "an_append_of_nothing_checks_the_version" => Defect::IgnoresEmptyAppends,
        "events_count_from_one_and_carry_the_time" => Defect::CountsEventsFromZero,
        "no_reader_of_the_feed_misses_an_event" => Defect::ReadsTheFeedLate,
        "pages_of_a_stream_cover_everything_once" => Defect::RepeatsInStreamPages,
        "pages_of_the_feed_cover_everything_once" => Defect::RepeatsInFeedPages,
        "the_feed_keeps_a_batch_together" => Defect::TearsBatchesInTheFeed,
        "values_come_back_as_they_were" => Defect::LosesZeroBytes,
        "a_blob_is_kept_under_its_digest" => Defect::BlobsUnderOtherDigests,
        "a_timer_is_due_at_its_time" => Defect::TimersTooEarly,
        "due_timers_come_oldest_first" => Defect::UnsortedTimers,
        "a_timer_stays_until_it_is_removed" => Defect::DropsTimersWhenRead,
        "a_timer_is_replaced_by_its_name" => Defect::KeepsOldTimers,
        other => unreachable!("give the law `{other}` a defect that it must notice"),
    }
}

macro_rules! each_law_bites {
    (() $($law:ident)*) => {$(
        #[test]
        fn $law() {
            let defect = defect_for(stringify!($law));
            let failed = fails(Some(defect), |bench| async move { laws::$law(&bench).await });
            assert!(failed, "the law does not notice {defect:?}");
        }
    )*};
}

macro_rules! each_law_passes {
    (() $($law:ident)*) => {$(
        let failed = fails(None, |bench| async move { laws::$law(&bench).await });
        assert!(!failed, "{} fails without a defect", stringify!($law));
    )*};
}

aurora_core::each_store_law!([each_law_bites]);

#[test]
fn without_a_defect_the_double_passes() {
    aurora_core::each_store_law!([each_law_passes]);
}

fn fails<F: Future<Output = ()>>(defect: Option<Defect>, law: impl FnOnce(StoreBench) -> F) -> bool {
    let mut failed = false;
    laws::block_on(async {
        let kept: Arc<Mutex<Option<BrokenStore>>> = Arc::default();
        let bench = StoreBench::new(move |clock| {
            let forgets = matches!(defect, Some(Defect::ForgetsEverything | Defect::ForgetsFences));
            let mut kept = kept.lock().unwrap();
            let earlier = kept.take().filter(|_| !forgets);
            let store = earlier.unwrap_or_else(|| BrokenStore::new(clock, defect));
            *kept = Some(store.clone());
            async move { Arc::new(store) as SharedStore }
        });
        failed = AssertUnwindSafe(law(bench)).catch_unwind().await.is_err();
    });
    failed
}

fn ours() -> Scope {
    Scope::Tenant(Tenant::new("acme", "main").unwrap())
}

/// By scope and name: the fence that was given out for a lease, and the sound lease behind it.
type GivenLeases = BTreeMap<(Scope, Name), (u64, Lease)>;

/// A store in memory with at most one defect.
#[derive(Clone, Debug)]
struct BrokenStore {
    clock: Arc<dyn Clock>,
    defect: Option<Defect>,
    held_back: Arc<Mutex<bool>>,
    inner: InMemoryStore,
    leases: Arc<Mutex<GivenLeases>>,
    silent: Arc<watch::Sender<u64>>,
    timers: Arc<Mutex<Vec<DueTimer>>>,
}

impl BrokenStore {
    fn new(clock: Arc<dyn Clock>, defect: Option<Defect>) -> Self {
        Self {
            inner: InMemoryStore::new(Arc::clone(&clock)),
            clock,
            defect,
            held_back: Arc::default(),
            leases: Arc::default(),
            silent: Arc::new(watch::Sender::new(0)),
            timers: Arc::default(),
        }
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    fn scope(&self, scope: &Scope) -> Scope {
        match scope {
            Scope::Global if self.has(Defect::MixesGlobal) => ours(),
            Scope::Tenant(_) if self.has(Defect::MixesTenants) => ours(),
            scope => scope.clone(),
        }
    }

    async fn expect_what_is_there(&self, batch: &mut Batch) -> Result<(), StoreError> {
        for append in &mut batch.appends {
            let stream = &append.stream;
            let events = self
                .inner
                .read_stream(&batch.scope, stream, 0, usize::MAX)
                .await?;
            append.expected = events.len() as u64;
        }
        Ok(())
    }

    async fn put_at_once(&self, batch: &Batch) {
        let mut early = Batch::new(batch.scope.clone());
        let named = |(key, _): &&(RecordKey, Bytes)| !key.id.is_empty();
        early.puts = batch.puts.iter().filter(named).cloned().collect();
        // Whether it works does not matter to a store that is broken.
        let _ = self.inner.commit(early).await;
    }

    fn remember_timers(&self, batch: &Batch) {
        let mut timers = self.timers.lock().unwrap();
        for (name, at) in &batch.timers {
            timers.push(DueTimer {
                scope: batch.scope.clone(),
                name: name.clone(),
                at: at.unwrap_or(Timestamp::MAX),
            });
        }
    }

    /// The sound lease behind one that was given out.
    fn sound(&self, lease: &Lease) -> Lease {
        let leases = self.leases.lock().unwrap();
        match leases.get(&(lease.scope.clone(), lease.name.clone())) {
            Some((fence, sound)) if *fence == lease.fence => Lease {
                holder: lease.holder.clone(),
                ..sound.clone()
            },
            _ => lease.clone(),
        }
    }
}

fn shortened(name: &str) -> String {
    let mut cut = MAX_NAME_BYTES.min(name.len());
    while !name.is_char_boundary(cut) {
        cut -= 1;
    }
    name[..cut].to_owned()
}

#[async_trait]
impl Store for BrokenStore {
    async fn commit(&self, mut batch: Batch) -> Result<Committed, StoreError> {
        batch.scope = self.scope(&batch.scope);
        batch.lease = batch.lease.as_ref().map(|lease| self.sound(lease));
        match self.defect {
            Some(Defect::AppendsPastStaleVersions) => self.expect_what_is_there(&mut batch).await?,
            Some(Defect::DeletesNothing) => batch.deletes.clear(),
            Some(Defect::IgnoresAbsence) => batch
                .preconditions
                .retain(|held| matches!(held, Precondition::Version(..))),
            Some(Defect::IgnoresEmptyAppends) => batch.appends.retain(|append| !append.events.is_empty()),
            Some(Defect::IgnoresLeasesOfBatches) => batch.lease = None,
            Some(Defect::IgnoresPreconditions) => {
                batch.preconditions.clear();
                self.expect_what_is_there(&mut batch).await?;
            }
            Some(Defect::KeepsOldTimers) => self.remember_timers(&batch),
            Some(Defect::OmitsTimers) => batch.timers.clear(),
            Some(Defect::PutsBeforeItChecks) => self.put_at_once(&batch).await,
            Some(Defect::TakesLargeValues) => batch
                .puts
                .iter_mut()
                .for_each(|(_, value)| value.truncate(MAX_VALUE_BYTES)),
            Some(Defect::TakesLongNames) => batch
                .appends
                .iter_mut()
                .for_each(|append| append.stream = shortened(&append.stream)),
            Some(Defect::TakesOneThingTwice) => {
                let mut seen = BTreeSet::new();
                batch.puts.retain(|(key, _)| seen.insert(key.clone()));
            }
            _ => {}
        }
        self.inner.commit(batch).await
    }

    async fn read_stream(
        &self,
        scope: &Scope,
        stream: &Name,
        mut after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        if self.has(Defect::RepeatsInStreamPages) && limit > 1 {
            after = after.saturating_sub(1);
        }
        let mut events = self
            .inner
            .read_stream(&self.scope(scope), stream, after, limit)
            .await?;
        if self.has(Defect::FailsOnAbsence) && events.is_empty() {
            return Err(StoreError::Unavailable {
                source: "no such stream".into(),
            });
        }
        for event in &mut events {
            if self.has(Defect::CountsEventsFromZero) {
                event.version -= 1;
            }
            if self.has(Defect::LosesZeroBytes) {
                event.value = event.value.iter().copied().filter(|byte| *byte != 0).collect();
            }
        }
        Ok(events)
    }

    async fn read_feed(
        &self,
        scope: &Scope,
        mut after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        if self.has(Defect::RepeatsInFeedPages) && limit > 1 {
            after = after.saturating_sub(1);
        }
        let mut events = self.inner.read_feed(&self.scope(scope), after, limit).await?;
        if self.has(Defect::ReadsTheFeedLate) && events.len() > 1 {
            // An event that becomes visible only after a later one.
            let mut held_back = self.held_back.lock().unwrap();
            if !std::mem::replace(&mut *held_back, true) {
                events.remove(0);
            }
        }
        if self.has(Defect::TearsBatchesInTheFeed) {
            let feeds: Vec<_> = events.iter().map(|event| event.feed).collect();
            events.sort_by(|one, two| one.value.cmp(&two.value));
            for (event, feed) in events.iter_mut().zip(feeds) {
                event.feed = feed;
            }
        }
        Ok(events)
    }

    async fn feed_head(&self, scope: &Scope) -> Result<u64, StoreError> {
        self.inner.feed_head(&self.scope(scope)).await
    }

    fn written(&self) -> watch::Receiver<u64> {
        if self.has(Defect::SleepsThroughWrites) {
            return self.silent.subscribe();
        }
        self.inner.written()
    }

    async fn get(&self, scope: &Scope, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let mut record = self.inner.get(&self.scope(scope), key).await?;
        if let Some(record) = &mut record
            && self.has(Defect::StaysAtVersionOne)
        {
            record.version = 1;
        }
        Ok(record)
    }

    async fn scan(&self, scope: &Scope, mut scan: Scan) -> Result<Vec<Record>, StoreError> {
        let mut wanted = String::new();
        if self.has(Defect::PrefixAnywhere) {
            wanted = std::mem::take(&mut scan.prefix);
        }
        let skips = self.has(Defect::SkipsInReverse) && scan.reverse && scan.after.is_some();
        if let Some(after) = &mut scan.after
            && self.has(Defect::RepeatsInPages)
            && scan.limit > 1
        {
            // Without its last letter it comes before the id that was the last one.
            after.pop();
        }
        let mut records = self.inner.scan(&self.scope(scope), scan).await?;
        records.retain(|record| record.key.id.contains(&wanted));
        if skips && records.len() > 1 {
            records.remove(0);
        }
        Ok(records)
    }

    async fn acquire_lease(
        &self,
        scope: &Scope,
        name: &Name,
        holder: &str,
        mut ttl: Duration,
    ) -> Result<Lease, StoreError> {
        let scope = self.scope(scope);
        let place = (scope.clone(), name.clone());
        let known = self.leases.lock().unwrap().get(&place).cloned();
        if let Some((_, held)) = &known {
            if self.has(Defect::AcquiresWhatIsHeld) {
                self.inner.release_lease(held).await?;
            }
            if self.has(Defect::RetakesTheOldFence) && held.holder == holder {
                return self.inner.renew_lease(held, ttl).await;
            }
        }
        if self.has(Defect::KeepsLeasesForEver) {
            ttl = Duration::MAX;
        }
        let mut lease = self.inner.acquire_lease(&scope, name, holder, ttl).await?;
        let sound = lease.clone();
        let micros = u64::try_from(self.clock.now().as_microsecond()).unwrap();
        let mut leases = self.leases.lock().unwrap();
        match self.defect {
            Some(Defect::FencesFromTheClockAlone) => lease.fence = micros,
            Some(Defect::FencesPerLease) => lease.fence = known.map_or(micros, |(fence, _)| fence + 1),
            Some(Defect::FencesWithoutTheClock) => lease.fence = leases.len() as u64 + 1,
            _ => {}
        }
        leases.insert(place, (lease.fence, sound));
        Ok(lease)
    }

    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<Lease, StoreError> {
        match self.defect {
            Some(Defect::RenewsWhatIsLost) => Ok(lease.clone()),
            Some(Defect::NewFenceOnRenewal) => {
                let Lease {
                    scope, name, holder, ..
                } = lease;
                self.acquire_lease(scope, name, holder, ttl).await
            }
            _ => self.inner.renew_lease(&self.sound(lease), ttl).await,
        }
    }

    async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        let place = (lease.scope.clone(), lease.name.clone());
        let held = self.leases.lock().unwrap().get(&place).cloned();
        match (self.defect, held) {
            (Some(Defect::KeepsReleasedLeases), _) => Ok(()),
            (Some(Defect::ReleasesWhateverIsHeld), Some((_, held))) => self.inner.release_lease(&held).await,
            _ => self.inner.release_lease(&self.sound(lease)).await,
        }
    }

    async fn due_timers(&self, limit: usize) -> Result<Vec<DueTimer>, StoreError> {
        let mut due = self.inner.due_timers(limit).await?;
        match self.defect {
            Some(Defect::DropsTimersWhenRead) => {
                for timer in &due {
                    let mut batch = Batch::new(timer.scope.clone());
                    batch.timers.push((timer.name.clone(), None));
                    self.inner.commit(batch).await?;
                }
            }
            Some(Defect::KeepsOldTimers) => {
                let now = self.clock.now();
                let kept = self.timers.lock().unwrap();
                due = kept.iter().filter(|timer| timer.at <= now).cloned().collect();
            }
            Some(Defect::TimersTooEarly) => {
                let all = self.inner.timers(&ours()).into_iter();
                let scope = ours();
                due = all
                    .map(|(name, at)| DueTimer {
                        scope: scope.clone(),
                        name,
                        at,
                    })
                    .collect();
            }
            Some(Defect::UnsortedTimers) => due.sort_by(|one, two| two.name.cmp(&one.name)),
            _ => {}
        }
        Ok(due)
    }

    async fn put_blob(&self, scope: &Scope, body: Bytes) -> Result<Digest, StoreError> {
        let digest = self.inner.put_blob(&self.scope(scope), body).await?;
        if self.has(Defect::BlobsUnderOtherDigests) {
            return Ok(Digest::of(digest.as_bytes()));
        }
        Ok(digest)
    }

    async fn get_blob(&self, scope: &Scope, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        self.inner.get_blob(&self.scope(scope), digest).await
    }
}
