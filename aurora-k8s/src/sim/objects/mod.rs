//! The objects of the simulated cluster with Kubernetes' rules of writing: versions, generations, deletion.

mod defaults;
mod error;
mod history;
mod rules;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use self::{
    history::History,
    rules::{
        add_finalizer, awaits_kubelet, body_differs, has_content, has_finalizers, is_deleting, keep_assigned,
        pod_grace, set_or_remove,
    },
    state::{State, key},
};
use super::{
    fields::{Manager, Ty, record_update},
    resource::{self, RESOURCES, Resource},
};

pub use self::{
    error::{Expired, ObjectError, RestoreError},
    history::{HISTORY_LIMIT, WatchEvent, WatchKind},
};

/// Where the time of the cluster comes from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A clock that starts at `origin` and goes on with tokio's time, so that it stands still where a paused
/// test does.
#[must_use]
pub fn tokio_clock(origin: Timestamp) -> Clock {
    let started = Instant::now();
    Arc::new(move || origin + started.elapsed())
}

/// What becomes of the objects that a deleted one owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted after it.
    #[default]
    Background,
    /// It stays until they are gone.
    Foreground,
    /// They stay and lose their owner.
    Orphan,
}

/// How to delete an object; the default has no precondition and the kind's own grace period.
#[derive(Clone, Debug, Default)]
pub struct Delete {
    /// Refuses when the live object has another UID.
    pub uid: Option<String>,
    /// Refuses when the live object has another resourceVersion.
    pub resource_version: Option<u64>,
    /// What becomes of dependents.
    pub propagation: Propagation,
    /// Seconds that a pod is given; `Some(0)` removes it at once.
    pub grace_seconds: Option<u64>,
}

/// A list with the version at which it was consistent.
#[derive(Clone, Debug)]
pub struct List {
    /// Objects, ordered by namespace and name.
    pub items: Vec<Arc<Value>>,
    /// Version to watch from.
    pub resource_version: u64,
}

/// All objects of one simulated cluster; clones share them.
///
/// Every method takes one lock for a short time and never waits for anything else. Objects are handed in and
/// out with `apiVersion` and `kind`; `metadata.resourceVersion` is a decimal string of one counter over all
/// kinds. A write that changes nothing is answered with the live object and moves no version.
///
/// Small defaults of the API server that controllers rely on are filled in at creation (a pod's phase, a
/// Service's `clusterIP`, a namespace's phase).
#[derive(Clone)]
pub struct Objects {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
    clock: Clock,
    writer: Option<&'static str>,
}

impl Objects {
    /// An empty cluster that has only the namespaces `default` and `kube-system`.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let objects = Self {
            state: Arc::new(Mutex::new(State {
                version: 1,
                named: 0,
                objects: BTreeMap::new(),
                dynamic: Vec::new(),
                history: History::starting_at(1),
            })),
            changed: Arc::new(watch::channel(1).0),
            clock,
            writer: None,
        };
        for name in ["default", "kube-system"] {
            // Nothing else holds these names in an empty cluster.
            let _created = objects.create(&resource::NAMESPACES, json!({"metadata": {"name": name}}));
        }
        objects
    }

    /// The same state in a store of its own: what is written to it is seen nowhere else (dry runs).
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.lock().clone();
        let changed = Arc::new(watch::channel(state.version).0);
        Self {
            state: Arc::new(Mutex::new(state)),
            changed,
            clock: Arc::clone(&self.clock),
            writer: self.writer,
        }
    }

    /// The same objects, for a controller of this name: its writes are recorded in `metadata.managedFields`.
    /// Writes of others leave that field to whoever made the object that is written.
    #[must_use]
    pub fn written_by(&self, writer: &'static str) -> Self {
        Self {
            writer: Some(writer),
            ..self.clone()
        }
    }

    /// The cluster's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The version of the last write.
    #[must_use]
    pub fn resource_version(&self) -> u64 {
        self.lock().version
    }

    /// All served kinds: the fixed ones, then those of CustomResourceDefinitions.
    #[must_use]
    pub fn resources(&self) -> Vec<Arc<Resource>> {
        let fixed = RESOURCES.iter().map(|resource| Arc::new((*resource).clone()));
        fixed.chain(self.lock().dynamic.iter().cloned()).collect()
    }

    /// The kind that a path names, if it is served.
    #[must_use]
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.find(|it| it.group == group && it.version == version && it.plural == plural)
    }

    /// The kind that a manifest names, if it is served.
    #[must_use]
    pub fn resource_of_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Resource>> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        self.find(|it| it.group == group && it.version == version && it.kind == kind)
    }

    /// The live object; `namespace` is ignored for cluster-wide kinds.
    #[must_use]
    pub fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.lock().objects.get(&key(resource, namespace, name)).cloned()
    }

    /// All objects of a kind, of one namespace or of all.
    #[must_use]
    pub fn list(&self, resource: &Resource, namespace: Option<&str>) -> List {
        let state = self.lock();
        let namespace = namespace.filter(|_| resource.namespaced);
        let kind = resource.qualified();
        let from = (
            kind.clone(),
            namespace.unwrap_or_default().to_owned(),
            String::new(),
        );
        let items = state
            .objects
            .range(from..)
            .take_while(|((of, within, _), _)| {
                *of == kind && namespace.is_none_or(|namespace| within == namespace)
            })
            .map(|(_, object)| Arc::clone(object))
            .collect();
        List {
            items,
            resource_version: state.version,
        }
    }

    /// Creates an object and assigns `uid`, `creationTimestamp`, `resourceVersion` and, for kinds that have
    /// one, `generation`; `generateName` is completed. A `status` is dropped where it is a subresource.
    ///
    /// # Errors
    /// `AlreadyExists`, `Invalid` without a name, `NotFound` for a missing namespace, `NamespaceTerminating`.
    pub fn create(&self, resource: &Resource, mut value: Value) -> Result<Arc<Value>, ObjectError> {
        let now = self.now();
        let mut state = self.lock();
        let Some(object) = value.as_object_mut() else {
            return Err(ObjectError::invalid(resource, "", "", "must be an object"));
        };
        object.insert("apiVersion".into(), resource.api_version().into());
        object.insert("kind".into(), resource.kind.as_ref().into());
        if resource.has_status {
            object.remove("status");
        }
        if !value["metadata"].is_object() {
            value["metadata"] = json!({});
        }
        let namespace = state.namespace_for(resource, &value)?;
        let name = state.name_for(resource, &value)?;
        let key = key(resource, &namespace, &name);
        if state.objects.contains_key(&key) {
            return Err(ObjectError::AlreadyExists {
                resource: resource.qualified(),
                name,
            });
        }
        defaults::fill(resource, &mut value, state.version);
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.insert("name".into(), name.into());
            if resource.namespaced {
                metadata.insert("namespace".into(), namespace.into());
            } else {
                metadata.remove("namespace");
            }
            metadata.insert("uid".into(), Uuid::new_v4().to_string().into());
            metadata.insert("creationTimestamp".into(), seconds(now).into());
            for assigned in [
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "generation",
                "selfLink",
            ] {
                metadata.remove(assigned);
            }
            if resource.counts_generations() {
                metadata.insert("generation".into(), 1.into());
            }
        }
        self.record_owner(resource, None, &mut value, "");
        let stored = state.put(resource, key, value, WatchKind::Added);
        self.announce(state);
        Ok(stored)
    }

    /// Replaces an object, except for its status where that is a subresource, and for what only the cluster
    /// assigns. `metadata.generation` grows when something outside `metadata` and `status` changed. An object
    /// under deletion goes when its last finalizer does.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when `expected` is given and is not the live version.
    pub fn update(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        expected: Option<u64>,
        mut value: Value,
    ) -> Result<Arc<Value>, ObjectError> {
        let mut state = self.lock();
        let (key, live) = state.live(resource, namespace, name, expected)?;
        if !value.is_object() {
            return Err(ObjectError::invalid(resource, name, "", "must be an object"));
        }
        if resource.has_status {
            set_or_remove(&mut value, "status", live.get("status"));
        }
        keep_assigned(resource, &mut value, &live);
        self.record_owner(resource, Some(&live), &mut value, "");
        if resource.counts_generations() && body_differs(&live, &value) {
            let generation = live["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
            value["metadata"]["generation"] = generation.into();
        }
        if value == *live {
            return Ok(live);
        }
        let held =
            has_finalizers(&value) || has_content(resource, &value) || awaits_kubelet(resource, &value);
        let stored = if is_deleting(&value) && !held {
            state.remove(resource, &key, value)
        } else {
            state.put(resource, key, value, WatchKind::Modified)
        };
        self.announce(state);
        Ok(stored)
    }

    /// Replaces the `status` of an object, and its `managedFields` where `value` has some, and nothing else;
    /// `value` is the whole object.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when `expected` is given and is not the live version.
    pub fn update_status(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        expected: Option<u64>,
        value: &Value,
    ) -> Result<Arc<Value>, ObjectError> {
        let mut state = self.lock();
        let (key, live) = state.live(resource, namespace, name, expected)?;
        let mut next = (*live).clone();
        set_or_remove(&mut next, "status", value.get("status"));
        if let Some(owners) = value["metadata"].get("managedFields") {
            next["metadata"]["managedFields"] = owners.clone();
        }
        self.record_owner(resource, Some(&live), &mut next, "status");
        if next == *live {
            return Ok(live);
        }
        let stored = state.put(resource, key, next, WatchKind::Modified);
        self.announce(state);
        Ok(stored)
    }

    /// Deletes an object: at once, or by a `deletionTimestamp` when it has finalizers (those of the
    /// propagation included) or is a pod on a node that gets time to stop. A namespace stays, terminating,
    /// until the controllers have emptied it. Answers the object as it was left.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when a precondition does not hold.
    pub fn delete(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        how: &Delete,
    ) -> Result<Arc<Value>, ObjectError> {
        let now = self.now();
        let mut state = self.lock();
        let (key, live) = state.live(resource, namespace, name, how.resource_version)?;
        if let Some(uid) = &how.uid
            && live["metadata"]["uid"].as_str() != Some(uid)
        {
            let held = live["metadata"]["uid"].as_str().unwrap_or_default();
            return Err(ObjectError::Conflict {
                resource: resource.qualified(),
                name: name.to_owned(),
                reason: format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {held}"
                ),
            });
        }
        let mut next = (*live).clone();
        add_finalizer(&mut next, how.propagation);
        let namespace_content =
            resource == &resource::NAMESPACES && next["spec"]["finalizers"][0].is_string();
        let graceful = awaits_kubelet(resource, &next) && how.grace_seconds != Some(0);
        if !(has_finalizers(&next) || namespace_content || graceful) {
            let removed = state.remove(resource, &key, next);
            self.announce(state);
            return Ok(removed);
        }
        if !is_deleting(&next) {
            let grace = if graceful {
                how.grace_seconds.or(pod_grace(&next)).unwrap_or(30)
            } else {
                0
            };
            let due = later(now, grace);
            next["metadata"]["deletionTimestamp"] = seconds(due).into();
            next["metadata"]["deletionGracePeriodSeconds"] = grace.into();
            if let Some(generation) = next["metadata"]["generation"].as_u64() {
                next["metadata"]["generation"] = (generation + 1).into();
            }
            if resource == &resource::NAMESPACES {
                next["status"]["phase"] = "Terminating".into();
            }
        }
        if next == *live {
            return Ok(live);
        }
        let stored = state.put(resource, key, next, WatchKind::Modified);
        self.announce(state);
        Ok(stored)
    }

    /// What happened after version `since`, oldest first; empty for a version that is still to come.
    ///
    /// # Errors
    /// [`Expired`] when the history no longer reaches back to `since`.
    pub fn events_since(&self, since: u64) -> Result<Vec<WatchEvent>, Expired> {
        self.lock().history.since(since)
    }

    /// Every object as if it had just been created, for a controller that starts, and the version to go on from.
    pub(crate) fn everything(&self) -> (Vec<WatchEvent>, u64) {
        let resources = self.resources();
        let state = self.lock();
        let kinds: BTreeMap<String, &Arc<Resource>> = resources
            .iter()
            .map(|resource| (resource.qualified(), resource))
            .collect();
        let events = state.objects.iter().filter_map(|((kind, _, _), object)| {
            Some(WatchEvent {
                rv: version_of(object),
                kind: WatchKind::Added,
                resource: Arc::clone(kinds.get(kind)?),
                object: Arc::clone(object),
                previous: None,
            })
        });
        (events.collect(), state.version)
    }

    /// The version of the last write as a level: a watcher waits for it to pass what it has seen, then asks
    /// for [`Objects::events_since`].
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Forgets the history, as a restarted API server does: watches that resume from any version before this
    /// call find it expired.
    pub fn compact(&self) {
        let mut state = self.lock();
        state.version += 1;
        state.history = History::starting_at(state.version);
        self.announce(state);
    }

    fn record_owner(&self, resource: &Resource, live: Option<&Value>, next: &mut Value, subresource: &str) {
        let Some(writer) = self.writer else { return };
        let manager = Manager::updater(writer, &resource.api_version(), subresource);
        let ty = Ty::of_kind(&resource.group, &resource.kind);
        record_update(live, next, ty, &manager, resource.has_status, self.now());
    }

    fn find(&self, is: impl Fn(&Resource) -> bool) -> Option<Arc<Resource>> {
        if let Some(fixed) = RESOURCES.iter().find(|resource| is(resource)) {
            return Some(Arc::new((*fixed).clone()));
        }
        self.lock().dynamic.iter().find(|resource| is(resource)).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that runs under the lock leaves a half-made change behind when it panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, state: MutexGuard<'_, State>) {
        let version = state.version;
        drop(state);
        self.changed.send_if_modified(|seen| {
            let grew = version > *seen;
            *seen = version.max(*seen);
            grew
        });
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Objects")
            .field("objects", &state.objects.len())
            .field("resource_version", &state.version)
            .finish_non_exhaustive()
    }
}

/// The resourceVersion of an object; 0 when it has none.
#[must_use]
pub fn version_of(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// A time some seconds later, or the last that can be told.
pub(crate) fn later(time: Timestamp, seconds: u64) -> Timestamp {
    time.checked_add(Duration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

/// A time as Kubernetes writes it, in whole seconds.
#[must_use]
pub fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second())
        .unwrap_or(time)
        .to_string()
}
