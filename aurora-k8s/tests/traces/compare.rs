//! The comparison of a simulated cluster with a recording.

use std::collections::BTreeSet;

use aurora_k8s::sim::resource;
use serde_json::{Value, json};

use crate::{
    recording::Sets,
    world::{HASH_LABEL, Outcome, World, rollout_of},
};

impl World {
    pub(crate) fn compare_states(&self) -> Outcome {
        for of in &self.rollouts {
            let recorded = self.recording.states(of).join(" ");
            let (theirs, mut ours) = (without_beginning(&recorded), without_beginning(&self.shown(of)));
            if !theirs.starts_with("‹1› P0 ") {
                ours = ours.replacen("‹1› P0 ", "‹1› ", 1);
            }
            // An executor's recording may have been cut while a Rollout was still moving.
            let moving = theirs
                .rsplit(' ')
                .next()
                .is_some_and(|last| last.starts_with('P'));
            let cut = self.recording.is_of_an_executor() && moving && ours.starts_with(&theirs);
            if theirs != ours && !cut {
                return Err(format!("the states of {of} are others\n  recorded {recorded}"));
            }
        }
        Ok(())
    }

    /// Compares the events on the Rollout, apart from scaling, whose steps depend on when each pod became ready.
    pub(crate) fn compare_events(&self) -> Outcome {
        let told = |events: BTreeSet<(String, String)>| -> BTreeSet<(String, String)> {
            events
                .into_iter()
                .filter(|(reason, _)| reason != "ScalingReplicaSet")
                .collect()
        };
        let theirs = told(self.recording.events.clone());
        if theirs.is_empty() {
            return Ok(());
        }
        let renaming = self.renaming("web");
        let rename = |text: &str| {
            renaming
                .iter()
                .fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
        };
        let theirs: BTreeSet<_> = theirs
            .iter()
            .map(|(reason, text)| (reason.clone(), rename(text)))
            .collect();
        let events = self
            .objects
            .list(&resource::EVENTS, Some(&self.recording.name))
            .items;
        let about = events
            .iter()
            .filter(|event| event["involvedObject"]["kind"] == "Rollout");
        let text = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
        let ours = told(
            about
                .map(|event| (text(event, "reason"), text(event, "message")))
                .collect(),
        );
        let missing: Vec<_> = theirs.difference(&ours).collect();
        let more: Vec<_> = ours.difference(&theirs).collect();
        // A real controller stops telling about one object after this many events.
        let capped = self.recording.event_count >= 25;
        if missing.is_empty() && (more.is_empty() || capped) {
            return Ok(());
        }
        Err(format!(
            "the events are others: missing {missing:?}, not recorded {more:?}"
        ))
    }

    /// Compares the settled state of a Rollout with the recording's just before the next act.
    pub(crate) fn compare(&self, of: &str) -> Outcome {
        let next = if self.done == self.acts.len() {
            0
        } else {
            self.done + 1
        };
        let (recorded, recorded_sets) = self.recording.before(next, of);
        let Some(recorded) = recorded else { return Ok(()) };
        let rollout = self.rollout(of).ok_or_else(|| format!("{of} is gone"))?;
        let live = &rollout["status"];
        let renaming = self.renaming(of);
        let rename = |text: &str| {
            renaming
                .iter()
                .fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
        };
        let place = format!("before act {} of {of}", self.done + 1);
        for field in ["message", "currentPodHash", "stableRS"] {
            let (theirs, ours) = (recorded[field].as_str(), live[field].as_str());
            if theirs.map(rename).as_deref() != ours {
                return Err(format!("{place}: {field} is {ours:?}, recorded {theirs:?}"));
            }
        }
        for field in ["activeSelector", "previewSelector"] {
            let (theirs, ours) = (
                recorded["blueGreen"][field].as_str(),
                live["blueGreen"][field].as_str(),
            );
            if theirs.map(rename).as_deref() != ours {
                return Err(format!("{place}: {field} is {ours:?}, recorded {theirs:?}"));
            }
        }
        let counters = [
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "currentStepIndex",
        ];
        let flags = ["abort", "controllerPause", "promoteFull", "observedGeneration"];
        for field in counters.into_iter().chain(flags) {
            let absent_when_false = |value: &Value| {
                if *value == json!(false) {
                    Value::Null
                } else {
                    value.clone()
                }
            };
            if absent_when_false(&recorded[field]) != absent_when_false(&live[field]) {
                return Err(format!(
                    "{place}: {field} is {}, recorded {}",
                    live[field], recorded[field]
                ));
            }
        }
        let reasons = |status: &Value| {
            let pauses = status["pauseConditions"].as_array().into_iter().flatten();
            pauses.map(|pause| pause["reason"].clone()).collect::<Vec<_>>()
        };
        if reasons(&recorded) != reasons(live) {
            return Err(format!(
                "{place}: pauseConditions are {}",
                live["pauseConditions"]
            ));
        }
        for (kind, seen) in self.recording.conditions_before(next, of) {
            let held = live["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|it| it["type"] == kind);
            // One that went, or that came only with the act, is not mentioned.
            let equal = |held: &Value| {
                seen.iter()
                    .any(|(status, reason)| held["status"] == *status && held["reason"] == *reason)
            };
            if held.is_some_and(|held| !equal(held)) {
                return Err(format!(
                    "{place}: condition {kind} is {held:?}, recorded {seen:?}"
                ));
            }
        }
        let ours = self.sets(of);
        // The counts of a blue/green Rollout are those of the pods that users find.
        let active = live["blueGreen"]["activeSelector"].as_str();
        let counted = ours
            .iter()
            .filter(|(hash, _)| active.is_none_or(|active| active == *hash || !ours.contains_key(active)));
        let ready: i64 = counted.map(|(_, (_, _, ready))| ready).sum();
        if ready != live["readyReplicas"].as_i64().unwrap_or(0) {
            return Err(format!(
                "{place}: {ready} pods are ready, the status says {}",
                live["readyReplicas"]
            ));
        }
        // Where the recorded status counts pods that are not there, the real controller was behind the pods.
        let counted = recorded["replicas"].as_i64().unwrap_or(0);
        let behind = recorded_sets
            .iter()
            .all(|sets| sets.values().map(|(_, pods, _)| pods).sum::<i64>() < counted);
        for (theirs, name) in renaming {
            // The recorder's watches of ReplicaSets and pods may lag behind that of the Rollout: the lines on
            // both sides of the act count, and ready pods are compared by the counter in the status.
            let seen: Vec<_> = recorded_sets
                .iter()
                .filter_map(|sets| sets.get(&theirs))
                .collect();
            let held = ours.get(&name);
            let last = next == 0;
            let equal = seen.iter().any(|seen| {
                held.is_some_and(|held| held.0 == seen.0 && (held.1 == seen.1 || last || behind))
            });
            if !seen.is_empty() && !equal {
                return Err(format!(
                    "{place}: pods of {name} ({theirs}) are {held:?}, recorded {seen:?}"
                ));
            }
        }
        Ok(())
    }

    /// The ReplicaSets of a Rollout, with their pods that are not being deleted.
    pub(crate) fn sets(&self, of: &str) -> Sets {
        let namespace = Some(self.recording.name.as_str());
        let pods = self.objects.list(&resource::PODS, namespace).items;
        let sets = self.objects.list(&resource::REPLICA_SETS, namespace).items;
        let owned = sets.iter().filter(|set| rollout_of(set) == Some(of));
        owned
            .map(|set| {
                let hash = set["metadata"]["labels"][HASH_LABEL].as_str().unwrap().to_owned();
                let own = pods.iter().filter(|pod| {
                    pod["metadata"]["ownerReferences"][0]["uid"] == set["metadata"]["uid"]
                        && pod["metadata"]["deletionTimestamp"].is_null()
                });
                let own: Vec<_> = own.collect();
                let ready = own.iter().filter(|pod| {
                    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
                    conditions
                        .into_iter()
                        .any(|it| it["type"] == "Ready" && it["status"] == "True")
                });
                let count = |number: usize| i64::try_from(number).unwrap();
                let wanted = set["spec"]["replicas"].as_i64().unwrap();
                (hash, (wanted, count(own.len()), count(ready.count())))
            })
            .collect()
    }

    /// Recorded hash → ours, by the order in which the ReplicaSets appeared.
    fn renaming(&self, of: &str) -> Vec<(String, String)> {
        let theirs = self.recording.hashes.get(of).into_iter().flatten().cloned();
        let ours = self.appeared.get(of).into_iter().flatten().cloned();
        theirs.zip(ours).collect()
    }
}

/// Some recorders came too late to see the Rollout before it had a phase.
fn without_beginning(states: &str) -> String {
    states.replacen("– ", "", 1)
}
