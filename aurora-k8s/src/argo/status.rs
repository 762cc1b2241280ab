//! A Rollout and its ReplicaSets to the state that everybody else works with.

use jiff::Timestamp;
use serde_json::Value;

use aurora_core::manifest::ObjectRef;
use aurora_core::progress::{ExpectToken, PodCounts, Progress, Standing, StepPosition, Weight, WeightSource};

use super::{POD_TEMPLATE_HASH, template};

/// The annotation of a ReplicaSet that is kept for a while after its end.
pub const SCALE_DOWN_DEADLINE: &str = "scale-down-deadline";

/// What is said of an object that no controller has written a status to.
pub(crate) const NEVER_TAKEN_UP: &str = "no controller has taken it up yet";

/// What is said of an object whose present generation was not looked at yet.
pub(crate) const NOT_TAKEN_UP: &str = "its last change was not taken up yet";

/// The manager of what is applied, to tell foreign writers apart.
const OURS: &str = "aurora-agent";

/// What was seen of one Rollout.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Its name.
    pub object: &'a ObjectRef,
    /// As the plan declares it.
    pub rendered: &'a Value,
    /// As it is on the cluster; none when it is not there.
    pub live: Option<&'a Value>,
    /// ReplicaSets of its namespace, of whomever.
    pub replica_sets: &'a [&'a Value],
    /// The present time.
    pub now: Timestamp,
}

/// The parts of a live Rollout that are decided on.
#[derive(Clone, Copy, Debug)]
pub struct Rollout<'a> {
    /// The whole object.
    pub body: &'a Value,
    status: &'a Value,
}

impl<'a> Rollout<'a> {
    /// Looks at a live Rollout.
    pub fn of(body: &'a Value) -> Self {
        Self {
            body,
            status: &body["status"],
        }
    }

    fn text(&self, field: &str) -> &'a str {
        self.status[field].as_str().unwrap_or_default()
    }

    /// Its uid.
    pub fn uid(&self) -> &'a str {
        self.body["metadata"]["uid"].as_str().unwrap_or_default()
    }

    /// The revision that is being rolled out.
    pub fn current(&self) -> &'a str {
        self.text("currentPodHash")
    }

    /// The revision that serves when nothing moves.
    pub fn stable(&self) -> &'a str {
        self.text("stableRS")
    }

    /// The controller has taken the present generation up, which it may have raised itself.
    pub fn is_taken_up(&self) -> bool {
        let generation = self.body["metadata"]["generation"].as_i64();
        // A string on the wire; a controller older than 0.10 wrote a hash, which never equals.
        let observed = self.text("observedGeneration").parse::<i64>().ok();
        let workload =
            self.body["metadata"]["annotations"]["rollout.argoproj.io/workload-generation"].as_str();
        let workload_is_seen =
            workload.is_none_or(|generation| generation == self.text("workloadObservedGeneration"));
        generation.is_some() && generation == observed && workload_is_seen
    }

    /// The revision being rolled out is the one that serves.
    pub fn is_settled(&self) -> bool {
        !self.current().is_empty() && self.current() == self.stable()
    }

    /// An abort was ordered and holds.
    pub fn is_aborted(&self) -> bool {
        self.status["abort"] == true
    }

    /// A full promotion is under way.
    pub fn is_promoted_full(&self) -> bool {
        self.status["promoteFull"] == true
    }

    /// A person, or an act, paused it.
    pub fn is_paused_by_hand(&self) -> bool {
        self.body["spec"]["paused"] == true
    }

    /// It moves by blue/green.
    pub fn is_blue_green(&self) -> bool {
        self.body["spec"]["strategy"]["blueGreen"].is_object()
    }

    /// The revision that the active Service of a blue/green Rollout selects; empty when it selects none.
    pub fn active(&self) -> &'a str {
        self.status["blueGreen"]["activeSelector"]
            .as_str()
            .unwrap_or_default()
    }

    /// All traffic of a blue/green Rollout goes to the revision being rolled out, for good.
    pub fn is_redirected(&self) -> bool {
        self.is_settled() && self.active() == self.current()
    }

    /// Nothing holds a blue/green Rollout's redirect any more, or it has happened.
    fn is_redirecting(&self) -> bool {
        let may_grow = self.status["blueGreen"]["scaleUpPreviewCheckPoint"] == true;
        !self.is_aborted()
            && !self.current().is_empty()
            && (self.is_settled()
                || self.is_promoted_full()
                || self.is_resuming()
                || may_grow
                || self.active() == self.current())
    }

    /// The place of `index` is behind it.
    pub fn is_beyond(&self, index: Option<usize>) -> bool {
        if self.is_blue_green() {
            return self.is_redirecting();
        }
        self.is_settled() || self.index() > index || self.is_promoted_full()
    }

    /// ReplicaSets of other revisions that have pods, or will have them.
    pub fn old_sets<'r>(&self, replica_sets: &[&'r Value]) -> Vec<&'r Value> {
        let has_pods = |set: &&Value| hash_of(set) != self.current() && count(&set["spec"]["replicas"]) > 0;
        self.own(replica_sets).into_iter().filter(has_pods).collect()
    }

    /// A canary's steps.
    pub fn steps(&self) -> &'a [Value] {
        let steps = self.body["spec"]["strategy"]["canary"]["steps"].as_array();
        steps.map(Vec::as_slice).unwrap_or_default()
    }

    /// The step being executed, where there are steps.
    pub fn index(&self) -> Option<usize> {
        if self.is_blue_green() {
            // One may be left over from a canary of the same name.
            return None;
        }
        self.status["currentStepIndex"]
            .as_u64()
            .and_then(|index| usize::try_from(index).ok())
    }

    /// Why and since when the controller waits.
    pub fn pause(&self) -> Option<(&'a str, &'a str)> {
        let pause = self.status["pauseConditions"].as_array()?.first()?;
        Some((
            pause["reason"].as_str().unwrap_or_default(),
            pause["startTime"].as_str().unwrap_or_default(),
        ))
    }

    /// The pause has been ended and the controller has not gone on yet.
    pub fn is_resuming(&self) -> bool {
        self.status["controllerPause"] == true && self.pause().is_none()
    }

    /// A condition's status and reason.
    fn condition(&self, kind: &str) -> Option<&'a Value> {
        let conditions = self.status["conditions"].as_array()?;
        conditions.iter().find(|condition| condition["type"] == kind)
    }

    fn is_invalid(&self) -> bool {
        self.condition("InvalidSpec")
            .is_some_and(|condition| condition["status"] == "True")
    }

    fn progressing(&self) -> &'a str {
        self.condition("Progressing")
            .and_then(|condition| condition["reason"].as_str())
            .unwrap_or_default()
    }

    /// The controller could not make the new ReplicaSet.
    pub fn cannot_create(&self) -> bool {
        self.progressing() == "ReplicaSetCreateError"
    }

    /// The ReplicaSets that belong to it.
    pub fn own<'r>(&self, replica_sets: &[&'r Value]) -> Vec<&'r Value> {
        let uid = self.uid();
        replica_sets
            .iter()
            .copied()
            .filter(|set| is_owned_by(set, uid))
            .collect()
    }

    /// The ReplicaSet of the revision that is being rolled out.
    pub fn new_set<'r>(&self, replica_sets: &[&'r Value]) -> Option<&'r Value> {
        let current = self.current();
        let is_current = |set: &&Value| !current.is_empty() && hash_of(set) == current;
        self.own(replica_sets).into_iter().find(is_current)
    }

    /// What an act on it at this place has to present.
    pub fn token(&self) -> Option<ExpectToken> {
        Place {
            uid: self.uid(),
            hash: self.current(),
            index: self.index(),
            start: self.pause().map_or("", |(_, start)| start),
        }
        .to_token()
    }
}

/// Where a Rollout stands, as an [`ExpectToken`] holds it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place<'a> {
    /// Which object.
    pub uid: &'a str,
    /// Which revision.
    pub hash: &'a str,
    /// Which step, where there are steps.
    pub index: Option<usize>,
    /// Since when it waits there; empty when it does not.
    pub start: &'a str,
}

impl<'a> Place<'a> {
    fn to_token(self) -> Option<ExpectToken> {
        let index = self
            .index
            .map_or_else(|| "-".to_owned(), |index| index.to_string());
        ExpectToken::new(format!("{}|{}|{index}|{}", self.uid, self.hash, self.start))
    }

    /// Reads a token that [`Rollout::token`] made.
    pub fn from_token(token: &'a ExpectToken) -> Option<Self> {
        let mut parts = token.as_str().split('|');
        let (uid, hash, index, start) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let index = if index == "-" {
            None
        } else {
            Some(index.parse().ok()?)
        };
        parts.next().is_none().then_some(Self {
            uid,
            hash,
            index,
            start,
        })
    }
}

/// The owner's uid is among an object's owners.
pub fn is_owned_by(object: &Value, uid: &str) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array();
    !uid.is_empty() && owners.is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == uid))
}

/// The revision that a ReplicaSet or pod belongs to.
pub fn hash_of(object: &Value) -> &str {
    object["metadata"]["labels"][POD_TEMPLATE_HASH]
        .as_str()
        .unwrap_or_default()
}

fn count(value: &Value) -> u32 {
    value.as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

/// The new pods are available as far as their ReplicaSet wants them, and the ReplicaSet was taken up.
pub fn is_available(set: Option<&Value>) -> bool {
    set.is_some_and(|set| {
        let behind = set["status"]["observedGeneration"].as_i64() < set["metadata"]["generation"].as_i64();
        !behind && count(&set["status"]["availableReplicas"]) >= count(&set["spec"]["replicas"])
    })
}

/// The present state of one Rollout; failing pods are added by who watches pods.
pub fn progress(seen: &Seen<'_>) -> Progress {
    let mut progress = Progress {
        object: seen.object.clone(),
        standing: Standing::Missing,
        revision: String::new(),
        stable: String::new(),
        step: None,
        weight: None,
        pods: PodCounts::default(),
        expect: None,
        message: String::new(),
        failing: Vec::new(),
        observed_at: seen.now,
    };
    let Some(live) = seen.live else {
        return progress;
    };
    let rollout = Rollout::of(live);
    let own = rollout.own(seen.replica_sets);
    let total = rollout.steps().len();
    let (standing, message) = standing(seen, &rollout);
    let observed = !matches!(
        standing,
        Standing::NotObserved | Standing::ChangedElsewhere { .. } | Standing::Invalid
    );
    progress.revision = rollout.current().to_owned();
    progress.stable = rollout.stable().to_owned();
    progress.step = rollout
        .index()
        .filter(|_| total > 0)
        .map(|index| StepPosition { index, total });
    progress.pods = pods(&rollout, &own);
    progress.weight = Some(weight(&rollout, progress.pods));
    // What keeps an old version can be told to let it go.
    let keeps_old = rollout.is_blue_green() && !rollout.old_sets(seen.replica_sets).is_empty();
    progress.expect = (observed && (!rollout.is_settled() || keeps_old))
        .then(|| rollout.token())
        .flatten();
    progress.standing = standing;
    progress.message = message;
    progress
}

/// Where it stands and the controller's words; the first that applies.
fn standing(seen: &Seen<'_>, rollout: &Rollout<'_>) -> (Standing, String) {
    let said = || rollout.text("message").to_owned();
    if rollout.status["observedGeneration"].is_null() {
        return (Standing::NotObserved, NEVER_TAKEN_UP.to_owned());
    }
    if !rollout.is_taken_up() {
        return (Standing::NotObserved, NOT_TAKEN_UP.to_owned());
    }
    let rendered = &seen.rendered["spec"]["template"];
    if let Some(place) = template::difference(rendered, &rollout.body["spec"]["template"]) {
        let writer = template::writer_of_template(rollout.body, OURS);
        let by = writer.map_or_else(|| place.clone(), |writer| format!("{place}, written by {writer}"));
        return (
            Standing::ChangedElsewhere { by },
            format!("{place} is not what the plan declares"),
        );
    }
    if rollout.is_invalid() {
        return (Standing::Invalid, said());
    }
    if rollout.cannot_create() {
        let words = rollout
            .condition("Progressing")
            .and_then(|condition| condition["message"].as_str());
        return (
            Standing::NotObserved,
            words.unwrap_or("its ReplicaSet cannot be created").to_owned(),
        );
    }
    let new_set = rollout.new_set(seen.replica_sets);
    if let Some(digest) = template::digest_of(rendered) {
        let carried = new_set.and_then(|set| template::digest_of(&set["spec"]["template"]));
        if carried != Some(digest) {
            return (
                Standing::NotObserved,
                "its new ReplicaSet is not there yet".to_owned(),
            );
        }
    }
    if rollout.is_aborted() {
        let over = rollout.text("phase") == "Degraded" && rollout.pause().is_none();
        return (if over { Standing::Aborted } else { Standing::Moving }, said());
    }
    if rollout.progressing() == "ProgressDeadlineExceeded" || rollout.text("phase") == "Degraded" {
        return (Standing::Degraded, said());
    }
    if rollout.is_paused_by_hand() {
        return (Standing::PausedByHand, said());
    }
    if let Some((reason, _)) = rollout.pause() {
        return (at_pause(rollout, reason, new_set), said());
    }
    if is_done(seen, rollout) {
        return (Standing::Done, said());
    }
    (Standing::Moving, said())
}

fn at_pause(rollout: &Rollout<'_>, reason: &str, new_set: Option<&Value>) -> Standing {
    let index = rollout.index().unwrap_or(0);
    // A pause with an end of its own is no gate.
    let timed = rollout
        .steps()
        .get(index)
        .is_some_and(|step| !step["pause"]["duration"].is_null());
    if timed && reason == "CanaryPauseStep" {
        return Standing::Moving;
    }
    // A preview without pods is nothing to judge, whatever its ReplicaSet wants for the moment.
    let has_pods = !rollout.is_blue_green()
        || count(&rollout.body["spec"]["replicas"]) == 0
        || new_set.is_some_and(|set| count(&set["spec"]["replicas"]) > 0);
    Standing::AtPause {
        index,
        ready: has_pods && is_available(new_set),
        inconclusive: reason.starts_with("Inconclusive"),
    }
}

fn is_done(seen: &Seen<'_>, rollout: &Rollout<'_>) -> bool {
    let wanted = count(&rollout.body["spec"]["replicas"]);
    let all_there = count(&rollout.status["availableReplicas"]) >= wanted
        && count(&rollout.status["updatedReplicas"]) >= wanted;
    let old_are_gone = rollout
        .own(seen.replica_sets)
        .into_iter()
        .filter(|set| hash_of(set) != rollout.current())
        .all(|set| {
            // Users of a blue/green Rollout are elsewhere already; pods that end are nobody's business.
            let ending = if rollout.is_blue_green() {
                0
            } else {
                count(&set["status"]["replicas"])
            };
            let running = count(&set["spec"]["replicas"]) + ending;
            running == 0 || set["metadata"]["annotations"][SCALE_DOWN_DEADLINE].is_string()
        });
    let is_live = !rollout.is_blue_green() || rollout.is_redirected();
    rollout.text("phase") == "Healthy" && rollout.is_settled() && is_live && all_there && old_are_gone
}

fn pods(rollout: &Rollout<'_>, own: &[&Value]) -> PodCounts {
    let mut counts = PodCounts {
        desired: count(&rollout.body["spec"]["replicas"]),
        ..PodCounts::default()
    };
    for set in own {
        let (all, available) = (
            count(&set["status"]["replicas"]),
            count(&set["status"]["availableReplicas"]),
        );
        if hash_of(set) == rollout.current() {
            counts.new += all;
            counts.new_available += available;
        } else {
            counts.old += all;
            counts.old_available += available;
        }
    }
    counts
}

fn weight(rollout: &Rollout<'_>, pods: PodCounts) -> Weight {
    if rollout.is_blue_green() {
        let all_or_nothing = |all: bool| if all { 100 } else { 0 };
        let is_live = !rollout.current().is_empty() && rollout.active() == rollout.current();
        return Weight {
            wanted: all_or_nothing(rollout.is_redirecting()),
            real: all_or_nothing(is_live),
            source: WeightSource::Router,
        };
    }
    let routed = &rollout.status["canary"]["weights"]["canary"]["weight"];
    let percent = |value: u64| u8::try_from(value.min(100)).unwrap_or(100);
    let available = u64::from(pods.new_available) + u64::from(pods.old_available);
    let by_pods = (u64::from(pods.new_available) * 100 + available / 2)
        .checked_div(available)
        .unwrap_or(0);
    Weight {
        wanted: wanted_weight(rollout),
        real: percent(routed.as_u64().unwrap_or(by_pods)),
        source: if routed.is_u64() {
            WeightSource::Router
        } else {
            WeightSource::Pods
        },
    }
}

/// The weight that the steps up to the present one ask for.
fn wanted_weight(rollout: &Rollout<'_>) -> u8 {
    if rollout.is_aborted() {
        return 0;
    }
    let steps = rollout.steps();
    match rollout.index() {
        Some(index) if index < steps.len() => {
            let last = steps[..=index]
                .iter()
                .rev()
                .find_map(|step| step["setWeight"].as_u64());
            u8::try_from(last.unwrap_or(0).min(100)).unwrap_or(100)
        }
        _ => 100,
    }
}

#[cfg(test)]
mod tests;
