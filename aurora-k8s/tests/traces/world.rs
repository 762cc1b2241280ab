//! A simulated cluster in virtual time with a driver beside it, and the comparison with a recording.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use aurora_k8s::sim::{
    Behaviour, Controllers, Delete, ObjectError, Objects, Resource,
    objects::{tokio_clock, version_of},
    patch, resource,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::recording::{Act, Recording, token};

/// Why a replay is not equal to its recording.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// A driver: acts on the world until the recording is through.
pub(crate) type Driver = for<'a> fn(&'a mut World) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// Nothing more is waited for than this.
const PATIENCE: Duration = Duration::from_secs(300);
/// A state is settled when nothing changed for this long.
const QUIET: Duration = Duration::from_millis(800);

pub(crate) const HASH_LABEL: &str = "rollouts-pod-template-hash";

pub(crate) struct World {
    pub(crate) objects: Objects,
    pub(crate) behaviour: Behaviour,
    pub(crate) recording: Recording,
    pub(crate) rollouts: Vec<String>,
    /// Whether pods of the image `switch` that start from now on crash.
    pub(crate) switched: bool,
    pub(crate) acts: Vec<Act>,
    pub(crate) done: usize,
    seen: u64,
    states: BTreeMap<String, Vec<String>>,
    numbered: BTreeMap<String, usize>,
    last: BTreeMap<String, String>,
    pub(crate) appeared: BTreeMap<String, Vec<String>>,
}

impl World {
    /// Runs a driver beside the controllers; answers the states seen and whether they equal the recording's.
    pub(crate) async fn replay(recording: Recording, driver: Driver) -> (String, Outcome) {
        let objects = Objects::new(tokio_clock("2026-01-01T00:00:00.35Z".parse().unwrap()));
        let behaviour = Behaviour::default();
        let stop = CancellationToken::new();
        let controllers = Controllers::new(objects.clone(), behaviour.clone()).run(stop.clone());
        let rollouts: Vec<String> = recording.hashes.keys().cloned().collect();
        let acts = recording.acts();
        let seen = objects.resource_version();
        let mut world = Self {
            objects,
            behaviour,
            recording,
            rollouts,
            switched: false,
            acts,
            done: 0,
            seen,
            states: BTreeMap::new(),
            numbered: BTreeMap::new(),
            last: BTreeMap::new(),
            appeared: BTreeMap::new(),
        };
        let namespace = world.recording.name.clone();
        world
            .objects
            .create(&resource::NAMESPACES, json!({"metadata": {"name": namespace}}))
            .unwrap();
        let drive = async {
            let mut result = driver(&mut world).await;
            world.collect();
            if result.is_ok() && world.done != world.acts.len() {
                result = Err(format!(
                    "{} of {} recorded actions were replayed",
                    world.done,
                    world.acts.len()
                ));
            }
            result
        };
        let result = tokio::select! {
            biased;
            result = drive => result,
            () = controllers => Err("the controllers stopped".to_owned()),
        };
        stop.cancel();
        let shown = world
            .rollouts
            .iter()
            .map(|of| world.shown(of))
            .collect::<Vec<_>>()
            .join("; ");
        let result = result
            .and_then(|()| world.compare_states())
            .and_then(|()| world.compare_events());
        (
            shown.clone(),
            result.map_err(|difference| format!("{difference}\n  replayed {shown}")),
        )
    }

    pub(crate) fn shown(&self, of: &str) -> String {
        self.states
            .get(of)
            .map(|states| states.join(" "))
            .unwrap_or_default()
    }

    pub(crate) fn rollout(&self, name: &str) -> Option<Arc<Value>> {
        self.objects.get(&resource::ROLLOUTS, &self.recording.name, name)
    }

    /// Takes up what the Rollouts went through since the last call.
    fn collect(&mut self) {
        let events = self.objects.events_since(self.seen).unwrap();
        for event in events {
            self.seen = event.rv;
            let owner = rollout_of(&event.object);
            if let (true, Some(of)) = (*event.resource == resource::REPLICA_SETS, owner) {
                let hash = event.object["metadata"]["labels"][HASH_LABEL]
                    .as_str()
                    .unwrap()
                    .to_owned();
                assert_eq!(
                    event.object["metadata"]["name"],
                    format!("{of}-{hash}"),
                    "names are made of hashes"
                );
                let known = self.appeared.entry(of.to_owned()).or_default();
                if !known.contains(&hash) {
                    known.push(hash);
                }
            }
            if *event.resource == resource::ROLLOUTS && event.kind != aurora_k8s::sim::WatchKind::Deleted {
                let of = event.object["metadata"]["name"].as_str().unwrap().to_owned();
                let now = token(&event.object["status"]);
                if self.last.get(&of) != Some(&now) {
                    self.states.entry(of.clone()).or_default().push(now.clone());
                    self.last.insert(of, now);
                }
            }
        }
    }

    /// Waits for a state of the only Rollout.
    pub(crate) async fn until(&mut self, state: &str) -> Outcome {
        self.until_it("web", state, |status| token(status) == state).await
    }

    /// Waits until the status of a Rollout is as wanted.
    pub(crate) async fn until_it(&mut self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Outcome {
        let mut changed = self.objects.changed();
        let wait = async {
            loop {
                if self.rollout(name).is_some_and(|rollout| is(&rollout["status"])) {
                    return;
                }
                changed.changed().await.unwrap();
            }
        };
        let arrived = timeout(PATIENCE, wait).await;
        self.collect();
        arrived.map_err(|_| {
            let status = self.rollout(name).map(|rollout| rollout["status"].clone());
            format!(
                "{name} never came to {what}; its status is {}",
                status.unwrap_or_default()
            )
        })
    }

    /// Waits for a state, and until nothing changes any more; compares what the recording has there.
    pub(crate) async fn settled(&mut self, state: &str) -> Outcome {
        self.stands(state).await?;
        self.compare("web")
    }

    /// Waits for a state, and until nothing changes any more.
    pub(crate) async fn stands(&mut self, state: &str) -> Outcome {
        self.until(state).await?;
        self.quiet().await;
        if self.last.get("web").map(String::as_str) == Some(state) {
            return Ok(());
        }
        Err(format!("{state} did not stay"))
    }

    /// Waits until no Rollout and no ReplicaSet changed for a while.
    pub(crate) async fn quiet(&mut self) {
        let start = Instant::now();
        let print = |world: &Self| {
            let list = |kind: &Resource| world.objects.list(kind, Some(&world.recording.name)).items;
            let all = list(&resource::ROLLOUTS)
                .into_iter()
                .chain(list(&resource::REPLICA_SETS));
            all.map(|object| version_of(&object)).max()
        };
        let mut before = print(self);
        while start.elapsed() < PATIENCE {
            sleep(QUIET).await;
            let now = print(self);
            if now == before {
                break;
            }
            before = now;
        }
        self.collect();
    }

    /// The next recorded act, which has to be the one that the driver means.
    pub(crate) fn next_act(&mut self, meant: &str) -> Outcome<Act> {
        self.collect();
        let act = self
            .acts
            .get(self.done)
            .cloned()
            .ok_or("the recording has no further act")?;
        if !act.text.contains(meant) {
            return Err(format!(
                "the driver means {meant:?}, the recording has {:?}",
                act.text
            ));
        }
        self.done += 1;
        if let Some(of) = &act.on {
            let number = self.numbered.entry(of.clone()).or_default();
            *number += 1;
            self.states
                .entry(of.clone())
                .or_default()
                .push(format!("‹{number}›"));
        }
        Ok(act)
    }

    /// The act that comes next in the recording.
    pub(crate) fn coming_act(&self) -> Option<Act> {
        self.acts.get(self.done).cloned()
    }

    /// Waits until a Rollout has gone through as many states as it had before the next act.
    pub(crate) async fn until_as_recorded(&mut self, of: &str) -> Outcome {
        let recorded = self.recording.states_before_act(self.done, of);
        let with_phase = |states: &[String]| states.iter().filter(|state| *state != "–").count();
        let mut changed = self.objects.changed();
        let start = Instant::now();
        loop {
            self.collect();
            if self.switched {
                self.crash_switched_pods();
            }
            let held = self.states.get(of).map_or(0, |states| with_phase(states));
            if held >= with_phase(&recorded) {
                return Ok(());
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            if timeout(left, changed.changed()).await.is_err() {
                let recorded = recorded.join(" ");
                let act = self.done + 1;
                return Err(format!(
                    "{of} did not go on as before act {act}: recorded {recorded}"
                ));
            }
        }
    }

    /// Waits until all Rollouts are where they were, and nothing changes any more; compares them.
    pub(crate) async fn all_settled_as_recorded(&mut self) -> Outcome {
        for of in self.rollouts.clone() {
            self.until_as_recorded(&of).await?;
        }
        self.quiet().await;
        for of in self.rollouts.clone() {
            // One that was still moving had not settled.
            if !self
                .recording
                .states_before_act(self.done, &of)
                .last()
                .is_some_and(|it| it.starts_with('P'))
            {
                self.compare(&of)?;
            }
        }
        Ok(())
    }

    /// Applies a manifest of the recording, changed by the driver where the recording has it only once.
    pub(crate) fn apply(&mut self, meant: &str, manifest: usize, change: impl Fn(&mut Value)) -> Outcome {
        let act = self.next_act(meant)?;
        let mut manifest = self.recording.manifests[manifest].clone();
        change(&mut manifest);
        let answer = self.write(&manifest);
        check_answer(&act, &answer)?;
        let generation = answer
            .ok()
            .and_then(|object| object["metadata"]["generation"].as_u64());
        if act.generation().is_some() && act.generation() != generation {
            return Err(format!(
                "{meant}: generation {generation:?}, recorded {:?}",
                act.generation()
            ));
        }
        Ok(())
    }

    /// Writes a manifest as a forced apply of its only owner would.
    pub(crate) fn write(&self, manifest: &Value) -> Result<Arc<Value>, ObjectError> {
        let text = |field: &str| manifest[field].as_str().unwrap();
        let kind = self
            .objects
            .resource_of_kind(text("apiVersion"), text("kind"))
            .unwrap();
        let name = manifest["metadata"]["name"].as_str().unwrap();
        match self.objects.get(&kind, &self.recording.name, name) {
            None => {
                let mut manifest = manifest.clone();
                manifest["metadata"]["namespace"] = self.recording.name.clone().into();
                self.objects.create(&kind, manifest)
            }
            Some(live) => {
                let mut next = (*live).clone();
                for (field, value) in manifest.as_object().unwrap() {
                    if field != "metadata" {
                        next[field.as_str()] = value.clone();
                    }
                }
                let mut metadata = manifest["metadata"].clone();
                if let Some(members) = metadata.as_object_mut() {
                    members.remove("namespace");
                }
                patch::merge(&mut next["metadata"], &metadata);
                self.objects.update(&kind, &self.recording.name, name, None, next)
            }
        }
    }

    /// Sends the recorded merge patch to the Rollout.
    pub(crate) fn patch(&mut self, meant: &str) -> Outcome {
        self.patch_with(meant, |_| {})
    }

    /// Sends the recorded merge patch, with what depends on this run put in by the driver.
    pub(crate) fn patch_with(&mut self, meant: &str, change: impl Fn(&mut Value)) -> Outcome {
        let act = self.next_act(meant)?;
        let mut body = act.line["body"].clone();
        change(&mut body);
        check_answer(&act, &self.send("web", &body))
    }

    /// A merge patch of a Rollout: of its status where the body has one, else of its spec.
    pub(crate) fn send(&self, name: &str, body: &Value) -> Result<Arc<Value>, ObjectError> {
        let live = self.rollout(name).unwrap();
        let expected = body["metadata"]["resourceVersion"]
            .as_str()
            .map(|text| text.parse().unwrap());
        let mut next = (*live).clone();
        let namespace = &self.recording.name;
        if let Some(status) = body.get("status") {
            patch::merge(&mut next["status"], status);
            self.objects
                .update_status(&resource::ROLLOUTS, namespace, name, expected, &next)
        } else {
            patch::merge(&mut next["spec"], &body["spec"]);
            self.objects
                .update(&resource::ROLLOUTS, namespace, name, expected, next)
        }
    }

    /// Restarts the API server: nothing that was watched before can be resumed.
    pub(crate) fn restart_api_server(&mut self) {
        self.collect();
        self.objects.compact();
        self.seen = self.objects.resource_version();
    }

    /// Puts something into the namespace that keeps it from going.
    pub(crate) fn hold_namespace(&self) {
        let held = json!({"metadata": {
            "name": "held", "namespace": self.recording.name, "finalizers": ["example.com/hold"],
        }});
        self.objects.create(&resource::CONFIG_MAPS, held).unwrap();
    }

    pub(crate) fn release_namespace(&mut self, meant: &str) -> Outcome {
        let act = self.next_act(meant)?;
        let namespace = &self.recording.name;
        let mut held = (*self
            .objects
            .get(&resource::CONFIG_MAPS, namespace, "held")
            .unwrap())
        .clone();
        held["metadata"]["finalizers"] = json!([]);
        check_answer(
            &act,
            &self
                .objects
                .update(&resource::CONFIG_MAPS, namespace, "held", None, held),
        )
    }

    pub(crate) fn delete_namespace(&mut self, meant: &str) -> Outcome {
        let act = self.next_act(meant)?;
        let answer = self.objects.delete(
            &resource::NAMESPACES,
            "",
            &self.recording.name,
            &Delete::default(),
        );
        check_answer(&act, &answer)
    }
}

/// The Rollout that owns a ReplicaSet.
pub(crate) fn rollout_of(set: &Value) -> Option<&str> {
    let owner = &set["metadata"]["ownerReferences"][0];
    owner["name"].as_str().filter(|_| owner["kind"] == "Rollout")
}

pub(crate) fn check_answer(act: &Act, answer: &Result<Arc<Value>, ObjectError>) -> Outcome {
    let code = match answer {
        Ok(_) => 200,
        Err(ObjectError::Conflict { .. }) => 409,
        Err(ObjectError::NotFound { .. }) => 404,
        Err(ObjectError::NamespaceTerminating { .. }) => 403,
        Err(error) => return Err(format!("{}: {error}", act.text)),
    };
    let recorded = act.http().map(|code| if code == 201 { 200 } else { code });
    if recorded.is_some_and(|recorded| recorded != code) {
        return Err(format!("{}: answered {code}, recorded {recorded:?}", act.text));
    }
    Ok(())
}
