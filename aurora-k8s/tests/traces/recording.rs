//! Reading recordings: what was done, and what was seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde_json::Value;

/// Phase letter and step index: `P0`, `Z1`, `H5`, `–`.
pub(crate) fn token(status: &Value) -> String {
    let letter = match status["phase"].as_str() {
        None => "–",
        Some("Progressing") => "P",
        Some("Paused") => "Z",
        Some("Healthy") => "H",
        Some("Degraded") => "D",
        Some(other) => panic!("unknown phase {other}"),
    };
    match status["currentStepIndex"].as_i64() {
        Some(index) => format!("{letter}{index}"),
        None => letter.to_owned(),
    }
}

/// ReplicaSets of a Rollout: hash → wanted, pods, ready pods.
pub(crate) type Sets = BTreeMap<String, (i64, i64, i64)>;

/// What the driver did, or wrote down.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    pub(crate) text: String,
    /// The whole line.
    pub(crate) line: Value,
    /// The Rollout that it acts on; none for a remark, or for what acts on something else.
    pub(crate) on: Option<String>,
}

impl Act {
    pub(crate) fn http(&self) -> Option<u64> {
        self.line["http"].as_u64()
    }

    pub(crate) fn generation(&self) -> Option<u64> {
        self.line["generation"].as_u64()
    }
}

/// One line of a recording.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    Act(Act),
    Status {
        rollout: String,
        generation: u64,
        status: Value,
        sets: Sets,
    },
    Sets {
        rollout: String,
        sets: Sets,
    },
}

impl Line {
    fn status_of(&self, of: &str) -> Option<(u64, &Value)> {
        match self {
            Self::Status {
                rollout,
                generation,
                status,
                ..
            } if rollout == of => Some((*generation, status)),
            _ => None,
        }
    }
}

/// A recording with its manifests.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) name: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) manifests: Vec<Value>,
    /// Reason and message of the events on Rollouts.
    pub(crate) events: BTreeSet<(String, String)>,
    /// How often they were recorded altogether.
    pub(crate) event_count: u64,
    /// Hashes per Rollout in the order in which their ReplicaSets appeared.
    pub(crate) hashes: BTreeMap<String, Vec<String>>,
}

impl Recording {
    pub(crate) fn read(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/traces/recordings");
        let text = std::fs::read_to_string(folder.join(format!("{name}.jsonl"))).unwrap();
        let manifests = std::fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap();
        let manifests = manifests
            .split("\n---")
            .map(str::trim)
            .filter(|text| !text.is_empty());
        let manifests = manifests
            .map(|text| serde_saphyr::from_str(text).unwrap())
            .collect();
        let mut recording = Self {
            name: name.to_owned(),
            lines: Vec::new(),
            events: BTreeSet::new(),
            event_count: 0,
            manifests,
            hashes: BTreeMap::new(),
        };
        for line in text.lines() {
            recording.add(&serde_json::from_str(line).unwrap());
        }
        recording.forget_foreign_sets();
        recording.put_acts_before_what_they_caused();
        recording
    }

    /// Whether the acts are the log of an executor that drives several Rollouts by plans.
    pub(crate) fn is_of_an_executor(&self) -> bool {
        self.name.starts_with("rule-")
    }

    fn add(&mut self, line: &Value) {
        if let Some(text) = line["action"].as_str() {
            let on = if self.is_of_an_executor() {
                acted_on(text, line)
            } else {
                Some("web".to_owned())
            };
            let silent = ["stop controller", "controller started", "both: ", "plugin: "];
            let controller = silent.iter().any(|start| text.starts_with(start));
            if line["http"].is_u64() || controller || self.is_of_an_executor() {
                self.lines.push(Line::Act(Act {
                    text: text.to_owned(),
                    line: line.clone(),
                    on,
                }));
            }
            return;
        }
        if line["event"]["kind"] == "Rollout" {
            let text = |field: &str| line["event"][field].as_str().unwrap().to_owned();
            self.event_count += line["event"]["count"].as_u64().unwrap();
            self.events.insert((text("reason"), text("message")));
            return;
        }
        let rollout = line["rollout"].as_str().unwrap_or("web").to_owned();
        let sets = sets(&line["rs"]);
        if let Some(scaled) = line["rsScaled"].as_str().filter(|_| line["from"].is_null()) {
            let (of, hash) = scaled.rsplit_once('-').unwrap_or(("web", scaled));
            self.appeared(of, hash);
        }
        for hash in sets.keys() {
            self.appeared(&rollout, hash);
        }
        if line["status"].is_object() && line["generation"].is_u64() {
            let generation = line["generation"].as_u64().unwrap();
            self.lines.push(Line::Status {
                rollout,
                generation,
                status: line["status"].clone(),
                sets,
            });
        } else if line["rs"].is_object() {
            self.lines.push(Line::Sets { rollout, sets });
        }
    }

    fn appeared(&mut self, of: &str, hash: &str) {
        let known = self.hashes.entry(of.to_owned()).or_default();
        if !known.iter().any(|it| it == hash) {
            known.push(hash.to_owned());
        }
    }

    /// Leaves out ReplicaSets that never were a Rollout's own, such as those of a Deployment beside it.
    fn forget_foreign_sets(&mut self) {
        let own = |of: &str, hash: &str| {
            let mut statuses = self.lines.iter().filter_map(|line| line.status_of(of));
            statuses.any(|(_, status)| status["currentPodHash"] == hash)
        };
        let mut hashes = self.hashes.clone();
        for (of, known) in &mut hashes {
            known.retain(|hash| own(of, hash));
        }
        self.hashes = hashes;
    }

    /// An act is written down when its answer is there, which may be after the watch told of its effect; and
    /// the watch may tell late what was before the act.
    fn put_acts_before_what_they_caused(&mut self) {
        for at in 0..self.lines.len() {
            let Line::Act(Act {
                text, on: Some(on), ..
            }) = &self.lines[at]
            else {
                continue;
            };
            let Line::Act(act) = &self.lines[at] else { continue };
            let first_with = |is: &dyn Fn(u64, &Value) -> bool, from: usize| {
                let lines = self.lines.iter().enumerate().skip(from);
                lines
                    .filter_map(|(place, line)| Some((place, line.status_of(on)?)))
                    .find(|(_, (generation, status))| is(*generation, status))
                    .map(|(place, _)| place)
            };
            let place = match act.generation() {
                Some(made) => first_with(&|generation, _| generation >= made, 0).filter(|place| *place < at),
                None if text.starts_with("abort") && self.is_of_an_executor() => {
                    first_with(&|_, status| status["abort"] == true, at).map(|place| place - 1)
                }
                None => None,
            };
            if let Some(place) = place {
                let act = self.lines.remove(at);
                self.lines.insert(place, act);
            }
        }
    }

    /// Phases and steps of one Rollout between the acts on it, repeats folded.
    pub(crate) fn states(&self, of: &str) -> Vec<String> {
        self.states_before(self.lines.len(), of)
    }

    fn states_before(&self, end: usize, of: &str) -> Vec<String> {
        let mut states: Vec<String> = Vec::new();
        let mut last = String::new();
        let mut acts = 0;
        for line in &self.lines[..end] {
            if let Line::Act(Act { on: Some(on), .. }) = line
                && on == of
            {
                acts += 1;
                states.push(format!("‹{acts}›"));
            }
            if let Some((_, status)) = line.status_of(of) {
                let now = token(status);
                if now != last {
                    states.push(now.clone());
                    last = now;
                }
            }
        }
        states
    }

    /// What a Rollout went through before the act with this number (from 0).
    pub(crate) fn states_before_act(&self, act: usize, of: &str) -> Vec<String> {
        let acts = self
            .lines
            .iter()
            .enumerate()
            .filter(|(_, line)| matches!(line, Line::Act(_)));
        let end = acts.map(|(place, _)| place).nth(act).unwrap_or(self.lines.len());
        self.states_before(end, of)
    }

    /// What one Rollout looked like just before the act with this number (from 1); number 0 is the end.
    pub(crate) fn before(&self, act: usize, of: &str) -> (Option<Value>, Vec<Sets>) {
        let mut acts = 0;
        let mut status_before = None;
        let (mut sets_before, mut sets_after) = (None, None);
        for line in &self.lines {
            let is_past = act != 0 && acts >= act;
            match line {
                Line::Act(_) => acts += 1,
                Line::Status {
                    rollout,
                    status,
                    sets,
                    ..
                } if rollout == of => {
                    if is_past {
                        sets_after = sets_after.or_else(|| Some(sets.clone()));
                    } else {
                        status_before = Some(status.clone());
                        sets_before = Some(sets.clone());
                    }
                }
                Line::Sets { rollout, sets } if rollout == of => {
                    if is_past {
                        sets_after = sets_after.or_else(|| Some(sets.clone()));
                    } else {
                        sets_before = Some(sets.clone());
                    }
                }
                _ => {}
            }
        }
        (status_before, sets_before.into_iter().chain(sets_after).collect())
    }

    /// Status and reason of the conditions of a Rollout before the act with this number (from 1; 0 is the end):
    /// what was written down last, and what came within the next lines, since an act may have come before the
    /// conditions of a pause did. Each line has only those that changed.
    pub(crate) fn conditions_before(&self, act: usize, of: &str) -> BTreeMap<String, Vec<(String, String)>> {
        let mut held: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        let (mut acts, mut past) = (0, 0);
        for line in &self.lines {
            acts += usize::from(matches!(line, Line::Act(_)));
            let Some((_, status)) = line.status_of(of) else {
                continue;
            };
            past += usize::from(act != 0 && acts >= act);
            if past > 2 {
                break;
            }
            for condition in status["conditions"].as_array().into_iter().flatten() {
                let text = |field: &str| condition[field].as_str().unwrap().to_owned();
                let seen = held.entry(text("type")).or_default();
                if past == 0 {
                    seen.clear();
                }
                seen.push((text("status"), text("reason")));
            }
        }
        held
    }

    /// The acts in their order.
    pub(crate) fn acts(&self) -> Vec<Act> {
        let acts = self.lines.iter();
        acts.filter_map(|line| {
            if let Line::Act(act) = line {
                Some(act.clone())
            } else {
                None
            }
        })
        .collect()
    }
}

/// The Rollout that a line of an executor's log changed.
fn acted_on(text: &str, line: &Value) -> Option<String> {
    if let Some((_, name)) = text.split_once("applied Rollout/") {
        return Some(name.to_owned());
    }
    if text.starts_with("a person adds env") || text.starts_with("JSON patch") {
        return Some("web".to_owned());
    }
    let (verb, name) = text.split_once(' ')?;
    (["abort", "full", "promote"].contains(&verb) && line["answer"] == "Done").then(|| name.to_owned())
}

fn sets(value: &Value) -> Sets {
    let count = |list: &Value, at: usize| list[at].as_i64().unwrap_or(0);
    let pairs = value.as_object().into_iter().flatten();
    pairs
        .map(|(hash, list)| (hash.clone(), (count(list, 0), count(list, 1), count(list, 2))))
        .collect()
}
