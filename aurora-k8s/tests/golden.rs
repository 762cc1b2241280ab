//! Manifests and the plan that they render to, side by side in `golden/`.
//!
//! To accept a new rendering, delete its `expected.yaml` and run the tests twice: the first run writes
//! the file and fails, so that it is looked at.
#![cfg(feature = "render")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod yaml;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

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

fn compare(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    let settings: Settings = serde_json::from_value(yaml::value(&read("settings.yaml"))).unwrap();
    let request = RenderRequest {
        services: settings.services,
        tenant: Tenant::new("acme", "dev").unwrap(),
        application: settings.application,
        target: settings.target,
        namespace: settings.namespace,
        strategy: settings.strategy,
        manifests: yaml::manifests("input.yaml", &read("input.yaml")),
    };
    let rendered = match ArgoRenderer.render(&request) {
        Ok(plan) => written(&plan),
        Err(error) => error.problems.iter().fold(String::new(), |mut text, problem| {
            writeln!(text, "# {problem}").unwrap();
            text
        }),
    };
    let expected = folder.join("expected.yaml");
    if !expected.exists() {
        fs::write(&expected, &rendered).unwrap();
        panic!("golden/{name}/expected.yaml was absent and is written: look at it and run again");
    }
    assert_eq!(rendered, read("expected.yaml"), "golden/{name}");
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
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
            let mut found: Vec<String> = fs::read_dir(folder)
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
    own_canary_with_analysis: "own-canary-with-analysis",
    refused: "refused",
    rolling: "rolling",
    versioned_configuration: "versioned-configuration",
    versioned_names_everywhere: "versioned-names-everywhere",
    without_deployments: "without-deployments",
}
