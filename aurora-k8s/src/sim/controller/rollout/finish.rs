//! The end of a reconcile: the new status, what is told about it, and when to look again.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    PACE,
    conditions::{self, Facts},
    pause::{self, Pausing},
    persist, record,
    revision::ReplicaSet,
    scale,
    spec::Step,
    status::Status,
    sync::Sync,
};
use crate::sim::{
    controller::{meta, queue::Next},
    objects::later,
};

impl Sync<'_> {
    /// Computes the new status, writes it, and says when to look again.
    pub(super) async fn finish(mut self) -> Next {
        sleep(PACE).await;
        let mut after = self.base_status();
        if let Some(blue_green) = self.spec.blue_green.clone() {
            self.decide_blue_green(&blue_green, &mut after);
        } else {
            self.decide(&mut after);
        }
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
            available: self.active_is_available(&after),
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

    pub(super) fn promote(&mut self, after: &mut Status, reason: &str) {
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
        let delays_end = self.next_delay(after);
        if let Some(blue_green) = &self.spec.blue_green
            && !after.pause_conditions.is_empty()
        {
            let end = blue_green.pause_ends(after).into_iter().chain(delays_end).min();
            return end.map_or(Next::Done, |end| Next::After(until(end)));
        }
        if let Some(Step::Pause(duration)) = self.spec.step(after.step_index()) {
            let end = after
                .canary_pause()
                .zip(duration)
                .and_then(|(paused, it)| pause::ends_at(paused, it));
            return end.map_or(Next::Done, |end| Next::After(until(end)));
        }
        if after.phase == "Healthy" || after.phase == "Degraded" || self.spec.paused {
            return delays_end.map_or(Next::Done, |end| Next::After(until(end)));
        }
        let deadline = conditions::deadline(&self.spec, after);
        let deadline = deadline.into_iter().chain(delays_end).min();
        deadline.map_or(Next::Done, |deadline| Next::After(until(later(deadline, 1))))
    }
}

pub(super) fn labels_text(labels: &Value) -> String {
    let empty = json!({});
    let pairs = labels.as_object().or(empty.as_object()).into_iter().flatten();
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.join(",")
}
