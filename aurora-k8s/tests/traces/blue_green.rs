//! Drivers of the recordings of blue/green Rollouts that one person moves.

use aurora_k8s::sim::resource;
use serde_json::{Value, json};

use crate::{
    drivers::{image, same, seconds},
    world::{HASH_LABEL, Outcome, World, check_answer},
};

/// Where a recording has its manifests.
const ACTIVE: usize = 0;
const PREVIEW: usize = 1;
const ROLLOUT: usize = 2;

async fn first(w: &mut World) -> Outcome {
    w.apply("apply Service/web-active", ACTIVE, same)?;
    w.apply("apply Service/web-preview", PREVIEW, same)?;
    w.apply("apply v1", ROLLOUT, same)?;
    w.settled("H").await?;
    w.points("web-active", Some("stableRS"))?;
    w.points("web-preview", Some("currentPodHash"))
}

async fn at_the_pause(w: &mut World) -> Outcome {
    first(w).await?;
    w.apply("apply v2", ROLLOUT, image("ok:2"))?;
    w.settled("Z").await?;
    w.points("web-active", Some("stableRS"))?;
    w.points("web-preview", Some("currentPodHash"))
}

pub(crate) async fn bluegreen_promote(w: &mut World) -> Outcome {
    at_the_pause(w).await?;
    w.patch("promote")?;
    w.stands("H").await?;
    w.points("web-active", Some("currentPodHash"))?;
    seconds(6).await;
    w.settled("H").await
}

pub(crate) async fn bluegreen_abort(w: &mut World) -> Outcome {
    at_the_pause(w).await?;
    w.patch("abort")?;
    w.stands("D").await?;
    w.points("web-active", Some("stableRS"))?;
    seconds(6).await;
    w.settled("D").await?;
    w.patch("retry")?;
    w.settled("Z").await?;
    w.apply("apply v1 again", ROLLOUT, same)?;
    w.stands("H").await?;
    seconds(8).await;
    w.settled("H").await?;
    w.points("web-preview", Some("stableRS"))
}

pub(crate) async fn bluegreen_auto_preview1(w: &mut World) -> Outcome {
    first(w).await?;
    w.apply("apply v2", ROLLOUT, image("ok:2"))?;
    w.until("Z").await?;
    w.settled("H").await?;
    w.points("web-active", Some("currentPodHash"))?;
    w.apply("apply v1 within scaleDownDelay", ROLLOUT, same)?;
    w.until("Z").await?;
    w.settled("H").await?;
    w.points("web-active", Some("currentPodHash"))
}

pub(crate) async fn bluegreen_rollback_within_delay(w: &mut World) -> Outcome {
    at_the_pause(w).await?;
    w.patch("promote")?;
    w.settled("H").await?;
    w.apply("apply v1 again within scaleDownDelaySeconds", ROLLOUT, same)?;
    w.settled("H").await?;
    w.points("web-active", Some("currentPodHash"))
}

pub(crate) async fn bluegreen_abort_after_promotion(w: &mut World) -> Outcome {
    at_the_pause(w).await?;
    w.patch("promote")?;
    w.settled("H").await?;
    w.patch("abort within scaleDownDelaySeconds")?;
    w.settled("H").await?;
    w.points("web-active", Some("currentPodHash"))?;
    w.apply("apply v3", ROLLOUT, image("ok:3"))?;
    w.settled("Z").await?;
    w.patch("promoteFull")?;
    w.settled("H").await?;
    w.points("web-active", Some("currentPodHash"))
}

pub(crate) async fn bluegreen_services_reapplied(w: &mut World) -> Outcome {
    first(w).await?;
    w.apply("forced SSA web-active without hash", ACTIVE, same)?;
    w.apply("forced SSA web-preview without hash", PREVIEW, same)?;
    w.apply("apply Rollout v2", ROLLOUT, image("ok:2"))?;
    w.settled("H").await?;
    w.points("web-active", Some("currentPodHash"))
}

pub(crate) async fn bluegreen_services_reapplied_touched(w: &mut World) -> Outcome {
    first(w).await?;
    w.apply("forced SSA web-active without hash", ACTIVE, same)?;
    w.apply("forced SSA web-preview without hash", PREVIEW, same)?;
    touch(w, "touch Rollout")?;
    seconds(1).await;
    w.points("web-active", Some("stableRS"))?;
    w.apply("apply Rollout v2", ROLLOUT, image("ok:2"))?;
    w.settled("Z").await?;
    w.points("web-active", Some("stableRS"))?;
    w.points("web-preview", Some("currentPodHash"))
}

pub(crate) async fn bluegreen_services_with_hash(w: &mut World) -> Outcome {
    first(w).await?;
    let stale = w.object(&resource::SERVICES, "web-preview");
    w.apply(
        "SSA web-active with live hash",
        ACTIVE,
        selecting(&hash(w, "stableRS")),
    )?;
    w.apply(
        "SSA web-preview with live hash",
        PREVIEW,
        selecting(&hash(w, "stableRS")),
    )?;
    w.apply("apply Rollout v2", ROLLOUT, image("ok:2"))?;
    w.settled("Z").await?;
    w.points("web-active", Some("stableRS"))?;
    w.points("web-preview", Some("currentPodHash"))?;
    let act = w.next_act("SSA Service with old resourceVersion")?;
    let read = stale["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let late = w.objects.update(
        &resource::SERVICES,
        &w.recording.name,
        "web-preview",
        Some(read),
        (*stale).clone(),
    );
    check_answer(&act, &late)?;
    w.patch("promote")?;
    w.settled("H").await?;
    w.points("web-active", Some("currentPodHash"))
}

pub(crate) async fn bluegreen_stale_hash(w: &mut World) -> Outcome {
    at_the_pause(w).await?;
    let (old, new) = (hash(w, "stableRS"), hash(w, "currentPodHash"));
    w.apply("SSA web-active with live hash v1", ACTIVE, selecting(&old))?;
    w.settled("Z").await?;
    w.apply("SSA web-active with unknown hash", ACTIVE, selecting("deadbeef"))?;
    w.settled("Z").await?;
    w.selects("web-active", "deadbeef")?;
    w.apply("SSA web-active with hash v1 again", ACTIVE, selecting(&old))?;
    w.settled("Z").await?;
    w.apply("SSA web-active with hash of v2", ACTIVE, selecting(&new))?;
    w.settled("H").await?;
    w.apply("SSA web-active with hash v1 (stale)", ACTIVE, selecting(&old))?;
    seconds(1).await;
    w.selects("web-active", &new)?;
    w.settled("H").await
}

pub(crate) async fn service_selector_wipe_bg(w: &mut World) -> Outcome {
    at_the_pause(w).await?;
    w.apply("forced SSA of Service web-active", ACTIVE, same)?;
    w.apply("same for web-preview", PREVIEW, same)?;
    seconds(30).await;
    w.points("web-active", None)?;
    w.points("web-preview", None)?;
    touch(w, "touch Rollout annotation")?;
    w.settled("H").await?;
    w.points("web-active", Some("currentPodHash"))
}

fn touch(w: &mut World, meant: &str) -> Outcome {
    w.next_act(meant)?;
    w.change(&resource::ROLLOUTS, "web", |rollout| {
        rollout["metadata"]["annotations"]["touch"] = json!("1");
    })
}

fn hash(w: &World, field: &str) -> String {
    let rollout = w.rollout("web").unwrap();
    rollout["status"][field].as_str().unwrap().to_owned()
}

fn selecting(hash: &str) -> impl Fn(&mut Value) {
    let hash = hash.to_owned();
    move |service| service["spec"]["selector"][HASH_LABEL] = json!(hash)
}
