//! The driver of recordings whose acts are an executor's log: several Rollouts, moved by plans.
//!
//! Each recorded act is replayed once its Rollout has gone through what it had gone through then.

use std::collections::{BTreeMap, BTreeSet};

use aurora_k8s::sim::{Delete, resource};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep_until};

use crate::{
    recording::Act,
    world::{Outcome, World},
};

/// A plan: its manifests by kind and name.
type Plan = BTreeMap<String, Value>;

/// Plans by digest, and the one that each log applies at the moment.
#[derive(Debug, Default)]
struct Plans {
    written_down: Vec<Plan>,
    by_digest: BTreeMap<String, Plan>,
    accepted: BTreeMap<String, String>,
}

/// Acts as soon as the Rollouts have gone through what they had gone through.
pub(crate) async fn executor(w: &mut World) -> Outcome {
    replay(w, false).await
}

/// The same, but no act comes earlier than it was recorded: for what depends on how far one Rollout is ahead
/// of another, or on the period of an autoscaler.
pub(crate) async fn paced_executor(w: &mut World) -> Outcome {
    replay(w, true).await
}

/// The same as the first, while the counts of ReplicaSets lag behind, as they did in the recording.
pub(crate) async fn executor_under_load(w: &mut World) -> Outcome {
    w.behaviour.delay_counts(Duration::from_millis(300));
    replay(w, false).await
}

async fn replay(w: &mut World, paced: bool) -> Outcome {
    // Recorded time of the first target that was done, and when it was done here: pacing begins there.
    let mut start: Option<(Instant, u64)> = None;
    let mut plans = Plans {
        written_down: split(&w.recording.manifests),
        ..Plans::default()
    };
    let mut gates = 0;
    let mut lacking = BTreeSet::new();
    while let Some(act) = w.coming_act() {
        let (log, text) = act
            .text
            .strip_prefix("apply: ")
            .map_or(("", act.text.as_str()), |rest| ("apply", rest));
        match act.on.as_deref().filter(|_| text.starts_with("full")) {
            // Full promotion of a first deployment races with its end, whatever the others do.
            Some(on) => w.until_as_recorded(on).await?,
            None => {
                for of in w.rollouts.clone() {
                    w.until_as_recorded(&of).await?;
                }
            }
        }
        let recorded = act.line["t"].as_u64().unwrap_or(0);
        if let Some((here, there)) = start.filter(|_| paced) {
            sleep_until(here + Duration::from_millis(recorded - there)).await;
        } else if text == "target done" {
            start = Some((Instant::now(), recorded));
        }
        if ["gate open", "target done", "rolled back"].contains(&text) {
            w.all_settled_as_recorded().await?;
            gates += usize::from(text == "gate open");
            w.switched = gates == 2;
        }
        w.next_act(&act.text)?;
        if let Some((name, _)) = text
            .strip_prefix("Service ")
            .and_then(|rest| rest.split_once(" lacks its hash"))
        {
            lacking.insert(name.to_owned());
        }
        if text == "plan accepted" {
            plans.accept(log, &act);
        } else if let Some(what) = text.strip_prefix("applied ") {
            let mut manifest = plans.manifest(log, what)?;
            let name = what.split_once('/').map_or("", |(_, name)| name);
            if lacking.remove(name) {
                w.give_hash(&mut manifest);
            }
            apply(w, &act, &manifest)?;
        } else {
            other(w, &act, text, &plans.written_down[0])?;
            if text.starts_with("end the delay") {
                // What comes next came when the pods were gone.
                w.quiet().await;
            }
        }
    }
    for of in w.rollouts.clone() {
        w.until_as_recorded(&of).await?;
    }
    Ok(())
}

/// Manifests stand in the order of their plans; each plan begins with the ConfigMap of an application that is
/// complete in the one before.
fn split(manifests: &[Value]) -> Vec<Plan> {
    let mut plans: Vec<Plan> = vec![Plan::new()];
    for manifest in manifests {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (kind, name) = (text(&manifest["kind"]), text(&manifest["metadata"]["name"]));
        let application = name.split('-').next().unwrap();
        let complete = plans
            .last()
            .unwrap()
            .contains_key(&format!("Rollout/{application}"));
        if kind == "ConfigMap" && complete {
            plans.push(Plan::new());
        }
        plans
            .last_mut()
            .unwrap()
            .insert(format!("{kind}/{name}"), manifest.clone());
    }
    plans
}

impl Plans {
    fn accept(&mut self, log: &str, act: &Act) {
        self.accepted
            .insert(log.to_owned(), act.line["digest"].to_string());
    }

    /// The manifest of an object in the plan that a log applies. The plan of a digest is the one that has the
    /// first object applied of it; one that is not written down is the first plan with other images and names.
    fn manifest(&mut self, log: &str, what: &str) -> Outcome<Value> {
        let digest = self.accepted.get(log).ok_or("no plan is accepted")?.clone();
        if !self.by_digest.contains_key(&digest) {
            let used: Vec<Plan> = self.by_digest.values().cloned().collect();
            let fresh = self
                .written_down
                .iter()
                .find(|plan| plan.contains_key(what) && !used.contains(plan));
            // One that changes no configuration of the first is the first again, but for what asks at its gates.
            let same = !what.starts_with("ConfigMap/") && used.contains(&self.written_down[0]);
            let plan = fresh.cloned().unwrap_or_else(|| {
                if same && what.ends_with("-active") {
                    self.written_down[0].clone()
                } else {
                    other_version(&self.written_down[0], what)
                }
            });
            self.by_digest.insert(digest.clone(), plan);
        }
        let plan = &self.by_digest[&digest];
        let known = plan.get(what).cloned();
        known
            .or_else(|| generated(what))
            .ok_or_else(|| format!("{what} is not in the plan"))
    }
}

/// A plan that differs from a known one in its configuration and its image.
fn other_version(known: &Plan, first: &str) -> Plan {
    let text = serde_json::to_string(known).unwrap();
    let old = known
        .keys()
        .find_map(|key| key.strip_prefix("ConfigMap/web-config-"))
        .unwrap();
    let new = first
        .rsplit('-')
        .next()
        .filter(|_| first.starts_with("ConfigMap/"))
        .unwrap_or(old);
    let text = text.replace(old, new).replace("\"ok:1\"", "\"ok:2\"");
    serde_json::from_str(&text).unwrap()
}

/// What the recordings mention without writing it down.
fn generated(what: &str) -> Option<Value> {
    let (kind, name) = what.split_once('/')?;
    (kind == "HorizontalPodAutoscaler").then(|| {
        json!({
            "apiVersion": "autoscaling/v2", "kind": kind, "metadata": {"name": name},
            "spec": {
                "scaleTargetRef": {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": name},
                "minReplicas": 6, "maxReplicas": 8,
            },
        })
    })
}

fn apply(w: &World, act: &Act, manifest: &Value) -> Outcome {
    let mut manifest = manifest.clone();
    if manifest["kind"] == "Rollout" {
        // The executor sends the live count, or none, where something else owns it.
        manifest["spec"]["replicas"] = act.line["replicas"].clone();
    }
    if manifest["kind"] == "Service" {
        w.keep_live_hash(&mut manifest);
    }
    let written = w
        .write(&manifest)
        .map_err(|error| format!("{}: {error}", act.text))?;
    let generation = written["metadata"]["generation"].as_u64();
    if act.generation().is_some() && generation != act.generation() {
        return Err(format!(
            "{}: generation {generation:?}, recorded {:?}",
            act.text,
            act.generation()
        ));
    }
    Ok(())
}

fn other(w: &mut World, act: &Act, text: &str, first: &Plan) -> Outcome {
    let done = act.line["answer"] == "Done";
    let body = match text.split(' ').next().unwrap_or_default() {
        "abort" if done => json!({"status": {"abort": true, "promoteFull": null}}),
        "full" if done => json!({"status": {"promoteFull": true}}),
        "promote" if done => json!({"status": {"pauseConditions": null}}),
        _ => Value::Null,
    };
    if let (Some(on), false) = (&act.on, body.is_null()) {
        w.send(on, &body).map_err(|error| format!("{text}: {error}"))?;
    }
    if text.starts_with("a person adds env DEBUG") {
        w.edit("web", |rollout| {
            let env = &mut rollout["spec"]["template"]["spec"]["containers"][0]["env"];
            match env.as_array_mut() {
                Some(env) => env.push(json!({"name": "DEBUG", "value": "1"})),
                None => *env = json!([{"name": "DEBUG", "value": "1"}]),
            }
        })?;
    }
    if text.starts_with("JSON patch") {
        let rendered = first["Rollout/web"]["spec"]["template"].clone();
        w.edit("web", |rollout| rollout["spec"]["template"] = rendered.clone())?;
    }
    if text == "a person deletes both Services of web" {
        w.delete(&resource::SERVICES, "web-active");
        w.delete(&resource::SERVICES, "web-preview");
    }
    if text == "a person deletes web-active at the gate" {
        w.delete(&resource::SERVICES, "web-active");
    }
    if text == "a person removes the hash from web-active" {
        w.change(&resource::SERVICES, "web-active", |service| {
            let selector = service["spec"]["selector"].as_object_mut().unwrap();
            selector.remove(crate::world::HASH_LABEL);
        })?;
    }
    if text.starts_with("set scale-down-deadline") || text.starts_with("end the delay") {
        w.end_delays()?;
    }
    if text.starts_with("HPA deleted") {
        w.delete(&resource::HORIZONTAL_POD_AUTOSCALERS, "web");
    }
    if text.starts_with("API server SIGKILLed") {
        w.restart_api_server();
    }
    for gone in act.line["gone"].as_array().into_iter().flatten() {
        let mut parts = gone[0].as_str().unwrap().split('/');
        let (kind, name) = (parts.next().unwrap(), parts.next_back().unwrap());
        let kinds = w.objects.resources();
        let kind = kinds.iter().find(|it| it.kind == kind).unwrap();
        w.delete(kind, name);
    }
    Ok(())
}

impl World {
    fn keep_live_hash(&self, service: &mut Value) {
        let name = service["metadata"]["name"].as_str().unwrap();
        let live = self.objects.get(&resource::SERVICES, &self.recording.name, name);
        if let Some(hash) =
            live.and_then(|live| live["spec"]["selector"].get(crate::world::HASH_LABEL).cloned())
        {
            service["spec"]["selector"][crate::world::HASH_LABEL] = hash;
        }
    }

    /// What a Service of a blue/green Rollout selects when it lost its hash.
    fn give_hash(&self, service: &mut Value) {
        let name = service["metadata"]["name"].as_str().unwrap();
        let (of, role) = name.rsplit_once('-').unwrap();
        let field = if role == "active" {
            "stableRS"
        } else {
            "currentPodHash"
        };
        let hash = self.rollout(of).unwrap()["status"][field].clone();
        service["spec"]["selector"][crate::world::HASH_LABEL] = hash;
    }

    /// Ends the scale-down delay of every ReplicaSet, as a person would.
    fn end_delays(&self) -> Outcome {
        let namespace = &self.recording.name;
        for set in self.objects.list(&resource::REPLICA_SETS, Some(namespace)).items {
            if set["metadata"]["annotations"]["scale-down-deadline"].is_string() {
                let name = set["metadata"]["name"].as_str().unwrap();
                self.change(&resource::REPLICA_SETS, name, |set| {
                    set["metadata"]["annotations"]["scale-down-deadline"] = json!("2020-01-01T00:00:00Z");
                })?;
            }
        }
        Ok(())
    }

    /// The image `switch` behaves until it is switched; pods that start later crash.
    pub(crate) fn crash_switched_pods(&self) {
        for pod in self
            .objects
            .list(&resource::PODS, Some(&self.recording.name))
            .items
        {
            let starts = pod["status"]["conditions"]
                .to_string()
                .contains("\"True\",\"type\":\"Ready\"");
            if pod["spec"]["containers"][0]["image"] == "switch:2" && !starts {
                let mut next = (*pod).clone();
                next["metadata"]["annotations"]["sim.aurora.dev/behaviour"] = json!("crash");
                let name = pod["metadata"]["name"].as_str().unwrap();
                self.objects
                    .update(&resource::PODS, &self.recording.name, name, None, next)
                    .unwrap();
            }
        }
    }

    fn edit(&self, name: &str, change: impl Fn(&mut Value)) -> Outcome {
        let mut next = (*self.rollout(name).unwrap()).clone();
        change(&mut next);
        let written = self
            .objects
            .update(&resource::ROLLOUTS, &self.recording.name, name, None, next);
        written.map(|_| ()).map_err(|error| error.to_string())
    }

    fn delete(&self, kind: &aurora_k8s::sim::Resource, name: &str) {
        // The recording tells of some that were gone already.
        let _gone = self
            .objects
            .delete(kind, &self.recording.name, name, &Delete::default());
    }
}
