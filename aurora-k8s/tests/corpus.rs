//! Every application of the corpus renders, and its plan renders to itself.
#![cfg(feature = "render")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod yaml;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use aurora_core::manifest::Manifest;
use aurora_core::plan::Plan;
use aurora_core::port::renderer::{ManifestRenderer as _, RenderRequest};
use aurora_core::strategy::{Approval, Canary, Pause, Step, Strategy};
use aurora_core::tenant::Tenant;
use aurora_k8s::render::ArgoRenderer;
use serde_json::Value;

fn corpus() -> PathBuf {
    let path = std::env::var_os("AURORA_CORPUS").expect("AURORA_CORPUS names the folder of the corpus");
    PathBuf::from(path)
}

fn manifests(folder: &Path) -> Vec<Manifest> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    let mut found = Vec::new();
    for path in entries {
        if path.is_dir() {
            found.extend(manifests(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let file = path.display().to_string();
            found.extend(yaml::manifests(&file, &fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

fn render(application: &str, namespace: Option<&str>, manifests: Vec<Manifest>) -> Plan {
    let steps = vec![
        Step::SetWeight(25),
        Step::Pause(Pause::Approval(Approval::default())),
        Step::SetWeight(50),
        Step::Pause(Pause::Approval(Approval::default())),
    ];
    let request = RenderRequest {
        services: Vec::new(),
        tenant: Tenant::new("acme", "dev").unwrap(),
        application: application.to_owned(),
        target: "staging".to_owned(),
        namespace: namespace.map(str::to_owned),
        strategy: Some(Strategy::Canary(Canary { steps })),
        manifests,
    };
    match ArgoRenderer.render(&request) {
        Ok(plan) => plan,
        Err(error) => panic!("{application}: {:#?}", error.problems),
    }
}

fn kinds(plan: &Plan) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for planned in &plan.objects {
        *kinds.entry(planned.object().kind).or_default() += 1;
    }
    kinds
}

/// Renders an application and counts its objects; every Deployment must have become a Rollout.
fn deploys(application: &str, namespace: Option<&str>, rollouts: usize) -> BTreeMap<String, usize> {
    let manifests = manifests(&corpus().join(application));
    let count = manifests.len();
    let plan = render(application, namespace, manifests.clone());
    assert_eq!(
        plan.to_bytes(),
        render(application, namespace, manifests).to_bytes()
    );
    assert_eq!(
        plan.objects.len(),
        count,
        "nothing is lost and nothing is made up"
    );
    assert_eq!(plan.steps.rollouts.len(), rollouts, "{:?}", plan.steps.rollouts);
    let bodies: Vec<Value> = plan.objects.iter().map(|planned| planned.body.clone()).collect();
    let again: Vec<Manifest> = bodies
        .iter()
        .map(|body| yaml::manifest("again", 1, body.clone()))
        .collect();
    let again = render(application, namespace, again);
    assert!(
        again.objects.iter().map(|planned| &planned.body).eq(&bodies),
        "{application} renders to itself"
    );
    kinds(&plan)
}

#[test]
#[ignore = "needs AURORA_CORPUS"]
fn online_boutique_renders_with_its_custom_resources() {
    let kinds = deploys("online-boutique", Some("boutique"), 12);
    assert_eq!(
        (kinds["Gateway"], kinds["VirtualService"], kinds["ServiceEntry"]),
        (1, 2, 2)
    );
    assert!(!kinds.contains_key("Deployment"));
}

#[test]
#[ignore = "needs AURORA_CORPUS"]
fn podinfo_renders_with_its_autoscalers_and_file_modes() {
    let folder = corpus().join("podinfo");
    let kinds = deploys("podinfo", Some("podinfo"), 4);
    assert_eq!(
        (
            kinds["HorizontalPodAutoscaler"],
            kinds["StatefulSet"],
            kinds["CronJob"]
        ),
        (3, 1, 4)
    );
    let plan = render("podinfo", Some("podinfo"), manifests(&folder));
    for planned in &plan.objects {
        let text = planned.body.to_string();
        assert!(
            !text.contains("\"0755\""),
            "{}: a file mode is a number",
            planned.object()
        );
        if planned.object().kind == "HorizontalPodAutoscaler" {
            assert_eq!(planned.body["spec"]["scaleTargetRef"]["kind"], "Rollout");
        }
        let scaled = matches!(
            planned.object().name.as_str(),
            "backend" | "database-replica" | "frontend"
        );
        if planned.object().kind == "Rollout" && scaled {
            assert!(
                planned.body["spec"].get("replicas").is_none(),
                "{}",
                planned.object()
            );
        }
    }
}

#[test]
#[ignore = "needs AURORA_CORPUS"]
fn sock_shop_renders_into_the_namespace_of_its_file() {
    let kinds = deploys("sock-shop", None, 14);
    assert_eq!(kinds["Namespace"], 1);
}
