//! A place where the news of one command wait for a slow reader: levels replace each other, nothing blocks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::command::{Outcome, Update};
use crate::manifest::ObjectRef;
use crate::progress::Progress;

/// Levels of at most so many objects are kept; those of further objects are lost, as a level may be.
const MAX_LEVELS: usize = 4096;

/// News of one command on their way to one reader: for routers, whose connection no reader may hold up.
#[derive(Debug, Default)]
pub struct Mailbox {
    slots: Mutex<Slots>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Slots {
    accepted: bool,
    stage: Option<(u32, u32, String)>,
    levels: BTreeMap<ObjectRef, Progress>,
    outcome: Option<Outcome>,
    /// An outcome was posted; what comes later is not heard.
    ended: bool,
    /// The outcome was taken.
    read_out: bool,
    /// Weight of progress that was posted and not yet given back as credit.
    owed: u64,
}

impl Mailbox {
    /// Adds news; after an outcome nothing more is heard. Tells whether it was heard.
    pub fn post(&self, update: Update) -> bool {
        let mut slots = self.slots();
        if slots.ended {
            return false;
        }
        match update {
            Update::Accepted => slots.accepted = true,
            Update::Finished(outcome) => {
                slots.ended = true;
                slots.outcome = Some(outcome);
            }
            Update::Progress(levels) => {
                for level in levels {
                    slots.owed += weight_of(&level);
                    if slots.levels.len() < MAX_LEVELS || slots.levels.contains_key(&level.object) {
                        slots.levels.insert(level.object.clone(), level);
                    }
                }
            }
            Update::Stage { done, total, doing } => {
                slots.owed += stage_weight(&doing);
                slots.stage = Some((done, total, doing));
            }
        }
        drop(slots);
        self.changed.notify_one();
        true
    }

    /// The next news, at most `limit` bytes of levels at once; `None` after the outcome.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&self, limit: u64) -> Option<Update> {
        loop {
            {
                let mut slots = self.slots();
                if slots.read_out {
                    return None;
                }
                if let Some(update) = slots.take(limit) {
                    return Some(update);
                }
            }
            self.changed.notified().await;
        }
    }

    /// Waits until there is something to take, without taking it.
    pub(crate) async fn ready(&self) {
        loop {
            {
                let slots = self.slots();
                if slots.read_out || slots.has_news() {
                    return;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Whether only progress waits, which needs credit; an outcome needs none.
    pub(crate) fn needs_credit(&self) -> bool {
        let slots = self.slots();
        !slots.accepted && slots.outcome.is_none() && slots.has_news()
    }

    /// The weight of progress taken or replaced since the last call, once nothing waits any more.
    pub(crate) fn settle(&self) -> u64 {
        let mut slots = self.slots();
        if slots.levels.is_empty() && slots.stage.is_none() {
            std::mem::take(&mut slots.owed)
        } else {
            0
        }
    }

    /// Waits until an outcome was posted.
    pub(crate) async fn ended(&self) {
        while !self.slots().ended {
            self.changed.notified().await;
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn has_news(&self) -> bool {
        self.accepted || self.stage.is_some() || !self.levels.is_empty() || self.outcome.is_some()
    }

    fn take(&mut self, limit: u64) -> Option<Update> {
        if std::mem::take(&mut self.accepted) {
            return Some(Update::Accepted);
        }
        if let Some((done, total, doing)) = self.stage.take() {
            return Some(Update::Stage { done, total, doing });
        }
        if !self.levels.is_empty() {
            let mut batch = Vec::new();
            let mut weight = 0;
            while let Some((_, level)) = self.levels.first_key_value() {
                weight += weight_of(level);
                if weight > limit && !batch.is_empty() {
                    break;
                }
                batch.extend(self.levels.pop_first().map(|(_, level)| level));
            }
            return Some(Update::Progress(batch));
        }
        let outcome = self.outcome.take()?;
        self.read_out = true;
        Some(Update::Finished(outcome))
    }
}

/// What an update weighs against credit: never less than its encoded bytes; 0 for what needs no credit.
pub(crate) fn update_weight(update: &Update) -> u64 {
    match update {
        Update::Accepted | Update::Finished(_) => 0,
        Update::Progress(levels) => levels.iter().map(weight_of).sum(),
        Update::Stage { doing, .. } => stage_weight(doing),
    }
}

fn stage_weight(doing: &str) -> u64 {
    32 + doing.len() as u64
}

fn weight_of(level: &Progress) -> u64 {
    let object = &level.object;
    let names = object.group.len() + object.kind.len() + object.namespace.len() + object.name.len();
    let texts = level.revision.len() + level.stable.len() + level.message.len();
    let expect = level.expect.as_ref().map_or(0, |token| token.as_str().len());
    let failing: usize = level
        .failing
        .iter()
        .map(|pod| {
            let log: usize = pod.log.iter().map(|line| line.len() + 8).sum();
            96 + pod.pod.len() + pod.container.len() + pod.reason.len() + pod.message.len() + log
        })
        .sum();
    let by = match &level.standing {
        crate::progress::Standing::ChangedElsewhere { by } => by.len(),
        _ => 0,
    };
    (192 + names + texts + expect + failing + by) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{PodCounts, Standing};

    fn level(name: &str, new: u32) -> Progress {
        Progress {
            object: ObjectRef::new("argoproj.io", "Rollout", "web", name),
            standing: Standing::Moving,
            revision: String::new(),
            stable: String::new(),
            step: None,
            weight: None,
            pods: PodCounts {
                new,
                ..PodCounts::default()
            },
            expect: None,
            message: String::new(),
            failing: Vec::new(),
            observed_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn a_slow_reader_sees_the_latest_level_and_then_the_outcome() {
        let mailbox = Mailbox::default();
        mailbox.post(Update::Accepted);
        for new in 0..1000 {
            mailbox.post(Update::Progress(vec![level("a", new), level("b", new)]));
        }
        mailbox.post(Update::Finished(Outcome::Cancelled));
        assert!(!mailbox.post(Update::Finished(Outcome::DeadlineExceeded)));
        assert_eq!(mailbox.next(u64::MAX).await, Some(Update::Accepted));
        let latest = Update::Progress(vec![level("a", 999), level("b", 999)]);
        assert_eq!(mailbox.next(u64::MAX).await, Some(latest));
        assert_eq!(
            mailbox.next(u64::MAX).await,
            Some(Update::Finished(Outcome::Cancelled))
        );
        assert_eq!(mailbox.next(u64::MAX).await, None);
    }

    #[tokio::test]
    async fn batches_of_levels_stay_below_the_limit() {
        let mailbox = Mailbox::default();
        mailbox.post(Update::Progress(
            (0..10).map(|n| level(&format!("r{n}"), 0)).collect(),
        ));
        let mut seen = 0;
        while seen < 10 {
            let Some(Update::Progress(batch)) = mailbox.next(600).await else {
                panic!("only levels were posted");
            };
            assert!(batch.len() <= 2, "{} levels in one batch", batch.len());
            seen += batch.len();
        }
        assert!(mailbox.settle() > 0, "credit is due once nothing waits");
        assert_eq!(mailbox.settle(), 0);
    }
}
