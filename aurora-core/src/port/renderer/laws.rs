//! What every renderer must keep to; run with [`renderer_laws!`](crate::renderer_laws).
#![expect(clippy::unwrap_used, reason = "a law reports by panicking")]

mod moving;

use serde_json::{Value, json};

use super::{ManifestRenderer, RenderError, RenderRequest};
use crate::manifest::{Manifest, Origin};
use crate::plan::{APPLICATION_LABEL, Plan, TARGET_LABEL};
use crate::strategy::{Approval, Canary, Pause, Span, Step, Strategy};
use crate::tenant::Tenant;

pub use moving::{
    a_blue_green_target_names_its_rollouts, a_named_service_that_is_not_declared_is_refused,
    a_rolling_update_stops_nowhere, a_strategy_does_nothing_where_no_deployment_is,
    an_opted_out_deployment_is_not_moved_by_blue_green, what_runs_by_itself_counts_and_cron_jobs_do_not,
};

/// Makes a named test of every law of the renderer port.
///
/// ```
/// # mod my {
/// #[cfg(test)]
/// mod laws {
///     aurora_core::renderer_laws!(aurora_core::port::renderer::InMemoryRenderer);
/// }
/// # }
/// ```
#[macro_export]
macro_rules! renderer_laws {
    ($renderer:expr) => {
        $crate::renderer_laws! { @list tests ($renderer) }
    };
    (@list $what:ident ($($renderer:expr)?)) => {
        $crate::renderer_laws! { @$what ($($renderer)?)
            a_blue_green_target_names_its_rollouts
            a_changed_manifest_changes_the_digest
            a_deployment_without_a_strategy_is_refused
            a_named_service_that_is_not_declared_is_refused
            a_plan_reads_back_from_its_bytes
            a_plan_says_whose_it_is
            a_refusal_names_the_place_in_the_file
            a_rolling_update_stops_nowhere
            a_strategy_does_nothing_where_no_deployment_is
            all_problems_are_reported_at_once
            an_opted_out_deployment_is_not_moved_by_blue_green
            an_opted_out_deployment_has_no_steps
            another_workload_leaves_the_steps_of_the_others_alone
            every_object_carries_the_application_and_target_labels
            no_namespace_at_all_is_refused
            nothing_namespaced_lies_outside_the_targets_namespace
            same_request_same_bytes
            steps_keep_their_order
            the_adopt_annotation_reaches_the_plan
            the_manifests_single_namespace_counts_where_the_target_names_none
            the_step_map_names_each_gate
            two_namespaces_are_refused_where_the_target_names_none
            what_runs_by_itself_counts_and_cron_jobs_do_not
        }
    };
    (@tests ($renderer:expr) $($law:ident)*) => {
        $(
            #[test]
            fn $law() {
                $crate::port::renderer::laws::$law(&$renderer);
            }
        )*
    };
    (@table () $($law:ident)*) => {
        vec![$((stringify!($law), $law as Law)),*]
    };
}

/// One law.
pub type Law = fn(&dyn ManifestRenderer);

/// Every law by its name.
pub fn all() -> Vec<(&'static str, Law)> {
    crate::renderer_laws! { @list table () }
}

/// A request with two Deployments, a Service and a `ConfigMap` that the first one reads; a canary of
/// 25 %, a timed pause, 50 %, an approval.
pub fn sample() -> RenderRequest {
    let steps = vec![
        Step::SetWeight(25),
        Step::Pause(Pause::Timed(Span::from_secs(60))),
        Step::SetWeight(50),
        Step::Pause(Pause::Approval(Approval::default())),
    ];
    RenderRequest {
        services: Vec::new(),
        tenant: Tenant::new("acme", "dev").unwrap(),
        application: "shop".to_owned(),
        target: "staging".to_owned(),
        namespace: Some("shop-staging".to_owned()),
        strategy: Some(Strategy::Canary(Canary { steps })),
        manifests: vec![
            manifest("config.yaml", config("hello")),
            manifest("service.yaml", service("web")),
            manifest("web.yaml", deployment("web", "registry.example/web:1")),
            manifest("api.yaml", deployment("api", "registry.example/api:1")),
        ],
    }
}

/// Rendering the same request twice gives the same bytes.
pub fn same_request_same_bytes(renderer: &dyn ManifestRenderer) {
    let (once, again) = (rendered(renderer, &sample()), rendered(renderer, &sample()));
    assert_eq!(
        once.to_bytes(),
        again.to_bytes(),
        "the same request must give the same bytes"
    );
}

/// What a manifest says reaches the plan: another image is another digest.
pub fn a_changed_manifest_changes_the_digest(renderer: &dyn ManifestRenderer) {
    let mut request = sample();
    let before = rendered(renderer, &request).digest();
    request.manifests[2] = manifest("web.yaml", deployment("web", "registry.example/web:2"));
    let after = rendered(renderer, &request).digest();
    assert_ne!(before, after, "another image must be another plan");
}

/// The plan names the application, the target, the namespace and the format's version.
pub fn a_plan_says_whose_it_is(renderer: &dyn ManifestRenderer) {
    let plan = rendered(renderer, &sample());
    assert_eq!(plan.version, Plan::VERSION);
    assert_eq!(
        (plan.application.as_str(), plan.target.as_str()),
        ("shop", "staging")
    );
    assert_eq!(plan.namespace, "shop-staging");
}

/// The bytes that a digest names read back as the same plan.
pub fn a_plan_reads_back_from_its_bytes(renderer: &dyn ManifestRenderer) {
    let plan = rendered(renderer, &sample());
    assert_eq!(
        Plan::from_bytes(&plan.to_bytes()).unwrap(),
        plan,
        "a plan must survive its bytes"
    );
}

/// Every object of a plan carries the labels of application and target, whatever the manifest says.
pub fn every_object_carries_the_application_and_target_labels(renderer: &dyn ManifestRenderer) {
    let mut request = sample();
    let mut labelled = service("labelled");
    labelled["metadata"]["labels"] = json!({TARGET_LABEL: "elsewhere", "team": "shop"});
    request.manifests.push(manifest("labelled.yaml", labelled));
    let plan = rendered(renderer, &request);
    assert!(
        plan.objects.len() >= request.manifests.len(),
        "no object may be lost"
    );
    for object in &plan.objects {
        let labels = &object.body["metadata"]["labels"];
        assert_eq!(
            labels[APPLICATION_LABEL],
            "shop",
            "{} must name its application",
            object.object()
        );
        assert_eq!(
            labels[TARGET_LABEL],
            "staging",
            "{} must name its target",
            object.object()
        );
    }
}

/// The target's namespace overrides what manifests say; nothing lies in another one.
pub fn nothing_namespaced_lies_outside_the_targets_namespace(renderer: &dyn ManifestRenderer) {
    let mut request = sample();
    request.manifests.push(manifest(
        "other.yaml",
        in_namespace(service("other"), "elsewhere"),
    ));
    let plan = rendered(renderer, &request);
    for object in &plan.objects {
        assert_eq!(
            object.body["metadata"]["namespace"],
            "shop-staging",
            "{}",
            object.object()
        );
    }
}

/// Where the target names no namespace, the single one of its manifests counts for all of them.
pub fn the_manifests_single_namespace_counts_where_the_target_names_none(renderer: &dyn ManifestRenderer) {
    let mut request = sample();
    request.namespace = None;
    request
        .manifests
        .push(manifest("other.yaml", in_namespace(service("other"), "shop-own")));
    let plan = rendered(renderer, &request);
    assert_eq!(plan.namespace, "shop-own");
    for object in &plan.objects {
        assert_eq!(
            object.body["metadata"]["namespace"],
            "shop-own",
            "{}",
            object.object()
        );
    }
}

/// Where the target names no namespace, manifests of two namespaces are an error.
pub fn two_namespaces_are_refused_where_the_target_names_none(renderer: &dyn ManifestRenderer) {
    let mut request = sample();
    request.namespace = None;
    for namespace in ["one", "two"] {
        let body = in_namespace(service(namespace), namespace);
        request.manifests.push(manifest("other.yaml", body));
    }
    refused(renderer, &request);
}

/// Where neither the target nor a manifest names a namespace, that is an error.
pub fn no_namespace_at_all_is_refused(renderer: &dyn ManifestRenderer) {
    let mut request = sample();
    request.namespace = None;
    refused(renderer, &request);
}

/// The step map has the steps of the file in their order, and so has each Rollout.
pub fn steps_keep_their_order(renderer: &dyn ManifestRenderer) {
    let map = rendered(renderer, &sample()).steps;
    assert_eq!(map.steps.len(), 4, "each step of the file must be in the map");
    assert_eq!(map.rollouts.len(), 2, "each Deployment must be in the map");
    for (rollout, count) in &map.rollouts {
        let indexes: Vec<usize> = map.steps.iter().map(|step| step.index[rollout]).collect();
        assert!(
            indexes.windows(2).all(|pair| pair[0] < pair[1]),
            "{rollout}: {indexes:?}"
        );
        assert!(
            indexes.iter().all(|index| index < count),
            "{rollout}: {indexes:?} of {count}"
        );
    }
}

/// The step map marks the pauses of the file, and only them, as gates, with the weight that holds there.
pub fn the_step_map_names_each_gate(renderer: &dyn ManifestRenderer) {
    let map = rendered(renderer, &sample()).steps;
    let seen: Vec<(bool, u8)> = map.steps.iter().map(|step| (step.gate, step.weight)).collect();
    assert_eq!(
        seen,
        [(false, 25), (true, 25), (false, 50), (true, 50)],
        "gates and weights"
    );
    for step in &map.steps {
        assert!(
            step.index.keys().eq(map.rollouts.keys()),
            "each step must name every Rollout"
        );
    }
}

/// The number of Deployments does not change the steps of the others.
pub fn another_workload_leaves_the_steps_of_the_others_alone(renderer: &dyn ManifestRenderer) {
    let mut request = sample();
    let both = rendered(renderer, &request);
    request.manifests.truncate(3);
    let one = rendered(renderer, &request);
    assert_eq!(one.steps.rollouts["web"], both.steps.rollouts["web"]);
    for (alone, beside) in one.steps.steps.iter().zip(&both.steps.steps) {
        assert_eq!(
            alone.index["web"], beside.index["web"],
            "a sibling must not move steps"
        );
    }
    let body = |plan: &Plan| {
        let planned = plan.objects.iter().find(|planned| {
            let object = planned.object();
            object.name == "web" && object.kind != "Service"
        });
        planned.unwrap().body.clone()
    };
    assert_eq!(body(&one), body(&both), "a sibling must not change a workload");
}

/// A Deployment that is opted out has no steps; its readiness counts.
pub fn an_opted_out_deployment_has_no_steps(renderer: &dyn ManifestRenderer) {
    let mut request = sample();
    let mut database = deployment("database", "registry.example/database:1");
    database["metadata"]["annotations"] = json!({"aurora.dev/strategy": "none"});
    request.manifests.push(manifest("database.yaml", database));
    let map = rendered(renderer, &request).steps;
    assert!(!map.rollouts.contains_key("database"), "it must not be a Rollout");
    assert!(map.steps.iter().all(|step| !step.index.contains_key("database")));
    let counted: Vec<&str> = map.workloads.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(counted, ["database"], "its readiness must count");
}

/// Deployments need a strategy.
pub fn a_deployment_without_a_strategy_is_refused(renderer: &dyn ManifestRenderer) {
    let mut request = sample();
    request.strategy = None;
    refused(renderer, &request);
    request.manifests.truncate(2);
    let plan = rendered(renderer, &request);
    assert!(
        plan.steps.rollouts.is_empty(),
        "without Deployments no strategy is needed"
    );
}

/// The annotation that allows taking over an object reaches the plan, and only for that object.
pub fn the_adopt_annotation_reaches_the_plan(renderer: &dyn ManifestRenderer) {
    let mut request = sample();
    let mut ours = service("adopted");
    ours["metadata"]["annotations"] = json!({"aurora.dev/adopt": "true"});
    request.manifests.push(manifest("adopted.yaml", ours));
    for planned in rendered(renderer, &request).objects {
        let expected = planned.object().name == "adopted";
        assert_eq!(planned.adopt, expected, "{}", planned.object());
    }
}

/// An error names the file of the manifest it is about.
pub fn a_refusal_names_the_place_in_the_file(renderer: &dyn ManifestRenderer) {
    let mut request = sample();
    request.manifests.push(manifest("broken.yaml", nameless()));
    let error = refused(renderer, &request);
    let placed = error
        .problems
        .iter()
        .find(|problem| problem.is_error() && problem.file == "broken.yaml");
    assert_eq!(placed.unwrap().line, 7, "the line of the manifest");
}

/// Every problem is reported, not only the first.
pub fn all_problems_are_reported_at_once(renderer: &dyn ManifestRenderer) {
    let mut request = sample();
    let files = ["one.yaml", "two.yaml"];
    for file in files {
        request.manifests.push(manifest(file, nameless()));
    }
    let error = refused(renderer, &request);
    for file in files {
        let reported = error.problems.iter().any(|problem| problem.file == file);
        assert!(reported, "{file} must be reported too: {:?}", error.problems);
    }
}

fn rendered(renderer: &dyn ManifestRenderer, request: &RenderRequest) -> Plan {
    match renderer.render(request) {
        Ok(plan) => plan,
        Err(error) => panic!("{error}: {:#?}", error.problems),
    }
}

fn refused(renderer: &dyn ManifestRenderer, request: &RenderRequest) -> RenderError {
    let error = renderer.render(request).expect_err("it must be refused");
    assert_eq!(error.target, request.target, "a refusal must name the target");
    assert!(
        error.problems.iter().any(|problem| problem.is_error()),
        "a refusal must have an error among its problems"
    );
    error
}

fn manifest(file: &str, body: Value) -> Manifest {
    let origin = Origin {
        file: file.to_owned(),
        document: 0,
        line: 7,
    };
    Manifest::new(body, origin)
}

fn in_namespace(mut body: Value, namespace: &str) -> Value {
    body["metadata"]["namespace"] = json!(namespace);
    body
}

fn nameless() -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {}, "spec": {"ports": [{"port": 80}]}})
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
    })
}

fn config(greeting: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "web-config"},
        "data": {"GREETING": greeting},
    })
}

fn deployment(name: &str, image: &str) -> Value {
    let mut container = json!({"name": name, "image": image});
    if name == "web" {
        container["envFrom"] = json!([{"configMapRef": {"name": "web-config"}}]);
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
        },
    })
}
