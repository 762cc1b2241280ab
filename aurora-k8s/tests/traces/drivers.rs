//! One driver for each recording.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::blue_green::{
    bluegreen_abort, bluegreen_abort_after_promotion, bluegreen_auto_preview1, bluegreen_promote,
    bluegreen_rollback_within_delay, bluegreen_services_reapplied, bluegreen_services_reapplied_touched,
    bluegreen_services_with_hash, bluegreen_stale_hash, service_selector_wipe_bg,
};
use crate::executor::{executor, executor_under_load, paced_executor};
use crate::objects::{
    adoption_orphaned_first, adoption_same_name, canary_services_reapplied, delete_foreground,
    delete_rollout, hpa, plugin_verbs, race_two_patches, service_selector_wipe,
};
use crate::world::{Driver, Outcome, World};

macro_rules! drivers {
    ($($name:literal => $driver:ident),* $(,)?) => {
        /// Recordings and who drives their replay.
        pub(crate) const ALL: &[(&str, Driver)] = &[$(($name, |world| Box::pin($driver(world)))),*];
    };
}

drivers! {
    "first-deploy" => first_deploy,
    "canary-approve" => canary_approve,
    "canary-abort-retry" => canary_abort_retry,
    "approve-twice-late" => approve_twice_late,
    "approve-guarded" => approve_guarded,
    "approve-under-manual-pause" => approve_under_manual_pause,
    "promote-early" => promote_early,
    "promote-full-paused" => promote_full_paused,
    "promote-full-race" => promote_full_race,
    "skip-into-pause" => skip_into_pause,
    "manual-pause" => manual_pause,
    "manual-pause-midway" => manual_pause_midway,
    "update-midway" => update_midway,
    "rollback-midway" => rollback_midway,
    "steps-change" => steps_change,
    "abort-after-promotion" => abort_after_promotion,
    "abort-during-promotefull" => abort_during_promotefull,
    "abort-first-deploy" => abort_first_deploy,
    "abort-plus-promotefull" => abort_plus_promotefull,
    "min-ready-seconds" => min_ready_seconds,
    "pause-before-new-pods" => pause_before_new_pods,
    "deadline-imagepull" => deadline_imagepull,
    "deadline-abort" => deadline_abort,
    "deadline-first" => deadline_first,
    "invalidspec-service" => invalidspec_service,
    "invalidspec-late" => invalidspec_late,
    "ns-terminating" => ns_terminating,
    "restart-and-scale" => restart_and_scale,
    "controller-restart" => controller_restart,
    "canary-services-reapplied" => canary_services_reapplied,
    "service-selector-wipe" => service_selector_wipe,
    "hpa" => hpa,
    "delete-rollout" => delete_rollout,
    "delete-foreground" => delete_foreground,
    "adoption-same-name" => adoption_same_name,
    "adoption-orphaned-first" => adoption_orphaned_first,
    "race-two-patches" => race_two_patches,
    "plugin-verbs" => plugin_verbs,
    "bluegreen-promote" => bluegreen_promote,
    "bluegreen-abort" => bluegreen_abort,
    "bluegreen-auto-preview1" => bluegreen_auto_preview1,
    "bluegreen-rollback-within-delay" => bluegreen_rollback_within_delay,
    "bluegreen-abort-after-promotion" => bluegreen_abort_after_promotion,
    "bluegreen-services-reapplied" => bluegreen_services_reapplied,
    "bluegreen-services-reapplied-touched" => bluegreen_services_reapplied_touched,
    "bluegreen-services-with-hash" => bluegreen_services_with_hash,
    "bluegreen-stale-hash" => bluegreen_stale_hash,
    "service-selector-wipe-bg" => service_selector_wipe_bg,
    "rule-bluegreen-early-shutdown" => executor,
    "rule-bluegreen-lost-hash" => executor,
    "rule-bluegreen-older-template-no-gate" => executor,
    "rule-bluegreen-rollbacks" => paced_executor,
    "rule-bluegreen-service-deleted" => executor,
    "rule-api-killed-at-gate" => executor,
    "rule-cancel-mid-apply" => executor_under_load,
    "rule-cancel-mid-apply-stamped" => executor,
    "rule-cancel-one-of-three" => executor,
    "rule-foreign-field-in-template" => executor,
    "rule-hpa-joins-and-leaves" => paced_executor,
    "rule-hpa-joins-without-count" => executor,
    "rule-hpa-leaves-first" => executor,
    "rule-new-sibling-crashes" => executor,
    "rule-rollback-dip" => executor,
    "rule-rollback-one-crashes" => executor,
    "rule-rollback-sibling-finished" => executor,
    "rule-stable-service-endpoints" => executor,
    "rule-three-gate-by-gate" => executor,
}

pub(crate) fn same(_manifest: &mut Value) {}

pub(crate) fn image(image: &'static str) -> impl Fn(&mut Value) {
    move |manifest| manifest["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image)
}

pub(crate) async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

async fn first_deploy(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H5").await
}

async fn canary_approve(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H5").await?;
    w.apply("apply v2", 1, same)?;
    w.settled("Z1").await?;
    w.patch("approve")?;
    w.settled("H5").await
}

async fn canary_abort_retry(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H5").await?;
    w.apply("apply v2", 1, same)?;
    w.settled("Z1").await?;
    w.patch("abort")?;
    w.settled("D0").await?;
    w.patch("retry")?;
    w.settled("Z1").await?;
    w.patch("abort again")?;
    w.settled("D0").await?;
    w.apply("apply v1 again", 0, same)?;
    w.settled("H5").await
}

async fn approve_twice_late(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H4").await?;
    w.apply("apply v2", 0, image("ok:2"))?;
    w.settled("Z1").await?;
    w.patch("approve")?;
    w.settled("Z2").await?;
    w.patch("same command delivered again")?;
    w.settled("H4").await
}

async fn approve_guarded(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H4").await?;
    w.apply("apply v2", 0, image("ok:2"))?;
    w.settled("Z1").await?;
    let read = w.rollout("web").unwrap()["metadata"]["resourceVersion"].clone();
    let guard = |body: &mut Value| body["metadata"]["resourceVersion"] = read.clone();
    w.patch_with("delivery 1", guard)?;
    w.settled("Z2").await?;
    w.patch_with("delivery 2", guard)?;
    w.settled("Z2").await
}

async fn approve_under_manual_pause(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H5").await?;
    w.apply("apply v2", 1, same)?;
    w.settled("Z1").await?;
    w.patch("spec.paused true")?;
    w.settled("Z1").await?;
    w.patch("approve while spec.paused")?;
    w.settled("Z1").await?;
    w.patch("spec.paused false")?;
    w.settled("Z1").await?;
    w.patch("approve")?;
    w.settled("H5").await
}

async fn promote_early(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H4").await?;
    w.apply("apply v2", 1, same)?;
    w.until_it("web", "the new pod", |status| status["updatedReplicas"] == 1)
        .await?;
    w.patch("pauseConditions null while progressing")?;
    w.settled("Z1").await?;
    w.patch("skip: currentStepIndex 2")?;
    w.until_it("web", "three new pods", |status| status["updatedReplicas"] == 3)
        .await?;
    w.patch("skip all")?;
    w.settled("H4").await
}

async fn promote_full_paused(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H5").await?;
    w.apply("apply v2", 1, same)?;
    w.settled("Z1").await?;
    w.patch("promoteFull true")?;
    w.settled("H5").await
}

async fn promote_full_race(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H5").await?;
    w.apply("apply v2", 1, same)?;
    let created = |status: &Value| status["conditions"].to_string().contains("NewReplicaSetCreated");
    w.until_it("web", "the new ReplicaSet", created).await?;
    // In the recording the flag came between the controller's last read and its last write.
    sleep(Duration::from_millis(5)).await;
    w.patch("promoteFull true at once")?;
    w.settled("H5").await?;
    w.patch("promoteFull true again")?;
    w.settled("H5").await?;
    let before = w.rollout("web").unwrap()["status"]["currentPodHash"].clone();
    w.apply("apply v3", 2, same)?;
    w.until_it("web", "the new hash", |status| status["currentPodHash"] != before)
        .await?;
    w.patch("promoteFull right after")?;
    w.settled("H5").await
}

async fn skip_into_pause(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H5").await?;
    w.apply("apply v2", 0, image("ok:2"))?;
    w.settled("Z1").await?;
    w.patch("skip current step")?;
    w.settled("Z4").await?;
    w.patch("promoteFull")?;
    w.settled("H5").await?;
    w.apply("apply v3", 0, image("ok:3"))?;
    w.settled("Z1").await?;
    w.patch("same with controllerPause false")?;
    w.until("P2").await?;
    w.settled("Z2").await?;
    w.patch("only currentStepIndex 3")?;
    w.settled("Z4").await?;
    w.patch("plain approve")?;
    w.settled("H5").await
}

async fn manual_pause(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H5").await?;
    w.patch("spec.paused true")?;
    w.settled("Z5").await?;
    w.apply("apply v2 while paused", 1, paused)?;
    w.settled("Z0").await?;
    w.patch("promoteFull")?;
    w.settled("Z5").await?;
    w.patch("spec.paused false")?;
    w.settled("H5").await
}

/// An apply leaves alone what somebody else set.
fn paused(manifest: &mut Value) {
    manifest["spec"]["paused"] = json!(true);
}

async fn manual_pause_midway(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H5").await?;
    w.apply("apply v2", 1, same)?;
    w.settled("Z1").await?;
    w.patch("spec.paused true")?;
    w.settled("Z1").await?;
    w.patch("approve while spec.paused")?;
    w.settled("Z1").await?;
    w.patch("promoteFull while spec.paused")?;
    w.settled("Z5").await?;
    w.patch("spec.paused false")?;
    w.settled("H5").await
}

async fn update_midway(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H5").await?;
    w.apply("apply v2", 1, same)?;
    w.settled("Z1").await?;
    w.patch("approve")?;
    w.settled("Z3").await?;
    w.apply("apply v3", 2, same)?;
    w.settled("Z1").await?;
    w.patch("approve v3")?;
    w.settled("H5").await
}

async fn rollback_midway(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H5").await?;
    w.apply("apply v2", 1, same)?;
    w.settled("Z1").await?;
    w.apply("apply v1 again", 0, same)?;
    w.settled("H5").await
}

async fn steps_change(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H5").await?;
    w.apply("apply v2", 1, same)?;
    w.settled("Z1").await?;
    w.patch("approve")?;
    w.settled("Z3").await?;
    w.apply("other steps", 2, same)?;
    w.settled("Z1").await?;
    w.apply("steps removed", 3, same)?;
    w.settled("H").await?;
    w.apply("apply steps again", 2, same)?;
    w.settled("H4").await
}

async fn abort_after_promotion(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H5").await?;
    w.apply("apply v2", 0, image("ok:2"))?;
    w.settled("Z1").await?;
    w.patch("promoteFull")?;
    w.settled("H5").await?;
    w.patch("abort on fully promoted")?;
    w.settled("H5").await?;
    w.patch("retry")?;
    w.settled("H5").await?;
    w.patch("approve on healthy")?;
    w.settled("H5").await?;
    w.patch("promoteFull on healthy")?;
    w.settled("H5").await?;
    w.patch("currentStepIndex 0 on healthy")?;
    w.settled("H5").await
}

async fn abort_during_promotefull(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H5").await?;
    w.apply("apply v2", 0, image("ok-slow:2"))?;
    w.settled("Z1").await?;
    w.patch("promoteFull")?;
    w.until("P5").await?;
    sleep(Duration::from_millis(500)).await;
    w.patch("abort while promoteFull is in flight")?;
    seconds(1).await;
    w.patch("abort with promoteFull null")?;
    w.settled("D0").await
}

async fn abort_first_deploy(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("P5").await?;
    w.patch("abort the first")?;
    w.settled("P5").await?;
    w.apply("apply v2", 0, image("ok:2"))?;
    w.settled("Z1").await
}

async fn abort_plus_promotefull(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H5").await?;
    w.apply("apply v2", 0, image("ok:2"))?;
    w.settled("Z1").await?;
    w.patch("promoteFull and abort in one patch")?;
    w.settled("H5").await?;
    w.patch("retry")?;
    w.settled("H5").await?;
    w.apply("apply v3", 0, image("ok:3"))?;
    w.settled("Z1").await?;
    w.patch("abort")?;
    w.settled("D0").await?;
    w.patch("promoteFull while aborted")?;
    w.settled("H5").await?;
    w.patch("approve while aborted")?;
    w.settled("H5").await?;
    w.apply("apply v4", 0, image("ok:4"))?;
    w.settled("Z1").await
}

async fn min_ready_seconds(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H2").await?;
    w.apply("apply v2", 0, image("ok:2"))?;
    w.settled("Z1").await?;
    w.patch("approve")?;
    w.settled("H2").await
}

async fn pause_before_new_pods(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H5").await?;
    w.apply("apply v2", 0, image("badpull:2"))?;
    w.settled("P0").await?;
    w.apply("apply v3", 0, image("neverready:3"))?;
    w.settled("Z1").await
}

async fn deadline_imagepull(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H5").await?;
    w.apply("apply v2", 1, same)?;
    w.settled("D0").await?;
    w.apply("apply v3", 2, same)?;
    w.settled("Z1").await?;
    seconds(8).await;
    w.settled("Z1").await?;
    w.patch("approve")?;
    w.settled("H5").await
}

async fn deadline_abort(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H5").await?;
    w.apply("apply v2", 1, same)?;
    w.settled("D0").await
}

async fn deadline_first(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("D5").await?;
    w.apply("apply v2", 1, same)?;
    w.settled("Z1").await?;
    w.patch("promoteFull")?;
    w.settled("H5").await
}

async fn invalidspec_service(w: &mut World) -> Outcome {
    w.apply("apply rollout", 0, same)?;
    w.settled("D").await?;
    seconds(3).await;
    w.apply("apply Service/web-stable", 1, same)?;
    seconds(2).await;
    w.apply("apply Service/web-canary", 2, same)?;
    w.settled("H5").await
}

async fn invalidspec_late(w: &mut World) -> Outcome {
    w.apply("apply rollout", 0, same)?;
    w.settled("D").await?;
    seconds(130).await;
    let service = |manifest: &mut Value| {
        *manifest = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web-stable"},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]},
        });
    };
    w.apply("service created", 0, service)?;
    w.settled("H").await
}

async fn ns_terminating(w: &mut World) -> Outcome {
    w.apply("apply Service", 0, same)?;
    w.apply("apply v1", 1, same)?;
    w.settled("H").await?;
    w.hold_namespace();
    w.delete_namespace("delete namespace")?;
    for round in 0..4 {
        let tag = ["ok:2", "ok:3", "ok:4", "ok:5"][round];
        sleep(Duration::from_millis(if round == 0 { 10 } else { 1400 })).await;
        w.apply("apply rollout", 1, image(tag))?;
        sleep(Duration::from_millis(30)).await;
        let service = |manifest: &mut Value| manifest["metadata"]["name"] = json!("new-svc");
        w.apply("apply new Service", 0, service)?;
    }
    let conditions = w.rollout("web").unwrap()["status"]["conditions"].to_string();
    if !conditions.contains("ReplicaSetCreateError") {
        return Err(format!("no ReplicaSetCreateError in {conditions}"));
    }
    seconds(3).await;
    w.release_namespace("release finalizer")?;
    seconds(6).await;
    w.apply("apply after namespace is gone", 1, same)
}

async fn restart_and_scale(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H2").await?;
    let now = aurora_k8s::sim::objects::seconds(w.objects.now());
    w.patch_with("restartAt now", |body| body["spec"]["restartAt"] = json!(now))?;
    w.until("P2").await?;
    w.settled("H2").await?;
    let kept = move |manifest: &mut Value| {
        image("ok:2")(manifest);
        manifest["spec"]["restartAt"] = json!(now);
    };
    w.apply("apply v2", 0, kept)?;
    w.settled("Z1").await?;
    w.patch("replicas 6 while paused")?;
    w.settled("Z1").await?;
    w.patch("approve")?;
    w.settled("H2").await
}

async fn controller_restart(w: &mut World) -> Outcome {
    w.apply("apply v1", 0, same)?;
    w.settled("H4").await?;
    w.apply("apply v2", 0, image("ok:2"))?;
    w.until("Z1").await?;
    w.next_act("stop controller")?;
    w.behaviour.stop_rollouts();
    seconds(8).await;
    w.patch("abort while the controller is down")?;
    seconds(2).await;
    w.patch("abort taken back")?;
    w.apply("apply v3", 0, image("ok:3"))?;
    seconds(5).await;
    w.next_act("controller started")?;
    w.behaviour.start_rollouts();
    w.settled("Z3").await?;
    w.next_act("stop controller")?;
    w.behaviour.stop_rollouts();
    seconds(15).await;
    w.next_act("controller started")?;
    w.next_act("stop controller")?;
    w.next_act("controller started")?;
    w.behaviour.start_rollouts();
    sleep(Duration::from_millis(20)).await;
    w.patch("approve")?;
    w.settled("H4").await
}
