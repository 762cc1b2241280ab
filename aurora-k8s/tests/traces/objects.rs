//! Drivers of recordings that are about what stands around a Rollout: Services, autoscalers, deletion,
//! Deployments of the same name, and patches that race.

use std::{sync::Arc, time::Duration};

use aurora_k8s::sim::{Delete, Propagation, Resource, resource};
use serde_json::{Value, json};

use crate::{
    drivers::{image, same, seconds},
    world::{HASH_LABEL, Outcome, World},
};

pub(crate) async fn canary_services_reapplied(w: &mut World) -> Outcome {
    w.apply("apply Service/web-stable", 0, same)?;
    w.apply("apply Service/web-canary", 1, same)?;
    w.apply("apply v1", 2, same)?;
    w.settled("H2").await?;
    w.apply("forced SSA web-stable", 0, same)?;
    w.apply("forced SSA web-canary", 1, same)?;
    w.apply("apply Rollout v2", 2, image("ok:2"))?;
    w.settled("Z1").await?;
    w.points("web-stable", Some("stableRS"))?;
    w.points("web-canary", Some("currentPodHash"))
}

pub(crate) async fn service_selector_wipe(w: &mut World) -> Outcome {
    w.apply("apply Service/web-stable", 0, same)?;
    w.apply("apply Service/web-canary", 1, same)?;
    w.apply("apply v1", 2, same)?;
    w.settled("H2").await?;
    w.apply("apply v2", 2, image("ok:2"))?;
    w.settled("Z1").await?;
    w.apply("forced SSA of Service web-canary", 1, same)?;
    seconds(60).await;
    w.points("web-canary", None)?;
    w.next_act("touch Rollout annotation")?;
    w.change(&resource::ROLLOUTS, "web", |rollout| {
        rollout["metadata"]["annotations"]["touch"] = json!("1")
    })?;
    seconds(5).await;
    w.points("web-canary", Some("currentPodHash"))?;
    w.patch("approve")?;
    w.settled("H2").await?;
    w.points("web-stable", Some("stableRS"))?;
    w.points("web-canary", Some("currentPodHash"))?;
    w.apply("forced SSA of Service web-stable", 0, same)?;
    w.apply("same for web-canary", 1, same)?;
    seconds(20).await;
    w.points("web-stable", None)?;
    w.points("web-canary", None)?;
    w.apply("apply v3", 2, image("ok:3"))?;
    w.settled("Z1").await?;
    w.points("web-stable", Some("stableRS"))?;
    w.points("web-canary", Some("currentPodHash"))
}

pub(crate) async fn hpa(w: &mut World) -> Outcome {
    w.apply("apply v1 without spec.replicas", 0, same)?;
    w.settled("H2").await?;
    w.apply("apply HorizontalPodAutoscaler", 1, same)?;
    w.until("P2").await?;
    w.settled("H2").await?;
    let replicas = |w: &World| w.rollout("web").unwrap()["spec"]["replicas"].clone();
    let held = replicas(w);
    w.apply("apply v2 (still without replicas)", 2, |rollout| {
        rollout["spec"]["replicas"] = held.clone()
    })?;
    w.settled("Z1").await?;
    w.next_act("HPA minReplicas 5")?;
    w.change(&resource::HORIZONTAL_POD_AUTOSCALERS, "web", |hpa| {
        hpa["spec"]["minReplicas"] = json!(5)
    })?;
    seconds(16).await;
    w.settled("Z1").await?;
    w.apply("apply with replicas 2", 2, |rollout| {
        rollout["spec"]["replicas"] = json!(2)
    })?;
    seconds(16).await;
    w.settled("Z1").await?;
    if replicas(w) != 5 {
        return Err(format!("the autoscaler left {} replicas", replicas(w)));
    }
    w.patch("approve")?;
    w.settled("H2").await
}

pub(crate) async fn delete_rollout(w: &mut World) -> Outcome {
    w.apply("apply Service/web-stable", 0, same)?;
    w.apply("apply Service/web-canary", 1, same)?;
    w.apply("apply v1", 2, same)?;
    w.settled("H2").await?;
    w.apply("apply v2", 2, image("ok:2"))?;
    w.settled("Z1").await?;
    w.points("web-canary", Some("currentPodHash"))?;
    w.next_act("delete (background)")?;
    w.remove(&resource::ROLLOUTS, Propagation::Background)?;
    seconds(6).await;
    for service in ["web-stable", "web-canary"] {
        w.points(service, None)?;
        if w.service(service)["metadata"]["annotations"]
            .to_string()
            .contains("managed-by-rollouts")
        {
            return Err(format!("{service} is still managed"));
        }
    }
    w.nothing_left()
}

pub(crate) async fn delete_foreground(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H").await?;
    w.next_act("delete (foreground)")?;
    w.remove(&resource::ROLLOUTS, Propagation::Foreground)?;
    if w.rollout("web").is_none() {
        return Err("the Rollout went before its pods".to_owned());
    }
    seconds(6).await;
    w.nothing_left()
}

pub(crate) async fn adoption_same_name(w: &mut World) -> Outcome {
    w.apply("apply Service/web", 0, same)?;
    w.apply("apply Deployment", 1, same)?;
    seconds(2).await;
    w.has_endpoints(2)?;
    w.apply("apply Rollout with same name", 2, same)?;
    w.settled("H2").await?;
    w.has_endpoints(4)?;
    w.has_sets(&[(true, 2), (true, 2)])?;
    w.next_act("delete Deployment (orphan)")?;
    w.remove(&resource::DEPLOYMENTS, Propagation::Orphan)?;
    seconds(5).await;
    w.has_sets(&[(false, 2), (true, 2)])?;
    w.has_endpoints(4)?;
    w.apply("apply Rollout v2", 2, image("ok:2"))?;
    w.settled("Z1").await?;
    w.has_sets(&[(false, 2), (true, 1), (true, 1)])
}

pub(crate) async fn adoption_orphaned_first(w: &mut World) -> Outcome {
    w.apply("apply Deployment", 0, same)?;
    seconds(2).await;
    w.next_act("delete Deployment (orphan)")?;
    w.remove(&resource::DEPLOYMENTS, Propagation::Orphan)?;
    seconds(1).await;
    w.apply("apply Rollout, same template", 1, same)?;
    w.settled("H2").await?;
    w.has_sets(&[(false, 2), (true, 2)])
}

/// In the midst of the reconcile that a patch causes.
const MIDST: Duration = Duration::from_millis(12);

/// The recorder of this one wrote down changes of phase and step only, so nothing else is compared.
pub(crate) async fn race_two_patches(w: &mut World) -> Outcome {
    let (approve, abort) = (
        json!({"status": {"pauseConditions": null}}),
        json!({"status": {"abort": true}}),
    );
    w.apply("apply v1", 0, same)?;
    w.stands("H4").await?;
    w.apply("apply v2", 0, image("ok:2"))?;
    for next in ["ok:3", "ok:4"] {
        w.stands("Z1").await?;
        w.both("approve + abort", &abort, MIDST, &approve).await?;
        w.stands("D0").await?;
        w.apply("apply v", 0, image(next))?;
    }
    w.stands("Z1").await?;
    w.both("approve twice", &approve, Duration::ZERO, &approve)
        .await?;
    w.stands("Z3").await?;
    w.apply("apply v5", 0, image("ok:5"))?;
    w.until("P0").await?;
    w.until_it("web", "the first new pod", |status| {
        status["updatedReplicas"].as_i64() >= Some(1)
    })
    .await?;
    let mut skip = json!({"status": {"pauseConditions": null, "currentStepIndex": 2}});
    skip["metadata"]["resourceVersion"] = w.rollout("web").unwrap()["metadata"]["resourceVersion"].clone();
    w.next_act("both: skip twice with resourceVersion")?;
    w.send("web", &skip).map_err(|error| error.to_string())?;
    if w.send("web", &skip).is_ok() {
        return Err("the second skip was not refused".to_owned());
    }
    w.stands("Z3").await?;
    w.apply("apply v6", 0, image("ok:6"))?;
    w.until("P0").await?;
    w.until_it("web", "the first new pod", |status| {
        status["updatedReplicas"].as_i64() >= Some(1)
    })
    .await?;
    w.both(
        "promoteFull + abort",
        &json!({"status": {"promoteFull": true}}),
        Duration::ZERO,
        &abort,
    )
    .await?;
    w.stands("H4").await?;
    w.apply("apply v7", 0, image("ok:7"))?;
    w.stands("Z1").await?;
    w.next_act("both: approve + new template")?;
    w.send("web", &approve).map_err(|error| error.to_string())?;
    let mut manifest = w.recording.manifests[0].clone();
    image("ok:8")(&mut manifest);
    w.write(&manifest).map_err(|error| error.to_string())?;
    w.stands("Z1").await
}

/// What the plugin of kubectl sends for its verbs. The recorder wrote a verb down when the plugin had ended,
/// after its first effects, so only states are compared there.
pub(crate) async fn plugin_verbs(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H4").await?;
    w.apply("apply v2", 0, image("ok:2"))?;
    w.settled("Z1").await?;
    w.patch("spec.paused true")?;
    w.stands("Z1").await?;
    w.plugin("promote web", &[&json!({"status": {"pauseConditions": null}})])?;
    // The plugin's second request comes when the controller has dealt with the first.
    tokio::time::sleep(Duration::from_millis(60)).await;
    w.send("web", &json!({"spec": {"paused": false}}))
        .map_err(|error| error.to_string())?;
    w.until("P1").await?;
    w.stands("Z1").await?;
    w.plugin("promote web", &[&json!({"status": {"pauseConditions": null}})])?;
    w.stands("Z3").await?;
    w.plugin("status", &[])?;
    w.plugin("abort", &[&json!({"status": {"abort": true}})])?;
    w.stands("D0").await?;
    w.plugin("status", &[])?;
    // Nothing pauses, so the plugin skips the present step.
    w.plugin("promote web", &[&json!({"status": {"currentStepIndex": 1}})])?;
    w.until("D0").await?;
    w.stands("D0").await?;
    w.plugin("retry", &[&json!({"status": {"abort": false}})])?;
    w.stands("Z1").await?;
    w.plugin("promote web --full", &[&json!({"status": {"promoteFull": true}})])?;
    w.stands("H4").await?;
    w.plugin("abort", &[&json!({"status": {"abort": true}})])?;
    w.stands("H4").await?;
    w.plugin("promote web", &[&json!({"status": {"pauseConditions": null}})])?;
    w.stands("H4").await?;
    w.next_act("plugin: undo web")?;
    let first = w.recording.manifests[0]["spec"]["template"].clone();
    w.change(&resource::ROLLOUTS, "web", |rollout| {
        rollout["spec"]["template"] = first.clone()
    })?;
    w.stands("Z1").await?;
    w.plugin("status", &[])
}

impl World {
    fn service(&self, name: &str) -> Arc<Value> {
        self.objects
            .get(&resource::SERVICES, &self.recording.name, name)
            .unwrap()
    }

    /// Checks that a Service selects the pods of the hash in this field of the Rollout's status, or of all.
    pub(crate) fn points(&self, service: &str, field: Option<&str>) -> Outcome {
        let held = self.service(service)["spec"]["selector"].get(HASH_LABEL).cloned();
        let wanted = field.map(|field| self.rollout("web").unwrap()["status"][field].clone());
        if held == wanted {
            return Ok(());
        }
        Err(format!("{service} selects {held:?}, not {wanted:?}"))
    }

    /// Checks that a Service selects the pods of a hash.
    pub(crate) fn selects(&self, service: &str, hash: &str) -> Outcome {
        let held = &self.service(service)["spec"]["selector"][HASH_LABEL];
        if held == hash {
            return Ok(());
        }
        Err(format!("{service} selects {held}, not {hash}"))
    }

    pub(crate) fn object(&self, kind: &Resource, name: &str) -> Arc<Value> {
        self.objects.get(kind, &self.recording.name, name).unwrap()
    }

    pub(crate) fn change(&self, kind: &Resource, name: &str, change: impl Fn(&mut Value)) -> Outcome {
        let mut next = (*self.objects.get(kind, &self.recording.name, name).unwrap()).clone();
        change(&mut next);
        let written = self.objects.update(kind, &self.recording.name, name, None, next);
        written.map(|_| ()).map_err(|error| error.to_string())
    }

    fn remove(&self, kind: &Resource, propagation: Propagation) -> Outcome {
        let how = Delete {
            propagation,
            ..Delete::default()
        };
        let deleted = self.objects.delete(kind, &self.recording.name, "web", &how);
        deleted.map(|_| ()).map_err(|error| error.to_string())
    }

    fn nothing_left(&self) -> Outcome {
        for kind in [&resource::ROLLOUTS, &resource::REPLICA_SETS, &resource::PODS] {
            let left = self.objects.list(kind, Some(&self.recording.name)).items.len();
            if left > 0 {
                return Err(format!("{left} {kind} are left"));
            }
        }
        Ok(())
    }

    fn has_endpoints(&self, wanted: usize) -> Outcome {
        let endpoints = self
            .objects
            .get(&resource::ENDPOINTS, &self.recording.name, "web");
        let subsets = endpoints.map(|it| it["subsets"].clone()).unwrap_or_default();
        let held = subsets[0]["addresses"].as_array().map_or(0, Vec::len);
        if held == wanted {
            Ok(())
        } else {
            Err(format!("{held} endpoints, not {wanted}"))
        }
    }

    /// Checks owner and size of all ReplicaSets, oldest first.
    fn has_sets(&self, wanted: &[(bool, i64)]) -> Outcome {
        let mut sets = self
            .objects
            .list(&resource::REPLICA_SETS, Some(&self.recording.name))
            .items;
        sets.sort_by_key(|set| set["metadata"]["creationTimestamp"].to_string());
        let held: Vec<_> = sets
            .iter()
            .map(|set| {
                let owned = set["metadata"]["ownerReferences"]
                    .as_array()
                    .is_some_and(|it| !it.is_empty());
                (owned, set["spec"]["replicas"].as_i64().unwrap())
            })
            .collect();
        if held == wanted {
            Ok(())
        } else {
            Err(format!("the ReplicaSets are {held:?}, not {wanted:?}"))
        }
    }

    fn plugin(&mut self, meant: &str, patches: &[&Value]) -> Outcome {
        self.next_act(&format!("plugin: {meant}"))?;
        for body in patches {
            self.send("web", body).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Two patches in the order in which they were stored, with a gap.
    async fn both(&mut self, meant: &str, first: &Value, gap: Duration, second: &Value) -> Outcome {
        self.next_act(&format!("both: {meant}"))?;
        self.send("web", first).map_err(|error| error.to_string())?;
        tokio::time::sleep(gap).await;
        self.send("web", second).map_err(|error| error.to_string())?;
        Ok(())
    }
}
