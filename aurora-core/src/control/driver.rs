//! The driver of one pipeline: folds its log, stores what follows, does what is outstanding.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::effects::{self, Report};
use super::figures::Driving;
use super::history::Recorder;
use super::{Inner, journal};
use crate::error::ErrorChain;
use crate::id::PipelineId;
use crate::manifest::ObjectRef;
use crate::pipeline::{Asked, Effect, EffectKind, Heard, Input, Pipeline, decide, next_wake, outstanding};
use crate::port::store::{Batch, Lease, Scope, StoreError};
use crate::progress::Progress;
use crate::tasks::Tasks;
use crate::tenant::Tenant;

/// News of effects that wait for the driver; a full channel makes effects wait, which costs only time.
const REPORTS: usize = 64;

/// How often it looks at the log by itself, because other replicas write decisions of people to it.
const POLL: Duration = Duration::from_secs(1);

/// The least time between two looks at the log, however much others write.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// How soon levels that were not stored yet are offered again.
const OFFER_AGAIN: Duration = Duration::from_millis(500);

/// Why a driver ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum DriveEnd {
    /// Another replica holds the lease.
    Held,
    /// Nothing is left to do, or it is to be begun again.
    Left,
    /// The pipeline cannot be read.
    Parked,
}

/// Drives one pipeline under its lease.
pub(super) struct Driver {
    inner: Arc<Inner>,
    tenant: Tenant,
    scope: Scope,
    lease: Lease,
    renew: Instant,
    expires: Instant,
    pipeline: Pipeline,
    tasks: Tasks,
    running: BTreeMap<String, CancellationToken>,
    reports: mpsc::Sender<Report>,
    /// Levels that are not stored yet, by target: of which observation, and what.
    levels: BTreeMap<String, (u64, BTreeMap<ObjectRef, Progress>)>,
    /// Points of the history that are not written yet.
    history: Recorder,
    written: watch::Receiver<u64>,
    /// How often in a row the agent of a target was away, and when it last was.
    away: BTreeMap<String, (u32, Instant)>,
}

/// An agent or hub that was there for so long is trusted again.
const TRUSTED_AFTER: Duration = Duration::from_secs(60);

/// Whatever it is, going on is for the next driver: it starts from what is stored.
enum Stop {
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Driver {
    /// Takes the lease and drives; returns when there is nothing to do, the lease is lost, or `stop`.
    pub(super) async fn drive(
        inner: Arc<Inner>,
        tenant: Tenant,
        id: PipelineId,
        stop: CancellationToken,
    ) -> DriveEnd {
        let span = tracing::info_span!("pipeline", tenant = %tenant, pipeline.id = %id);
        Self::take_and_drive(inner, tenant, id, stop)
            .instrument(span)
            .await
    }

    async fn take_and_drive(
        inner: Arc<Inner>,
        tenant: Tenant,
        id: PipelineId,
        stop: CancellationToken,
    ) -> DriveEnd {
        let scope = Scope::from(&tenant);
        let ttl = inner.options.lease;
        let before = Instant::now();
        let lease = inner
            .store
            .acquire_lease(&scope, &journal::name(id), &inner.options.holder, ttl)
            .await;
        let lease = match lease {
            Ok(lease) => lease,
            Err(StoreError::Held { holder, .. }) => {
                tracing::debug!(holder, "another replica drives this pipeline");
                return DriveEnd::Held;
            }
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "the lease cannot be taken");
                return DriveEnd::Left;
            }
        };
        let driving = inner.tally.drives(&tenant, id);
        let (reports, news) = mpsc::channel(REPORTS);
        let mut driver = Self {
            written: inner.store.written(),
            tenant,
            scope,
            lease,
            renew: before + ttl / 3,
            expires: before + ttl,
            pipeline: Pipeline::new(id),
            tasks: Tasks::stopped_by(&stop),
            running: BTreeMap::new(),
            reports,
            levels: BTreeMap::new(),
            history: Recorder::default(),
            away: BTreeMap::new(),
            inner,
        };
        let result = driver.go(news, &driving, &stop).await;
        // Effects are told to stop and waited for, so that nothing of this lease acts after it is given up.
        if let Err(stuck) = driver.tasks.drain(driver.inner.options.grace).await {
            tracing::warn!(error = %ErrorChain(&stuck), "effects did not end");
        }
        let end = driver.close(result).await;
        if let Err(error) = driver.inner.store.release_lease(&driver.lease).await {
            tracing::debug!(error = %ErrorChain(&error), "the lease was not given up");
        }
        end
    }

    async fn close(&self, result: Result<(), Stop>) -> DriveEnd {
        if let Err(Stop::Store(error)) = result {
            if matches!(error, StoreError::LeaseLost { .. }) {
                tracing::info!("the lease is lost; another replica goes on");
            } else {
                tracing::warn!(error = %ErrorChain(&error), "the pipeline is left to the next driver");
            }
        }
        let Some(parked) = &self.pipeline.parked else {
            return DriveEnd::Left;
        };
        tracing::error!(
            version = parked.version,
            message = parked.message,
            "pipeline parked"
        );
        let mut batch = Batch::new(self.scope.clone());
        batch.lease = Some(self.lease.clone());
        batch.puts.extend(journal::summary_record(&self.pipeline));
        if let Err(error) = self.inner.store.commit(batch).await {
            tracing::warn!(error = %ErrorChain(&error), "that it is parked could not be noted");
        }
        DriveEnd::Parked
    }

    async fn go(
        &mut self,
        mut news: mpsc::Receiver<Report>,
        driving: &Driving,
        stop: &CancellationToken,
    ) -> Result<(), Stop> {
        let mut look = Instant::now();
        loop {
            if Instant::now() >= look {
                self.written.borrow_and_update();
                self.catch_up().await?;
                look = Instant::now() + POLL;
                if self.take_turn().await? {
                    return Ok(());
                }
            }
            self.settle().await?;
            self.write_history().await;
            driving.stands(self.pipeline.state());
            if self.pipeline.is_final() || self.pipeline.parked.is_some() {
                return Ok(());
            }
            self.reconcile();
            let wake = self.wake().min(look);
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(self.renew) => self.renew().await?,
                report = news.recv() => {
                    if let Some(report) = report {
                        self.hear(report).await?;
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
                changed = self.written.changed(), if look > Instant::now() + BETWEEN_LOOKS => {
                    match changed {
                        Ok(()) => look = look.min(Instant::now() + BETWEEN_LOOKS),
                        // Without announcements, looking by itself is enough.
                        Err(_) => tokio::time::sleep_until(wake).await,
                    }
                }
            }
        }
    }

    /// A queued pipeline begins once its application is free, under a new lease: while it waited, the run before
    /// it may have sent commands with a higher fence than the lease of the wait has.
    async fn take_turn(&mut self) -> Result<bool, Stop> {
        if !self.pipeline.is_queued() || self.pipeline.parked.is_some() {
            return Ok(false);
        }
        let lock = journal::lock_key(&self.pipeline.application);
        if self.inner.store.get(&self.scope, &lock).await?.is_some() {
            return Ok(false);
        }
        self.input(Input::Turn).await?;
        Ok(true)
    }

    async fn catch_up(&mut self) -> Result<(), Stop> {
        let empty = Pipeline::new(self.lease_id());
        let pipeline = std::mem::replace(&mut self.pipeline, empty);
        self.pipeline = journal::catch_up(self.inner.store.as_ref(), &self.scope, pipeline).await?;
        Ok(())
    }

    const fn lease_id(&self) -> PipelineId {
        self.pipeline.id
    }

    /// Time has passed, and levels may be worth storing now.
    async fn settle(&mut self) -> Result<(), Stop> {
        self.input(Input::Tick).await?;
        let levels = self.levels.clone();
        for (target, (tag, levels)) in levels {
            let levels = levels.into_values().collect();
            self.input(Input::Heard(Heard::Levels { target, tag, levels }))
                .await?;
        }
        let pipeline = &self.pipeline;
        self.levels.retain(|name, (tag, levels)| {
            let Some(target) = pipeline.targets.get(name) else {
                return false;
            };
            levels.retain(|object, level| {
                target
                    .levels
                    .get(object)
                    .is_none_or(|seen| !seen.level.says_the_same(level))
            });
            target.run().is_some_and(|run| run.tag == *tag) && !levels.is_empty()
        });
        Ok(())
    }

    async fn write_history(&mut self) {
        let (store, now) = (self.inner.store.as_ref(), self.inner.clock.now());
        let (id, end) = (self.pipeline.id, self.pipeline.is_final());
        self.history
            .write(store, &self.scope, &self.lease, id, now, end)
            .await;
    }

    /// Decides and stores, until it is stored or nothing follows.
    async fn input(&mut self, input: Input) -> Result<(), Stop> {
        loop {
            // What is heard is never refused.
            let events = decide(&self.pipeline, input.clone(), self.inner.clock.now()).unwrap_or_default();
            if events.is_empty() {
                return Ok(());
            }
            let (batch, after) = journal::batch(&self.scope, Some(&self.lease), &self.pipeline, &events);
            match self.inner.store.commit(batch).await {
                Ok(_) => {
                    for event in &events {
                        tracing::debug!(event = ?event.what, "event stored");
                    }
                    self.pipeline = after;
                    return Ok(());
                }
                // Somebody decided meanwhile, or an earlier attempt of ours was written after all.
                Err(StoreError::Conflict { .. }) => {
                    let version = self.pipeline.version;
                    self.catch_up().await?;
                    if self.pipeline.version == version {
                        return Err(StoreError::Conflict {
                            what: journal::name(self.lease_id()),
                        }
                        .into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn hear(&mut self, report: Report) -> Result<(), Stop> {
        if report.ended {
            self.running.remove(&report.key);
        }
        match report.heard {
            Some(Heard::Levels { target, tag, levels }) => {
                self.history.note(&target, &levels, self.inner.clock.now());
                let kept = self.levels.entry(target).or_default();
                if kept.0 != tag {
                    *kept = (tag, BTreeMap::new());
                }
                kept.1
                    .extend(levels.into_iter().map(|level| (level.object.clone(), level)));
                Ok(())
            }
            Some(heard) => {
                if let Heard::Away { target, .. } = &heard {
                    let (times, last) = self.away.entry(target.clone()).or_insert((0, Instant::now()));
                    *times = if last.elapsed() < TRUSTED_AFTER {
                        *times + 1
                    } else {
                        1
                    };
                    *last = Instant::now();
                }
                self.input(Input::Heard(heard)).await
            }
            None => Ok(()),
        }
    }

    async fn renew(&mut self) -> Result<(), Stop> {
        let ttl = self.inner.options.lease;
        let before = Instant::now();
        match self.inner.store.renew_lease(&self.lease, ttl).await {
            Ok(lease) => {
                self.lease = lease;
                self.renew = before + ttl / 3;
                self.expires = before + ttl;
                Ok(())
            }
            Err(StoreError::Unavailable { source }) if Instant::now() < self.expires => {
                tracing::warn!(error = %source, "the lease cannot be renewed; trying again");
                self.renew = Instant::now() + ttl / 12;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The fence of a command.
    ///
    /// A plan keeps that of the event that asked for it, so that sent again, also under a later lease, it
    /// is the same and nothing is written anew; acts are told apart by what they expect.
    fn fence_of(&self, effect: &Effect) -> u64 {
        let asked = match &effect.kind {
            EffectKind::Command {
                asked,
                order: Asked::Apply { .. } | Asked::Finish { .. },
                ..
            } => self.pipeline.fence_at(*asked),
            _ => None,
        };
        asked.unwrap_or(self.lease.fence)
    }

    /// Starts what is outstanding and does not run, stops what runs and is not outstanding.
    fn reconcile(&mut self) {
        let effects: BTreeMap<String, Effect> = outstanding(&self.pipeline)
            .into_iter()
            .map(|effect| (effects::key(&effect), effect))
            .collect();
        self.running.retain(|key, cancel| {
            let wanted = effects.contains_key(key);
            if !wanted {
                cancel.cancel();
            }
            wanted
        });
        for (key, effect) in effects {
            if self.running.contains_key(&key) {
                continue;
            }
            let Some(target) = self.pipeline.targets.get(&effect.target) else {
                continue;
            };
            let job = effects::Job {
                inner: Arc::clone(&self.inner),
                tenant: self.tenant.clone(),
                scope: self.scope.clone(),
                fence: self.fence_of(&effect),
                pipeline: self.pipeline.id,
                application: self.pipeline.application.clone(),
                account: target.account.clone(),
                namespace: target.namespace.clone(),
                initiator: self.pipeline.actor.display.clone(),
                timeout: self.pipeline.timeout.as_duration(),
                key: key.clone(),
                patience: self.away.get(&effect.target).map_or(0, |(times, _)| *times),
                effect,
                reports: self.reports.clone(),
            };
            let cancel = CancellationToken::new();
            self.running.insert(key, cancel.clone());
            let span = job.span();
            self.tasks.spawn(|stop| {
                async move {
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => {}
                        () = cancel.cancelled() => {}
                        () = job.run() => {}
                    }
                }
                .instrument(span)
            });
        }
    }

    /// When time alone changes something: by the rules, or because levels wait to be stored.
    fn wake(&self) -> Instant {
        let now = Instant::now();
        let time = self.inner.clock.now();
        let by_rule = next_wake(&self.pipeline, time).map(|at| now + until(time, at));
        let by_levels = (!self.levels.is_empty()).then(|| now + OFFER_AGAIN);
        let by_history = self
            .history
            .next()
            .map(|at| (now + until(time, at)).max(now + OFFER_AGAIN));
        [by_rule, by_levels, by_history]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + POLL)
    }
}

/// From one time to another; nothing when that is past.
fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}
