//! Laws about strategies other than the canary, and about what moves by itself.

use serde_json::{Value, json};

use super::{deployment, manifest, refused, rendered, sample, service};
use crate::port::renderer::{ManifestRenderer, RenderRequest};
use crate::strategy::{BlueGreen, Portion, Rolling, ServicePair, Strategy};

/// The Rollouts of a blue/green target are named as such; they and the map have no steps.
pub fn a_blue_green_target_names_its_rollouts(renderer: &dyn ManifestRenderer) {
    let map = rendered(renderer, &blue_green()).steps;
    assert!(map.steps.is_empty(), "its gates are no steps: {:?}", map.steps);
    let names: Vec<&str> = map.blue_green.iter().map(String::as_str).collect();
    assert_eq!(names, ["api", "web"], "each Rollout must be named");
    assert!(
        map.rollouts
            .iter()
            .map(|(name, count)| (name.as_str(), *count))
            .eq([("api", 0), ("web", 0)]),
        "they have no steps: {:?}",
        map.rollouts
    );
}

/// A Service that the file names for a blue/green move must be among the target's manifests.
pub fn a_named_service_that_is_not_declared_is_refused(renderer: &dyn ManifestRenderer) {
    let pair = |active: &str, preview: Option<&str>| ServicePair {
        active: active.to_owned(),
        preview: preview.map(str::to_owned),
    };
    let mut request = blue_green();
    for wrong in [pair("elsewhere", None), pair("web", Some("elsewhere"))] {
        request.services = vec![wrong];
        refused(renderer, &request);
    }
    request.services = vec![pair("web", None)];
    rendered(renderer, &request);
}

/// A rolling update stops nowhere: there are no steps and no gates.
pub fn a_rolling_update_stops_nowhere(renderer: &dyn ManifestRenderer) {
    let mut request = sample();
    request.strategy = Some(Strategy::Rolling(Rolling {
        max_surge: Some(Portion::Count(1)),
        max_unavailable: Some(Portion::Percent(10)),
    }));
    let map = rendered(renderer, &request).steps;
    assert!(map.steps.is_empty() && map.blue_green.is_empty(), "{map:?}");
    assert_eq!(map.rollouts.len(), 2, "each Deployment must be in the map");
    assert!(
        map.rollouts.values().all(|count| *count == 0),
        "{:?} must have no steps",
        map.rollouts
    );
}

/// A target without Deployments needs no strategy, and one that it names does nothing.
pub fn a_strategy_does_nothing_where_no_deployment_is(renderer: &dyn ManifestRenderer) {
    let mut request = sample();
    request.manifests.truncate(2);
    request.strategy = None;
    let without = rendered(renderer, &request);
    for strategy in [sample().strategy, blue_green().strategy] {
        request.strategy = strategy;
        let plan = rendered(renderer, &request);
        assert_eq!(plan.objects, without.objects, "the objects must be the same");
        assert!(plan.steps.rollouts.is_empty() && plan.steps.blue_green.is_empty());
        let stands = |step: &crate::plan::MappedStep| !step.index.is_empty();
        assert!(
            !plan.steps.steps.iter().any(stands),
            "nothing can stand at a step"
        );
    }
}

/// Stateful sets, daemon sets and jobs count; what a cron job starts one day does not.
pub fn what_runs_by_itself_counts_and_cron_jobs_do_not(renderer: &dyn ManifestRenderer) {
    let mut request = sample();
    let mut stateful = deployment("database", "registry.example/database:1");
    stateful["kind"] = json!("StatefulSet");
    stateful["spec"]["serviceName"] = json!("database");
    let mut daemon = deployment("logs", "registry.example/logs:1");
    daemon["kind"] = json!("DaemonSet");
    if let Some(spec) = daemon["spec"].as_object_mut() {
        spec.remove("replicas");
    }
    let task = json!({
        "template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "task", "image": "registry.example/task:1"}],
        }},
    });
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": task});
    let cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": task}},
    });
    let others: [Value; 4] = [stateful, daemon, job, cron];
    for body in others {
        request.manifests.push(manifest("others.yaml", body));
    }
    let map = rendered(renderer, &request).steps;
    let mut counted: Vec<&str> = map.workloads.iter().map(|object| object.kind.as_str()).collect();
    counted.sort_unstable();
    assert_eq!(counted, ["DaemonSet", "Job", "StatefulSet"], "what must be ready");
    assert_eq!(map.rollouts.len(), 2, "and no Rollout is made of them");
}

/// A Deployment that is opted out moves by itself, whatever the strategy.
pub fn an_opted_out_deployment_is_not_moved_by_blue_green(renderer: &dyn ManifestRenderer) {
    let mut request = blue_green();
    let mut database = deployment("database", "registry.example/database:1");
    database["metadata"]["annotations"] = json!({"aurora.dev/strategy": "none"});
    request.manifests.push(manifest("database.yaml", database));
    let map = rendered(renderer, &request).steps;
    assert!(!map.blue_green.contains("database") && !map.rollouts.contains_key("database"));
    let counted: Vec<&str> = map.workloads.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(counted, ["database"], "its readiness must count");
}

/// The [`sample`], moved by blue/green, with a Service for each Deployment.
fn blue_green() -> RenderRequest {
    let mut request = sample();
    request.strategy = Some(Strategy::BlueGreen(BlueGreen::default()));
    request
        .manifests
        .push(manifest("api-service.yaml", service("api")));
    request
}
