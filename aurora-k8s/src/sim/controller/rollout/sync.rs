//! One reconcile of one valid Rollout: from what is there to the next writes.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::sim::{
    objects::{ObjectError, Objects},
    resource::ROLLOUTS,
};

use super::{
    PACE, blue_green, conditions,
    pause::Pausing,
    persist, record, restart,
    revision::{self, REVISION, ReplicaSet},
    scale, service,
    spec::{Spec, Step},
    status::Status,
};
use crate::sim::controller::{canonical, meta, queue::Next, write};

/// What a reconcile knows and decides.
#[derive(Debug)]
pub(super) struct Sync<'a> {
    pub(super) objects: &'a Objects,
    pub(super) rollout: Arc<Value>,
    pub(super) spec: Spec,
    /// The status as it was read; patches are computed against it.
    pub(super) before: Status,
    pub(super) pausing: Pausing,
    /// The ReplicaSets as they were read: what is written in this reconcile is seen in the next one.
    pub(super) new: Option<ReplicaSet>,
    pub(super) stable: Option<ReplicaSet>,
    pub(super) others: Vec<ReplicaSet>,
    pub(super) restarted_at: Option<String>,
    /// What the Services of a blue/green Rollout select, as far as this reconcile knows.
    pub(super) selected: blue_green::Selected,
}

impl<'a> Sync<'a> {
    pub(super) fn new(objects: &'a Objects, rollout: Arc<Value>) -> Self {
        let spec = Spec::of(&rollout);
        let before = Status::of(&rollout);
        let (mut new, mut stable, mut others) = (None, None, Vec::new());
        for set in revision::list(objects, &rollout) {
            let is_stable = !before.stable_rs.is_empty() && set.hash == before.stable_rs;
            let is_new = set.hash == spec.template_hash;
            if is_stable {
                stable = Some(set.clone());
            }
            if is_new {
                new = Some(set.clone());
            }
            if !is_stable && !is_new {
                others.push(set);
            }
        }
        let restarted_at = before.restarted_at.clone();
        Self {
            objects,
            rollout,
            spec,
            before,
            pausing: Pausing::default(),
            new,
            stable,
            others,
            restarted_at,
            selected: blue_green::Selected::default(),
        }
    }

    /// # Errors
    /// What the store refused; the reconcile is then tried again later.
    pub(super) async fn run(mut self) -> Result<Next, ObjectError> {
        self.note_pause().await;
        if let Some(blue_green) = self.spec.blue_green.clone() {
            return self.run_blue_green(&blue_green).await;
        }
        if self.is_scaling_event() {
            scale::reconcile(&self)?;
            return Ok(self.finish().await);
        }
        if self.has_new_revision() {
            self.ensure_new().await?;
            // Whatever was asked of the old revision until now is dropped.
            if let Some(live) = self.live() {
                self.before = Status::of(&live);
            }
            return Ok(self.finish().await);
        }
        self.ensure_new().await?;
        let restart_next = restart::reconcile(&mut self);
        revision::trim_history(self.objects, &self.others, self.spec.revision_history_limit);
        service::point(&self);
        if !scale::reconcile(&self)? {
            self.reconcile_pause();
        }
        let next = self.finish().await;
        Ok(match (next, restart_next) {
            (Next::Done, Some(after)) => Next::After(after),
            (Next::After(one), Some(other)) => Next::After(one.min(other)),
            (next, _) => next,
        })
    }

    /// Every ReplicaSet of the Rollout, each once.
    pub(super) fn all_sets(&self) -> Vec<&ReplicaSet> {
        let stable = self
            .stable
            .as_ref()
            .filter(|it| self.new.as_ref().is_none_or(|new| new.name != it.name));
        self.new.iter().chain(stable).chain(&self.others).collect()
    }

    /// Marks the pods as restarted.
    pub(super) fn set_restarted(&mut self) {
        self.restarted_at.clone_from(&self.spec.restart_at);
    }

    pub(super) fn live(&self) -> Option<Arc<Value>> {
        self.objects.get(
            &ROLLOUTS,
            meta::namespace(&self.rollout),
            meta::name(&self.rollout),
        )
    }

    pub(super) fn has_new_revision(&self) -> bool {
        self.before.current_pod_hash != self.spec.template_hash
            || self.before.current_step_hash != self.spec.step_hash
    }

    /// Whether somebody changed `spec.replicas` since the pods were last counted out.
    pub(super) fn is_scaling_event(&self) -> bool {
        let sets = self.all_sets();
        sets.iter()
            .any(|set| set.wanted > 0 && set.desired().is_some_and(|it| it != self.spec.replicas))
    }

    /// Writes the conditions of pausing, resuming and retrying ahead of everything else.
    async fn note_pause(&mut self) {
        let before = &self.before;
        let now = self.objects.now();
        let is_paused = !before.pause_conditions.is_empty() || self.spec.paused;
        let reason = before.reason_of("Progressing");
        let completed = !before.stable_rs.is_empty() && before.stable_rs == before.current_pod_hash;
        let aborted = reason == "RolloutAborted";
        let mut after = before.clone();
        let mut changed = false;
        if !completed && !aborted && is_paused != (reason == "RolloutPaused") {
            let (reason, message) = if is_paused {
                ("RolloutPaused", conditions::PAUSED_MESSAGE)
            } else {
                ("RolloutResumed", conditions::RESUMED_MESSAGE)
            };
            changed |= conditions::set(&mut after, now, "Progressing", "Unknown", reason, message);
        }
        if !before.abort && aborted {
            let message = conditions::RETRY_MESSAGE;
            changed |= conditions::set(&mut after, now, "Progressing", "Unknown", "RolloutRetry", message);
        }
        if !aborted && is_paused != before.condition_is("Paused", "True") {
            let value = if is_paused { "True" } else { "False" };
            let message = conditions::PAUSED_MESSAGE;
            changed |= conditions::set(&mut after, now, "Paused", value, "RolloutPaused", message);
        }
        if !changed {
            return;
        }
        sleep(PACE).await;
        after.observed_generation = self.rollout["metadata"]["generation"].to_string();
        let (phase, message) = after.phase(&self.spec);
        after.phase = phase.to_owned();
        after.message = message;
        persist(self.objects, &self.rollout, &self.before, &after);
        self.before = after;
    }

    /// Makes the ReplicaSet of the present template, or takes it up again, and keeps the revision.
    pub(super) async fn ensure_new(&mut self) -> Result<(), ObjectError> {
        let hash = self.spec.template_hash.clone();
        let others = self
            .all_sets()
            .into_iter()
            .filter(|set| set.hash != hash)
            .map(|set| set.revision)
            .max();
        let next_revision = others.unwrap_or(0) + 1;
        let min_ready = self.spec.min_ready_seconds;
        if let Some(new) = &self.new {
            let outdated = new.revision < next_revision;
            let revision = new.revision.max(next_revision);
            if outdated || meta::int(&new.object, "/spec/minReadySeconds").unwrap_or(0) != min_ready {
                sleep(PACE).await;
                let renewed = revision::renew(self.objects, new, revision, min_ready)?;
                self.replace_new(renewed);
            }
            self.write_revision(revision).await?;
            if self.before.condition("Progressing").is_none() {
                let message = format!("Found new replica set \"{}\"", self.new_name());
                self.write_progressing("True", "FoundNewReplicaSet", &message)
                    .await;
            }
            return Ok(());
        }
        sleep(PACE).await;
        match revision::create(
            self.objects,
            &self.rollout,
            &hash,
            next_revision,
            self.spec.replicas,
        ) {
            Ok(created) => self.replace_new(created),
            Err(error) => {
                let name = self.new_name();
                let message = format!("Failed to create new replica set \"{name}\": {error}");
                self.write_progressing("False", "ReplicaSetCreateError", &message)
                    .await;
                return Err(error);
            }
        }
        self.write_revision(next_revision).await?;
        let name = self.new_name();
        self.write_created(&format!("Created new replica set \"{name}\""))
            .await;
        let message = format!("Created ReplicaSet {name} (revision {next_revision})");
        record(
            self.objects,
            &self.rollout,
            false,
            "NewReplicaSetCreated",
            &message,
        );
        Ok(())
    }

    fn replace_new(&mut self, set: ReplicaSet) {
        if self.stable.as_ref().is_some_and(|stable| stable.name == set.name) {
            self.stable = Some(set.clone());
        }
        self.new = Some(set);
    }

    pub(super) fn new_name(&self) -> String {
        format!("{}-{}", meta::name(&self.rollout), self.spec.template_hash)
    }

    /// Writes the revision annotation; this rewrites the whole object in its canonical form.
    /// A spec that changed since it was read is left alone: the reconcile starts over.
    async fn write_revision(&mut self, revision: i64) -> Result<(), ObjectError> {
        let wanted = revision.to_string();
        if meta::annotation(&self.rollout, REVISION) == Some(wanted.as_str()) {
            return Ok(());
        }
        sleep(PACE).await;
        let (namespace, name) = (meta::namespace(&self.rollout), meta::name(&self.rollout));
        let read = meta::int(&self.rollout, "/metadata/generation");
        if self
            .live()
            .is_none_or(|live| meta::int(&live, "/metadata/generation") != read)
        {
            return Err(ObjectError::Conflict {
                resource: ROLLOUTS.qualified(),
                name: name.to_owned(),
                reason: "its spec changed while its revision was written".to_owned(),
            });
        }
        self.rollout = write::edit(self.objects, &ROLLOUTS, namespace, name, |object| {
            meta::put(object, &["metadata", "annotations", REVISION], wanted.clone());
            canonical::rollout_spec(&mut object["spec"]);
        })?;
        let message = format!("Rollout updated to revision {revision}");
        record(self.objects, &self.rollout, false, "RolloutUpdated", &message);
        Ok(())
    }

    /// Replaces the whole status by what the controller knows of it, so that flags somebody set to false and
    /// fields it does not know vanish.
    async fn write_created(&mut self, message: &str) {
        sleep(PACE).await;
        let (namespace, name) = (meta::namespace(&self.rollout), meta::name(&self.rollout));
        let now = self.objects.now();
        let written = write::edit_status(self.objects, &ROLLOUTS, namespace, name, |live| {
            let mut known = Status::of(&json!({"status": live}));
            conditions::set(
                &mut known,
                now,
                "Progressing",
                "True",
                "NewReplicaSetCreated",
                message,
            );
            *live = json!(known);
        });
        // A Rollout that vanished in between needs no status.
        if let Ok(written) = written {
            self.before = Status::of(&written);
        }
    }

    async fn write_progressing(&mut self, value: &str, reason: &str, message: &str) {
        sleep(PACE).await;
        let mut after = self.before.clone();
        conditions::set(
            &mut after,
            self.objects.now(),
            "Progressing",
            value,
            reason,
            message,
        );
        if value == "False" {
            after.observed_generation = self.rollout["metadata"]["generation"].to_string();
        }
        persist(self.objects, &self.rollout, &self.before, &after);
        self.before = after;
    }

    /// Begins a pause step, once the steps before it are done.
    fn reconcile_pause(&mut self) {
        if self.spec.paused {
            return;
        }
        if let Some(Step::Pause(duration)) = self.spec.step(self.before.step_index())
            && duration != Some(0)
            && self.before.canary_pause().is_none()
            && !self.before.controller_pause
        {
            self.pausing.add_pause = true;
        }
    }
}
