//! Reading recordings: what was done, and what was seen.

use std::{collections::BTreeMap, path::PathBuf};

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

/// What the driver did.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    pub(crate) text: String,
    pub(crate) body: Value,
    pub(crate) http: Option<u64>,
    pub(crate) generation: Option<u64>,
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

/// A recording with its manifests.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) name: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) manifests: Vec<Value>,
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
            manifests,
            hashes: BTreeMap::new(),
        };
        for line in text.lines() {
            recording.add(&serde_json::from_str(line).unwrap());
        }
        recording.put_applies_before_what_they_caused();
        recording
    }

    fn add(&mut self, line: &Value) {
        let rollout = line["rollout"].as_str().unwrap_or("web").to_owned();
        if let Some(text) = line["action"].as_str() {
            let controller = text.starts_with("stop controller") || text.starts_with("controller started");
            if line["http"].is_u64() || controller {
                self.lines.push(Line::Act(Act {
                    text: text.to_owned(),
                    body: line["body"].clone(),
                    http: line["http"].as_u64(),
                    generation: line["generation"].as_u64(),
                }));
            }
            return;
        }
        let sets = sets(&line["rs"]);
        let known = self.hashes.entry(rollout.clone()).or_default();
        let appeared = line["rsScaled"]
            .as_str()
            .map(str::to_owned)
            .filter(|_| line["from"].is_null());
        for hash in appeared.into_iter().chain(sets.keys().cloned()) {
            if !known.contains(&hash) {
                known.push(hash);
            }
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

    /// An action is written down when its answer is there, which may be after the watch told of its effect.
    fn put_applies_before_what_they_caused(&mut self) {
        let mut at = 0;
        while at < self.lines.len() {
            if let Line::Act(Act {
                generation: Some(made),
                ..
            }) = &self.lines[at]
            {
                let made = *made;
                let caused =
                    |line: &Line| matches!(line, Line::Status { generation, .. } if *generation >= made);
                let first = self.lines[..at].iter().position(caused);
                if let Some(first) = first.filter(|_| !self.is_on_another_rollout(at)) {
                    let act = self.lines.remove(at);
                    self.lines.insert(first, act);
                }
            }
            at += 1;
        }
    }

    fn is_on_another_rollout(&self, at: usize) -> bool {
        let other = |line: &Line| matches!(line, Line::Status { rollout, .. } if rollout != "web");
        self.lines[..at].iter().any(other)
    }

    /// Phases and steps of one Rollout between the actions, repeats folded.
    pub(crate) fn states(&self, of: &str) -> Vec<String> {
        let mut states: Vec<String> = Vec::new();
        let mut last = String::new();
        let mut acts = 0;
        for line in &self.lines {
            match line {
                Line::Act(_) => {
                    acts += 1;
                    states.push(format!("‹{acts}›"));
                }
                Line::Status { rollout, status, .. } if rollout == of => {
                    let now = token(status);
                    if now != last {
                        states.push(now.clone());
                        last = now;
                    }
                }
                _ => {}
            }
        }
        states
    }

    /// The act with this number (from 1), and what one Rollout looked like just before it; number 0 is the end.
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

fn sets(value: &Value) -> Sets {
    let count = |list: &Value, at: usize| list[at].as_i64().unwrap_or(0);
    let pairs = value.as_object().into_iter().flatten();
    pairs
        .map(|(hash, list)| (hash.clone(), (count(list, 0), count(list, 1), count(list, 2))))
        .collect()
}
