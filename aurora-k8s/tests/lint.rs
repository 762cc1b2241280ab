//! Every rule of the lint with a case that it refuses and a near miss that it lets through.
#![cfg(feature = "render")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod yaml;

use std::collections::BTreeMap;

use aurora_core::deploy_file::Problem;
use aurora_core::port::renderer::{ManifestRenderer as _, RenderRequest};
use aurora_core::strategy::{Canary, Step, Strategy};
use aurora_core::tenant::Tenant;
use aurora_k8s::render::ArgoRenderer;
use serde::Deserialize;
use serde_json::{Value, json};

/// Changes of a base: a pointer whose first token is the manifest's number, and the value; null takes it out.
type Changes = BTreeMap<String, Value>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    rule: String,
    base: String,
    refuse: Changes,
    /// Code and pointer.
    problem: (String, String),
    #[serde(default)]
    accept: Changes,
}

type Bases = BTreeMap<String, Vec<Value>>;

fn bases() -> Bases {
    serde_json::from_value(yaml::value(include_str!("lint/bases.yaml"))).unwrap()
}

fn render(bodies: Vec<Value>) -> Vec<Problem> {
    let request = RenderRequest {
        services: Vec::new(),
        tenant: Tenant::new("acme", "dev").unwrap(),
        application: "shop".to_owned(),
        target: "staging".to_owned(),
        namespace: Some("shop".to_owned()),
        strategy: Some(Strategy::Canary(Canary {
            steps: vec![Step::SetWeight(25)],
        })),
        manifests: bodies
            .into_iter()
            .map(|body| yaml::manifest("shop.yaml", 7, body))
            .collect(),
    };
    ArgoRenderer
        .render(&request)
        .map_or_else(|error| error.problems, |_| Vec::new())
}

fn changed(base: &[Value], changes: &Changes) -> Vec<Value> {
    let mut bodies = json!(base);
    for (pointer, value) in changes {
        set(&mut bodies, pointer, value.clone());
    }
    bodies.as_array().unwrap().clone()
}

fn set(bodies: &mut Value, pointer: &str, value: Value) {
    let (path, last) = pointer.rsplit_once('/').unwrap();
    let place = path.split('/').skip(1).fold(bodies, descend);
    match place.as_object_mut() {
        Some(fields) if value.is_null() => {
            fields.remove(last);
        }
        _ => *descend(place, last) = value,
    }
}

/// Makes objects and appends to lists on the way.
fn descend<'a>(place: &'a mut Value, token: &str) -> &'a mut Value {
    let token = token.replace("~1", "/").replace("~0", "~");
    match place {
        Value::Array(items) => {
            let index: usize = token.parse().unwrap();
            if index == items.len() {
                items.push(json!({}));
            }
            &mut items[index]
        }
        other => &mut other[&token],
    }
}

fn check(rows: &str) {
    let bases = bases();
    let rows: Vec<Row> = serde_json::from_value(yaml::value(rows)).unwrap();
    for row in rows {
        let base = &bases[&row.base];
        let found = render(changed(base, &row.refuse));
        let seen: Vec<(String, String)> = found
            .iter()
            .map(|problem| (problem.code.clone(), problem.pointer.clone()))
            .collect();
        assert_eq!(seen, [row.problem], "{}: {found:#?}", row.rule);
        assert!(found[0].is_error(), "{}", row.rule);
        assert_eq!(
            (found[0].file.as_str(), found[0].line),
            ("shop.yaml", 7),
            "{}",
            row.rule
        );
        let found = render(changed(base, &row.accept));
        assert!(found.is_empty(), "{}, the near miss: {found:#?}", row.rule);
    }
}

macro_rules! topics {
    ($($name:ident: $file:literal,)*) => {
        $(
            #[test]
            fn $name() {
                check(include_str!(concat!("lint/", $file)));
            }
        )*
    };
}

topics! {
    rules_for_analyses: "analyses.yaml",
    rules_for_blue_green: "blue-green.yaml",
    rules_for_configuration: "configuration.yaml",
    rules_for_deployments: "deployments.yaml",
    rules_for_jobs: "jobs.yaml",
    rules_for_manifests: "manifests.yaml",
    rules_for_objects_that_name_each_other: "references.yaml",
    rules_for_pods: "pods.yaml",
    rules_for_rollouts: "rollouts.yaml",
    rules_for_routers: "routers.yaml",
    rules_for_steps: "steps.yaml",
}

#[test]
fn the_bases_are_accepted() {
    for (name, base) in bases() {
        let found = render(base);
        assert!(found.is_empty(), "{name}: {found:#?}");
    }
}
