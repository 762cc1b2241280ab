//! Races, one by one: something else is stored after an act has read and before it commits.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aurora_core::control::{ControlPlane, SubmitError, TargetAct};
use aurora_core::deploy_file::{DeployFile, InProgress};
use aurora_core::digest::Digest;
use aurora_core::id::PipelineId;
use aurora_core::pipeline::{End, OriginKind, Pipeline, State};
use aurora_core::port::executor::memory::PodFault;
use aurora_core::port::store::memory::InMemoryStore;
use aurora_core::port::store::{
    Batch, Committed, DueTimer, Lease, Name, Record, RecordKey, Scan, Scope, Store, StoreError, StoredEvent,
};
use bytes::Bytes;
use tokio::sync::watch;

use super::{approve, end, of, settled, version};
use crate::world::{World, canary, deployer, door, file, stands, submission, submit, target};

type Meanwhile = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Before its first commit something else happens.
struct Late {
    inner: InMemoryStore,
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl std::fmt::Debug for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Late")
    }
}

#[async_trait]
impl Store for Late {
    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile.await;
        }
        self.inner.commit(batch).await
    }

    async fn read_stream(
        &self,
        scope: &Scope,
        stream: &Name,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.inner.read_stream(scope, stream, after, limit).await
    }

    async fn read_feed(
        &self,
        scope: &Scope,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.inner.read_feed(scope, after, limit).await
    }

    async fn feed_head(&self, scope: &Scope) -> Result<u64, StoreError> {
        self.inner.feed_head(scope).await
    }

    fn written(&self) -> watch::Receiver<u64> {
        self.inner.written()
    }

    async fn get(&self, scope: &Scope, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.inner.get(scope, key).await
    }

    async fn scan(&self, scope: &Scope, scan: Scan) -> Result<Vec<Record>, StoreError> {
        self.inner.scan(scope, scan).await
    }

    async fn acquire_lease(
        &self,
        scope: &Scope,
        name: &Name,
        holder: &str,
        ttl: Duration,
    ) -> Result<Lease, StoreError> {
        self.inner.acquire_lease(scope, name, holder, ttl).await
    }

    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<Lease, StoreError> {
        self.inner.renew_lease(lease, ttl).await
    }

    async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        self.inner.release_lease(lease).await
    }

    async fn due_timers(&self, limit: usize) -> Result<Vec<DueTimer>, StoreError> {
        self.inner.due_timers(limit).await
    }

    async fn put_blob(&self, scope: &Scope, body: Bytes) -> Result<Digest, StoreError> {
        self.inner.put_blob(scope, body).await
    }

    async fn get_blob(&self, scope: &Scope, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        self.inner.get_blob(scope, digest).await
    }
}

/// A control plane that is slow once.
fn late(world: &World, meanwhile: impl Future<Output = ()> + Send + 'static) -> ControlPlane {
    world.plane_over(Arc::new(Late {
        inner: world.store.clone(),
        meanwhile: Mutex::new(Some(Box::pin(meanwhile))),
    }))
}

fn queued(image: &str) -> DeployFile {
    DeployFile {
        in_progress: InProgress::EnqueueOne,
        ..version(&["staging"], image)
    }
}

/// Waits, looking at the store alone, so that it can be done in the middle of somebody else's act.
async fn wait(store: InMemoryStore, scope: Scope, id: PipelineId, wanted: fn(&Pipeline) -> bool) {
    let mut written = store.written();
    loop {
        written.borrow_and_update();
        let stream = format!("pipeline/{id}");
        let events = store.read_stream(&scope, &stream, 0, 100_000).await.unwrap();
        let pipeline = Pipeline::new(id).fold(events.iter().map(|event| event.value.as_ref()));
        if wanted(&pipeline) {
            return;
        }
        let _ = tokio::time::timeout(Duration::from_secs(60), written.changed()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_that_queue_at_once_the_later_one_stays() {
    let (world, plane, _tasks, _) = settled(&["staging"]).await;
    let running = submit(&plane, version(&["staging"], "app:2")).await;
    world.until(running, |p| stands(p, "staging/step/1")).await;
    let other = plane.clone();
    let slow = late(&world, async move {
        submit(&other, queued("app:3")).await;
    });
    let taken = slow
        .submit(&deployer("ada", &[]), &door(), submission(queued("app:4")))
        .await
        .unwrap();
    assert_eq!(taken.behind, Some(running));
    let rows = plane
        .list(&crate::world::reader(), &Default::default())
        .await
        .unwrap()
        .rows;
    let queue: Vec<_> = rows.iter().filter(|row| row.state == State::Queued).collect();
    assert_eq!(queue.len(), 1, "{rows:#?}");
    assert_eq!(queue[0].id, taken.pipeline);
    let replaced = rows.iter().filter(|row| row.replaced_by == Some(taken.pipeline));
    assert_eq!(replaced.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_who_queues_while_the_run_before_it_ends_begins() {
    let (world, plane, _tasks, _) = settled(&["staging"]).await;
    let running = submit(&plane, version(&["staging"], "app:2")).await;
    world.until(running, |p| stands(p, "staging/step/1")).await;
    let (other, store, scope) = (plane.clone(), world.store.clone(), world.scope());
    let slow = late(&world, async move {
        approve(&other, running, "staging/step/1").await;
        wait(store, scope, running, Pipeline::is_final).await;
    });
    let taken = slow
        .submit(&deployer("ada", &[]), &door(), submission(queued("app:3")))
        .await
        .unwrap();
    assert_eq!(taken.behind, None);
    world.until(taken.pipeline, |p| stands(p, "staging/step/1")).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_just_got_its_turn_is_not_replaced() {
    let (world, plane, _tasks, _) = settled(&["staging"]).await;
    let running = submit(&plane, version(&["staging"], "app:2")).await;
    world.until(running, |p| stands(p, "staging/step/1")).await;
    let next = submit(&plane, queued("app:3")).await;
    let (other, store, scope) = (plane.clone(), world.store.clone(), world.scope());
    let slow = late(&world, async move {
        approve(&other, running, "staging/step/1").await;
        wait(store, scope, next, |p| !p.is_queued()).await;
    });
    let taken = slow
        .submit(&deployer("ada", &[]), &door(), submission(queued("app:4")))
        .await
        .unwrap();
    assert_eq!(taken.behind, Some(next));
    let pipeline = world.until(next, |p| stands(p, "staging/step/1")).await;
    assert_eq!((pipeline.replaced_by, pipeline.stopping), (None, None));
}

#[tokio::test(start_paused = true)]
async fn of_two_submits_at_once_one_is_refused() {
    let (world, plane, _tasks, _) = settled(&["staging"]).await;
    let other = plane.clone();
    let slow = late(&world, async move {
        submit(&other, version(&["staging"], "app:2")).await;
    });
    let late = slow
        .submit(
            &deployer("ada", &[]),
            &door(),
            submission(version(&["staging"], "app:3")),
        )
        .await
        .unwrap_err();
    assert!(matches!(late, SubmitError::Busy { .. }), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_comes_just_after_the_end_makes_a_new_run() {
    let (world, plane, _tasks, _) = settled(&["eu", "us"]).await;
    world.cluster("us").break_image("app:2", PodFault::Crash);
    let targets = [("eu", target("eu", &[])), ("us", target("us", &[]))];
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    world
        .until(id, |p| stands(p, "eu/step/1") && p.targets["us"].is_over())
        .await;
    world.cluster("us").heal_image("app:2");
    let (other, store, scope) = (plane.clone(), world.store.clone(), world.scope());
    let slow = late(&world, async move {
        approve(&other, id, "eu/step/1").await;
        wait(store, scope, id, Pipeline::is_final).await;
    });
    let recorded = slow
        .retry(&deployer("ada", &[]), &door(), id, TargetAct::default())
        .await
        .unwrap();
    assert_ne!(recorded.pipeline, id);
    let run = world.until(recorded.pipeline, |p| stands(p, "us/step/1")).await;
    assert_eq!(run.origin.unwrap().kind, OriginKind::Retry);
    assert_eq!(run.targets.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_roll_back_that_comes_just_after_the_failure_hears_that_it_goes_back_already() {
    let (world, plane, _tasks, _) = settled(&["staging"]).await;
    let id = submit(&plane, version(&["staging"], "app:2")).await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    let (other, store, scope) = (plane.clone(), world.store.clone(), world.scope());
    let slow = late(&world, async move {
        let grace = deployer("grace", &["release-manager"]);
        other
            .reject(&grace, &door(), id, crate::world::yes("staging/step/1"))
            .await
            .unwrap();
        wait(store, scope, id, |p| p.stopping.is_some()).await;
    });
    let refused = slow
        .roll_back(&deployer("ada", &[]), &door(), id, of("staging"))
        .await
        .unwrap_err();
    assert_eq!(
        refused.kind(),
        aurora_core::error::ErrorKind::Conflict,
        "{refused:?}"
    );
    assert_eq!(end(&world.ended(id).await, "staging"), End::RolledBack);
}
