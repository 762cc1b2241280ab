//! One workload of the in-memory cluster: its pods by revision, and how it moves through its steps.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::PodFault;
use super::blue_green::BlueGreen;
use crate::digest::Digest;
use crate::manifest::ObjectRef;
use crate::progress::{
    ExpectToken, FailingPod, PodCounts, Progress, Standing, StepPosition, Weight, WeightSource,
};

/// Restarts stop being counted here, so that a cluster that moves at once comes to rest.
const MOST_RESTARTS: u32 = 5;

/// What an object declares, as far as the in-memory cluster acts on it.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) replicas: u32,
    /// Present when it moves by blue/green: then it has no steps of its own.
    pub(super) blue_green: Option<BlueGreen>,
    steps: Vec<Step>,
    template: Value,
    pub(super) paused: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Other,
    Pause { indefinite: bool },
    Weight(u32),
}

impl Declared {
    /// Reads an object; what is absent has Kubernetes' default.
    pub(super) fn by(body: &Value) -> Self {
        let spec = &body["spec"];
        let steps = spec["strategy"]["canary"]["steps"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        Self {
            replicas: spec["replicas"]
                .as_u64()
                .map_or(1, |n| u32::try_from(n).unwrap_or(u32::MAX)),
            blue_green: BlueGreen::by(&spec["strategy"]["blueGreen"]),
            steps: steps.iter().map(Step::by).collect(),
            template: spec["template"].clone(),
            paused: spec["paused"] == true,
        }
    }

    /// The step at which nothing is left to pass; a blue/green one has one place before it, its redirect.
    const fn end(&self) -> usize {
        if self.blue_green.is_some() {
            1
        } else {
            self.steps.len()
        }
    }

    fn weight_at(&self, step: usize) -> u8 {
        if step >= self.steps.len() {
            return 100;
        }
        let last = self.steps[..=step].iter().rev().find_map(|step| match step {
            Step::Weight(weight) => Some(*weight),
            Step::Other | Step::Pause { .. } => None,
        });
        u8::try_from(last.unwrap_or(0)).unwrap_or(100)
    }

    /// New pods wanted at a step.
    fn wanted_at(&self, step: usize) -> u32 {
        if self.blue_green.is_some() {
            return self.replicas;
        }
        let weight = u64::from(self.weight_at(step));
        u32::try_from((u64::from(self.replicas) * weight).div_ceil(100)).unwrap_or(self.replicas)
    }
}

impl Step {
    fn by(step: &Value) -> Self {
        if let Some(weight) = step["setWeight"].as_u64() {
            return Self::Weight(u32::try_from(weight.min(100)).unwrap_or(100));
        }
        step.get("pause").map_or(Self::Other, |pause| Self::Pause {
            indefinite: pause.get("duration").is_none(),
        })
    }
}

/// Pods of one revision.
#[derive(Clone, Debug)]
pub(super) struct Pods {
    template: Value,
    pub(super) count: u32,
    pub(super) available: u32,
    restarts: u32,
    failing_since: Option<Timestamp>,
    /// Grows with each revision that is taken up for the first time.
    pub(super) born: u64,
    /// They are kept until then and go after it (blue/green).
    pub(super) until: Option<Timestamp>,
}

/// The moving part of a workload.
#[derive(Clone, Debug, Default)]
pub(super) struct Workload {
    pub(super) revision: String,
    pub(super) stable: String,
    pub(super) observed_generation: u64,
    pub(super) step: usize,
    /// Which pause it stands at, by a number that no other pause has.
    pub(super) pause: Option<u64>,
    pub(super) aborted: bool,
    /// The revision that gets the traffic (blue/green).
    pub(super) active: String,
    full: bool,
    pub(super) pods: BTreeMap<String, Pods>,
}

/// What surrounds a workload while it moves.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) faults: &'a BTreeMap<String, PodFault>,
    pub(super) now: Timestamp,
    /// The number of the next pause.
    pub(super) serial: u64,
}

impl Workload {
    /// Makes one move; tells whether there was one to make.
    pub(super) fn advance(
        &mut self,
        declared: &Declared,
        generation: u64,
        around: &Surroundings<'_>,
    ) -> bool {
        if self.observed_generation != generation {
            self.take_up(declared, generation, around.serial);
            return true;
        }
        if self.run_pods(around) {
            return true;
        }
        if let Some(blue_green) = &declared.blue_green {
            return self.switch(declared, blue_green, around);
        }
        if self.aborted {
            return self.shift(declared, 0, false);
        }
        if declared.paused {
            return false;
        }
        match declared.steps.get(self.step) {
            Some(Step::Weight(_)) => {
                let wanted = declared.wanted_at(self.step);
                self.shift(declared, wanted, true) || {
                    let arrived = self.new_available() >= wanted;
                    self.step += usize::from(arrived);
                    arrived
                }
            }
            Some(Step::Pause { indefinite: true }) => {
                let arrives = self.pause.is_none();
                self.pause.get_or_insert(around.serial);
                arrives
            }
            Some(Step::Other | Step::Pause { indefinite: false }) => {
                self.step += 1;
                true
            }
            None => self.complete(declared),
        }
    }

    fn take_up(&mut self, declared: &Declared, generation: u64, serial: u64) {
        self.observed_generation = generation;
        let revision = revision_of(&declared.template);
        if self.revision != revision {
            self.revision = revision;
            self.aborted = false;
            self.full = false;
            self.pause = None;
            self.step = 0;
            if self.stable.is_empty() {
                self.stable.clone_from(&self.revision);
            }
            if self.stable == self.revision || self.goes_live_at_once(declared) {
                self.step = declared.end();
            }
        }
        self.step = self.step.min(declared.end());
        self.pods.entry(self.revision.clone()).or_insert_with(|| Pods {
            template: declared.template.clone(),
            count: 0,
            available: 0,
            restarts: 0,
            failing_since: None,
            born: serial,
            until: None,
        });
    }

    fn run_pods(&mut self, around: &Surroundings<'_>) -> bool {
        let mut moved = false;
        for pods in self.pods.values_mut() {
            let fault = fault_of(&pods.template, around.faults);
            let available = if fault.is_some() { 0 } else { pods.count };
            moved |= pods.available != available;
            pods.available = available;
            let fails = fault.is_some_and(|(_, fault)| fault != PodFault::NeverReady) && pods.count > 0;
            if !fails {
                pods.failing_since = None;
                pods.restarts = 0;
            } else if pods.failing_since.is_none() {
                pods.failing_since = Some(around.now);
                moved = true;
            }
            if fails && matches!(fault, Some((_, PodFault::Crash))) && pods.restarts < MOST_RESTARTS {
                pods.restarts += 1;
                moved = true;
            }
        }
        moved
    }

    /// Brings the new revision to `wanted` pods and the stable one to the rest, surge first.
    fn shift(&mut self, declared: &Declared, wanted: u32, new_first: bool) -> bool {
        let rest = declared.replicas.saturating_sub(wanted);
        let (revision, stable) = (self.revision.clone(), self.stable.clone());
        let others: Vec<_> = self
            .pods
            .keys()
            .filter(|key| **key != revision && **key != stable)
            .cloned()
            .collect();
        let mut moved = false;
        for other in others {
            moved |= self.scale(&other, 0);
        }
        if stable == revision {
            return self.scale(&revision, declared.replicas) || moved;
        }
        let (first, first_count, then, then_count) = if new_first {
            (&revision, wanted, &stable, rest)
        } else {
            (&stable, rest, &revision, wanted)
        };
        if self.scale(first, first_count) {
            return true;
        }
        let arrived = self
            .pods
            .get(first)
            .is_some_and(|pods| pods.available >= first_count);
        (arrived && self.scale(then, then_count)) || moved
    }

    fn complete(&mut self, declared: &Declared) -> bool {
        if self.shift(declared, declared.replicas, true) {
            return true;
        }
        if self.new_available() < declared.replicas {
            return false;
        }
        let moved = self.stable != self.revision || self.full;
        self.stable.clone_from(&self.revision);
        self.full = false;
        moved
    }

    pub(super) fn scale(&mut self, revision: &str, count: u32) -> bool {
        let Some(pods) = self.pods.get_mut(revision) else {
            return false;
        };
        let moved = pods.count != count;
        pods.available = pods.available.min(count);
        pods.count = count;
        moved
    }

    pub(super) fn new_available(&self) -> u32 {
        self.pods.get(&self.revision).map_or(0, |pods| pods.available)
    }

    /// Tells whether the new pods are available as far as the present step wants them.
    pub(super) fn has_new_pods(&self, declared: &Declared) -> bool {
        self.new_available() >= declared.wanted_at(self.step)
    }

    /// Goes past the present step.
    pub(super) const fn pass(&mut self) {
        self.pause = None;
        self.step += 1;
    }

    /// Goes to the end of all steps.
    pub(super) fn promote_full(&mut self, declared: &Declared) {
        self.aborted = false;
        self.full = true;
        self.pause = None;
        self.step = declared.end();
    }

    /// Tells whether all steps are behind it or ordered to be.
    pub(super) fn is_past_steps(&self, declared: &Declared) -> bool {
        !self.aborted && self.step >= declared.end()
    }

    /// Stops, or with `false` begins again.
    pub(super) const fn set_aborted(&mut self, aborted: bool) {
        self.aborted = aborted;
        self.full = false;
        self.pause = None;
        self.step = 0;
    }

    /// Pod templates that still have, or may again have, pods.
    pub(super) fn templates_in_use(&self) -> impl Iterator<Item = &Value> {
        let in_use = |(revision, pods): &(&String, &Pods)| {
            pods.count > 0 || **revision == self.revision || **revision == self.stable
        };
        self.pods.iter().filter(in_use).map(|(_, pods)| &pods.template)
    }

    /// What an act at this place has to present.
    pub(super) fn token(&self, uid: &str) -> Option<ExpectToken> {
        let pause = self
            .pause
            .map_or_else(|| "-".to_owned(), |serial| serial.to_string());
        ExpectToken::new(format!("{uid}/{}/{}/{pause}", self.revision, self.step))
    }

    /// The present state, as an executor tells it.
    pub(super) fn progress(&self, object: &ObjectRef, declared: &Declared, seen: Seen<'_>) -> Progress {
        let pods = self.counts(declared);
        let observed = self.observed_generation == seen.generation;
        let blue_green = declared.blue_green.is_some();
        let settled = self.stable == self.revision
            && self.step >= declared.end()
            && (!blue_green || self.active == self.revision);
        let standing = if !observed {
            Standing::NotObserved
        } else if self.aborted {
            Standing::Aborted
        } else if declared.paused {
            Standing::PausedByHand
        } else if self.pause.is_some() {
            Standing::AtPause {
                index: self.step,
                ready: self.has_new_pods(declared),
                inconclusive: false,
            }
        } else if settled && pods.new_available == declared.replicas && (blue_green || pods.old == 0) {
            Standing::Done
        } else {
            Standing::Moving
        };
        Progress {
            object: object.clone(),
            standing,
            revision: self.revision.clone(),
            stable: self.stable.clone(),
            step: (!declared.steps.is_empty()).then_some(StepPosition {
                index: self.step,
                total: declared.steps.len(),
            }),
            weight: (object.kind == "Rollout").then(|| self.weight(declared, pods)),
            pods,
            expect: (observed && (self.stable != self.revision || (blue_green && pods.old > 0)))
                .then(|| self.token(seen.uid))
                .flatten(),
            message: String::new(),
            failing: self.failing(object, seen.faults),
            observed_at: seen.now,
        }
    }

    fn weight(&self, declared: &Declared, pods: PodCounts) -> Weight {
        if declared.blue_green.is_some() {
            let share = |all: bool| if all { 100 } else { 0 };
            return Weight {
                wanted: share(!self.aborted && self.step >= declared.end()),
                real: share(self.active == self.revision),
                source: WeightSource::Router,
            };
        }
        let available = pods.new_available + pods.old_available;
        let real = (pods.new_available * 100).checked_div(available).unwrap_or(0);
        Weight {
            wanted: if self.aborted {
                0
            } else {
                declared.weight_at(self.step)
            },
            real: u8::try_from(real).unwrap_or(100),
            source: WeightSource::Pods,
        }
    }

    fn counts(&self, declared: &Declared) -> PodCounts {
        let mut counts = PodCounts {
            desired: declared.replicas,
            ..PodCounts::default()
        };
        for (revision, pods) in &self.pods {
            if *revision == self.revision {
                counts.new = pods.count;
                counts.new_available = pods.available;
            } else {
                counts.old += pods.count;
                counts.old_available += pods.available;
            }
        }
        counts
    }

    fn failing(&self, object: &ObjectRef, faults: &BTreeMap<String, PodFault>) -> Vec<FailingPod> {
        let Some(pods) = self.pods.get(&self.revision) else {
            return Vec::new();
        };
        let (Some((container, fault)), Some(since)) = (fault_of(&pods.template, faults), pods.failing_since)
        else {
            return Vec::new();
        };
        let crashes = fault == PodFault::Crash;
        (0..pods.count)
            .map(|ordinal| FailingPod {
                pod: format!("{}-{}-{ordinal}", object.name, self.revision),
                container: container.to_owned(),
                reason: if crashes {
                    "CrashLoopBackOff"
                } else {
                    "ImagePullBackOff"
                }
                .to_owned(),
                restarts: pods.restarts,
                exit_code: crashes.then_some(1),
                message: String::new(),
                log: if crashes {
                    vec!["panic: this image crashes".to_owned()]
                } else {
                    Vec::new()
                },
                since,
                unpullable: !crashes,
            })
            .collect()
    }
}

/// The name of the revision that a pod template makes.
pub(super) fn revision_of(template: &Value) -> String {
    Digest::of_json(template).short(10)
}

/// What [`Workload::progress`] needs to know of the object.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) uid: &'a str,
    pub(super) generation: u64,
    pub(super) faults: &'a BTreeMap<String, PodFault>,
    pub(super) now: Timestamp,
}

/// The first container of a template whose image fails, and how.
fn fault_of<'t>(template: &'t Value, faults: &BTreeMap<String, PodFault>) -> Option<(&'t str, PodFault)> {
    let containers = template["spec"]["containers"].as_array()?;
    containers.iter().find_map(|container| {
        let fault = faults.get(container["image"].as_str()?)?;
        Some((container["name"].as_str().unwrap_or_default(), *fault))
    })
}
