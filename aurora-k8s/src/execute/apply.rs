//! Making the cluster hold a plan: stage by stage, object by object, never against a newer plan.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use aurora_core::command::{Applied, Apply, Direction, Stamp};
use aurora_core::manifest::ObjectRef;
use aurora_core::plan::{PLAN_ANNOTATION, Plan};
use aurora_core::port::clock::Clock;
use aurora_core::port::executor::ExecutorError;

use super::accept::{fenced, is_listed_already, list_rollouts, survey};
use super::api::{Api, News, Patch, random};
use super::applied_set::{self, Stored};
use super::errors::rejected;
use super::kinds::{self, Kinds, Resource};
use super::live::{self, is_ours};
use super::stages::{Stage, is_autoscaler, runs_pods};
use super::wait;
use super::{hpa, service};
use crate::argo::{POD_TEMPLATE_HASH, template};

/// How often a write is begun anew because another writer was faster.
pub(crate) const CONFLICTS: u32 = 20;

/// The longest wait after a conflict.
const CONFLICT_WAIT: Duration = Duration::from_millis(300);

/// How often a template is put right before it is left as the server makes it.
const HEALINGS: u32 = 2;

/// How often, and how far apart, an active Service is looked at before its Rollout is applied.
const ACTIVE_LOOKS: (u32, Duration) = (20, Duration::from_millis(500));

/// Seconds that a version which was replaced on the way back is kept at most, as the controller does unasked.
const ENDS_AFTER: u64 = 30;

/// One apply or finish under way.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    pub(crate) api: Api,
    pub(crate) kinds: &'a Kinds,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) apply: &'a Apply,
    pub(crate) plan: &'a Plan,
    /// Where each object of the plan is served, in its order.
    pub(crate) resources: Vec<Resource>,
    pub(crate) news: News,
}

/// Whether values are held back until the plan is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Hold {
    /// As the direction and leaving autoscalers ask for.
    AsOrdered,
    /// Everything is sent as declared.
    Nothing,
}

impl Work<'_> {
    /// Applies the plan and waits until its workloads are observed.
    pub(crate) async fn run(&self) -> Result<Applied, ExecutorError> {
        let mut stored = self.accept().await?;
        let mut created = BTreeMap::new();
        for stage in Stage::ALL {
            if stage == Stage::Rollouts {
                self.dismiss_autoscalers(&stored).await?;
            }
            let members = self.members(stage);
            if members.is_empty() {
                continue;
            }
            for index in members.iter().copied() {
                let object = self.plan.objects[index].object();
                self.news.say(format!("{}: applying {object}", stage.title()));
                if let Some(uid) = self.apply_one(index, Hold::AsOrdered).await? {
                    created.insert(object, uid);
                }
                self.news.done();
            }
            stored = self.learn(stored, &created).await?;
            self.hold(stage, &members).await?;
            if stage == Stage::Rollouts {
                self.release_services().await?;
            }
        }
        self.verify(&created).await?;
        Ok(self.outcome(&stored))
    }

    /// The places in the plan of the objects of a stage.
    fn members(&self, stage: Stage) -> Vec<usize> {
        let is_of = |index: &usize| Stage::of(&self.plan.objects[*index].object()) == stage;
        (0..self.plan.objects.len()).filter(is_of).collect()
    }

    /// Takes the plan on: the union of old and new objects is listed, compare-and-set.
    async fn accept(&self) -> Result<Stored, ExecutorError> {
        let set_object = applied_set::object(&self.apply.set);
        for _ in 0..CONFLICTS {
            let stored = applied_set::read(&self.api, &self.apply.set).await?;
            if let Some(stored) = &stored {
                stored.set.accepts(self.apply)?;
            }
            let union = survey(&self.api, self.apply, self.plan, &self.resources, stored.as_ref()).await?;
            if let (Some(stored), true) = (&stored, is_listed_already(stored.as_ref(), &union)) {
                return Ok(stored.clone());
            }
            if stored.is_none() {
                self.make_namespace().await?;
            }
            match applied_set::write(&self.api, &self.apply.set, stored.as_ref(), union).await {
                Ok(stored) => return Ok(stored),
                Err(problem) if problem.is_conflict() => stand_back().await,
                Err(problem) => return Err(problem.into_error("patch", &set_object)),
            }
        }
        Err(ExecutorError::Contended { object: set_object })
    }

    /// The set lives in the namespace, so a namespace that comes with the plan is made before it.
    async fn make_namespace(&self) -> Result<(), ExecutorError> {
        for index in self.members(Stage::Namespace) {
            let object = self.plan.objects[index].object();
            let path = self.resources[index].path(&object);
            let found = self
                .api
                .find(&path)
                .await
                .map_err(|problem| problem.into_error("get", &object))?;
            if found.is_none() {
                let body = self.stamped(index);
                let made = self.api.patch(&path, Patch::Apply, &body).await;
                made.map_err(|problem| problem.into_error("patch", &object))?;
            }
        }
        Ok(())
    }

    /// The object as declared, with the stamp of the plan.
    fn stamped(&self, index: usize) -> Value {
        let mut body = self.plan.objects[index].body.clone();
        body["metadata"]["annotations"][PLAN_ANNOTATION] = json!(self.apply.stamp.to_string());
        body
    }

    /// Applies one object against what is live now; gives the uid if it was created.
    async fn apply_one(&self, index: usize, hold: Hold) -> Result<Option<String>, ExecutorError> {
        let planned = &self.plan.objects[index];
        let object = planned.object();
        let path = self.resources[index].path(&object);
        let mut healings = 0;
        for _ in 0..CONFLICTS {
            let found = self.api.find(&path).await;
            let live = found.map_err(|problem| problem.into_error("get", &object))?;
            let stored = fenced(&self.api, self.apply).await?;
            let entry = stored.set.entry(&object);
            if let Some(live) = &live
                && !is_ours(entry, live)
                && (!planned.adopt || runs_pods(&object))
            {
                return Err(foreign(&object, live));
            }
            let body = self.body(index, live.as_ref(), &stored, hold).await?;
            let written = match (&live, Stage::of(&object)) {
                (Some(live), Stage::Rollouts) if healings < HEALINGS => {
                    self.active_service_is_right(live, &body).await?;
                    if hold == Hold::AsOrdered {
                        self.end_older_version(live, &body).await?;
                    }
                    if self.heal_template(&path, &object, live, &body).await? {
                        healings += 1;
                        continue;
                    }
                    self.api.patch(&path, Patch::Apply, &body).await
                }
                _ => self.api.patch(&path, Patch::Apply, &body).await,
            };
            match written {
                Ok(written) => return Ok(live.is_none().then(|| live::uid(&written).to_owned())),
                Err(problem) if problem.is_conflict() => stand_back().await,
                Err(problem) => return Err(problem.into_error("patch", &object)),
            }
        }
        Err(ExecutorError::Contended { object })
    }

    /// Applies one object as it is declared, with nothing held back.
    pub(crate) async fn apply_declared(&self, index: usize) -> Result<(), ExecutorError> {
        self.apply_one(index, Hold::Nothing).await.map(|_| ())
    }

    /// What is sent for an object, given what is live.
    async fn body(
        &self,
        index: usize,
        found: Option<&Value>,
        stored: &Stored,
        hold: Hold,
    ) -> Result<Value, ExecutorError> {
        let object = self.plan.objects[index].object();
        let mut body = self.stamped(index);
        if let Some(found) = found {
            body["metadata"]["resourceVersion"] = json!(live::version(found));
        }
        match Stage::of(&object) {
            Stage::Rollouts => {
                let ordered = hold == Hold::AsOrdered;
                hpa::set_replicas(
                    &mut body,
                    found,
                    ordered && self.loses_autoscaler(&object, stored),
                );
                if ordered && self.apply.direction == Direction::Back {
                    take_nothing_away_first(&mut body);
                    keep_what_failed_no_longer(&mut body);
                }
            }
            Stage::Services => {
                let live = list_rollouts(&self.api, &self.plan.namespace).await?;
                let rollouts = service::with_planned(&live, self.planned_rollouts());
                if let Some(hash) = service::hash_to_carry(&object.name, found, &rollouts) {
                    service::carry(&mut body, hash);
                }
            }
            _ => {}
        }
        Ok(body)
    }

    /// An autoscaler of this Rollout is listed and not in the plan.
    fn loses_autoscaler(&self, rollout: &ObjectRef, stored: &Stored) -> bool {
        self.leaving_autoscalers(stored)
            .any(|entry| entry.scales == rollout.name)
    }

    fn leaving_autoscalers<'s>(&'s self, stored: &'s Stored) -> impl Iterator<Item = &'s applied_set::Entry> {
        let planned = |object: &ObjectRef| {
            self.plan
                .objects
                .iter()
                .any(|planned| planned.object() == *object)
        };
        stored
            .set
            .entries
            .iter()
            .filter(move |entry| is_autoscaler(&entry.object) && !planned(&entry.object))
    }

    /// Autoscalers that leave go before the Rollouts get their declared replicas, else they would undo them.
    ///
    /// They stay listed until the plan is finished, so that a repeated apply still knows of them.
    async fn dismiss_autoscalers(&self, stored: &Stored) -> Result<(), ExecutorError> {
        let leaving: Vec<_> = self
            .leaving_autoscalers(stored)
            .filter(|entry| !entry.uid.is_empty())
            .collect();
        for entry in leaving {
            let object = &entry.object;
            fenced(&self.api, self.apply).await?;
            self.news.say(format!("deleting {object}, which left the plan"));
            let resource = self
                .kinds
                .of_version(&self.api, &entry.api_version, &object.kind)
                .await;
            let resource = resource.map_err(|problem| problem.into_error("delete", object))?;
            let deleted = self.api.delete(&resource.path(object), &entry.uid).await;
            deleted.map_err(|problem| problem.into_error("delete", object))?;
        }
        Ok(())
    }

    fn planned_rollouts(&self) -> impl Iterator<Item = &Value> {
        let bodies = self.plan.objects.iter().map(|planned| &planned.body);
        bodies.filter(|body| Stage::of(&ObjectRef::of(body)) == Stage::Rollouts)
    }

    /// Services that no Rollout of the plan names any more, now that these are applied, select all pods again.
    ///
    /// The controller takes its hash off a Service only when the Rollout is deleted; left there, a Service of
    /// a Rollout that is no longer blue/green would lose its pods with the old version.
    async fn release_services(&self) -> Result<(), ExecutorError> {
        for index in self.members(Stage::Services) {
            let object = self.plan.objects[index].object();
            if self
                .planned_rollouts()
                .any(|rollout| service::is_named_by(rollout, &object.name))
            {
                continue;
            }
            let found = self.api.find(&self.resources[index].path(&object)).await;
            let found = found.map_err(|problem| problem.into_error("get", &object))?;
            if found.as_ref().and_then(service::selected_hash).is_some() {
                self.news
                    .say(format!("{object}: no rollout points it at one version any more"));
                self.apply_one(index, Hold::AsOrdered).await?;
            }
        }
        Ok(())
    }

    /// The active Service of a blue/green Rollout must select the stable revision before the apply.
    async fn active_service_is_right(&self, live: &Value, body: &Value) -> Result<(), ExecutorError> {
        let Some((name, stable)) = service::active_of(body, live) else {
            return Ok(());
        };
        let object = ObjectRef::new("", "Service", &self.plan.namespace, name);
        let Some(resource) = kinds::well_known("", "Service") else {
            return Ok(());
        };
        for _ in 0..ACTIVE_LOOKS.0 {
            let found = self.api.find(&resource.path(&object)).await;
            let found = found.map_err(|problem| problem.into_error("get", &object))?;
            let selected = found.as_ref().and_then(service::selected_hash);
            // A promotion that is under way moves the Service before stableRS follows.
            let current = live["status"]["currentPodHash"].as_str();
            if selected == Some(stable) || (selected.is_some() && selected == current) {
                return Ok(());
            }
            self.news.say(format!("waiting until {object} selects {stable}"));
            let planned = self
                .plan
                .objects
                .iter()
                .position(|planned| planned.object() == object);
            if let Some(index) = planned {
                Box::pin(self.apply_one(index, Hold::AsOrdered)).await?;
            }
            tokio::time::sleep(ACTIVE_LOOKS.1).await;
        }
        Err(rejected(
            &object,
            format!(
                "its selector has no {}={stable}: without it the new version would go live without a gate",
                POD_TEMPLATE_HASH
            ),
        ))
    }

    /// Puts a live pod template right where an apply alone would not; tells whether it did.
    ///
    /// Fields that somebody else added survive a forced apply, and a list that the controller owns
    /// parts of cannot be removed by one.
    async fn heal_template(
        &self,
        path: &str,
        object: &ObjectRef,
        live: &Value,
        body: &Value,
    ) -> Result<bool, ExecutorError> {
        let declared = &body["spec"]["template"];
        if declared.is_null() || template::difference(declared, &live["spec"]["template"]).is_none() {
            return Ok(false);
        }
        let operation = match self.api.patch(path, Patch::ApplyDryRun, body).await {
            Ok(result) if template::difference(declared, &result["spec"]["template"]).is_none() => {
                return Ok(false);
            }
            Ok(_) => json!({"op": "replace", "path": "/spec/template", "value": declared}),
            Err(problem)
                if problem.message.contains("initContainers") && problem.message.contains("\"null\"") =>
            {
                json!({"op": "remove", "path": "/spec/template/spec/initContainers"})
            }
            // Somebody was faster: the apply itself will meet that.
            Err(problem) if problem.is_conflict() => return Ok(false),
            Err(problem) => return Err(problem.into_error("patch", object)),
        };
        self.news.say(format!(
            "{object}: removing fields of its pod template that the plan does not have"
        ));
        let test = json!({"op": "test", "path": "/metadata/resourceVersion", "value": live::version(live)});
        match self.api.patch(path, Patch::Json, &json!([test, operation])).await {
            Ok(_) => Ok(true),
            // A failed test is a 422 without useful words: read again.
            Err(problem) if problem.is_conflict() || problem.status == 422 => {
                stand_back().await;
                Ok(true)
            }
            Err(problem) => Err(problem.into_error("patch", object)),
        }
    }

    /// Writes the uids of created objects down.
    async fn learn(
        &self,
        stored: Stored,
        created: &BTreeMap<ObjectRef, String>,
    ) -> Result<Stored, ExecutorError> {
        let mut stored = stored;
        for _ in 0..CONFLICTS {
            let mut set = stored.set.clone();
            if !set.learn(created) {
                return Ok(stored);
            }
            match applied_set::write(&self.api, &self.apply.set, Some(&stored), set).await {
                Ok(stored) => return Ok(stored),
                Err(problem) if problem.is_conflict() => stand_back().await,
                Err(problem) => {
                    return Err(problem.into_error("patch", &applied_set::object(&self.apply.set)));
                }
            }
            stored = fenced(&self.api, self.apply).await?;
        }
        Err(ExecutorError::Contended {
            object: applied_set::object(&self.apply.set),
        })
    }

    /// Waits for what the next stage needs.
    async fn hold(&self, stage: Stage, members: &[usize]) -> Result<(), ExecutorError> {
        match stage {
            Stage::Definitions | Stage::Namespace => {
                for index in members.iter().copied() {
                    let object = self.plan.objects[index].object();
                    wait::until_usable(self, &object, &self.resources[index]).await?;
                }
                Ok(())
            }
            Stage::Rollouts | Stage::Workloads => wait::until_observed(self, stage).await,
            _ => Ok(()),
        }
    }

    /// Looks at created objects once more: an older command that saw them absent too may have come after.
    async fn verify(&self, created: &BTreeMap<ObjectRef, String>) -> Result<(), ExecutorError> {
        for (index, planned) in self.plan.objects.iter().enumerate() {
            if created.contains_key(&planned.object()) && !self.is_from(index, &[self.apply.stamp]).await? {
                self.apply_one(index, Hold::AsOrdered).await?;
            }
        }
        Ok(())
    }

    /// Tells whether an object was last applied with one of these stamps.
    pub(crate) async fn is_from(&self, index: usize, stamps: &[Stamp]) -> Result<bool, ExecutorError> {
        let object = self.plan.objects[index].object();
        let found = self.api.find(&self.resources[index].path(&object)).await;
        let found = found.map_err(|problem| problem.into_error("get", &object))?;
        let stamp = found
            .as_ref()
            .map(|live| &live["metadata"]["annotations"][PLAN_ANNOTATION]);
        Ok(stamp.is_some_and(|stamp| stamps.iter().any(|known| *stamp == known.to_string().as_str())))
    }

    /// What was changed, by this delivery or an earlier one.
    pub(crate) fn outcome(&self, stored: &Stored) -> Applied {
        let is_changed = |object: &ObjectRef| stored.set.entry(object).is_some_and(|entry| entry.changed);
        let changed = self
            .plan
            .objects
            .iter()
            .filter(|planned| is_changed(&planned.object()))
            .count();
        Applied {
            changed: u32::try_from(changed).unwrap_or(u32::MAX),
            unchanged: u32::try_from(self.plan.objects.len() - changed).unwrap_or(u32::MAX),
            ..Applied::default()
        }
    }
}

/// On the way back no old pod goes before a new one is there; where there is no surge that cannot be.
fn take_nothing_away_first(body: &mut Value) {
    // Blue/green takes nothing away before it is redirected, and has no such bound.
    let Some(canary) = body
        .pointer_mut("/spec/strategy/canary")
        .filter(|canary| canary.is_object())
    else {
        return;
    };
    let surge = &canary["maxSurge"];
    if surge != 0 && surge != "0" && surge != "0%" {
        canary["maxUnavailable"] = json!(0);
    }
}

/// What was replaced on the way back is of no use to anybody: gates before its end, for which the plan may
/// keep an old version for a year, are not asked.
fn keep_what_failed_no_longer(body: &mut Value) {
    let delay = body.pointer_mut("/spec/strategy/blueGreen/scaleDownDelaySeconds");
    if let Some(delay) = delay
        && delay.as_u64().is_some_and(|seconds| seconds > ENDS_AFTER)
    {
        *delay = json!(ENDS_AFTER);
    }
}

pub(crate) fn foreign(object: &ObjectRef, live: &Value) -> ExecutorError {
    let message = format!(
        "{object} is not the one of the applied set: it belongs to {}",
        live::writers(live)
    );
    ExecutorError::Foreign {
        objects: vec![aurora_core::command::FailureDetail {
            object: object.clone(),
            message,
        }],
    }
}

/// A short random wait, so that two writers do not meet again.
pub(crate) async fn stand_back() {
    let share = u32::try_from(random() >> 32).unwrap_or(u32::MAX);
    tokio::time::sleep(CONFLICT_WAIT.mul_f64(f64::from(share) / f64::from(u32::MAX))).await;
}
