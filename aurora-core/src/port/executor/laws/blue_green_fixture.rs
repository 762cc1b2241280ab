//! The application that the laws of blue/green deploy.

use std::time::Duration;

use serde_json::{Value, json};

use super::fixture::{self, ClusterFixture, plan_of, rollout_body, service_body, settings_body};
use crate::command::{Acted, Action, Direction};
use crate::plan::Plan;
use crate::progress::{Progress, Standing};

pub(super) use super::fixture::{act, until, until_done};

/// A release: its configuration, the Service of the live version and that of the new one, and its Rollout.
pub(super) fn release(name: &str) -> Plan {
    let image = format!("example.com/shop:{name}");
    let mut rollout = rollout_body(name, &image);
    rollout["spec"]["strategy"] = json!({"blueGreen": {
        "activeService": "web", "previewService": "web-preview",
        "autoPromotionEnabled": false, "scaleDownDelaySeconds": 7200,
    }});
    let preview = |mut body: Value| {
        body["metadata"]["name"] = json!("web-preview");
        body
    };
    let mut plan = plan_of(vec![
        settings_body(name),
        service_body(),
        preview(service_body()),
        rollout,
    ]);
    plan.steps.rollouts.insert("web".to_owned(), 0);
    plan.steps.blue_green.insert("web".to_owned());
    plan
}

pub(super) async fn apply(fixture: &dyn ClusterFixture, plan: &Plan, version: u64, direction: Direction) {
    fixture::apply_towards(fixture, plan, version, direction)
        .await
        .unwrap();
}

pub(super) async fn deployed(fixture: &dyn ClusterFixture, plan: &Plan) {
    apply(fixture, plan, 1, Direction::Forward).await;
    until_done(fixture, plan).await;
}

/// Deploys v1, then v2 with stamp 2 up to its redirect.
pub(super) async fn at_the_redirect(fixture: &dyn ClusterFixture) -> (Plan, Progress) {
    deployed(fixture, &release("v1")).await;
    // Clusters tell which version is older by whole seconds.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let plan = release("v2");
    apply(fixture, &plan, 2, Direction::Forward).await;
    let seen = fixture::until_at(fixture, &plan, 0).await;
    (plan, seen)
}

/// Redirects what stands there, and waits until it is done.
pub(super) async fn redirected(
    fixture: &dyn ClusterFixture,
    plan: &Plan,
    seen: &Progress,
    version: u64,
) -> Progress {
    let acted = act(fixture, Action::Promote, seen.expect.as_ref(), version).await;
    assert_eq!(acted.unwrap(), Acted::Done);
    until(fixture, plan, Direction::Forward, |seen| {
        seen.standing == Standing::Done
    })
    .await
}
