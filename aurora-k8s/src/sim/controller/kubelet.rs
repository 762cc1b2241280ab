//! The one node: binds pods, brings them up as their image says, and takes them away.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::sim::{
    objects::{Delete, Objects, WatchEvent, seconds},
    resource::{CONFIG_MAPS, NODES, PODS, SECRETS},
};

use super::{
    meta, pods,
    queue::{Next, ObjectKey, Reconciler},
    write,
};

/// The annotation of a pod that decides how it behaves, in place of its image's name.
const BEHAVIOUR: &str = "sim.aurora.dev/behaviour";
/// The node that all pods run on.
pub(super) const NODE: &str = "sim-node";
/// From creation to being bound to the node.
const BIND: Duration = Duration::from_millis(50);
/// From being bound to ready.
const START: Duration = Duration::from_millis(450);
/// The same for slow images.
const START_SLOW: Duration = Duration::from_secs(4);
/// From deletion to being gone.
const STOP: Duration = Duration::from_millis(300);
/// How long a crashing container lives.
const CRASH: Duration = Duration::from_millis(400);
/// How long a container works that ends by itself.
const WORK: Duration = Duration::from_millis(900);
/// Longest wait before a crashed container is started again.
const BACK_OFF_LONGEST: Duration = Duration::from_secs(30);
/// How often a pod that waits for its configuration looks again.
const CONFIGURATION: Duration = Duration::from_millis(500);

/// The kubelet.
#[derive(Debug)]
pub(super) struct Kubelet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    BadPull,
    Crash,
    NeverReady,
    Ready,
    Slow,
}

#[async_trait]
impl Reconciler for Kubelet {
    fn latency(&self) -> Duration {
        Duration::from_millis(5)
    }

    fn wants(&self, _objects: &Objects, event: &WatchEvent) -> Vec<ObjectKey> {
        if *event.resource == PODS {
            vec![meta::key(&event.object)]
        } else {
            Vec::new()
        }
    }

    async fn reconcile(&self, objects: &Objects, (namespace, name): &ObjectKey) -> Next {
        let Some(pod) = objects.get(&PODS, namespace, name) else {
            return Next::Done;
        };
        if meta::is_deleting(&pod) {
            tokio::time::sleep(STOP).await;
            let how = Delete {
                uid: Some(meta::uid(&pod).to_owned()),
                grace_seconds: Some(0),
                ..Delete::default()
            };
            // Gone already, or replaced by another pod of that name.
            let _gone = objects.delete(&PODS, namespace, name, &how);
            return Next::Done;
        }
        if !pod["spec"]["nodeName"].is_string() {
            tokio::time::sleep(BIND).await;
            ensure_node(objects);
            let _bound = write::edit(objects, &PODS, namespace, name, |pod| {
                meta::put(pod, &["spec", "nodeName"], NODE);
            });
            return Next::Done;
        }
        advance(objects, &pod)
    }
}

/// One step of a bound pod's life; says when the next one is due.
fn advance(objects: &Objects, pod: &Value) -> Next {
    let now = objects.now();
    if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return Next::Done;
    }
    if let Some(missing) = missing_configuration(objects, pod) {
        let waiting = json!({"waiting": {"reason": "CreateContainerConfigError", "message": missing}});
        set_status(objects, pod, "Pending", &waiting, false, &json!(0), &Value::Null);
        return Next::After(CONFIGURATION);
    }
    match fate(pod) {
        Fate::BadPull => {
            let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
            let message = format!("Back-off pulling image \"{image}\": ErrImagePull: not found");
            let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": message}});
            set_status(objects, pod, "Pending", &waiting, false, &json!(0), &Value::Null);
            write::event(objects, "kubelet", pod, true, "Failed", &message);
            Next::Done
        }
        Fate::Crash => crash(objects, pod, now),
        Fate::NeverReady => {
            run(objects, pod, now, false);
            Next::Done
        }
        Fate::Ready if runs_to_an_end(pod) => finish(objects, pod, now, WORK),
        Fate::Slow if runs_to_an_end(pod) => finish(objects, pod, now, START_SLOW),
        Fate::Ready => start(objects, pod, now, START),
        Fate::Slow => start(objects, pod, now, START_SLOW),
    }
}

/// Whether the pod is one that ends by itself, as those of Jobs do.
fn runs_to_an_end(pod: &Value) -> bool {
    matches!(pod["spec"]["restartPolicy"].as_str(), Some("Never" | "OnFailure"))
}

/// A container that does its work and exits with 0.
fn finish(objects: &Objects, pod: &Value, now: Timestamp, takes: Duration) -> Next {
    let Some(started) = started_at(pod) else {
        run(objects, pod, now, false);
        return Next::After(takes);
    };
    let passed = Duration::try_from(now.duration_since(started)).unwrap_or_default();
    if let Some(left) = takes.checked_sub(passed).filter(|left| !left.is_zero()) {
        return Next::After(left);
    }
    let done = terminated(pod, 0, "Completed", started, now);
    set_status(objects, pod, "Succeeded", &done, false, &json!(0), &Value::Null);
    Next::Done
}

fn terminated(pod: &Value, code: i64, reason: &str, started: Timestamp, now: Timestamp) -> Value {
    json!({"terminated": {
        "exitCode": code, "reason": reason, "startedAt": seconds(started), "finishedAt": seconds(now),
        "containerID": format!("sim://{}", meta::uid(pod)),
    }})
}

fn start(objects: &Objects, pod: &Value, now: Timestamp, takes: Duration) -> Next {
    let Some(started) = started_at(pod) else {
        run(objects, pod, now, false);
        return Next::After(takes);
    };
    if pods::ready_since(pod).is_some() {
        return Next::Done;
    }
    let passed = Duration::try_from(now.duration_since(started)).unwrap_or_default();
    match takes.checked_sub(passed) {
        Some(left) if !left.is_zero() => Next::After(left),
        _ => {
            run(objects, pod, now, true);
            Next::Done
        }
    }
}

fn run(objects: &Objects, pod: &Value, now: Timestamp, ready: bool) {
    let started = started_at(pod).unwrap_or(now);
    let running = json!({"running": {"startedAt": started.to_string()}});
    set_status(objects, pod, "Running", &running, ready, &json!(0), &Value::Null);
}

/// When the first container was started, in full precision.
fn started_at(pod: &Value) -> Option<Timestamp> {
    pod.pointer("/status/containerStatuses/0/state/running/startedAt")
        .and_then(meta::time)
}

/// A container that dies soon after each start: running, then waiting with a back-off that doubles.
fn crash(objects: &Objects, pod: &Value, now: Timestamp) -> Next {
    let restarts = meta::int(pod, "/status/containerStatuses/0/restartCount").unwrap_or(0);
    let last = &pod["status"]["containerStatuses"][0]["lastState"];
    if let Some(started) = started_at(pod) {
        let passed = Duration::try_from(now.duration_since(started)).unwrap_or_default();
        if let Some(left) = CRASH.checked_sub(passed).filter(|left| !left.is_zero()) {
            return Next::After(left);
        }
        let died = terminated(pod, 1, "Error", started, now);
        if pod["spec"]["restartPolicy"] == "Never" {
            set_status(objects, pod, "Failed", &died, false, &json!(0), &Value::Null);
            return Next::Done;
        }
        let message = format!(
            "back-off {}s restarting failed container",
            back_off(restarts).as_secs()
        );
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": message}});
        set_status(
            objects,
            pod,
            "Running",
            &waiting,
            false,
            &json!(restarts + 1),
            &died,
        );
        write::event(
            objects,
            "kubelet",
            pod,
            true,
            "BackOff",
            "Back-off restarting failed container",
        );
        return Next::After(back_off(restarts));
    }
    let waiting = pod.pointer("/status/containerStatuses/0/state/waiting/reason");
    if waiting.is_some_and(|reason| reason == "CrashLoopBackOff") {
        let died = last
            .pointer("/terminated/finishedAt")
            .and_then(meta::time)
            .unwrap_or(now);
        let passed = Duration::try_from(now.duration_since(died)).unwrap_or_default();
        if let Some(left) = back_off(restarts - 1)
            .checked_sub(passed)
            .filter(|left| !left.is_zero())
        {
            return Next::After(left);
        }
    }
    let running = json!({"running": {"startedAt": now.to_string()}});
    set_status(objects, pod, "Running", &running, false, &json!(restarts), last);
    Next::After(CRASH)
}

fn back_off(restarts: i64) -> Duration {
    let doubled = 2_u32.saturating_pow(u32::try_from(restarts.max(0)).unwrap_or(u32::MAX));
    Duration::from_secs(1)
        .saturating_mul(doubled)
        .min(BACK_OFF_LONGEST)
}

fn fate(pod: &Value) -> Fate {
    let images = pod["spec"]["containers"].as_array().into_iter().flatten();
    let images = images.filter_map(|container| container["image"].as_str());
    let asked = meta::annotation(pod, BEHAVIOUR);
    for hint in asked.into_iter().chain(images) {
        for (word, fate) in [
            ("badpull", Fate::BadPull),
            ("crash", Fate::Crash),
            ("neverready", Fate::NeverReady),
            ("slow", Fate::Slow),
        ] {
            if hint.contains(word) {
                return fate;
            }
        }
    }
    Fate::Ready
}

/// The first ConfigMap or Secret that the pod needs and that is not there.
fn missing_configuration(objects: &Objects, pod: &Value) -> Option<String> {
    let namespace = meta::namespace(pod);
    let absent = |reference: &Value, field: &str| {
        let (kind, resource) = if field.starts_with("secret") {
            ("secret", &SECRETS)
        } else {
            ("configmap", &CONFIG_MAPS)
        };
        let name = reference["name"]
            .as_str()
            .or_else(|| reference["secretName"].as_str())?;
        let optional = reference["optional"].as_bool() == Some(true);
        (!optional && objects.get(resource, namespace, name).is_none())
            .then(|| format!("{kind} \"{name}\" not found"))
    };
    let spec = &pod["spec"];
    let containers = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| spec[list].as_array().into_iter().flatten());
    for container in containers {
        for source in container["envFrom"].as_array().into_iter().flatten() {
            for field in ["configMapRef", "secretRef"] {
                if let Some(missing) = source.get(field).and_then(|reference| absent(reference, field)) {
                    return Some(missing);
                }
            }
        }
        for entry in container["env"].as_array().into_iter().flatten() {
            for field in ["configMapKeyRef", "secretKeyRef"] {
                let reference = entry["valueFrom"].get(field);
                if let Some(missing) = reference.and_then(|reference| absent(reference, field)) {
                    return Some(missing);
                }
            }
        }
    }
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        let projected = volume["projected"]["sources"].as_array().into_iter().flatten();
        for source in std::iter::once(volume).chain(projected) {
            for field in ["configMap", "secret"] {
                if let Some(missing) = source.get(field).and_then(|reference| absent(reference, field)) {
                    return Some(missing);
                }
            }
        }
    }
    None
}

fn set_status(
    objects: &Objects,
    pod: &Value,
    phase: &str,
    state: &Value,
    ready: bool,
    restarts: &Value,
    last: &Value,
) {
    let now = objects.now();
    let statuses: Vec<Value> = pod["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|container| {
            json!({
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": ready,
                "started": state.get("running").is_some(),
                "restartCount": restarts,
                "state": state,
                "lastState": if last.is_object() { last.clone() } else { json!({}) },
            })
        })
        .collect();
    let before = pod["status"]["conditions"].clone();
    let condition = |kind: &str, status: bool| {
        let status = if status { "True" } else { "False" };
        let held = meta::condition(&before, kind).filter(|held| held["status"] == status);
        let since = held.map_or_else(
            || now.to_string().into(),
            |held| held["lastTransitionTime"].clone(),
        );
        json!({"type": kind, "status": status, "lastTransitionTime": since})
    };
    let conditions = json!([
        condition("PodScheduled", true),
        condition("Initialized", true),
        condition("ContainersReady", ready),
        condition("Ready", ready),
    ]);
    let (namespace, name) = (meta::namespace(pod), meta::name(pod));
    let uid = meta::uid(pod);
    // A pod that vanished in between needs no status.
    let _written = write::edit_status(objects, &PODS, namespace, name, |status| {
        if !status.is_object() {
            *status = json!({});
        }
        status["phase"] = phase.into();
        status["containerStatuses"] = statuses.clone().into();
        status["conditions"] = conditions.clone();
        status["hostIP"] = "10.1.0.1".into();
        if status["startTime"].is_null() {
            status["startTime"] = seconds(now).into();
        }
        if phase == "Running" {
            status["podIP"] = address(uid).into();
        }
    });
}

/// An address that is the same whenever it is asked for.
fn address(uid: &str) -> String {
    let sum = uid.bytes().fold(7_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(byte))
    });
    format!("10.1.{}.{}", sum >> 8 & 0xff, sum & 0xff)
}

/// Makes the node that pods are bound to.
pub(super) fn ensure_node(objects: &Objects) {
    if objects.get(&NODES, "", NODE).is_some() {
        return;
    }
    let node = json!({"metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}, "spec": {}});
    // Only this kubelet makes it.
    let _made = objects.create(&NODES, node);
    let ready = json!({"conditions": [
        {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the simulated node is ready"},
    ]});
    let _ready = write::patch_status(objects, &NODES, "", NODE, &ready);
}
