//! One reconcile of one valid Rollout: from what is there to the next writes.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::sim::{
    objects::{ObjectError, Objects},
    resource::ROLLOUTS,
};

use super::{
    PACE,
    conditions::{self, Facts},
    pause::{self, Pausing},
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
    restarted_at: Option<String>,
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
        }
    }

    /// # Errors
    /// What the store refused; the reconcile is then tried again later.
    pub(super) async fn run(mut self) -> Result<Next, ObjectError> {
        self.note_pause().await;
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

    fn live(&self) -> Option<Arc<Value>> {
        self.objects.get(
            &ROLLOUTS,
            meta::namespace(&self.rollout),
            meta::name(&self.rollout),
        )
    }

    fn has_new_revision(&self) -> bool {
        self.before.current_pod_hash != self.spec.template_hash
            || self.before.current_step_hash != self.spec.step_hash
    }

    /// Whether somebody changed `spec.replicas` since the pods were last counted out.
    fn is_scaling_event(&self) -> bool {
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
        if is_paused != before.condition_is("Paused", "True") {
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
    async fn ensure_new(&mut self) -> Result<(), ObjectError> {
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

    fn new_name(&self) -> String {
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
            object["metadata"]["annotations"][REVISION] = wanted.clone().into();
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

    /// Computes the new status, writes it, and says when to look again.
    async fn finish(mut self) -> Next {
        sleep(PACE).await;
        let mut after = self.base_status();
        self.decide(&mut after);
        let generation = meta::int(&self.rollout, "/metadata/generation").unwrap_or(1);
        let revision = self.new.as_ref().map_or(0, |new| new.revision);
        let now = self.objects.now();
        let new_name = self.new_name();
        let failure = self.all_sets().iter().find_map(|set| {
            let conditions = &set.object["status"]["conditions"];
            meta::condition(conditions, "ReplicaFailure").cloned()
        });
        let facts = Facts {
            spec: &self.spec,
            before: &self.before,
            generation,
            revision,
            new_name: &new_name,
            failure,
            now,
        };
        let findings = conditions::calculate(&facts, &mut after, &mut self.pausing);
        self.pausing.apply(&self.before, &mut after, now);
        after.observed_generation = generation.to_string();
        let (phase, message) = after.phase(&self.spec);
        after.phase = phase.to_owned();
        after.message = message;
        persist(self.objects, &self.rollout, &self.before, &after);
        self.tell(&after, &findings, revision);
        self.next_look(&after)
    }

    /// Counters and hashes, before anything is decided.
    fn base_status(&self) -> Status {
        let sets = self.all_sets();
        let sum = |count: fn(&ReplicaSet) -> i64| sets.iter().map(|set| count(set)).sum::<i64>();
        let mut after = self.before.clone();
        conditions::remove(&mut after, "InvalidSpec");
        after.current_pod_hash.clone_from(&self.spec.template_hash);
        after.current_step_hash.clone_from(&self.spec.step_hash);
        after.replicas = sum(|set| set.replicas);
        after.hpa_replicas = after.replicas;
        after.ready_replicas = sum(|set| set.ready);
        after.available_replicas = sum(|set| set.available);
        after.updated_replicas = self.new.as_ref().map_or(0, |new| new.replicas);
        after.restarted_at.clone_from(&self.restarted_at);
        after.selector = labels_text(&self.rollout["spec"]["selector"]["matchLabels"]);
        after.promote_full = after.current_pod_hash != after.stable_rs && self.before.promote_full;
        after
    }

    /// Moves the step index, stable hash and pauses on.
    fn decide(&mut self, after: &mut Status) {
        let count = self.spec.step_count();
        if self.has_new_revision() {
            self.pausing.clear_pauses = true;
            self.pausing.remove_abort = true;
            after.restarted_at.clone_from(&self.spec.restart_at);
            after.promote_full = false;
            after.current_step_index = count.map(|_| 0);
            let back_to_stable = self.new.is_some() && after.stable_rs == self.spec.template_hash;
            if let (true, Some(count)) = (back_to_stable, count) {
                after.current_step_index = Some(count);
                record(
                    self.objects,
                    &self.rollout,
                    false,
                    "SkipSteps",
                    "Rollback to stable ReplicaSets",
                );
            }
            return;
        }
        if self.before.promote_full {
            self.pausing.clear_pauses = true;
            self.pausing.remove_abort = true;
            after.current_step_index = count;
        }
        if self.pausing.is_aborted(&self.before) && after.stable_rs == after.current_pod_hash {
            // Nothing is left to abort.
            self.pausing.remove_abort = true;
        }
        if let Some(reason) = self.reason_to_promote() {
            self.promote(after, &reason);
            return;
        }
        if self.pausing.is_aborted(&self.before) {
            after.current_step_index = count.map(|_| 0);
            return;
        }
        if after.promote_full {
            return;
        }
        let index = self.before.step_index();
        after.current_step_index = count.map(|_| index);
        if self.is_step_done(index) {
            after.current_step_index = Some(index + 1);
            self.pausing.remove_pause = true;
            let name = usize::try_from(index)
                .ok()
                .and_then(|index| self.spec.step_names.get(index));
            let message = format!(
                "Rollout step {}/{} completed ({})",
                index + 1,
                count.unwrap_or(0),
                name.map(String::as_str).unwrap_or_default()
            );
            record(
                self.objects,
                &self.rollout,
                false,
                "RolloutStepCompleted",
                &message,
            );
        }
    }

    fn reason_to_promote(&self) -> Option<String> {
        if self.stable.is_none() {
            return Some("Initial deploy".to_owned());
        }
        let all_available = self
            .new
            .as_ref()
            .is_some_and(|new| new.available == self.spec.replicas);
        if self.pausing.is_aborted(&self.before) || !all_available {
            return None;
        }
        if self.before.promote_full {
            return Some("Full promotion requested".to_owned());
        }
        let count = self.spec.step_count();
        let is_stable = self.before.stable_rs == self.spec.template_hash;
        (is_stable || count.is_none() || self.before.current_step_index == count)
            .then(|| format!("Completed all {} canary steps", count.unwrap_or(0)))
    }

    fn promote(&mut self, after: &mut Status, reason: &str) {
        self.pausing.clear_pauses = true;
        self.pausing.remove_abort = true;
        after.promote_full = false;
        after.current_step_index = self.spec.step_count();
        if after.stable_rs != after.current_pod_hash {
            after.stable_rs.clone_from(&after.current_pod_hash);
            let revision = self.new.as_ref().map_or(0, |new| new.revision);
            let hash = &after.current_pod_hash;
            let message = format!("Rollout completed update to revision {revision} ({hash}): {reason}");
            record(self.objects, &self.rollout, false, "RolloutCompleted", &message);
        }
    }

    fn is_step_done(&self, index: i64) -> bool {
        if self.spec.paused {
            return false;
        }
        match self.spec.step(index) {
            None => false,
            Some(Step::Pause(duration)) => Pausing::is_pause_over(&self.before, duration, self.objects.now()),
            Some(Step::SetWeight(_)) => scale::is_at_weight(self),
        }
    }

    fn tell(&self, after: &Status, findings: &conditions::Findings, revision: i64) {
        let say = |warning: bool, reason: &str, message: &str| {
            record(self.objects, &self.rollout, warning, reason, message);
        };
        if findings.update_started {
            let hash = &after.current_pod_hash;
            let message = format!("Rollout not completed, started update to revision {revision} ({hash})");
            say(false, "RolloutNotCompleted", &message);
        }
        for message in &findings.aborted {
            say(true, "RolloutAborted", message);
        }
        match (
            self.before.pause_conditions.first(),
            after.pause_conditions.first(),
        ) {
            (None, Some(now)) => say(
                false,
                "RolloutPaused",
                &format!("Rollout is paused ({})", now.reason),
            ),
            (Some(_), None) if !after.abort => say(false, "RolloutResumed", conditions::RESUMED_MESSAGE),
            _ => {}
        }
    }

    fn next_look(&self, after: &Status) -> Next {
        let now = self.objects.now();
        let until = |time: jiff::Timestamp| {
            let left = Duration::try_from(time.duration_since(now)).unwrap_or_default();
            left + Duration::from_millis(2)
        };
        if let Some(Step::Pause(duration)) = self.spec.step(after.step_index()) {
            let end = after
                .canary_pause()
                .zip(duration)
                .and_then(|(paused, it)| pause::ends_at(paused, it));
            return end.map_or(Next::Done, |end| Next::After(until(end)));
        }
        if after.phase == "Healthy" || after.phase == "Degraded" || self.spec.paused {
            return Next::Done;
        }
        let deadline = conditions::deadline(&self.spec, after);
        deadline.map_or(Next::Done, |deadline| {
            Next::After(until(deadline + Duration::from_secs(1)))
        })
    }
}

fn labels_text(labels: &Value) -> String {
    let empty = json!({});
    let pairs = labels.as_object().or(empty.as_object()).into_iter().flatten();
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.join(",")
}
