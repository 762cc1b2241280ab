//! How a blue/green workload of the in-memory cluster moves: both versions at full size, one of them live.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::canary::{Declared, Surroundings, Workload};

/// How long an old version is kept where nothing else is declared, as Argo Rollouts does it.
const DEFAULT_DELAY: u64 = 30;

/// What a blue/green strategy declares.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlueGreen {
    /// It waits for a person before its redirect.
    waits: bool,
    /// How long the old version is kept after it.
    delay: Duration,
}

impl BlueGreen {
    /// Reads `spec.strategy.blueGreen`; none when there is none.
    pub(super) fn by(strategy: &Value) -> Option<Self> {
        strategy.is_object().then(|| Self {
            waits: strategy["autoPromotionEnabled"] == false,
            delay: Duration::from_secs(
                strategy["scaleDownDelaySeconds"]
                    .as_u64()
                    .unwrap_or(DEFAULT_DELAY),
            ),
        })
    }

    fn keeps_until(self, now: Timestamp) -> Timestamp {
        now.checked_add(self.delay).unwrap_or(Timestamp::MAX)
    }
}

impl Workload {
    /// Makes one move of a blue/green workload; tells whether there was one to make.
    pub(super) fn switch(
        &mut self,
        declared: &Declared,
        blue_green: &BlueGreen,
        around: &Surroundings<'_>,
    ) -> bool {
        if self.active.is_empty() {
            self.active.clone_from(&self.stable);
            return true;
        }
        let (revision, stable) = (self.revision.clone(), self.stable.clone());
        let leaves = |name: &String| (*name != revision || self.aborted) && *name != stable;
        let leaving: Vec<String> = self.pods.keys().filter(|name| leaves(name)).cloned().collect();
        let mut moved = false;
        for name in leaving {
            moved |= self.let_go(&name, blue_green.keeps_until(around.now), around.now);
        }
        moved |= self.keep(&stable, declared.replicas);
        if self.aborted {
            let back = self.active != stable;
            self.active = stable;
            return moved || back;
        }
        moved |= self.keep(&revision, declared.replicas);
        if moved || declared.paused || self.new_available() < declared.replicas {
            return moved;
        }
        if self.step == 0 && blue_green.waits {
            let arrives = self.pause.is_none();
            self.pause.get_or_insert(around.serial);
            return arrives;
        }
        if self.active != revision {
            self.step = 1;
            self.active = revision;
            return true;
        }
        let completes = self.stable != revision || self.step == 0;
        self.step = 1;
        self.stable = revision;
        completes
    }

    /// Keeps a revision at full size, without an end.
    fn keep(&mut self, revision: &str, replicas: u32) -> bool {
        if let Some(pods) = self.pods.get_mut(revision) {
            pods.until = None;
        }
        self.scale(revision, replicas)
    }

    /// Gives pods that are not needed any more a time to end, and ends them after it.
    fn let_go(&mut self, revision: &str, until: Timestamp, now: Timestamp) -> bool {
        let Some(pods) = self.pods.get_mut(revision).filter(|pods| pods.count > 0) else {
            return false;
        };
        match pods.until {
            None => pods.until = Some(until),
            Some(end) if end <= now => {
                pods.until = None;
                return self.scale(revision, 0);
            }
            Some(_) => return false,
        }
        true
    }

    /// A version older than the stable one that still runs goes live again without stopping anywhere.
    pub(super) fn goes_live_at_once(&self, declared: &Declared) -> bool {
        let (new, stable) = (self.pods.get(&self.revision), self.pods.get(&self.stable));
        declared.blue_green.is_some()
            && new.zip(stable).is_some_and(|(new, stable)| {
                new.until.is_some() && new.count >= declared.replicas && new.born < stable.born
            })
    }

    /// Ends the pods of a revision that would go live at once if it were declared now.
    pub(super) fn end_delay_before(&mut self, revision: &str) {
        let Some(born) = self.pods.get(&self.stable).map(|pods| pods.born) else {
            return;
        };
        if let Some(pods) = self.pods.get_mut(revision)
            && pods.until.is_some()
            && pods.born < born
        {
            pods.until = None;
            (pods.count, pods.available) = (0, 0);
        }
    }

    /// Whether all traffic goes to the present revision, for good.
    pub(super) fn is_redirected(&self) -> bool {
        !self.aborted && self.stable == self.revision && self.active == self.revision
    }

    /// Whether pods of older revisions are kept for a while.
    pub(super) fn keeps_old(&self) -> bool {
        let is_kept = |(revision, pods): (&String, &super::canary::Pods)| {
            *revision != self.revision && pods.count > 0 && pods.until != Some(Timestamp::MIN)
        };
        self.pods.iter().any(is_kept)
    }

    /// Ends the time of all older revisions.
    pub(super) fn shut_down_old(&mut self) {
        for (revision, pods) in &mut self.pods {
            if *revision != self.revision && pods.count > 0 {
                pods.until = Some(Timestamp::MIN);
            }
        }
    }
}
