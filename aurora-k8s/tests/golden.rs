//! Manifests and the plan that they render to, side by side in `golden/`.
//!
//! To accept a new rendering, delete its `expected.yaml` and run the tests twice: the first run writes
//! the file and fails, so that it is looked at.
#![cfg(feature = "render")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod yaml;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use aurora_core::plan::Plan;
use aurora_core::port::renderer::{ManifestRenderer as _, RenderRequest};
use aurora_core::strategy::{ServicePair, Strategy};
use aurora_core::tenant::Tenant;
use aurora_k8s::render::ArgoRenderer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What `settings.yaml` says of the target.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    application: String,
    target: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    strategy: Option<Strategy>,
    #[serde(default)]
    services: Vec<ServicePair>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn read(name: &str, file: &str) -> String {
    fs::read_to_string(folder().join(name).join(file)).unwrap()
}

fn request(name: &str) -> RenderRequest {
    let settings: Settings = serde_json::from_value(yaml::value(&read(name, "settings.yaml"))).unwrap();
    RenderRequest {
        tenant: Tenant::new("acme", "dev").unwrap(),
        application: settings.application,
        target: settings.target,
        namespace: settings.namespace,
        strategy: settings.strategy,
        services: settings.services,
        manifests: yaml::manifests("input.yaml", &read(name, "input.yaml")),
    }
}

fn compare(name: &str) {
    let rendered = match ArgoRenderer.render(&request(name)) {
        Ok(plan) => {
            renders_to_itself(name, &plan);
            written(&plan)
        }
        Err(error) => error.problems.iter().fold(String::new(), |mut text, problem| {
            writeln!(text, "# {problem}").unwrap();
            text
        }),
    };
    let expected = folder().join(name).join("expected.yaml");
    if !expected.exists() {
        fs::write(&expected, &rendered).unwrap();
        panic!("golden/{name}/expected.yaml was absent and is written: look at it and run again");
    }
    assert_eq!(rendered, read(name, "expected.yaml"), "golden/{name}");
}

/// What was rendered is in canonical form: rendering it again changes nothing.
fn renders_to_itself(name: &str, plan: &Plan) {
    let bodies =
        |plan: &Plan| -> Vec<Value> { plan.objects.iter().map(|planned| planned.body.clone()).collect() };
    let mut request = request(name);
    request.manifests = bodies(plan)
        .into_iter()
        .map(|body| yaml::manifest("rendered.yaml", 1, body))
        .collect();
    let again = ArgoRenderer.render(&request);
    let again = again.unwrap_or_else(|error| panic!("golden/{name}: {:#?}", error.problems));
    assert_eq!(bodies(&again), bodies(plan), "golden/{name} renders to itself");
}

/// The plan around its objects first, then each object as a document.
fn written(plan: &Plan) -> String {
    let around = json!({"namespace": plan.namespace, "notes": plan.notes, "steps": plan.steps});
    let adopted = |adopt: bool| if adopt { " (adopted)" } else { "" };
    let mut text = document(&around);
    for planned in &plan.objects {
        writeln!(text, "---\n# from {}{}", planned.origin, adopted(planned.adopt)).unwrap();
        text.push_str(&document(&planned.body));
    }
    text
}

fn document(value: &(impl Serialize + ?Sized)) -> String {
    let sorted: Value = serde_json::to_value(value).unwrap();
    let mut text = serde_saphyr::to_string(&sorted).unwrap();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

macro_rules! golden {
    ($($test:ident: $folder:literal,)*) => {
        $(
            #[test]
            fn $test() {
                compare($folder);
            }
        )*

        #[test]
        fn every_folder_has_a_test() {
            let mut found: Vec<String> = fs::read_dir(folder())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            found.sort();
            assert_eq!(found, [$($folder),*]);
        }
    };
}

golden! {
    a_namespace_is_overridden: "a-namespace-is-overridden",
    autoscaled: "autoscaled",
    blue_green: "blue-green",
    blue_green_refused: "blue-green-refused",
    blue_green_services_unclear: "blue-green-services-unclear",
    blue_green_without_preview: "blue-green-without-preview",
    canary: "canary",
    canonical_form: "canonical-form",
    cron_jobs_and_claims: "cron-jobs-and-claims",
    gateway_api: "gateway-api",
    istio_subsets: "istio-subsets",
    opted_out_and_adopted: "opted-out-and-adopted",
    own_blue_green: "own-blue-green",
    own_canaries_behind_ingresses: "own-canaries-behind-ingresses",
    own_canary_with_analysis: "own-canary-with-analysis",
    refused: "refused",
    refused_rollouts: "refused-rollouts",
    rolling: "rolling",
    versioned_configuration: "versioned-configuration",
    versioned_names_everywhere: "versioned-names-everywhere",
    without_deployments: "without-deployments",
}

/// What has to be seen in golden files, and the folders that show it.
const SHOWN: &[(&str, &[&str])] = &[
    (
        "a Deployment becomes a Rollout in place, with normalised steps",
        &["canary"],
    ),
    (
        "an autoscaler owns the replicas and scales the Rollout",
        &["autoscaled", "blue-green"],
    ),
    ("a pause is indefinite, whatever it waits for", &["canary"]),
    ("Istio, with subsets", &["istio-subsets"]),
    (
        "nginx, and ALB with a root Service",
        &["own-canaries-behind-ingresses"],
    ),
    ("the Gateway API plugin", &["gateway-api"]),
    ("blue/green with preview, with gates", &["blue-green"]),
    (
        "blue/green without preview, without a gate for the old version",
        &["blue-green-without-preview"],
    ),
    (
        "Services that are wrong or unclear",
        &["blue-green-refused", "blue-green-services-unclear"],
    ),
    ("a rolling update", &["rolling"]),
    (
        "no Deployment, readiness of other workloads",
        &["without-deployments", "cron-jobs-and-claims"],
    ),
    (
        "a Deployment opted out",
        &["opted-out-and-adopted", "blue-green-without-preview"],
    ),
    (
        "content-hash names and their opt-out",
        &["versioned-configuration", "versioned-names-everywhere"],
    ),
    (
        "analyses, complete and not",
        &["own-canary-with-analysis", "refused-rollouts"],
    ),
    (
        "problems with their places, all at once",
        &["refused", "refused-rollouts"],
    ),
    ("duplicates and unknown steps", &["refused-rollouts"]),
    ("canonical quantities, dropped zeros", &["canonical-form"]),
    (
        "a user's own Rollout keeps its meaning",
        &["own-blue-green", "own-canary-with-analysis"],
    ),
    ("the target's namespace", &["a-namespace-is-overridden"]),
];

#[test]
fn every_folder_shows_something_that_has_to_be_seen() {
    let shown: BTreeSet<String> = SHOWN
        .iter()
        .flat_map(|(_, folders)| folders.iter().map(|name| (*name).to_owned()))
        .collect();
    let found: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(shown, found);
}
