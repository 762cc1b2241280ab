//! What one reconcile decides about pausing and aborting, applied to the status at its end.

use jiff::Timestamp;

use crate::sim::objects::{later, seconds};

use super::{
    super::meta,
    status::{BLUE_GREEN_PAUSE, CANARY_PAUSE, PauseCondition, Status},
};

/// Decisions of one reconcile.
#[derive(Clone, Debug, Default)]
pub(super) struct Pausing {
    pub(super) add_abort: bool,
    pub(super) remove_abort: bool,
    pub(super) add_pause: bool,
    /// Like `add_pause`, of a blue/green Rollout before its redirect.
    pub(super) add_redirect_pause: bool,
    pub(super) remove_pause: bool,
    pub(super) clear_pauses: bool,
}

impl Pausing {
    /// Whether the Rollout is aborted after what was decided so far.
    pub(super) fn is_aborted(&self, status: &Status) -> bool {
        (status.abort || self.add_abort) && !self.remove_abort
    }

    /// Whether a pause step is done: somebody took the condition away while the controller paused, or its
    /// time is over.
    pub(super) fn is_pause_over(status: &Status, duration: Option<i64>, now: Timestamp) -> bool {
        let paused = status.canary_pause();
        if status.controller_pause && paused.is_none() {
            return true;
        }
        match (duration, paused) {
            (Some(0), _) => true,
            (Some(seconds), Some(paused)) => ends_at(paused, seconds).is_some_and(|end| now > end),
            _ => false,
        }
    }

    /// Writes abort and pause fields of the new status, from those of the old one.
    pub(super) fn apply(&self, before: &Status, after: &mut Status, now: Timestamp) {
        after.abort = false;
        after.pause_conditions = Vec::new();
        after.controller_pause = false;
        if self.is_aborted(before) {
            after.abort = true;
            after.aborted_at = Some(before.aborted_at.clone().unwrap_or_else(|| seconds(now)));
            return;
        }
        after.aborted_at = None;
        if self.clear_pauses {
            return;
        }
        let kept = before.pause_conditions.iter().filter(|it| {
            !(self.remove_pause && [CANARY_PAUSE, BLUE_GREEN_PAUSE].contains(&it.reason.as_str()))
        });
        after.pause_conditions = kept.cloned().collect();
        let mut controller_pause = before.controller_pause;
        let added = [
            (self.add_pause, CANARY_PAUSE),
            (self.add_redirect_pause, BLUE_GREEN_PAUSE),
        ];
        for (_, reason) in added
            .iter()
            .filter(|(add, reason)| *add && before.pause(reason).is_none())
        {
            let condition = PauseCondition {
                reason: (*reason).to_owned(),
                start_time: seconds(now),
            };
            after.pause_conditions.push(condition);
            controller_pause = true;
        }
        after.controller_pause = controller_pause && !after.pause_conditions.is_empty();
    }
}

/// When a timed pause ends; its start has whole seconds.
pub(super) fn ends_at(paused: &PauseCondition, duration: i64) -> Option<Timestamp> {
    let start = meta::time(&paused.start_time.clone().into())?;
    Some(later(start, u64::try_from(duration).unwrap_or(0)))
}
