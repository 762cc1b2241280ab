//! Following the workloads of a plan: first all of them, then those that changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt as _, future, stream};
use serde_json::Value;
use tokio::time::Instant;

use aurora_core::manifest::ObjectRef;
use aurora_core::plan::Plan;
use aurora_core::port::clock::Clock;
use aurora_core::port::executor::{ExecutorError, Levels};
use aurora_core::progress::{FailingPod, Progress};

use super::api::Api;
use super::errors::Problem;
use super::evidence::{self, LOG_LINES, LogKey};
use super::follow::{Change, follow};
use super::kinds::{self, Kinds, Resource};
use super::readiness;
use crate::argo::status::{self, Seen, hash_of, is_owned_by};
use crate::argo::template;

/// Changes that come within this time are told together.
const TOGETHER: Duration = Duration::from_millis(50);

/// Levels are looked at this often even when nothing changed, since logs may come late.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// Logs are read of so many failing pods of a workload: more say the same.
const PODS_WITH_LOGS: usize = 3;

/// How long a log may take before the level goes out without it.
const LOG_WAIT: Duration = Duration::from_secs(3);

/// Bytes of a log that are read.
const LOG_BYTES: u32 = 16 * 1024;

/// The workloads of a plan that are followed.
pub(crate) fn followed(plan: &Plan) -> BTreeSet<ObjectRef> {
    let rollouts = plan
        .objects
        .iter()
        .map(|planned| planned.object())
        .filter(is_rollout);
    rollouts.chain(plan.steps.workloads.iter().cloned()).collect()
}

pub(crate) fn is_rollout(object: &ObjectRef) -> bool {
    object.group == "argoproj.io" && object.kind == "Rollout"
}

/// Follows the workloads of a plan.
pub(crate) async fn observe(
    api: &Api,
    kinds: &Kinds,
    plan: &Plan,
    clock: Arc<dyn Clock>,
) -> Result<Levels, ExecutorError> {
    let followed = followed(plan);
    let mut topics = BTreeMap::new();
    for object in &followed {
        let resource = kinds
            .of_object(api, object)
            .await
            .map_err(|problem| problem.into_error("watch", object))?;
        topics.insert(object.kind.clone(), resource);
    }
    for (group, kind) in [("apps", "ReplicaSet"), ("", "Pod")] {
        if let Some(resource) = kinds::well_known(group, kind) {
            topics.insert(kind.to_owned(), resource);
        }
    }
    let observer = Observer::new(api.clone(), plan, followed, topics, clock);
    Ok(stream::unfold(observer, Observer::next).boxed())
}

type Changes = SelectAll<BoxStream<'static, (String, Result<Change, Problem>)>>;

struct Observer {
    api: Api,
    namespace: String,
    /// What is followed, as it is rendered.
    followed: BTreeMap<ObjectRef, Value>,
    changes: Changes,
    /// By kind and name; none until the kind was listed.
    held: BTreeMap<String, Option<BTreeMap<String, Value>>>,
    logs: BTreeMap<LogKey, Vec<String>>,
    clock: Arc<dyn Clock>,
    said: Option<Vec<Progress>>,
    over: bool,
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("followed", &self.followed.keys())
            .finish_non_exhaustive()
    }
}

impl Observer {
    fn new(
        api: Api,
        plan: &Plan,
        followed: BTreeSet<ObjectRef>,
        topics: BTreeMap<String, Resource>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let rendered = |object: &ObjectRef| {
            let planned = plan.objects.iter().find(|planned| planned.object() == *object);
            planned.map_or(Value::Null, |planned| planned.body.clone())
        };
        let followed = followed
            .into_iter()
            .map(|object| (object.clone(), rendered(&object)))
            .collect();
        let held = topics.keys().map(|kind| (kind.clone(), None)).collect();
        let changes = topics.into_iter().map(|(kind, resource)| {
            let path = resource.collection(&plan.namespace);
            follow(api.clone(), path)
                .map(move |change| (kind.clone(), change))
                .boxed()
        });
        Self {
            namespace: plan.namespace.clone(),
            followed,
            changes: stream::select_all(changes),
            held,
            logs: BTreeMap::new(),
            clock,
            said: None,
            over: false,
            api,
        }
    }

    async fn next(mut self) -> Option<(Result<Vec<Progress>, ExecutorError>, Self)> {
        if self.over {
            return None;
        }
        loop {
            if let Err(error) = self.hear().await {
                self.over = true;
                return Some((Err(error), self));
            }
            if self.held.values().any(Option::is_none) {
                continue;
            }
            let mut levels = self.levels();
            self.add_logs(&mut levels).await;
            let news = match &self.said {
                None => levels.clone(),
                Some(said) => {
                    let is_new = |level: &&Progress| {
                        !said
                            .iter()
                            .any(|old| old.says_the_same(level) && old.message == level.message)
                    };
                    levels.iter().filter(is_new).cloned().collect()
                }
            };
            let first = self.said.replace(levels).is_none();
            if first || !news.is_empty() {
                return Some((Ok(news), self));
            }
        }
    }

    /// Takes in the next change and those that come right after it.
    async fn hear(&mut self) -> Result<(), ExecutorError> {
        let first = tokio::time::timeout(LOOK_AGAIN, self.changes.next()).await;
        let Ok(first) = first else {
            return Ok(());
        };
        let mut next = first;
        let until = Instant::now() + TOGETHER;
        while let Some((kind, change)) = next {
            self.take_in(&kind, change)?;
            // News that never pauses still goes out.
            next = match tokio::time::timeout_at(until, self.changes.next()).await {
                Ok(next) if Instant::now() < until => next,
                Ok(Some((kind, change))) => return self.take_in(&kind, change),
                Ok(None) => None,
                Err(_) => return Ok(()),
            };
        }
        Err(ExecutorError::Unavailable {
            source: "the watches have ended".into(),
        })
    }

    fn take_in(&mut self, kind: &str, change: Result<Change, Problem>) -> Result<(), ExecutorError> {
        let change = change.map_err(|problem| {
            let object = ObjectRef::new("", kind, &self.namespace, "");
            problem.into_error("watch", &object)
        })?;
        let Some(held) = self.held.get_mut(kind) else {
            return Ok(());
        };
        match change {
            Change::Gone(object) => {
                if let Some(held) = held {
                    held.remove(name_of(&object));
                }
            }
            Change::Listed(objects) => {
                *held = Some(
                    objects
                        .into_iter()
                        .map(|object| (name_of(&object).to_owned(), lean(kind, object)))
                        .collect(),
                );
            }
            Change::Put(object) => {
                if let Some(held) = held {
                    held.insert(name_of(&object).to_owned(), lean(kind, object));
                }
            }
        }
        Ok(())
    }

    fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.held
            .get(kind)
            .and_then(Option::as_ref)
            .map(|held| held.values().collect())
            .unwrap_or_default()
    }

    fn levels(&self) -> Vec<Progress> {
        let now = self.clock.now();
        let (replica_sets, pods) = (self.of_kind("ReplicaSet"), self.of_kind("Pod"));
        let level = |(object, rendered): (&ObjectRef, &Value)| {
            let live = self
                .held
                .get(&object.kind)
                .and_then(Option::as_ref)
                .and_then(|held| held.get(&object.name));
            let mut progress = if is_rollout(object) {
                status::progress(&Seen {
                    object,
                    rendered,
                    live,
                    replica_sets: &replica_sets,
                    now,
                })
            } else {
                readiness::progress(object, rendered, live, now)
            };
            if let Some(live) = live {
                progress.failing = evidence::failing(new_pods(object, live, &replica_sets, &pods), now);
                let standing = progress.standing.clone();
                progress
                    .failing
                    .retain(|pod| readiness::counts(object, &standing, pod));
            }
            progress
        };
        self.followed.iter().map(level).collect()
    }

    /// Adds the last lines of containers that ended, reading those that are not known yet.
    async fn add_logs(&mut self, levels: &mut [Progress]) {
        let failing = |level: &Progress| -> Vec<FailingPod> {
            level.failing.iter().take(PODS_WITH_LOGS).cloned().collect()
        };
        let wanted: BTreeSet<_> = levels
            .iter()
            .flat_map(failing)
            .filter_map(|pod| LogKey::of(&pod))
            .collect();
        self.logs.retain(|key, _| wanted.contains(key));
        let missing: Vec<_> = wanted
            .into_iter()
            .filter(|key| !self.logs.contains_key(key))
            .collect();
        let read = missing.into_iter().map(|key| {
            let (api, namespace) = (&self.api, &self.namespace);
            async move {
                let lines = tokio::time::timeout(LOG_WAIT, read_log(api, namespace, &key))
                    .await
                    .ok()
                    .flatten();
                (key, lines)
            }
        });
        for (key, lines) in future::join_all(read).await {
            if let Some(lines) = lines {
                self.logs.insert(key, lines);
            }
        }
        for pod in levels.iter_mut().flat_map(|level| &mut level.failing) {
            let known = LogKey::of(pod).and_then(|key| self.logs.get(&key));
            pod.log = known.cloned().unwrap_or_default();
        }
    }
}

/// Reads the log of the container that ended, or of the present one where that is the one.
async fn read_log(api: &Api, namespace: &str, key: &LogKey) -> Option<Vec<String>> {
    let LogKey { pod, container, .. } = key;
    for previous in [true, false] {
        let path = format!(
            "/api/v1/namespaces/{namespace}/pods/{pod}/log?container={container}&previous={previous}\
             &tailLines={LOG_LINES}&limitBytes={LOG_BYTES}"
        );
        if let Ok(text) = api.text(&path).await {
            let lines = evidence::last_lines(&text);
            if !lines.is_empty() {
                return Some(lines);
            }
        }
    }
    None
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// The object without what is never looked at, since a namespace may have many pods.
fn lean(kind: &str, mut object: Value) -> Value {
    if matches!(kind, "Pod" | "ReplicaSet")
        && let Some(metadata) = object["metadata"].as_object_mut()
    {
        metadata.remove("managedFields");
    }
    object
}

/// The pods of a workload that belong to what it declares now.
fn new_pods<'p>(
    object: &ObjectRef,
    live: &Value,
    replica_sets: &[&Value],
    pods: &[&'p Value],
) -> Vec<&'p Value> {
    let uid = live["metadata"]["uid"].as_str().unwrap_or_default();
    let owned_by =
        |uid: &str| -> Vec<&'p Value> { pods.iter().copied().filter(|pod| is_owned_by(pod, uid)).collect() };
    match object.kind.as_str() {
        "DaemonSet" | "Job" => owned_by(uid),
        "StatefulSet" => {
            let update = live["status"]["updateRevision"].as_str().unwrap_or_default();
            let is_new = |pod: &&Value| pod["metadata"]["labels"]["controller-revision-hash"] == update;
            owned_by(uid).into_iter().filter(is_new).collect()
        }
        _ => {
            let current = live["status"]["currentPodHash"].as_str().unwrap_or_default();
            let digest = template::digest_of(&live["spec"]["template"]);
            let is_new = |set: &&&Value| {
                let template = &set["spec"]["template"];
                if is_rollout(object) {
                    hash_of(set) == current
                } else if digest.is_some() {
                    template::digest_of(template) == digest
                } else {
                    template["spec"] == live["spec"]["template"]["spec"]
                }
            };
            let sets = replica_sets
                .iter()
                .filter(|set| is_owned_by(set, uid))
                .filter(is_new);
            sets.flat_map(|set| owned_by(set["metadata"]["uid"].as_str().unwrap_or_default()))
                .collect()
        }
    }
}
