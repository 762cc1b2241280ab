//! Blue/green: the new ReplicaSet at full size beside the stable one, then one switch of the active Service.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    finish::labels_text,
    pause, restart,
    revision::{self, ReplicaSet},
    service,
    status::{BLUE_GREEN_PAUSE, Status},
    sync::Sync,
};
use crate::sim::{
    controller::{meta, queue::Next},
    objects::{ObjectError, later},
    resource::SERVICES,
};

/// How long a ReplicaSet that is not needed any more keeps its pods, where nothing else is said.
const DEFAULT_DELAY: i64 = 30;

/// `spec.strategy.blueGreen`.
#[derive(Clone, Debug)]
pub(super) struct BlueGreen {
    active_service: String,
    preview_service: Option<String>,
    auto_promotion: bool,
    auto_seconds: i64,
    preview_replicas: Option<i64>,
    delay: i64,
    /// None: an aborted preview is never scaled down.
    abort_delay: Option<i64>,
    revision_limit: Option<usize>,
}

/// The hashes that the Services select; empty where they select none.
#[derive(Clone, Debug, Default)]
pub(super) struct Selected {
    active: String,
    preview: String,
}

impl BlueGreen {
    /// Reads a strategy; none when there is none.
    pub(super) fn by(strategy: &Value) -> Option<Self> {
        let text = |field: &str| strategy[field].as_str().filter(|text| !text.is_empty());
        let seconds = |field: &str, default: i64| strategy[field].as_i64().unwrap_or(default);
        let limit = strategy["scaleDownDelayRevisionLimit"].as_i64();
        strategy.is_object().then(|| Self {
            active_service: text("activeService").unwrap_or_default().to_owned(),
            preview_service: text("previewService").map(str::to_owned),
            auto_promotion: strategy["autoPromotionEnabled"] != false,
            auto_seconds: seconds("autoPromotionSeconds", 0),
            preview_replicas: strategy["previewReplicaCount"].as_i64().map(meta::count),
            delay: seconds("scaleDownDelaySeconds", DEFAULT_DELAY),
            abort_delay: Some(seconds("abortScaleDownDelaySeconds", DEFAULT_DELAY))
                .filter(|delay| *delay != 0),
            revision_limit: limit.map(|limit| usize::try_from(limit).unwrap_or(0)),
        })
    }

    /// Whether a Service shows the new version before its redirect.
    pub(super) const fn has_preview(&self) -> bool {
        self.preview_service.is_some()
    }

    /// When the present pause ends by itself.
    pub(super) fn pause_ends(&self, status: &Status) -> Option<Timestamp> {
        let paused = status.pause(BLUE_GREEN_PAUSE)?;
        (self.auto_promotion && self.auto_seconds > 0)
            .then(|| pause::ends_at(paused, self.auto_seconds))
            .flatten()
    }
}

impl Sync<'_> {
    /// # Errors
    /// What the store refused; the reconcile is then tried again later.
    pub(super) async fn run_blue_green(mut self, blue_green: &BlueGreen) -> Result<Next, ObjectError> {
        self.read_services(blue_green);
        if self.is_scaling_event() {
            self.scale_blue_green(blue_green)?;
            return Ok(self.finish().await);
        }
        let is_new = self.has_new_revision();
        self.ensure_new().await?;
        self.show_preview(blue_green);
        if is_new {
            // Whatever was asked of the old revision until now is dropped.
            if let Some(live) = self.live() {
                self.before = Status::of(&live);
            }
            return Ok(self.finish().await);
        }
        let restart_next = restart::reconcile(&mut self);
        revision::trim_history(self.objects, &self.others, self.spec.revision_history_limit);
        self.scale_blue_green(blue_green)?;
        self.pause_before_redirect(blue_green);
        self.redirect(blue_green);
        let next = self.finish().await;
        Ok(match (next, restart_next) {
            (Next::Done, Some(after)) => Next::After(after),
            (Next::After(one), Some(other)) => Next::After(one.min(other)),
            (next, _) => next,
        })
    }

    fn read_services(&mut self, blue_green: &BlueGreen) {
        let namespace = meta::namespace(&self.rollout);
        let selected = |name: &str| service::selected(self.objects, namespace, name);
        let preview = blue_green.preview_service.as_deref().map(selected);
        self.selected = Selected {
            active: selected(&blue_green.active_service),
            preview: preview.unwrap_or_default(),
        };
    }

    fn show_preview(&mut self, blue_green: &BlueGreen) {
        if let (Some(name), Some(new)) = (&blue_green.preview_service, &self.new) {
            let hash = new.hash.clone();
            self.point_at(name, &hash);
            self.selected.preview = hash;
        }
    }

    fn point_at(&self, name: &str, hash: &str) {
        let namespace = meta::namespace(&self.rollout);
        if let Some(service) = self.objects.get(&SERVICES, namespace, name) {
            service::select(self, &service, hash);
        }
    }

    /// Keeps the active ReplicaSet at full size, brings the new one to its size, and lets others go in time.
    fn scale_blue_green(&self, blue_green: &BlueGreen) -> Result<(), ObjectError> {
        let now = self.objects.now();
        let delays_new = self.delays_aborted(blue_green);
        for set in self.all_sets() {
            let is_new = self.new.as_ref().is_some_and(|new| new.name == set.name);
            let is_stable = self.stable.as_ref().is_some_and(|stable| stable.name == set.name);
            if set.deadline.is_some() && ((is_new && !delays_new) || (is_stable && !is_new)) {
                revision::set_deadline(self.objects, set, None)?;
            }
        }
        let scale = |set: &ReplicaSet, count: i64| {
            revision::scale(self.objects, &self.rollout, set, count, self.spec.replicas)
        };
        let active = self
            .all_sets()
            .into_iter()
            .find(|set| set.hash == self.selected.active);
        if let Some(active) = active.filter(|_| !self.selected.active.is_empty()) {
            scale(active, self.spec.replicas)?;
        }
        if let Some(new) = self
            .new
            .as_ref()
            .filter(|new| active.is_none_or(|it| it.name != new.name))
        {
            let mut count = self.wanted_preview(blue_green);
            if let (true, Some(delay)) = (delays_new, blue_green.abort_delay) {
                count = match new.deadline {
                    None if new.wanted > 0 => {
                        revision::set_deadline(self.objects, new, Some(after(now, delay)))?;
                        new.wanted
                    }
                    Some(end) if end > now => new.wanted,
                    _ => 0,
                };
            }
            scale(new, count)?;
        }
        self.let_others_go(blue_green, now)
    }

    fn let_others_go(&self, blue_green: &BlueGreen, now: Timestamp) -> Result<(), ObjectError> {
        let mut kept = 0;
        let limit = blue_green.revision_limit.unwrap_or(usize::MAX);
        for set in self.others.iter().rev().filter(|set| set.wanted > 0) {
            if self.is_referenced(set) {
                continue;
            }
            kept += 1;
            let count = match set.deadline {
                _ if kept > limit => 0,
                None => {
                    revision::set_deadline(self.objects, set, Some(after(now, blue_green.delay)))?;
                    set.wanted
                }
                Some(end) if end > now => self.spec.replicas,
                Some(_) => 0,
            };
            if count != set.wanted {
                revision::scale(self.objects, &self.rollout, set, count, self.spec.replicas)?;
            }
        }
        Ok(())
    }

    /// Whether status or Services name a ReplicaSet.
    fn is_referenced(&self, set: &ReplicaSet) -> bool {
        let named = [
            self.before.stable_rs.as_str(),
            self.before.current_pod_hash.as_str(),
            self.before.selector("activeSelector"),
            self.before.selector("previewSelector"),
            &self.selected.active,
            &self.selected.preview,
        ];
        named.contains(&set.hash.as_str())
    }

    /// Whether the pods of an aborted preview are kept for a while, or for good.
    fn delays_aborted(&self, blue_green: &BlueGreen) -> bool {
        let is_other = |new: &ReplicaSet| self.stable.as_ref().is_some_and(|stable| stable.name != new.name);
        self.pausing.is_aborted(&self.before)
            && blue_green.abort_delay.is_some()
            && self.new.as_ref().is_some_and(is_other)
    }

    /// How many pods the new ReplicaSet should have now.
    fn wanted_preview(&self, blue_green: &BlueGreen) -> i64 {
        let Some(preview) = blue_green.preview_replicas else {
            return self.spec.replicas;
        };
        let active = self.before.selector("activeSelector");
        let is_past = active.is_empty() || active == self.spec.template_hash;
        let is_paused = self.spec.paused || !self.before.pause_conditions.is_empty();
        let may_grow = self.before.may_scale_up_preview()
            && !is_paused
            && self.spec.template_hash == self.before.current_pod_hash;
        if is_past || self.before.promote_full || may_grow {
            self.spec.replicas
        } else {
            preview
        }
    }

    /// Whether the new ReplicaSet has the pods that it should have before the redirect, all available.
    fn is_ready_for_redirect(&self, blue_green: &BlueGreen) -> bool {
        let wanted = self.wanted_preview(blue_green);
        let new = self.new.as_ref();
        new.is_some_and(|new| new.wanted == wanted && new.available == wanted)
    }

    /// Whether nobody is asked: the revision is stable already, promoted in full, or one that served before.
    fn is_fast_tracked(&self) -> bool {
        self.before.promote_full
            || self.spec.template_hash == self.before.stable_rs
            || self.is_fast_rollback()
    }

    /// Whether the revision is older than the stable one and its pods were kept until now.
    fn is_fast_rollback(&self) -> bool {
        let both = self.new.as_ref().zip(self.stable.as_ref());
        both.is_some_and(|(new, stable)| {
            let older = new
                .created
                .zip(stable.created)
                .is_some_and(|(new, stable)| new < stable);
            new.deadline.is_some() && older
        })
    }

    /// Begins or ends the pause before the redirect.
    fn pause_before_redirect(&mut self, blue_green: &BlueGreen) {
        if self.before.abort || self.spec.paused || !self.is_ready_for_redirect(blue_green) {
            return;
        }
        if self.is_fast_tracked() || self.selected.active == self.spec.template_hash {
            self.pausing.remove_pause = true;
            return;
        }
        if self.selected.active.is_empty() {
            return;
        }
        if self.before.pause(BLUE_GREEN_PAUSE).is_some() {
            self.pausing.remove_pause = self.is_pause_over(blue_green);
            return;
        }
        let waits = !blue_green.auto_promotion || blue_green.auto_seconds > 0;
        self.pausing.add_redirect_pause =
            waits && !self.before.controller_pause && !self.before.may_scale_up_preview();
    }

    /// Whether somebody took the pause away, its time is over, or there is none to be.
    fn is_pause_over(&self, blue_green: &BlueGreen) -> bool {
        if self.pausing.add_redirect_pause || self.spec.paused {
            return false;
        }
        match self.before.pause(BLUE_GREEN_PAUSE) {
            None => {
                self.before.controller_pause
                    || self.before.may_scale_up_preview()
                    || blue_green.auto_promotion
            }
            Some(_) => {
                let end = blue_green.pause_ends(&self.before);
                blue_green.auto_promotion && end.is_none_or(|end| self.objects.now() > end)
            }
        }
    }

    /// Switches the active Service once the new ReplicaSet has all its pods and nothing holds it.
    fn redirect(&mut self, blue_green: &BlueGreen) {
        let full = |set: &ReplicaSet| set.wanted == self.spec.replicas && set.available == self.spec.replicas;
        if self.before.abort {
            let stable = self.before.stable_rs.clone();
            if self.selected.active != stable && !stable.is_empty() {
                self.point_at(&blue_green.active_service, &stable);
                self.selected.active = stable;
            }
            return;
        }
        if !self.is_ready_for_redirect(blue_green) || !self.new.as_ref().is_some_and(full) {
            return;
        }
        let first = self.selected.active.is_empty();
        if first || self.is_fast_tracked() || self.is_pause_over(blue_green) {
            let hash = self.spec.template_hash.clone();
            self.point_at(&blue_green.active_service, &hash);
            self.selected.active = hash;
        }
    }

    /// The blue/green part of a new status.
    pub(super) fn decide_blue_green(&mut self, blue_green: &BlueGreen, after: &mut Status) {
        let is_new = self.has_new_revision();
        if is_new {
            after.restarted_at.clone_from(&self.spec.restart_at);
            after.promote_full = false;
            after.current_step_index = None;
        }
        if is_new || self.before.promote_full {
            self.pausing.clear_pauses = true;
            self.pausing.remove_abort = true;
        }
        if self.pausing.is_aborted(&self.before) && after.stable_rs == after.current_pod_hash {
            // Nothing is left to abort.
            self.pausing.remove_abort = true;
        }
        let fields = [
            ("activeSelector", &self.selected.active),
            ("previewSelector", &self.selected.preview),
        ];
        for (field, hash) in fields {
            if hash.is_empty() {
                after.blue_green.remove(field);
            } else {
                after.blue_green.insert(field.to_owned(), hash.as_str().into());
            }
        }
        self.count_active(after);
        let grows = blue_green.preview_replicas.is_some()
            && !is_new
            && (self.before.may_scale_up_preview()
                || (self.is_ready_for_redirect(blue_green)
                    && !self.selected.active.is_empty()
                    && !self.before.abort
                    && self.is_pause_over(blue_green)));
        after.blue_green.remove("scaleUpPreviewCheckPoint");
        if let Some(reason) = self.reason_to_complete(after) {
            self.promote(after, reason);
        } else if grows {
            after
                .blue_green
                .insert("scaleUpPreviewCheckPoint".to_owned(), true.into());
        }
    }

    /// Users' pods are those of the active ReplicaSet, where there is one.
    fn count_active(&self, after: &mut Status) {
        if let Some(active) = self.active(after) {
            after.hpa_replicas = active.replicas;
            after.ready_replicas = active.ready;
            after.available_replicas = active.available;
            after.selector = labels_text(&active.object["spec"]["selector"]["matchLabels"]);
        }
    }

    fn active(&self, status: &Status) -> Option<&ReplicaSet> {
        let hash = status.selector("activeSelector");
        self.all_sets().into_iter().find(|set| set.hash == hash)
    }

    /// Whether the active ReplicaSet has all its pods; none for a canary.
    pub(super) fn active_is_available(&self, after: &Status) -> Option<bool> {
        self.spec.blue_green.as_ref().map(|_| {
            self.active(after)
                .is_some_and(|set| set.wanted == self.spec.replicas && set.available == self.spec.replicas)
        })
    }

    fn reason_to_complete(&self, after: &Status) -> Option<&'static str> {
        if self.stable.is_none() || self.selected.active.is_empty() {
            return Some("Initial deploy");
        }
        if self.selected.active != after.current_pod_hash {
            return None;
        }
        if self.before.promote_full {
            return Some("Full promotion requested");
        }
        if self.is_fast_rollback() {
            return Some("Fast rollback");
        }
        (!self.pausing.is_aborted(&self.before)).then_some("Completed blue-green update")
    }

    /// When the next scale-down delay ends.
    pub(super) fn next_delay(&self, after: &Status) -> Option<Timestamp> {
        let leaving = |set: &&ReplicaSet| set.hash != after.stable_rs && set.wanted > 0;
        let sets = self.all_sets();
        sets.into_iter()
            .filter(leaving)
            .filter_map(|set| set.deadline)
            .min()
    }
}

fn after(now: Timestamp, seconds: i64) -> Timestamp {
    later(now, u64::try_from(seconds).unwrap_or(0))
}
