//! The executor: makes the supervisor hold a plan, and tells how far it is.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use aurora_core::command::{
    Act, Acted, Action, Applied, AppliedSetKey, Apply, FailureDetail, Observe, Stamp,
};
use aurora_core::manifest::ObjectRef;
use aurora_core::plan::Plan;
use aurora_core::port::executor::{Capabilities, ClusterExecutor, ExecutorError, Levels, StageSink};
use aurora_core::progress::Progress;
use aurora_core::session::InventoryItem;
use futures::stream::{self, StreamExt as _};
use serde_json::{Value, json};

use super::state::{AppliedSet, State, Supervisor};
use super::workload::{followed, level, runs};

/// How what Aurora writes is marked.
const OURS: &str = "aurora-agent";

/// How often an observation looks at the file.
const LOOK: Duration = Duration::from_millis(50);

/// Executes plans on a supervisor; a fresh one over the same supervisor goes on where another stopped.
#[derive(Clone, Debug)]
pub struct SupervisorExecutor {
    supervisor: Supervisor,
}

impl SupervisorExecutor {
    /// Acts on a supervisor.
    pub const fn new(supervisor: Supervisor) -> Self {
        Self { supervisor }
    }
}

/// The executor's own error, so that `?` works on both.
struct Failed(ExecutorError);

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self(ExecutorError::Unavailable { source: error.into() })
    }
}

impl From<ExecutorError> for Failed {
    fn from(error: ExecutorError) -> Self {
        Self(error)
    }
}

impl From<Failed> for ExecutorError {
    fn from(failed: Failed) -> Self {
        failed.0
    }
}

#[async_trait]
impl ClusterExecutor for SupervisorExecutor {
    fn capabilities(&self) -> Capabilities {
        Capabilities::none()
    }

    async fn apply(&self, apply: &Apply, plan: &Plan, stages: &StageSink) -> Result<Applied, ExecutorError> {
        self.supervisor.change(|state| accept(state, apply, plan))?;
        let total = u32::try_from(plan.objects.len()).unwrap_or(u32::MAX);
        for (done, planned) in (0..).zip(&plan.objects) {
            let object = planned.object();
            let _ = stages.try_send((done, total, format!("declaring {object}")));
            // Between two objects the command may be cancelled; the same apply then goes on.
            tokio::task::yield_now().await;
            self.supervisor.change(|state| {
                fence(state, &apply.set, apply.stamp)?;
                let (uid, _) = state.put(&object, planned.body.clone(), OURS);
                if let Some(set) = state.set_mut(&apply.set) {
                    set.entry_mut(&object).uid = uid;
                }
                Ok::<_, Failed>(())
            })?;
        }
        Ok(applied(&self.read()?, apply, plan))
    }

    async fn finish(&self, apply: &Apply, plan: &Plan, _: &StageSink) -> Result<Applied, ExecutorError> {
        let finished = self.supervisor.change(|state| {
            fence(state, &apply.set, apply.stamp)?;
            let digest = plan.digest().to_string();
            match state.set_mut(&apply.set) {
                Some(set) if set.digest == digest => set.stamp = apply.stamp,
                _ => return Err(Failed(other_plan(apply))),
            }
            Ok(prune(state, apply, plan))
        });
        Ok(finished?)
    }

    async fn observe(&self, observe: &Observe, plan: &Plan) -> Result<Levels, ExecutorError> {
        let (executor, observe, plan) = (self.clone(), observe.clone(), plan.clone());
        let watched = self.supervisor.watched();
        let looks = stream::unfold((watched, None::<Vec<Progress>>), move |(watched, said)| {
            let (executor, observe, plan) = (executor.clone(), observe.clone(), plan.clone());
            async move {
                loop {
                    let levels = match executor.levels(&observe, &plan) {
                        Ok(levels) => levels,
                        Err(error) => return Some((Err(error), (watched, said))),
                    };
                    let Some(before) = &said else {
                        return Some((Ok(levels.clone()), (watched, Some(levels))));
                    };
                    let is_news = |level: &&Progress| !before.iter().any(|old| old.says_the_same(level));
                    let news: Vec<_> = levels.iter().filter(is_news).cloned().collect();
                    if !news.is_empty() {
                        return Some((Ok(news), (watched, Some(levels))));
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
        });
        Ok(looks.boxed())
    }

    async fn act(&self, act: &Act) -> Result<Acted, ExecutorError> {
        let state = self.read()?;
        fence(&state, &act.set, act.stamp)?;
        match act.action {
            // Programs are replaced at once: nothing is ever under way.
            Action::Abort => Ok(Acted::NothingToAbort),
            other => Err(ExecutorError::Unsupported {
                what: format!("{other:?} on {}", act.object),
            }),
        }
    }

    async fn get(&self, object: &ObjectRef) -> Result<Option<Value>, ExecutorError> {
        let held = self.read()?.find(object).map(|held| held.body.clone());
        Ok(held.map(without_secrets))
    }

    async fn delete(&self, set: &AppliedSetKey, object: &ObjectRef) -> Result<(), ExecutorError> {
        let deleted = self.supervisor.change(|state| {
            if state.find(object).is_none() {
                return Ok(());
            }
            if !is_ours(state, set, object) {
                let message = format!("{object} is not in the applied set of {}", set.application);
                let objects = vec![FailureDetail {
                    object: object.clone(),
                    message,
                }];
                return Err(Failed(ExecutorError::Foreign { objects }));
            }
            state.remove(object);
            if let Some(set) = state.set_mut(set) {
                set.entry_mut(object).uid.clear();
            }
            Ok(())
        });
        Ok(deleted?)
    }

    async fn inventory(&self) -> Result<Vec<(String, InventoryItem)>, ExecutorError> {
        let state = self.read()?;
        let namespaces = state.namespaces().map(|name| item("namespace", name, name, []));
        let sets = state.sets().map(|(key, set)| {
            let facts = [
                ("application", key.application.clone()),
                ("namespace", key.namespace.clone()),
                ("stamp", set.stamp.to_string()),
                ("target", set.target.clone()),
                ("tenant", key.tenant.clone()),
            ];
            let name = format!("{}/{}", key.namespace, key.application);
            item("appliedSet", &name, &key.application, facts)
        });
        Ok(namespaces.chain(sets).collect())
    }
}

impl SupervisorExecutor {
    fn read(&self) -> Result<State, Failed> {
        Ok(self.supervisor.read()?)
    }

    fn levels(&self, observe: &Observe, plan: &Plan) -> Result<Vec<Progress>, ExecutorError> {
        let state = self.read()?;
        let level = |object| {
            level(
                &object,
                state.find(&object),
                plan,
                is_ours(&state, &observe.set, &object),
            )
        };
        Ok(followed(plan).into_iter().map(level).collect())
    }
}

/// What an older decision asks for is refused.
fn fence(state: &State, key: &AppliedSetKey, stamp: Stamp) -> Result<(), ExecutorError> {
    match state.set(key) {
        Some(set) if set.stamp > stamp => Err(ExecutorError::Superseded {
            accepted: set.stamp.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Takes a plan on: all refusals first, then old and new objects are listed together.
fn accept(state: &mut State, apply: &Apply, plan: &Plan) -> Result<(), Failed> {
    fence(state, &apply.set, apply.stamp)?;
    let digest = plan.digest().to_string();
    let before = state.set(&apply.set).cloned();
    let again = before.as_ref().is_some_and(|set| set.stamp == apply.stamp);
    if again && before.as_ref().is_some_and(|set| set.digest != digest) {
        return Err(Failed(other_plan(apply)));
    }
    let foreign: Vec<_> = plan
        .objects
        .iter()
        .map(|planned| (planned.object(), planned.adopt))
        .filter(|(object, adopt)| {
            state.find(object).is_some() && !is_ours(state, &apply.set, object) && (runs(object) || !adopt)
        })
        .map(|(object, _)| FailureDetail {
            message: format!(
                "{object} is somebody else's: annotate yours with aurora.dev/adopt: \"true\", or rename it"
            ),
            object,
        })
        .collect();
    if !foreign.is_empty() {
        return Err(Failed(ExecutorError::Foreign { objects: foreign }));
    }
    let entries = before.map(|set| set.entries).unwrap_or_default();
    let (target, stamp) = (apply.target.clone(), apply.stamp);
    let mut set = AppliedSet {
        target,
        stamp,
        digest,
        entries,
    };
    for planned in &plan.objects {
        let object = planned.object();
        let held = state.find(&object);
        let entry = set.entry_mut(&object);
        if !again {
            entry.changed = held.is_none_or(|held| held.body != planned.body);
        }
        entry.uid = held.map(|held| held.uid.clone()).unwrap_or_default();
    }
    state.insert_set(&apply.set, set);
    Ok(())
}

/// Listed with the live uid, or listed without one and written by us.
fn is_ours(state: &State, key: &AppliedSetKey, object: &ObjectRef) -> bool {
    let listed = state.set(key).and_then(|set| set.entry(object));
    let (Some(entry), Some(held)) = (listed, state.find(object)) else {
        return false;
    };
    entry.uid == held.uid || (entry.uid.is_empty() && held.written_by == OURS)
}

fn applied(state: &State, apply: &Apply, plan: &Plan) -> Applied {
    let set = state.set(&apply.set);
    let changed = plan.objects.iter().filter(|planned| {
        let entry = set.and_then(|set| set.entry(&planned.object()));
        entry.is_some_and(|entry| entry.changed)
    });
    let changed = u32::try_from(changed.count()).unwrap_or(u32::MAX);
    let total = u32::try_from(plan.objects.len()).unwrap_or(u32::MAX);
    Applied {
        changed,
        unchanged: total.saturating_sub(changed),
        ..Applied::default()
    }
}

/// Deletes what the applied set lists and the plan does not.
fn prune(state: &mut State, apply: &Apply, plan: &Plan) -> Applied {
    let planned: Vec<_> = plan.objects.iter().map(|planned| planned.object()).collect();
    let mut applied = applied(state, apply, plan);
    let listed = state
        .set(&apply.set)
        .map(|set| set.entries.clone())
        .unwrap_or_default();
    for (object, _) in listed.into_iter().filter(|(object, _)| !planned.contains(object)) {
        if is_ours(state, &apply.set, &object) && state.remove(&object) {
            applied.pruned.push(object.clone());
        }
        if let Some(set) = state.set_mut(&apply.set) {
            set.entries.retain(|(entry, _)| *entry != object);
        }
    }
    applied
}

fn other_plan(apply: &Apply) -> ExecutorError {
    let object = ObjectRef::new("", "AppliedSet", &apply.set.namespace, &apply.set.application);
    let message = format!(
        "{} was accepted with another plan than {}",
        apply.stamp, apply.plan
    );
    ExecutorError::Rejected {
        objects: vec![FailureDetail { object, message }],
    }
}

fn without_secrets(mut body: Value) -> Value {
    if body["kind"] == "Secret"
        && let Some(entries) = body["data"].as_object_mut()
    {
        entries
            .values_mut()
            .for_each(|value| *value = json!("(redacted)"));
    }
    body
}

fn item<const N: usize>(
    kind: &str,
    key: &str,
    name: &str,
    facts: [(&str, String); N],
) -> (String, InventoryItem) {
    let facts = facts.map(|(name, fact)| (name.to_owned(), fact)).into();
    let item = InventoryItem {
        kind: kind.to_owned(),
        name: name.to_owned(),
        facts,
    };
    (format!("{kind}/{key}"), item)
}
